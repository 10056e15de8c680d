//! Groups waiting chunks into requests.

use layerfmt::Digest;

use super::super::range;

/// Maximum number of chunks in one batch request.
pub(super) const BATCH_COUNT_MAX: usize = 64;
/// Maximum number of bytes in one batch request.
const BATCH_LEN_MAX: u64 = 2 << 20;
// A server takes every batch that is made here; one chunk more may exceed the length.
const _: () = assert!(
    BATCH_COUNT_MAX <= wire::limits::BATCH_RANGES_MAX
        && BATCH_LEN_MAX <= wire::limits::BATCH_LEN_MAX / 2
);

/// The chunks for one request: with batches all that fit, otherwise only neighbors. The second
/// value is true if they are neighbors.
pub(super) fn group(
    mut chosen: Vec<(std::ops::Range<u64>, Digest)>,
    batches: bool,
) -> (Vec<Digest>, bool) {
    // The chunk requested first decides; the others join it if they can.
    let Some(leader) = chosen.first().map(|(range, _)| range.start) else {
        return (Vec::new(), true);
    };
    chosen.sort_by_key(|(range, _)| range.start);
    let at = chosen
        .iter()
        .position(|(range, _)| range.start == leader)
        .unwrap_or(0);
    let ranges: Vec<_> = chosen.iter().map(|(range, _)| range.clone()).collect();
    let neighbors = range::mergeable(ranges.get(at..).unwrap_or_default());
    if !batches || neighbors == chosen.len() {
        return (
            chosen
                .into_iter()
                .skip(at)
                .take(neighbors)
                .map(|(_, digest)| digest)
                .collect(),
            true,
        );
    }
    let mut len = 0;
    let digests: Vec<Digest> = chosen
        .into_iter()
        .skip(at)
        .take_while(|(range, _)| {
            let first = len == 0;
            len += range.end.saturating_sub(range.start);
            first || len <= BATCH_LEN_MAX
        })
        .map(|(_, digest)| digest)
        .collect();
    let side_by_side = digests.len() <= neighbors;
    (digests, side_by_side)
}
