//! A store with keys and a way to bake small layers from lists of files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bakery::graft::Resolution;
use bakery::history::{History, HistoryError, Revision};
use bakery::keys::{self, Keys};
use bakery::publish::{Addition, Publisher};
use bakery::store::Store;
use layerfmt::tree::{Child, Kind, Metadata, Name, Node, NodeId, ROOT, Time, diff::diff};
use layerfmt::{Base, Content, ContentReader, LayerWriter, MergedIndex, Meta, Options, Tree};
use wire::manifest::{Action, ProfileName, RevisionName};

use crate::scratch::Scratch;

/// A tree as a test writes it down: path to content and mode.
pub(crate) type Files = BTreeMap<String, (Vec<u8>, u16)>;

pub(crate) struct World {
    pub(crate) dir: Scratch,
    location: String,
    keys: Keys,
    baked: AtomicUsize,
}

impl World {
    pub(crate) fn new() -> World {
        let dir = Scratch::new();
        let location = dir.path().join("store").to_str().unwrap().to_owned();
        World::at(dir, location)
    }

    pub(crate) fn at(dir: Scratch, location: String) -> World {
        let keys = Keys::locate(Some(&dir.path().join("keys")), &location).unwrap();
        let world = World {
            dir,
            location,
            keys,
            baked: AtomicUsize::new(0),
        };
        let store = Store::create(&world.location).unwrap();
        world.keys.create().unwrap();
        let (root, head) = (world.keys.root(None).unwrap(), world.keys.head().unwrap());
        keys::first(&store, &root, &head).unwrap();
        world
    }

    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::open(Store::open(&self.location).unwrap(), &self.keys).unwrap()
    }

    pub(crate) fn history(&self) -> History {
        let store = Store::open(&self.location).unwrap();
        History::open(store, self.keys.anchors().unwrap()).unwrap()
    }

    /// A layer that turns `base` into `target`.
    pub(crate) fn bake(&self, base: Option<&MergedIndex>, target: &Files) -> PathBuf {
        let number = self.baked.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.path().join(format!("baked-{number}.layer"));
        bake(&path, base, target);
        path
    }

    /// Publish `target` as the next revision, made on the newest one.
    pub(crate) fn push(&self, name: &str, target: &Files) -> Revision {
        self.try_push(name, None, target, Resolution::Refuse)
            .unwrap()
    }

    /// Publish `target`, made on revision `made_on`.
    pub(crate) fn try_push(
        &self,
        name: &str,
        made_on: Option<u64>,
        target: &Files,
        resolution: Resolution,
    ) -> Result<Revision, HistoryError> {
        let publisher = self.publisher();
        let name: ProfileName = name.parse().unwrap();
        let made_on = made_on.map(|n| RevisionName {
            name: name.clone(),
            revision: Some(n),
        });
        let base = match &made_on {
            Some(made_on) => Some(publisher.history().revision(made_on).unwrap()),
            None => publisher.history().head(&name).unwrap(),
        };
        let merged = base.map(|base| publisher.history().merged(&base.manifest).unwrap());
        let layer = self.bake(merged.as_ref(), target);
        publisher.add(&Addition {
            name,
            layer: &layer,
            made_on,
            action: Action::Bake,
            author: "tester".into(),
            message: format!("{} files", target.len()),
            resolution,
        })
    }

    /// The files of a revision, read back through its merged index from its layers.
    pub(crate) fn files(&self, revision: &Revision) -> Files {
        let history = self.history();
        let merged = history.merged(&revision.manifest).unwrap();
        let layers = history.layers(&revision.manifest).unwrap();
        let mut files = Files::new();
        let mut reader = ContentReader::new(&merged.index, &layers);
        let mut directories = vec![(0, String::new())];
        while let Some((dir, prefix)) = directories.pop() {
            for entry in merged.index.entries(dir, 0) {
                let layerfmt::DirentTarget::Inode(ino) = entry.child else {
                    panic!("a whiteout")
                };
                let inode = merged.index.inode(ino).unwrap();
                let path = format!("{prefix}{}", String::from_utf8_lossy(entry.name));
                if inode.is_dir() {
                    directories.push((ino, format!("{path}/")));
                    continue;
                }
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut reader.stream(ino), &mut bytes).unwrap();
                files.insert(path, (bytes, (inode.mode & 0o7777) as u16));
            }
        }
        files
    }

    /// Everything in the store is sound to the last byte.
    pub(crate) fn assert_sound(&self) {
        let found = bakery::scrub::scrub(&self.history(), true, &|_| ()).unwrap();
        assert!(found.defects.is_empty(), "{:#?}", found.defects);
        assert!(found.files_read > 0);
        // Set by `make test-updates-long`.
        if std::env::var_os("LAYERFS_UPDATE_PAIRS").is_some() {
            super::updates::require_pairs(self, 0);
        }
    }
}

