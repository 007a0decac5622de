//! Over what one broker is dialled: a core that has no clock, connection or task of its own. Events come in with
//! their time.
//!
//! Between two changes that measurements bring about lies [`DWELL`], and [`CONFIRM`] samples that all spoke for the
//! change, but for the first, which corrects a guess. QUIC is not used before `blocked_until`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Via;
use super::limits::*;

/// What was measured of the way to a broker in one tick.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    /// `None`: nobody has measured it.
    pub(super) rtt: Option<Duration>,
    /// Packets since the sample before.
    pub(super) sent: u64,
    pub(super) lost: u64,
}

/// How to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// `None`: both at once.
    pub(super) first: Option<Via>,
    /// Before the other is tried too; `None`: only when the first fails.
    pub(super) head: Option<Duration>,
}

/// Why a transport is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Why {
    #[default]
    Unknown,
    Near,
    Slow,
    Far,
    Loss,
    Moved,
    Blocked,
}

impl Why {
    /// For people.
    pub(super) fn text(self) -> &'static str {
        match self {
            Why::Unknown => "nothing is measured yet",
            Why::Near => "the broker is near: TCP costs less a byte",
            Why::Slow => "TCP has connected sooner",
            Why::Far => "the round trip is long: QUIC saves some",
            Why::Loss => "packets are lost: QUIC holds up one stream alone",
            Why::Moved => "this machine's address has changed: QUIC keeps its connections",
            Why::Blocked => "QUIC does not get through",
        }
    }
}

/// The choice for one broker.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) using: Option<Via>, // of new connections; None: nothing is known yet
    pub(super) why: Why,
    since: Option<Instant>,
    guessed: bool, // using comes of a race alone
    samples: VecDeque<Sample>,
    evidence: u32, // samples in a row that speak for the other
    blocked_until: Option<Instant>,
    pause: Duration,
    proved_since: Option<Instant>, // QUIC has worked since
    moved_until: Option<Instant>,
    next_probe: Option<Instant>,
    probe_pause: Duration,
}

impl Choice {
    /// How to dial at a time.
    pub(super) fn plan(&self, now: Instant) -> Plan {
        match self.using {
            _ if self.blocked(now) => Plan { first: Some(Via::Tcp), head: None },
            None => Plan { first: None, head: None },
            using => {
                let head = HEAD.max(self.rtt().unwrap_or_default() * HEAD_TRIPS);
                Plan { first: using, head: Some(head) }
            }
        }
    }

    fn blocked(&self, now: Instant) -> bool {
        self.blocked_until.is_some_and(|until| now < until)
    }

