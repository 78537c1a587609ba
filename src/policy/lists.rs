//! What grants access without being a policy: access control lists, the public access block, grants of
//! keys, rules of security groups, attached policies.

use serde_json::Value;

use super::danger::{account, of_managed};
use super::{Entry, listed, quoted};
use crate::wire::aws::xml::Element;

/// One grant of an access control list of S3.
fn grant(grantee: &Grantee, permission: &str, owner: Option<&str>) -> Entry {
    let permission = permission.to_ascii_uppercase();
    let (who, danger) = match grantee {
        Grantee::Group(uri) => match uri.rsplit('/').next().unwrap_or(uri) {
            "AllUsers" => ("anybody".to_owned(), Some(format!("public: anybody has {}", quoted(&permission)))),
            "AuthenticatedUsers" => (
                "anybody with an AWS account".to_owned(),
                Some(format!("public: anybody with an AWS account has {}", quoted(&permission))),
            ),
            name => (format!("the group {}", quoted(name)), None),
        },
        Grantee::User(id) if owner == Some(id) => ("the owner".to_owned(), None),
        Grantee::User(id) => {
            let who = format!("the account with the canonical id {}", quoted(id));
            let danger = format!("another account than the owner's has {}: {}", quoted(&permission), quoted(id));
            (who, Some(danger))
        }
        Grantee::Email(address) => {
            let danger = format!("another account has {}: that of {}", quoted(&permission), quoted(address));
            (format!("the account of {}", quoted(address)), Some(danger))
        }
    };
    Entry::plain(format!("{} for {who}", quoted(&permission)), danger.into_iter().collect())
}

enum Grantee {
    Group(String),
    User(String),
    Email(String),
}

/// An access control list as S3 gives it, with its owner.
pub(crate) fn access_list(root: &Element) -> (Vec<Entry>, Option<String>) {
    let owner = root.child("Owner").and_then(|it| it.child("ID")).map(|it| it.text().to_owned());
    let grants = root.child("AccessControlList").into_iter().flat_map(|it| it.children("Grant"));
    let entries = grants.filter_map(|it| {
        let (grantee, permission) = (it.child("Grantee")?, it.child("Permission")?.text());
        let text = |name: &str| grantee.child(name).map(|it| it.text().to_owned());
        let grantee = text("URI").map(Grantee::Group).or_else(|| text("ID").map(Grantee::User));
        let grantee = grantee.or_else(|| text("EmailAddress").map(Grantee::Email))?;
        Some(grant(&grantee, permission, owner.as_deref()))
    });
    (entries.collect(), owner)
}

/// The access control list that a request of S3 sets; an error where it cannot be made out.
///
/// # Errors
/// When it has a form that is not known here.
pub(crate) fn wanted_access_list(parameters: &Value, owner: Option<&str>) -> Result<Vec<Entry>, String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut entries = Vec::new();
    if let Some(canned) = text(parameters, "ACL") {
        let group = |name: &str| Grantee::Group(format!("http://acs.amazonaws.com/groups/global/{name}"));
        entries.push(Entry::plain("FULL_CONTROL for the owner".to_owned(), Vec::new()));
        let more: &[(Grantee, &str)] = match canned.as_str() {
            "private" => &[],
            "public-read" => &[(group("AllUsers"), "READ")],
            "public-read-write" => &[(group("AllUsers"), "READ"), (group("AllUsers"), "WRITE")],
            "authenticated-read" => &[(group("AuthenticatedUsers"), "READ")],
            other => {
                entries.push(Entry::plain(format!("what the canned list {} says", quoted(other)), Vec::new()));
                &[]
            }
        };
        entries.extend(more.iter().map(|(grantee, permission)| grant(grantee, permission, owner)));
    }
    for (name, permission) in [
        ("GrantFullControl", "FULL_CONTROL"),
        ("GrantRead", "READ"),
        ("GrantReadACP", "READ_ACP"),
        ("GrantWrite", "WRITE"),
        ("GrantWriteACP", "WRITE_ACP"),
    ] {
        for grantee in text(parameters, name).unwrap_or_default().split(',').filter(|it| !it.trim().is_empty()) {
            let (kind, value) = grantee.split_once('=').ok_or("a grant names nobody")?;
            let value = value.trim().trim_matches('"').to_owned();
            let grantee = match kind.trim().to_ascii_lowercase().as_str() {
                "uri" => Grantee::Group(value),
                "id" => Grantee::User(value),
                "emailaddress" => Grantee::Email(value),
                _ => return Err("a grant names its grantee in an unknown way".to_owned()),
            };
            entries.push(grant(&grantee, permission, owner));
        }
    }
    let grants = parameters.pointer("/AccessControlPolicy/Grants").and_then(Value::as_array);
    for it in grants.into_iter().flatten() {
        let (named, permission) = (it.get("Grantee").unwrap_or(&Value::Null), text(it, "Permission"));
        let grantee = text(named, "URI").map(Grantee::Group).or_else(|| text(named, "ID").map(Grantee::User));
        let grantee = grantee.or_else(|| text(named, "EmailAddress").map(Grantee::Email));
        match (grantee, permission) {
            (Some(grantee), Some(permission)) => entries.push(grant(&grantee, &permission, owner)),
            _ => return Err("a grant names nobody".to_owned()),
        }
    }
    match entries.is_empty() && parameters.get("AccessControlPolicy").is_none() {
        true => Err("the request says no list".to_owned()),
        false => Ok(entries),
    }
}

