use super::*;

#[test]
fn the_table_is_whole() {
    assert!(facts_version().starts_with("PostgreSQL 1"), "{}", facts_version());
    assert!(TABLE.functions.len() > 2500, "{}", TABLE.functions.len());
    let names: Vec<&str> = action_names().collect();
    assert!(names.is_sorted() && names.len() > 180, "{}", names.len());
}

#[test]
fn commands_say_what_they_do() {
    let copy = command_named("postgres:copy_out").unwrap();
    assert_eq!((copy.access, copy.traits.names()), (Access::Read, vec!["export"]));
    assert_eq!(command("grant").unwrap().access, Access::Permissions);
    assert_eq!(command("drop_table").unwrap().traits.names(), ["destructive", "schema"]);
    assert!(command("select").unwrap().traits.names().is_empty());
    assert!(command_named("aws:iam:CreateUser").is_none());
}

#[test]
fn functions_say_what_they_do() {
    assert_eq!(builtin("pg_read_file").unwrap().traits.names(), ["exec", "export"]);
    assert_eq!(builtin("query_to_xml").unwrap().text, Some(0));
    assert!(!builtin("lower").unwrap().is_named);
    assert!(builtin("my_function").is_none());
    // `pg_proc.dat`: the oid of pg_terminate_backend.
    assert_eq!(builtin_by_oid(2096).unwrap().name, "pg_terminate_backend");
    assert_eq!(of_extension("dblink").unwrap().traits.names(), ["exec", "export"]);
}

#[test]
fn settings_are_found_in_any_case_and_by_family() {
    assert_eq!(setting("Search_Path").names(), ["session"]);
    assert_eq!(setting("pgaudit.log").names(), ["destructive"]);
    assert!(setting("work_mem").names().is_empty());
}
