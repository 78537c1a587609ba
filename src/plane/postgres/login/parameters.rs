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

    /// Takes a parameter out, each time it was given; the value that counts.
    pub(super) fn take(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        self.0.extract_if(.., |(it, _)| it == name).last().map(|(_, value)| value)
    }

    /// Takes out the options of the protocol itself, of which no server knows any yet; their names.
    pub(super) fn take_protocol_options(&mut self) -> Vec<Vec<u8>> {
        self.0.extract_if(.., |(name, _)| name.starts_with(b"_pq_.")).map(|(name, _)| name).collect()
    }
}
