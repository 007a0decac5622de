//! Scenarios of transports: UDP that is blocked, addresses that change, tickets, certificates that rotate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustmq::{Builder, Client, Json, Link, NewTopic, Record, Tls, Transport, Via};

use crate::harness::relay::Relay;
use crate::harness::{Failed, MOMENTS, Options, Server, eventually, within, within_for};
use crate::table::{Case, Seen};
use crate::work;

const TOPIC: &str = "load";

fn transport(case: &Case) -> Result<Transport, Failed> {
    Ok(match case.transport.as_str() {
        "auto" => Transport::Auto,
        "quic" => Transport::Quic,
        "tcp" => Transport::Tcp,
        other => return Err(format!("transport {other:?}").into()),
    })
}

/// A client over the transport of a case, and its topic.
async fn begin(addr: &str, ca: &Path, case: &Case) -> Result<Client, Failed> {
    let client = build(Client::builder().brokers([addr]), ca, case).await?;
    work::topic(&client, NewTopic::new(TOPIC).partitions(1)).await?;
    Ok(client)
}

async fn build(builder: Builder, ca: &Path, case: &Case) -> Result<Client, Failed> {
    Ok(builder.transport(transport(case)?).tls(Tls::new().ca_file(ca)).build().await?)
}

/// Produces numbers, one after the other, until it is ended.
struct Load {
    acked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<(), rustmq::Error>>,
}

impl Load {
    fn start(client: &Client) -> Result<Self, Failed> {
        let producer = client.producer().linger(Duration::ZERO).build()?;
        let (acked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (of, until) = (Arc::clone(&acked), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            while !until.load(Ordering::SeqCst) {
                let n = of.load(Ordering::SeqCst);
                producer.send(Record::to(TOPIC).key("k").value(n.to_string())).await?;
                of.store(n + 1, Ordering::SeqCst);
            }
            Ok(())
        });
        Ok(Self { acked, stop, task })
    }

    /// Waits until `n` more are acked.
    async fn more(&self, n: usize) -> Result<(), Failed> {
        let until = self.acked.load(Ordering::SeqCst) + n;
        eventually("records are acked", async || self.acked.load(Ordering::SeqCst) >= until || self.task.is_finished())
            .await?;
        if self.task.is_finished() { Err("the producer has failed".into()) } else { Ok(()) }
    }

    /// Ends it; it returns how many are acked.
    async fn end(self) -> Result<usize, Failed> {
        self.stop.store(true, Ordering::SeqCst);
        within_for(2 * MOMENTS, "the last record is acked", self.task).await???;
        Ok(self.acked.load(Ordering::SeqCst))
    }
}

/// Reads what was acked: each number is to be there as the case says, in order.
async fn judge(client: &Client, n: usize, case: &Case) -> Result<(), Failed> {
    let consumer = client.consumer().topics([TOPIC]).build(Json::<i64>::new()).await?;
    let (mut seen, mut last) = (Seen::new(), -1);
    while seen.len() < n {
        for message in within("records come", consumer.poll()).await?? {
            if case.expect.ordered && message.value <= last {
                return Err(format!("{} comes after {last}", message.value).into());
            }
            last = message.value;
            *seen.entry(message.value).or_default() += 1;
        }
    }
    consumer.close().await;
    case.judge(n, &seen)
}

/// A server behind a relay, whose address it tells its clients.
async fn behind_relay(case: &Case) -> Result<(Server, Relay), Failed> {
    let delay = Duration::from_millis(case.delay_ms);
    let relay = Relay::listen(|port| ([127, 0, 0, 2], port).into(), delay).await?;
    let options = Options::default().tls().set("network.bind=127.0.0.2").set("network.advertised_host=127.0.0.1");
    Ok((Server::start_on(options, relay.addr().port())?, relay))
}

fn link(client: &Client) -> Result<Link, Failed> {
    client.links().into_iter().next().ok_or_else(|| "the client has no link".into())
}

