//! QUIC (RFC 9000, TLS 1.3, ALPN "kafka"): one connection to a broker, a stream for each use.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, TransportConfig, VarInt};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::lookup_host;
use tokio::sync::watch;

use super::Stream;
use super::limits::*;
use super::tcp::within;

/// All QUIC of one set of certificates. Another begins with none of its sessions: who resumes one shows no certificate.
pub(super) struct Quic {
    config: rustls::ClientConfig,
    endpoint: OnceLock<Endpoint>,
    brokers: Mutex<HashMap<String, Arc<Broker>>>,
}

/// What is kept of a broker, by the address that is dialled.
struct Broker {
    config: quinn::ClientConfig, // has the broker's own sessions: one broker cannot read another's tickets
    dialing: tokio::sync::Mutex<()>,
    shared: Mutex<Option<Shared>>,
    met: Mutex<Option<SocketAddr>>, // which of its addresses answered last
}

/// The connection that all streams share.
#[derive(Clone)]
struct Shared {
    connection: Connection,
    streams: Arc<()>,                      // one more reference for each stream that is open
    shaken: watch::Receiver<Option<bool>>, // whether 0-RTT was taken, once the handshake is complete
}

impl Shared {
    /// A connection whose handshake is complete.
    fn new(connection: Connection) -> Self {
        Shared { connection, streams: Arc::new(()), shaken: watch::channel(Some(false)).1 }
    }
}

/// What a connection has measured.
pub(super) struct Measured {
    pub(super) id: usize, // another connection has another
    pub(super) handshaken: bool,
    pub(super) rtt: Duration,
    pub(super) least_rtt: Duration,
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) received: u64,
    pub(super) streams: usize,
    pub(super) remote: SocketAddr,
}

/// A stream, and whether its first bytes go out before the broker has answered.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) early: bool,
}

impl Quic {
    pub(super) fn new(config: rustls::ClientConfig) -> Self {
        Quic { config, endpoint: OnceLock::new(), brokers: Mutex::default() }
    }

    /// Opens a stream, over the connection that exists or a new one. With `early` it may return before the broker has
    /// answered, where that is known.
    pub(super) async fn open(&self, address: &str, name: &str, early: bool) -> io::Result<Opened> {
        let broker = self.broker(address)?;
        let (shared, fresh) = broker.connection(self.endpoint()?, address, name, early).await?;
        let mut shaken = shared.shaken.clone();
        if !(fresh && early) {
            handshaken(&shared.connection, &mut shaken).await?;
        }
        let early = shaken.borrow().is_none();
        let (write, read) = shared.connection.open_bi().await?;
        let remote = shared.connection.remote_address();
        let read = Box::new(Counted { read, _of: shared.streams });
        Ok(Opened { stream: Stream { read, write: Box::new(write), local: None, remote }, early })
    }

    /// Waits until the broker has answered.
    pub(super) async fn handshake(&self, address: &str) -> io::Result<()> {
        match self.shared(address) {
            Some(s) => handshaken(&s.connection, &mut s.shaken.clone()).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Ends the connection to a broker, and its streams.
    pub(super) fn drop_connection(&self, address: &str) {
        if let Some(broker) = lock(&self.brokers).get(address).cloned() {
            if let Some(s) = lock(&broker.shared).take() {
                s.connection.close(VarInt::from_u32(0), b"");
            }
        }
    }

    /// What the connection to a broker has measured; `None`: there is none.
    pub(super) fn measured(&self, address: &str) -> Option<Measured> {
        let s = self.shared(address).filter(|s| s.connection.close_reason().is_none())?;
        let stats = s.connection.stats();
        let handshaken = s.shaken.borrow().is_some();
        Some(Measured {
            id: s.connection.stable_id(),
            handshaken,
            rtt: stats.path.rtt,
            least_rtt: stats.path.min_rtt,
            sent: stats.path.sent_packets,
            lost: stats.path.lost_packets,
            received: stats.udp_rx.datagrams,
            streams: Arc::strong_count(&s.streams).saturating_sub(2), // this one's and the broker's own
            remote: s.connection.remote_address(),
        })
    }

    /// Moves all connections to this machine's address of the moment (RFC 9000 §9).
    pub(super) fn migrate(&self) -> io::Result<()> {
        match self.endpoint.get() {
            Some(endpoint) => endpoint.rebind(socket()?),
            None => Ok(()),
        }
    }

    /// Ends all connections, and waits a moment for brokers to be told.
    pub(super) async fn close(&self) {
        if let Some(endpoint) = self.endpoint.get() {
            endpoint.close(VarInt::from_u32(0), b"");
            let _ = tokio::time::timeout(HEAD, endpoint.wait_idle()).await; // who is gone need not be told
        }
    }

    fn shared(&self, address: &str) -> Option<Shared> {
        let broker = lock(&self.brokers).get(address).cloned()?;
        lock(&broker.shared).clone()
    }

    fn endpoint(&self) -> io::Result<&Endpoint> {
        if let Some(e) = self.endpoint.get() {
            return Ok(e);
        }
        let runtime = Arc::new(quinn::TokioRuntime);
        let made = Endpoint::new(quinn::EndpointConfig::default(), None, socket()?, runtime)?;
        Ok(self.endpoint.get_or_init(|| made))
    }

    fn broker(&self, address: &str) -> io::Result<Arc<Broker>> {
        let mut brokers = lock(&self.brokers);
        if let Some(b) = brokers.get(address) {
            return Ok(b.clone());
        }
        let mut tls = self.config.clone();
        tls.resumption = rustls::client::Resumption::in_memory_sessions(TICKETS);
        let tls = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(settings()));
        let broker =
            Arc::new(Broker { config, dialing: Default::default(), shared: Mutex::default(), met: Mutex::default() });
        brokers.insert(address.to_owned(), broker.clone());
        Ok(broker)
    }
}

fn settings() -> TransportConfig {
    let mut t = TransportConfig::default();
    t.max_idle_timeout(quinn::IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0)) // a broker opens none
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW));
    t
}

