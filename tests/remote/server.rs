//! `bakery serve`, as a process.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::client::program;
use super::site::Site;

pub(super) struct Bakery {
    pub(super) address: SocketAddr,
    process: Child,
}

impl Bakery {
    pub(super) fn serve(site: &Site) -> Bakery {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut command = Command::new(program("bakery"));
        command.arg("--store").arg(site.store()).arg("serve");
        command
            .arg("--listen")
            .arg(address.to_string())
            .arg("--spool")
            .arg(site.path("spool"));
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        let bakery = Bakery { address, process };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return bakery;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("bakery serve does not listen");
    }

    /// Stops the server until the value is dropped: connections stay open without data.
    pub(super) fn stop(&self) -> Stopped {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::STOP).unwrap();
        // Its threads stop one after the other.
        waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
        Stopped(pid)
    }

    /// Ends the server in order, and waits for its end.
    pub(super) fn terminate(mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.process.wait().unwrap();
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A server that is stopped.
pub(super) struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

impl Drop for Bakery {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
