use std::time::Duration;

use super::*;
use crate::card::sample::{hold, now};

/// Every text of a message, in order.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => {
            let own = members.get("text").and_then(Value::as_str);
            own.into_iter().chain(members.values().flat_map(texts)).collect()
        }
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_message_is_the_whole_card_where_there_is_room() {
    let card = Card::of(&hold(now()), now().plus(Duration::from_secs(61)));
    let message = message(&card, true).json();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/channel/slack/blocks/message.json");
    let text = format!("{message:#}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap(), "\n{text}");
    let shown = texts(&message["blocks"]).concat();
    for part in &card.parts {
        assert!(shown.contains(part.text()), "{part:?}");
    }
}

/// The longest of everything that an agent chooses, in characters that cost the most.
#[test]
fn what_is_cut_is_said_and_no_field_goes_missing() {
    for filler in ["x", "&", "\u{1}", "\u{1f600}", "a b"] {
        let mut hold = hold(now());
        let long = filler.repeat(200_000);
        hold.context.reason = Some(long.clone());
        hold.shown.url = long.clone();
        hold.actions[0].resources = vec![long.clone(); 30];
        hold.actions[0].parameters = (0..1_000).map(|n| (format!("{n}"), Value::from(filler.repeat(50)))).collect();
        let card = Card::of(&hold, now());
        let message = message(&card, true);
        let blocks = Value::Array(message.blocks.clone());
        let counted =
            |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").encode_utf16().count();
        let total: usize = texts(&blocks).into_iter().map(counted).sum();
        assert!(total < 8_000, "{total}");
        assert!(message.blocks.len() <= 50);
        let shown = texts(&blocks).concat();
        assert!(shown.contains("shown in part: ") && shown.contains("Read all of it"), "{shown}");
        for field in ["WHO", "WHAT", "WHERE", "WHY", "REQUEST", "REACH", "DECIDE", "TIME", "DIGEST"] {
            assert!(shown.contains(field), "{field} is not in {shown}");
        }
        assert!(shown.contains("may decide now: alice, carol") && shown.contains(&hold.digest.hex()), "{shown}");
    }
}

#[test]
fn a_notification_mentions_nobody() {
    assert_eq!(escaped("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
    let mut card = Card::of(&hold(now()), now());
    card.title = "<".repeat(10_000);
    assert!(message(&card, true).text.len() <= TEXT_LIMIT + 10);
}
