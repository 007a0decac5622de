//! Regular expressions of ECMA-262 (with flag `u`), but for look-around, back-references, named groups
//! and properties of Unicode, which are refused by name.
//!
//! A text is gone through once, with all states at once (Thompson's construction): the work is bounded
//! by the length of the text times that of the expression, whatever they are.

use std::iter;

/// How many steps an expression may have, with its repetitions written out.
const MAX_STEPS: usize = 2000;

/// How deep groups may nest.
const MAX_DEPTH: usize = 32;

type Ranges = Vec<(char, char)>;

enum Step {
    /// A character in (or, negated, not in) some ranges.
    Set(Ranges, bool),
    /// Either place.
    Split(usize, usize),
    Jump(usize),
    Start,
    End,
    /// At the edge of a word, or, false, anywhere else.
    Edge(bool),
    Match,
}

/// A regular expression.
pub(crate) struct Pattern {
    text: String,
    steps: Vec<Step>,
}

/// What an expression consists of, before its repetitions are written out.
enum Node {
    Set(Ranges, bool),
    Start,
    End,
    Edge(bool),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, usize, Option<usize>),
}

impl Pattern {
    pub(crate) fn compile(text: &str) -> Result<Pattern, String> {
        let mut parser = Parser { rest: text.chars().collect(), at: 0, depth: 0 };
        let node = parser.either()?;
        if parser.at < parser.rest.len() {
            return Err("a ) that nothing opens".into());
        }
        let mut steps = Vec::new();
        write(&node, &mut steps)?;
        within(&steps)?;
        steps.push(Step::Match);
        Ok(Pattern { text: text.into(), steps })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches anywhere in a text.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let mut now = States::new(self.steps.len());
        let mut next = States::new(self.steps.len());
        let anchored = matches!(self.steps[0], Step::Start);
        let mut before = None;
        for after in text.chars().map(Some).chain(iter::once(None)) {
            // It may begin anywhere.
            now.add(0, &self.steps, before, after);
            if now.matched {
                return true;
            }
            next.clear();
            let character = match after {
                None => return false,
                Some(character) => character,
            };
            for &at in &now.list {
                if let Step::Set(ranges, negated) = &self.steps[at] {
                    if contains(ranges, character) != *negated {
                        next.starts.push(at + 1);
                    }
                }
            }
            if anchored && next.starts.is_empty() {
                return false; // it cannot begin anywhere else
            }
            before = Some(character);
            std::mem::swap(&mut now, &mut next);
        }
        false
    }
}

/// Where an expression may be in the text.
struct States {
    list: Vec<usize>,
    is_in: Vec<bool>,
    matched: bool,
    /// Places that are to be added once it is known what follows.
    starts: Vec<usize>,
}

impl States {
    fn new(count: usize) -> States {
        States { list: Vec::new(), is_in: vec![false; count], matched: false, starts: Vec::new() }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.is_in.iter_mut().for_each(|is_in| *is_in = false);
        self.starts.clear();
    }

