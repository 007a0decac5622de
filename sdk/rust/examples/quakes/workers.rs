//! Handles sixteen quakes at once, but those of a network one after the other, in the order in which they were
//! produced.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rustmq::{Json, Message, permanent};
use tokio::sync::Notify;

use crate::program::{Failed, Program, Quake};

#[derive(Default)]
struct Seen {
    n: usize,
    /// The latest time of each network.
    last: HashMap<String, String>,
}

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = p.client().await?;
    let topic = p.name("quakes");
    p.load(&client, &topic, 2).await?;

    let consumer =
        client.consumer().topics([&topic]).group(p.name("ordered")).workers(16).build(Json::<Quake>::new()).await?;
    let (seen, done) = (Arc::new(Mutex::new(Seen::default())), Arc::new(Notify::new()));
    let (noted, enough, all) = (Arc::clone(&seen), Arc::clone(&done), p.quakes.len());
    let handle = move |message: Arc<Message<Quake>>| {
        let quake = &message.value;
        let mut seen = noted.lock().expect("no holder panics");
        let before = seen.last.insert(quake.network.clone(), quake.time.clone());
        let late = before.is_some_and(|before| before > quake.time);
        seen.n += 1;
        if seen.n == all {
            enough.notify_one();
        }
        async move { if late { Err(permanent(format!("{} comes too late", message.value.id))) } else { Ok(()) } }
    };
    consumer.run_until(done.notified(), handle).await?;
    consumer.close().await;
    client.close().await;
    let seen = seen.lock().expect("no holder panics");
    Ok(format!("{} quakes of {} networks, each in order", seen.n, seen.last.len()))
}
