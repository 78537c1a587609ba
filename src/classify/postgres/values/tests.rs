use serde_json::json;

use super::*;
use crate::classify::postgres::{Catalogue, Settings, parse};

#[test]
fn values_are_shown_as_what_they_mean() {
    let parsed = parse(b"SELECT $1", &Settings::default(), &Catalogue::builtin());
    let statement = &parsed.statements[0];
    let text = |bytes| BoundValue { bytes: Some(bytes), is_binary: false, type_oid: 0 };
    let binary = |bytes, type_oid| BoundValue { bytes: Some(bytes), is_binary: true, type_oid };
    let values = [
        text(b"a"),
        text(b"\xff"),
        BoundValue { bytes: None, is_binary: false, type_oid: 0 },
        binary(&[0, 0, 0, 7], 23),
        binary(&[0, 7], 23),
        binary(b"x", 25),
        binary(&[1], 16),
    ];
    let actions = with_values(statement, &values);
    assert_eq!(
        actions[0].parameters["params"],
        json!(["a", {"base64": "/w=="}, null, 7, {"base64": "AAc="}, "x", true])
    );
    assert_eq!(actions[0].parameters["sql"], "SELECT $1");
    assert!(!with_values(statement, &[])[0].parameters.contains_key("params"));
}
