use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::*;

mod arbitrary;
mod cost;
mod derived;
mod hostile;
mod narrowing;
mod rights;
mod serializers;
mod traps;
mod uploads;

const OWN: &str = "123456789012";

fn front() -> Front {
    Front { endpoint_hosts: vec!["proxy.corp".into()], account: Some(OWN.into()), ..Front::default() }
}

/// A request in the shape test tables are written in.
#[derive(Clone)]
struct Request {
    method: &'static str,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// `GET https://host/path`, signed for `region/service` when a scope is given.
fn request(line: &'static str, scope: &str) -> Request {
    let (method, url) = line.split_once(' ').unwrap();
    let mut headers = Vec::new();
    if !scope.is_empty() {
        let value = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261120/{scope}/aws4_request, SignedHeaders=host, Signature={}",
            "0".repeat(64)
        );
        headers.push(("authorization".to_owned(), value));
    }
    Request { method, url: url.to_owned(), headers, body: Vec::new() }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(200).collect();
        write!(f, "{} {} {:?} {body:?}", self.method, self.url, self.headers)
    }
}

impl Request {
    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn form(mut self, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self.header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
    }

    fn target(mut self, target: &str, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self.header("content-type", "application/x-amz-json-1.1").header("x-amz-target", target)
    }

    fn body(mut self, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self
    }

    fn head(&self) -> Result<Head, String> {
        let rest = self.url.split_once("://").unwrap().1;
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(host).unwrap());
        for (name, value) in &self.headers {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let uri = path.parse().map_err(|error| format!("{error}"))?;
        Head::parse(Method::from_bytes(self.method.as_bytes()).unwrap(), &uri, headers).map_err(|it| it.to_string())
    }

    fn classified(&self) -> Classified {
        classify(&self.head().unwrap(), Body::Whole(&self.body), &front())
    }

    /// The one action, named without doubt.
    #[track_caller]
    fn action(&self) -> Action {
        let classified = self.classified();
        assert_eq!(classified.refused, None, "{self:?}");
        let [action] = &classified.actions[..] else { panic!("{classified:?}") };
        assert_eq!(action.unknown, None, "{self:?}");
        action.clone()
    }

    /// `name`, `unknown name: why` or `refused: why`.
    fn outcome(&self) -> String {
        let head = match self.head() {
            Ok(head) => head,
            Err(why) => return format!("refused: {why}"),
        };
        let classified = classify(&head, Body::Whole(&self.body), &front());
        if let Some(why) = classified.refused {
            assert!(classified.actions.is_empty());
            return format!("refused: {why}");
        }
        let [action] = &classified.actions[..] else { panic!("{classified:?}") };
        assert_eq!(action.unknown.is_some(), action.traits.contains(Trait::Unknown));
        match &action.unknown {
            Some(why) => format!("unknown {}: {why}", action.name),
            None => action.name.to_string(),
        }
    }
}
