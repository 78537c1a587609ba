//! The value of `search_path`, read as the server reads a list of identifiers (`SplitIdentifierString`
//! of PostgreSQL; docs, section 20.11.1).

/// Longest identifier in bytes (`NAMEDATALEN` - 1): the server cuts longer ones.
const LONGEST_NAME: usize = 63;

/// The schemas of a value, in order; `None` where the server would refuse it.
pub(crate) fn read(value: &str) -> Option<Vec<String>> {
    let mut rest = value.trim_start();
    let mut schemas = Vec::new();
    if rest.is_empty() {
        return Some(schemas);
    }
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => until_quote(quoted)?,
            None => {
                let end = rest.find(|it: char| it == ',' || it.is_ascii_whitespace()).unwrap_or(rest.len());
                let (name, after) = rest.split_at_checked(end)?;
                (name.to_lowercase(), after)
            }
        };
        if name.is_empty() && !rest.starts_with('"') {
            return None;
        }
        schemas.push(cut(name));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => return rest.is_empty().then_some(schemas),
        }
    }
}

/// The value that names these schemas, each exactly as it is.
pub(crate) fn write<S: AsRef<str>>(schemas: impl IntoIterator<Item = S>) -> String {
    let quoted = schemas.into_iter().map(|schema| format!("\"{}\"", schema.as_ref().replace('"', "\"\"")));
    quoted.collect::<Vec<_>>().join(", ")
}

/// The name up to its closing quote, and what follows that.
fn until_quote(quoted: &str) -> Option<(String, &str)> {
    let (mut name, mut rest) = (String::new(), quoted);
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                name.push('"');
                rest = next;
            }
            None => return Some((name, after)),
        }
    }
}

fn cut(mut name: String) -> String {
    if name.len() > LONGEST_NAME {
        let end = (0..=LONGEST_NAME).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name.truncate(end);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_the_server_reads_it() {
        let long = "é".repeat(40);
        for (value, expected) in [
            ("", Some(vec![])),
            ("\"$user\", public", Some(vec!["$user", "public"])),
            ("Public,  A", Some(vec!["public", "a"])),
            ("\"A,b\", \"c\"\"d\"", Some(vec!["A,b", "c\"d"])),
            ("\"\"", Some(vec![""])),
            (&*long, Some(vec![&*"é".repeat(31)])),
            ("a b", None),
            ("a,", None),
            (",a", None),
            ("\"a", None),
            ("\"a\"b", None),
        ] {
            let expected: Option<Vec<String>> = expected.map(|it| it.into_iter().map(str::to_owned).collect());
            assert_eq!(read(value), expected, "{value}");
        }
        let odd = ["A,b", "c\"d", ""];
        assert_eq!(read(&write(odd)).unwrap(), odd);
    }
}
