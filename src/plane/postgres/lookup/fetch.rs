//! One snapshot of the upstream's catalogue (PostgreSQL docs, chapter 53).
//!
//! What reading or writing a relation runs stands in the stored trees of its rules, defaults, checks,
//! policies, indexes and triggers. They are searched for the oids of functions and relations: `pg_depend`
//! leaves out all that comes with the server, and that is where the dangerous ones are.

use std::collections::{HashMap, HashSet};

use super::line::{Line, LineError, Row};
use crate::catalog::postgres as facts;
use crate::classify::postgres::catalogue::{Function, Operator, Relation, RelationKind, Snapshot, Type, Volatility};

/// Values of one snapshot, in bytes; what exceeds that makes none.
pub(super) const LARGEST: usize = 96 << 20;
/// The first oid that is not the server's own.
const FIRST_USER_OID: u32 = 16384;

/// Changes with everything that a snapshot holds: one number over the versions of all rows. The rows of
/// temporary relations are left out.
pub(super) const STAMP: &str = "SELECT sum(h)::text || '/' || count(*) FROM (\
    SELECT hashint8extended(xmin::text::int8, oid::int8) h FROM pg_class \
        WHERE relpersistence <> 't' AND relkind <> 't' AND relnamespace <> 99 \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_proc WHERE oid >= 16384 \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_rewrite WHERE oid >= 16384 \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_trigger \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_attrdef \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_constraint \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_policy \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_namespace WHERE nspname !~ '^pg_t' \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_operator WHERE oid >= 16384 \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_cast \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_opclass WHERE oid >= 16384 \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_amproc WHERE oid >= 16384 \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_amop WHERE oid >= 16384 \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_event_trigger \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_extension \
    UNION ALL SELECT hashint8extended(xmin::text::int8, oid::int8) FROM pg_type WHERE typtype = 'd' \
    UNION ALL SELECT hashint8extended(xmin::text::int8, inhrelid::int8 + 1) FROM pg_inherits \
    UNION ALL SELECT hashint8extended(xmin::text::int8, (roleid::int8 << 32) + member::int8) FROM pg_auth_members \
    UNION ALL SELECT hashint8extended(rolsuper::int::int8, oid::int8) FROM pg_roles) s";

const SCHEMAS: &str = "SELECT nspname FROM pg_namespace WHERE has_schema_privilege(oid, 'USAGE') \
    AND nspname !~ '^pg_(toast|temp_)' AND nspname <> 'pg_toast'";

const RELATIONS: &str = "SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltuples::int8, \
    EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1') \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE (c.oid >= 16384 OR n.nspname NOT IN ('pg_catalog', 'information_schema')) \
    AND n.nspname !~ '^pg_(toast|temp_)' AND n.nspname <> 'pg_toast' AND c.relpersistence <> 't'";

/// Relation, whether its reading runs it, what is found, its oid, and the name of a relation.
const TREES: &str = "WITH tree(rel, usage, body) AS (\
    SELECT ev_class, CASE ev_type WHEN '1' THEN 'r' ELSE 'w' END, ev_action::text || ev_qual::text \
        FROM pg_rewrite WHERE ev_class >= 16384 \
    UNION ALL SELECT adrelid, CASE a.attgenerated WHEN 'v' THEN 'r' ELSE 'w' END, adbin::text \
        FROM pg_attrdef JOIN pg_attribute a ON a.attrelid = adrelid AND a.attnum = adnum \
    UNION ALL SELECT conrelid, 'w', conbin::text FROM pg_constraint WHERE conbin IS NOT NULL AND conrelid <> 0 \
    UNION ALL SELECT polrelid, 'r', coalesce(polqual::text, '') || coalesce(polwithcheck::text, '') FROM pg_policy \
    UNION ALL SELECT indrelid, 'w', coalesce(indexprs::text, '') || coalesce(indpred::text, '') \
        FROM pg_index WHERE indexprs IS NOT NULL OR indpred IS NOT NULL \
    UNION ALL SELECT partrelid, 'w', partexprs::text FROM pg_partitioned_table WHERE partexprs IS NOT NULL \
    UNION ALL SELECT tgrelid, 'w', tgqual::text FROM pg_trigger WHERE tgqual IS NOT NULL \
    ), found AS (SELECT DISTINCT rel, usage, m[1] = 'relid' is_relation, m[2]::oid target \
        FROM tree, regexp_matches(body, ':(funcid|opfuncid|aggfnoid|winfnoid|relid) (\\d+)', 'g') m \
        WHERE m[2] <> '0' AND m[2] <> rel::text) \
    SELECT f.rel, f.usage = 'r', f.is_relation, f.target, n.nspname, c.relname FROM found f \
    LEFT JOIN pg_class c ON f.is_relation AND c.oid = f.target LEFT JOIN pg_namespace n ON n.oid = c.relnamespace";