    /// The shortest round trip in the window: what a busy machine or a full queue adds is no distance.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.samples.iter().filter_map(|s| s.rtt).min()
    }

    /// The part of packets that were lost in the window, 0..1; `None`: too few were sent to say.
    fn loss(&self) -> Option<f64> {
        let (sent, lost) = self.samples.iter().fold((0, 0), |(s, l), x| (s + x.sent, l + x.lost));
        (sent >= ENOUGH).then(|| (lost as f64 / sent as f64).min(1.0))
    }

    /// What the measurements speak for; `None`: for nothing.
    fn verdict(&self, now: Instant) -> Option<(Via, Why)> {
        let rtt = self.rtt();
        let lossy = if self.using == Some(Via::Quic) { CLEAN } else { LOSSY };
        let suffers = rtt.is_some_and(|r| r >= LOSS_COUNTS) && self.loss().is_some_and(|l| l >= lossy);
        if self.blocked(now) {
            return Some((Via::Tcp, Why::Blocked));
        }
        if self.moved_until.is_some_and(|until| now < until) {
            return Some((Via::Quic, Why::Moved));
        }
        if suffers {
            return Some((Via::Quic, Why::Loss));
        }
        let rtt = rtt?;
        if rtt >= FAR || self.using == Some(Via::Quic) && rtt > NEAR {
            return Some((Via::Quic, Why::Far));
        }
        Some((Via::Tcp, Why::Near))
    }

    /// Notes that a handshake over QUIC is complete, and the round trip it took.
    pub(super) fn connected(&mut self, now: Instant, rtt: Option<Duration>) {
        self.blocked_until = None;
        self.proved_since.get_or_insert(now);
        if rtt.is_some() {
            self.push(Sample { rtt, ..Sample::default() });
        }
        if self.using.is_none() || self.why == Why::Blocked {
            if let Some((using, why)) = self.verdict(now) {
                self.set(now, using, why);
                self.guessed = true;
            }
        }
    }

    /// Notes that TCP has won against a broker of which nothing was known.
    pub(super) fn raced(&mut self, now: Instant, why: Why) {
        if self.using.is_none() {
            self.set(now, Via::Tcp, why);
            self.guessed = true;
        }
    }

    fn set(&mut self, now: Instant, using: Via, why: Why) {
        if self.using != Some(using) {
            self.since = Some(now);
        }
        (self.using, self.why, self.evidence, self.guessed) = (Some(using), why, 0, false);
        self.probe_pause = PROBE_FIRST;
        self.next_probe = Some(now + PROBE_FIRST);
    }

    /// Notes that QUIC did not get through, while TCP does.
    pub(super) fn failed(&mut self, now: Instant) {
        if self.blocked(now) {
            return; // another connection's failure is no second one
        }
        if self.proved_since.take().is_some_and(|since| now.duration_since(since) >= PROVEN) {
            self.pause = Duration::ZERO;
        }
        self.pause = (self.pause * 2).clamp(BLOCKED_FIRST, BLOCKED_MOST);
        let until = now + self.pause;
        self.blocked_until = Some(until);
        self.set(now, Via::Tcp, Why::Blocked);
        self.next_probe = Some(until);
    }

    /// Notes that this machine's address has changed, which is worth QUIC from now on.
    pub(super) fn moved(&mut self, now: Instant) {
        self.moved_until = Some(now + MOVED_FOR);
        self.samples.clear(); // of another way
        self.next_probe = Some(now); // which may let UDP through
    }

    fn push(&mut self, s: Sample) {
        if self.samples.len() == WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(s);
    }

    /// Takes a sample of a tick, and reports whether what is used has changed by it.
    pub(super) fn measured(&mut self, now: Instant, s: Sample) -> bool {
        self.push(s);
        let (Some(current), Some((using, why))) = (self.using, self.verdict(now)) else {
            return false;
        };
        if using == current {
            self.evidence = 0;
            if self.why != Why::Blocked {
                self.why = why;
            }
            self.guessed = self.guessed && self.samples.len() < CONFIRM as usize;
            return false;
        }
        if why == Why::Moved && self.proved_since.is_none() {
            return false; // whether QUIC gets through here is to be seen
        }
        self.evidence += 1;
        let settled = self.since.is_none_or(|since| now.duration_since(since) >= DWELL);
        if self.evidence < CONFIRM || !self.guessed && !settled {
            return false;
        }
        self.set(now, using, why);
        true
    }

    /// Whether the way is to be measured over QUIC now, which is not used; notes that it is.
    pub(super) fn probe(&mut self, now: Instant) -> bool {
        if self.using != Some(Via::Tcp) || self.next_probe.is_none_or(|at| now < at) {
            return false;
        }
        self.probe_pause = (self.probe_pause * 2).min(PROBE_MOST);
        self.next_probe = Some(now + self.probe_pause);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trip(ms: u64) -> Sample {
        Sample { rtt: Some(Duration::from_millis(ms)), ..Sample::default() }
    }

    /// A choice by a race whose handshake over QUIC took so long.
    fn chosen(now: Instant, ms: u64) -> Choice {
        let mut c = Choice::default();
        c.connected(now, Some(Duration::from_millis(ms)));
        c
    }

    #[test]
    fn an_unknown_broker_is_dialled_over_both() {
        assert_eq!(Choice::default().plan(Instant::now()), Plan { first: None, head: None });
    }

    #[test]
    fn the_round_trip_decides() {
        let now = Instant::now();
        for (ms, want) in [(0, Via::Tcp), (2, Via::Tcp), (5, Via::Quic), (25, Via::Quic)] {
            assert_eq!(chosen(now, ms).using, Some(want), "{ms} ms");
        }
    }

    #[test]
    fn a_guess_is_corrected_after_five_samples_and_what_was_measured_after_half_a_minute() {
        let mut now = Instant::now();
        let mut c = Choice::default();
        c.raced(now, Why::Slow);
        for i in 1..=CONFIRM {
            now += TICK;
            assert_eq!(c.measured(now, trip(30)), i == CONFIRM, "sample {i}");
        }
        assert_eq!(c.using, Some(Via::Quic));
        let changed = now;
        while !c.measured(now, trip(1)) {
            now += TICK;
        }
        assert!(now.duration_since(changed) >= DWELL, "{:?}", now.duration_since(changed));
        assert_eq!(c.using, Some(Via::Tcp));
    }

    #[test]
    fn loss_counts_where_the_round_trip_is_long_enough() {
        let mut now = Instant::now();
        for (ms, want) in [(3, Via::Quic), (0, Via::Tcp)] {
            let mut c = chosen(now, 1);
            for _ in 0..60 {
                now += TICK;
                let s = Sample { rtt: Some(Duration::from_millis(ms)), sent: 1000, lost: 10 };
                c.measured(now, s);
            }
            // The first sample of the handshake leaves the window.
            assert_eq!(c.using, Some(want), "{ms} ms");
        }
    }

    #[test]
    fn where_udp_is_blocked_tcp_is_used_and_quic_tried_after_longer_and_longer_pauses() {
        let mut now = Instant::now();
        let mut c = chosen(now, 30);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            c.failed(now);
            assert_eq!(c.plan(now), Plan { first: Some(Via::Tcp), head: None });
            let began = now;
            while !c.probe(now) {
                now += TICK;
            }
            pauses.push(now.duration_since(began).as_secs());
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 600, 600]);
        c.connected(now, Some(Duration::from_millis(30)));
        assert_eq!(c.using, Some(Via::Quic));
    }

    #[test]
    fn a_machine_that_moves_uses_quic_where_it_gets_through() {
        let mut now = Instant::now();
        for through in [true, false] {
            let mut c = if through { chosen(now, 1) } else { Choice::default() };
            c.raced(now, Why::Near);
            now += DWELL;
            c.moved(now);
            for _ in 0..CONFIRM {
                c.measured(now, trip(1));
            }
            assert_eq!(c.using == Some(Via::Quic), through);
        }
    }
}
