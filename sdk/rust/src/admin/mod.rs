//! Administration: topics, groups and ACLs by Kafka's protocol, the cluster and its transforms by the
//! admin API (feature `admin-api`).

mod acls;
mod groups;
mod offsets;
#[cfg(feature = "admin-api")]
mod rest;
mod topics;
#[cfg(feature = "admin-api")]
mod transforms;

use kafka_protocol::protocol::StrBytes;

pub use acls::Acl;
pub use groups::Group;
#[cfg(feature = "admin-api")]
pub use rest::{AdminApi, ClusterInfo, Node, Problem};
pub use topics::{Broker, NewTopic, PartitionInfo, Topic};
#[cfg(feature = "admin-api")]
pub use transforms::{Deployment, Module, ModuleVersion};

use crate::client::Client;
use crate::error::{Code, Error};

/// Administers a cluster. It is cheap to clone.
///
/// ```no_run
/// # async fn example() -> Result<(), rustmq::Error> {
/// use rustmq::{Client, NewTopic};
/// let client = Client::builder().brokers(["127.0.0.1:9092"]).build().await?;
/// let admin = client.admin();
/// admin.ensure_topic(NewTopic::new("quakes").partitions(3).config("retention.ms", "86400000")).await?;
/// for group in admin.groups(&[]).await? {
///     println!("{} is {} records behind", group.name, group.lag);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) fn new(client: &Client) -> Self {
        Admin { client: client.clone() }
    }
}

/// An error of a broker's, with its words.
fn refused(what: impl Into<String>, code: Code, message: Option<StrBytes>) -> Error {
    let message = message.map(|m| m.to_string()).filter(|m| !m.is_empty());
    Error::Broker { what: what.into(), code, message }
}
