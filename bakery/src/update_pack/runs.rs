//! Finds the runs of a content that resemble bytes of its prefix. An anchor is an exact match.
//! Around each anchor the run grows as long as at least half of the bytes are equal: code that was
//! compiled again has the same instructions with other addresses.

use layerfmt::update::Run;

/// Length of the bytes by which matches are found.
const SEED_LEN: usize = 12;
/// Minimum number of equal bytes by which an anchor exceeds the continued run before it.
const GAIN_MIN: usize = 8;
/// Number of candidates that are compared for one anchor.
const CANDIDATES_MAX: usize = 24;
/// Log2 of the largest number of hash chains. With one for each position, a chain has few positions of
/// other bytes: each costs a look at memory that no cache has.
const CHAINS_LOG_MAX: u32 = 22;
/// A match of this length is taken without a look at other candidates.
const LONG_LEN: usize = 4096;
/// Marks the end of a chain.
const NONE: u32 = u32::MAX;

/// The runs of `content`, in order. Without runs that make up a part of the content worth a script,
/// returns none.
pub(super) fn runs(prefix: &[u8], content: &[u8]) -> Vec<Run> {
    let mut finder = RunFinder {
        old: prefix,
        new: content,
        chains: Chains::of(prefix),
        runs: Vec::new(),
    };
    finder.find();
    let covered: u64 = finder.runs.iter().map(|run| u64::from(run.len)).sum();
    match covered * COVERED_PART >= content.len() as u64 {
        true => finder.runs,
        false => Vec::new(),
    }
}

/// Runs are used if they cover at least 1/4 of the content.
const COVERED_PART: u64 = 4;

/// The positions of the prefix by the hash of the bytes that begin there.
struct Chains {
    /// Number of bits of a hash that are not used.
    shift: u32,
    first: Vec<u32>,
    next: Vec<u32>,
}

impl Chains {
    fn of(bytes: &[u8]) -> Chains {
        let log = bytes.len().next_power_of_two().trailing_zeros();
        let log = log.clamp(1, CHAINS_LOG_MAX);
        let mut chains = Chains {
            shift: u64::BITS - log,
            first: vec![NONE; 1 << log],
            next: vec![NONE; bytes.len()],
        };
        let mut hash_after = None;
        for (at, seed) in bytes.windows(SEED_LEN).enumerate().rev() {
            let hash = chains.hash(seed);
            // Of a row of equal bytes, the last position is enough.
            if hash_after == Some(hash) {
                continue;
            }
            hash_after = Some(hash);
            let slots = (chains.first.get_mut(hash), chains.next.get_mut(at));
            if let (Some(first), Some(next)) = slots {
                *next = *first;
                *first = at as u32;
            }
        }
        chains
    }

    /// Positions where the bytes of `seed` may begin, in ascending order.
    fn candidates(&self, seed: &[u8]) -> impl Iterator<Item = usize> {
        let mut at = self.first.get(self.hash(seed)).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let found = (at != NONE).then_some(at as usize)?;
            at = self.next.get(found).copied().unwrap_or(NONE);
            Some(found)
        })
        .take(CANDIDATES_MAX)
    }

    fn hash(&self, seed: &[u8]) -> usize {
        const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];
        let word = |from: usize| {
            let bytes = seed.get(from..from + 8).and_then(|it| it.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        let mixed = word(0).wrapping_mul(FACTORS[0]) ^ word(SEED_LEN - 8).wrapping_mul(FACTORS[1]);
        (mixed.wrapping_mul(FACTORS[0]) >> self.shift) as usize
    }
}

/// The content from `new` on resembles the prefix from `old` on.
#[derive(Clone, Copy, Default)]
struct Alignment {
    new: usize,
    old: usize,
}

impl Alignment {
    /// The position of the prefix beside position `at` of the content.
    fn beside(self, at: usize) -> Option<usize> {
        (self.old + at).checked_sub(self.new)
    }
}

struct RunFinder<'b> {
    old: &'b [u8],
    new: &'b [u8],
    chains: Chains,
    runs: Vec<Run>,
}

