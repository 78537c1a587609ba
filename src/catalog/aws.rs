//! The AWS fact table: services, hosts, operations, input shapes, IAM actions, access levels.
//!
//! A table holds an index and one block per service; a block is decoded when its service is first asked
//! for. What is read from a table stays for the life of the process, so that every name in it is
//! `&'static`. The table in force is the built-in one until another is put in its place; a request is
//! named by one table from beginning to end, which [`Table`] as `&'static` makes cheap. A block that
//! cannot be read is an unknown service: then every request of it is unknown, none is waved through.

use std::borrow::Cow;
use std::fmt;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use hashbrown::{Equivalent, HashMap};
use serde::{Deserialize, Deserializer};
use smallvec::SmallVec;

pub(crate) mod file;
pub(crate) mod operation;
pub(crate) mod shape;

use crate::digest::Digest;
use operation::Operation;
use shape::Shape;

/// The table of this build.
pub(crate) fn built_in() -> &'static Table {
    // A test proves that it reads. If it did not, the empty table names nothing.
    static BUILT_IN: LazyLock<&'static Table> =
        LazyLock::new(|| file::read_for_good(file::BUILT_IN, "built-in").unwrap_or_else(|_| file::empty()));
    *BUILT_IN
}

static IN_FORCE: LazyLock<ArcSwap<&'static Table>> = LazyLock::new(|| ArcSwap::from_pointee(built_in()));

/// The table of this process where it serves nothing: a server has that of the rules in force.
pub(crate) fn in_force() -> &'static Table {
    **IN_FORCE.load()
}

/// Makes it the table of this process.
pub(crate) fn put_in_force(table: &'static Table) {
    IN_FORCE.store(std::sync::Arc::new(table));
}

/// Every table that was read. What is named by one may live long, so that each stays; none is read twice.
static READ: Mutex<Vec<&'static Table>> = Mutex::new(Vec::new());

/// The table of that digest, where this process has read it.
pub(crate) fn known(digest: Digest) -> Option<&'static Table> {
    let read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    std::iter::once(built_in()).chain(read.iter().copied()).find(|table| table.digest == digest)
}

/// Number of a service in its table; what look-ups return and [`Table::service`] takes.
pub(crate) type ServiceNumber = u16;

/// Facts about AWS, of one making.
pub(crate) struct Table {
    pub(crate) digest: Digest,
    /// Where it was read from.
    pub(crate) origin: String,
    /// What it was made from: `botocore 1.44.5`.
    pub(crate) sources: Vec<&'static str>,
    partitions: Vec<Partition<'static>>,
    services: Vec<ServiceEntry<'static>>,
    /// By the number of labels in front that name an account or resource.
    hosts: [Hosts; 3],
    /// Known regions, and the index of their partition.
    regions: HashMap<&'static str, usize>,
    names_at: (usize, usize),
    names: OnceLock<Vec<&'static str>>,
    by_signing_name: HashMap<&'static str, Vec<ServiceNumber>>,
    by_target: HashMap<&'static str, Vec<ServiceNumber>>,
    unsigned: Vec<ServiceNumber>,
    forms: Vec<ServiceNumber>,
    decoded: Vec<OnceLock<Option<Service>>>,
    /// The packed blocks.
    blocks: &'static [u8],
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({}, {})", self.digest, self.version())
    }
}

impl Table {
    /// The sources and their versions: `botocore 1.44.5, …`.
    pub(crate) fn version(&self) -> String {
        self.sources.join(", ")
    }

