//! Requests that need a part of the index which is not here yet: they wait in the table of waiting
//! requests, and are carried out when the whole index is here.

use std::ffi::OsStr;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use fuser::{
    INodeNo, RenameFlags, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, Request,
};

use super::Adapter;
use super::adapter::{FOREVER, about, caller, kept};
use super::answers::RequestContext;
use super::convert;
use super::parked::{About, Call, Lot};
use crate::chunks::{Pending, Ready};
use crate::error::Error;
use crate::filesystem::{LayerFs, Make, Rows};
use crate::metrics::Operation;
use crate::sys::Errno;

/// An adapter whose requests may be carried out later.
#[derive(Debug)]
pub(crate) struct Mounted(Arc<Adapter>);

impl Deref for Mounted {
    type Target = Adapter;

    fn deref(&self) -> &Adapter {
        &self.0
    }
}

impl Mounted {
    pub(crate) fn new(adapter: Adapter) -> Mounted {
        Mounted(Arc::new(adapter))
    }

    /// The adapter, while no request refers to it.
    pub(super) fn alone(&mut self) -> Option<&mut Adapter> {
        Arc::get_mut(&mut self.0)
    }

    /// A request that is carried out when `rows` are here, usually at once.
    pub(super) fn once<'a>(&'a self, about: About, rows: Rows<'a>) -> Once<'a> {
        let adapter = &self.0;
        Once {
            adapter,
            about,
            rows,
        }
    }

    /// Answers MKNOD and MKDIR.
    pub(super) fn make_node(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        make: Make<'static>,
        reply: ReplyEntry,
    ) {
        let (about, caller) = (about(req, parent, Operation::Make), caller(req));
        let name = [name.as_bytes()];
        self.once(about, Rows::All)
            .serve(name, reply, move |asked, [name], reply| {
                let made = asked.fs.make(asked.node, name, &make, caller);
                asked.entry(reply, made.map(Some));
            });
    }

    /// Answers SYMLINK.
    pub(super) fn make_link(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (about, caller) = (about(req, parent, Operation::Make), caller(req));
        let texts = [name.as_bytes(), target.as_os_str().as_bytes()];
        self.once(about, Rows::All)
            .serve(texts, reply, move |asked, [name, target], reply| {
                let make = Make::Symlink { target };
                let made = asked.fs.make(asked.node, name, &make, caller);
                asked.entry(reply, made.map(Some));
            });
    }

    /// Answers RENAME.
    pub(super) fn move_name(
        &self,
        about: About,
        names: [&OsStr; 2],
        to: INodeNo,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        let names = names.map(OsStr::as_bytes);
        self.once(about, Rows::All)
            .serve(names, reply, move |asked, [name, new_name], reply| {
                let (from, to) = ((asked.node, name), (to.0, new_name));
                asked.empty(reply, asked.fs.rename(from, to, flags));
            });
    }
}

/// A request, and the rows of the index that it needs.
pub(super) struct Once<'a> {
    adapter: &'a Arc<Adapter>,
    about: About,
    rows: Rows<'a>,
}

impl Once<'_> {
    /// Carries out the request by `work`. `texts` are its names and other bytes, copied only for a
    /// wait. If the index is lost, `reply` is dropped, which answers EIO.
    pub(super) fn run<R: Send + 'static, const N: usize>(
        self,
        texts: [&[u8]; N],
        reply: R,
        work: impl FnOnce(&Adapter, [&[u8]; N], R) + Send + 'static,
    ) {
        let (adapter, about) = (self.adapter, self.about);
        let lot = adapter.lot.as_ref();
        let Some(lot) = lot.filter(|_| !adapter.fs.has_rows(self.rows)) else {
            return work(adapter, texts, reply);
        };
        let texts = texts.map(<[u8]>::to_vec);
        let weak = Arc::downgrade(adapter);
        let mut later = Some((reply, work));
        let call: Call = Box::new(move |_, turn| {
            let later = later.take().filter(|_| turn.refused.is_none());
            if let Some(((reply, work), adapter)) = later.zip(weak.upgrade()) {
                work(&adapter, texts.each_ref().map(Vec::as_slice), reply);
            }
            None
        });
        park(lot, &adapter.fs, about, call);
    }

    /// Carries out the request like [`Once::run`], inside the guard.
    pub(super) fn serve<R: Send + 'static, const N: usize>(
        self,
        texts: [&[u8]; N],
        reply: R,
        work: impl FnOnce(&RequestContext<'_>, [&[u8]; N], R) + Send + 'static,
    ) {
        let about = self.about;
        self.run(texts, reply, move |adapter, texts, reply| {
            let node = INodeNo(about.node);
            adapter.serve(about.operation, node, |asked| work(asked, texts, reply));
        });
    }
}

/// Parks a request until the whole index is here.
fn park(lot: &Lot, fs: &LayerFs, about: About, call: Call) {
    let index = Arc::clone(&fs.lower().index);
    lot.park_until(about, call, |then| -> Box<dyn Pending> {
        index.when_whole(Box::new(move |is_whole| {
            let lost = || Error::fault(Errno::IO, "this part of the index is unavailable");
            then(is_whole.then_some(()).ok_or_else(lost));
        }));
        Box::new(Ready)
    });
}

impl Adapter {
    /// Answers READDIR.
    pub(super) fn list(&self, dir: INodeNo, offset: u64, mut reply: ReplyDirectory) {
        self.serve(Operation::Readdir, dir, |asked| {
            let listed = self.fs.readdir(dir.0, offset, false, &mut |item| {
                let (ino, name) = (INodeNo(item.ino), OsStr::from_bytes(item.name));
                !reply.add(ino, item.cookie, convert::file_type(item.kind), name)
            });
            match asked.known(listed) {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    /// Answers READDIRPLUS.
    pub(super) fn list_plus(&self, dir: INodeNo, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.serve(Operation::Readdir, dir, |asked| {
            let listed = self.fs.readdir(dir.0, offset, true, &mut |item| {
                let attr = convert::listed(item);
                let (ino, name) = (INodeNo(item.ino), OsStr::from_bytes(item.name));
                let ttl = item.attr.as_ref().map_or(&FOREVER, kept);
                let generation = convert::generation(item);
                !reply.add(ino, item.cookie, name, ttl, &attr, generation)
            });
            match asked.known(listed) {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }
}
