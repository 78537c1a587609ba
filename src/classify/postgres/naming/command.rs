//! The name of a command: its command tag in snake case, by the kind of its node.

use std::borrow::Cow;

use pg_query::protobuf::{ObjectType, TransactionStmtKind};

use super::super::tree::Node;

/// The command of a statement's node; `None` for a node that is no statement we know.
pub(super) fn name(node: &Node) -> Option<Cow<'static, str>> {
    let object = |verb: &str, field: &str| Some(Cow::Owned(format!("{verb}_{}", object(node.number(field))?)));
    if let Some((_, name)) = FIXED.iter().find(|(kind, _)| *kind == node.kind) {
        return Some(Cow::Borrowed(name));
    }
    Some(Cow::Borrowed(match node.kind {
        "SelectStmt" => select(node),
        "TransactionStmt" => transaction(node.number("kind"))?,
        "VariableSetStmt" => set(node),
        "CopyStmt" if node.flag("is_from") => "copy_in",
        "CopyStmt" => "copy_out",
        "DiscardStmt" => match node.number("target") {
            1 => "discard_all",
            4 => "discard_temporary",
            _ => "discard",
        },
        "FetchStmt" if node.flag("ismove") => "move",
        "FetchStmt" => "fetch",
        "GrantStmt" if node.flag("is_grant") => "grant",
        "GrantStmt" => "revoke",
        "GrantRoleStmt" if node.flag("is_grant") => "grant_role",
        "GrantRoleStmt" => "revoke_role",
        "VacuumStmt" if node.flag("is_vacuumcmd") => "vacuum",
        "VacuumStmt" => "analyze",
        "CreateFunctionStmt" if node.flag("is_procedure") => "create_procedure",
        "CreateFunctionStmt" => "create_function",
        "CreateTableAsStmt" if node.number("objtype") == i64::from(ObjectType::ObjectMatview as i32) => {
            "create_materialized_view"
        }
        "CreateTableAsStmt" if node.flag("is_select_into") => "select_into",
        "CreateTableAsStmt" => "create_table_as",
        "CommentStmt" => "comment",
        "SecLabelStmt" => "security_label",
        "ExplainStmt" if explains_by_running(node) => "explain_analyze",
        "ExplainStmt" => "explain",
        "AlterTableStmt" | "AlterFunctionStmt" => return object("alter", "objtype"),
        "RenameStmt" => return rename(node),
        "AlterObjectSchemaStmt" | "AlterOwnerStmt" | "AlterObjectDependsStmt" => return object("alter", "object_type"),
        "DefineStmt" => return object("create", "kind"),
        "DropStmt" => return object("drop", "remove_type"),
        _ => return None,
    }))
}

/// `ALTER TABLE t RENAME COLUMN` is an `ALTER TABLE`; the part that is renamed stands apart from its relation.
fn rename(node: &Node) -> Option<Cow<'static, str>> {
    let of = |field: &str| ObjectType::try_from(i32::try_from(node.number(field)).ok()?).ok();
    let whole = match of("rename_type")? {
        ObjectType::ObjectColumn | ObjectType::ObjectAttribute | ObjectType::ObjectTabconstraint => {
            match of("relation_type") {
                Some(ObjectType::Undefined) | None => i64::from(ObjectType::ObjectTable as i32),
                Some(_) => node.number("relation_type"),
            }
        }
        _ => node.number("rename_type"),
    };
    Some(Cow::Owned(format!("alter_{}", object(whole)?)))
}

fn select(node: &Node) -> &'static str {
    if into(node).is_some() {
        "select_into"
    } else if node.has("values_lists") {
        "values"
    } else {
        "select"
    }
}

/// The INTO of a SELECT, which stands at the leftmost part of a chain of set operations.
pub(super) fn into(node: &Node) -> Option<&Node> {
    let mut select = node;
    loop {
        if let Some(into) = select.node("into_clause") {
            return Some(into);
        }
        select = select.node("larg")?;
    }
}

fn transaction(kind: i64) -> Option<&'static str> {
    Some(match TransactionStmtKind::try_from(i32::try_from(kind).ok()?).ok()? {
        TransactionStmtKind::TransStmtBegin => "begin",
        TransactionStmtKind::TransStmtStart => "start_transaction",
        TransactionStmtKind::TransStmtCommit => "commit",
        TransactionStmtKind::TransStmtRollback | TransactionStmtKind::TransStmtRollbackTo => "rollback",
        TransactionStmtKind::TransStmtSavepoint => "savepoint",
        TransactionStmtKind::TransStmtRelease => "release",
        TransactionStmtKind::TransStmtPrepare => "prepare_transaction",
        TransactionStmtKind::TransStmtCommitPrepared => "commit_prepared",
        TransactionStmtKind::TransStmtRollbackPrepared => "rollback_prepared",
        TransactionStmtKind::Undefined => return None,
    })
}

