//! Fetches the records of a revision, as a bundle or as static files, and verifies them up to the
//! manifest.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::header::HeaderName;
use wire::manifest::{
    HEAD_LEN_MAX, KEYSET_LEN_MAX, MANIFEST_LEN_MAX, ProfileName, RevisionName, RingRecord,
};
use wire::paths::{ObjectPath, Request, UPDATES_FIELD};
use wire::trust::{
    AllowedSigners, BUNDLE_LEN_MAX, Bundle, ENVELOPE_LEN_MAX, Envelope, HighWater, TrustError,
    Verified,
};

use super::address::Address;
use super::error::{Blame, FetchError};
use super::exchange::Ask;
use super::fetcher::Fetcher;
use super::mirrors::Choice;
use crate::limits::{HINT_LEN_MAX, KEYSET_STEPS_MAX, UPDATES_TOLD_MAX};

/// A bundle and its verified contents.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    /// The received records.
    pub bundle: Bundle,
    /// The verified records.
    pub verified: Verified,
    /// The revisions from which the server has update packs to this one; `None`: unknown.
    pub updates: Option<Vec<u64>>,
}

/// The reason why no server gave usable records.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// No server could be reached.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Servers answered, but not with valid records.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// The conditions that records must meet.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    /// The system, the profile and the revision.
    pub address: &'a Address,
    /// The trusted signers.
    pub anchors: &'a AllowedSigners,
    /// The newest numbers seen before.
    pub high_water: HighWater,
    /// The ring of this machine.
    pub ring: &'a str,
}

impl Terms<'_> {
    /// The name that the head must have.
    ///
    /// # Errors
    /// When the address's names are not those of a history.
    pub(crate) fn name(&self) -> Result<RevisionName, TrustError> {
        let name = ProfileName::new(&self.address.system, &self.address.profile)
            .map_err(TrustError::Malformed)?;
        Ok(RevisionName {
            name,
            revision: self.address.revision,
        })
    }

    fn verify(&self, bundle: Bundle) -> Result<Records, TrustError> {
        let (name, seen) = (self.name()?, self.high_water);
        let verified = bundle.verify_in_ring(self.anchors, &name, self.ring, now(), seen)?;
        Ok(Records {
            bundle,
            verified,
            updates: None,
        })
    }

    /// Verifies records like [`Terms::verify`], from local storage without a server: they must have
    /// been valid when they were published; their age cannot be checked.
    ///
    /// # Errors
    /// They were never valid.
    pub(crate) fn verify_kept(&self, bundle: Bundle) -> Result<Records, TrustError> {
        let head = wire::manifest::Head::parse(bundle.head.payload.as_bytes())
            .map_err(TrustError::Malformed)?;
        let mut name = self.name()?;
        if name.revision.is_none() {
            self.require_ring(&bundle, head.revision)?;
        }
        name.revision.get_or_insert(head.revision);
        let (then, seen) = (head.issued_at, HighWater::default());
        let mut verified = bundle.verify_in_ring(self.anchors, &name, self.ring, then, seen)?;
        verified.high_water.ring = verified.high_water.ring.max(self.high_water.ring);
        Ok(Records {
            bundle,
            verified,
            updates: None,
        })
    }
}

impl Terms<'_> {
    /// Refuses a stored revision that the machine's ring may not have. An older one than the ring's
    /// is accepted: without a server there may be no other.
    fn require_ring(&self, bundle: &Bundle, revision: u64) -> Result<(), TrustError> {
        let Some(rings) = &bundle.rings else {
            return Ok(());
        };
        let record = RingRecord::parse(rings.payload.as_bytes()).map_err(TrustError::Malformed)?;
        let may = |ring: &wire::manifest::Ring| {
            !record.is_quarantined(revision)
                && (record.follows_newest(ring) || revision <= ring.revision)
        };
        if record.ring(self.ring).is_none_or(may) {
            return Ok(());
        }
        let name = record.name();
        Err(TrustError::WrongName {
            wanted: format!("a revision of the ring {} of {name}", self.ring),
            found: format!("{name}@{revision} in the local storage"),
        })
    }
}

