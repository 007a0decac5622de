//! Reads the last ten quakes: records have the time of their quake, and the broker finds the first of a moment or
//! later.

use rustmq::{Json, Position};

use crate::program::{Failed, Program, Quake, milliseconds};

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = p.client().await?;
    let topic = p.name("quakes");
    p.load(&client, &topic, 1).await?;

    let moment = &p.quakes[p.quakes.len() - 10].time;
    let consumer = client
        .consumer()
        .topics([&topic])
        .from(Position::Time(milliseconds(moment)?))
        .build(Json::<Quake>::new())
        .await?;
    let messages = consumer.poll().await?;
    consumer.close().await;
    client.close().await;
    Ok(format!("{} quakes since {moment}", messages.len()))
}
