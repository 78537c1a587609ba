//! The chain of events against that of AWS's own crate.

use aws_credential_types::Credentials;
use aws_sigv4::event_stream::{SigningParams, sign_empty_message, sign_message};
use aws_sigv4::sign::v4;
use aws_smithy_types::event_stream::Message;
use proptest::prelude::*;

use super::*;
use crate::wire::aws::events::date_field;

const SEED: &str = "01481fbd6cbf1e2a6e3b5f4e2f3c7f4e6d5c4b3a29181706f5e4d3c2b1a09f8e";

/// The payload and the signature of each event, as the crate makes them at these moments.
fn foreign(events: &[(Option<&str>, i64)]) -> Vec<(Vec<u8>, String)> {
    let identity = Credentials::new(KEY_ID, SECRET, None, None, "tests").into();
    let mut before = SEED.to_owned();
    let signed = events.iter().map(|(text, micros)| {
        let parameters: SigningParams<'_> = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("transcribe")
            .time(std::time::UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs()))
            .settings(())
            .build()
            .unwrap();
        let signed = match text {
            Some(text) => sign_message(&Message::new((*text).to_owned()), &before, &parameters),
            None => sign_empty_message(&before, &parameters),
        };
        let (message, signature) = signed.unwrap().into_parts();
        before.clone_from(&signature);
        (message.payload().to_vec(), signature)
    });
    signed.collect()
}

fn chain() -> EventChain {
    let scope = ScopeRef { date: "20261120", region: "us-east-1", service: "transcribe" };
    EventChain::new(&Arc::new(key()), scope, SEED)
}

#[test]
fn events_are_signed_as_the_foreign_signer_signs_them() {
    // The last two are of the next day.
    let times = [now(), now().plus(Duration::from_secs(1)), now().plus(Duration::from_secs(50_000))];
    let events = [(Some("one"), times[0]), (Some(""), times[1]), (Some("three"), times[2]), (None, times[2])];
    let (mut signing, mut checking) = (chain(), chain());
    let expected = foreign(&events.map(|(text, at)| (text, at.as_micros())));
    for ((_, at), (payload, signature)) in events.iter().zip(expected) {
        let (date, hash) = (sha256(&date_field(*at)), sha256(&payload));
        let made = signing.sign(*at, date, hash);
        assert_eq!(crate::digest::hex(&made), signature);
        assert_eq!(checking.check(*at, date, hash, made), Ok(()));
    }
}

proptest! {
    #[test]
    fn no_other_event_passes(bit in 0usize..256, what in 0usize..3) {
        let (date, hash) = (sha256(&date_field(now())), sha256(b"payload"));
        let mut signature = chain().sign(now(), date, hash);
        let mut checking = chain();
        let (mut at, mut hash) = (now(), hash);
        match what {
            0 => signature[bit / 8] ^= 1 << (bit % 8),
            1 => hash = sha256(&bit.to_be_bytes()),
            _ => at = at.plus(Duration::from_secs(1 + bit as u64)),
        }
        prop_assert_eq!(checking.check(at, sha256(&date_field(at)), hash, signature), Err(SigError::SignatureDiffers));
    }
}
