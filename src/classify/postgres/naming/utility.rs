//! Statements that are no queries: what they are about, and what in them runs.

use super::super::Effect;
use super::super::tree::{Node, Tree};
use super::relation::Use;
use super::session::moves_names;
use super::{At, Namer, Scope, bulk, command};
use crate::action::{Access, Trait};
use crate::catalog::postgres as facts;

/// Kinds that only hold what a definition is made of.
const STRUCTURE: &[&str] = &[
    "AccessPriv",
    "AlterTableCmd",
    "AtAlterConstraint",
    "Boolean",
    "ColumnDef",
    "Constraint",
    "CreateOpClassItem",
    "DefElem",
    "Float",
    "FunctionParameter",
    "IndexElem",
    "Integer",
    "IntoClause",
    "List",
    "PartitionBoundSpec",
    "PartitionCmd",
    "PartitionElem",
    "PartitionRangeDatum",
    "PartitionSpec",
    "PublicationObjSpec",
    "PublicationTable",
    "ReplicaIdentityStmt",
    "StatsElem",
    "String",
    "TableLikeClause",
    "TriggerTransition",
    "TypeName",
    "VacuumRelation",
];

/// Kind of node, field with a name, and what it names.
const NAMED: &[(&str, &str, &str)] = &[
    ("AlterDatabaseSetStmt", "dbname", "database"),
    ("AlterDatabaseStmt", "dbname", "database"),
    ("AlterEventTrigStmt", "trigname", "event_trigger"),
    ("AlterExtensionContentsStmt", "extname", "extension"),
    ("AlterExtensionStmt", "extname", "extension"),
    ("AlterFdwStmt", "fdwname", "foreign_data_wrapper"),
    ("AlterForeignServerStmt", "servername", "server"),
    ("AlterPublicationStmt", "pubname", "publication"),
    ("AlterSubscriptionStmt", "subname", "subscription"),
    ("AlterTableSpaceOptionsStmt", "tablespacename", "tablespace"),
    ("AlterUserMappingStmt", "servername", "server"),
    ("CreateEventTrigStmt", "trigname", "event_trigger"),
    ("CreateExtensionStmt", "extname", "extension"),
    ("CreateFdwStmt", "fdwname", "foreign_data_wrapper"),
    ("CreateForeignServerStmt", "servername", "server"),
    ("CreateForeignTableStmt", "servername", "server"),
    ("CreatePLangStmt", "plname", "language"),
    ("CreatePublicationStmt", "pubname", "publication"),
    ("CreateRoleStmt", "role", "role"),
    ("CreateSchemaStmt", "schemaname", "schema"),
    ("CreateSubscriptionStmt", "subname", "subscription"),
    ("CreateTableSpaceStmt", "tablespacename", "tablespace"),
    ("CreateUserMappingStmt", "servername", "server"),
    ("CreatedbStmt", "dbname", "database"),
    ("DropSubscriptionStmt", "subname", "subscription"),
    ("DropTableSpaceStmt", "tablespacename", "tablespace"),
    ("DropUserMappingStmt", "servername", "server"),
    ("DropdbStmt", "dbname", "database"),
    ("ImportForeignSchemaStmt", "server_name", "server"),
    ("ListenStmt", "conditionname", "channel"),
    ("NotifyStmt", "conditionname", "channel"),
    ("UnlistenStmt", "conditionname", "channel"),
];

