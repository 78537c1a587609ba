//! Hosts as clients name them and operators list them, in one spelling each.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// `host:port` with one reading: a DNS name in lower case without its last dot, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Authority {
    pub(crate) host: HostName,
    pub(crate) port: u16,
}

/// What stands before the port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostName {
    Dns(String),
    Address(IpAddr),
}

impl Authority {
    /// Reads `host:port` or `[address]:port`. User names, escapes, empty labels, other spellings of
    /// addresses and ports that are no plain number are no authority.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: HostName::parse(host)?, port: plain_port(port)? })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostName::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl HostName {
    /// Reads a DNS name, an IPv4 address or an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[') {
            return address.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|it| Self::Address(it.into()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            // Without brackets nobody knows where an IPv6 address ends.
            return address.is_ipv4().then_some(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        is_dns_name(&name).then_some(Self::Dns(name))
    }

    pub(crate) fn dns(&self) -> Option<&str> {
        match self {
            Self::Dns(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Hosts that an operator listed: one name or address, or `*.` and a domain for all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    One(HostName),
    Below(String),
}

impl HostPattern {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(domain) => match HostName::parse(domain)? {
                HostName::Dns(domain) => Some(Self::Below(domain)),
                HostName::Address(_) => None,
            },
            None => HostName::parse(text).map(Self::One),
        }
    }

    pub(crate) fn covers(&self, host: &HostName) -> bool {
        match (self, host) {
            (Self::One(one), host) => one == host,
            (Self::Below(domain), HostName::Dns(name)) => {
                name.strip_suffix(domain.as_str()).is_some_and(|front| front.ends_with('.'))
            }
            (Self::Below(_), HostName::Address(_)) => false,
        }
    }

    /// A name that this covers.
    pub(crate) fn sample(&self) -> String {
        match self {
            Self::One(host) => host.to_string(),
            Self::Below(domain) => format!("countersign.{domain}"),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(HostName::Address(IpAddr::V6(address))) => write!(f, "[{address}]"),
            Self::One(host) => write!(f, "{host}"),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// A [`HostPattern`] and the port at it; 443 unless another is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlacePattern {
    pub(crate) host: HostPattern,
    pub(crate) port: u16,
}

impl PlacePattern {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(host) = HostPattern::parse(text) {
            return Some(Self { host, port: 443 });
        }
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: HostPattern::parse(host)?, port: plain_port(port)? })
    }

    pub(crate) fn covers(&self, place: &Authority) -> bool {
        self.port == place.port && self.host.covers(&place.host)
    }
}

/// A port as everyone reads it: no sign, no leading zero, not 0.
fn plain_port(text: &str) -> Option<u16> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // Resolvers read `0x7f.1` and `2130706433` as addresses; no top-level domain starts with a digit.
    let ends_in_letters =
        name.rsplit('.').next().is_some_and(|last| last.starts_with(|first: char| first.is_ascii_alphabetic()));
    name.len() <= 253 && ends_in_letters && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_one_spelling() {
        let read = |text: &str| Authority::parse(text).map(|it| it.to_string());
        for (written, read_as) in [
            ("iam.amazonaws.com:443", "iam.amazonaws.com:443"),
            ("IAM.AmazonAWS.com.:443", "iam.amazonaws.com:443"),
            ("b_1.s3.amazonaws.com:8443", "b_1.s3.amazonaws.com:8443"),
            ("192.0.2.1:443", "192.0.2.1:443"),
            ("[2001:DB8::1]:443", "[2001:db8::1]:443"),
        ] {
            assert_eq!(read(written).as_deref(), Some(read_as), "{written}");
        }
    }

    #[test]
    fn what_has_another_reading_somewhere_is_no_authority() {
        for bad in [
            "",
            "iam.amazonaws.com",
            "iam.amazonaws.com:",
            "iam.amazonaws.com:0",
            "iam.amazonaws.com:0443",
            "iam.amazonaws.com:+443",
            "iam.amazonaws.com:65536",
            "iam.amazonaws.com:https",
            "user@iam.amazonaws.com:443",
            "evil.example:443@iam.amazonaws.com:443",
            "iam.amazonaws.com:443:443",
            "iam%2eamazonaws.com:443",
            "iam.amazonaws.com%00.evil.example:443",
            "iam.amazonaws.com\0.evil.example:443",
            "iam.amazonaws.com/:443",
            "iam.amazonaws.com#:443",
            "iam..amazonaws.com:443",
            "iam.amazonaws.com..:443",
            ".amazonaws.com:443",
            "::1:443",
            "[::1]443",
            "[::1%25eth0]:443",
            "[v1.x]:443",
            "[127.0.0.1]:443",
            "2130706433:443",
            "0x7f.1:443",
            "0x7f000001:443",
            "127.1:443",
            "0177.0.0.1:443",
            "iam.amazonaws.com\u{ff0e}evil.example:443",
            "*.amazonaws.com:443",
        ] {
            assert_eq!(Authority::parse(bad), None, "{bad:?}");
        }
        assert!(Authority::parse(&format!("{}.com:443", "a".repeat(64))).is_none());
        assert!(Authority::parse(&format!("{}com:443", "abc.".repeat(64))).is_none());
    }

    #[test]
    fn a_pattern_covers_whole_labels_only() {
        let covers =
            |pattern: &str, name: &str| HostPattern::parse(pattern).unwrap().covers(&HostName::parse(name).unwrap());
        assert!(covers("*.amazonaws.com", "iam.amazonaws.com"));
        assert!(covers("*.amazonaws.com", "bucket.s3.us-east-1.amazonaws.com"));
        for other in ["amazonaws.com", "evilamazonaws.com", "iam.amazonaws.com.evil.example", "192.0.2.1"] {
            assert!(!covers("*.amazonaws.com", other), "{other}");
        }
        assert!(covers("Deps.Example", "deps.example.") && !covers("deps.example", "files.deps.example"));
        assert!(HostPattern::parse("a.*.example").is_none() && HostPattern::parse("*.1.2.3.4").is_none());
    }

    #[test]
    fn a_place_without_port_is_at_443() {
        let place = |text: &str| Authority::parse(text).unwrap();
        let default = PlacePattern::parse("*.deps.example").unwrap();
        assert!(default.covers(&place("files.deps.example:443")) && !default.covers(&place("files.deps.example:22")));
        let odd = PlacePattern::parse("git.example.com:8443").unwrap();
        assert!(odd.covers(&place("git.example.com:8443")) && !odd.covers(&place("git.example.com:443")));
        assert!(PlacePattern::parse("[2001:db8::1]:5000").unwrap().covers(&place("[2001:db8::1]:5000")));
    }
}
