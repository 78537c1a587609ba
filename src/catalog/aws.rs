//! The AWS fact table: services, hosts, operations, input shapes, IAM actions, access levels.
//!
//! `data/aws.bin` holds an index and one block per service; a block is decoded when its service is
//! first asked for and stays for the life of the process, so that every name in it is `&'static`.
//! A table that cannot be read is an empty table: then every request is unknown, none is waved
//! through. A test proves that the committed table reads.

use std::borrow::Cow;
use std::io::Read as _;
use std::sync::{LazyLock, OnceLock};

use hashbrown::{Equivalent, HashMap};
use serde::{Deserialize, Deserializer};
use smallvec::SmallVec;

pub(crate) mod operation;
pub(crate) mod shape;

use operation::{Operation, OperationRow};
use shape::{Shape, ShapeRow};

/// Every action name the table knows: `aws:<IAM prefix>:<operation>`, sorted, each once.
pub(crate) fn action_names() -> impl Iterator<Item = &'static str> {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let by_prefix: std::collections::HashMap<&str, Vec<&str>> = block(TABLE.names).unwrap_or_default();
        let mut names: Vec<String> = by_prefix
            .iter()
            .flat_map(|(prefix, operations)| operations.iter().map(move |it| format!("aws:{prefix}:{it}")))
            .collect();
        names.sort_unstable();
        names
    });
    NAMES.iter().map(String::as_str)
}

/// The sources of the table and their versions: `botocore 1.44.5, …`.
pub(crate) fn facts_version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| TABLE.sources.join(", "));
    &VERSION
}

/// The operation behind an action's name; that of the first service where several share the prefix.
pub(crate) fn operation_named(action: &str) -> Option<&'static Operation> {
    let (prefix, name) = action.strip_prefix("aws:")?.split_once(':')?;
    let services = TABLE.services.iter().zip(0..).filter(|(entry, _)| entry.prefix == prefix);
    services.filter_map(|(_, number)| service(number)).find_map(|service| service.operation(name))
}

/// Number of a service in the table; what look-ups return and [`service`] takes.
pub(crate) type ServiceNumber = u16;

/// The services whose requests are signed for that name.
pub(crate) fn services_signed_as(signing_name: &str) -> &'static [ServiceNumber] {
    TABLE.by_signing_name.get(signing_name).map_or(&[], Vec::as_slice)
}

/// A signing name for good, where the table has it.
pub(crate) fn signing_name(text: &str) -> Cow<'static, str> {
    let known = TABLE.by_signing_name.get_key_value(text);
    known.map_or_else(|| Cow::Owned(text.to_owned()), |(known, _)| Cow::Borrowed(*known))
}

/// The services behind a host name without region, in front of which that many labels name an account or resource.
pub(crate) fn services_at(labels: usize, host: &str) -> Option<&'static [ServiceNumber]> {
    TABLE.hosts.get(labels)?.plain.get(host).map(Vec::as_slice)
}

/// The same for a host name with a region: what stands before and behind that label.
pub(crate) fn services_around(labels: usize, before: &str, behind: &str) -> Option<&'static [ServiceNumber]> {
    TABLE.hosts.get(labels)?.regional.get(&Asked(before, behind)).map(Vec::as_slice)
}

/// The services with that `X-Amz-Target` prefix: one, or the two Timestreams.
pub(crate) fn services_with_target(prefix: &str) -> &'static [ServiceNumber] {
    TABLE.by_target.get(prefix).map_or(&[], Vec::as_slice)
}

/// The services that have operations which need no signature.
pub(crate) fn services_without_signature() -> &'static [ServiceNumber] {
    &TABLE.unsigned
}

/// The services that speak a form protocol, for requests that say nothing but `Action` and `Version`.
pub(crate) fn services_with_forms() -> &'static [ServiceNumber] {
    &TABLE.forms
}

/// What the index says about a service without decoding its block.
pub(crate) fn entry(number: ServiceNumber) -> Option<&'static ServiceEntry> {
    TABLE.services.get(usize::from(number))
}

