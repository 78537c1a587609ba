//! Conditions in CEL: what a rule says beyond globs and words.
//!
//! A condition is read, its variables and functions are checked and its cost is bounded when rules
//! are compiled, so that nothing an agent sends can make one expensive:
//!
//! - loops are `all`, `exists` and `exists_one`; `map` and `filter`, which build lists, are refused;
//! - a loop inside a loop, or `in` inside a loop, may only run over what belongs to the outer
//!   element, so that the turns of all loops together never exceed the number of values given;
//! - patterns of `matches` and `glob` are literals, compiled once, linear in the text;
//! - what is given to a condition is limited in size ([`LARGEST_WORK`]).
//!
//! A condition that fails to evaluate is a [`Fault`], never `false`: the caller turns doubt into
//! the safe side. Faults name the cause but never carry values, which may be secret.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, LiteralValue};
use cel::extractors::This;
use cel::objects::Key;
use cel::{Env, ExecutionError, IdedExpr, Program, Value as CelValue};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::Subject;
use crate::action::Action;
use crate::pattern::Glob;
use crate::time::Timestamp;
use crate::yaml::nearest;

/// A compiled condition.
pub(super) struct Condition {
    text: String,
    program: Program,
    /// The variables it uses; no others are handed over.
    uses: Vec<&'static str>,
    patterns: Arc<Patterns>,
    /// A loop body looks at a whole input, so that its cost is turns × size, not size alone.
    multiplies: bool,
}

/// Why a condition could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the condition gives no truth value")]
    NotBoolean,
    #[error("no such key: {0}")]
    NoSuchKey(String),
    #[error("`{0}` is not known for this request")]
    Absent(String),
    #[error("the request is too large for it")]
    TooLarge,
    #[error("values of types that do not go together")]
    Types,
    #[error("evaluation failed")]
    Other,
}

/// What is wrong with the text of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// Byte range in the text.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) message: String,
    pub(super) label: String,
    pub(super) help: String,
}

/// Variables a condition may use.
pub(super) const VARIABLES: [&str; 12] = [
    "access",
    "account",
    "action",
    "agent",
    "context",
    "now",
    "owner",
    "parameters",
    "region",
    "resources",
    "tags",
    "traits",
];
/// Members of `context`; all are claims of the agent.
const CLAIMS: [&str; 5] = ["initiator", "model", "reason", "session", "task"];
const FUNCTIONS: [&str; 26] = [
    "all",
    "bool",
    "contains",
    "double",
    "duration",
    "endsWith",
    "exists",
    "exists_one",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "glob",
    "has",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
];
const LONGEST_BYTES: usize = 2048;
/// Deepest nesting of brackets and conditionals in the text, and of the expression that comes of it.
const DEEPEST_NESTING: usize = 16;
const DEEPEST_EXPRESSION: usize = 48;
/// The parser recurses with large frames: more than 100 KB a level without optimisation.
const PARSER_STACK_BYTES: usize = 32 << 20;
/// Most bytes and values of a request that a condition reads, counted with repetition: about a tenth of a second.
const LARGEST_WORK: usize = 16 << 20;
/// Deepest nesting of parameters that a condition sees.
const DEEPEST: usize = 32;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

