//! A PostgreSQL server of Debian, as a process of the test: in a temporary directory, as a user
//! without privileges, on a Unix socket. It ends with the test.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The user and group `nobody` of Debian: a server refuses to run as root.
const NOBODY: u32 = 65_534;
/// Longest wait for the start.
const START_MAX: Duration = Duration::from_secs(120);
/// Runs the server until the standard input ends, then removes its directory.
const UNTIL_THE_END: &str = r#""$1/postgres" -D "$2" -k "$2" -c listen_addresses= -c fsync=off >"$2/log" 2>&1 &
read -r _; kill -INT $!; wait $!; cd /; rm -rf "$2""#;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    programs: PathBuf,
    directory: PathBuf,
    _shell: Child,
    _end: ChildStdin,
    count: AtomicU32,
}

/// The server of this test program; started at its first use.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

impl Server {
    fn start() -> Server {
        let versions = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten();
        let programs = versions
            .map(|version| version.unwrap().path().join("bin"))
            .max();
        let programs = programs.expect("the Debian package postgresql is not installed");
        let directory = tempfile::tempdir().unwrap().keep();
        // Without privileges the test is the owner already.
        let _ = std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY));
        let made = unprivileged(&programs.join("initdb"))
            .args([
                "--no-sync",
                "-A",
                "trust",
                "-U",
                "fleet",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-D",
            ])
            .arg(&directory)
            .current_dir("/")
            .status()
            .unwrap();
        assert!(made.success(), "initdb: {made}");
        let mut shell = unprivileged(Path::new("/bin/sh"))
            .args(["-c", UNTIL_THE_END, "sh"])
            .args([&programs, &directory])
            .current_dir("/")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let server = Server {
            programs,
            _end: shell.stdin.take().unwrap(),
            _shell: shell,
            directory,
            count: AtomicU32::new(0),
        };
        let begun = Instant::now();
        while !server.psql("postgres", "SELECT 1") {
            let log = std::fs::read_to_string(server.directory.join("log"));
            assert!(begun.elapsed() < START_MAX, "no start: {log:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    /// Runs statements; true if they succeed.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> bool {
        let done = Command::new(self.programs.join("psql"))
            .args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-U", "fleet", "-h"])
            .arg(&self.directory)
            .args(["-d", database, "-c", sql])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        done.unwrap().success()
    }

    /// The URL of a new, empty database.
    pub(crate) fn new_database(&self) -> String {
        let name = format!("fleet{}", self.count.fetch_add(1, Ordering::Relaxed));
        assert!(self.psql("postgres", &format!("CREATE DATABASE {name}")));
        format!(
            "postgresql:///{name}?host={}&user=fleet",
            self.directory.display()
        )
    }

    /// Ends every connection to the databases of the tests.
    pub(crate) fn cut(&self, database: &str) {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        );
        assert!(self.psql("postgres", &sql));
    }
}
