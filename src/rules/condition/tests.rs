use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::action::{Access, Agent, Context, Owner, Traits};
use crate::id::{AgentId, PersonId};

fn evaluate(text: &str, parameters: serde_json::Value) -> Result<bool, Fault> {
    let agent = Agent { id: AgentId::new("a"), owner: Owner::Person(PersonId::new("o")) };
    let context = Context::default();
    let subject = Subject { agent: &agent, context: &context, now: Timestamp::from_micros(0) };
    let action = Action {
        name: "aws:s3:PutObject".into(),
        access: Access::Write,
        traits: Traits::EMPTY,
        resources: vec!["arn:aws:s3:::b/k".to_owned()],
        region: None,
        account: None,
        parameters: parameters.as_object().unwrap().clone(),
        sensitive: vec!["Secret".to_owned()],
        iam_actions: Vec::new(),
        tags: Vec::new(),
        unknown: None,
    };
    let condition = Condition::compile(text).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"));
    condition.holds(&Facts::of(&subject, &action))
}

#[test]
fn conditions_see_the_action() {
    let parameters = json!({
        "Name": "bob", "Count": 3, "Big": u64::MAX, "Ratio": 0.5, "Flag": true, "Nothing": null,
        "Tags": [{"Key": "env", "Value": "prod"}, {"Key": "x", "Value": "y"}], "Secret": "hunter2",
    });
    for (text, wanted) in [
        ("action == \"aws:s3:PutObject\" && access == \"write\"", Ok(true)),
        ("traits == [] && !(\"export\" in traits)", Ok(true)),
        ("region == \"global\" && agent == \"a\" && owner == \"o\"", Ok(true)),
        ("parameters.Count > 2 && parameters.Ratio < 1.0 && parameters.Flag && parameters.Nothing == null", Ok(true)),
        ("parameters.Big > 5u", Ok(true)),
        ("has(parameters.Absent)", Ok(false)),
        ("parameters.Tags.exists(t, t.Key == \"env\" && t.Value.startsWith(\"pro\"))", Ok(true)),
        ("parameters.Tags.all(t, size(t.Key) > 1)", Ok(false)),
        ("parameters.Name.matches(\"^b.b$\")", Ok(true)),
        ("resources[0].glob(\"arn:aws:s3:::b/*\")", Ok(true)),
        ("parameters.Secret == \"hunter2\"", Ok(false)),
        ("parameters.Secret.contains(\"hunter\")", Ok(false)),
        ("now == timestamp(\"1970-01-01T00:00:00Z\") && now.getHours(\"Asia/Tokyo\") == 9", Ok(true)),
        ("now + duration(\"1h\") > now", Ok(true)),
        ("context.model == \"\" && context.task == \"\"", Ok(true)),
        ("parameters.Absent == 1", Err(Fault::NoSuchKey("Absent".to_owned()))),
        ("parameters.Absent == 1 || parameters.Count == 3", Ok(true)),
        ("parameters.Name > 3", Err(Fault::Types)),
        ("account == \"1\"", Err(Fault::Absent("account".to_owned()))),
        ("parameters.Name", Err(Fault::NotBoolean)),
        ("parameters.Count / 0 == 1", Err(Fault::Other)),
        ("resources[7] == \"\"", Err(Fault::Other)),
        ("parameters.Name.matches(\"b\", \"c\")", Err(Fault::Other)),
    ] {
        if text.contains("\"c\"") {
            assert!(Condition::compile(text).is_err());
            continue;
        }
        assert_eq!(evaluate(text, parameters.clone()), wanted, "{text}");
    }
}

#[test]
fn faults_carry_no_values() {
    let parameters = json!({"Name": "hunter2", "Other": ["hunter2"]});
    for text in [
        "parameters.Name > 3",
        "parameters.Other[9] == \"x\"",
        "parameters.Name[0] == \"h\"",
        "parameters[parameters.Name]",
    ] {
        let fault = evaluate(text, parameters.clone()).unwrap_err().to_string();
        assert!(!fault.contains("hunter2"), "{text}: {fault}");
    }
}

