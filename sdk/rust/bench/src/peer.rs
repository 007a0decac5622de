//! Loads by rdkafka, which is librdkafka: its threaded producer, and a consumer of one partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::shape::{BUFFERED, Failed, Measured, Shape};

const PATIENCE: Duration = Duration::from_secs(60);

/// Counts records that were not delivered.
#[derive(Clone, Default)]
struct Failures(Arc<AtomicUsize>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn config(shape: &Shape) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &shape.broker);
    if shape.transport == "rdkafka-tls" {
        config.set("security.protocol", "ssl").set("ssl.ca.location", &shape.ca);
    }
    config
}

/// Produces with what the SDK has by default: idempotent, acks of all, 10 ms of linger, batches of 1 MB.
pub fn produce(shape: &Shape) -> Result<Measured, Failed> {
    let failures = Failures::default();
    let producer: ThreadedProducer<Failures> = config(shape)
        .set("enable.idempotence", "true")
        .set("linger.ms", "10")
        .set("batch.size", "1000012")
        .set("queue.buffering.max.kbytes", (BUFFERED / 1024).to_string())
        .create_with_context(failures.clone())?;
    let value = shape.value();
    let send = |records: usize| -> Result<Duration, Failed> {
        let began = Instant::now();
        for _ in 0..records {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&shape.topic).partition(0).payload(&value);
            while let Err((why, back)) = producer.send(record) {
                if why != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(why.into());
                }
                std::thread::sleep(Duration::from_millis(1));
                record = back;
            }
        }
        producer.flush(PATIENCE)?;
        Ok(began.elapsed())
    };
    send(shape.warm_up())?;
    let took = send(shape.records)?;
    match failures.0.load(Ordering::Relaxed) {
        0 => Ok(Measured { records: shape.records, bytes: shape.records * shape.size, took }),
        n => Err(format!("{n} records were not delivered").into()),
    }
}

/// Reads partition 0 from the start; the first tenth warms up.
pub fn consume(shape: &Shape) -> Result<Measured, Failed> {
    let consumer: BaseConsumer = config(shape)
        .set("group.id", "bench") // has to be named, and keeps nothing
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "8388608")
        .create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&shape.topic, 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    let warm_up = shape.records / 10;
    let (mut bytes, mut began) = (0, Instant::now());
    for n in 0..shape.records {
        if n == warm_up {
            (bytes, began) = (0, Instant::now());
        }
        let message = consumer.poll(PATIENCE).ok_or("no record came for a minute")??;
        bytes += message.payload().map_or(0, <[u8]>::len);
    }
    Ok(Measured { records: shape.records - warm_up, bytes, took: began.elapsed() })
}
