//! Consumers against a real server: what is handled, committed, tried again, and read by whom.

mod harness;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{Failed, Options, Server, eventually, run, within};
use rustmq::{
    Assignor, BatchError, BoxError, Client, Consumer, ConsumerBuilder, Error, Failures, Json, Message, NewTopic,
    Position, Raw, Record, permanent,
};
use tokio::sync::watch;

/// A server and a client of it.
async fn start() -> Result<(Server, Client), Failed> {
    let server = Server::start(Options::default())?;
    let client = Client::builder().brokers([server.addr()]).build().await?;
    Ok((server, client))
}

/// Produces n records to a new topic, value i of key i mod keys.
async fn fill(client: &Client, topic: &str, partitions: i32, n: usize, keys: usize) -> Result<(), Failed> {
    client.admin().create_topic(NewTopic::new(topic).partitions(partitions)).await?;
    let producer = client.producer().build()?;
    let records = (0..n).map(|i| Record::to(topic).key(format!("key-{}", i % keys)).value(i.to_string()));
    for sent in within("records are produced", producer.send_all(records)).await? {
        sent?;
    }
    Ok(())
}

async fn numbers(builder: ConsumerBuilder) -> Result<Consumer<usize>, Failed> {
    Ok(builder.build(Json::<usize>::new()).await?)
}

/// How far a group is behind.
async fn lag(client: &Client, group: &str) -> Result<i64, Failed> {
    Ok(client.admin().groups(&[group]).await?.first().ok_or("no group")?.lag)
}

async fn poll(consumer: &Consumer<usize>) -> Result<Vec<usize>, Failed> {
    let messages = within("a poll", consumer.poll()).await??;
    Ok(messages.iter().map(|m| m.value).collect())
}

/// Something that ends a run from within a handler.
#[derive(Clone)]
struct Stop(watch::Sender<bool>);

impl Stop {
    fn new() -> Self {
        Stop(watch::Sender::new(false))
    }

    fn now(&self) {
        self.0.send_replace(true);
    }

    fn wait(&self) -> impl Future<Output = ()> + 'static {
        let mut stop = self.0.subscribe();
        async move {
            let _ = stop.wait_for(|s| *s).await;
        }
    }
}

type Fails = fn(u32) -> Result<(), BoxError>;

#[test]
fn failures_are_retried_then_done_with() -> Result<(), Failed> {
    fn always(_: u32) -> Result<(), BoxError> {
        Err("broken".into())
    }
    fn twice(attempt: u32) -> Result<(), BoxError> {
        if attempt <= 2 { always(attempt) } else { Ok(()) }
    }
    fn for_good(_: u32) -> Result<(), BoxError> {
        Err(permanent("broken"))
    }
    let ms = Duration::from_millis(1);
    // Attempts of the third of five records, how many are handled, and whether it stops.
    let cases: [(&str, Failures, Fails, u32, usize, bool); 5] = [
        ("stop", Failures::stop(), always, 1, 2, true),
        ("retry-heals", Failures::stop().retries(3).pause(ms), twice, 3, 5, false),
        ("skip", Failures::skip().retries(1).pause(ms), always, 2, 4, false),
        ("permanent", Failures::skip().retries(5), for_good, 1, 4, false),
        ("dead-letter", Failures::dead_letter("dead").retries(1).pause(ms), always, 2, 4, false),
    ];
    run(async {
        let (_server, client) = start().await?;
        client.admin().create_topic(NewTopic::new("dead").partitions(1)).await?;
        for (name, failures, fail, want_attempts, want_handled, stops) in cases {
            fill(&client, name, 1, 5, 5).await?;
            let consumer = numbers(client.consumer().topics([name]).group(name).failures(failures)).await?;
            let (attempts, handled, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicUsize::new(0)), Stop::new());
            let seen = (attempts.clone(), handled.clone(), stop.clone());
            let ended = consumer.run_until(stop.wait(), move |m| {
                let (attempts, handled, stop) = seen.clone();
                async move {
                    if m.value == 2 {
                        fail(attempts.fetch_add(1, Ordering::SeqCst) + 1)?;
                    }
                    handled.fetch_add(1, Ordering::SeqCst);
                    if m.value == 4 {
                        stop.now();
                    }
                    Ok::<_, BoxError>(())
                }
            });
            match within(name, ended).await? {
                Ok(()) if !stops => {}
                Err(Error::Processing { offset: 2, attempts: 1, .. }) if stops => {}
                other => return Err(format!("{name}: {other:?}").into()),
            }
            assert_eq!(
                (attempts.load(Ordering::SeqCst), handled.load(Ordering::SeqCst)),
                (want_attempts, want_handled),
                "{name}"
            );
            assert_eq!(lag(&client, name).await?, if stops { 3 } else { 0 }, "{name}");
            consumer.close().await;
        }
        let letters = numbers(client.consumer().topics(["dead"])).await?;
        let got = within("the dead letter", letters.poll()).await??;
        let letter = &got[0];
        assert_eq!((got.len(), letter.value, letter.record.key.as_deref()), (1, 2, Some(&b"key-2"[..])));
        for (header, want) in [
            ("topic", "dead-letter"),
            ("partition", "0"),
            ("offset", "2"),
            ("group", "dead-letter"),
            ("attempts", "2"),
            ("reason", "broken"),
        ] {
            assert_eq!(
                letter.record.header(&format!("rustmq.dlt.{header}")).map(|v| &v[..]),
                Some(want.as_bytes()),
                "{header}"
            );
        }
        Ok(())
    })
}

