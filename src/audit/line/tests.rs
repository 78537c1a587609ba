use proptest::prelude::*;

use super::*;
use crate::digest::sha256;

/// Gives at most `step` bytes a read, as a pipe might.
struct Trickle<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.step.min(buffer.len()).min(self.bytes.len());
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

fn read(bytes: &[u8], step: usize) -> (Vec<(u64, Vec<u8>)>, Tail) {
    let mut lines = Lines::new(Trickle { bytes, step });
    let mut seen = Vec::new();
    while let Some(line) = lines.peek().unwrap().map(<[u8]>::to_vec) {
        seen.push((lines.offset(), line.clone()));
        lines.advance(line.len());
    }
    (seen, lines.tail().unwrap())
}

#[test]
fn names_have_one_spelling() {
    assert_eq!(parse_segment_name(&segment_name(12_345)), Some(12_345));
    for name in
        ["1.jsonl", "+0000000000000000001.jsonl", "00000000000000000001.json", "00000000000000000001", "checkpoint"]
    {
        assert_eq!(parse_segment_name(name), None, "{name}");
    }
}

#[test]
fn lines_end_where_zeros_or_a_torn_line_begin() {
    let (lines, tail) = read(b"ab\n\ncd\n\0\0\0", 2);
    assert_eq!(lines, [(0, b"ab".to_vec()), (3, b"".to_vec()), (4, b"cd".to_vec())]);
    assert_eq!(tail, Tail { offset: 7, bytes: 0, sha256: sha256(b""), zeros: 3 });
    let (lines, tail) = read(b"ab\ncd\0\0e\0", 4);
    assert_eq!(lines.len(), 1);
    assert_eq!(tail, Tail { offset: 3, bytes: 5, sha256: sha256(b"cd\0\0e"), zeros: 1 });
}

#[test]
fn a_line_over_the_limit_is_no_line() {
    let longest = [vec![b'x'; MAX_LINE], b"\n".to_vec()].concat();
    assert_eq!(read(&longest, 1000).0.len(), 1);
    let (lines, tail) = read(&[b"x", longest.as_slice()].concat(), 100_000);
    assert_eq!((lines.len(), tail.bytes), (0, MAX_LINE as u64 + 2));
}

proptest! {
    #[test]
    fn every_byte_is_a_line_or_tail_however_it_arrives(
        pieces in proptest::collection::vec((0_usize..70_000, any::<u8>()), 0..8), step in 1_usize..100_000
    ) {
        let mut bytes = Vec::new();
        for (length, end) in pieces {
            bytes.resize(bytes.len() + length, b'x');
            bytes.push(if end < 200 { b'\n' } else { end - 200 });
        }
        let (lines, tail) = read(&bytes, step);
        let in_lines: u64 = lines.iter().map(|(_, line)| line.len() as u64 + 1).sum();
        prop_assert_eq!(tail.offset, in_lines);
        prop_assert_eq!(in_lines + tail.bytes + tail.zeros, bytes.len() as u64);
        prop_assert_eq!((lines, tail), read(&bytes, usize::MAX));
    }
}
