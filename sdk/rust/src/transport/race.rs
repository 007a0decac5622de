//! Dialling over both transports, and which of them is used.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Via;
use super::choice::{Plan, Why};
use super::dialer::{Dialed, Dialer, Generation};
use super::limits::*;

type OverTcp = Pin<Box<dyn Future<Output = io::Result<Dialed>> + Send>>;

/// One race. Dropping it ends the attempt over TCP; that over QUIC goes on, as what comes of it is to be known.
struct Heat {
    dialer: Arc<Dialer>,
    generation: Arc<Generation>,
    address: String,
    plan: Plan,
    early: bool,
    began: Instant,
    tcp: Option<OverTcp>,
    quic: Option<oneshot::Receiver<io::Result<Dialed>>>,
    tried: (bool, bool), // TCP, QUIC
    tcp_won: Arc<AtomicBool>,
    quic_failed: bool,
}

impl Dialer {
    /// Dials over one transport or both, as the plan has it.
    pub(super) async fn race(
        self: &Arc<Self>,
        generation: Arc<Generation>,
        address: &str,
        plan: Plan,
        early: bool,
    ) -> io::Result<Dialed> {
        let mut heat = Heat {
            dialer: self.clone(),
            generation,
            address: address.to_owned(),
            plan,
            early: early && plan.first == Some(Via::Quic),
            began: Instant::now(),
            tcp: None,
            quic: None,
            tried: (false, false),
            tcp_won: Arc::default(),
            quic_failed: false,
        };
        match plan.first {
            None => {
                heat.start(Via::Quic);
                heat.start(Via::Tcp);
            }
            Some(via) => heat.start(via),
        }
        heat.run().await
    }

    /// Notes that QUIC gets to a broker, and the round trip that it takes.
    pub(super) fn through(&self, g: &Generation, address: &str) {
        let Some(measured) = g.quic.as_ref().and_then(|q| q.measured(address)) else { return };
        let mut state = self.lock();
        let broker = state.broker(address);
        let before = broker.choice.using;
        let rtt = Some(measured.least_rtt).filter(|r| !r.is_zero() && *r != Duration::MAX);
        broker.choice.connected(Instant::now(), rtt);
        let using = broker.choice.using;
        if before.is_some() && before != using {
            broker.changes += 1;
            let why = broker.choice.why.text();
            tracing::info!(broker = address, transport = ?using, why, "the transport changes");
            let retired = state.take(|o| o.broker == address && Some(o.at.via) != using);
            drop(state);
            retired.iter().for_each(crate::wire::Connection::retire);
        }
    }

    /// Notes that QUIC does not get through, where TCP does.
    pub(super) fn blocked(&self, address: &str, why: &io::Error) {
        let mut state = self.lock();
        let broker = state.broker(address);
        if broker.choice.using == Some(Via::Quic) {
            broker.changes += 1;
        }
        broker.choice.failed(Instant::now());
        drop(state);
        tracing::info!(broker = address, error = %why, "QUIC does not get through: TCP is used");
    }
}

impl Heat {
    fn start(&mut self, via: Via) {
        match via {
            Via::Tcp => {
                self.tried.0 = true;
                let (dialer, g, address) = (self.dialer.clone(), self.generation.clone(), self.address.clone());
                self.tcp = Some(Box::pin(async move { dialer.over_tcp(&g, &address).await }));
            }
            Via::Quic => {
                self.tried.1 = true;
                let (done, result) = oneshot::channel();
                let (dialer, g, address) = (self.dialer.clone(), self.generation.clone(), self.address.clone());
                let (tcp_won, early) = (self.tcp_won.clone(), self.early);
                tokio::spawn(async move {
                    let dialed = dialer.over_quic(&g, &address, early).await;
                    match &dialed {
                        Ok(d) if d.early => {
                            tokio::spawn(guard(dialer, g, address));
                        }
                        Ok(_) => dialer.through(&g, &address),
                        Err(e) if tcp_won.load(Ordering::Acquire) => dialer.blocked(&address, e),
                        Err(_) => {}
                    }
                    let _ = done.send(dialed); // TCP has won, and nothing was asked of it
                });
                self.quic = Some(result);
            }
        }
    }

    /// Starts what has not been tried.
    fn start_other(&mut self) {
        if !self.tried.1 {
            self.start(Via::Quic);
        }
        if !self.tried.0 {
            self.start(Via::Tcp);
        }
    }

