use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::card::sample::{hold, now};

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

#[test]
fn document_lists_exactly_the_served_routes() {
    let mut documented = BTreeSet::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "delete", "patch"] {
            if item.get(method).is_some() {
                documented.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    let served = [
        ("GET", "/openapi.json"),
        ("GET", "/v1/holds"),
        ("GET", "/v1/holds/watch"),
        ("GET", "/v1/holds/events"),
        ("GET", "/v1/holds/{id}"),
        ("GET", "/v1/holds/{id}/events"),
        ("POST", "/v1/holds/{id}/preview"),
        ("POST", "/v1/holds/{id}/verdict"),
        ("POST", "/v1/holds/{id}/cancel"),
    ];
    assert_eq!(documented, served.iter().map(|(m, p)| ((*m).to_owned(), (*p).to_owned())).collect());
    for (method, path) in served {
        let method: Method = method.parse().unwrap();
        let path = path.replace("{id}", "h_01abc");
        Route::find(&method, &path).unwrap();
        let other = if method == Method::GET { Method::POST } else { Method::GET };
        assert_eq!(Route::find(&other, &path).unwrap_err().status, StatusCode::METHOD_NOT_ALLOWED);
    }
}

/// Each property the document requires is there, and nothing else.
fn check_schema(value: &Value, schema: &Value, place: &str) {
    let document = document();
    let schema = match schema["$ref"].as_str() {
        Some(name) => &document["components"]["schemas"][name.rsplit('/').next().unwrap()],
        None => schema,
    };
    if let Some(items) = schema.get("items") {
        for item in value.as_array().unwrap() {
            check_schema(item, items, &format!("{place}[]"));
        }
    }
    if let Some(choices) = schema["enum"].as_array() {
        assert!(choices.contains(value), "{place}: {value}");
    }
    if schema["additionalProperties"] == json!(false) {
        let members = value.as_object().unwrap();
        for required in schema["required"].as_array().unwrap() {
            assert!(members.contains_key(required.as_str().unwrap()), "{place} lacks {required}");
        }
        for (name, member) in members {
            let property = schema["properties"].get(name).unwrap_or_else(|| panic!("{place}.{name} is not documented"));
            check_schema(member, property, &format!("{place}.{name}"));
        }
    }
}

#[test]
fn hold_has_the_documented_form() {
    let mut hold = hold(now());
    hold.votes = vec![crate::hold::Vote {
        person: crate::id::PersonId::new("alice"),
        word: Word::Allow,
        reason: "ok".to_owned(),
        at: hold.opened,
        void: false,
    }];
    hold.modified =
        vec![crate::hold::Change { pointer: "/UserName".to_owned(), before: None, after: Some(json!("bob")) }];
    let mut value = payload::hold(&hold);
    check_schema(&value, &json!({"$ref": "#/components/schemas/Hold"}), "hold");
    value["card"] = json!("text");
    check_schema(&value, &json!({"$ref": "#/components/schemas/HoldWithCard"}), "hold");
}

#[test]
fn preview_has_the_documented_form() {
    let hold = hold(now());
    let change = |after: &str| crate::hold::Change {
        pointer: "/PolicyDocument".to_owned(),
        before: Some(json!("{\"a\": 1, \"b\": 2}")),
        after: Some(json!(after)),
    };
    let preview = crate::gate::Preview {
        digest: hold.digest,
        actions: hold.actions.into(),
        changes: vec![change("{\"a\": 1, \"b\": \"\u{202e}3\"}")],
        requirements: hold.ruling.requirements.clone(),
    };
    let value = payload::preview(&preview);
    check_schema(&value, &json!({"$ref": "#/components/schemas/Preview"}), "preview");
    let lines = json!([" {", "   \"a\": 1,", "-  \"b\": 2", "+  \"b\": \"\\u{202e}3\"", " }"]);
    assert_eq!(value["modified"][0]["lines"], lines, "a document is compared in lines, and hides nothing");
}

/// Whoever comes back says how far they were; a number of another process means nothing.
#[test]
fn a_stream_goes_on_where_it_ended() {
    let started = Timestamp::from_micros(7);
    assert_eq!(watch::resume("7-42", started), 42);
    for id in ["8-42", "42", "7-", "7-x", "-", "", "7-42-1"] {
        assert_eq!(watch::resume(id, started), 0, "{id}");
    }
}

#[test]
fn every_state_is_documented() {
    use crate::hold::{Ending, HoldState};
    let document = document();
    let states = document["components"]["schemas"]["Hold"]["properties"]["state"]["enum"].as_array().unwrap();
    let all = [HoldState::Pending, HoldState::Approved, HoldState::Forwarding, HoldState::Executed];
    let all = all.into_iter().chain(Ending::ALL.into_iter().map(HoldState::Ended));
    let all: Vec<Value> = all.map(|state| json!(state.as_str())).collect();
    assert_eq!(*states, all);
}

#[test]
fn secrets_do_not_leave() {
    let mut hold = hold(now());
    hold.actions[0].parameters = json!({"Password": "hunter2"}).as_object().unwrap().clone();
    hold.actions[0].sensitive = vec!["Password".to_owned()];
    assert!(!payload::hold(&hold).to_string().contains("hunter2"));
}

#[test]
fn ids_of_another_form_are_not_found() {
    for path in [
        "/v1/holds/",
        "/v1/holds/h_",
        "/v1/holds/H_1",
        "/v1/holds/h_1/",
        "/v1/holds/h_1/verdict/x",
        "/v1/holds/h_%31",
        "/v1/holds/..",
        "//v1/holds",
        "/v1/holds/h_1\u{7f}",
        "",
    ] {
        assert_eq!(Route::find(&Method::GET, path).unwrap_err().status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(Route::find(&Method::GET, "/v1/holds/h_1").unwrap(), Route::Show(HoldId::new("h_1")));
}

#[test]
fn verdict_bodies_are_read_strictly() {
    for (body, good) in [
        (r#"{"verdict":"allow","reason":"ok"}"#, true),
        (r#"{"verdict":"allow","reason":"ok","digest":"x","parameters":{}}"#, true),
        (r#"{"verdict":"allow","reason":"ok","approver":"root"}"#, false),
        (r#"{"verdict":"allow","verdict":"deny","reason":"ok"}"#, false),
        (r#"{"verdict":"allow"}"#, false),
        (r#"{"verdict":"modify","reason":"ok","parameters":[]}"#, false),
        (r#"{"verdict":"allow","reason":"ok"} {}"#, false),
    ] {
        assert_eq!(serde_json::from_str::<VerdictBody>(body).is_ok(), good, "{body}");
    }
}
