//! Wake-on-LAN: the packet that switches a machine on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use wire::machine::Mac;

/// Six bytes `ff`, then 16 times the card's address.
const PACKET_LEN: usize = 6 + 16 * 6;
/// Packets for each card, because the network may lose one.
const TIMES: usize = 3;

/// Builds the packet for a card.
#[must_use]
pub fn packet(mac: Mac) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    packet.reserve(PACKET_LEN);
    for _ in 0..16 {
        packet.extend_from_slice(&mac.bytes());
    }
    packet
}

/// Sends the packets for `cards` to an address, usually the broadcast address of their network.
///
/// # Errors
/// The network cannot be reached.
pub fn wake(cards: &[Mac], to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_broadcast(true)?;
    for _ in 0..TIMES {
        for mac in cards {
            socket.send_to(&packet(*mac), to)?;
        }
    }
    Ok(())
}