/// The partition a region belongs to; regions younger than the table are placed by their name.
pub(crate) fn partition_of(region: &str) -> Option<&'static Partition> {
    let known = TABLE.regions.get(region).and_then(|index| TABLE.partitions.get(*index));
    known.or_else(|| {
        // Each form below ends in a number, most labels of a host name do not.
        if !region.ends_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let id = match region.split('-').collect::<SmallVec<[_; 8]>>().as_slice() {
            ["us", "gov", _, number] if is_number(number) => "aws-us-gov",
            ["us", "iso", _, number] if is_number(number) => "aws-iso",
            ["us", "isob", _, number] if is_number(number) => "aws-iso-b",
            ["us", "isof", _, number] if is_number(number) => "aws-iso-f",
            ["eu", "isoe", _, number] if is_number(number) => "aws-iso-e",
            ["eusc", _, _, number] if is_number(number) => "aws-eusc",
            ["cn", _, number] if is_number(number) => "aws-cn",
            [place, side, number] if place.len() == 2 && is_word(place) && is_word(side) && is_number(number) => "aws",
            _ => return None,
        };
        TABLE.partitions.iter().find(|it| it.id == id)
    })
}

/// A region's name for good, where the table has it.
pub(crate) fn region_name(text: &str) -> Cow<'static, str> {
    let known = TABLE.regions.get_key_value(text);
    known.map_or_else(|| Cow::Owned(text.to_owned()), |(known, _)| Cow::Borrowed(*known))
}

/// All partitions, for their DNS suffixes.
pub(crate) fn partitions() -> &'static [Partition] {
    &TABLE.partitions
}

/// One service, decoded; `None` only for a number that is not in the table or a damaged table.
pub(crate) fn service(number: ServiceNumber) -> Option<&'static Service> {
    let index = usize::from(number);
    TABLE.decoded.get(index)?.get_or_init(|| Service::decode(TABLE.services.get(index)?)).as_ref()
}

/// A service as the index lists it.
#[derive(Debug, Deserialize)]
pub(crate) struct ServiceEntry {
    /// botocore's name, `sesv2`.
    pub(crate) id: &'static str,
    #[serde(rename = "sg")]
    pub(crate) signing_name: &'static str,
    /// Other names its hosts are signed for.
    #[serde(rename = "sa", default)]
    also_signed_as: Vec<&'static str>,
    /// IAM service prefix: the second part of an action's name.
    #[serde(rename = "px")]
    pub(crate) prefix: &'static str,
    #[serde(rename = "pr")]
    pub(crate) protocols: Vec<&'static str>,
    /// API versions that a form request may name.
    #[serde(rename = "vs")]
    pub(crate) versions: Vec<&'static str>,
    #[serde(rename = "tp", default)]
    pub(crate) target_prefix: Option<&'static str>,
    /// 1 when some operation needs no signature.
    #[serde(rename = "un", default)]
    has_unsigned: u8,
    #[serde(rename = "ep", deserialize_with = "quick")]
    endpoints: HashMap<&'static str, Endpoints>,
    #[serde(rename = "at")]
    at: (usize, usize),
    #[serde(skip)]
    pub(crate) speaks_forms: bool,
    #[serde(skip)]
    pub(crate) speaks_rest: bool,
}

impl ServiceEntry {
    pub(crate) fn speaks(&self, protocol: &str) -> bool {
        self.protocols.contains(&protocol)
    }

    /// Where the service lives for that region of that partition.
    pub(crate) fn endpoint(&self, partition: &str, region: &str) -> Option<&Endpoint> {
        let endpoints = self.endpoints.get(partition)?;
        Some(endpoints.special.get(region).unwrap_or(&endpoints.usual))
    }

