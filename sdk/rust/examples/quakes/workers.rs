//! Handles sixteen quakes at once, but those of a network one after the other, in the order in which they were
//! produced.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rustmq::{Json, Message, permanent};
use tokio::sync::Notify;

use crate::program::{Failed, Program, Quake};

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = p.client().await?;
    let topic = p.name("quakes");
    p.load(&client, &topic, 2).await?;

    let consumer =
        client.consumer().topics([&topic]).group(p.name("ordered")).workers(16).build(Json::<Quake>::new()).await?;
    let done = Arc::new(Notify::new());
    let last: Arc<Mutex<HashMap<String, String>>> = Arc::default(); // the latest time of each network
    let (seen, enough) = (Arc::clone(&last), Arc::clone(&done));
    let (mut n, all) = (Mutex::new(0), p.quakes.len());
    let handle = |message: Arc<Message<Quake>>| {
        let quake = &message.value;
        let before = seen.lock().expect("no holder panics").insert(quake.network.clone(), quake.time.clone());
        let late = before.is_some_and(|before| before > quake.time);
        let mut n = n.lock().expect("no holder panics");
        *n += 1;
        if *n == all {
            enough.notify_one();
        }
        async move { if late { Err(permanent(format!("{} comes too late", message.value.id))) } else { Ok(()) } }
    };
    consumer.run_until(done.notified(), handle).await?;
    consumer.close().await?;
    client.close().await;
    let networks = last.lock().expect("no holder panics").len();
    Ok(format!("{} quakes of {networks} networks, each in order", n.get_mut().expect("no holder panics")))
}
