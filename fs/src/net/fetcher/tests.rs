use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use layerfmt::Digest;

use super::super::address::ServerName;
use super::super::object::Object;
use super::*;

/// Length of a chunk.
const LEN: u32 = 1000;

struct Forget;
impl ChunkSink for Forget {
    fn put(&self, _: &ChunkRange, _: &Bytes) {}

    fn cached(&self, _: &ChunkRange) -> Option<Bytes> {
        None
    }
}

fn body(offset: u64) -> Vec<u8> {
    vec![u8::try_from(offset / u64::from(LEN) % 251).unwrap(); LEN as usize]
}

fn range(path: &str, number: u64) -> ChunkRange {
    let offset = number * u64::from(LEN);
    ChunkRange {
        object: Arc::new(Object {
            path: path.into(),
            batch_path: format!("{path}-batch"),
            optional: false,
        }),
        offset,
        len: LEN,
        digest: Digest::of(&body(offset)),
    }
}

/// A server of ranges: `/slow` sends byte by byte and takes 20 s, other paths answer at once.
fn answer(mut peer: TcpStream) {
    let mut head = Vec::new();
    while let Ok(1..) = peer.read({
        head.push(0);
        let at = head.len() - 1;
        &mut head[at..]
    }) {
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
        let range = text.split("bytes=").nth(1).unwrap();
        let offset: u64 = range.split('-').next().unwrap().parse().unwrap();
        let end = offset + u64::from(LEN) - 1;
        let _ = write!(
            peer,
            "HTTP/1.1 206 x\r\nContent-Length: {LEN}\r\nContent-Range: bytes {offset}-{end}/99999999\r\n\r\n"
        );
        if text.starts_with("GET /slow") {
            for byte in body(offset) {
                if peer.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        } else if peer.write_all(&body(offset)).is_err() {
            return;
        }
    }
}

#[test]
fn a_reader_is_served_while_prefetch_is_on_its_way() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            std::thread::spawn(move || answer(peer));
        }
    });
    let name = ServerName::parse(&name).unwrap();
    let counters = Arc::new(Counters::default());
    let server = Arc::new(Server::new(name, Arc::clone(&counters)));
    let options = FetcherOptions {
        timeout: None,
        console: None,
        prefetch_rate: None,
        prefetch_count_max: 1,
    };
    let mirrors = Mirrors::new(vec![server], Arc::clone(&counters));
    let fetcher = Fetcher::start(mirrors, counters, Arc::new(Forget), options).unwrap();
    assert_eq!(fetcher.suggest(&[range("/slow", 0)]), 1);
    std::thread::sleep(Duration::from_millis(100));
    // One reader, one chunk after the other: no other thread wakes a worker.
    for number in 1..100 {
        let began = Instant::now();
        let wanted = range("/fast", number);
        let fetched = async {
            tokio::time::timeout(Duration::from_secs(3), fetch(&fetcher.inner, &wanted)).await
        };
        let came = fetcher.run(fetched).unwrap();
        assert!(
            matches!(came, Ok(Ok(_))),
            "chunk {number} after {:?}: {came:?}",
            began.elapsed()
        );
    }
    assert!(
        fetcher.suggested() > 0,
        "the slow one is still on its way, or this test shows nothing"
    );
}