#[test]
fn what_cannot_be_decoded_is_told_in_its_place_and_not_retried() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        client.admin().create_topic(NewTopic::new("t").partitions(1)).await?;
        let producer = client.producer().build()?;
        for sent in producer.send_all(["1", "}", "3"].map(|v| Record::to("t").value(v))).await {
            sent?;
        }
        let polled = numbers(client.consumer().topics(["t"])).await?;
        assert_eq!(poll(&polled).await?, [1]);
        match within("the error", polled.poll()).await? {
            Err(Error::Decode(text)) => assert!(text.starts_with("t/0 offset 1: "), "{text}"),
            other => return Err(format!("{other:?}").into()),
        }
        assert_eq!(poll(&polled).await?, [3]);
        let consumer =
            numbers(client.consumer().topics(["t"]).group("g").failures(Failures::skip().retry_forever())).await?;
        let (sum, stop) = (Arc::new(AtomicUsize::new(0)), Stop::new());
        let seen = (sum.clone(), stop.clone());
        let ended = consumer.run_batch_until(stop.wait(), move |batch: Vec<Arc<Message<usize>>>| {
            for m in batch {
                seen.0.fetch_add(m.value, Ordering::SeqCst);
                if m.value == 3 {
                    seen.1.now();
                }
            }
            async { Ok::<_, BoxError>(()) }
        });
        within("batches", ended).await??;
        assert_eq!(sum.load(Ordering::SeqCst), 4);
        Ok(())
    })
}

#[test]
fn of_a_batch_some_may_fail() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        fill(&client, "t", 1, 6, 6).await?;
        let failures = Failures::skip().retries(1).pause(Duration::from_millis(1));
        let consumer = numbers(client.consumer().topics(["t"]).group("g").max_poll(6).failures(failures)).await?;
        let (tries, stop) = (Arc::new(Mutex::new(HashMap::<usize, u32>::new())), Stop::new());
        let seen = (tries.clone(), stop.clone());
        let ended = consumer.run_batch_until(stop.wait(), move |batch: Vec<Arc<Message<usize>>>| {
            let mut failed = BatchError::default();
            for (i, m) in batch.iter().enumerate() {
                *seen.0.lock().unwrap().entry(m.value).or_default() += 1;
                if m.value % 3 == 1 {
                    failed.failed.insert(i, "broken".into());
                }
            }
            let all = seen.0.lock().unwrap().values().sum::<u32>() == 8;
            let stop = seen.1.clone();
            async move {
                if all {
                    stop.now();
                }
                if failed.failed.is_empty() { Ok(()) } else { Err(failed) }
            }
        });
        within("batches", ended).await??;
        for (value, n) in tries.lock().unwrap().iter() {
            assert_eq!(*n, if value % 3 == 1 { 2 } else { 1 }, "value {value}");
        }
        Ok(())
    })
}

