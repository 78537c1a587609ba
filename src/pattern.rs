//! Globs over action names, resource names and other text: `*` is any run of characters (also
//! none, also `:` and `/`), `?` is any one character; everything else is itself.

use std::fmt;

/// A compiled glob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Glob {
    text: Box<str>,
}

impl Glob {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.into() }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The text itself when the glob has no wildcard.
    pub(crate) fn literal(&self) -> Option<&str> {
        (!self.text.contains(['*', '?'])).then_some(&*self.text)
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        matches(self.text.as_bytes(), text.as_bytes(), |a, b| a == b)
    }

    /// Like [`Glob::matches`], but ASCII letters match in either case.
    pub(crate) fn matches_any_case(&self, text: &str) -> bool {
        matches(self.text.as_bytes(), text.as_bytes(), |a, b| a.eq_ignore_ascii_case(&b))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Linear in practice, at worst `pattern × text`: on a mismatch only the last `*` is reconsidered,
/// since an earlier one can gain nothing that the last one cannot. `?` takes one byte of ASCII or
/// one whole UTF-8 character.
fn matches(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                t += 1;
                while text.get(t).is_some_and(|b| b & 0xc0 == 0x80) {
                    t += 1;
                }
            }
            Some(&wanted) if same(wanted, byte) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    star = Some((star_p, star_t + 1));
                    p = star_p + 1;
                    t = star_t + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_text() {
        for (glob, text, expected) in [
            ("aws:iam:*", "aws:iam:CreateUser", true),
            ("aws:iam:*", "aws:iamx:CreateUser", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("*a*b", "xaxbxab", true),
            ("arn:aws:s3:::prod-*/*", "arn:aws:s3:::prod-x/k", true),
            ("a*b*c", "aXbX", false),
            ("***", "abc", true),
            ("aws:*:Delete*", "aws:s3:DeleteBucket", true),
        ] {
            assert_eq!(Glob::new(glob).matches(text), expected, "{glob} on {text}");
            assert_eq!(Glob::new(glob).matches_any_case(&text.to_uppercase()), expected, "{glob} on {text}");
        }
        assert!(!Glob::new("PROD-*").matches("prod-db"));
    }
}
