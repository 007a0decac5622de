//! Transactions against a real server: which are there, which are run again, and who is fenced.

mod harness;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use harness::{Failed, MOMENTS, Options, Server, run, within, within_for};
use rustmq::{Client, Consumer, Error, Json, NewTopic, Record, Tx};

async fn client(server: &Server, timeout: Duration) -> Result<Client, Failed> {
    Ok(Client::builder().brokers([server.addr()]).transactional_id("writer", timeout).build().await?)
}

/// Writes a number in a transaction.
async fn write(client: &Client, n: u32) -> Result<(), Error> {
    client.transact(|tx: Tx| async move { tx.send(Record::to("t").value(n.to_string())).await.map(drop) }).await
}

/// Reads what is committed, up to a number.
async fn committed(client: &Client, last: u32) -> Result<Vec<u32>, Failed> {
    let consumer: Consumer<u32> = client.consumer().topics(["t"]).build(Json::new()).await?;
    let mut all = Vec::new();
    while all.last() != Some(&last) {
        all.extend(within("what is committed comes", consumer.poll()).await??.iter().map(|m| m.value));
    }
    Ok(all)
}

#[test]
fn the_older_of_two_with_one_id_is_fenced_and_stays_so() -> Result<(), Failed> {
    run(async {
        let server = Server::start(Options::default())?;
        let (older, newer) = (client(&server, Duration::ZERO).await?, client(&server, Duration::ZERO).await?);
        older.admin().create_topic(NewTopic::new("t").partitions(1)).await?;
        write(&older, 1).await?;
        write(&newer, 2).await?;
        for _ in 0..2 {
            match within("the older ends", write(&older, 3)).await? {
                Err(why) if why.is_fenced() => {}
                other => return Err(format!("{other:?}").into()),
            }
        }
        write(&newer, 4).await?;
        assert_eq!(committed(&newer, 4).await?, [1, 2, 4]);
        Ok(())
    })
}

#[test]
fn a_transaction_that_its_time_out_aborted_is_run_again() -> Result<(), Failed> {
    run(async {
        let server = Server::start(Options::default())?;
        let client = client(&server, Duration::from_secs(1)).await?;
        client.admin().create_topic(NewTopic::new("t").partitions(1)).await?;
        let attempts = AtomicU32::new(0);
        let done = client.transact(|tx: Tx| {
            let first = attempts.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                tx.send(Record::to("t").value(if first { "1" } else { "2" })).await?;
                // The first goes on until it is told that its time is over.
                if first {
                    loop {
                        tx.send(Record::to("t").value("1")).await?;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
                Ok::<_, Error>(())
            }
        });
        within_for(2 * MOMENTS, "it is committed", done).await??;
        assert_eq!(attempts.load(Ordering::SeqCst), 2);
        assert_eq!(committed(&client, 2).await?, [2]);
        Ok(())
    })
}

#[test]
fn a_transaction_that_is_dropped_or_fails_leaves_nothing_and_holds_up_nobody() -> Result<(), Failed> {
    run(async {
        let server = Server::start(Options::default())?;
        let client = client(&server, Duration::ZERO).await?;
        client.admin().create_topic(NewTopic::new("t").partitions(1)).await?;
        let dropped = client.transact(|tx: Tx| async move {
            tx.send(Record::to("t").value("1")).await?;
            std::future::pending::<Result<(), Error>>().await
        });
        assert!(tokio::time::timeout(Duration::from_secs(1), dropped).await.is_err());
        let failed = client.transact(|tx: Tx| async move {
            tx.send(Record::to("t").value("2")).await?;
            Err::<(), _>(Error::Config("as asked".to_owned()))
        });
        assert!(matches!(failed.await, Err(Error::Config(_))));
        within("the next is committed", write(&client, 3)).await??;
        assert_eq!(committed(&client, 3).await?, [3]);
        Ok(())
    })
}
