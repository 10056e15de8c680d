//! Opening a remote root: records, signatures, index; then it can be mounted.

mod background;
mod boot_pack;
mod early;
mod update;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use layerfmt::{Digest, Index, Layer};
use wire::hello::Step;
use wire::manifest::Manifest;
use wire::paths::Request;
use wire::trust::HighWater;

use self::background::start_background;
use super::control::{Boot, RemoteControl};
use super::kept::KeptRecords;
use super::options::RemoteOptions;
use super::revisions::RemoteRevisions;
use super::seen::SeenNumbers;
use super::values::{ValuesTerms, newest};
use crate::chunks::remote::{
    CacheTiers, Fallbacks, FetcherEnd, Raws, RemoteSource, StatusTexts, objects,
};
use crate::control::Control;
use crate::net::fetcher::{ChunkSink, Fetcher, FetcherOptions};
use crate::net::hello::BootProgress;
use crate::net::index_head::index_head;
use crate::net::lookup;
use crate::net::mirrors::Mirrors;
use crate::net::records::{self, Records, RecordsError, Terms};
use crate::net::server::Server;
use crate::net::status::{Counters, StatusText};
use crate::revisions::Revisions;
use crate::secrets::{MachineLayer, MachineSecrets};
use crate::store::backup::Backup;
use crate::store::dir::Dir;
use crate::store::disk::DiskCache;
use crate::store::memory::MemoryCache;
use crate::trace::TraceRecorder;

/// Maximum number of concurrent prefetch requests.
const PREFETCH_COUNT_MAX: usize = 2;

/// A system of a server, ready to be mounted.
#[derive(Debug)]
pub struct RemoteRoot {
    /// The index of the tree.
    pub index: Arc<Index>,
    /// The digest of the index file.
    pub index_digest: Digest,
    /// The source of its chunks.
    pub source: Arc<RemoteSource>,
    /// Its control side.
    pub control: Arc<dyn Control>,
    /// Manifest of the revision.
    pub manifest: Manifest,
    /// The recorder of first accesses, if enabled.
    pub trace: Option<Arc<TraceRecorder>>,
    /// The values of this machine, if it has some.
    pub values: Option<MachineLayer>,
    /// The other revisions of the system.
    pub revisions: Arc<dyn Revisions>,
}

/// The reason why a remote root cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The keys cannot be read.
    #[error("{0}")]
    Keys(String),
    /// The runtime cannot start.
    #[error("cannot start the network threads")]
    Start(#[source] std::io::Error),
    /// No usable records.
    #[error("{address}")]
    Records {
        /// The requested address.
        address: String,
        /// The error of the records.
        source: RecordsError,
    },
    /// The revision is older than the initrd allows.
    #[error("{address}: revision {revision} is below min-revision {min}: refused as a replay")]
    TooOld {
        /// The requested address.
        address: String,
        /// The offered revision.
        revision: u64,
        /// The least allowed.
        min: u64,
    },
    /// The index cannot be fetched.
    #[error("{address}: its index is unavailable")]
    Index {
        /// The requested address.
        address: String,
        /// The error of the fetch.
        source: crate::net::error::FetchError,
    },
}

/// Opens the system of `options`. All names are resolved here.
///
/// # Errors
/// No valid revision is available.
pub fn open(options: &RemoteOptions) -> Result<RemoteRoot, RemoteError> {
    let opening = RootOpening::new(options)?;
    let fetcher = Arc::clone(&opening.fetcher);
    let cache = options.cache.as_ref().map(|(path, _)| path);
    let disk = cache.or(options.backup.as_ref()).map(PathBuf::as_path);
    let secrets = Arc::new(MachineSecrets::of(disk));
    let progress = BootProgress::begin(&fetcher, &options.ring, options.reports, secrets);
    let opened = Arc::new(opening).open(&progress);
    opened.inspect_err(|error| progress.fail(&fetcher, error))
}

/// What is needed to open a revision: for the mount, and for switches to others.
#[derive(Debug)]
pub(super) struct RootOpening {
    pub(super) options: RemoteOptions,
    pub(super) anchors: wire::trust::AllowedSigners,
    pub(super) caches: Arc<CacheTiers>,
    pub(super) cache_state: StatusText,
    pub(super) kept: Option<Arc<KeptRecords>>,
    pub(super) fetcher: Arc<Fetcher>,
}

