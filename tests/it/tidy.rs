//! The house rules that a compiler does not know, as tests: the ranks of `ARCHITECTURE.md` against
//! the imports, sizes, names, leftovers.
//!
//! Each rule is a function from sources to complaints, so that `tidy/tests.rs` can feed it a
//! violation and see it caught; a rule that finds nothing in the repository proves nothing by that.

mod imports;
mod rust;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use imports::Import;
use rust::Scan;

/// The rank of each top-level module.
type Ranks = BTreeMap<String, u32>;

/// Modules whose children are equals and do not know each other.
const FAMILIES: [&str; 3] = ["channel", "classify", "plane"];
const MAX_FILE_LINES: usize = 800;
const MAX_FN_LINES: usize = 100;
const BANNED_WORDS: [&str; 10] =
    ["common", "handler", "handlers", "helper", "helpers", "manager", "misc", "processor", "util", "utils"];
const BANNED_TYPE_ENDS: [&str; 8] = ["Data", "Handler", "Helper", "Info", "Manager", "Processor", "Service", "Util"];

/// One Rust file under `src/`.
struct Source {
    /// `plane/aws.rs`: relative to `src/`.
    path: String,
    scan: Scan,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), scan: Scan::new(text) }
    }

    /// `["plane", "aws"]`; empty for the crate roots.
    fn module(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs");
        if matches!(path, "lib" | "main") { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
    }

    fn is_test(&self) -> bool {
        self.module().iter().any(|part| part == "tests")
    }
}

/// Reads the table of ranks: rows of `| 5 | `net` `store` | … |`.
fn read_ranks(architecture: &str) -> Ranks {
    let mut ranks = Ranks::new();
    for line in architecture.lines() {
        let mut cells = line.trim().trim_matches('|').split('|').map(str::trim);
        let (Some(rank), Some(modules)) = (cells.next().and_then(|cell| cell.parse().ok()), cells.next()) else {
            continue;
        };
        for module in modules.split('`').skip(1).step_by(2) {
            ranks.insert(module.to_owned(), rank);
        }
    }
    ranks
}

/// Modules in the table and in the code are the same.
fn check_map(sources: &[Source], ranks: &Ranks) -> Vec<String> {
    let in_code: BTreeSet<String> = sources.iter().filter_map(|source| source.module().into_iter().next()).collect();
    let in_table: BTreeSet<String> = ranks.keys().cloned().collect();
    let mut complaints = Vec::new();
    for module in in_code.difference(&in_table) {
        complaints.push(format!("module `{module}` has no rank: add it to the table in ARCHITECTURE.md"));
    }
    for module in in_table.difference(&in_code) {
        complaints.push(format!("ARCHITECTURE.md ranks `{module}`, which does not exist"));
    }
    complaints
}

/// No import runs up or sideways.
fn check_ranks(sources: &[Source], ranks: &Ranks) -> Vec<String> {
    let modules: BTreeSet<Vec<String>> = sources.iter().map(Source::module).collect();
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let here = source.module();
        let (found, escapes) = imports::find(&here, &source.scan);
        complaints.extend(escapes.into_iter().map(|(line, why)| format!("src/{}:{line}: {why}", source.path)));
        for import in found {
            if let Some(why) = judge(&here, &import, ranks, &modules) {
                complaints.push(format!("src/{}:{}: {why}", source.path, import.line));
            }
        }
    }
    // A group names its module once for each item.
    complaints.dedup();
    complaints
}

fn judge(here: &[String], import: &Import, ranks: &Ranks, modules: &BTreeSet<Vec<String>>) -> Option<String> {
    let (Some(home), Some(target)) = (here.first(), import.path.first()) else { return None };
    if home == target {
        let (child, other) = (here.get(1)?, import.path.get(1)?);
        let is_sibling = child != other && modules.contains(&vec![home.clone(), other.clone()]);
        return (FAMILIES.contains(&home.as_str()) && is_sibling)
            .then(|| format!("`{home}::{child}` imports its sibling `{home}::{other}`"));
    }
    let (Some(rank), Some(target_rank)) = (ranks.get(home), ranks.get(target)) else {
        return Some(format!("`{home}` imports `{target}`, and one of them has no rank"));
    };
    (target_rank >= rank)
        .then(|| format!("`{home}` (rank {rank}) imports `{target}` (rank {target_rank}): only lower ranks may be"))
}

