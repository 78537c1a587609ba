//! S3 in another region than the agent thinks: its SDK is told so, and finds the way by itself.

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::sign::Keys;
use crate::support::site::{REAL_KEY, REAL_SECRET, Setup};
use crate::support::upstream::{Reaction, Received, Upstream};

fn scope(request: &Received) -> String {
    request.header("authorization").unwrap_or_default().split(", ").next().unwrap_or_default().to_owned()
}

/// As S3 answers for a bucket of Ireland.
fn in_ireland(status: u16, code: &'static str) -> Upstream {
    Upstream::start(move |request| {
        if scope(request).contains("/eu-west-1/s3/") {
            return Reaction::Answer(200, "<x/>".to_owned());
        }
        let error = format!("<Error><Code>{code}</Code><Message>m</Message><Region>eu-west-1</Region></Error>");
        Reaction::Answer(status, error)
    })
}

#[test]
fn an_sdk_follows_a_bucket_to_its_region() {
    let snippet = "
body = client('s3').get_object(Bucket='far', Key='k')
result = [body['ResponseMetadata']['HTTPStatusCode'], body['Body'].read().decode()]
";
    for (status, code) in [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")] {
        let upstream = in_ireland(status, code);
        let keys = Keys { id: REAL_KEY.to_owned(), secret: REAL_SECRET.to_owned() };
        let direct = Agent { endpoint: upstream.url(), keys, extra: Vec::new() };
        let expected = direct.run(snippet);
        assert_eq!(expected, json!([200, "<x/>"]), "{code}");
        let before = upstream.received().len();
        let site = Setup::new(upstream.url()).start();
        assert_eq!(site.agent("bot", "olga").run(snippet), expected, "{code}");
        let received = upstream.received();
        let last = scope(received.last().unwrap());
        assert!(last.contains(REAL_KEY) && last.contains("/eu-west-1/s3/"), "{code}: {last}");
        assert_eq!(received.len() - before, before, "{code}: it takes as many requests as without countersign");
        let regions: Vec<_> =
            site.records().iter().filter(|it| it["type"] == "action.passed").map(|it| it["region"].clone()).collect();
        assert_eq!(regions, ["us-east-1", "eu-west-1"], "{code}: each request is named for the region it goes to");
        site.verify();
    }
}