    /// Whether its first source, the service descriptions, is of an earlier version.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        let version = |table: &Self| {
            let (name, version) = table.sources.first()?.split_once(' ')?;
            let numbers: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
            Some((name, numbers))
        };
        match (version(self), version(other)) {
            (Some((one, mine)), Some((two, theirs))) => one == two && mine < theirs,
            _ => false,
        }
    }

    /// Every action name the table knows: `aws:<IAM prefix>:<operation>`, sorted, each once.
    pub(crate) fn action_names(&self) -> &[&'static str] {
        self.names.get_or_init(|| {
            let mut names: Vec<&'static str> = file::names(self.blocks, self.names_at)
                .iter()
                .flat_map(|(prefix, operations)| operations.iter().map(move |it| format!("aws:{prefix}:{it}")))
                .map(|name| &*Box::leak(name.into_boxed_str()))
                .collect();
            names.sort_unstable();
            names
        })
    }

    /// The operation behind an action's name; that of the first service where several share the prefix.
    pub(crate) fn operation_named(&'static self, action: &str) -> Option<&'static Operation> {
        let (prefix, name) = action.strip_prefix("aws:")?.split_once(':')?;
        let services = self.services.iter().zip(0..).filter(|(entry, _)| entry.prefix == prefix);
        services.filter_map(|(_, number)| self.service(number)).find_map(|service| service.operation(name))
    }

    /// The services of the index, in order.
    pub(crate) fn services(&self) -> &[ServiceEntry<'static>] {
        &self.services
    }

    /// The services whose requests are signed for that name.
    pub(crate) fn services_signed_as(&self, signing_name: &str) -> &[ServiceNumber] {
        self.by_signing_name.get(signing_name).map_or(&[], Vec::as_slice)
    }

    /// A signing name for good, where the table has it.
    pub(crate) fn signing_name(&self, text: &str) -> Cow<'static, str> {
        let known = self.by_signing_name.get_key_value(text);
        known.map_or_else(|| Cow::Owned(text.to_owned()), |(known, _)| Cow::Borrowed(*known))
    }

    /// The services behind a host name without region, in front of which that many labels name an account or resource.
    pub(crate) fn services_at(&self, labels: usize, host: &str) -> Option<&[ServiceNumber]> {
        self.hosts.get(labels)?.plain.get(host).map(Vec::as_slice)
    }

    /// The same for a host name with a region: what stands before and behind that label.
    pub(crate) fn services_around(&self, labels: usize, before: &str, behind: &str) -> Option<&[ServiceNumber]> {
        self.hosts.get(labels)?.regional.get(&Asked(before, behind)).map(Vec::as_slice)
    }

    /// The services with that `X-Amz-Target` prefix: one, or the two Timestreams.
    pub(crate) fn services_with_target(&self, prefix: &str) -> &[ServiceNumber] {
        self.by_target.get(prefix).map_or(&[], Vec::as_slice)
    }

    /// The services that have operations which need no signature.
    pub(crate) fn services_without_signature(&self) -> &[ServiceNumber] {
        &self.unsigned
    }

    /// The services that speak a form protocol, for requests that say nothing but `Action` and `Version`.
    pub(crate) fn services_with_forms(&self) -> &[ServiceNumber] {
        &self.forms
    }

    /// What the index says about a service without decoding its block.
    pub(crate) fn entry(&self, number: ServiceNumber) -> Option<&ServiceEntry<'static>> {
        self.services.get(usize::from(number))
    }

    /// The partition a region belongs to; regions younger than the table are placed by their name.
    pub(crate) fn partition_of(&self, region: &str) -> Option<&Partition<'static>> {
        let known = self.regions.get(region).and_then(|index| self.partitions.get(*index));
        known.or_else(|| {
            let id = partition_by_name(region)?;
            self.partitions.iter().find(|it| it.id == id)
        })
    }

    /// A region's name for good, where the table has it.
    pub(crate) fn region_name(&self, text: &str) -> Cow<'static, str> {
        let known = self.regions.get_key_value(text);
        known.map_or_else(|| Cow::Owned(text.to_owned()), |(known, _)| Cow::Borrowed(*known))
    }

    /// All partitions, for their DNS suffixes.
    pub(crate) fn partitions(&self) -> &[Partition<'static>] {
        &self.partitions
    }

    /// One service, decoded; `None` only for a number that is not in the table or a damaged block.
    pub(crate) fn service(&'static self, number: ServiceNumber) -> Option<&'static Service> {
        let index = usize::from(number);
        let decode = || Service::decode(self.services.get(index)?, self.blocks);
        self.decoded.get(index)?.get_or_init(decode).as_ref()
    }

    fn new(index: file::Index<'static>, digest: Digest, origin: String, blocks: &'static [u8]) -> Self {
        let mut table = Self {
            digest,
            origin,
            sources: index.sources,
            partitions: index.partitions,
            hosts: by_labels(index.hosts),
            regions: HashMap::new(),
            names_at: index.names,
            names: OnceLock::new(),
            by_signing_name: HashMap::new(),
            by_target: HashMap::new(),
            unsigned: Vec::new(),
            forms: Vec::new(),
            decoded: index.services.iter().map(|_| OnceLock::new()).collect(),
            services: index.services,
            blocks,
        };
        // The first of two partitions that list a region has it.
        for (index, partition) in table.partitions.iter().enumerate().rev() {
            table.regions.extend(partition.regions.iter().map(|region| (*region, index)));
        }
        for (entry, number) in table.services.iter_mut().zip(0..) {
            entry.speaks_forms = entry.speaks("query") || entry.speaks("ec2");
            entry.speaks_rest = entry.speaks("rest-json") || entry.speaks("rest-xml");
            for name in std::iter::once(&entry.signing_name).chain(&entry.also_signed_as) {
                table.by_signing_name.entry(name).or_default().push(number);
            }
            if let Some(prefix) = entry.target_prefix {
                table.by_target.entry(prefix).or_default().push(number);
            }
            // SDKs that are made from the newer models send what stands behind the last dot.
            if let Some((_, name)) = entry.target_prefix.and_then(|prefix| prefix.rsplit_once('.')) {
                table.by_target.entry(name).or_default().push(number);
            }
            if entry.has_unsigned == 1 {
                table.unsigned.push(number);
            }
            if entry.speaks_forms {
                table.forms.push(number);
            }
        }
        table
    }
}

