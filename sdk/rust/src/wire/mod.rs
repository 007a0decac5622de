//! Kafka's protocol on one connection: frames, versions, and who waits for which answer.
//!
//! Nothing that a broker sends makes this panic, or allocate more than the frame that it came in is long, times the
//! size of what an element of an array is in memory: frames are bounded, and the lengths within them are held
//! against what is left of the frame before they are believed ([`guard`]).

mod connection;
#[cfg(test)]
pub(crate) mod fake;
mod guard;
mod versions;

pub(crate) use connection::{Connection, Reply};
pub(crate) use guard::decode;
pub(crate) use versions::Versions;
