//! What a hostile client, or somebody on the way, may try. Each case bends one honestly signed
//! request and says how it must be refused; the ones with a CVE name a verifier that let it pass.

use std::fmt::Write;

use super::*;

type Pass = (&'static str, fn(&mut Draft));
/// A name, the bend, and how the refusal's debug text starts.
type Case = (&'static str, fn(&mut Draft), &'static str);

fn iam() -> Draft {
    let headers = [
        ("host", "iam.amazonaws.com"),
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("x-amz-meta-reason", "because"),
        ("user-agent", "Boto3/1.44"),
    ];
    Draft::new("POST", "/a/b?k=v&k2", &headers, b"Action=CreateAccessKey&Version=2010-05-08").signed("iam")
}

fn s3() -> Draft {
    Draft::new("PUT", "/bucket/key%20a", &[("host", "s3.amazonaws.com")], b"hello").signed("s3")
}

fn presigned() -> Draft {
    Draft::new("GET", "/bucket/key?versionId=7", &[("host", "s3.amazonaws.com")], b"").presigned("s3")
}

fn presigned_sts() -> Draft {
    let target = "/?Action=GetCallerIdentity&Version=2011-06-15";
    Draft::new("GET", target, &[("host", "sts.amazonaws.com")], b"").presigned("sts")
}

fn check(base: fn() -> Draft, cases: &[Case]) {
    assert!(base().judge().is_ok(), "the honest request passes: {:?}", base().judge());
    let mut wrong = String::new();
    for (name, bend, expected) in cases {
        let mut draft = base();
        bend(&mut draft);
        let refusal = match draft.judge() {
            Ok(_) => "accepted".to_owned(),
            Err(Refusal::Sig(error)) => format!("{error:?}"),
            Err(Refusal::Head(error)) => format!("Head({error:?})"),
            Err(Refusal::NotHttp) => "NotHttp".to_owned(),
        };
        if !refusal.starts_with(expected) {
            writeln!(wrong, "{name}: {refusal}, not {expected}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn authorization(draft: &mut Draft, from: &str, to: &str) {
    draft.replace("authorization", from, to);
}

#[test]
fn one_credential_source() {
    check(
        iam,
        &[
            ("anonymous", |d| d.remove("authorization"), "Missing"),
            ("empty header", |d| d.set("authorization", ""), "Unsupported"),
            ("two headers", |d| d.headers.push(("authorization".into(), "AWS a:b".into())), "Head(Duplicate"),
            // minio CVE-2026-41145: credentials in the query skipped the check of the header.
            ("a credential in the query too", |d| d.target.push_str("&X-Amz-Credential=a"), "Several"),
            ("a signature in the query too", |d| d.target.push_str("&X-Amz-Signature=a"), "Several"),
            ("an algorithm in the query too", |d| d.target.push_str("&X-Amz-Algorithm=AWS4-HMAC-SHA256"), "Several"),
            ("the same in another case", |d| d.target.push_str("&x-amz-credential=a"), "Several"),
            ("the same behind an escape", |d| d.target.push_str("&X-Amz-%43redential=a"), "Several"),
            ("an expiry in the query too", |d| d.target.push_str("&X-Amz-Expires=9"), "Several"),
            ("a token in the query too", |d| d.target.push_str("&X-Amz-Security-Token=t"), "Several"),
            ("an old key in the query too", |d| d.target.push_str("&AWSAccessKeyId=a&Signature=b"), "Several"),
            ("SigV2", |d| d.set("authorization", "AWS AKIDEXAMPLE:sig"), "Unsupported(\"Signature Version 2\")"),
            (
                "SigV4A",
                |d| authorization(d, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
                "Unsupported(\"Signature Version 4A\")",
            ),
            ("bearer", |d| d.set("authorization", "Bearer xyz"), "Unsupported(\"a bearer token\")"),
            ("basic", |d| d.set("authorization", "Basic eA=="), "Unsupported(\"a password\")"),
            ("another hash", |d| authorization(d, "SHA256", "SHA1"), "Unsupported"),
            ("a lower-case algorithm", |d| authorization(d, "AWS4-HMAC-SHA256", "aws4-hmac-sha256"), "Unsupported"),
            ("a token nobody here issued", |d| d.set("x-amz-security-token", "FwoG"), "Token"),
            ("a token of S3 Express", |d| d.set("x-amz-s3session-token", "FwoG"), "Token"),
            ("an empty token", |d| d.set("x-amz-security-token", ""), "Token"),
        ],
    );
    check(
        presigned,
        &[
            ("a header too", |d| d.set("authorization", "AWS4-HMAC-SHA256 Credential=a"), "Several"),
            ("an old key too", |d| d.target.push_str("&AWSAccessKeyId=a"), "Several"),
            ("a token in the query", |d| d.target.push_str("&X-Amz-Security-Token=t"), "Token"),
            ("a token in the query, other case", |d| d.target.push_str("&x-amz-security-token=t"), "Malformed"),
            ("a token in the header", |d| d.set("x-amz-security-token", "t"), "Token"),
            (
                "SigV4A",
                |d| d.replace_target("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
                "Unsupported(\"Signature Version 4A\")",
            ),
            ("no algorithm", |d| d.replace_target("X-Amz-Algorithm=AWS4-HMAC-SHA256", "a=b"), "Malformed"),
        ],
    );
}

#[test]
fn the_old_and_the_browser_forms_are_named() {
    let old = Draft::new("GET", "/b/k?AWSAccessKeyId=a&Signature=b&Expires=9", &[("host", "a")], b"");
    assert_eq!(old.judge(), Err(Refusal::Sig(SigError::Unsupported("Signature Version 2"))));
    let form = Draft::new("POST", "/b", &[("host", "a"), ("content-type", "Multipart/form-data; boundary=x")], b"");
    assert_eq!(form.judge(), Err(Refusal::Sig(SigError::Unsupported("a POST form with a policy"))));
}

#[test]
fn a_credential_has_one_form() {
    check(
        iam,
        &[
            ("Credential twice", |d| authorization(d, "Credential=", "Credential=x, Credential="), "Malformed"),
            ("Signature twice", |d| d.header_mut("authorization").push_str(", Signature=00"), "Malformed"),
            (
                "SignedHeaders twice",
                |d| authorization(d, "SignedHeaders=", "SignedHeaders=host, SignedHeaders="),
                "Malformed",
            ),
            ("an unknown field", |d| d.header_mut("authorization").push_str(", Extra=1"), "Malformed"),
            ("a field without value", |d| d.header_mut("authorization").push_str(", Extra"), "Malformed"),
            ("a trailing comma", |d| d.header_mut("authorization").push(','), "Malformed"),
            ("no fields", |d| d.set("authorization", "AWS4-HMAC-SHA256"), "Malformed"),
            ("a field in another case", |d| authorization(d, "SignedHeaders", "signedheaders"), "Malformed"),
            ("no Signature", |d| authorization(d, ", Signature=", "; Signature="), "Malformed"),
            (
                "a truncated signature",
                |d| {
                    let value = d.header_mut("authorization");
                    value.truncate(value.len() - 1);
                },
                "Malformed",
            ),
            (
                "an empty signature",
                |d| {
                    let value = d.header_mut("authorization");
                    let start = value.find("Signature=").unwrap() + "Signature=".len();
                    value.truncate(start);
                },
                "Malformed",
            ),
            ("a padded signature", |d| d.header_mut("authorization").push('0'), "Malformed"),
            ("a signature with a space inside", |d| d.header_mut("authorization").push_str(" 0"), "Malformed"),
            (
                "an upper-case signature",
                |d| {
                    let value = d.header_mut("authorization");
                    let start = value.find("Signature=").unwrap() + "Signature=".len();
                    let upper = value.split_off(start).to_uppercase();
                    value.push_str(&upper);
                },
                "Malformed",
            ),
            (
                "a signature of zeroes",
                |d| {
                    let value = d.header_mut("authorization");
                    let start = value.find("Signature=").unwrap() + "Signature=".len();
                    value.replace_range(start.., &"0".repeat(64));
                },
                "SignatureDiffers",
            ),
            ("a short scope", |d| authorization(d, "/aws4_request", ""), "Malformed"),
            ("a long scope", |d| authorization(d, "/aws4_request", "/aws4_request/x"), "Malformed"),
            ("another terminator", |d| authorization(d, "/aws4_request", "/aws5_request"), "Malformed"),
            ("a slash at the end", |d| authorization(d, "aws4_request", "aws4_request/"), "Malformed"),
            ("an empty region", |d| authorization(d, "/us-east-1/", "//"), "Malformed"),
            ("a region with a dot", |d| authorization(d, "us-east-1", "us.east"), "Malformed"),
            ("an empty key", |d| authorization(d, KEY_ID, ""), "Malformed"),
            ("a key id of 129 characters", |d| authorization(d, KEY_ID, &"A".repeat(129)), "Malformed"),
            (
                "another key's name",
                |d| authorization(d, "/20261120/us-east-1/iam", "/20261120/us-east-1/sts"),
                "SignatureDiffers",
            ),
            ("another region", |d| authorization(d, "us-east-1", "us-west-2"), "SignatureDiffers"),
            ("a scope of yesterday", |d| authorization(d, "/20261120/", "/20261119/"), "Malformed"),
            ("a scope date of nine digits", |d| authorization(d, "/20261120/", "/202611200/"), "Malformed"),
            ("a scope date of letters", |d| authorization(d, "/20261120/", "/2026112x/"), "Malformed"),
            ("a scope date in other digits", |d| authorization(d, "/20261120/", "/２０２６/"), "Head(Value"),
            ("a service of S3's family", |d| authorization(d, "/iam/", "/s3/"), "PayloadMissing"),
        ],
    );
    check(
        presigned,
        &[
            // aws-iam-authenticator CVE-2022-2385: the first or the last of two query fields.
            ("Credential twice", |d| d.target.push_str("&X-Amz-Credential=a"), "Malformed"),
            ("Signature twice", |d| d.target.push_str("&X-Amz-Signature=a"), "Malformed"),
            ("Date twice", |d| d.target.push_str("&X-Amz-Date=20261120T112555Z"), "Malformed"),
            ("Expires twice", |d| d.target.push_str("&X-Amz-Expires=9"), "Malformed"),
            ("SignedHeaders twice", |d| d.target.push_str("&X-Amz-SignedHeaders=host"), "Malformed"),
            ("a field in another case", |d| d.replace_target("X-Amz-Date", "X-Amz-date"), "Malformed"),
            ("a second in another case", |d| d.target.push_str("&x-amz-expires=9"), "Malformed"),
            ("no Expires", |d| d.replace_target("X-Amz-Expires=3600", "a=b"), "Malformed"),
            ("no Date", |d| d.replace_target("X-Amz-Date", "a"), "Malformed"),
            ("no Signature", |d| d.replace_target("X-Amz-Signature", "a"), "Malformed"),
        ],
    );
}

#[test]
fn dates_are_strict_and_fresh() {
    check(
        iam,
        &[
            ("six minutes old", |d| d.now = d.now.plus(Duration::from_secs(301)), "Skewed"),
            ("six minutes ahead", |d| d.now = Timestamp::from_micros(d.now.as_micros() - 301_000_000), "Skewed"),
            ("no date", |d| d.remove("x-amz-date"), "Malformed"),
            ("ISO form", |d| d.set("x-amz-date", "2026-11-20T11:25:55Z"), "Malformed"),
            ("a lower-case z", |d| d.set("x-amz-date", "20261120T112555z"), "Malformed"),
            ("a plus sign", |d| d.set("x-amz-date", "+0261120T112555Z"), "Malformed"),
            ("second 60", |d| d.set("x-amz-date", "20261120T112560Z"), "Malformed"),
            ("February 30", |d| d.set("x-amz-date", "20260230T112555Z"), "Malformed"),
            ("another second", |d| d.set("x-amz-date", "20261120T112556Z"), "SignatureDiffers"),
            ("another day", |d| d.set("x-amz-date", "20261121T112555Z"), "Malformed"),
            ("two dates that disagree", |d| d.set("date", "Fri, 20 Nov 2026 12:25:55 GMT"), "Malformed"),
            ("a second date nobody can read", |d| d.set("date", "today"), "Malformed"),
            ("two x-amz-date", |d| d.headers.push(("X-Amz-Date".into(), NOW.into())), "Head(Duplicate"),
            (
                "only an unsigned Date",
                |d| {
                    d.remove("x-amz-date");
                    d.set("date", "Fri, 20 Nov 2026 11:25:55 GMT");
                    authorization(d, ";x-amz-date", "");
                },
                "Unsigned(\"date\")",
            ),
        ],
    );
    check(
        presigned,
        &[
            ("expired", |d| d.now = d.now.plus(Duration::from_secs(3601)), "Expired"),
            ("of the future", |d| d.now = Timestamp::from_micros(d.now.as_micros() - 301_000_000), "Skewed"),
            ("a negative life", |d| d.replace_target("Expires=3600", "Expires=-1"), "Malformed"),
            ("no life", |d| d.replace_target("Expires=3600", "Expires=0"), "Malformed"),
            ("a broken life", |d| d.replace_target("Expires=3600", "Expires=3600.5"), "Malformed"),
            ("a life with an exponent", |d| d.replace_target("Expires=3600", "Expires=1e5"), "Malformed"),
            ("a leading zero", |d| d.replace_target("Expires=3600", "Expires=03600"), "Malformed"),
            ("a plus sign", |d| d.replace_target("Expires=3600", "Expires=%2B3600"), "Malformed"),
            ("a space", |d| d.replace_target("Expires=3600", "Expires=%203600"), "Malformed"),
            ("a second over a week", |d| d.replace_target("Expires=3600", "Expires=604801"), "Malformed"),
            (
                "beyond the number type",
                |d| d.replace_target("Expires=3600", "Expires=99999999999999999999"),
                "Malformed",
            ),
            ("a longer life", |d| d.replace_target("Expires=3600", "Expires=7200"), "SignatureDiffers"),
            (
                "an http date",
                |d| d.replace_target(&format!("Date={NOW}"), "Date=Fri,%2020%20Nov%202026%2011:25:55%20GMT"),
                "Malformed",
            ),
        ],
    );
}

#[test]
fn what_bears_meaning_is_signed() {
    check(
        iam,
        &[
            // Ceph RGW CVE-2026-54330, s3proxy, RustFS and forks of minio took unsigned x-amz-* fields.
            (
                "an unsigned x-amz field",
                |d| d.set("x-amz-target", "AWSIdentity.DeleteUser"),
                "Unsigned(\"x-amz-target\")",
            ),
            ("an unsigned x-amz field, other case", |d| d.set("X-AMZ-Acl", "public-read"), "Unsigned(\"x-amz-acl\")"),
            (
                "a field taken from the list",
                |d| authorization(d, ";x-amz-meta-reason", ""),
                "Unsigned(\"x-amz-meta-reason\")",
            ),
            ("host unsigned", |d| authorization(d, "host;", ""), "Unsigned(\"host\")"),
            ("content-type unsigned", |d| authorization(d, "content-type;", ""), "Unsigned(\"content-type\")"),
            (
                "no signed fields",
                |d| {
                    let value = d.header_mut("authorization");
                    let (start, end) = (value.find("SignedHeaders=").unwrap() + 14, value.find(", Signature").unwrap());
                    value.replace_range(start..end, "");
                },
                "Malformed",
            ),
            ("a listed field that is absent", |d| d.remove("x-amz-meta-reason"), "Malformed"),
            ("a listed field that was never there", |d| authorization(d, ";host;", ";host;range;"), "Malformed"),
            ("upper case in the list", |d| authorization(d, ";host;", ";Host;"), "Malformed"),
            ("a list out of order", |d| authorization(d, "content-type;host", "host;content-type"), "Malformed"),
            ("a name twice", |d| authorization(d, ";host;", ";host;host;"), "Malformed"),
            ("an empty name", |d| authorization(d, ";host;", ";host;;"), "Malformed"),
            ("a name with a space", |d| authorization(d, ";host;", "; host;"), "Malformed"),
            ("a comma-joined list", |d| authorization(d, ";host;", ",host;"), "Malformed"),
            (
                "a repeated single field",
                |d| d.headers.push(("x-amz-meta-reason".into(), "because".into())),
                "Head(Duplicate",
            ),
            ("an alias of a signed field", |d| d.set("x_amz_meta_reason", "x"), "Head(Alias"),
            ("another host", |d| d.set("host", "sts.amazonaws.com"), "SignatureDiffers"),
            ("a port on the host", |d| d.set("host", "iam.amazonaws.com:443"), "SignatureDiffers"),
            ("an inner space", |d| d.set("x-amz-meta-reason", "be cause"), "SignatureDiffers"),
            ("a tab", |d| d.set("x-amz-meta-reason", "because\t"), "SignatureDiffers"),
            ("a raw byte beyond ASCII", |d| d.set("x-amz-meta-reason", "becausé"), "Head(Value"),
            ("another case in a value", |d| d.set("x-amz-meta-reason", "Because"), "SignatureDiffers"),
        ],
    );
    check(
        presigned,
        &[
            ("an x-amz field added", |d| d.set("x-amz-acl", "public-read"), "Unsigned(\"x-amz-acl\")"),
            ("a payload claim added", |d| d.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), "Unsigned"),
            (
                "a payload claim in the query added",
                |d| d.target.push_str("&x-amz-content-sha256=UNSIGNED-PAYLOAD"),
                "SignatureDiffers",
            ),
            ("a query field added", |d| d.target.push_str("&x-amz-acl=public-read"), "SignatureDiffers"),
            ("a query field taken", |d| d.replace_target("versionId=7&", ""), "SignatureDiffers"),
            ("a hoisted field twice", |d| d.target.push_str("&x-amz-acl=a&X-Amz-Acl=b"), "Malformed"),
            ("host unsigned", |d| d.replace_target("SignedHeaders=host", "SignedHeaders="), "Malformed"),
            (
                "a listed field that is absent",
                |d| d.replace_target("SignedHeaders=host", "SignedHeaders=host%3Brange"),
                "Malformed",
            ),
        ],
    );
    check(
        presigned_sts,
        &[
            ("a content type added", |d| d.set("content-type", "application/json"), "Unsigned(\"content-type\")"),
            ("a body added", |d| d.body = b"Action=DeleteUser".to_vec(), "SignatureDiffers"),
            ("a second Action", |d| d.target.push_str("&Action=DeleteUser"), "SignatureDiffers"),
        ],
    );
}

#[test]
fn a_hoisted_field_stands_in_one_place() {
    let mut draft = Draft::new("PUT", "/b/k?x-amz-acl=private", &[("host", "s3.amazonaws.com")], b"").presigned("s3");
    assert!(draft.judge().is_ok());
    draft.set("x-amz-acl", "public-read");
    assert!(matches!(draft.judge(), Err(Refusal::Sig(SigError::Unsigned(_)))));
    let both = [("host", "s3.amazonaws.com"), ("x-amz-acl", "public-read")];
    let draft = Draft::new("PUT", "/b/k?x-amz-acl=private", &both, b"").presigned("s3");
    assert!(matches!(draft.judge(), Err(Refusal::Sig(SigError::Malformed { .. }))), "{:?}", draft.judge());
}

#[test]
fn the_body_is_the_one_that_was_signed() {
    check(
        iam,
        &[
            ("another body", |d| d.body = b"Action=DeleteUser".to_vec(), "SignatureDiffers"),
            ("a longer body", |d| d.body.push(b'&'), "SignatureDiffers"),
            ("no body", |d| d.body.clear(), "SignatureDiffers"),
        ],
    );
    check(
        s3,
        &[
            ("another body", |d| d.body = b"world".to_vec(), "BodyDiffers"),
            ("another stated hash", |d| d.set("x-amz-content-sha256", &sha256(b"world").hex()), "SignatureDiffers"),
            (
                "upper-case hash",
                |d| {
                    let upper = d.header_mut("x-amz-content-sha256").to_uppercase();
                    d.set("x-amz-content-sha256", &upper);
                },
                "PayloadUnknown",
            ),
            (
                "no hash",
                |d| {
                    d.remove("x-amz-content-sha256");
                    authorization(d, "x-amz-content-sha256;", "");
                },
                "PayloadMissing",
            ),
            ("the hash unsigned", |d| authorization(d, "x-amz-content-sha256;", ""), "Unsigned"),
            ("unsigned instead", |d| d.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), "SignatureDiffers"),
            // minio CVE-2025-31489: an upload with an unsigned trailer was never verified at all.
            (
                "unsigned chunks instead",
                |d| d.set("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
                "SignatureDiffers",
            ),
            (
                "signed chunks instead",
                |d| d.set("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
                "SignatureDiffers",
            ),
            (
                "chunks of SigV4A",
                |d| d.set("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"),
                "PayloadUnknown",
            ),
            ("an empty hash", |d| d.set("x-amz-content-sha256", ""), "PayloadUnknown"),
            (
                "a hash in the query too",
                |d| d.target.push_str("?x-amz-content-sha256=UNSIGNED-PAYLOAD"),
                "PayloadUnknown",
            ),
        ],
    );
}

#[test]
fn chunk_forms_are_read_for_s3_only_and_need_their_signature() {
    let claims = [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", PayloadClaim::SignedChunks { trailer: false }),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", PayloadClaim::SignedChunks { trailer: true }),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", PayloadClaim::UnsignedChunks),
        ("UNSIGNED-PAYLOAD", PayloadClaim::Unsigned),
    ];
    for (text, claim) in claims {
        let headers = [("host", "s3.amazonaws.com"), ("x-amz-content-sha256", text)];
        let draft = Draft::new("PUT", "/b/k", &headers, b"").signed_as("s3", text);
        assert_eq!(draft.judge(), Ok(claim), "{text}");
        let elsewhere = Draft::new("PUT", "/b/k", &headers, b"").signed_as("iam", text);
        let expected =
            if claim == PayloadClaim::Unsigned { Ok(claim) } else { Err(Refusal::Sig(SigError::PayloadUnknown)) };
        assert_eq!(elsewhere.judge(), expected, "{text}");
    }
}

#[test]
fn events_are_read_in_headers_and_not_for_s3() {
    let text = "STREAMING-AWS4-HMAC-SHA256-EVENTS";
    let headers = [("host", "transcribestreaming.us-east-1.amazonaws.com"), ("x-amz-content-sha256", text)];
    let draft = Draft::new("POST", "/stream-transcription", &headers, b"");
    assert_eq!(draft.clone().signed_as("transcribe", text).judge(), Ok(PayloadClaim::SignedEvents));
    assert_eq!(draft.clone().signed_as("s3", text).judge(), Err(Refusal::Sig(SigError::PayloadUnknown)));
    assert_eq!(draft.presigned("transcribe").judge(), Err(Refusal::Sig(SigError::PayloadUnknown)));
}

#[test]
fn the_host_may_be_signed_by_its_name_in_http2() {
    let headers = [("host", "iam.amazonaws.com"), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")];
    let draft = Draft::new("POST", "/", &headers, b"");
    let names = ":authority;x-amz-content-sha256;x-amz-date";
    let mut good = draft.clone().signed_by("iam", "UNSIGNED-PAYLOAD", names);
    assert_eq!(good.judge(), Ok(PayloadClaim::Unsigned));
    good.set("host", "sts.amazonaws.com");
    assert_eq!(good.judge(), Err(Refusal::Sig(SigError::SignatureDiffers)));
    for wrong in [":authority;host;x-amz-content-sha256;x-amz-date", ":path;host;x-amz-content-sha256;x-amz-date"] {
        let judged = draft.clone().signed_by("iam", "UNSIGNED-PAYLOAD", wrong).judge();
        assert!(matches!(judged, Err(Refusal::Sig(SigError::Malformed { .. }))), "{wrong}: {judged:?}");
    }
}

impl Draft {
    /// Signs with a payload text in place of a hash, as streaming uploads do.
    fn signed_as(self, service: &str, payload: &'static str) -> Self {
        self.signed_by(service, payload, "host;x-amz-content-sha256;x-amz-date")
    }

    fn signed_by(mut self, service: &str, payload: &'static str, signed_headers: &str) -> Self {
        use super::super::canonical::{Canonical, path, query, string_to_sign};
        self.set("x-amz-date", NOW);
        let head = self.head().unwrap();
        let request = Canonical {
            method: &self.method,
            path: &path(&head.path, service),
            query: &query(std::iter::empty()),
            signed_headers,
            headers: &head.headers,
            payload,
        };
        let to_sign = string_to_sign(NOW, "20261120", "us-east-1", service, request.digest());
        let scope = super::super::key::ScopeRef { date: "20261120", region: "us-east-1", service };
        let signature = key().signing_key(scope).sign(&to_sign);
        let credential = format!("{KEY_ID}/20261120/us-east-1/{service}/aws4_request");
        self.set(
            "authorization",
            &format!("AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={signed_headers},Signature={signature}"),
        );
        self
    }
}

#[test]
fn paths_mean_what_was_signed() {
    check(
        iam,
        &[
            ("another path", |d| d.replace_target("/a/b", "/a/c"), "SignatureDiffers"),
            ("a dot segment", |d| d.replace_target("/a/b", "/a/../a/b"), "DotSegment"),
            ("a single dot", |d| d.replace_target("/a/b", "/a/./b"), "DotSegment"),
            ("an encoded dot segment", |d| d.replace_target("/a/b", "/a/%2e%2E/b"), "DotSegment"),
            ("a half-encoded dot segment", |d| d.replace_target("/a/b", "/a/.%2e/b"), "DotSegment"),
            ("an encoded slash", |d| d.replace_target("/a/b", "/a%2Fb"), "SignatureDiffers"),
            ("a needless escape", |d| d.replace_target("/a/b", "/%61/b"), "SignatureDiffers"),
            ("a slash at the end", |d| d.replace_target("/a/b", "/a/b/"), "SignatureDiffers"),
            ("the query's order, with a value moved", |d| d.replace_target("k=v&k2", "k&k2=v"), "SignatureDiffers"),
            ("a field twice", |d| d.replace_target("k=v", "k=v&k=v"), "SignatureDiffers"),
            ("another method", |d| d.method = "PUT".into(), "SignatureDiffers"),
            ("another case of the method", |d| d.method = "post".into(), "Head(Method"),
        ],
    );
    check(
        s3,
        &[
            ("a dot segment", |d| d.replace_target("/bucket/", "/bucket/../bucket/"), "SignatureDiffers"),
            ("an empty segment", |d| d.replace_target("/bucket/", "/bucket//"), "SignatureDiffers"),
            ("an encoded slash", |d| d.replace_target("/bucket/", "/bucket%2F"), "SignatureDiffers"),
            ("another spelling", |d| d.replace_target("%20a", "%20%61"), "SignatureDiffers"),
            ("a sub-resource", |d| d.target.push_str("?acl"), "SignatureDiffers"),
            ("a header field in the query", |d| d.target.push_str("?X-Amz-Acl=public-read"), "Malformed"),
        ],
    );
}

/// Every single byte of method, target, signed fields, signature and body counts.
#[test]
fn no_byte_can_be_changed() {
    for base in [iam(), s3(), presigned(), presigned_sts()] {
        let places: [fn(&mut Draft) -> Option<&mut String>; 5] = [
            |d| Some(&mut d.method),
            |d| Some(&mut d.target),
            |d| d.headers.iter_mut().find(|(name, _)| name == "authorization").map(|(_, value)| value),
            |d| d.headers.iter_mut().find(|(name, _)| name == "host").map(|(_, value)| value),
            |d| d.headers.iter_mut().find(|(name, _)| name.starts_with("x-amz-")).map(|(_, value)| value),
        ];
        for place in places {
            let Some(length) = place(&mut base.clone()).map(|text| text.len()) else { continue };
            for index in 0..length {
                let mut draft = base.clone();
                let text = place(&mut draft).unwrap();
                let old = text.as_bytes()[index];
                let new = if old == b'a' { 'b' } else { 'a' };
                text.replace_range(index..=index, &new.to_string());
                assert!(draft.judge().is_err(), "{index} of {draft:?}");
            }
        }
        for index in 0..base.body.len() {
            let mut draft = base.clone();
            draft.body[index] ^= 1;
            assert!(draft.judge().is_err(), "body byte {index}");
        }
    }
}

#[test]
fn what_is_no_attack_passes() {
    let passes: [Pass; 9] = [
        ("an unsigned user agent may change on the way", |d| d.set("user-agent", "other")),
        ("a hop-by-hop field", |d| d.set("connection", "keep-alive")),
        ("no space after commas", |d| {
            *d.header_mut("authorization") = d.header_mut("authorization").replace(", ", ",")
        }),
        ("more space after commas", |d| {
            *d.header_mut("authorization") = d.header_mut("authorization").replace(", ", " ,  ")
        }),
        ("fields in another order", |d| {
            let value = d.header_mut("authorization").clone();
            let (algorithm, fields) = value.split_once(' ').unwrap();
            let fields: Vec<&str> = fields.rsplit(", ").collect();
            *d.header_mut("authorization") = format!("{algorithm} {}", fields.join(","));
        }),
        ("outer and repeated spaces", |d| d.set("x-amz-meta-reason", "  because ")),
        ("the query in another order", |d| d.replace_target("k=v&k2", "k2=&k=v")),
        ("five minutes of skew", |d| d.now = d.now.plus(Duration::from_secs(300))),
        ("a date that agrees", |d| d.set("date", "Fri, 20 Nov 2026 11:25:50 GMT")),
    ];
    for (name, bend) in passes {
        let mut draft = iam();
        bend(&mut draft);
        assert!(draft.judge().is_ok(), "{name}: {:?}", draft.judge());
    }
    // HTTP clients add a content type to what they upload to a presigned URL.
    let mut draft = presigned();
    draft.set("content-type", "application/x-www-form-urlencoded");
    assert!(draft.judge().is_ok(), "{:?}", draft.judge());
}

#[test]
fn a_signature_is_spent_until_it_would_expire_anyway() {
    let presented = |draft: Draft| Presented::parse(&draft.head().unwrap(), draft.now).unwrap();
    let (one, again, other) = (presented(iam()), presented(iam()), presented(s3()));
    assert_eq!(one.replay_key(), again.replay_key());
    assert_ne!(one.replay_key(), other.replay_key());
    for (draft, error) in [(iam(), SigError::Skewed), (presigned(), SigError::Expired)] {
        let head = draft.head().unwrap();
        let end = presented(draft).not_after;
        let just_before = Timestamp::from_micros(end.as_micros() - 1);
        assert!(Presented::parse(&head, just_before).is_ok());
        assert_eq!(Presented::parse(&head, end).map(|_| ()), Err(error));
    }
}

#[test]
fn another_secret_does_not_verify() {
    let head = iam().head().unwrap();
    let presented = Presented::parse(&head, now()).unwrap();
    let body = Some(sha256(&iam().body));
    for secret in ["", "x", SECRET.trim_start_matches('w'), &SECRET.to_lowercase()] {
        let key = Key::new(KEY_ID, Secret::new(secret), None, None);
        assert_eq!(presented.verify(&head, body, &key), Err(SigError::SignatureDiffers));
    }
    assert!(presented.needs_body());
    assert_eq!(presented.verify(&head, None, &key()), Err(SigError::BodyNeeded));
}

#[test]
fn a_stated_body_is_checked_when_it_arrives() {
    let head = s3().head().unwrap();
    let presented = Presented::parse(&head, now()).unwrap();
    let verified = presented.verify(&head, None, &key()).unwrap();
    assert_eq!(verified.check_body(sha256(b"hello")), Ok(()));
    assert_eq!(verified.check_body(sha256(b"hallo")), Err(SigError::BodyDiffers));
}
