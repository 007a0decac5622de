//! Who dials: [`Dialer`], with the certificates that are in force and what is known of each broker.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustls::ClientConfig;

use super::choice::Choice;
use super::files::{self, Version};
use super::limits::*;
use super::quic::Quic;
use super::watch::Measures;
use super::{Stream, Via, tcp};
use crate::builder::{Config, Tls, Transport};
use crate::error::{Error, Result};
use crate::wire::Connection;

/// A stream that was dialled.
pub(crate) struct Dialed {
    pub(crate) stream: Stream,
    pub(crate) via: Via,
    /// Of the certificates that it was made with.
    pub(crate) generation: u64,
    /// The broker has not answered yet, and may refuse what is sent before it does.
    pub(crate) early: bool,
}

/// Where a stream goes along.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(super) via: Via,
    pub(super) generation: u64,
    pub(super) local: Option<IpAddr>,
    pub(super) remote: SocketAddr,
}

impl Dialed {
    pub(crate) fn at(&self) -> Place {
        let Stream { local, remote, .. } = self.stream;
        Place { via: self.via, generation: self.generation, local, remote }
    }
}

/// Dials brokers. A task measures the ways to them, and ends with the dialer.
pub(crate) struct Dialer {
    pub(super) mode: Transport,
    pub(super) tls: Option<Tls>,
    pub(super) state: Mutex<State>,
    reloading: tokio::sync::Mutex<()>,
}

/// Guarded by `Dialer::state`; never held across an await. It is taken before no other lock of this module.
pub(super) struct State {
    pub(super) closed: bool,
    pub(super) watching: bool,
    pub(super) current: Arc<Generation>,
    looked: Instant, // at the files
    pub(super) brokers: HashMap<String, Broker>,
    pub(super) open: Vec<Open>,
}

/// Certificates that are in force, and what was dialled with them.
pub(super) struct Generation {
    pub(super) number: u64,
    version: Version,
    tcp: Option<Arc<ClientConfig>>,
    sessions: Mutex<HashMap<String, Arc<ClientConfig>>>, // by broker: one cannot read another's tickets
    pub(super) quic: Option<Quic>,                       // none: in the clear
}

/// What is known of a broker, by the address that is dialled.
#[derive(Default)]
pub(super) struct Broker {
    pub(super) choice: Choice,
    pub(super) measures: Measures,
    pub(super) changes: u32, // of the transport, by measurement
    pub(super) moves: u32,   // of this machine's address under its connections
    pub(super) trying: bool, // QUIC is being tried in the background
}

/// A connection that is open.
pub(super) struct Open {
    pub(super) broker: String,
    pub(super) at: Place,
    pub(super) connection: Connection,
}

impl Generation {
    fn new(number: u64, tls: Option<&Tls>) -> Result<Self> {
        let mut made = Generation {
            number,
            version: tls.map(files::version).unwrap_or_default(),
            tcp: None,
            sessions: Mutex::default(),
            quic: None,
        };
        if let Some(tls) = tls {
            let configs = files::read(tls)?;
            made.tcp = (!tls.quic_only).then_some(configs.tcp);
            made.quic = Some(Quic::new(configs.quic));
        }
        Ok(made)
    }

    fn tcp(&self, broker: &str) -> Option<Arc<ClientConfig>> {
        let common = self.tcp.as_ref()?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let own = sessions.entry(broker.to_owned()).or_insert_with(|| {
            let mut own = (**common).clone();
            own.resumption = rustls::client::Resumption::in_memory_sessions(TICKETS);
            Arc::new(own)
        });
        Some(own.clone())
    }
}

impl Dialer {
    /// Reads the certificates a first time.
    pub(crate) async fn new(config: &Config) -> Result<Arc<Self>> {
        let tls = config.tls.clone();
        let current = Arc::new(blocking(move || Generation::new(0, tls.as_ref())).await?);
        let state = State {
            closed: false,
            watching: false,
            current,
            looked: Instant::now(),
            brokers: HashMap::new(),
            open: Vec::new(),
        };
        Ok(Arc::new(Dialer {
            mode: config.transport,
            tls: config.tls.clone(),
            state: Mutex::new(state),
            reloading: Default::default(),
        }))
    }

