//! What is put in place of a value.

use rustmq_json::{write_string, Fields, Owned, Value};

use crate::hmac::Hmac;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Mask,
    Hash,
    Null,
    Replace,
    Remove,
}

/// How a value is replaced.
pub(crate) struct Rule {
    pub(crate) action: Action,
    keep_first: usize,
    keep_last: usize,
    with: With,
}

/// What is written: a character for each, or a value for the whole.
enum With {
    Character(char),
    Value(Owned),
}

impl Rule {
    /// Reads a rule whose action is one of `actions`.
    pub(crate) fn of(fields: &Fields<'_>, actions: &[&str]) -> Result<Rule, String> {
        fields.required("action")?;
        let action = match fields.choice("action", actions)? {
            "mask" => Action::Mask,
            "hash" => Action::Hash,
            "null" => Action::Null,
            "replace" => Action::Replace,
            _ => Action::Remove,
        };
        for name in ["keep_first", "keep_last"] {
            if action != Action::Mask && fields.get(name).is_some() {
                return Err(format!("{}.{} is for action mask alone", fields.place(), name));
            }
        }
        let with = match action {
            Action::Replace => match fields.get("with") {
                Some(value) => With::Value(Owned::of(value)),
                None => return Err(format!("{} lacks \"with\": what it is replaced by", fields.place())),
            },
            Action::Mask => {
                let text = fields.text("with")?.unwrap_or_else(|| "*".into());
                let mut characters = text.chars();
                match (characters.next(), characters.next()) {
                    (Some(character), None) => With::Character(character),
                    _ => return Err(format!("{}.with is {:?}; a mask is one character", fields.place(), text)),
                }
            }
            _ if fields.get("with").is_some() => {
                return Err(format!("{}.with is for actions mask and replace", fields.place()));
            }
            _ => With::Character('*'),
        };
        let (keep_first, keep_last) = (fields.count("keep_first")?, fields.count("keep_last")?);
        Ok(Rule { action, keep_first, keep_last, with })
    }

    /// Writes, as JSON, what replaces a value.
    pub(crate) fn json(&self, value: Value<'_>, hmac: &Hmac, out: &mut Vec<u8>) {
        match (self.action, &self.with) {
            (Action::Mask, _) => write_string(out, &self.masked(&value.text())),
            (Action::Hash, _) => {
                out.push(b'"');
                out.extend_from_slice(&hmac.hexadecimal(value.text().as_bytes()));
                out.push(b'"');
            }
            (Action::Replace, With::Value(with)) => out.extend_from_slice(with.value().raw().as_bytes()),
            _ => out.extend_from_slice(b"null"),
        }
    }

    /// What replaces bytes that are no JSON: a key, the value of a header.
    pub(crate) fn bytes(&self, bytes: &[u8], hmac: &Hmac) -> Option<Vec<u8>> {
        match (self.action, &self.with) {
            (Action::Mask, _) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(self.masked(text).into_bytes()),
                // What is no text has no characters that could be kept.
                Err(_) => Some(vec![b'*'; bytes.len()]),
            },
            (Action::Hash, _) => Some(hmac.hexadecimal(bytes).to_vec()),
            (Action::Replace, With::Value(with)) => Some(with.value().text().as_bytes().to_vec()),
            _ => None,
        }
    }

    /// The text with its characters masked, but the first and last that are kept. One that has no
    /// more than those is masked whole.
    fn masked(&self, text: &str) -> String {
        let mask = match self.with {
            With::Character(character) => character,
            With::Value(_) => '*',
        };
        let count = text.chars().count();
        let keep = self.keep_first.saturating_add(self.keep_last) < count;
        let kept = |i: usize| keep && (i < self.keep_first || i >= count - self.keep_last);
        text.chars().enumerate().map(|(i, c)| if kept(i) { c } else { mask }).collect()
    }
}
