//! The server of a rehearsal: the store on a port of this machine, with a spool of its own.

use std::net::SocketAddr;
use std::path::Path;

use tokio::sync::watch;

use super::RehearseError;
use crate::failed::Doing as _;
use crate::serve::{Bound, ServeOptions, limits, open_store};

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(super) struct PrivateServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl PrivateServer {
    pub(super) fn start(store: &str, spool: &Path) -> Result<Self, RehearseError> {
        let (store, directory) = open_store(store)?;
        let options = ServeOptions {
            store,
            directory,
            spool: Some(spool.to_owned()),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            connections_max: limits::CONNECTIONS_DEFAULT,
            connections_per_address: Some(limits::CONNECTIONS_DEFAULT),
            url: None,
            menu_timeout: 0,
            fleet: None,
            whole_initramfs: true,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .doing(|| "cannot start the server's threads".into())?;
        let bound = runtime.block_on(Bound::new(options))?;
        let addresses = bound
            .addresses()
            .doing(|| "cannot find the server's port".into())?;
        let address = addresses
            .first()
            .copied()
            .ok_or_else(|| RehearseError::Missing("the server has no port".into()))?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn(move || runtime.block_on(bound.run(stopped)));
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
