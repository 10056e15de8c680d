//! The x86 call filter: makes near calls and jumps compress better.
//!
//! Many calls to one function differ in their relative operand; as absolute addresses they are
//! equal. For every byte `0xE8` or `0xE9` at position `i` with at least four bytes after it, read
//! these as a little-endian signed number `v`; if `-i <= v < WINDOW`, replace it. Continue five
//! bytes later. The replacement is a permutation of that interval and operands never overlap, so
//! the decoder makes the same decisions and the filter is lossless on every input.

/// Size of the address window: larger than the largest chunk.
const WINDOW: i32 = 1 << 24;

/// Number of operand bytes after an opcode. The start of a buffer is decoded as in the whole
/// buffer, except for its last bytes, this many.
pub(crate) const OPERAND_LEN: usize = 4;

/// Turn relative operands into absolute ones, in place.
pub fn encode(bytes: &mut [u8]) {
    convert(
        bytes,
        0,
        |v, i| if v < WINDOW - i { v + i } else { v - WINDOW },
    );
}

/// The inverse of [`encode`].
pub fn decode(bytes: &mut [u8]) {
    decode_part(bytes, 0);
}

/// Decodes `bytes`, which begin at position `start` of a buffer where [`part_start`] allows it. The
/// last [`OPERAND_LEN`] bytes may stay encoded if the buffer has more.
pub(crate) fn decode_part(bytes: &mut [u8], start: usize) {
    let map = |v, i| if v >= 0 { v - i } else { v + WINDOW };
    convert(bytes, start, map);
}

/// The last position up to `wanted` at which decoding may begin: no byte before it is an opcode
/// whose operand reaches it.
pub(crate) fn part_start(bytes: &[u8], wanted: usize) -> usize {
    let before = bytes.get(..wanted).unwrap_or(bytes);
    let mut end = before.len();
    while let Some(last) = before
        .get(..end)
        .and_then(|part| part.last_chunk::<OPERAND_LEN>())
    {
        match memchr::memchr2(0xe8, 0xe9, last) {
            None => return end,
            Some(at) => end = end - OPERAND_LEN + at,
        }
    }
    0
}

fn convert(bytes: &mut [u8], start: usize, map: impl Fn(i32, i32) -> i32) {
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..) {
        let Some(found) = memchr::memchr2(0xe8, 0xe9, rest) else {
            return;
        };
        at += found;
        let i = i32::try_from(start.saturating_add(at));
        let (Ok(i), Some(operand)) = (i, bytes.get_mut(at + 1..at + 5)) else {
            return;
        };
        let v = <[u8; 4]>::try_from(&*operand).map_or(0, i32::from_le_bytes);
        if -i <= v && v < WINDOW && i < WINDOW {
            operand.copy_from_slice(&map(v, i).to_le_bytes());
        }
        at += 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn calls_to_one_target_become_equal() {
        let mut bytes = vec![0x90u8; 64];
        for at in [4usize, 20] {
            bytes[at] = 0xe8;
            let v = 40 - at as i32;
            bytes[at + 1..at + 5].copy_from_slice(&v.to_le_bytes());
        }
        let plain = bytes.clone();
        encode(&mut bytes);
        assert_eq!(bytes[5..9], 40i32.to_le_bytes());
        assert_eq!(bytes[21..25], 40i32.to_le_bytes());
        decode(&mut bytes);
        assert_eq!(bytes, plain);
    }

    proptest! {
        #[test]
        fn a_part_is_decoded_as_in_the_whole(
            plain in prop::collection::vec(prop_oneof![
                Just(0xe8u8), Just(0xe9), Just(0), Just(0xff), any::<u8>(), any::<u8>()], 0..200),
            from in 0..200_usize,
            len in 0..200_usize,
        ) {
            let mut bytes = plain.clone();
            encode(&mut bytes);
            let from = from.min(bytes.len());
            let end = (from + len).min(bytes.len());
            let start = part_start(&bytes, from);
            prop_assert!(start <= from);
            let known = (end + OPERAND_LEN).min(bytes.len());
            let part = &mut bytes[start..known];
            decode_part(part, start);
            prop_assert_eq!(&part[from - start..end - start], &plain[from..end]);
        }

        #[test]
        fn any_bytes_round_trip(
            mut bytes in prop::collection::vec(prop_oneof![
                Just(0xe8u8), Just(0xe9), Just(0), Just(0xff), any::<u8>()], 0..400)
        ) {
            let plain = bytes.clone();
            encode(&mut bytes);
            decode(&mut bytes);
            prop_assert_eq!(bytes, plain);
        }
    }
}
