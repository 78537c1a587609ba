//! Uploads to S3 by a browser's form.

use super::*;

const BOUNDARY: &str = "----WebKitFormBoundary7MA4";

fn form(fields: &[(&str, &str)], file: &str) -> String {
    let part = |(name, value): &(&str, &str)| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let fields: String = fields.iter().map(part).collect();
    format!(
        "{fields}--{BOUNDARY}\r\nContent-Disposition: form-data; {file}\r\nContent-Type: text/plain\r\n\r\nbytes\r\n--{BOUNDARY}--\r\n"
    )
}

fn post(line: &'static str, body: &str) -> Request {
    request(line, "").header("content-type", &format!("multipart/form-data; boundary={BOUNDARY}")).body(body)
}

const FILE: &str = r#"name="file"; filename="a b.txt""#;
const HOST: &str = "POST https://b-1.s3.us-west-2.amazonaws.com/";
const CREDENTIAL: (&str, &str) = ("x-amz-credential", "AK/20261120/us-west-2/s3/aws4_request");
const POLICY: (&str, &str) = ("policy", "e30=");

#[test]
fn an_upload_is_a_put_object_with_the_parameters_of_its_form() {
    let fields = [
        ("key", "in/${filename}"),
        ("acl", "public-read"),
        ("Content-Type", "text/plain"),
        ("x-amz-meta-Team", "ops"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("success_action_status", "201"),
        CREDENTIAL,
        POLICY,
    ];
    let action = post(HOST, &form(&fields, FILE)).action();
    assert_eq!(action.name, "aws:s3:PutObject");
    assert_eq!(action.resources, ["arn:aws:s3:::b-1/in/a b.txt"]);
    assert_eq!(action.iam_actions, ["s3:PutObject", "s3:PutObjectAcl"]);
    assert!(action.traits.contains(Trait::Sharing));
    assert_eq!(
        Value::Object(action.parameters),
        json!({
            "Bucket": "b-1", "Key": "in/a b.txt", "ACL": "public-read", "ContentType": "text/plain",
            "Metadata": {"team": "ops"}, "StorageClass": "STANDARD_IA",
        })
    );
    // By path, at an endpoint of ours, and with the older signature in the form.
    let old = [("AWSAccessKeyId", "AK"), ("signature", "x"), POLICY, ("key", "k")];
    for line in [
        "POST https://s3.us-west-2.amazonaws.com/b-1",
        "POST http://127.0.0.1:8080/b-1/",
        "POST http://b-1.proxy.corp/",
    ] {
        assert_eq!(post(line, &form(&old, FILE)).action().resources, ["arn:aws:s3:::b-1/k"], "{line}");
    }
}

#[test]
fn what_stands_behind_the_file_is_not_read() {
    let body = form(&[("key", "k")], FILE).replace("bytes", "bytes\r\n--other\r\n\r\nContent-Disposition: x");
    assert_eq!(post(HOST, &body).outcome(), "aws:s3:PutObject");
    let behind =
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nother\r\n--{BOUNDARY}--\r\n");
    let body = form(&[("key", "k")], FILE).replace(&format!("--{BOUNDARY}--\r\n"), &behind);
    assert_eq!(post(HOST, &body).action().parameters["Key"], "k");
}

#[test]
fn forms_with_two_readings_have_no_name() {
    let good = form(&[("key", "k")], FILE);
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        post(HOST, &good.replacen(from, to, 1)).outcome()
    };
    for (outcome, says) in [
        (
            post(HOST, &form(&[("key", "k"), ("Key", "l")], FILE)).outcome(),
            "refused: the form has the same field twice",
        ),
        (post(HOST, &form(&[("key", "k"), ("bucket", "b-2")], FILE)).outcome(), "refused: the form and its target"),
        (
            post(HOST, &form(&[("key", "k"), ("x-amz-credential", "AK/1/eu-west-1/s3/aws4_request")], FILE)).outcome(),
            "refused: the host and the form",
        ),
        (
            post(HOST, &form(&[("key", "k"), ("x-amz-credential", "AK/1/us-west-2/iam/aws4_request")], FILE)).outcome(),
            "refused: the form's credential",
        ),
        (post(HOST, &form(&[("acl", "private")], FILE)).outcome(), "unknown aws:s3:PutObject: the upload has no key"),
        (post(HOST, &form(&[("key", "")], FILE)).outcome(), "unknown aws:s3:PutObject: the key is empty"),
        (
            post(HOST, &form(&[("key", "a${filename}")], r#"name="file""#)).outcome(),
            "unknown aws:s3:PutObject: the key is to hold",
        ),
        (
            post(HOST, &form(&[("key", "k"), ("future", "x")], FILE)).outcome(),
            "unknown aws:s3:PutObject: the form has a field",
        ),
        (post("POST https://b-1.s3.us-west-2.amazonaws.com/k", &good).outcome(), "unknown "),
        (post("POST https://b-1.s3.us-west-2.amazonaws.com/?acl", &good).outcome(), "unknown "),
        (post(HOST, &format!("preamble\r\n{good}")).outcome(), "refused: the form does not begin"),
        (changed("name=\"file\"", "name=\"content\""), "refused: a part that is not the file"),
        (changed("name=\"key\"", "name=\"k\\\"ey\""), "refused: a part"),
        (changed("name=\"key\"", "name=\"key\"; name=\"acl\""), "refused: a part of the form has two names"),
        (changed("name=\"key\"", "name*=UTF-8''key"), "refused: a part's name is not quoted"),
        (changed("form-data; name=\"key\"", "form-data"), "refused: a part of the form has no name"),
        (
            changed("name=\"key\"\r\n", "name=\"key\"\r\nContent-Transfer-Encoding: base64\r\n"),
            "refused: a part's head",
        ),
        (changed("\r\n\r\nk\r\n", &format!("\r\n\r\nk\r\n--{BOUNDARY}0\r\n")), "refused: the form holds its boundary"),
    ] {
        assert!(outcome.starts_with(says), "{outcome}\n{says}");
    }
    let mut twice = post(HOST, &good);
    twice.headers[0].1 = format!("multipart/form-data; boundary={BOUNDARY}; boundary=x");
    assert!(twice.outcome().starts_with("refused: the content type has two boundaries"));
    let mut none = post(HOST, &good);
    none.headers[0].1 = "multipart/form-data".to_owned();
    assert!(none.outcome().starts_with("refused: the content type has no boundary"));
    // Signed in the head as well.
    let mut signed = request(HOST, "us-west-2/s3");
    signed.headers.extend(post(HOST, &good).headers);
    assert!(signed.body(&good).outcome().starts_with("unknown "));
}

/// Other services have no such requests.
#[test]
fn forms_of_other_services_are_not_uploads() {
    let outcome = post("POST https://iam.amazonaws.com/", &form(&[("key", "k")], FILE)).outcome();
    assert!(outcome.starts_with("unknown aws:iam:unknown"), "{outcome}");
}
