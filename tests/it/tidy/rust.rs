//! Just enough of Rust's lexical structure: what is code, what is comment, what is literal, what
//! is compiled for tests only, and where functions begin and end.

/// One Rust text, split into code and comments, line numbers kept.
pub(crate) struct Scan {
    /// The text with comments and the insides of literals blanked out.
    code: String,
    /// The text with everything but comments blanked out.
    comments: String,
    /// For each line, whether it is compiled for tests only.
    test_lines: Vec<bool>,
    has_module_doc: bool,
}

pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

impl Scan {
    pub(crate) fn new(text: &str) -> Self {
        let (code, comments) = split(text);
        let test_lines = test_lines(&code);
        Self { code, comments, test_lines, has_module_doc: text.starts_with("//!") }
    }

    pub(crate) fn has_module_doc(&self) -> bool {
        self.has_module_doc
    }

    /// Code lines outside of `#[cfg(test)]`, numbered from 1.
    pub(crate) fn prod_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .filter(|(index, _)| !self.test_lines[*index])
            .map(|(index, line)| (index + 1, line))
    }

    /// The code with test-only lines blanked out, line breaks kept.
    pub(crate) fn prod_code(&self) -> String {
        let line = |(index, line): (usize, &str)| if self.test_lines[index] { String::new() } else { line.to_owned() };
        self.code.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Comment lines, numbered from 1.
    pub(crate) fn comments(&self) -> impl Iterator<Item = (usize, &str)> {
        self.comments
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim().is_empty())
    }

    /// Everything declared, as (line, keyword, name).
    pub(crate) fn declared(&self) -> Vec<(usize, String, String)> {
        let tokens = tokens(&self.code);
        tokens
            .windows(2)
            .filter(|pair| ["fn", "mod", "struct", "enum", "trait", "type"].contains(&pair[0].text.as_str()))
            .filter(|pair| pair[1].is_word())
            .map(|pair| (pair[0].line, pair[0].text.clone(), pair[1].text.clone()))
            .collect()
    }

    /// Functions with a body, test-only ones left out.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let tokens = tokens(&self.prod_code());
        let mut functions = Vec::new();
        for (at, pair) in tokens.windows(2).enumerate() {
            if pair[0].text == "fn"
                && pair[1].is_word()
                && let Some(end) = body_end(&tokens[at..])
            {
                let lines = end + 1 - pair[0].line;
                functions.push(Function { name: pair[1].text.clone(), line: pair[0].line, lines });
            }
        }
        functions
    }

    /// `pub use a::b::*`, in any visibility and depth of braces.
    pub(crate) fn glob_reexports(&self) -> Vec<(usize, String)> {
        let tokens = tokens(&self.code);
        let mut found = Vec::new();
        for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "use") {
            let is_public = at > 0 && (tokens[at - 1].text == "pub" || tokens[at - 1].text == ")");
            let path: Vec<&str> =
                tokens[at + 1..].iter().map(|token| token.text.as_str()).take_while(|text| *text != ";").collect();
            if is_public && path.contains(&"*") {
                found.push((token.line, path.concat()));
            }
        }
        found
    }
}

/// A word or one punctuation character.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Splits blanked code into tokens; `::` is one token, raw identifiers lose their `r#`.
pub(crate) fn tokens(code: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut characters = code.chars().peekable();
    let mut line = 1;
    while let Some(character) = characters.next() {
        if character == '\n' {
            line += 1;
        } else if character.is_alphanumeric() || character == '_' {
            let mut text = String::from(character);
            while let Some(next) = characters.next_if(|c| c.is_alphanumeric() || *c == '_') {
                text.push(next);
            }
            if text == "r" && characters.next_if_eq(&'#').is_some() {
                continue;
            }
            tokens.push(Token { text, line });
        } else if character == ':' && characters.next_if_eq(&':').is_some() {
            tokens.push(Token { text: "::".to_owned(), line });
        } else if !character.is_whitespace() {
            tokens.push(Token { text: character.to_string(), line });
        }
    }
    tokens
}

