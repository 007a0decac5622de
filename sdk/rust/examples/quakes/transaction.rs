//! Writes each strong quake to two topics, in both or in none.

use std::time::Duration;

use rustmq::{Client, Codec, Error, Json, NewTopic, Record};

use crate::program::{Failed, Program, Quake};

/// Why a transaction is not to be committed.
enum Refused {
    Doubtful,
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(why: Error) -> Self {
        Self::Failed(why)
    }
}

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = Client::builder()
        .brokers([&p.broker])
        .transactional_id(p.name("writer"), Duration::from_secs(40))
        .build()
        .await?;
    let topics = [p.name("alerts"), p.name("archive")];
    for topic in &topics {
        client.admin().ensure_topic(NewTopic::new(topic)).await?;
    }
    let (mut committed, mut aborted) = (0, 0);
    for quake in p.quakes.iter().filter(|q| q.magnitude >= 4.5) {
        let value = Json::<Quake>::new().encode(quake)?;
        let (topics, value) = (&topics, &value);
        let done = client.transact(|tx| async move {
            for topic in topics {
                // One that fails fails the transaction, whether or not its result is awaited.
                drop(tx.enqueue(Record::to(topic).key(quake.id.clone()).value(value.clone())).await?);
            }
            if quake.network != "us" {
                return Err(Refused::Doubtful); // neither topic has it
            }
            Ok(())
        });
        match done.await {
            Ok(()) => committed += 1,
            Err(Refused::Doubtful) => aborted += 1,
            Err(Refused::Failed(why)) => return Err(why.into()),
        }
    }
    client.close().await;
    Ok(format!("{committed} transactions committed, {aborted} aborted"))
}
