use super::*;
use crate::action::{Access, Agent, Context, Owner, Trait, Traits};
use crate::id::{AgentId, PersonId};
use crate::time::Timestamp;

#[test]
fn probe() {
    for text in [
        "a.b",
        "  agnt == 'x'",
        "é == foo",
        "parameters.x == ",
        "resources.map(r, r)",
        "context.modle == 'x' && nope(1)",
        "parameters.a.matches('(')",
        "parameters.a.matches(parameters.b)",
        "resources.exists(r, r in parameters.x)",
        "1 +* 2",
        "'abc",
        "parameters.x.exists(p, p.y.exists(q, q == 'z'))",
        "a ? b",
        "{",
        "x.exists(1, true)",
    ] {
        match Condition::compile(text) {
            Ok(c) => println!("OK {text} {}", c.multiplies),
            Err(m) => {
                for m in m {
                    println!("{text:40} {:?} {m:?}", text.get(m.start..m.end));
                }
            }
        }
    }
}

#[test]
fn deep() {
    for (a, b, c) in [
        ("(", "true", ")"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("[", "", "]"),
        ("true && ", "true", ""),
        ("1 + ", "1", ""),
        ("a.", "b", ""),
        ("true ? ", "true", " : false"),
        ("{'a':", "1", "}"),
        ("f(", "", ")"),
    ] {
        for n in [10, 15, 16, 30, 300, 400, 500, 680, 1000, 2000] {
            let text = format!("{}{b}{}", a.repeat(n), c.repeat(n));
            use std::io::Write;
            write!(std::io::stderr(), "{a}{n} ").unwrap();
            let r = Condition::compile(&text);
            println!("{a}{n} {:?}", r.map(|_| ()).map_err(|m| m[0].message.clone()));
        }
    }
    fn sync<T: Send + Sync>() {}
    sync::<Condition>();
}
