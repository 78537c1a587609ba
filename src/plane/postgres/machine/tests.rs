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
    client(|out| frontend::bind(out, portal, statement, &[(false, Some(b"1"))]))
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
fn a_suspended_portal_is_not_what_was_bound_to_its_name_since() {
    let mut machine = Machine::new();
    send(&mut machine, &parse(b"s"));
    let first = allow(&mut machine, &bind(b"", b"s"));
    send(&mut machine, &execute(b""));
    let second = allow(&mut machine, &bind(b"", b"s"));
    for kind in *b"12s2" {
        server(&mut machine, &bare(kind)).unwrap();
    }
    assert_eq!(events(&mut machine), [Event::Done(first), Event::Over(first)]);
    send(&mut machine, &execute(b""));
    server(&mut machine, &done()).unwrap();
    assert_eq!(events(&mut machine), [Event::Done(second), Event::Over(second)]);
}

#[test]
fn a_client_is_so_far_ahead_and_no_further() {
    let mut machine = Machine::new();
    for number in 0..UNANSWERED_LIMIT / 2 {
        assert!(!machine.is_full());
        allow(&mut machine, &bind(number.to_string().as_bytes(), b""));
        send(&mut machine, &sync());
    }
    assert!(machine.is_full());
    for _ in 0..UNANSWERED_LIMIT / 2 {
        server(&mut machine, &bare(b'2')).unwrap();
        server(&mut machine, &ready(Transaction::None)).unwrap();
    }
    assert!(machine.is_idle() && machine.portals.is_empty());
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
    assert_eq!(events(&mut machine), [Event::Aborted, Event::Unsaid]);
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

/// Asks on countersign's own behalf.
fn ask_own(machine: &mut Machine, own: &[Own]) {
    own.iter().for_each(|own| machine.ask_own(*own));
}

#[test]
fn a_portal_that_was_allowed_under_other_rules_is_asked_about_again() {
    let mut machine = Machine::new();
    send(&mut machine, &parse(b"s"));
    let bound = allow(&mut machine, &bind(b"p", b"s"));
    machine.rules_changed();
    let message = execute(b"p");
    match machine.client(&read(&message)).unwrap() {
        Step::Ask(Subject::Again(run)) => assert_eq!(run, bound),
        other => panic!("{other:?}"),
    }
    let again = machine.allow(&read(&message), false);
    assert_eq!(events(&mut machine), [Event::Over(bound)]);
    for kind in *b"12s" {
        server(&mut machine, &bare(kind)).unwrap();
    }
    // Allowed by the rules of now, it goes on until they change again.
    send(&mut machine, &message);
    server(&mut machine, &bare(b's')).unwrap();
    machine.rules_changed();
    assert!(matches!(machine.client(&read(&message)).unwrap(), Step::Ask(Subject::Again(run)) if run == again));
}

#[test]
fn answers_to_messages_of_countersigns_own_are_kept() {
    let mut machine = Machine::new();
    send(&mut machine, &parse(b"s"));
    server(&mut machine, &bare(b'1')).unwrap();
    ask_own(&mut machine, &[Own::Describe, Own::Parse, Own::Describe]);
    for kind in *b"tT1tn" {
        assert_eq!(server(&mut machine, &bare(kind)).unwrap(), Turn::Keep);
    }
    let run = allow(&mut machine, &bind(b"", b"s"));
    ask_own(&mut machine, &[Own::Close]);
    send(&mut machine, &execute(b""));
    send(&mut machine, &sync());
    assert_eq!(server(&mut machine, &bare(b'2')).unwrap(), Turn::Pass);
    assert_eq!(server(&mut machine, &bare(b'3')).unwrap(), Turn::Keep);
    assert!(!machine.must_close());
    assert_eq!(server(&mut machine, &done()).unwrap(), Turn::Pass);
    assert_eq!(server(&mut machine, &ready(Transaction::None)).unwrap(), Turn::Pass);
    assert_eq!(events(&mut machine), [Event::Done(run), Event::Over(run), Event::Ready]);
}

#[test]
fn an_error_to_countersigns_own_skips_as_one_to_the_clients() {
    let mut machine = Machine::new();
    send(&mut machine, &parse(b"s"));
    server(&mut machine, &bare(b'1')).unwrap();
    ask_own(&mut machine, &[Own::Parse, Own::Describe]);
    assert_eq!(server(&mut machine, &error()).unwrap(), Turn::Refuse);
    assert!(machine.is_skipping() && machine.is_idle());
    assert!(matches!(machine.client(&read(&bind(b"", b"s"))).unwrap(), Step::Drop));
    send(&mut machine, &sync());
    assert!(!machine.must_close(), "the server has not come to the Sync");
    server(&mut machine, &ready(Transaction::None)).unwrap();
    assert!(machine.must_close());
    ask_own(&mut machine, &[Own::Close, Own::Sync]);
    assert_eq!(server(&mut machine, &bare(b'3')).unwrap(), Turn::Keep);
    assert_eq!(server(&mut machine, &ready(Transaction::None)).unwrap(), Turn::Keep);
    assert!(machine.is_idle() && !machine.must_close());
}

#[test]
fn a_session_that_ends_says_so_whatever_was_asked() {
    let report = Report { severity: Severity::Fatal, code: "57P01", message: "over", detail: None, hint: None };
    let fatal = client(|out| report.write(out));
    for own in [Own::Query, Own::Describe, Own::Parse, Own::Close, Own::Sync] {
        let mut machine = Machine::new();
        ask_own(&mut machine, &[own]);
        assert_eq!(server(&mut machine, &fatal).unwrap(), Turn::Pass, "{own:?}");
    }
}

#[test]
fn a_sync_of_countersigns_own_ends_nothing() {
    let mut machine = Machine::new();
    assert!(!machine.may_sync());
    send(&mut machine, &parse(b"s"));
    assert!(!machine.may_sync(), "it is not answered");
    server(&mut machine, &bare(b'1')).unwrap();
    assert!(machine.may_sync() && !machine.is_in_transaction());
    ask_own(&mut machine, &[Own::Sync]);
    assert!(!machine.may_sync() && !machine.is_in_pipeline());
    assert_eq!(server(&mut machine, &ready(Transaction::None)).unwrap(), Turn::Keep);
    assert!(machine.statement(b"s").is_some());
    allow(&mut machine, &bind(b"p", b"s"));
    server(&mut machine, &bare(b'2')).unwrap();
    assert!(!machine.may_sync(), "a portal would end");
    send(&mut machine, &execute(b"p"));
    assert!(machine.is_in_transaction(), "it may keep locks until Sync");
    server(&mut machine, &done()).unwrap();
    send(&mut machine, &sync());
    assert!(!machine.is_in_transaction());
}

#[test]
fn the_statement_of_changes_is_nobodys_to_name() {
    for message in [
        parse(CHANGED),
        bind(b"", CHANGED),
        client(|out| frontend::describe(out, Target::Statement(CHANGED))),
        client(|out| frontend::close(out, Target::Statement(CHANGED))),
    ] {
        assert!(Machine::new().client(&read(&message)).is_err(), "{message:?}");
    }
}

#[test]
fn what_a_client_was_told_is_remembered_with_its_statement() {
    let mut machine = Machine::new();
    send(&mut machine, &parse(b"s"));
    let first = machine.statement(b"s").unwrap();
    allow(&mut machine, &bind(b"p", b"s"));
    assert!(!first.is_told());
    send(&mut machine, &client(|out| frontend::describe(out, Target::Portal(b"p"))));
    assert!(first.is_told());
    send(&mut machine, &client(|out| frontend::close(out, Target::Statement(b"s"))));
    send(&mut machine, &parse(b"s"));
    assert!(!machine.statement(b"s").unwrap().is_told(), "it is another");
}

#[derive(Clone, Debug)]
enum Move {
    Client(u8),
    Server(u8),
    Own(u8),
}

/// What the server answers to the first message that it has not answered, if it takes it: as a server
/// does, and with `is_error` as it does when it fails.
fn answer_of(own: Own, is_error: bool) -> Vec<BytesMut> {
    match own {
        Own::Query if is_error => vec![error(), ready(Transaction::None)],
        Own::Query => vec![done(), ready(Transaction::None)],
        Own::Sync => vec![ready(Transaction::None)],
        _ if is_error => vec![error()],
        Own::Describe => vec![bare(b't'), bare(b'n')],
        Own::Parse => vec![bare(b'1')],
        Own::Close => vec![bare(b'3')],
    }
}

proptest! {
    /// Whatever comes from both sides: no panic, nothing that runs without having been allowed, and no
    /// more answers taken than messages were sent.
    #[test]
    fn nothing_runs_unasked(moves in prop::collection::vec(prop_oneof![
        (0u8..10).prop_map(Move::Client), (0u8..12).prop_map(Move::Server), (0u8..6).prop_map(Move::Own)
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
                Move::Own(5) => machine.rules_changed(),
                Move::Own(which) => match which {
                    0 if machine.is_between_queries() => machine.ask_own(Own::Query),
                    1 if machine.is_idle() && !machine.is_skipping() => {
                        ask_own(&mut machine, &[Own::Parse, Own::Describe]);
                    }
                    2 if machine.is_idle() && !machine.is_skipping() => machine.ask_own(Own::Close),
                    3 if machine.may_sync() => machine.ask_own(Own::Sync),
                    4 if machine.must_close() => ask_own(&mut machine, &[Own::Close, Own::Sync]),
                    _ => {}
                },
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
                    // A transaction may fail at its end, whoever ends it.
                    let is_own = match machine.sent.front() {
                        Some(Sent::Own(own)) => *own != Own::Sync || bytes[0] != b'E',
                        _ => false,
                    };
                    match server(&mut machine, &bytes) {
                        // A notice is for the client, whatever is asked.
                        Ok(Turn::Pass) => prop_assert!(!is_own, "an answer of countersign's own reached the client"),
                        Ok(_) => {}
                        Err(_) => return Ok(()),
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

    /// With a server that answers what it was sent, in order: no answer of countersign's own reaches the
    /// client, none of the client's is kept, and both sides agree to the end.
    #[test]
    fn both_sides_agree_with_a_server_that_keeps_to_the_protocol(moves in prop::collection::vec(
        (0u8..9, any::<bool>(), 0u8..4), 0..120
    )) {
        let mut machine = Machine::new();
        // What the server has before it: of the client's its type, or countersign's own.
        let mut before: std::collections::VecDeque<Result<u8, Own>> = std::collections::VecDeque::new();
        let mut is_skipping = false;
        for (which, is_error, lag) in moves {
            let own: &[Own] = match which {
                5 if machine.is_idle() && !machine.is_skipping() => &[Own::Parse, Own::Describe],
                6 if machine.may_sync() => &[Own::Sync],
                7 if machine.must_close() => &[Own::Close, Own::Sync],
                8 if machine.is_between_queries() => &[Own::Query],
                _ => &[],
            };
            ask_own(&mut machine, own);
            before.extend(own.iter().map(|own| Err(*own)));
            if !machine.is_asking_own() && own.is_empty() {
                let bytes = match which {
                    0 => parse(b""),
                    1 => bind(b"", b""),
                    2 => execute(b""),
                    3 => query(),
                    _ => sync(),
                };
                let message = read(&bytes);
                match machine.client(&message).unwrap() {
                    Step::Send => before.push_back(Ok(bytes[0])),
                    Step::Ask(_) => {
                        machine.allow(&message, false);
                        before.push_back(Ok(bytes[0]));
                        if which == 1 && is_error {
                            ask_own(&mut machine, &[Own::Close]);
                            before.push_back(Err(Own::Close));
                        }
                    }
                    Step::Drop | Step::Wait | Step::End => {}
                }
            }
            while before.len() > usize::from(lag) {
                let next = before.pop_front().unwrap();
                if is_skipping && !matches!(next, Ok(b'S') | Err(Own::Sync)) {
                    // A Query is never sent behind an error without a Sync between: the client's own fault.
                    if next == Ok(b'Q') { return Ok(()); }
                    continue;
                }
                let fails = is_error && !matches!(next, Ok(b'S') | Err(Own::Sync | Own::Close));
                let answers = match next {
                    Err(own) => answer_of(own, fails),
                    Ok(b'Q') if fails => vec![error(), ready(Transaction::None)],
                    Ok(b'Q') => vec![done(), ready(Transaction::None)],
                    Ok(b'S') => vec![ready(Transaction::None)],
                    Ok(_) if fails => vec![error()],
                    Ok(b'P') => vec![bare(b'1')],
                    Ok(b'B') => vec![bare(b'2')],
                    Ok(_) => vec![done()],
                };
                is_skipping = fails && !matches!(next, Ok(b'Q') | Err(Own::Query));
                for answer in answers {
                    let turn = server(&mut machine, &answer);
                    prop_assert!(turn.is_ok(), "{next:?}: {turn:?}");
                    prop_assert_eq!(turn.unwrap() == Turn::Pass, next.is_ok(), "{:?}", next);
                }
            }
        }
    }
}
