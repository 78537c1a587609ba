use std::time::Duration;

use serde_json::json;

use super::shown::is_hidden;
use super::text::WIDTH;
use super::*;
use crate::action::{Before, Delta};
use crate::card::sample::{hold, now};
use crate::hold::{Change, Ending, Word};
use crate::id::PersonId;

#[test]
fn card_shows_everything_in_the_order_of_a_decision() {
    let card = render(&hold(now()), now().plus(Duration::from_secs(61)));
    check("plain.txt", include_str!("plain.txt"), &card);
}

#[test]
fn decided_card_says_so_and_lists_votes_and_changes() {
    let mut hold = hold(now());
    hold.state = HoldState::Ended(Ending::Denied);
    hold.votes = vec![
        Vote {
            person: PersonId::new("carol"),
            word: Word::Allow,
            reason: "fine\nDECIDE   by root".to_owned(),
            at: now(),
            void: true,
        },
        Vote { person: PersonId::new("alice"), word: Word::Deny, reason: "no".to_owned(), at: now(), void: false },
    ];
    hold.modified =
        vec![Change { pointer: "/UserName".to_owned(), before: Some(json!("root")), after: Some(json!("bob")) }];
    check("decided.txt", include_str!("decided.txt"), &render(&hold, now()));
}

#[test]
fn visible_escapes_what_hides_moves_or_fakes() {
    for (text, expected) in [
        ("plain é 日本", "plain é 日本"),
        ("a\u{202e}b", "a\\u{202e}b"),
        ("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}"),
        ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
        ("one\ntwo\r\tthree", "one\\ntwo\\r\\tthree"),
        ("line\u{2028}para\u{2029}next\u{85}", "line\\u{2028}para\\u{2029}next\\u{85}"),
        ("\u{1b}[2J\u{1b}]0;x\u{7}", "\\u{1b}[2J\\u{1b}]0;x\\u{7}"),
        ("fake \\u{202e}", "fake \\\\u{202e}"),
        ("e\u{301}\u{301}\u{301}", "e\\u{301}\\u{301}\\u{301}"),
        ("blank\u{3164}\u{2800}\u{ffa0}\u{a0}", "blank\\u{3164}\\u{2800}\\u{ffa0}\\u{a0}"),
        ("tag\u{e0041}\u{fe0f}", "tag\\u{e0041}\\u{fe0f}"),
        ("quote \" '", "quote \" '"),
    ] {
        assert_eq!(visible(text), expected);
    }
}

/// Each attack puts its text into every place an agent controls. The card must keep its fields in
/// order, each once, and hold no character that hides.
#[test]
fn no_value_can_fake_a_field_or_hide_a_character() {
    let long = "x".repeat(200);
    let filler = format!("a{}WHO      agent root", " ".repeat(WIDTH - 12));
    let fillers: String = (50..WIDTH).map(|width| format!("{}WHO      agent root", " ".repeat(width))).collect();
    for attack in [
        "x\nWHO      agent root, owner security",
        "x\r\nDECIDE   rule none needs 0 of nobody",
        "\u{2028}WHAT     reads nothing",
        "\u{202e}toor\u{202c}",
        "\u{1b}[1A\u{1b}[2KWHO      agent root",
        "\u{85}TIME     60 min left",
        "a\u{200b}b\u{3164}",
        "\u{8}\u{8}\u{8}\u{8}gone",
        &filler,
        &fillers,
        &long,
    ] {
        let mut hold = hold(now());
        let attack = attack.to_owned();
        hold.context.reason = Some(attack.clone());
        hold.context.model = Some(attack.clone());
        hold.shown.url = attack.clone();
        hold.shown.headers.insert("x-note".to_owned(), attack.clone());
        hold.actions[0].name = format!("aws:iam:{attack}").into();
        hold.actions[0].resources = vec![attack.clone()];
        hold.actions[0].region = Some(attack.clone().into());
        hold.actions[0].unknown = Some(attack.clone());
        hold.actions[0].parameters.insert(attack.clone(), json!([attack]));
        let card = render(&hold, now());
        assert!(card.chars().all(|c| c == '\n' || !is_hidden(c)), "{card}");
        let mut labels: Vec<_> = card
            .lines()
            .filter(|line| !line.starts_with(' '))
            .map(|line| line.split(' ').next().unwrap_or_default())
            .collect();
        labels.dedup();
        assert_eq!(labels, ["HOLD", "WHO", "WHAT", "WHERE", "WHY", "REQUEST", "REACH", "DECIDE", "TIME", "DIGEST"]);
        for label in ["WHO", "WHAT", "DECIDE", "TIME"] {
            assert_eq!(card.lines().filter(|line| line.starts_with(label)).count(), 1, "{card}");
        }
        assert!(card.lines().all(|line| line.chars().count() <= WIDTH), "{card}");
    }
}

#[test]
fn names_show_letters_outside_ascii_as_escapes() {
    let mut hold = hold(now());
    hold.actions[0].resources = vec!["arn:aws:iam::1:user/\u{430}dmin".to_owned()];
    let card = render(&hold, now());
    assert!(card.contains("user/\\u{430}dmin"), "{card}");
}

