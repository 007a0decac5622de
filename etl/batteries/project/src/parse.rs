//! From text to expressions.
//!
//! ```text
//! or      = and { "or" and }
//! and     = not { "and" not }
//! not     = "not" not | compare
//! compare = operand [ ("==" | "!=" | "<" | "<=" | ">" | ">=") operand | ["not"] "in" "(" operand { "," operand } ")" ]
//! operand = number | text | "true" | "false" | "null" | name "(" [ or { "," or } ] ")" | path | "(" or ")"
//! ```

use rustmq_json::{Document, Kind, Path};

use crate::expression::{Comparison, Expression, Function};

/// How deep parentheses, `not` and calls may nest.
const MAX_DEPTH: usize = 48;

/// Reads an expression. An error says where, in characters from 1.
pub(crate) fn expression(text: &str) -> Result<Expression, String> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let expression = parser.or()?;
    parser.space();
    if parser.at < text.len() {
        return Err(parser.error("an operator (==, !=, <, <=, >, >=, in, and, or)"));
    }
    Ok(expression)
}

struct Parser<'p> {
    text: &'p str,
    at: usize,
    depth: usize,
}

impl<'p> Parser<'p> {
    fn rest(&self) -> &'p str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn error(&self, wanted: &str) -> String {
        let place = self.text[..self.at].chars().count() + 1;
        let found: String = self.rest().chars().take(12).collect();
        let hint = if found.starts_with('=') && !found.starts_with("==") { "; write == to compare" } else { "" };
        match found.is_empty() {
            true => format!("{:?} ends where {} should stand", self.text, wanted),
            false => format!(
                "{:?}: {} should stand at character {}, where {:?} does{}",
                self.text, wanted, place, found, hint
            ),
        }
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    /// The word that comes next: it is not gone past.
    fn peek_word(&mut self) -> &'p str {
        self.space();
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        // A longer name or path that begins so is another word.
        match rest[end..].chars().next() {
            Some('.' | '[' | '-' | '$' | '@') => "",
            Some(c) if !c.is_ascii() => "",
            _ => &rest[..end],
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == word;
        if found {
            self.at += word.len();
        }
        found
    }

