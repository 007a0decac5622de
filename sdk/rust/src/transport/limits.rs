//! What decides between QUIC and TCP, and how often is measured. The figures are those of the Go client.

use std::time::Duration;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

// A round trip of FAR or more is worth QUIC, one of NEAR or less is not: within a region and its zones it is below
// 2 ms, between regions above 5. In between stays what is.
pub(super) const NEAR: Duration = ms(2);
pub(super) const FAR: Duration = ms(5);

// Loss of LOSSY or more is worth QUIC, until it is less than CLEAN, where a round trip is LOSS_COUNTS or more: below
// that a sender waits less for a lost packet than for its processor, and loss is what a full socket dropped.
pub(super) const LOSSY: f64 = 0.005;
pub(super) const CLEAN: f64 = 0.001;
pub(super) const LOSS_COUNTS: Duration = ms(1);
pub(super) const ENOUGH: u64 = 500; // packets in the window, before loss says anything

/// How long a machine whose address has changed is taken for one that moves.
pub(super) const MOVED_FOR: Duration = secs(600);

pub(super) const TICK: Duration = secs(1);
pub(super) const WINDOW: usize = 30; // ticks that are looked at together
pub(super) const CONFIRM: u32 = 5; // ticks in a row that must speak for the other
pub(super) const DWELL: Duration = secs(30); // between two changes of mind

// Where UDP does not get through it is tried again after BLOCKED_FIRST, then twice that, up to BLOCKED_MOST. A
// connection that has lived for PROVEN begins the pauses anew.
pub(super) const BLOCKED_FIRST: Duration = secs(15);
pub(super) const BLOCKED_MOST: Duration = secs(600);
pub(super) const PROVEN: Duration = secs(60);

// While TCP is in use, the way is measured over QUIC after PROBE_FIRST, then twice that, up to PROBE_MOST.
pub(super) const PROBE_FIRST: Duration = secs(60);
pub(super) const PROBE_MOST: Duration = secs(900);

/// How long packets that want an answer may have none, before TCP is tried and, if that connects, QUIC given up. A
/// dead broker answers neither.
pub(super) const SILENCE: Duration = secs(3);

pub(super) const RELOAD_PAUSE: Duration = secs(1); // between two looks at certificates' files at dials
pub(super) const RELOAD_EVERY: u32 = 10; // ticks between those while nobody dials

pub(super) const HANDSHAKE_TIMEOUT: Duration = secs(10);
pub(super) const PROBE_TIMEOUT: Duration = secs(3);

// What the transport in use has before the other is tried too (RFC 8305 §5), at least, and HEAD_TRIPS round trips
// where that is more.
pub(super) const HEAD: Duration = ms(250);
pub(super) const HEAD_TRIPS: u32 = 4;

/// An early connection whose broker has not answered in this time, or in HEAD_TRIPS round trips where that is more, is
/// given up: nothing that it was sent was carried out.
pub(super) const EARLY_TIMEOUT: Duration = secs(1);

/// How long QUIC waits, that has won against an unknown broker, for TCP where the round trip says that TCP should.
pub(super) const COURTESY: Duration = ms(50);

// Of a QUIC connection.
pub(super) const IDLE_TIMEOUT: Duration = secs(15); // without a packet: the broker is gone
pub(super) const KEEP_ALIVE: Duration = secs(5);
pub(super) const STREAM_WINDOW: u32 = 16 << 20; // bytes a broker may send ahead on one stream
pub(super) const CONNECTION_WINDOW: u32 = 64 << 20; // and on all of them
pub(super) const TICKETS: usize = 64; // brokers whose session is remembered
