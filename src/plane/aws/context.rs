//! What the agent says about itself: claims, never rights.
//!
//! Three sources, the later one winning member by member: the SDK's application id (`app/NAME` in
//! the User-Agent, set by `AWS_SDK_UA_APP_ID`), which names the task; W3C baggage members
//! `countersign.model`, `.session`, `.task`, `.reason`, `.initiator`; and the fields
//! `x-countersign-model` and so on. The trace id comes from W3C `traceparent`. None of it is sent
//! to the upstream, and each value is cut at [`CLAIM_LIMIT_CHARS`].

use percent_encoding::percent_decode_str;

use crate::action::Context;
use crate::wire::head::Head;

/// Longest claim that is kept, in characters.
pub(super) const CLAIM_LIMIT_CHARS: usize = 300;

/// Reads the claims of one request.
pub(super) fn read(head: &Head) -> Context {
    let claim = |name: &str, member: &str| {
        head.header(name).and_then(|text| claimed(text.to_owned())).or_else(|| baggage(head, member))
    };
    Context {
        model: claim("x-countersign-model", "countersign.model"),
        session: claim("x-countersign-session", "countersign.session"),
        task: claim("x-countersign-task", "countersign.task").or_else(|| app_id(head)),
        reason: claim("x-countersign-reason", "countersign.reason"),
        initiator: claim("x-countersign-initiator", "countersign.initiator"),
        trace: head.header("traceparent").and_then(trace_id),
    }
}

/// The value of a baggage member, its percent escapes decoded (W3C Baggage, section 3.3).
fn baggage(head: &Head, name: &str) -> Option<String> {
    let members = head.headers.get_all("baggage").iter().filter_map(|value| value.to_str().ok());
    members.flat_map(|list| list.split(',')).find_map(|member| {
        // Properties after a semicolon say nothing about the value.
        let (key, value) = member.split(';').next()?.split_once('=')?;
        let value = || percent_decode_str(value.trim()).decode_utf8_lossy().into_owned();
        (key.trim() == name).then(value).and_then(claimed)
    })
}

/// `app/NAME` is the last but one kind of token in an SDK's User-Agent; the first one counts.
fn app_id(head: &Head) -> Option<String> {
    let agent = head.header("user-agent")?;
    agent.split(' ').find_map(|token| token.strip_prefix("app/")).and_then(|name| claimed(name.to_owned()))
}

/// The trace id of a `traceparent` (W3C Trace Context, section 3.2.2).
fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.trim().split('-').nth(1)?;
    let is_id = id.len() == 32
        && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && id.bytes().any(|b| b != b'0');
    is_id.then(|| id.to_owned())
}

fn claimed(text: String) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.chars().take(CLAIM_LIMIT_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, Method};

    use super::*;

    fn context(fields: &[(&str, &str)]) -> Context {
        let mut headers = HeaderMap::new();
        headers.insert("host", "iam.amazonaws.com".parse().unwrap());
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        read(&Head::parse(Method::POST, &"/".parse().unwrap(), headers).unwrap())
    }

    #[test]
    fn claims_come_from_fields_then_baggage_then_the_app_id() {
        let agent = ("user-agent", "Boto3/1.44 md/Botocore#1.43 ua/2.1 app/ticket-7 cfg/retry-mode#legacy");
        assert_eq!(context(&[agent]), Context { task: Some("ticket-7".into()), ..Context::default() });
        let baggage = ("baggage", "x=1, countersign.task = from%20baggage;p=1,countersign.initiator=ann%40example.com");
        assert_eq!(context(&[agent, baggage]).task.as_deref(), Some("from baggage"));
        assert_eq!(context(&[agent, baggage]).initiator.as_deref(), Some("ann@example.com"));
        let all = context(&[agent, baggage, ("x-countersign-task", " mine "), ("x-countersign-model", "m-1")]);
        assert_eq!((all.task.as_deref(), all.model.as_deref()), (Some("mine"), Some("m-1")));
    }

    #[test]
    fn claims_are_cut_and_empty_ones_are_none() {
        let long = "x".repeat(CLAIM_LIMIT_CHARS + 1);
        assert_eq!(context(&[("x-countersign-reason", &long)]).reason.unwrap().len(), CLAIM_LIMIT_CHARS);
        assert_eq!(
            context(&[("x-countersign-reason", " "), ("baggage", "countersign.reason=%20")]),
            Context::default()
        );
    }

    #[test]
    fn only_a_well_formed_trace_id_is_taken() {
        let trace = |text: &str| context(&[("traceparent", text)]).trace;
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        for bad in ["", "00", "00-xyz-1-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
            assert_eq!(trace(bad), None, "{bad}");
        }
    }
}