const TRIGGERS: &str = "SELECT tgrelid, tgfoid FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'";

const EVENT_TRIGGERS: &str = "SELECT evtfoid FROM pg_event_trigger WHERE evtenabled <> 'D'";

const INHERITANCE: &str = "SELECT inhrelid, inhparent FROM pg_inherits";

/// Where a foreign key changes rows when those it points to go or change.
const CASCADES: &str = "SELECT confrelid, conrelid, confdeltype IN ('c', 'n', 'd'), confupdtype IN ('c', 'n', 'd') \
    FROM pg_constraint \
    WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))";

/// Types, and the functions of users that their casts, their domains' checks and their order run.
const TYPES: &str = "WITH call(type, function) AS (\
    SELECT castsource, castfunc FROM pg_cast WHERE castfunc >= 16384 \
    UNION SELECT casttarget, castfunc FROM pg_cast WHERE castfunc >= 16384 \
    UNION SELECT contypid, m[1]::oid FROM pg_constraint, \
        regexp_matches(conbin::text, ':(?:funcid|opfuncid) (\\d+)', 'g') m WHERE contypid <> 0 \
    UNION SELECT oid, m[1]::oid FROM pg_type, \
        regexp_matches(typdefaultbin::text, ':(?:funcid|opfuncid) (\\d+)', 'g') m WHERE typtype = 'd' \
    UNION SELECT c.opcintype, p.oid FROM pg_opclass c JOIN pg_amproc a ON a.amprocfamily = c.opcfamily \
        JOIN pg_proc p ON p.oid = a.amproc JOIN pg_language l ON l.oid = p.prolang \
        WHERE c.opcintype >= 16384 AND l.lanname NOT IN ('c', 'internal') \
    UNION SELECT c.opcintype, p.oid FROM pg_opclass c JOIN pg_amop a ON a.amopfamily = c.opcfamily \
        JOIN pg_operator o ON o.oid = a.amopopr JOIN pg_proc p ON p.oid = o.oprcode \
        JOIN pg_language l ON l.oid = p.prolang \
        WHERE c.opcintype >= 16384 AND l.lanname NOT IN ('c', 'internal')) \
    SELECT t.oid, n.nspname, t.typname, c.function FROM call c JOIN pg_type t ON t.oid = c.type \
    JOIN pg_namespace n ON n.oid = t.typnamespace";