#[test]
fn positions_are_sought_paused_and_committed_by_hand() -> Result<(), Failed> {
    const NOON: i64 = 1_767_268_800_000;
    const MINUTE: i64 = 60_000;
    run(async {
        let (_server, client) = start().await?;
        client.admin().create_topic(NewTopic::new("t").partitions(1)).await?;
        let producer = client.producer().build()?;
        for i in 0..10i64 {
            producer.send(Record::to("t").value(i.to_string()).timestamp(NOON + i * MINUTE)).await?;
        }
        let consumer = numbers(client.consumer().topics(["t"]).group("g").manual()).await?;
        let got = within("the first poll", consumer.poll()).await??;
        assert_eq!(got[0].value, 0);
        consumer.commit(&got[..1]).await?;
        assert_eq!(lag(&client, "g").await?, 9);
        consumer.seek("t", 0, 7)?;
        assert!(consumer.commit(&got[..1]).await.is_err(), "a message before the seek was committed");
        assert_eq!(poll(&consumer).await?[0], 7);
        consumer.seek_time(NOON + 4 * MINUTE - 1000)?;
        assert_eq!(poll(&consumer).await?[0], 4);
        consumer.pause(&["t"]);
        consumer.seek("t", 0, 2)?;
        assert!(
            tokio::time::timeout(Duration::from_millis(300), consumer.poll()).await.is_err(),
            "a paused topic gives something"
        );
        consumer.resume(&["t"]);
        let mut got = poll(&consumer).await?;
        assert_eq!(got[0], 2);
        while got.last() != Some(&9) {
            got = poll(&consumer).await?;
        }
        // A seek takes effect while a poll waits.
        let (waiting, sought) = tokio::join!(poll(&consumer), async {
            tokio::task::yield_now().await;
            consumer.seek("t", 0, 8)
        });
        sought?;
        assert_eq!(waiting?[0], 8);
        consumer.seek_time(NOON + 60 * MINUTE)?;
        producer.send(Record::to("t").value("77")).await?;
        assert_eq!(poll(&consumer).await?, [77], "of a time that nothing is of, the end");
        assert!(consumer.seek("t", 5, 0).is_err() && consumer.seek("t", 0, -1).is_err());
        Ok(())
    })
}

#[test]
fn one_call_at_a_time_and_none_after_the_end() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        fill(&client, "t", 1, 1, 1).await?;
        let consumer = Arc::new(numbers(client.consumer().topics(["t"])).await?);
        let (stop, other) = (Stop::new(), Arc::clone(&consumer));
        let seen = stop.clone();
        let ended = consumer.run_until(stop.wait(), move |_| {
            let (other, stop) = (Arc::clone(&other), seen.clone());
            async move {
                stop.now();
                match other.poll().await {
                    Err(Error::Busy) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            }
        });
        within("the run", ended).await??;
        // A poll that is dropped while it waits takes nothing with it.
        assert!(tokio::time::timeout(Duration::from_millis(50), consumer.poll()).await.is_err());
        let (polled, ()) = tokio::join!(within("the end", consumer.poll()), consumer.close());
        assert!(matches!(polled?, Err(Error::Closed)));
        assert!(matches!(consumer.poll().await, Err(Error::Closed)));
        Ok(())
    })
}

/// And no more: a crash in between loses nothing.
#[test]
fn a_poll_commits_what_it_gave_before() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        fill(&client, "t", 1, 6, 1).await?;
        let consumer =
            numbers(client.consumer().topics(["t"]).group("g").max_poll(2).commit_every(Duration::from_millis(10)))
                .await?;
        assert_eq!((poll(&consumer).await?, poll(&consumer).await?), (vec![0, 1], vec![2, 3]));
        eventually("the first two are committed", async || matches!(lag(&client, "g").await, Ok(4))).await?;
        consumer.close().await;
        assert_eq!(lag(&client, "g").await?, 4);
        Ok(())
    })
}

