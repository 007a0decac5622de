//! Certificates on disk, which are read again once they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::limits::TICKETS;
use crate::builder::Tls;
use crate::error::{Error, Result};

/// ALPN of Kafka over QUIC.
const ALPN: &[u8] = b"kafka";

/// One content of the files, told from another.
pub(super) type Version = Vec<Option<(SystemTime, u64)>>;

/// What connections are made with.
pub(super) struct Configs {
    /// For TLS over TCP.
    pub(super) tcp: Arc<ClientConfig>,
    /// For QUIC: TLS 1.3, with the first request in the first packet.
    pub(super) quic: ClientConfig,
}

fn names(tls: &Tls) -> impl Iterator<Item = &PathBuf> {
    let identity = tls.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
    tls.ca_file.iter().chain(identity)
}

/// Which content the files have now; it blocks on the disk for a moment.
pub(super) fn version(tls: &Tls) -> Version {
    let of = |p: &PathBuf| std::fs::metadata(p).and_then(|m| Ok((m.modified()?, m.len()))).ok();
    names(tls).map(of).collect()
}

/// What connections of HTTP are made with.
#[cfg(feature = "admin-api")]
pub(crate) fn client_config(tls: &Tls) -> Result<ClientConfig> {
    read(tls).map(|configs| (*configs.tcp).clone())
}

/// Reads the files. A pair of certificate and key of which one is new and the other is not yet is an error.
pub(super) fn read(tls: &Tls) -> Result<Configs> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(path) => {
            for c in certificates(path, "the authorities to trust")? {
                roots.add(c).map_err(|e| unfit("the authorities to trust", path, &e))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let make = |versions: &[&'static rustls::SupportedProtocolVersion]| -> Result<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|e| Error::Config(format!("TLS: {e}")))?
            .with_root_certificates(roots.clone());
        let mut config = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, "the client's certificate")?;
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| unfit("the client's key", key, &e))?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|e| unfit("the client's certificate and its key", key, &e))?
            }
        };
        config.resumption = rustls::client::Resumption::in_memory_sessions(TICKETS);
        Ok(config)
    };
    let tcp = Arc::new(make(&[&rustls::version::TLS13, &rustls::version::TLS12])?);
    let mut quic = make(&[&rustls::version::TLS13])?;
    quic.alpn_protocols = vec![ALPN.to_vec()];
    quic.enable_early_data = true;
    Ok(Configs { tcp, quic })
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match all {
        Ok(certificates) if certificates.is_empty() => {
            Err(unfit(what, path, &"there is no certificate in it: want PEM"))
        }
        Ok(certificates) => Ok(certificates),
        Err(e) => Err(unfit(what, path, &e)),
    }
}

fn unfit(what: &str, path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Config(format!("read {what} from {}: {why}", path.display()))
}
