//! `countersign rules`: check, test and explain rules without a server.
//!
//! With a configuration (`--config`, `--data`) the rules are read as the server reads them; with a
//! directory alone the default options hold and groups go unchecked.

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{Common, Exit, classify};
use crate::action::{Action, Agent, Context, Owner};
use crate::classify::aws::Front;
use crate::id::{AgentId, GroupId, PersonId};
use crate::rules::{ActionTrace, CASE_ACCOUNT, Case, Explanation, InTransaction, Input, Options, RuleSet, RuleTrace};
use crate::rules::{Subject, compile, is_cases, read_cases};
use crate::time::Clock;
use crate::yaml::{Diagnostic, Source, render};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Report every mistake in the rules, and rules that can have no effect; exit 1 when there is one.
    Check(Check),
    /// Run the cases beside the rules (`*.cases.yaml`); exit 1 when one fails.
    Test(Check),
    /// Say why one request gets its decision.
    Explain(Explain),
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Directory of rules (else the configuration's, else `rules`).
    directory: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// Directory of rules (else the configuration's, else `rules`).
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// The request in the JSON form that `countersign classify` reads; `-` for standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    request: PathBuf,
    /// Id of the agent that sends it.
    #[arg(long, default_value = "agent")]
    agent: String,
    /// Owner of the agent: a person's id, or `group:` and a group's.
    #[arg(long, default_value = "owner")]
    owner: String,
    /// Account of the upstream identity.
    #[arg(long, default_value = CASE_ACCOUNT)]
    account: String,
}

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    common.use_facts()?;
    match arguments {
        Arguments::Check(Check { directory }) => check(&Files::read(directory.as_deref(), common)?, out),
        Arguments::Test(Check { directory }) => test(&Files::read(directory.as_deref(), common)?, out),
        Arguments::Explain(arguments) => explain(&arguments, common, out),
    }
}

/// Rule files, case files and the options to read them with.
struct Files {
    rules: Vec<Source>,
    cases: Vec<Source>,
    options: Options,
}

impl Files {
    fn read(directory: Option<&Path>, common: &Common) -> anyhow::Result<Self> {
        let config = if common.config_file().exists() { Some(common.load()?) } else { None };
        let sources = match (directory, &config) {
            (Some(directory), _) => read_directory(directory)?,
            (None, Some(config)) => config.rules.sources()?,
            (None, None) => read_directory(Path::new("rules"))?,
        };
        let (cases, rules) = sources.into_iter().partition(|source| is_cases(source.name()));
        Ok(Self { rules, cases, options: config.map(|config| config.rules.options).unwrap_or_default() })
    }

    fn compile(&self, out: &mut dyn Write) -> anyhow::Result<Option<RuleSet>> {
        match compile(&self.rules, &self.options) {
            Ok(rules) => Ok(Some(rules)),
            Err(found) => {
                report(&found, out)?;
                Ok(None)
            }
        }
    }
}

fn read_directory(directory: &Path) -> anyhow::Result<Vec<Source>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read `{}`", directory.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(Source::new(path.to_string_lossy(), text))
    };
    paths.into_iter().map(read).collect()
}

fn check(files: &Files, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Some(rules) = files.compile(out)? else { return Ok(Exit::Finding) };
    let mut found = rules.warnings();
    for source in &files.cases {
        found.extend(read_cases(source).err().into_iter().flatten());
    }
    if !found.is_empty() {
        report(&found, out)?;
        return Ok(Exit::Finding);
    }
    writeln!(out, "{} in {}: good", count(rules.len(), "rule"), count(files.rules.len(), "file"))?;
    writeln!(out, "digest {}", rules.digest())?;
    Ok(Exit::Done)
}

fn test(files: &Files, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Some(rules) = files.compile(out)? else { return Ok(Exit::Finding) };
    let mut found = Vec::new();
    let mut cases = Vec::new();
    for source in &files.cases {
        match read_cases(source) {
            Ok(read) => cases.extend(read),
            Err(mistakes) => found.extend(mistakes),
        }
    }
    let mut tested = std::collections::BTreeSet::new();
    for case in &cases {
        match judge(case, &rules) {
            Ok(deciding) => tested.extend(deciding),
            Err(failure) => found.push(failure),
        }
    }
    if !found.is_empty() {
        report(&found, out)?;
        return Ok(Exit::Finding);
    }
    let untested: Vec<&str> = rules.ids().map(|id| id.as_str()).filter(|id| !tested.contains(*id)).collect();
    writeln!(out, "{} passed against {}", count(cases.len(), "case"), count(rules.len(), "rule"))?;
    if !untested.is_empty() {
        writeln!(out, "no case is decided by: {}", untested.join(", "))?;
    }
    Ok(Exit::Done)
}

