//! A bakery with its fleet, and single requests to it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};
use serde_json::Value;
use wire::hello::{Health, Hello, Step};
use wire::machine::Identity;

use crate::test_bakery::{Running, TestBakery, run, text, wait_until};

pub(crate) const UUID: &str = "4c4c4544-0042-3510-8051-b4c04f564433";
pub(crate) const MAC: &str = "52:54:00:00:00:17";

/// A store with two systems, a server, and the fleet process.
pub(crate) struct Site {
    pub(crate) bakery: TestBakery,
    pub(crate) address: SocketAddr,
    pub(crate) fleet: Option<Running>,
    _server: Running,
}

/// The answer of a server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::with(&[], &["--fleet"])
    }

    /// Starts the site. `fleet` and `serve` are further arguments of the two programs.
    pub(crate) fn with(fleet: &[&str], serve: &[&str]) -> Site {
        let bakery = TestBakery::new();
        std::fs::create_dir_all(bakery.spool()).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut command = bakery.command();
        command
            .args(["serve", "--listen", &address.to_string()])
            .args(serve);
        let server = Running::start(&mut command);
        wait_until(Duration::from_secs(60), || {
            TcpStream::connect(address).is_ok()
        });
        let mut site = Site {
            bakery,
            address,
            fleet: None,
            _server: server,
        };
        site.start_fleet(fleet);
        site
    }

    pub(crate) fn start_fleet(&mut self, more: &[&str]) {
        let mut command = self.bakery.command();
        command.arg("fleet").args(more);
        self.fleet = Some(Running::start(&mut command));
        let socket = fleet::store::socket(&self.bakery.spool());
        wait_until(Duration::from_secs(60), || {
            UnixStream::connect(&socket).is_ok()
        });
    }

    /// Sends one request from an address of this machine.
    pub(crate) fn ask_from(
        &self,
        from: Ipv4Addr,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let socket: OwnedFd = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
        rustix::net::connect(&socket, &self.address)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.address
        );
        if method == "POST" {
            request += &format!("content-length: {}\r\n", body.len());
        }
        stream.write_all((request + "\r\n").as_bytes())?;
        stream.write_all(body)?;
        let mut raw = Vec::new();
        let _ = stream.read_to_end(&mut raw);
        let raw = text(&raw);
        let status = raw.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = raw.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(Answer {
            status: status.unwrap_or(0),
            body: body.to_owned(),
        })
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let home = Ipv4Addr::LOCALHOST;
        self.ask_from(home, method, path, body).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    pub(crate) fn say(&self, hello: &Hello) -> u16 {
        let body = serde_json::to_vec(hello).unwrap();
        self.ask("POST", "/v1/hello", &body).status
    }

    /// Runs `bakery machine …`; returns its JSON output.
    pub(crate) fn machine(&self, arguments: &[&str]) -> Value {
        let mut command = self.bakery.command();
        command.args(["--json", "machine"]).args(arguments);
        serde_json::from_slice(&run(&mut command).stdout).unwrap()
    }

    /// Runs `bakery machine …`; returns its text output.
    pub(crate) fn words(&self, arguments: &[&str]) -> String {
        let mut command = self.bakery.command();
        command.arg("machine").args(arguments);
        text(&run(&mut command).stdout)
    }

    /// The menu of the machine with [`UUID`] and [`MAC`].
    pub(crate) fn menu(&self, path: &str) -> String {
        let answer = self.get(&format!("{path}?uuid={UUID}&mac={MAC}&asset=A17"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }
}

/// A hello of the machine with [`UUID`] and [`MAC`].
pub(crate) fn hello(step: Step, boot: &str) -> Hello {
    Hello {
        boot: boot.to_owned(),
        revision: "kiosk/main@1".into(),
        health: (step >= Step::Target).then(|| Health {
            state: "running".into(),
            ..Health::default()
        }),
        ..Hello::new(Identity::of_words(UUID, MAC, "A17"), step)
    }
}