#[test]
fn a_request_cannot_make_a_condition_expensive() {
    let keys: Vec<String> = (0..100_000).map(|n| format!("key-{n}")).collect();
    let parameters = json!({"Keys": keys, "Name": "x".repeat(100_000)});
    // Once through the request is fine, the whole request for each of its values is not.
    assert_eq!(evaluate("parameters.Keys.exists(k, k == \"none\")", parameters.clone()), Ok(false));
    let product = "parameters.Keys.exists(k, k == parameters.Name)";
    assert_eq!(evaluate(product, parameters), Err(Fault::TooLarge));
    assert_eq!(evaluate(product, json!({"Keys": ["a", "b"], "Name": "b"})), Ok(true));
    let mut deep = json!("x");
    for _ in 0..100 {
        deep = json!({ "d": deep });
    }
    assert_eq!(evaluate("has(parameters.d)", deep), Err(Fault::TooLarge));
    assert_eq!(
        evaluate("parameters.Keys.exists(k, k == \"a\")", json!({"Keys": ["a".repeat(20 << 20)]})),
        Err(Fault::TooLarge)
    );
    for refused in [
        "resources.exists(r, parameters.Keys.exists(k, k == r))",
        "resources.exists(r, r in parameters.Keys)",
        "resources.exists(r, [parameters.Keys].exists(k, k == r))",
        "resources.exists(r, (true ? parameters.Keys : []).exists(k, k == r))",
        "resources.map(r, r + r).map(r, r + r) == []",
        "resources.filter(r, true) == []",
        "optional.of(parameters).hasValue()",
        "parameters.?x == 1",
        "parameters.Name.matches(parameters.Pattern)",
        "parameters.Name.glob(parameters.Pattern)",
        "matches(parameters.Name, \"x\")",
        "Message{field: 1} == 1",
        "type(parameters) == map",
    ] {
        assert!(Condition::compile(refused).is_err(), "{refused}");
    }
}

/// The parser and the evaluator recurse; what is accepted must do so on an ordinary thread's stack.
#[test]
fn nesting_cannot_exhaust_the_stack() {
    for (open, core, close) in [
        ("(", "true", ")"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("[", "", "]"),
        ("true && ", "true", ""),
        ("1 + ", "1", ""),
        ("parameters.", "b", ""),
        ("true ? true : ", "true", ""),
        ("{'a':", "1", "}"),
        ("size(", "\"\"", ")"),
    ] {
        for times in [1, 10, 15, 16, 17, 40, 300, 1000] {
            let text = format!("{}{core}{}", open.repeat(times), close.repeat(times));
            if Condition::compile(&text).is_ok() {
                // Whatever comes out: it came out.
                drop(evaluate(&text, json!({})));
            }
        }
    }
    assert!(Condition::compile(&format!("{}true{}", "(".repeat(15), ")".repeat(15))).is_ok());
}

#[test]
fn what_agents_claim_is_known_to_be_a_claim() {
    let uses = |text: &str| Condition::compile(text).unwrap().uses_claims();
    assert!(uses("context.task == \"x\""));
    assert!(uses("resources.all(r, r == context.task)"));
    assert!(uses("context[\"task\"] == \"x\""));
    assert!(!uses("agent == \"context\""));
}

/// Text that looks like CEL, put together at random from a fixed seed.
#[test]
fn arbitrary_conditions_never_panic() {
    let words: BTreeMap<usize, &str> = [
        "parameters",
        ".",
        "x",
        "(",
        ")",
        "[",
        "]",
        "\"",
        "'",
        "&&",
        "||",
        "!",
        "-",
        "1",
        "in",
        " ",
        "?",
        ":",
        "resources",
        "exists",
        ",",
        "r",
        "{",
        "}",
        "matches",
        "é",
        "\n",
        "r\"",
        "\\",
        "0x",
        "1e9",
        "b'",
        "\"\"\"",
        "//",
        "now",
        "null",
    ]
    .into_iter()
    .enumerate()
    .collect();
    let mut seed: u64 = 42;
    for _ in 0..400 {
        let mut text = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(words[&((seed >> 33) as usize % words.len())]);
        }
        if Condition::compile(&text).is_ok() {
            drop(evaluate(&text, json!({"x": "y"})));
        }
    }
}
