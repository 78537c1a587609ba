use super::*;

/// The example of Slack's page on verifying requests.
#[test]
fn signature_is_that_of_the_documentation() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
                channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
                response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
                trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let secret = "8f742231b10e8888abcd99yyyzzz85a5";
    let signature = "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    let signature = Digest::parse(signature).unwrap();
    assert!(is_signed(secret, 1_531_420_618, body.as_bytes(), &signature));
    assert!(!is_signed(secret, 1_531_420_619, body.as_bytes(), &signature));
    assert!(!is_signed(secret, 1_531_420_618, &body.as_bytes()[1..], &signature));
    assert!(!is_signed("8f742231b10e8888abcd99yyyzzz85a6", 1_531_420_618, body.as_bytes(), &signature));
}

#[test]
fn claims_have_one_form_each() {
    let hex = "a".repeat(64);
    let read = |time: &[&str], signature: &[&str]| {
        let mut headers = HeaderMap::new();
        for (name, values) in [("x-slack-request-timestamp", time), ("x-slack-signature", signature)] {
            for value in values {
                headers.append(name, value.parse().unwrap());
            }
        }
        claims(&headers).map(|(sent, _)| sent)
    };
    let good = format!("v0={hex}");
    assert_eq!(read(&["1531420618"], &[&good]), Some(1_531_420_618));
    for time in ["-1", "+1", "", "1.0", " 1x", "99999999999999999999"] {
        assert_eq!(read(&[time], &[&good]), None, "{time}");
    }
    for signature in
        [hex.as_str(), "v0=", &format!("v1={hex}"), &format!("v0={}", hex.to_uppercase()), &format!("{good}a")]
    {
        assert_eq!(read(&["1"], &[signature]), None, "{signature}");
    }
    assert_eq!(read(&["1", "1"], &[&good]), None);
    assert_eq!(read(&["1"], &[&good, &good]), None);
}
