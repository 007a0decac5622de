//! Has two writers give numbers to quakes in one ledger. Each appends only if the ledger ends where it has read
//! to, and so never gives a number twice.

use futures::future::try_join;
use rustmq::{Error, NewTopic, Raw, Record};

use crate::program::{Failed, Program};

const ENTRIES: i64 = 20;

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = p.client().await?;
    let ledger = p.name("ledger");
    client.admin().ensure_topic(NewTopic::new(&ledger).partitions(1).config("rustmq.expect.offset", "true")).await?;
    try_join(writer(p, &ledger), writer(p, &ledger)).await?;

    let consumer = client.consumer().topics([&ledger]).build(Raw).await?;
    let mut n = 0;
    while n < ENTRIES {
        for message in consumer.poll().await? {
            let want = entry(p, n);
            if message.value != want.as_bytes() {
                return Err(format!("{:?}: want {want:?}", message.value).into());
            }
            n += 1;
        }
    }
    consumer.close().await;
    client.close().await;
    Ok(format!("{n} entries, each number once"))
}

fn entry(p: &Program, number: i64) -> String {
    format!("number {number} is {}", p.quakes[number as usize].id)
}

async fn writer(p: &Program, ledger: &str) -> Result<(), Failed> {
    let client = p.client().await?;
    let mut next = 0;
    while next < ENTRIES {
        match client.append_at(Record::to(ledger).partition(0).value(entry(p, next)), next).await {
            Ok(_) => next += 1,
            // The other was first: go on behind it.
            Err(Error::Condition { end, .. }) if end > next => next = end,
            Err(why) => return Err(why.into()),
        }
    }
    client.close().await;
    Ok(())
}
