//! What is said about the doors by which agents come without an endpoint of ours: as a proxy, as AWS itself.

use std::path::PathBuf;
use std::time::Duration;

use super::page::{Page, spelled};
use crate::net::authority::{HostPattern, PlacePattern};
use crate::net::leaf;
use crate::plane::proxy;
use crate::yaml::{Diagnostic, Node, Problems};

pub(super) fn socket(page: &mut Page<'_>) -> Option<PathBuf> {
    let read = |node: &Node, problems: &Problems| {
        let text = node.text(problems)?;
        Some((text != "none").then(|| text.to_owned()))
    };
    let spell = |path: &Option<String>| path.as_deref().map_or_else(|| "none".to_owned(), spelled);
    page.value("agents_socket", None, read, spell).map(|path| page.resolve(&path))
}

pub(super) fn interception(page: &mut Page<'_>) -> leaf::Options {
    let host = |node: &Node, problems: &Problems, text: &str| {
        let pattern = HostPattern::parse(text);
        if pattern.is_none() {
            let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no host"));
            problems.push(finding.help("a name such as `iam.amazonaws.com`, or `*.amazonaws.com` for all below it"));
        }
        pattern
    };
    let of_default = |text: &str| HostPattern::parse(text);
    let defaults =
        page.list("hosts", &AWS_HOSTS, |node, problems, text| host(node, problems, text).map(Some), of_default);
    leaf::Options {
        ca: page.path("ca", "interception/ca.pem"),
        key: page.path("key", "interception/ca.key"),
        hosts: defaults.into_iter().flatten().collect(),
        lifetime: page.duration("leaf_lifetime", Duration::from_secs(24 * 3600)),
        kept: page.count("kept_leaves", 1000, 1_000_000),
    }
}

pub(super) fn proxy(page: &mut Page<'_>) -> proxy::Options {
    let place = |node: &Node, problems: &Problems, text: &str| {
        let pattern = PlacePattern::parse(text);
        if pattern.is_none() {
            let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no host"));
            problems.push(
                finding.help("a name such as `packages.example`, `*.packages.example` or `git.example.com:8443`"),
            );
        }
        pattern.map(Some)
    };
    let tunnel = page.list("tunnel", &[], place, PlacePattern::parse);
    proxy::Options {
        tunnel: tunnel.into_iter().flatten().collect(),
        private_addresses: page.boolean("private_addresses", false),
        credentials_required: page.boolean("credentials_required", false),
        connect_timeout: page.duration("connect_timeout", Duration::from_secs(10)),
        idle_timeout: page.duration("idle_timeout", Duration::from_secs(15 * 60)),
    }
}

/// Everything below the suffixes of AWS's partitions. `certs/make-ca` makes a CA for these.
const AWS_HOSTS: [&str; 16] = [
    "*.amazonaws.com",
    "*.amazonaws.com.cn",
    "*.amazonaws.eu",
    "*.api.amazonwebservices.com.cn",
    "*.api.amazonwebservices.eu",
    "*.api.aws",
    "*.api.aws.hci.ic.gov",
    "*.api.aws.ic.gov",
    "*.api.aws.scloud",
    "*.api.cloud-aws.adc-e.uk",
    "*.c2s.ic.gov",
    "*.cloud.adc-e.uk",
    "*.csp.hci.ic.gov",
    "*.on.aws",
    "*.sc2s.sgov.gov",
    "*.signin.aws.amazon.com",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_of_the_facts_is_intercepted() {
        for partition in crate::catalog::aws::in_force().partitions() {
            for suffix in [partition.suffix, partition.dual] {
                assert!(AWS_HOSTS.contains(&format!("*.{suffix}").as_str()), "{suffix}");
            }
        }
    }
}
