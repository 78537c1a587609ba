use proptest::prelude::*;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_seed("example.com/log", Zeroizing::new([7; 32])).unwrap()
}

#[test]
fn keys_round_trip_and_have_one_spelling() {
    let key = key();
    let text = key.public().to_string();
    assert_eq!(VerifyingKey::parse(&format!("{text}\n")).as_ref(), Ok(key.public()));
    let private = key.expose();
    assert_eq!(SigningKey::parse(&private).unwrap().public(), key.public());
    assert!(!format!("{key:?}").contains(private.rsplit('+').next().unwrap()));
    for bad in [
        "",
        "example.com/log",
        &text.replace("log+", "lag+"),
        &text.replace("+A", "+B"),
        &format!("{text}x"),
        private.as_str(),
    ] {
        assert_eq!(VerifyingKey::parse(bad).err(), Some(NoteError::Key), "{bad}");
    }
    for origin in ["", "a b", "a+b", "a\nb", "é", &"a".repeat(129)] {
        assert!(SigningKey::from_seed(origin, Zeroizing::new([7; 32])).is_none(), "{origin}");
    }
}

/// The example key and signature of Go's `golang.org/x/mod/sumdb/note` documentation.
#[test]
fn go_notes_are_verified() {
    let key = VerifyingKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
    let note = "If you think cryptography is the answer to your problem,\n\
                then you don't know what your problem is.\n\n\
                \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    // The signature is right, the text is no checkpoint.
    assert_eq!(key.open(note), Err(NoteError::Form("the second line is no tree size")));
    assert!(matches!(key.open(&note.replace("the answer", "an answer")), Err(NoteError::Signature(_))));
}

#[test]
fn a_signed_checkpoint_opens_and_nothing_else_does() {
    let key = key();
    let root = sha256(b"root");
    let note = key.sign(42, root);
    let checkpoint = Checkpoint { origin: "example.com/log".to_owned(), size: 42, root };
    assert_eq!(key.public().open(&note), Ok(checkpoint.clone()));
    let witnessed = format!("{note}{SIGNATURE_START}witness.example/w AAAAAAAA\n");
    assert_eq!(key.public().open(&witnessed), Ok(checkpoint));

    let other = SigningKey::from_seed("example.com/log", Zeroizing::new([8; 32])).unwrap();
    assert!(matches!(other.public().open(&note), Err(NoteError::NotSigned(_))));
    let renamed = SigningKey::from_seed("example.com/other", Zeroizing::new([7; 32])).unwrap();
    assert!(matches!(renamed.public().open(&note), Err(NoteError::NotSigned(_))));

    for bad in [
        note.replace("\n42\n", "\n43\n"),
        note.replace("\n42\n", "\n042\n"),
        note.replace("\n42\n", "\n+42\n"),
        note.replace('\n', "\r\n"),
        note.replace("\n\n", "\n"),
        note.trim_end().to_owned(),
        format!("{note}\n"),
        format!("{note}x\n"),
        format!("x{note}"),
        note.repeat(2),
        format!("{}{note}", " ".repeat(MAX_NOTE)),
        String::new(),
    ] {
        assert!(key.public().open(&bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn a_changed_note_never_opens_as_another_checkpoint(at in 0_usize..200, with: char) {
        let key = key();
        let note = key.sign(42, sha256(b"root"));
        let mut changed: Vec<char> = note.chars().collect();
        let at = at % changed.len();
        changed[at] = with;
        let changed: String = changed.into_iter().collect();
        prop_assert!(changed == note || key.public().open(&changed).is_err());
    }

    #[test]
    fn any_text_is_judged_without_panic(text in "\\PC*|(\\PC*\n){0,6}") {
        prop_assert!(key().public().open(&text).is_err());
        prop_assert!(VerifyingKey::parse(&text).is_err());
    }
}
