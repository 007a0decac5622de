//! Streams of bytes to brokers, over QUIC or TCP, whichever is better for the way there.
//!
//! QUIC saves round trips, isolates streams from each other's losses and survives a change of address; TCP costs a
//! third of the processor time a byte. With [`Transport::Auto`](crate::Transport::Auto) an unknown broker is dialled
//! over both; then the round trip, the loss and changes of this machine's address decide ([`choice`]), measured once a
//! second on what is open. Connections over the other transport end when they owe no answer, so that no request is
//! lost by it. Where UDP does not get through, TCP is used, and QUIC tried again after longer and longer pauses.
//!
//! All streams to a broker share one QUIC connection. Sessions are resumed, over QUIC with the first request in the
//! first packet (0-RTT), which asks for versions alone and changes nothing.

mod choice;
mod dialer;
mod files;
mod limits;
mod quic;
mod race;
mod tcp;
mod watch;

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use dialer::{Dialed, Dialer};
#[cfg(feature = "admin-api")]
pub(crate) use files::client_config;
pub use watch::Link;

/// One ordered stream of bytes to a broker, over whichever transport.
pub(crate) struct Stream {
    pub(crate) read: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) write: Box<dyn AsyncWrite + Send + Unpin>,
    /// This machine's address, where the stream dies with it: over TCP.
    pub(crate) local: Option<IpAddr>,
    pub(crate) remote: SocketAddr,
}

/// Over what a stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// TCP, with TLS or in the clear.
    Tcp,
    /// QUIC.
    Quic,
}

impl std::fmt::Display for Via {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Via::Tcp => "tcp",
            Via::Quic => "quic",
        })
    }
}
