//! Consumers.

use crate::client::Client;

/// Makes a consumer.
pub struct ConsumerBuilder {}

impl ConsumerBuilder {
    pub(crate) fn new(client: &Client) -> Self {
        let _ = client;
        ConsumerBuilder {}
    }
}