impl Condition {
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn compile(text: &str) -> Result<Self, Vec<Mistake>> {
        let whole = |message: &str| vec![Mistake::at(0, text.len(), message)];
        if text.len() > LONGEST_BYTES {
            return Err(whole(&format!("the condition is longer than {LONGEST_BYTES} bytes")));
        }
        if nesting(text) > DEEPEST_NESTING {
            return Err(whole(&format!("the condition is nested deeper than {DEEPEST_NESTING} levels")));
        }
        let parsed = parse_apart(text).ok_or_else(|| whole("the condition cannot be read"))?;
        let program = parsed.map_err(|errors| {
            // After the first error the parser guesses.
            errors
                .errors
                .first()
                .map_or_else(|| whole("the condition is not CEL"), |error| vec![parse_mistake(text, error)])
        })?;
        let mut check = Check {
            text,
            program: &program,
            mistakes: Vec::new(),
            patterns: Patterns::default(),
            depth: 0,
            too_deep: false,
            multiplies: false,
        };
        check.visit(program.expression(), &mut Vec::new());
        let Check { mistakes, patterns, multiplies, too_deep, .. } = check;
        if too_deep {
            return Err(whole("the condition has too many parts in a row: make several rules of it"));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let uses = VARIABLES.into_iter().filter(|name| program.references().has_variable(name)).collect();
        Ok(Self { text: text.trim().to_owned(), program, uses, patterns: Arc::new(patterns), multiplies })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the condition uses what the agent says about itself.
    pub(super) fn uses_claims(&self) -> bool {
        self.uses.contains(&"context")
    }

    /// # Errors
    /// When no truth value comes out.
    pub(super) fn holds(&self, facts: &Facts) -> Result<bool, Fault> {
        let work = if self.multiplies { facts.values.saturating_mul(facts.bytes) } else { facts.bytes };
        if work > LARGEST_WORK || facts.too_deep {
            return Err(Fault::TooLarge);
        }
        catch_unwind(AssertUnwindSafe(|| self.evaluate(facts))).unwrap_or(Err(Fault::Other))
    }

    fn evaluate(&self, facts: &Facts) -> Result<bool, Fault> {
        let mut context = cel::Context::with_env(Arc::clone(&ENV));
        for (name, value) in facts.variables.iter().filter(|(name, _)| self.uses.contains(name)) {
            context.add_variable_from_value(*name, value.clone());
        }
        if !self.patterns.is_empty() {
            let (regexes, globs) = (Arc::clone(&self.patterns), Arc::clone(&self.patterns));
            let unknown = |name: &str| ExecutionError::function_error(name, "pattern");
            context
                .add_function("matches", move |This(text): This<Arc<String>>, pattern: Arc<String>| {
                    regexes.regexes.get(pattern.as_str()).map(|it| it.is_match(&text)).ok_or_else(|| unknown("matches"))
                })
                .map_err(|_| Fault::Other)?;
            context
                .add_function("glob", move |This(text): This<Arc<String>>, pattern: Arc<String>| {
                    globs.globs.get(pattern.as_str()).map(|it| it.matches(&text)).ok_or_else(|| unknown("glob"))
                })
                .map_err(|_| Fault::Other)?;
        }
        match self.program.execute(&context) {
            Ok(CelValue::Bool(truth)) => Ok(truth),
            Ok(_) => Err(Fault::NotBoolean),
            Err(error) => Err(Fault::of(&error, &self.text)),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Fault {
    /// Keeps names, drops values.
    fn of(error: &ExecutionError, condition: &str) -> Self {
        match error {
            // A key that the condition does not write out was computed from the request.
            ExecutionError::NoSuchKey(name) if condition.contains(name.as_str()) => Self::NoSuchKey(name.to_string()),
            ExecutionError::NoSuchKey(_) => Self::NoSuchKey("computed by the condition".to_owned()),
            ExecutionError::UndeclaredReference(name) => Self::Absent(name.to_string()),
            ExecutionError::NoSuchOverload(_)
            | ExecutionError::UnexpectedType { .. }
            | ExecutionError::UnsupportedTargetType { .. }
            | ExecutionError::ValuesNotComparable(..)
            | ExecutionError::UnsupportedBinaryOperator(..)
            | ExecutionError::UnsupportedIndex(..) => Self::Types,
            _ => Self::Other,
        }
    }
}

/// One action as CEL sees it; built once per action, and only when a rule with a condition is near.
pub(super) struct Facts {
    variables: Vec<(&'static str, CelValue)>,
    /// Number of values and bytes of text in all of them.
    values: usize,
    bytes: usize,
    too_deep: bool,
}

impl Facts {
    pub(super) fn of(subject: &Subject<'_>, action: &Action) -> Self {
        let mut facts = Self { variables: Vec::with_capacity(VARIABLES.len()), values: 0, bytes: 0, too_deep: false };
        let resources = action.resources.iter().map(|it| facts.text(it)).collect::<Vec<_>>();
        let tags = action.tags.iter().map(|it| facts.text(it)).collect::<Vec<_>>();
        // Secret values are not visible to conditions: only that they are there, and their size.
        let parameters = facts.value(&Value::Object(action.shown_parameters()), 0);
        let context = subject.context;
        let claims = [&context.initiator, &context.model, &context.reason, &context.session, &context.task];
        let claims: HashMap<Key, CelValue> = CLAIMS
            .iter()
            .zip(claims)
            .map(|(name, claim)| (Key::from(*name), facts.text(claim.as_deref().unwrap_or_default())))
            .collect();
        facts.variables = vec![
            ("access", action.access.as_str().into()),
            ("action", (&*action.name).into()),
            ("agent", subject.agent.id.as_str().into()),
            ("context", claims.into()),
            ("owner", subject.agent.owner.to_string().into()),
            ("parameters", parameters),
            ("region", action.region.as_deref().unwrap_or(super::NO_REGION).into()),
            ("resources", resources.into()),
            ("tags", tags.into()),
            ("traits", action.traits.names().into_iter().map(CelValue::from).collect::<Vec<_>>().into()),
        ];
        // While the account is not known, a condition on it fails to evaluate, which is the safe side.
        if let Some(account) = &action.account {
            facts.variables.push(("account", account.as_str().into()));
        }
        if let Some(now) = moment(subject.now) {
            facts.variables.push(("now", now));
        }
        facts
    }

    fn text(&mut self, text: &str) -> CelValue {
        self.values += 1;
        self.bytes += text.len();
        text.into()
    }

    fn value(&mut self, value: &Value, depth: usize) -> CelValue {
        if depth > DEEPEST {
            self.too_deep = true;
            return CelValue::Null;
        }
        self.values += 1;
        self.bytes += 8;
        match value {
            Value::Null => CelValue::Null,
            Value::Bool(flag) => CelValue::Bool(*flag),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(integer), _, _) => CelValue::Int(integer),
                (_, Some(natural), _) => CelValue::UInt(natural),
                (_, _, float) => float.map_or(CelValue::Null, CelValue::Float),
            },
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().map(|item| self.value(item, depth + 1)).collect::<Vec<_>>().into(),
            Value::Object(members) => members
                .iter()
                .map(|(name, member)| {
                    self.bytes += name.len();
                    (Key::from(name.as_str()), self.value(member, depth + 1))
                })
                .collect::<HashMap<_, _>>()
                .into(),
        }
    }
}

/// A moment as CEL's timestamp, by way of CEL's own conversion.
fn moment(now: Timestamp) -> Option<CelValue> {
    static CONVERSION: LazyLock<Option<Program>> = LazyLock::new(|| ENV.compile("timestamp(now)").ok());
    let mut context = cel::Context::with_env(Arc::clone(&ENV));
    context.add_variable_from_value("now", now.rfc3339());
    CONVERSION.as_ref()?.execute(&context).ok()
}

#[derive(Default)]
struct Patterns {
    globs: HashMap<String, Glob>,
    regexes: HashMap<String, Regex>,
}

impl Patterns {
    fn is_empty(&self) -> bool {
        self.globs.is_empty() && self.regexes.is_empty()
    }
}

impl Mistake {
    fn at(start: usize, end: usize, message: impl Into<String>) -> Self {
        Self { start, end, message: message.into(), label: String::new(), help: String::new() }
    }
}

/// Parses on a stack of its own, where a panic of the young parser ends nothing else; `None` after one.
fn parse_apart(text: &str) -> Option<Result<Program, cel::ParseErrors>> {
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(PARSER_STACK_BYTES);
        parser.spawn_scoped(scope, || ENV.compile(text)).ok()?.join().ok()
    })
}

/// An upper bound on how deep the parser will recurse: open brackets and conditionals, also those in strings.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut conditionals) = (0_usize, 0, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'?' => conditionals += 1,
            _ => {}
        }
        deepest = deepest.max(depth + conditionals);
    }
    deepest
}

