//! Relations and columns that an operator calls sensitive, by tag.

use crate::pattern::Glob;

/// What carries which tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags(Vec<Tagged>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tagged {
    tag: String,
    database: Option<Glob>,
    schema: Glob,
    relation: Glob,
    column: Option<Glob>,
}

impl Tags {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what a tag stands on: `[database/]schema.relation[.column]`, each part a glob.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn add(&mut self, tag: &str, place: &str) -> Result<(), &'static str> {
        let (database, name) = match place.split_once('/') {
            Some((database, name)) => (Some(database), name),
            None => (None, place),
        };
        let parts: Vec<&str> = name.split('.').collect();
        let (schema, relation, column) = match parts.as_slice() {
            [schema, relation] => (*schema, *relation, None),
            [schema, relation, column] => (*schema, *relation, Some(*column)),
            _ => return Err("this is not `schema.relation` or `schema.relation.column`"),
        };
        if parts.iter().any(|it| it.is_empty()) || database.is_some_and(str::is_empty) {
            return Err("a part of this name is empty");
        }
        self.0.push(Tagged {
            tag: tag.to_owned(),
            database: database.map(Glob::new),
            schema: Glob::new(schema),
            relation: Glob::new(relation),
            column: column.map(Glob::new),
        });
        Ok(())
    }

    /// The tags of a relation, each with the columns it is about; `None`: all of it.
    pub(super) fn of<'t>(
        &'t self,
        database: &str,
        schema: &str,
        relation: &str,
    ) -> impl Iterator<Item = (&'t str, Option<&'t Glob>)> {
        self.0
            .iter()
            .filter(move |it| {
                it.database.as_ref().is_none_or(|it| it.matches(database))
                    && it.schema.matches(schema)
                    && it.relation.matches(relation)
            })
            .map(|it| (it.tag.as_str(), it.column.as_ref()))
    }
}
