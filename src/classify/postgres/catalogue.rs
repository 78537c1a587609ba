//! What the upstream has: relations, functions, operators and memberships, as one snapshot that
//! somebody else fetches and this module only asks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::tags::Tags;

/// A snapshot of the upstream's catalogue, and what the session itself has made since; cheap to copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    version: u64,
    /// Without one only `pg_catalog` is known, from the packed table.
    snapshot: Option<Arc<Indexed>>,
    /// Names this session made, `public.t`, that the snapshot may not have.
    created: Arc<BTreeSet<String>>,
    tags: Arc<Tags>,
    /// There ought to be a snapshot, and there is none.
    is_unread: bool,
}

/// Marks the version of [`Catalogue::as_whole`]: what is named by it is another entry of the parse cache.
const WHOLE: u64 = 1 << 63;

/// The rows of a snapshot as they were fetched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Every schema the upstream role may use (`pg_namespace`), also empty ones.
    pub(crate) schemas: Vec<String>,
    pub(crate) relations: Vec<Relation>,
    pub(crate) functions: Vec<Function>,
    pub(crate) operators: Vec<Operator>,
    /// Member and role it belongs to (`pg_auth_members`), by name.
    pub(crate) memberships: Vec<(String, String)>,
    pub(crate) superusers: Vec<String>,
    /// Types whose values run functions of users.
    pub(crate) types: Vec<Type>,
    /// Functions that run with commands that define something.
    pub(crate) event_calls: Vec<u32>,
}

/// A row of `pg_type`.
#[derive(Clone, Debug)]
pub(crate) struct Type {
    pub(crate) schema: String,
    pub(crate) name: String,
    /// Functions of its casts and its checks.
    pub(crate) calls: Vec<u32>,
}

/// A row of `pg_class`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) kind: RelationKind,
    /// What a view or its rules read or write: schema and name, directly.
    pub(crate) bases: Vec<(String, String)>,
    /// Functions that reading it runs: a view's, a policy's.
    pub(crate) read_calls: Vec<u32>,
    /// Functions that writing to it runs: triggers, defaults, checks, rules.
    pub(crate) write_calls: Vec<u32>,
    /// A rule puts other statements beside, or in place of, one that writes to it.
    pub(crate) is_rewritten: bool,
    /// Estimated rows (`reltuples`); `None` when never analysed.
    pub(crate) rows: Option<u64>,
    /// What it is a part of, directly, as partition or heir: schema and name.
    pub(crate) parents: Vec<(String, String)>,
    /// Its parts.
    pub(crate) children: Vec<(String, String)>,
    /// Relations whose rows go, or are changed, by a foreign key when its own go.
    pub(crate) delete_cascades: Vec<(String, String)>,
    /// The same for when its own are changed.
    pub(crate) update_cascades: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RelationKind {
    #[default]
    Table,
    View,
    MaterializedView,
    ForeignTable,
    Sequence,
    Index,
    Composite,
    Other,
}

/// A row of `pg_proc`.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) language: String,
    pub(crate) volatility: Volatility,
    pub(crate) is_security_definer: bool,
    /// The owner's role name.
    pub(crate) owner: String,
    /// `prosrc`, or the deparsed `prosqlbody`; `None` for compiled code.
    pub(crate) source: Option<String>,
    /// The extension that brought it.
    pub(crate) extension: Option<String>,
    /// What it sets while it runs (`proconfig`): name and value.
    pub(crate) settings: Vec<(String, String)>,
    /// Functions that an aggregate runs.
    pub(crate) calls: Vec<u32>,
    /// Functions that making its arguments may run.
    pub(crate) argument_calls: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Volatility {
    Immutable,
    Stable,
    Volatile,
}

/// A row of `pg_operator` outside `pg_catalog`.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) schema: String,
    pub(crate) name: String,
    /// Oid of the function behind it.
    pub(crate) function: u32,
}

#[derive(Debug, Default)]
struct Indexed {
    snapshot: Snapshot,
    relations: HashMap<(String, String), usize>,
    functions: HashMap<(String, String), Vec<usize>>,
    functions_by_oid: HashMap<u32, usize>,
    operators: HashMap<String, Vec<usize>>,
    types: HashMap<String, Vec<usize>>,
}

impl Catalogue {
    /// `pg_catalog` alone: user relations are taken as written, user functions are unknown.
    pub(crate) fn builtin() -> Self {
        Self::default()
    }