fn parse_mistake(text: &str, error: &cel::ParseError) -> Mistake {
    let line_start = text
        .split_inclusive('\n')
        .take(usize::try_from(error.pos.0).unwrap_or(1).saturating_sub(1))
        .map(str::len)
        .sum::<usize>();
    let column = usize::try_from(error.pos.1).unwrap_or(1).saturating_sub(1);
    let rest = text.get(line_start..).unwrap_or_default();
    let start = line_start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at);
    let message = error.msg.lines().next().unwrap_or_default();
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting ").next().unwrap_or_default();
    let message = if message.contains("<EOF>") { "it ends too early" } else { message };
    Mistake::at(start, start + 1, format!("the condition is not CEL: {message}"))
}

/// One walk over a parsed condition.
struct Check<'a> {
    text: &'a str,
    program: &'a Program,
    mistakes: Vec<Mistake>,
    patterns: Patterns,
    depth: usize,
    too_deep: bool,
    multiplies: bool,
}

impl<'a> Check<'a> {
    /// `scope` holds the variables of the loops around the expression.
    fn visit(&mut self, expr: &'a IdedExpr, scope: &mut Vec<&'a str>) {
        if self.depth >= DEEPEST_EXPRESSION {
            self.too_deep = true;
            return;
        }
        self.depth += 1;
        self.parts(expr, scope);
        self.depth -= 1;
    }

