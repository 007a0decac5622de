//! Scenarios of one client: codecs and acks, order, sizes, slow handlers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustmq::{Acks, Builder, Client, Code, Compression, Consumer, Error, Json, Message, NewTopic, Raw, Record};
use tokio::sync::Notify;

use crate::harness::{Failed, MOMENTS, Server, within, within_for};
use crate::table::{Case, Seen};

/// A client of the server, with what `with` adds.
pub async fn client(server: &Server, with: impl FnOnce(Builder) -> Builder) -> Result<Client, Failed> {
    Ok(with(Client::builder().brokers([server.addr()])).build().await?)
}

/// Makes a topic.
pub async fn topic(client: &Client, topic: NewTopic) -> Result<(), Failed> {
    Ok(within("the topic is made", client.admin().create_topic(topic)).await??)
}

/// Makes a topic with `n` numbers, each the value of a record, with `keys` keys in turn.
pub async fn fill(client: &Client, name: &str, partitions: i32, n: usize, keys: usize) -> Result<(), Failed> {
    topic(client, NewTopic::new(name).partitions(partitions)).await?;
    let producer = client.producer().build()?;
    let records = (0..n).map(|i| Record::to(name).key(format!("key-{}", i % keys)).value(i.to_string()));
    for result in within("all records are acked", producer.send_all(records)).await? {
        result?;
    }
    Ok(())
}

/// Reads numbers from the start until there are `n`.
pub async fn numbers(client: &Client, name: &str, n: usize) -> Result<Seen, Failed> {
    let consumer = client.consumer().topics([name]).build(Json::<i64>::new()).await?;
    let mut seen = Seen::new();
    let mut total = 0;
    while total < n {
        for message in within("records come", consumer.poll()).await?? {
            *seen.entry(message.value).or_default() += 1;
            total += 1;
        }
    }
    consumer.close().await;
    Ok(seen)
}

/// What handlers have seen, and the word that it is all.
#[derive(Clone, Default)]
pub struct Handled {
    inner: Arc<(Mutex<State>, Notify)>,
}

#[derive(Default)]
struct State {
    seen: Seen,
    last: HashMap<Vec<u8>, i64>,
    late: Vec<String>,
}

impl Handled {
    /// Notes a message; it reports how many different ones there are by now.
    pub fn note(&self, message: &Message<i64>) -> usize {
        let mut state = self.inner.0.lock().expect("no holder panics");
        let key = message.record.key.clone().unwrap_or_default().to_vec();
        if let Some(before) = state.last.insert(key, message.value) {
            if before >= message.value {
                state.late.push(format!("{} comes after {before}", message.value));
            }
        }
        *state.seen.entry(message.value).or_default() += 1;
        state.seen.len()
    }

    /// Notes a number that another process has handled.
    pub fn note_value(&self, value: i64) {
        *self.inner.0.lock().expect("no holder panics").seen.entry(value).or_default() += 1;
    }

    pub fn enough(&self) {
        self.inner.1.notify_one();
    }

    /// Waits for [`Handled::enough`].
    pub async fn all(&self) {
        self.inner.1.notified().await;
    }

    pub fn count(&self) -> usize {
        self.inner.0.lock().expect("no holder panics").seen.len()
    }

    pub fn seen(&self) -> Seen {
        self.inner.0.lock().expect("no holder panics").seen.clone()
    }

    pub fn late(&self) -> Vec<String> {
        self.inner.0.lock().expect("no holder panics").late.clone()
    }
}

pub async fn round_trip(server: &Server, case: &Case) -> Result<(), Failed> {
    let acks = match case.acks.as_str() {
        "all" => Acks::All,
        "leader" => Acks::Leader,
        "none" => Acks::None,
        other => return Err(format!("acks {other:?}").into()),
    };
    let codec = match case.codec.as_str() {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        other => return Err(format!("codec {other:?}").into()),
    };
    let (client, name) = (client(server, |b| b).await?, case.fresh());
    topic(&client, NewTopic::new(&name).partitions(2)).await?;
    let values: Vec<Vec<u8>> = (0..case.records).map(|i| value(i, case.value_bytes)).collect();
    let records =
        values.iter().enumerate().map(|(i, v)| Record::to(&name).key(i.to_string()).value(v.clone()).header("h", "v"));
    let producer = client.producer().acks(acks).compression(codec).build()?;
    for result in within("all records have results", producer.send_all(records)).await? {
        result?;
    }
    let consumer = client.consumer().topics([&name]).build(Raw).await?;
    let (mut seen, mut total) = (Seen::new(), 0);
    while total < case.records {
        for message in within("records come", consumer.poll()).await?? {
            total += 1;
            let i: usize = std::str::from_utf8(message.record.key.as_deref().unwrap_or_default())?.parse()?;
            let headers = &message.record.headers;
            if message.value == values[i]
                && headers.len() == 1
                && headers[0].0 == "h"
                && headers[0].1.as_deref() == Some(b"v")
            {
                *seen.entry(i as i64).or_default() += 1;
            }
        }
    }
    consumer.close().await;
    client.close().await;
    case.judge(case.records, &seen)
}

