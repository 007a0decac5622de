//! Who coordinates a group or a transactional id.

use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::StrBytes;

use crate::cluster::{CallOptions, Cluster, Coordinator, To};
use crate::error::{Code, Error, Result};

impl Cluster {
    /// The broker that coordinates, cached until it is invalidated.
    pub(crate) async fn coordinator(&self, kind: Coordinator, key: &str) -> Result<i32> {
        if let Some(broker) = self.lock().coordinators.get(&(kind, key.to_owned())) {
            return Ok(*broker);
        }
        let key_type = match kind {
            Coordinator::Group => 0,
            Coordinator::Transaction => 1,
        };
        let name = StrBytes::from_string(key.to_owned());
        let make = |version| {
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            match version {
                ..4 => request.with_key(name.clone()),
                _ => request.with_coordinator_keys(vec![name.clone()]),
            }
        };
        let once = CallOptions { attempts: 1, ..CallOptions::default() };
        // Boxed, as a call may ask for a coordinator, which is a call.
        let answer = Box::pin(self.call(To::Any, make, once)).await?;
        let (code, broker, host, port) = match answer.coordinators.first() {
            Some(c) => (c.error_code, c.node_id.0, &c.host, c.port),
            None => (answer.error_code, answer.node_id.0, &answer.host, answer.port),
        };
        if let Some(code) = Code::try_from_code(code) {
            return Err(Error::broker(format!("find who coordinates {key}"), code));
        }
        self.heard_of(broker, &format!("{host}:{port}"));
        self.lock().coordinators.insert((kind, key.to_owned()), broker);
        Ok(broker)
    }
}
