use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn parse(target: &str, fields: &[(&str, &str)]) -> Result<Head, HeadError> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Head::parse(Method::GET, &target.parse().unwrap(), headers)
}

#[test]
fn a_plain_head_is_read() {
    let head = parse("/a%2Fb?x=1&y=%20z&flag", &[("host", "IAM.amazonaws.com.:443")]).unwrap();
    assert_eq!(head.host, Host { name: "iam.amazonaws.com".into(), port: Some(443) });
    assert_eq!(head.path, "/a%2Fb");
    assert_eq!(head.query, [("x".into(), "1".into()), ("y".into(), " z".into()), ("flag".into(), String::new())]);
}

proptest! {
    #[test]
    fn a_plain_host_is_what_the_general_reading_makes_of_it(field in "[a-cA-C0.:@_-]{0,12}") {
        let general = field.parse::<http::uri::Authority>();
        if is_plain_host(&field) {
            let general = general.unwrap();
            prop_assert_eq!((general.host(), general.port_u16(), general.as_str()), (&*field, None, &*field));
            prop_assert!(field.split('.').all(|label| !label.is_empty()) && field == field.to_lowercase());
        }
    }
}

#[test]
fn heads_with_two_readings_are_refused() {
    use HeadError::*;
    for (target, fields, error) in [
        ("/", vec![], HostMalformed),
        ("/", vec![("host", "")], HostMalformed),
        ("/", vec![("host", "a..b")], HostMalformed),
        ("/", vec![("host", "a@b")], HostMalformed),
        ("/", vec![("host", "a:x")], HostMalformed),
        ("/", vec![("host", "a"), ("host", "a")], Duplicate("host".into())),
        ("http://b/", vec![("host", "a")], HostDisagrees),
        ("/", vec![("host", "a"), ("x_amz_target", "T")], Alias("x_amz_target".into())),
        ("/", vec![("host", "a"), ("transfer_encoding", "chunked")], Alias("transfer_encoding".into())),
        ("/", vec![("host", "a"), ("x-amz-target", "A"), ("x-amz-target", "B")], Duplicate("x-amz-target".into())),
        ("/", vec![("host", "a"), ("x-http-method-override", "PUT")], MethodOverride),
        ("/%zz", vec![("host", "a")], Path),
        ("/%2", vec![("host", "a")], Path),
        ("/%00", vec![("host", "a")], Path),
        ("/?a=b+c", vec![("host", "a")], Query),
        ("/?a=%ff", vec![("host", "a")], Query),
        ("/?a=%2", vec![("host", "a")], Query),
    ] {
        assert_eq!(parse(target, &fields).map(|_| ()), Err(error), "{target} {fields:?}");
    }
}
