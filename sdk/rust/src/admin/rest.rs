//! The admin API: HTTP with JSON, under `/api/v1`.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::builder::Tls;
use crate::error::{Error, Result};
use crate::transport::client_config;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer.
const LARGEST_ANSWER: usize = 64 << 20;

type Token = dyn Fn() -> BoxFuture<'static, Result<String>> + Send + Sync;

/// The admin API of a rustmq cluster, with which all is administered that Kafka's protocol does not
/// know. It is cheap to clone; feature `admin-api`.
///
/// ```no_run
/// # async fn example() -> Result<(), rustmq::Error> {
/// use rustmq::AdminApi;
/// let api = AdminApi::new("http://127.0.0.1:9642")?;
/// for problem in api.cluster_health().await? {
///     println!("{}; {}", problem.what, problem.help);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AdminApi {
    url: String,
    http: reqwest::Client,
    token: Option<Arc<Token>>,
}

/// A cluster as the admin API describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ClusterInfo {
    /// Its id.
    #[serde(rename = "cluster_id")]
    pub id: String,
    /// The node that leads; -1: none is known.
    pub controller: i32,
    /// Version of the process that answers.
    pub version: String,
    /// Its processes.
    #[serde(default, deserialize_with = "or_empty")]
    pub nodes: Vec<Node>,
    /// How many topics there are.
    pub topics: u64,
    /// How many partitions they have.
    pub partitions: u64,
}

/// A process of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Node {
    /// Its id.
    pub id: i32,
    /// What it does: broker, controller, admin.
    #[serde(default, deserialize_with = "or_empty")]
    pub roles: Vec<String>,
    /// Where it stands; often empty.
    #[serde(default)]
    pub rack: String,
    /// Of its broker: serving, fenced or draining.
    #[serde(default)]
    pub state: String,
}

/// One thing that is wrong with a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// Its kind, in a word.
    pub kind: String,
    /// What is wrong, and what follows.
    pub what: String,
    /// What helps.
    #[serde(rename = "do", default)]
    pub help: String,
    /// Which partitions suffer.
    #[serde(default, deserialize_with = "or_empty")]
    pub partitions: Vec<String>,
}

/// Reads null as nothing.
pub(super) fn or_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What an answer says that says no.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    detail: String,
}

