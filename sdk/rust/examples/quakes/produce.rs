//! Sends all quakes without waiting for each, and counts their results. Those of a network have its name as key,
//! and so stand in one partition, in order.

use rustmq::{Compression, NewTopic};

use crate::program::{Failed, Program, record};

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = p.client().await?;
    let topic = p.name("quakes");
    client.admin().ensure_topic(NewTopic::new(&topic).partitions(4)).await?;
    let producer = client.producer().compression(Compression::Zstd).build()?;
    let mut pending = Vec::new();
    for quake in &p.quakes {
        pending.push(producer.enqueue(record(&topic, quake)?).await?); // waits where the buffer is full
    }
    let (mut delivered, mut failed) = (0, 0);
    for result in pending {
        match result.await {
            Ok(_) => delivered += 1,
            Err(_) => failed += 1,
        }
    }
    client.close().await;
    Ok(format!("{delivered} quakes were delivered, {failed} failed"))
}
