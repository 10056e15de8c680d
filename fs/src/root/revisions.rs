//! The other revisions of a server's system: fetched and verified as at the mount, through the same
//! caches and connections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use layerfmt::layout::superblock::SUPERBLOCK_LEN;
use layerfmt::{Digest, Index, Layer};
use wire::hello::Step;
use wire::limits::DELTA_INDEX_LEN_MAX;
use wire::manifest::{IndexRef, Manifest, ProfileName};
use wire::trust::HighWater;

use super::control::RemoteControl;
use super::kept::KeptRecords;
use super::known_index::KnownIndex;
use super::open::{RootOpening, name_of, words};
use super::opened_index::OpenedIndex;
use super::seen::SeenNumbers;
use super::update::save;
use crate::chunks::remote::{Fallbacks, FetcherEnd, RemoteSource, objects};
use crate::chunks::update::{Refused, Signers, index_delta};
use crate::lower::LowerParts;
use crate::net::address::Address;
use crate::net::error::FetchError;
use crate::net::hello::BootProgress;
use crate::net::index_head::index_head;
use crate::net::object::Object;
use crate::net::records::{self, Records, Terms};
use crate::revisions::{FoundRevision, Refusal, Revision, Revisions};

/// Time for a server to name a revision.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time for its index, also on a slow link.
const INDEX_PATIENCE: Duration = Duration::from_secs(300);

/// The revisions of one server's systems.
#[derive(Debug, Clone)]
pub(super) struct RemoteRevisions {
    opening: Arc<RootOpening>,
    progress: Arc<BootProgress>,
    end: Weak<FetcherEnd>,
    /// The revision that the mount began with: the running kernel is its.
    started: Arc<Manifest>,
    mounted: Arc<Mutex<Manifest>>,
    seen: Arc<SeenNumbers>,
    /// The index of `mounted` that the mount reads.
    known: Arc<Mutex<Option<KnownIndex>>>,
}

/// A revision whose records were fetched.
#[derive(Debug)]
struct RemoteRecords {
    of: RemoteRevisions,
    end: Arc<FetcherEnd>,
    records: Records,
    /// They are of the system that the mount was started with.
    is_own: bool,
}

/// A revision that was fetched.
#[derive(Debug)]
struct RemoteRevision {
    found: RemoteRecords,
    next: OpenedIndex,
    base: Option<OpenedIndex>,
}

impl RemoteRevisions {
    pub(super) fn new(
        opening: Arc<RootOpening>,
        progress: &Arc<BootProgress>,
        end: &Arc<FetcherEnd>,
        (mounted, seen): (Manifest, SeenNumbers),
        index: &Arc<Index>,
    ) -> RemoteRevisions {
        let known = KnownIndex::mounted(mounted.index.digest, index);
        RemoteRevisions {
            opening,
            progress: Arc::clone(progress),
            end: Arc::downgrade(end),
            started: Arc::new(mounted.clone()),
            mounted: Arc::new(Mutex::new(mounted)),
            seen: Arc::new(seen),
            known: Arc::new(Mutex::new(Some(known))),
        }
    }

