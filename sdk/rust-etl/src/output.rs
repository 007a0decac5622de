//! What became of the records of a batch, as the guest collects it and the host reads it.

use std::fmt::{self, Write};

/// The longest text of a decision, in bytes: the topic of a route, the reason of a reject.
/// Longer reasons are cut.
pub const MAX_TEXT: usize = 1024;

/// What decisions about a batch may come to, as the host counts: so many times the batch, within these.
const TIMES: usize = 4;
const LEAST: usize = 1 << 20;
const MOST: usize = 64 << 20;

/// What is left for each record that is still to come, so that it can be rejected.
const RESERVE: usize = 128;

/// The reason of who would go beyond, shorter than `RESERVE`.
const TOO_LARGE: &str = "too large: what is made of a batch may come to 4 times its size, or 1 MiB";

/// How many headers the host lets a decision give a record.
const MAX_HEADERS: u32 = 4096;

/// The reason of who would give it more, shorter than `RESERVE` too.
const TOO_MANY_HEADERS: &str = "too many headers: what is made of a record may have 4096";

const KEEP: u32 = 0;
const DROP: u32 = 1;
const ROUTE: u32 = 2;
const REJECT: u32 = 3;

const KEY: u32 = 1;
const VALUE: u32 = 2;
const HEADERS: u32 = 4;

/// A piece of [`Decisions::bytes`]; length -1: null.
#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    length: i32,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    action: u32,
    replaced: u32,
    key: Span,
    value: Span,
    text: Span,
    first_header: u32,
    headers: u32,
}

#[derive(Clone, Copy)]
struct HeaderEntry {
    name: Span,
    value: Span,
}

/// Decisions for the records of a batch. Its memory is kept from batch to batch.
#[derive(Default)]
pub(crate) struct Decisions {
    entries: Vec<Entry>,
    headers: Vec<HeaderEntry>,
    bytes: Vec<u8>,
    /// How many bytes there may be, headers counted too, once this record is decided about.
    limit: usize,
    /// As the host reads it: 5 words a decision, then 2 a header. Words, for they are aligned.
    table: Vec<u64>,
}

impl Decisions {
    /// Forgets what was, and keeps the `count` records of a batch of `size` bytes as they are.
    pub(crate) fn reset(&mut self, count: usize, size: usize) {
        self.limit = (size * TIMES).max(LEAST).min(MOST).saturating_sub(count * RESERVE);
        self.entries.clear();
        self.entries.resize(count, Entry::default());
        self.headers.clear();
        self.bytes.clear();
        self.table.clear();
    }

