//! The address filter of units of code for x86-64 (`docs/FORMAT.md` §18).
//!
//! Code refers to functions and data by their distance from the instruction. Every use of one function or one
//! variable has another distance, and after a change in between all of them differ from those of the old
//! program. As absolute addresses the uses of one target are equal. The call filter of chunks (§9.1) does
//! this for calls within a chunk; this filter also does it for data, and for targets before the start.

/// Size of the address window.
const WINDOW: i32 = 1 << 24;
/// Address of the first byte: targets up to this far before it have an address too.
const FIRST: i32 = 1 << 23;
/// Length of an operand, bytes.
const OPERAND_LEN: usize = 4;

/// The opcode of a call or a jump: its operand follows.
const CALL: u8 = 1;
/// Opcodes, or their second bytes, with a ModRM byte, which says if the operand after it is a distance.
const MODRM: u8 = 2;
const MODRM_OPCODES: [u8; 23] = [
    0x03, 0x10, 0x11, 0x28, 0x29, 0x39, 0x3b, 0x63, 0x6f, 0x7f, 0x80, 0x83, 0x85, 0x88, 0x89, 0x8a,
    0x8b, 0x8d, 0xb6, 0xb7, 0xc7, 0xf6, 0xff,
];
/// The number of bytes from each opcode to its operand; 0: it has none.
static BEFORE: [u8; 256] = before();

#[allow(clippy::indexing_slicing)] // at build time
const fn before() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < MODRM_OPCODES.len() {
        table[MODRM_OPCODES[at] as usize] = MODRM;
        at += 1;
    }
    table[0xe8] = CALL;
    table[0xe9] = CALL;
    table
}

/// Turns distances into addresses, in place.
pub(super) fn encode(bytes: &mut [u8]) {
    convert(
        bytes,
        |v, at| if v < WINDOW - at { v + at } else { v - WINDOW },
    );
}

/// The inverse of [`encode`].
pub(super) fn decode(bytes: &mut [u8]) {
    convert(bytes, |v, at| if v >= 0 { v - at } else { v + WINDOW });
}

/// A 1 in each byte of a word.
const LANES: u64 = 0x0101_0101_0101_0101;
/// Bytes of a word, and one more for the ModRM byte of the last opcode.
const WINDOW_LEN: usize = 9;

/// The highest bit of each byte of `word` that is 0.
fn zeros(word: u64) -> u64 {
    const LOW: u64 = 0x7f * LANES;
    !(((word & LOW) + LOW) | word | LOW)
}

fn kind(opcode: u8) -> u8 {
    BEFORE.get(usize::from(opcode)).copied().unwrap_or(0)
}

/// The position of the first opcode from `at` on that has an operand, and the number of bytes from it to the
/// operand. It looks at eight positions at a time: few bytes are a call, or are followed by such a ModRM byte.
fn next(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    loop {
        let rest = bytes.get(at..)?;
        let Some([low @ .., last]) = rest.first_chunk::<WINDOW_LEN>() else {
            return next_of_few(rest).map(|(skipped, before)| (at + skipped, before));
        };
        let word = u64::from_le_bytes(*low);
        let following = word >> 8 | u64::from(*last) << 56;
        let mut found = zeros(word & (0xfe * LANES) ^ (0xe8 * LANES))
            | zeros(following & (0xc7 * LANES) ^ (0x05 * LANES));
        while found != 0 {
            let lane = found.trailing_zeros() / 8;
            #[allow(clippy::cast_possible_truncation)] // the byte of this lane
            let before = kind((word >> (8 * lane)) as u8);
            if before != 0 {
                return Some((at + lane as usize, before.into()));
            }
            found &= found - 1;
        }
        at += size_of::<u64>();
    }
}

