//! Clients that mean no good, and those that leave.

use super::*;

/// What a door without TLS answers, up to its end, to these bytes; and what it made of them.
async fn answer_of(door: Door, bytes: &[u8]) -> (Vec<u8>, Result<Arrival<DuplexStream>, LoginError>) {
    let (mut client, opened) = arrive(door);
    client.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    (answer, opened.await.unwrap())
}

fn is_refused(answer: &[u8], code: &str) -> bool {
    let end = [b"SFATAL\0VFATAL\0C", code.as_bytes(), b"\0"].concat();
    answer.windows(end.len()).any(|it| it == end)
}

fn built(build: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    build(&mut out);
    out
}

#[tokio::test]
async fn bytes_behind_a_request_for_tls_are_refused() {
    let mut bytes = built(ssl_request);
    startup::startup(&mut bytes, Version::V3_0, [(&b"user"[..], &b"etl"[..])]);
    let place = Place::new();
    for door in [place.plain(), place.with_tls()] {
        let (answer, opened) = answer_of(door, &bytes).await;
        assert!(is_refused(&answer, "08P01"), "{answer:?}");
        assert!(opened.unwrap_err().to_string().contains("unencrypted data"));
    }
}

#[tokio::test]
async fn packets_that_are_none_are_refused() {
    let place = Place::new();
    let (answer, opened) = answer_of(place.plain(), &[0, 0, 0x27, 0x11]).await;
    assert!(is_refused(&answer, "08P01"), "{answer:?}");
    assert!(opened.unwrap_err().refusal(IpAddr::from([127, 0, 0, 1])).is_some());
    let (answer, _) = answer_of(place.plain(), &[0, 0, 0, 7]).await;
    assert!(is_refused(&answer, "08P01"), "{answer:?}");
    // What an HTTP client says first.
    let (answer, _) = answer_of(place.plain(), b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(is_refused(&answer, "08P01"), "{answer:?}");
}

#[tokio::test]
async fn encryption_is_settled_once() {
    let place = Place::new();
    let (mut client, opened) = arrive(place.plain());
    let request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
    client.write_all(&request).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    client.write_all(&built(ssl_request)).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    client.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(is_refused(&answer, "08P01"));
    assert!(opened.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_handed_out() {
    let bytes = built(|out| cancel_request(out, 77, &[3; 32]));
    let (mut client, opened) = arrive(Place::new().plain());
    client.write_all(&bytes).await.unwrap();
    let Ok(Arrival::Cancel(cancel)) = opened.await.unwrap() else { panic!() };
    assert_eq!((cancel.process_id, cancel.key.as_slice()), (77, &[3; 32][..]));
    // It ends when the wish was passed on, and not before.
    assert!(tokio::time::timeout(Duration::from_millis(20), client.read_u8()).await.is_err());
    cancel.close().await;
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn whoever_must_come_with_tls_and_does_not_is_refused() {
    let door = Place::new().door(Offer::Required);
    let bytes = built(|out| startup::startup(out, Version::V3_0, [(&b"user"[..], &b"etl"[..])]));
    let (answer, _) = answer_of(door, &bytes).await;
    assert!(is_refused(&answer, "28000"));
    let (answer, opened) = answer_of(Place::new().plain(), &[0x16, 3, 1, 0, 0]).await;
    assert!(answer.is_empty() && matches!(opened, Err(LoginError::Tls(_))));
}

#[tokio::test]
async fn another_message_in_place_of_a_password_is_refused() {
    for message in [&b"Q\0\0\0\x05\0"[..], b"p\0\0\0\x0aPLAIN\0", b"p\0\x01\0\0", b"\xff\0\0\0\x04"] {
        let mut bytes = built(|out| startup::startup(out, Version::V3_0, [(&b"user"[..], &b"etl"[..])]));
        bytes.extend_from_slice(message);
        let (answer, opened) = answer_of(Place::new().plain(), &bytes).await;
        assert!(is_refused(&answer, "08P01"), "{message:?}: {answer:?}");
        assert!(opened.is_err());
    }
}

#[tokio::test]
async fn one_who_leaves_is_no_event() {
    let place = Place::new();
    for bytes in [&b""[..], &[0, 0], &built(|out| startup::startup(out, Version::V3_0, [(&b"user"[..], &b"etl"[..])]))]
    {
        let (mut client, opened) = arrive(place.plain());
        client.write_all(bytes).await.unwrap();
        drop(client);
        let error = opened.await.unwrap().unwrap_err();
        assert!(error.refusal(IpAddr::from([127, 0, 0, 1])).is_none(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_dawdles_is_left() {
    let (mut client, opened) = arrive(Place::new().plain());
    client.write_all(&[0, 0]).await.unwrap();
    assert!(matches!(opened.await.unwrap(), Err(LoginError::TooSlow)));
}
