use serde_json::json;

use super::*;

fn named(lines: &str) -> Vec<Value> {
    let mut out = Vec::new();
    name_lines(lines.as_bytes(), &mut out, Plane::Aws, &Front::default()).unwrap();
    String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn line(rest: Value) -> String {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AK/20261120/us-west-2/s3/aws4_request, SignedHeaders=host, Signature={}",
        "0".repeat(64)
    );
    let mut request =
        json!({"method": "GET", "url": "http://127.0.0.1/b-1/k", "headers": {"Authorization": authorization}});
    for (name, value) in rest.as_object().unwrap() {
        match (name.as_str(), value) {
            ("headers", Value::Object(fields)) => {
                for (name, value) in fields {
                    request["headers"][name] = value.clone();
                }
            }
            _ => request[name] = value.clone(),
        }
    }
    request.to_string()
}

#[test]
fn answers_have_the_documented_shape_in_the_order_asked() {
    let lines =
        format!("{}\n\n{}\n", line(json!({"id": 7, "other": true})), line(json!({"id": "x", "method": "PURGE"})));
    let answers = named(&lines);
    assert_eq!(
        answers[0],
        json!({
            "id": 7,
            "actions": [{
                "action": "aws:s3:GetObject", "access": "read", "traits": [], "resources": ["arn:aws:s3:::b-1/k"],
                "region": "us-west-2", "account": null, "parameters": {"Bucket": "b-1", "Key": "k"},
                "iam_actions": ["s3:GetObject"],
            }],
            "unknown": null,
            "refused": false,
        })
    );
    assert_eq!(answers[1]["id"], "x");
    assert_eq!((&answers[1]["actions"], &answers[1]["refused"]), (&json!([]), &json!(true)));
    assert!(answers[1]["unknown"].is_string());
}

#[test]
fn lines_that_cannot_be_read_are_refused_and_the_next_is_read() {
    let good = line(json!({}));
    for bad in [
        "x".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "\u{0}".to_owned(),
        line(json!({"method": 1})),
        line(json!({"method": "GE T"})),
        line(json!({"url": "http://127.0.0.1/a b"})),
        line(json!({"url": "http://127.0.0.1/k#fragment"})),
        line(json!({"url": "ftp://127.0.0.1/k"})),
        line(json!({"url": "http://user@127.0.0.1/k"})),
        line(json!({"url": "/b-1/k"})),
        line(json!({"headers": {"Host": "other"}})),
        line(json!({"headers": {"a b": "c"}})),
        line(json!({"headers": {"a": "b\nc"}})),
        line(json!({"headers": {"a": 1}})),
        line(json!({"headers": {"x-amz-target": ["a", "b"]}})),
        line(json!({"headers": [["a"]]})),
        line(json!({"headers": "a"})),
        line(json!({"body_base64": "%"})),
        line(json!({"body_base64": 1})),
        line(json!({"body_base64": "AA==", "headers": {"Content-Length": "2"}})),
        line(json!({"headers": {"Content-Length": "0", "Transfer-Encoding": "chunked"}})),
        line(json!({"headers": {"Content-Length": "+0"}})),
    ] {
        let answers = named(&format!("{bad}\n{good}\n"));
        assert_eq!(answers[0]["refused"], true, "{bad}");
        assert_eq!(answers[1]["actions"][0]["action"], "aws:s3:GetObject", "{bad}");
    }
}

#[test]
fn headers_may_be_pairs_and_the_default_port_is_no_difference() {
    let request: Value =
        serde_json::from_str(&line(json!({"url": "https://s3.us-west-2.amazonaws.com:443/b-1/k"}))).unwrap();
    let mut pairs: Vec<Value> =
        request["headers"].as_object().unwrap().iter().map(|(name, value)| json!([name, value])).collect();
    pairs.push(json!(["HOST", "S3.us-west-2.amazonaws.com"]));
    let mut request = request;
    request["headers"] = Value::Array(pairs);
    assert_eq!(named(&request.to_string())[0]["actions"][0]["action"], "aws:s3:GetObject");
}

#[test]
fn a_body_that_is_not_given_is_unknown_where_it_counts() {
    let put = line(json!({"method": "PUT", "headers": {"Content-Length": "5"}}));
    assert_eq!(named(&put)[0]["unknown"], Value::Null);
    let delete =
        line(json!({"method": "POST", "url": "http://127.0.0.1/b-1?delete", "headers": {"Content-Length": "5"}}));
    assert!(named(&delete)[0]["unknown"].is_string());
}

#[test]
fn secrets_are_shown_by_their_size() {
    let request = json!({
        "method": "POST", "url": "http://127.0.0.1/",
        "headers": {
            "Authorization": line(json!({})).split_once("AWS4").map(|(_, rest)| format!("AWS4{}", rest.split('"').next().unwrap()).replace("/s3/", "/secretsmanager/")).unwrap(),
            "X-Amz-Target": "secretsmanager.PutSecretValue", "Content-Type": "application/x-amz-json-1.1",
        },
        "body_base64": STANDARD.encode(r#"{"SecretId":"s","SecretString":"hunter2"}"#),
    });
    let answer = named(&request.to_string())[0].to_string();
    assert!(answer.contains("aws:secretsmanager:PutSecretValue") && !answer.contains("hunter2"), "{answer}");
}
