//! Has three members share the partitions of a topic. What they have handled is committed, so that the next who
//! joins the group goes on behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;
use rustmq::{Json, Message};
use tokio::sync::watch;

use crate::program::{Failed, Program, Quake};

pub async fn run(p: &Program) -> Result<String, Failed> {
    let client = p.client().await?;
    let (topic, group) = (p.name("quakes"), p.name("readers"));
    p.load(&client, &topic, 6).await?;

    let all = p.quakes.len();
    let handled = Arc::new(AtomicUsize::new(0));
    let (done, watching) = watch::channel(false);
    let member = async || -> Result<(), Failed> {
        let consumer = client.consumer().topics([&topic]).group(&group).build(Json::<Quake>::new()).await?;
        let mut watching = watching.clone();
        let stop = async move {
            let _ = watching.wait_for(|&done| done).await; // it fails only once the sender is gone
        };
        let (handled, done) = (handled.clone(), done.clone());
        let run = consumer.run_until(stop, move |_: Arc<Message<Quake>>| {
            if handled.fetch_add(1, Ordering::SeqCst) + 1 == all {
                done.send_replace(true);
            }
            async { Ok::<(), Failed>(()) }
        });
        run.await?;
        consumer.close().await;
        Ok(())
    };
    try_join_all([member(), member(), member()]).await?;

    let groups = client.admin().groups(&[&group]).await?;
    client.close().await;
    Ok(format!("{} quakes handled, {} not committed", handled.load(Ordering::SeqCst), groups[0].lag))
}
