//! Circuit breaker: what cannot be delivered fails at once, and not each record after the whole delivery time-out.

use std::time::Duration;

use tokio::time::Instant;

/// What a circuit breaker does with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BreakerState {
    /// Records pass.
    #[default]
    Closed,
    /// Records are refused with [`Error::BreakerOpen`](crate::Error::BreakerOpen).
    Open,
    /// One record passes, and decides.
    HalfOpen,
}

/// Outcome of deliveries, as a breaker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    Yes,
    No,
    /// Refused for what the records are, or taken back: it says nothing of brokers.
    Neither,
}

/// Decides. It has no clock and no task: what is due is done by the next call.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// How many deliveries in a row have to fail before it opens; `None`: it never does.
    failures: Option<u32>,
    cooldown: Duration,
    state: BreakerState,
    failed: u32,
    until: Option<Instant>, // of an open one
    probing: bool,          // a half-open one has let its record pass
}

impl Breaker {
    pub(crate) fn new(settings: Option<(u32, Duration)>) -> Self {
        let (failures, cooldown) = settings.unzip();
        Breaker {
            failures,
            cooldown: cooldown.unwrap_or_default(),
            state: BreakerState::Closed,
            failed: 0,
            until: None,
            probing: false,
        }
    }

    /// Whether a record may be produced now.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        match self.state {
            BreakerState::Closed => true,
            BreakerState::Open if self.until.is_some_and(|at| now < at) => false,
            BreakerState::HalfOpen if self.probing => false,
            _ => {
                (self.state, self.probing) = (BreakerState::HalfOpen, true);
                true
            }
        }
    }

    /// Notes the outcome of so many deliveries.
    pub(crate) fn done(&mut self, outcome: Delivered, n: u32, now: Instant) {
        match outcome {
            Delivered::Yes => (self.state, self.failed, self.probing) = (BreakerState::Closed, 0, false),
            Delivered::No => {
                self.failed = self.failed.saturating_add(n);
                if self.failures.is_some_and(|most| self.failed >= most) {
                    (self.state, self.probing) = (BreakerState::Open, false);
                    self.until = Some(now + self.cooldown);
                }
            }
            Delivered::Neither => self.probing = false,
        }
    }

    /// What it does now, and how many deliveries have failed in a row.
    pub(crate) fn view(&self, now: Instant) -> (BreakerState, u32) {
        match self.state {
            BreakerState::Open if self.until.is_none_or(|at| now >= at) => (BreakerState::HalfOpen, self.failed),
            state => (state, self.failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(5);

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_record_decides_after_its_cooldown() {
        let mut now = Instant::now();
        let mut b = Breaker::new(Some((3, COOLDOWN)));
        b.done(Delivered::No, 2, now);
        b.done(Delivered::Yes, 1, now);
        b.done(Delivered::No, 2, now);
        assert!(b.allow(now), "not in a row");
        b.done(Delivered::No, 1, now);
        assert!(!b.allow(now));
        assert_eq!(b.view(now).0, BreakerState::Open);
        now += COOLDOWN;
        assert_eq!(b.view(now), (BreakerState::HalfOpen, 3));
        assert!(b.allow(now));
        assert!(!b.allow(now), "one alone");
        b.done(Delivered::No, 1, now);
        assert!(!b.allow(now));
        now += COOLDOWN;
        assert!(b.allow(now));
        b.done(Delivered::Yes, 1, now);
        assert!(b.allow(now) && b.allow(now));
        assert_eq!(b.view(now), (BreakerState::Closed, 0));
    }

    #[test]
    fn what_says_nothing_of_brokers_lets_another_try() {
        let mut now = Instant::now();
        let mut b = Breaker::new(Some((1, COOLDOWN)));
        b.done(Delivered::No, 1, now);
        now += COOLDOWN;
        assert!(b.allow(now));
        b.done(Delivered::Neither, 1, now);
        assert!(b.allow(now));
    }

    #[test]
    fn without_a_bound_it_only_counts() {
        let now = Instant::now();
        let mut b = Breaker::new(None);
        b.done(Delivered::No, 1_000, now);
        assert!(b.allow(now));
        assert_eq!(b.view(now), (BreakerState::Closed, 1_000));
    }
}
