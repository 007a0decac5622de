//! Measuring the ways to brokers once a second, and what follows from it.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Via;
use super::choice::Sample;
use super::dialer::{Dialer, Generation};
use super::limits::*;
use super::quic::Measured;
use crate::builder::Transport;
use crate::wire::Connection;

/// How a broker is reached.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Link {
    /// Address of the broker, host:port.
    pub broker: String,
    /// What new connections use; `None`: nothing is known yet.
    pub using: Option<Via>,
    /// Why so, for people.
    pub why: &'static str,
    /// The shortest round trip of the last half minute, by QUIC; `None`: none was measured.
    pub rtt: Option<Duration>,
    /// Connections that are open over TCP.
    pub tcp: usize,
    /// Streams that are open over QUIC.
    pub quic: usize,
    /// How often measurements have changed the transport.
    pub changes: u32,
    /// How often this machine's address has changed.
    pub moves: u32,
}

/// What the counters of a broker's QUIC connection stood at when it was looked last.
#[derive(Debug, Default)]
pub(super) struct Measures {
    id: usize,
    sent: u64,
    lost: u64,
    received: u64,
    heard: Option<Instant>, // when received last grew
    sent_when_heard: u64,
    idle: u32,             // ticks without a stream
    local: Option<IpAddr>, // that packets to the broker leave by
}

impl Measures {
    /// What has come since the last look.
    fn take(&mut self, now: Instant, m: &Measured) -> Sample {
        if self.id != m.id || m.sent < self.sent {
            *self = Measures { id: m.id, heard: Some(now), local: self.local, ..Measures::default() };
        }
        let rtt = m.handshaken.then_some(m.rtt);
        let s = Sample { rtt, sent: m.sent - self.sent, lost: m.lost.saturating_sub(self.lost) };
        (self.sent, self.lost) = (m.sent, m.lost);
        if m.received != self.received {
            (self.received, self.heard, self.sent_when_heard) = (m.received, Some(now), m.sent);
        }
        self.idle = if m.streams == 0 { self.idle + 1 } else { 0 };
        s
    }

    /// Whether what was sent has had no answer for long.
    fn deaf(&self, now: Instant, rtt: Duration) -> bool {
        let bound = SILENCE.max(rtt * (2 * HEAD_TRIPS));
        self.sent > self.sent_when_heard && self.heard.is_some_and(|at| now.duration_since(at) >= bound)
    }
}

/// Ticks after which a QUIC connection without streams is ended.
const LINGER: u32 = 10;

/// Measures once a tick, until the dialer is closed or gone. It blocks on the disk now and then.
pub(super) async fn watch(of: Weak<Dialer>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut n = 0u32;
    loop {
        ticks.tick().await;
        let Some(dialer) = of.upgrade() else { return };
        n = n.wrapping_add(1);
        if n % RELOAD_EVERY == 0 {
            dialer.reload().await;
        }
        let (current, used) = {
            let mut state = dialer.lock();
            if state.closed {
                return;
            }
            state.open.retain(|o| !o.connection.is_dead());
            // Those that were being dialled while certificates were read again.
            let number = state.current.number;
            state.take(|o| o.at.generation < number).iter().for_each(Connection::retire);
            let mut used: Vec<(String, SocketAddr)> =
                state.open.iter().map(|o| (o.broker.clone(), o.at.remote)).collect();
            used.extend(state.brokers.keys().map(|b| (b.clone(), SocketAddr::from(([0, 0, 0, 0], 0)))));
            used.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            used.dedup_by(|a, b| a.0 == b.0);
            (state.current.clone(), used)
        };
        let mut moved = false;
        for (broker, remote) in used {
            moved |= dialer.look(&current, &broker, remote);
        }
        if let (true, Some(quic)) = (moved, &current.quic) {
            if let Err(e) = quic.migrate() {
                tracing::warn!(error = %e, "QUIC connections stay where they were");
            }
        }
    }
}