/// The four switches of a public access block; one that is absent is off.
pub(crate) fn public_access_block(is_on: impl Fn(&str) -> bool) -> Vec<Entry> {
    let switch = |name: &str| match is_on(name) {
        true => Entry::plain(format!("{name}: on"), Vec::new()),
        false => {
            Entry::plain(format!("{name}: off"), vec![format!("public access is no more kept out: {name} is off")])
        }
    };
    ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"].map(switch).into()
}

/// A rule of a security group, of the parts that make one.
fn network_rule(direction: &str, protocol: &str, ports: (Option<i64>, Option<i64>), peer: &str) -> Entry {
    let protocol = match protocol {
        "-1" | "" => "all protocols",
        "6" => "tcp",
        "17" => "udp",
        other => other,
    };
    let all = protocol == "all protocols";
    let ports = match ports {
        _ if all => "all ports".to_owned(),
        (None | Some(-1), None | Some(-1)) | (Some(0), Some(65535)) => "all ports".to_owned(),
        (Some(from), Some(to)) if from == to => format!("port {from}"),
        (from, to) => format!("ports {} to {}", from.unwrap_or(-1), to.unwrap_or(-1)),
    };
    let way = if direction == "egress" { "to" } else { "from" };
    let text = format!("{direction}: {}, {ports}, {way} {}", quoted(protocol), quoted(peer));
    let breadth = peer.split_once('/').and_then(|(_, bits)| bits.parse::<u8>().ok());
    let least = if peer.contains(':') { 16 } else { 8 };
    let open = match breadth {
        Some(0) => Some("open to everybody"),
        Some(bits) if bits < least => Some("open to a large part of the internet"),
        _ => None,
    };
    let danger = open.map(|open| format!("{open}: {direction} {way} {}, {}, {ports}", quoted(peer), quoted(protocol)));
    Entry::plain(text, danger.into_iter().collect())
}

/// The rules in a list of `IpPermissions`, as EC2 gives it.
pub(crate) fn present_network_rules(group: &Element, direction: &str) -> Vec<Entry> {
    let list = if direction == "egress" { "ipPermissionsEgress" } else { "ipPermissions" };
    let mut entries = Vec::new();
    for permission in group.child(list).into_iter().flat_map(|it| it.children("item")) {
        let text = |name: &str| permission.child(name).map(Element::text);
        let port = |name: &str| text(name).and_then(|it| it.parse().ok());
        let (protocol, ports) = (text("ipProtocol").unwrap_or_default(), (port("fromPort"), port("toPort")));
        for (list, name) in [
            ("ipRanges", "cidrIp"),
            ("ipv6Ranges", "cidrIpv6"),
            ("groups", "groupId"),
            ("prefixListIds", "prefixListId"),
        ] {
            let peers = permission.child(list).into_iter().flat_map(|it| it.children("item"));
            let peers = peers.filter_map(|it| it.child(name)).map(Element::text);
            entries.extend(peers.map(|peer| network_rule(direction, protocol, ports, peer)));
        }
    }
    entries
}

