//! Which modules of the crate a file names: `use` trees and fully qualified paths, by `crate::`,
//! `super::` and `$crate::`.

use super::rust::{Scan, Token, tokens};

/// A path of the crate that was named, from the crate's root.
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// The imports of one file, and the constructs that would hide an import from this test.
pub(crate) fn find(module: &[String], scan: &Scan) -> (Vec<Import>, Vec<(usize, String)>) {
    let tokens = tokens(&scan.prod_code());
    let (mut imports, mut escapes) = (Vec::new(), Vec::new());
    // The module path at each depth of braces, since an inline `mod` moves what `super` means.
    let mut scopes: Vec<Vec<String>> = vec![module.to_vec()];
    let mut at = 0;
    while at < tokens.len() {
        let text = tokens[at].text.as_str();
        let next = tokens.get(at + 1).map_or("", |token| token.text.as_str());
        let before = if at == 0 { "" } else { tokens[at - 1].text.as_str() };
        let here = scopes.last().cloned().unwrap_or_default();
        match text {
            "{" => {
                let is_inline = at >= 2 && tokens[at - 2].text == "mod";
                let inner = if is_inline { [here, vec![before.to_owned()]].concat() } else { here };
                scopes.push(inner);
            }
            "}" if scopes.len() > 1 => drop(scopes.pop()),
            "crate" if next == "as" => escapes.push((tokens[at].line, "the crate must not be renamed".to_owned())),
            "super" if next == "as" => {
                escapes.push((tokens[at].line, "a module must not be renamed to hide it".to_owned()))
            }
            "countersign" if next == "::" && before != "::" && !module.is_empty() => {
                escapes.push((tokens[at].line, "name the crate `crate`".to_owned()));
            }
            "path" if before == "[" && next == "=" => {
                escapes.push((tokens[at].line, "`#[path]` puts a module where the ranks do not see it".to_owned()));
            }
            "include" if next == "!" => {
                escapes.push((tokens[at].line, "`include!` brings in code that is not read here".to_owned()));
            }
            "crate" | "super" if next == "::" && before != "::" => {
                follow(&tokens, at, &here, &mut imports, &mut escapes);
            }
            "self"
                if next == "::" && before != "::" && tokens.get(at + 2).is_some_and(|token| token.text == "super") =>
            {
                follow(&tokens, at + 2, &here, &mut imports, &mut escapes);
                at += 2;
            }
            _ => {}
        }
        at += 1;
    }
    (imports, escapes)
}

/// Reads the path or `use` tree that starts with `crate` or `super` at `at`.
fn follow(
    tokens: &[Token],
    mut at: usize,
    here: &[String],
    imports: &mut Vec<Import>,
    escapes: &mut Vec<(usize, String)>,
) {
    let mut base = if tokens[at].text == "crate" { Vec::new() } else { here.to_vec() };
    while tokens.get(at).is_some_and(|token| token.text == "super") {
        if base.pop().is_none() {
            escapes.push((tokens[at].line, "`super` above the crate's root".to_owned()));
        }
        at += if tokens.get(at + 2).is_some_and(|token| token.text == "super") { 2 } else { 1 };
    }
    if tokens[at].text == "crate" {
        at += 1;
    }
    tree(tokens, at, &base, imports, escapes);
}

/// Reads what follows a `::`: a name, a group in braces, or a star; returns where it ends.
fn tree(
    tokens: &[Token],
    at: usize,
    base: &[String],
    imports: &mut Vec<Import>,
    escapes: &mut Vec<(usize, String)>,
) -> usize {
    if tokens.get(at).is_none_or(|token| token.text != "::") {
        if let Some(token) = at.checked_sub(1).and_then(|before| tokens.get(before)) {
            imports.push(Import { path: base.to_vec(), line: token.line });
        }
        return at;
    }
    let Some(token) = tokens.get(at + 1) else { return at };
    match token.text.as_str() {
        "{" => {
            let mut at = at + 2;
            while let Some(token) = tokens.get(at) {
                match token.text.as_str() {
                    "}" => return at + 1,
                    "self" => {
                        imports.push(Import { path: base.to_vec(), line: token.line });
                        at += 1;
                    }
                    "*" => at = star(token, base, at, imports, escapes),
                    "as" => at += 2,
                    _ if token.is_word() => {
                        let inner = [base, std::slice::from_ref(&token.text)].concat();
                        at = tree(tokens, at + 1, &inner, imports, escapes);
                    }
                    _ => at += 1,
                }
            }
            at
        }
        "*" => star(token, base, at + 1, imports, escapes),
        _ if token.is_word() => {
            let inner = [base, std::slice::from_ref(&token.text)].concat();
            tree(tokens, at + 2, &inner, imports, escapes)
        }
        // A turbofish or the like: the path ends before it.
        _ => {
            imports.push(Import { path: base.to_vec(), line: token.line });
            at + 1
        }
    }
}

fn star(
    token: &Token,
    base: &[String],
    at: usize,
    imports: &mut Vec<Import>,
    escapes: &mut Vec<(usize, String)>,
) -> usize {
    if base.is_empty() {
        escapes.push((token.line, "a glob of the crate's root hides what is imported".to_owned()));
    }
    imports.push(Import { path: base.to_vec(), line: token.line });
    at + 1
}
