//! What was read.

use std::borrow::Cow;
use std::ops::Range;

use crate::{text, Decimal};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// null
    Null,
    /// false
    False,
    /// true
    True,
    /// A number, as it is written.
    Number,
    /// A string.
    String,
    /// The key of a member; only [`Value::members`] shows it.
    Key,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A value of the text: `start..end` is where it lies, `next` is the node behind it and all in it.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    pub kind: Kind,
    pub escaped: bool,
    pub start: u32,
    pub end: u32,
    pub next: u32,
}

/// A value of a document.
#[derive(Clone, Copy)]
pub struct Value<'d> {
    text: &'d str,
    nodes: &'d [Node],
    index: u32,
}

impl<'d> Value<'d> {
    pub(crate) fn root(text: &'d str, nodes: &'d [Node]) -> Value<'d> {
        Value { text, nodes, index: 0 }
    }

    pub(crate) fn at(text: &'d str, nodes: &'d [Node], index: usize) -> Value<'d> {
        Value { text, nodes, index: index as u32 }
    }

    /// Its number within the document, for [`Value::node_at`].
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// The value of that number, in the same document; panics if there is none.
    pub fn node_at(&self, index: usize) -> Value<'d> {
        assert!(index < self.nodes.len(), "value {} of {}", index, self.nodes.len());
        Value::at(self.text, self.nodes, index)
    }

    fn node(&self) -> Node {
        self.nodes[self.index as usize]
    }

    pub(crate) fn escaped(&self) -> bool {
        self.node().escaped
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.node().kind
    }

    /// What it is, as the message of an error says it.
    pub fn noun(&self) -> &'static str {
        match self.kind() {
            Kind::Null => "null",
            Kind::False | Kind::True => "a boolean",
            Kind::Number => "a number",
            Kind::String | Kind::Key => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        }
    }

    /// Where it lies in the text, in bytes.
    pub fn span(&self) -> Range<usize> {
        self.node().start as usize..self.node().end as usize
    }

    /// It as it is written.
    pub fn raw(&self) -> &'d str {
        &self.text[self.span()]
    }

    /// The text of a string or key; of anything else "".
    pub fn string(&self) -> Cow<'d, str> {
        match self.kind() {
            Kind::String | Kind::Key => {
                let raw = self.raw();
                let inner = &raw[1..raw.len() - 1];
                if self.escaped() {
                    Cow::Owned(text::unescape(inner))
                } else {
                    Cow::Borrowed(inner)
                }
            }
            _ => Cow::Borrowed(""),
        }
    }

    /// The text of a string; anything else as it is written.
    pub fn text(&self) -> Cow<'d, str> {
        match self.kind() {
            Kind::String | Kind::Key => self.string(),
            _ => Cow::Borrowed(self.raw()),
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<Decimal<'d>> {
        match self.kind() {
            Kind::Number => Some(Decimal::read(self.raw())),
            _ => None,
        }
    }

    /// Whether a string or key is that text.
    pub fn is(&self, text: &str) -> bool {
        if self.escaped() {
            return self.string() == text;
        }
        let raw = self.raw();
        matches!(self.kind(), Kind::String | Kind::Key) && &raw[1..raw.len() - 1] == text
    }

    fn children(&self) -> Children<'d> {
        Children { text: self.text, nodes: self.nodes, at: self.index + 1, end: self.node().next }
    }

    /// The keys of an object, in order; of anything else this has no meaning.
    pub fn keys(&self) -> impl Iterator<Item = Value<'d>> {
        self.children().step_by(2)
    }

    /// The elements of an array, in order; of anything else none.
    pub fn items(&self) -> impl Iterator<Item = Value<'d>> {
        let mut children = self.children();
        if self.kind() != Kind::Array {
            children.at = children.end;
        }
        children
    }

    /// Keys and values of an object, in order; of anything else none.
    pub fn members(&self) -> impl Iterator<Item = (Value<'d>, Value<'d>)> {
        let mut children = self.children();
        if self.kind() != Kind::Object {
            children.at = children.end;
        }
        std::iter::from_fn(move || Some((children.next()?, children.next()?)))
    }

    /// The member of that name of an object.
    pub fn get(&self, name: &str) -> Option<Value<'d>> {
        self.members().find(|(key, _)| key.is(name)).map(|(_, value)| value)
    }

    /// A number that values which are the same ([`Value::equals`]) have in common.
    pub fn hash(&self) -> u64 {
        // FNV-1a, with the kind first.
        let mut sum = 0xcbf2_9ce4_8422_2325u64;
        let mut add = |byte: u8| sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        match self.kind() {
            Kind::Null => add(1),
            Kind::False => add(2),
            Kind::True => add(3),
            Kind::Number => {
                add(4);
                Decimal::read(self.raw()).each_byte(&mut add);
            }
            Kind::String | Kind::Key => {
                add(5);
                self.string().bytes().for_each(add);
            }
            Kind::Array => {
                add(6);
                self.items().for_each(|item| item.hash().to_le_bytes().iter().for_each(|&byte| add(byte)));
            }
            Kind::Object => {
                add(7);
                // In any order.
                let members =
                    self.members().map(|(key, value)| key.hash().rotate_left(17) ^ value.hash().wrapping_mul(3));
                members.fold(0u64, u64::wrapping_add).to_le_bytes().iter().for_each(|&byte| add(byte));
            }
        }
        sum
    }

    /// Whether both are the same value: numbers by what they are worth, objects in any order.
    /// Does not go deeper than the documents, which are no deeper than [`crate::MAX_DEPTH`].
    pub fn equals(&self, other: &Value<'_>) -> bool {
        match (self.kind(), other.kind()) {
            (Kind::Number, Kind::Number) => self.number() == other.number(),
            (Kind::String | Kind::Key, Kind::String | Kind::Key) => self.string() == other.string(),
            (Kind::Array, Kind::Array) => {
                self.items().count() == other.items().count()
                    && self.items().zip(other.items()).all(|(a, b)| a.equals(&b))
            }
            (Kind::Object, Kind::Object) => {
                self.members().count() == other.members().count()
                    && self
                        .members()
                        .all(|(key, value)| other.get(&key.string()).map_or(false, |theirs| value.equals(&theirs)))
            }
            (a, b) => a == b,
        }
    }
}

/// The nodes below one, each without those below it.
struct Children<'d> {
    text: &'d str,
    nodes: &'d [Node],
    at: u32,
    end: u32,
}

impl<'d> Iterator for Children<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        if self.at >= self.end {
            return None;
        }
        let value = Value { text: self.text, nodes: self.nodes, index: self.at };
        self.at = value.node().next;
        Some(value)
    }
}