/// The partition that a region's name shows. Each form ends in a number, most labels of a host name do not.
fn partition_by_name(region: &str) -> Option<&'static str> {
    if !region.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some(match region.split('-').collect::<SmallVec<[_; 8]>>().as_slice() {
        ["us", "gov", _, number] if is_number(number) => "aws-us-gov",
        ["us", "iso", _, number] if is_number(number) => "aws-iso",
        ["us", "isob", _, number] if is_number(number) => "aws-iso-b",
        ["us", "isof", _, number] if is_number(number) => "aws-iso-f",
        ["eu", "isoe", _, number] if is_number(number) => "aws-iso-e",
        ["eusc", _, _, number] if is_number(number) => "aws-eusc",
        ["cn", _, number] if is_number(number) => "aws-cn",
        [place, side, number] if place.len() == 2 && is_word(place) && is_word(side) && is_number(number) => "aws",
        _ => return None,
    })
}

/// A service as the index lists it.
#[derive(Debug, Deserialize)]
pub(crate) struct ServiceEntry<'t> {
    /// botocore's name, `sesv2`.
    pub(crate) id: &'t str,
    #[serde(rename = "sg")]
    pub(crate) signing_name: &'t str,
    /// Other names its hosts are signed for.
    #[serde(rename = "sa", default)]
    also_signed_as: Vec<&'t str>,
    /// IAM service prefix: the second part of an action's name.
    #[serde(rename = "px")]
    pub(crate) prefix: &'t str,
    #[serde(rename = "pr")]
    pub(crate) protocols: Vec<&'t str>,
    /// API versions that a form request may name.
    #[serde(rename = "vs")]
    pub(crate) versions: Vec<&'t str>,
    #[serde(rename = "tp", default)]
    pub(crate) target_prefix: Option<&'t str>,
    /// 1 when some operation needs no signature.
    #[serde(rename = "un", default)]
    has_unsigned: u8,
    #[serde(rename = "ep", deserialize_with = "quick", borrow)]
    endpoints: HashMap<&'t str, Endpoints<'t>>,
    #[serde(rename = "at")]
    at: (usize, usize),
    #[serde(skip)]
    pub(crate) speaks_forms: bool,
    #[serde(skip)]
    pub(crate) speaks_rest: bool,
}

impl<'t> ServiceEntry<'t> {
    pub(crate) fn speaks(&self, protocol: &str) -> bool {
        self.protocols.contains(&protocol)
    }

    /// Where the service lives for that region of that partition.
    pub(crate) fn endpoint(&self, partition: &str, region: &str) -> Option<&Endpoint<'t>> {
        let endpoints = self.endpoints.get(partition)?;
        Some(endpoints.special.get(region).unwrap_or(&endpoints.usual))
    }

    /// Whether that host, without a region in it, is one of the service's in that partition.
    pub(crate) fn has_host(&self, partition: &str, host: &str) -> bool {
        let endpoints = self.endpoints.get(partition);
        endpoints.is_some_and(|it| it.usual.0 == host || it.special.values().any(|special| special.0 == host))
    }

    /// True where one host serves the whole partition: its resources have no region.
    pub(crate) fn is_global(&self, partition: &str) -> bool {
        self.endpoints.get(partition).is_some_and(|it| !it.usual.0.contains("{r}"))
    }
}

#[derive(Debug, Deserialize)]
struct Endpoints<'t> {
    #[serde(rename = "u")]
    usual: Endpoint<'t>,
    #[serde(rename = "x", default, deserialize_with = "quick", borrow)]
    special: HashMap<&'t str, Endpoint<'t>>,
}

/// Host template, path that precedes every operation's, and the region to sign for when it is not the caller's.
#[derive(Debug, Deserialize)]
pub(crate) struct Endpoint<'t>(pub(crate) &'t str, pub(crate) &'t str, pub(crate) &'t str);

