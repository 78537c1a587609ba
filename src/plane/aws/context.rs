//! What the agent says about itself: claims, never rights.
//!
//! Three sources, the later one winning member by member: the SDK's application id (`app/NAME` in
//! the User-Agent, set by `AWS_SDK_UA_APP_ID`), which names the task; W3C baggage members
//! `countersign.model`, `.session`, `.task`, `.reason`, `.initiator`; and the fields
//! `x-countersign-model` and so on. The trace id comes from W3C `traceparent`. None of it is sent
//! to the upstream, and each value is cut ([`claimed`]).

use http::header;
use percent_encoding::percent_decode_str;

use crate::action::{Context, claimed, trace_id};
use crate::wire::head::{Head, field_text, fields};

/// Reads the claims of one request.
pub(super) fn read(head: &Head) -> Context {
    let mut context = Context { trace: head.header(&fields::TRACEPARENT).and_then(trace_id), ..Context::default() };
    for (name, value) in &head.headers {
        if let Some(slot) = name.as_str().strip_prefix("x-countersign-").and_then(|claim| context.slot(claim)) {
            *slot = field_text(value).and_then(claimed);
        }
    }
    read_baggage(head, &mut context);
    if context.task.is_none() {
        context.task = app_id(head);
    }
    context
}

/// Takes the claims that are still open from baggage members, their percent escapes decoded (W3C
/// Baggage, section 3.3). Of two members of one name the first one that says something counts.
fn read_baggage(head: &Head, context: &mut Context) {
    let lists = head.headers.get_all(&fields::BAGGAGE).iter().filter_map(field_text);
    for member in lists.flat_map(|list| list.split(',')) {
        // Properties after a semicolon say nothing about the value.
        let Some((key, value)) = member.split(';').next().and_then(|member| member.split_once('=')) else { continue };
        let slot = key.trim().strip_prefix("countersign.").and_then(|claim| context.slot(claim));
        if let Some(slot @ None) = slot {
            *slot = claimed(&percent_decode_str(value.trim()).decode_utf8_lossy());
        }
    }
}

/// `app/NAME` is the last but one kind of token in an SDK's User-Agent; the first one counts.
fn app_id(head: &Head) -> Option<String> {
    let agent = head.header(header::USER_AGENT)?;
    agent.split(' ').find_map(|token| token.strip_prefix("app/")).and_then(claimed)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, Method};

    use super::*;
    use crate::action::CLAIM_LIMIT_CHARS;

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
