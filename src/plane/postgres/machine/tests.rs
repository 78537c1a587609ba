use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::wire::postgres::backend::{Report, Severity};
use crate::wire::postgres::{backend, frontend};

/// A client's message with its bytes.
fn client(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut bytes = BytesMut::new();
    write(&mut bytes);
    bytes
}

fn read(bytes: &BytesMut) -> Message<'_> {
    frontend::Frame::split(bytes, 1 << 20).unwrap().unwrap().read().unwrap()
}

fn bare(kind: u8) -> BytesMut {
    BytesMut::from(&[kind, 0, 0, 0, 4][..])
}

fn server(machine: &mut Machine, bytes: &BytesMut) -> Result<Turn, Broken> {
    machine.server(&Frame::split(bytes).unwrap().unwrap())
}

fn ready(transaction: Transaction) -> BytesMut {
    client(|out| backend::ready_for_query(out, transaction))
}

fn done() -> BytesMut {
    client(|out| backend::command_complete(out, b"SELECT 1"))
}

fn error() -> BytesMut {
    let report = Report { severity: Severity::Error, code: "42501", message: "no", detail: None, hint: None };
    client(|out| report.write(out))
}

/// Sends a message that needs no question.
fn send(machine: &mut Machine, bytes: &BytesMut) {
    assert!(matches!(machine.client(&read(bytes)).unwrap(), Step::Send), "{bytes:?}");
}

fn allow(machine: &mut Machine, bytes: &BytesMut) -> Run {
    let message = read(bytes);
    assert!(matches!(machine.client(&message).unwrap(), Step::Ask(_)), "{bytes:?}");
    machine.allow(&message, false)
}

fn deny(machine: &mut Machine, bytes: &BytesMut) -> Denial {
    let message = read(bytes);
    assert!(matches!(machine.client(&message).unwrap(), Step::Ask(_)), "{bytes:?}");
    machine.deny(&message)
}

fn events(machine: &mut Machine) -> Vec<Event> {
    machine.take_events().collect()
}

fn parse(name: &[u8]) -> BytesMut {
    client(|out| frontend::parse(out, name, b"SELECT $1", &[23]))
}

fn bind(portal: &[u8], statement: &[u8]) -> BytesMut {
    client(|out| frontend::bind(out, portal, statement, &[Some(b"1")]))
}

fn execute(portal: &[u8]) -> BytesMut {
    client(|out| frontend::execute(out, portal, 0))
}

fn query() -> BytesMut {
    client(|out| frontend::query(out, b"SELECT 1"))
}

fn sync() -> BytesMut {
    client(frontend::sync)
}

#[test]
fn a_simple_query_is_asked_about_and_over_at_ready() {
    let mut machine = Machine::new();
    let run = allow(&mut machine, &query());
    assert!(!machine.is_idle());
    server(&mut machine, &done()).unwrap();
    assert_eq!(events(&mut machine), [Event::Done(run)]);
    server(&mut machine, &ready(Transaction::Open)).unwrap();
    assert_eq!(events(&mut machine), [Event::Over(run), Event::Ready]);
    assert!(machine.is_idle());
    assert_eq!(machine.transaction(), Transaction::Open);
}

#[test]
fn a_pipeline_is_asked_about_at_bind_and_once() {
    let mut machine = Machine::new();
    send(&mut machine, &parse(b""));
    let run = allow(&mut machine, &bind(b"", b""));
    send(&mut machine, &execute(b""));
    // Run to its end: once more is another question.
    assert!(matches!(machine.client(&read(&execute(b""))).unwrap(), Step::Ask(Subject::Execute(_))));
    send(&mut machine, &sync());
    for kind in *b"12" {
        server(&mut machine, &bare(kind)).unwrap();
    }
    server(&mut machine, &done()).unwrap();
    server(&mut machine, &ready(Transaction::None)).unwrap();
    assert_eq!(events(&mut machine), [Event::Done(run), Event::Over(run), Event::Ready]);
}

