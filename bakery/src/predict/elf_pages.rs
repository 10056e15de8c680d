//! The parts of an ELF file that a boot reads: from its program headers and its dynamic section.
//!
//! Measured on a boot of Debian 12: the loader reads the headers, the symbol tables, the
//! relocations and all data; of the code of a library that no program calls it reads the first and
//! the last page; of a program nearly everything but the unwind tables.

use std::collections::BTreeSet;
use std::ops::Range;

use wire::trace::PAGE_LEN;

use crate::limits::{
    ELF_CODE_LEN_MAX, ELF_DYNAMIC_LEN_MAX, ELF_NAMES_LEN_MAX, ELF_NEEDED_MAX, ELF_SEGMENTS_MAX,
    ELF_SYMBOLS_LEN_MAX,
};

/// How much of a file a boot uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Usage {
    /// It is mapped and relocated, and hardly called.
    Loaded,
    /// It is run, or its functions are called.
    Called,
}

/// A dynamic or static program or library.
#[derive(Debug, Default)]
pub(super) struct ElfFile {
    /// The program interpreter.
    pub(super) interpreter: Option<String>,
    /// Names of needed libraries.
    pub(super) needed: Vec<String>,
    /// Directories of RPATH and RUNPATH.
    pub(super) search: Vec<String>,
    /// Ranges of the file that the loader reads.
    loaded: Vec<Range<u64>>,
    /// Code and constants.
    called: Vec<Range<u64>>,
    /// Places of functions that choose an implementation while a library is loaded.
    resolvers: Vec<u64>,
}

struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    len: u64,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_INIT: u64 = 12;
const DT_FINI: u64 = 13;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const STT_GNU_IFUNC: u8 = 10;
const SYMBOL_LEN: usize = 24;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(word.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

fn string_at(bytes: &[u8], at: u64) -> Option<String> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok()
}

impl ElfFile {
    /// Reads a little-endian ELF file of 64 bits through `read`, which gives the bytes at an offset.
    /// `None`: it is none, or it is damaged.
    pub(super) fn read(read: impl Fn(u64, u64) -> Option<Vec<u8>>) -> Option<ElfFile> {
        let head = read(0, 64)?;
        if !head.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let (at, len) = (u64_at(&head, 32)?, u16_at(&head, 54)?);
        let count = u16_at(&head, 56)?.min(ELF_SEGMENTS_MAX);
        if len < 56 {
            return None;
        }
        let table = read(at, u64::from(len) * u64::from(count))?;
        let segments: Vec<Segment> = table
            .chunks_exact(usize::from(len))
            .filter_map(|row| {
                Some(Segment {
                    kind: u32_at(row, 0)?,
                    flags: u32_at(row, 4)?,
                    offset: u64_at(row, 8)?,
                    address: u64_at(row, 16)?,
                    len: u64_at(row, 32)?,
                })
            })
            .collect();
        let mut file = ElfFile::default();
        let interpreter = segments.iter().find(|segment| segment.kind == PT_INTERP);
        file.interpreter = interpreter
            .and_then(|segment| read(segment.offset, segment.len.min(PAGE_LEN)))
            .and_then(|bytes| string_at(&bytes, 0));
        let dynamic = file.dynamic(&segments, &read).unwrap_or_default();
        file.split(&segments, &dynamic);
        file.loaded.push(0..64);
        Some(file)
    }

