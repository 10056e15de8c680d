//! The URLs of a server.

use std::fmt;

use layerfmt::Digest;

use super::object::ObjectPath;
use super::plain_number;
use crate::manifest::{ProfileName, RevisionName};

/// Header field of a bundle: the numbers of the revisions from which update packs lead to the
/// revision of the bundle, separated by commas. A hint, not signed.
pub const UPDATES_FIELD: &str = "layerfs-updates";

/// The routes that a server has besides the objects of its store; `{…}` are parameters.
#[expect(missing_docs, reason = "each is the route of the request of that name")]
pub mod route {
    pub const BUNDLE: &str = "/v1/bundle/{system}/{profile}";
    pub const NEWEST: &str = "/v1/newest/{system}/{profile}";
    pub const SYSTEMS: &str = "/v1/systems";
    pub const BATCH: &str = "/v1/batch/{hex}";
    pub const JOB: &str = "/v1/jobs/{ulid}";
    pub const TRACES: &str = "/v1/traces/{system}/{profile}/{revision}";
    pub const BOOTS: &str = "/v1/boots/{system}/{profile}/{revision}";
    pub const HELLO: &str = "/v1/hello";
    pub const LANDING: &str = "/";
    pub const IPXE: &str = "/boot.ipxe";
    pub const IPXE_SYSTEM: &str = "/ipxe/{system}";
    pub const IPXE_PROFILE: &str = "/ipxe/{system}/{profile}";
    pub const GRUB: &str = "/grub.cfg";
    pub const PXELINUX: &str = "/pxelinux.cfg/default";
    pub const METRICS: &str = "/metrics";
    pub const HEALTHZ: &str = "/healthz";

    /// Every route, in the order of the specification's table.
    pub const ALL: [&str; 16] = [
        BUNDLE,
        NEWEST,
        SYSTEMS,
        BATCH,
        JOB,
        TRACES,
        BOOTS,
        HELLO,
        LANDING,
        IPXE,
        GRUB,
        PXELINUX,
        IPXE_SYSTEM,
        IPXE_PROFILE,
        METRICS,
        HEALTHZ,
    ];

    /// The part of a route before its first parameter.
    pub(super) fn fixed(route: &'static str) -> &'static str {
        route.split('{').next().unwrap_or(route)
    }
}

/// A request to a server. [`Display`](fmt::Display) builds the path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    /// An object of the store.
    Object(ObjectPath),
    /// The records of a revision, or of the newest.
    Bundle(RevisionName),
    /// The number of the newest revision.
    Newest(ProfileName),
    /// The list of all profiles.
    Systems,
    /// Ranges of a layer or pack.
    Batch(Digest),
    /// The state of a job; the identifier is a ULID.
    Job(String),
    /// Traces of boots of a revision.
    Traces(ProfileName, u64),
    /// Boot reports of a revision.
    Boots(ProfileName, u64),
    /// Hellos of machines.
    Hello,
    /// The page for people.
    Landing,
    /// The menu of iPXE.
    Ipxe,
    /// The iPXE menu of one profile, or of one revision.
    IpxeProfile(RevisionName),
    /// The menu of GRUB.
    Grub,
    /// The menu of pxelinux.
    Pxelinux,
    /// Counters.
    Metrics,
    /// The server's health.
    Healthz,
}

impl Request {
    /// Reads a path with its leading slash, as a server without a prefix gets it. `None` for
    /// anything else than the one spelling of a request; people type the menu of a profile, so
    /// `main` may be written out there.
    pub fn parse(path: &str) -> Option<Request> {
        let fixed = [
            (route::SYSTEMS, Request::Systems),
            (route::HELLO, Request::Hello),
            (route::LANDING, Request::Landing),
            (route::IPXE, Request::Ipxe),
            (route::GRUB, Request::Grub),
            (route::PXELINUX, Request::Pxelinux),
            (route::METRICS, Request::Metrics),
            (route::HEALTHZ, Request::Healthz),
        ];
        if let Some((_, request)) = fixed.into_iter().find(|(route, _)| *route == path) {
            return Some(request);
        }
        let after = |route| path.strip_prefix(route::fixed(route));
        if let Some(rest) = after(route::BUNDLE) {
            return Some(Request::Bundle(revision_name(rest, true)?));
        }
        if let Some(rest) = after(route::NEWEST) {
            return Some(Request::Newest(super::full_name(rest)?));
        }
        if let Some(rest) = after(route::BATCH) {
            return Some(Request::Batch(rest.parse().ok()?));
        }
        if let Some(rest) = after(route::JOB) {
            return is_ulid(rest).then(|| Request::Job(rest.to_owned()));
        }
        if let Some(rest) = after(route::TRACES) {
            let (name, revision) = numbered(rest)?;
            return Some(Request::Traces(name, revision));
        }
        if let Some(rest) = after(route::BOOTS) {
            let (name, revision) = numbered(rest)?;
            return Some(Request::Boots(name, revision));
        }
        if let Some(rest) = after(route::IPXE_SYSTEM) {
            return Some(Request::IpxeProfile(revision_name(rest, false)?));
        }
        let object = ObjectPath::parse(path.strip_prefix('/')?)?;
        object
            .class()
            .is_served()
            .then_some(Request::Object(object))
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (route, rest) = match self {
            Request::Object(object) => return write!(f, "/{object}"),
            Request::Bundle(RevisionName { name, revision }) => {
                let revision = revision.map(|revision| format!("@{revision}"));
                let rest = format!("{}{}", name.full(), revision.unwrap_or_default());
                (route::BUNDLE, rest)
            }
            Request::Newest(name) => (route::NEWEST, name.full()),
            Request::Systems => (route::SYSTEMS, String::new()),
            Request::Batch(digest) => (route::BATCH, digest.to_string()),
            Request::Job(id) => (route::JOB, id.clone()),
            Request::Traces(name, revision) => {
                (route::TRACES, format!("{}/{revision}", name.full()))
            }
            Request::Boots(name, revision) => (route::BOOTS, format!("{}/{revision}", name.full())),
            Request::Hello => (route::HELLO, String::new()),
            Request::Landing => (route::LANDING, String::new()),
            Request::Ipxe => (route::IPXE, String::new()),
            Request::IpxeProfile(name) => (route::IPXE_SYSTEM, name.to_string()),
            Request::Grub => (route::GRUB, String::new()),
            Request::Pxelinux => (route::PXELINUX, String::new()),
            Request::Metrics => (route::METRICS, String::new()),
            Request::Healthz => (route::HEALTHZ, String::new()),
        };
        write!(f, "{}{rest}", route::fixed(route))
    }
}

/// Reads `SYSTEM/PROFILE[@REVISION]`; `/PROFILE` may be absent unless `is_full`.
fn revision_name(text: &str, is_full: bool) -> Option<RevisionName> {
    let name: RevisionName = text.parse().ok()?;
    let number = text.split_once('@').map(|(_, number)| number);
    let spelled = number.is_none_or(|number| plain_number(number).is_some());
    (spelled && (!is_full || text.contains('/'))).then_some(name)
}

/// Reads `SYSTEM/PROFILE/REVISION`.
fn numbered(text: &str) -> Option<(ProfileName, u64)> {
    let (name, revision) = text.rsplit_once('/')?;
    Some((super::full_name(name)?, plain_number(revision)?))
}

/// True for 26 characters of Crockford's base 32, upper case.
fn is_ulid(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    text.len() == 26
        && text
            .bytes()
            .all(|byte| digit(byte) && !b"ILOU".contains(&byte))
        && text.starts_with(|first: char| ('0'..='7').contains(&first))
}
