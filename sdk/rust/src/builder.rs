//! What a client is made of: [`Builder`] and the types of its settings.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::error::{Error, Result};

const DEFAULT_BROKER: &str = "127.0.0.1:9092"; // where `rustmq serve` listens
const DEFAULT_PORT: &str = "9092";
const MAX_RECORD_BYTES: usize = 512 << 20;

/// Over what brokers are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// Measures and chooses where there is TLS, and is TCP in the clear otherwise.
    #[default]
    Auto,
    /// QUIC alone; needs [`Builder::tls`].
    Quic,
    /// TCP alone, with TLS where [`Builder::tls`] is given.
    Tcp,
}

/// Who has to have a record before it counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// All replicas in sync; producing is idempotent.
    #[default]
    All,
    /// The leader alone: lost with it.
    Leader,
    /// Nobody: not even errors are heard of.
    None,
}

/// How batches of records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// Small, and slow.
    Gzip,
    /// Fast; the default.
    #[default]
    Snappy,
    /// Fast.
    Lz4,
    /// Small, and of middling speed.
    Zstd,
}

/// Whom to trust and who the client is. Files are PEM, and are read again once they have changed, for connections
/// from then on.
///
/// ```
/// let tls = rustmq::Tls::new().ca_file("ca.pem").identity("client.pem", "client.key");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Tls {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    pub(crate) server_name: Option<String>,
    pub(crate) quic_only: bool,
}

impl Tls {
    /// Trusts the authorities that the system trusts, and shows no certificate.
    pub fn new() -> Self {
        Tls::default()
    }

    /// Trusts the authorities of this file, and no others.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Shows the certificate of one file, whose key is in the other.
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The name that brokers' certificates are for; default: the host that is dialled.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Has TCP be in the clear, for brokers with TLS off (`network.tls`), who have QUIC all the same, and never in
    /// the clear.
    pub fn quic_only(mut self) -> Self {
        self.quic_only = true;
        self
    }
}

type TokenFuture = Pin<Box<dyn Future<Output = std::result::Result<String, String>> + Send>>;

/// Where tokens of OAUTHBEARER come from.
#[derive(Clone)]
pub(crate) struct TokenSource(pub(crate) Arc<dyn Fn() -> TokenFuture + Send + Sync>);

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// Who a client is to brokers that ask by SASL. Secrets do not appear in its debug output.
#[derive(Clone)]
pub struct Sasl(pub(crate) Mechanism);

#[derive(Clone)]
pub(crate) enum Mechanism {
    Plain { user: String, password: String },
    Scram256 { user: String, password: String },
    Scram512 { user: String, password: String },
    Token(TokenSource),
}

impl Mechanism {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Mechanism::Plain { .. } => "PLAIN",
            Mechanism::Scram256 { .. } => "SCRAM-SHA-256",
            Mechanism::Scram512 { .. } => "SCRAM-SHA-512",
            Mechanism::Token(_) => "OAUTHBEARER",
        }
    }

    /// What the mechanism shows to whoever listens.
    fn shown(&self) -> Option<&'static str> {
        match self {
            Mechanism::Plain { .. } => Some("a password of PLAIN"),
            Mechanism::Token(_) => Some("a token"),
            _ => None,
        }
    }
}

impl Sasl {
    /// A user by SCRAM-SHA-512, which shows the password to nobody.
    pub fn scram(user: impl Into<String>, password: impl Into<String>) -> Self {
        Sasl(Mechanism::Scram512 { user: user.into(), password: password.into() })
    }

    /// [`Sasl::scram`] by SCRAM-SHA-256, for brokers that have no other.
    pub fn scram256(user: impl Into<String>, password: impl Into<String>) -> Self {
        Sasl(Mechanism::Scram256 { user: user.into(), password: password.into() })
    }

    /// A user by PLAIN, which needs [`Builder::tls`].
    pub fn plain(user: impl Into<String>, password: impl Into<String>) -> Self {
        Sasl(Mechanism::Plain { user: user.into(), password: password.into() })
    }

    /// OAUTHBEARER, which needs [`Builder::tls`]. `token` is called for each connection, and again before a
    /// session ends; it may be called concurrently. What it fails with is shown in [`Error::Authentication`].
    pub fn token<F, Fut>(token: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<String, String>> + Send + 'static,
    {
        Sasl(Mechanism::Token(TokenSource(Arc::new(move || Box::pin(token())))))
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sasl({})", self.0.name())
    }
}

/// What producers of a client do; each may have its own.
#[derive(Debug, Clone)]
pub(crate) struct Producing {
    pub(crate) acks: Acks,
    pub(crate) compression: Compression,
    pub(crate) linger: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) buffered_bytes: usize,
    pub(crate) max_record_bytes: usize,
}

