//! Loads by the Rust SDK.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustmq::{Client, Compression, NewTopic, Raw, Record, Tls, Transport};

use crate::shape::{BUFFERED, Failed, Measured, Shape};

/// Runs a load on a runtime as `#[tokio::main]` makes it.
pub fn block_on<T>(load: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Runtime::new()?.block_on(load)
}

async fn client(shape: &Shape) -> Result<Client, Failed> {
    let builder = Client::builder().brokers([&shape.broker]);
    let trusting = || Tls::new().ca_file(&shape.ca);
    let builder = match shape.transport.as_str() {
        "tcp" | "rdkafka" => builder.transport(Transport::Tcp),
        "tls" | "rdkafka-tls" => builder.transport(Transport::Tcp).tls(trusting()),
        "quic" => builder.transport(Transport::Quic).tls(trusting()),
        "auto" => builder.transport(Transport::Auto).tls(trusting()),
        other => return Err(format!("transport {other:?}").into()),
    };
    Ok(builder.build().await?)
}

/// Makes a topic that was never there, of one partition; it returns its name.
pub async fn make_topic(shape: &Shape) -> Result<String, Failed> {
    let name = format!("bench-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos());
    let client = client(shape).await?;
    client.admin().create_topic(NewTopic::new(&name).partitions(1)).await?;
    client.close().await;
    Ok(name)
}

pub async fn delete_topic(shape: &Shape) -> Result<(), Failed> {
    let client = client(shape).await?;
    client.admin().delete_topic(&shape.topic).await?;
    client.close().await;
    Ok(())
}

/// Produces with the defaults but for compression.
pub async fn produce(shape: &Shape) -> Result<Measured, Failed> {
    let client = client(shape).await?;
    let producer = client.producer().compression(Compression::None).buffered_bytes(BUFFERED).build()?;
    let value = bytes::Bytes::from(shape.value());
    let send = async |records: usize| -> Result<Duration, Failed> {
        let began = Instant::now();
        let mut pending = Vec::with_capacity(records);
        for _ in 0..records {
            pending.push(producer.enqueue(Record::to(&shape.topic).partition(0).value(value.clone())).await?);
        }
        for result in pending {
            result.await?;
        }
        Ok(began.elapsed())
    };
    send(shape.warm_up()).await?;
    let took = send(shape.records).await?;
    client.close().await;
    Ok(Measured { records: shape.records, bytes: shape.records * shape.size, took })
}

/// Reads the topic from the start; the first tenth warms up.
pub async fn consume(shape: &Shape) -> Result<Measured, Failed> {
    let client = client(shape).await?;
    let consumer = client.consumer().topics([&shape.topic]).build(Raw).await?;
    let warm_up = shape.records / 10;
    let (mut n, mut records, mut bytes, mut began) = (0, 0, 0, Instant::now());
    while n < shape.records {
        let messages = consumer.poll().await?;
        n += messages.len();
        if records == 0 && n < warm_up {
            began = Instant::now();
            continue;
        }
        records += messages.len();
        bytes += messages.iter().map(|m| m.value.len()).sum::<usize>();
    }
    let took = began.elapsed();
    consumer.close().await;
    client.close().await;
    Ok(Measured { records, bytes, took })
}
