//! Produces a record and reads it.

use rustmq::{NewTopic, Raw, Record};

use crate::program::{Failed, Program};

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = p.client().await?;
    let topic = p.name("greetings");
    client.admin().ensure_topic(NewTopic::new(&topic)).await?;
    client.producer().build()?.send(Record::to(&topic).value("hello")).await?;

    let consumer = client.consumer().topics([&topic]).build(Raw).await?;
    let messages = consumer.poll().await?;
    let said = format!("offset {}: {}", messages[0].record.offset, String::from_utf8_lossy(&messages[0].value));
    consumer.close().await;
    client.close().await;
    Ok(said)
}