impl Default for Producing {
    fn default() -> Self {
        Producing {
            acks: Acks::All,
            compression: Compression::Snappy,
            linger: Duration::from_millis(10),
            delivery_timeout: Duration::from_secs(120), // as Kafka's delivery.timeout.ms
            buffered_bytes: 64 << 20,
            max_record_bytes: 1_000_012, // what a broker takes unless its topic says more
        }
    }
}

impl Producing {
    pub(crate) fn validate(&self) -> Result<()> {
        let wrong = if self.delivery_timeout < Duration::from_secs(1) {
            format!("delivery_timeout({:?}): want 1 s or more", self.delivery_timeout)
        } else if self.buffered_bytes < 1 {
            "buffered_bytes(0): want 1 or more".to_owned()
        } else if !(1024..=MAX_RECORD_BYTES).contains(&self.max_record_bytes) {
            format!("max_record_bytes({}): want 1 KiB to 512 MiB", self.max_record_bytes)
        } else {
            return Ok(());
        };
        Err(Error::Config(wrong))
    }
}

/// All that a client was told.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) brokers: Vec<String>,
    pub(crate) client_id: String,
    pub(crate) transport: Transport,
    pub(crate) tls: Option<Tls>,
    pub(crate) sasl: Option<Sasl>,
    pub(crate) request_timeout: Duration,
    pub(crate) create_topics: bool,
    pub(crate) producing: Producing,
    pub(crate) transactional_id: Option<String>,
    pub(crate) transaction_timeout: Duration,
    pub(crate) breaker: Option<(u32, Duration)>,
}

/// Makes a [`Client`]. Nothing has to be set to reach `rustmq serve` on this machine.
#[derive(Debug, Clone)]
#[must_use = "a client is made by build()"]
pub struct Builder {
    config: Config,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder {
            config: Config {
                brokers: Vec::new(),
                client_id: "rustmq-rust".to_owned(),
                transport: Transport::Auto,
                tls: None,
                sasl: None,
                request_timeout: Duration::from_secs(30),
                create_topics: false,
                producing: Producing::default(),
                transactional_id: None,
                transaction_timeout: Duration::from_secs(40),
                breaker: None,
            },
        }
    }

    /// Names brokers to start from, host or host:port (9092); the others are learnt from them. Default:
    /// 127.0.0.1:9092.
    pub fn brokers<I>(mut self, addresses: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.config.brokers.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// The name that brokers know this client by, in logs and quotas; default "rustmq-rust".
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.config.client_id = id.into();
        self
    }

    /// Says over what brokers are reached; default [`Transport::Auto`].
    pub fn transport(mut self, transport: Transport) -> Self {
        self.config.transport = transport;
        self
    }

    /// Encrypts connections.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// Authenticates by SASL.
    pub fn sasl(mut self, sasl: Sasl) -> Self {
        self.config.sasl = Some(sasl);
        self
    }

    /// Bounds how long one request may wait for its answer; default 30 s, at least 100 ms.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// Has brokers create a topic that is produced to or consumed and is not there, where they are configured to.
    pub fn topic_creation(mut self) -> Self {
        self.config.create_topics = true;
        self
    }

    /// Says who has to have a record. Other than [`Acks::All`], the default, gives up idempotence: a record may be
    /// there twice, or be lost.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.config.producing.acks = acks;
        self
    }

    /// How batches are compressed; default snappy.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.producing.compression = compression;
        self
    }

    /// How long a record may wait for others of its partition, to be sent with them; default 10 ms, 0: not at all.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.config.producing.linger = linger;
        self
    }

    /// Bounds how long a record may take to its result, retries included; default 2 minutes, at least 1 s. What
    /// timed out may have been written. Transactions do not time out by record, but as a whole.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.config.producing.delivery_timeout = timeout;
        self
    }

    /// Bounds the bytes of records that wait for their result; default 64 MiB. Beyond it sending waits.
    pub fn buffered_bytes(mut self, bytes: usize) -> Self {
        self.config.producing.buffered_bytes = bytes;
        self
    }

    /// Bounds a record, and a batch of them before compression; default 1,000,012, 1 KiB to 512 MiB. The topic's
    /// `max.message.bytes` has to allow as much.
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.config.producing.max_record_bytes = bytes;
        self
    }

    /// Names the producer of [`Client::transact`] across restarts: of two with one name the older is fenced.
    /// `timeout` is how long a transaction may be open before the broker aborts it; zero: 40 s.
    pub fn transactional_id(mut self, id: impl Into<String>, timeout: Duration) -> Self {
        self.config.transactional_id = Some(id.into());
        if !timeout.is_zero() {
            self.config.transaction_timeout = timeout;
        }
        self
    }

    /// Refuses records while none can be delivered: after `failures` deliveries in a row that failed, at least 1, they
    /// fail at once with [`Error::BreakerOpen`]; after `cooldown` (zero: 5 s) one may try. Records that are refused for
    /// what they are do not count.
    pub fn circuit_breaker(mut self, failures: u32, cooldown: Duration) -> Self {
        let cooldown = if cooldown.is_zero() { Duration::from_secs(5) } else { cooldown };
        self.config.breaker = Some((failures, cooldown));
        self
    }

    /// Makes the client. It dials nobody yet: see [`Client::ping`].
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where settings do not go together, or a file of [`Tls`] cannot be read.
    pub async fn build(self) -> Result<Client> {
        Client::new(self.validate()?).await
    }

    fn validate(self) -> Result<Config> {
        let mut c = self.config;
        if c.brokers.is_empty() {
            c.brokers.push(DEFAULT_BROKER.to_owned());
        }
        for address in &mut c.brokers {
            *address = with_port(address)?;
        }
        c.producing.validate()?;
        if c.transactional_id.as_deref() == Some("") {
            return Err(Error::Config("transactional_id: the id is empty".to_owned()));
        }
        if c.breaker.is_some_and(|(failures, _)| failures == 0) {
            return Err(Error::Config("circuit_breaker(0): want 1 failure or more".to_owned()));
        }
        if c.request_timeout < Duration::from_millis(100) {
            return Err(Error::Config(format!("request_timeout({:?}): want 100 ms or more", c.request_timeout)));
        }
        if c.tls.is_none() && c.transport == Transport::Quic {
            return Err(Error::Config(
                "QUIC is never in the clear: add tls() with the authority that the brokers' certificates are of".into(),
            ));
        }
        let clear = c.tls.as_ref().is_none_or(|t| t.quic_only && c.transport != Transport::Quic);
        if let Some(shown) = c.sasl.as_ref().and_then(|s| s.0.shown()).filter(|_| clear) {
            return Err(Error::Config(format!(
                "{shown} is shown to the broker, and to whoever listens: add tls(), or authenticate by SCRAM"
            )));
        }
        Ok(c)
    }
}

