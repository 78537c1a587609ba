//! What a client asks for in its startup packet.

/// Names and values as they came: neither need be UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<(Vec<u8>, Vec<u8>)>);

impl Parameters {
    pub(crate) fn new<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
    }

    /// The value of a parameter. The server lets the last one of a name win.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.iter().rev().find(|(it, _)| it == name).map(|(_, value)| value.as_slice())
    }

    /// As text; what is no UTF-8 in it is replaced.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Names and values in the order given.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// The name of a setting that a session must not begin with: what it would change (`role`, above all)
    /// is judged as a statement, and nothing judges a login's parameters. `None`: there is no such setting.
    pub(crate) fn unjudged(&self) -> Option<String> {
        let given = self.0.iter().flat_map(|(name, value)| match name.as_slice() {
            b"options" => in_options(&String::from_utf8_lossy(value)),
            name => vec![String::from_utf8_lossy(name).into_owned()],
        });
        given.into_iter().find(|name| !HARMLESS.contains(&name.to_ascii_lowercase().replace('-', "_").as_str()))
    }

    /// Takes a parameter out, each time it was given; the value that counts.
    pub(super) fn take(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        self.0.extract_if(.., |(it, _)| it == name).last().map(|(_, value)| value)
    }

    /// Takes out the options of the protocol itself, of which no server knows any yet; their names.
    pub(super) fn take_protocol_options(&mut self) -> Vec<Vec<u8>> {
        self.0.extract_if(.., |(name, _)| name.starts_with(b"_pq_.")).map(|(name, _)| name).collect()
    }
}

/// Settings that change how values look and how long something may take, not what may be done. Those that
/// change how text or names are read are followed by the session.
const HARMLESS: [&str; 20] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "database",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "replication",
    "search_path",
    "statement_timeout",
    "timezone",
    "user",
];

/// The settings that `options` names, as command-line arguments of a server: `-c name=value`, `--name=value`.
/// What is neither stands there whole, and is harmless to nobody.
fn in_options(options: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match (character, words.last_mut()) {
            ('\\', Some(word)) => word.extend(characters.next()),
            (white, _) if white.is_ascii_whitespace() => words.push(String::new()),
            (other, Some(word)) => word.push(other),
            (_, None) => {}
        }
    }
    let mut names = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next().unwrap_or_default(),
            Some(setting) => setting.to_owned(),
            None => word,
        };
        names.push(setting.split_once('=').map_or(setting.clone(), |(name, _)| name.to_owned()));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_begins_with_harmless_settings_only() {
        let with = |name: &str, value: &str| Parameters::new([(name.as_bytes(), value.as_bytes())]).unjudged();
        for (name, value) in [
            ("application_name", "psql"),
            ("TimeZone", "UTC"),
            ("options", ""),
            ("options", "-c statement_timeout=5s -csearch_path=a\\ b --extra-float-digits=3"),
        ] {
            assert_eq!(with(name, value), None, "{name}={value}");
        }
        for (name, value) in [
            ("role", "admin"),
            ("session_authorization", "admin"),
            ("options", "-c role=admin"),
            ("options", "-crole=admin"),
            ("options", "--ROLE=admin"),
            ("options", "-c statement_timeout=1 -c r\\ole=admin"),
            ("options", "-c"),
            ("options", "-d 5"),
            ("options", "-W 1"),
        ] {
            assert!(with(name, value).is_some(), "{name}={value}");
        }
    }
}
