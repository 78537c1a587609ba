//! Statements about the session itself: settings, transactions, prepared names, cursors.

use super::super::Effect;
use super::super::grammar;
use super::super::search_path;
use super::super::tree::Node;
use super::{At, Namer, Scope, bulk, command};
use crate::action::{Trait, Traits};
use crate::catalog::postgres as facts;

/// In the options of a cursor (PostgreSQL's `nodes/parsenodes.h`).
const CURSOR_OPT_HOLD: i64 = 0x20;

/// What giving a setting that value means; `None` for its default.
pub(super) fn weight(name: &str, value: Option<&str>) -> Traits {
    if name.eq_ignore_ascii_case("role") && value == Some("none") {
        return Traits::EMPTY;
    }
    let (name, value) = (name.to_ascii_lowercase(), value.unwrap_or_default().to_ascii_lowercase());
    let is_usual = match name.as_str() {
        "client_encoding" => matches!(value.as_str(), "utf8" | "utf-8" | "unicode"),
        "standard_conforming_strings" | "row_security" => matches!(value.as_str(), "on" | "true" | "yes" | "1"),
        "check_function_bodies" | "transform_null_equals" | "allow_system_table_mods" => {
            matches!(value.as_str(), "off" | "false" | "no" | "0")
        }
        "default_transaction_read_only" | "transaction_read_only" => {
            matches!(value.as_str(), "on" | "true" | "yes" | "1")
        }
        _ => false,
    };
    if is_usual { Traits::EMPTY } else { facts::setting(&name) }
}

/// Whether giving that setting a value changes which object a name stands for; so may one that is not known.
pub(super) fn moves_names(setting: Option<&str>) -> bool {
    let moving = ["search_path", "role", "session_authorization", "all"];
    setting.is_none_or(|name| moving.iter().any(|it| name.eq_ignore_ascii_case(it)))
}

