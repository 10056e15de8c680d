//! Update packs that lie, with a valid signature: they cost only time (`docs/FORMAT.md` §18).

use std::path::Path;

use layerfmt::Digest;
use layerfmt::update::{PREAMBLE_LEN, Preamble, Span, UNIT_CODEC_ZSTD, UpdateHead};
use wire::manifest::{UpdateHeadRef, UpdateRecord};
use wire::trust::{Envelope, UPDATE_NAMESPACE};

use super::site::{SYSTEM, Site};
use super::updates::{Scene, pack, pack_file};

/// The contents of an update pack.
#[derive(Clone)]
struct Contents {
    record: UpdateRecord,
    head: UpdateHead,
    frames: Vec<Vec<u8>>,
}

impl Contents {
    fn of(file: &Path) -> Contents {
        let bytes = std::fs::read(file).unwrap();
        let place = Preamble::decode(&bytes).unwrap().head();
        let place = place.start as usize..place.end as usize;
        let envelope = Envelope::parse(&bytes[PREAMBLE_LEN..place.start]).unwrap();
        let record = UpdateRecord::parse(envelope.payload.as_bytes()).unwrap();
        let head = UpdateHead::decode(
            &bytes[place.clone()],
            record.head.raw_len,
            &record.head.digest,
        );
        let head = head.unwrap();
        let index = head.index.unwrap().stored_len;
        let lens = head.units.iter().map(|unit| unit.stored_len);
        let mut rest = &bytes[place.end..];
        let mut frames = Vec::new();
        for len in std::iter::once(index).chain(lens) {
            let (frame, after) = rest.split_at(len as usize);
            frames.push(frame.to_vec());
            rest = after;
        }
        Contents {
            record,
            head,
            frames,
        }
    }

    /// Replaces the frame of a unit; the head has its digest.
    fn set_frame(&mut self, unit: usize, frame: Vec<u8>) {
        self.head.units[unit].digest = Digest::of(&frame);
        self.head.units[unit].stored_len = frame.len() as u32;
        self.frames[unit + 1] = frame;
    }

    /// Signs the pack with the key of the site and stores it.
    fn store(mut self, site: &Site, file: &Path) {
        let (head, raw_len) = self.head.encode().unwrap();
        self.record.head = UpdateHeadRef {
            digest: Digest::of(&head),
            len: head.len() as u32,
            raw_len,
        };
        self.record.frames_len = self.head.frames_len();
        let signer = site.keys().head().unwrap();
        let payload = self.record.render().unwrap();
        let envelope = signer.sign(UPDATE_NAMESPACE, &payload).unwrap();
        let envelope = envelope.render().unwrap();
        let preamble = Preamble {
            record_len: envelope.len() as u32,
            head_len: head.len() as u32,
        };
        let mut bytes = preamble.encode().to_vec();
        bytes.extend_from_slice(&envelope);
        bytes.extend_from_slice(&head);
        bytes.extend(self.frames.concat());
        std::fs::write(file, bytes).unwrap();
    }
}

/// A change to a pack.
type Lie<'l> = Box<dyn FnOnce(&mut Contents) + 'l>;

/// A frame of a few kilobytes that decodes to 64 MiB.
fn bomb() -> Vec<u8> {
    zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap()
}

/// A prefix that is too long, one of the greatest length that is allowed, a span of a chunk that the
/// old revision does not have (as a cycle would need), a chunk that two units make, frames that
/// decode to more than they should, and a pack of another system: the client serves every byte.
#[test]
fn signed_packs_that_lie_cost_only_time() {
    let mut scene = Scene::new();
    scene.site.change(1);
    pack(&scene.site, 1, 2);
    let file = pack_file(&scene.site, 1, 2);
    let good = Contents::of(&file);
    let saved = scene.save();
    let unit = good.head.units.len() - 1;
    let Some(span) = good.head.units.iter().flat_map(|it| &it.prefix).next() else {
        panic!("no unit has a prefix");
    };
    let span = *span;
    let prefix_of = |len: u32| {
        let spans = vec![span; (len / span.len) as usize];
        move |pack: &mut Contents| pack.head.units[unit].prefix = spans
    };
    let lies: Vec<(&str, Lie<'_>)> = vec![
        ("none", Box::new(|_| ())),
        ("prefix too long", Box::new(prefix_of(512 << 20))),
        ("long prefix", Box::new(prefix_of(16 << 20))),
        (
            "chunk of no old revision",
            Box::new(|pack: &mut Contents| {
                pack.head.units[unit].prefix.push(Span {
                    chunk: 1 << 20,
                    offset: 0,
                    len: 1,
                });
            }),
        ),
        (
            "made twice",
            Box::new(|pack: &mut Contents| {
                let made = pack.head.units[unit].made[0];
                pack.head.units[0].made.push(made);
            }),
        ),
        (
            "frame of a unit",
            Box::new(|pack: &mut Contents| {
                pack.set_frame(unit, bomb());
                pack.head.units[unit].codec = UNIT_CODEC_ZSTD;
            }),
        ),
        (
            "frame of the index",
            Box::new(|pack: &mut Contents| {
                let frame = bomb();
                let index = pack.head.index.as_mut().unwrap();
                index.stored_len = frame.len() as u32;
                index.digest = Digest::of(&frame);
                pack.frames[0] = frame;
            }),
        ),
        (
            "another system",
            Box::new(|pack: &mut Contents| pack.record.system = "other".into()),
        ),
        (
            "other revisions in the head",
            Box::new(|pack: &mut Contents| pack.head.from = Digest::of(b"another")),
        ),
    ];
    let mut honest = 0;
    for (name, lie) in lies {
        scene.restore(&saved);
        let mut lying = good.clone();
        lie(&mut lying);
        lying.store(&scene.site, &file);
        let client = scene.mount();
        client.compare(&scene.site.files);
        let status = client.status();
        assert_eq!(status["revision"], format!("{SYSTEM}/main@2"), "{name}");
        let bytes = status["bytes"].as_u64().unwrap();
        match name {
            "none" => honest = bytes,
            _ => assert!(bytes > honest, "{name}: {status}"),
        }
    }
}
