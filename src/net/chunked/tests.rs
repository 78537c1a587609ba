use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};

use super::*;
use crate::secret::Secret;
use crate::wire::sigv4::{Key, ScopeRef};

/// The examples of the S3 API reference: "Transferring payload in multiple chunks" and the one with a trailer.
fn chain(seed: &str) -> Chain {
    let key = Key::new("AKIAIOSFODNN7EXAMPLE", Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), None, None);
    let scope = ScopeRef { date: "20130524", region: "us-east-1", service: "s3" };
    Chain::new(&key, "20130524T000000Z", scope, seed)
}

const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
const SIGNATURES: [&str; 3] = [
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
];
const TRAILED_SEED: &str = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
const TRAILED: [&str; 4] = [
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
];

fn body(signatures: &[&str]) -> Vec<u8> {
    let mut text = String::new();
    for (size, signature) in [65_536, 1024].into_iter().zip(signatures) {
        text += &format!("{size:x};chunk-signature={signature}\r\n{}\r\n", "a".repeat(size));
    }
    text += &format!("0;chunk-signature={}\r\n", signatures[2]);
    match signatures.get(3) {
        Some(it) => text += &format!("x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:{it}\r\n\r\n"),
        None => text += "\r\n",
    }
    text.into_bytes()
}

fn arriving(bytes: &[u8]) -> impl Body<Data = Bytes, Error = BodyError> + Unpin + use<> {
    let pieces: Vec<_> = bytes.chunks(1000).map(|it| Ok(Frame::data(Bytes::copy_from_slice(it)))).collect();
    StreamBody::new(stream::iter(pieces))
}

/// What came out, and how it ended.
async fn drained<B>(mut body: Chunked<B>) -> (Vec<u8>, Result<(), BodyError>)
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    let mut out = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => out.extend_from_slice(&frame.into_data().unwrap()),
            Err(error) => return (out, Err(error)),
        }
    }
    (out, Ok(()))
}

const DECODED: u64 = 65_536 + 1024;

#[tokio::test]
async fn the_documented_examples_hold_and_are_signed_anew() {
    let blank = std::str::from_utf8(&BLANK).unwrap();
    for (seed, signatures, blanks) in
        [(SEED, &SIGNATURES[..], &[blank; 3][..]), (TRAILED_SEED, &TRAILED[..], &[blank; 4][..])]
    {
        let has_trailer = signatures.len() == 4;
        let checked = Chunked::checked(arriving(&body(signatures)), chain(seed), has_trailer, DECODED);
        let (out, end) = drained(checked).await;
        assert!(end.is_ok(), "{end:?}");
        assert_eq!(out, body(blanks), "no signature of an agent goes on");
        let (out, end) = drained(Chunked::signed(arriving(&out), chain(seed), has_trailer)).await;
        assert!(end.is_ok() && out == body(signatures));
    }
}

#[tokio::test]
async fn nothing_passes_that_was_not_signed() {
    let whole = body(&TRAILED);
    let first = whole.iter().position(|it| *it == b'a').unwrap() + 100;
    let second = 65_536 + 200;
    let trailer = whole.len() - 100;
    let last = whole.len() - 5;
    for (place, passed) in [(first, 0), (second, 1), (trailer, 3), (last, 3)] {
        let mut bent = whole.clone();
        bent[place] = if bent[place] == b'b' { b'c' } else { b'b' };
        let (out, end) = drained(Chunked::checked(arriving(&bent), chain(TRAILED_SEED), true, DECODED)).await;
        assert!(matches!(end, Err(BodyError::ChunkSignature | BodyError::Chunks(_))), "{place}: {end:?}");
        let chunks = out.windows(16).filter(|it| it == b"chunk-signature=").count();
        assert_eq!(chunks, passed, "{place}");
    }
    // Cut at a chunk's border, with more data than was said, with less, and in another order.
    let cut = &whole[..whole.len() - 400];
    assert!(drained(Chunked::checked(arriving(cut), chain(TRAILED_SEED), true, DECODED)).await.1.is_err());
    for decoded in [DECODED - 1, DECODED + 1] {
        let (out, end) = drained(Chunked::checked(arriving(&whole), chain(TRAILED_SEED), true, decoded)).await;
        assert!(matches!(end, Err(BodyError::LengthDiffers)) && out.len() < whole.len());
    }
    let end = drained(Chunked::checked(arriving(&whole), chain(SEED), true, DECODED)).await.1;
    assert!(matches!(end, Err(BodyError::ChunkSignature)), "it belongs to its own head");
}
