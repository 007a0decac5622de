//! Loads that `bench` runs against a broker: by the Rust SDK, or by rdkafka, its peer.
//!
//! Usage: `rustmq-bench produce|consume -broker HOST:PORT -transport rdkafka|rdkafka-tls|tcp|tls|quic -topic NAME
//! [-records N] [-size BYTES] [-ca FILE]`. The topic has one partition and is there. What was measured is
//! printed as JSON, in the shape of bench's own loads.

mod ours;
mod peer;
mod shape;

use shape::{Measured, Shape};

fn main() {
    let mut args = std::env::args().skip(1);
    let kind = args.next().unwrap_or_default();
    match Shape::parse(args).and_then(|shape| run(&kind, &shape)) {
        Ok(measured) => println!("{measured}"),
        Err(why) => {
            eprintln!("rustmq-bench: {why}");
            std::process::exit(1);
        }
    }
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
