//! Nothing that the grammar gives passes in silence: every kind of statement and node is known, or unknown aloud.

use super::super::super::tree::{self, Node as Tree};
use super::*;

/// The kinds of node that the grammar's protocol lists.
fn kinds() -> Vec<String> {
    // The kinds in the order of their numbers: a message of one empty field each, decoded and read back.
    let mut found = Vec::new();
    for number in 1_u32..400 {
        let mut bytes = Vec::new();
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut bytes);
        prost::encoding::encode_varint(0, &mut bytes);
        let node = <pg_query::protobuf::Node as prost::Message>::decode(bytes.as_slice()).unwrap();
        if let tree::Tree::Node(node) = tree::read(&node).unwrap() {
            found.push(node.kind.to_owned());
        }
    }
    found
}

fn empty(kind: &str) -> Option<Box<Tree>> {
    (1_u32..400).find_map(|number| {
        let mut bytes = Vec::new();
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut bytes);
        prost::encoding::encode_varint(0, &mut bytes);
        let node = <pg_query::protobuf::Node as prost::Message>::decode(bytes.as_slice()).unwrap();
        match tree::read(&node).unwrap() {
            tree::Tree::Node(node) if node.kind == kind => Some(node),
            _ => None,
        }
    })
}

#[test]
fn every_kind_of_statement_has_a_command() {
    let kinds = kinds();
    assert!(kinds.len() > 260, "{}", kinds.len());
    // Parts that are called statements, and what only the server's later stages make.
    let parts = [
        "PlassignStmt",
        "PLAssignStmt",
        "RawStmt",
        "ReplicaIdentityStmt",
        "ReturnStmt",
        "SetOperationStmt",
        "PlAssignStmt",
    ];
    // Their command depends on a field that an empty one does not have.
    let by_field = [
        "AlterFunctionStmt",
        "AlterObjectDependsStmt",
        "AlterObjectSchemaStmt",
        "AlterOwnerStmt",
        "AlterTableStmt",
        "DefineStmt",
        "DropStmt",
        "RenameStmt",
        "TransactionStmt",
    ];
    for kind in kinds.iter().filter(|kind| kind.ends_with("Stmt")) {
        let name = command::name(&empty(kind).unwrap());
        let is_left_out = parts.contains(&kind.as_str()) || by_field.contains(&kind.as_str());
        assert_eq!(name.is_none(), is_left_out, "{kind}: {name:?}");
        if let Some(name) = name {
            assert!(facts::command(&name).is_some(), "{kind}: {name}");
        }
    }
}

#[test]
fn every_object_of_a_command_is_in_the_facts() {
    for verb in ["alter", "drop"] {
        for number in 1..60 {
            let Some(object) = command::object(number) else { continue };
            let name = format!("{verb}_{object}");
            // Roles and large objects are dropped by commands of their own.
            assert!(facts::command(&name).is_some() || object == "large_object", "{name}");
        }
    }
}

#[test]
fn a_kind_that_the_walk_does_not_know_is_a_doubt() {
    let (settings, catalogue, mut created) = (Settings::default(), Catalogue::builtin(), Vec::new());
    let (mut silent, mut loud) = (Vec::new(), Vec::new());
    for kind in kinds() {
        let mut namer = Namer::new(&settings, &catalogue, &mut created);
        let at = namer.push(Draft::new("select", ""));
        namer.visit(at, &empty(&kind).unwrap(), &Scope::ROOT);
        let is_named = namer.drafts.len() > 1;
        if namer.drafts.iter().any(|it| it.unknown.is_some()) {
            loud.push(kind)
        } else if !is_named {
            silent.push(kind)
        }
    }
    // What analysis and planning make never comes from the grammar.
    for kind in ["Query", "Aggref", "FuncExpr", "OpExpr", "RangeTblEntry", "SubPlan", "WindowFunc"] {
        assert!(loud.iter().any(|it| it == kind), "{kind}");
    }
    assert!(loud.len() > 60, "{loud:?}");
    for kind in silent {
        let is_meant = query::is_transparent(&kind)
            || [
                "SelectStmt",
                "RangeVar",
                "LockingClause",
                "FuncCall",
                "SubLink",
                "AExpr",
                "ColumnRef",
                "AIndirection",
                "TypeCast",
                "CommonTableExpr",
                "CaseExpr",
                "JoinExpr",
                "SortBy",
            ]
            .contains(&kind.as_str());
        assert!(is_meant, "{kind}");
    }
}

#[test]
fn every_command_of_the_facts_can_be_given() {
    // By the walk or by the protocol; the rest is a name that nothing has.
    let given: BTreeSet<String> = command::FIXED.iter().map(|(_, name)| (*name).to_owned()).collect();
    for (_, name) in command::FIXED {
        assert!(facts::command(name).is_some(), "{name}");
    }
    assert!(given.len() > 80);
}
