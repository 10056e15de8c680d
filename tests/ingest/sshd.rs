//! A real sshd with real keys.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::test_bakery::{Running, TestBakery, program, run, wait_until};

/// A running sshd.
pub(super) struct Sshd {
    port: u16,
    pub(super) directory: PathBuf,
    _sshd: Running,
}

impl Sshd {
    /// An sshd on loopback with its own host key and its own authorized_keys.
    pub(super) fn start(bakery: &TestBakery) -> Self {
        let directory = bakery.path("ssh");
        fs::create_dir_all(&directory).unwrap();
        // sshd's privilege-separated child needs this directory; the package creates it at boot.
        fs::create_dir_all("/run/sshd").unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        for key in ["host", "ann", "bob"] {
            let file = directory.join(key);
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"])
                .arg(file));
        }
        fs::write(directory.join("authorized_keys"), "").unwrap();
        let host = fs::read_to_string(directory.join("host.pub")).unwrap();
        fs::write(
            directory.join("known_hosts"),
            format!("[127.0.0.1]:{port} {host}"),
        )
        .unwrap();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nPidFile none\nLogLevel QUIET\n",
            directory.display()
        );
        fs::write(directory.join("config"), config).unwrap();
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-f"]).arg(directory.join("config"));
        let sshd = Running::start(&mut sshd);
        wait_until(Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            port,
            directory,
            _sshd: sshd,
        }
    }

    pub(super) fn ssh(&self, key: &str) -> String {
        let directory = self.directory.display();
        format!(
            "ssh -F /dev/null -p {} -i {directory}/{key} -o IdentitiesOnly=yes -o BatchMode=yes \
             -o UserKnownHostsFile={directory}/known_hosts -o StrictHostKeyChecking=yes",
            self.port
        )
    }

    pub(super) fn public(&self, key: &str) -> PathBuf {
        self.directory.join(format!("{key}.pub"))
    }

    pub(super) fn authorized(&self) -> PathBuf {
        self.directory.join("authorized_keys")
    }

    pub(super) fn push(&self, key: &str, target: &str, upper: &Path, more: &[&str]) -> Output {
        Command::new(program("layerfs"))
            .args([
                "push",
                "--to",
                &format!("root@127.0.0.1:{target}"),
                "--ssh",
                &self.ssh(key),
                "--upper",
            ])
            .arg(upper)
            .args(["--author", "ann@desk", "-m", "a change"])
            .args(more)
            .output()
            .unwrap()
    }
}

/// Lets a key push.
pub(super) fn authorize(bakery: &TestBakery, sshd: &Sshd, key: &str, systems: &str) {
    run(bakery
        .command()
        .arg("authorize")
        .arg(sshd.public(key))
        .args(["--systems", systems, "--file"])
        .arg(sshd.authorized()));
}
