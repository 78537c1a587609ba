//! What a virtual key is bound to besides its agent and its time: where it is used, and for which task.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::id::is_plain_name;

/// Empty: it is good from anywhere and for anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binding {
    /// The networks that it may come from; none: any.
    pub(crate) from: Vec<IpNet>,
    /// The task that its requests are for, whatever they say themselves.
    pub(crate) task: Option<String>,
}

impl Binding {
    /// Reads a network, `10.0.0.0/8`, or a single address.
    ///
    /// # Errors
    /// When it is neither; the text says what is wanted.
    pub(crate) fn network(text: &str) -> Result<IpNet, String> {
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let network = network.ok_or("give an address or a network: 10.1.2.3, 10.0.0.0/8, fd00::/8")?;
        if network.addr() == network.network() {
            Ok(network)
        } else {
            Err(format!("it has bits set behind its prefix; did you mean {}?", network.trunc()))
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from.is_empty() && self.task.is_none()
    }

    /// Whether a connection from there may use the key.
    pub(super) fn admits(&self, peer: IpAddr) -> bool {
        self.from.is_empty() || self.from.iter().any(|network| network.contains(&peer.to_canonical()))
    }

    /// As it stands in the id of a short-lived key: the task with its length in front, then each network as the
    /// bytes of its address (4 or 16, said in front) and its prefix.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        let task = self.task.as_deref().unwrap_or_default();
        bytes.push(u8::try_from(task.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(task.as_bytes());
        for network in &self.from {
            match network.addr() {
                IpAddr::V4(address) => bytes.extend([&[4], &address.octets()[..]].concat()),
                IpAddr::V6(address) => bytes.extend([&[16], &address.octets()[..]].concat()),
            }
            bytes.push(network.prefix_len());
        }
    }

    /// Reads it back, maybe with zeros behind it; `None` when it is not laid out so.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let Some((length, rest)) = bytes.split_first() else { return Some(Self::default()) };
        let (task, mut rest) = rest.split_at_checked(usize::from(*length))?;
        let task = std::str::from_utf8(task).ok()?;
        let task = if task.is_empty() { None } else { Some(task).filter(|it| is_plain_name(it)).map(Some)? };
        let mut from = Vec::new();
        while let Some((kind, after)) = rest.split_first().filter(|_| rest.iter().any(|it| *it != 0)) {
            let (address, after) = match kind {
                4 => after.split_first_chunk().map(|(it, after)| (IpAddr::V4(Ipv4Addr::from_octets(*it)), after))?,
                16 => after.split_first_chunk().map(|(it, after)| (IpAddr::V6(Ipv6Addr::from_octets(*it)), after))?,
                _ => return None,
            };
            let (prefix, after) = after.split_first()?;
            from.push(IpNet::new(address, *prefix).ok()?);
            rest = after;
        }
        // One binding has one form: an id cannot be written in another way.
        let read = Self { from, task: task.map(str::to_owned) };
        (rest.len() < 5 && !read.is_empty()).then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binding(from: &[&str], task: Option<&str>) -> Binding {
        let from = from.iter().map(|it| Binding::network(it).unwrap()).collect();
        Binding { from, task: task.map(str::to_owned) }
    }

    #[test]
    fn a_key_is_good_from_its_networks_alone() {
        let bound = binding(&["10.1.0.0/16", "192.0.2.7", "fd00::/8"], None);
        for (peer, is_admitted) in [
            ("10.1.255.1", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(bound.admits(peer.parse().unwrap()), is_admitted, "{peer}");
        }
        assert!(Binding::default().admits("203.0.113.1".parse().unwrap()));
        for wrong in ["10.1.2.3/16", "10.0.0.0/33", "ten", ""] {
            assert!(Binding::network(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for bound in [
            Binding::default(),
            binding(&[], Some("build-42")),
            binding(&["10.0.0.0/8"], None),
            binding(&["10.0.0.0/8", "fd00::/8", "192.0.2.7"], Some("x")),
        ] {
            let mut bytes = Vec::new();
            bound.write(&mut bytes);
            for padding in 0..if bound.is_empty() { 1 } else { 5 } {
                let padded = [&bytes[..], &[0; 5][..padding]].concat();
                assert_eq!(Binding::read(&padded), Some(bound.clone()));
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            drop(Binding::read(&bytes));
        }
    }
}
