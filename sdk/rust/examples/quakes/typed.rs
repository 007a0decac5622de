//! Reads all quakes as values of a type, and finds the strongest; the consumer is a stream.

use futures::TryStreamExt;
use rustmq::Json;

use crate::program::{Failed, Program, Quake};

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = p.client().await?;
    let topic = p.name("quakes");
    p.load(&client, &topic, 4).await?;

    let consumer = client.consumer().topics([&topic]).build(Json::<Quake>::new()).await?;
    let mut strongest: Option<Quake> = None;
    {
        let mut messages = std::pin::pin!(consumer.stream());
        for _ in 0..p.quakes.len() {
            let quake = messages.try_next().await?.ok_or("the stream has ended")?.value;
            if strongest.as_ref().is_none_or(|s| quake.magnitude > s.magnitude) {
                strongest = Some(quake);
            }
        }
    }
    consumer.close().await;
    client.close().await;
    let strongest = strongest.ok_or("there was no quake")?;
    Ok(format!("the strongest of {}: {:.1}, {}", p.quakes.len(), strongest.magnitude, strongest.place))
}
