use postgres_protocol::message::frontend as peer;
use proptest::prelude::*;

use super::*;

fn built(build: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    build(&mut out);
    out
}

const PARAMETERS: [(&str, &str); 2] = [("user", "AKCS"), ("application_name", "")];

#[test]
fn what_drivers_open_with_is_read() {
    let bytes = built(|out| peer::startup_message(PARAMETERS, out).unwrap());
    let Packet::Startup(startup) = Packet::read(&bytes).unwrap() else { panic!() };
    assert_eq!(startup.version, Version::V3_0);
    let read: Vec<_> = startup.parameters().collect();
    assert_eq!(read, PARAMETERS.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    assert_eq!(Packet::read(&built(peer::ssl_request)), Ok(Packet::Ssl));
    let bytes = built(|out| peer::cancel_request(5, 0x0102_0304, out));
    assert_eq!(Packet::read(&bytes), Ok(Packet::Cancel(Cancel { process_id: 5, key: &[1, 2, 3, 4] })));
}

#[test]
fn what_is_built_is_what_drivers_build() {
    let ours = built(|out| {
        startup(out, Version::V3_0, PARAMETERS.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    });
    assert_eq!(ours, built(|out| peer::startup_message(PARAMETERS, out).unwrap()));
    let ours = built(|out| cancel_request(out, 5, &[1, 2, 3, 4]));
    assert_eq!(ours, built(|out| peer::cancel_request(5, 0x0102_0304, out)));
    assert_eq!(built(ssl_request), built(peer::ssl_request));
}

#[test]
fn malformed_packets_are_refused() {
    assert_eq!(packet_len([0, 0, 0, 7]), Err(StartupError::Length(7)));
    assert_eq!(packet_len([0, 0, 0x27, 0x11]), Err(StartupError::Length(10_001)));
    assert_eq!(packet_len([0, 0, 0x27, 0x10]), Ok(10_000));
    let bodies: [&[u8]; 8] = [
        // The length of another packet.
        b"\0\0\0\x0a\0\x03\0\0\0",
        // No end, a name without value, bytes after the end.
        b"\0\0\0\x08\0\x03\0\0",
        b"\0\0\0\x0f\0\x03\0\0user\0a\0",
        b"\0\0\0\x0e\0\x03\0\0user\0\0",
        b"\0\0\0\x0a\0\x03\0\0\0\0",
        b"\0\0\0\x09\x04\xd2\x16\x2f\0",
        b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\x01",
        b"\0\0\0\x0f\x04\xd2\x16\x2e\0\0\0\x01\0\0\0",
    ];
    for body in bodies {
        assert!(Packet::read(body).is_err(), "{body:?}");
    }
    // Version 2 has another layout; that it is version 2 is what matters.
    assert!(matches!(Packet::read(b"\0\0\0\x09\0\x02\0\0x"), Ok(Packet::Startup(it)) if it.version.major() == 2));
}

#[test]
fn versions_are_ordered_and_spelled() {
    assert!(Version::V3_0 < Version::V3_2 && Version::V3_2 < Version::new(3, 9999));
    assert_eq!((Version::V3_2.to_string().as_str(), Version::V3_2.code()), ("3.2", 196_610));
}

proptest! {
    #[test]
    fn any_packet_is_read_without_panic(code in prop_oneof![Just(196_608_u32), Just(80_877_102), any::<u32>()],
                                        body in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..64)) {
        let bytes = built(|out| put_counted(out, |out| {
            out.put_u32(code);
            out.put_slice(&body);
        }));
        if let Ok(Packet::Startup(startup)) = Packet::read(&bytes) {
            let again = built(|out| super::startup(out, startup.version, startup.parameters()));
            if startup.version.major() == 3 {
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