    /// A snapshot under a version that no other snapshot has had; 0 is [`Catalogue::builtin`]'s.
    pub(crate) fn new(version: u64, snapshot: Snapshot) -> Self {
        let mut indexed = Indexed::default();
        for (index, it) in snapshot.relations.iter().enumerate() {
            indexed.relations.insert((it.schema.clone(), it.name.clone()), index);
        }
        for (index, it) in snapshot.functions.iter().enumerate() {
            indexed.functions.entry((it.schema.clone(), it.name.clone())).or_default().push(index);
            indexed.functions_by_oid.insert(it.oid, index);
        }
        for (index, it) in snapshot.operators.iter().enumerate() {
            indexed.operators.entry(it.name.clone()).or_default().push(index);
        }
        for (index, it) in snapshot.types.iter().enumerate() {
            indexed.types.entry(it.name.clone()).or_default().push(index);
        }
        indexed.snapshot = snapshot;
        Self { version, snapshot: Some(Arc::new(indexed)), ..Self::default() }
    }

    /// The same with what an operator calls sensitive.
    pub(crate) fn with_tags(self, tags: Arc<Tags>) -> Self {
        Self { tags, ..self }
    }

    /// In place of a snapshot that could not be read: what relations hide is in doubt where something is
    /// tagged.
    pub(crate) fn unread(tags: Arc<Tags>) -> Self {
        Self { is_unread: !tags.is_empty(), tags, ..Self::default() }
    }

    /// What is left when the snapshot is known to be wrong.
    pub(crate) fn forgotten(&self) -> Self {
        Self { created: Arc::clone(&self.created), ..Self::unread(Arc::clone(&self.tags)) }
    }

    pub(crate) fn tags(&self) -> &Tags {
        &self.tags
    }

    pub(crate) const fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// The same snapshot with names that a session has made since, `public.t`.
    pub(crate) fn with_created(&self, names: impl IntoIterator<Item = String>) -> Self {
        let created = self.created.iter().cloned().chain(names).collect();
        Self { created: Arc::new(created), ..self.clone() }
    }

    /// The same snapshot with those names only.
    pub(crate) fn with_only_created(&self, names: Arc<BTreeSet<String>>) -> Self {
        Self { created: names, ..self.clone() }
    }

    /// The same, known to lack nothing: a user's relation that is not in it does not exist.
    pub(crate) fn as_whole(&self) -> Self {
        Self { version: self.version | WHOLE, ..self.clone() }
    }

    pub(crate) const fn is_whole(&self) -> bool {
        self.version & WHOLE != 0
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// The names of [`Catalogue::with_created`].
    pub(crate) fn created(&self) -> &Arc<BTreeSet<String>> {
        &self.created
    }

    pub(crate) const fn is_builtin(&self) -> bool {
        self.snapshot.is_none()
    }

    /// Whether there is a schema of that name; true where nothing is known.
    pub(crate) fn has_schema(&self, schema: &str) -> bool {
        self.snapshot.as_deref().is_none_or(|it| it.snapshot.schemas.iter().any(|name| name == schema))
    }

    pub(crate) fn relation(&self, schema: &str, name: &str) -> Option<&Relation> {
        let indexed = self.snapshot.as_deref()?;
        let index = indexed.relations.get(&(schema.to_owned(), name.to_owned()))?;
        indexed.snapshot.relations.get(*index)
    }

    /// Every overload of that name.
    pub(crate) fn functions(&self, schema: &str, name: &str) -> Vec<&Function> {
        let Some(indexed) = self.snapshot.as_deref() else { return Vec::new() };
        let found = indexed.functions.get(&(schema.to_owned(), name.to_owned())).map_or(&[][..], Vec::as_slice);
        found.iter().filter_map(|index| indexed.snapshot.functions.get(*index)).collect()
    }

    pub(crate) fn function(&self, oid: u32) -> Option<&Function> {
        let indexed = self.snapshot.as_deref()?;
        indexed.snapshot.functions.get(*indexed.functions_by_oid.get(&oid)?)
    }

    /// Operators of that spelling outside `pg_catalog`, in any schema.
    pub(crate) fn operators(&self, name: &str) -> impl Iterator<Item = &Operator> {
        let indexed = self.snapshot.as_deref();
        let found = indexed.and_then(|it| it.operators.get(name)).map_or(&[][..], Vec::as_slice);
        found.iter().filter_map(move |index| indexed?.snapshot.operators.get(*index))
    }

    /// Types of that name, in any schema.
    pub(crate) fn types(&self, name: &str) -> impl Iterator<Item = &Type> {
        let indexed = self.snapshot.as_deref();
        let found = indexed.and_then(|it| it.types.get(name)).map_or(&[][..], Vec::as_slice);
        found.iter().filter_map(move |index| indexed?.snapshot.types.get(*index))
    }

    /// Functions that run with commands that define something.
    pub(crate) fn event_calls(&self) -> &[u32] {
        self.snapshot.as_deref().map_or(&[], |it| &it.snapshot.event_calls)
    }

    pub(crate) fn is_superuser(&self, role: &str) -> bool {
        self.snapshot.as_deref().is_some_and(|it| it.snapshot.superusers.iter().any(|name| name == role))
    }
}
