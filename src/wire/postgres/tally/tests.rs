use bytes::BufMut;
use proptest::prelude::*;

use super::super::put_message;
use super::*;

/// What came out: the stream put together again, the messages handed out, the long ones announced.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    stream: Vec<u8>,
    messages: Vec<(u8, Vec<u8>)>,
    long: Vec<Header>,
    count: Count,
}

/// Feeds the slices; raises the limit by `step` rows each time it is reached.
fn feed(slices: &[&[u8]], wanted: Kinds, keep: usize, step: Option<u64>) -> Result<Seen, FrameError> {
    let mut tally = Tally::new(wanted, keep);
    let mut limit = step.unwrap_or(u64::MAX);
    tally.limit = step.map(|rows| Count { rows, bytes: u64::MAX }).unwrap_or(UNLIMITED);
    let mut seen = Seen::default();
    for slice in slices {
        let mut rest = *slice;
        loop {
            match tally.next(&mut rest)? {
                None => break,
                Some(Piece::Pass(bytes)) => {
                    assert!(!bytes.is_empty());
                    seen.stream.extend_from_slice(bytes);
                }
                Some(Piece::Message(frame)) => {
                    assert!(frame.raw.len() <= keep);
                    seen.stream.extend_from_slice(frame.raw);
                    seen.messages.push((frame.kind, frame.raw.to_vec()));
                }
                Some(Piece::Long(header)) => seen.long.push(header),
                Some(Piece::Full(_)) => {
                    assert!(tally.is_between_messages());
                    assert_eq!(tally.count().rows, limit);
                    limit += step.unwrap();
                    tally.limit = Count { rows: limit, bytes: u64::MAX };
                }
            }
        }
        assert!(rest.is_empty());
    }
    assert_eq!((tally.left, tally.kept.len()), (0, tally.spent));
    seen.count = tally.count();
    Ok(seen)
}

fn stream(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for (kind, body) in messages {
        put_message(&mut out, *kind, |out| out.put_slice(body));
    }
    out.to_vec()
}

const WANTED: Kinds = Kinds::of(b"CZEd");
const KEEP: usize = 20;

fn messages() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let kind = proptest::sample::select(&b"DDDdCZETc2n"[..]);
    proptest::collection::vec((kind, proptest::collection::vec(any::<u8>(), 0..32)), 0..24)
}

proptest! {
    #[test]
    fn any_splits_give_the_same(messages in messages(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
                                step in proptest::option::of(1_u64..4)) {
        let bytes = stream(&messages);
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        places.sort_unstable();
        let slices: Vec<_> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();

        let seen = feed(&slices, WANTED, KEEP, step).unwrap();
        prop_assert_eq!(&seen, &feed(&[&bytes], WANTED, KEEP, None).unwrap());
        prop_assert_eq!(&seen.stream, &bytes);
        let whole = |(kind, body): &(u8, Vec<u8>)| (*kind, stream(&[(*kind, body.clone())]));
        let wanted = messages.iter().filter(|(kind, body)| WANTED.has(*kind) && body.len() + 5 <= KEEP);
        prop_assert_eq!(&seen.messages, &wanted.map(whole).collect::<Vec<_>>());
        let long = messages.iter().filter(|(kind, body)| WANTED.has(*kind) && body.len() + 5 > KEEP);
        prop_assert_eq!(&seen.long, &long.map(|(kind, body)| Header { kind: *kind, len: body.len() + 5 }).collect::<Vec<_>>());
        let counted = messages.iter().filter(|(kind, _)| b"DdAENSV".contains(kind));
        let count = counted.fold(Count::default(), |sum, (kind, body)| {
            let rows = u64::from(b"Dd".contains(kind));
            Count { rows: sum.rows + rows, bytes: sum.bytes + body.len() as u64 }
        });
        prop_assert_eq!(seen.count, count);
    }

    #[test]
    fn any_bytes_are_taken_without_panic(slices in proptest::collection::vec(any::<Vec<u8>>(), 0..8)) {
        let mut tally = Tally::new(WANTED, KEEP);
        'stream: for slice in &slices {
            let mut rest = &slice[..];
            loop {
                match tally.next(&mut rest) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
        }
        prop_assert!(tally.kept.len() <= KEEP);
    }
}

#[test]
fn a_row_past_the_limit_waits() {
    let bytes = stream(&[(b'T', vec![1]), (b'D', vec![0; 10]), (b'D', vec![0; 10]), (b'C', vec![])]);
    let mut tally = Tally::new(Kinds::default(), KEEP);
    tally.restart(Some(Count { rows: 10, bytes: 19 }));
    let mut rest = &bytes[..];
    assert_eq!(tally.next(&mut rest), Ok(Some(Piece::Pass(&bytes[..21]))));
    assert_eq!(tally.next(&mut rest), Ok(Some(Piece::Full(Count { rows: 1, bytes: 10 }))));
    assert_eq!(tally.next(&mut rest), Ok(Some(Piece::Full(Count { rows: 1, bytes: 10 }))));
    assert_eq!((rest.len(), tally.count()), (20, Count { rows: 1, bytes: 10 }));
    assert!(tally.is_between_messages());
    tally.restart(Some(Count { rows: 10, bytes: 19 }));
    assert_eq!(tally.next(&mut rest), Ok(Some(Piece::Pass(&bytes[21..]))));
    assert_eq!(tally.next(&mut rest), Ok(None));
    assert_eq!(tally.count(), Count { rows: 1, bytes: 10 });
}

#[test]
fn what_no_server_sends_ends_it() {
    let mut tally = Tally::new(WANTED, KEEP);
    assert_eq!(tally.next(&mut &b"HTTP/1.1 400"[..]), Err(FrameError::Length { kind: b'H', length: 0x5454_502f }));
    assert_eq!(tally.next(&mut &b"Y\0\0\0\x04"[..]), Err(FrameError::Kind(b'Y')));
}

#[test]
fn other_types_can_be_asked_for_later() {
    let bytes = stream(&[(b'Z', vec![b'I'])]);
    let mut tally = Tally::new(Kinds::default(), KEEP);
    let mut rest = &bytes[..];
    assert!(matches!(tally.next(&mut rest), Ok(Some(Piece::Pass(_)))));
    tally.want(Kinds::of(b"Z"));
    let mut rest = &bytes[..3];
    assert_eq!(tally.next(&mut rest), Ok(None));
    assert!(tally.kept.len() > tally.spent && tally.is_between_messages());
    let mut rest = &bytes[3..];
    assert!(matches!(tally.next(&mut rest), Ok(Some(Piece::Message(frame))) if frame.raw == bytes));
}
