//! A plain HTTP server over a store's directory that misbehaves on request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Targets of redirects within the server.
const MOVED: &str = "/moved";

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// One bit of the body is flipped.
    Corrupt,
    /// The body ends halfway, the connection too.
    Truncate,
    /// Another range than requested, with a correct label.
    WrongRange,
    /// The right label, the bytes of another place.
    ShiftedBytes,
    /// A shorter body with a matching length.
    WrongLength,
    /// The whole object instead of the range.
    NoRanges,
    Status(u16),
    /// A byte now and then.
    SlowLoris,
    /// No data.
    Hang,
    /// The connection is reset after so many bytes of body.
    ResetAfter(usize),
    /// To another server.
    Redirect,
    /// To another path of this server, that has it.
    RedirectWithin,
    /// To another path of this server, which redirects again, forever.
    RedirectRound,
    /// The right answer, so late.
    Late(Duration),
}

#[derive(Debug, Clone)]
struct Plan {
    fault: Fault,
    /// Only for paths that begin so.
    prefix: &'static str,
    /// The number of requests that are answered before.
    after: u64,
    /// The number of faults; then the server works.
    times: u64,
}

struct Shared {
    root: PathBuf,
    plan: Mutex<Option<Plan>>,
    faults: AtomicU64,
    /// The path and the range of every request with a range, in the order of their arrival.
    ranges: Mutex<Vec<(String, std::ops::Range<usize>)>>,
    /// Bytes that all answers may still have until one connection is reset, once; negative: no
    /// limit.
    left: AtomicI64,
    stop: AtomicBool,
}

pub(super) struct FaultServer {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl FaultServer {
    pub(super) fn start(root: PathBuf) -> FaultServer {
        Self::start_at(root, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// At an address used before: like a server that returns.
    pub(super) fn start_at(root: PathBuf, address: SocketAddr) -> FaultServer {
        let listener = (0..50)
            .find_map(|_| {
                let bound = TcpListener::bind(address).ok();
                if bound.is_none() {
                    std::thread::sleep(Duration::from_millis(100));
                }
                bound
            })
            .expect("a free port");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            root,
            plan: Mutex::new(None),
            faults: AtomicU64::new(0),
            ranges: Mutex::default(),
            left: AtomicI64::new(-1),
            stop: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if for_thread.stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&for_thread);
                std::thread::spawn(move || {
                    let _ = serve(&shared, stream);
                });
            }
        });
        FaultServer {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn fail(&self, fault: Fault, prefix: &'static str, times: u64) {
        self.shared.faults.store(0, Ordering::Relaxed);
        *self.shared.plan.lock().unwrap() = Some(Plan {
            fault,
            prefix,
            after: 0,
            times,
        });
    }

    /// Fails like [`FaultServer::fail`], after so many requests for such a path.
    pub(super) fn fail_later(&self, fault: Fault, prefix: &'static str, after: u64, times: u64) {
        self.fail(fault, prefix, times);
        if let Some(plan) = self.shared.plan.lock().unwrap().as_mut() {
            plan.after = after;
        }
    }

    /// Fails at each request after so many.
    pub(super) fn fail_after(&self, fault: Fault, after: u64) {
        self.shared.faults.store(0, Ordering::Relaxed);
        *self.shared.plan.lock().unwrap() = Some(Plan {
            fault,
            prefix: "",
            after,
            times: u64::MAX,
        });
    }

    pub(super) fn behave(&self) {
        *self.shared.plan.lock().unwrap() = None;
    }

    /// After so many more bytes the connection is reset, once. The heads of answers count.
    pub(super) fn cut_after(&self, bytes: i64) {
        self.shared.left.store(bytes, Ordering::Relaxed);
    }

    /// Bytes until the cut; negative when it has happened.
    pub(super) fn until_cut(&self) -> i64 {
        self.shared.left.load(Ordering::Relaxed)
    }

    /// The ranges that were requested of paths that begin with `prefix`, in the order of their arrival.
    pub(super) fn ranges(&self, prefix: &str) -> Vec<std::ops::Range<usize>> {
        let ranges = self.shared.ranges.lock().unwrap();
        let wanted = ranges.iter().filter(|(path, _)| path.starts_with(prefix));
        wanted.map(|(_, range)| range.clone()).collect()
    }

    /// The number of faults that happened: a test without its fault proves nothing.
    pub(super) fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if shared.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            match reader.read_line(&mut head) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if !answer(shared, &stream, &head)? {
            return Ok(());
        }
    }
}

fn range_of(head: &str) -> Option<(usize, usize)> {
    let line = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("range:"))?;
    let (first, last) = line.split_once("bytes=")?.1.trim().split_once('-')?;
    Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1))
}

fn due(shared: &Shared, path: &str) -> Option<Fault> {
    let plan = shared.plan.lock().unwrap().clone()?;
    let again = plan.fault == Fault::RedirectRound;
    let name = path.strip_prefix(MOVED).filter(|_| again).unwrap_or(path);
    if !name.starts_with(plan.prefix) || name.starts_with(MOVED) {
        return None;
    }
    let before = shared.faults.fetch_add(1, Ordering::Relaxed);
    let turn = before.checked_sub(plan.after)?;
    (turn < plan.times).then_some(plan.fault)
}

