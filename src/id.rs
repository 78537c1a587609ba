//! Typed identifiers, and the only source of randomness.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// An identifier that is text with one meaning; cheap to clone, compares by its text.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $name(Arc<str>);

        impl $name {
            pub(crate) fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// One request from arrival to outcome: `a_` and a ULID. Joins its records in the log.
    ActionId
}
text_id! {
    /// One suspended request: `h_` and a ULID.
    HoldId
}
text_id! {
    /// An agent, as named by `countersign agent add`.
    AgentId
}
text_id! {
    /// A person of the configuration.
    PersonId
}
text_id! {
    /// A group of persons.
    GroupId
}
text_id! {
    /// A rule, unique in its rule set.
    RuleId
}

impl ActionId {
    /// A new id; `now` is a timestamp or microseconds since the epoch.
    pub(crate) fn fresh(now: impl Into<i64>) -> Self {
        Self::new(fresh("a_", now.into()))
    }
}

impl HoldId {
    /// A new id; `now` is a timestamp or microseconds since the epoch.
    pub(crate) fn fresh(now: impl Into<i64>) -> Self {
        Self::new(fresh("h_", now.into()))
    }
}

/// True for names an operator may give to agents, persons, groups and rules: 1 to 64 characters
/// of `A-Z a-z 0-9 . _ @ + -`, starting with a letter or digit. Nothing else can then be smuggled
/// into a card, a log line or a header by a name.
pub(crate) fn is_plain_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._@+-".contains(c))
}

/// `N` bytes from the operating system's generator.
///
/// # Errors
/// When the operating system gives none; there is nothing safe to do then but stop.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(bytes)
}

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system's random generator failed")]
pub(crate) struct RandomError;

fn fresh(prefix: &str, micros: i64) -> String {
    let millis = u64::try_from(micros / 1000).unwrap_or(0);
    let mut digits = [0; ulid::ULID_LEN];
    let ulid: &mut str = ulid::Ulid::from_parts(millis, random_for_id()).array_to_str(&mut digits);
    ulid.make_ascii_lowercase();
    let mut text = String::with_capacity(prefix.len() + ulid.len());
    text.push_str(prefix);
    text.push_str(ulid);
    text
}

/// 80 random bits that were never given before. An id need only be unique, never secret: so they
/// are drawn for many ids at once, and should the generator fail, a counter keeps ids apart.
fn random_for_id() -> u128 {
    let drawn = UNUSED.with_borrow_mut(|unused| {
        if unused.is_empty() {
            let bytes = random_bytes::<{ 16 * IDS_AT_ONCE }>().ok()?;
            unused.extend(bytes.as_chunks().0.iter().map(|bytes| u128::from_be_bytes(*bytes) >> 48));
        }
        unused.pop()
    });
    drawn.unwrap_or_else(|| u128::from(FALLBACK.fetch_add(1, Ordering::Relaxed)))
}

/// A call to the generator costs much more than the bytes it gives.
const IDS_AT_ONCE: usize = 32;

thread_local! {
    static UNUSED: RefCell<Vec<u128>> = const { RefCell::new(Vec::new()) };
}

static FALLBACK: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn fresh_ids_differ_and_carry_their_moment() {
        let micros = 1_795_173_955_000_000;
        let ids: HashSet<_> = (0..IDS_AT_ONCE * 3).map(|_| ActionId::fresh(micros)).collect();
        assert_eq!(ids.len(), IDS_AT_ONCE * 3);
        for id in ids {
            let text = id.as_str().strip_prefix("a_").unwrap();
            assert_eq!(text, text.to_ascii_lowercase());
            let ulid: ulid::Ulid = text.parse().unwrap();
            assert_eq!(i64::try_from(ulid.timestamp_ms()).unwrap(), micros / 1000);
        }
        assert!(HoldId::fresh(0).as_str().starts_with("h_0000000000"));
    }
}