/// A partition: an AWS that shares nothing with the others.
#[derive(Debug, Deserialize)]
pub(crate) struct Partition<'t> {
    pub(crate) id: &'t str,
    pub(crate) suffix: &'t str,
    pub(crate) dual: &'t str,
    /// Region that stands for the whole partition.
    pub(crate) global: &'t str,
    regions: Vec<&'t str>,
}

/// A decoded service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) entry: &'static ServiceEntry<'static>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) shapes: Vec<Shape>,
    by_name: HashMap<&'static str, usize>,
    /// Operations by verb and the first segment of their path, when that is a literal, else the empty text.
    by_start: HashMap<Pair, Vec<usize>>,
    /// Those of them that ask for no query field.
    by_start_alone: HashMap<Pair, Vec<usize>>,
}

impl Service {
    pub(crate) fn operation(&self, name: &str) -> Option<&Operation> {
        self.by_name.get(name).and_then(|&index| self.operations.get(index))
    }

    /// The operations of that verb whose path may start with that segment; with `is_alone` only those that
    /// ask for no query field.
    pub(crate) fn operations_under<'s>(
        &'s self,
        method: &str,
        segment: &str,
        is_alone: bool,
    ) -> impl Iterator<Item = &'s Operation> + use<'s> {
        let by_start = if is_alone { &self.by_start_alone } else { &self.by_start };
        let at = |segment: &str| by_start.get(&Asked(method, segment)).map_or(&[][..], Vec::as_slice);
        let named = if segment.is_empty() { &[][..] } else { at(segment) };
        named.iter().chain(at("")).filter_map(|&index| self.operations.get(index))
    }

    pub(crate) fn shape(&self, number: usize) -> &Shape {
        self.shapes.get(number).unwrap_or(&Shape::Document)
    }

    fn decode(entry: &'static ServiceEntry<'static>, blocks: &'static [u8]) -> Option<Self> {
        let file::Block { ops, shapes } = file::Block::read(blocks, entry.at)?;
        let shapes: Vec<Shape> = shapes.into_iter().map(Shape::from).collect();
        let operations: Vec<Operation> =
            ops.into_iter().map(|row| Operation::new(row, entry.prefix, &shapes)).collect();
        let mut service = Self {
            entry,
            // Of several ways to call one operation the first is the newest.
            by_name: operations.iter().enumerate().rev().map(|(index, it)| (it.row.name, index)).collect(),
            by_start: HashMap::new(),
            by_start_alone: HashMap::new(),
            operations,
            shapes,
        };
        for (index, operation) in service.operations.iter().enumerate() {
            let first = match operation.path.first() {
                Some(operation::Segment::Literal(first)) => first,
                _ => "",
            };
            service.by_start.entry(Pair(operation.row.method, first)).or_default().push(index);
            if operation.constants.is_empty() && operation.required_query.is_empty() {
                service.by_start_alone.entry(Pair(operation.row.method, first)).or_default().push(index);
            }
        }
        Some(service)
    }
}

/// The services behind host names.
#[derive(Default)]
struct Hosts {
    plain: HashMap<&'static str, Vec<ServiceNumber>>,
    /// By what stands before and behind the region's label.
    regional: HashMap<Pair, Vec<ServiceNumber>>,
}

/// Sorts host templates: `{r}` stands for the region's label, `*` for one that names an account or resource.
fn by_labels(templates: impl IntoIterator<Item = (&'static str, Vec<ServiceNumber>)>) -> [Hosts; 3] {
    let mut hosts: [Hosts; 3] = Default::default();
    for (template, services) in templates {
        let (mut labels, mut rest) = (0, template);
        while let Some(behind) = rest.strip_prefix("*.") {
            (labels, rest) = (labels + 1, behind);
        }
        let Some(hosts) = hosts.get_mut(labels) else { continue };
        match rest.split_once("{r}") {
            Some((before, behind)) => drop(hosts.regional.insert(Pair(before, behind), services)),
            None => drop(hosts.plain.insert(rest, services)),
        }
    }
    hosts
}

/// A map whose hashing is quick; its keys are the table's own, so that nobody can choose them.
fn quick<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<HashMap<&'de str, T>, D::Error> {
    let map = std::collections::HashMap::<&'de str, T>::deserialize(deserializer)?;
    Ok(map.into_iter().collect())
}

/// Two texts as a key, and two that are looked up.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Pair(&'static str, &'static str);
#[derive(Hash)]
struct Asked<'q>(&'q str, &'q str);

impl Equivalent<Pair> for Asked<'_> {
    fn equivalent(&self, key: &Pair) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

fn is_number(text: &str) -> bool {
    (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    (2..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests;
