use serde_json::json;

use super::*;

fn named(request: &Value) -> Result<Vec<Action>, String> {
    name(request.as_object().unwrap())
}

fn names(request: &Value) -> Vec<String> {
    named(request).unwrap().iter().map(|it| it.name.to_string()).collect()
}

#[test]
fn a_line_gives_its_statements_in_the_documented_shape() {
    let actions =
        named(&json!({"sql": "SELECT $1", "params": [7, null, true], "session": {"database": "shop"}})).unwrap();
    assert_eq!(
        super::super::shown_action(&actions[0]),
        json!({
            "action": "postgres:select", "access": "read", "traits": [], "resources": ["postgres:shop"], "region": null,
            "account": "shop", "parameters": {"sql": "SELECT $1", "params": ["7", null, "true"]}, "iam_actions": [],
        })
    );
}

#[test]
fn execute_is_what_was_prepared() {
    let session = json!({"prepared": {"x": "TRUNCATE t"}});
    assert_eq!(names(&json!({"sql": "EXECUTE x", "session": session})), ["postgres:execute", "postgres:truncate"]);
    let all = names(&json!({"sql": "PREPARE y AS DELETE FROM t; EXECUTE y"}));
    assert_eq!(all, ["postgres:prepare", "postgres:delete", "postgres:execute", "postgres:delete"]);
}

#[test]
fn what_cannot_be_read_is_refused() {
    for bad in [
        json!({}),
        json!({"sql": 1}),
        json!({"sql": "SELECT 1", "session": {"nothing": 1}}),
        json!({"sql": "SELECT 1", "params": {}}),
        json!({"sql": "SELECT 1", "params": [[]]}),
        json!({"sql_base64": "%"}),
        json!({"function": "lower"}),
    ] {
        assert!(named(&bad).is_err(), "{bad}");
    }
}
