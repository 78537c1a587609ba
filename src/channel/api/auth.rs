//! Bearer tokens, and a brake on guessing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use http::{HeaderMap, header};

use crate::time::Timestamp;

/// The token of exactly one well-formed `Authorization: Bearer …` field.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, token) = field.to_str().ok()?.split_once(' ')?;
    let is_token = !token.is_empty() && token.len() <= 512 && token.bytes().all(|b| b.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then_some(token)
}

/// Failed authentications by peer in the running minute. It only changes what a failed request is
/// told: a valid token always passes, or one could lock people out from their own address.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    minute: i64,
    by_peer: HashMap<IpAddr, u32>,
}

impl Failures {
    /// Counts one failure; true when the peer has used up this minute's.
    pub(super) fn count(&self, peer: IpAddr, now: Timestamp) -> bool {
        let mut window = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let minute = now.as_seconds().div_euclid(60);
        if window.minute != minute || window.by_peer.len() >= PEERS_LIMIT {
            *window = Window { minute, by_peer: HashMap::new() };
        }
        let failures = window.by_peer.entry(peer).or_default();
        *failures = failures.saturating_add(1);
        *failures > FAILURES_PER_MINUTE
    }
}

const FAILURES_PER_MINUTE: u32 = 20;
/// Peers remembered at most; beyond it counting starts anew.
const PEERS_LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_token_is_read_strictly() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer_token(&headers).map(str::to_owned)
        };
        assert_eq!(read(&["Bearer abc"]), Some("abc".to_owned()));
        assert_eq!(read(&["bearer abc"]), Some("abc".to_owned()));
        for bad in [&[][..], &["Bearer"], &["Bearer "], &["Bearer a b"], &["Basic abc"], &["Bearer a", "Bearer a"]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn failures_are_counted_by_peer_and_minute() {
        let failures = Failures::default();
        let [peer, other] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let now = Timestamp::from_micros(0);
        for _ in 0..FAILURES_PER_MINUTE {
            assert!(!failures.count(peer, now));
        }
        assert!(failures.count(peer, now));
        assert!(!failures.count(other, now));
        assert!(!failures.count(peer, Timestamp::from_micros(60_000_000)));
    }
}