impl RunFinder<'_> {
    fn find(&mut self) {
        // The run under construction begins here.
        let mut run = Alignment::default();
        let mut at = 0;
        while at < self.new.len() {
            let equal = self.equal_len(run, at);
            if equal >= SEED_LEN {
                at += equal;
                continue;
            }
            match self.anchor(run, at) {
                Some((anchor, len)) => {
                    run = self.close(run, anchor);
                    at += len;
                }
                None => at += 1,
            }
        }
        let end = Alignment {
            new: self.new.len(),
            old: self.old.len(),
        };
        self.close(run, end);
    }

    /// Number of equal bytes from `at` on, in the alignment.
    fn equal_len(&self, alignment: Alignment, at: usize) -> usize {
        let old = alignment.beside(at).and_then(|old| self.old.get(old..));
        match (old, self.new.get(at..)) {
            (Some(old), Some(new)) => common_len(old, new),
            _ => 0,
        }
    }

    /// The longest exact match at `at` that is worth leaving the alignment, and its length.
    fn anchor(&self, run: Alignment, at: usize) -> Option<(Alignment, usize)> {
        let new = self.new.get(at..)?;
        let seed = new.get(..SEED_LEN)?;
        let mut best = (0, 0);
        for old in self.chains.candidates(seed) {
            let candidate = self.old.get(old..)?;
            if candidate.get(best.1) != new.get(best.1) {
                continue;
            }
            let len = common_len(candidate, new);
            if len > best.1 {
                best = (old, len);
            }
            if len >= LONG_LEN {
                break;
            }
        }
        let (old, len) = best;
        let kept = self.agreeing(run, at, len);
        (len >= SEED_LEN && len > kept + GAIN_MIN).then_some((Alignment { new: at, old }, len))
    }

    /// Number of equal bytes among the next `len`, in the alignment.
    fn agreeing(&self, alignment: Alignment, at: usize, len: usize) -> usize {
        let old = alignment.beside(at).and_then(|old| self.old.get(old..));
        let new = self.new.get(at..at + len);
        let (Some(old), Some(new)) = (old, new) else {
            return 0;
        };
        old.iter().zip(new).filter(|(old, new)| old == new).count()
    }

    /// Ends `run` before `anchor`, and returns the beginning of the run that the anchor belongs to.
    fn close(&mut self, run: Alignment, anchor: Alignment) -> Alignment {
        let between = self.new.get(run.new..anchor.new).unwrap_or_default();
        let old = self.old.get(run.old..).unwrap_or_default();
        let forward = grown(between.iter().zip(old));
        let before = self.old.get(..anchor.old).unwrap_or_default();
        let backward = match anchor.new == self.new.len() {
            true => 0,
            false => grown(between.iter().rev().zip(before.iter().rev())),
        };
        let overlap = (forward + backward).saturating_sub(between.len());
        let given = self.cut(run, anchor, forward, overlap);
        let (forward, backward) = (forward - given, backward - (overlap - given));
        let fitting = [run.new, run.old, forward].map(u32::try_from);
        if let ([Ok(at), Ok(from), Ok(len)], true) = (fitting, forward > 0) {
            self.runs.push(Run { at, from, len });
        }
        Alignment {
            new: anchor.new - backward,
            old: anchor.old - backward,
        }
    }

    /// Number of the overlapping bytes that the next run gets.
    fn cut(&self, run: Alignment, anchor: Alignment, forward: usize, overlap: usize) -> usize {
        let start = run.new + forward - overlap;
        let (mut score, mut best, mut kept) = (0i64, 0, 0);
        for inside in 0..overlap {
            let new = self.new.get(start + inside);
            let is_equal = |alignment: Alignment| {
                let old = alignment.beside(start + inside);
                old.and_then(|old| self.old.get(old)) == new
            };
            score += i64::from(is_equal(run)) - i64::from(is_equal(anchor));
            if score > best {
                (best, kept) = (score, inside + 1);
            }
        }
        overlap - kept
    }
}

/// Length of the longest useful beginning of the pairs: most of its bytes are equal.
fn grown<'b>(pairs: impl Iterator<Item = (&'b u8, &'b u8)>) -> usize {
    let (mut score, mut best, mut len) = (0i64, 0, 0);
    for (at, (new, old)) in pairs.enumerate() {
        score += if new == old { 1 } else { -1 };
        if score > best {
            (best, len) = (score, at + 1);
        }
    }
    len
}

fn common_len(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_chunks().0.iter().zip(other.as_chunks().0);
    let mut len = 0;
    for (one, other) in words {
        let different = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if different != 0 {
            return len + different.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    let rest = one.iter().zip(other).skip(len);
    len + rest.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without repetition.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut byte = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| byte()).collect()
    }

    fn run(at: u32, from: u32, len: u32) -> Run {
        Run { at, from, len }
    }

    #[test]
    fn changed_addresses_do_not_end_a_run() {
        let old = noise(1, 10_000);
        let mut new = old.clone();
        for at in (40..10_000).step_by(50) {
            new[at] = new[at].wrapping_add(7);
        }
        assert_eq!(runs(&old, &new), [run(0, 0, 10_000)]);
    }

    #[test]
    fn inserted_bytes_are_outside_of_runs() {
        let old = noise(1, 10_000);
        let new = [&old[..4000], &noise(2, 100)[..], &old[4000..]].concat();
        let found = runs(&old, &new);
        let [first, last] = found[..] else {
            panic!("{found:?}");
        };
        assert!(first.at == 0 && first.from == 0 && first.len.abs_diff(4000) < 20);
        assert!(last.at - last.from == 100 && last.at + last.len == 10_100);
        assert!(first.at + first.len <= last.at);
    }

    #[test]
    fn moved_parts_are_found_in_both_directions() {
        let old = noise(3, 9000);
        let new = [&old[6000..], &old[..3000], &old[3000..6000]].concat();
        let found = runs(&old, &new);
        assert_eq!(found, [run(0, 6000, 3000), run(3000, 0, 6000)]);
    }

    #[test]
    fn other_content_has_no_runs() {
        assert_eq!(runs(&noise(1, 5000), &noise(2, 5000)), []);
        assert_eq!(runs(b"", &noise(2, 50)), []);
        assert_eq!(runs(&noise(2, 50), b""), []);
        // Zeros make one chain, and take no time.
        let zeros = vec![0; 1 << 20];
        assert_eq!(runs(&zeros, &zeros), [run(0, 0, 1 << 20)]);
    }
}