/// Like [`next`], in a few bytes.
fn next_of_few(bytes: &[u8]) -> Option<(usize, usize)> {
    let before = |pair: &[u8]| match pair {
        [opcode, modrm] => match kind(*opcode) {
            MODRM if modrm & 0xc7 != 0x05 => 0,
            before => before,
        },
        _ => 0,
    };
    let mut pairs = bytes.windows(2).map(before).enumerate();
    let (skipped, before) = pairs.find(|(_, before)| *before != 0)?;
    Some((skipped, before.into()))
}

/// The decisions depend on bytes that are never replaced, so both directions make the same.
fn convert(bytes: &mut [u8], map: impl Fn(i32, i32) -> i32) {
    let mut at = 0;
    while let Some((opcode, before)) = next(bytes, at) {
        let start = opcode + before;
        let Some(operand) = bytes.get_mut(start..start + OPERAND_LEN) else {
            return;
        };
        let v = <[u8; OPERAND_LEN]>::try_from(&*operand).map_or(0, i32::from_le_bytes);
        let address = i32::try_from(start)
            .ok()
            .and_then(|start| start.checked_add(FIRST));
        if let Some(address) = address.filter(|address| *address < WINDOW)
            && (-address..WINDOW).contains(&v)
        {
            operand.copy_from_slice(&map(v, address).to_le_bytes());
        }
        at = start + OPERAND_LEN;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The distance of `target` as the operand at `at`.
    fn put(code: &mut Vec<u8>, opcode: &[u8], target: i32) {
        code.extend_from_slice(opcode);
        let at = i32::try_from(code.len()).unwrap();
        code.extend_from_slice(&(target - at).to_le_bytes());
    }

    #[test]
    fn uses_of_one_target_become_equal() {
        let mut code = vec![0x90; 7];
        let lea: &[u8] = &[0x48, 0x8d, 0x3d];
        for (opcode, target) in [
            (&[0xe8][..], 400),
            (lea, -5000),
            (&[0xe9], 400),
            (&[0x48, 0x8b, 0x05], -5000),
            (&[0x0f, 0x29, 0x0d], 400),
        ] {
            put(&mut code, opcode, target);
        }
        let plain = code.clone();
        encode(&mut code);
        let operand = |at: usize| i32::from_le_bytes(code[at..at + 4].try_into().unwrap());
        assert_eq!(
            [8, 15, 20, 27, 34].map(operand),
            [400, -5000, 400, -5000, 400].map(|it| it + FIRST)
        );
        decode(&mut code);
        assert_eq!(code, plain);
    }

    /// The operands that `docs/FORMAT.md` names, position by position.
    fn operands(bytes: &[u8]) -> Vec<usize> {
        let (mut operands, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let before = match (bytes[at], bytes.get(at + 1)) {
                (0xe8 | 0xe9, _) => 1,
                (opcode, Some(modrm)) if MODRM_OPCODES.contains(&opcode) && modrm & 0xc7 == 5 => 2,
                _ => {
                    at += 1;
                    continue;
                }
            };
            if at + before + OPERAND_LEN > bytes.len() {
                break;
            }
            operands.push(at + before);
            at += before + OPERAND_LEN;
        }
        operands
    }

    proptest! {
        #[test]
        fn the_operands_are_those_of_the_specification(bytes in proptest::collection::vec(
            prop_oneof![Just(0xe9u8), Just(0x8b), Just(0x05), Just(0x3d), any::<u8>()],
            0..100,
        )) {
            let (mut found, mut at) = (Vec::new(), 0);
            while let Some((opcode, before)) = next(&bytes, at) {
                at = opcode + before + OPERAND_LEN;
                if at > bytes.len() {
                    break;
                }
                found.push(opcode + before);
            }
            prop_assert_eq!(found, operands(&bytes));
        }

        #[test]
        fn every_input_comes_back(mut bytes in proptest::collection::vec(
            prop_oneof![
                Just(0xe8u8), Just(0x8b), Just(0x05), Just(0x3d), Just(0), Just(0xff), any::<u8>()
            ],
            0..200,
        )) {
            let plain = bytes.clone();
            encode(&mut bytes);
            decode(&mut bytes);
            prop_assert_eq!(bytes, plain);
        }
    }
}
