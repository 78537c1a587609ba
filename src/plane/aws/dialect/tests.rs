use std::process::Command;

use super::*;

const SHAPES: [Shape; 6] = [Shape::Ec2, Shape::Json, Shape::Query, Shape::RestJson, Shape::RestXml, Shape::S3];

/// Every cause, in the order of its declaration. A new variant stops [`covered`] from compiling
/// until it stands here too.
fn causes() -> Vec<Cause> {
    use Ending::*;
    let endings = [
        AnswerLost,
        Cancelled,
        Denied,
        Expired,
        FailedUpstream,
        LogUnavailable,
        NoApprover,
        OutcomeUnknown,
        Overloaded,
        Replayed,
        Restarted,
        RuleDenied,
        Superseded,
        TransactionLimit,
        Unfit,
        UpstreamLeft,
        UpstreamLimit,
        Withdrawn,
    ];
    let mut causes = vec![Cause::BadGateway, Cause::BodyTimeout];
    causes.extend(endings.map(Cause::Ended));
    causes.extend([Cause::GatewayTimeout, Cause::Internal, Cause::Malformed]);
    causes.extend([Cause::Signature(SigError::UnknownKey), Cause::TooLarge]);
    causes
}

fn covered(cause: &Cause) -> usize {
    match cause {
        Cause::BadGateway => 0,
        Cause::BodyTimeout => 1,
        Cause::Ended(ending) => {
            2 + match ending {
                Ending::AnswerLost => 0,
                Ending::Cancelled => 1,
                Ending::Denied => 2,
                Ending::Expired => 3,
                Ending::FailedUpstream => 4,
                Ending::LogUnavailable => 5,
                Ending::NoApprover => 6,
                Ending::OutcomeUnknown => 7,
                Ending::Overloaded => 8,
                Ending::Replayed => 9,
                Ending::Restarted => 10,
                Ending::RuleDenied => 11,
                Ending::Superseded => 12,
                Ending::TransactionLimit => 13,
                Ending::Unfit => 14,
                Ending::UpstreamLeft => 15,
                Ending::UpstreamLimit => 16,
                Ending::Withdrawn => 17,
            }
        }
        Cause::GatewayTimeout => 20,
        Cause::Internal => 21,
        Cause::Malformed => 22,
        Cause::Signature(_) => 23,
        Cause::TooLarge => 24,
    }
}

fn fault(cause: &Cause) -> Fault {
    Fault::new(cause.clone(), "ann said \"no\" & <why>.").with_hold(Some(HoldId::new("h_1")))
}

fn render(cause: &Cause, shape: Shape, is_head: bool) -> Response<Bytes> {
    fault(cause).render(shape, &ActionId::new("a_1"), is_head)
}

#[test]
fn every_cause_is_in_the_table_once() {
    let places: Vec<usize> = causes().iter().map(covered).collect();
    assert_eq!(places, (0..25).collect::<Vec<_>>());
}

/// The whole truth table, as text. `UPDATE_GOLDEN=1` writes it anew.
#[test]
fn causes_by_shapes_are_as_written_down() {
    let mut text = String::new();
    for cause in &causes() {
        for shape in SHAPES {
            let response = render(cause, shape, false);
            let name = response.headers()["x-countersign-ending"].to_str().unwrap().to_owned();
            let retry = if response.headers().contains_key("retry-after") { "retry" } else { "final" };
            let (shape_name, code) = (format!("{shape:?}"), fault(cause).code(shape));
            text.push_str(&format!("{name:18} {shape_name:9} {} {retry} {code}\n", response.status().as_u16()));
        }
    }
    for shape in SHAPES {
        let response = render(&Cause::Ended(Ending::Denied), shape, false);
        text.push_str(&format!("\n--- {shape:?}\n"));
        for (name, value) in response.headers() {
            text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        text.push_str(&format!("\n{}\n", String::from_utf8_lossy(response.body())));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/plane/aws/dialect/table.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "run with UPDATE_GOLDEN=1 and look at the difference");
}

#[test]
fn what_a_retry_cannot_help_is_never_a_retryable_status() {
    for cause in &causes() {
        for shape in SHAPES {
            let response = render(cause, shape, false);
            let is_retried = matches!(response.status().as_u16(), 429 | 500 | 502 | 503 | 504);
            assert_eq!(is_retried, response.headers().contains_key("x-amz-retry-after"), "{cause:?} {shape:?}");
        }
    }
}

#[test]
fn a_message_cannot_leave_its_place() {
    let fault = Fault::new(Cause::Malformed, "a\r\nb\u{202e}c</Message>\u{1b}[31m".repeat(200));
    for shape in SHAPES {
        for is_head in [false, true] {
            let response = fault.render(shape, &ActionId::new("a_1"), is_head);
            let body = std::str::from_utf8(response.body()).unwrap();
            assert_eq!(body.is_empty(), is_head);
            assert!(body.len() < 2 * MESSAGE_LIMIT_CHARS + 400);
            assert!(!body.contains("c</Message>") || matches!(shape, Shape::Json | Shape::RestJson), "{body}");
            assert!(body.bytes().all(|b| b == b'\n' || b == b' ' || b.is_ascii_graphic()));
        }
    }
}

#[test]
fn the_shape_is_guessed_from_what_the_client_parses() {
    let guess = |fields: &[(&'static str, &str)], query: &str| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, value.parse().unwrap());
        }
        Shape::guess(&headers, "/", query)
    };
    let scoped = |service: &str| {
        format!("AWS4-HMAC-SHA256 Credential=AK/20261120/us-east-1/{service}/aws4_request, …=")
            .replace('…', "SignedHeaders")
    };
    let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    assert_eq!(guess(&[form, ("authorization", &scoped("iam"))], ""), Shape::Query);
    assert_eq!(guess(&[form, ("authorization", &scoped("ec2"))], ""), Shape::Ec2);
    assert_eq!(guess(&[("x-amz-target", "DynamoDB_20120810.PutItem")], ""), Shape::Json);
    assert_eq!(guess(&[("authorization", &scoped("s3"))], ""), Shape::S3);
    assert_eq!(guess(&[("authorization", &scoped("route53"))], ""), Shape::RestXml);
    assert_eq!(guess(&[("authorization", &scoped("elasticfilesystem"))], ""), Shape::RestJson);
    let presigned = "X-Amz-Credential=AK%2F20261120%2Fus-east-1%2Felasticfilesystem%2Faws4_request";
    assert_eq!(guess(&[], presigned), Shape::RestJson);
    assert_eq!(guess(&[], &presigned.replace("elasticfilesystem", "s3")), Shape::S3);
    assert_eq!(guess(&[], ""), Shape::RestXml);
}

/// The foreign judge: botocore must read code, message, request id and hold out of every shape.
#[test]
fn botocore_reads_every_shape() {
    let mut cases = Vec::new();
    for cause in &causes() {
        for shape in SHAPES {
            let response = render(cause, shape, false);
            let headers: std::collections::BTreeMap<_, _> =
                response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            cases.push(serde_json::json!({
                "shape": format!("{shape:?}"),
                "status": response.status().as_u16(),
                "headers": headers,
                "body": std::str::from_utf8(response.body()).unwrap(),
                "code": fault(cause).code(shape),
                "message": "ann said \"no\" & <why>. (hold h_1)",
            }));
        }
    }
    let venv = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python");
    let python = if std::path::Path::new(venv).exists() { venv } else { "python3" };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::to_vec(&cases).unwrap()).unwrap();
    let output = Command::new(python).args(["-c", include_str!("botocore.py")]).arg(file.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("{} cases", cases.len())), "{said}");
}
