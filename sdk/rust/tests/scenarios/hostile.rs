//! A broker that lies: what it answers is cut, changed and of lengths that are not so. The client fails calls, but
//! never panics, takes no more memory than it should, and works once the broker does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustmq::{Client, Compression, Json, NewTopic, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{Failed, Options, Server, eventually, within, within_for};

/// Environment of a process of this binary that is a client of such a broker: the seed.
pub const HOSTILE: &str = "SDK_TEST_HOSTILE";

/// Rounds of calls with a client each.
const ROUNDS: usize = 8;
/// How long a call may take while answers are not to be trusted.
const PATIENCE: Duration = Duration::from_millis(300);
/// Largest that the process may become, in KiB: it holds no record of more than a few bytes.
const MOST_MEMORY: u64 = 400 << 10;
/// Answers with addresses that clients dial: they are cut, but not changed, so that nobody else is dialled.
const WITH_ADDRESSES: [i16; 3] = [3, 10, 60];
const FETCH: i16 = 1;

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// Passes frames on between a client and the server, and changes answers while it lies.
struct Liar {
    server: SocketAddr,
    lies: AtomicBool,
    random: Mutex<Random>,
}

impl Liar {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let liar = Arc::clone(&self);
            connections.spawn(async move {
                if let Ok(server) = TcpStream::connect(liar.server).await {
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let asked = Mutex::default();
                    tokio::select! {
                        _ = liar.requests(from_client, to_server, &asked) => {}
                        _ = liar.answers(from_server, to_client, &asked) => {}
                    }
                }
            });
        }
    }

    async fn requests(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        asked: &Mutex<HashMap<[u8; 4], i16>>,
    ) -> std::io::Result<()> {
        loop {
            let frame = frame(&mut from).await?;
            let correlation = [frame[4], frame[5], frame[6], frame[7]];
            asked.lock().expect("no holder panics").insert(correlation, i16::from_be_bytes([frame[0], frame[1]]));
            to.write_all(&(frame.len() as u32).to_be_bytes()).await?;
            to.write_all(&frame).await?;
        }
    }

    async fn answers(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        asked: &Mutex<HashMap<[u8; 4], i16>>,
    ) -> std::io::Result<()> {
        loop {
            let mut body = frame(&mut from).await?;
            let correlation = [body[0], body[1], body[2], body[3]];
            let api = asked.lock().expect("no holder panics").remove(&correlation).unwrap_or_default();
            let length = if self.lies.load(Ordering::SeqCst) { self.lie(api, &mut body) } else { body.len() as u32 };
            to.write_all(&length.to_be_bytes()).await?;
            to.write_all(&body).await?;
        }
    }

    /// Changes an answer, or not; it returns the length that is told.
    fn lie(&self, api: i16, body: &mut Vec<u8>) -> u32 {
        let mut random = self.random.lock().expect("no holder panics");
        match random.below(8) {
            0 => [u32::MAX, 0, 3, 1 << 31, 0x7fff_ffff, 1 << 30][random.below(6)],
            1 | 2 => {
                body.truncate(4 + random.below(body.len() - 3));
                body.len() as u32
            }
            3..=5 if body.len() > 8 && !WITH_ADDRESSES.contains(&api) => {
                // Of a fetch what stands before the records, more often than what their CRC covers.
                let within = if api == FETCH { body.len().min(160) } else { body.len() };
                for _ in 0..=random.below(4) {
                    let at = 4 + random.below(within - 4);
                    body[at] = [0, 0x7f, 0x80, 0xff, body[at] ^ (1 << random.below(8))][random.below(5)];
                }
                body.len() as u32
            }
            6 => {
                body[random.below(4)] ^= 1; // the answer to another request
                body.len() as u32
            }
            _ => body.len() as u32,
        }
    }
}

/// Reads a frame of the server or of our client, who tell its length as it is.
async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut body = vec![0; from.read_u32().await? as usize];
    from.read_exact(&mut body).await?;
    Ok(body)
}

/// Is a client of a liar for some rounds; it ends well unless a call does what it must not.
pub async fn run_hostile(seed: &str) -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let options = Options::default().set("network.bind=127.0.0.2").set("network.advertised_host=127.0.0.1");
    let _server = Server::start_on(options, addr.port())?;
    let liar = Arc::new(Liar {
        server: ([127, 0, 0, 2], addr.port()).into(),
        lies: AtomicBool::new(false),
        random: Mutex::new(Random(seed.parse::<u64>()? | 1)),
    });
    let serving = tokio::spawn(Arc::clone(&liar).serve(listener));
    let broker = addr.to_string();
    let honest = Client::builder().brokers([&broker]).build().await?;
    honest.admin().create_topic(NewTopic::new("t").partitions(2)).await?;
    for round in 0..ROUNDS {
        let client = Client::builder()
            .brokers([&broker])
            .request_timeout(Duration::from_secs(1))
            .transactional_id("liar", Duration::from_secs(10))
            .build()
            .await?;
        let producer = client.producer().compression(Compression::Lz4).build()?;
        let consumer = client.consumer().topics(["t"]).group(format!("g{round}")).build(Json::<i64>::new()).await?;
        liar.lies.store(true, Ordering::SeqCst);
        // What they return is as good or bad as what the broker says; that they return, or can be dropped, counts.
        for _ in 0..3 {
            let _ = tokio::time::timeout(PATIENCE, client.ping()).await;
            let _ = tokio::time::timeout(PATIENCE, producer.send(Record::to("t").key("k").value("1"))).await;
            let _ = tokio::time::timeout(PATIENCE, consumer.poll()).await;
            let _ = tokio::time::timeout(PATIENCE, client.admin().groups(&["g0"])).await;
            let transaction = client.transact(|tx| async move { tx.send(Record::to("t").value("2")).await.map(drop) });
            let _ = tokio::time::timeout(PATIENCE, transaction).await;
        }
        liar.lies.store(false, Ordering::SeqCst);
        // Names that it has heard wrongly are nobody's, and what it must not send again it does not: all else works.
        let mut last = String::new();
        let works = eventually("a client works once the broker does", async || {
            let pinged = within_for(Duration::from_secs(5), "a ping ends", client.ping()).await;
            last = format!("{pinged:?}");
            matches!(pinged, Ok(Ok(())))
        })
        .await;
        works.map_err(|e| format!("round {round}: {e}; the last ping: {last}"))?;
        within("a consumer is closed", consumer.close()).await?;
        within("a client is closed", client.close()).await?;
    }
    let producer = honest.producer().build()?;
    within("another client works", producer.send(Record::to("t").value("3"))).await??;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse()?;
    if peak > MOST_MEMORY {
        return Err(format!("the process has taken {peak} KiB").into());
    }
    serving.abort();
    Ok(())
}

/// Runs it in a process of its own, whose panics, of whatever task, are seen.
pub async fn liar(_: &Server) -> Result<(), Failed> {
    let seed = std::env::var("TEST_SEED").unwrap_or_else(|_| "1".into());
    let mut command = Command::new(std::env::current_exe()?);
    command.env(HOSTILE, &seed).stdout(Stdio::null()).stderr(Stdio::piped());
    let done = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() || said.contains("panicked") {
        return Err(format!("with TEST_SEED={seed}: {}\n{said}", done.status).into());
    }
    Ok(())
}
