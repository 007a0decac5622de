//! Views of a batch, where the host has laid it.

/// Bytes of a batch's head, of a record's entry, of a header's entry.
const HEAD: usize = 32;
pub(crate) const ENTRY: usize = 48;
const HEADER: usize = 16;

const TRANSACTIONAL: u32 = 1;
const DRY_RUN: u32 = 2;
const ASYNC: u32 = 4;

/// Memory that the host has filled: `bytes` lie at address `base`. What the host lays is right,
/// or the host is broken: addresses outside panic.
#[derive(Clone, Copy)]
struct Memory<'a> {
    bytes: &'a [u8],
    base: u32,
}

impl<'a> Memory<'a> {
    fn slice(&self, address: u32, length: usize) -> &'a [u8] {
        if length == 0 {
            return &[];
        }
        let start = address.wrapping_sub(self.base) as usize;
        &self.bytes[start..][..length]
    }

    fn nullable(&self, address: u32, length: i32) -> Option<&'a [u8]> {
        if length < 0 {
            return None;
        }
        Some(self.slice(address, length as usize))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut b = [0; 4];
    b.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(b)
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let mut b = [0; 8];
    b.copy_from_slice(&bytes[at..at + 8]);
    i64::from_le_bytes(b)
}

/// Records of one partition that pass together.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    memory: Memory<'a>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(bytes: &'a [u8], base: u32) -> Batch<'a> {
        Batch { memory: Memory { bytes, base } }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        u32_at(self.memory.bytes, 0) as usize
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn flag(&self, bit: u32) -> bool {
        u32_at(self.memory.bytes, 4) & bit != 0
    }

    /// Whether the batch is part of a transaction: such a batch cannot be routed.
    pub fn is_transactional(&self) -> bool {
        self.flag(TRANSACTIONAL)
    }

    /// Whether this is a trial: nothing of it is stored.
    pub fn is_dry_run(&self) -> bool {
        self.flag(DRY_RUN)
    }

    /// Whether records are read from a topic (mode `async`), not on their way into it.
    pub fn is_async(&self) -> bool {
        self.flag(ASYNC)
    }

    /// The batch's largest timestamp, in milliseconds since 1970. It is also what the clock shows.
    pub fn timestamp(&self) -> i64 {
        i64_at(self.memory.bytes, 8)
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        u32_at(self.memory.bytes, 16) as i32
    }

    /// The topic's name.
    pub fn topic(&self) -> &'a str {
        let length = u32_at(self.memory.bytes, 20) as usize;
        let name = self.memory.slice(u32_at(self.memory.bytes, 24), length);
        std::str::from_utf8(name).expect("the name of a topic is text")
    }

    /// The record at `index`, 0 to [`Batch::len`] - 1; panics beyond.
    pub fn record(&self, index: usize) -> Record<'a> {
        assert!(index < self.len(), "record {} of {}", index, self.len());
        let entry = &self.memory.bytes[HEAD + index * ENTRY..][..ENTRY];
        Record { batch: *self, entry }
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + 'a {
        let batch = *self;
        (0..batch.len()).map(move |index| batch.record(index))
    }
}

/// One record of a batch.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    batch: Batch<'a>,
    entry: &'a [u8],
}

impl<'a> Record<'a> {
    /// The batch it lies in.
    pub fn batch(&self) -> Batch<'a> {
        self.batch
    }

    /// Its timestamp, in milliseconds since 1970.
    pub fn timestamp(&self) -> i64 {
        i64_at(self.entry, 0)
    }

    /// Mode `async`: its offset. Inline it has none yet: its index in the batch.
    pub fn offset(&self) -> i64 {
        i64_at(self.entry, 8)
    }

    fn part(&self, at: usize) -> Option<&'a [u8]> {
        let length = u32_at(self.entry, at + 4) as i32;
        self.batch.memory.nullable(u32_at(self.entry, at), length)
    }

    /// Its key; `None`: null.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.part(16)
    }

    /// Its value; `None`: null, which compaction takes for a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.part(24)
    }

    /// Its headers, in order.
    pub fn headers(&self) -> Headers<'a> {
        let count = u32_at(self.entry, 36) as usize;
        Headers { memory: self.batch.memory, rest: self.batch.memory.slice(u32_at(self.entry, 32), count * HEADER) }
    }

    /// The last header of that name, as Kafka's `lastHeader`.
    pub fn header(&self, name: &str) -> Option<Header<'a>> {
        self.headers().filter(|h| h.name == name.as_bytes()).last()
    }
}

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name: UTF-8, if the producer has kept to it.
    pub name: &'a [u8],
    /// Its value; `None`: null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record.
#[derive(Clone)]
pub struct Headers<'a> {
    memory: Memory<'a>,
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (entry, rest) = self.rest.split_at(HEADER);
        self.rest = rest;
        Some(Header {
            name: self.memory.slice(u32_at(entry, 0), u32_at(entry, 4) as usize),
            value: self.memory.nullable(u32_at(entry, 8), u32_at(entry, 12) as i32),
        })
    }
}
