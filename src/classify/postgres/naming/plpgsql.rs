//! Bodies in PL/pgSQL: each statement and expression in them is found and named.
//!
//! The text is cut into the server's own tokens, and those into statements by PL/pgSQL's keywords; what
//! stands between is SQL and goes to the grammar. A token that is nowhere accounted for is a doubt.

use std::ops::Range;

use super::super::grammar;
use super::{At, Namer};

/// A token: its bytes, and whether it is a bare word.
struct Token {
    place: Range<usize>,
    is_word: bool,
    is_text: bool,
}

/// A body on the way: what is left of it starts at `next`.
struct Body<'s> {
    source: &'s str,
    tokens: Vec<Token>,
    next: usize,
    cursors: Vec<String>,
}

impl<'s> Body<'s> {
    fn new(source: &'s str) -> Result<Self, String> {
        const COMMENTS: [i32; 2] =
            [pg_query::protobuf::Token::SqlComment as i32, pg_query::protobuf::Token::CComment as i32];
        let mut tokens = Vec::new();
        for token in grammar::scan(source)?.iter().filter(|it| !COMMENTS.contains(&it.token)) {
            let place = usize::try_from(token.start).unwrap_or(0)..usize::try_from(token.end).unwrap_or(0);
            let text = source.get(place.clone()).ok_or("a token has no place")?;
            let is_word = text.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && !text.contains('\'')
                && !text.contains('"');
            let is_text = text.ends_with('\'') || (text.starts_with('$') && text.ends_with('$'));
            tokens.push(Token { place, is_word, is_text });
        }
        Ok(Self { source, tokens, next: 0, cursors: Vec::new() })
    }

    fn text(&self, at: usize) -> &'s str {
        self.tokens.get(at).and_then(|it| self.source.get(it.place.clone())).unwrap_or_default()
    }

    fn is(&self, at: usize, word: &str) -> bool {
        self.text(at).eq_ignore_ascii_case(word)
    }

    fn word(&self, at: usize) -> String {
        match self.tokens.get(at) {
            Some(token) if token.is_word => self.text(at).to_ascii_lowercase(),
            _ => String::new(),
        }
    }

    /// The source of some tokens, as it is written.
    fn slice(&self, range: Range<usize>) -> &'s str {
        match (self.tokens.get(range.start), range.end.checked_sub(1).and_then(|it| self.tokens.get(it))) {
            (Some(first), Some(last)) if range.start < range.end => {
                self.source.get(first.place.start..last.place.end).unwrap_or_default()
            }
            _ => "",
        }
    }

    /// Whether these are conditions of EXCEPTION: names, or `SQLSTATE 'xxxxx'`, with OR between them.
    fn names_conditions(&self, from: usize, stop: usize) -> bool {
        let mut at = from;
        while at < stop {
            let is_code = self.word(at) == "sqlstate" && self.tokens.get(at + 1).is_some_and(|it| it.is_text);
            if self.word(at).is_empty() {
                return false;
            }
            at += if is_code { 2 } else { 1 };
            if at < stop && self.word(at) != "or" {
                return false;
            }
            at += 1;
        }
        true
    }

    /// Where one of the words stands, outside brackets and CASE; `;` ends every search.
    fn find(&self, from: usize, words: &[&str]) -> Option<usize> {
        self.find_before(from, words, self.tokens.len())
    }

    fn find_before(&self, from: usize, words: &[&str], end: usize) -> Option<usize> {
        let (mut depth, mut cases) = (0_usize, 0_usize);
        for at in from..end {
            let text = self.text(at);
            if depth == 0 && cases == 0 && words.iter().any(|word| text.eq_ignore_ascii_case(word)) {
                return Some(at);
            }
            match text {
                "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.saturating_sub(1),
                ";" if depth == 0 => return None,
                _ if text.eq_ignore_ascii_case("case") => cases += 1,
                _ if text.eq_ignore_ascii_case("end") => cases = cases.saturating_sub(1),
                _ => {}
            }
        }
        None
    }
}

/// A token that is not understood, as a doubt about the whole body.
type Read<T> = Result<T, String>;

