//! How far a statement reaches, estimated before people are asked: the planner's own estimate, the sizes of
//! its relations, what CASCADE would take, and the locks that its session holds while they think.
//!
//! Nothing of the statement runs. EXPLAIN without ANALYZE still computes what is constant, so that a
//! statement which calls functions of users, or is in doubt, is not explained.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::lookup::{Line, LineError, Row};
use super::narrowing::Bound;
use super::upstream::{Host, Upstream};
use crate::action::{Action, Trait};
use crate::wire::postgres::frontend;

/// For all of it.
const LIMIT: Duration = Duration::from_secs(2);
/// Connections for estimates.
const MOST_AT_ONCE: usize = 4;
/// Things of one kind that are listed; more are counted.
const LISTED: usize = 10;
/// Relations whose sizes are asked for.
const MOST_RELATIONS: usize = 20;

/// One line of an estimate: what it is about, and what it says.
pub(super) type Finding = (String, String);

/// A statement that waits for people.
pub(super) struct Subject {
    /// The text of its only statement; `None` where it is not to be explained, and why.
    pub(super) text: Result<Bytes, &'static str>,
    pub(super) bound: Bound,
    pub(super) actions: Arc<[Action]>,
    pub(super) search_path: Vec<String>,
    pub(super) has_standard_strings: bool,
    pub(super) database: String,
    /// The server's process for the session, where a transaction is open.
    pub(super) process: Option<(Host, u32)>,
}

/// The way to estimates, each on a connection of its own; few of them at once.
pub(super) struct Reach {
    upstream: Arc<Upstream>,
    turns: Semaphore,
}

impl Reach {
    pub(super) fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream, turns: Semaphore::new(MOST_AT_ONCE) }
    }

    /// Estimates in a bounded time. What could not be found out is said, with the reason.
    pub(super) async fn gather(&self, subject: &Subject) -> Vec<Finding> {
        let mut findings = Vec::new();
        let work = async {
            let _turn = self.turns.acquire().await;
            ask(&self.upstream, subject, &mut findings).await
        };
        let failed = match tokio::time::timeout(LIMIT, work).await {
            Ok(Ok(())) => return findings,
            Ok(Err(error)) => reason(&error),
            Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
        };
        findings.push(("estimate".to_owned(), format!("not complete: {failed}")));
        findings
    }
}

/// An error without the server's words, which may repeat values.
fn reason(error: &LineError) -> String {
    match error {
        LineError::Refused { code, .. } => format!("the server refuses (SQLSTATE {code})"),
        LineError::Connect(_) => "the server cannot be reached".to_owned(),
        other => other.to_string(),
    }
}

async fn ask(upstream: &Arc<Upstream>, subject: &Subject, findings: &mut Vec<Finding>) -> Result<(), LineError> {
    let mut line = Line::open(upstream, &subject.database, LIMIT).await?;
    if let Some((host, process)) = &subject.process {
        match *host == line.host {
            true => locks(&mut line, *process, findings).await?,
            false => findings.push(("locks".to_owned(), format!("not known: the session is on {host}"))),
        }
    }
    let relations = relations(subject);
    sizes(&mut line, &relations, findings).await?;
    dependants(&mut line, subject, &relations, findings).await?;
    match may_explain(subject) {
        Err("") => {}
        Err(why) => findings.push(("estimate".to_owned(), format!("not made: {why}"))),
        Ok(text) => {
            let said = match explain(&mut line, subject, text).await {
                Ok(said) => said,
                Err(error @ LineError::Refused { .. }) => format!("not made: {}", reason(&error)),
                Err(error) => return Err(error),
            };
            findings.push(("estimate".to_owned(), said));
        }
    }
    Ok(())
}

