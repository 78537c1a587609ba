//! The default rule pack, as it stands in `rules/` of the repository.

/// Name and text of each file, in the order of names.
pub(super) const FILES: &[(&str, &str)] = &[];

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
