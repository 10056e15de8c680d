//! The state of the adapter, the guard of requests, and the answers that several requests share.

use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fuser::{
    Errno, FileHandle, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, OpenAccMode,
    OpenFlags, ReplyCreate, ReplyOpen, Request,
};

use super::answers::{ReplyResult, RequestContext};
use super::convert;
use super::handles::Searches;
use super::linger::Linger;
use super::parked::{About, Lot};
use super::passthrough::{CACHED, OpenTable, PASSED};
use super::root_stat::RootStat;
use super::store::PageStore;
use crate::buffers::BufferPool;
use crate::error::{Error, Result};
use crate::filesystem::reply::{Attr, Caller, Changes, NodeId};
use crate::filesystem::{LayerFs, Make, Protection, Stop};
use crate::metrics::{Operation, Requests};
use crate::options::MountOptions;
use crate::revisions::Revisions;
use crate::status::Fixed;
use crate::switch::Switch;
use crate::sys;

/// Lifetime of the kernel's cached entries: nothing changes without the kernel.
pub(super) const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// The minor version of the protocol since which the kernel's requests for entries are as large as the caller's buffer.
const READDIR_LARGE_MINOR: u32 = 44;
/// Largest read and write, bytes.
const TRANSFER_LEN_MAX: u32 = 1 << 20;
/// Maximum read of local layers with chunks of the usual length, bytes: a read-ahead then consists
/// of several requests, which several threads answer, and a page fault waits for one of them.
const NEAR_READ_LEN: u32 = 256 << 10;
/// Maximum number of the kernel's background requests (read-ahead). Requests that wait for a server
/// count: there must be room for more, or no file could be read any more.
const BACKGROUND_MAX: u16 = u16::MAX;
/// Flags of a file opened through the daemon: the page cache stays, and the kernel sends no flush.
const KEEP: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

/// A mounted [`LayerFs`].
pub(crate) struct Adapter {
    pub(super) fs: Arc<LayerFs>,
    pub(super) requests: Arc<Requests>,
    fixed: Fixed,
    /// Requests that wait for a server, if there is one.
    pub(super) lot: Option<Lot>,
    pub(super) buffers: Arc<BufferPool>,
    /// Open files, in the passthrough mode.
    pub(super) opens: Option<Arc<OpenTable>>,
    pub(super) pages: Arc<PageStore>,
    pub(super) searches: Arc<Searches>,
    /// True if the kernel may show the mount with other owners.
    pub(super) idmapped: bool,
    /// The switches to other revisions, if there are some.
    pub(super) switch: Option<Arc<Switch>>,
    /// For the root of a machine.
    root_stat: Option<RootStat>,
    linger: Linger,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter")
            .field("fixed", &self.fixed)
            .finish_non_exhaustive()
    }
}

impl Adapter {
    /// An adapter for `fs`.
    pub(crate) fn new(fs: Arc<LayerFs>, fixed: Fixed) -> Adapter {
        let requests: Arc<Requests> = Arc::default();
        let slow = fs.lower().chunks.is_slow();
        let lot = slow.then(|| {
            Lot::new(
                Arc::clone(&fs),
                Arc::clone(&requests),
                fixed.request_timeout,
            )
        });
        Adapter {
            fs,
            pages: Arc::new(PageStore::new(Arc::clone(&requests))),
            requests,
            fixed,
            lot,
            buffers: Arc::default(),
            opens: None,
            searches: Arc::default(),
            idmapped: false,
            switch: None,
            root_stat: None,
            linger: Linger::new(std::thread::available_parallelism().map_or(1, NonZero::get)),
        }
    }

    /// Unused memory for replies.
    pub(crate) fn buffers(&self) -> Arc<BufferPool> {
        Arc::clone(&self.buffers)
    }

    /// The counters of requests.
    pub(crate) fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Maximum read of the kernel, bytes. The chunks of one read are fetched together.
    pub(super) fn read_len_max(&self) -> u32 {
        let lower = self.fs.lower();
        let chunks = &lower.chunks;
        match chunks.is_slow() {
            true => TRANSFER_LEN_MAX,
            false => chunks.usual_len(NEAR_READ_LEN, TRANSFER_LEN_MAX),
        }
    }

    /// The mount is the root of a machine, or will be.
    #[must_use]
    pub(crate) fn with_root_duty(mut self, wanted: bool) -> Adapter {
        self.root_stat = wanted.then(RootStat::start).flatten();
        self
    }

    /// The mount can switch to `revisions`.
    #[must_use]
    pub(crate) fn with_revisions(mut self, revisions: Option<Arc<dyn Revisions>>) -> Adapter {
        let switch = |revisions| Arc::new(Switch::new(Arc::clone(&self.fs), revisions));
        self.switch = revisions.map(switch);
        self
    }