    fn manifest(&self) -> Manifest {
        let mounted = self.mounted.lock();
        mounted.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The address of `[SYSTEM[/PROFILE]][@REV]`.
    fn address(&self, wanted: &str, mounted: &ProfileName) -> Result<Address, Refusal> {
        let server = &self.opening.options.address.server;
        let name = match wanted {
            "" => mounted.full(),
            number if number.starts_with('@') => format!("{}{number}", mounted.full()),
            name => name.to_owned(),
        };
        let mut address = Address::parse(&format!("http://{}/{name}", server.authority))
            .map_err(|error| error.to_string())?;
        address.server = server.clone();
        Ok(address)
    }

    fn records(&self, address: &Address) -> Result<Records, Refusal> {
        let opening = &self.opening;
        let is_own = is_same(address, &opening.options.address);
        let seen = match is_own {
            true => self.seen.newest(),
            false => HighWater::default(),
        };
        let revision = match address.revision {
            // A named revision may be an old one.
            Some(_) => 0,
            None if is_own => seen.revision.max(opening.options.min_revision),
            None => 0,
        };
        let terms = Terms {
            address,
            anchors: &opening.anchors,
            high_water: HighWater { revision, ..seen },
            ring: &opening.options.ring,
        };
        let until = Some(Instant::now() + self.patience(PATIENCE));
        let records = records::fetch(&opening.fetcher, &terms, until)
            .map_err(|error| format!("{address}: {error}"))?;
        if is_own {
            self.seen.raise(records.verified.high_water);
        }
        Ok(records)
    }

    /// Time for an answer; not longer than readers wait.
    fn patience(&self, usual: Duration) -> Duration {
        let timeout = self.opening.options.timeout;
        timeout.map_or(usual, |timeout| timeout.min(usual))
    }

    fn known(&self) -> MutexGuard<'_, Option<KnownIndex>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The raw INDEX of the file `reference`, if it is on this machine and index deltas may begin at it.
    fn raw_index(&self, reference: &IndexRef) -> Option<Vec<u8>> {
        let digest = &reference.digest;
        if reference.head_len > DELTA_INDEX_LEN_MAX {
            return None;
        }
        if let Some(raw) = self.known().as_ref().and_then(|known| known.raw(digest)) {
            return Some(raw);
        }
        // A mount with the numbers of an earlier switch has its index under those.
        let kept = self.opening.kept.as_ref()?;
        let caches = &self.opening.caches;
        let index = caches.raw_index(digest, |digest| kept.raw_index(digest));
        index.map(|index| index.raw().into())
    }

    /// The index of a revision of `name`: by an index delta from `old`, or as a whole.
    fn index(
        &self,
        (name, records): (&ProfileName, &Records),
        reference: &IndexRef,
        old: Option<(Digest, Vec<u8>)>,
    ) -> Result<OpenedIndex, Refusal> {
        let fetcher = &self.opening.fetcher;
        let patience = self.patience(INDEX_PATIENCE);
        let signers = Signers {
            anchors: &self.opening.anchors,
            keyset: records.verified.keyset.as_ref(),
        };
        let inner = &fetcher.inner;
        let is_here = |old: &&(Digest, Vec<u8>)| old.0 == reference.digest;
        if let Some((_, raw)) = old.as_ref().filter(is_here)
            && let Ok(index) = Index::decode(raw.clone(), SUPERBLOCK_LEN as u64)
        {
            return Ok(OpenedIndex {
                index: Arc::new(index),
                whole: None,
                made: None,
            });
        }
        let fetched = async {
            if let Some((from, raw)) = &old
                && *from != reference.digest
            {
                let delta = index_delta(inner, &signers, name, (from, raw), &reference.digest);
                match delta.await {
                    Ok(made) => return Ok(OpenedIndex::made(made)),
                    Err(Refused::Fetch(error)) if error.is_missing() => {}
                    Err(error) => {
                        tracing::info!(%error, "no index delta is used: fetching the whole index");
                    }
                }
            }
            let head = index_head(inner, &reference.digest, reference.head_len);
            head.await.map(OpenedIndex::whole)
        };
        let fetched = async {
            let late = || FetchError::Timeout {
                what: "the index",
                waited: patience,
            };
            tokio::time::timeout(patience, fetched)
                .await
                .unwrap_or_else(|_| Err(late()))
        };
        let fetched = fetcher.run(fetched).and_then(|fetched| fetched);
        fetched.map_err(|error| format!("the index: {error}"))
    }
}

fn is_same(one: &Address, other: &Address) -> bool {
    (&one.system, &one.profile) == (&other.system, &other.profile)
}

impl Revisions for RemoteRevisions {
    fn find(&self, wanted: &str) -> Result<Box<dyn FoundRevision>, Refusal> {
        let end = self.end.upgrade().ok_or("the mount is ending")?;
        let address = self.address(wanted, &self.manifest().name())?;
        let records = self.records(&address)?;
        let is_own = is_same(&address, &self.opening.options.address);
        if address.revision.is_none() && is_own {
            self.progress
                .newest
                .set(name_of(&records.verified.manifest));
        }
        Ok(Box::new(RemoteRecords {
            of: self.clone(),
            end,
            records,
            is_own,
        }))
    }

    fn mounted(&self) -> String {
        name_of(&self.manifest())
    }
}

impl RemoteRecords {
    fn manifest(&self) -> &Manifest {
        &self.records.verified.manifest
    }
}

impl FoundRevision for RemoteRecords {
    fn name(&self) -> String {
        name_of(self.manifest())
    }

    fn boot_differences(&self) -> Vec<&'static str> {
        let (started, next) = (&self.of.started, self.manifest());
        let compared = [
            ("kernel", started.kernel != next.kernel),
            ("initramfs", started.initrd != next.initrd),
            ("kernel parameters", started.cmdline != next.cmdline),
        ];
        let different = compared.into_iter().filter(|(_, differs)| *differs);
        different.map(|(what, _)| what).collect()
    }