/// Judges one case; gives the rules that decided.
fn judge(case: &Case, rules: &RuleSet) -> Result<Vec<String>, Diagnostic> {
    let named;
    let actions = match &case.input {
        Input::Action(action) => std::slice::from_ref(action.as_ref()),
        Input::Request(request) => {
            named = classify::name(request, &front(CASE_ACCOUNT))
                .map_err(|reason| case.failure(format!("the request is refused: {reason}")))?;
            &named
        }
    };
    let ruling = case.judge(rules, actions);
    case.check(&ruling).map_err(|failure| {
        let names: Vec<&str> = actions.iter().map(|action| &*action.name).collect();
        let unknown = actions.iter().find_map(|action| action.unknown.as_deref());
        let failure = failure.help(format!("the request is: {}", names.join(", ")));
        match unknown {
            Some(reason) => failure.help(format!("unknown: {reason}")),
            None => failure,
        }
    })?;
    Ok(ruling.rules.iter().map(|id| id.to_string()).collect())
}

fn explain(arguments: &Explain, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let files = Files::read(arguments.rules.as_deref(), common)?;
    let Some(rules) = files.compile(out)? else { return Ok(Exit::Finding) };
    let mut text = String::new();
    if arguments.request.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    } else {
        let file = &arguments.request;
        text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    }
    let request =
        serde_json::from_str(&text).context("the request is not the JSON that `countersign classify` reads")?;
    let agent = Agent { id: AgentId::new(&arguments.agent), owner: owner(&arguments.owner) };
    let context = Context::default();
    let subject = Subject { agent: &agent, context: &context, now: Clock::default().now() };
    match classify::name(&request, &front(&arguments.account)) {
        Ok(actions) => {
            write_explanation(&rules.explain(&subject, &actions), &actions, out)?;
            Ok(Exit::Done)
        }
        Err(reason) => {
            writeln!(out, "refused before any rule: {reason}")?;
            Ok(Exit::Finding)
        }
    }
}

fn write_explanation(explanation: &Explanation, actions: &[Action], out: &mut dyn Write) -> anyhow::Result<()> {
    let ruling = &explanation.ruling;
    writeln!(out, "decision: {}", ruling.decision.as_str())?;
    for requirement in &ruling.requirements {
        writeln!(out, "  {} asks for {}", requirement.rule, requirement.describe())?;
    }
    if !ruling.expires.is_zero() {
        writeln!(out, "  within {}s", ruling.expires.as_secs())?;
        match ruling.in_transaction {
            None => {}
            Some(InTransaction::Refuse) => writeln!(out, "  inside of a transaction: denied at once")?,
            Some(InTransaction::Wait(time)) => writeln!(out, "  inside of a transaction: within {}s", time.as_secs())?,
        }
    }
    if let Some(message) = &ruling.message {
        writeln!(out, "  {message}")?;
    }
    for (trace, action) in explanation.actions.iter().zip(actions) {
        write_action(trace, action, out)?;
    }
    Ok(())
}

fn write_action(trace: &ActionTrace, action: &Action, out: &mut dyn Write) -> anyhow::Result<()> {
    let traits = action.traits.names();
    let traits = if traits.is_empty() { "no trait".to_owned() } else { traits.join(", ") };
    writeln!(out, "\n{}: {} ({}; {traits})", trace.name, trace.decision.as_str(), action.access.as_str())?;
    if let Some(reason) = &action.unknown {
        writeln!(out, "  unknown: {reason}")?;
    }
    if let Some(fallback) = trace.fallback {
        writeln!(out, "  {fallback}")?;
    }
    for rule in &trace.rules {
        write_rule(rule, out)?;
    }
    if trace.others > 0 {
        writeln!(out, "  {} about other actions", count(trace.others, "rule"))?;
    }
    Ok(())
}

fn write_rule(rule: &RuleTrace, out: &mut dyn Write) -> anyhow::Result<()> {
    let verdict = if rule.matched { "matches" } else { "does not match" };
    writeln!(out, "  {} {} {verdict} ({})", rule.decision.as_str(), rule.id, rule.place)?;
    if let (true, Some(description)) = (rule.matched, &rule.description) {
        writeln!(out, "      {}", description.trim())?;
    }
    for step in &rule.steps {
        let mark = if step.passed { "yes" } else { "NO " };
        let wanted = if step.wanted.is_empty() { "nothing unknown" } else { step.wanted.trim() };
        writeln!(out, "      {mark} {:<10} {wanted}", step.part)?;
        if !step.found.is_empty() {
            writeln!(out, "          {:<10} is: {}", "", step.found)?;
        }
    }
    Ok(())
}

fn front(account: &str) -> Front {
    Front { account: Some(account.to_owned()), ..Front::default() }
}

fn report(found: &[Diagnostic], out: &mut dyn Write) -> anyhow::Result<()> {
    out.write_all(render(found).as_bytes())?;
    writeln!(out, "\n{}", count(found.len(), "finding"))?;
    Ok(())
}

fn owner(text: &str) -> Owner {
    match text.strip_prefix("group:") {
        Some(group) => Owner::Group(GroupId::new(group)),
        None => Owner::Person(PersonId::new(text)),
    }
}

fn count(number: usize, what: &str) -> String {
    match (number, what) {
        (1, _) => format!("1 {what}"),
        (_, "person") => format!("{number} people"),
        _ => format!("{number} {what}s"),
    }
}
