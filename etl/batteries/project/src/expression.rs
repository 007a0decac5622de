//! What an expression is.

use rustmq_json::Path;

/// An expression. It has a value for every record, and never fails.
#[derive(Debug)]
pub(crate) enum Expression {
    Null,
    Boolean(bool),
    /// As it is written.
    Number(String),
    Text(String),
    Field(Path),
    Header(String),
    Key,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Call(Function, Vec<Expression>),
    Compare(Comparison, Box<Expression>, Box<Expression>),
    In(Box<Expression>, Vec<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Upper,
    Lower,
    Length,
    Exists,
    StartsWith,
    EndsWith,
    Contains,
    Coalesce,
}

impl Function {
    /// Name, function, how many arguments.
    pub(crate) const ALL: [(&'static str, Function, std::ops::RangeInclusive<usize>); 8] = [
        ("upper", Function::Upper, 1..=1),
        ("lower", Function::Lower, 1..=1),
        ("length", Function::Length, 1..=1),
        ("exists", Function::Exists, 1..=1),
        ("starts_with", Function::StartsWith, 2..=2),
        ("ends_with", Function::EndsWith, 2..=2),
        ("contains", Function::Contains, 2..=2),
        ("coalesce", Function::Coalesce, 1..=16),
    ];
}

impl Expression {
    /// Whether its value depends on a field of the record's value.
    pub(crate) fn reads_json(&self) -> bool {
        match self {
            Expression::Field(_) => true,
            Expression::Call(_, list) | Expression::And(list) | Expression::Or(list) => {
                list.iter().any(Expression::reads_json)
            }
            Expression::Compare(_, a, b) => a.reads_json() || b.reads_json(),
            Expression::In(a, list) => a.reads_json() || list.iter().any(Expression::reads_json),
            Expression::Not(a) => a.reads_json(),
            _ => false,
        }
    }
}
