//! Handles quakes with a service that fails now and then, and for some always: those go to a topic of dead
//! letters, with what happened in their headers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustmq::{Failures, Json, Message, NewTopic};
use tokio::sync::Notify;

use crate::program::{Failed, Program, Quake, header};

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = p.client().await?;
    let (topic, dead) = (p.name("quakes"), p.name("dead"));
    p.load(&client, &topic, 1).await?;
    client.admin().ensure_topic(NewTopic::new(&dead)).await?;

    let consumer = client
        .consumer()
        .topics([&topic])
        .group(p.name("careful"))
        .failures(Failures::dead_letter(&dead).retries(2).pause(Duration::from_millis(1)))
        .build(Json::<Quake>::new())
        .await?;
    let (handled, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, enough, calls) = (Arc::clone(&handled), Arc::clone(&done), AtomicUsize::new(0));
    let last = p.quakes[p.quakes.len() - 1].id.clone();
    let handle = move |message: Arc<Message<Quake>>| {
        let quake = &message.value;
        let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome: Result<(), Failed> = if quake.magnitude >= 6.3 {
            Err("too strong for the service".into())
        } else if call % 100 == 0 {
            Err("the service was busy".into()) // another attempt succeeds
        } else {
            count.fetch_add(1, Ordering::SeqCst);
            if quake.id == last {
                enough.notify_one();
            }
            Ok(())
        };
        async { outcome }
    };
    consumer.run_until(done.notified(), handle).await?;
    consumer.close().await;

    let mut said = String::new();
    let handled = handled.load(Ordering::SeqCst);
    let letters = client.consumer().topics([&dead]).build(Json::<Quake>::new()).await?;
    let mut n = handled;
    while n < p.quakes.len() {
        for letter in letters.poll().await? {
            let of = |name| header(&letter.record.headers, name);
            said += &format!(
                "{:.1} {}: {}, {} attempts\n",
                letter.value.magnitude,
                letter.value.place,
                of("rustmq.dlt.reason"),
                of("rustmq.dlt.attempts")
            );
            n += 1;
        }
    }
    letters.close().await;
    client.close().await;
    Ok(format!("{said}{handled} handled, {} put aside", p.quakes.len() - handled))
}