#[test]
fn a_stream_counts_what_it_gave_before_and_leaves_the_rest() -> Result<(), Failed> {
    use futures::StreamExt;
    run(async {
        let (_server, client) = start().await?;
        fill(&client, "t", 1, 6, 1).await?;
        let consumer = numbers(client.consumer().topics(["t"]).group("g")).await?;
        let first: Vec<_> =
            within("a stream", consumer.stream().take(3).map(|m| m.map(|m| m.value)).collect::<Vec<_>>()).await?;
        assert_eq!(first.into_iter().collect::<Result<Vec<_>, _>>()?, [0, 1, 2]);
        assert_eq!(poll(&consumer).await?, [2, 3, 4, 5], "the third counts as handled once a fourth is asked for");
        consumer.close().await;
        assert_eq!(lag(&client, "g").await?, 4);
        Ok(())
    })
}

/// What the poll gave counts as handled, and what it kept back comes next.
#[test]
fn a_run_and_a_stream_go_on_where_a_poll_was() -> Result<(), Failed> {
    use futures::StreamExt;
    run(async {
        let (_server, client) = start().await?;
        client.admin().create_topic(NewTopic::new("t").partitions(1)).await?;
        let producer = client.producer().build()?;
        for sent in producer.send_all(["1", "2", "}", "4", "5"].map(|v| Record::to("t").value(v))).await {
            sent?;
        }
        let consumer = numbers(client.consumer().topics(["t"]).group("run").failures(Failures::skip())).await?;
        assert_eq!(poll(&consumer).await?, [1, 2]);
        let (got, stop) = (Arc::new(Mutex::new(Vec::new())), Stop::new());
        let seen = (got.clone(), stop.clone());
        let ended = consumer.run_until(stop.wait(), move |m| {
            seen.0.lock().unwrap().push(m.value);
            if m.value == 5 {
                seen.1.now();
            }
            async { Ok::<_, BoxError>(()) }
        });
        within("the run", ended).await??;
        assert_eq!(*got.lock().unwrap(), [4, 5]);
        assert_eq!(lag(&client, "run").await?, 0);

        let consumer = numbers(client.consumer().topics(["t"]).group("stream")).await?;
        assert_eq!(poll(&consumer).await?, [1, 2]);
        let next: Vec<_> =
            within("a stream", consumer.stream().take(3).map(|m| m.map(|m| m.value)).collect::<Vec<_>>()).await?;
        assert!(matches!(next[..], [Err(Error::Decode(_)), Ok(4), Ok(5)]), "{next:?}");
        assert_eq!(poll(&consumer).await?, [5]);
        consumer.close().await;
        assert_eq!(lag(&client, "stream").await?, 1);
        Ok(())
    })
}

/// What was handled is not handed out again, committed or not.
#[test]
fn a_manual_consumer_goes_on_where_it_was() -> Result<(), Failed> {
    const RECORDS: usize = 30;
    const AT_ONCE: usize = 7;
    run(async {
        let (_server, client) = start().await?;
        fill(&client, "t", 1, RECORDS, 1).await?;
        let consumer = numbers(client.consumer().topics(["t"]).group("g").manual().max_poll(4)).await?;
        let got = Arc::new(Mutex::new(Vec::new()));
        loop {
            let before = got.lock().unwrap().len();
            if before == RECORDS {
                break;
            }
            let stop = Stop::new();
            let seen = (got.clone(), stop.clone());
            let ended = consumer.run_until(stop.wait(), move |m| {
                let mut got = seen.0.lock().unwrap();
                got.push(m.value);
                if got.len() == before + AT_ONCE || got.len() == RECORDS {
                    seen.1.now();
                }
                async { Ok::<_, BoxError>(()) }
            });
            within("a run", ended).await??;
        }
        assert_eq!(*got.lock().unwrap(), (0..RECORDS).collect::<Vec<_>>());
        assert_eq!(lag(&client, "g").await?, RECORDS as i64);
        Ok(())
    })
}