    /// Has `decide` decide about a record. If that comes to more than the host takes, or has more
    /// headers, the record is rejected in its place, so that it does not fail the batch.
    pub(crate) fn decide(&mut self, index: usize, decide: impl FnOnce(&mut Output<'_>)) {
        let (bytes, headers) = (self.bytes.len(), self.headers.len());
        let mut output = Output { decisions: self, index };
        decide(&mut output);
        let too_many_headers = output.entry().headers > MAX_HEADERS;
        if too_many_headers || output.decisions.used() > output.decisions.limit {
            output.decisions.bytes.truncate(bytes);
            output.decisions.headers.truncate(headers);
            output.reject(if too_many_headers { TOO_MANY_HEADERS } else { TOO_LARGE });
        }
        self.limit += RESERVE;
    }

    fn used(&self) -> usize {
        self.bytes.len() + self.headers.len() * 16
    }

    /// Whether every record is kept as it is.
    pub(crate) fn all_kept(&self) -> bool {
        self.entries.iter().all(|e| e.action == KEEP && e.replaced == 0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Lays the table out, for bytes that lie at `bytes_at`, and the table itself at what `table_at`
    /// says of it. Only the first 40 bytes a record are the decisions, the rest are their headers.
    pub(crate) fn lay(&mut self, bytes_at: u32, table_at: impl Fn(&[u64]) -> u32) -> &[u64] {
        let decisions = self.entries.len() * 5;
        self.table.clear();
        self.table.resize(decisions + self.headers.len() * 2, 0);
        let headers_at = table_at(&self.table).wrapping_add(decisions as u32 * 8);
        let place = |span: Span| pair(bytes_at.wrapping_add(span.start), span.length as u32);
        for (words, entry) in self.table.chunks_exact_mut(5).zip(&self.entries) {
            words[0] = pair(entry.action, entry.replaced);
            words[1] = place(entry.key);
            words[2] = place(entry.value);
            words[3] = pair(headers_at.wrapping_add(entry.first_header * 16), entry.headers);
            words[4] = place(entry.text);
        }
        for (words, header) in self.table[decisions..].chunks_exact_mut(2).zip(&self.headers) {
            words[0] = place(header.name);
            words[1] = place(header.value);
        }
        &self.table
    }

    fn put(&mut self, bytes: Option<&[u8]>) -> Span {
        let start = self.bytes.len() as u32;
        match bytes {
            None => Span { start, length: -1 },
            Some(bytes) => {
                self.bytes.extend_from_slice(bytes);
                Span { start, length: bytes.len() as i32 }
            }
        }
    }
}

/// Two fields of four bytes, the lower address first.
fn pair(first: u32, second: u32) -> u64 {
    u64::from(second) << 32 | u64::from(first)
}

/// What becomes of one record. Unless it is told otherwise, the record is kept as it is; the last
/// call of `drop`, `route` and `reject` holds.
pub struct Output<'o> {
    decisions: &'o mut Decisions,
    index: usize,
}

impl<'o> Output<'o> {
    /// How many bytes what becomes of this record may come to: the host takes decisions of four times
    /// the batch (at least 1 MiB, at most 64 MiB). The kit rejects a record that goes beyond; who
    /// writes much by [`Output::value_with`] asks first, and need not write on.
    pub fn room(&self) -> usize {
        self.decisions.limit.saturating_sub(self.decisions.used())
    }

    fn entry(&mut self) -> &mut Entry {
        &mut self.decisions.entries[self.index]
    }

    /// Drops the record.
    #[allow(clippy::should_implement_trait)] // it is what the ABI and Kafka's clients call it
    pub fn drop(&mut self) {
        *self.entry() = Entry { action: DROP, ..Entry::default() };
    }

    /// Rejects the record. The reason says what is wrong with it, for who reads it in a dead
    /// letter or in a producer's error; it is cut after [`MAX_TEXT`] bytes.
    pub fn reject(&mut self, reason: impl fmt::Display) {
        let start = self.decisions.bytes.len();
        let mut text = Cut { bytes: &mut self.decisions.bytes, left: MAX_TEXT };
        // Full is not failed: what fits is there.
        let _ = write!(text, "{}", reason);
        let length = (self.decisions.bytes.len() - start) as i32;
        let text = Span { start: start as u32, length };
        *self.entry() = Entry { action: REJECT, text, ..Entry::default() };
    }

    /// Sends the record to another topic, in place of this one. The module's spec must name it
    /// among its `routes`.
    pub fn route(&mut self, topic: &str) {
        let text = self.decisions.put(Some(topic.as_bytes()));
        let entry = self.entry();
        entry.action = ROUTE;
        entry.text = text;
    }

    /// Replaces the key; `None`: null.
    pub fn key(&mut self, key: Option<&[u8]>) {
        let span = self.decisions.put(key);
        let entry = self.entry();
        entry.key = span;
        entry.replaced |= KEY;
    }

    /// Replaces the value; `None`: null.
    pub fn value(&mut self, value: Option<&[u8]>) {
        let span = self.decisions.put(value);
        let entry = self.entry();
        entry.value = span;
        entry.replaced |= VALUE;
    }

    /// Replaces the value by what `write` appends to the bytes it is given, without a copy. It
    /// must leave alone what they hold already.
    pub fn value_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.decisions.bytes.len();
        write(&mut self.decisions.bytes);
        assert!(self.decisions.bytes.len() >= start, "what was there already is gone");
        let length = (self.decisions.bytes.len() - start) as i32;
        let entry = self.entry();
        entry.value = Span { start: start as u32, length };
        entry.replaced |= VALUE;
    }

    /// Replaces all headers. Those of the record go where they are not among `headers`:
    /// `record.headers().chain(…)` keeps them. A record has 4,096 at most: one that is given more is
    /// rejected.
    pub fn headers<'h>(&mut self, headers: impl IntoIterator<Item = crate::Header<'h>>) {
        let first_header = self.decisions.headers.len() as u32;
        for header in headers {
            let count = self.decisions.headers.len() as u32 - first_header;
            if count > MAX_HEADERS || self.decisions.used() > self.decisions.limit {
                break; // this record is rejected
            }
            let name = self.decisions.put(Some(header.name));
            let value = self.decisions.put(header.value);
            self.decisions.headers.push(HeaderEntry { name, value });
        }
        let headers = self.decisions.headers.len() as u32 - first_header;
        let entry = self.entry();
        entry.first_header = first_header;
        entry.headers = headers;
        entry.replaced |= HEADERS;
    }
}

/// Writes text up to a number of bytes, and whole characters only.
struct Cut<'b> {
    bytes: &'b mut Vec<u8>,
    left: usize,
}

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(self.left);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes.extend_from_slice(&text.as_bytes()[..end]);
        if end < text.len() {
            self.left = 0;
            return Err(fmt::Error);
        }
        self.left -= end;
        Ok(())
    }
}
