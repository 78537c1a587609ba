use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::action::Owner;
use crate::id::{AgentId, PersonId};
use crate::people::Person;
use crate::people::rota::Rota;
use crate::yaml::{near_misses, render};

mod model;

fn people() -> Arc<People> {
    let persons = vec![Person::of("alice", &["approvers", "security"]), Person::of("bob", &["approvers"])];
    Arc::new(People::new(persons, Rota::default()).unwrap())
}

fn options() -> Options {
    Options { people: Some(people()), ..Options::default() }
}

fn compiled(text: &str) -> RuleSet {
    compile(&[Source::new("r.yaml", text)], &options()).unwrap_or_else(|found| panic!("{}", render(&found)))
}

fn agent() -> Agent {
    Agent { id: AgentId::new("deployer"), owner: Owner::Group(GroupId::new("platform")) }
}

fn action(name: &str) -> Action {
    Action {
        name: name.to_owned().into(),
        access: Access::Write,
        traits: Traits::EMPTY,
        resources: vec!["*".to_owned()],
        region: Some("eu-west-1".into()),
        account: Some("123456789012".to_owned()),
        parameters: serde_json::Map::new(),
        sensitive: Vec::new(),
        iam_actions: Vec::new(),
        tags: Vec::new(),
        unknown: None,
    }
}

fn decide(rules: &RuleSet, actions: &[Action]) -> Ruling {
    let (agent, context) = (agent(), Context { model: Some("m1".to_owned()), ..Context::default() });
    let now = Timestamp::parse_rfc3339("2026-11-20T22:30:00Z").unwrap();
    rules.decide(&Subject { agent: &agent, context: &context, now }, actions)
}

