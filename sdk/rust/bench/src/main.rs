//! Loads that `bench` runs against a broker: by the Rust SDK, or by rdkafka, its peer.
//!
//! Usage: `rustmq-bench produce|consume -broker HOST:PORT -transport rdkafka|rdkafka-tls|tcp|tls|quic|auto
//! [-topic NAME] [-records N] [-size BYTES] [-ca FILE]`. Where no topic is named, produce makes one of one
//! partition, and deletes it. What was measured is printed as JSON, in the shape of bench's own loads.

mod ours;
mod peer;
mod shape;

use shape::{Measured, Shape};

fn main() {
    let mut args = std::env::args().skip(1);
    let kind = args.next().unwrap_or_default();
    match Shape::parse(args).and_then(|shape| measure(&kind, shape)) {
        Ok(measured) => println!("{measured}"),
        Err(why) => {
            eprintln!("rustmq-bench: {why}");
            std::process::exit(1);
        }
    }
}

/// Runs a load, on a topic of its own where none is named.
fn measure(kind: &str, mut shape: Shape) -> Result<Measured, shape::Failed> {
    if !shape.topic.is_empty() {
        return run(kind, &shape);
    }
    shape.topic = ours::block_on(ours::make_topic(&shape))?;
    let measured = run(kind, &shape);
    ours::block_on(ours::delete_topic(&shape))?;
    measured
}

fn run(kind: &str, shape: &Shape) -> Result<Measured, shape::Failed> {
    let peer = shape.transport.starts_with("rdkafka");
    match (kind, peer) {
        ("produce", true) => peer::produce(shape),
        ("consume", true) => peer::consume(shape),
        ("produce", false) => ours::block_on(ours::produce(shape)),
        ("consume", false) => ours::block_on(ours::consume(shape)),
        _ => Err(format!("load {kind:?} is not known: want produce or consume").into()),
    }
}