/// Seconds since 1970 by this machine's clock.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// Queries servers until one returns valid records. Unreachable servers are queried again until
/// `until` (forever if `None`); one with an invalid answer is queried once.
///
/// # Errors
/// [`RecordsError::Trust`]: every answer was invalid.
pub(crate) fn fetch(
    fetcher: &Fetcher,
    terms: &Terms<'_>,
    until: Option<Instant>,
) -> Result<Records, RecordsError> {
    let asked = Instant::now();
    fetcher.run(async {
        let mut avoid = 0u64;
        let mut wrong = None;
        loop {
            let inner = &fetcher.inner;
            if inner.mirrors.exhausted(avoid) {
                return Err(wrong.unwrap_or(RecordsError::Fetch(FetchError::Wrong("no server"))));
            }
            if let Choice::Ask(index, server) = inner.mirrors.choose(avoid, Instant::now()) {
                match from_server(fetcher, &server, terms, inner.mirrors.stall(index)).await {
                    Ok(records) => {
                        inner.mirrors.succeeded(index);
                        return Ok(records);
                    }
                    Err(RecordsError::Fetch(error)) if error.blame() == Blame::Server => {
                        inner.mirrors.failed(index, "records", &error);
                        server.hang_up().await;
                    }
                    Err(error) => {
                        tracing::error!(server = %server.name, %error, "records refused");
                        avoid |= 1 << index;
                        wrong = Some(error);
                        continue;
                    }
                }
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(wrong.unwrap_or(RecordsError::Fetch(FetchError::Timeout {
                    what: "the records of the system",
                    waited: asked.elapsed(),
                })));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })?
}

async fn from_server(
    fetcher: &Fetcher,
    server: &std::sync::Arc<super::server::Server>,
    terms: &Terms<'_>,
    stall: Duration,
) -> Result<Records, RecordsError> {
    let path = format!("{}?ring={}", Request::Bundle(terms.name()?), terms.ring);
    let mut answer = server.ask_h1(&Ask::get(path, stall)).await?;
    let is_bundle = answer.status().is_success();
    let field = HeaderName::from_static(UPDATES_FIELD);
    let updates = answer.header(field).map(|field| {
        let numbers = field
            .split(',')
            .filter_map(|number| number.trim().parse().ok());
        numbers.take(UPDATES_TOLD_MAX).collect()
    });
    match answer.check_status() {
        Ok(()) => {}
        Err(error) if error.is_missing() => {}
        Err(error) => return Err(error.into()),
    }
    let bytes = answer.collect(BUNDLE_LEN_MAX).await?;
    super::status::Counters::add(&fetcher.inner.counters.bytes, bytes.len() as u64);
    server.keep(answer).await;
    if is_bundle {
        let records = terms.verify(Bundle::parse(&bytes)?)?;
        server.set_bakery();
        return Ok(Records { updates, ..records });
    }
    let bundle = Static {
        fetcher,
        server,
        stall,
    }
    .bundle(terms)
    .await?;
    Ok(terms.verify(bundle)?)
}

/// A server of plain files: nginx over the store's directory.
struct Static<'a> {
    fetcher: &'a Fetcher,
    server: &'a std::sync::Arc<super::server::Server>,
    stall: Duration,
}

impl Static<'_> {
    async fn bundle(&self, terms: &Terms<'_>) -> Result<Bundle, RecordsError> {
        let RevisionName { name, revision } = terms.name()?;
        let rings = self.rings(&name, terms.high_water.ring).await?;
        let head = match (revision, &rings) {
            (Some(revision), _) => self.head(&name, revision).await?,
            (None, None) => self.newest(&name).await?,
            (None, Some(rings)) => self.head_of_ring(&name, rings, terms.ring).await?,
        };
        let head = Envelope::parse(&head)?;
        let record =
            wire::manifest::Head::parse(head.payload.as_bytes()).map_err(TrustError::Malformed)?;
        let manifest = ObjectPath::Manifest(record.manifest.digest);
        let manifest = self.get(&manifest, MANIFEST_LEN_MAX).await?;
        let manifest = String::from_utf8(manifest)
            .map_err(|_| FetchError::Wrong("the manifest is not valid UTF-8"))?;
        Ok(Bundle {
            keysets: self.keysets().await?,
            head,
            manifest,
            rings,
        })
    }

    /// The head of a ring's revision, as the record says.
    async fn head_of_ring(
        &self,
        name: &ProfileName,
        rings: &Envelope,
        ring: &str,
    ) -> Result<Vec<u8>, RecordsError> {
        let record = RingRecord::parse(rings.payload.as_bytes()).map_err(TrustError::Malformed)?;
        let Some(ring) = record.ring(ring) else {
            return Ok(self.newest(name).await?);
        };
        if record.follows_newest(ring) {
            let newest = self.newest(name).await?;
            let payload = Envelope::parse(&newest)?.payload;
            let head = wire::manifest::Head::parse(payload.as_bytes());
            let number = head.map_err(TrustError::Malformed)?.revision;
            if record.current(ring, number) == number {
                return Ok(newest);
            }
        }
        Ok(self.head(name, ring.revision).await?)
    }

    /// The newest ring record, at least number `seen`; `None` if the history has none. Numbers have
    /// no gaps, so few requests find the last.
    async fn rings(&self, name: &ProfileName, seen: u64) -> Result<Option<Envelope>, RecordsError> {
        let (mut there, mut absent) = (seen.saturating_sub(1), None);
        let (mut step, mut found) = (1_u64, None);
        for _ in 0..KEYSET_STEPS_MAX {
            let next = match absent {
                None => there.saturating_add(step),
                Some(absent) => there + (absent - there) / 2,
            };
            if next == there {
                break;
            }
            let record = ObjectPath::Ring(name.clone(), next);
            match self.get(&record, ENVELOPE_LEN_MAX).await {
                Ok(bytes) => {
                    found = Some(bytes);
                    there = next;
                    step = step.saturating_mul(2);
                }
                Err(error) if error.is_missing() => absent = Some(next),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found.map(|bytes| Envelope::parse(&bytes)).transpose()?)
    }

    async fn head(&self, name: &ProfileName, revision: u64) -> Result<Vec<u8>, FetchError> {
        let head = ObjectPath::Head(name.clone(), revision);
        self.get(&head, ENVELOPE_LEN_MAX).await
    }

    async fn newest(&self, name: &ProfileName) -> Result<Vec<u8>, FetchError> {
        let hint = ObjectPath::Hint(name.clone());
        let hint = match self.get(&hint, HINT_LEN_MAX).await {
            Ok(text) => std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error),
        };
        let hint: u64 = hint.unwrap_or(1);
        let mut head = self.head(name, hint).await?;
        for revision in (1..KEYSET_STEPS_MAX).map_while(|step| hint.checked_add(step)) {
            match self.head(name, revision).await {
                Ok(newer) => head = newer,
                Err(error) if error.is_missing() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(head)
    }

    async fn keysets(&self) -> Result<Vec<Envelope>, RecordsError> {
        let mut keysets = Vec::new();
        for version in 1..KEYSET_STEPS_MAX {
            let keyset = ObjectPath::Keyset(version);
            match self.get(&keyset, ENVELOPE_LEN_MAX).await {
                Ok(bytes) => keysets.push(Envelope::parse(&bytes)?),
                Err(error) if error.is_missing() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(keysets)
    }

    async fn get(&self, object: &ObjectPath, len_max: usize) -> Result<Vec<u8>, FetchError> {
        let ask = Ask::get(object.url(), self.stall);
        let mut answer = self.server.ask_h1(&ask).await?;
        let status = answer.check_status();
        let bytes = answer
            .collect(len_max.max(HEAD_LEN_MAX).max(KEYSET_LEN_MAX))
            .await?;
        super::status::Counters::add(&self.fetcher.inner.counters.bytes, bytes.len() as u64);
        self.server.keep(answer).await;
        status.map(|()| bytes)
    }
}