impl Dialer {
    /// Measures the way to one broker, and acts on it. It reports whether this machine's address has changed.
    fn look(self: &Arc<Self>, g: &Arc<Generation>, address: &str, remote: SocketAddr) -> bool {
        let Some(quic) = &g.quic else { return false };
        let over = quic.measured(address);
        let to = over.as_ref().map_or(remote, |m| m.remote);
        let to = SocketAddr::new(to.ip().to_canonical(), to.port()); // the same over both transports
        let local = (to.port() != 0).then(|| outbound(to).ok()).flatten();
        let now = Instant::now();
        let mut state = self.lock();
        let broker = state.broker(address);
        let sample = over.as_ref().map(|m| broker.measures.take(now, m)).unwrap_or_default();
        let before = broker.measures.local;
        if local.is_some() {
            broker.measures.local = local;
        }
        let moved = matches!((before, local), (Some(was), Some(is)) if was != is);
        if broker.measures.idle >= LINGER {
            broker.measures.idle = 0;
            drop(state);
            quic.drop_connection(address);
            return moved;
        }
        if self.mode != Transport::Auto {
            return moved;
        }
        if moved {
            broker.moves += 1;
            broker.choice.moved(now);
            tracing::info!(broker = address, "this machine's address has changed");
        }
        let changed = broker.choice.measured(now, sample);
        if changed {
            broker.changes += 1;
            let (using, why) = (broker.choice.using, broker.choice.why.text());
            tracing::info!(broker = address, transport = ?using, why, rtt = ?broker.choice.rtt(), "the transport changes");
        }
        let using = broker.choice.using;
        let rtt = broker.choice.rtt().unwrap_or_default();
        let deaf = over.is_some_and(|m| m.handshaken) && broker.measures.deaf(now, rtt);
        if !broker.trying && (deaf || broker.choice.probe(now)) {
            broker.trying = true;
            tokio::spawn(try_quic(self.clone(), g.clone(), address.to_owned(), deaf));
        }
        let mut retired = Vec::new();
        if changed {
            retired = state.take(|o| o.broker == address && Some(o.at.via) != using);
        }
        let gone = before.filter(|was| moved && is_gone(*was));
        let ended =
            state.take(|o| o.broker == address && o.at.via == Via::Tcp && o.at.local.is_some() && o.at.local == gone);
        drop(state);
        retired.iter().for_each(Connection::retire);
        for c in ended {
            let why = io::Error::new(io::ErrorKind::AddrNotAvailable, "this machine no longer has the address");
            c.close(crate::error::Error::network(address, why)); // nobody would answer
        }
        moved
    }

    /// How brokers are reached.
    pub(crate) fn links(&self) -> Vec<Link> {
        let state = self.lock();
        let count = |broker: &str, via| {
            let living = state.open.iter().filter(|o| !o.connection.is_dead());
            living.filter(|o| o.broker == broker && o.at.via == via).count()
        };
        let link = |(address, b): (&String, &super::dialer::Broker)| Link {
            broker: address.clone(),
            using: match self.mode {
                Transport::Quic => Some(Via::Quic),
                Transport::Tcp => Some(Via::Tcp),
                Transport::Auto if self.tls.is_none() => Some(Via::Tcp),
                Transport::Auto => b.choice.using,
            },
            why: match (self.mode, &self.tls) {
                (Transport::Auto, Some(_)) => b.choice.why.text(),
                (Transport::Auto, None) => "there is no TLS, without which there is no QUIC",
                _ => "it was demanded",
            },
            rtt: b.choice.rtt(),
            tcp: count(address, Via::Tcp),
            quic: count(address, Via::Quic),
            changes: b.changes,
            moves: b.moves,
        };
        let mut links: Vec<Link> = state.brokers.iter().map(link).collect();
        links.sort_by(|a, b| a.broker.cmp(&b.broker));
        links
    }
}

/// Tries QUIC while TCP is in use, or gives a QUIC connection up that hears nothing, if the broker is there over TCP.
async fn try_quic(dialer: Arc<Dialer>, g: Arc<Generation>, address: String, deaf: bool) {
    if let Some(quic) = &g.quic {
        if deaf {
            if super::tcp::answers(&address, PROBE_TIMEOUT).await {
                let why = io::Error::new(io::ErrorKind::TimedOut, "what was sent has had no answer");
                dialer.blocked(&address, &why); // first: who dials again takes TCP
                quic.drop_connection(&address);
            }
        } else {
            match super::tcp::within(PROBE_TIMEOUT, dialer.over_quic(&g, &address, false)).await {
                Ok(_) => dialer.through(&g, &address), // nothing was asked of it
                Err(e) => dialer.blocked(&address, &e),
            }
        }
    }
    dialer.lock().broker(&address).trying = false;
}

/// Asks the kernel by which address packets to a broker leave; none is sent.
fn outbound(to: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// Whether an address is this machine's no more.
fn is_gone(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_err_and(|e| e.kind() == io::ErrorKind::AddrNotAvailable)
}