    /// True where one host serves the whole partition: its resources have no region.
    pub(crate) fn is_global(&self, partition: &str) -> bool {
        self.endpoints.get(partition).is_some_and(|it| !it.usual.0.contains("{r}"))
    }
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
struct Endpoints {
    #[serde(rename = "u")]
    usual: Endpoint,
    #[serde(rename = "x", default, deserialize_with = "quick")]
    special: HashMap<&'static str, Endpoint>,
}

/// Host template, path that precedes every operation's, and the region to sign for when it is not the caller's.
#[derive(Debug, Deserialize)]
pub(crate) struct Endpoint(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

/// A partition: an AWS that shares nothing with the others.
#[derive(Debug, Deserialize)]
pub(crate) struct Partition {
    pub(crate) id: &'static str,
    pub(crate) suffix: &'static str,
    pub(crate) dual: &'static str,
    /// Region that stands for the whole partition.
    pub(crate) global: &'static str,
    regions: Vec<&'static str>,
}

/// A decoded service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) entry: &'static ServiceEntry,
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

    fn decode(entry: &'static ServiceEntry) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(bound(deserialize = "'de: 'static"))]
        struct Block {
            ops: Vec<OperationRow>,
            shapes: Vec<ShapeRow>,
        }
        let Block { ops, shapes } = block(entry.at)?;
        let shapes: Vec<Shape> = shapes.into_iter().map(Shape::from).collect();
        let operations: Vec<Operation> =
            ops.into_iter().map(|row| Operation::new(row, entry.prefix, &shapes)).collect();
        let mut service = Self {
            entry,
            by_name: operations.iter().enumerate().map(|(index, it)| (it.row.name, index)).collect(),
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

struct Table {
    sources: Vec<&'static str>,
    partitions: Vec<Partition>,
    services: Vec<ServiceEntry>,
    /// By the number of labels in front that name an account or resource.
    hosts: [Hosts; 3],
    /// Known regions, and the index of their partition.
    regions: HashMap<&'static str, usize>,
    names: (usize, usize),
    by_signing_name: HashMap<&'static str, Vec<ServiceNumber>>,
    by_target: HashMap<&'static str, Vec<ServiceNumber>>,
    unsigned: Vec<ServiceNumber>,
    forms: Vec<ServiceNumber>,
    decoded: Vec<OnceLock<Option<Service>>>,
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

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let index = read_index().unwrap_or_default();
    let mut table = Table {
        sources: index.sources,
        regions: HashMap::new(),
        partitions: index.partitions,
        hosts: by_labels(index.hosts),
        names: index.names,
        by_signing_name: HashMap::new(),
        by_target: HashMap::new(),
        unsigned: Vec::new(),
        forms: Vec::new(),
        decoded: index.services.iter().map(|_| OnceLock::new()).collect(),
        services: index.services,
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
        if entry.has_unsigned == 1 {
            table.unsigned.push(number);
        }
        if entry.speaks_forms {
            table.forms.push(number);
        }
    }
    table
});

#[derive(Default, Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
struct IndexFile {
    sources: Vec<&'static str>,
    partitions: Vec<Partition>,
    services: Vec<ServiceEntry>,
    #[serde(deserialize_with = "quick")]
    hosts: HashMap<&'static str, Vec<ServiceNumber>>,
    names: (usize, usize),
}

/// A map whose hashing is quick; its keys are the table's own, so that nobody can choose them.
fn quick<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<HashMap<&'static str, T>, D::Error>
where
    'de: 'static,
{
    let map = std::collections::HashMap::<&'static str, T>::deserialize(deserializer)?;
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

const MAGIC: &[u8] = b"CSAWS01\n";
static BYTES: &[u8] = include_bytes!("data/aws.bin");

/// The index bytes and the blocks behind them.
fn parts() -> Option<(&'static [u8], &'static [u8])> {
    let (length, rest) = BYTES.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

fn read_index() -> Option<IndexFile> {
    unpack(parts()?.0)
}

fn block<T: Deserialize<'static>>((offset, length): (usize, usize)) -> Option<T> {
    unpack(parts()?.1.get(offset..)?.get(..length)?)
}

/// Unpacks one stream for good: the text is never freed, so that what is read from it borrows it.
fn unpack<T: Deserialize<'static>>(packed: &'static [u8]) -> Option<T> {
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(packed).read_to_string(&mut text).ok()?;
    serde_json::from_str(Box::leak(text.into_boxed_str())).ok()
}

fn is_number(text: &str) -> bool {
    (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    (2..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests;