/// The text to explain, or why there is none; empty where a plan is nothing that such a statement has.
fn may_explain(subject: &Subject) -> Result<&Bytes, &'static str> {
    const PLANNED: [&str; 6] = [
        "postgres:delete",
        "postgres:insert",
        "postgres:merge",
        "postgres:select",
        "postgres:update",
        "postgres:values",
    ];
    let is_planned = subject.actions.first().is_some_and(|it| PLANNED.contains(&&*it.name));
    if !is_planned {
        return Err("");
    }
    let has = |what: Trait| subject.actions.iter().any(|it| it.traits.contains(what));
    if has(Trait::Unknown) {
        return Err("the statement is in doubt");
    }
    if has(Trait::Exec) || subject.actions.iter().any(|it| it.name == "postgres:function_call") {
        return Err("the statement runs functions, and planning might run them");
    }
    subject.text.as_ref().map_err(|why| *why)
}

async fn explain(line: &mut Line, subject: &Subject, text: &[u8]) -> Result<String, LineError> {
    let quoted = subject.search_path.iter().map(|it| format!("\"{}\"", it.replace('"', "\"\"")));
    let path = quoted.collect::<Vec<_>>().join(", ");
    let path = if path.is_empty() { "''".to_owned() } else { path };
    let strings = if subject.has_standard_strings { "on" } else { "off" };
    let settings = format!(
        "BEGIN READ ONLY; SET LOCAL search_path = {path}; SET LOCAL standard_conforming_strings = {strings}; \
         SET LOCAL jit = off"
    );
    line.ask(&settings, |_| {}).await?;
    let sql = [b"EXPLAIN (FORMAT JSON) ".as_slice(), text].concat();
    let values = subject.bound.values();
    let types: Vec<u32> = values.iter().map(|it| it.type_oid).collect();
    let values: Vec<_> = values.iter().map(|it| (it.is_binary, it.bytes)).collect();
    let mut messages = BytesMut::new();
    frontend::parse(&mut messages, b"", &sql, &types);
    frontend::bind(&mut messages, b"", b"", &values);
    frontend::execute(&mut messages, b"", 0);
    frontend::sync(&mut messages);
    let mut plan = String::new();
    let explained = line.exchange(&messages, |mut row| plan.push_str(&row.text())).await;
    line.ask("ROLLBACK", |_| {}).await?;
    explained?;
    let plan: Value = serde_json::from_str(&plan).unwrap_or_default();
    Ok(plan.pointer("/0/Plan").and_then(spoken).unwrap_or_else(|| "not made: the plan cannot be read".to_owned()))
}

/// What the top of a plan says about rows.
fn spoken(plan: &Value) -> Option<String> {
    let rows = |node: &Value| node.get("Plan Rows").and_then(Value::as_f64);
    if plan.get("Node Type")?.as_str()? != "ModifyTable" {
        return Some(format!("about {} row(s) read, by the planner", rows(plan)?));
    }
    let parts = plan.get("Plans").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let sum: f64 = parts.iter().filter_map(rows).sum();
    let verb = match plan.get("Operation").and_then(Value::as_str) {
        Some("Delete") => "deleted",
        Some("Update") => "updated",
        Some("Insert") => "inserted",
        _ => "changed",
    };
    Some(format!("about {sum} row(s) {verb}, by the planner"))
}

/// Schema and name, as one text, of what the actions name in this database.
fn relations(subject: &Subject) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for resource in subject.actions.iter().flat_map(|it| &it.resources) {
        let name = resource.strip_prefix("postgres:").and_then(|it| it.strip_prefix(subject.database.as_str()));
        let Some(name) = name.and_then(|it| it.strip_prefix('/')) else { continue };
        if name.contains('.') && !name.contains('/') && !found.contains(&name) && found.len() < MOST_RELATIONS {
            found.push(name);
        }
    }
    found
}

/// `$1, $2, …`
fn places(count: usize) -> String {
    (1..=count).map(|it| format!("${it}")).collect::<Vec<_>>().join(", ")
}

