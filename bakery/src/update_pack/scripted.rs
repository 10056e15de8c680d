//! Encoding a unit: compressed data in its raw form, and runs of differences.

use std::sync::Arc;

use layerfmt::update::{Script, ScriptCopy, ScriptPart, Span, UNIT_CODEC_REMADE, UnitEncoder};

use layerfmt::limits;

use super::Result;
use super::choice::PlainUnit;
use super::compressed::{Proved, Trials};
use super::runs::runs;
use super::sources::Decoder;
use super::units::{RegionDraft, UnitDraft};

/// A unit without its chunks' digests.
pub(super) struct EncodedUnit {
    pub(super) codec: u32,
    pub(super) stored: Vec<u8>,
    pub(super) prefix: Vec<Span>,
}

/// A region that can be remade.
struct Usable<'d> {
    region: &'d RegionDraft,
    proved: Proved,
    packed_len: u32,
    /// Position in the remade bytes.
    at: Option<u32>,
}

/// A span of a region in the unit's chunks.
struct Cover {
    start: usize,
    len: usize,
    /// Number of the region, and position in its compressed form.
    region: usize,
    inside: u32,
}

/// The chunks of the unit, one after the other.
struct Chunks<'r> {
    starts: Vec<(u32, usize)>,
    bytes: &'r [u8],
}

impl Chunks<'_> {
    fn place(&self, span: &Span) -> Option<std::ops::Range<usize>> {
        let (_, start) = self.starts.iter().find(|(row, _)| *row == span.chunk)?;
        let start = start + span.offset as usize;
        Some(start..start + span.len as usize)
    }

    fn gather(&self, spans: &[Span]) -> Option<Vec<u8>> {
        let mut gathered = Vec::new();
        for span in spans {
            gathered.extend_from_slice(self.bytes.get(self.place(span)?)?);
        }
        Some(gathered)
    }
}

/// Encodes the unit. `raws`: its chunks.
pub(super) fn encode(
    draft: &UnitDraft,
    raws: &[Arc<[u8]>],
    before: &mut Decoder<'_>,
    trials: &Trials,
    encoder: UnitEncoder,
) -> Result<EncodedUnit> {
    let bytes = raws.concat();
    let mut starts = Vec::with_capacity(raws.len());
    let mut start = 0;
    for (row, raw) in draft.chunks.iter().zip(raws) {
        starts.push((*row, start));
        start += raw.len();
    }
    let chunks = Chunks {
        starts,
        bytes: &bytes,
    };
    let (mut usable, covers) = usable(draft, &chunks, trials);
    let mut script = Script::default();
    let content = content(&mut script, &chunks, &mut usable, &covers);
    let mut prefix = Prefix::default();
    prefix.add_plain(before, &draft.prefix)?;
    let mut order: Vec<&Usable<'_>> = usable.iter().collect();
    order.sort_by_key(|usable| usable.at);
    for usable in &order {
        prefix.add_region(before, usable)?;
    }
    let (codec, stored) = match order.is_empty() {
        true => {
            let unit = PlainUnit {
                prefix: &prefix.raw,
                content: &content,
                is_code: draft.is_code,
            };
            unit.encode(encoder)?
        }
        false => {
            script.old = prefix.parts;
            script.runs = runs(&prefix.raw, &content);
            if script.bytes_len() > limits::UPDATE_SCRIPT_LEN_MAX as usize {
                script.runs.clear();
            }
            let stored = script.encode_unit(&prefix.raw, &content, encoder)?;
            (UNIT_CODEC_REMADE, stored)
        }
    };
    Ok(EncodedUnit {
        codec,
        stored,
        prefix: prefix.spans,
    })
}