impl RootOpening {
    fn new(options: &RemoteOptions) -> Result<RootOpening, RemoteError> {
        let anchors = options.anchors().map_err(RemoteError::Keys)?;
        let cache_state = StatusText::new("");
        let (disk, kept) = open_cache(options, &cache_state);
        let caches = Arc::new(CacheTiers {
            memory: MemoryCache::new(options.memory_len),
            disk,
            backup: options.backup.as_ref().and_then(|path| open_backup(path)),
            raws: Raws::default(),
        });
        let counters = Arc::new(Counters::default());
        let names = std::iter::once(&options.address.server).chain(&options.mirrors);
        let servers = names
            .map(|name| Arc::new(Server::new(name.clone(), Arc::clone(&counters))))
            .collect();
        let mirrors = Mirrors::new(servers, Arc::clone(&counters));
        let console = || {
            std::fs::OpenOptions::new()
                .write(true)
                .open("/dev/console")
                .ok()
        };
        let fetcher_options = FetcherOptions {
            timeout: options.timeout,
            console: options.console.then(console).flatten(),
            prefetch_rate: options.prefetch_rate,
            prefetch_count_max: PREFETCH_COUNT_MAX,
        };
        let sink: Arc<dyn ChunkSink> = Arc::<CacheTiers>::clone(&caches);
        let fetcher =
            Fetcher::start(mirrors, counters, sink, fetcher_options).map_err(RemoteError::Start)?;
        for server in 0..fetcher.inner.mirrors.len() {
            fetcher.spawn(lookup::run(Arc::clone(&fetcher.inner), server));
        }
        Ok(RootOpening {
            options: options.clone(),
            anchors,
            caches,
            cache_state,
            kept: kept.map(Arc::new),
            fetcher: Arc::new(fetcher),
        })
    }

    fn open(self: Arc<Self>, progress: &Arc<BootProgress>) -> Result<RemoteRoot, RemoteError> {
        let address = self.options.address.to_string();
        let inner = Arc::clone(&self.fetcher.inner);
        let wait = inner.wait_begins();
        let (mut records, offline) = self.records()?;
        if offline {
            self.do_without_pack(&mut records.verified.manifest);
        }
        let manifest = records.verified.manifest.clone();
        self.not_too_old(records.verified.head.revision)?;
        progress.reach(Step::Head, &name_of(&manifest));
        let (here, asked) = self.index_or_update(&records, offline);
        let stream = self.start_pack(&manifest, offline);
        // The connection for readers opens while the index arrives.
        self.fetcher.spawn(warm_h2(Arc::clone(&self.fetcher.inner)));
        let (index, fetched) = self
            .index(&manifest, here, offline || asked.is_some())
            .map_err(|source| RemoteError::Index { address, source })?;
        drop(wait);
        progress.pass(Step::Index);
        let values = self.opened(&records, offline, fetched.as_ref(), progress);
        let update = asked.and_then(|asked| self.start_update(asked, &records, &index));
        let objects = objects(&index, manifest.pack.as_ref().map(|pack| &pack.digest));
        let (update, state) = update.unzip();
        let trace = self
            .options
            .trace
            .then(|| Arc::new(TraceRecorder::new(&index, manifest.tree_digest)));
        let boot = trace.clone().map(|recorder| boot(recorder, &manifest));
        let pack = stream.is_some();
        let words = words(&manifest, offline, pack, &self.cache_state, state);
        if let Some(stream) = stream {
            stream.start(&index, &objects, update.as_deref(), &words);
        }
        let plain = self.plain(&manifest);
        let packed = manifest.pack.is_some().then_some(&index);
        let source = Arc::new(RemoteSource::new(
            Arc::clone(&self.caches),
            Arc::new(FetcherEnd(Arc::clone(&self.fetcher))),
            objects.clone(),
            Fallbacks {
                plain,
                packed,
                update,
            },
            words,
        ));
        let seen = SeenNumbers::new(records.verified.high_water, self.kept.clone());
        let mounted = Some((&index, packed.is_some()));
        let control = RemoteControl::new(Arc::clone(&source), boot, mounted, progress);
        start_background(
            &self.options,
            &source,
            &index,
            objects,
            &manifest,
            records,
            offline,
        );
        let began = (manifest.clone(), seen);
        let revisions = RemoteRevisions::new(self, progress, &source.end, began, &index);
        Ok(RemoteRoot {
            revisions: Arc::new(revisions),
            index,
            index_digest: manifest.index.digest,
            source,
            control: Arc::new(control),
            manifest,
            trace,
            values,
        })
    }

