//! A relay of TCP and UDP before a broker, which can be slow, let no datagram through, and give a client
//! another address towards the broker.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Failed;

/// Bytes or datagrams that are on their way in one direction of a connection.
const DEPTH: usize = 4096;
const LARGEST: usize = 64 << 10;

/// A relay; it ends when it is dropped.
pub struct Relay {
    addr: SocketAddr,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

struct State {
    to: SocketAddr,
    delay: Duration,
    no_udp: AtomicBool,
    /// TCP connections that are open.
    open: AtomicUsize,
    /// Datagram flows by client: the socket towards the broker, and the queue of what goes there.
    flows: Mutex<HashMap<SocketAddr, Flow>>,
}

struct Flow {
    there: mpsc::Sender<(Instant, Vec<u8>)>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Takes a port of 127.0.0.1 that is free over TCP and UDP, and on `to`'s host too, so that the broker can
    /// have the same: `to` says where the broker listens, given the port.
    pub async fn listen(to: impl FnOnce(u16) -> SocketAddr, delay: Duration) -> Result<Self, Failed> {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await?;
            // The port that TCP is given may be another's over UDP.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?).await {
                break (tcp, udp);
            }
        };
        let addr = tcp.local_addr()?;
        let state = Arc::new(State {
            to: to(addr.port()),
            delay,
            no_udp: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            flows: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(Arc::clone(&state), tcp));
        tasks.spawn(receive(Arc::clone(&state), Arc::new(udp)));
        Ok(Self { addr, state, tasks })
    }

    /// What clients dial, over TCP and UDP.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Has datagrams vanish in both directions, or not any more.
    pub fn block_udp(&self, block: bool) {
        self.state.no_udp.store(block, Ordering::SeqCst);
    }

    /// TCP connections that are open now.
    pub fn open_tcp(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Gives every client of UDP another address towards the broker, as a NAT does that has forgotten them.
    pub fn rebind(&self) {
        self.state.flows.lock().expect("no holder panics").clear(); // the next datagram makes another socket
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

async fn accept(state: Arc<State>, listener: TcpListener) {
    let mut streams = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        streams.spawn(async move {
            state.open.fetch_add(1, Ordering::SeqCst);
            if let Ok(server) = TcpStream::connect(state.to).await {
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                // The first direction that ends, ends both: so does a broker that has gone.
                tokio::select! {
                    () = carry(from_client, to_server, state.delay) => {}
                    () = carry(from_server, to_client, state.delay) => {}
                }
            }
            state.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Passes one direction of a stream on, each piece `delay` after it has come.
async fn carry(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, delay: Duration) {
    let (send, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(DEPTH);
    let read = async move {
        let mut buffer = vec![0; LARGEST];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            if send.send((Instant::now() + delay, buffer[..n].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

async fn receive(state: Arc<State>, clients: Arc<UdpSocket>) {
    let mut buffer = vec![0; LARGEST];
    loop {
        let Ok((n, client)) = clients.recv_from(&mut buffer).await else { continue };
        if state.no_udp.load(Ordering::SeqCst) {
            continue;
        }
        let there = state.flows.lock().expect("no holder panics").get(&client).map(|f| f.there.clone());
        let there = match there {
            Some(there) => there,
            None => match flow(&state, &clients, client).await {
                Ok(there) => there,
                Err(_) => continue, // as a datagram that is lost
            },
        };
        let _ = there.try_send((Instant::now() + state.delay, buffer[..n].to_vec()));
    }
}

/// Begins to carry the datagrams of a client.
async fn flow(
    state: &Arc<State>,
    clients: &Arc<UdpSocket>,
    client: SocketAddr,
) -> std::io::Result<mpsc::Sender<(Instant, Vec<u8>)>> {
    let server = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
    server.connect(state.to).await?;
    let (there, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(DEPTH);
    let (back, mut due_back) = mpsc::channel::<(Instant, Vec<u8>)>(DEPTH);
    let mut tasks = JoinSet::new();
    let to_server = Arc::clone(&server);
    tasks.spawn(async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            let _ = to_server.send(&bytes).await;
        }
    });
    let of = Arc::clone(state);
    tasks.spawn(async move {
        let mut buffer = vec![0; LARGEST];
        loop {
            // Refusals of a broker that is not there come as errors, and are no datagrams.
            let Ok(n) = server.recv(&mut buffer).await else { continue };
            if !of.no_udp.load(Ordering::SeqCst) {
                let _ = back.try_send((Instant::now() + of.delay, buffer[..n].to_vec()));
            }
        }
    });
    let clients = Arc::clone(clients);
    tasks.spawn(async move {
        while let Some((at, bytes)) = due_back.recv().await {
            tokio::time::sleep_until(at).await;
            let _ = clients.send_to(&bytes, client).await;
        }
    });
    let flow = Flow { there: there.clone(), _tasks: tasks };
    state.flows.lock().expect("no holder panics").insert(client, flow);
    Ok(there)
}