fn set(node: &Node) -> &'static str {
    match (node.number("kind"), node.text("name")) {
        // SET TRANSACTION and SET SESSION CHARACTERISTICS; SET TRANSACTION SNAPSHOT too.
        (4, _) => "set_transaction",
        (5 | 6, _) => "reset",
        _ => "set",
    }
}

/// Whether an EXPLAIN runs what it explains: the last ANALYZE option counts, and `off` is a word like any other.
pub(super) fn explains_by_running(node: &Node) -> bool {
    node.nodes("options").any(|option| {
        option.text("defname").eq_ignore_ascii_case("analyze")
            && !option.node("arg").is_some_and(|arg| {
                let word = arg.text("sval").to_ascii_lowercase();
                matches!(word.as_str(), "off" | "false")
                    || (arg.kind == "Integer" && arg.number("ival") == 0)
                    || (arg.kind == "Boolean" && !arg.flag("boolval"))
            })
    })
}

/// `materialized_view` for the number of an object type; `None` for parts that no command is about.
pub(super) fn object(number: i64) -> Option<&'static str> {
    Some(match ObjectType::try_from(i32::try_from(number).ok()?).ok()? {
        ObjectType::ObjectAccessMethod => "access_method",
        ObjectType::ObjectAggregate => "aggregate",
        ObjectType::ObjectAttribute | ObjectType::ObjectType => "type",
        ObjectType::ObjectCast => "cast",
        ObjectType::ObjectCollation => "collation",
        ObjectType::ObjectConversion => "conversion",
        ObjectType::ObjectDatabase => "database",
        ObjectType::ObjectDomain | ObjectType::ObjectDomconstraint => "domain",
        ObjectType::ObjectEventTrigger => "event_trigger",
        ObjectType::ObjectExtension => "extension",
        ObjectType::ObjectFdw => "foreign_data_wrapper",
        ObjectType::ObjectForeignServer => "server",
        ObjectType::ObjectForeignTable => "foreign_table",
        ObjectType::ObjectFunction => "function",
        ObjectType::ObjectIndex => "index",
        ObjectType::ObjectLanguage => "language",
        ObjectType::ObjectLargeobject => "large_object",
        ObjectType::ObjectMatview => "materialized_view",
        ObjectType::ObjectOpclass => "operator_class",
        ObjectType::ObjectOperator => "operator",
        ObjectType::ObjectOpfamily => "operator_family",
        ObjectType::ObjectPolicy => "policy",
        ObjectType::ObjectProcedure => "procedure",
        ObjectType::ObjectPublication => "publication",
        ObjectType::ObjectRole => "role",
        ObjectType::ObjectRoutine => "routine",
        ObjectType::ObjectRule => "rule",
        ObjectType::ObjectSchema => "schema",
        ObjectType::ObjectSequence => "sequence",
        ObjectType::ObjectSubscription => "subscription",
        ObjectType::ObjectStatisticExt => "statistics",
        ObjectType::ObjectTabconstraint | ObjectType::ObjectColumn | ObjectType::ObjectTable => "table",
        ObjectType::ObjectTablespace => "tablespace",
        ObjectType::ObjectTransform => "transform",
        ObjectType::ObjectTrigger => "trigger",
        ObjectType::ObjectTsconfiguration => "text_search_configuration",
        ObjectType::ObjectTsdictionary => "text_search_dictionary",
        ObjectType::ObjectTsparser => "text_search_parser",
        ObjectType::ObjectTstemplate => "text_search_template",
        ObjectType::ObjectView => "view",
        _ => return None,
    })
}

