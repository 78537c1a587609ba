use std::collections::VecDeque;

use http_body_util::{BodyExt, Full};

use super::*;
use crate::digest::sha256;

/// A body that comes in these pieces; its length is announced when `exact` is set.
struct Pieces {
    left: VecDeque<&'static str>,
    exact: Option<u64>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.left.pop_front().map(|piece| match piece {
            "cut" => Err(BodyError::AgentCut),
            piece => Ok(Frame::data(Bytes::from_static(piece.as_bytes()))),
        }))
    }

    fn size_hint(&self) -> SizeHint {
        self.exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn hashed(
    pieces: &[&'static str],
    exact: Option<u64>,
    claimed: &str,
    bytes: Option<u64>,
) -> Result<Hashed<Pieces>, BodyError> {
    Hashed::new(Pieces { left: pieces.iter().copied().collect(), exact }, sha256(claimed.as_bytes()), bytes)
}

/// What came out, and whether it ended well.
async fn drained(mut body: Hashed<Pieces>) -> (String, Result<(), BodyError>) {
    let mut text = String::new();
    loop {
        match body.frame().await {
            None => return (text, Ok(())),
            Some(Err(error)) => return (text, Err(error)),
            Some(Ok(frame)) => text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap()),
        }
    }
}

#[tokio::test]
async fn what_was_claimed_passes() {
    for pieces in [&["hello world"][..], &["hello", " ", "world"], &["", "hello", "", " world", ""]] {
        for (exact, bytes) in [(None, None), (Some(11), None), (None, Some(11)), (Some(11), Some(11))] {
            let body = hashed(pieces, exact, "hello world", bytes).unwrap();
            assert_eq!(body.size_hint().exact(), exact.or(bytes));
            assert!(!body.is_end_stream());
            let (text, end) = drained(body).await;
            assert_eq!(text, "hello world");
            end.unwrap();
        }
    }
    let (text, end) = drained(hashed(&[], Some(0), "", None).unwrap()).await;
    assert_eq!(text, "");
    end.unwrap();
}

#[tokio::test]
async fn anything_else_never_passes_whole() {
    for (name, pieces, claimed, bytes, passed) in [
        ("other hash", &["hello", " world"][..], "hello there", None, "hello"),
        ("other hash in one piece", &["hello world"], "hello there", None, ""),
        ("too short", &["hello"], "hello", Some(6), ""),
        ("too long", &["hello", "!"], "hello", Some(5), ""),
        ("cut", &["hello", " ", "cut"], "hello ", None, "hello"),
        ("empty, without announced length", &[], "hello", None, ""),
    ] {
        let (text, end) = drained(hashed(pieces, None, claimed, bytes).unwrap()).await;
        assert_eq!(text, passed, "{name}");
        end.unwrap_err();
    }
}

#[test]
fn contradictions_are_found_before_the_first_byte() {
    assert!(matches!(hashed(&[], Some(0), "hello", None), Err(BodyError::HashDiffers)));
    assert!(matches!(hashed(&[], None, "hello", Some(0)), Err(BodyError::HashDiffers)));
    assert!(matches!(hashed(&[], Some(5), "hello", Some(6)), Err(BodyError::LengthDiffers)));
}

#[tokio::test]
async fn trailer_fields_are_dropped() {
    let with_trailers = Full::new(Bytes::from_static(b"x"))
        .with_trailers(async { Some(Ok(http::HeaderMap::new())) })
        .map_err(|_| BodyError::AgentCut);
    let body = Hashed::new(Box::pin(with_trailers), sha256(b"x"), None).unwrap();
    let collected = body.collect().await.unwrap();
    assert!(collected.trailers().is_none());
    assert_eq!(collected.to_bytes(), "x");
}