    /// Let the kernel read and write files of the upper itself, if it can.
    #[must_use]
    pub(crate) fn with_passthrough(mut self, wanted: bool) -> Adapter {
        self.opens = (wanted && self.fs.is_writable()).then(Arc::default);
        self
    }

    pub(super) fn guard(&self, operation: Operation, work: impl FnOnce()) {
        let began = Instant::now();
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.log_fault(operation);
        }
        let took = began.elapsed();
        self.requests.add(operation, took);
        if let Some(root_stat) = &self.root_stat {
            root_stat.answered(operation);
        }
        if let Some(device) = self.pages.device() {
            self.linger.after_answer(took, device);
        }
    }

    pub(super) fn log_fault(&self, operation: Operation) {
        self.requests.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            ?operation,
            "a request caused a panic in layerfs: it gets EIO"
        );
    }

    /// Handles a request about `node` inside the guard.
    pub(super) fn serve(
        &self,
        operation: Operation,
        node: INodeNo,
        work: impl FnOnce(&RequestContext<'_>),
    ) {
        self.guard(operation, || work(&self.asked(operation, node.0)));
    }

    pub(super) fn asked(&self, operation: Operation, node: NodeId) -> RequestContext<'_> {
        RequestContext {
            fs: &self.fs,
            operation,
            node,
        }
    }

    /// Requests the features that this kernel supports.
    pub(super) fn negotiate(&mut self, config: &mut KernelConfig) {
        // Kernels before Linux 6.16 request one page of entries at a time: only the first 24 names of a
        // directory would get their attributes, and each other name would need a look-up.
        let small_pages = config.kernel_abi().1 < READDIR_LARGE_MINOR;
        for flag in wished() {
            if small_pages && flag == InitFlags::FUSE_READDIRPLUS_AUTO {
                continue;
            }
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "this kernel does not have it");
            }
        }
        if self.idmapped {
            let _ = config.add_capabilities(InitFlags::FUSE_ALLOW_IDMAP);
        }
        if self.opens.is_some() {
            let able = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
            if !able || config.set_max_stack_depth(1).is_err() {
                tracing::warn!(
                    "this kernel has no passthrough: layerfs reads and writes the files"
                );
                self.opens = None;
                self.fixed.mode = "default";
            }
        }
        let _ = config.add_capabilities(match self.opens {
            // Open and truncation are one message: truncated data is not fetched for the open.
            Some(_) => InitFlags::FUSE_ATOMIC_O_TRUNC,
            None => InitFlags::FUSE_NO_OPEN_SUPPORT,
        });
        let _ = config.set_max_write(TRANSFER_LEN_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
    }

    /// Answers an OPEN request.
    pub(super) fn open_file(
        &self,
        about: About,
        flags: OpenFlags,
        caller: Caller,
        reply: ReplyOpen,
    ) {
        self.guard(Operation::Open, || {
            self.open_now(about, flags, caller, reply)
        });
    }

    fn open_now(&self, about: About, flags: OpenFlags, caller: Caller, reply: ReplyOpen) {
        // The kernel then never asks again, and opens files without the daemon.
        let Some(opens) = &self.opens else {
            return reply.error(Errno::ENOSYS);
        };
        let (id, opens) = (about.node, Arc::clone(opens));
        let answer = move |reply: ReplyOpen, file: ReplyResult<Option<Arc<OwnedFd>>>| match file {
            Ok(file) => match opens.open(id, file, |file| reply.open_backing(file)) {
                Some(backing) => {
                    reply.opened_passthrough(PASSED, FopenFlags::empty(), &backing);
                }
                None => reply.opened(CACHED, KEEP),
            },
            Err(errno) => reply.error(errno),
        };
        let use_of_it = match flags.acc_mode() {
            _ if flags.0 & libc::O_TRUNC != 0 => Use::Replaces(caller),
            OpenAccMode::O_RDONLY => Use::Reads,
            _ => Use::Writes,
        };
        let pages = Arc::clone(&self.pages);
        let file = file_to_open(&self.fs, &pages, id, use_of_it);
        self.settle(about, reply, answer, file, || {
            Box::new(move |fs| file_to_open(fs, &pages, id, use_of_it))
        });
    }

    /// Answers RELEASE: the kernel does not know the time of writes through a mapping in
    /// passthrough mode.
    pub(super) fn release_file(&self, id: NodeId, handle: FileHandle, mode: OpenAccMode) {
        let Some(opens) = &self.opens else { return };
        opens.release(id, handle);
        if handle == PASSED && mode == OpenAccMode::O_RDWR {
            self.pages.forget_attributes(id);
        }
    }

    /// Answers a CREATE request.
    pub(super) fn create_file(
        &self,
        parent: NodeId,
        name: &[u8],
        make: &Make<'_>,
        caller: Caller,
        reply: ReplyCreate,
    ) {
        self.guard(Operation::Create, || {
            self.create_now(parent, name, make, caller, reply);
        });
    }

    fn create_now(
        &self,
        parent: NodeId,
        name: &[u8],
        make: &Make<'_>,
        caller: Caller,
        reply: ReplyCreate,
    ) {
        // MKNOD and an open without the daemon need one message less.
        let Some(opens) = &self.opens else {
            return reply.error(Errno::ENOSYS);
        };
        // A new file has its data in the upper from the start.
        let made = self.fs.make(parent, name, make, caller).and_then(|attr| {
            let file = self.fs.upper_data(attr.ino)?;
            Ok((attr, file))
        });
        let (attr, file) = match made {
            Ok(made) => made,
            Err(error) => {
                return reply.error(self.asked(Operation::Create, parent).refuse(&error));
            }
        };
        let (converted, generation) = (convert::attr(&attr), Generation(attr.generation.into()));
        let file = file.filter(|_| !attr.gives_rights());
        match opens.open(attr.ino, file, |file| reply.open_backing(file)) {
            Some(backing) => reply.created_passthrough(
                kept(&attr),
                &converted,
                generation,
                PASSED,
                FopenFlags::empty(),
                &backing,
            ),
            None => reply.created(kept(&attr), &converted, generation, CACHED, KEEP),
        }
    }

    /// The mount was mounted again with other flags for times of access.
    pub(super) fn keep_access_times(&self, text: &[u8]) -> Result<()> {
        let mut options = MountOptions::default();
        let text = std::str::from_utf8(text).map_err(|_| sys::Errno::INVAL)?;
        options.parse(text).map_err(|_| sys::Errno::INVAL)?;
        self.fs.keep_access_times(options.flags);
        Ok(())
    }

    pub(super) fn status(&self) -> Result<Vec<u8>> {
        let status = crate::status::gather(&self.fs, &self.requests, &self.fixed);
        let fault = |error| Error::caused_by(sys::Errno::IO, "no status", error);
        serde_json::to_vec(&status).map_err(fault)
    }
}

