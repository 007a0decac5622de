//! Connections by broker and lane, made when they are wanted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::builder::Config;
use crate::cluster::Lane;
use crate::error::{Error, Result};
use crate::sasl;
use crate::transport::{Dialed, Dialer};
use crate::wire::Connection;

/// Connections that live, and those that are being made.
pub(crate) struct Pool {
    dialer: Arc<Dialer>,
    config: Arc<Config>,
    slots: Mutex<HashMap<Lane, HashMap<String, Arc<Slot>>>>,
}

/// One lane to one broker: who finds it empty makes the connection, others wait for that.
#[derive(Default)]
struct Slot {
    ready: Mutex<Option<Connection>>,
    making: tokio::sync::Mutex<()>,
}

impl Slot {
    fn living(&self) -> Option<Connection> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.as_ref().filter(|c| !c.is_dead()).cloned()
    }

    fn close(&self, why: &Error) {
        if let Some(c) = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take() {
            c.close(why.clone());
        }
    }
}

impl Pool {
    pub(crate) fn new(dialer: Arc<Dialer>, config: Arc<Config>) -> Self {
        Pool { dialer, config, slots: Mutex::default() }
    }

    /// The connection of a lane, which is made where there is none that lives.
    pub(crate) async fn get(&self, address: &str, lane: Lane) -> Result<Connection> {
        let slot = self.slot(address, lane);
        if let Some(c) = slot.living() {
            return Ok(c);
        }
        let _making = slot.making.lock().await;
        if let Some(c) = slot.living() {
            return Ok(c); // somebody else has made it
        }
        let made = self.connect(address).await?;
        *slot.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(made.clone());
        Ok(made)
    }

    /// The connection of a lane, if there is one that lives.
    pub(crate) fn living(&self, address: &str, lane: Lane) -> Option<Connection> {
        self.slot(address, lane).living()
    }

    fn slot(&self, address: &str, lane: Lane) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let of = slots.entry(lane).or_default();
        match of.get(address) {
            Some(slot) => slot.clone(),
            None => of.entry(address.to_owned()).or_default().clone(),
        }
    }

    /// Ends the connections of a lane.
    pub(crate) fn release(&self, lane: Lane, why: &Error) {
        let released = self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&lane);
        released.into_iter().flatten().for_each(|(_, slot)| slot.close(why));
    }

    /// Dials, learns what the broker understands, and authenticates.
    async fn connect(&self, address: &str) -> Result<Connection> {
        let dialed = self.dialer.dial(address, true).await?;
        let early = dialed.early;
        let connection = self.serve(address, dialed);
        let connection = match connection.negotiate().await {
            // The broker may have refused what was sent before the handshake was complete; that asked for versions
            // alone, and is asked again.
            Err(_) if early => {
                let again = self.dialer.dial(address, false).await?;
                let connection = self.serve(address, again);
                connection.negotiate().await?;
                connection
            }
            other => other.map(|()| connection)?,
        };
        if let Some(sasl) = &self.config.sasl {
            if let Some(lifetime) = sasl::authenticate(&connection, &sasl.0).await? {
                connection.retire_after(lifetime.mul_f64(0.85)); // Kafka's clients begin anew at 85 to 95 %
            }
        }
        Ok(connection)
    }

    fn serve(&self, address: &str, dialed: Dialed) -> Connection {
        let at = dialed.at();
        let connection = Connection::new(dialed.stream, address, &self.config.client_id, self.config.request_timeout);
        self.dialer.register(address, at, &connection);
        connection
    }

    /// Ends all connections.
    pub(crate) fn close(&self, why: &Error) {
        let all = std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner));
        all.into_values().flatten().for_each(|(_, slot)| slot.close(why));
    }
}