impl Namer<'_> {
    pub(super) fn plpgsql(&mut self, at: At, source: &str) {
        let done = Body::new(source).and_then(|mut body| {
            // `#variable_conflict use_column`: options stand in front, and code may stand on the same line.
            while body.is(body.next, "#") {
                let is_option =
                    matches!(body.word(body.next + 1).as_str(), "option" | "print_strict_params" | "variable_conflict");
                if !is_option || body.word(body.next + 2).is_empty() {
                    return Err("`#` is followed by no option that is known".to_owned());
                }
                body.next += 3;
            }
            while body.next < body.tokens.len() {
                self.step(at, &mut body)?;
            }
            Ok(())
        });
        if let Err(why) = done {
            self.doubt(at, format!("a PL/pgSQL body cannot be read: {why}"));
            self.is_dynamic = true;
        }
    }

    /// One statement, or the beginning of one that holds others.
    fn step(&mut self, at: At, body: &mut Body<'_>) -> Read<()> {
        let from = body.next;
        match body.word(from).as_str() {
            "begin" | "else" | "loop" => body.next += 1,
            "exception" if body.word(from + 1) == "when" => body.next += 1,
            "declare" => self.declarations(at, body)?,
            "end" => {
                body.next = if body.find(from + 1, &[";"]).is_some() { end(body, from)? } else { body.tokens.len() };
                let is_plain = (from + 1..body.next)
                    .all(|it| body.is(it, ";") || !body.word(it).is_empty() || body.text(it).starts_with('"'));
                if !is_plain {
                    return Err("END is followed by something".to_owned());
                }
            }
            word @ ("if" | "elsif" | "elseif" | "while") => {
                // Each has an end of its own: the other's is the name of a column there.
                let last = if word == "while" { "loop" } else { "then" };
                let stop = body.find(from + 1, &[last]).ok_or("a condition has no end")?;
                self.expression(at, body.slice(from + 1..stop));
                body.next = stop + 1;
            }
            "when" => {
                let stop = body.find(from + 1, &["then"]).ok_or("WHEN has no THEN")?;
                if !body.names_conditions(from + 1, stop) {
                    self.expression(at, body.slice(from + 1..stop));
                }
                body.next = stop + 1;
            }
            "case" => {
                let stop = body.find(from + 1, &["when"]).ok_or("CASE has no WHEN")?;
                self.expression(at, body.slice(from + 1..stop));
                body.next = stop;
            }
            "for" => self.for_loop(at, body)?,
            "foreach" => {
                let array = body.find(from + 1, &["array"]).ok_or("FOREACH has no ARRAY")?;
                let stop = body.find(array, &["loop"]).ok_or("FOREACH has no LOOP")?;
                self.expression(at, body.slice(array + 1..stop));
                body.next = stop + 1;
            }
            _ if body.is(from, "<<") => {
                body.next = body.find(from, &[">>"]).ok_or("a label has no end")? + 1;
            }
            _ if body.is(from, ";") => body.next += 1,
            word => {
                let stop = end(body, from)? - 1;
                body.next = stop + 1;
                self.simple(at, body, word, from, stop)?;
            }
        }
        Ok(())
    }

    /// A statement that ends with its semicolon, which stands at `stop`.
    fn simple(&mut self, at: At, body: &Body<'_>, word: &str, from: usize, stop: usize) -> Read<()> {
        match word {
            "null" if stop == from + 1 => {}
            "exit" | "continue" => {
                if let Some(when) = body.find(from, &["when"]) {
                    self.expression(at, body.slice(when + 1..stop));
                }
            }
            "return" => self.returns(at, body, from, stop),
            "raise" => self.raise(at, body, from, stop),
            "assert" => self.expression(at, body.slice(from + 1..stop)),
            "perform" => self.expression(at, body.slice(from + 1..stop)),
            "execute" => self.dynamic(at, body, from + 1, stop),
            "get" | "close" | "fetch" | "move" => {
                let is_plain = (from..stop).all(|it| {
                    matches!(body.text(it), "." | "," | "-" | "+" | "=" | ":=" | "[" | "]")
                        || body.text(it).starts_with(|it: char| it == '"' || it == '$' || it.is_ascii_digit())
                        || !matches!(body.word(it).as_str(), "" | "execute" | "perform" | "then")
                });
                if !is_plain {
                    return Err(format!("`{word}` says more than it may"));
                }
            }
            "open" => self.open(at, body, from, stop),
            "commit" | "rollback" => {
                let draft = self.hidden(if word == "commit" { "commit" } else { "rollback" });
                self.push(draft);
                self.is_dynamic = true;
            }
            _ => match assignment(body, from, stop) {
                Some(sign) => {
                    self.subscripts(at, body, from, sign);
                    self.expression(at, body.slice(sign + 1..stop));
                }
                None => self.sql(at, body, from, stop),
            },
        }
        Ok(())
    }

    fn declarations(&mut self, at: At, body: &mut Body<'_>) -> Read<()> {
        body.next += 1;
        while body.word(body.next) != "begin" {
            if body.word(body.next) == "declare" {
                body.next += 1;
                continue;
            }
            if body.is(body.next, "<<") {
                return Ok(());
            }
            let from = body.next;
            let stop = end(body, from)? - 1;
            body.next = stop + 1;
            // Anywhere else the word is a name.
            let mut cursor = from + 1;
            while matches!(body.word(cursor).as_str(), "no" | "scroll") {
                cursor += 1;
            }
            if body.word(cursor) == "cursor" {
                body.cursors.push(body.text(from).to_ascii_lowercase());
                let query = body.find_before(cursor + 1, &["for", "is"], stop).ok_or("a cursor has no query")?;
                self.sql_text(at, body.slice(query + 1..stop));
                continue;
            }
            let value = body.find_before(from + 1, &[":=", "=", "default"], stop);
            self.types(body, from + 1, value.unwrap_or(stop));
            if let Some(value) = value {
                self.expression(at, body.slice(value + 1..stop));
            }
        }
        Ok(())
    }

    /// Runs what values of a variable's type run; what is no name of a type is none of the catalogue's either.
    fn types(&mut self, body: &Body<'_>, from: usize, stop: usize) {
        let name = |at: usize| match body.text(at).strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => body.word(at),
        };
        for at in from..stop {
            let name_here = name(at);
            if name_here.is_empty() {
                continue;
            }
            if body.is(at.saturating_sub(1), ".") && at > from + 1 {
                self.of_type(&[&name(at - 2), &name_here]);
            } else {
                self.of_type(&[&name_here]);
            }
        }
    }

    fn for_loop(&mut self, at: At, body: &mut Body<'_>) -> Read<()> {
        let from = body.next;
        let within = body.find(from + 1, &["in"]).ok_or("FOR has no IN")?;
        let stop = body.find(within, &["loop"]).ok_or("FOR has no LOOP")?;
        body.next = stop + 1;
        let mut first = within + 1;
        if body.word(first) == "reverse" {
            first += 1;
        }
        let word = body.word(first);
        if word == "execute" {
            self.dynamic(at, body, first + 1, stop);
        } else if let Some(dots) = body.find_before(first, &[".."], stop) {
            let by = body.find_before(dots, &["by"], stop);
            self.expression(at, body.slice(first..dots));
            self.expression(at, body.slice(dots + 1..by.unwrap_or(stop)));
            if let Some(by) = by {
                self.expression(at, body.slice(by + 1..stop));
            }
        } else if body.cursors.contains(&word) && (first + 1 == stop || body.is(first + 1, "(")) {
            // A word behind it makes it a statement: `table` may be the name of a cursor somewhere else.
            self.cursor_arguments(at, body, first + 1, stop);
        } else {
            self.sql_text(at, body.slice(first..stop));
        }
        Ok(())
    }

    fn returns(&mut self, at: At, body: &Body<'_>, from: usize, stop: usize) {
        match (body.word(from + 1).as_str(), body.word(from + 2).as_str()) {
            ("query", "execute") => self.dynamic(at, body, from + 3, stop),
            ("query", _) => self.sql_text(at, body.slice(from + 2..stop)),
            ("next", _) => self.expression(at, body.slice(from + 2..stop)),
            _ => self.expression(at, body.slice(from + 1..stop)),
        }
    }

    /// `RAISE level 'format', value… USING option = value…`
    fn raise(&mut self, at: At, body: &Body<'_>, from: usize, stop: usize) {
        let using = body.find_before(from, &["using"], stop).unwrap_or(stop);
        let mut next = body.find_before(from, &[","], using);
        while let Some(comma) = next {
            next = body.find_before(comma + 1, &[","], using);
            self.expression(at, body.slice(comma + 1..next.unwrap_or(using)));
        }
        let mut option = using;
        while option < stop {
            let next = body.find_before(option + 1, &[","], stop).unwrap_or(stop);
            if let Some(sign) = body.find_before(option, &["=", ":="], next) {
                self.expression(at, body.slice(sign + 1..next));
            }
            option = next;
        }
    }

    fn open(&mut self, at: At, body: &Body<'_>, from: usize, stop: usize) {
        match body.find_before(from, &["for"], stop) {
            Some(query) if body.word(query + 1) == "execute" => self.dynamic(at, body, query + 2, stop),
            Some(query) => self.sql_text(at, body.slice(query + 1..stop)),
            None => self.cursor_arguments(at, body, from + 2, stop),
        }
    }

    /// `(1, name := 2)`, as arguments of a function that does nothing.
    fn cursor_arguments(&mut self, at: At, body: &Body<'_>, from: usize, stop: usize) {
        let arguments = body.slice(from..stop);
        if !arguments.is_empty() {
            self.expression(at, &format!("pg_catalog.concat{arguments}"));
        }
    }

    /// EXECUTE: known where it is given one constant, a doubt everywhere else.
    fn dynamic(&mut self, at: At, body: &Body<'_>, from: usize, stop: usize) {
        let rest = body.find_before(from, &["using", "into"], stop).unwrap_or(stop);
        let is_constant = rest == from + 1 && body.tokens.get(from).is_some_and(|it| it.is_text);
        let constant = body.slice(from..rest);
        match constant.strip_prefix('\'').and_then(|it| it.strip_suffix('\'')) {
            // A quote that stands alone is where one of several constants ends.
            Some(sql) if is_constant && !sql.replace("''", "").contains('\'') => {
                self.sql_text(at, &sql.replace("''", "'"));
            }
            _ => {
                self.expression(at, constant);
                self.doubt(at, "EXECUTE runs SQL that is made while it runs");
                self.is_dynamic = true;
            }
        }
        for value in rest..stop {
            if body.is(value, "using") {
                self.expression(at, body.slice(value + 1..stop));
            }
        }
    }

    /// Expressions in the brackets of an assignment's target.
    fn subscripts(&mut self, at: At, body: &Body<'_>, from: usize, sign: usize) {
        if (from..sign).any(|it| body.is(it, "[")) {
            self.expression(at, body.slice(from..sign));
        }
    }

    /// A statement of SQL, without the INTO that PL/pgSQL adds.
    fn sql(&mut self, at: At, body: &Body<'_>, from: usize, stop: usize) {
        let mut into = body.find_before(from, &["into"], stop);
        while let Some(place) = into.filter(|it| matches!(body.word(it.saturating_sub(1)).as_str(), "insert" | "merge"))
        {
            into = body.find_before(place + 1, &["into"], stop);
        }
        let Some(into) = into.filter(|_| body.word(from) != "import") else {
            return self.sql_text(at, body.slice(from..stop));
        };
        let mut after = into + 1;
        if body.word(after) == "strict" {
            after += 1;
        }
        // Targets: names with dots and subscripts, between commas.
        loop {
            after += 1;
            while body.is(after, ".") {
                after += 2;
            }
            while body.is(after, "[") {
                let Some(close) = body.find_before(after + 1, &["]"], stop) else { break };
                self.expression(at, body.slice(after + 1..close));
                after = close + 1;
            }
            if !body.is(after, ",") {
                break;
            }
            after += 1;
        }
        let sql = format!("{} {}", body.slice(from..into), body.slice(after..stop));
        self.sql_text(at, &sql);
    }
}

/// Behind the semicolon of the statement that starts there.
fn end(body: &Body<'_>, from: usize) -> Read<usize> {
    let (mut depth, mut at) = (0_usize, from);
    while at < body.tokens.len() {
        match body.text(at) {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => return Ok(at + 1),
            _ => {}
        }
        at += 1;
    }
    Err("a statement has no end".to_owned())
}

/// Where `:=` or `=` stands behind a target, when the statement is an assignment.
fn assignment(body: &Body<'_>, from: usize, stop: usize) -> Option<usize> {
    let mut at = from + 1;
    while at < stop {
        match body.text(at) {
            ":=" | "=" => return Some(at),
            "." => at += 2,
            "[" => at = body.find_before(at + 1, &["]"], stop)? + 1,
            _ => return None,
        }
    }
    None
}