/// The purpose of an open.
#[derive(Debug, Clone, Copy)]
enum Use {
    Reads,
    Writes,
    /// All data is discarded (O_TRUNC).
    Replaces(Caller),
}

/// The file that the kernel may read and write itself when `id` is opened: not a file that loses
/// set-user-ID by a write, or is protected.
fn file_to_open(
    fs: &LayerFs,
    pages: &PageStore,
    id: NodeId,
    use_of_it: Use,
) -> std::result::Result<Option<Arc<OwnedFd>>, Stop> {
    if let Use::Replaces(caller) = use_of_it {
        let nothing = Changes {
            size: Some(0),
            ..Changes::default()
        };
        fs.setattr(id, &nothing, caller)?;
    }
    let above = fs.upper_data(id)?;
    let file = match (above, use_of_it) {
        (None, Use::Reads) => return Ok(None),
        (Some(file), Use::Reads) => file,
        (above, _) => {
            let file = fs.writable(id)?;
            if above.is_none() {
                // The copy-up changed the number of blocks, which the kernel must read again.
                pages.forget_attributes(id);
            }
            file
        }
    };
    let open = fs.protection(id)? == Protection::default();
    Ok((open && !fs.getattr(id)?.gives_rights()).then_some(file))
}

/// The caller and the node of a request.
pub(super) fn about(req: &Request, ino: INodeNo, operation: Operation) -> About {
    About::new(operation, ino.0, req.pid())
}

pub(super) fn caller(req: &Request) -> Caller {
    Caller {
        uid: req.uid(),
        gid: req.gid(),
        pid: req.pid(),
    }
}

/// The caller, unless it is root.
pub(super) fn unprivileged(req: &Request) -> Option<Caller> {
    (req.uid() != 0).then(|| caller(req))
}

/// Lifetime of attributes in the kernel's cache. The kernel does not notice that a write clears
/// set-user-ID and set-group-ID: files with these bits get none.
pub(super) fn kept(attr: &Attr) -> &'static Duration {
    if attr.gives_rights() {
        &Duration::ZERO
    } else {
        &FOREVER
    }
}

/// Not FUSE_ASYNC_DIO: after an asynchronous direct write the kernel keeps pages that others read
/// meanwhile.
fn wished() -> [InitFlags; 11] {
    [
        InitFlags::FUSE_ABORT_ERROR,
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_READDIRPLUS_AUTO,
        InitFlags::FUSE_NO_OPENDIR_SUPPORT,
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_POSIX_ACL,
        InitFlags::FUSE_EXPORT_SUPPORT,
        InitFlags::FUSE_DONT_MASK,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    ]
}
