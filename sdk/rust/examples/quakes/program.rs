//! What the examples share: the earthquakes, and how they get into a topic.

use std::collections::HashMap;

use rustmq::{Client, Codec, Json, NewTopic, Record};
use serde::{Deserialize, Serialize};

/// The earthquakes of a week, a JSON object a line.
pub const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/data/earthquakes.ndjson");

/// What ends an example.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// An earthquake.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Quake {
    pub id: String,
    /// As RFC 3339 has it, in UTC with milliseconds: moments are in the order of their texts.
    pub time: String,
    #[serde(rename = "mag")]
    pub magnitude: f64,
    pub place: String,
    /// Network of seismometers that reported it.
    #[serde(rename = "net")]
    pub network: String,
}

/// What an example is given.
pub struct Program {
    /// `host:port` of a broker.
    pub broker: String,
    pub quakes: Vec<Quake>,
    /// Ends the names of topics and groups, so that each run has its own.
    pub run: String,
}

impl Program {
    pub fn name(&self, of: &str) -> String {
        format!("{of}-{}", self.run)
    }

    pub async fn client(&self) -> Result<Client, Failed> {
        Ok(Client::builder().brokers([&self.broker]).build().await?)
    }

    /// Makes a topic and fills it with all quakes, by network.
    pub async fn load(&self, client: &Client, topic: &str, partitions: i32) -> Result<(), Failed> {
        client.admin().ensure_topic(NewTopic::new(topic).partitions(partitions)).await?;
        let mut records = Vec::new();
        for quake in &self.quakes {
            records.push(record(topic, quake)?);
        }
        for result in client.producer().build()?.send_all(records).await {
            result?;
        }
        Ok(())
    }
}

/// The record of a quake: its network is the key, its time the timestamp.
pub fn record(topic: &str, quake: &Quake) -> Result<Record, Failed> {
    Ok(Record::to(topic)
        .key(quake.network.clone())
        .value(Json::<Quake>::new().encode(quake)?)
        .timestamp(milliseconds(&quake.time)?))
}

/// Reads a file of earthquakes.
pub fn read(file: &str) -> Result<Vec<Quake>, Failed> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("read {file}: {e}"))?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Milliseconds since 1970 of a text as `2018-01-31T01:49:59.650Z`.
pub fn milliseconds(time: &str) -> Result<i64, Failed> {
    let number = |from: usize, to: usize| -> Result<i64, Failed> {
        Ok(time.get(from..to).ok_or_else(|| format!("time {time:?} is too short"))?.parse()?)
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // Days since 1970-03-01 of the proleptic Gregorian calendar, whose years begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + number(11, 13)?) * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    Ok(seconds * 1000 + number(20, 23)?)
}

/// The text of a header, where a record has one of that name.
pub fn header<'a>(headers: &'a [(String, Option<bytes::Bytes>)], name: &str) -> &'a str {
    let found: HashMap<&str, &[u8]> = headers.iter().filter_map(|(n, v)| Some((n.as_str(), v.as_deref()?))).collect();
    found.get(name).and_then(|v| std::str::from_utf8(v).ok()).unwrap_or_default()
}
