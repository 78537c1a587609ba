use proptest::prelude::*;

use super::*;
use crate::audit::checkpoint::VerifyingKey;
use crate::audit::line::Lines;

const SEGMENTS: [(u64, &[u8]); 3] = [
    (0, include_bytes!("../../../tests/data/audit-log/00000000000000000000.jsonl")),
    (11, include_bytes!("../../../tests/data/audit-log/00000000000000000011.jsonl")),
    (21, include_bytes!("../../../tests/data/audit-log/00000000000000000021.jsonl")),
];
const KEY: &str = include_str!("../../../tests/data/audit-log/log.pub");
const NOTE: &str = include_str!("../../../tests/data/audit-log/checkpoint");

/// Verifies segments against the sample's checkpoint alone.
fn verify(segments: &[(u64, Vec<u8>)]) -> Result<Whole, Finding> {
    let checkpoint = VerifyingKey::parse(KEY).unwrap().open(NOTE).unwrap();
    let mut verifier = Verifier::new(Anchor { source: "checkpoint".to_owned(), checkpoint }, Vec::new());
    for (index, (first, bytes)) in segments.iter().enumerate() {
        verifier.begin_segment(*first)?;
        let mut lines = Lines::new(bytes.as_slice());
        while let (offset, Some(line)) = (lines.offset(), lines.peek().unwrap()) {
            verifier.line(offset, line)?;
            let length = line.len();
            lines.advance(length);
        }
        verifier.end_segment(&lines.tail().unwrap(), index + 1 == segments.len())?;
    }
    verifier.finish()
}

fn sample() -> Vec<(u64, Vec<u8>)> {
    SEGMENTS.map(|(first, bytes)| (first, bytes.to_vec())).to_vec()
}

#[test]
fn the_sample_is_whole() {
    let whole = verify(&sample()).unwrap();
    assert_eq!((whole.records, whole.covered, whole.torn_bytes), (28, 28, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_byte_can_be_changed(segment in 0_usize..3, at: prop::sample::Index, byte: u8) {
        let mut segments = sample();
        let bytes = &mut segments[segment].1;
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        prop_assert!(verify(&segments).is_err());
    }

    #[test]
    fn no_run_of_bytes_can_be_taken_out_put_in_or_moved(
        segment in 0_usize..3, from: prop::sample::Index, length in 1_usize..800, to: prop::sample::Index, keep: bool
    ) {
        let mut segments = sample();
        let bytes = &mut segments[segment].1;
        let before = bytes.clone();
        let from = from.index(bytes.len());
        let end = (from + length).min(bytes.len());
        let run = bytes[from..end].to_vec();
        if !keep {
            bytes.drain(from..end);
        }
        let to = to.index(bytes.len() + 1);
        bytes.splice(to..to, run);
        prop_assume!(*bytes != before);
        let is_behind = is_behind_the_last_record(&before, bytes);
        prop_assert!(verify(&segments).is_err() || is_behind);
    }

    #[test]
    fn any_bytes_are_judged_without_panic(mut segments in prop::collection::vec((0_u64..30, "(\\PC{0,60}\n){0,4}\\PC{0,9}"), 0..4)) {
        segments.sort();
        let segments: Vec<_> = segments.into_iter().map(|(first, text)| (first, text.into_bytes())).collect();
        prop_assert!(verify(&segments).is_err());
    }
}

/// Bytes appended to the last segment that are no line are reported, not an error.
fn is_behind_the_last_record(before: &[u8], after: &[u8]) -> bool {
    after.starts_with(before) && before == SEGMENTS[2].1
}
