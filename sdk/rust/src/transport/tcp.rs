//! TCP, with TLS or in the clear.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::Stream;
use super::limits::{HANDSHAKE_TIMEOUT, HEAD};

/// Connects to host:port; `tls`: with a name that the broker's certificate is for.
pub(super) async fn dial(address: &str, tls: Option<(Arc<ClientConfig>, String)>) -> io::Result<Stream> {
    within(HANDSHAKE_TIMEOUT, async {
        let socket = connect(address).await?;
        socket.set_nodelay(true)?;
        let (local, remote) = (Some(socket.local_addr()?.ip()), socket.peer_addr()?);
        match tls {
            None => {
                let (read, write) = socket.into_split();
                Ok(Stream { read: Box::new(read), write: Box::new(write), local, remote })
            }
            Some((config, name)) => {
                let name = server_name(name)?;
                let over = TlsConnector::from(config).connect(name, socket).await?;
                let (read, write) = tokio::io::split(over);
                Ok(Stream { read: Box::new(read), write: Box::new(write), local, remote })
            }
        }
    })
    .await
}

/// Whether a broker's machine takes connections.
pub(super) async fn answers(address: &str, timeout: Duration) -> bool {
    within(timeout, connect(address)).await.is_ok()
}

/// Connects to the first address of a host that answers, each tried a moment after the one before, or at once where
/// that has failed (RFC 8305).
async fn connect(address: &str) -> io::Result<TcpStream> {
    let mut rest = lookup_host(address).await?;
    let mut trying = tokio::task::JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    match rest.next() {
        Some(first) => trying.spawn(TcpStream::connect(first)),
        None => return Err(failed),
    };
    loop {
        let next = tokio::select! {
            Some(ended) = trying.join_next() => match ended {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(e)) => {
                    failed = e;
                    rest.next()
                }
                Err(_) => rest.next(), // the runtime ends
            },
            () = tokio::time::sleep(HEAD) => rest.next(),
        };
        if let Some(address) = next {
            trying.spawn(TcpStream::connect(address));
        } else if trying.is_empty() {
            return Err(failed);
        }
    }
}

pub(super) fn server_name(name: String) -> io::Result<ServerName<'static>> {
    ServerName::try_from(name).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
}

pub(super) async fn within<T>(limit: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, what).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"))),
    }
}
