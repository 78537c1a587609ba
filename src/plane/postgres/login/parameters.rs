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
        let is_harmless = |name: &str| {
            let name = name.to_ascii_lowercase().replace('-', "_");
            HARMLESS.contains(&name.as_str())
                || name.strip_prefix("countersign.").is_some_and(|it| CLAIMS.contains(&it))
        };
        self.settings().map(|(name, _)| name).find(|name| !is_harmless(name))
    }

    /// The settings that it names and their values, also those in `options`.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().flat_map(|(name, value)| {
            let value = String::from_utf8_lossy(value);
            match name.as_slice() {
                b"options" => in_options(&value),
                name => vec![(String::from_utf8_lossy(name).into_owned(), value.into_owned())],
            }
        })
    }

    /// Puts the agent's id before the name that the client gave its session, as long as names may be.
    pub(crate) fn attribute(&mut self, agent: &str) {
        let own = self.take(b"application_name").filter(|name| !name.is_empty());
        let mut name = agent.as_bytes().to_vec();
        if let Some(own) = own {
            name.extend_from_slice(b": ");
            name.extend_from_slice(&own);
        }
        // Not in the middle of a character, where it is UTF-8.
        while name.len() > NAME_BYTES || std::str::from_utf8(&name).is_err_and(|error| error.error_len().is_none()) {
            name.pop();
        }
        self.0.push((b"application_name".to_vec(), name));
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

/// Longest name that the server keeps (`NAMEDATALEN`).
const NAME_BYTES: usize = 63;

/// What a client may say of itself, as settings `countersign.task`.
const CLAIMS: [&str; 6] = ["initiator", "model", "reason", "session", "task", "traceparent"];

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
fn in_options(options: &str) -> Vec<(String, String)> {
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
    let mut settings = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next().unwrap_or_default(),
            Some(setting) => setting.to_owned(),
            None => word,
        };
        let (name, value) = setting.split_once('=').unwrap_or((&setting, ""));
        settings.push((name.to_owned(), value.to_owned()));
    }
    settings
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
            ("countersign.task", "nightly"),
            ("options", "-c countersign.model=m --countersign.initiator=ann@example.com"),
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
            ("countersign.other", "x"),
            ("pgaudit.log", "none"),
        ] {
            assert!(with(name, value).is_some(), "{name}={value}");
        }
    }
    #[test]
    fn the_agent_comes_first_in_an_attributed_name() {
        let attributed = |own: &str| {
            let mut parameters = Parameters::new([(b"application_name".as_slice(), own.as_bytes())]);
            parameters.attribute("bot");
            parameters.text("application_name").unwrap()
        };
        assert_eq!(attributed(""), "bot");
        assert_eq!(attributed("psql"), "bot: psql");
        assert_eq!(attributed(&"x".repeat(80)).len(), NAME_BYTES);
        assert_eq!(attributed(&"é".repeat(40)), format!("bot: {}", "é".repeat(29)));
    }
}
