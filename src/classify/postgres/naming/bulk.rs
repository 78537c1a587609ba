//! Whether a query takes all of a table: an absent or idle WHERE, and aggregates that collect.

use super::super::tree::{Node, Tree};
use super::Scope;

/// Rows up to which a LIMIT makes an answer small.
const FEW: i64 = 1000;

/// Whether a query may give all rows of a user's relation.
pub(super) fn is_bulk(select: &Node, scope: &Scope<'_>) -> bool {
    if select.node("limit_count").is_some_and(is_few) {
        return false;
    }
    if let (Some(left), Some(right)) = (select.node("larg"), select.node("rarg")) {
        return is_bulk(left, scope) || is_bulk(right, scope);
    }
    select.nodes("from_clause").any(|item| is_bulk_item(item, scope))
        && !select.node("where_clause").is_some_and(|it| narrows(it, select))
}

fn is_few(limit: &Node) -> bool {
    limit.node("val").is_some_and(|it| it.kind == "Integer" && it.number("ival") <= FEW)
}

fn is_bulk_item(item: &Node, scope: &Scope<'_>) -> bool {
    match item.kind {
        "RangeVar" => {
            let (schema, name) = (item.text("schemaname"), item.text("relname"));
            match scope.find(name).filter(|_| schema.is_empty()) {
                Some(is_bulk) => is_bulk,
                None => !matches!(schema, "pg_catalog" | "information_schema") && !name.starts_with("pg_"),
            }
        }
        "RangeSubselect" => item.node("subquery").is_some_and(|it| is_bulk(it, scope)),
        "JoinExpr" => {
            let sides = [item.node("larg"), item.node("rarg")];
            sides.into_iter().flatten().any(|it| is_bulk_item(it, scope))
                && !item.node("quals").is_some_and(|it| narrows(it, item))
        }
        "RangeTableSample" => true,
        _ => false,
    }
}

/// Whether a condition picks rows by a value: an equality of a column with something that is no column of
/// the query itself.
fn narrows(condition: &Node, query: &Node) -> bool {
    match condition.kind {
        "BoolExpr" => {
            let mut parts = condition.nodes("args");
            match condition.number("boolop") {
                1 => parts.any(|it| narrows(it, query)),
                2 => parts.all(|it| narrows(it, query)),
                _ => false,
            }
        }
        "AExpr" => {
            let Some(left) = condition.node("lexpr") else { return false };
            match (condition.number("kind"), condition.names("name").last().copied()) {
                (1 | 2, Some("=")) => {
                    let Some(right) = condition.node("rexpr") else { return false };
                    is_outer(left, right, query) || is_outer(right, left, query)
                }
                (7, Some("=")) | (11, _) => left.kind == "ColumnRef",
                _ => false,
            }
        }
        "SubLink" => {
            condition.number("sub_link_type") == 3
                && condition.node("testexpr").is_some_and(|it| it.kind == "ColumnRef")
        }
        "CurrentOfExpr" => true,
        _ => false,
    }
}

/// A column on one side, and on the other something that the query's own rows do not give.
fn is_outer(column: &Node, other: &Node, query: &Node) -> bool {
    if column.kind != "ColumnRef" {
        return false;
    }
    let columns = columns(other);
    // A column of an outer query is qualified with a name that this one's FROM does not have.
    columns.iter().all(|it| {
        let names = it.names("fields");
        names.len() > 1 && !names.first().is_some_and(|first| aliases(query).contains(first))
    })
}

fn columns(node: &Node) -> Vec<&Node> {
    let (mut found, mut left) = (Vec::new(), vec![node]);
    while let Some(node) = left.pop() {
        if node.kind == "ColumnRef" {
            found.push(node);
        } else {
            left.extend(node.children());
        }
    }
    found
}

fn aliases(query: &Node) -> Vec<&str> {
    let mut left: Vec<&Node> = query.nodes("from_clause").collect();
    left.extend([query.node("larg"), query.node("rarg")].into_iter().flatten());
    let mut found = Vec::new();
    while let Some(item) = left.pop() {
        let alias = item.node("alias").map_or("", |it| it.text("aliasname"));
        found.push(if alias.is_empty() { item.text("relname") } else { alias });
        left.extend([item.node("larg"), item.node("rarg")].into_iter().flatten());
    }
    found
}

/// Whether a change of a table takes all of it: without a condition, with an idle one, or with one that its
/// own rows meet.
pub(super) fn is_whole(change: &Node, condition: Option<&Node>) -> bool {
    let Some(condition) = condition else { return true };
    let target = change.node("relation").map_or("", |it| it.text("relname"));
    let others = change.nodes("from_clause").chain(change.nodes("using_clause")).chain(change.node("source_relation"));
    is_idle(condition)
        || is_met_by_all_of(target, condition)
        || others.into_iter().any(|it| it.kind == "RangeVar" && it.text("relname") == target) && !has_value(condition)
}