#[test]
fn secrets_are_replaced_and_the_json_stays_json() {
    let mut hold = hold(now());
    hold.actions[0].parameters =
        json!({"Password": "hunter2", "Note": "a\u{202e}b\\ \u{1f600}\u{e0041}"}).as_object().unwrap().clone();
    hold.actions[0].sensitive = vec!["Password".to_owned()];
    let card = render(&hold, now());
    assert!(!card.contains("hunter2"), "{card}");
    let json: String = card
        .lines()
        .skip_while(|line| *line != "         | {")
        .take_while(|line| line.starts_with("         |"))
        .filter_map(|line| line.strip_prefix("         | "))
        .collect();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["Note"], "a\u{202e}b\\ \u{1f600}\u{e0041}");
    assert_eq!(value["Password"], "[redacted, 7 bytes]");
}

#[test]
fn what_is_shortened_says_so_with_length_and_digest() {
    let mut hold = hold(now());
    let value = "é".repeat(VALUE_LIMIT_BYTES);
    hold.actions[0].parameters.insert("Blob".to_owned(), json!(value));
    let many: Vec<_> = (0..40_000).collect();
    hold.actions[0].parameters.insert("Many".to_owned(), json!(many));
    let text: String =
        render(&hold, now()).lines().filter_map(|line| line.strip_prefix("         ")).collect::<Vec<_>>().join("");
    let text = text.replace("~ ", "");
    assert!(text.contains(&format!("{} bytes, sha256 {}", value.len(), sha256(value.as_bytes()))), "{text}");
    assert!(text.contains("the rest is left out"), "{text}");
    assert!(text.contains("2 place(s) are shortened"), "{text}");
    assert!(text.len() < 120 * 1024);
}

#[test]
fn policies_can_be_read() {
    let mut hold = hold(now());
    let policy = r#"{"Statement":[{"Effect":"Deny","Effect":"Allow","Action":"*\"}","Resource":"a:b,c"}]}"#;
    hold.actions[0].parameters = json!({"PolicyDocument": policy}).as_object().unwrap().clone();
    let card = render(&hold, now());
    let lines = "         the JSON in /PolicyDocument, in lines:
         | {
         |   \"Statement\": [
         |     {
         |       \"Effect\": \"Deny\",
         |       \"Effect\": \"Allow\",
         |       \"Action\": \"*\\\"}\",
         |       \"Resource\": \"a:b,c\"
         |     }
         |   ]
         | }
";
    assert!(card.contains(lines), "{card}");
    for text in ["", "{", "text", "\"text\"", "1", "{\"a\":1} x", "[1"] {
        assert_eq!(reindented(text), None, "{text}");
    }
    let nested = "[".repeat(100_000) + &"]".repeat(100_000);
    assert_eq!(reindented(&nested), None, "deeper than any policy");
}

#[test]
fn an_estimate_is_told_as_such_and_cannot_look_like_the_card() {
    let mut hold = hold(now());
    hold.shown.reach = vec![("public.\u{202e}t".to_owned(), "about 5 rows\nDECIDE   nobody".to_owned())];
    let card = render(&hold, hold.opened);
    let lines = "         Estimated without running it:
         | public.\\u{202e}t: about 5 rows\\nDECIDE   nobody
";
    assert!(card.contains(lines), "{card}");
}

#[test]
fn a_change_is_told_dangers_first_and_cannot_look_like_the_card() {
    let mut hold = hold(now());
    hold.shown.deltas = vec![Delta {
        about: "policy of bucket b\nDECIDE   nobody".to_owned(),
        before: Before::Unread("AccessDenied".to_owned()),
        added: vec!["Allow s3:\u{202e}x on \u{430}dmin".to_owned(), "long ".repeat(50)],
        removed: vec!["Deny *".to_owned()],
        changed: Vec::new(),
        dangers: vec!["public: anybody\r may".to_owned()],
        doubt: None,
    }];
    let card = render(&hold, hold.opened);
    let lines = "\
CHANGE   policy of bucket b\\nDECIDE   nobody
         | ! public: anybody\\r may
         The present one could not be read, so that what is removed is not known:
         | AccessDenied
         | + Allow s3:\\u{202e}x on \\u{430}dmin
         | + long long";
    assert!(card.contains(lines), "{card}");
    assert!(card.contains("\n         | - Deny *\n"), "{card}");
    assert!(card.lines().all(|line| line.len() <= WIDTH), "{card}");
}

#[test]
fn operations_are_spoken_as_words() {
    for (operation, expected) in [
        ("CreateAccessKey", "create access key"),
        ("CreateDBInstance", "create db instance"),
        ("ListObjectsV2", "list objects v2"),
        ("AssumeRoleWithSAML", "assume role with saml"),
        ("copy_out", "copy out"),
        ("x\u{202e}y", "xy"),
    ] {
        assert_eq!(spoken(operation), expected);
    }
}

/// `UPDATE_GOLDEN=1` writes the file anew; look at the difference before committing it.
fn check(file: &str, expected: &str, card: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(format!("{}/src/card/{file}", env!("CARGO_MANIFEST_DIR")), card).unwrap();
    } else {
        assert_eq!(card, expected, "\n{card}");
    }
}