    /// Reads the dynamic section; returns the file ranges of the code (from `DT_INIT` to `DT_FINI`).
    fn dynamic(
        &mut self,
        segments: &[Segment],
        read: impl Fn(u64, u64) -> Option<Vec<u8>>,
    ) -> Option<Range<u64>> {
        let section = segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
        let bytes = read(section.offset, section.len.min(ELF_DYNAMIC_LEN_MAX))?;
        let rows: Vec<(u64, u64)> = bytes
            .chunks_exact(16)
            .filter_map(|row| Some((u64_at(row, 0)?, u64_at(row, 8)?)))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let value = |tag| rows.iter().find(|row| row.0 == tag).map(|row| row.1);
        let place = |address: u64| {
            let inside = segments.iter().find(|segment| {
                segment.kind == PT_LOAD
                    && address
                        .checked_sub(segment.address)
                        .is_some_and(|at| at < segment.len)
            })?;
            inside.offset.checked_add(address - inside.address)
        };
        let names_at = value(DT_STRTAB).and_then(place)?;
        let names = read(names_at, value(DT_STRSZ)?.min(ELF_NAMES_LEN_MAX))?;
        for (tag, name) in &rows {
            let Some(text) = string_at(&names, *name)
                .filter(|_| matches!(*tag, DT_NEEDED | DT_RPATH | DT_RUNPATH))
            else {
                continue;
            };
            match *tag {
                DT_NEEDED if self.needed.len() < ELF_NEEDED_MAX => self.needed.push(text),
                DT_NEEDED => {}
                _ => self.search.extend(text.split(':').map(str::to_owned)),
            }
        }
        // The names follow the symbols in all known linkers' files.
        if let Some(symbols_at) = value(DT_SYMTAB).and_then(place)
            && let Some(len) = names_at.checked_sub(symbols_at)
            && let Some(symbols) = read(symbols_at, len.min(ELF_SYMBOLS_LEN_MAX))
        {
            let resolvers = symbols.chunks_exact(SYMBOL_LEN).filter_map(|symbol| {
                let is_resolver = symbol.get(4)? & 0xf == STT_GNU_IFUNC;
                let address = u64_at(symbol, 8).filter(|address| *address > 0 && is_resolver)?;
                place(address)
            });
            self.resolvers = resolvers.collect();
        }
        let start = value(DT_INIT).and_then(place)?;
        Some(start..value(DT_FINI).and_then(place)?)
    }

    /// Sorts the loaded segments into what the loader reads and what programs call.
    fn split(&mut self, segments: &[Segment], code: &Range<u64>) {
        let unwind = segments
            .iter()
            .find(|segment| segment.kind == PT_GNU_EH_FRAME)
            .map_or(u64::MAX, |segment| segment.offset);
        let mut is_after_code = false;
        for segment in segments.iter().filter(|segment| segment.kind == PT_LOAD) {
            let end = segment.offset.saturating_add(segment.len);
            let whole = segment.offset..end;
            if segment.flags & PF_W != 0 {
                self.loaded.push(whole);
            } else if segment.flags & PF_X != 0 {
                is_after_code = true;
                let start = match whole.contains(&code.start) {
                    true => code.start,
                    false => segment.offset,
                };
                self.loaded.push(segment.offset..start);
                self.called.push(start..end.min(unwind).max(start));
            } else if is_after_code {
                self.called
                    .push(segment.offset..end.min(unwind).max(segment.offset));
            } else {
                self.loaded.push(whole);
            }
        }
    }

    /// The pages that a boot reads, ascending, of a file with `len` bytes.
    pub(super) fn pages(&self, usage: Usage, len: u64) -> Vec<u32> {
        let mut pages = BTreeSet::new();
        let mut add = |range: Range<u64>| {
            let end = range.end.min(len);
            if range.start < end {
                let last = (end - 1) / PAGE_LEN;
                pages.extend(
                    (range.start / PAGE_LEN..=last).filter_map(|page| u32::try_from(page).ok()),
                );
            }
        };
        for range in &self.loaded {
            add(range.clone());
        }
        let code: u64 = self
            .called
            .iter()
            .map(|range| range.end.min(len).saturating_sub(range.start))
            .sum();
        if usage == Usage::Called && code <= ELF_CODE_LEN_MAX {
            for range in &self.called {
                add(range.clone());
            }
        } else if let Some(code) = self.called.first() {
            let edge = |at: u64| at..at.saturating_add(1);
            add(edge(code.start));
            add(edge(code.end.saturating_sub(1)));
            for place in &self.resolvers {
                add(edge(*place));
            }
        }
        pages.into_iter().collect()
    }
}
