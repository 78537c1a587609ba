use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::*;

const SALT: [u8; 16] = [7; 16];
const END_POINT: &[u8] = &[1; 32];
const NONCE: &str = "servernonce";

fn secret() -> Secret {
    Secret::new("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGH")
}

/// A whole exchange with the client of postgres-protocol.
fn exchange(
    mechanism: &str,
    password: &[u8],
    binding: ChannelBinding,
    end_point: Option<&[u8]>,
) -> Result<(), ScramError> {
    let mut client = ScramSha256::new(password, binding);
    let (server, first) = Exchange::begin(mechanism.as_bytes(), client.message(), end_point, SALT, NONCE)?;
    client.update(first.as_bytes()).unwrap();
    let last = server.finish(client.message(), &secret())?;
    client.finish(last.as_bytes()).unwrap();
    Ok(())
}

#[test]
fn another_implementation_of_the_client_is_let_in() {
    let password = secret().expose().as_bytes().to_vec();
    assert_eq!(exchange(PLAIN, &password, ChannelBinding::unsupported(), None), Ok(()));
    assert_eq!(exchange(PLAIN, &password, ChannelBinding::unsupported(), Some(END_POINT)), Ok(()));
    assert_eq!(exchange(PLAIN, &password, ChannelBinding::unrequested(), None), Ok(()));
    let bound = ChannelBinding::tls_server_end_point(END_POINT.to_vec());
    assert_eq!(exchange(PLUS, &password, bound, Some(END_POINT)), Ok(()));
}

#[test]
fn a_wrong_password_is_refused() {
    assert_eq!(exchange(PLAIN, b"wrong", ChannelBinding::unsupported(), None), Err(ScramError::Proof));
}

#[test]
fn somebody_in_between_is_found() {
    let password = secret().expose().as_bytes().to_vec();
    let bound = || ChannelBinding::tls_server_end_point(vec![2; 32]);
    assert_eq!(exchange(PLUS, &password, bound(), Some(END_POINT)), Err(ScramError::Binding));
    // It took PLUS out of the offer.
    let downgraded = exchange(PLAIN, &password, ChannelBinding::unrequested(), Some(END_POINT));
    assert_eq!(downgraded, Err(ScramError::Downgrade));
    // It put PLUS into an offer without.
    assert_eq!(exchange(PLUS, &password, bound(), None), Err(ScramError::Mechanism));
}

/// The exchange of RFC 7677, section 3, with its salt, nonces and messages.
#[test]
fn the_example_of_the_standard_holds() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let (server, answer) =
        Exchange::begin(PLAIN.as_bytes(), first, None, salt, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
    assert_eq!(answer, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let last =
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let answer = server.finish(last, &Secret::new("pencil")).unwrap();
    assert_eq!(answer, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn first_messages_that_cannot_be_meant_are_refused() {
    let begin = |mechanism: &str, text: &str, end_point| {
        Exchange::begin(mechanism.as_bytes(), text.as_bytes(), end_point, SALT, NONCE).map(|_| ()).unwrap_err()
    };
    let malformed = |mechanism: &str, text: &str| {
        let error = begin(mechanism, text, Some(END_POINT));
        assert!(matches!(error, ScramError::Malformed(_) | ScramError::Unsupported(_)), "{text}: {error}");
    };
    malformed(PLAIN, "");
    malformed(PLAIN, "n,");
    malformed(PLAIN, "n,,");
    malformed(PLAIN, "n,,n=,r=");
    malformed(PLAIN, "n,,n=,r=a b");
    malformed(PLAIN, "n,,r=abc,n=");
    malformed(PLAIN, "n,a=admin,n=,r=abc");
    malformed(PLAIN, "n,,m=x,n=,r=abc");
    malformed(PLAIN, "x,,n=,r=abc");
    malformed(PLAIN, "p=tls-server-end-point,,n=,r=abc");
    malformed(PLUS, "p=tls-unique,,n=,r=abc");
    malformed(PLUS, "n,,n=,r=abc");
    malformed(PLUS, "y,,n=,r=abc");
    malformed(PLAIN, &format!("n,,n=,r={}", "a".repeat(MESSAGE_LIMIT)));
    assert_eq!(begin("PLAIN", "n,,n=,r=abc", None), ScramError::Mechanism);
    assert_eq!(offered(true), [PLUS, PLAIN]);
    assert_eq!(offered(false), [PLAIN]);
}

#[test]
fn last_messages_of_another_exchange_are_refused() {
    let finish = |text: &str| {
        let (server, _) = Exchange::begin(PLAIN.as_bytes(), b"n,,n=,r=abc", None, SALT, NONCE).unwrap();
        server.finish(text.as_bytes(), &secret()).unwrap_err()
    };
    let proof = STANDARD.encode([0; 32]);
    assert_eq!(finish(&format!("c=biws,r=abcservernonce,p={proof}")), ScramError::Proof);
    assert_eq!(finish(&format!("c=biws,r=abcservernonce,x=ext,p={proof}")), ScramError::Proof);
    assert_eq!(finish(&format!("c=biws,r=abcother,p={proof}")), ScramError::Nonce);
    assert_eq!(finish(&format!("c=biws,r=abc,p={proof}")), ScramError::Nonce);
    assert_eq!(finish(&format!("c=eSws,r=abcservernonce,p={proof}")), ScramError::Binding);
    for text in [
        "",
        "c=biws,r=abcservernonce",
        "c=!,r=abcservernonce,p=",
        "c=biws,r=abcservernonce,p=AAAA",
        "r=abcservernonce,p=",
    ] {
        assert!(matches!(finish(text), ScramError::Malformed(_)), "{text}");
    }
}
