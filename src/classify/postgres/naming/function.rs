//! Functions that a statement calls, and what their bodies do.

use super::super::catalogue::{Function, Volatility};
use super::super::search_path;
use super::super::tree::Node;
use super::relation::Use;
use super::{At, Namer, bulk};
use crate::action::{Access, Trait};
use crate::catalog::postgres as facts;
use crate::catalog::postgres::Builtin;

/// Bodies are followed that deep, and that many of them for one statement.
const DEEPEST_BODY: usize = 8;
const MOST_BODIES: usize = 200;
/// The first oid that is not the server's own.
const FIRST_USER_OID: u32 = 16384;

impl Namer<'_> {
    /// A call by name: every function the server might choose.
    pub(super) fn call(&mut self, node: &Node) {
        let names = node.names("funcname");
        let arguments: Vec<&Node> = node.nodes("args").collect();
        self.called(&names, &arguments);
    }

    pub(super) fn called(&mut self, names: &[&str], arguments: &[&Node]) {
        let Some((name, qualifiers)) = names.split_last() else { return };
        let schema = qualifiers.last().copied();
        let builtin = if schema.is_none_or(|it| it == "pg_catalog") { facts::builtin(name) } else { None };
        let found = self.user_functions(schema, name);
        self.doubt_made(schema, name);
        if let Some(builtin) = builtin {
            self.builtin(builtin, arguments);
        } else if found.is_empty() {
            match facts::of_extension(name) {
                Some(builtin) => self.extension(schema, builtin, arguments),
                // Helpers of the server's own views, which drivers call too.
                None if schema == Some("information_schema") && name.starts_with("_pg_") => {}
                // `date('2026-11-20')` is a cast.
                None if schema.is_none_or(|it| it == "pg_catalog") && facts::has_type(name) => {}
                None if self.of_type(names) => {}
                None => self.unknown_function(schema, name),
            }
        }
        for function in found {
            self.user_function(&function, arguments);
        }
    }

    fn user_functions(&self, schema: Option<&str>, name: &str) -> Vec<Function> {
        let path = match schema {
            Some(schema) => vec![schema.to_owned()],
            None => self.whole_path(),
        };
        let found = path.iter().flat_map(|schema| self.catalogue.functions(schema, name)).cloned();
        // What every server has is in the facts.
        let is_own = |it: &Function| it.schema == "pg_catalog" && it.oid < FIRST_USER_OID;
        found.filter(|it| !is_own(it) || facts::builtin(&it.name).is_none()).collect()
    }

    /// Functions of users with the names of newer syntax.
    pub(super) fn lookalikes(&mut self, kind: &str) {
        let names: &[&str] = match kind {
            "JsonFuncExpr" => &["json_exists", "json_query", "json_value"],
            "JsonScalarExpr" => &["json_scalar"],
            "JsonSerializeExpr" => &["json_serialize"],
            "JsonParseExpr" => &["json"],
            "JsonArrayConstructor" | "JsonArrayQueryConstructor" => &["json_array"],
            "JsonObjectConstructor" => &["json_object"],
            "JsonArrayAgg" => &["json_arrayagg"],
            "JsonObjectAgg" => &["json_objectagg"],
            "JsonTable" => &["json_table"],
            "MergeSupportFunc" => &["merge_action"],
            _ => &[],
        };
        for name in names {
            for function in self.user_functions(None, name) {
                self.user_function(&function, &[]);
            }
        }
    }

    /// What this session made since the catalogue was read: what runs is not what stands there.
    fn doubt_made(&mut self, schema: Option<&str>, name: &str) {
        let created = self.catalogue.created();
        if created.is_empty() {
            return;
        }
        let path = schema.map_or_else(|| self.path(), |schema| vec![schema.to_owned()]);
        if path.iter().any(|schema| created.contains(&format!("{schema}.{name}()"))) {
            let at = self.function_call(name);
            self.doubt(at, format!("`{name}` was made in this session, and has not been read yet"));
            self.is_dynamic = true;
        }
    }

    /// Runs what values of a type run; whether there is such a type.
    pub(super) fn of_type(&mut self, names: &[&str]) -> bool {
        let Some((name, qualifiers)) = names.split_last() else { return false };
        let path = match qualifiers.last() {
            Some(schema) => vec![(*schema).to_owned()],
            None => self.whole_path(),
        };
        let catalogue = self.catalogue;
        // A composite type, or the type of a table's rows.
        let rows = path.iter().find_map(|schema| catalogue.relation(schema, name));
        for oid in rows.map_or(&[][..], |it| &it.read_calls) {
            self.called_oid(*oid);
        }
        let mut found = catalogue.types(name).filter(|it| path.contains(&it.schema)).peekable();
        let is_known = found.peek().is_some();
        for oid in found.flat_map(|it| &it.calls) {
            self.called_oid(*oid);
        }
        is_known
    }

    fn unknown_function(&mut self, schema: Option<&str>, name: &str) {
        let shown = schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"));
        let at = self.function_call(&shown);
        self.doubt(at, format!("nothing is known about the function `{shown}`"));
        if !self.catalogue.is_builtin() {
            self.unresolved.push(format!("{shown}()"));
        }
        self.is_dynamic = true;
    }

    /// Opens an action for a call.
    fn function_call(&mut self, name: &str) -> At {
        let mut draft = self.hidden("function_call");
        draft.resource(self.resource_of("function", name));
        draft.set("function", name);
        self.push(draft)
    }

    fn builtin(&mut self, builtin: &Builtin, arguments: &[&Node]) {
        if !builtin.is_named || (self.is_dry && builtin.is_volatile) {
            return;
        }
        let at = self.function_call(&format!("pg_catalog.{}", builtin.name));
        self.weigh(at, builtin);
        let literal = |place: usize| arguments.get(place).and_then(|it| bulk::text(it));
        match builtin.name {
            "set_config" => self.set_config(at, literal(0), literal(1)),
            name if name.starts_with("table_to_xml") => match literal(0) {
                Some(table) => self.regclass(at, table),
                None => self.doubt(at, format!("which table `{name}` exports is not written here")),
            },
            "lo_export" | "lo_import" => {
                self.file(at, literal(usize::from(builtin.name == "lo_export")));
            }
            name if name.starts_with("pg_read") || name.starts_with("pg_ls_dir") || name == "pg_stat_file" => {
                self.file(at, literal(0));
            }
            _ => {}
        }
        self.text_argument(at, builtin, arguments);
    }

    fn weigh(&mut self, at: At, builtin: &Builtin) {
        self.add_all(at, builtin.traits);
        if let Some(draft) = self.drafts.get_mut(at) {
            // The command's own level is write; a call that only reads is still told apart by its traits.
            if builtin.traits.contains(Trait::Privilege) {
                draft.access = Some(Access::Permissions);
            }
            if builtin.traits.contains(Trait::Unknown) {
                draft.doubt(format!("`{}` runs SQL that is not seen here", builtin.name));
            }
        }
    }

    /// The SQL that a function is given to run.
    fn text_argument(&mut self, at: At, builtin: &Builtin, arguments: &[&Node]) {
        let Some(place) = builtin.text else { return };
        // `ts_rewrite(query, target, substitute)` takes no SQL.
        if builtin.name == "ts_rewrite" && arguments.len() == 3 {
            return;
        }
        match arguments.get(place).and_then(|it| bulk::text(it)) {
            Some(sql) => self.sql_body(at, sql),
            None => {
                self.doubt(at, format!("the SQL that `{}` runs is not written here", builtin.name));
                self.is_dynamic = true;
            }
        }
    }

    fn file(&mut self, at: At, path: Option<&str>) {
        if let (Some(path), Some(draft)) = (path, self.drafts.get_mut(at)) {
            draft.resource(format!("file:{path}"));
        }
    }

    fn set_config(&mut self, at: At, name: Option<&str>, value: Option<&str>) {
        self.is_dynamic = true;
        self.moves_names |= super::session::moves_names(name);
        let Some(draft) = self.drafts.get_mut(at) else { return };
        let Some(name) = name else {
            return draft.doubt("which setting `set_config` changes is not written here");
        };
        draft.traits = super::session::weight(name, value);
        draft.set("setting", name.to_ascii_lowercase());
        if let Some(value) = value {
            draft.set("value", value);
        }
    }

    /// A relation named in a text, `'public.t'`.
    pub(super) fn regclass(&mut self, at: At, text: &str) {
        self.tag_all();
        let parts: Vec<String> = text
            .split('.')
            .map(|part| match part.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => part.trim().to_lowercase(),
            })
            .collect();
        match parts.as_slice() {
            [oid] if !oid.is_empty() && oid.bytes().all(|b| b.is_ascii_digit()) => {
                self.doubt(at, "a relation is named by its oid");
            }
            [name] => drop(self.relation_named(at, "", name, Use::Read)),
            [schema, name] => drop(self.relation_named(at, schema, name, Use::Read)),
            _ => self.doubt(at, format!("`{text}` is no name of a relation")),
        }
    }

    fn extension(&mut self, schema: Option<&str>, builtin: &Builtin, arguments: &[&Node]) {
        if self.is_dry {
            return;
        }
        if builtin.is_named {
            let shown = schema.map_or_else(|| builtin.name.to_owned(), |schema| format!("{schema}.{}", builtin.name));
            let at = self.function_call(&shown);
            self.weigh(at, builtin);
            self.text_argument(at, builtin, arguments);
        }
    }

    /// A function by oid, as views, triggers and defaults reach it.
    pub(super) fn called_oid(&mut self, oid: u32) {
        if let Some(builtin) = facts::builtin_by_oid(oid) {
            return self.builtin(builtin, &[]);
        }
        match self.catalogue.function(oid).cloned() {
            Some(function) => self.user_function(&function, &[]),
            None => self.unknown_function(None, &oid.to_string()),
        }
    }

    fn user_function(&mut self, function: &Function, arguments: &[&Node]) {
        // Its names may mean something else where it is called with another path or as another role.
        if !self.seen.insert((function.oid, self.search_path.clone(), self.acting.clone())) {
            return;
        }
        let known = function.extension.as_ref().and_then(|_| facts::of_extension(&function.name));
        if let Some(builtin) = known {
            return self.extension(Some(&function.schema), builtin, arguments);
        }
        let at = self.function_call(&format!("{}.{}", function.schema, function.name));
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.set("language", function.language.as_str());
            if function.is_security_definer {
                draft.set("runs_as", function.owner.as_str());
            }
            for (name, value) in function.settings.iter().filter(|(name, _)| name != "search_path") {
                draft.traits = draft.traits.union(super::session::weight(name, Some(value)));
            }
        }
        // What is not volatile may run while a statement is planned.
        let is_dry = self.is_dry;
        self.is_dry &= function.volatility == Volatility::Volatile;
        self.runs(at, function);
        self.is_dry = is_dry;
    }

    /// What a function of a user runs by itself and with its arguments.
    fn runs(&mut self, at: At, function: &Function) {
        for oid in &function.argument_calls {
            self.called_oid(*oid);
        }
        if !function.calls.is_empty() {
            for oid in &function.calls {
                self.called_oid(*oid);
            }
            return;
        }
        let before = (self.search_path.clone(), self.acting.clone());
        if let Some((_, value)) = function.settings.iter().find(|(name, _)| name == "search_path") {
            self.search_path = search_path::read(value);
        }
        if function.is_security_definer {
            self.acting = Some(function.owner.clone());
        }
        let is_quiet = function.extension.is_some() && function.volatility < Volatility::Volatile;
        match (function.language.as_str(), &function.source) {
            ("sql" | "plpgsql", Some(source)) => self.body(at, &function.language, source),
            ("c" | "internal", _) if is_quiet => {}
            (language, _) => {
                self.doubt(at, format!("what `{}` does is written in {language}", function.name));
                self.is_dynamic = true;
            }
        }
        (self.search_path, self.acting) = before;
    }

    /// Walks the body of a function in a language that can be read.
    pub(super) fn body(&mut self, at: At, language: &str, source: &str) {
        self.bodies += 1;
        if self.depth >= DEEPEST_BODY || self.bodies > MOST_BODIES {
            return self.doubt(at, "functions call each other too deep to follow");
        }
        self.depth += 1;
        match language {
            "sql" => self.sql_text(at, source),
            _ => self.plpgsql(at, source),
        }
        self.depth -= 1;
    }

    pub(super) fn sql_body(&mut self, at: At, source: &str) {
        self.body(at, "sql", source);
    }

    /// The operators of an expression, also those that its syntax implies.
    pub(super) fn operators(&mut self, node: &Node) {
        match node.kind {
            "AExpr" if node.number("kind") >= 11 => {
                for implied in ["<", "<=", ">", ">="] {
                    self.operator(&[implied]);
                }
            }
            "AExpr" => self.operator(&node.names("name")),
            "SortBy" => self.operator(&node.names("use_op")),
            "SubLink" if node.names("oper_name").is_empty() => self.operator(&["="]),
            "SubLink" => self.operator(&node.names("oper_name")),
            "CaseExpr" if node.has("arg") => self.operator(&["="]),
            "JoinExpr" if node.flag("is_natural") || node.nodes("using_clause").next().is_some() => {
                self.operator(&["="]);
            }
            _ => {}
        }
    }

    /// An operator that is not `pg_catalog`'s, or may not be.
    fn operator(&mut self, names: &[&str]) {
        let Some((name, qualifiers)) = names.split_last() else { return };
        let schema = qualifiers.last().copied();
        if schema == Some("pg_catalog") {
            return;
        }
        let path = self.whole_path();
        let found: Vec<u32> = self
            .catalogue
            .operators(name)
            .filter(|it| schema.map_or_else(|| path.contains(&it.schema), |schema| schema == it.schema))
            .map(|it| it.function)
            .collect();
        if found.is_empty()
            && let Some(schema) = schema
        {
            self.unknown_function(Some(schema), name);
        }
        for oid in found {
            self.called_oid(oid);
        }
    }

    /// `t.f` and `(value).f` call a function `f` of one value where no column has that name.
    pub(super) fn attribute(&mut self, node: &Node) {
        let fields = if node.kind == "ColumnRef" { node.names("fields") } else { node.names("indirection") };
        let skipped = usize::from(node.kind == "ColumnRef");
        let names: Vec<String> =
            fields.iter().skip(skipped).filter(|it| !it.is_empty()).map(|it| (*it).to_owned()).collect();
        for name in names {
            if let Some(builtin) = facts::builtin(&name) {
                self.builtin(builtin, &[]);
            }
            for function in self.user_functions(None, &name) {
                self.user_function(&function, &[]);
            }
        }
    }

    /// A constant cast to a name of something: `'t'::regclass`.
    pub(super) fn cast(&mut self, at: At, node: &Node) {
        let Some(name) = node.node("type_name") else { return };
        let names = name.names("names");
        let target = names.last().copied().unwrap_or_default();
        if target == "regclass"
            && let Some(text) = node.node("arg").and_then(bulk::text)
            && text.bytes().any(|b| !b.is_ascii_digit())
        {
            self.regclass(at, text);
        }
    }
}
