//! Relations by name, as the server would find them.

use hashbrown::HashSet;

use super::super::catalogue::RelationKind;
use super::super::tree::Node;
use super::{At, Namer, Scope};
use crate::action::{Access, Trait, Traits};
use crate::catalog::postgres as facts;

/// Relations of `pg_catalog` that hold secrets.
const SECRETS: [&str; 5] = ["pg_authid", "pg_shadow", "pg_user_mapping", "pg_user_mappings", "pg_subscription"];
/// Views of `pg_catalog` that read files of the server.
const FILES: [&str; 3] = ["pg_hba_file_rules", "pg_ident_file_mappings", "pg_file_settings"];
/// Views are followed that deep.
const DEEPEST_VIEW: usize = 16;

/// What a statement does with a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
    /// It is made, and need not be there.
    Define,
    /// Its definition is changed.
    Alter,
}

impl Namer<'_> {
    /// A relation in FROM: unless a WITH query of that name hides it.
    pub(super) fn read(&mut self, at: At, node: &Node, scope: &Scope<'_>) {
        if node.text("schemaname").is_empty() && scope.find(node.text("relname")).is_some() {
            return;
        }
        self.relation(at, node, Use::Read);
    }

    /// Adds a relation as a resource; gives its schema and name.
    pub(super) fn relation(&mut self, at: At, node: &Node, usage: Use) -> (String, String) {
        if let Some(alias) = node.node("alias") {
            self.tag_node(alias);
        }
        let (catalog, schema, name) = (node.text("catalogname"), node.text("schemaname"), node.text("relname"));
        if !catalog.is_empty() && catalog != self.settings.database {
            self.doubt(at, format!("`{catalog}` is another database"));
        }
        self.relation_named(at, schema, name, usage)
    }

    /// A relation that is looked after, and neither read nor changed.
    pub(super) fn mention(&mut self, at: At, node: &Node) {
        let (schema, name) = (node.text("schemaname"), node.text("relname"));
        let schema = if schema.is_empty() { self.schema_of(at, name, Use::Read) } else { schema.to_owned() };
        let resource = self.resource(&[&schema, name]);
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.resource(resource);
        }
    }

    pub(super) fn relation_named(&mut self, at: At, schema: &str, name: &str, usage: Use) -> (String, String) {
        let schema = match schema {
            "" => {
                let schema = self.schema_of(at, name, usage);
                // What the session made may be gone by now: then the name means what it hid.
                if usage != Use::Define
                    && self.is_made(&schema, name)
                    && let Some(hidden) = self.stored_schema(name)
                {
                    self.note_relation(at, &hidden, name, usage, 0);
                }
                schema
            }
            schema => schema.to_owned(),
        };
        self.note_relation(at, &schema, name, usage, 0);
        (schema, name.to_owned())
    }

    /// The schema in which an unqualified name is found.
    fn schema_of(&mut self, at: At, name: &str, usage: Use) -> String {
        let path = self.path();
        if let Some(schema) = self.made_schema(name) {
            return schema;
        }
        if usage != Use::Define
            && let Some(schema) = self.stored_schema(name)
        {
            return schema;
        }
        match path.iter().find(|it| *it != "pg_catalog").cloned() {
            Some(schema) => schema,
            None => {
                self.doubt(at, format!("`{name}` has no schema and the search path is empty"));
                "public".to_owned()
            }
        }
    }

    /// The schema in which the upstream has a relation of that name: `pg_catalog` first where the path does
    /// not say otherwise.
    fn stored_schema(&self, name: &str) -> Option<String> {
        let path = self.path();
        if !path.iter().any(|it| it == "pg_catalog") && facts::has_relation(name) {
            return Some("pg_catalog".to_owned());
        }
        path.into_iter().find(|schema| {
            self.catalogue.relation(schema, name).is_some() || (schema == "pg_catalog" && facts::has_relation(name))
        })
    }

    /// The schema of a relation this session has made, temporary ones first, as the server looks.
    fn made_schema(&self, name: &str) -> Option<String> {
        std::iter::once("pg_temp".to_owned()).chain(self.path()).find(|schema| self.is_made(schema, name))
    }

    fn is_made(&self, schema: &str, name: &str) -> bool {
        if self.created.is_empty() && self.catalogue.created().is_empty() {
            return false;
        }
        let whole = format!("{schema}.{name}");
        self.created.contains(&whole) || self.catalogue.created().contains(&whole)
    }

    /// The search path with names in place of `$user`.
    pub(super) fn path(&self) -> Vec<String> {
        let is_plain = self.catalogue.is_builtin();
        let search_path = self.search_path.as_ref().unwrap_or(&self.settings.search_path);
        let path = search_path.iter().filter_map(|schema| match schema.as_str() {
            // Nobody knows whether there is a schema of that name.
            "$user" if is_plain && search_path.len() > 1 => None,
            "$user" => Some(self.acting.as_ref().unwrap_or(&self.settings.user).clone()),
            "" => None,
            schema => Some(schema.to_owned()),
        });
        path.filter(|schema| schema == "pg_temp" || schema == "pg_catalog" || self.catalogue.has_schema(schema))
            .collect()
    }

    /// The same with `pg_catalog`, which is looked at whether it is named or not.
    pub(super) fn whole_path(&self) -> Vec<String> {
        let mut path = self.path();
        if !path.iter().any(|it| it == "pg_catalog") {
            path.insert(0, "pg_catalog".to_owned());
        }
        path
    }

    fn note_relation(&mut self, at: At, schema: &str, name: &str, usage: Use, depth: usize) {
        let resource = self.resource(&[schema, name]);
        let made = format!("{schema}.{name}");
        let (traits, access) = weight(schema, name, usage);
        // It is SET by another name, of what is known only when it runs.
        self.is_dynamic |= name == "pg_settings" && usage != Use::Read;
        let Some(draft) = self.drafts.get_mut(at) else { return };
        draft.resource(resource);
        draft.traits = draft.traits.union(traits);
        draft.access = draft.access.max(access);
        self.tag(at, schema, name, depth > 0 || matches!(usage, Use::Define | Use::Alter));
        if self.catalogue.is_unread()
            && usage != Use::Define
            && schema != "pg_catalog"
            && schema != "information_schema"
        {
            self.doubt(at, format!("what `{made}` stands on cannot be told: the catalogue cannot be read"));
        }
        if matches!(usage, Use::Define | Use::Alter) || self.catalogue.is_builtin() || schema == "information_schema" {
            return;
        }
        let Some(found) = self.catalogue.relation(schema, name) else {
            let is_known = self.is_made(schema, name) || schema == "pg_catalog" && facts::has_relation(name);
            if !is_known {
                // What a newer server brings is in no snapshot.
                let is_system = schema.starts_with("pg_") || name.starts_with("pg_");
                if is_system || !self.catalogue.is_whole() {
                    self.doubt(at, format!("`{made}` is not in the upstream's catalogue"));
                }
                self.unresolved.push(made);
            }
            return;
        };
        if self.catalogue.created().contains(&made) {
            self.doubt(at, format!("`{made}` was made in this session, and has not been read yet"));
        }
        let (kind, bases) = (found.kind, found.bases.clone());
        let is_rewritten = found.is_rewritten && usage == Use::Write;
        let calls = if usage == Use::Write {
            [&found.read_calls[..], &found.write_calls[..]].concat()
        } else {
            found.read_calls.clone()
        };
        if is_rewritten {
            self.doubt(at, format!("a rule of `{made}` runs other statements with it"));
            self.is_dynamic = true;
        }
        if kind == RelationKind::ForeignTable
            && let Some(draft) = self.drafts.get_mut(at)
        {
            draft.traits = draft.traits.with(Trait::Exec);
        }
        let is_part = !found.parents.is_empty() || !found.children.is_empty();
        for oid in calls {
            self.called_oid(oid);
        }
        if is_part {
            self.family(at, schema, name, usage);
        }
        if depth >= DEEPEST_VIEW {
            return self.doubt(at, format!("`{made}` stands on views too deep to follow"));
        }
        for (schema, name) in bases {
            let is_new =
                self.drafts.get(at).is_some_and(|it| !it.resources.contains(&self.resource(&[&schema, &name])));
            if is_new {
                self.note_relation(at, &schema, &name, usage, depth + 1);
            }
        }
    }

    /// A part is also named as what it is a part of; what runs with the parts runs with the whole.
    fn family(&mut self, at: At, schema: &str, name: &str, usage: Use) {
        let catalogue = self.catalogue;
        let find = |(schema, name): &(String, String)| catalogue.relation(schema, name);
        let Some(found) = catalogue.relation(schema, name) else { return };
        let (mut left, mut seen) = (found.parents.clone(), HashSet::new());
        while let Some(parent) = left.pop() {
            let resource = self.resource(&[&parent.0, &parent.1]);
            self.tag(at, &parent.0, &parent.1, false);
            if let Some(draft) = self.drafts.get_mut(at) {
                draft.resource(resource);
            }
            if seen.insert(parent.clone()) {
                left.extend(find(&parent).map(|it| it.parents.clone()).unwrap_or_default());
            }
        }
        let mut left: Vec<&(String, String)> = found.children.iter().collect();
        let mut seen = HashSet::new();
        while let Some(child) = left.pop() {
            let Some(it) = find(child).filter(|_| seen.insert(child)) else { continue };
            left.extend(&it.children);
            self.tag(at, &child.0, &child.1, false);
            if it.kind == RelationKind::ForeignTable {
                self.add(at, Trait::Exec);
            }
            let written = if usage == Use::Write { &it.write_calls[..] } else { &[] };
            for oid in it.read_calls.iter().chain(written) {
                self.called_oid(*oid);
            }
        }
    }

    /// What goes, or changes, by a foreign key with the rows of a relation.
    pub(super) fn cascades(&mut self, at: At, (schema, name): (String, String), is_delete: bool) {
        let catalogue = self.catalogue;
        let (mut left, mut seen) = (vec![(schema, name)], HashSet::new());
        while let Some(next) = left.pop() {
            let Some(found) = catalogue.relation(&next.0, &next.1) else { continue };
            if !seen.insert(next) {
                continue;
            }
            for (schema, name) in if is_delete { &found.delete_cascades } else { &found.update_cascades } {
                self.note_relation(at, schema, name, Use::Write, 0);
                left.push((schema.clone(), name.clone()));
            }
        }
    }

    /// `postgres:<database>/<a>.<b>`
    pub(super) fn resource(&self, names: &[&str]) -> String {
        format!("postgres:{}/{}", self.settings.database, names.join("."))
    }

    /// `postgres:<database>/role/<name>` and the like.
    pub(super) fn resource_of(&self, what: &str, name: &str) -> String {
        format!("postgres:{}/{what}/{name}", self.settings.database)
    }
}

/// What touching a relation of the system means.
fn weight(schema: &str, name: &str, usage: Use) -> (Traits, Option<Access>) {
    let is_system = matches!(schema, "pg_catalog" | "pg_toast") || schema.starts_with("pg_toast_temp");
    let mut traits = Traits::EMPTY;
    // They show the options of user mappings, with the passwords.
    if schema == "information_schema" && matches!(name, "user_mapping_options" | "_pg_user_mappings") {
        traits = traits.with(Trait::Credential);
    }
    if !is_system {
        return (traits, None);
    }
    if SECRETS.contains(&name) {
        traits = traits.with(Trait::Credential);
    }
    if FILES.contains(&name) {
        traits = traits.with(Trait::Exec);
    }
    if schema == "pg_toast" || name.starts_with("pg_largeobject") && name != "pg_largeobject_metadata" {
        traits = traits.with(Trait::Export);
    }
    if usage != Use::Read {
        // `pg_settings` takes UPDATE for SET; all else is the catalogue itself.
        let what = if name == "pg_settings" { [Trait::Session; 2] } else { [Trait::Privilege, Trait::Schema] };
        return (traits.union(what.into_iter().collect()), Some(Access::Permissions));
    }
    (traits, None)
}
