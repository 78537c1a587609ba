//! How many connections each peer has open, so that one of them cannot take every place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The peers of one listener that have connections open.
#[derive(Debug)]
pub(crate) struct Peers {
    /// Connections that one peer may have.
    limit: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Peers {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: Mutex::default() })
    }

    /// A place for one more connection, given back on drop; `None` when this peer has its share.
    pub(crate) fn seat(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let peer = block(peer);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = open.entry(peer).or_default();
        // A peer at its limit, which is not 0, has an entry that stays.
        (*taken < self.limit).then(|| {
            *taken += 1;
            Seat { peers: Arc::clone(self), peer }
        })
    }
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Seat {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = open.get_mut(&self.peer) {
            *taken -= 1;
            if *taken == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

/// What counts as one peer: whoever has one IPv6 address commonly has its whole /64.
pub(super) fn block(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own_share_and_gets_it_back() {
        let peers = Peers::new(2);
        let seat = |text: &str| peers.seat(text.parse().unwrap());
        let (first, second) = (seat("10.0.0.1").unwrap(), seat("::ffff:10.0.0.1").unwrap());
        assert!(seat("10.0.0.1").is_none(), "however its address is spelled");
        let other = seat("10.0.0.2").unwrap();
        drop(first);
        let third = seat("10.0.0.1").unwrap();
        drop((second, third, other));
        assert!(peers.open.lock().unwrap().is_empty(), "a peer without connections costs nothing");
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let peers = Peers::new(1);
        let seat = |text: &str| peers.seat(text.parse().unwrap());
        let _first = seat("2001:db8:0:1::1").unwrap();
        assert!(seat("2001:db8:0:1:ffff::2").is_none());
        assert!(seat("2001:db8:0:2::1").is_some());
    }
}
