//! Copies strong quakes to another topic. Whatever is killed in between, each is there once: what was read and
//! what was written is committed in one transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustmq::{Json, Message, NewTopic, Tx};
use tokio::sync::Notify;

use crate::program::{Failed, Program, Quake, record};

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = p.client().await?;
    let (quakes, strong) = (p.name("quakes"), p.name("strong"));
    p.load(&client, &quakes, 2).await?;
    client.admin().ensure_topic(NewTopic::new(&strong)).await?;

    let processor =
        client.processor(p.name("strong-1")).topics([&quakes]).group(p.name("strong")).build(Json::<Quake>::new())?;
    let done = Arc::new(Notify::new());
    let (enough, read) = (Arc::clone(&done), AtomicUsize::new(0));
    let (all, to) = (p.quakes.len(), strong.clone());
    let copy = move |tx: Tx, batch: Vec<Message<Quake>>| {
        if read.fetch_add(batch.len(), Ordering::SeqCst) + batch.len() >= all {
            enough.notify_one(); // this batch is committed still
        }
        let to = to.clone();
        async move {
            for message in batch.iter().filter(|m| m.value.magnitude >= 5.0) {
                drop(tx.enqueue(record(&to, &message.value)?).await?);
            }
            Ok::<(), Failed>(())
        }
    };
    processor.run_until(done.notified(), copy).await?;

    let consumer = client.consumer().topics([&strong]).build(Json::<Quake>::new()).await?;
    let want = p.quakes.iter().filter(|q| q.magnitude >= 5.0).count();
    let mut seen: HashMap<String, usize> = HashMap::new();
    while seen.values().sum::<usize>() < want {
        for message in consumer.poll().await? {
            *seen.entry(message.value.id).or_default() += 1;
        }
    }
    consumer.close().await;
    client.close().await;
    Ok(format!("{want} strong quakes, {} of them there once", seen.values().filter(|&&n| n == 1).count()))
}