    /// The values of this machine.
    fn values(
        &self,
        records: &Records,
        offline: bool,
        progress: &BootProgress,
    ) -> Option<MachineLayer> {
        let wanted = self.options.values.as_ref()?;
        let (machine, _) = wanted;
        let terms = ValuesTerms {
            anchors: &self.anchors,
            keyset: records.verified.keyset.as_ref(),
            history: records.verified.manifest.name(),
            kept: self.kept.as_ref().and_then(|kept| kept.values(machine)),
            offline,
        };
        let (record, envelope) = newest(&self.fetcher, wanted, &terms)?;
        if let Some(kept) = self.kept.as_ref().filter(|_| !offline) {
            kept.save_values(machine, &envelope);
        }
        Some(MachineLayer {
            record,
            key: progress.secrets.key.clone(),
        })
    }

    /// The tree is known: resolves names for the last time, and stores the data for the next start. Returns the
    /// values of this machine.
    fn opened(
        &self,
        records: &Records,
        offline: bool,
        fetched: Option<&Layer>,
        progress: &BootProgress,
    ) -> Option<MachineLayer> {
        let inner = &self.fetcher.inner;
        // A start without a server must not wait for names too.
        if !offline {
            let _ = self.fetcher.run(lookup::last(inner));
        }
        inner.opened.store(true, Ordering::Relaxed);
        if !offline {
            self.keep(records, fetched);
        }
        self.values(records, offline, progress)
    }

    /// A head older than the operator allows is refused, unless that revision was requested.
    fn not_too_old(&self, revision: u64) -> Result<(), RemoteError> {
        let min = self.options.min_revision;
        if revision >= min || self.options.address.revision.is_some() {
            return Ok(());
        }
        Err(RemoteError::TooOld {
            address: self.options.address.to_string(),
            revision,
            min,
        })
    }

    /// Stores the data for the next start beside the cache.
    fn keep(&self, records: &Records, fetched: Option<&Layer>) {
        let Some(kept) = &self.kept else { return };
        let pinned = self.options.address.revision.is_some();
        kept.save(&records.bundle, records.verified.high_water, pinned);
        if let Some(head) = fetched.and_then(Layer::in_memory) {
            kept.save_index(&records.verified.manifest.index.digest, head);
        }
    }

    /// The records of a server; or, if none answers, those of the backup or the cache.
    fn records(&self) -> Result<(Records, bool), RemoteError> {
        let address = &self.options.address;
        let kept = self
            .caches
            .backup
            .as_ref()
            .and_then(|backup| backup.newest(address, Some(&self.options.ring)));
        let kept = kept.or_else(|| self.kept.as_ref()?.bundle(address.revision));
        let high_water = self.high_water(kept.as_ref());
        let terms = Terms {
            address,
            anchors: &self.anchors,
            high_water,
            ring: &self.options.ring,
        };
        let until = kept
            .as_ref()
            .map(|_| Instant::now() + self.options.offline_wait);
        // A second connection, opened meanwhile, saves the boot pack a round trip.
        self.fetcher.spawn(warm(Arc::clone(&self.fetcher.inner)));
        let failed = match records::fetch(&self.fetcher, &terms, until) {
            Ok(records) => return Ok((records, false)),
            Err(failed) => failed,
        };
        let Some(kept) = kept else {
            return Err(RemoteError::Records {
                address: address.to_string(),
                source: failed,
            });
        };
        let records = terms
            .verify_kept(kept)
            .map_err(|error| RemoteError::Records {
                address: address.to_string(),
                source: error.into(),
            })?;
        tracing::warn!(
            why = %failed, revision = records.verified.head.revision,
            "no server offers a usable revision: starting from local storage"
        );
        if self.options.console
            && let Ok(mut console) = std::fs::OpenOptions::new().write(true).open("/dev/console")
        {
            use std::io::Write;
            let revision = records.verified.head.revision;
            let _ = writeln!(
                console,
                "\rlayerfs: no server: starting revision {revision} from local storage\r"
            );
        }
        Ok((records, true))
    }

