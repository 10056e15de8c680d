//! Update packs (`docs/FORMAT.md` §18): laws, the golden file, damage and false claims.

use std::path::PathBuf;
use std::sync::Arc;

use layerfmt::flatten::{FlattenInput, flatten};
use layerfmt::source::{ContentReader, LayerSet};
use layerfmt::tree::{Kind, Metadata, Node, ROOT, Time};
use layerfmt::update::{
    IndexEffort, MadeChunk, PackRecipe, Preamble, Run, Script, ScriptCopy, ScriptPart, Span,
    UNIT_CODEC_REMADE, UNIT_CODEC_RUNS, UNIT_CODEC_X86, UNIT_CODEC_ZSTD, Unit, UnitEncoder,
    UpdateHead, UpdatePlan, decode_index, encode_index,
};
use layerfmt::{Digest, ErrorKind, Index, Layer, Name, limits};
use proptest::prelude::*;

use crate::arbitrary::{self, Model};

/// A merged index and what its chunks are in.
struct Revision {
    index: Arc<Index>,
    layers: LayerSet,
}

fn revision(tree: &Model) -> Revision {
    let dir = tempfile::tempdir().unwrap();
    let (layer, _) = arbitrary::bake(tree, None, 1, &dir.path().join("layer"));
    let bytes = std::fs::read(dir.path().join("layer")).unwrap();
    assert_eq!(
        Layer::from_vec(bytes.clone()).unwrap().digest(),
        layer.digest()
    );
    let layer = Arc::new(Layer::from_vec(bytes).unwrap());
    let merged = flatten(&[FlattenInput::of(&layer, true).unwrap()]).unwrap();
    Revision {
        index: merged.index,
        layers: LayerSet::new([layer]),
    }
}

impl Revision {
    fn named(&self, digest: &Digest) -> Vec<u8> {
        let row = self
            .index
            .chunks()
            .position(|chunk| chunk.digest == *digest);
        self.raw(row.unwrap() as u32)
    }

    fn raw(&self, chunk: u32) -> Vec<u8> {
        let mut reader = ContentReader::new(&self.index, &self.layers);
        reader.chunk(chunk).unwrap().to_vec()
    }
}

/// A pack without a record: head, frames and the plan. Every unit has all old chunks as its prefix.
struct Pack {
    head: UpdateHead,
    index: Vec<u8>,
    frames: Vec<Vec<u8>>,
}

fn pack(old: &Revision, new: &Revision, per_unit: usize) -> Pack {
    let have: Vec<Digest> = old.index.chunks().map(|chunk| chunk.digest).collect();
    let missing: Vec<u32> = (0..new.index.chunk_count())
        .filter(|row| !have.contains(&new.index.chunk(*row).unwrap().digest))
        .collect();
    let spans: Vec<Span> = (0..old.index.chunk_count())
        .map(|chunk| Span {
            chunk,
            offset: 0,
            len: old.index.chunk(chunk).unwrap().raw_len,
        })
        .collect();
    let prefix: Vec<u8> = spans.iter().flat_map(|span| old.raw(span.chunk)).collect();
    let (mut units, mut frames) = (Vec::new(), Vec::new());
    for rows in missing.chunks(per_unit) {
        let raws: Vec<Vec<u8>> = rows.iter().map(|row| new.raw(*row)).collect();
        let frame = UnitEncoder::new(19)
            .encode(&prefix, &raws.concat())
            .unwrap();
        units.push(Unit {
            stored_len: frame.len() as u32,
            digest: Digest::of(&frame),
            codec: UNIT_CODEC_ZSTD,
            made: rows
                .iter()
                .zip(&raws)
                .map(|(row, raw)| MadeChunk {
                    digest: new.index.chunk(*row).unwrap().digest,
                    raw_digest: Digest::of(raw),
                })
                .collect(),
            prefix: spans.clone(),
        });
        frames.push(frame);
    }
    let (frame, index) = encode_index(&old.index, &new.index, IndexEffort::Small)
        .unwrap()
        .unwrap();
    let head = UpdateHead {
        from: Digest::of(b"from"),
        to: Digest::of(b"to"),
        index: Some(frame),
        hot_count: 0,
        units,
    };
    Pack {
        head,
        index,
        frames,
    }
}

