//! Where a secret is kept that is not countersign's own: in a file, the environment, or with a program.

use super::page::Page;
use crate::credential::source::SecretSource;
use crate::yaml::{Diagnostic, Node, Problems};

/// Reads the three keys by which one secret can be named, of which one counts.
pub(super) fn source(page: &mut Page<'_>, [file, variable, command]: [&'static str; 3]) -> SecretSource {
    let text = |node: &Node, problems: &Problems| node.text(problems).map(str::to_owned);
    let of_file = page.optional(file, text).map(|path| (file, SecretSource::File(page.resolve(&path))));
    let of_variable = page.optional(variable, |node, problems| {
        let name = text(node, problems)?;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty();
        if !is_name {
            // It could be the secret itself, so it is not repeated.
            let finding = Diagnostic::error(problems.source(), node.span, "this is no name of an environment variable");
            problems.push(finding.help("the name of the variable that holds it, such as `DB_PASSWORD`"));
        }
        is_name.then_some(name)
    });
    let of_variable = of_variable.map(|name| (variable, SecretSource::Environment(name)));
    let words = page.list(command, &[], |_, _, text| Some(text.to_owned()), str::to_owned);
    let of_command = (!words.is_empty()).then_some((command, SecretSource::Command(words)));
    let mut sources = [of_file, of_variable, of_command].into_iter().flatten();
    let first = sources.next();
    for (key, _) in sources {
        let message = format!("`{key}` is one place too many for it");
        page.report(key, Diagnostic::error, &message, &format!("keep one of {file}, {variable} and {command}"));
    }
    first.map_or(SecretSource::None, |(_, source)| source)
}
