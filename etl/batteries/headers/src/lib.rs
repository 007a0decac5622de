//! Sets headers from constants, fields, keys and where the record is; removes headers.
//! docs/etl-batteries.md has the configuration.

use std::borrow::Cow;

use rustmq_etl::{Header, Output, Record, Transform};
use rustmq_json::{Document, Fields, Kind, Path, Value};

/// Where the value of a header comes from.
enum Source {
    Constant(String),
    Field(Path),
    Key,
    Topic,
    Partition,
    Offset,
    Timestamp,
}

/// What is done where the record has a header of that name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Present {
    Replace,
    Keep,
    Append,
}

struct Set {
    name: String,
    source: Source,
    default: Option<String>,
    present: Present,
}

/// Which headers are removed: one name, or all that begin so.
struct Remove {
    name: String,
    prefix: bool,
}

struct Headers {
    set: Vec<Set>,
    remove: Vec<Remove>,
    document: Document,
}

impl Transform for Headers {
    fn init(config: &[u8]) -> Result<Self, String> {
        let mut document = Document::default();
        let root = document.read(config).map_err(|e| format!("config: {}", e))?;
        let config = Fields::of(root, "config", &["set", "remove"])?;
        let mut set: Vec<Set> = Vec::new();
        for (place, header) in config.list("set")? {
            let header =
                read_set(&Fields::of(header, place, &["name", "value", "field", "from", "default", "if_present"])?)?;
            if set.iter().any(|other| other.name == header.name && other.present != Present::Append) {
                return Err(format!(
                    "config.set sets header {:?} twice; to have it twice, say \"if_present\":\"append\"",
                    header.name
                ));
            }
            set.push(header);
        }
        let remove: Vec<_> = config.texts("remove")?.into_iter().map(read_remove).collect();
        if set.is_empty() && remove.is_empty() {
            return Err("config does nothing: write set or remove".into());
        }
        Ok(Headers { set, remove, document: Document::default() })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) {
        let reads = |set: &Set| matches!(set.source, Source::Field(_));
        let root = match record.value() {
            Some(value) if self.set.iter().any(reads) => match self.document.read(value) {
                Ok(root) => Some(root),
                Err(reason) => return out.reject(format_args!("value: {}", reason)),
            },
            _ => None, // of a tombstone no field is there
        };
        let mut set = Vec::with_capacity(self.set.len());
        for header in &self.set {
            let is_there = header.present == Present::Keep && record.header(&header.name).is_some();
            match header.value(record, root) {
                Some(value) if !is_there => set.push((header, value)),
                _ => {}
            }
        }
        let goes = |name: &[u8]| {
            let replaced =
                set.iter().any(|(header, _)| header.present == Present::Replace && header.name.as_bytes() == name);
            replaced || self.remove.iter().any(|remove| remove.matches(name))
        };
        if set.is_empty() && !record.headers().any(|header| goes(header.name)) {
            return;
        }
        let stay = record.headers().filter(|header| !goes(header.name));
        let new = set.iter().map(|(header, value)| Header { name: header.name.as_bytes(), value: Some(value) });
        out.headers(stay.chain(new));
    }
}

impl Remove {
    fn matches(&self, name: &[u8]) -> bool {
        name == self.name.as_bytes() || self.prefix && name.starts_with(self.name.as_bytes())
    }
}

impl Set {
    /// The header's value for a record; none: it is not set.
    fn value<'r>(&'r self, record: &Record<'r>, root: Option<Value<'r>>) -> Option<Cow<'r, [u8]>> {
        let number = |number: i64| Some(Cow::Owned(number.to_string().into_bytes()));
        let value = match &self.source {
            Source::Constant(text) => Some(Cow::Borrowed(text.as_bytes())),
            Source::Field(path) => {
                let value = root.and_then(|root| path.find(root)).filter(|value| value.kind() != Kind::Null);
                value.map(|value| match value.text() {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                })
            }
            Source::Key => record.key().map(Cow::Borrowed),
            Source::Topic => Some(Cow::Borrowed(record.batch().topic().as_bytes())),
            Source::Partition => number(record.batch().partition().into()),
            Source::Offset => number(record.offset()),
            Source::Timestamp => number(record.timestamp()),
        };
        value.or_else(|| self.default.as_ref().map(|text| Cow::Borrowed(text.as_bytes())))
    }
}

fn read_set(fields: &Fields<'_>) -> Result<Set, String> {
    let name = fields.required("name")?.into_owned();
    let sources = ["value", "field", "from"].iter().filter(|name| fields.get(name).is_some()).count();
    if sources != 1 {
        return Err(format!("{} has {} of value, field and from; write one", fields.place(), sources));
    }
    let source = if let Some(text) = fields.text("value")? {
        Source::Constant(text.into_owned())
    } else if let Some(path) = fields.text("field")? {
        let path = Path::parse(&path).map_err(|e| format!("{}.field: {}", fields.place(), e))?;
        if path.has_any() {
            return Err(format!("{}.field has a *: a header has one value", fields.place()));
        }
        Source::Field(path)
    } else {
        match fields.choice("from", &["key", "topic", "partition", "offset", "timestamp"])? {
            "key" => Source::Key,
            "topic" => Source::Topic,
            "partition" => Source::Partition,
            "offset" => Source::Offset,
            _ => Source::Timestamp,
        }
    };
    let present = match fields.choice("if_present", &["replace", "keep", "append"])? {
        "keep" => Present::Keep,
        "append" => Present::Append,
        _ => Present::Replace,
    };
    let default = fields.text("default")?.map(|text| text.into_owned());
    Ok(Set { name, source, default, present })
}

fn read_remove(name: String) -> Remove {
    match name.strip_suffix('*') {
        Some(prefix) => Remove { name: prefix.into(), prefix: true },
        None => Remove { name, prefix: false },
    }
}

rustmq_etl::export!(Headers);

#[cfg(test)]
mod tests;
