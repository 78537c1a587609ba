//! Typed identifiers, and the only source of randomness.

use std::fmt;
use std::sync::Arc;

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
        Self::new(format!("a_{}", fresh_ulid(now.into())))
    }
}

impl HoldId {
    /// A new id; `now` is a timestamp or microseconds since the epoch.
    pub(crate) fn fresh(now: impl Into<i64>) -> Self {
        Self::new(format!("h_{}", fresh_ulid(now.into())))
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

fn fresh_ulid(micros: i64) -> String {
    let millis = u64::try_from(micros / 1000).unwrap_or(0);
    // An id need only be unique, never secret; should the generator fail, the counter keeps ids apart.
    let random = match random_bytes::<16>() {
        Ok(bytes) => u128::from_be_bytes(bytes),
        Err(RandomError) => u128::from(FALLBACK.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
    };
    ulid::Ulid::from_parts(millis, random & ((1 << 80) - 1)).to_string().to_ascii_lowercase()
}

static FALLBACK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