impl Namer<'_> {
    /// SET and RESET, also those inside ALTER ROLE, ALTER DATABASE, ALTER SYSTEM and CREATE FUNCTION.
    pub(super) fn set(&mut self, at: At, node: &Node) -> Effect {
        let name = node.text("name").to_owned();
        let values: Vec<String> = node.nodes("args").filter_map(constant).collect();
        let value = (!values.is_empty()).then(|| values.join(", "));
        let Some(draft) = self.drafts.get_mut(at) else { return Effect::Dynamic };
        match node.number("kind") {
            // SET TRANSACTION …, SET SESSION CHARACTERISTICS: transaction modes.
            4 => {
                let modes: Vec<&Node> = node.nodes("args").collect();
                draft.set("setting", name);
                let makes_writable = modes.iter().any(|it| {
                    it.text("defname") == "transaction_read_only"
                        && it.node("arg").and_then(|it| it.node("val")).is_none_or(|it| it.number("ival") == 0)
                });
                if makes_writable {
                    draft.traits = draft.traits.with(Trait::Session);
                }
                Effect::None
            }
            6 => {
                draft.set("setting", "all");
                draft.traits = draft.traits.with(Trait::Session);
                Effect::Set { name: "all".to_owned(), value: None, is_local: false }
            }
            _ => {
                draft.traits = draft.traits.union(weight(&name, value.as_deref()));
                draft.set("setting", name.to_ascii_lowercase());
                if let Some(value) = &value {
                    draft.set("value", value.as_str());
                }
                let name = name.to_ascii_lowercase();
                // Each constant is one name of the list, whatever is in it.
                let value =
                    if name == "search_path" && !values.is_empty() { Some(search_path::write(&values)) } else { value };
                Effect::Set { name, value, is_local: node.flag("is_local") }
            }
        }
    }

    pub(super) fn transaction(&mut self, at: At, node: &Node) -> Effect {
        let name = || node.text("savepoint_name").to_owned();
        let is_chained = node.flag("chain");
        let says_writable = node.nodes("options").any(|it| {
            it.text("defname") == "transaction_read_only"
                && it.node("arg").and_then(|it| it.node("val")).is_none_or(|it| it.number("ival") == 0)
        });
        if says_writable {
            self.add(at, Trait::Session);
        }
        match node.number("kind") {
            1 | 2 => Effect::Begin,
            3 => Effect::Commit { is_chained },
            4 => Effect::Rollback { savepoint: None, is_chained },
            5 => Effect::Savepoint(name()),
            6 => Effect::Release(name()),
            7 => Effect::Rollback { savepoint: Some(name()), is_chained: false },
            8 => Effect::PrepareTransaction,
            _ => Effect::None,
        }
    }

    pub(super) fn prepare(&mut self, at: At, node: &Node, text: &str) -> Effect {
        if let Some(query) = node.node("query") {
            self.inner(at, query);
        }
        let name = node.text("name").to_owned();
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.set("name", name.as_str());
        }
        let Some(body) = after_as(text) else {
            self.doubt(at, "what is prepared cannot be told from its text");
            return Effect::Dynamic;
        };
        Effect::Prepare { name, body: body.to_owned(), types: node.nodes("argtypes").count() }
    }

    pub(super) fn execute(&mut self, at: At, node: &Node) -> Effect {
        self.walk(at, node, &Scope::ROOT);
        let name = node.text("name").to_owned();
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.set("name", name.as_str());
        }
        Effect::Execute { name, arguments: node.nodes("params").map(constant).collect() }
    }

    pub(super) fn declare(&mut self, at: At, node: &Node) -> Effect {
        self.walk(at, node, &Scope::ROOT);
        let is_held = node.number("options") & CURSOR_OPT_HOLD != 0;
        Effect::Declare { cursor: node.text("portalname").to_owned(), is_held }
    }

    pub(super) fn explain(&mut self, at: At, node: &Node, text: &str) -> Effect {
        let Some(query) = node.node("query") else { return Effect::None };
        if command::explains_by_running(node) {
            return self.inner_of(at, query, text);
        }
        let before = std::mem::replace(&mut self.is_dry, true);
        self.fill(at, query, text);
        self.is_dry = before;
        Effect::None
    }

    /// `SELECT set_config('name', 'value', false)` alone is a SET; any other call of it may be.
    pub(super) fn set_by_select(&mut self, node: &Node) -> Option<Effect> {
        let mut targets = node.nodes("target_list");
        let (target, None) = (targets.next()?, targets.next()) else { return None };
        let call = target.node("val").filter(|it| it.kind == "FuncCall")?;
        let is_alone =
            ["from_clause", "where_clause", "with_clause", "larg", "limit_count", "limit_offset", "having_clause"]
                .iter()
                .all(|field| !node.has(field));
        if !is_alone || !matches!(call.names("funcname").as_slice(), ["set_config"] | ["pg_catalog", "set_config"]) {
            return None;
        }
        let arguments: Vec<&Node> = call.nodes("args").collect();
        let [name, value, is_local] = arguments.as_slice() else { return None };
        let is_local = is_local.node("val").filter(|it| it.kind == "Boolean")?.flag("boolval");
        let name = bulk::text(name)?.to_ascii_lowercase();
        Some(Effect::Set { name, value: Some(bulk::text(value)?.to_owned()), is_local })
    }
}

/// The text of a constant, whatever its type.
pub(super) fn constant(node: &Node) -> Option<String> {
    if node.kind == "TypeCast" {
        return constant(node.node("arg")?);
    }
    if node.kind != "AConst" || node.flag("isnull") {
        return None;
    }
    let Some(value) = node.node("val") else { return Some("0".to_owned()) };
    Some(match value.kind {
        "String" => value.text("sval").to_owned(),
        "Float" => value.text("fval").to_owned(),
        "BitString" => value.text("bsval").to_owned(),
        "Boolean" => if value.flag("boolval") { "on" } else { "off" }.to_owned(),
        _ => value.number("ival").to_string(),
    })
}

/// The body of `PREPARE name (types) AS body`.
fn after_as(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    for token in grammar::scan(text).ok()? {
        let word = text.get(usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?)?;
        match word {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ if depth == 0 && word.eq_ignore_ascii_case("as") => {
                return text.get(usize::try_from(token.end).ok()?..).map(str::trim);
            }
            _ => {}
        }
    }
    None
}