#[test]
fn a_suspended_portal_goes_on_as_allowed() {
    let mut machine = Machine::new();
    send(&mut machine, &parse(b"s"));
    let run = allow(&mut machine, &bind(b"p", b"s"));
    send(&mut machine, &execute(b"p"));
    for kind in *b"12s" {
        server(&mut machine, &bare(kind)).unwrap();
    }
    send(&mut machine, &execute(b"p"));
    server(&mut machine, &bare(b's')).unwrap();
    send(&mut machine, &sync());
    server(&mut machine, &ready(Transaction::None)).unwrap();
    assert_eq!(events(&mut machine), [Event::Over(run), Event::Ready]);
    assert!(matches!(machine.client(&read(&execute(b"p"))).unwrap(), Step::Ask(_)), "it ended with the transaction");
}

#[test]
fn an_error_undoes_names_and_skips_to_sync() {
    let mut machine = Machine::new();
    send(&mut machine, &parse(b"kept"));
    send(&mut machine, &sync());
    server(&mut machine, &bare(b'1')).unwrap();
    server(&mut machine, &ready(Transaction::None)).unwrap();
    events(&mut machine);

    let failing = allow(&mut machine, &query_by_bind());
    send(&mut machine, &client(|out| frontend::close(out, Target::Statement(b"kept"))));
    send(&mut machine, &parse(b"new"));
    let behind = allow(&mut machine, &bind(b"q", b"new"));
    assert_eq!(server(&mut machine, &error()).unwrap(), Turn::Pass);
    assert_eq!(
        events(&mut machine),
        [Event::Aborted, Event::Failed(failing), Event::Over(failing), Event::Skipped(behind), Event::Over(behind)]
    );
    assert!(machine.is_skipping());
    assert!(machine.statement(b"kept").is_some() && machine.statement(b"new").is_none());
    assert!(matches!(machine.client(&read(&query())).unwrap(), Step::Drop));
    send(&mut machine, &sync());
    assert!(!machine.is_skipping());
    server(&mut machine, &ready(Transaction::Failed)).unwrap();
    assert!(machine.is_idle());
}

fn query_by_bind() -> BytesMut {
    bind(b"p", b"kept")
}

#[test]
fn a_denied_message_is_answered_in_its_turn() {
    let mut machine = Machine::new();
    assert_eq!(deny(&mut machine, &query()), Denial::AtOnce);
    send(&mut machine, &parse(b""));
    assert_eq!(deny(&mut machine, &bind(b"", b"")), Denial::InTurn);
    assert!(matches!(machine.client(&read(&execute(b""))).unwrap(), Step::Drop));
    send(&mut machine, &sync());
    server(&mut machine, &bare(b'1')).unwrap();
    assert_eq!(server(&mut machine, &error()).unwrap(), Turn::Deny);
    server(&mut machine, &ready(Transaction::Open)).unwrap();
    // A transaction is open: the server must hear of the error.
    assert_eq!(deny(&mut machine, &query()), Denial::InTurnWithSync);
    assert_eq!(server(&mut machine, &error()).unwrap(), Turn::Deny);
    server(&mut machine, &ready(Transaction::Failed)).unwrap();
    assert!(machine.is_idle());
}

#[test]
fn an_earlier_error_takes_the_place_of_a_denial() {
    let mut machine = Machine::new();
    send(&mut machine, &parse(b""));
    deny(&mut machine, &bind(b"", b""));
    send(&mut machine, &sync());
    assert_eq!(server(&mut machine, &error()).unwrap(), Turn::Pass);
    server(&mut machine, &ready(Transaction::None)).unwrap();
    assert!(machine.is_idle());
}

#[test]
fn data_sent_before_the_server_asks_for_it_waits() {
    let mut machine = Machine::new();
    let copy = query();
    assert!(matches!(machine.client(&read(&copy)).unwrap(), Step::Ask(_)));
    machine.allow(&read(&copy), true);
    let data = BytesMut::from(&b"d\0\0\0\x05x"[..]);
    for early in [&data, &bare(b'c')] {
        assert!(matches!(machine.client(&read(early)).unwrap(), Step::Wait));
    }
    server(&mut machine, &BytesMut::from(&b"G\0\0\0\x07\0\0\0"[..])).unwrap();
    send(&mut machine, &data);
    server(&mut machine, &error()).unwrap();
    server(&mut machine, &ready(Transaction::None)).unwrap();
    // It failed: what the client had already sent is for nobody.
    for late in [&data, &bare(b'c')] {
        assert!(matches!(machine.client(&read(late)).unwrap(), Step::Drop));
    }
}