/// Compares with a golden file; `UPDATE_GOLDEN=1` writes it anew.
fn check_golden(name: &str, actual: &str) {
    let path = format!("{}/src/rules/tests/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    assert_eq!(actual, std::fs::read_to_string(&path).unwrap(), "UPDATE_GOLDEN=1 writes {name} anew");
}

/// Rule files with mistakes, each followed by what is said about it, exactly.
#[test]
fn mistakes_are_explained() {
    let golden = include_str!("tests/bad.txt");
    let mut actual = String::new();
    for case in golden.split("==== file\n").skip(1) {
        let (text, _) = case.split_once("---- says\n").unwrap();
        let said = match compile(&[Source::new("r.yaml", text)], &options()) {
            Ok(rules) => render(&rules.warnings()),
            Err(found) => render(&found),
        };
        // The version of the facts is no part of what is tested.
        let said: String = said
            .split_inclusive('\n')
            .map(|line| {
                line.split_once("; facts: ").map_or(line.to_owned(), |(before, _)| format!("{before}; facts: …\n"))
            })
            .collect();
        write!(actual, "==== file\n{text}---- says\n{said}").unwrap();
    }
    check_golden("bad.txt", &actual);
}

#[test]
fn a_second_rule_with_one_id_names_the_first() {
    let rule = "rules: [{id: a, match: {action: \"aws:iam:*\"}, decision: deny}]";
    let found = compile(&[Source::new("x.yaml", rule), Source::new("y.yaml", rule)], &options()).unwrap_err();
    assert!(found[0].to_string().contains("the first is at x.yaml:1"), "{}", found[0]);
}

/// Every rule of `truth.yaml` against every action below: who decides what.
#[test]
fn truth_table() {
    let source = include_str!("tests/truth.yaml");
    let rules = compiled(source);
    let mut table = String::new();
    for (label, actions) in truth_actions() {
        let ruling = decide(&rules, &actions);
        let by: Vec<&str> = ruling.rules.iter().map(RuleId::as_str).collect();
        let asks: Vec<String> =
            ruling.requirements.iter().map(|it| format!("{}:{}", it.rule, it.stages[0].quorum)).collect();
        write!(table, "{label:<58} {:<5} by [{}]", ruling.decision.as_str(), by.join(" ")).unwrap();
        if !asks.is_empty() {
            write!(table, " asks [{}] {}s", asks.join(" "), ruling.expires.as_secs()).unwrap();
        }
        if !ruling.faults.is_empty() {
            write!(table, " faults {:?}", ruling.faults).unwrap();
        }
        table.push('\n');
    }
    check_golden("truth.txt", &table);
}

fn truth_actions() -> Vec<(&'static str, Vec<Action>)> {
    let with = |name: &str, change: &dyn Fn(&mut Action)| {
        let mut action = action(name);
        change(&mut action);
        action
    };
    let keys = |keys: &'static [&'static str]| {
        with("aws:s3:DeleteObjects", &|it| it.resources = keys.iter().map(|key| (*key).to_owned()).collect())
    };
    let traits = |name: &str, traits: &'static [Trait]| with(name, &|it| it.traits = traits.iter().copied().collect());
    let parameters =
        |name: &str, value: serde_json::Value| with(name, &|it| it.parameters = value.as_object().unwrap().clone());
    let unknown = |name: &str| with(name, &|it| it.traits = Traits::EMPTY.with(Trait::Unknown));
    vec![
        ("no action at all", vec![]),
        ("ordinary, no rule", vec![action("aws:sqs:SendMessage")]),
        ("permissions, no rule", vec![with("aws:sqs:AddPermission", &|it| it.access = Access::Permissions)]),
        ("a trait, no rule", vec![traits("aws:glacier:InitiateJob", &[Trait::Export])]),
        (
            "a read with a trait, no rule",
            vec![with("aws:glacier:GetJobOutput", &|it| {
                it.access = Access::Read;
                it.traits = Traits::EMPTY.with(Trait::Export);
            })],
        ),
        ("unknown, no rule", vec![unknown("aws:sqs:Unheard")]),
        ("unknown does not pass by a wide allow rule", vec![unknown("aws:dynamodb:Unheard")]),
        ("unknown passes by an allow rule that names it", vec![unknown("aws:kinesis:Unheard")]),
        ("unknown and deny", vec![unknown("aws:glue:Unheard")]),
        ("unknown and hold: the rule asks", vec![unknown("aws:lambda:Unheard")]),
        ("allow against hold by default", vec![traits("aws:dynamodb:Scan", &[Trait::Export])]),
        (
            "hold over allow",
            vec![with("aws:dynamodb:DeleteTable", &|it| it.traits = Traits::EMPTY.with(Trait::Destructive))],
        ),
        ("deny over hold", vec![action("aws:glue:DeleteDatabase")]),
        ("two hold rules: both ask, the shorter time", vec![action("aws:lambda:DeleteFunction")]),
        ("two actions: the stricter one", vec![action("aws:sqs:SendMessage"), action("aws:glue:DeleteDatabase")]),
        (
            "two actions: an allow rule covers only its own",
            vec![traits("aws:dynamodb:Scan", &[Trait::Export]), traits("aws:glacier:InitiateJob", &[Trait::Export])],
        ),
        ("allow on resources: all inside", vec![keys(&["arn:aws:s3:::tmp/a", "arn:aws:s3:::tmp/b"])]),
        ("allow on resources: one outside", vec![keys(&["arn:aws:s3:::tmp/a", "arn:aws:s3:::app/b"])]),
        ("hold on resources: any inside", vec![keys(&["arn:aws:s3:::tmp/a", "arn:aws:s3:::prod/b"])]),
        ("hold on resources: a template that may be inside", vec![keys(&["arn:aws:s3:::pro*"])]),
        ("allow on resources: a template that may be outside", vec![keys(&["arn:aws:s3:::t*"])]),
        ("hold on resources: another case", vec![keys(&["ARN:aws:s3:::PROD/b"])]),
        ("allow on resources: another case", vec![keys(&["arn:aws:s3:::TMP/a"])]),
        ("no resources", vec![keys(&[])]),
        ("unless takes away", vec![parameters("aws:ec2:StopInstances", json!({"DryRun": true}))]),
        (
            "unless: a parameter in a list, all of them",
            vec![parameters("aws:ec2:StopInstances", json!({"DryRun": [true, false]}))],
        ),
        ("unless: another case is no exception", vec![parameters("aws:ec2:StopInstances", json!({"DryRun": "TRUE"}))]),
        ("unless: absent", vec![action("aws:ec2:StopInstances")]),
        (
            "parameter by pointer",
            vec![parameters("aws:ec2:CreateTags", json!({"Tags": [{"Key": "x"}, {"Key": "env"}]}))],
        ),
        (
            "parameter by pointer: another case",
            vec![parameters("aws:ec2:CreateTags", json!({"Tags": [{"Key": "ENV"}]}))],
        ),
        (
            "parameter by pointer: another value",
            vec![parameters("aws:ec2:CreateTags", json!({"Tags": [{"Key": "x"}]}))],
        ),
        (
            "parameter inside a structure, by its JSON",
            vec![parameters(
                "aws:ec2:AuthorizeSecurityGroupIngress",
                json!({"IpPermissions": [{"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]}),
            )],
        ),
        ("parameter present", vec![parameters("aws:ec2:RunInstances", json!({"IamInstanceProfile": {"Name": "x"}}))]),
        (
            "parameter that is secret: hold matches",
            vec![with("aws:rds:CreateDBInstance", &|it| {
                it.parameters = json!({"MasterUserPassword": "hunter2"}).as_object().unwrap().clone();
                it.sensitive = vec!["MasterUserPassword".to_owned()];
            })],
        ),
        (
            "parameter that is secret: allow does not",
            vec![with("aws:rds:ModifyDBInstance", &|it| {
                it.parameters = json!({"MasterUserPassword": "hunter2"}).as_object().unwrap().clone();
                it.sensitive = vec!["MasterUserPassword".to_owned()];
                it.traits = Traits::EMPTY.with(Trait::Sharing);
            })],
        ),
        ("account not known: hold matches", vec![with("aws:sns:Publish", &|it| it.account = None)]),
        ("another account: hold does not", vec![with("aws:sns:Publish", &|it| it.account = Some("1".to_owned()))]),
        (
            "account not known: allow does not match",
            vec![with("aws:sns:Subscribe", &|it| {
                it.account = None;
                it.traits = Traits::EMPTY.with(Trait::Sharing);
            })],
        ),
        ("a service without region", vec![with("aws:route53:ListHostedZones", &|it| it.region = None)]),
        ("condition true", vec![parameters("aws:ecs:RunTask", json!({"count": 50, "cluster": "prod"}))]),
        ("condition false", vec![parameters("aws:ecs:RunTask", json!({"count": 2, "cluster": "prod"}))]),
        ("condition fails: hold matches", vec![action("aws:ecs:RunTask")]),
        (
            "condition of wrong types: hold matches",
            vec![parameters("aws:ecs:RunTask", json!({"count": "many", "cluster": "prod"}))],
        ),
        ("condition fails: allow does not match", vec![traits("aws:ecs:StopTask", &[Trait::Destructive])]),
        (
            "condition holds: allow matches",
            vec![with("aws:ecs:StopTask", &|it| {
                it.traits = Traits::EMPTY.with(Trait::Destructive);
                it.parameters = json!({"reason": "done"}).as_object().unwrap().clone();
            })],
        ),
        ("condition by the hour, in a time zone", vec![action("aws:ecs:CreateCluster")]),
        (
            "condition that needs all resources",
            vec![with("aws:ecs:DeleteCluster", &|it| {
                it.resources = vec!["a/prod".to_owned(), "b/dev".to_owned()];
            })],
        ),
        ("condition on the account, which is not known", vec![with("aws:ecs:UpdateCluster", &|it| it.account = None)]),
        ("condition on what the agent claims", vec![action("aws:ecs:PutAttributes")]),
    ]
}

#[test]
fn messages_and_controls_come_from_the_deciding_rules_only() {
    let rules = compiled(
        "rules:\n\
         - {id: b, match: {action: \"aws:iam:*\"}, decision: hold, message: two, controls: [X, Y]}\n\
         - {id: a, match: {action: \"aws:iam:*\"}, decision: hold, message: one, controls: [Y, Z]}\n\
         - {id: c, match: {action: \"aws:iam:*\"}, decision: allow, message: never}\n",
    );
    let ruling = decide(&rules, &[action("aws:iam:CreateUser")]);
    assert_eq!(ruling.message.as_deref(), Some("one two"));
    assert_eq!(ruling.controls, ["Y", "Z", "X"]);
    assert!(!ruling.is_unmatched_allow());
}

#[test]
fn the_default_decisions_are_configured() {
    for (ordinary, privileged, unknown) in [
        (Decision::Hold, Decision::Deny, Decision::Deny),
        (Decision::Deny, Decision::Allow, Decision::Hold),
        (Decision::Allow, Decision::Hold, Decision::Hold),
    ] {
        let rules = compile(&[], &Options { ordinary, privileged, unknown, ..options() }).unwrap();
        let of = |access, traits| decide(&rules, &[Action { access, traits, ..action("aws:x:Y") }]);
        assert_eq!(of(Access::Write, Traits::EMPTY).decision, ordinary);
        assert_eq!(of(Access::Permissions, Traits::EMPTY).decision, privileged);
        assert_eq!(of(Access::List, Traits::EMPTY.with(Trait::CrossAccount)).decision, privileged);
        assert_eq!(of(Access::List, Traits::EMPTY.with(Trait::Unknown)).decision, unknown);
        let ruling = of(Access::List, Traits::EMPTY);
        assert_eq!(ruling.is_unmatched_allow(), ordinary == Decision::Allow);
        assert_eq!(ruling.requirements.is_empty(), ordinary != Decision::Hold);
    }
}

#[test]
fn the_digest_follows_the_meaning_and_nothing_else() {
    let one = "rules: [{id: a, match: {action: [\"aws:iam:*\", \"aws:sts:*\"]}, decision: hold, quorum: 2}]";
    let two = "rules: [{id: b, match: {access: write}, decision: deny}]";
    let digest = |sources: &[&str], options: &Options| {
        let sources: Vec<Source> = sources.iter().map(|text| Source::new("f", text)).collect();
        compile(&sources, options).unwrap_or_else(|found| panic!("{}", render(&found))).digest()
    };
    let wanted = digest(&[one, two], &options());
    let same = "# why\nrules:\n  - decision: hold\n    id: a\n    description: words\n    quorum: 2\n    \
                match: {action: [\"aws:sts:*\", \"aws:iam:*\", \"aws:sts:*\"]}\n";
    assert_eq!(digest(&[two, same], &options()), wanted);
    assert_eq!(digest(&[one, two], &Options { people: None, ..options() }), wanted);
    for other in [
        "rules: [{id: a, match: {action: \"aws:iam:*\"}, decision: hold, quorum: 2}]",
        "rules: [{id: a, match: {action: [\"aws:iam:*\", \"aws:sts:*\"]}, decision: hold}]",
        "rules: [{id: a, match: {action: [\"aws:iam:*\", \"aws:sts:*\"]}, decision: hold, quorum: 2, message: m}]",
        "rules: [{id: a, match: {action: [\"aws:iam:*\", \"aws:sts:*\"]}, when: \"true\", decision: hold, quorum: 2}]",
        "rules: [{id: a, unless: {action: [\"aws:iam:*\", \"aws:sts:*\"]}, decision: hold, quorum: 2}]",
        "rules: [{id: a2, match: {action: [\"aws:iam:*\", \"aws:sts:*\"]}, decision: hold, quorum: 2}]",
    ] {
        assert_ne!(digest(&[other, two], &options()), wanted, "{other}");
    }
    assert_ne!(digest(&[one, two], &Options { ordinary: Decision::Hold, ..options() }), wanted);
    assert_ne!(digest(&[one, two], &Options { unknown: Decision::Deny, ..options() }), wanted);
    let mut hold = options().hold;
    hold.stages[0].quorum = 2;
    assert_ne!(digest(&[one, two], &Options { hold, ..options() }), wanted);
    let limited = |terms: &str| digest(&[&one.replace("quorum", &format!("{terms}, quorum")), two], &options());
    let (short, long) = (limited("in_transaction: 30s"), limited("in_transaction: 31s"));
    assert!(short != wanted && short != long && short != limited("in_transaction: refuse"));
    assert_eq!(short, limited("in_transaction: 30000ms"));
}

#[test]
fn the_strictest_word_on_transactions_counts() {
    let rules = |terms: [&str; 2]| {
        let rule = |id, terms| format!("  - {{id: {id}, match: {{action: \"aws:s3:*\"}}, decision: hold{terms}}}\n");
        compiled(&format!("rules:\n{}{}", rule("a", terms[0]), rule("b", terms[1])))
    };
    let (none, short, long, refuse) = ("", ", in_transaction: 10s", ", in_transaction: 1h", ", in_transaction: refuse");
    let wait = |seconds| Some(InTransaction::Wait(Duration::from_secs(seconds)));
    for (terms, wanted) in [
        ([none, none], None),
        ([none, long], wait(3600)),
        ([short, long], wait(10)),
        ([long, short], wait(10)),
        ([refuse, short], Some(InTransaction::Refuse)),
        ([long, refuse], Some(InTransaction::Refuse)),
    ] {
        assert_eq!(decide(&rules(terms), &[action("aws:s3:GetObject")]).in_transaction, wanted, "{terms:?}");
    }
}

#[test]
fn case_files_are_not_rules() {
    let rules = compile(&[Source::new("rules/a.cases.yaml", "cases: []")], &options()).unwrap();
    assert_eq!(rules.len(), 0);
}

#[test]
fn a_trace_says_what_kept_a_rule_from_matching() {
    let rules = compiled(include_str!("tests/truth.yaml"));
    let (agent, context) = (agent(), Context::default());
    let subject = Subject { agent: &agent, context: &context, now: Timestamp::from_micros(0) };
    let mut action = action("aws:s3:DeleteObjects");
    action.resources = vec!["arn:aws:s3:::tmp/a".to_owned(), "arn:aws:s3:::prod/b".to_owned()];
    let explanation = rules.explain(&subject, &[action]);
    let mut text = String::new();
    for rule in &explanation.actions[0].rules {
        writeln!(text, "{} {} {}", rule.id, rule.decision.as_str(), rule.matched).unwrap();
        for step in &rule.steps {
            writeln!(text, "  {} {} | {} | {}", step.part, step.passed, step.wanted, step.found).unwrap();
        }
    }
    check_golden("explain.txt", &text);
    assert_eq!(explanation.ruling.decision, Decision::Hold);
    assert_eq!(explanation.actions[0].others + explanation.actions[0].rules.len(), rules.len());
}

/// What `docs/rules.md` shows as rules, cases and conditions must be some.
#[test]
fn the_documentation_is_true() {
    let blocks = include_str!("../../docs/rules.md").split("```yaml\n").skip(1);
    let (mut rules, mut cases, mut conditions) = (0, 0, 0);
    for block in blocks.map(|rest| rest.split("```").next().unwrap()) {
        let text = if block.starts_with("  - id:") || block.starts_with("  #") {
            format!("rules:\n{block}")
        } else {
            block.to_owned()
        };
        let source = Source::new("docs/rules.md", &text);
        if text.contains("rules:\n") && !text.starts_with("cases:") {
            compile(&[source], &Options::default()).unwrap_or_else(|found| panic!("{}", render(&found)));
            rules += 1;
        } else if text.starts_with("cases:") {
            read_cases(&source).unwrap_or_else(|found| panic!("{}", render(&found)));
            cases += 1;
        }
        for line in block.lines().filter(|line| line.starts_with("when:")) {
            let rule = format!("rules:\n- id: a\n  decision: deny\n  {line}\n");
            compile(&[Source::new("docs/rules.md", rule)], &Options::default())
                .unwrap_or_else(|found| panic!("{}", render(&found)));
            conditions += 1;
        }
        if block.starts_with("parameters:") {
            let rule = format!("rules:\n- id: a\n  decision: deny\n  match:\n    {}", block.replace('\n', "\n    "));
            compile(&[Source::new("docs/rules.md", rule)], &Options::default())
                .unwrap_or_else(|found| panic!("{}", render(&found)));
        }
    }
    assert!(rules >= 3 && cases >= 1 && conditions >= 4, "{rules} {cases} {conditions}");
}

#[test]
fn the_pack_compiles_without_a_warning() {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/rules")).unwrap() {
        let path = entry.unwrap().path();
        sources.push(Source::new(path.to_string_lossy(), std::fs::read_to_string(&path).unwrap()));
    }
    let rules = compile(&sources, &Options::default()).unwrap_or_else(|found| panic!("{}", render(&found)));
    assert_eq!(render(&rules.warnings()), "");
    assert!(rules.len() > 20);
}

proptest! {
    #[test]
    fn arbitrary_rule_files_never_panic(text in "(rules:|- |id: |match: |action: |\\{|\\}|\\[|\\]|\"aws:iam:\\*\"|when: |decision: |hold|allow|traits: |\n|  |[a-z&*!'\"]){0,40}") {
        drop(compile(&[Source::new("f", &text)], &options()));
        drop(read_cases(&Source::new("f", &text)));
    }

    #[test]
    fn near_misses_never_panic(word in ".{0,20}", other in ".{0,20}") {
        near_misses(&word, [other.as_str()], 3);
    }
}
