//! Validates JSON by a schema of draft 2020-12, and rejects what is not valid with its place and the
//! reason. What of the draft it has not, it refuses by name. docs/etl-batteries.md has the
//! configuration and the list.

mod compile;
mod pattern;
mod validate;

use rustmq_etl::{Output, Record, Transform};
use rustmq_json::{Document, Fields};

use compile::Schemas;

struct JsonSchema {
    schemas: Schemas,
    of_key: bool,
    rejects_null: bool,
    document: Document,
}

impl Transform for JsonSchema {
    fn init(config: &[u8]) -> Result<Self, String> {
        let mut document = Document::default();
        let root = document.read(config).map_err(|e| format!("config: {}", e))?;
        let config = Fields::of(root, "config", &["schema", "part", "tombstones"])?;
        let schema =
            config.get("schema").ok_or("config lacks \"schema\": the JSON Schema that records must keep to")?;
        let schemas = Schemas::compile(schema).map_err(|e| format!("config.schema{}", e))?;
        let of_key = config.choice("part", &["value", "key"])? == "key";
        let rejects_null = config.choice("tombstones", &["keep", "reject"])? == "reject";
        Ok(JsonSchema { schemas, of_key, rejects_null, document: Document::default() })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) {
        let (name, part) = if self.of_key { ("key", record.key()) } else { ("value", record.value()) };
        let text = match part {
            Some(text) => text,
            None if self.rejects_null => return out.reject(format_args!("{}: there is none", name)),
            None => return,
        };
        match self.document.read(text) {
            Err(reason) => out.reject(format_args!("{}: {}", name, reason)),
            Ok(root) => {
                if let Err(failure) = self.schemas.validate(root) {
                    out.reject(format_args!("{}{}", name, failure));
                }
            }
        }
    }
}

rustmq_etl::export!(JsonSchema);

#[cfg(test)]
mod tests;
