use proptest::prelude::*;

use super::*;

/// Reads a whole stream that arrives in these pieces; gives the requests' lengths and the refusal.
fn cut(pieces: &[&[u8]]) -> (Vec<usize>, Option<Refusal>) {
    let (mut framing, mut kept, mut at) = (Framing::Head(HeadScan::default()), Vec::new(), 0);
    let mut ends = Vec::new();
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let passed = match &mut framing {
                Framing::Head(scan) => match scan.scan(&kept) {
                    Err(refusal) => return (ends, Some(refusal)),
                    Ok(None) => 0,
                    Ok(Some(end)) => {
                        framing = end.then;
                        end.len
                    }
                },
                body => match body.follow(&kept) {
                    Err(refusal) => return (ends, Some(refusal)),
                    Ok(passed) => passed,
                },
            };
            at += passed;
            kept.drain(..passed);
            let is_whole = matches!(framing, Framing::Whole);
            if is_whole {
                ends.push(at);
                framing = Framing::Head(HeadScan::default());
            }
            if kept.is_empty() || (passed == 0 && !is_whole) {
                break;
            }
        }
    }
    (ends, None)
}

const STREAM: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n\
    POST /b HTTP/1.1\r\nhost:a\r\ncontent-length: 3\r\n\r\nGET\
    PUT http://a:1/c HTTP/1.1\r\nX: \u{20ac}\r\nHOST: \t a:1 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\r\n\r\n0A\r\n0123456789\r\n0\r\n\r\n\
    DELETE /d HTTP/1.0\r\nHost: [::1]:80\r\nConnection: Keep-Alive\r\nExpect: 100-Continue\r\n\r\n";

#[test]
fn requests_end_where_they_end_however_they_arrive() {
    let whole = cut(&[STREAM.as_bytes()]);
    assert_eq!(whole.0.len(), 4);
    assert_eq!((whole.0.last(), whole.1), (Some(&STREAM.len()), None));
    for at in 0..STREAM.len() {
        let (left, right) = STREAM.as_bytes().split_at(at);
        assert_eq!(cut(&[left, right]), whole, "split at {at}");
    }
    let bytes: Vec<_> = STREAM.as_bytes().chunks(1).collect();
    assert_eq!(cut(&bytes), whole);
}

/// What passes is read by httparse, which hyper uses, in the same way.
fn agrees_with_httparse(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut scan = HeadScan::default();
    let Ok(Some(end)) = scan.scan(bytes) else { return Ok(()) };
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(bytes);
    prop_assert_eq!(parsed, Ok(httparse::Status::Complete(end.len)));
    prop_assert_eq!(request.headers.len(), scan.fields);
    prop_assert_eq!(request.version, Some(u8::from(end.is_http11)));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// One to three bytes of a good stream are changed, dropped or doubled, and it arrives in any pieces.
    #[test]
    fn changed_bytes_have_one_reading(
        edits in prop::collection::vec((0..STREAM.len(), 0..3, prop::sample::select(&b"\r\n\t \0:;,_+x01aA\x0b\x7f\xff"[..])), 1..4),
        splits in prop::collection::vec(0..STREAM.len(), 0..5),
    ) {
        let mut bytes = STREAM.as_bytes().to_vec();
        for (at, kind, byte) in edits {
            let at = at.min(bytes.len() - 1);
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        let whole = cut(&[&bytes]);
        let mut splits: Vec<_> = splits.into_iter().map(|at| at.min(bytes.len())).collect();
        splits.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for at in splits {
            pieces.push(&bytes[from..at]);
            from = at;
        }
        pieces.push(&bytes[from..]);
        prop_assert_eq!(cut(&pieces), whole.clone());
        let mut from = 0;
        for end in whole.0 {
            agrees_with_httparse(&bytes[from..])?;
            from = end;
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
        let (ends, refusal) = cut(&[&bytes]);
        prop_assert!(ends.is_empty());
        prop_assert!(refusal.is_some() || bytes.is_empty() || bytes[0].is_ascii_uppercase());
        let mut scan = ChunkScan::default();
        if let Ok(passed) = scan.follow(&bytes) {
            prop_assert!(passed <= bytes.len());
        }
    }
}