    /// Goes one deeper for as long as `read` takes.
    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Result<Expression, String>) -> Result<Expression, String> {
        if self.depth == MAX_DEPTH {
            return Err(format!("an expression is nested deeper than {}", MAX_DEPTH));
        }
        self.depth += 1;
        let expression = read(self);
        self.depth -= 1;
        expression
    }

    fn or(&mut self) -> Result<Expression, String> {
        let mut list = vec![self.and()?];
        while self.word("or") {
            list.push(self.and()?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Expression::Or(list) })
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut list = vec![self.not()?];
        while self.word("and") {
            list.push(self.not()?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Expression::And(list) })
    }

    fn not(&mut self) -> Result<Expression, String> {
        if self.word("not") {
            return self.deeper(|parser| Ok(Expression::Not(Box::new(parser.not()?))));
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Expression, String> {
        let left = self.operand()?;
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (symbol, comparison) in comparisons {
            if self.symbol(symbol) {
                let right = self.operand()?;
                return Ok(Expression::Compare(comparison, Box::new(left), Box::new(right)));
            }
        }
        let negated = self.word("not");
        if !self.word("in") {
            return if negated { Err(self.error("in, behind not,")) } else { Ok(left) };
        }
        if !self.symbol("(") {
            return Err(self.error("( and a list"));
        }
        let mut list = vec![self.operand()?];
        while self.symbol(",") {
            list.push(self.operand()?);
        }
        if !self.symbol(")") {
            return Err(self.error("a comma or )"));
        }
        let found = Expression::In(Box::new(left), list);
        Ok(if negated { Expression::Not(Box::new(found)) } else { found })
    }

    fn operand(&mut self) -> Result<Expression, String> {
        self.space();
        match self.rest().chars().next() {
            Some('(') => self.deeper(|parser| {
                parser.at += 1;
                let inner = parser.or()?;
                if !parser.symbol(")") {
                    return Err(parser.error(")"));
                }
                Ok(inner)
            }),
            Some(quote @ ('\'' | '"')) => self.quoted(quote),
            Some('-' | '0'..='9') => self.number(),
            Some(_) => match self.peek_word() {
                "true" => self.constant("true", Expression::Boolean(true)),
                "false" => self.constant("false", Expression::Boolean(false)),
                "null" => self.constant("null", Expression::Null),
                word @ ("and" | "or" | "not" | "in") => {
                    Err(format!("{}; a field of that name is written [\"{}\"]", self.error("a value"), word))
                }
                word if !word.is_empty() && self.rest()[word.len()..].trim_start().starts_with('(') => {
                    self.deeper(|parser| parser.call(word))
                }
                _ => self.field(),
            },
            None => Err(self.error("a value")),
        }
    }

    fn constant(&mut self, word: &str, constant: Expression) -> Result<Expression, String> {
        self.at += word.len();
        Ok(constant)
    }

    fn quoted(&mut self, quote: char) -> Result<Expression, String> {
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => match characters.next() {
                    Some((_, c)) => text.push(c),
                    None => break,
                },
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(Expression::Text(text));
                }
                c => text.push(c),
            }
        }
        Err(format!("{:?}: a text without its closing {}", self.text, quote))
    }

    fn number(&mut self) -> Result<Expression, String> {
        let rest = self.rest();
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-')).unwrap_or(rest.len());
        let mut document = Document::default();
        match document.read(&rest.as_bytes()[..end]) {
            Ok(value) if value.kind() == Kind::Number => {
                self.at += end;
                Ok(Expression::Number(rest[..end].into()))
            }
            _ => Err(self.error("a number as JSON writes them")),
        }
    }

    fn field(&mut self) -> Result<Expression, String> {
        let (path, length) = Path::prefix(self.rest()).map_err(|_| self.error("a value"))?;
        if path.has_any() {
            return Err(format!("{:?}: * is not for expressions: a field is one value", self.text));
        }
        self.at += length;
        Ok(Expression::Field(path))
    }

    fn call(&mut self, name: &str) -> Result<Expression, String> {
        self.at += name.len();
        self.symbol("(");
        let mut arguments = Vec::new();
        if !self.symbol(")") {
            loop {
                arguments.push(self.or()?);
                if self.symbol(")") {
                    break;
                }
                if !self.symbol(",") {
                    return Err(self.error("a comma or )"));
                }
            }
        }
        let wrong = |wanted: &str| Err(format!("{:?}: {}() takes {}", self.text, name, wanted));
        let of_record = match name {
            "key" => Some(Expression::Key),
            "topic" => Some(Expression::Topic),
            "partition" => Some(Expression::Partition),
            "offset" => Some(Expression::Offset),
            "timestamp" => Some(Expression::Timestamp),
            _ => None,
        };
        if let Some(expression) = of_record {
            return if arguments.is_empty() { Ok(expression) } else { wrong("nothing") };
        }
        if name == "header" {
            return match (arguments.len(), arguments.pop()) {
                (1, Some(Expression::Text(name))) => Ok(Expression::Header(name)),
                _ => wrong("the name of a header, in quotes"),
            };
        }
        let known = Function::ALL.iter().find(|(ours, _, _)| *ours == name);
        match known {
            None => {
                let names: Vec<_> = Function::ALL.iter().map(|(name, _, _)| *name).collect();
                Err(format!(
                    "{:?}: there is no function {}(); there are {}, key, header, topic, partition, offset, timestamp",
                    self.text,
                    name,
                    names.join(", ")
                ))
            }
            Some((_, _, count)) if !count.contains(&arguments.len()) => {
                wrong(&format!("{} argument(s)", count.start()))
            }
            Some((_, Function::Exists, _)) if !matches!(arguments[0], Expression::Field(_) | Expression::Header(_)) => {
                wrong("a field or header('…')")
            }
            Some((_, function, _)) => Ok(Expression::Call(*function, arguments)),
        }
    }
}
