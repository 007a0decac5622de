//! Which partition a record goes to.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Bytes of records without a key that go to one partition before the next is taken.
const STICKY_BYTES: usize = 64 << 10;

/// Where a key goes: where Kafka's Java client sends it.
pub(super) fn by_key(key: &[u8], partitions: usize) -> usize {
    let hash = murmur2(key) & 0x7fff_ffff;
    hash as usize % partitions
}

/// Murmur2 with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for w in &mut words {
        let mut k = u32::from_le_bytes([w[0], w[1], w[2], w[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, b) in rest.iter().enumerate() {
            h ^= u32::from(*b) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// Where records without a key go: to one partition until it has had its share, so that batches fill.
#[derive(Debug)]
pub(super) struct Sticky {
    current: AtomicUsize,
    bytes: AtomicUsize,
    random: AtomicU32,
}

impl Sticky {
    /// `seed` spreads producers.
    pub(super) fn new(seed: u32) -> Self {
        Sticky {
            current: AtomicUsize::new(seed as usize),
            bytes: AtomicUsize::new(0),
            random: AtomicU32::new(seed | 1),
        }
    }

    /// The partition of a record of so many bytes; concurrent calls may overrun the share by a record each.
    pub(super) fn next(&self, bytes: usize, partitions: usize) -> usize {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= STICKY_BYTES {
            self.bytes.store(0, Ordering::Relaxed);
            let mut x = self.random.load(Ordering::Relaxed); // xorshift32
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            self.random.store(x, Ordering::Relaxed);
            let was = self.current.load(Ordering::Relaxed) % partitions;
            let by = if partitions > 1 { 1 + x as usize % (partitions - 1) } else { 0 };
            self.current.store((was + by) % partitions, Ordering::Relaxed);
            return was;
        }
        self.current.load(Ordering::Relaxed) % partitions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of Kafka's own test (UtilsTest.testMurmur2).
    #[test]
    fn keys_go_where_the_java_client_sends_them() {
        for (key, want) in [
            ("21", -973932308i32),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, want, "{key}");
        }
    }

    #[test]
    fn records_without_a_key_stay_together_and_reach_every_partition() {
        let sticky = Sticky::new(7);
        let mut seen = [0usize; 4];
        let mut changes = 0;
        let mut last = sticky.next(0, 4);
        for _ in 0..64_000 {
            let p = sticky.next(1 << 10, 4);
            changes += usize::from(p != last);
            last = p;
            seen[p] += 1;
        }
        assert!(seen.iter().all(|n| *n > 8_000), "{seen:?}");
        assert!((900..=1001).contains(&changes), "{changes}");
    }
}