    /// Adds a place, those that wait, and all that they lead to without a character.
    fn add(&mut self, first: usize, steps: &[Step], before: Option<char>, after: Option<char>) {
        self.starts.push(first);
        while let Some(at) = self.starts.pop() {
            if std::mem::replace(&mut self.is_in[at], true) {
                continue;
            }
            let edge = || before.map_or(false, is_word) != after.map_or(false, is_word);
            match &steps[at] {
                Step::Set(..) => self.list.push(at),
                Step::Jump(to) => self.starts.push(*to),
                Step::Split(one, other) => self.starts.extend([*one, *other]),
                Step::Start if before.is_none() => self.starts.push(at + 1),
                Step::End if after.is_none() => self.starts.push(at + 1),
                Step::Edge(wanted) if edge() == *wanted => self.starts.push(at + 1),
                Step::Match => self.matched = true,
                _ => {}
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn contains(ranges: &[(char, char)], c: char) -> bool {
    ranges.iter().any(|&(low, high)| low <= c && c <= high)
}

fn within(steps: &[Step]) -> Result<(), String> {
    if steps.len() > MAX_STEPS {
        return Err(format!("it has more than {} steps, with its repetitions written out", MAX_STEPS));
    }
    Ok(())
}

/// Writes the steps of a node.
fn write(node: &Node, steps: &mut Vec<Step>) -> Result<(), String> {
    within(steps)?;
    match node {
        Node::Set(ranges, negated) => steps.push(Step::Set(ranges.clone(), *negated)),
        Node::Start => steps.push(Step::Start),
        Node::End => steps.push(Step::End),
        Node::Edge(wanted) => steps.push(Step::Edge(*wanted)),
        Node::Sequence(nodes) => nodes.iter().try_for_each(|node| write(node, steps))?,
        Node::Either(nodes) => {
            let mut ends = Vec::new();
            for (i, node) in nodes.iter().enumerate() {
                if i + 1 == nodes.len() {
                    write(node, steps)?;
                    break;
                }
                let split = steps.len();
                steps.push(Step::Split(split + 1, 0));
                write(node, steps)?;
                ends.push(steps.len());
                steps.push(Step::Jump(0));
                steps[split] = Step::Split(split + 1, steps.len());
            }
            for end in ends {
                steps[end] = Step::Jump(steps.len());
            }
        }
        Node::Repeat(node, least, most) => {
            for _ in 0..*least {
                let before = steps.len();
                write(node, steps)?;
                if steps.len() == before {
                    break; // nothing, however often
                }
            }
            match most {
                None => {
                    let split = steps.len();
                    steps.push(Step::Split(split + 1, 0));
                    write(node, steps)?;
                    steps.push(Step::Jump(split));
                    steps[split] = Step::Split(split + 1, steps.len());
                }
                Some(most) => {
                    let mut splits = Vec::new();
                    for _ in *least..*most {
                        splits.push(steps.len());
                        steps.push(Step::Jump(0));
                        write(node, steps)?;
                    }
                    for split in splits {
                        steps[split] = Step::Split(split + 1, steps.len());
                    }
                }
            }
        }
    }
    Ok(())
}

struct Parser {
    rest: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn takes(&mut self, text: &str) -> bool {
        let found = self.rest[self.at..].iter().copied().take(text.len()).eq(text.chars());
        if found {
            self.at += text.len();
        }
        found
    }

    fn either(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.sequence()?];
        while self.take('|') {
            nodes.push(self.sequence()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Either(nodes) })
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while !matches!(self.peek(), None | Some('|' | ')')) {
            let atom = self.atom()?;
            nodes.push(self.repeated(atom)?);
        }
        Ok(Node::Sequence(nodes))
    }

    fn atom(&mut self) -> Result<Node, String> {
        let c = self.peek().ok_or("an end where a character should stand")?;
        self.at += 1;
        match c {
            '^' => Ok(Node::Start),
            '$' => Ok(Node::End),
            '.' => Ok(Node::Set(vec![('\n', '\n'), ('\r', '\r'), ('\u{2028}', '\u{2029}')], true)),
            '[' => self.class(),
            '(' => self.group(),
            '\\' if self.take('b') => Ok(Node::Edge(true)),
            '\\' if self.take('B') => Ok(Node::Edge(false)),
            '\\' => self.escape().map(|(ranges, negated)| Node::Set(ranges, negated)),
            '*' | '+' | '?' | '{' => Err(format!("{} has nothing to repeat", c)),
            ']' | '}' => Err(format!("{} alone: write \\{}", c, c)),
            c => Ok(Node::Set(vec![(c, c)], false)),
        }
    }

    fn group(&mut self) -> Result<Node, String> {
        if self.takes("?=") || self.takes("?!") || self.takes("?<=") || self.takes("?<!") {
            return Err("look-around is not supported".into());
        }
        if self.peek() == Some('?') && !self.takes("?:") {
            return Err("named groups are not supported".into());
        }
        if self.depth == MAX_DEPTH {
            return Err(format!("groups are nested deeper than {}", MAX_DEPTH));
        }
        self.depth += 1;
        let node = self.either()?;
        self.depth -= 1;
        if !self.take(')') {
            return Err("a ( that nothing closes".into());
        }
        Ok(node)
    }

    fn repeated(&mut self, node: Node) -> Result<Node, String> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                self.at += 1;
                let least = self.count()?;
                let most = match self.take(',') {
                    false => Some(least),
                    true if self.peek() == Some('}') => None,
                    true => Some(self.count()?),
                };
                if self.peek() != Some('}') || most.map_or(false, |most| most < least) {
                    return Err("a { that is no repetition such as {2}, {2,} or {2,5}".into());
                }
                (least, most)
            }
            _ => return Ok(node),
        };
        self.at += 1;
        self.take('?'); // as few as can be: whether it matches is the same
        if let Node::Start | Node::End | Node::Edge(_) = node {
            return Err("a place (^, $, \\b, \\B) cannot be repeated".into());
        }
        Ok(Node::Repeat(Box::new(node), least, most))
    }

