//! Where connections that clients ask for must never lead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;

/// Why no tunnel leads to this address; `None` where one may. Private networks are for the operator to open.
pub(crate) fn forbidden(address: IpAddr, may_be_private: bool) -> Option<&'static str> {
    match inner(address) {
        IpAddr::V4(ip) => forbidden_v4(ip, may_be_private),
        IpAddr::V6(ip) => forbidden_v6(ip, may_be_private),
    }
}

fn forbidden_v4(ip: Ipv4Addr, may_be_private: bool) -> Option<&'static str> {
    // Metadata services that stand outside of the link-local block: Azure, Alibaba, Oracle.
    const METADATA: [Ipv4Addr; 3] =
        [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
    let [first, second, ..] = ip.octets();
    match ip {
        _ if METADATA.contains(&ip) => Some("a metadata service"),
        _ if ip.is_loopback() || first == 0 => Some("a loopback address"),
        _ if ip.is_link_local() => Some("a link-local address, as metadata services have"),
        _ if first >= 224 => Some("no address of one host"),
        _ if ip.is_private() || (first == 100 && second & 0xc0 == 64) => {
            (!may_be_private).then_some("an address of a private network")
        }
        _ => None,
    }
}

fn forbidden_v6(ip: Ipv6Addr, may_be_private: bool) -> Option<&'static str> {
    // That of EC2.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match ip {
        METADATA => Some("a metadata service"),
        _ if ip.is_loopback() || ip.is_unspecified() => Some("a loopback address"),
        _ if ip.is_unicast_link_local() => Some("a link-local address, as metadata services have"),
        _ if ip.is_multicast() => Some("no address of one host"),
        _ if ip.is_unique_local() => (!may_be_private).then_some("an address of a private network"),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address stands for, where it does: mapped, compatible (RFC 4291), by
/// NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(ip) = address else { return address };
    let v4 = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// The addresses at which this process itself listens, once it does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own(Arc<OnceLock<Vec<SocketAddr>>>);

impl Own {
    /// Says where this process listens; the first word counts.
    pub(crate) fn set(&self, listeners: Vec<SocketAddr>) {
        // It is said once, by the composition root.
        drop(self.0.set(listeners));
    }

    /// Whether a connection that was just made ends at a listener of this process.
    pub(crate) fn is_at_other_end(&self, tcp: &TcpStream) -> bool {
        let (Ok(peer), Ok(local)) = (tcp.peer_addr(), tcp.local_addr()) else { return false };
        self.leads_home(peer, local.ip())
    }

    /// `from` is the source the system chose: to one of its own addresses it goes from that address.
    fn leads_home(&self, to: SocketAddr, from: IpAddr) -> bool {
        let is_here = inner(to.ip()).is_loopback() || inner(to.ip()) == inner(from);
        let mut listeners = self.0.get().into_iter().flatten();
        listeners.any(|own| {
            own.port() == to.port() && (inner(own.ip()) == inner(to.ip()) || (own.ip().is_unspecified() && is_here))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(address: &str) -> Option<&'static str> {
        forbidden(address.parse().unwrap(), false)
    }

    #[test]
    fn tunnels_lead_to_public_hosts_only() {
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "169.254.169.254",
            "169.254.170.2",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fd00:ec2::254",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
        ] {
            assert!(reason(address).is_some(), "{address}");
        }
        for address in ["192.0.2.1", "100.128.0.1", "172.32.0.1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert_eq!(reason(address), None, "{address}");
        }
    }

    #[test]
    fn private_networks_can_be_opened_and_nothing_else() {
        let reason = |address: &str| forbidden(address.parse().unwrap(), true);
        for address in ["10.0.0.1", "192.168.1.1", "100.64.0.1", "fc00::1"] {
            assert_eq!(reason(address), None, "{address}");
        }
        for address in ["127.0.0.1", "169.254.169.254", "fd00:ec2::254", "100.100.100.200", "::1"] {
            assert!(reason(address).is_some(), "{address}");
        }
    }

    #[test]
    fn own_listeners_are_known_by_any_address_of_this_machine() {
        let own = Own::default();
        let leads_home = |to: &str, from: &str| own.leads_home(to.parse().unwrap(), from.parse().unwrap());
        assert!(!leads_home("127.0.0.1:8703", "127.0.0.1"), "nobody listens yet");
        own.set(vec!["0.0.0.0:8703".parse().unwrap(), "10.0.0.5:443".parse().unwrap()]);
        assert!(leads_home("127.0.0.1:8703", "127.0.0.1"));
        assert!(leads_home("127.9.9.9:8703", "127.0.0.1"));
        assert!(leads_home("10.0.0.7:8703", "10.0.0.7"));
        assert!(leads_home("10.0.0.5:443", "10.0.0.5"));
        assert!(leads_home("[::ffff:10.0.0.5]:443", "::ffff:10.0.0.5"));
        assert!(!leads_home("10.0.0.9:8703", "10.0.0.5"), "another machine");
        assert!(!leads_home("10.0.0.5:8704", "10.0.0.5"), "another port");
    }
}
