//! Questions and commands of root to the mount of a server's system.

use std::sync::{Arc, OnceLock};

use layerfmt::Index;
use tokio::task::AbortHandle;
use wire::boot_report::BootReport;
use wire::hello::{Hello, Step};
use wire::paths::Request;

use crate::chunks::hot::{HotFile, decode, encode};
use crate::chunks::hot_files::hot_files;
use crate::chunks::remote::RemoteSource;
use crate::chunks::{OnAnswer, Pending, Ready};
use crate::control::{Command, Control, Question};
use crate::limits::ANSWER_PART_LEN;
use crate::net::error::FetchError;
use crate::net::exchange::Ask;
use crate::net::fetcher::{STALL_FIRST, post};
use crate::net::hello::{self, BootProgress};
use crate::net::status::RemoteStatus;
use crate::store::disk::DiskCache;
use crate::trace::TraceRecorder;

/// The control side of a remote root.
#[derive(Debug)]
pub(crate) struct RemoteControl {
    source: Arc<RemoteSource>,
    boot: Option<Boot>,
    /// The index, if it is that of the mount's start.
    index: Option<Arc<Index>>,
    /// The contents of the boot pack, sent on request.
    hot: Option<OnceLock<Vec<u8>>>,
    progress: Arc<BootProgress>,
}

/// The boot being recorded, and the destination of its trace.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) recorder: Arc<TraceRecorder>,
    /// The path on the servers.
    pub(crate) path: String,
}

impl Boot {
    /// Ends the recording; returns the data to send and the message afterwards.
    fn end(&self) -> (Ask, String) {
        self.recorder.stop();
        let trace = self.recorder.trace();
        let ask = Ask::post(self.path.clone(), trace.encode().into(), STALL_FIRST);
        let pages: u64 = trace
            .touches
            .iter()
            .map(|touch| u64::from(touch.count))
            .sum();
        let said = format!("sent: {pages} pages in {} runs", trace.touches.len());
        (ask, said)
    }
}

impl RemoteControl {
    /// `mounted`: the index with which a mount begins, and true if it points into a boot pack.
    pub(crate) fn new(
        source: Arc<RemoteSource>,
        boot: Option<Boot>,
        mounted: Option<(&Arc<Index>, bool)>,
        progress: &Arc<BootProgress>,
    ) -> RemoteControl {
        RemoteControl {
            source,
            boot,
            index: mounted.map(|(index, _)| Arc::clone(index)),
            hot: mounted
                .filter(|(_, is_packed)| *is_packed)
                .map(|_| OnceLock::new()),
            progress: Arc::clone(progress),
        }
    }

    fn hot_list(&self) -> Option<&[u8]> {
        let (hot, index) = self.hot.as_ref().zip(self.index.as_ref())?;
        let objects = &self.source.bringer.objects;
        let sent = hot.get_or_init(|| encode(&hot_files(index, objects)));
        Some(sent)
    }

    /// The state for `layerfs status`.
    fn report(&self) -> RemoteStatus {
        let (counters, words) = (&self.source.counters, &self.source.words);
        let cache = match &self.source.caches.disk {
            Some(disk) => format!("disk: {}", disk.describe()),
            None => format!(
                "{}memory: {} MiB",
                words.cache.get(),
                self.source.caches.memory.len() >> 20
            ),
        };
        RemoteStatus {
            revision: words.revision.clone(),
            waiting_seconds: self
                .source
                .fetcher
                .waiting()
                .map(|waited| waited.as_secs())
                .filter(|s| *s > 0),
            offline: words.offline,
            newest: Some(self.progress.newest.get())
                .filter(|newest| !newest.is_empty() && *newest != words.revision),
            ring: self.progress.ring.clone(),
            reports: self.progress.reports,
            machine_key: self
                .progress
                .secrets
                .key
                .as_ref()
                .map(|key| key.public().fingerprint()),
            index_whole: self.index.as_ref().is_none_or(|index| index.is_whole()),
            pack: words.pack.get(),
            prefetch: words.prefetch.get(),
            backup: self
                .source
                .caches
                .backup
                .as_ref()
                .map_or_else(|| "none".into(), |backup| backup.state.get()),
            update: words.update.get(),
            update_pack: self.source.update().map(|update| update.status()),
            cache,
            counts: counters.read(),
            cache_damaged: self
                .source
                .caches
                .disk
                .as_ref()
                .map_or(0, DiskCache::damaged),
            mirrors: self.source.fetcher.inner.mirrors.status(),
        }
    }
}

