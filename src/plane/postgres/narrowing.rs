//! What an approver makes of a statement: another text, with the values that its client bound.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::asking::{Asker, Named};
use super::machine::{Machine, Prepared};
use super::settings::Settings;
use crate::action::Action;
use crate::audit::commitment::What;
use crate::classify::postgres::{self as classify, BoundValue};
use crate::gate::{Modified, NarrowFn};
use crate::wire::postgres::frontend::Message;

/// Values as a client bound them, kept while people decide.
#[derive(Clone, Debug, Default)]
pub(super) struct Bound(Arc<[Kept]>);

#[derive(Clone)]
struct Kept {
    bytes: Option<Bytes>,
    is_binary: bool,
    type_oid: u32,
}

impl Kept {
    fn value(&self) -> BoundValue<'_> {
        BoundValue { bytes: self.bytes.as_deref(), is_binary: self.is_binary, type_oid: self.type_oid }
    }
}

/// They may be secrets.
impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept([redacted])")
    }
}

impl Bound {
    pub(super) fn of(message: &Message<'_>, prepared: &Prepared) -> Self {
        let keep = |value: BoundValue<'_>| Kept {
            bytes: value.bytes.map(Bytes::copy_from_slice),
            is_binary: value.is_binary,
            type_oid: value.type_oid,
        };
        Self(bound_values(message, prepared).into_iter().map(keep).collect())
    }

    pub(super) fn values(&self) -> Vec<BoundValue<'_>> {
        self.0.iter().map(Kept::value).collect()
    }
}

impl Asker {
    /// Names the text that an approver puts in place of a statement's.
    pub(super) fn narrow_fn(&self, named: &Named, bound: Bound, settings: &Settings, standing: &Standing) -> NarrowFn {
        let (asker, named) = (self.copy(), named.clone());
        let (settings, standing) = (settings.clone(), standing.clone());
        Arc::new(move |parameters: &Map<String, Value>| {
            let changed = asker.changed(&named, parameters, &bound, &settings)?;
            let shown = asker.shown(changed.sql(), &settings, &standing);
            let worded = asker.plane.words.again(&changed.worded, What::Modified, &named.action_id, changed.sql());
            let wording = Some(Arc::new(worded.wording));
            let digest = asker.digest_of(&changed);
            Ok(Modified { actions: changed.actions, digest, shown: Arc::new(shown), wording })
        })
    }

    /// The statement with an approver's text, named with the same values.
    ///
    /// # Errors
    /// Why it cannot take the place of what the client sent.
    pub(super) fn changed(
        &self,
        named: &Named,
        parameters: &Map<String, Value>,
        bound: &Bound,
        settings: &Settings,
    ) -> Result<Named, String> {
        let sql = changed_text(parameters, &named.actions)?;
        if !sql.is_ascii() && settings.for_naming().client_encoding != "UTF8" {
            return Err("this session's encoding is not UTF-8: only ASCII means the same to its server".to_owned());
        }
        let (before, after) = (classify::answers(named.sql()), classify::answers(&sql));
        let is_same = before.as_ref().is_some_and(|before| before.len() == 1 && after.as_ref() == Some(before));
        if !is_same {
            return Err(NOT_THE_SAME.to_owned());
        }
        Ok(self.name_text(sql, &bound.values(), settings, &Machine::new(), true))
    }
}

const NOT_THE_SAME: &str = "it must be one statement that answers in the same way: what gives rows has to give rows, \
                            and a COPY has to be a COPY in the same direction";

/// How the session stands when a statement begins to wait.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) transaction: crate::wire::postgres::backend::Transaction,
    /// Locks are kept while it waits.
    pub(super) is_in_transaction: bool,
    /// What would end the session.
    pub(super) limit: Option<super::timeouts::Limit>,
}

fn changed_text(parameters: &Map<String, Value>, original: &[Action]) -> Result<Bytes, String> {
    let is_kept = |(name, value): (&String, &Value)| {
        name == "sql" || original.first().and_then(|action| action.parameters.get(name)) == Some(value)
    };
    let count = original.first().map_or(0, |action| action.parameters.len());
    match parameters.get("sql") {
        Some(Value::String(sql))
            if parameters.len() == count && parameters.iter().all(is_kept) && !sql.contains('\0') =>
        {
            Ok(Bytes::from(sql.clone()))
        }
        _ => Err("only `sql` can be changed, to another text; bound values stay as they are".to_owned()),
    }
}

/// The values of a Bind with the types that its statement declared.
pub(super) fn bound_values<'m>(message: &Message<'m>, prepared: &Prepared) -> Vec<BoundValue<'m>> {
    let Message::Bind(bind) = message else { return Vec::new() };
    bind.parameters()
        .enumerate()
        .map(|(index, (format, bytes))| BoundValue {
            bytes,
            is_binary: format == 1,
            type_oid: prepared.types.get(index).copied().unwrap_or(0),
        })
        .collect()
}
