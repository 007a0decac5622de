//! From topic to topic against a real server, and what readers of what is committed see.

mod harness;

use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use harness::{Failed, Options, Server, run, within};
use rustmq::{BoxError, Client, Consumer, Error, Failures, Json, Message, NewTopic, ProcessorBuilder, Record, Tx};
use tokio::sync::watch;

async fn start(id: &str) -> Result<(Server, Client), Failed> {
    let server = Server::start(Options::default())?;
    let client =
        Client::builder().brokers([server.addr()]).transactional_id(id, Duration::from_secs(30)).build().await?;
    Ok((server, client))
}

async fn fill(client: &Client, topic: &str, n: usize) -> Result<(), Failed> {
    client.admin().create_topic(NewTopic::new(topic).partitions(1)).await?;
    let producer = client.producer().build()?;
    let records = (0..n).map(|i| Record::to(topic).key(format!("key-{i}")).value(i.to_string()));
    for sent in within("records are produced", producer.send_all(records)).await? {
        sent?;
    }
    Ok(())
}

/// Reads n values of a topic, and nothing that comes behind them within a moment.
async fn values(client: &Client, topic: &str, n: usize) -> Result<Vec<usize>, Failed> {
    let consumer: Consumer<usize> = client.consumer().topics([topic]).build(Json::new()).await?;
    let mut out = Vec::new();
    while out.len() < n {
        out.extend(within(&format!("{n} of {topic}, after {out:?}"), consumer.poll()).await??.iter().map(|m| m.value));
    }
    if let Ok(more) = tokio::time::timeout(Duration::from_millis(300), consumer.poll()).await {
        return Err(format!("{topic} has more: {more:?}").into());
    }
    Ok(out)
}

/// Ends a processor once it has seen a value.
#[derive(Clone)]
struct Seen(Arc<Mutex<Vec<usize>>>, watch::Sender<bool>, usize);

impl Seen {
    fn until(last: usize) -> Self {
        Seen(Arc::default(), watch::Sender::new(false), last)
    }

    fn note(&self, batch: &[Message<usize>]) {
        let mut seen = self.0.lock().unwrap();
        seen.extend(batch.iter().map(|m| m.value));
        if seen.contains(&self.2) {
            self.1.send_replace(true);
        }
    }

    fn wait(&self) -> impl Future<Output = ()> + 'static {
        let mut stop = self.1.subscribe();
        async move {
            let _ = stop.wait_for(|s| *s).await;
        }
    }
}

async fn lag(client: &Client, group: &str) -> Result<i64, Failed> {
    Ok(client.admin().groups(&[group]).await?.first().ok_or("no group")?.lag)
}

async fn copy(
    client: &Client,
    seen: &Seen,
    builder: ProcessorBuilder,
    fail: fn(usize) -> bool,
) -> Result<Result<(), Error>, Failed> {
    client.admin().ensure_topic(NewTopic::new("out").partitions(1)).await?;
    let processor = builder.topics(["in"]).group("g").build(Json::<usize>::new())?;
    let handler = |tx: Tx, batch: Vec<Message<usize>>| {
        let seen = seen.clone();
        async move {
            let mut broken = false;
            for m in &batch {
                drop(tx.enqueue(Record::to("out").value(m.value.to_string())).await?);
                broken |= fail(m.value);
            }
            if broken {
                return Err::<(), BoxError>("broken".into());
            }
            seen.note(&batch);
            Ok(())
        }
    };
    within("the processor", processor.run_until(seen.wait(), handler)).await
}

#[test]
fn what_is_processed_is_there_once_and_its_position_with_it() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start("fill").await?;
        fill(&client, "in", 100).await?;
        let seen = Seen::until(99);
        copy(&client, &seen, client.processor("copy").max_poll(7), |_| false).await??;
        assert_eq!(values(&client, "out", 100).await?, (0..100).collect::<Vec<_>>());
        assert_eq!(lag(&client, "g").await?, 0);
        // Another goes on where it was.
        client.producer().build()?.send(Record::to("in").value("100")).await?;
        let seen = Seen::until(100);
        copy(&client, &seen, client.processor("copy").classic(), |_| false).await??;
        assert_eq!(*seen.0.lock().unwrap(), [100]);
        Ok(())
    })
}

#[test]
fn what_a_handler_wrote_before_it_failed_is_not_there() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start("fill").await?;
        fill(&client, "in", 6).await?;
        client.admin().create_topic(NewTopic::new("dead").partitions(1)).await?;
        let seen = Seen::until(5);
        let failures = Failures::dead_letter("dead").retries(1).pause(Duration::from_millis(1));
        copy(&client, &seen, client.processor("copy").failures(failures), |v| v == 2).await??;
        assert_eq!(values(&client, "out", 5).await?, [0, 1, 3, 4, 5]);
        assert_eq!(values(&client, "dead", 1).await?, [2]);
        // Where it is to stop, it says at what, and that is read again.
        let seen = Seen::until(7);
        for value in ["6", "2", "7"] {
            client.producer().build()?.send(Record::to("in").value(value)).await?;
        }
        match copy(&client, &seen, client.processor("copy").max_poll(1), |v| v == 2).await? {
            Err(Error::Processing { offset: 7, attempts: 1, .. }) => {}
            other => return Err(format!("{other:?}").into()),
        }
        assert_eq!(lag(&client, "g").await?, 2);
        Ok(())
    })
}

#[test]
fn who_reads_what_is_committed_sees_nothing_that_was_aborted() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start("writer").await?;
        fill(&client, "t", 1).await?;
        for value in 1..10usize {
            let sent = client
                .transact(|tx| async move {
                    tx.send(Record::to("t").value(value.to_string())).await?;
                    if value % 3 == 0 { Err(Box::<dyn std::error::Error + Send + Sync>::from("no")) } else { Ok(()) }
                })
                .await;
            assert_eq!(sent.is_err(), value % 3 == 0, "{value}: {sent:?}");
        }
        assert_eq!(values(&client, "t", 7).await?, [0, 1, 2, 4, 5, 7, 8]);
        let all: Consumer<usize> = client.consumer().topics(["t"]).uncommitted().build(Json::new()).await?;
        let mut seen = Vec::new();
        while seen.len() < 10 {
            seen.extend(within("all", all.poll()).await??.iter().map(|m| m.value));
        }
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        Ok(())
    })
}
