//! The walk over queries and expressions. Every kind of node is known here, or it is a doubt.

use super::super::tree::Node;
use super::relation::Use;
use super::{At, Draft, Namer, Scope, bulk, command};
use crate::action::{Trait, Traits};
use crate::catalog::postgres as facts;

/// Longest text that each part of a statement repeats.
const REPEATED_BYTES: usize = 16 * 1024;

/// Kinds of node that mean nothing by themselves: what stands below them is walked.
const TRANSPARENT: &[&str] = &[
    "AArrayExpr",
    "AConst",
    "AIndices",
    "AStar",
    "AccessPriv",
    "Alias",
    "AlterTableCmd",
    "AtAlterConstraint",
    "BitString",
    "BoolExpr",
    "Boolean",
    "BooleanTest",
    "CaseWhen",
    "CoalesceExpr",
    "CollateClause",
    "ColumnDef",
    "Constraint",
    "CreateOpClassItem",
    "CteCycleClause",
    "CteSearchClause",
    "CurrentOfExpr",
    "DefElem",
    "Float",
    "FunctionParameter",
    "GroupingFunc",
    "GroupingSet",
    "IndexElem",
    "InferClause",
    "Integer",
    "JsonAggConstructor",
    "JsonArgument",
    "JsonArrayAgg",
    "JsonArrayConstructor",
    "JsonArrayQueryConstructor",
    "JsonBehavior",
    "JsonFormat",
    "JsonFuncExpr",
    "JsonIsPredicate",
    "JsonKeyValue",
    "JsonObjectAgg",
    "JsonObjectConstructor",
    "JsonOutput",
    "JsonParseExpr",
    "JsonReturning",
    "JsonScalarExpr",
    "JsonSerializeExpr",
    "JsonTable",
    "JsonTableColumn",
    "JsonTablePathSpec",
    "JsonValueExpr",
    "List",
    "MergeSupportFunc",
    "MergeWhenClause",
    "MinMaxExpr",
    "MultiAssignRef",
    "NamedArgExpr",
    "NullTest",
    "ObjectWithArgs",
    "OnConflictClause",
    "ParamRef",
    "PartitionBoundSpec",
    "PartitionCmd",
    "PartitionElem",
    "PartitionRangeDatum",
    "PartitionSpec",
    "PublicationObjSpec",
    "PublicationTable",
    "RangeFunction",
    "RangeSubselect",
    "RangeTableFunc",
    "RangeTableFuncCol",
    "RangeTableSample",
    "ReplicaIdentityStmt",
    "ResTarget",
    "ReturningClause",
    "ReturningOption",
    "ReturnStmt",
    "RoleSpec",
    "RowExpr",
    "SetToDefault",
    "SqlValueFunction",
    "SqlvalueFunction",
    "StatsElem",
    "String",
    "TableLikeClause",
    "TriggerTransition",
    "TypeName",
    "VacuumRelation",
    "WindowDef",
    "WithClause",
    "XmlExpr",
    "XmlSerialize",
    "IntoClause",
];

