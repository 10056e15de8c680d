//! Every bound on the work a peer can cause, with its reason.

use std::time::Duration;

/// Connections at once by default. A client opens up to 16, a class has 200 clients.
pub(crate) const CONNECTIONS_DEFAULT: usize = 4096;
/// Share of the connections that one address may have: one client cannot shut out the others, and a proxy before the
/// server still has enough.
pub(crate) const CONNECTIONS_OF_ADDRESS: usize = 2;
/// So many any address may have, however few there are in all.
pub(crate) const CONNECTIONS_OF_ADDRESS_MIN: usize = 64;
/// Bytes of request head in HTTP/1. Ours stay under 1 KiB.
pub(crate) const HEAD_LEN_MAX: usize = 16 << 10;
/// Header fields of one request; curl sends 3, a browser 20.
pub(crate) const HEADERS_MAX: usize = 64;
/// Concurrent streams in one HTTP/2 connection: a prefetching client keeps 128 in flight.
pub(crate) const STREAMS_MAX: u32 = 256;
/// Time for a new connection to show its protocol, and for any request head to arrive; also the
/// lifetime of an idle HTTP/1 connection.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the body of a POST.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// A peer that acknowledges nothing for this time is disconnected, milliseconds.
pub(crate) const PEER_SILENCE_MS: u32 = 60_000;
/// Time running answers have to finish after SIGTERM.
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

/// Bytes of one posted trace. A desktop boot's trace is 200 KiB.
pub(crate) const TRACE_LEN_MAX: usize = 4 << 20;
/// Traces stored per revision: the 65th boot adds nothing to a pack.
pub(crate) const TRACES_PER_REVISION_MAX: usize = 64;
/// Bytes of all traces in the spool.
pub(crate) const TRACES_LEN_MAX: u64 = 256 << 20;

/// Boot reports stored per revision, the newest: further boots do not change a median of 256.
pub(crate) const REPORTS_PER_REVISION_MAX: usize = 256;
/// Bytes of all reports in the spool: 300 revisions with all theirs.
pub(crate) const REPORTS_LEN_MAX: u64 = 64 << 20;
/// Profiles whose boot times `/metrics` shows: a page stays under a megabyte.
pub(crate) const BOOT_ROWS_MAX: usize = 1024;

/// Share of the connections on which requests may wait for a new revision.
pub(crate) const NEWS_SHARE: usize = 2;
/// Longest wait for a new revision: proxies end connections that are silent for a minute.
pub(crate) const NEWS_WAIT_MAX: Duration = Duration::from_secs(55);
/// Interval of the looks for a new revision while requests wait for it.
pub(crate) const NEWS_EVERY: Duration = Duration::from_millis(200);
/// The same for a store that is not a local directory: each look is several requests to it.
pub(crate) const NEWS_EVERY_OF_BUCKET: Duration = Duration::from_secs(2);

/// Number of layer files kept open and mapped; with the connections they stay below 1,024
/// descriptors, the limit of a server that is started by hand.
pub(crate) const OPEN_OBJECTS_MAX: usize = 256;
/// Shortest part of a mapped object that is sent from its file, bytes: below it, the additional
/// system call costs more than the copy.
pub(crate) const SENT_FROM_FILE_MIN: usize = 32 << 10;
/// Time after which an open object is checked again (the sweeper may delete it, and its space is
/// freed only when the server closes it).
pub(crate) const OPEN_OBJECT_RECHECK: Duration = Duration::from_secs(10);
/// Objects up to this size are read whole when an ETag must be computed from content
/// (heads, keysets, hints): a keyset of 1000 keys is 100 KiB.
pub(crate) const RECORD_LEN_MAX: u64 = 4 << 20;

/// Entries a generated menu shows per profile.
pub(crate) const MENU_REVISIONS_MAX: usize = 10;
/// Longest initramfs that is looked into, bytes: of a bucket it is fetched into memory.
pub(crate) const INITRD_LEN_MAX: u64 = 1 << 30;
/// Number of initramfs archives with known results. A store has tens.
pub(crate) const INITRDS_KNOWN_MAX: usize = 4096;
/// Number of initramfs archives whose tables of parts are in memory, each about 300 KiB; others are
/// read again.
pub(crate) const DIVIDED_KNOWN_MAX: usize = 32;
/// Bytes of an object of a remote store that are in memory for one answer made of places in it.
pub(crate) const PIECE_LEN: u64 = 256 << 10;
/// Systems and profiles a listing walks.
pub(crate) const LISTING_MAX: usize = 10_000;
/// Number of keys with shared answers at which those that nobody waits for are forgotten.
pub(crate) const SHARED_ANSWERS_SWEPT: usize = 64;