/// Relations and functions with columns, arguments or answers of a type that runs something, of an array of it, of
/// a domain over it, or of a composite type with it. Of a cast between a type of the server's own and one of a user's the latter counts: the
/// cast is needed only where that one is.
const COLUMNS: &str = "WITH RECURSIVE root(oid) AS (\
    SELECT castsource FROM pg_cast WHERE castfunc >= 16384 AND (castsource >= 16384 OR casttarget < 16384) \
    UNION SELECT casttarget FROM pg_cast WHERE castfunc >= 16384 AND casttarget >= 16384 \
    UNION SELECT contypid FROM pg_constraint WHERE contypid <> 0 UNION SELECT oid FROM pg_type WHERE typtype = 'd' \
    UNION SELECT opcintype FROM pg_opclass WHERE opcintype >= 16384), \
    edge(part, whole) AS (SELECT typelem, oid FROM pg_type WHERE typelem <> 0 \
        UNION ALL SELECT typbasetype, oid FROM pg_type WHERE typtype = 'd' \
        UNION ALL SELECT rngsubtype, rngtypid FROM pg_range WHERE rngtypid >= 16384 \
        UNION ALL SELECT a.atttypid, c.reltype FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
            WHERE c.relkind = 'c' AND a.attnum > 0 AND NOT a.attisdropped), \
    held(type, root) AS (SELECT oid, oid FROM root UNION SELECT e.whole, h.root FROM held h JOIN edge e \
        ON e.part = h.type) \
    SELECT a.attrelid, h.root, true FROM held h JOIN pg_attribute a ON a.atttypid = h.type \
    WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid >= 16384 \
    UNION SELECT p.oid, h.root, false FROM pg_proc p, unnest(p.proargtypes::oid[] || p.proallargtypes || p.prorettype) t \
    JOIN held h ON h.type = t WHERE p.oid >= 16384";

/// Functions that the default values of a function's arguments run.
const DEFAULTS: &str = "SELECT DISTINCT p.oid, m[1]::oid FROM pg_proc p, \
    regexp_matches(p.proargdefaults::text, ':(?:funcid|opfuncid) (\\d+)', 'g') m \
    WHERE p.oid >= 16384 AND p.proargdefaults IS NOT NULL";

const OPERATORS: &str = "SELECT n.nspname, o.oprname, o.oprcode::oid FROM pg_operator o \
    JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid >= 16384";

const MEMBERSHIPS: &str = "SELECT m.rolname, r.rolname FROM pg_auth_members a \
    JOIN pg_roles m ON m.oid = a.member JOIN pg_roles r ON r.oid = a.roleid";

const SUPERUSERS: &str = "SELECT rolname FROM pg_roles WHERE rolsuper";

const AGGREGATES: &str = "SELECT aggfnoid::oid, aggtransfn::oid, aggfinalfn::oid, aggcombinefn::oid, \
    aggmtransfn::oid, aggminvtransfn::oid, aggmfinalfn::oid FROM pg_aggregate WHERE aggfnoid >= 16384";

/// Bodies only of languages that are read, and none that is a library by itself.
fn functions(version: u32) -> String {
    // The body that stands as a tree comes with version 14.
    let source = if version >= 14 {
        "CASE WHEN p.prosqlbody IS NOT NULL THEN pg_get_function_sqlbody(p.oid) ELSE p.prosrc END"
    } else {
        "p.prosrc"
    };
    format!(
        "SELECT p.oid, n.nspname, p.proname, l.lanname, p.provolatile, p.prosecdef, r.rolname, \
         CASE WHEN l.lanname IN ('sql', 'plpgsql') AND length(p.prosrc) <= 262144 THEN {source} END, \
         (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid \
          WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' \
          AND d.refclassid = 'pg_extension'::regclass LIMIT 1), \
         array_to_string(p.proconfig, chr(1)) \
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang \
         LEFT JOIN pg_roles r ON r.oid = p.proowner \
         WHERE p.oid >= 16384 OR n.nspname NOT IN ('pg_catalog', 'information_schema')"
    )
}

/// The stamp of the catalogue as it stands.
pub(super) async fn stamp(line: &mut Line) -> Result<String, LineError> {
    let mut stamp = String::new();
    line.ask(STAMP, |mut row| stamp = row.text()).await?;
    Ok(stamp)
}

/// A snapshot with its stamp, both of one moment.
///
/// # Errors
/// Also when it is larger than [`LARGEST`]: a part of it would name a relation without what runs with it.
pub(super) async fn snapshot(line: &mut Line) -> Result<(String, Snapshot), LineError> {
    line.ask("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", |_| {}).await?;
    let fetched = in_transaction(line).await;
    line.ask("ROLLBACK", |_| {}).await?;
    fetched
}