    fn parts(&mut self, expr: &'a IdedExpr, scope: &mut Vec<&'a str>) {
        match &expr.expr {
            Expr::Ident(name) => self.variable(expr, name, scope),
            Expr::Select(select) => {
                if let Expr::Ident(root) = &select.operand.expr
                    && root == "context"
                    && !CLAIMS.contains(&select.field.as_str())
                {
                    let near = nearest(&select.field, CLAIMS).map(|near| format!("did you mean `{near}`?"));
                    self.report(expr, format!("`context` has no `{}`", select.field), near, &CLAIMS);
                }
                self.visit(&select.operand, scope);
            }
            Expr::Call(call) => {
                self.call(expr, call, scope);
                for argument in call.target.as_deref().into_iter().chain(&call.args) {
                    self.visit(argument, scope);
                }
            }
            Expr::List(list) => list.elements.iter().for_each(|item| self.visit(item, scope)),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.visit(&entry.key, scope);
                        self.visit(&entry.value, scope);
                    }
                }
            }
            Expr::Comprehension(comprehension) => {
                if matches!(comprehension.accu_init.expr, Expr::List(_)) || comprehension.iter_var2.is_some() {
                    self.report(expr, "`map` and `filter` are not supported".to_owned(), None, &[]);
                    self.help("use `exists`, `all` or `exists_one`");
                }
                self.looped_over(&comprehension.iter_range, scope);
                self.visit(&comprehension.iter_range, scope);
                let depth = scope.len();
                scope.push(&comprehension.iter_var);
                scope.push(&comprehension.accu_var);
                for part in [
                    &comprehension.accu_init,
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ] {
                    self.visit(part, scope);
                }
                scope.truncate(depth);
            }
            Expr::Struct(_) | Expr::Unspecified => {
                self.report(expr, "messages are not supported".to_owned(), None, &[]);
            }
            Expr::Literal(_) => {}
        }
    }

    fn variable(&mut self, expr: &IdedExpr, name: &'a str, scope: &[&str]) {
        if scope.contains(&name) || name.starts_with('@') {
            return;
        }
        if !VARIABLES.contains(&name) {
            let near = nearest(name, VARIABLES).map(|near| format!("did you mean `{near}`?"));
            self.report(expr, format!("unknown variable `{name}`"), near, &VARIABLES);
        } else if !scope.is_empty() && matches!(name, "context" | "parameters" | "resources") {
            self.multiplies = true;
        }
    }

    fn call(&mut self, expr: &'a IdedExpr, call: &'a cel::common::ast::CallExpr, scope: &[&str]) {
        let name = call.func_name.as_str();
        match name {
            "matches" | "glob" => {
                self.pattern(expr, name, call.args.last().filter(|_| call.args.len() == 1 && call.target.is_some()))
            }
            "@in" if !scope.is_empty() => {
                if let Some(list) = call.args.last() {
                    self.looped_over(list, scope);
                }
            }
            operator if operator.starts_with(['_', '@', '!', '-']) => {}
            _ if FUNCTIONS.contains(&name) => {}
            _ => {
                let near = nearest(name, FUNCTIONS).map(|near| format!("did you mean `{near}`?"));
                self.report(expr, format!("unknown function `{name}`"), near, &FUNCTIONS);
            }
        }
    }

    fn pattern(&mut self, expr: &IdedExpr, function: &str, pattern: Option<&IdedExpr>) {
        let literal = match pattern.map(|pattern| &pattern.expr) {
            Some(Expr::Literal(LiteralValue::String(literal))) => literal.inner(),
            _ => {
                self.report(expr, format!("`{function}` takes one pattern, written out"), None, &[]);
                return self.help(&format!(
                    "`text.{function}(\"pattern\")`: a pattern that comes from the request could cost any time"
                ));
            }
        };
        if function == "glob" {
            self.patterns.globs.insert(literal.to_owned(), Glob::new(literal));
            return;
        }
        match RegexBuilder::new(literal).size_limit(1 << 20).dfa_size_limit(1 << 20).build() {
            Ok(regex) => drop(self.patterns.regexes.insert(literal.to_owned(), regex)),
            Err(error) => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                self.report(expr, format!("the pattern is no regular expression: {reason}"), None, &[]);
            }
        }
    }

    /// A range inside a loop must belong to the element the loop is at.
    fn looped_over(&mut self, range: &'a IdedExpr, scope: &[&str]) {
        if scope.is_empty() || !refers_to_inputs(range, scope) {
            return;
        }
        self.report(range, "inside a loop only the loop's own element can be searched".to_owned(), None, &[]);
        self.help("a search of the whole request for each of its values could cost any time");
    }

    fn report(&mut self, expr: &IdedExpr, message: String, label: Option<String>, known: &[&str]) {
        let offset = self.program.source_info().offset_for(expr.id).map_or(0, |(start, _)| start as usize);
        let mark = self.text.char_indices().nth(offset).map_or(0, |(at, _)| at);
        let (before, rest) = self.text.split_at_checked(mark).unwrap_or_default();
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        // The parser places a call at its parenthesis and a member at its dot.
        let start = match rest.chars().next() {
            Some('(') => before.trim_end_matches(is_word).len(),
            Some('.') => mark + 1,
            _ => mark,
        };
        let word = self
            .text
            .get(start..)
            .and_then(|rest| rest.find(|c| !is_word(c)))
            .unwrap_or(self.text.len() - start)
            .max(1);
        let help = if known.is_empty() { String::new() } else { format!("one of: {}", known.join(", ")) };
        self.mistakes.push(Mistake { start, end: start + word, message, label: label.unwrap_or_default(), help });
    }

    fn help(&mut self, help: &str) {
        if let Some(mistake) = self.mistakes.last_mut() {
            help.clone_into(&mut mistake.help);
        }
    }
}

/// True when a value of the request itself, not of a loop's element, is part of the expression.
fn refers_to_inputs(expr: &IdedExpr, scope: &[&str]) -> bool {
    match &expr.expr {
        Expr::Ident(name) => !scope.contains(&name.as_str()) && !name.starts_with('@'),
        Expr::Select(select) => refers_to_inputs(&select.operand, scope),
        Expr::List(list) => list.elements.iter().any(|item| refers_to_inputs(item, scope)),
        Expr::Call(call) => {
            call.target.as_deref().into_iter().chain(&call.args).any(|argument| refers_to_inputs(argument, scope))
        }
        Expr::Literal(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