fn file(name: &str, text: &[u8]) -> Model {
    let mut tree = Model::new(Metadata {
        mode: 0o755,
        ..Metadata::default()
    });
    let meta = Metadata {
        mode: 0o644,
        mtime: Time { sec: 1, nsec: 0 },
        ..Metadata::default()
    };
    let kind = Kind::File(text.to_vec());
    let name = Name::new(name.as_bytes()).unwrap();
    tree.insert(ROOT, name, Node { meta, kind }).unwrap();
    tree
}

/// The worked example: a file of 100 lines of which one changes.
fn smallest() -> (Revision, Revision) {
    let text = |changed: &str| -> Vec<u8> {
        (0..100)
            .map(|i| match i {
                50 => format!("{changed}\n"),
                i => format!("line {}\n", i * i * 31 % 977),
            })
            .collect::<String>()
            .into_bytes()
    };
    (
        revision(&file("a", &text("old"))),
        revision(&file("a", &text("new"))),
    )
}

fn require_applies(old: &Revision, new: &Revision, pack: &Pack) {
    let (stored, raw_len) = pack.head.encode().unwrap();
    let head = UpdateHead::decode(&stored, raw_len, &Digest::of(&stored)).unwrap();
    assert_eq!(head, pack.head);
    let index = decode_index(&head.index.unwrap(), &pack.index, &old.index).unwrap();
    assert_eq!(index.raw(), new.index.raw());
    let plan = UpdatePlan::new(head, &old.index, &new.index).unwrap();
    for (row, frame) in pack.frames.iter().enumerate() {
        let made = plan
            .apply(row as u32, frame, |chunk| Ok(old.raw(chunk)))
            .unwrap();
        for ready in made {
            assert_eq!(plan.maker(&ready.digest), Some(row as u32));
            assert_eq!(ready.raw, new.named(&ready.digest));
            assert_eq!(ready.raw_digest, Digest::of(&ready.raw));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_pack_makes_every_chunk_and_the_index(
        edits in arbitrary::edits(30), more in arbitrary::edits(12), per_unit in 1usize..4
    ) {
        let mut tree = Model::new(Metadata::default());
        edits.iter().for_each(|edit| arbitrary::edit(&mut tree, edit));
        let old = revision(&tree);
        more.iter().for_each(|edit| arbitrary::edit(&mut tree, edit));
        let new = revision(&tree);
        require_applies(&old, &new, &pack(&old, &new, per_unit));
    }
}

#[test]
fn nothing_is_decoded_or_believed_before_its_digest() {
    let (old, new) = smallest();
    let pack = pack(&old, &new, 1);
    let plan = UpdatePlan::new(pack.head.clone(), &old.index, &new.index).unwrap();
    let frame = &pack.frames[0];
    assert!(frame.len() < 40, "{} bytes for one line", frame.len());
    let mismatch = |error: layerfmt::FormatError| {
        assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
    };
    for at in 0..frame.len() {
        let mut damaged = frame.clone();
        damaged[at] ^= 0x10;
        mismatch(
            plan.apply(0, &damaged, |chunk| Ok(old.raw(chunk)))
                .unwrap_err(),
        );
    }
    mismatch(
        plan.apply(0, &frame[1..], |chunk| Ok(old.raw(chunk)))
            .unwrap_err(),
    );
    // Another prefix of the same length, and one that is too short.
    let other = |chunk| {
        let mut raw: Vec<u8> = old.raw(chunk);
        raw[40] ^= 1;
        Ok(raw)
    };
    mismatch(plan.apply(0, frame, other).unwrap_err());
    mismatch(plan.apply(0, frame, |_| Ok(b"short")).unwrap_err());
    let mut index = pack.index.clone();
    index[9] ^= 1;
    let frame = pack.head.index.unwrap();
    mismatch(decode_index(&frame, &index, &old.index).unwrap_err());
    assert!(decode_index(&frame, &pack.index, &Index::empty()).is_err());
    let (stored, raw_len) = pack.head.encode().unwrap();
    let digest = Digest::of(&stored);
    for at in 0..stored.len() {
        let mut damaged = stored.clone();
        damaged[at] ^= 1;
        mismatch(UpdateHead::decode(&damaged, raw_len, &digest).unwrap_err());
    }
    for lie in [0, raw_len - 1, raw_len + 1, u32::MAX] {
        assert!(UpdateHead::decode(&stored, lie, &digest).is_err());
    }
}

#[test]
fn a_head_that_lies_is_refused() {
    let (old, new) = smallest();
    let good = pack(&old, &new, 1).head;
    let refuse = |what: &str, change: &dyn Fn(&mut UpdateHead)| {
        let mut head = good.clone();
        change(&mut head);
        let (stored, raw_len) = head.encode().unwrap();
        let read = UpdateHead::decode(&stored, raw_len, &Digest::of(&stored));
        let plan = read.and_then(|head| UpdatePlan::new(head, &old.index, &new.index));
        assert!(plan.is_err(), "{what}");
    };
    refuse("a chunk that is none", &|head| {
        head.units[0].made[0].digest.0[3] ^= 1
    });
    refuse("a chunk twice", &|head| {
        let unit = head.units[0].clone();
        head.units.push(unit);
    });
    refuse("a unit without a chunk", &|head| head.units[0].made.clear());
    refuse("an empty frame", &|head| head.units[0].stored_len = 0);
    refuse("a long frame", &|head| {
        head.units[0].stored_len = limits::UPDATE_UNIT_LEN_MAX + 1;
    });
    refuse("a span of an unknown chunk", &|head| {
        head.units[0].prefix[0].chunk = 9
    });
    refuse("an empty span", &|head| head.units[0].prefix[0].len = 0);
    refuse("a span outside", &|head| head.units[0].prefix[0].offset = 1);
    refuse("a span that wraps", &|head| {
        head.units[0].prefix[0].offset = u32::MAX
    });
    refuse("a long prefix", &|head| {
        let span = head.units[0].prefix[0];
        let count = limits::UPDATE_PREFIX_LEN_MAX / span.len + 1;
        head.units[0].prefix = vec![span; count as usize];
    });
    refuse("more hot units than units", &|head| head.hot_count = 2);
    refuse("a long INDEX", &|head| {
        let frame = head.index.as_mut().unwrap();
        frame.raw_len = limits::UPDATE_INDEX_WINDOW_LEN_MAX + 1;
    });
    refuse("a long frame of the INDEX", &|head| {
        let frame = head.index.as_mut().unwrap();
        frame.stored_len = limits::UPDATE_INDEX_WINDOW_LEN_MAX as u32 + 1;
    });
    // A unit of a codec that is not known is no error; its chunks come from elsewhere.
    let mut head = good.clone();
    head.units[0].codec = 9;
    let plan = UpdatePlan::new(head, &old.index, &new.index).unwrap();
    assert_eq!(plan.maker(&good.units[0].made[0].digest), None);
}

/// A unit with codec 2: "the raw form of such data, and a recipe that makes the compressed form
/// again". Scripts that lie are refused; nothing panics.
#[test]
fn compressed_data_is_made_again_and_scripts_that_lie_are_refused() {
    made_again(PackRecipe::Deflate {
        level: 9,
        mem_level: 9,
    });
    made_again(PackRecipe::Zstd {
        level: 19,
        is_job: true,
    });
}

fn made_again(recipe: PackRecipe) {
    let text = |version: u32| -> Vec<u8> {
        (0..3000u32)
            .flat_map(|i| format!("{} {}\n", i * 7919 % 10_007, i / 2999 * version).into_bytes())
            .collect()
    };
    let packed = |raw: &[u8]| recipe.pack(raw, raw.len()).unwrap();
    let whole = |raw: &[u8]| [b"head", packed(raw).as_slice(), b"tail"].concat();
    let (one, two) = (text(1), text(2));
    let (old, new) = (
        revision(&file("a", &whole(&one))),
        revision(&file("a", &whole(&two))),
    );
    let mut head = pack(&old, &new, 1).head;
    let len = |bytes: &[u8]| bytes.len() as u32;
    let part = |raw: &[u8]| ScriptPart {
        raw_len: len(raw),
        packed_len: len(&packed(raw)),
        recipe,
    };
    let good = Script {
        old: vec![ScriptPart::plain(4), part(&one), ScriptPart::plain(4)],
        new: vec![part(&two), ScriptPart::plain(4), ScriptPart::plain(4)],
        copies: vec![
            ScriptCopy {
                offset: len(&packed(&two)),
                len: 4,
            },
            ScriptCopy {
                offset: 0,
                len: len(&packed(&two)),
            },
            ScriptCopy {
                offset: len(&packed(&two)) + 4,
                len: 4,
            },
        ],
        runs: Vec::new(),
    };
    let prefix = good.prefix(&whole(&one)).unwrap();
    assert_eq!(prefix, [b"head", one.as_slice(), b"tail"].concat());
    let content = [two.as_slice(), b"head", b"tail"].concat();
    let frame = UnitEncoder::new(19).encode(&prefix, &content).unwrap();
    head.units[0].codec = UNIT_CODEC_REMADE;
    let mut apply = |stored: &[u8]| {
        head.units[0].stored_len = stored.len() as u32;
        head.units[0].digest = Digest::of(stored);
        let plan = UpdatePlan::new(head.clone(), &old.index, &new.index).unwrap();
        plan.apply(0, stored, |chunk| Ok(old.raw(chunk)))
    };
    let stored = good.encode(&frame).unwrap();
    assert!(stored.len() < 200, "{} bytes", stored.len());
    let ready = apply(&stored).unwrap();
    assert_eq!(ready[0].raw, whole(&two));
    let lies: [(&str, &dyn Fn(&mut Script)); 11] = [
        ("a long zstd frame", &|script| {
            script.new[0].raw_len = limits::UPDATE_ZSTD_RAW_LEN_MAX + 1;
            script.new[0].recipe = PackRecipe::Zstd {
                level: 19,
                is_job: false,
            };
        }),
        ("an old part that is no such data", &|script| {
            script.old[1].recipe = PackRecipe::Lzma2 {
                preset: 6,
                is_extreme: false,
                dict_log: 20,
            }
        }),
        ("spans that are not there", &|script| {
            script.old.push(ScriptPart::plain(1))
        }),
        ("less than the spans", &|script| script.old.truncate(2)),
        ("an old part that does not decompress", &|script| {
            script.old.swap(0, 1)
        }),
        ("a plain part with two lengths", &|script| {
            script.new[1].packed_len = 5
        }),
        ("a long content", &|script| {
            script.new[0].raw_len = limits::UPDATE_UNIT_LEN_MAX
        }),
        ("another length", &|script| script.new[0].packed_len -= 1),
        ("a copy outside", &|script| script.copies[2].offset += 1),
        ("a copy that wraps", &|script| {
            script.copies[2].offset = u32::MAX
        }),
        ("more than the chunks", &|script| {
            script.copies.push(ScriptCopy { offset: 0, len: 1 })
        }),
    ];
    for (what, lie) in lies {
        let mut script = good.clone();
        lie(&mut script);
        assert!(apply(&script.encode(&frame).unwrap()).is_err(), "{what}");
    }
    // Any damage in the script, with a digest that fits: an error or the right bytes.
    for at in 0..stored.len() {
        for bit in [1, 0x80] {
            let mut damaged = stored.clone();
            damaged[at] ^= bit;
            if let Ok(ready) = apply(&damaged) {
                assert_eq!(ready[0].raw, whole(&two), "{at}");
            }
        }
        assert!(apply(&stored[..at.max(1)]).is_err());
    }
}

/// "Each byte of a run is the sum, modulo 256, of a byte of the prefix and its difference." Scripts
/// with wrong runs are refused; nothing panics.
#[test]
fn runs_of_differences_are_added_and_scripts_that_lie_are_refused() {
    let one: Vec<u8> = (0..4000u32).flat_map(|i| (i * i).to_le_bytes()).collect();
    let mut two = one.clone();
    two.iter_mut()
        .step_by(37)
        .for_each(|byte| *byte = byte.wrapping_add(3));
    two.splice(9000..9000, *b"inserted");
    let (old, new) = (revision(&file("a", &one)), revision(&file("a", &two)));
    let mut head = pack(&old, &new, 1).head;
    let run = |at, from, len| Run { at, from, len };
    let good = Script::plain(
        one.len() as u32,
        two.len() as u32,
        vec![run(0, 0, 9000), run(9008, 9000, 7000)],
    );
    let encoder = UnitEncoder::new(19);
    let stored = good.encode_unit(&one, &two, encoder).unwrap();
    assert!(stored.len() * 4 < encoder.encode(&one, &two).unwrap().len());
    head.units[0].codec = UNIT_CODEC_RUNS;
    let mut apply = |stored: &[u8]| {
        head.units[0].stored_len = stored.len() as u32;
        head.units[0].digest = Digest::of(stored);
        let plan = UpdatePlan::new(head.clone(), &old.index, &new.index).unwrap();
        plan.apply(0, stored, |chunk| Ok(old.raw(chunk)))
    };
    assert_eq!(apply(&stored).unwrap()[0].raw, two);
    // Runs may go back in the prefix, and use a part of it twice.
    let twice = Script {
        runs: vec![run(100, 400, 50), run(150, 0, 60), run(300, 0, 60)],
        ..good.clone()
    };
    let stored_twice = twice.encode_unit(&one, &two, encoder).unwrap();
    assert_eq!(apply(&stored_twice).unwrap()[0].raw, two);
    let frame = encoder.encode(&[], &two).unwrap();
    let lies = [
        ("an empty run", run(0, 0, 0)),
        ("outside the content", run(15_000, 0, 1009)),
        ("outside the prefix", run(0, 15_990, 11)),
        ("all of the numbers", run(u32::MAX, u32::MAX, u32::MAX)),
        ("before the prefix", run(0, u32::MAX, 1)),
    ];
    for (what, lie) in lies {
        let script = Script {
            runs: vec![lie],
            ..good.clone()
        };
        assert!(apply(&script.encode(&frame).unwrap()).is_err(), "{what}");
    }
    let overlap = Script {
        runs: vec![run(10, 0, 10), run(15, 0, 10)],
        ..good.clone()
    };
    assert!(apply(&overlap.encode(&frame).unwrap()).is_err());
    for at in 0..stored.len().min(400) {
        for bit in [1, 0x80] {
            let mut damaged = stored.clone();
            damaged[at] ^= bit;
            if let Ok(ready) = apply(&damaged) {
                assert_eq!(ready[0].raw, two, "{at}");
            }
        }
        assert!(apply(&stored[..at.max(1)]).is_err());
    }
}

/// "With codec 4 the prefix and the content of the frame have passed the address filter." Calls of one
/// function become equal, also if there is more code between them.
#[test]
fn units_of_code_pass_the_address_filter() {
    let code = |inserted: u32| -> Vec<u8> {
        let mut code = Vec::new();
        for call in 0..1200u32 {
            let target = call.wrapping_mul(2_654_435_761) % 40 * 1000;
            code.extend([0x48, 0x89, (call % 251) as u8, 0xe8]);
            let next = code.len() as u32 + 4;
            code.extend(target.wrapping_sub(next).to_le_bytes());
            code.extend(vec![0x90; (inserted * (call % 7)) as usize]);
        }
        code
    };
    let (one, two) = (code(0), code(1));
    let (old, new) = (revision(&file("a", &one)), revision(&file("a", &two)));
    let mut head = pack(&old, &new, 1).head;
    let encoder = UnitEncoder::new(19);
    let stored = encoder.encode_x86(&one, &two).unwrap();
    let plain = encoder.encode(&one, &two).unwrap();
    assert!(
        stored.len() * 4 < plain.len() * 3,
        "{} of {}",
        stored.len(),
        plain.len()
    );
    head.units[0].codec = UNIT_CODEC_X86;
    let mut apply = |stored: &[u8]| {
        head.units[0].stored_len = stored.len() as u32;
        head.units[0].digest = Digest::of(stored);
        let plan = UpdatePlan::new(head.clone(), &old.index, &new.index).unwrap();
        plan.apply(0, stored, |chunk| Ok(old.raw(chunk)))
    };
    assert_eq!(apply(&stored).unwrap()[0].raw, two);
    // The frame of another codec does not give the chunk.
    assert!(apply(&plain).is_err());
    for at in 0..stored.len().min(300) {
        let mut damaged = stored.clone();
        damaged[at] ^= 4;
        if let Ok(ready) = apply(&damaged) {
            assert_eq!(ready[0].raw, two, "{at}");
        }
    }
}

#[test]
fn the_preamble_is_bounded() {
    let good = Preamble {
        record_len: 5,
        head_len: 7,
    };
    assert_eq!(Preamble::decode(&good.encode()).unwrap(), good);
    assert_eq!(good.head(), 29..36);
    for (at, value) in [(0, 0), (8, 2), (15, 0xff), (19, 0xff), (20, 1)] {
        let mut bytes = good.encode();
        bytes[at] = value;
        assert!(Preamble::decode(&bytes).is_err(), "{at}");
    }
    assert!(Preamble::decode(&good.encode()[..23]).is_err());
}

/// A pack as a file, with `record` as its record.
fn assemble(pack: &Pack, record: &[u8]) -> Vec<u8> {
    let (head, _) = pack.head.encode().unwrap();
    let preamble = Preamble {
        record_len: record.len() as u32,
        head_len: head.len() as u32,
    };
    let mut file = preamble.encode().to_vec();
    file.extend_from_slice(record);
    file.extend_from_slice(&head);
    file.extend_from_slice(&pack.index);
    file.extend(pack.frames.iter().flatten());
    file
}

/// The golden file was made by an earlier writer; today's reader reads it.
#[test]
fn version_1_of_update_packs_still_reads() {
    let (old, new) = smallest();
    if let Ok(dir) = std::env::var("GOLDEN_OUT") {
        let mut pack = pack(&old, &new, 1);
        (pack.head.from, pack.head.to) = (Digest::of(b"old"), Digest::of(b"new"));
        std::fs::write(
            PathBuf::from(dir).join("smallest.update"),
            assemble(&pack, b"{}"),
        )
        .unwrap();
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/v1/smallest.update");
    let file = std::fs::read(path).unwrap();
    let preamble = Preamble::decode(&file).unwrap();
    let place = preamble.head();
    let stored = &file[place.start as usize..place.end as usize];
    // The length is in the record; this one has none.
    let raw_len = 160 + 4 * (4 + 3) + 32 * 3;
    let head = UpdateHead::decode(stored, raw_len, &Digest::of(stored)).unwrap();
    assert_eq!(head.from, Digest::of(b"old"));
    let frames = &file[place.end as usize..];
    assert_eq!(head.frames_len(), frames.len() as u64);
    let (index, unit) = frames.split_at(head.index_len() as usize);
    let read = decode_index(&head.index.unwrap(), index, &old.index).unwrap();
    assert_eq!(read.raw(), new.index.raw());
    let plan = UpdatePlan::new(head, &old.index, &new.index).unwrap();
    assert_eq!(plan.unit(0).unwrap().1, index.len() as u64);
    let made = plan.apply(0, unit, |chunk| Ok(old.raw(chunk))).unwrap();
    assert_eq!(made[0].raw, new.raw(0));
}
