//! What an expression is worth, for a record.

use std::borrow::Cow;
use std::cmp::Ordering;

use rustmq_etl::Record;
use rustmq_json::{Decimal, Kind, Value};

use crate::expression::{Comparison, Expression, Function};

/// A value of an expression.
pub(crate) enum Operand<'e> {
    /// A field or header that is not there. It compares as null.
    Missing,
    Null,
    Boolean(bool),
    /// As it is written.
    Number(Cow<'e, str>),
    Text(Cow<'e, str>),
    /// An array or object.
    Json(Value<'e>),
}

impl<'e> Operand<'e> {
    fn of(value: Value<'e>) -> Operand<'e> {
        match value.kind() {
            Kind::Null => Operand::Null,
            Kind::False => Operand::Boolean(false),
            Kind::True => Operand::Boolean(true),
            Kind::Number => Operand::Number(Cow::Borrowed(value.raw())),
            Kind::String | Kind::Key => Operand::Text(value.string()),
            Kind::Array | Kind::Object => Operand::Json(value),
        }
    }

    fn of_bytes(bytes: Option<&'e [u8]>) -> Operand<'e> {
        bytes.map_or(Operand::Null, |bytes| Operand::Text(String::from_utf8_lossy(bytes)))
    }

    fn integer(number: i64) -> Operand<'e> {
        Operand::Number(Cow::Owned(number.to_string()))
    }

    fn is_null(&self) -> bool {
        matches!(self, Operand::Missing | Operand::Null)
    }

    /// It as text: what stands in a string, anything else as JSON.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Operand::Missing | Operand::Null => "null".into(),
            Operand::Boolean(true) => "true".into(),
            Operand::Boolean(false) => "false".into(),
            Operand::Number(text) | Operand::Text(text) => Cow::Borrowed(text),
            Operand::Json(value) => value.raw().into(),
        }
    }

    /// Writes it as JSON.
    pub(crate) fn json(&self, out: &mut Vec<u8>) {
        match self {
            Operand::Text(text) => rustmq_json::write_string(out, text),
            other => out.extend_from_slice(other.text().as_bytes()),
        }
    }

    fn equals(&self, other: &Operand<'_>) -> bool {
        match (self, other) {
            (Operand::Boolean(a), Operand::Boolean(b)) => a == b,
            (Operand::Json(a), Operand::Json(b)) => a.equals(b),
            (a, b) if a.is_null() && b.is_null() => true,
            (a, b) => a.order(b) == Some(Ordering::Equal),
        }
    }

    /// The order of two numbers or two texts (by code points); nothing else has one.
    fn order(&self, other: &Operand<'_>) -> Option<Ordering> {
        match (self, other) {
            (Operand::Number(a), Operand::Number(b)) => Some(Decimal::read(a).cmp(&Decimal::read(b))),
            (Operand::Text(a), Operand::Text(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// Whether an expression is true: nothing else than `true` is.
pub(crate) fn truth(expression: &Expression, root: Value<'_>, record: &Record<'_>) -> bool {
    match expression {
        Expression::And(list) => list.iter().all(|e| truth(e, root, record)),
        Expression::Or(list) => list.iter().any(|e| truth(e, root, record)),
        Expression::Not(inner) => !truth(inner, root, record),
        Expression::Compare(comparison, left, right) => {
            let (left, right) = (operand(left, root, record), operand(right, root, record));
            match comparison {
                Comparison::Equal => left.equals(&right),
                Comparison::NotEqual => !left.equals(&right),
                Comparison::Less => left.order(&right) == Some(Ordering::Less),
                Comparison::AtMost => matches!(left.order(&right), Some(Ordering::Less | Ordering::Equal)),
                Comparison::Greater => left.order(&right) == Some(Ordering::Greater),
                Comparison::AtLeast => matches!(left.order(&right), Some(Ordering::Greater | Ordering::Equal)),
            }
        }
        Expression::In(left, list) => {
            let left = operand(left, root, record);
            list.iter().any(|e| left.equals(&operand(e, root, record)))
        }
        other => matches!(operand(other, root, record), Operand::Boolean(true)),
    }
}

/// The value of an expression.
pub(crate) fn operand<'e>(expression: &'e Expression, root: Value<'e>, record: &Record<'e>) -> Operand<'e> {
    match expression {
        Expression::Null => Operand::Null,
        Expression::Boolean(value) => Operand::Boolean(*value),
        Expression::Number(text) => Operand::Number(Cow::Borrowed(text)),
        Expression::Text(text) => Operand::Text(Cow::Borrowed(text)),
        Expression::Field(path) => path.find(root).map_or(Operand::Missing, Operand::of),
        Expression::Header(name) => {
            record.header(name).map_or(Operand::Missing, |header| Operand::of_bytes(header.value))
        }
        Expression::Key => Operand::of_bytes(record.key()),
        Expression::Topic => Operand::Text(Cow::Borrowed(record.batch().topic())),
        Expression::Partition => Operand::integer(record.batch().partition().into()),
        Expression::Offset => Operand::integer(record.offset()),
        Expression::Timestamp => Operand::integer(record.timestamp()),
        Expression::Call(function, arguments) => call(*function, arguments, root, record),
        condition => Operand::Boolean(truth(condition, root, record)),
    }
}

fn call<'e>(function: Function, arguments: &'e [Expression], root: Value<'e>, record: &Record<'e>) -> Operand<'e> {
    let first = operand(&arguments[0], root, record);
    match function {
        Function::Upper => map(first, |text| text.to_uppercase()),
        Function::Lower => map(first, |text| text.to_lowercase()),
        Function::Length => match first {
            Operand::Text(text) => Operand::integer(text.chars().count() as i64),
            Operand::Json(value) => Operand::integer((value.items().count() + value.members().count()) as i64),
            _ => Operand::Null,
        },
        Function::Exists => Operand::Boolean(!matches!(first, Operand::Missing)),
        Function::Coalesce => {
            let mut rest = arguments[1..].iter().map(|e| operand(e, root, record));
            if first.is_null() {
                rest.find(|value| !value.is_null()).unwrap_or(Operand::Null)
            } else {
                first
            }
        }
        Function::StartsWith | Function::EndsWith | Function::Contains => {
            let second = operand(&arguments[1], root, record);
            Operand::Boolean(match (function, &first, &second) {
                (Function::StartsWith, Operand::Text(text), Operand::Text(part)) => text.starts_with(&**part),
                (Function::EndsWith, Operand::Text(text), Operand::Text(part)) => text.ends_with(&**part),
                (Function::Contains, Operand::Text(text), Operand::Text(part)) => text.contains(&**part),
                (Function::Contains, Operand::Json(value), part) => {
                    value.items().any(|item| Operand::of(item).equals(part))
                }
                _ => false,
            })
        }
    }
}

/// Changes a text; anything else stays what it is.
fn map(operand: Operand<'_>, change: impl FnOnce(&str) -> String) -> Operand<'_> {
    match operand {
        Operand::Text(text) => Operand::Text(Cow::Owned(change(&text))),
        other => other,
    }
}