/// host, host:port, [v6] or [v6]:port as host:port.
fn with_port(address: &str) -> Result<String> {
    let a = address.trim();
    if a.is_empty() {
        return Err(Error::Config("brokers: an address is empty; want host:port".to_owned()));
    }
    if a.starts_with('[') {
        return match a.rsplit_once("]:") {
            Some(_) => Ok(a.to_owned()),
            None => Ok(format!("{a}:{DEFAULT_PORT}")),
        };
    }
    Ok(match a.matches(':').count() {
        0 => format!("{a}:{DEFAULT_PORT}"),
        1 => a.to_owned(),
        _ => format!("[{a}]:{DEFAULT_PORT}"), // IPv6 without brackets has no port
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(b: Builder) -> String {
        b.validate().expect_err("refused").to_string()
    }

    #[test]
    fn an_address_gets_the_default_port() {
        for (given, want) in [
            ("broker", "broker:9092"),
            ("broker:1", "broker:1"),
            ("[::1]:7", "[::1]:7"),
            ("[::1]", "[::1]:9092"),
            ("::1", "[::1]:9092"),
        ] {
            assert_eq!(with_port(given).unwrap(), want);
        }
        assert!(with_port(" ").is_err());
    }

    #[test]
    fn secrets_are_never_sent_in_the_clear() {
        assert!(refused(Builder::new().sasl(Sasl::plain("u", "p"))).contains("password of PLAIN"));
        assert!(refused(Builder::new().sasl(Sasl::token(|| async { Ok(String::new()) }))).contains("token"));
        let quic_only = Builder::new().tls(Tls::new().quic_only()).sasl(Sasl::plain("u", "p"));
        assert!(refused(quic_only.clone()).contains("password"));
        assert!(quic_only.transport(Transport::Quic).validate().is_ok());
        assert!(Builder::new().sasl(Sasl::scram("u", "p")).validate().is_ok());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert!(refused(Builder::new().transport(Transport::Quic)).contains("never in the clear"));
        assert!(refused(Builder::new().delivery_timeout(Duration::from_millis(1))).contains("1 s"));
        assert!(refused(Builder::new().buffered_bytes(0)).contains("1 or more"));
        assert!(refused(Builder::new().max_record_bytes(10)).contains("1 KiB"));
        assert!(refused(Builder::new().circuit_breaker(0, Duration::ZERO)).contains("1 failure"));
        assert!(refused(Builder::new().transactional_id("", Duration::ZERO)).contains("empty"));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(format!("{:?}", Sasl::scram("user", "secret")), "Sasl(SCRAM-SHA-512)");
    }
}