pub async fn udp_blocked(_: &Server, case: &Case) -> Result<(), Failed> {
    let (server, relay) = behind_relay(case).await?;
    let client = begin(&relay.addr().to_string(), &server.ca_file(), case).await?;
    // A member of a group reads all the while.
    let consumer = client.consumer().topics([TOPIC]).group("readers").build(Json::<i64>::new()).await?;
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let reader = tokio::spawn(async move {
        consumer
            .run(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                async { Ok::<(), Failed>(()) }
            })
            .await
    });
    let load = Load::start(&client)?;
    load.more(case.records / 3).await?;
    if link(&client)?.using != Some(Via::Quic) {
        return Err(format!("over a way of {} ms: {:?}", case.delay_ms, link(&client)?).into());
    }
    relay.block_udp(true);
    load.more(case.records / 3).await?;
    if link(&client)?.using != Some(Via::Tcp) {
        return Err(format!("while UDP is blocked: {:?}", link(&client)?).into());
    }
    relay.block_udp(false);
    eventually("the client is back on QUIC", async || {
        link(&client).is_ok_and(|l| l.using == Some(Via::Quic) && l.tcp == 0)
    })
    .await?;
    load.more(case.records / 3).await?;
    let acked = load.end().await?;
    eventually("the group has read all", async || read.load(Ordering::SeqCst) >= acked).await?;
    reader.abort();
    judge(&client, acked, case).await?;
    client.close().await;
    Ok(())
}

pub async fn address(_: &Server, case: &Case) -> Result<(), Failed> {
    let (server, relay) = behind_relay(case).await?;
    let client = begin(&relay.addr().to_string(), &server.ca_file(), case).await?;
    let load = Load::start(&client)?;
    let share = case.records / (case.rebinds + 1);
    for _ in 0..case.rebinds {
        load.more(share).await?;
        relay.rebind();
    }
    load.more(share).await?;
    let used = link(&client)?;
    if used.using != Some(Via::Quic) || used.tcp != 0 || used.changes != 0 {
        return Err(format!("{used:?}").into());
    }
    let acked = load.end().await?;
    judge(&client, acked, case).await?;
    client.close().await;
    Ok(())
}

pub async fn tickets(_: &Server, case: &Case) -> Result<(), Failed> {
    let mut server = Server::start(Options::default().tls())?;
    let client = begin(server.addr(), &server.ca_file(), case).await?;
    let load = Load::start(&client)?;
    let share = case.records / (case.restarts + 1);
    for _ in 0..case.restarts {
        load.more(share).await?;
        server.stop()?;
        server.again()?;
    }
    load.more(share).await?;
    let acked = load.end().await?;
    judge(&client, acked, case).await?;
    client.close().await;
    Ok(())
}

/// Certificates of authorities that a server of their own has made.
struct Authorities {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Authorities {
    fn new(dir: &Path) -> Self {
        Self { ca: dir.join("ca.pem"), cert: dir.join("cert.pem"), key: dir.join("key.pem") }
    }

    /// Trusts another authority beside those before, and then has the server's certificate be of it.
    fn issue(&self) -> Result<(), Failed> {
        let made = Server::start(Options::default())?;
        let mut trusted = std::fs::read(&self.ca).unwrap_or_default(); // of the first there are none before
        trusted.extend(std::fs::read(made.ca_file())?);
        put(&self.ca, &trusted)?;
        for (from, to) in [("server.pem", &self.cert), ("server.key", &self.key)] {
            put(to, &std::fs::read(made.certs().join(from))?)?;
        }
        Ok(())
    }
}

/// Puts content in the place of a file, at once.
fn put(name: &Path, content: &[u8]) -> Result<(), Failed> {
    let next = name.with_extension("new");
    std::fs::write(&next, content)?;
    Ok(std::fs::rename(next, name)?)
}

pub async fn rotation(_: &Server, case: &Case) -> Result<(), Failed> {
    let dir = tempfile::TempDir::with_prefix("rustmq-sdk-")?;
    let authorities = Authorities::new(dir.path());
    authorities.issue()?;
    let options = Options::default()
        .tls()
        .set(format!("security.tls.cert_file={}", authorities.cert.display()))
        .set(format!("security.tls.key_file={}", authorities.key.display()));
    let server = Server::start(options)?;
    let client = begin(server.addr(), &authorities.ca, case).await?;
    let load = Load::start(&client)?;
    let share = case.records / (case.rotations + 1);
    for _ in 0..case.rotations {
        load.more(share).await?;
        authorities.issue()?;
        server.reload()?;
        // Who dials anew meets the new certificate.
        eventually("another client is served", async || {
            match build(Client::builder().brokers([server.addr()]), &authorities.ca, case).await {
                Ok(other) => {
                    let served = other.ping().await.is_ok();
                    other.close().await;
                    served
                }
                Err(_) => false,
            }
        })
        .await?;
    }
    load.more(share).await?;
    let acked = load.end().await?;
    judge(&client, acked, case).await?;
    client.close().await;
    Ok(())
}
