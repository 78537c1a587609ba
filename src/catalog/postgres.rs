//! Facts of PostgreSQL: commands with access and traits, functions of `pg_catalog` with what they do.
//!
//! The table is made by `generate/postgres.py` from a real server and the curated lists; the server's version
//! is in it. `pg_catalog` of another version has other functions: what is not here is for the caller to doubt.

use std::io::Read as _;
use std::sync::LazyLock;

use hashbrown::{HashMap, HashSet};
use serde::Deserialize;

use crate::action::{Access, Trait, Traits};
use crate::digest::{Digest, sha256};

/// A command, or a part that hides in one.
#[derive(Debug)]
pub(crate) struct Command {
    /// `postgres:copy_out`
    pub(crate) action_name: String,
    pub(crate) access: Access,
    pub(crate) traits: Traits,
    /// What it may have in addition, by what it says.
    pub(crate) possible: Traits,
}

/// A function by its name: the most that any of its overloads does.
#[derive(Debug)]
pub(crate) struct Builtin {
    pub(crate) name: &'static str,
    /// Its answer or effect may differ between calls with the same arguments and data.
    pub(crate) is_volatile: bool,
    pub(crate) traits: Traits,
    /// A call changes something that lasts.
    pub(crate) is_write: bool,
    /// Which argument is SQL that it runs.
    pub(crate) text: Option<usize>,
    /// Calling it is a part of a statement that has a name of its own.
    pub(crate) is_named: bool,
}

/// The command of that name, `copy_out`.
pub(crate) fn command(name: &str) -> Option<&'static Command> {
    TABLE.commands.get(name)
}

/// The command of an action's name, `postgres:copy_out`.
pub(crate) fn command_named(action: &str) -> Option<&'static Command> {
    command(action.strip_prefix("postgres:")?)
}

/// The functions of `pg_catalog` of that name.
pub(crate) fn builtin(name: &str) -> Option<&'static Builtin> {
    TABLE.functions.get(name)
}

/// The function of `pg_catalog` with that oid; oids below 10,000 mean the same on every server that has them.
pub(crate) fn builtin_by_oid(oid: u32) -> Option<&'static Builtin> {
    builtin(TABLE.by_oid.get(&oid)?)
}

/// What a function of that name does where an extension brought it.
pub(crate) fn of_extension(name: &str) -> Option<&'static Builtin> {
    TABLE.extensions.get(name)
}

/// Whether `pg_catalog` has a base type of that name.
pub(crate) fn has_type(name: &str) -> bool {
    TABLE.types.contains(name)
}

/// Whether `pg_catalog` has a table or view of that name.
pub(crate) fn has_relation(name: &str) -> bool {
    TABLE.relations.contains(name)
}

/// Whether an aggregate makes one value of many rows.
pub(crate) fn is_collecting(name: &str) -> bool {
    TABLE.collecting.contains(name)
}

/// What changing a setting means beyond the change; settings are named without regard to case.
pub(crate) fn setting(name: &str) -> Traits {
    let name = name.to_ascii_lowercase();
    let family = name.split_once('.').map(|(family, _)| format!("{family}.*"));
    let of = |name: &str| TABLE.settings.get(name).copied().unwrap_or_default();
    of(&name).union(family.map(|family| of(&family)).unwrap_or_default())
}

/// Every action name, sorted.
pub(crate) fn action_names() -> impl Iterator<Item = &'static str> {
    TABLE.names.iter().map(String::as_str)
}

/// The server the table was made from: `PostgreSQL 15.18 (…)`.
pub(crate) fn facts_version() -> String {
    format!("PostgreSQL {}", TABLE.version)
}

/// Digest of the table, for records.
pub(crate) fn facts_digest() -> Digest {
    static DIGEST: LazyLock<Digest> = LazyLock::new(|| sha256(BYTES));
    *DIGEST
}

#[derive(Default)]
struct Table {
    version: &'static str,
    commands: HashMap<&'static str, Command>,
    names: Vec<String>,
    functions: HashMap<&'static str, Builtin>,
    by_oid: HashMap<u32, &'static str>,
    extensions: HashMap<&'static str, Builtin>,
    types: HashSet<&'static str>,
    relations: HashSet<&'static str>,
    collecting: HashSet<&'static str>,
    settings: HashMap<&'static str, Traits>,
}

#[derive(Deserialize)]
struct File {
    version: &'static str,
    commands: Vec<(&'static str, usize, Vec<&'static str>, Vec<&'static str>)>,
    functions: Vec<FunctionRow>,
    extensions: Vec<FunctionRow>,
    types: Vec<&'static str>,
    relations: Vec<&'static str>,
    collecting: Vec<&'static str>,
    settings: Vec<(&'static str, &'static str)>,
}

/// Name, volatility, traits, 1 when a call writes, place of the argument that is SQL, oids.
type FunctionRow = (&'static str, u8, Vec<&'static str>, u8, Option<usize>, Vec<u32>);

static TABLE: LazyLock<Table> = LazyLock::new(|| read().unwrap_or_default());

const MAGIC: &[u8] = b"CSPGS01\n";
static BYTES: &[u8] = include_bytes!("data/postgres.bin");

fn read() -> Option<Table> {
    let (length, rest) = BYTES.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let packed = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(packed).read_to_string(&mut text).ok()?;
    // Never freed: what is read from it borrows it.
    let file: File = serde_json::from_str(Box::leak(text.into_boxed_str())).ok()?;
    let mut table = Table {
        version: file.version,
        names: file.commands.iter().map(|(name, ..)| format!("postgres:{name}")).collect(),
        types: file.types.into_iter().collect(),
        relations: file.relations.into_iter().collect(),
        collecting: file.collecting.into_iter().collect(),
        ..Table::default()
    };
    for (name, access, traits, possible) in file.commands {
        let access = *Access::ALL.get(access)?;
        let command = Command {
            action_name: format!("postgres:{name}"),
            access,
            traits: set(&traits),
            possible: set(&possible).with(Trait::Unknown),
        };
        table.commands.insert(name, command);
    }
    for (name, setting_trait) in file.settings {
        let traits = table.settings.entry(name).or_default();
        *traits = traits.union(set(&[setting_trait]));
    }
    for row in &file.functions {
        table.by_oid.extend(row.5.iter().map(|oid| (*oid, row.0)));
    }
    table.functions = file.functions.into_iter().map(function).collect();
    table.extensions = file.extensions.into_iter().map(function).collect();
    table.names.sort();
    Some(table)
}

fn function((name, volatility, traits, write, text, _): FunctionRow) -> (&'static str, Builtin) {
    let builtin = Builtin {
        name,
        is_volatile: volatility == 2,
        traits: set(&traits),
        is_write: write == 1,
        text,
        is_named: !traits.is_empty() || write == 1 || text.is_some(),
    };
    (name, builtin)
}

fn set(names: &[&str]) -> Traits {
    names.iter().filter_map(|name| Trait::parse(name)).collect()
}

#[cfg(test)]
mod tests;
