//! The AWS fact table.

/// Every action name the table knows: `aws:<IAM prefix>:<operation>`, sorted, each once.
pub(crate) fn action_names() -> impl Iterator<Item = &'static str> {
    std::iter::empty()
}

/// The sources of the table and their versions: `botocore 1.44.5, …`.
pub(crate) fn facts_version() -> &'static str {
    "not built yet"
}