    /// Dials a broker, host:port. With `early` it may return before the broker has answered, where that is known; what
    /// is sent then must change nothing.
    pub(crate) async fn dial(self: &Arc<Self>, address: &str, early: bool) -> Result<Dialed> {
        let generation = self.generation().await?;
        let failed = |e| Error::network(address, e);
        let plan = {
            let mut state = self.lock();
            if self.tls.is_some() && !state.watching {
                state.watching = true;
                tokio::spawn(super::watch::watch(Arc::downgrade(self)));
            }
            state.broker(address).choice.plan(Instant::now())
        };
        match self.mode {
            Transport::Quic => self.over_quic(&generation, address, early).await.map_err(failed),
            Transport::Auto if generation.quic.is_some() => {
                self.race(generation, address, plan, early).await.map_err(failed)
            }
            _ => self.over_tcp(&generation, address).await.map_err(failed),
        }
    }

    pub(super) async fn over_tcp(&self, g: &Generation, address: &str) -> io::Result<Dialed> {
        let tls = g.tcp(address).map(|config| (config, self.name(address)));
        let stream = tcp::dial(address, tls).await?;
        Ok(Dialed { stream, via: Via::Tcp, generation: g.number, early: false })
    }

    pub(super) async fn over_quic(&self, g: &Generation, address: &str, early: bool) -> io::Result<Dialed> {
        let quic = g.quic.as_ref().ok_or_else(|| io::Error::other("QUIC is never in the clear: give tls()"))?;
        let opened = within_handshake(quic.open(address, &self.name(address), early)).await?;
        Ok(Dialed { stream: opened.stream, via: Via::Quic, generation: g.number, early: opened.early })
    }

    /// The name that a broker's certificate is for.
    fn name(&self, address: &str) -> String {
        let named = self.tls.as_ref().and_then(|t| t.server_name.clone());
        named.unwrap_or_else(|| {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            host.trim_start_matches('[').trim_end_matches(']').to_owned()
        })
    }

    /// Notes a connection that is served, so that it can be retired.
    pub(crate) fn register(&self, broker: &str, at: Place, connection: &Connection) {
        let mut state = self.lock();
        state.open.retain(|o| !o.connection.is_dead());
        state.open.push(Open { broker: broker.to_owned(), at, connection: connection.clone() });
    }

    /// What to dial with, after the files were looked at where that is due.
    async fn generation(&self) -> Result<Arc<Generation>> {
        {
            let state = self.lock();
            if state.closed {
                return Err(Error::Closed);
            }
            if self.tls.is_none() || state.looked.elapsed() < RELOAD_PAUSE {
                return Ok(state.current.clone());
            }
        }
        self.reload().await;
        Ok(self.lock().current.clone())
    }

    /// Reads the files again where they have changed. What cannot be read leaves the certificates before in force.
    pub(super) async fn reload(&self) {
        let Some(tls) = self.tls.clone() else { return };
        let _reloading = self.reloading.lock().await;
        let before = {
            let state = self.lock();
            if state.looked.elapsed() < RELOAD_PAUSE {
                return; // somebody else did
            }
            state.current.clone()
        };
        let number = before.number + 1;
        let known = before.version.clone();
        let read = blocking(move || {
            if files::version(&tls) == known { Ok(None) } else { Generation::new(number, Some(&tls)).map(Some) }
        })
        .await;
        let mut state = self.lock();
        state.looked = Instant::now();
        match read {
            Ok(None) => {}
            Err(e) => tracing::warn!(error = %e, "certificates were not read again: those before stay in force"),
            Ok(Some(newer)) => {
                state.current = Arc::new(newer);
                let retired = state.take(|o| o.at.generation < number);
                drop(state);
                tracing::info!(
                    connections = retired.len(),
                    "certificates were read again: connections begin anew as they fall quiet"
                );
                retired.iter().for_each(Connection::retire);
            }
        }
    }

    /// Ends what is open.
    pub(crate) async fn close(&self) {
        let current = {
            let mut state = self.lock();
            state.closed = true;
            state.open.clear();
            state.current.clone()
        };
        if let Some(quic) = &current.quic {
            quic.close().await;
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn broker(&mut self, address: &str) -> &mut Broker {
        self.brokers.entry(address.to_owned()).or_default()
    }

    /// Connections to be retired, which are no longer listed.
    pub(super) fn take(&mut self, picked: impl Fn(&Open) -> bool) -> Vec<Connection> {
        let (out, rest) = std::mem::take(&mut self.open).into_iter().partition(picked);
        self.open = rest;
        let out: Vec<Open> = out;
        out.into_iter().map(|o| o.connection).collect()
    }
}

async fn within_handshake<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tcp::within(HANDSHAKE_TIMEOUT, what).await
}

/// Runs what waits for the disk.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(what).await.unwrap_or(Err(Error::Closed)) // the runtime ends
}
