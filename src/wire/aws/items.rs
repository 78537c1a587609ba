//! Counts the items of a JSON answer as its bytes pass: nothing of it is kept.

/// Deepest nesting that is followed.
const DEPTH_LIMIT: usize = 128;

/// The way to what counts: names of members, `*` for each member, `[]` for each element.
pub(crate) type Path = &'static [&'static str];

/// A place in a JSON text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Items {
    path: Path,
    at: At,
    /// Objects and arrays that are open; one bit each, set for arrays.
    depth: usize,
    arrays: u128,
    /// How many of them, from the outermost, lie on the path.
    on_path: usize,
    /// How much of the path's name the current member's name has; `None`: it is another name.
    name: Option<usize>,
    /// Whether the value to come is on the path.
    is_next: bool,
    is_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Value,
    /// Within an object, before a name.
    Name,
    InName {
        is_escaped: bool,
    },
    Colon,
    InText {
        is_escaped: bool,
    },
    /// A number, `true`, `false` or `null`.
    InWord,
    /// Behind a value.
    Behind,
}

impl Items {
    pub(crate) fn new(path: Path) -> Self {
        Self { path, at: At::Value, depth: 0, arrays: 0, on_path: 0, name: None, is_next: false, is_lost: false }
    }

    /// What passes is no JSON, or nested too deeply: its items cannot be counted.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Goes on over `bytes`, up to the item after `most` of them: how many bytes that are, and items that
    /// begin in them.
    pub(crate) fn pass(&mut self, bytes: &[u8], most: u64) -> (usize, u64) {
        let mut items = 0;
        for (number, byte) in bytes.iter().enumerate() {
            if self.is_item(*byte) {
                if items == most {
                    return (number, items);
                }
                items += 1;
            }
            self.step(*byte);
        }
        (bytes.len(), items)
    }

