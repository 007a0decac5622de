//! The tables of sdk/scenarios; README.md there says what each field means.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::harness::Failed;

/// A file of sdk/scenarios.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub kind: String,
    #[serde(rename = "what")]
    _what: String,
    pub case: Vec<Case>,
}

/// One run of a scenario. Fields that its kind does not have are zero.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    /// That of its table.
    #[serde(skip)]
    pub kind: String,
    pub name: String,
    pub codec: String,
    pub acks: String,
    pub records: usize,
    pub value_bytes: usize,
    pub keys: usize,
    pub partitions: i32,
    pub workers: usize,
    pub protocol: String,
    pub members: usize,
    pub leaves: usize,
    pub kills: usize,
    pub server_kills: usize,
    pub session_ms: u64,
    pub handle_ms: u64,
    pub topic_max_bytes: usize,
    pub at: String,
    pub transport: String,
    pub delay_ms: u64,
    pub rebinds: usize,
    pub restarts: usize,
    pub rotations: usize,
    pub expect: Expected,
}

/// The outcome that is expected; what is not named is not looked at.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    pub missing: usize,
    pub duplicates: Option<usize>,
    pub ordered: bool,
    pub outcome: String,
    pub retriable: Option<bool>,
    pub rejoins: Option<i32>,
    pub usable: bool,
}

/// Reads all tables.
pub fn read() -> Result<Vec<Scenario>, Failed> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut scenarios = Vec::new();
    for entry in std::fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            let text = std::fs::read_to_string(&path)?;
            let mut scenario: Scenario = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
            for case in &mut scenario.case {
                case.kind.clone_from(&scenario.kind);
            }
            scenarios.push(scenario);
        }
    }
    Ok(scenarios)
}

/// How often each of the records, which are numbered from 0, was seen.
pub type Seen = HashMap<i64, usize>;

impl Case {
    /// Compares how often each of `n` records was seen with what is expected.
    pub fn judge(&self, n: usize, seen: &Seen) -> Result<(), Failed> {
        let times = |i: usize| seen.get(&(i as i64)).copied().unwrap_or(0);
        let missing = (0..n).filter(|&i| times(i) == 0).count();
        let duplicates: usize = (0..n).map(|i| times(i).saturating_sub(1)).sum();
        let strangers = (seen.len() + missing).saturating_sub(n);
        if missing != self.expect.missing || self.expect.duplicates.is_some_and(|d| d != duplicates) || strangers > 0 {
            return Err(format!(
                "of {n} records {missing} are missing, and {duplicates} there more than once; {strangers} strangers"
            )
            .into());
        }
        Ok(())
    }

    /// A name for topics and groups that no other case has.
    pub fn fresh(&self) -> String {
        let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        format!("{}-{}", self.kind, self.name).chars().map(clean).collect()
    }
}
