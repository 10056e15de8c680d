//! Merges many boots of one tree into one list of hot pages.

use std::collections::HashMap;

use layerfmt::{Digest, Index, Ino};
use wire::trace::{BootTrace, PAGE_LEN};

/// Bound on hot pages: 256 MiB. More is not a boot but a copy of the system.
const PAGES_MAX: usize = 1 << 16;

/// Hot pages, file by file, in the order in which boots first touch the files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MergedTraces {
    /// File and page.
    pub pages: Vec<(Ino, u32)>,
    /// Number of traces used.
    pub traces: usize,
    /// Traces of other trees, or with numbers that this tree does not have.
    pub refused: usize,
}

/// Merges the traces of `tree`. A page counts if at least `share` percent of the boots touched it: a
/// page that one machine touched once is not worth every client's time. Files come in the order of the mean
/// position of their first pages; all hot pages of a file together, ascending: so a client reads few long runs.
pub(crate) fn merge(traces: &[BootTrace], tree: Digest, index: &Index, share: u32) -> MergedTraces {
    let mut merged = MergedTraces::default();
    // Sum of positions (in pages of the trace) and count.
    let mut touched: HashMap<(Ino, u32), (u64, u32)> = HashMap::new();
    for trace in traces {
        if trace.tree != tree {
            merged.refused += 1;
            continue;
        }
        let mut position = 0u64;
        let mut seen = std::collections::HashSet::new();
        let sound = trace.touches.iter().all(|touch| {
            index.inode(touch.ino).is_some_and(|inode| {
                inode.is_file()
                    && (u64::from(touch.page) + u64::from(touch.count))
                        <= inode.size.div_ceil(PAGE_LEN)
            })
        });
        if !sound {
            merged.refused += 1;
            continue;
        }
        merged.traces += 1;
        for touch in &trace.touches {
            for page in touch.page..touch.page + touch.count {
                if seen.len() >= PAGES_MAX {
                    break;
                }
                if seen.insert((touch.ino, page)) {
                    let (sum, count) = touched.entry((touch.ino, page)).or_default();
                    *sum += position;
                    *count += 1;
                    position += 1;
                }
            }
        }
    }
    let least = (merged.traces as u64 * u64::from(share))
        .div_ceil(100)
        .max(1);
    let mut pages: Vec<_> = touched
        .into_iter()
        .filter(|(_, (_, count))| u64::from(*count) >= least)
        .collect();
    // Compare means without dividing: a/b < c/d. Equal means: file order, so that equal input gives
    // equal packs.
    pages.sort_unstable_by(|(a, (sum_a, count_a)), (b, (sum_b, count_b))| {
        let left = u128::from(*sum_a) * u128::from(*count_b);
        let right = u128::from(*sum_b) * u128::from(*count_a);
        left.cmp(&right).then(a.cmp(b))
    });
    merged.pages = arrange(pages.into_iter().map(|(page, _)| page));
    merged
}

/// File by file, in the order of first mention; pages ascending.
fn arrange(pages: impl Iterator<Item = (Ino, u32)>) -> Vec<(Ino, u32)> {
    let mut rank: HashMap<Ino, usize> = HashMap::new();
    let mut sorted: Vec<(usize, Ino, u32)> = pages
        .take(PAGES_MAX)
        .map(|(ino, page)| {
            let next = rank.len();
            (*rank.entry(ino).or_insert(next), ino, page)
        })
        .collect();
    sorted.sort_unstable();
    sorted
        .into_iter()
        .map(|(_, ino, page)| (ino, page))
        .collect()
}
