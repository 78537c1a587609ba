//! What kind of answer a statement has in the protocol: what a text must keep that takes another's place.

use super::grammar;
use super::tree::Node;

/// What follows in the protocol when a statement runs (PostgreSQL docs, section 55.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Rows,
    /// A tag alone.
    Tag,
    CopyIn,
    CopyOut,
    /// As what it calls or names does.
    Called,
}

/// The answers of a string's statements in order; `None` where it cannot be read.
pub(crate) fn answers(sql: &[u8]) -> Option<Vec<Answer>> {
    let statements = grammar::parse(std::str::from_utf8(sql).ok()?).ok()?;
    statements.iter().map(|raw| raw.tree.node().map(answer)).collect()
}

fn answer(node: &Node) -> Answer {
    match node.kind {
        "CopyStmt" if node.has("filename") => Answer::Tag,
        "CopyStmt" if node.flag("is_from") => Answer::CopyIn,
        "CopyStmt" => Answer::CopyOut,
        "SelectStmt" if node.has("into_clause") => Answer::Tag,
        "FetchStmt" if node.flag("ismove") => Answer::Tag,
        "SelectStmt" | "ExplainStmt" | "VariableShowStmt" | "FetchStmt" => Answer::Rows,
        "CallStmt" | "ExecuteStmt" => Answer::Called,
        _ if node.has("returning_list") || node.has("returning_clause") => Answer::Rows,
        _ => Answer::Tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_its_answer() {
        use Answer::*;
        for (sql, wanted) in [
            ("SELECT 1; VALUES (1); TABLE t; WITH a AS (DELETE FROM t) SELECT 2", vec![Rows, Rows, Rows, Rows]),
            ("SELECT 1 INTO t; CREATE TABLE u AS SELECT 1", vec![Tag, Tag]),
            ("INSERT INTO t VALUES (1); UPDATE t SET a = 1; DELETE FROM t", vec![Tag, Tag, Tag]),
            (
                "INSERT INTO t VALUES (1) RETURNING a; UPDATE t SET a = 1 RETURNING *; DELETE FROM t RETURNING 1",
                vec![Rows, Rows, Rows],
            ),
            ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE RETURNING t.a", vec![Rows]),
            ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", vec![Tag]),
            ("COPY t TO STDOUT; COPY (SELECT 1) TO STDOUT; COPY t FROM STDIN", vec![CopyOut, CopyOut, CopyIn]),
            ("COPY t TO '/tmp/x'; COPY t FROM PROGRAM 'ls'", vec![Tag, Tag]),
            ("EXPLAIN SELECT 1; SHOW a; FETCH 1 FROM c; MOVE 1 FROM c", vec![Rows, Rows, Rows, Tag]),
            ("CALL p(); EXECUTE s; BEGIN; DROP TABLE t", vec![Called, Called, Tag, Tag]),
            ("", vec![]),
        ] {
            assert_eq!(answers(sql.as_bytes()), Some(wanted), "{sql}");
        }
        assert_eq!(answers(b"SELEC"), None);
        assert_eq!(answers(b"SELECT '\xff'"), None);
    }
}