async fn in_transaction(line: &mut Line) -> Result<(String, Snapshot), LineError> {
    let stamp = stamp(line).await?;
    let mut draft = Draft::default();
    let functions = functions(line.version);
    let questions: [(&str, Take); 15] = [
        (SCHEMAS, |draft, mut row| draft.snapshot.schemas.push(row.text())),
        (RELATIONS, Draft::relation),
        (TREES, Draft::tree),
        (TRIGGERS, |draft, mut row| draft.calls(row.number(), row.number(), false)),
        (EVENT_TRIGGERS, |draft, mut row| draft.snapshot.event_calls.push(row.number())),
        (INHERITANCE, Draft::inheritance),
        (CASCADES, Draft::cascade),
        (TYPES, Draft::of_type),
        (&functions, Draft::function),
        (COLUMNS, Draft::column),
        (DEFAULTS, Draft::argument_default),
        (AGGREGATES, Draft::aggregate),
        (OPERATORS, |draft, mut row| {
            let (schema, name) = (row.text(), row.text());
            draft.snapshot.operators.push(Operator { schema, name, function: row.number() });
        }),
        (MEMBERSHIPS, |draft, mut row| draft.snapshot.memberships.push((row.text(), row.text()))),
        (SUPERUSERS, |draft, mut row| draft.snapshot.superusers.push(row.text())),
    ];
    for (sql, take) in questions {
        line.ask(sql, |row| {
            draft.bytes = draft.bytes.saturating_add(row.len());
            // What comes after is read and forgotten.
            if draft.bytes <= LARGEST {
                take(&mut draft, row);
            }
        })
        .await?;
        if draft.bytes > LARGEST {
            return Err(LineError::TooLong(LARGEST));
        }
    }
    Ok((stamp, draft.snapshot))
}

