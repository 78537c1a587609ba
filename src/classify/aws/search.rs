//! The one request that SDKs write in a way its model does not have: a search of CloudSearch, modelled as
//! `GET` with a query, which they send as `POST` of a form since queries grow long.

use http::{Method, header};

use super::identify::is_form;
use super::place::Place;
use super::{Body, Trouble};
use crate::wire::aws::form;
use crate::wire::head::Head;

/// The request as it is modelled, where it is such a search.
///
/// # Errors
/// When its form has two readings.
pub(super) fn as_modelled(head: &Head, body: Body<'_>, place: &Place<'_>) -> Result<Option<Head>, Trouble> {
    let is_search = head.method == Method::POST
        && head.path == "/2013-01-01/search"
        && is_form(head)
        && place.entries().any(|it| it.id == "cloudsearchdomain");
    let Body::Whole(body) = body else { return Ok(None) };
    if !is_search {
        return Ok(None);
    }
    if head.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Trouble::refused("a form must not be encoded"));
    }
    let mut modelled = head.clone();
    modelled.method = Method::GET;
    modelled.headers.remove(header::CONTENT_TYPE);
    let fields = form::parse(body)?;
    if fields.iter().any(|(name, _)| head.query.iter().any(|(other, _)| other == name)) {
        return Err(Trouble::refused("the query and the form have the same field"));
    }
    modelled.query.extend(fields.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())));
    Ok(Some(modelled))
}