    fn count(&mut self) -> Result<usize, String> {
        let start = self.at;
        let mut count = 0usize;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            count = (count * 10 + digit as usize).min(MAX_STEPS + 1);
            self.at += 1;
        }
        if self.at == start {
            return Err("a { that is no repetition such as {2}, {2,} or {2,5}".into());
        }
        Ok(count)
    }

    fn class(&mut self) -> Result<Node, String> {
        let negated = self.take('^');
        let mut ranges = Vec::new();
        loop {
            if self.take(']') {
                return Ok(Node::Set(ranges, negated));
            }
            let first = self.in_class()?;
            let is_range = self.peek() == Some('-') && self.rest.get(self.at + 1).map_or(false, |&c| c != ']');
            if !is_range {
                ranges.extend(first);
                continue;
            }
            self.at += 1;
            match (&first[..], &self.in_class()?[..]) {
                (&[(low, a)], &[(b, high)]) if low == a && b == high && low <= high => ranges.push((low, high)),
                _ => return Err("a range in [] that is none".into()),
            }
        }
    }

    fn in_class(&mut self) -> Result<Ranges, String> {
        match self.peek() {
            None => Err("a [ that nothing closes".into()),
            Some('\\') => {
                self.at += 1;
                if self.take('b') {
                    return Ok(vec![('\u{8}', '\u{8}')]);
                }
                if self.take('-') {
                    return Ok(vec![('-', '-')]);
                }
                let (ranges, negated) = self.escape()?;
                Ok(if negated { complement(ranges) } else { ranges })
            }
            Some(c) => {
                self.at += 1;
                Ok(vec![(c, c)])
            }
        }
    }

    /// What stands behind a `\`.
    fn escape(&mut self) -> Result<(Ranges, bool), String> {
        let c = self.peek().ok_or("a \\ at the end")?;
        self.at += 1;
        let one = |c: char| Ok((vec![(c, c)], false));
        match c {
            'd' | 'D' => Ok((vec![('0', '9')], c == 'D')),
            'w' | 'W' => Ok((vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')], c == 'W')),
            's' | 'S' => {
                let mut spaces = vec![
                    ('\t', '\r'),
                    (' ', ' '),
                    ('\u{a0}', '\u{a0}'),
                    ('\u{1680}', '\u{1680}'),
                    ('\u{2000}', '\u{200a}'),
                ];
                spaces.extend([
                    ('\u{2028}', '\u{2029}'),
                    ('\u{202f}', '\u{202f}'),
                    ('\u{205f}', '\u{205f}'),
                    ('\u{3000}', '\u{3000}'),
                ]);
                spaces.push(('\u{feff}', '\u{feff}'));
                Ok((spaces, c == 'S'))
            }
            't' => one('\t'),
            'n' => one('\n'),
            'v' => one('\u{b}'),
            'f' => one('\u{c}'),
            'r' => one('\r'),
            '0' if !matches!(self.peek(), Some('0'..='9')) => one('\0'),
            'c' => match self.peek() {
                Some(letter) if letter.is_ascii_alphabetic() => {
                    self.at += 1;
                    one((letter as u8 % 32) as char)
                }
                _ => Err("\\c without a letter".into()),
            },
            'x' => self.hexadecimal(2).and_then(|code| one(character(code)?)),
            'u' if self.take('{') => {
                let mut code = 0u32;
                while !self.take('}') {
                    code = (code << 4 | self.hexadecimal(1)?).min(0x0fff_ffff);
                }
                one(character(code)?)
            }
            'u' => {
                let mut code = self.hexadecimal(4)?;
                if (0xd800..0xdc00).contains(&code) && self.takes("\\u") {
                    let low = self.hexadecimal(4)?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err("half of a surrogate pair matches nothing".into());
                    }
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                one(character(code)?)
            }
            'p' | 'P' => Err("properties of Unicode (\\p) are not supported".into()),
            'k' | '1'..='9' => Err("back-references are not supported".into()),
            '^' | '$' | '\\' | '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '/' => one(c),
            c => Err(format!("\\{} is not known", c)),
        }
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<u32, String> {
        let mut code = 0;
        for _ in 0..digits {
            let digit = self.peek().and_then(|c| c.to_digit(16)).ok_or("a hexadecimal digit is missing")?;
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }
}

fn character(code: u32) -> Result<char, String> {
    char::from_u32(code).ok_or_else(|| format!("there is no character {:x}", code))
}

/// The characters that are not in some ranges.
fn complement(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut others = Vec::new();
    let mut from = 0u32;
    for (low, high) in ranges {
        push(&mut others, from, low as u32);
        from = high as u32 + 1;
    }
    push(&mut others, from, char::MAX as u32 + 1);
    others
}

/// Adds the characters from `from` up to, but without, `to`; there are none between d800 and dfff.
fn push(ranges: &mut Ranges, from: u32, to: u32) {
    let scalar = |code: u32, other: char| char::from_u32(code).unwrap_or(other);
    if from < to {
        ranges.push((scalar(from, '\u{e000}'), scalar(to - 1, '\u{d7ff}')));
    }
}
