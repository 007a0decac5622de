//! A client of rustmq, by Kafka's protocol over QUIC or TCP, with safe defaults and the small things of
//! daily use.
//!
//! ```no_run
//! use rustmq::{Client, Record};
//!
//! # async fn hello() -> Result<(), rustmq::Error> {
//! let client = Client::builder().brokers(["127.0.0.1:9092"]).build().await?;
//! let producer = client.producer().build()?;
//! let delivery = producer.send(Record::to("greetings").value("hello")).await?;
//! println!("partition {}, offset {}", delivery.partition, delivery.offset);
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! A record whose result is `Ok` was acked by every replica in sync, once: producers are idempotent, and acks are
//! all, unless [`Builder::acks`] says otherwise. Records of one partition are written in the order in which they
//! were produced. What is not acked within [`Builder::delivery_timeout`] fails; such a record may have been
//! written all the same.
//!
//! A consumer commits what was handled, and nothing else: a record is handled at least once, and in the order of
//! its key, whatever the concurrency, through rebalances and restarts.
//!
//! # Cancellation
//!
//! Every future may be dropped at any time: the client goes on. A record whose future was dropped may be written,
//! or not; a transaction whose future was dropped is aborted.
//!
//! # Errors
//!
//! [`Error`] is one type for all; [`Error::is_retriable`] says of any whether the same may succeed later.

mod admin;
mod breaker;
mod builder;
mod client;
mod cluster;
mod codec;
mod compress;
mod conditional;
mod consumer;
mod error;
mod processor;
mod producer;
mod record;
mod sasl;
mod transaction;
mod transport;
mod wire;

pub use admin::{Acl, Admin, Broker, Group, NewTopic, PartitionInfo, Topic};
#[cfg(feature = "admin-api")]
pub use admin::{AdminApi, ClusterInfo, Deployment, Module, ModuleVersion, Node, Problem};
pub use breaker::BreakerState;
pub use builder::{Acks, Builder, Compression, Sasl, Tls, Transport};
pub use client::{Client, Health};
#[cfg(feature = "protobuf")]
pub use codec::Protobuf;
pub use codec::{BoxError, Codec, DecodeError, Json, Raw};
pub use consumer::{
    Assignor, BatchError, Consumer, ConsumerBuilder, ConsumerRecord, Failures, Message, Position, permanent,
};
pub use error::{Code, Error, Result};
pub use processor::{Processor, ProcessorBuilder};
pub use producer::{Pending, Producer, ProducerBuilder};
pub use record::{Delivery, Record};
pub use transaction::Tx;
pub use transport::{Link, Via};

/// Version of this crate, as brokers are told.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What README.md shows is compiled with the documentation's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
