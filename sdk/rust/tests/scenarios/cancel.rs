//! Cancellation: of calls that wait for a broker, as the table has them, and of each call at each of its await
//! points.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustmq::{Client, Consumer, Error, Json, Message, NewTopic, Record};

use crate::harness::{Failed, Options, Server, eventually, within};
use crate::table::Case;
use crate::work::{self, Handled};

/// How long a call waits before it is cancelled.
const WAIT: Duration = Duration::from_millis(100);

/// Cancels a call while the server is stopped in its tracks.
pub async fn cancelled(_: &Server, case: &Case) -> Result<(), Failed> {
    let server = Server::start(Options::default())?;
    let name = case.fresh();
    let client = work::client(&server, |b| b.transactional_id(&name, Duration::from_secs(40))).await?;
    work::topic(&client, NewTopic::new(&name).partitions(1)).await?;
    let producer = client.producer().buffered_bytes(10_000).build()?;
    let consumer = client.consumer().topics([&name]).group(&name).build(Json::<i64>::new()).await?;
    let one = || Record::to(&name).value("1");
    within("a record is acked", producer.send(one())).await??;
    let got = within("the record comes", consumer.poll()).await??; // what comes next has to wait
    if got.len() != 1 {
        return Err(format!("{} messages", got.len()).into());
    }
    server.freeze()?;
    let call = async {
        match case.at.as_str() {
            "ping" => client.ping().await.map_err(Failed::from),
            "produce" => producer.send(one()).await.map(drop).map_err(Failed::from),
            "produce-full" => loop {
                if let Err(why) = producer.enqueue(Record::to(&name).value(vec![b'1'; 4000])).await {
                    break Err(why.into());
                }
            },
            "flush" => match producer.enqueue(one()).await {
                Ok(_) => producer.flush().await.map_err(Failed::from),
                Err(why) => Err(why.into()),
            },
            "poll" => consumer.poll().await.map(drop).map_err(Failed::from),
            "run" => consumer.run(|_| async { Ok::<(), Failed>(()) }).await.map_err(Failed::from),
            "transaction" => client
                .transact(|tx| {
                    let record = one();
                    async move { tx.send(record).await.map(drop) }
                })
                .await
                .map_err(|why: Error| why.into()),
            "admin" => client.admin().topics().await.map(drop).map_err(Failed::from),
            other => Err(format!("at {other:?} is not known here").into()),
        }
    };
    let ended = tokio::time::timeout(WAIT, call).await;
    server.thaw()?;
    if let Ok(ended) = ended {
        return Err(format!("the call has not waited for the broker: {ended:?}").into());
    }
    if case.expect.usable {
        within("the client works", usable(&client, &name, &consumer)).await??;
        if case.at == "transaction" {
            within("transactions work", transact(&client, &name, "7")).await??;
        }
    }
    within("the consumer is closed", consumer.close()).await?;
    client.close().await;
    Ok(())
}

/// A record goes out, and something comes in.
async fn usable(client: &Client, name: &str, consumer: &Consumer<i64>) -> Result<(), Failed> {
    client.producer().build()?.send(Record::to(name).value("2")).await?;
    let n = loop {
        // What was cancelled may have been written: a value of more than a number is not for this consumer.
        match consumer.poll().await {
            Ok(got) => break got.len(),
            Err(Error::Decode(_)) => {}
            Err(why) => return Err(why.into()),
        }
    };
    if n == 0 { Err("a poll has returned nothing".into()) } else { Ok(()) }
}

async fn transact(client: &Client, name: &str, value: &str) -> Result<(), Error> {
    client
        .transact(|tx| {
            let record = Record::to(name).value(value.to_owned());
            async move { tx.send(record).await.map(drop) }
        })
        .await
}

/// Where a future is dropped.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// After so many polls, while it waits.
    Waiting(usize),
    /// After so many polls, when what it has waited for is there.
    Woken(usize),
}