type Take = fn(&mut Draft, Row<'_>);

#[derive(Default)]
struct Draft {
    snapshot: Snapshot,
    bytes: usize,
    relations: HashMap<u32, usize>,
    functions: HashMap<u32, usize>,
    types: HashMap<u32, usize>,
    /// What stands in a call list already: relation, function, whether reading runs it.
    called: HashSet<(u32, u32, bool)>,
}

impl Draft {
    fn relation(&mut self, mut row: Row<'_>) {
        let oid = row.number();
        self.relations.insert(oid, self.snapshot.relations.len());
        let (schema, name, kind) = (row.text(), row.text(), row.text());
        let kind = match kind.as_str() {
            "r" | "p" => RelationKind::Table,
            "v" => RelationKind::View,
            "m" => RelationKind::MaterializedView,
            "f" => RelationKind::ForeignTable,
            "S" => RelationKind::Sequence,
            "i" | "I" => RelationKind::Index,
            "c" => RelationKind::Composite,
            _ => RelationKind::Other,
        };
        // -1: never analysed.
        let rows = row.next().and_then(|it| it.parse().ok());
        let is_rewritten = row.flag();
        let relation = Relation { oid, schema, name, kind, rows, is_rewritten, ..Relation::default() };
        self.snapshot.relations.push(relation);
    }

    fn find(&mut self, oid: u32) -> Option<&mut Relation> {
        self.snapshot.relations.get_mut(*self.relations.get(&oid)?)
    }

    fn tree(&mut self, mut row: Row<'_>) {
        let (relation, is_read, is_relation, target) = (row.number(), row.flag(), row.flag(), row.number());
        if !is_relation {
            return self.calls(relation, target, is_read);
        }
        let name = (row.text(), row.text());
        if let Some(relation) = self.find(relation)
            && !name.1.is_empty()
            && !relation.bases.contains(&name)
        {
            relation.bases.push(name);
        }
    }

    /// A function of the server's own counts only where calling it has a name.
    fn calls(&mut self, relation: u32, function: u32, is_read: bool) {
        let is_named = function >= FIRST_USER_OID || facts::builtin_by_oid(function).is_none_or(|it| it.is_named);
        if !is_named || !self.called.insert((relation, function, is_read)) {
            return;
        }
        if let Some(relation) = self.find(relation) {
            if is_read { &mut relation.read_calls } else { &mut relation.write_calls }.push(function);
        }
    }

    fn edge(&mut self, from: u32, to: u32, put: impl FnOnce(&mut Relation, (String, String))) {
        let Some(name) = self.find(to).map(|it| (it.schema.clone(), it.name.clone())) else { return };
        if let Some(relation) = self.find(from) {
            put(relation, name);
        }
    }

    fn inheritance(&mut self, mut row: Row<'_>) {
        let (child, parent) = (row.number(), row.number());
        self.edge(child, parent, |relation, name| relation.parents.push(name));
        self.edge(parent, child, |relation, name| relation.children.push(name));
    }

    fn cascade(&mut self, mut row: Row<'_>) {
        let (from, to, is_delete, is_update) = (row.number(), row.number(), row.flag(), row.flag());
        self.edge(from, to, |relation, name| {
            if is_update {
                relation.update_cascades.push(name.clone());
            }
            if is_delete {
                relation.delete_cascades.push(name);
            }
        });
    }

    fn of_type(&mut self, mut row: Row<'_>) {
        let (oid, schema, name, function) = (row.number(), row.text(), row.text(), row.number());
        if function < FIRST_USER_OID && facts::builtin_by_oid(function).is_some_and(|it| !it.is_named) {
            return;
        }
        let types = &mut self.snapshot.types;
        let index = *self.types.entry(oid).or_insert_with(|| {
            types.push(Type { schema, name, calls: Vec::new() });
            types.len() - 1
        });
        if let Some(it) = types.get_mut(index) {
            it.calls.push(function);
        }
    }

    /// A cast may run where nobody wrote it: with each use of a column or an argument of its types.
    fn column(&mut self, mut row: Row<'_>) {
        let (user, of, is_relation) = (row.number(), row.number(), row.flag());
        let Some(it) = self.types.get(&of).and_then(|index| self.snapshot.types.get(*index)) else { return };
        let calls = it.calls.clone();
        if is_relation {
            for function in calls {
                self.calls(user, function, true);
            }
        } else if let Some(index) = self.functions.get(&user)
            && let Some(function) = self.snapshot.functions.get_mut(*index)
        {
            function.argument_calls.extend(calls);
        }
    }

    fn function(&mut self, mut row: Row<'_>) {
        let (oid, schema, name, language) = (row.number(), row.text(), row.text(), row.text());
        let volatility = match row.next().as_deref() {
            Some("i") => Volatility::Immutable,
            Some("s") => Volatility::Stable,
            _ => Volatility::Volatile,
        };
        let (is_security_definer, owner) = (row.flag(), row.text());
        let source = row.next().map(|it| it.into_owned());
        let extension = row.next().map(|it| it.into_owned());
        let settings = row.next().unwrap_or_default();
        let settings = settings.split('\u{1}').filter_map(|it| it.split_once('='));
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.functions.insert(oid, self.snapshot.functions.len());
        self.snapshot.functions.push(Function {
            oid,
            schema,
            name,
            language,
            volatility,
            is_security_definer,
            owner,
            source,
            extension,
            settings,
            calls: Vec::new(),
            argument_calls: Vec::new(),
        });
    }

    fn argument_default(&mut self, mut row: Row<'_>) {
        let (function, called) = (row.number(), row.number());
        let is_named = called >= FIRST_USER_OID || facts::builtin_by_oid(called).is_none_or(|it| it.is_named);
        if is_named
            && let Some(index) = self.functions.get(&function)
            && let Some(function) = self.snapshot.functions.get_mut(*index)
        {
            function.argument_calls.push(called);
        }
    }

    fn aggregate(&mut self, mut row: Row<'_>) {
        let Some(index) = self.functions.get(&row.number()) else { return };
        if let Some(function) = self.snapshot.functions.get_mut(*index) {
            function.calls = (0..6).map(|_| row.number()).filter(|oid| *oid != 0).collect();
        }
    }
}
