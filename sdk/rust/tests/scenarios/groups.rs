//! Scenarios of groups: members that join, leave, and vanish.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustmq::{Client, Message, NewTopic, Record};
use tokio::sync::oneshot;

use crate::harness::{Failed, MOMENTS, Server, eventually, within, within_for};
use crate::table::Case;
use crate::work::{self, Handled};

/// Environment of a process of this binary that is a member: broker, group and session_ms, by commas.
pub const MEMBER: &str = "SDK_TEST_MEMBER";

/// A member of the group: in this process, or, where it is to vanish, one of its own.
enum Member {
    Task { stop: oneshot::Sender<()>, ended: tokio::task::JoinHandle<Result<(), Failed>> },
    Process { child: Child, reads: JoinHandle<()> },
}

impl Member {
    fn join(server: &Server, name: &str, case: &Case, handled: &Handled, vanishes: bool) -> Result<Self, Failed> {
        if vanishes {
            return Self::process(server, name, case, handled);
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let (addr, name, case, handled) = (server.addr().to_owned(), name.to_owned(), case.clone(), handled.clone());
        let ended = tokio::spawn(async move {
            let client = Client::builder().brokers([addr]).build().await?;
            let consumer = work::member(&client, &name, &case).await?;
            let stop = async move {
                let _ = stopped.await; // a sender that is gone stops it too
            };
            let run = consumer.run_until(stop, move |message: Arc<Message<i64>>| {
                handled.note(&message);
                async { Ok::<(), Failed>(()) }
            });
            run.await?;
            consumer.close().await;
            client.close().await;
            Ok(())
        });
        Ok(Self::Task { stop, ended })
    }

    fn process(server: &Server, name: &str, case: &Case, handled: &Handled) -> Result<Self, Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(MEMBER, format!("{},{name},{}", server.addr(), case.session_ms))
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        let handled = handled.clone();
        let reads = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(value) = line.parse() {
                    handled.note_value(value);
                }
            }
        });
        Ok(Self::Process { child, reads })
    }

    /// Leaves the group, with what is handled committed.
    async fn leave(self) -> Result<(), Failed> {
        match self {
            Self::Task { stop, ended } => {
                let _ = stop.send(()); // it may have failed
                within_for(2 * MOMENTS, "a member leaves", ended).await??
            }
            Self::Process { .. } => self.vanish(),
        }
    }

    /// Is gone without a word (SIGKILL).
    fn vanish(self) -> Result<(), Failed> {
        match self {
            Self::Process { mut child, reads } => {
                child.kill()?;
                child.wait()?;
                reads.join().map_err(|_| "the reader of a member panicked".into())
            }
            Self::Task { .. } => Err("a member of this process cannot vanish".into()),
        }
    }
}

/// Runs a member until it is killed; it prints each number that it handles.
pub async fn run_member(arg: &str) -> Result<(), Failed> {
    let [addr, name, session_ms] = arg.split(',').collect::<Vec<_>>()[..] else {
        return Err(format!("{MEMBER}={arg}").into());
    };
    let case = Case { protocol: "classic".into(), session_ms: session_ms.parse()?, ..Case::default() };
    let client = Client::builder().brokers([addr]).build().await?;
    let consumer = work::member(&client, name, &case).await?;
    let handle = |message: Arc<Message<i64>>| async move {
        println!("{}", message.value);
        Ok::<(), Failed>(())
    };
    Ok(consumer.run_until(std::future::pending::<()>(), handle).await?)
}

pub async fn rebalance(server: &Server, case: &Case) -> Result<(), Failed> {
    if case.kills > 0 && case.protocol != "classic" {
        return Err("members that vanish are of classic groups".into());
    }
    let (client, name) = (work::client(server, |b| b).await?, case.fresh());
    work::topic(&client, NewTopic::new(&name).partitions(case.partitions)).await?;
    let producer = client.producer().build()?;
    let handled = Handled::default();
    let share = case.records / (case.members + case.leaves + case.kills);
    let mut sent = 0;
    let mut members = std::collections::VecDeque::new();
    for i in 0..case.members + case.leaves + case.kills {
        let mut leaving = None;
        if i < case.members {
            // Those who are to vanish are the first.
            members.push_back(Member::join(server, &name, case, &handled, i < case.kills)?);
        } else {
            let first = members.pop_front().ok_or("more members go than have come")?;
            if i < case.members + case.leaves {
                leaving = Some(tokio::spawn(first.leave())); // while records come
            } else {
                first.vanish()?;
            }
        }
        for _ in 0..share {
            let n = sent.to_string();
            within("a record is acked", producer.send(Record::to(&name).key(n.clone()).value(n))).await??;
            sent += 1;
        }
        if let Some(leaving) = leaving {
            leaving.await??;
        }
        eventually("what was sent is handled", async || handled.count() == sent).await?;
    }
    for member in members {
        member.leave().await?;
    }
    client.close().await;
    case.judge(sent, &handled.seen())
}
