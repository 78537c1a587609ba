use serde_json::json;

use super::*;

fn member() -> Value {
    json!({
        "id": "U1", "team_id": "T1", "deleted": false, "is_bot": false, "is_restricted": false,
        "is_ultra_restricted": false, "enterprise_user": {"id": "U1", "enterprise_id": "E1"},
    })
}

#[test]
fn only_full_members_of_ours_decide() {
    assert_eq!(check_member(&member(), "U1", "T1", false), Ok(()));
    assert_eq!(check_member(&member(), "U1", "E1", true), Ok(()));
    for (name, value) in [
        ("id", json!("U2")),
        ("team_id", json!("T2")),
        ("is_stranger", json!(true)),
        ("deleted", json!(true)),
        ("deleted", Value::Null),
        ("is_bot", json!(true)),
        ("is_bot", Value::Null),
        ("is_restricted", json!(true)),
        ("is_restricted", Value::Null),
        ("is_ultra_restricted", json!(true)),
        ("is_ultra_restricted", Value::Null),
    ] {
        let mut other = member();
        other[name] = value.clone();
        assert!(check_member(&other, "U1", "T1", false).is_err(), "{name}: {value}");
    }
    assert!(check_member(&member(), "U1", "E2", true).is_err());
    assert!(check_member(&member(), "U1", "T1", true).is_err());
}