    fn open(self: Box<Self>) -> Result<Box<dyn Revision>, Refusal> {
        let of = self.of.clone();
        let mounted = of.manifest();
        let base = match &mounted.plain {
            Some(plain) => {
                let from = mounted.index.digest;
                let old = of.raw_index(&mounted.index).map(|raw| (from, raw));
                Some(of.index((&mounted.name(), &self.records), plain, old)?)
            }
            None => None,
        };
        let from = mounted.by_layers().digest;
        let raw = match &base {
            Some(base) if mounted.by_layers().head_len <= DELTA_INDEX_LEN_MAX => {
                Some(base.index.raw().into())
            }
            Some(_) => None,
            None => of.raw_index(mounted.by_layers()),
        };
        let old = raw.map(|raw| (from, raw));
        let next = of.index(
            (&self.manifest().name(), &self.records),
            self.manifest().by_layers(),
            old,
        )?;
        Ok(Box::new(RemoteRevision {
            found: *self,
            next,
            base,
        }))
    }
}

impl Revision for RemoteRevision {
    fn index(&self) -> &Index {
        &self.next.index
    }

    fn digest(&self) -> [u8; 32] {
        // As at a mount, where the digest of all layers names the rows.
        let layers = self.found.manifest().layers.iter();
        let digests: Vec<u8> = layers.flat_map(|layer| layer.digest.0).collect();
        layerfmt::Digest::of(&digests).0
    }

    fn base(&self) -> Option<&Index> {
        self.base.as_ref().map(|base| &*base.index)
    }

    fn parts(&self, index: &Index) -> LowerParts {
        let manifest = self.found.manifest();
        let opening = &self.found.of.opening;
        if let Some(backup) = &opening.caches.backup {
            for layer in manifest.layers.iter().chain(&manifest.borrowed) {
                backup.attach(&Object::layer(&layer.digest).path, layer.len);
            }
        }
        let ways = Fallbacks {
            plain: None,
            packed: None,
            update: None,
        };
        let source = Arc::new(RemoteSource::new(
            Arc::clone(&opening.caches),
            Arc::clone(&self.found.end),
            objects(index, None),
            ways,
            words(manifest, false, false, &opening.cache_state, None),
        ));
        let control = RemoteControl::new(Arc::clone(&source), None, None, &self.found.of.progress);
        LowerParts {
            source,
            control: Arc::new(control),
            layers: manifest
                .layers
                .iter()
                .map(|layer| (layer.digest.to_string(), layer.len))
                .collect(),
        }
    }

    fn mounted(self: Box<Self>) {
        let manifest = self.found.manifest().clone();
        self.found
            .of
            .progress
            .reach(Step::Mounted, &name_of(&manifest));
        // A start from local storage needs records and index: those of a revision with a boot pack
        // are stored by the next start.
        let of = &self.found.of;
        let kept = of.opening.kept.as_ref();
        if let Some(kept) = kept.filter(|_| self.found.is_own) {
            match manifest.pack {
                None => self.keep(kept, &manifest),
                Some(_) => kept.save_seen(self.found.records.verified.high_water),
            }
        }
        let reference = *manifest.by_layers();
        let has_deltas = reference.head_len <= DELTA_INDEX_LEN_MAX;
        *of.known() = has_deltas
            .then(|| KnownIndex::packed(reference.digest, &self.next.index))
            .flatten();
        let mounted = of.mounted.lock();
        *mounted.unwrap_or_else(PoisonError::into_inner) = Manifest {
            // From now on the mount reads the layers, whose index is the known one.
            index: reference,
            plain: None,
            ..manifest
        };
    }
}

impl RemoteRevision {
    /// Stores the records and the index for the next start.
    fn keep(&self, kept: &KeptRecords, manifest: &Manifest) {
        let records = &self.found.records;
        kept.save(&records.bundle, records.verified.high_water, false);
        let opening = &self.found.of.opening;
        if let Some(made) = &self.next.made {
            let signers = Signers {
                anchors: &opening.anchors,
                keyset: records.verified.keyset.as_ref(),
            };
            opening.caches.believe(&made.head);
            let proof = (&made.proof[..], &made.head);
            save(kept, &signers, &manifest.name(), proof, &made.index);
        } else if let Some(head) = self.next.whole.as_ref().and_then(Layer::in_memory) {
            kept.save_index(&manifest.index.digest, head);
        }
    }
}
