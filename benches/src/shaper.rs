//! A TCP relay that behaves like a slow link and counts what crosses it.
//!
//! All routes and connections of one [`Shaper`] share one full-duplex link: each
//! direction is a clock that bytes reserve in turn, after which they travel half
//! a round trip. A new connection spends one round trip on its handshake first.
//! Bytes are charged at wire size: a segment of 1448 bytes costs 1538 (headers,
//! preamble, gap), so `rate` is the rate of the cable, not of the payload.
//!
//! Not modeled: slow start, loss, acknowledgements.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Payload of one full segment, and what it costs on the cable.
const SEGMENT: (f64, f64) = (1448.0, 1538.0);
/// Bytes of one packet: small, so that connections share the link fairly.
const PACKET: usize = 16 << 10;
/// Bytes a connection may have in flight beside twice the bandwidth-delay product.
const WINDOW: usize = 512 << 10;

/// Properties of a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Megabits per second in each direction; 0 = as fast as the machine.
    pub rate: f64,
    /// Round-trip time.
    pub rtt: Duration,
}

impl Link {
    /// A link that only counts.
    pub const UNSHAPED: Link = Link {
        rate: 0.0,
        rtt: Duration::ZERO,
    };

    /// The time that `bytes` of payload occupy the link.
    #[must_use]
    pub fn transmission(&self, bytes: u64) -> Duration {
        if self.rate <= 0.0 {
            return Duration::ZERO;
        }
        let (payload, wire) = SEGMENT;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a measurement, exact below 2^53 bytes"
        )]
        Duration::from_secs_f64(bytes as f64 * (wire / payload) * 8.0 / (self.rate * 1e6))
    }

    fn packets_in_flight(&self) -> usize {
        let one = self.transmission(PACKET as u64).as_secs_f64();
        if one <= 0.0 {
            return WINDOW / PACKET;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small and positive"
        )]
        let product = (2.0 * self.rtt.as_secs_f64() / one).ceil().min(65536.0) as usize;
        product + WINDOW / PACKET
    }
}

/// Traffic of one route so far (payload bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// From the server to the clients.
    pub down: u64,
    /// From the clients to the server.
    pub up: u64,
    /// Connections opened.
    pub connections: u64,
}

/// One relayed port.
#[derive(Debug)]
struct Route {
    address: SocketAddr,
    target: SocketAddr,
    down: AtomicU64,
    up: AtomicU64,
    connections: AtomicU64,
}

/// One direction of the link: the instant at which the cable is free again.
#[derive(Debug)]
struct Cable(Mutex<Instant>);

impl Cable {
    fn reserve(&self, occupied: Duration, not_before: Instant) -> Instant {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *free = (*free).max(not_before).max(Instant::now()) + occupied;
        *free
    }
}

#[derive(Debug)]
struct Shared {
    link: Link,
    down: Cable,
    up: Cable,
    stop: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// A running relay; dropping it closes its ports and connections.
#[derive(Debug)]
pub struct Shaper {
    shared: Arc<Shared>,
    routes: Vec<Arc<Route>>,
}

impl Shaper {
    /// An idle link without routes.
    #[must_use]
    pub fn new(link: Link) -> Shaper {
        let now = Instant::now();
        let (down, up) = (Cable(Mutex::new(now)), Cable(Mutex::new(now)));
        let shared = Shared {
            link,
            down,
            up,
            stop: AtomicBool::new(false),
            open: Mutex::default(),
        };
        Shaper {
            shared: Arc::new(shared),
            routes: Vec::new(),
        }
    }

    /// Relays connections to loopback port `listen` (0 = any) to `target`; returns where clients connect.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub fn route(&mut self, listen: u16, target: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, listen))?;
        let address = listener.local_addr()?;
        let route = Arc::new(Route {
            address,
            target,
            down: AtomicU64::new(0),
            up: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        self.routes.push(Arc::clone(&route));
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || accept(&listener, &shared, &route));
        Ok(address)
    }

    /// Traffic of each route, in the order in which they were added.
    #[must_use]
    pub fn counts(&self) -> Vec<Counts> {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let one = |route: &Arc<Route>| Counts {
            down: read(&route.down),
            up: read(&route.up),
            connections: read(&route.connections),
        };
        self.routes.iter().map(one).collect()
    }
}

impl Drop for Shaper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for stream in self
            .shared
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for route in &self.routes {
            let _ = TcpStream::connect(route.address); // wakes the accept loop
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, route: &Arc<Route>) {
    for client in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // A refused target closes the client's connection, as a dead server would.
        if let Ok(client) = client {
            let _ = relay(client, shared, route);
        }
    }
}