    /// Waits for the connection to use.
    async fn run(mut self) -> io::Result<Dialed> {
        let head = self.plan.head.map(|h| tokio::time::Instant::now() + h);
        let mut other = Box::pin(async move {
            match head {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        });
        let mut other_due = true;
        let mut ready: Option<Dialed> = None; // has arrived, and waits for the other
        let mut waited: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(std::future::pending());
        let mut failures: Vec<String> = Vec::new();
        loop {
            let (via, arrived) = tokio::select! {
                arrived = poll_slot(&mut self.tcp) => (Via::Tcp, arrived),
                arrived = poll_quic(&mut self.quic) => (Via::Quic, arrived),
                () = &mut other, if other_due => {
                    other_due = false;
                    self.start_other();
                    continue;
                }
                () = &mut waited => match ready.take() {
                    Some(d) => return Ok(self.use_this(d)),
                    None => continue,
                },
            };
            match (arrived, ready.take()) {
                (Ok(d), None) => {
                    let patience = self.patience(&d);
                    if patience.is_zero() {
                        return Ok(self.use_this(d));
                    }
                    ready = Some(d);
                    waited = Box::pin(tokio::time::sleep(patience));
                }
                (Ok(d), Some(first)) => return Ok(self.better(first, d)),
                (Err(_), Some(first)) => {
                    self.quic_failed |= via == Via::Quic;
                    return Ok(self.use_this(first));
                }
                (Err(e), None) => {
                    self.quic_failed |= via == Via::Quic;
                    failures.push(format!("{via}: {e}"));
                    self.start_other();
                    if self.tcp.is_none() && self.quic.is_none() {
                        return Err(io::Error::new(e.kind(), failures.join("; ")));
                    }
                }
            }
        }
    }

    /// How long a connection that has arrived waits for the other transport, which may be the better one.
    fn patience(&self, d: &Dialed) -> Duration {
        if self.plan.first.is_some() {
            return Duration::ZERO;
        }
        let took = self.began.elapsed();
        match d.via {
            Via::Quic if self.using() == Some(Via::Tcp) && self.tcp.is_some() => COURTESY,
            Via::Tcp if took >= FAR && self.quic.is_some() => took / 2,
            _ => Duration::ZERO,
        }
    }

    fn using(&self) -> Option<Via> {
        self.dialer.lock().broker(&self.address).choice.using
    }

    /// Of two that are there the one that is chosen; the other ends, as nothing was asked of it.
    fn better(self, a: Dialed, b: Dialed) -> Dialed {
        let chosen = if self.using() == Some(b.via) { b } else { a };
        self.use_this(chosen)
    }

    /// Tells the choice who has won.
    fn use_this(mut self, d: Dialed) -> Dialed {
        if d.via == Via::Quic {
            return d; // as the attempt has noted itself
        }
        self.tcp_won.store(true, Ordering::Release);
        let late = self.quic.as_mut().map(oneshot::Receiver::try_recv);
        let failed = self.quic_failed || matches!(late, Some(Ok(Err(_))));
        let why = if self.began.elapsed() < FAR { Why::Near } else { Why::Slow };
        let mut state = self.dialer.lock();
        let choice = &mut state.broker(&self.address).choice;
        if failed && choice.using != Some(Via::Tcp) {
            choice.failed(Instant::now());
        }
        choice.raced(Instant::now(), why);
        d
    }
}

/// Polls what may be there, and empties its place once it has come.
async fn poll_slot(slot: &mut Option<OverTcp>) -> io::Result<Dialed> {
    match slot {
        Some(running) => {
            let result = running.await;
            *slot = None;
            result
        }
        None => std::future::pending().await,
    }
}

async fn poll_quic(slot: &mut Option<oneshot::Receiver<io::Result<Dialed>>>) -> io::Result<Dialed> {
    match slot {
        Some(running) => {
            let result = running.await.unwrap_or_else(|_| Err(io::ErrorKind::ConnectionAborted.into()));
            *slot = None;
            result
        }
        None => std::future::pending().await,
    }
}

/// Ends a connection that was given away early, and whose broker does not answer, while it does over TCP.
async fn guard(dialer: Arc<Dialer>, g: Arc<Generation>, address: String) {
    let Some(quic) = &g.quic else { return };
    let rtt = dialer.lock().broker(&address).choice.rtt().unwrap_or_default();
    let bound = EARLY_TIMEOUT.max(rtt * HEAD_TRIPS);
    let why = match super::tcp::within(bound, quic.handshake(&address)).await {
        Ok(()) => return dialer.through(&g, &address),
        Err(e) => e,
    };
    if super::tcp::answers(&address, PROBE_TIMEOUT).await {
        dialer.blocked(&address, &why); // first: who dials again takes TCP
        quic.drop_connection(&address);
    }
}