impl Namer<'_> {
    /// Walks a node for the draft it belongs to.
    pub(super) fn visit(&mut self, at: At, node: &Node, scope: &Scope<'_>) {
        self.tag_node(node);
        match node.kind {
            "SelectStmt" => self.select(at, node, scope),
            "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" if self.is_dry => self.change(at, node, scope),
            "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" => {
                let draft = self.hidden(command::name(node).unwrap_or_default());
                let hidden = self.push(draft);
                self.change(hidden, node, scope);
            }
            "RangeVar" => self.read(at, node, scope),
            // Its relations are names of the FROM list.
            "LockingClause" => {}
            "FuncCall" => {
                self.call(node);
                self.walk(at, node, scope);
            }
            "SubLink" => {
                if node.number("sub_link_type") == 7
                    && node.node("subselect").is_some_and(|it| bulk::is_bulk(it, scope))
                {
                    self.add(at, Trait::Export);
                }
                self.operators(node);
                self.walk(at, node, scope);
            }
            "AExpr" | "CaseExpr" | "JoinExpr" | "SortBy" => {
                self.operators(node);
                self.walk(at, node, scope);
            }
            "ColumnRef" | "AIndirection" => {
                self.attribute(node);
                self.walk(at, node, scope);
            }
            "TypeCast" => {
                self.cast(at, node);
                self.walk(at, node, scope);
            }
            // Its value is no name of anything.
            "AConst" => {}
            "TypeName" => {
                self.of_type(&node.names("names"));
                self.walk(at, node, scope);
            }
            // Before version 17 these are functions like any other, and may be a user's.
            kind if TRANSPARENT.contains(&kind) && (kind.starts_with("Json") || kind == "MergeSupportFunc") => {
                self.lookalikes(kind);
                self.walk(at, node, scope);
            }
            kind if TRANSPARENT.contains(&kind) => self.walk(at, node, scope),
            // A statement inside a statement: of a rule, a schema, a function's body.
            _ if command::name(node).is_some() => self.inner(at, node),
            kind => self.doubt(at, format!("`{kind}` is nothing that is known here")),
        }
    }

    pub(super) fn walk(&mut self, at: At, node: &Node, scope: &Scope<'_>) {
        for child in node.children() {
            self.visit(at, child, scope);
        }
    }

    pub(super) fn walk_but(&mut self, at: At, node: &Node, fields: &[&str], scope: &Scope<'_>) {
        for child in node.children_but(fields) {
            self.visit(at, child, scope);
        }
    }

    /// A draft for a part of the statement; with the whole text again only where that is short.
    pub(super) fn hidden(&self, command: impl Into<std::borrow::Cow<'static, str>>) -> Draft {
        let whole = self.drafts.first().map(|it| &it.parameters);
        let sql =
            whole.and_then(|it| it.get("sql")).filter(|it| it.as_str().is_some_and(|it| it.len() <= REPEATED_BYTES));
        Draft::with(command, sql.map(|it| ("sql".to_owned(), it.clone())).into_iter().collect())
    }

    pub(super) fn add(&mut self, at: At, what: Trait) {
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.traits = draft.traits.with(what);
        }
    }

    pub(super) fn add_all(&mut self, at: At, what: Traits) {
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.traits = draft.traits.union(what);
        }
    }

    /// Walks a WITH clause, and gives the scope in which its names hold.
    fn with<'s>(&mut self, at: At, node: &'s Node, scope: &'s Scope<'s>) -> Scope<'s> {
        let mut inner = Scope { names: Vec::new(), outer: Some(scope) };
        let Some(with) = node.node("with_clause") else { return inner };
        let queries: Vec<&Node> = with.nodes("ctes").collect();
        if with.flag("recursive") {
            // Each may name any; what it gives is bulk until shown otherwise.
            inner.names = queries.iter().map(|it| (it.text("ctename"), true)).collect();
        }
        for query in queries {
            let Some(body) = query.node("ctequery") else { continue };
            self.visit(at, body, &inner);
            self.walk_but(at, query, &["ctequery"], &inner);
            let is_bulk = body.kind != "SelectStmt" || bulk::is_bulk(body, &inner);
            inner.names.retain(|(name, _)| *name != query.text("ctename"));
            inner.names.push((query.text("ctename"), is_bulk));
        }
        inner
    }

    fn select(&mut self, at: At, node: &Node, scope: &Scope<'_>) {
        let inner = self.with(at, node, scope);
        if let Some(into) = node.node("into_clause") {
            self.makes(at, into);
        }
        self.walk_but(at, node, &["with_clause", "into_clause"], &inner);
        if is_collecting(node) && bulk::is_bulk(node, &inner) {
            self.add(at, Trait::Export);
        }
    }

    /// INSERT, UPDATE, DELETE, MERGE.
    pub(super) fn change(&mut self, at: At, node: &Node, scope: &Scope<'_>) {
        self.tag_node(node);
        let inner = self.with(at, node, scope);
        if let Some(target) = node.node("relation") {
            let target = self.relation(at, target, Use::Write);
            match node.kind {
                "DeleteStmt" => self.cascades(at, target, true),
                "UpdateStmt" => self.cascades(at, target, false),
                "MergeStmt" => {
                    self.cascades(at, target.clone(), true);
                    self.cascades(at, target, false);
                }
                _ => {}
            }
        }
        self.walk_but(at, node, &["with_clause", "relation"], &inner);
        let is_whole = |field: &str| bulk::is_whole(node, node.node(field));
        let is_destructive = match node.kind {
            "InsertStmt" => bulk::writes_over_itself(node),
            "UpdateStmt" | "DeleteStmt" => is_whole("where_clause"),
            "MergeStmt" => node.nodes("merge_when_clauses").any(|when| {
                // UPDATE or DELETE of what has no match, or of all.
                matches!(when.number("command_type"), 3 | 5)
                    && (when.number("match_kind") == 2 || is_whole("join_condition"))
            }),
            _ => false,
        };
        if is_destructive && !self.is_dry {
            self.add(at, Trait::Destructive);
        }
    }
}

/// Whether a query's own target list or HAVING collects rows into one value; sub-queries answer for themselves.
fn is_collecting(select: &Node) -> bool {
    let mut left: Vec<&Node> = select.nodes("target_list").chain(select.node("having_clause")).collect();
    left.extend(select.nodes("sort_clause"));
    while let Some(node) = left.pop() {
        match node.kind {
            "SelectStmt" => continue,
            "JsonArrayAgg" | "JsonObjectAgg" => return true,
            "FuncCall" if node.names("funcname").last().is_some_and(|name| facts::is_collecting(name)) => return true,
            // `t.array_agg` is `array_agg(t)`.
            "ColumnRef" if node.names("fields").iter().skip(1).any(|name| facts::is_collecting(name)) => return true,
            "AIndirection" if node.names("indirection").iter().any(|name| facts::is_collecting(name)) => return true,
            _ => left.extend(node.children()),
        }
    }
    false
}

#[cfg(test)]
pub(super) fn is_transparent(kind: &str) -> bool {
    TRANSPARENT.contains(&kind)
}
