use super::*;
use crate::catalog::aws::built_in;

fn refused(bytes: &[u8]) -> String {
    read(bytes.to_vec(), "facts.bin").unwrap_err().to_string()
}

/// Packs an index and blocks as the generator does.
fn packed(index: &str, blocks: &[u8]) -> Vec<u8> {
    let index = deflated(index);
    let length = u32::try_from(index.len()).unwrap();
    [MAGIC, &length.to_le_bytes(), &index, blocks].concat()
}

fn deflated(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A table of one service with that block.
fn table(block: &str) -> Vec<u8> {
    let (block, names) = (deflated(block), deflated(r#"{"toy":["Play"]}"#));
    let index = format!(
        r#"{{"sources":["botocore 9.9.9"],
"partitions":[{{"id":"aws","suffix":"amazonaws.com","dual":"api.aws","global":"us-east-1","regions":["us-east-1"]}}],
"services":[{{"id":"toy","sg":"toy","px":"toy","pr":["json"],"vs":["2026-01-01"],"tp":"Toy","ep":{{}},"at":[0,{}]}}],
"hosts":{{"toy.{{r}}.amazonaws.com":[0]}},
"names":[{},{}]}}"#,
        block.len(),
        block.len(),
        names.len()
    );
    packed(&index, &[block, names].concat())
}

const GOOD: &str = r#"{"ops":[
{"n":"Play","v":"POST","u":"/","i":0,"a":1}
],"shapes":[
{"k":"s","m":[{"n":"Name","s":1}]},
{"k":"t"}
]}"#;

#[test]
fn a_table_reads_and_serves() {
    let bytes = table(GOOD);
    let table = read(bytes.clone(), "facts.bin").unwrap();
    assert_eq!(table.digest, sha256(&bytes));
    assert_eq!((table.version().as_str(), table.origin.as_str()), ("botocore 9.9.9", "facts.bin"));
    assert_eq!(table.action_names(), ["aws:toy:Play"]);
    assert_eq!(table.operation_named("aws:toy:Play").unwrap().row.method, "POST");
    assert!(table.services_around(0, "toy.", ".amazonaws.com").is_some());
}

#[test]
fn the_built_in_table_is_one_that_would_be_taken() {
    assert_eq!(read(BUILT_IN.to_vec(), "copy").unwrap().digest, built_in().digest);
}

#[test]
fn what_is_no_table_is_refused_with_its_place() {
    assert!(refused(b"").contains("it does not begin as one"));
    assert!(refused(b"CSAWS01\n....").contains("it is of another version"));
    assert!(refused(b"CSAWS03\n\xff\xff\xff\x7f").contains("the index: the file ends in it"));
    let mut torn = BUILT_IN.to_vec();
    torn.truncate(torn.len() - 9);
    assert!(refused(&torn).contains("they are not in the file"), "{}", refused(&torn));
    let mut flipped = BUILT_IN.to_vec();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    assert!(refused(&flipped).contains("service `"), "{}", refused(&flipped));
    for (from, to, says) in [
        ("\"v\":\"POST\"", "\"v\":\"EVAL\"", "service `toy`: operation `Play`: the method is none that is served"),
        ("\"u\":\"/\"", "\"u\":\"\"", "the path does not begin with a slash"),
        ("\"i\":0", "\"i\":1", "its input is no structure of the block"),
        ("\"i\":0", "\"i\":7", "its input is no structure of the block"),
        ("\"a\":1", "\"a\":9", "the access is none of the five"),
        ("\"n\":\"Play\"", "\"n\":\"Pl ay\"", "the name is malformed"),
        ("\"s\":1", "\"s\":2", "shape 0 is of no known kind"),
        ("\"k\":\"t\"", "\"k\":\"?\"", "shape 1 is of no known kind"),
        ("\"n\":\"Name\",", "", "missing field `n` at line 4 column 21"),
        ("\"POST\"", "\"PO\\u0053T\"", "at line 2"),
    ] {
        assert!(GOOD.contains(from));
        let message = refused(&table(&GOOD.replace(from, to)));
        assert!(message.contains(says), "{message}");
        assert!(
            message.starts_with("`facts.bin` is no table of AWS facts: ") && message.contains("help: "),
            "{message}"
        );
    }
}

#[test]
fn a_small_file_that_unpacks_to_a_large_one_is_refused() {
    let bomb = packed(&" ".repeat(40 << 20), b"");
    assert!(bomb.len() < 1 << 20);
    assert!(refused(&bomb).contains("the index: it is larger than 32 MiB"));
    let mut large = BUILT_IN.to_vec();
    large.resize(17 << 20, 0);
    assert!(refused(&large).contains("it is larger than 16 MiB"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn changed_bytes_never_panic(at in 0..table(GOOD).len(), byte: u8) {
        let mut bytes = table(GOOD);
        bytes[at] = byte;
        drop(read(bytes, "changed"));
    }
}