/// Whether an INSERT writes over every row of the table that it reads.
pub(super) fn writes_over_itself(insert: &Node) -> bool {
    let target = insert.node("relation").map_or("", |it| it.text("relname"));
    let conflict = insert.node("on_conflict_clause").filter(|it| it.nodes("target_list").next().is_some());
    conflict.is_some_and(|it| it.node("where_clause").is_none_or(is_idle))
        && insert.node("select_stmt").is_some_and(|it| is_all_of(target, it))
}

/// `x IN (SELECT x FROM target)`, also as a part that an OR or an AND of such leaves open.
fn is_met_by_all_of(target: &str, condition: &Node) -> bool {
    match condition.kind {
        "BoolExpr" => {
            let mut parts = condition.nodes("args");
            let is_met = |it: &Node| is_idle(it) || is_met_by_all_of(target, it);
            match condition.number("boolop") {
                1 => parts.all(is_met),
                2 => parts.any(is_met),
                _ => false,
            }
        }
        "SubLink" => condition.node("subselect").is_some_and(|it| is_all_of(target, it)),
        "AExpr" => {
            let array = condition.node("rexpr").filter(|it| it.kind == "SubLink");
            array.and_then(|it| it.node("subselect")).is_some_and(|it| is_all_of(target, it))
        }
        _ => false,
    }
}

/// Whether a query gives every row of that relation.
fn is_all_of(target: &str, select: &Node) -> bool {
    if let (Some(left), Some(right)) = (select.node("larg"), select.node("rarg")) {
        return is_all_of(target, left) || is_all_of(target, right);
    }
    let mut from = select.nodes("from_clause");
    let is_alone = matches!((from.next(), from.next()), (Some(item), None)
        if item.kind == "RangeVar" && item.text("relname") == target);
    is_alone && select.node("where_clause").is_none_or(is_idle) && !select.has("limit_count")
}

/// Whether something in it is no column: a value that rows are picked by.
fn has_value(condition: &Node) -> bool {
    let mut left = vec![condition];
    while let Some(node) = left.pop() {
        if matches!(node.kind, "AConst" | "ParamRef" | "SubLink" | "CurrentOfExpr") {
            return true;
        }
        left.extend(node.children());
    }
    false
}

/// Whether a WHERE leaves every row in: it asks nothing of a column, or asks what each row meets.
pub(super) fn is_idle(condition: &Node) -> bool {
    match condition.kind {
        "BoolExpr" => {
            let mut parts = condition.nodes("args");
            match condition.number("boolop") {
                2 => parts.any(is_idle),
                _ => parts.all(is_idle),
            }
        }
        "NullTest" | "BooleanTest" => true,
        "AExpr" => match (condition.node("lexpr"), condition.node("rexpr")) {
            (Some(left), Some(right)) if is_same(left, right) => true,
            (_, Some(right)) if matches!(condition.number("kind"), 8 | 9) && text(right) == Some("%") => true,
            _ => is_constant(condition),
        },
        // EXISTS over rows of its own.
        "SubLink" if condition.number("sub_link_type") == 1 => condition
            .node("subselect")
            .is_none_or(|it| columns(it).is_empty() || it.node("where_clause").is_none_or(is_idle) && !has_join(it)),
        _ => is_constant(condition),
    }
}

/// A condition may stand in a join instead of in WHERE, or in HAVING.
fn has_join(select: &Node) -> bool {
    select.has("having_clause") || select.nodes("from_clause").any(|it| it.kind != "RangeVar")
}

fn is_constant(node: &Node) -> bool {
    let mut left = vec![node];
    while let Some(node) = left.pop() {
        if matches!(node.kind, "ColumnRef" | "SubLink" | "CurrentOfExpr") {
            return false;
        }
        left.extend(node.children());
    }
    true
}

/// The text of a string constant.
pub(super) fn text(node: &Node) -> Option<&str> {
    match node.kind {
        "AConst" => node.node("val").filter(|it| it.kind == "String").map(|it| it.text("sval")),
        "TypeCast" | "NamedArgExpr" | "CollateClause" => text(node.node("arg")?),
        _ => None,
    }
}

/// Whether two expressions are written alike.
fn is_same(left: &Node, right: &Node) -> bool {
    let mut pairs = vec![(left, right)];
    while let Some((left, right)) = pairs.pop() {
        if left.kind != right.kind {
            return false;
        }
        let (ours, theirs) = (left.children(), right.children());
        if ours.len() != theirs.len()
            || ["sval", "ival", "fval", "number"].iter().any(|name| !is_equal(left.field(name), right.field(name)))
        {
            return false;
        }
        pairs.extend(ours.into_iter().zip(theirs));
    }
    true
}

fn is_equal(left: &Tree, right: &Tree) -> bool {
    match (left, right) {
        // Compared as nodes of their own.
        (Tree::Node(_), Tree::Node(_)) | (Tree::List(_), Tree::List(_)) => true,
        _ => left == right,
    }
}