/// From the statistics: the files themselves may be locked.
async fn sizes(line: &mut Line, relations: &[&str], findings: &mut Vec<Finding>) -> Result<(), LineError> {
    if relations.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT n.nspname || '.' || c.relname, c.reltuples::int8, pg_size_pretty((c.relpages::int8 + \
         coalesce((SELECT sum(i.relpages) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
         WHERE x.indrelid = c.oid), 0)::int8 + coalesce((SELECT t.relpages FROM pg_class t \
         WHERE t.oid = c.reltoastrelid), 0)) * current_setting('block_size')::int8), c.relkind, \
         (SELECT greatest(s.last_analyze, s.last_autoanalyze)::date FROM pg_stat_all_tables s WHERE s.relid = c.oid) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname || '.' || c.relname IN ({}) AND c.relkind IN ('r', 'p', 'm', 'f')",
        places(relations.len())
    );
    line.ask_with(&sql, relations, |mut row| {
        let (name, rows, size) = (row.text(), row.text(), row.text());
        let (kind, analysed) = (row.text(), row.next());
        // Version 14 and later: -1; before: 0 rows in 0 pages.
        let said = match (rows.as_str(), kind.as_str(), analysed) {
            ("-1", ..) | ("0", _, None) => "never analysed: its rows are not known".to_owned(),
            (_, "f", _) => format!("about {rows} rows on another server"),
            (_, _, Some(day)) => format!("about {rows} rows, {size}, as of {day}"),
            _ => format!("about {rows} rows, {size}"),
        };
        findings.push((name, said));
    })
    .await
}

async fn dependants(
    line: &mut Line,
    subject: &Subject,
    relations: &[&str],
    findings: &mut Vec<Finding>,
) -> Result<(), LineError> {
    let cascading = subject.actions.iter().find(|it| it.parameters.get("cascade") == Some(&Value::Bool(true)));
    let Some(action) = cascading else { return Ok(()) };
    let schemas = format!("postgres:{}/schema/", subject.database);
    let schemas: Vec<&str> = action.resources.iter().filter_map(|it| it.strip_prefix(&schemas)).collect();
    let is_drop = action.name.starts_with("postgres:drop_");
    let (names, start) = match (is_drop, schemas.is_empty()) {
        (true, false) => (schemas, "SELECT 'pg_namespace'::regclass::oid, oid FROM pg_namespace WHERE nspname IN "),
        _ => (
            relations.to_vec(),
            "SELECT 'pg_class'::regclass::oid, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname || '.' || c.relname IN ",
        ),
    };
    if names.is_empty() {
        findings.push(("cascade".to_owned(), "not known: what depends on it was not looked for".to_owned()));
        return Ok(());
    }
    let start = format!("{start}({})", places(names.len()));
    let sql = if is_drop { dropped(&start) } else { truncated(&start) };
    let (mut count, mut listed) = (0_usize, Vec::new());
    line.ask_with(&sql, &names, |mut row| {
        count += 1;
        if listed.len() < LISTED {
            listed.push(row.text());
        }
    })
    .await?;
    let said = list(count, &listed).map_or_else(|| "takes nothing else".to_owned(), |it| format!("also takes {it}"));
    findings.push(("cascade".to_owned(), said));
    Ok(())
}

/// All that goes with the start of a walk over dependencies, but for what is only a part of it.
fn dropped(start: &str) -> String {
    format!(
        "WITH RECURSIVE start(classid, objid) AS ({start}), gone AS (\
         SELECT classid, objid FROM start UNION SELECT x.classid, x.objid FROM gone g, LATERAL (\
         SELECT d.classid, d.objid FROM pg_depend d WHERE d.refclassid = g.classid AND d.refobjid = g.objid \
         AND d.deptype IN ('n', 'a', 'i') UNION ALL SELECT 'pg_class'::regclass::oid, r.ev_class FROM pg_rewrite r \
         WHERE g.classid = 'pg_rewrite'::regclass AND r.oid = g.objid) x) \
         SELECT pg_describe_object(classid, objid, 0) FROM gone g LEFT JOIN pg_class c \
         ON g.classid = 'pg_class'::regclass AND c.oid = g.objid LEFT JOIN pg_constraint k \
         ON g.classid = 'pg_constraint'::regclass AND k.oid = g.objid \
         WHERE (c.relkind IN ('r', 'p', 'v', 'm', 'f') OR (k.contype = 'f' AND NOT EXISTS (SELECT FROM gone o \
         WHERE o.classid = 'pg_class'::regclass AND o.objid = k.conrelid)) OR g.classid IN ('pg_proc'::regclass, \
         'pg_policy'::regclass)) AND (g.classid, g.objid) NOT IN (SELECT classid, objid FROM start) \
         ORDER BY 1 LIMIT 10001"
    )
}