pub(crate) fn files<const N: usize>(list: [(&str, &str); N]) -> Files {
    list.map(|(path, content)| (path.to_owned(), (content.as_bytes().to_vec(), 0o644)))
        .into()
}

/// The same files with changes: `None` deletes.
pub(crate) fn with<const N: usize>(base: &Files, changes: [(&str, Option<&str>); N]) -> Files {
    let mut files = base.clone();
    for (path, content) in changes {
        match content {
            Some(content) => {
                files.insert(path.into(), (content.as_bytes().to_vec(), 0o644));
            }
            None => {
                files.remove(path);
            }
        }
    }
    files
}

pub(crate) fn bake(path: &Path, base: Option<&MergedIndex>, target: &Files) {
    let base = base.map(|merged| Base::new(merged).unwrap());
    let base_tree = base.as_ref().map(|base| base.tree().unwrap());
    let mut writer = LayerWriter::create(path, Options::bake(), base).unwrap();
    let meta = |mode| Metadata {
        mode,
        mtime: Time {
            sec: 1_700_000_000,
            nsec: 0,
        },
        ..Default::default()
    };
    let mut tree: Tree<Content> = Tree::new(meta(0o755));
    let mut directories: BTreeMap<String, NodeId> = BTreeMap::from([(String::new(), ROOT)]);
    for (path, (bytes, mode)) in target {
        let (mut parent, mut done) = (ROOT, String::new());
        let mut parts: Vec<&str> = path.split('/').collect();
        let file = parts.pop().unwrap();
        for part in parts {
            done = format!("{done}/{part}");
            parent = *directories.entry(done.clone()).or_insert_with(|| {
                let kind = Kind::Directory(Default::default());
                let name = Name::new(part.as_bytes()).unwrap();
                tree.insert(
                    parent,
                    name,
                    Node {
                        meta: meta(0o755),
                        kind,
                    },
                )
                .unwrap()
            });
        }
        let len = bytes.len() as u64;
        let segments = if len == 0 { vec![] } else { vec![(0, len)] };
        let content = writer.add_file(len, &segments, &mut &bytes[..]).unwrap();
        let node = Node {
            meta: meta(*mode),
            kind: Kind::File(content),
        };
        let id = tree.add(node).unwrap();
        tree.set(parent, Name::new(file.as_bytes()).unwrap(), Child::Node(id))
            .unwrap();
    }
    let tree = match base_tree {
        Some(base) => diff(&base, &tree).unwrap(),
        None => tree,
    };
    writer.finish(tree, &Meta::default()).unwrap();
}

pub(crate) fn name(text: &str) -> ProfileName {
    text.parse().unwrap()
}

pub(crate) fn revision(text: &str) -> RevisionName {
    text.parse().unwrap()
}

/// So that `Arc<World>` can be shared by threads.
pub(crate) fn shared() -> Arc<World> {
    Arc::new(World::new())
}
