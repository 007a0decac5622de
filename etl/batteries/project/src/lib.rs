//! Filters, routes and rewrites records by rules with expressions. docs/etl-batteries.md has the
//! configuration and the language.

mod evaluate;
mod expression;
mod parse;
mod rewrite;

use rustmq_etl::{Output, Record, Transform};
use rustmq_json::{Document, Fields, Owned, Value};

use evaluate::{truth, Operand};
use expression::Expression;
use rewrite::{Select, Set};

enum Action {
    Keep,
    Drop,
    Route(String),
    Reject(String),
}

/// What is done with a record for which `when` is true.
struct Rule {
    when: Option<Expression>,
    action: Action,
    key: Option<Expression>,
    select: Option<Select>,
    set: Option<Set>,
}

struct Project {
    rules: Vec<Rule>,
    otherwise: Action,
    /// Whether any rule looks at the value as JSON.
    reads_json: bool,
    document: Document,
    /// `null`, for what is seen of records whose value nobody reads.
    nothing: Owned,
}

impl Transform for Project {
    fn init(config: &[u8]) -> Result<Self, String> {
        let mut document = Document::default();
        let root = document.read(config).map_err(|e| format!("config: {}", e))?;
        let config = Fields::of(root, "config", &["rules", "otherwise"])?;
        let mut rules = Vec::new();
        for (place, rule) in config.list("rules")? {
            rules.push(read_rule(&Fields::of(
                rule,
                place,
                &["when", "action", "topic", "reason", "key", "select", "set"],
            )?)?);
        }
        if rules.is_empty() {
            return Err("config.rules is empty: write rules, such as {\"when\":\"mag < 2\",\"action\":\"drop\"}".into());
        }
        let otherwise = match config.choice("otherwise", &["keep", "drop", "reject"])? {
            "keep" => Action::Keep,
            "drop" => Action::Drop,
            _ => Action::Reject("no rule is for this record".into()),
        };
        let reads_json = rules.iter().any(|rule| {
            let reads = |e: &Option<Expression>| e.as_ref().map_or(false, |e| e.reads_json());
            reads(&rule.when) || reads(&rule.key) || rule.select.is_some() || rule.set.is_some()
        });
        let nothing = Owned::of(Document::default().read(b"null").expect("null is JSON"));
        Ok(Project { rules, otherwise, reads_json, document: Document::default(), nothing })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) {
        let root = match (self.reads_json, record.value()) {
            (false, _) => self.nothing.value(),
            (true, None) => return, // a tombstone is for compaction: it has no fields
            (true, Some(value)) => match self.document.read(value) {
                Ok(root) => root,
                Err(reason) => return out.reject(format_args!("value: {}", reason)),
            },
        };
        let rule = self.rules.iter().find(|rule| rule.when.as_ref().map_or(true, |when| truth(when, root, record)));
        let result = match rule {
            None => decide(&self.otherwise, out),
            Some(rule) => apply(rule, root, record, out),
        };
        if let Err(reason) = result {
            out.reject(reason);
        }
    }
}

fn decide(action: &Action, out: &mut Output<'_>) -> Result<(), String> {
    match action {
        Action::Keep => {}
        Action::Drop => out.drop(),
        Action::Route(topic) => out.route(topic),
        Action::Reject(reason) => out.reject(reason),
    }
    Ok(())
}

fn apply(rule: &Rule, root: Value<'_>, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), String> {
    if let Some(key) = &rule.key {
        match evaluate::operand(key, root, record) {
            Operand::Missing | Operand::Null => out.key(None),
            key => out.key(Some(key.text().as_bytes())),
        }
    }
    if let Some(select) = &rule.select {
        select.apply(root, record, out);
    }
    if let Some(set) = &rule.set {
        set.apply(root, record, out)?;
    }
    decide(&rule.action, out)
}

fn read_rule(fields: &Fields<'_>) -> Result<Rule, String> {
    let expression = |name: &str| match fields.text(name)? {
        None => Ok(None),
        Some(text) => parse::expression(&text).map(Some).map_err(|e| format!("{}.{}: {}", fields.place(), name, e)),
    };
    let only = |name: &str, action: &str| match fields.get(name) {
        Some(_) => Err(format!("{}.{} is for action {} alone", fields.place(), name, action)),
        None => Ok(()),
    };
    let action = match fields.choice("action", &["keep", "drop", "route", "reject"])? {
        "route" => Action::Route(fields.required("topic")?.into_owned()),
        "reject" => {
            Action::Reject(fields.text("reason")?.map_or_else(|| "rejected by a rule".into(), |r| r.into_owned()))
        }
        "drop" => Action::Drop,
        _ => Action::Keep,
    };
    if !matches!(action, Action::Route(_)) {
        only("topic", "route")?;
    }
    if !matches!(action, Action::Reject(_)) {
        only("reason", "reject")?;
    }
    if let Action::Drop | Action::Reject(_) = action {
        for name in ["key", "select", "set"] {
            if fields.get(name).is_some() {
                return Err(format!("{}.{} is for what is kept or routed", fields.place(), name));
            }
        }
    }
    let (select, set) = (Select::of(fields)?, Set::of(fields)?);
    if select.is_some() && set.is_some() {
        return Err(format!("{} has select and set: select makes a new value, so write it all there", fields.place()));
    }
    Ok(Rule { when: expression("when")?, action, key: expression("key")?, select, set })
}

rustmq_etl::export!(Project);

#[cfg(test)]
mod tests;