/// Ranks 1 to 4 do no IO, read no clock and draw no randomness; elsewhere only `time` and `id` do.
fn check_purity(sources: &[Source], ranks: &Ranks) -> Vec<String> {
    const IMPURE: [&str; 12] = [
        "tokio::",
        "hyper::",
        "std::fs",
        "std::process",
        "std::env",
        "thread::sleep",
        "TcpStream",
        "UdpSocket",
        "Clock",
        "random_bytes",
        "Instant::now",
        "::fresh(",
    ];
    const CLOCK: [&str; 3] = ["SystemTime::now", "jiff::Timestamp::now", "Zoned::now"];
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let module = source.module();
        let home = module.first().map_or("", String::as_str);
        let is_pure = ranks.get(home).is_some_and(|rank| (1..=4).contains(rank));
        for (number, line) in source.scan.prod_lines() {
            let mut complain = |what: &str, who: &str| {
                complaints.push(format!("src/{}:{number}: `{what}` in `{home}`: {who}", source.path));
            };
            if is_pure && let Some(word) = IMPURE.iter().find(|word| line.contains(**word)) {
                complain(word, "ranks 1 to 4 are pure");
            }
            if home != "time"
                && let Some(word) = CLOCK.iter().find(|word| line.contains(**word))
            {
                complain(word, "only `time` reads a clock");
            }
            if home != "id" && line.contains("SystemRandom") {
                complain("SystemRandom", "only `id` draws randomness");
            }
        }
    }
    complaints
}

fn check_sizes(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let lines = source.scan.prod_lines().count();
        if lines > MAX_FILE_LINES {
            complaints.push(format!("src/{}: {lines} lines besides tests, at most {MAX_FILE_LINES}", source.path));
        }
        for function in source.scan.functions() {
            if function.lines > MAX_FN_LINES {
                complaints.push(format!(
                    "src/{}:{}: fn `{}` has {} lines, at most {MAX_FN_LINES}",
                    source.path, function.line, function.name, function.lines
                ));
            }
        }
    }
    complaints
}

fn check_names(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for part in source.path.trim_end_matches(".rs").split(['/', '_']) {
            if BANNED_WORDS.contains(&part) || part == "mod" {
                complaints.push(format!("src/{}: the name `{part}` says nothing", source.path));
            }
        }
        for (line, kind, name) in source.scan.declared() {
            let is_empty_name = match kind.as_str() {
                "fn" => name.starts_with("get_") || name.split('_').any(|word| BANNED_WORDS.contains(&word)),
                "mod" => BANNED_WORDS.contains(&name.as_str()),
                _ => BANNED_TYPE_ENDS.iter().any(|end| name != *end && name.ends_with(end)),
            };
            if is_empty_name {
                complaints.push(format!("src/{}:{line}: {kind} `{name}` has an empty name", source.path));
            }
        }
    }
    complaints
}

/// No leftovers, no glob re-exports, and each module says what it is.
fn check_prose(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (number, comment) in source.scan.comments() {
            let mut words = comment.split(|c: char| !c.is_ascii_alphanumeric());
            if let Some(word) = words.find(|word| ["FIXME", "TODO", "XXX"].contains(word)) {
                complaints.push(format!("src/{}:{number}: {word} left behind", source.path));
            }
        }
        for (number, path) in source.scan.glob_reexports() {
            complaints.push(format!("src/{}:{number}: glob re-export of `{path}`", source.path));
        }
        if !source.is_test() && !source.scan.has_module_doc() {
            complaints.push(format!("src/{}: does not open with `//!` and what it owns", source.path));
        }
    }
    complaints
}

/// Paths that exist only where the code was written.
fn check_machine_paths(files: &[(String, String)]) -> Vec<String> {
    // Written in pieces, so that this file passes its own test.
    let private =
        [["/wo", "rk/"], ["/tmp", "/wt/"], ["/ro", "ot/"], ["/ho", "me/"], ["/tmp", "/bin/"]].map(|p| p.concat());
    let mut complaints = Vec::new();
    for (path, text) in files {
        for (index, line) in text.lines().enumerate() {
            if let Some(found) = private.iter().find(|private| line.contains(private.as_str())) {
                complaints.push(format!("{path}:{}: `{found}` is a path of one machine", index + 1));
            }
        }
    }
    complaints
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, files: &mut Vec<(String, String)>) {
    const SKIPPED: [&str; 7] = [".git", ".venv", "corpus", "data", "node_modules", "target", "__pycache__"];
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                walk(&path, files);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let shown = path.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned();
            files.push((shown, text));
        }
    }
}

fn all_files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    walk(repository(), &mut files);
    files.sort();
    files
}

fn sources() -> Vec<Source> {
    all_files()
        .iter()
        .filter_map(|(path, text)| {
            let path = path.strip_prefix("src/").filter(|path| path.ends_with(".rs"))?;
            Some(Source::new(path, text))
        })
        .collect()
}

#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn ranks() -> Ranks {
    read_ranks(&fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap())
}

#[test]
fn map_and_code_name_the_same_modules() {
    none(&check_map(&sources(), &ranks()));
}

#[test]
fn imports_run_down_the_ranks() {
    none(&check_ranks(&sources(), &ranks()));
}

#[test]
fn pure_ranks_do_no_io() {
    none(&check_purity(&sources(), &ranks()));
}

#[test]
fn files_and_functions_are_small() {
    none(&check_sizes(&sources()));
}

#[test]
fn names_say_something() {
    none(&check_names(&sources()));
}

#[test]
fn no_leftovers_and_no_glob_reexports() {
    none(&check_prose(&sources()));
}

#[test]
fn no_path_of_one_machine() {
    none(&check_machine_paths(&all_files()));
}

mod tests;