fn truncated(start: &str) -> String {
    format!(
        "WITH RECURSIVE start(classid, objid) AS ({start}), gone AS (SELECT objid FROM start \
         UNION SELECT k.conrelid FROM gone g JOIN pg_constraint k ON k.confrelid = g.objid AND k.contype = 'f') \
         SELECT 'table ' || n.nspname || '.' || c.relname || CASE WHEN c.reltuples < 0 THEN '' \
         ELSE ', about ' || c.reltuples::int8 || ' rows' END FROM gone g JOIN pg_class c ON c.oid = g.objid \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE g.objid NOT IN (SELECT objid FROM start) \
         ORDER BY 1 LIMIT 10001"
    )
}

/// What was listed and how many more there are; `None` for nothing.
fn list(count: usize, listed: &[String]) -> Option<String> {
    match count.saturating_sub(listed.len()) {
        _ if count == 0 => None,
        0 => Some(listed.join("; ")),
        more => Some(format!("{}; and {more} more", listed.join("; "))),
    }
}

/// What the session's open transaction keeps from others, and from whom.
async fn locks(line: &mut Line, process: u32, findings: &mut Vec<Finding>) -> Result<(), LineError> {
    let process = process.to_string();
    let held = "SELECT coalesce(n.nspname || '.' || c.relname, l.locktype || coalesce(' ' || l.relation, '')), \
        string_agg(DISTINCT l.mode, ', ') FROM pg_locks l LEFT JOIN pg_class c ON c.oid = l.relation \
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
        LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.pid = $1::int4 AND l.granted \
        AND l.locktype NOT IN ('virtualxid', 'transactionid') \
        AND n.nspname IS DISTINCT FROM 'pg_catalog' GROUP BY 1 ORDER BY 1";
    let (mut count, mut listed) = (0_usize, Vec::new());
    line.ask_with(held, &[&process], |mut row| {
        count += 1;
        if listed.len() < LISTED {
            listed.push(format!("{} ({})", row.text(), row.text()));
        }
    })
    .await?;
    findings.push(("locks held".to_owned(), list(count, &listed).unwrap_or_else(|| "none on relations".to_owned())));
    let waiting = "SELECT pid, usename, coalesce(extract(epoch FROM now() - query_start)::int8, 0) \
        FROM pg_stat_activity WHERE $1::int4 = ANY (pg_blocking_pids(pid)) ORDER BY 1";
    let (mut count, mut listed) = (0_usize, Vec::new());
    line.ask_with(waiting, &[&process], |mut row: Row<'_>| {
        count += 1;
        if listed.len() < LISTED {
            listed.push(format!("process {} of {} for {} s", row.text(), row.text(), row.text()));
        }
    })
    .await?;
    findings.push(("waiting for them".to_owned(), list(count, &listed).unwrap_or_else(|| "nobody now".to_owned())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rows_of_a_change_are_those_that_its_parts_find() {
        let plan = json!({ "Node Type": "ModifyTable", "Operation": "Delete", "Plan Rows": 0,
            "Plans": [{ "Node Type": "Seq Scan", "Plan Rows": 40 }, { "Node Type": "Seq Scan", "Plan Rows": 2 }] });
        assert_eq!(spoken(&plan).as_deref(), Some("about 42 row(s) deleted, by the planner"));
        let plan = json!({ "Node Type": "Seq Scan", "Plan Rows": 7 });
        assert_eq!(spoken(&plan).as_deref(), Some("about 7 row(s) read, by the planner"));
        assert_eq!(spoken(&json!({})), None);
    }
}
