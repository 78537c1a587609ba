//! Definitions with consequences: rights, roles, functions, triggers, servers, replication.

use super::super::tree::Node;
use super::relation::Use;
use super::utility::option_text;
use super::{At, Namer, Scope};
use crate::action::Trait;

/// Languages whose code does what it likes on the server.
const UNTRUSTED: [&str; 9] =
    ["c", "internal", "plpythonu", "plpython2u", "plpython3u", "plperlu", "pltclu", "plsh", "plrust"];

impl Namer<'_> {
    pub(super) fn access(&mut self, at: At, node: &Node) {
        match node.kind {
            "GrantStmt" | "GrantRoleStmt" => self.grant(at, node),
            "AlterOwnerStmt" | "AlterObjectSchemaStmt" | "RenameStmt" | "CommentStmt" | "SecLabelStmt" => {
                self.alter(at, node)
            }
            "AlterTableStmt" => self.alter_table(at, node),
            "CreateFunctionStmt" => self.create_function(at, node),
            "AlterFunctionStmt" => self.alter_function(at, node),
            "DoStmt" => self.do_block(at, node),
            "CallStmt" => {
                if let Some(call) = node.node("funccall") {
                    self.visit(at, call, &Scope::ROOT);
                }
            }
            "CreateTrigStmt" | "CreateEventTrigStmt" => {
                self.called(&node.names("funcname"), &[]);
                self.parts(at, node);
            }
            "AlterEventTrigStmt" | "DropOwnedStmt" | "ReassignOwnedStmt" => self.parts(at, node),
            "AlterSystemStmt" | "AlterRoleSetStmt" | "AlterDatabaseSetStmt" => {
                if let Some(set) = node.node("setstmt") {
                    self.set(at, set);
                }
                self.parts_but(at, node, &["setstmt"]);
            }
            "CreateRoleStmt" | "AlterRoleStmt" => {
                if Self::option(node, "options", "password").is_some() {
                    self.add(at, Trait::Credential);
                }
                self.parts(at, node);
            }
            "CreateSubscriptionStmt" | "AlterSubscriptionStmt" => {
                let connection = node.text("conninfo");
                if !connection.is_empty() {
                    self.add(at, Trait::Exec);
                }
                if connection.contains("password") {
                    self.add(at, Trait::Credential);
                }
                self.parts(at, node);
            }
            "AlterForeignServerStmt" | "AlterFdwStmt" | "AlterUserMappingStmt" => {
                self.add(at, Trait::Exec);
                self.parts(at, node);
            }
            "AlterPublicationStmt" => {
                self.add(at, Trait::Export);
                self.parts(at, node);
            }
            "CreateConversionStmt" | "CreateCastStmt" => self.parts(at, node),
            "DefineStmt" => self.define(at, node),
            "RuleStmt" => self.rule(at, node),
            "AlterExtensionStmt" | "AlterExtensionContentsStmt" => {
                self.add(at, Trait::Exec);
                self.is_about_rights(at);
                self.parts(at, node);
            }
            "CreatedbStmt" | "AlterDatabaseStmt" | "CreateTableSpaceStmt" => {
                let path = node.text("location").to_owned();
                if !path.is_empty()
                    && let Some(draft) = self.drafts.get_mut(at)
                {
                    draft.resource(format!("file:{path}"));
                    draft.traits = draft.traits.with(Trait::Exec);
                }
                self.parts(at, node);
            }
            "CompositeTypeStmt" => self.parts_but(at, node, &["typevar"]),
            "AlterEnumStmt" | "CreateEnumStmt" | "CreateRangeStmt" | "CreateDomainStmt" | "AlterDomainStmt" => {
                self.parts(at, node)
            }
            "NotifyStmt" | "ListenStmt" | "UnlistenStmt" => {}
            "VacuumStmt" => {
                for relation in node.nodes("rels").filter_map(|it| it.node("relation")) {
                    self.mention(at, relation);
                }
            }
            "LockStmt" | "ReindexStmt" | "ClusterStmt" | "IndexStmt" => self.parts(at, node),
            _ => self.parts(at, node),
        }
    }

    fn grant(&mut self, at: At, node: &Node) {
        let noun = super::command::object(node.number("objtype")).unwrap_or("object");
        for object in node.nodes("objects").filter(|it| it.kind == "String") {
            let resource = self.resource_of(noun, object.text("sval"));
            if let Some(draft) = self.drafts.get_mut(at) {
                draft.resource(resource);
            }
        }
        // GRANT a TO b: the roles that are given stand as privileges.
        for role in node.nodes("granted_roles") {
            let resource = self.resource_of("role", role.text("priv_name"));
            if let Some(draft) = self.drafts.get_mut(at) {
                draft.resource(resource);
            }
        }
        if node.flag("is_grant") && node.nodes("grantees").any(|it| it.number("roletype") == 5) {
            self.add(at, Trait::Sharing);
        }
        self.parts(at, node);
    }

    fn alter(&mut self, at: At, node: &Node) {
        if matches!(node.kind, "AlterOwnerStmt") {
            self.is_about_rights(at);
        }
        if let Some(object) = node.node("object") {
            let names: Vec<&str> = match object.kind {
                "List" => object.nodes("items").map(|it| it.text("sval")).collect(),
                "String" => vec![object.text("sval")],
                "TypeName" => object.names("names"),
                _ => Vec::new(),
            };
            let field = ["object_type", "objtype", "rename_type"].into_iter().find(|field| node.has(field));
            let noun = field.and_then(|it| super::command::object(node.number(it))).unwrap_or("object");
            if !names.is_empty() {
                let resource = self.resource_of(noun, &names.join("."));
                if let Some(draft) = self.drafts.get_mut(at) {
                    draft.resource(resource);
                }
            }
        }
        self.parts(at, node);
    }

    fn alter_table(&mut self, at: At, node: &Node) {
        for step in node.nodes("cmds") {
            match step.number("subtype") {
                // DROP COLUMN, DETACH PARTITION, DISABLE TRIGGER and RULE.
                14 | 41 | 43 | 45 | 49 | 61 | 62 => self.add(at, Trait::Destructive),
                // OWNER TO, row-level security on, off, forced, not forced; ENABLE REPLICA/ALWAYS.
                27 | 55..=58 | 39 | 40 | 47 | 48 => self.is_about_rights(at),
                // OPTIONS of a foreign table or column.
                26 | 59 => self.add(at, Trait::Exec),
                _ => {}
            }
        }
        self.parts(at, node);
    }

    fn create_function(&mut self, at: At, node: &Node) {
        let names = node.names("funcname");
        let path = self.path();
        let schema = match names.as_slice() {
            [.., schema, _] => (*schema).to_owned(),
            _ => path.iter().find(|it| *it != "pg_catalog").cloned().unwrap_or_else(|| "public".to_owned()),
        };
        let name = names.last().copied().unwrap_or_default();
        let resource = self.resource_of("function", &format!("{schema}.{name}"));
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.resource(resource);
        }
        if schema == "pg_catalog" {
            self.is_about_rights(at);
        }
        // Its body may call it.
        self.created.push(format!("{schema}.{name}()"));
        self.function_options(at, node, "options");
        let source = Self::option(node, "options", "as").and_then(option_text);
        let language = Self::option(node, "options", "language").and_then(option_text);
        let language = language.unwrap_or_else(|| "sql".to_owned()).to_lowercase();
        self.code(at, &language, source.as_deref());
        self.parts_but(at, node, &["options", "funcname", "sql_body"]);
        if let Some(body) = node.node("sql_body") {
            self.visit(at, body, &Scope::ROOT);
        }
    }

    fn function_options(&mut self, at: At, node: &Node, field: &str) {
        for option in node.nodes(field) {
            let is_true = option.node("arg").is_some_and(|it| it.flag("boolval"));
            match option.text("defname") {
                "security" | "leakproof" if is_true => self.is_about_rights(at),
                "set" => {
                    if let Some(set) = option.node("arg") {
                        let path = set.text("name").eq_ignore_ascii_case("search_path");
                        let before = self.drafts.get(at).map(|it| it.traits);
                        self.set(at, set);
                        // A pinned search path is what a careful author writes.
                        if let (true, Some(before), Some(draft)) = (path, before, self.drafts.get_mut(at)) {
                            draft.traits = before;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn alter_function(&mut self, at: At, node: &Node) {
        self.function_options(at, node, "actions");
        self.parts_but(at, node, &["actions"]);
    }

    /// Code in some language, given or made.
    fn code(&mut self, at: At, language: &str, source: Option<&str>) {
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.set("language", language);
        }
        match (language, source) {
            ("sql" | "plpgsql", Some(source)) => self.body(at, language, source),
            ("sql", None) => {}
            _ => {
                if UNTRUSTED.contains(&language) || language.ends_with('u') {
                    self.add(at, Trait::Exec);
                    self.is_about_rights(at);
                }
                self.doubt(at, format!("code in {language} is not read here"));
                self.is_dynamic = true;
            }
        }
    }

    fn do_block(&mut self, at: At, node: &Node) {
        let source = Self::option(node, "args", "as").and_then(option_text).unwrap_or_default();
        let language = Self::option(node, "args", "language").and_then(option_text);
        let language = language.unwrap_or_else(|| "plpgsql".to_owned()).to_lowercase();
        if language != "plpgsql" {
            self.add(at, Trait::Exec);
        }
        self.code(at, if language == "sql" { "sql in DO" } else { &language }, Some(&source));
    }

    /// CREATE AGGREGATE, OPERATOR, TYPE…: the functions behind it may be anybody's.
    fn define(&mut self, at: At, node: &Node) {
        let names = node.names("defnames");
        let noun = super::command::object(node.number("kind")).unwrap_or("object");
        let resource = self.resource_of(noun, &names.join("."));
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.resource(resource);
        }
        self.parts(at, node);
    }

    fn rule(&mut self, at: At, node: &Node) {
        if let Some(relation) = node.node("relation") {
            self.relation(at, relation, Use::Alter);
        }
        // OLD and NEW are no relations; their columns name no functions.
        let scope = Scope { names: vec![("old", false), ("new", false)], outer: None };
        if let Some(condition) = node.node("where_clause") {
            self.visit(at, condition, &scope);
        }
        for action in node.nodes("actions") {
            self.inner(at, action);
        }
    }
}
