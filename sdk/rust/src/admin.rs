//! Administration.

use crate::client::Client;

/// Administers a cluster.
pub struct Admin {}

impl Admin {
    pub(crate) fn new(client: &Client) -> Self {
        let _ = client;
        Admin {}
    }
}