/// The rules that a request adds or takes away.
pub(crate) fn wanted_network_rules(parameters: &Value, direction: &str, own_account: Option<&str>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let listed = parameters.get("IpPermissions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // The rule of a request may also stand in its own parameters.
    for permission in listed.iter().chain(std::iter::once(parameters)) {
        let text = |name: &str| permission.get(name).and_then(Value::as_str);
        let port = |name: &str| permission.get(name).and_then(Value::as_i64);
        let (protocol, ports) = (text("IpProtocol").unwrap_or_default(), (port("FromPort"), port("ToPort")));
        let mut add = |peer: &str| entries.push(network_rule(direction, protocol, ports, peer));
        ["CidrIp", "CidrIpv4", "CidrIpv6", "ReferencedGroupId", "PrefixListId", "SourceSecurityGroupName"]
            .into_iter()
            .filter_map(text)
            .for_each(&mut add);
        for (list, name) in [("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"), ("PrefixListIds", "PrefixListId")] {
            let peers = permission.get(list).and_then(Value::as_array).into_iter().flatten();
            peers.filter_map(|it| it.get(name).and_then(Value::as_str)).for_each(&mut add);
        }
        for pair in permission.get("UserIdGroupPairs").and_then(Value::as_array).into_iter().flatten() {
            let name = |name: &str| pair.get(name).and_then(Value::as_str);
            let group = name("GroupId").or_else(|| name("GroupName")).unwrap_or_default();
            let mut entry = network_rule(direction, protocol, ports, group);
            if let Some(other) = name("UserId").filter(|it| own_account.is_some_and(|own| own != *it)) {
                entry.dangers.push(format!("a security group of another account, {}", quoted(other)));
            }
            entries.push(entry);
        }
    }
    for rule in parameters.get("SecurityGroupRules").and_then(Value::as_array).into_iter().flatten() {
        if let Some(rule) = rule.get("SecurityGroupRule") {
            entries.extend(wanted_network_rules(&without_lists(rule), direction, own_account));
        }
    }
    entries
}

/// One level of rules within rules is all there is.
fn without_lists(rule: &Value) -> Value {
    let mut rule = rule.clone();
    if let Some(members) = rule.as_object_mut() {
        members.remove("SecurityGroupRules");
        members.remove("IpPermissions");
    }
    rule
}

/// A grant of a key, in a request or in the list of them.
pub(crate) fn key_grant(grant: &Value, own_account: Option<&str>) -> Entry {
    let text = |name: &str| grant.get(name).and_then(Value::as_str).unwrap_or_default();
    let operations = grant.get("Operations").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut operations: Vec<&str> = operations.collect();
    operations.sort_unstable();
    let grantee = text("GranteePrincipal");
    let constraints = match grant.get("Constraints").and_then(Value::as_object) {
        Some(constraints) if !constraints.is_empty() => {
            format!(" if {}", quoted(&Value::from(constraints.clone()).to_string()))
        }
        _ => String::new(),
    };
    let mut dangers = Vec::new();
    if let Some(other) = account(grantee).filter(|it| Some(*it) != own_account) {
        let whose = if own_account.is_some() { "another account" } else { "an account" };
        dangers.push(format!("{whose}, {other}, may {}{constraints}", listed(operations.iter().copied())));
    }
    if operations.contains(&"CreateGrant") {
        dangers.push(format!("{} may give grants of this key to others", quoted(grantee)));
    }
    let text = format!("{} for {}{constraints}", listed(operations), quoted(grantee));
    Entry { sid: grant.get("GrantId").and_then(Value::as_str).map(str::to_owned), ..Entry::plain(text, dangers) }
}

/// That a policy is attached, or bounds what others give.
pub(crate) fn policy_name(role: &str, arn: &str) -> Entry {
    let dangers = if role == "boundary" { Vec::new() } else { of_managed(arn) };
    Entry::plain(format!("{role} {}", quoted(arn)), dangers)
}
