//! Scenarios with processes that are killed: exactly once, and failover.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustmq::{Client, Message, NewTopic, Raw, Record, Tx};
use tempfile::TempDir;

use crate::harness::{Failed, MOMENTS, Options, Server, eventually, server_binary, within, within_for};
use crate::table::{Case, Seen};
use crate::work;

/// Environment of a process of this binary that is a processor: the broker.
pub const PROCESSOR: &str = "SDK_TEST_PROCESSOR";

/// A process that is killed when this is dropped.
struct Process(Child);

impl Process {
    /// Starts one, and waits for the first line that it prints, which is returned.
    fn start(command: &mut Command) -> Result<(Self, String), Failed> {
        let (mut process, lines) = Self::launch(command)?;
        let first = process.first(lines)?;
        Ok((process, first))
    }

    fn launch(command: &mut Command) -> Result<(Self, BufReader<std::process::ChildStdout>), Failed> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok((Self(child), lines))
    }

    fn first(&mut self, mut lines: BufReader<std::process::ChildStdout>) -> Result<String, Failed> {
        let mut first = String::new();
        lines.read_line(&mut first)?;
        if first.is_empty() { Err("a process has ended before it was ready".into()) } else { Ok(first) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn processor(addr: &str) -> Result<Process, Failed> {
    Ok(Process::start(Command::new(std::env::current_exe()?).env(PROCESSOR, addr))?.0)
}

/// Copies topic in to topic out, exactly once, until it is killed.
pub async fn run_processor(addr: &str) -> Result<(), Failed> {
    let client = Client::builder().brokers([addr]).build().await?;
    let processor = client
        .processor("copy")
        .topics(["in"])
        .group("copy")
        .classic()
        .session_timeout(Duration::from_secs(6))
        .max_poll(10)
        .build(Raw)?;
    println!("ready");
    let copy = |tx: Tx, batch: Vec<Message<bytes::Bytes>>| async move {
        for message in batch {
            let mut record = Record::to("out").value(message.value.clone());
            record.key = message.record.key.clone();
            // A result that nobody awaits fails the transaction all the same.
            drop(tx.enqueue(record).await?);
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // slow enough to be killed at work
        Ok::<(), Failed>(())
    };
    Ok(processor.run_until(std::future::pending::<()>(), copy).await?)
}

pub async fn exactly_once(_: &Server, case: &Case) -> Result<(), Failed> {
    let mut server = Server::start(Options::default())?;
    let client = work::client(&server, |b| b).await?;
    work::fill(&client, "in", case.partitions, case.records, case.records).await?;
    work::topic(&client, NewTopic::new("out").partitions(case.partitions)).await?;
    let out = client.consumer().topics(["out"]).build(rustmq::Json::<i64>::new()).await?;
    let (mut seen, mut total) = (Seen::new(), 0);
    let mut process = processor(server.addr())?;
    let steps = case.kills + case.server_kills + 1;
    for i in 0..steps {
        let until = if i + 1 == steps { case.records } else { (i + 1) * case.records / steps };
        while total < until {
            for message in within_for(2 * MOMENTS, "records come out", out.poll()).await?? {
                *seen.entry(message.value).or_default() += 1;
                total += 1;
            }
        }
        if i + 1 == steps {
            break;
        }
        if i < case.kills {
            drop(process);
            process = processor(server.addr())?;
        } else {
            server.kill();
            server.again()?;
        }
    }
    drop(process);
    case.judge(case.records, &seen)?;
    // Nothing comes behind it: the end of what is committed was read.
    if let Ok(more) = tokio::time::timeout(Duration::from_secs(1), out.poll()).await {
        return Err(format!("{} records too many", more?.len()).into());
    }
    out.close().await;
    client.close().await;
    Ok(())
}

/// Three nodes that are processes of their own.
pub async fn failover(_: &Server, case: &Case) -> Result<(), Failed> {
    const NODES: i32 = 3;
    let dir = TempDir::with_prefix("rustmq-sdk-")?;
    // Addresses that no other test process has.
    let pid = std::process::id();
    let subnet = format!("127.{}.{}", 100 + pid % 100, pid / 100 % 250);
    let peers = (1..=NODES).map(|id| format!("{id}@{subnet}.{id}")).collect::<Vec<_>>().join(",");
    let mut launched = Vec::new();
    for id in 1..=NODES {
        let mut command = Command::new(server_binary());
        command.args(["serve", "--node-id", &id.to_string(), "--bind", &format!("{subnet}.{id}"), "--peers", &peers]);
        command.arg("--data-dir").arg(dir.path().join(id.to_string()));
        command.arg("--bucket").arg(format!("file://{}", dir.path().join("bucket").display()));
        launched.push((id, Process::launch(command.stderr(Stdio::null()))?));
    }
    let mut cluster = HashMap::new();
    for (id, (mut process, lines)) in launched {
        process.first(lines)?;
        cluster.insert(id, process);
    }
    let client = Client::builder().brokers((1..=NODES).map(|id| format!("{subnet}.{id}:9092"))).build().await?;
    let admin = client.admin();
    eventually(
        "all brokers are there",
        async || matches!(admin.brokers().await, Ok(brokers) if brokers.len() == NODES as usize),
    )
    .await?;
    work::topic(&client, NewTopic::new("t").partitions(case.partitions).replicas(NODES as i16)).await?;
    let producer = client.producer().build()?;
    let mut results = Vec::new();
    for i in 0..case.records {
        if i > 0 && i % (case.records / (case.kills + 1)) == 0 && cluster.len() == NODES as usize {
            let mut leader = -1;
            eventually("partition 0 is led", async || {
                if let Ok(topics) = admin.topics().await {
                    leader = topics.iter().find(|t| t.name == "t").and_then(|t| t.partitions[0].leader).unwrap_or(-1);
                }
                leader > 0
            })
            .await?;
            cluster.remove(&leader); // what it was sent and has not answered is sent to the next leader
        }
        let record = Record::to("t").key(i.to_string()).value(i.to_string());
        results.push(within("there is room", producer.enqueue(record)).await??);
    }
    for result in results {
        within_for(2 * MOMENTS, "records are acked", result).await??;
    }
    let seen = work::numbers(&client, "t", case.records).await?;
    client.close().await;
    case.judge(case.records, &seen)
}