/// The regions that can be remade and do not overlap, and their spans in the order of the chunks.
fn usable<'d>(
    draft: &'d UnitDraft,
    chunks: &Chunks<'_>,
    trials: &Trials,
) -> (Vec<Usable<'d>>, Vec<Cover>) {
    let mut usable = Vec::new();
    let mut covers: Vec<Cover> = Vec::new();
    for region in &draft.regions {
        let places: Option<Vec<_>> = region.spans.iter().map(|it| chunks.place(it)).collect();
        let (Some(places), Some(packed)) = (places, chunks.gather(&region.spans)) else {
            continue;
        };
        let is_free = |place: &std::ops::Range<usize>| {
            covers
                .iter()
                .all(|it| place.end <= it.start || it.start + it.len <= place.start)
        };
        if !places.iter().all(is_free) {
            continue;
        }
        let Some(proved) = trials.prove(&packed, region.raw_len, region.recipe) else {
            continue;
        };
        let mut inside = 0;
        for place in places {
            covers.push(Cover {
                start: place.start,
                len: place.len(),
                region: usable.len(),
                inside,
            });
            inside += length(place.len());
        }
        usable.push(Usable {
            region,
            proved,
            packed_len: length(packed.len()),
            at: None,
        });
    }
    covers.sort_by_key(|cover| cover.start);
    (usable, covers)
}

/// Writes the new parts and the copies of the script; returns the content of the frame.
fn content(
    script: &mut Script,
    chunks: &Chunks<'_>,
    usable: &mut [Usable<'_>],
    covers: &[Cover],
) -> Vec<u8> {
    let mut content = Vec::new();
    // Length of the remade bytes so far.
    let mut remade_len = 0;
    let mut at = 0;
    let plain = |script: &mut Script, content: &mut Vec<u8>, from: usize, to: usize| {
        let Some(bytes) = chunks.bytes.get(from..to).filter(|bytes| !bytes.is_empty()) else {
            return 0;
        };
        content.extend_from_slice(bytes);
        let len = length(bytes.len());
        script.new.push(ScriptPart::plain(len));
        len
    };
    for cover in covers {
        let len = plain(script, &mut content, at, cover.start);
        copy(script, remade_len, len);
        remade_len += len;
        at = cover.start + cover.len;
        let Some(usable) = usable.get_mut(cover.region) else {
            continue;
        };
        let begin = match usable.at {
            Some(begin) => begin,
            None => {
                content.extend_from_slice(&usable.proved.raw);
                script.new.push(ScriptPart {
                    raw_len: usable.region.raw_len,
                    packed_len: usable.packed_len,
                    recipe: usable.proved.recipe,
                });
                usable.at = Some(remade_len);
                remade_len += usable.packed_len;
                remade_len - usable.packed_len
            }
        };
        copy(script, begin + cover.inside, length(cover.len));
    }
    let len = plain(script, &mut content, at, chunks.bytes.len());
    copy(script, remade_len, len);
    content
}

/// Adds a copy; extends the last one if the two are adjacent.
fn copy(script: &mut Script, offset: u32, len: u32) {
    match script.copies.last_mut() {
        _ if len == 0 => {}
        Some(last) if last.offset + last.len == offset => last.len += len,
        _ => script.copies.push(ScriptCopy { offset, len }),
    }
}

/// The prefix under construction.
#[derive(Default)]
struct Prefix {
    spans: Vec<Span>,
    parts: Vec<ScriptPart>,
    raw: Vec<u8>,
}

impl Prefix {
    fn add_plain(&mut self, before: &mut Decoder<'_>, spans: &[Span]) -> Result<()> {
        let bytes = before.spans(spans)?;
        if !bytes.is_empty() {
            self.parts.push(ScriptPart::plain(length(bytes.len())));
            self.spans.extend_from_slice(spans);
            self.raw.extend_from_slice(&bytes);
        }
        Ok(())
    }

    fn add_region(&mut self, before: &mut Decoder<'_>, usable: &Usable<'_>) -> Result<()> {
        let Some(old) = &usable.region.old else {
            return Ok(());
        };
        let packed = before.spans(&old.spans)?;
        let Some(raw) = old.recipe.unpack(&packed, old.raw_len as usize) else {
            return Ok(());
        };
        self.parts.push(ScriptPart {
            raw_len: old.raw_len,
            packed_len: old.packed_len,
            recipe: old.recipe,
        });
        self.spans.extend_from_slice(&old.spans);
        self.raw.extend_from_slice(&raw);
        Ok(())
    }
}

/// A length within a unit or a prefix, which the limits keep far below 4 GiB.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