    /// Whether an item begins with this byte; what is null is none.
    fn is_item(&self, byte: u8) -> bool {
        self.at == At::Value
            && self.depth == self.path.len()
            && self.is_on_path()
            && !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b']' | b'n')
    }

    /// Whether the value that is to come is on the path.
    fn is_on_path(&self) -> bool {
        match self.depth {
            0 => true,
            depth if self.on_path != depth => false,
            depth if self.is_array() => self.path.get(depth - 1) == Some(&"[]"),
            _ => self.is_next,
        }
    }

    fn is_array(&self) -> bool {
        self.depth > 0 && self.arrays & 1 << (self.depth - 1) != 0
    }

    fn step(&mut self, byte: u8) {
        let is_blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match self.at {
            At::Value | At::Name | At::Colon | At::Behind if is_blank => {}
            At::Value => self.begin(byte),
            At::Name => match byte {
                b'"' => {
                    self.name = Some(0);
                    self.at = At::InName { is_escaped: false };
                }
                b'}' => self.close(),
                _ => self.is_lost = true,
            },
            At::InName { is_escaped } => self.in_name(byte, is_escaped),
            At::Colon => match byte {
                b':' => self.at = At::Value,
                _ => self.is_lost = true,
            },
            At::InText { is_escaped: true } => self.at = At::InText { is_escaped: false },
            At::InText { is_escaped: false } => match byte {
                b'\\' => self.at = At::InText { is_escaped: true },
                b'"' => self.at = At::Behind,
                _ => {}
            },
            At::InWord if is_blank => self.at = At::Behind,
            At::InWord => match byte {
                b',' | b']' | b'}' => self.behind(byte),
                _ => {}
            },
            At::Behind => self.behind(byte),
        }
    }

    fn begin(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => {
                let is_on_path = self.is_on_path() && self.on_path == self.depth && self.depth < self.path.len();
                if self.depth == DEPTH_LIMIT {
                    self.is_lost = true;
                    return;
                }
                if is_on_path {
                    self.on_path += 1;
                }
                let bit = 1 << self.depth;
                self.depth += 1;
                self.is_next = false;
                if byte == b'[' {
                    self.arrays |= bit;
                    self.at = At::Value;
                } else {
                    self.arrays &= !bit;
                    self.at = At::Name;
                }
            }
            b']' if self.is_array() => self.close(),
            b'"' => self.at = At::InText { is_escaped: false },
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.at = At::InWord,
            _ => self.is_lost = true,
        }
    }

    fn in_name(&mut self, byte: u8, is_escaped: bool) {
        let wanted = self.path.get(self.depth.saturating_sub(1)).filter(|_| self.on_path == self.depth);
        match byte {
            b'"' if !is_escaped => {
                let is_named = wanted.is_some_and(|wanted| *wanted == "*" || self.name == Some(wanted.len()));
                self.is_next = is_named;
                self.at = At::Colon;
            }
            _ => {
                // No member of AWS's has a name that needs escapes.
                let fits = |at: &usize| byte != b'\\' && wanted.and_then(|it| it.as_bytes().get(*at)) == Some(&byte);
                self.name = self.name.filter(|at| !is_escaped && fits(at)).map(|at| at + 1);
                self.at = At::InName { is_escaped: !is_escaped && byte == b'\\' };
            }
        }
    }

    fn behind(&mut self, byte: u8) {
        match byte {
            b',' if self.is_array() => self.at = At::Value,
            b',' if self.depth > 0 => self.at = At::Name,
            b']' | b'}' if self.depth > 0 && self.is_array() == (byte == b']') => self.close(),
            _ => self.is_lost = true,
        }
    }

    fn close(&mut self) {
        if self.on_path == self.depth {
            self.on_path = self.on_path.saturating_sub(1);
        }
        self.depth = self.depth.saturating_sub(1);
        self.is_next = false;
        self.at = At::Behind;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Whole, and byte by byte.
    fn counted(path: Path, text: &str) -> u64 {
        let mut items = Items::new(path);
        let (bytes, whole) = items.pass(text.as_bytes(), u64::MAX);
        assert_eq!(bytes, text.len());
        assert!(!items.is_lost(), "{text}");
        let mut items = Items::new(path);
        let single: u64 = text.bytes().map(|byte| items.pass(&[byte], u64::MAX).1).sum();
        assert_eq!(single, whole, "{text}");
        whole
    }

    #[test]
    fn items_are_counted_where_they_are() {
        const SCAN: Path = &["Items", "[]"];
        assert_eq!(counted(SCAN, r#"{"Items":[{"Items":["a"]},{"b":"\"]"}],"Count":2}"#), 2);
        assert_eq!(counted(SCAN, " { \"Count\" : 2 , \"Items\" : [ 1 , null , \"x\" , [ ] , { } ] } \n"), 4);
        assert_eq!(counted(SCAN, r#"{"Items":[]}"#), 0);
        assert_eq!(counted(SCAN, r#"{"Item":[1],"Itemss":[1],"X":{"Items":[1]},"\u0049tems":[1]}"#), 0);
        assert_eq!(counted(SCAN, r#"[{"Items":[1]}]"#), 0);
        assert_eq!(counted(&["Responses", "*", "[]"], r#"{"Responses":{"a":[1,2],"b":[{}],"c":3},"d":[1]}"#), 3);
        assert_eq!(counted(&["Item"], r#"{"Item":{"Item":{"S":"x"}}}"#), 1);
        assert_eq!(counted(&["Item"], r#"{"Item":null}"#), 0);
        assert_eq!(counted(&["Responses", "[]", "Item"], r#"{"Responses":[{"Item":{}},{},{"Error":1,"Item":{}}]}"#), 2);
    }

    #[test]
    fn it_stops_before_the_item_too_many() {
        let text = br#"{"Items":[{"a":1}, {"b":2},{"c":3}]}"#;
        let mut items = Items::new(&["Items", "[]"]);
        let (first, count) = items.pass(text, 1);
        assert_eq!((&text[..first], count), (br#"{"Items":[{"a":1}, "#.as_slice(), 1));
        assert_eq!(items.pass(&text[first..], 0), (0, 0));
        let (rest, count) = items.pass(&text[first..], 9);
        assert_eq!((first + rest, count), (text.len(), 2));
    }

    #[test]
    fn what_is_no_json_is_lost() {
        for text in ["<Message/>", "{\"Items\":]", "{\"Items\" [1]}", "{1:2}", &"[".repeat(200), "\u{1f}", "[1}"] {
            let mut items = Items::new(&["Items", "[]"]);
            items.pass(text.as_bytes(), u64::MAX);
            assert!(items.is_lost(), "{text}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
            Just(json!("\\\"}]")),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(prop_oneof![Just("Items".to_owned()), "\\PC{0,4}"], inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_counts_as_a_parser_does(value in value(), inner in value(), is_pretty in any::<bool>()) {
            let value = json!({ "a": value, "Items": inner });
            let text = if is_pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let expected = value["Items"].as_array().map_or(0, |it| it.iter().filter(|it| !it.is_null()).count());
            prop_assert_eq!(counted(&["Items", "[]"], &text), expected as u64);
        }

        #[test]
        fn nothing_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            Items::new(&["Items", "[]"]).pass(&bytes, 3);
        }
    }
}
