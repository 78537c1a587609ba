//! A random client before a random server: countersign between them stands, ends what broke, and lets
//! nothing reach the server that a rule denies, whatever it has been told.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use super::impostor::Theatre;
use super::messages::{Dice, sequences};
use crate::support::frontend::{Batch, Frontend};
use crate::support::impostor::{Impostor, Stage, columns, done, error, message, parameter, ready, row};
use crate::support::wait_for;

/// What rules let pass, and at the end what they deny. Each statement name has texts of its own: whatever the
/// server says of a Parse, what it could have under `denied` is denied.
const PASSING: [&str; 7] =
    ["SELECT 1", "INSERT INTO t VALUES (1)", "BEGIN", "COMMIT", "COPY t FROM STDIN", "SELEC", ""];
/// As is what nobody knows, such as a statement that was never prepared.
const UNKNOWN_IS_DENIED: &str = "rules: { ordinary: allow, privileged: allow, unknown: deny }\n";
const DENIED: &str = "DROP TABLE accounts";

/// Anything that a server may say, in any order, and some that none may.
fn anything(dice: &mut Dice) -> Vec<u8> {
    match dice.below(30) {
        0..=3 => ready(dice.of(b"ITE")),
        4..=6 => done(dice.of(&["SELECT 1", "INSERT 0 1", "BEGIN", "COMMIT", "ROLLBACK", "DROP TABLE", "COPY 1"])),
        7 | 8 => error(dice.of(&["42601", "22012", "25P02"])),
        9 | 10 => message(b'1', b""),
        11 | 12 => message(b'2', b""),
        13 => message(b'3', b""),
        14 => columns(1),
        15 => row(&["a row"]),
        16 => message(b'n', b""),
        17 => message(b't', &[0; 2]),
        18 => message(b's', b""),
        19 => message(b'I', b""),
        20 => message(dice.of(b"GHW"), &[0; 3]),
        21 => message(dice.of(b"dcVRKv"), &[0; 4]),
        22 => parameter(
            dice.of(&["client_encoding", "standard_conforming_strings", "x"]),
            dice.of(&["off", "SJIS", "UTF8"]),
        ),
        23 => message(b'N', b"SNOTICE\0C00000\0Mso\0\0"),
        24 => message(b'A', b"\0\0\0\x01c\0p\0"),
        25 => row(&["x"])[..9].to_vec(),
        26 => [dice.of(b"DZ?Q"), 0, 0, 0, dice.of(b"\x00\x03\x04\x05")].to_vec(),
        _ => [columns(1), row(&["1"]), done("SELECT 1")].concat(),
    }
}

/// What an honest server says to a message of a client's, as far as it needs no memory.
fn honest(tag: u8) -> Vec<u8> {
    match tag {
        b'P' => message(b'1', b""),
        b'B' => message(b'2', b""),
        b'C' => message(b'3', b""),
        b'D' => message(b'n', b""),
        b'E' => done("SELECT 0"),
        b'Q' => [done("SELECT 0"), ready(b'I')].concat(),
        b'F' => [message(b'V', &[0xff; 4]), ready(b'I')].concat(),
        b'S' => ready(b'I'),
        _ => Vec::new(),
    }
}

/// The seed stands in the first message; what follows is honest for a while.
fn lie(stage: &mut Stage) {
    // An answer that it owes keeps a session whose client has left.
    stage.patience(Duration::from_secs(2));
    let Some(first) = stage.read_to(b'Q') else { return };
    let text = String::from_utf8_lossy(&first.body).into_owned();
    let seed = text.trim_end_matches('\0').rsplit(' ').next().and_then(|it| it.parse().ok()).unwrap_or_default();
    let mut dice = Dice::new(seed);
    stage.send(&honest(b'Q'));
    let one_in = 2 + dice.below(80);
    let mut is_skipping = false;
    while let Some(heard) = stage.read() {
        let is_failing = heard.tag == b'E' && heard.body.starts_with(b"countersign: denied\0");
        is_skipping &= heard.tag != b'S';
        if heard.tag == b'X' {
            return;
        }
        if dice.below(one_in) == 0 {
            stage.send(&anything(&mut dice));
        } else if is_failing && !is_skipping {
            is_skipping = true;
            stage.send(&error("34000"));
        } else if !is_skipping {
            stage.send(&honest(heard.tag));
        }
        if dice.below(200) == 0 {
            return;
        }
    }
}

fn script(seed: u64) -> Batch {
    let mut dice = Dice::new(seed ^ 0x5555);
    let mut batch = Batch::new().query(&format!("SELECT {seed}"));
    for _ in 0..dice.below(60) {
        let name = dice.of(&["", "s", "denied", "denied"]);
        let text = if name == "denied" { DENIED } else { dice.of(&PASSING) };
        batch = match dice.below(14) {
            0 => batch.query(dice.of(&[DENIED, "SELECT 1", "BEGIN", "ROLLBACK", "SELECT 2; DROP TABLE accounts"])),
            1..=3 => batch.parse(name, text),
            4 | 5 => batch.bind(name, name, &[]),
            6 | 7 => batch.execute(name, dice.of(&[0, 1])),
            8 => batch.describe(dice.of(b"SP"), name),
            9 => batch.close(dice.of(b"SP"), name),
            10 | 11 => batch.sync(),
            12 => batch.raw(dice.of(b"dcfH"), b"x\0"),
            _ => batch.parse(name, text).bind(name, name, &[]).execute(name, 0).sync(),
        };
    }
    batch.sync().raw(b'X', b"")
}

#[test]
fn nothing_denied_reaches_a_server_that_lies() {
    let theatre = Theatre::under(Impostor::start(lie), "", UNKNOWN_IS_DENIED);
    let (mut ended, mut denied) = (0, 0);
    let count = sequences() / 2;
    for seed in 0..count {
        let session = Frontend::connect(&theatre.door);
        let mut stream = session.writer();
        // It may be ended before it has said all.
        drop(stream.write_all(&script(seed).0));
        // Who waits for an answer that never comes may wait: here it leaves.
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut bytes = Vec::new();
        let is_over = stream.read_to_end(&mut bytes).is_ok();
        ended += u64::from(is_over && bytes.windows(6).any(|it| it == b"C08P01"));
        denied += u64::from(bytes.windows(6).any(|it| it == b"C42501"));
        drop((session, stream));
        let heard = theatre.impostor.heard();
        let is_denied = |body: &[u8]| body.windows(DENIED.len()).any(|it| it == DENIED.as_bytes());
        for message in &heard {
            let reaches = match message.tag {
                b'Q' => is_denied(&message.body),
                // Portal and statement have the name of what is in them. Without a Bind, an Execute has nothing to run.
                b'B' => message.body.starts_with(b"denied\0denied\0"),
                _ => false,
            };
            assert!(!reaches, "seed {seed}: {message:?}");
        }
    }
    assert!(ended > count / 10 && denied > count / 10, "of {count}, {ended} ended and {denied} were denied");
    let mut theatre = theatre;
    wait_for("the sessions to end", || (theatre.site.metric("countersign_connections") == 0).then_some(()));
    theatre.stands();
}
