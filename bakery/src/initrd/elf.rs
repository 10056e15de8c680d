//! Two questions about an ELF file: is it a static program, and what are the contents of a named
//! section? Every offset is checked; a damaged file gives "no" or `None`.

/// Does the program run without a dynamic loader?
#[must_use]
pub(crate) fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let Some(header) = ElfHeader::read(elf) else {
        return false;
    };
    (0..header.program_count).all(|index| {
        let at = header.program_offset + index * header.program_len;
        header
            .word(elf, at, 4)
            .is_some_and(|kind| kind != PT_INTERP)
    })
}

/// The bytes of the section called `name`.
#[must_use]
pub(crate) fn section<'a>(elf: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let header = ElfHeader::read(elf)?;
    let (names_at, names_len) = header.section_range(elf, header.names_index)?;
    let names = range(elf, names_at, names_len)?;
    for index in 0..header.section_count {
        let at = header.section_offset + index * header.section_len;
        let name_at = usize::try_from(header.word(elf, at, 4)?).ok()?;
        let rest = names.get(name_at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        if rest.get(..end)? == name.as_bytes() {
            let (start, len) = header.section_range(elf, index)?;
            return range(elf, start, len);
        }
    }
    None
}

fn range(bytes: &[u8], start: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

/// Positions of the tables from the ELF header.
struct ElfHeader {
    wide: bool,
    big_endian: bool,
    program_offset: u64,
    program_len: u64,
    program_count: u64,
    section_offset: u64,
    section_len: u64,
    section_count: u64,
    names_index: u64,
}

impl ElfHeader {
    fn read(elf: &[u8]) -> Option<Self> {
        if elf.get(..4)? != b"\x7fELF" {
            return None;
        }
        let wide = *elf.get(4)? == 2;
        let mut header = Self {
            wide,
            big_endian: *elf.get(5)? == 2,
            program_offset: 0,
            program_len: 0,
            program_count: 0,
            section_offset: 0,
            section_len: 0,
            section_count: 0,
            names_index: 0,
        };
        let (pointer, tables, sizes) = if wide { (8, 32, 54) } else { (4, 28, 42) };
        header.program_offset = header.word(elf, tables, pointer)?;
        header.section_offset = header.word(elf, tables + pointer, pointer)?;
        header.program_len = header.word(elf, sizes, 2)?;
        header.program_count = header.word(elf, sizes + 2, 2)?;
        header.section_len = header.word(elf, sizes + 4, 2)?;
        header.section_count = header.word(elf, sizes + 6, 2)?;
        header.names_index = header.word(elf, sizes + 8, 2)?;
        // Keeps `offset + index * len` far below overflow.
        (header.program_offset.max(header.section_offset) < elf.len() as u64).then_some(header)
    }

    /// An unsigned number of `len` bytes at `at`.
    fn word(&self, elf: &[u8], at: u64, len: u64) -> Option<u64> {
        let bytes = range(elf, at, len)?;
        let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.big_endian {
            bytes.iter().fold(0, join)
        } else {
            bytes.iter().rev().fold(0, join)
        })
    }

    /// Offset and length of a section's bytes.
    fn section_range(&self, elf: &[u8], index: u64) -> Option<(u64, u64)> {
        let at = self.section_offset + index.checked_mul(self.section_len)?;
        let (pointer, offset) = if self.wide { (8, 24) } else { (4, 16) };
        Some((
            self.word(elf, at + offset, pointer)?,
            self.word(elf, at + offset + pointer, pointer)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_program_is_dynamic_and_has_sections() {
        let elf = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&elf));
        let interp = section(&elf, ".interp").unwrap();
        assert!(interp.starts_with(b"/lib"), "{interp:?}");
        assert_eq!(section(&elf, ".no-such-section"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(!is_static(b""));
        assert!(!is_static(b"#!/bin/sh\n"));
        assert!(!is_static(
            &[b"\x7fELF\x02\x01".as_slice(), &[0xff; 58]].concat()
        ));
        assert_eq!(section(b"\x7fELF\x02\x01", ".modinfo"), None);
    }
}