impl Control for RemoteControl {
    fn ask(&self, question: Question, then: OnAnswer) -> Box<dyn Pending> {
        match (question, &self.boot) {
            (Question::SendTrace, Some(boot)) => {
                let (ask, said) = boot.end();
                self.send(ask, "boot trace", |sent| {
                    then(sent.then(|| said.into_bytes()));
                })
            }
            (question, _) => {
                then(self.known(question));
                Box::new(Ready)
            }
        }
    }

    fn command(&self, command: Command, then: OnAnswer) -> Box<dyn Pending> {
        let (what, ask) = match command {
            Command::BootReport(report) => ("boot report", self.report_to_send(&report)),
            Command::Hello(hello) => ("hello", self.hello_to_send(Some(&hello))),
            Command::Switch(_) => ("switch", Err(String::from("this mount does not switch"))),
            Command::Mounted if !self.progress.reports => {
                then(None);
                return Box::new(Ready);
            }
            Command::Mounted => ("hello", self.hello_to_send(None)),
        };
        match ask {
            Ok(ask) => self.send(ask, what, |sent| then(sent.then(Vec::new))),
            Err(error) => {
                tracing::warn!(error, "the {what} was not sent");
                then(None);
                Box::new(Ready)
            }
        }
    }

    fn hot(&self) -> Vec<HotFile> {
        self.hot_list().map(decode).unwrap_or_default()
    }

    fn idle(&self) {
        self.source.caches.memory.make_reclaimable();
    }

    fn status(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.report()).ok()
    }
}

/// A running transmission; dropping it aborts it.
struct Sending(AbortHandle);

impl Pending for Sending {}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RemoteControl {
    /// The answer to a question that needs no server.
    fn known(&self, question: Question) -> Option<Vec<u8>> {
        let part = |bytes: &[u8], part| bytes.chunks(ANSWER_PART_LEN).nth(part).map(<[u8]>::to_vec);
        match question {
            Question::Pack(number) => part(self.hot_list()?, number),
            Question::Trace(number) => part(&self.boot.as_ref()?.recorder.trace().encode(), number),
            Question::SendTrace | Question::StorePages | Question::SwitchReport(_) => None,
        }
    }

    /// Sends data to the first server that accepts it; `then` is called with the result.
    fn send(
        &self,
        ask: Ask,
        what: &'static str,
        then: impl FnOnce(bool) + Send + 'static,
    ) -> Box<dyn Pending> {
        let inner = Arc::clone(&self.source.fetcher.inner);
        let sending = self.source.fetcher.spawn(async move {
            let sent = tokio::select! {
                sent = post(&inner, &ask) => sent,
                () = inner.until_closed() => Err(FetchError::Closed),
            };
            // Most servers have no fleet; that is not a failure.
            let sent = sent.or_else(|error| match hello::is_unwanted(&ask, &error) {
                true => Ok(()),
                false => Err(error),
            });
            if let Err(error) = &sent {
                tracing::warn!(%error, "the {what} was not sent");
            }
            then(sent.is_ok());
        });
        match sending {
            Some(sending) => Box::new(Sending(sending)),
            None => Box::new(Ready),
        }
    }

    /// A hello, encoded for the server: of root, or of the mount itself.
    fn hello_to_send(&self, value: Option<&[u8]>) -> Result<Ask, String> {
        if !self.progress.reports {
            return Err(String::from("layerfs.report=no"));
        }
        let revision = &self.source.words.revision;
        self.progress.reach(Step::Mounted, revision);
        let hello = match value {
            None => hello::hello(Step::Mounted, revision),
            Some(value) => Hello::decode(value).map_err(|error| error.to_string())?,
        };
        if hello.revision != *revision {
            return Err(format!("it is of {}", hello.revision));
        }
        hello::ask(&hello, &self.progress.secrets).map_err(|error| error.to_string())
    }

    /// A boot report of this revision, encoded for the server.
    fn report_to_send(&self, value: &[u8]) -> Result<Ask, String> {
        let report = BootReport::decode(value).map_err(|error| error.to_string())?;
        if report.revision != self.source.words.revision {
            return Err(format!("it is of {}", report.revision));
        }
        let name = report.revision_name().map_err(|error| error.to_string())?;
        let revision = name.revision.unwrap_or_default();
        let path = Request::Boots(name.name, revision).to_string();
        Ok(Ask::post(path, value.to_vec().into(), STALL_FIRST))
    }
}