/// Last line of the body of the function, module or item that starts at the first token; `None`
/// when a `;` ends it without a body.
fn body_end(tokens: &[Token]) -> Option<usize> {
    let mut depth = 0_i32;
    let mut nested = 0_i32;
    for token in tokens {
        match token.text.as_str() {
            "(" | "[" => nested += 1,
            ")" | "]" => nested -= 1,
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depth == 0 && nested == 0 {
                    return Some(token.line);
                }
            }
            ";" if depth == 0 && nested == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Marks the lines of items under `#[cfg(test)]` (also `cfg(all(test, …))`).
fn test_lines(code: &str) -> Vec<bool> {
    let mut marked = vec![false; code.lines().count()];
    let tokens = tokens(code);
    let texts: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    for at in 0..tokens.len() {
        let is_cfg = texts[at..].starts_with(&["#", "[", "cfg", "("]);
        if !is_cfg {
            continue;
        }
        let Some(close) = texts[at..].iter().position(|text| *text == "]").map(|offset| at + offset) else { continue };
        let condition = &texts[at + 4..close];
        let is_test = condition.starts_with(&["test"]) || condition.starts_with(&["all", "(", "test"]);
        if !is_test {
            continue;
        }
        let end = body_end(&tokens[close + 1..])
            .or_else(|| tokens[close + 1..].iter().find(|token| token.text == ";").map(|token| token.line));
        let end = end.unwrap_or(marked.len());
        marked[tokens[at].line - 1..end.min(code.lines().count())].fill(true);
    }
    marked
}

/// Separates code from comments: each result has the other's characters blanked, and the code also
/// has the insides of string and character literals blanked.
fn split(text: &str) -> (String, String) {
    let characters: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut at = 0;
    while at < characters.len() {
        let end = comment_end(&characters, at);
        if end > at {
            copy(&characters[at..end], &mut comments, &mut code);
            at = end;
            continue;
        }
        let end = literal_end(&characters, at);
        if end > at {
            // The quotes stay, so that a literal still separates what stands around it.
            copy(&['"'], &mut code, &mut comments);
            copy(&characters[at + 1..end], &mut String::new(), &mut code);
            copy(&characters[at + 1..end], &mut String::new(), &mut comments);
            at = end;
            continue;
        }
        copy(&characters[at..=at], &mut code, &mut comments);
        at += 1;
    }
    (code, comments)
}

/// Appends characters to one text and as many blanks to the other; both keep line breaks.
fn copy(characters: &[char], to: &mut String, blank: &mut String) {
    for character in characters {
        to.push(*character);
        blank.push(if *character == '\n' { '\n' } else { ' ' });
    }
}

fn comment_end(characters: &[char], at: usize) -> usize {
    let rest = &characters[at..];
    if rest.starts_with(&['/', '/']) {
        return rest.iter().position(|c| *c == '\n').map_or(characters.len(), |length| at + length);
    }
    if !rest.starts_with(&['/', '*']) {
        return at;
    }
    let (mut depth, mut end) = (0, at);
    while end < characters.len() {
        if characters[end..].starts_with(&['/', '*']) {
            depth += 1;
            end += 2;
        } else if characters[end..].starts_with(&['*', '/']) {
            depth -= 1;
            end += 2;
            if depth == 0 {
                break;
            }
        } else {
            end += 1;
        }
    }
    end.min(characters.len())
}

/// End of the string or character literal that starts here (with its prefix), or `at`.
fn literal_end(characters: &[char], at: usize) -> usize {
    let is_in_word = at > 0 && (characters[at - 1].is_alphanumeric() || characters[at - 1] == '_');
    let mut start = at;
    if !is_in_word {
        while start < characters.len() && start - at < 2 && matches!(characters[start], 'b' | 'c' | 'r') {
            start += 1;
        }
    }
    let is_raw = characters[at..start].contains(&'r');
    let hashes = characters[start..].iter().take_while(|c| **c == '#').count();
    if is_raw && characters.get(start + hashes) == Some(&'"') {
        let mut close = vec!['"'];
        close.resize(hashes + 1, '#');
        let body = start + hashes + 1;
        let length = characters[body..].windows(close.len()).position(|window| window == close);
        return length.map_or(characters.len(), |length| body + length + close.len());
    }
    match characters.get(start) {
        Some('"') => quoted_end(characters, start, '"'),
        // `'a` without a closing quote is a lifetime.
        Some('\'') if characters.get(start + 1) == Some(&'\\') || characters.get(start + 2) == Some(&'\'') => {
            quoted_end(characters, start, '\'')
        }
        _ => at,
    }
}

fn quoted_end(characters: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < characters.len() {
        match characters[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    characters.len()
}