/// Polls a future and drops it at a point; it returns what the future did where it was ready by then.
async fn dropped<F: Future>(at: Point, f: F) -> Option<F::Output> {
    let mut f = pin!(f);
    let mut polls = 0;
    poll_fn(|cx| {
        let (most, waiting) = match at {
            Point::Waiting(n) => (n, true),
            Point::Woken(n) => (n, false),
        };
        if polls == most {
            return Poll::Ready(None);
        }
        polls += 1;
        match f.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if waiting && polls == most => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// More points than any call has.
const MOST_POINTS: usize = 400;

/// Begins a call again and again, and drops it one await point later each time, until it completes; `after` looks
/// at what is left, and is told the result where there is one.
async fn at_every_point<T>(mut call: impl AsyncFnMut(Point) -> Result<Option<T>, Failed>) -> Result<(), Failed> {
    for point in [Point::Waiting as fn(usize) -> Point, Point::Woken] {
        let mut n = 0;
        while within(&format!("a call that is dropped at {:?}", point(n)), call(point(n))).await??.is_none() {
            n += 1;
            if n == MOST_POINTS {
                return Err("a call never completes".into());
            }
        }
    }
    Ok(())
}

/// Each record that was acked is there once, and of those that were dropped none twice.
pub async fn send_at_every_point(server: &Server) -> Result<(), Failed> {
    let client = work::client(server, |b| b).await?;
    work::topic(&client, NewTopic::new("points-send").partitions(1)).await?;
    let mut next = 0;
    let mut acked = Vec::new();
    at_every_point(async |at| {
        // A client of its own, so that connecting, metadata and the producer's id are among the points.
        let own = work::client(server, |b| b).await?;
        let producer = own.producer().build()?;
        let n = next;
        next += 1;
        let done = dropped(at, producer.send(Record::to("points-send").value(n.to_string()))).await;
        if let Some(result) = done.as_ref() {
            result.as_ref().map_err(Clone::clone)?;
            acked.push(n);
        }
        // The same producer goes on.
        producer.send(Record::to("points-send").value(next.to_string())).await?;
        acked.push(next);
        next += 1;
        own.close().await;
        Ok(done)
    })
    .await?;
    let end = client.producer().build()?.send(Record::to("points-send").value("-1")).await?.offset;
    let seen = work::numbers(&client, "points-send", end as usize + 1).await?;
    client.close().await;
    let lost = acked.iter().find(|n| !seen.contains_key(n));
    let doubled = seen.iter().find(|&(_, &times)| times > 1).map(|(n, _)| n);
    match lost.or(doubled) {
        None => Ok(()),
        Some(n) => Err(format!("record {n} is there {} times", seen.get(n).unwrap_or(&0)).into()),
    }
}

/// What a dropped poll would have returned the next one does: nothing is lost or doubled.
pub async fn poll_at_every_point(server: &Server) -> Result<(), Failed> {
    const RECORDS: usize = 200;
    let client = work::client(server, |b| b).await?;
    work::fill(&client, "points-poll", 1, RECORDS, 1).await?;
    let mut first = Vec::new();
    at_every_point(async |at| {
        let consumer = client.consumer().topics(["points-poll"]).max_poll(3).build(Json::<i64>::new()).await?;
        let mut all: Vec<i64> = Vec::new();
        let mut done = None;
        if let Some(got) = dropped(at, consumer.poll()).await {
            done = Some(());
            all.extend(got?.iter().map(|m| m.value));
        }
        while all.len() < RECORDS {
            // Further polls are dropped too, on their way.
            if let Some(got) = dropped(Point::Waiting(1), consumer.poll()).await {
                all.extend(got?.iter().map(|m| m.value));
            }
            if all.len() < RECORDS {
                all.extend(consumer.poll().await?.iter().map(|m| m.value));
            }
        }
        consumer.close().await;
        if !all.iter().copied().eq(0..RECORDS as i64) {
            return Err(format!("after a poll that was dropped at {at:?} the consumer reads {all:?}").into());
        }
        first.push(all[0]);
        Ok(done)
    })
    .await?;
    client.close().await;
    Ok(())
}

/// Both records of a transaction are there, or none; those of one that has succeeded are.
pub async fn transaction_at_every_point(server: &Server) -> Result<(), Failed> {
    let client = work::client(server, |b| b).await?;
    for name in ["points-left", "points-right"] {
        work::topic(&client, NewTopic::new(name).partitions(1)).await?;
    }
    let own = work::client(server, |b| b.transactional_id("points", Duration::from_secs(40))).await?;
    let both = async |n: i64| {
        own.transact(|tx| async move {
            let left = tx.enqueue(Record::to("points-left").value(n.to_string())).await?;
            tx.send(Record::to("points-right").value(n.to_string())).await?;
            left.await.map(drop)
        })
        .await
    };
    let (mut next, mut committed) = (0, Vec::new());
    at_every_point(async |at| {
        let done: Option<Result<(), Error>> = dropped(at, both(next)).await;
        if let Some(result) = &done {
            result.clone()?;
            committed.push(next);
        }
        next += 1;
        both(next).await?;
        committed.push(next);
        next += 1;
        Ok(done)
    })
    .await?;
    own.close().await;
    let mut sides = Vec::new();
    for name in ["points-left", "points-right"] {
        client.producer().build()?.send(Record::to(name).value("-1")).await?;
        let consumer = client.consumer().topics([name]).build(Json::<i64>::new()).await?;
        let mut all: Vec<i64> = Vec::new();
        while all.last() != Some(&-1) {
            all.extend(within("records come", consumer.poll()).await??.iter().map(|m| m.value));
        }
        consumer.close().await;
        all.sort_unstable();
        sides.push(all);
    }
    client.close().await;
    if sides[0] != sides[1] {
        return Err(format!("a transaction is there by half: {sides:?}").into());
    }
    match committed.iter().find(|n| sides[0].binary_search(n).is_err()) {
        Some(n) => Err(format!("transaction {n} was committed, and is not there").into()),
        None => Ok(()),
    }
}

/// Handlers that are dropped leave what they had not handled to the next.
pub async fn run_at_every_point(server: &Server) -> Result<(), Failed> {
    const RECORDS: usize = 60;
    let client = work::client(server, |b| b).await?;
    work::fill(&client, "points-run", 2, RECORDS, 10).await?;
    let mut group = 0;
    at_every_point(async |at| {
        group += 1;
        let consumer = client
            .consumer()
            .topics(["points-run"])
            .group(format!("points-run-{group}"))
            .workers(4)
            .build(Json::<i64>::new())
            .await?;
        let handled = Handled::default();
        let run = async || {
            let (stop, all) = (handled.clone(), handled.clone());
            consumer
                .run_until(async move { stop.all().await }, move |message: Arc<Message<i64>>| {
                    let all = all.clone();
                    async move {
                        tokio::task::yield_now().await;
                        if all.note(&message) == RECORDS {
                            all.enough();
                        }
                        Ok::<(), Failed>(())
                    }
                })
                .await
        };
        let mut done = dropped(at, run()).await;
        if done.is_none() && handled.count() < RECORDS {
            run().await?;
        } else {
            done = Some(Ok(())); // all was handled before the point came
        }
        consumer.close().await;
        if handled.count() != RECORDS {
            return Err(format!("{} of {RECORDS} records are handled", handled.count()).into());
        }
        Ok(done)
    })
    .await?;
    client.close().await;
    Ok(())
}

/// Joining, committing, asking and leaving, each dropped on its way, then done.
pub async fn groups_and_admin_at_every_point(server: &Server) -> Result<(), Failed> {
    let client = work::client(server, |b| b).await?;
    work::fill(&client, "points-group", 1, 10, 1).await?;
    let begin = async |group: &str| {
        client.consumer().topics(["points-group"]).group(group).manual().build(Json::<i64>::new()).await
    };
    at_every_point(async |at| {
        let done = match dropped(at, begin("points-join")).await {
            Some(consumer) => {
                consumer?.close().await;
                Some(())
            }
            None => None,
        };
        let consumer = begin("points-join").await?;
        if consumer.poll().await?.is_empty() {
            return Err("a member has nothing".into());
        }
        consumer.close().await;
        Ok(done)
    })
    .await?;
    let consumer = begin("points-commit").await?;
    let messages = within("records come", consumer.poll()).await??;
    at_every_point(async |at| {
        let done = dropped(at, consumer.commit(&messages)).await.transpose()?;
        consumer.commit(&messages).await?;
        Ok(done)
    })
    .await?;
    consumer.close().await;
    at_every_point(async |at| {
        let consumer = begin("points-leave").await?;
        consumer.poll().await?;
        Ok(dropped(at, consumer.close()).await)
    })
    .await?;
    let mut n = 0;
    at_every_point(async |at| {
        n += 1;
        let topic = || NewTopic::new(format!("points-admin-{n}"));
        let done = dropped(at, client.admin().create_topic(topic())).await.transpose()?;
        client.admin().ensure_topic(topic()).await?;
        Ok(done)
    })
    .await?;
    eventually("the client works", async || client.ping().await.is_ok()).await?;
    client.close().await;
    Ok(())
}

/// Bytes that the future of a call may have: it is moved, and stands on stacks of 2 MiB, in callers' futures.
const LARGEST_FUTURE: usize = 12 << 10;

/// Futures that callers hold are small.
pub async fn futures_are_small(server: &Server) -> Result<(), Failed> {
    let client = work::client(server, |b| b.transactional_id("small", Duration::from_secs(40))).await?;
    let producer = client.producer().build()?;
    let consumer = client.consumer().topics(["small"]).group("small").build(Json::<i64>::new()).await?;
    let admin = client.admin();
    let sizes = [
        ("Builder::build", size_of_val(&Client::builder().build())),
        ("Client::ping", size_of_val(&client.ping())),
        ("Client::transact", size_of_val(&client.transact(|_| async { Ok::<(), Error>(()) }))),
        ("Client::append_at", size_of_val(&client.append_at(Record::to("small"), 0))),
        ("Client::close", size_of_val(&client.close())),
        ("Producer::send", size_of_val(&producer.send(Record::to("small")))),
        ("Producer::enqueue", size_of_val(&producer.enqueue(Record::to("small")))),
        ("Producer::flush", size_of_val(&producer.flush())),
        ("ConsumerBuilder::build", size_of_val(&client.consumer().build(Json::<i64>::new()))),
        ("Consumer::poll", size_of_val(&consumer.poll())),
        ("Consumer::run", size_of_val(&consumer.run(|_| async { Ok::<(), Failed>(()) }))),
        ("Consumer::commit", size_of_val(&consumer.commit(&[] as &[Message<i64>]))),
        ("Consumer::close", size_of_val(&consumer.close())),
        ("Admin::create_topic", size_of_val(&admin.create_topic(NewTopic::new("small")))),
        ("Admin::topics", size_of_val(&admin.topics())),
        ("Admin::groups", size_of_val(&admin.groups(&["small"]))),
    ];
    consumer.close().await;
    client.close().await;
    let large: Vec<_> = sizes.iter().filter(|(_, size)| *size > LARGEST_FUTURE).collect();
    if large.is_empty() { Ok(()) } else { Err(format!("bytes of futures: {large:?}").into()) }
}
