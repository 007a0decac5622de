//! Writes or reads what each SDK and client writes and reads alike (test/compat/sdk):
//!
//! ```sh
//! interchange write BROKER TOPIC
//! interchange read BROKER TOPIC
//! ```
//!
//! The topic has one partition. `write` produces eight records with each codec: with and without keys, values and
//! headers, and with empty ones. `read` prints a line a record,
//!
//! ```text
//! offset timestamp key value headers
//! ```
//!
//! with bytes in hex, `-` for what is null or not there, and `.` for what is empty, up to the end of the topic as
//! it was at the start.

use std::fmt::Write;
use std::process::ExitCode;

use bytes::Bytes;
use rustmq::{Client, Compression, Raw, Record};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Records of a codec.
const RECORDS: usize = 8;
const TIMESTAMP: i64 = 1_700_000_000_000;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", broker, topic] => write(broker, topic).await,
        ["read", broker, topic] => read(broker, topic).await.map(|lines| print!("{lines}")),
        _ => Err("usage: interchange write|read BROKER TOPIC".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("interchange: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn write(broker: &str, topic: &str) -> Result<(), Failed> {
    let client = Client::builder().brokers([broker]).build().await?;
    for (codec, name) in [
        (Compression::None, "none"),
        (Compression::Gzip, "gzip"),
        (Compression::Snappy, "snappy"),
        (Compression::Lz4, "lz4"),
        (Compression::Zstd, "zstd"),
    ] {
        let producer = client.producer().compression(codec).build()?;
        for result in producer.send_all((0..RECORDS).map(|i| record(topic, name, i))).await {
            result?;
        }
    }
    client.close().await;
    Ok(())
}

/// The `i`-th record of a codec.
fn record(topic: &str, codec: &str, i: usize) -> Record {
    let mut r = Record::to(topic)
        .key(format!("{codec}-{i}"))
        .value(format!("value {i} of {codec} ").repeat(20))
        .header("n", i.to_string())
        .timestamp(TIMESTAMP + i as i64)
        .partition(0);
    match i {
        2 => {
            r = r.header("n", "again").header("empty", "");
            r.headers.push(("none".into(), None));
        }
        3 => r.key = None,
        4 => r.key = Some(Bytes::new()),
        5 => r.value = None,
        6 => r.value = Some(Bytes::new()),
        _ => {}
    }
    r
}

async fn read(broker: &str, topic: &str) -> Result<String, Failed> {
    let client = Client::builder().brokers([broker]).build().await?;
    let end = client.admin().end_offsets(topic).await?.first().copied().unwrap_or_default();
    let consumer = client.consumer().topics([topic]).build(Raw).await?;
    let (mut lines, mut next) = (String::new(), 0);
    while next < end {
        for message in consumer.poll().await? {
            let r = &message.record;
            next = r.offset + 1;
            if next > end {
                break;
            }
            let headers: Vec<_> = r.headers.iter().map(|(n, v)| format!("{n}={}", printed(v.as_deref()))).collect();
            let headers = if headers.is_empty() { "-".to_owned() } else { headers.join(",") };
            let (key, value) = (printed(r.key.as_deref()), printed(r.value.as_deref()));
            writeln!(lines, "{} {} {key} {value} {headers}", r.offset, r.timestamp)?;
        }
    }
    consumer.close().await;
    client.close().await;
    Ok(lines)
}

fn printed(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "-".into(),
        Some([]) => ".".into(),
        Some(bytes) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
    }
}
