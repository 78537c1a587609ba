//! The default rule pack, as it stands in `rules/` of the repository.

/// Name and text of each file, in the order of names.
pub(super) const FILES: &[(&str, &str)] = &[
    ("credentials.cases.yaml", include_str!("../../../rules/credentials.cases.yaml")),
    ("credentials.yaml", include_str!("../../../rules/credentials.yaml")),
    ("destruction.cases.yaml", include_str!("../../../rules/destruction.cases.yaml")),
    ("destruction.yaml", include_str!("../../../rules/destruction.yaml")),
    ("execution.cases.yaml", include_str!("../../../rules/execution.cases.yaml")),
    ("execution.yaml", include_str!("../../../rules/execution.yaml")),
    ("export.cases.yaml", include_str!("../../../rules/export.cases.yaml")),
    ("export.yaml", include_str!("../../../rules/export.yaml")),
    ("postgres.cases.yaml", include_str!("../../../rules/postgres.cases.yaml")),
    ("postgres.yaml", include_str!("../../../rules/postgres.yaml")),
    ("privilege.cases.yaml", include_str!("../../../rules/privilege.cases.yaml")),
    ("privilege.yaml", include_str!("../../../rules/privilege.yaml")),
    ("sharing.cases.yaml", include_str!("../../../rules/sharing.cases.yaml")),
    ("sharing.yaml", include_str!("../../../rules/sharing.yaml")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_is_what_stands_in_the_repository() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/rules");
        let Ok(entries) = std::fs::read_dir(directory) else { return assert!(FILES.is_empty()) };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".yaml"));
        names.sort();
        assert_eq!(FILES.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>(), names);
    }
}
