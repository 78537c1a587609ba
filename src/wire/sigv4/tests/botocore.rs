//! Requests as unmodified botocore signs them (`tests/data/botocore_signed.py` wrote them down).

use base64::Engine;

use super::*;

#[derive(serde::Deserialize)]
struct Recorded {
    name: String,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body_base64: String,
}

const RECORDED: &str = include_str!("../../../../tests/data/botocore-signed.jsonl");

#[test]
fn requests_of_botocore_verify_and_no_other_body_or_path_does() {
    for line in RECORDED.lines() {
        let recorded: Recorded = serde_json::from_str(line).unwrap();
        let draft = draft(&recorded);
        let claim = draft.judge().unwrap_or_else(|refusal| panic!("{}: {refusal:?} {draft:?}", recorded.name));
        let mut bent = draft.clone();
        bent.body.push(b' ');
        let is_bound = !matches!(claim, PayloadClaim::Unsigned | PayloadClaim::UnsignedChunks);
        assert_eq!(bent.judge().is_err(), is_bound, "{} {claim:?}", recorded.name);
        let mut bent = draft;
        bent.target.insert(1, 'x');
        assert!(bent.judge().is_err(), "{}", recorded.name);
    }
}

fn draft(recorded: &Recorded) -> Draft {
    let (_, rest) = recorded.url.split_once("://").unwrap();
    let (host, target) = rest.split_once('/').unwrap();
    let body = base64::engine::general_purpose::STANDARD.decode(&recorded.body_base64).unwrap();
    let mut draft = Draft::new(&recorded.method, &format!("/{target}"), &[("host", host)], &body);
    draft.headers.extend(recorded.headers.iter().cloned());
    let head = draft.head().unwrap();
    let date = head.header("x-amz-date").or(head.query_value("X-Amz-Date")).unwrap();
    draft.now = Timestamp::parse_amz_date(date).unwrap();
    draft
}