/// Members come and go while records are produced: nothing is lost, and what who leaves has handled is not
/// handled again.
async fn come_and_go(
    client: &Client,
    name: &str,
    member: impl Fn(ConsumerBuilder) -> ConsumerBuilder,
) -> Result<(), Failed> {
    client.admin().create_topic(NewTopic::new(name).partitions(6)).await?;
    let producer = client.producer().build()?;
    let seen = Arc::new(Mutex::new(HashMap::<usize, u32>::new()));
    let mut members = Vec::new();
    let mut sent = 0;
    let join = async || -> Result<_, Failed> {
        let builder = member(client.consumer().topics([name]).group(name))
            .max_poll(10)
            .commit_every(Duration::from_millis(50))
            .workers(2);
        let consumer = Arc::new(numbers(builder).await?);
        let stop = Stop::new();
        let (seen, until, running) = (seen.clone(), stop.wait(), consumer.clone());
        let task = tokio::spawn(async move {
            let ran = running
                .run_until(until, move |m| {
                    *seen.lock().unwrap().entry(m.value).or_default() += 1;
                    async { Ok::<_, BoxError>(()) }
                })
                .await;
            running.close().await;
            ran
        });
        Ok((stop, task, consumer))
    };
    for step in 0..5 {
        if step < 3 {
            members.push(join().await?);
            let n = members.len();
            let even = async || members.iter().all(|m| m.2.assignment().len() == 6 / n);
            eventually("partitions are shared", even).await?;
        } else {
            let (stop, task, _) = members.remove(0);
            stop.now();
            within("a member leaves", task).await???;
        }
        for _ in 0..100 {
            producer.send(Record::to(name).key(sent.to_string()).value(sent.to_string())).await?;
            sent += 1;
        }
        eventually("all is handled", async || seen.lock().unwrap().len() == sent).await?;
    }
    for (stop, task, _) in members {
        stop.now();
        within("a member leaves", task).await???;
    }
    assert!(
        seen.lock().unwrap().values().all(|n| *n == 1),
        "handled twice: {:?}",
        seen.lock().unwrap().iter().filter(|(_, n)| **n > 1).collect::<Vec<_>>()
    );
    assert_eq!(lag(client, name).await?, 0);
    Ok(())
}

#[test]
fn members_come_and_go_where_the_server_assigns() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        come_and_go(&client, "modern", |b| b).await
    })
}

#[test]
fn members_come_and_go_in_classic_groups() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        come_and_go(&client, "sticky", ConsumerBuilder::classic).await?;
        come_and_go(&client, "range", |b| b.classic().assignor(Assignor::Range)).await
    })
}

/// A static member that is back soon has what it had; another of its name has it end.
#[test]
fn a_static_member_keeps_its_place_and_is_fenced_by_its_successor() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        fill(&client, "t", 2, 4, 4).await?;
        let member = || {
            numbers(
                client
                    .consumer()
                    .topics(["t"])
                    .group("g")
                    .classic()
                    .instance("a")
                    .commit_every(Duration::from_millis(10)),
            )
        };
        let first = member().await?;
        let mut got = 0;
        while got < 4 {
            got += poll(&first).await?.len();
        }
        let was = first.generation();
        first.close().await;
        let second = member().await?;
        eventually("it is back", async || second.assignment().len() == 2).await?;
        assert_eq!(second.generation(), was, "nothing was shared anew");
        let third = member().await?;
        match within("it is fenced", async {
            loop {
                match second.poll().await {
                    Ok(_) => {}
                    Err(err) => return err,
                }
            }
        })
        .await?
        {
            err if err.is_fenced() => {}
            err => return Err(err.into()),
        }
        eventually("its successor reads", async || third.assignment().len() == 2).await
    })
}

#[test]
fn partitions_that_are_added_are_read() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        client.admin().create_topic(NewTopic::new("t").partitions(1)).await?;
        let consumer = client.consumer().topics(["t"]).group("g").classic().build(Raw).await?;
        eventually("it reads one", async || consumer.assignment().len() == 1).await?;
        client.admin().add_partitions("t", 2).await?;
        eventually("it reads three", async || consumer.assignment().len() == 3).await
    })
}

#[test]
fn where_nothing_is_committed_reading_begins_as_it_is_told() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        fill(&client, "t", 1, 3, 1).await?;
        let end = numbers(client.consumer().topics(["t"]).from(Position::End)).await?;
        let beginning = numbers(client.consumer().topics(["t"])).await?;
        assert_eq!(poll(&beginning).await?, [0, 1, 2]);
        let producer = client.producer().build()?;
        let first = tokio::select! {
            first = poll(&end) => first?,
            failed = async {
                loop {
                    if let Err(err) = producer.send(Record::to("t").value("9")).await {
                        return err;
                    }
                }
            } => return Err(failed.into()),
        };
        assert!(first.iter().all(|v| *v == 9), "{first:?}");
        Ok(())
    })
}