fn relay(client: TcpStream, shared: &Arc<Shared>, route: &Arc<Route>) -> io::Result<()> {
    let opened = Instant::now();
    let server = TcpStream::connect(route.target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    {
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock: a dropped shaper has either closed this connection or says so here.
        if shared.stop.load(Ordering::SeqCst) {
            return Ok(());
        }
        open.retain(|stream| stream.peer_addr().is_ok());
        open.push(client.try_clone()?);
        open.push(server.try_clone()?);
    }
    route.connections.fetch_add(1, Ordering::SeqCst);
    // The handshake: the client may send after one round trip, the server half a trip later.
    let rtt = shared.link.rtt;
    let down = Direction {
        shared: Arc::clone(shared),
        route: Arc::clone(route),
        down: true,
    };
    let up = Direction {
        down: false,
        ..down.clone()
    };
    up.run(client.try_clone()?, server.try_clone()?, opened + rtt);
    down.run(server, client, opened + rtt * 3 / 2);
    Ok(())
}

#[derive(Clone)]
struct Direction {
    shared: Arc<Shared>,
    route: Arc<Route>,
    down: bool,
}

impl Direction {
    fn run(self, from: TcpStream, to: TcpStream, ready: Instant) {
        let (packets, arrivals) = sync_channel(self.shared.link.packets_in_flight());
        let sender = self.clone();
        thread::spawn(move || sender.send(from, &packets, ready));
        thread::spawn(move || self.deliver(to, &arrivals));
    }

    fn send(&self, mut from: TcpStream, packets: &SyncSender<(Instant, Vec<u8>)>, ready: Instant) {
        let cable = if self.down {
            &self.shared.down
        } else {
            &self.shared.up
        };
        let mut buffer = vec![0; PACKET];
        loop {
            let Ok(length @ 1..) = from.read(&mut buffer) else {
                return;
            };
            let packet = buffer.get(..length).unwrap_or_default().to_vec();
            let arrives = if self.shared.link == Link::UNSHAPED {
                ready
            } else {
                let occupied = self.shared.link.transmission(length as u64);
                cable.reserve(occupied, ready) + self.shared.link.rtt / 2
            };
            if packets.send((arrives, packet)).is_err() {
                return;
            }
        }
    }

    fn deliver(&self, mut to: TcpStream, arrivals: &Receiver<(Instant, Vec<u8>)>) {
        let counter = if self.down {
            &self.route.down
        } else {
            &self.route.up
        };
        while let Ok((arrives, packet)) = arrivals.recv() {
            thread::sleep(arrives.saturating_duration_since(Instant::now()));
            counter.fetch_add(packet.len() as u64, Ordering::SeqCst);
            if to.write_all(&packet).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each connection's one-byte request with `answer` bytes.
    fn serve(answer: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0];
                if stream.read_exact(&mut request).is_ok() {
                    stream.write_all(&vec![request[0]; answer]).unwrap();
                }
            }
        });
        address
    }

    fn fetch(address: SocketAddr) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"x").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    #[test]
    fn counts_every_byte_and_alters_none() {
        let mut shaper = Shaper::new(Link::UNSHAPED);
        let address = shaper.route(0, serve(1 << 20)).unwrap();
        assert_eq!(fetch(address), vec![b'x'; 1 << 20]);
        assert_eq!(fetch(address).len(), 1 << 20);
        assert_eq!(
            shaper.counts(),
            [Counts {
                down: 2 << 20,
                up: 2,
                connections: 2
            }]
        );
    }

    #[test]
    fn rate_and_delay_hold() {
        let link = Link {
            rate: 40.0,
            rtt: Duration::from_millis(40),
        };
        let mut shaper = Shaper::new(link);
        let address = shaper.route(0, serve(500_000)).unwrap();
        let start = Instant::now();
        assert_eq!(fetch(address).len(), 500_000);
        // handshake + request and answer + transmission
        let least = link.rtt * 2 + link.transmission(500_000);
        let took = start.elapsed();
        assert!(
            took >= least,
            "{took:?} is faster than the link allows ({least:?})"
        );
        assert!(
            took < least * 3,
            "{took:?} is far slower than the link ({least:?})"
        );
    }

    #[test]
    fn connections_share_one_link() {
        let link = Link {
            rate: 40.0,
            rtt: Duration::ZERO,
        };
        let mut shaper = Shaper::new(link);
        let address = shaper.route(0, serve(200_000)).unwrap();
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| fetch(address));
            }
        });
        assert!(
            start.elapsed() >= link.transmission(800_000),
            "four connections outran one link"
        );
    }

    #[test]
    fn dropping_closes_ports_and_connections() {
        let mut shaper = Shaper::new(Link::UNSHAPED);
        let address = shaper.route(0, serve(1)).unwrap();
        let mut idle = TcpStream::connect(address).unwrap();
        idle.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        while shaper.counts()[0].connections == 0 {
            thread::yield_now();
        }
        drop(shaper);
        let mut rest = Vec::new();
        let end = idle.read_to_end(&mut rest);
        assert!(
            matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
        );
    }
}