#[test]
fn copied_data_passes_and_sync_within_it_does_not() {
    let mut machine = Machine::new();
    let message = query();
    machine.client(&read(&message)).unwrap();
    machine.allow(&read(&message), true);
    assert!(matches!(machine.client(&read(&query())).unwrap(), Step::Wait), "the direction is not known yet");
    let copy_in = BytesMut::from(&b"G\0\0\0\x07\0\0\0"[..]);
    server(&mut machine, &copy_in).unwrap();
    assert!(machine.takes_copy_data());
    assert!(matches!(machine.client(&read(&sync())).unwrap(), Step::Drop));
    send(&mut machine, &BytesMut::from(&b"d\0\0\0\x05x"[..]));
    send(&mut machine, &bare(b'c'));
    assert!(matches!(machine.client(&read(&query())).unwrap(), Step::Wait));
    server(&mut machine, &done()).unwrap();
    server(&mut machine, &ready(Transaction::None)).unwrap();
    assert!(matches!(machine.client(&read(&BytesMut::from(&b"d\0\0\0\x05x"[..]))).unwrap(), Step::Drop));
    assert!(matches!(machine.client(&read(&query())).unwrap(), Step::Ask(_)));
}

#[test]
fn the_portal_of_denials_cannot_be_made() {
    let mut machine = Machine::new();
    send(&mut machine, &parse(b""));
    assert!(machine.client(&read(&bind(NO_PORTAL, b""))).is_err());
}

#[test]
fn an_answer_nothing_asked_for_ends_the_session() {
    for kind in *b"123CGInsWT" {
        assert!(server(&mut Machine::new(), &bare(kind)).is_err(), "{}", char::from(kind));
    }
    assert!(server(&mut Machine::new(), &ready(Transaction::None)).is_err());
}

#[derive(Clone, Debug)]
enum Move {
    Client(u8),
    Server(u8),
}

proptest! {
    /// Whatever comes from both sides: no panic, nothing that runs without having been allowed, and no
    /// more answers taken than messages were sent.
    #[test]
    fn nothing_runs_unasked(moves in prop::collection::vec(prop_oneof![
        (0u8..10).prop_map(Move::Client), (0u8..12).prop_map(Move::Server)
    ], 0..200)) {
        let mut machine = Machine::new();
        let mut granted: std::collections::HashSet<Run> = std::collections::HashSet::new();
        for (index, next) in moves.into_iter().enumerate() {
            match next {
                Move::Client(which) => {
                    let bytes = match which {
                        0 => query(),
                        1 => parse(b""),
                        2 => parse(b"s"),
                        3 => bind(b"", b""),
                        4 => bind(b"p", b"s"),
                        5 => execute(b""),
                        6 => execute(b"p"),
                        7 => client(|out| frontend::close(out, Target::Portal(b"p"))),
                        8 => client(frontend::flush),
                        _ => sync(),
                    };
                    let message = read(&bytes);
                    match machine.client(&message) {
                        Ok(Step::Ask(_)) if index % 3 == 0 => drop(machine.deny(&message)),
                        Ok(Step::Ask(_)) => {
                            let run = machine.allow(&message, index % 7 == 0);
                            prop_assert!(granted.insert(run), "a run is granted once");
                        }
                        Ok(Step::Send) => prop_assert!(
                            !matches!(message, Message::Query(_) | Message::Bind(_) | Message::FunctionCall(_)),
                            "sent unasked"
                        ),
                        Ok(_) => {}
                        Err(_) => return Ok(()),
                    }
                }
                Move::Server(which) => {
                    let bytes = match which {
                        0 => bare(b'1'),
                        1 => bare(b'2'),
                        2 => bare(b'3'),
                        3 => done(),
                        4 => bare(b's'),
                        5 => error(),
                        6 => ready(Transaction::None),
                        7 => ready(Transaction::Open),
                        8 => bare(b'n'),
                        9 => bare(b'I'),
                        10 => bare(b'G'),
                        _ => bare(b'N'),
                    };
                    if server(&mut machine, &bytes).is_err() {
                        return Ok(());
                    }
                }
            }
            for event in machine.take_events() {
                if let Event::Done(run) | Event::Failed(run) | Event::Skipped(run) | Event::Over(run) = event {
                    prop_assert!(granted.contains(&run), "an event of what was never allowed");
                }
            }
        }
    }
}
