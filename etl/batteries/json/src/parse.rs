//! From text to nodes.

use std::fmt;

use crate::text;
use crate::value::{Kind, Node, Value};

/// How deep objects and arrays may nest.
pub const MAX_DEPTH: usize = 128;

/// How many values and keys a document may have: each takes 16 bytes beside the text.
pub const MAX_VALUES: usize = 1 << 18;

/// Up to so many keys, each is compared with each; more are sorted.
const FEW_KEYS: usize = 16;

/// Why a text is not a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where, in bytes from the beginning.
    pub at: usize,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON: {} at byte {}", self.what, self.at)
    }
}

/// Memory for one document after the other.
#[derive(Default)]
pub struct Document {
    nodes: Vec<Node>,
    open: Vec<u32>,
}

impl Document {
    /// Reads a text. The value lives as long as the text and until the next call.
    pub fn read<'d>(&'d mut self, text: &'d [u8]) -> Result<Value<'d>, Error> {
        let text = std::str::from_utf8(text).map_err(|e| error(e.valid_up_to(), "what is not UTF-8"))?;
        self.nodes.clear();
        self.open.clear();
        let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, nodes: &mut self.nodes, open: &mut self.open };
        parser.document()?;
        Ok(Value::root(text, &self.nodes))
    }
}

/// A document that keeps its text: a constant of a configuration.
pub struct Owned {
    text: String,
    nodes: Vec<Node>,
}

impl Owned {
    /// A copy of a value.
    pub fn of(value: Value<'_>) -> Owned {
        let text = value.raw().to_owned();
        let mut document = Document::default();
        document.read(text.as_bytes()).expect("a value of a document is a document");
        Owned { nodes: document.nodes, text }
    }

    /// The value.
    pub fn value(&self) -> Value<'_> {
        Value::root(&self.text, &self.nodes)
    }
}

fn error(at: usize, what: impl Into<String>) -> Error {
    Error { at, what: what.into() }
}

struct Parser<'p> {
    text: &'p str,
    bytes: &'p [u8],
    at: usize,
    nodes: &'p mut Vec<Node>,
    open: &'p mut Vec<u32>,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<(), Error> {
        loop {
            self.space();
            self.value()?;
            // A container that was just opened is either closed at once or has a first value.
            loop {
                self.space();
                let container = match self.open.last() {
                    None if self.at == self.bytes.len() => return Ok(()),
                    None => return Err(error(self.at, "something follows the value")),
                    Some(&index) => index as usize,
                };
                let (close, first) = match self.nodes[container].kind {
                    Kind::Object => (b'}', self.nodes.len() == container + 1),
                    _ => (b']', self.nodes.len() == container + 1),
                };
                match self.peek() {
                    Some(byte) if byte == close => {
                        self.at += 1;
                        self.close(container)?;
                        continue;
                    }
                    Some(b',') if !first => {
                        self.at += 1;
                        self.space();
                    }
                    Some(_) if first => {}
                    Some(_) => {
                        return Err(error(self.at, if close == b'}' { "neither , nor }" } else { "neither , nor ]" }))
                    }
                    None => return Err(error(self.at, "an end within an object or array")),
                }
                if close == b'}' {
                    self.key()?;
                }
                break;
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn push(&mut self, kind: Kind, start: usize, escaped: bool) -> Result<(), Error> {
        if self.nodes.len() == MAX_VALUES {
            return Err(error(start, format!("more than {} values", MAX_VALUES)));
        }
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { kind, escaped, start: start as u32, end: self.at as u32, next });
        Ok(())
    }

    /// Reads a value; of an object or array only its beginning.
    fn value(&mut self) -> Result<(), Error> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.begin(Kind::Object),
            Some(b'[') => self.begin(Kind::Array),
            Some(b'"') => {
                let escaped = self.string()?;
                self.push(Kind::String, start, escaped)
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                self.push(Kind::Number, start, false)
            }
            Some(b't') => self.word("true", Kind::True),
            Some(b'f') => self.word("false", Kind::False),
            Some(b'n') => self.word("null", Kind::Null),
            Some(_) => Err(error(start, "no value")),
            None => Err(error(start, "an end before a value")),
        }
    }

    fn begin(&mut self, kind: Kind) -> Result<(), Error> {
        if self.open.len() == MAX_DEPTH {
            return Err(error(self.at, format!("deeper than {} objects and arrays", MAX_DEPTH)));
        }
        self.open.push(self.nodes.len() as u32);
        self.at += 1;
        self.push(kind, self.at - 1, false)
    }

    fn close(&mut self, container: usize) -> Result<(), Error> {
        self.open.pop();
        self.nodes[container].end = self.at as u32;
        self.nodes[container].next = self.nodes.len() as u32;
        if self.nodes[container].kind == Kind::Object {
            self.unique(container)?;
        }
        Ok(())
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<(), Error> {
        let start = self.at;
        if !self.bytes[start..].starts_with(word.as_bytes()) {
            return Err(error(start, "no value"));
        }
        self.at += word.len();
        self.push(kind, start, false)
    }

    fn key(&mut self) -> Result<(), Error> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(error(start, "no key"));
        }
        let escaped = self.string()?;
        self.push(Kind::Key, start, escaped)?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(error(self.at, "no : behind a key"));
        }
        self.at += 1;
        Ok(())
    }

    /// Goes past a string, and says whether it has escapes.
    fn string(&mut self) -> Result<bool, Error> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            match self.peek() {
                None => return Err(error(start, "a string without an end")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    let (_, length) = text::escape(&self.bytes[self.at..]).map_err(|what| error(self.at, what))?;
                    self.at += length;
                }
                Some(0..=0x1f) => return Err(error(self.at, "a control character in a string")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn number(&mut self) -> Result<(), Error> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits(start)?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits(start)?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits(start)?;
        }
        match self.peek() {
            Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') => Err(error(start, "no number as JSON writes them")),
            _ => Ok(()),
        }
    }

    fn digits(&mut self, start: usize) -> Result<(), Error> {
        let first = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == first {
            return Err(error(start, "no number as JSON writes them"));
        }
        Ok(())
    }

    /// Refuses an object that has a key twice.
    fn unique(&self, object: usize) -> Result<(), Error> {
        let (text, nodes) = (self.text, &*self.nodes);
        let keys = || Value::at(text, nodes, object).keys();
        let twice = |key: &Value<'_>| error(key.span().start, format!("key {} a second time", key.raw()));
        let mut few = [0usize; FEW_KEYS];
        let mut count = 0;
        let mut all_plain = true;
        for key in keys() {
            if count < FEW_KEYS {
                few[count] = key.index();
            }
            all_plain &= !key.escaped();
            count += 1;
        }
        if count <= FEW_KEYS && all_plain {
            for i in 1..count {
                let key = Value::at(text, nodes, few[i]);
                if few[..i].iter().any(|&j| Value::at(text, nodes, j).raw() == key.raw()) {
                    return Err(twice(&key));
                }
            }
            return Ok(());
        }
        let mut sorted: Vec<_> = keys().map(|key| (key.string(), key)).collect();
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.index().cmp(&b.1.index())));
        match sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(twice(&pair[1].1)),
            None => Ok(()),
        }
    }
}
