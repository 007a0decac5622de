//! Masks and hashes fields of JSON values, headers and keys. What no rule names keeps its bytes as
//! they were. docs/etl-batteries.md has the configuration.

mod hmac;
mod rule;

use rustmq_etl::{Header, Output, Record, Transform};
use rustmq_json::{Document, Fields, Kind, Path, Value};

use hmac::Hmac;
use rule::{Action, Rule};

/// The shortest key that hashes may have, in bytes: a shorter one is guessed.
const MIN_KEY: usize = 16;

struct Mask {
    fields: Vec<(Path, Rule)>,
    headers: Vec<(String, Rule)>,
    record_key: Option<Rule>,
    hmac: Hmac,
    document: Document,
    edits: Vec<Edit>,
}

/// A value that a rule replaces.
#[derive(Clone, Copy)]
struct Edit {
    start: usize,
    end: usize,
    rule: usize,
    node: usize,
}

impl Transform for Mask {
    fn init(config: &[u8]) -> Result<Self, String> {
        let mut document = Document::default();
        let root = document.read(config).map_err(|e| format!("config: {}", e))?;
        let config = Fields::of(root, "config", &["fields", "headers", "record_key", "hash_key"])?;
        let mut fields = Vec::new();
        for (place, field) in config.list("fields")? {
            let field = Fields::of(field, place, &["path", "action", "keep_first", "keep_last", "with"])?;
            let path = Path::parse(&field.required("path")?).map_err(|e| format!("{}: {}", field.place(), e))?;
            fields.push((path, Rule::of(&field, &["mask", "hash", "null", "replace"])?));
        }
        let mut headers = Vec::new();
        for (place, header) in config.list("headers")? {
            let header = Fields::of(header, place, &["name", "action", "keep_first", "keep_last", "with"])?;
            let name = header.required("name")?.into_owned();
            headers.push((name, Rule::of(&header, &["mask", "hash", "null", "replace", "remove"])?));
        }
        let record_key = match config.get("record_key") {
            None => None,
            Some(key) => {
                let key = Fields::of(key, "config.record_key", &["action", "keep_first", "keep_last", "with"])?;
                Some(Rule::of(&key, &["mask", "hash", "null", "replace"])?)
            }
        };
        if fields.is_empty() && headers.is_empty() && record_key.is_none() {
            return Err("config masks nothing: write fields, headers or record_key".into());
        }
        let hash_key = config.text("hash_key")?.unwrap_or_default();
        let mut rules = fields.iter().map(|(_, r)| r).chain(headers.iter().map(|(_, r)| r)).chain(&record_key);
        if rules.any(|rule| rule.action == Action::Hash) && hash_key.len() < MIN_KEY {
            return Err(format!(
                "config.hash_key has {} bytes; what is hashed needs a secret of {} or more, or it can be guessed",
                hash_key.len(),
                MIN_KEY
            ));
        }
        let hmac = Hmac::new(hash_key.as_bytes());
        Ok(Mask { fields, headers, record_key, hmac, document: Document::default(), edits: Vec::new() })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) {
        if let (Some(value), false) = (record.value(), self.fields.is_empty()) {
            if let Err(reason) = self.value(value, out) {
                return out.reject(format_args!("value: {}", reason));
            }
        }
        if let (Some(rule), Some(key)) = (&self.record_key, record.key()) {
            let replaced = rule.bytes(key, &self.hmac);
            out.key(replaced.as_deref());
        }
        if record.headers().any(|header| self.rule(header.name).is_some()) {
            self.replace_headers(record, out);
        }
    }
}

impl Mask {
    fn value(&mut self, text: &[u8], out: &mut Output<'_>) -> Result<(), rustmq_json::Error> {
        let root = self.document.read(text)?;
        let edits = &mut self.edits;
        edits.clear();
        for (index, (path, rule)) in self.fields.iter().enumerate() {
            path.each(root, &mut |value| collect(value, index, rule, edits));
        }
        if edits.is_empty() {
            return Ok(());
        }
        // Of rules that meet, the one that replaces more holds, then the first.
        edits.sort_unstable_by(|a, b| (a.start, b.end, a.rule).cmp(&(b.start, a.end, b.rule)));
        let (fields, hmac) = (&self.fields, &self.hmac);
        let room = out.room();
        out.value_with(|bytes| {
            let most = bytes.len() + room;
            let mut from = 0;
            for edit in edits.iter() {
                if bytes.len() > most {
                    return; // the kit rejects the record
                }
                if edit.start < from {
                    continue;
                }
                bytes.extend_from_slice(&text[from..edit.start]);
                fields[edit.rule].1.json(root.node_at(edit.node), hmac, bytes);
                from = edit.end;
            }
            bytes.extend_from_slice(&text[from..]);
        });
        Ok(())
    }

    fn rule(&self, name: &[u8]) -> Option<&Rule> {
        self.headers.iter().find(|(ours, _)| ours.as_bytes() == name).map(|(_, rule)| rule)
    }

    fn replace_headers(&self, record: &Record<'_>, out: &mut Output<'_>) {
        let mut replaced = Vec::new();
        for header in record.headers() {
            match (self.rule(header.name), header.value) {
                (Some(rule), _) if rule.action == Action::Remove => {}
                (Some(rule), Some(value)) => replaced.push((header.name, rule.bytes(value, &self.hmac))),
                (_, value) => replaced.push((header.name, value.map(|v| v.to_vec()))),
            }
        }
        out.headers(replaced.iter().map(|(name, value)| Header { name, value: value.as_deref() }));
    }
}

/// Notes what a rule replaces of a value: all of it, or each text, number and boolean in it.
fn collect(value: Value<'_>, rule_index: usize, rule: &Rule, edits: &mut Vec<Edit>) {
    let whole = matches!(rule.action, Action::Null | Action::Replace);
    match value.kind() {
        Kind::Object if !whole => value.members().for_each(|(_, member)| collect(member, rule_index, rule, edits)),
        Kind::Array if !whole => value.items().for_each(|item| collect(item, rule_index, rule, edits)),
        Kind::Null if !whole => {}
        _ => {
            edits.push(Edit { start: value.span().start, end: value.span().end, rule: rule_index, node: value.index() })
        }
    }
}

rustmq_etl::export!(Mask);

#[cfg(test)]
mod tests;