/// The host and port of a URL by which the network sees what is sent; `None`: it is by TLS, or stays on this machine.
fn shown(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    let host = url.host_str()?;
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let stays = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    (url.scheme() != "https" && !stays).then(|| url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")))
}

impl AdminApi {
    /// Names the admin API: `http://host:9642`, or `https` where the cluster asks who calls; the system's authorities
    /// are trusted.
    ///
    /// # Errors
    ///
    /// [`Error::Config`].
    pub fn new(url: impl Into<String>) -> Result<Self> {
        AdminApi::with_tls(url, &Tls::new())
    }

    /// [`AdminApi::new`] with authorities to trust and a certificate of its own; the files are read once.
    ///
    /// # Errors
    ///
    /// [`Error::Config`].
    pub fn with_tls(url: impl Into<String>, tls: &Tls) -> Result<Self> {
        let url = url.into();
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if host.is_none_or(str::is_empty) {
            return Err(Error::Config(format!("the admin API is {url:?}: want http://host:port or https://host:port")));
        }
        let http = reqwest::Client::builder().timeout(TIMEOUT).use_preconfigured_tls(client_config(tls)?).build();
        let http = http.map_err(|err| Error::Config(format!("the admin API: {err}")))?;
        Ok(AdminApi { url: url.trim_end_matches('/').to_owned(), http, token: None })
    }

    /// Has a token be asked for with each call: one of `rustmq admin tokens`, or of the identity provider.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the network would see it: by `http`, but for this machine's own addresses.
    pub fn token<F, Fut>(mut self, token: F) -> Result<Self>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String>> + Send + 'static,
    {
        if let Some(host) = shown(&self.url) {
            return Err(Error::Config(format!(
                "the admin API is {}: a token would be shown to the network: write https://{host}",
                self.url
            )));
        }
        self.token = Some(Arc::new(move || Box::pin(token())));
        Ok(self)
    }

    /// Calls the API: `GET`, `POST` and others of a path under `/api/v1`, with `body` as JSON unless it is `None`. What has no
    /// method here is reached by it; `docs/admin-authorisation.md` lists the calls. An empty answer is read as
    /// `null`.
    ///
    /// # Errors
    ///
    /// [`Error::Api`] for what is refused, [`Error::Network`], [`Error::Malformed`].
    pub async fn call<In: Serialize + Sync, Out: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&In>,
    ) -> Result<Out> {
        let body = match body {
            None => None,
            Some(body) => {
                Some(serde_json::to_vec(body).map_err(|err| Error::Config(format!("{method} {path}: {err}")))?)
            }
        };
        self.send(method, path, "application/json", body).await
    }

    /// [`AdminApi::call`] without a body.
    pub(super) async fn get<Out: DeserializeOwned>(&self, path: &str) -> Result<Out> {
        self.send("GET", path, "", None).await
    }

    /// [`AdminApi::call`] with a body of any type.
    pub(super) async fn send<Out: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Out> {
        let what = format!("{method} {path}");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| Error::Config(format!("{what}: there is no such method")))?;
        let mut request = self.http.request(method, format!("{}/api/v1{path}", self.url));
        if let Some(body) = body {
            request = request.header("content-type", kind).body(body);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token().await?);
        }
        let network = |err: reqwest::Error| Error::network(&self.url, io::Error::other(err));
        let mut answer = request.send().await.map_err(network)?;
        let status = answer.status();
        let mut read = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(network)? {
            if read.len() + part.len() > LARGEST_ANSWER {
                return Err(Error::malformed(what, format!("it is larger than {LARGEST_ANSWER} bytes")));
            }
            read.extend_from_slice(&part);
        }
        if status.is_client_error() || status.is_server_error() {
            let said: Refusal = serde_json::from_slice(&read).unwrap_or_default();
            let detail = if said.detail.is_empty() {
                status.canonical_reason().unwrap_or_default().to_owned()
            } else {
                said.detail
            };
            return Err(Error::Api { status: status.as_u16(), detail });
        }
        let read = if read.is_empty() { b"null".to_vec() } else { read };
        serde_json::from_slice(&read)
            .map_err(|err| Error::malformed(what, format!("{err}; is {} a rustmq admin address?", self.url)))
    }

    /// Describes the cluster.
    ///
    /// # Errors
    ///
    /// As [`AdminApi::call`].
    pub async fn cluster(&self) -> Result<ClusterInfo> {
        self.get("/cluster").await
    }

    /// Tells what is wrong with the cluster; nothing: it is well.
    ///
    /// # Errors
    ///
    /// As [`AdminApi::call`].
    pub async fn cluster_health(&self) -> Result<Vec<Problem>> {
        #[derive(Deserialize)]
        struct Health {
            #[serde(default, deserialize_with = "or_empty")]
            problems: Vec<Problem>,
        }
        Ok(self.get::<Health>("/cluster/health").await?.problems)
    }

    /// Takes leaderships away from a broker, and gives it none; `false` undoes it.
    ///
    /// # Errors
    ///
    /// As [`AdminApi::call`].
    pub async fn drain_broker(&self, id: i32, draining: bool) -> Result<()> {
        let body = serde_json::json!({ "draining": draining });
        self.call::<_, serde_json::Value>("POST", &format!("/brokers/{id}/drain"), Some(&body)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_not_shown_to_the_network() {
        let with = |url: &str| AdminApi::new(url).unwrap().token(|| async { Ok("secret".to_owned()) });
        for fine in ["https://broker:9642", "http://localhost:9642", "http://127.0.0.2:9642", "http://[::1]:9642"] {
            assert!(with(fine).is_ok(), "{fine}");
        }
        for shown in ["http://broker:9642", "http://10.0.0.1", "http://[fd00::1]:9642", "http://localhost.example"] {
            let refused = with(shown).err().map(|err| err.to_string()).unwrap_or_default();
            assert!(refused.contains(&shown.replace("http", "https")), "{shown}: {refused}");
        }
    }
}
