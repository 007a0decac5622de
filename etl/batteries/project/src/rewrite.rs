//! New values: made of expressions, or with some fields set.

use rustmq_etl::{Output, Record};
use rustmq_json::{write_string, Fields, Kind, Path, Step, Value};

use crate::evaluate::{operand, Operand};
use crate::expression::Expression;
use crate::parse;

/// An object made anew: names, and what they are worth.
pub(crate) struct Select(Vec<(String, Expression)>);

impl Select {
    pub(crate) fn of(fields: &Fields<'_>) -> Result<Option<Select>, String> {
        let entries = expressions(fields, "select")?;
        Ok(if fields.get("select").is_some() { Some(Select(entries)) } else { None })
    }

    /// Fields that are not there are left out.
    pub(crate) fn apply(&self, root: Value<'_>, record: &Record<'_>, out: &mut Output<'_>) {
        let room = out.room();
        out.value_with(|bytes| {
            let most = bytes.len() + room;
            bytes.push(b'{');
            let mut first = true;
            for (name, expression) in &self.0 {
                if bytes.len() > most {
                    return; // the kit rejects the record
                }
                let value = operand(expression, root, record);
                if let Operand::Missing = value {
                    continue;
                }
                if !first {
                    bytes.push(b',');
                }
                first = false;
                write_string(bytes, name);
                bytes.push(b':');
                value.json(bytes);
            }
            bytes.push(b'}');
        });
    }
}

/// Fields that get another value. The others keep their bytes as they were.
pub(crate) struct Set(Vec<(Path, Expression)>);

/// What is put in place of `start..end` of the value.
struct Edit {
    start: usize,
    end: usize,
    bytes: Vec<u8>,
}

impl Set {
    pub(crate) fn of(fields: &Fields<'_>) -> Result<Option<Set>, String> {
        let mut set: Vec<(Path, Expression)> = Vec::new();
        for (name, expression) in expressions(fields, "set")? {
            let path = Path::parse(&name).map_err(|e| format!("{}.set: {}", fields.place(), e))?;
            if path.has_any() || !matches!(path.steps.last(), Some(Step::Name(_))) {
                return Err(format!("{}.set: {:?} must name one field", fields.place(), name));
            }
            if set.iter().any(|(other, _)| other.steps.starts_with(&path.steps) || path.steps.starts_with(&other.steps))
            {
                return Err(format!(
                    "{}.set: {:?} lies in another field that is set, or the other in it",
                    fields.place(),
                    name
                ));
            }
            set.push((path, expression));
        }
        Ok(if set.is_empty() { None } else { Some(Set(set)) })
    }

    /// A field whose expression is not there stays as it was. One that is not there is added at the
    /// end of its object; without that object the record is rejected.
    pub(crate) fn apply(&self, root: Value<'_>, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), String> {
        let mut edits: Vec<Edit> = Vec::new();
        let room = out.room();
        for (path, expression) in &self.0 {
            if edits.iter().map(|edit| edit.bytes.len()).sum::<usize>() > room {
                return Err("value: too large once all is set".into());
            }
            let value = operand(expression, root, record);
            if let Operand::Missing = value {
                continue;
            }
            let mut bytes = Vec::new();
            if let Some(old) = path.find(root) {
                value.json(&mut bytes);
                edits.push(Edit { start: old.span().start, end: old.span().end, bytes });
                continue;
            }
            let (name, parent) = match path.steps.split_last() {
                Some((Step::Name(name), parent)) => (name, Path { steps: parent.to_vec() }),
                _ => continue,
            };
            let object = parent.find(root).filter(|value| value.kind() == Kind::Object);
            let object =
                object.ok_or_else(|| format!("value: {:?} cannot be set: it would lie in what is no object", name))?;
            let end = object.span().end - 1;
            if object.members().next().is_some() || edits.iter().any(|edit| edit.start == end && edit.end == end) {
                bytes.push(b',');
            }
            write_string(&mut bytes, name);
            bytes.push(b':');
            value.json(&mut bytes);
            edits.push(Edit { start: end, end, bytes });
        }
        if edits.is_empty() {
            return Ok(());
        }
        edits.sort_by_key(|edit| edit.start); // stable: what is added keeps its order
        let text = record.value().unwrap_or(b"");
        out.value_with(|bytes| {
            let mut from = 0;
            for edit in &edits {
                bytes.extend_from_slice(&text[from..edit.start]);
                bytes.extend_from_slice(&edit.bytes);
                from = edit.end;
            }
            bytes.extend_from_slice(&text[from..]);
        });
        Ok(())
    }
}

fn expressions(fields: &Fields<'_>, name: &str) -> Result<Vec<(String, Expression)>, String> {
    let mut list = Vec::new();
    for (key, value) in fields.entries(name)? {
        if value.kind() != Kind::String {
            return Err(format!(
                "{}.{}[{:?}] is {}; write an expression in a string",
                fields.place(),
                name,
                key,
                value.noun()
            ));
        }
        let expression =
            parse::expression(&value.string()).map_err(|e| format!("{}.{}[{:?}]: {}", fields.place(), name, key, e))?;
        list.push((key, expression));
    }
    Ok(list)
}