/// Half zeros, half bytes that no codec makes smaller.
fn value(i: usize, size: usize) -> Vec<u8> {
    let mut state = i as u64 + 1;
    let mut value = vec![0; size];
    for b in &mut value[size / 2..] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *b = (state >> 56) as u8;
    }
    value
}

pub async fn order(server: &Server, case: &Case) -> Result<(), Failed> {
    let (client, name) = (client(server, |b| b).await?, case.fresh());
    fill(&client, &name, case.partitions, case.records, case.keys).await?;
    let consumer =
        client.consumer().topics([&name]).group(&name).workers(case.workers).build(Json::<i64>::new()).await?;
    let handled = Handled::default();
    let (all, of) = (handled.clone(), case.records);
    let stop = handled.clone();
    let run = consumer.run_until(async move { stop.all().await }, move |message: Arc<Message<i64>>| {
        if all.note(&message) == of {
            all.enough();
        }
        async { Ok::<(), Failed>(()) }
    });
    within("all records are handled", run).await??;
    consumer.close().await;
    client.close().await;
    let late = handled.late();
    if case.expect.ordered && !late.is_empty() {
        return Err(format!("{} records are out of order: {}", late.len(), late[0]).into());
    }
    case.judge(case.records, &handled.seen())
}

pub async fn size(server: &Server, case: &Case) -> Result<(), Failed> {
    let (client, name) = (client(server, |b| b).await?, case.fresh());
    topic(&client, NewTopic::new(&name).partitions(1).config("max.message.bytes", case.topic_max_bytes.to_string()))
        .await?;
    let producer =
        client.producer().compression(Compression::None).max_record_bytes(case.value_bytes + (64 << 10)).build()?;
    let value: Vec<u8> = b"0123456789abcdef".iter().copied().cycle().take(case.value_bytes).collect();
    let result = within("the record has a result", producer.send(Record::to(&name).value(value.clone()))).await?;
    match (case.expect.outcome.as_str(), result) {
        ("refused", Err(why)) => {
            let code = why.code();
            let large = matches!(why, Error::TooLarge { .. })
                || matches!(code, Some(Code::MessageTooLarge | Code::RecordListTooLarge));
            if !large || case.expect.retriable.is_some_and(|r| r != why.is_retriable()) {
                return Err(format!("refused for another reason: {why}").into());
            }
        }
        ("delivered", Ok(_)) => {
            let consumer = client.consumer().topics([&name]).build(Raw).await?;
            let got = within("the record comes", consumer.poll()).await??;
            if got.len() != 1 || got[0].value != value {
                return Err(format!("{} messages, not the one that was sent", got.len()).into());
            }
            consumer.close().await;
        }
        (want, got) => return Err(format!("want {want}, got {got:?}").into()),
    }
    client.close().await;
    Ok(())
}

pub async fn slow(server: &Server, case: &Case) -> Result<(), Failed> {
    let (client, name) = (client(server, |b| b).await?, case.fresh());
    fill(&client, &name, 1, case.records, case.records).await?;
    let consumer = Arc::new(member(&client, &name, case).await?);
    let of_group = Arc::clone(&consumer);
    let handled = Handled::default();
    let generations = Arc::new(Mutex::new(Vec::new()));
    let (all, of, took, noted) =
        (handled.clone(), case.records, Duration::from_millis(case.handle_ms), Arc::clone(&generations));
    let stop = handled.clone();
    let run = consumer.run_until(async move { stop.all().await }, move |message: Arc<Message<i64>>| {
        noted.lock().expect("no holder panics").push(of_group.generation());
        let all = all.clone();
        async move {
            tokio::time::sleep(took).await; // it is slow
            if all.note(&message) == of {
                all.enough();
            }
            Ok::<(), Failed>(())
        }
    });
    within_for(2 * MOMENTS, "all records are handled", run).await??;
    consumer.close().await;
    client.close().await;
    let generations = generations.lock().expect("no holder panics");
    let rejoins = generations.last().unwrap_or(&0) - generations.first().unwrap_or(&0);
    if case.expect.rejoins.is_some_and(|r| r != rejoins) {
        return Err(format!("the group has gone through generations {generations:?}").into());
    }
    case.judge(case.records, &handled.seen())
}

/// A member of the group of a case.
pub async fn member(client: &Client, name: &str, case: &Case) -> Result<Consumer<i64>, Failed> {
    let mut builder = client.consumer().topics([name]).group(name).max_poll(10).commit_every(Duration::from_millis(50));
    match case.protocol.as_str() {
        "classic" => builder = builder.classic(),
        "consumer" | "" => {}
        other => return Err(format!("protocol {other:?}").into()),
    }
    if case.session_ms > 0 {
        builder = builder.session_timeout(Duration::from_millis(case.session_ms));
    }
    Ok(builder.build(Json::<i64>::new()).await?)
}