    fn high_water(&self, kept: Option<&wire::trust::Bundle>) -> HighWater {
        let seen = self
            .kept
            .as_ref()
            .map(|kept| kept.high_water())
            .unwrap_or_default();
        if self.options.address.revision.is_some() {
            // A fixed revision may be an old one.
            return HighWater {
                revision: 0,
                ..seen
            };
        }
        let backed_up = kept
            .and_then(|bundle| wire::manifest::Head::parse(bundle.head.payload.as_bytes()).ok())
            .map_or(0, |head| head.revision);
        HighWater {
            revision: seen.revision.max(backed_up).max(self.options.min_revision),
            ..seen
        }
    }

    /// The index: `here` (beside the cache, or made by an update pack), of the backup, or fetched.
    /// A large one begins with its early index, unless it is `needed` as a whole.
    fn index(
        &self,
        manifest: &Manifest,
        here: Option<Arc<Index>>,
        needed: bool,
    ) -> Result<(Arc<Index>, Option<Layer>), crate::net::error::FetchError> {
        let reference = &manifest.index;
        if let Some(index) = here {
            return Ok((index, None));
        }
        if let Some(index) = self
            .caches
            .backup
            .as_ref()
            .and_then(|backup| backup.index(&reference.digest))
        {
            return Ok((index, None));
        }
        if !needed && let Some(early) = self.early_index(manifest) {
            return Ok((early, None));
        }
        let fetched = index_head(&self.fetcher.inner, &reference.digest, reference.head_len);
        let layer = self.fetcher.run(fetched)??;
        Ok((Arc::clone(layer.index()), Some(layer)))
    }
}

/// The boot of `manifest`, recorded by `recorder`.
fn boot(recorder: Arc<TraceRecorder>, manifest: &Manifest) -> Boot {
    let path = Request::Traces(manifest.name(), manifest.revision).to_string();
    Boot { recorder, path }
}

/// `SYSTEM/PROFILE@REVISION`.
pub(super) fn name_of(manifest: &Manifest) -> String {
    format!("{}@{}", manifest.name().full(), manifest.revision)
}

pub(super) fn words(
    manifest: &Manifest,
    offline: bool,
    has_pack: bool,
    cache: &StatusText,
    update: Option<Arc<StatusText>>,
) -> Arc<StatusTexts> {
    let words = StatusTexts {
        revision: name_of(manifest),
        offline,
        pack: StatusText::new(if has_pack { "coming" } else { "none" }),
        prefetch: StatusText::new("none"),
        cache: StatusText::new(&cache.get()),
        update: StatusText::new("none"),
    };
    if let Some(state) = update {
        words.update.follow(state);
    }
    Arc::new(words)
}

async fn warm_h2(inner: Arc<crate::net::fetcher::FetcherShared>) {
    if let Some(server) = inner.mirrors.get(0) {
        server.warm_h2().await;
    }
}

async fn warm(inner: Arc<crate::net::fetcher::FetcherShared>) {
    if let Some(server) = inner.mirrors.get(0) {
        let _ = server.warm().await;
    }
}

fn open_cache(
    options: &RemoteOptions,
    word: &StatusText,
) -> (Option<DiskCache>, Option<KeptRecords>) {
    let Some((path, len)) = &options.cache else {
        return (None, None);
    };
    let opened = DiskCache::open(path, *len).and_then(|disk| Ok((disk, Dir::open(path)?)));
    match opened {
        Ok((disk, dir)) => (Some(disk), Some(KeptRecords::new(dir, &options.address))),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the cache cannot be used: chunks are kept in memory");
            word.set(format!("disk unusable ({error}); "));
            (None, None)
        }
    }
}

fn open_backup(path: &Path) -> Option<Arc<Backup>> {
    match Backup::open(path) {
        Ok(backup) => Some(backup),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no backup storage: the mount continues without a backup");
            None
        }
    }
}
