//! When to try again, and what an error shows to be stale.

use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Request;
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::Code;

const FIRST_PAUSE: Duration = Duration::from_millis(100); // as Kafka's retry.backoff.ms
const LONGEST_PAUSE: Duration = Duration::from_secs(1); // as Kafka's retry.backoff.max.ms

/// Pauses that double, up to a second, each a fifth shorter or longer by chance, so that those who failed together do
/// not come back together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff { next: FIRST_PAUSE }
    }

    /// The pause to make now.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause.mul_f64(0.8 + 0.4 * chance())
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    let mut byte = [0u8; 1];
    match SystemRandom::new().fill(&mut byte) {
        Ok(()) => f64::from(byte[0]) / 255.0,
        Err(_) => 0.5,
    }
}

/// A request's name, for people.
pub(crate) fn what<R: Request>() -> String {
    ApiKey::try_from(R::KEY).map_or_else(|()| format!("request {}", R::KEY), |k| format!("{k:?}"))
}

/// Whether a partition is to be looked for anew.
pub(crate) fn leader_moved(code: Code) -> bool {
    matches!(
        code,
        Code::NotLeaderOrFollower
            | Code::LeaderNotAvailable
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopicId
            | Code::InconsistentTopicId
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::ReplicaNotAvailable
            | Code::KafkaStorageError
            | Code::ListenerNotFound
    )
}

/// Whether a coordinator is to be looked for anew.
pub(crate) fn coordinator_moved(code: Code) -> bool {
    matches!(code, Code::NotCoordinator | Code::CoordinatorNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_no_further() {
        let mut backoff = Backoff::new();
        for want in [100, 200, 400, 800, 1000, 1000, 1000] {
            let pause = backoff.pause().as_millis();
            assert!((want * 8 / 10..=want * 12 / 10).contains(&pause), "{pause} ms, about {want}");
        }
    }
}
