//! A store with a system, its keys, and the expected contents of its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bakery::keys::{self, Keys};
use bakery::publish::{Import, Publisher};
use bakery::store::Store;
use layerfmt::tree::{Child, Kind, Metadata, Node, ROOT, Tree};
use layerfmt::writer::{Effort, LayerWriter, Options};
use layerfmt::{Meta, Name};
use wire::manifest::ProfileName;

pub(super) const SYSTEM: &str = "kiosk";

pub(super) struct Site {
    place: crate::scratch::Scratch,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    version: u8,
    effort: Effort,
}

/// Bytes that compress about threefold and differ by `seed`.
fn content(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut out = Vec::with_capacity(len + 16);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        out.extend_from_slice(&state.to_le_bytes());
        out.extend_from_slice(b"same all over");
    }
    out.truncate(len);
    out
}

impl Site {
    pub(super) fn new() -> Site {
        let mut site = Site::empty();
        site.publish();
        site
    }

    /// A system whose layers are compressed as `bakery bake` does by default.
    pub(super) fn baked() -> Site {
        let mut site = Site::empty();
        site.effort = Options::bake().effort;
        site.publish();
        site
    }

    /// A system with these files.
    pub(super) fn with(files: BTreeMap<String, Vec<u8>>) -> Site {
        let mut site = Site::empty();
        site.publish_files(files);
        site
    }

    pub(super) fn empty() -> Site {
        let place = crate::scratch::Scratch::new();
        let site = Site {
            place,
            files: BTreeMap::new(),
            version: 0,
            effort: Effort::level(3),
        };
        let store = Store::create(site.store().to_str().unwrap()).unwrap();
        site.keys().create().unwrap();
        let (root, head) = (site.keys().root(None).unwrap(), site.keys().head().unwrap());
        keys::first(&store, &root, &head).unwrap();
        site
    }

    pub(super) fn store(&self) -> PathBuf {
        self.place.path().join("store")
    }

    pub(super) fn keys(&self) -> Keys {
        Keys::locate(Some(&self.place.path().join("store.keys")), "").unwrap()
    }

    pub(super) fn allowed_signers(&self) -> PathBuf {
        self.place.path().join("store.keys/allowed_signers")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(super) fn publisher(&self) -> Publisher {
        let store = Store::open(self.store().to_str().unwrap()).unwrap();
        Publisher::open(store, &self.keys()).unwrap()
    }

    pub(super) fn name() -> ProfileName {
        ProfileName::new(SYSTEM, "main").unwrap()
    }

    /// Publishes the next revision, with new contents.
    pub(super) fn publish(&mut self) -> u64 {
        let salt = u32::from(self.version + 1) * 1000;
        let mut files: BTreeMap<String, Vec<u8>> = (0..60u32)
            .map(|i| {
                (
                    format!("small{i:02}"),
                    content(salt + i, (i * i * 13) as usize),
                )
            })
            .collect();
        files.insert("large".into(), content(salt + 77, 3_000_001));
        files.insert("middle".into(), content(salt + 78, 700_000));
        let mut sparse = vec![0; 1_000_000];
        sparse[500_000..600_000].copy_from_slice(&content(salt + 79, 100_000));
        files.insert("sparse".into(), sparse);
        files.insert("twin".into(), files["middle"].clone());
        self.publish_files(files)
    }

    /// Publishes the next revision: the files of the last with small changes, one that moved and one
    /// that is new.
    pub(super) fn change(&mut self, seed: u32) -> u64 {
        let mut files = self.files.clone();
        for (i, bytes) in files
            .values_mut()
            .enumerate()
            .skip(seed as usize % 3)
            .step_by(3)
        {
            let at = bytes.len() * i / 64;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = byte.wrapping_add(1);
            }
            bytes.splice(at..at, seed.to_le_bytes());
        }
        let moved = files
            .remove("middle")
            .or_else(|| files.remove("middle-1.0"));
        files.insert(
            if seed % 2 == 1 {
                "middle-1.0"
            } else {
                "middle"
            }
            .into(),
            moved.unwrap(),
        );
        files.insert(format!("new{seed}"), content(seed * 7919, 5_000));
        self.publish_files(files)
    }

    /// Publishes the next revision with these files.
    pub(super) fn publish_files(&mut self, files: BTreeMap<String, Vec<u8>>) -> u64 {
        self.version += 1;
        let layer = self.path(&format!("{}.layer", self.version));
        write_layer(&layer, &files, self.effort);
        self.files = files;
        self.import(&layer)
    }

    /// Publishes the next revision with the tree of a layer.
    pub(super) fn publish_layer(&mut self, layer: &PathBuf) -> u64 {
        self.version += 1;
        self.import(layer)
    }

    fn import(&self, layer: &PathBuf) -> u64 {
        let import = Import {
            name: Site::name(),
            layers: std::slice::from_ref(layer),
            kernel: None,
            initrd: None,
            cmdline: String::new(),
            author: "test".into(),
            message: format!("version {}", self.version),
            predict: bakery::publish::Prediction::No,
        };
        self.publisher().import(&import).unwrap().number()
    }
}

fn write_layer(path: &Path, files: &BTreeMap<String, Vec<u8>>, effort: Effort) {
    let options = Options {
        effort,
        ..Options::bake()
    };
    let mut writer = LayerWriter::create(path, options, None).unwrap();
    let mut tree = Tree::new(Metadata {
        mode: 0o755,
        ..Metadata::default()
    });
    for (name, bytes) in files {
        let segments = [(0, bytes.len() as u64)];
        let segments = if bytes.is_empty() {
            &[][..]
        } else {
            &segments[..]
        };
        let file = writer
            .add_file(bytes.len() as u64, segments, &mut bytes.as_slice())
            .unwrap();
        let meta = Metadata {
            mode: 0o644,
            ..Metadata::default()
        };
        let node = tree
            .add(Node {
                meta,
                kind: Kind::File(file),
            })
            .unwrap();
        tree.set(ROOT, Name::new(name.as_bytes()).unwrap(), Child::Node(node))
            .unwrap();
    }
    writer.finish(tree, &Meta::default()).unwrap();
}