/// A socket on a free port of every address.
fn socket() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
}

async fn handshaken(connection: &Connection, shaken: &mut watch::Receiver<Option<bool>>) -> io::Result<()> {
    tokio::select! {
        done = shaken.wait_for(Option::is_some) => match done {
            Ok(_) => Ok(()),
            Err(_) => Err(connection.close_reason().map_or(io::ErrorKind::ConnectionAborted.into(), io::Error::from)),
        },
        why = connection.closed() => Err(why.into()),
    }
}

impl Broker {
    /// The connection, and whether it was made now. Who asks while it is dialled waits for the same.
    async fn connection(
        &self,
        endpoint: &Endpoint,
        address: &str,
        name: &str,
        early: bool,
    ) -> io::Result<(Shared, bool)> {
        if let Some(s) = self.living() {
            return Ok((s, false));
        }
        let _dialing = self.dialing.lock().await;
        if let Some(s) = self.living() {
            return Ok((s, false));
        }
        let met = *lock(&self.met);
        let resumed = match met.filter(|_| early) {
            Some(at) => self.resume(endpoint, at, name).await,
            None => None,
        };
        let shared = match resumed {
            Some(shared) => shared,
            None => within(HANDSHAKE_TIMEOUT, self.dial(endpoint, address, name)).await?,
        };
        *lock(&self.shared) = Some(shared.clone());
        Ok((shared, true))
    }

    fn living(&self) -> Option<Shared> {
        lock(&self.shared).clone().filter(|s| s.connection.close_reason().is_none())
    }

    /// A connection to where the broker was last, whose first packet can have requests in it where there is a session
    /// to resume; `None`: it is not there any more.
    async fn resume(&self, endpoint: &Endpoint, at: SocketAddr, name: &str) -> Option<Shared> {
        let connecting = endpoint.connect_with(self.config.clone(), at, name).ok()?;
        let (connection, accepted) = match connecting.into_0rtt() {
            Ok(early) => early,
            Err(connecting) => {
                let connection = within(PROBE_TIMEOUT, attempt(connecting, at)).await.ok()?;
                return Some(Shared::new(connection));
            }
        };
        let (done, shaken) = watch::channel(None);
        let watched = connection.clone();
        tokio::spawn(async move {
            let taken = accepted.await;
            if watched.close_reason().is_none() {
                let _ = done.send(Some(taken)); // who has gone need not know
            }
        });
        Some(Shared { connection, streams: Arc::new(()), shaken })
    }

    /// Connects to the first address of a host that answers, each tried a moment after the one before, or at once
    /// where that has failed.
    async fn dial(&self, endpoint: &Endpoint, address: &str, name: &str) -> io::Result<Shared> {
        let mut rest = lookup_host(address).await?;
        let mut trying = tokio::task::JoinSet::new();
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        let mut next = rest.next();
        loop {
            if let Some(at) = next.take() {
                match endpoint.connect_with(self.config.clone(), at, name) {
                    Ok(connecting) => {
                        trying.spawn(async move { attempt(connecting, at).await.map(|c| (c, at)) });
                    }
                    Err(e) => failed = io::Error::other(e),
                }
            } else if trying.is_empty() {
                return Err(failed);
            }
            next = tokio::select! {
                Some(ended) = trying.join_next() => match ended {
                    Ok(Ok((connection, at))) => {
                        *lock(&self.met) = Some(at);
                        return Ok(Shared::new(connection));
                    }
                    Ok(Err(e)) => {
                        failed = e;
                        rest.next()
                    }
                    Err(_) => rest.next(), // the runtime ends
                },
                () = tokio::time::sleep(HEAD) => rest.next(),
            };
        }
    }
}

/// One handshake, which is given up as soon as the host says that nobody listens there: a QUIC socket is not told so.
async fn attempt(connecting: quinn::Connecting, at: SocketAddr) -> io::Result<Connection> {
    tokio::select! {
        connection = connecting => Ok(connection?),
        () = refused(at) => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Completes when the port is closed, by an ICMP message that only a connected socket is given. The byte it sends is no
/// QUIC packet and is ignored.
async fn refused(at: SocketAddr) {
    let any: IpAddr = if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    if let Ok(socket) = tokio::net::UdpSocket::bind((any, 0)).await {
        if socket.connect(at).await.is_ok() && socket.send(&[0]).await.is_ok() {
            if let Err(e) = socket.recv(&mut [0]).await {
                if e.kind() == io::ErrorKind::ConnectionRefused {
                    return;
                }
            }
        }
    }
    std::future::pending().await
}

/// A stream's reading side, which counts as a stream until it is dropped.
struct Counted {
    read: quinn::RecvStream,
    _of: Arc<()>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.read), cx, buf)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