/// True if the connection continues.
fn answer(shared: &Shared, stream: &TcpStream, head: &str) -> std::io::Result<bool> {
    let mut out = stream.try_clone()?;
    let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
    let fault = due(shared, &path);
    let name = path.strip_prefix(MOVED).unwrap_or(&path);
    let file = shared.root.join(name.trim_start_matches('/'));
    let Ok(whole) = std::fs::read(file) else {
        // A page, as web servers send one.
        let page = format!(
            "<html><body><h1>404 Not Found</h1>{}</body></html>",
            "-".repeat(100)
        );
        let head = format!(
            "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n",
            page.len()
        );
        return send(shared, stream, (head + &page).as_bytes());
    };
    // A range that goes beyond the end is answered to the end.
    let asked = range_of(head).map(|(first, last)| (first, last.min(whole.len())));
    if let Some((first, last)) = asked {
        let mut ranges = shared.ranges.lock().unwrap();
        ranges.push((name.to_owned(), first..last));
    }
    let (status, span, range) = match asked {
        Some((first, last)) if first < last => (
            206,
            format!(
                "Content-Range: bytes {first}-{}/{}\r\n",
                last - 1,
                whole.len()
            ),
            first..last,
        ),
        Some(_) => {
            out.write_all(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        }
        None => (200, String::new(), 0..whole.len()),
    };
    let mut body = whole[range.clone()].to_vec();
    let mut span = span;
    let mut status = status;
    match fault {
        None => {}
        Some(Fault::Corrupt) => {
            let middle = body.len() / 2;
            body[middle] ^= 0x10;
        }
        Some(Fault::ShiftedBytes) => body.rotate_left(1),
        Some(Fault::WrongRange) => {
            span = format!(
                "Content-Range: bytes {}-{}/{}\r\n",
                range.start + 1,
                range.end,
                whole.len() + 1
            );
        }
        Some(Fault::WrongLength) => body.truncate(body.len() / 2),
        Some(Fault::NoRanges) => (status, span, body) = (200, String::new(), whole.clone()),
        Some(Fault::Status(code)) => {
            let text = format!(
                "HTTP/1.1 {code} Sorry\r\nRetry-After: 0\r\nContent-Length: 5\r\n\r\nsorry"
            );
            out.write_all(text.as_bytes())?;
            return Ok(true);
        }
        Some(Fault::Redirect) => {
            out.write_all(
                b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/elsewhere\r\nContent-Length: 0\r\n\r\n",
            )?;
            return Ok(true);
        }
        Some(Fault::RedirectWithin | Fault::RedirectRound) => {
            write!(
                out,
                "HTTP/1.1 302 Found\r\nLocation: {MOVED}{name}\r\nContent-Length: 0\r\n\r\n"
            )?;
            return Ok(true);
        }
        Some(Fault::Late(wait)) => {
            let since = std::time::Instant::now();
            while since.elapsed() < wait && !shared.stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Some(Fault::Hang) => {
            for _ in 0..600 {
                if shared.stop.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            return Ok(false);
        }
        Some(Fault::Truncate | Fault::SlowLoris | Fault::ResetAfter(_)) => {}
    }
    let length = body.len();
    let head = format!("HTTP/1.1 {status} OK\r\n{span}Content-Length: {length}\r\n\r\n");
    if !send(shared, stream, head.as_bytes())? {
        return Ok(false);
    }
    match fault {
        Some(Fault::Truncate) => {
            out.write_all(&body[..length / 2])?;
            Ok(false)
        }
        Some(Fault::ResetAfter(count)) if length > count => {
            out.write_all(&body[..count])?;
            out.flush()?;
            // Lets the client read it before the reset discards it.
            std::thread::sleep(Duration::from_millis(20));
            reset(stream);
            Ok(false)
        }
        Some(Fault::SlowLoris) => {
            for byte in body.chunks(1).take(300) {
                if shared.stop.load(Ordering::Relaxed) || out.write_all(byte).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(false)
        }
        _ => send(shared, stream, &body),
    }
}

/// Sends bytes up to the cut; false if it is there.
fn send(shared: &Shared, stream: &TcpStream, bytes: &[u8]) -> std::io::Result<bool> {
    let mut out = stream;
    let len = i64::try_from(bytes.len()).unwrap();
    let limited = |left: i64| (left >= 0).then_some(if len > left { -1 } else { left - len });
    let before = shared
        .left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, limited);
    match before {
        Ok(left) if len > left => {
            out.write_all(&bytes[..usize::try_from(left).unwrap()])?;
            out.flush()?;
            // Lets the client read it before the reset discards it.
            std::thread::sleep(Duration::from_millis(20));
            reset(stream);
            Ok(false)
        }
        _ => {
            out.write_all(bytes)?;
            Ok(true)
        }
    }
}

/// Closes with RST: linger of zero.
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
    // Unread bytes, if any, make the kernel send a reset as well.
    let _ = stream.shutdown(std::net::Shutdown::Read);
    let _ = stream.take_error();
    let mut nothing = [0; 1];
    let _ = (&mut &*stream).read(&mut nothing);
}