/// Kinds of node that are always the same command.
pub(super) const FIXED: &[(&str, &str)] = &[
    ("InsertStmt", "insert"),
    ("DeleteStmt", "delete"),
    ("UpdateStmt", "update"),
    ("MergeStmt", "merge"),
    ("CreateSchemaStmt", "create_schema"),
    ("AlterCollationStmt", "alter_collation"),
    ("AlterDomainStmt", "alter_domain"),
    ("AlterDefaultPrivilegesStmt", "alter_default_privileges"),
    ("VariableShowStmt", "show"),
    ("CreateStmt", "create_table"),
    ("CreateTableSpaceStmt", "create_tablespace"),
    ("DropTableSpaceStmt", "drop_tablespace"),
    ("AlterTableSpaceOptionsStmt", "alter_tablespace"),
    ("AlterTableMoveAllStmt", "alter_table"),
    ("CreateExtensionStmt", "create_extension"),
    ("AlterExtensionStmt", "alter_extension"),
    ("AlterExtensionContentsStmt", "alter_extension"),
    ("CreateFdwStmt", "create_foreign_data_wrapper"),
    ("AlterFdwStmt", "alter_foreign_data_wrapper"),
    ("CreateForeignServerStmt", "create_server"),
    ("AlterForeignServerStmt", "alter_server"),
    ("CreateForeignTableStmt", "create_foreign_table"),
    ("CreateUserMappingStmt", "create_user_mapping"),
    ("AlterUserMappingStmt", "alter_user_mapping"),
    ("DropUserMappingStmt", "drop_user_mapping"),
    ("ImportForeignSchemaStmt", "import_foreign_schema"),
    ("CreatePolicyStmt", "create_policy"),
    ("AlterPolicyStmt", "alter_policy"),
    ("CreateAmStmt", "create_access_method"),
    ("CreateTrigStmt", "create_trigger"),
    ("CreateEventTrigStmt", "create_event_trigger"),
    ("AlterEventTrigStmt", "alter_event_trigger"),
    ("CreatePLangStmt", "create_language"),
    ("CreateRoleStmt", "create_role"),
    ("AlterRoleStmt", "alter_role"),
    ("AlterRoleSetStmt", "alter_role"),
    ("DropRoleStmt", "drop_role"),
    ("CreateSeqStmt", "create_sequence"),
    ("AlterSeqStmt", "alter_sequence"),
    ("CreateDomainStmt", "create_domain"),
    ("CreateOpClassStmt", "create_operator_class"),
    ("CreateOpFamilyStmt", "create_operator_family"),
    ("AlterOpFamilyStmt", "alter_operator_family"),
    ("TruncateStmt", "truncate"),
    ("DeclareCursorStmt", "declare_cursor"),
    ("ClosePortalStmt", "close"),
    ("IndexStmt", "create_index"),
    ("CreateStatsStmt", "create_statistics"),
    ("AlterStatsStmt", "alter_statistics"),
    ("DoStmt", "do"),
    ("CallStmt", "call"),
    ("AlterOperatorStmt", "alter_operator"),
    ("AlterTypeStmt", "alter_type"),
    ("RuleStmt", "create_rule"),
    ("NotifyStmt", "notify"),
    ("ListenStmt", "listen"),
    ("UnlistenStmt", "unlisten"),
    ("CompositeTypeStmt", "create_type"),
    ("CreateEnumStmt", "create_type"),
    ("CreateRangeStmt", "create_type"),
    ("AlterEnumStmt", "alter_type"),
    ("ViewStmt", "create_view"),
    ("LoadStmt", "load"),
    ("CreatedbStmt", "create_database"),
    ("AlterDatabaseStmt", "alter_database"),
    ("AlterDatabaseRefreshCollStmt", "alter_database"),
    ("AlterDatabaseSetStmt", "alter_database"),
    ("DropdbStmt", "drop_database"),
    ("AlterSystemStmt", "alter_system"),
    ("ClusterStmt", "cluster"),
    ("RefreshMatViewStmt", "refresh_materialized_view"),
    ("CheckPointStmt", "checkpoint"),
    ("LockStmt", "lock"),
    ("ConstraintsSetStmt", "set_constraints"),
    ("ReindexStmt", "reindex"),
    ("CreateConversionStmt", "create_conversion"),
    ("CreateCastStmt", "create_cast"),
    ("CreateTransformStmt", "create_transform"),
    ("PrepareStmt", "prepare"),
    ("ExecuteStmt", "execute"),
    ("DeallocateStmt", "deallocate"),
    ("DropOwnedStmt", "drop_owned"),
    ("ReassignOwnedStmt", "reassign_owned"),
    ("AlterTsDictionaryStmt", "alter_text_search_dictionary"),
    ("AlterTsConfigurationStmt", "alter_text_search_configuration"),
    ("CreatePublicationStmt", "create_publication"),
    ("AlterPublicationStmt", "alter_publication"),
    ("CreateSubscriptionStmt", "create_subscription"),
    ("AlterSubscriptionStmt", "alter_subscription"),
    ("DropSubscriptionStmt", "drop_subscription"),
];