impl Namer<'_> {
    /// Fills the draft of a statement from its node.
    pub(super) fn fill(&mut self, at: At, node: &Node, text: &str) -> Effect {
        let made = self.created.len();
        let effect = match node.kind {
            "SelectStmt" => {
                self.visit(at, node, &Scope::ROOT);
                self.set_by_select(node).unwrap_or(Effect::None)
            }
            "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" => {
                self.change(at, node, &Scope::ROOT);
                Effect::None
            }
            "ExplainStmt" => self.explain(at, node, text),
            "VariableSetStmt" => {
                let effect = self.set(at, node);
                self.moves_names |= matches!(&effect, Effect::Set { name, .. } if moves_names(Some(name)));
                effect
            }
            "TransactionStmt" => self.transaction(at, node),
            "PrepareStmt" => self.prepare(at, node, text),
            "ExecuteStmt" => self.execute(at, node),
            "DeallocateStmt" => Effect::Deallocate(named(node, "name")),
            "DeclareCursorStmt" => self.declare(at, node),
            "FetchStmt" => Effect::Fetch { cursor: node.text("portalname").to_owned() },
            "ClosePortalStmt" => Effect::Close(named(node, "portalname")),
            "DiscardStmt" => match node.number("target") {
                1 => Effect::DiscardAll,
                4 => Effect::DiscardTemporary,
                _ => Effect::None,
            },
            "CopyStmt" => self.copy(at, node),
            _ => self.definition(at, node),
        };
        match self.created.get(made..) {
            Some(names) if !names.is_empty() && effect == Effect::None => Effect::Creates(names.to_vec()),
            _ => effect,
        }
    }

    /// A statement inside another, as a draft of its own.
    pub(super) fn inner(&mut self, at: At, node: &Node) {
        let text = self.drafts.get(at).and_then(|it| it.parameters.get("sql")).and_then(|it| it.as_str());
        let text = text.unwrap_or_default().to_owned();
        let effect = self.inner_of(at, node, &text);
        if !matches!(effect, Effect::None | Effect::CopyIn | Effect::CopyOut | Effect::Creates(_)) {
            self.is_dynamic = true;
        }
    }

    pub(super) fn inner_of(&mut self, at: At, node: &Node, text: &str) -> Effect {
        let Some(name) = command::name(node) else {
            self.doubt(at, format!("`{}` is no statement that is known here", node.kind));
            return Effect::Dynamic;
        };
        let draft = self.hidden(name);
        let inner = self.push(draft);
        self.fill(inner, node, text)
    }

    fn copy(&mut self, at: At, node: &Node) -> Effect {
        self.tag_node(node);
        let is_from = node.flag("is_from");
        if let Some(relation) = node.node("relation") {
            let (schema, name) = self.relation(at, relation, if is_from { Use::Write } else { Use::Read });
            for column in node.names("attlist") {
                let resource = self.resource(&[&schema, &name, column]);
                if let Some(draft) = self.drafts.get_mut(at) {
                    draft.resource(resource);
                }
            }
        }
        self.walk_but(at, node, &["relation"], &Scope::ROOT);
        let file = node.text("filename");
        let Some(draft) = self.drafts.get_mut(at) else { return Effect::Dynamic };
        if node.flag("is_program") {
            draft.resource(format!("program:{file}"));
        } else if !file.is_empty() {
            draft.resource(format!("file:{file}"));
        }
        if node.flag("is_program") || !file.is_empty() {
            draft.traits = draft.traits.with(Trait::Exec);
            return Effect::None;
        }
        if is_from { Effect::CopyIn } else { Effect::CopyOut }
    }

    /// Notes what a CREATE makes, of INTO or a definition.
    pub(super) fn makes(&mut self, at: At, into: &Node) {
        if let Some(relation) = into.node("rel") {
            self.makes_relation(at, relation);
        }
        self.walk_but(at, into, &["rel", "view_query"], &Scope::ROOT);
        self.event_calls();
    }

    pub(super) fn makes_relation(&mut self, at: At, relation: &Node) {
        let schema = relation.text("schemaname");
        let is_temporary = relation.text("relpersistence") == "t" || schema.starts_with("pg_temp");
        let schema = if is_temporary { "pg_temp" } else { schema };
        let (schema, name) = self.relation_named(at, schema, relation.text("relname"), Use::Define);
        if is_temporary && let Some(draft) = self.drafts.get_mut(at) {
            draft.is_temporary = true;
        }
        self.created.push(format!("{schema}.{name}"));
    }

    /// Everything else: its objects become resources, its expressions and inner statements are walked.
    fn definition(&mut self, at: At, node: &Node) -> Effect {
        for (_, field, noun) in NAMED.iter().filter(|(kind, ..)| *kind == node.kind) {
            let resource = self.resource_of(noun, node.text(field));
            if !node.text(field).is_empty()
                && let Some(draft) = self.drafts.get_mut(at)
            {
                draft.resource(resource);
            }
        }
        if node.number("behavior") == 2
            && let Some(draft) = self.drafts.get_mut(at)
        {
            draft.set("cascade", true);
        }
        self.moves(node);
        let is_definition =
            command::name(node).and_then(|it| facts::command(&it)).is_some_and(|it| it.traits.contains(Trait::Schema));
        if is_definition || matches!(node.kind, "CommentStmt" | "RefreshMatViewStmt") {
            self.event_calls();
        }
        match node.kind {
            "CreateStmt" => self.makes_parts(at, node, "relation"),
            "ViewStmt" => self.makes_parts(at, node, "view"),
            "CreateSeqStmt" => self.makes_parts(at, node, "sequence"),
            "CreateForeignTableStmt" => {
                let base = node.node("base_stmt");
                if let Some(base) = base {
                    self.makes_parts(at, base, "relation");
                }
                self.parts_but(at, node, &["base_stmt"]);
            }
            "CreateTableAsStmt" => {
                if let Some(into) = node.node("into") {
                    self.makes(at, into);
                }
                let query = node.node("query").filter(|it| it.kind == "ExecuteStmt");
                if let Some(query) = query {
                    return self.inner_of(at, query, "");
                }
                self.walk_but(at, node, &["into"], &Scope::ROOT);
            }
            "DropStmt" => self.drop_objects(at, node),
            "TruncateStmt" => {
                for relation in node.nodes("relations") {
                    self.relation(at, relation, Use::Write);
                }
            }
            "RefreshMatViewStmt" => {
                if let Some(relation) = node.node("relation") {
                    self.relation(at, relation, Use::Read);
                }
            }
            "LoadStmt" => {
                if let Some(draft) = self.drafts.get_mut(at) {
                    draft.resource(format!("file:{}", node.text("filename")));
                }
            }
            "VariableShowStmt" | "CheckPointStmt" | "ConstraintsSetStmt" => self.parts(at, node),
            _ => self.access(at, node),
        }
        Effect::None
    }

    fn event_calls(&mut self) {
        let catalogue = self.catalogue;
        for oid in catalogue.event_calls() {
            self.called_oid(*oid);
        }
    }

    fn makes_parts(&mut self, at: At, node: &Node, field: &str) {
        if let Some(relation) = node.node(field) {
            self.makes_relation(at, relation);
        }
        // What the defaults and checks of these run, the new one runs from now on, and may not be looked up.
        let like = node.nodes("table_elts").filter(|it| it.kind == "TableLikeClause" && it.number("options") != 0);
        for relation in node.nodes("inh_relations").chain(like.filter_map(|it| it.node("relation"))) {
            self.relation(at, relation, Use::Write);
        }
        self.parts_but(at, node, &[field]);
    }

    pub(super) fn parts(&mut self, at: At, node: &Node) {
        self.parts_but(at, node, &[]);
    }

    pub(super) fn parts_but(&mut self, at: At, node: &Node, fields: &[&str]) {
        for child in node.children_but(fields) {
            self.part(at, child);
        }
    }

    fn part(&mut self, at: At, node: &Node) {
        match node.kind {
            "RangeVar" => drop(self.relation(at, node, Use::Alter)),
            "RoleSpec" => self.role(at, node),
            "ObjectWithArgs" => {
                let resource = self.resource_of("function", &node.names("objname").join("."));
                if let Some(draft) = self.drafts.get_mut(at) {
                    draft.resource(resource);
                }
            }
            kind if STRUCTURE.contains(&kind) => self.parts(at, node),
            _ => self.visit(at, node, &Scope::ROOT),
        }
    }

    pub(super) fn role(&mut self, at: At, node: &Node) {
        let name = match node.number("roletype") {
            2 | 3 => self.settings.user.clone(),
            4 => "session_user".to_owned(),
            5 => "public".to_owned(),
            _ => node.text("rolename").to_owned(),
        };
        let resource = self.resource_of("role", &name);
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.resource(resource);
        }
    }

    /// Notes the names that mean something else when this is done.
    fn moves(&mut self, node: &Node) {
        if !matches!(node.kind, "RenameStmt" | "AlterObjectSchemaStmt" | "DropStmt") {
            return;
        }
        let relation = node.node("relation").map(|it| it.text("relname").to_owned());
        let kind = ["remove_type", "rename_type", "object_type"].into_iter().find(|field| node.has(field));
        let noun = kind.and_then(|field| command::object(node.number(field))).unwrap_or("object");
        match (noun, relation) {
            (_, Some(relation)) => self.moved.extend([relation, node.text("newname").to_owned()]),
            ("table" | "view" | "materialized_view" | "sequence" | "foreign_table", None) => {
                let objects = node.field("objects").items().iter().filter_map(Tree::node);
                let names = objects.filter_map(|it| it.nodes("items").last().map(|it| it.text("sval").to_owned()));
                self.moved.extend(names);
            }
            ("index" | "trigger" | "rule" | "policy" | "column", None) => {}
            _ => self.moved.push("*".to_owned()),
        }
    }

    fn drop_objects(&mut self, at: At, node: &Node) {
        let noun = command::object(node.number("remove_type")).unwrap_or("object");
        let is_relation =
            matches!(noun, "table" | "view" | "materialized_view" | "sequence" | "index" | "foreign_table");
        for object in node.field("objects").items().iter().filter_map(Tree::node) {
            let names: Vec<&str> = match object.kind {
                "List" => object.nodes("items").map(|it| it.text("sval")).collect(),
                "String" => vec![object.text("sval")],
                "TypeName" => object.names("names"),
                "ObjectWithArgs" => object.names("objname"),
                kind => {
                    self.doubt(at, format!("`{kind}` is nothing that is known to be dropped"));
                    continue;
                }
            };
            if let (true, Some((name, schema))) = (is_relation, names.split_last()) {
                self.relation_named(at, schema.last().copied().unwrap_or_default(), name, Use::Alter);
                continue;
            }
            let resource = self.resource_of(noun, &names.join("."));
            if let Some(draft) = self.drafts.get_mut(at) {
                draft.resource(resource);
            }
        }
    }

    /// Access that is stronger than the command's own.
    pub(super) fn is_about_rights(&mut self, at: At) {
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.traits = draft.traits.with(Trait::Privilege);
            draft.access = Some(Access::Permissions);
        }
    }

    /// The constant text of an option.
    pub(super) fn option<'n>(node: &'n Node, field: &str, name: &str) -> Option<&'n Node> {
        node.nodes(field).find(|it| it.text("defname") == name)
    }
}

/// A name, or `None` where the statement says ALL.
fn named(node: &Node, field: &str) -> Option<String> {
    Some(node.text(field).to_owned()).filter(|name| !name.is_empty())
}

/// The text of an option's argument.
pub(super) fn option_text(option: &Node) -> Option<String> {
    let argument = option.node("arg")?;
    match argument.kind {
        "String" => Some(argument.text("sval").to_owned()),
        "List" => argument.nodes("items").next().map(|it| it.text("sval").to_owned()),
        _ => bulk::text(argument).map(str::to_owned),
    }
}
