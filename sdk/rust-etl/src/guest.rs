//! The state behind the exports of a module.

use crate::batch::Batch;
use crate::output::Decisions;
use crate::{log, Level, Transform};

/// One instance of a module: the buffer that the host fills, the transform, its last decisions.
pub struct Guest<T> {
    buffer: Vec<u64>, // words, for it is aligned to 8 bytes
    transform: Option<T>,
    decisions: Decisions,
    error: String,
    decided: (usize, usize),
}

impl<T: Transform> Default for Guest<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Transform> Guest<T> {
    /// A guest that has no buffer and is not initialised.
    pub fn new() -> Self {
        Guest {
            buffer: Vec::new(),
            transform: None,
            decisions: Decisions::default(),
            error: String::new(),
            decided: (0, 0),
        }
    }

    /// Makes room for `size` bytes and says where; null: there is no memory for it.
    pub fn buffer(&mut self, size: u32) -> *mut u8 {
        // What was there is not kept: it need not be copied, and both need not fit.
        self.buffer = Vec::new();
        let words = (size as usize + 7) / 8;
        if self.buffer.try_reserve_exact(words.max(1)).is_err() {
            return std::ptr::null_mut();
        }
        self.buffer.resize(words.max(1), 0);
        self.buffer.as_mut_ptr().cast()
    }

    /// Where the buffer is.
    pub fn address(&self) -> *const u8 {
        self.buffer.as_ptr().cast()
    }

    /// Makes the transform of the configuration in the buffer. Returns what is wrong with it, or "".
    pub fn init(&mut self, length: usize) -> &str {
        self.error.clear();
        match T::init(input(&self.buffer, length)) {
            Ok(transform) => self.transform = Some(transform),
            Err(reason) if reason.is_empty() => self.error.push_str("refused, without a reason"),
            Err(reason) => self.error = reason,
        }
        &self.error
    }

    /// Transforms the batch in the buffer, whose addresses count from `base`.
    pub fn transform(&mut self, length: usize, base: u32) {
        let transform = self.transform.as_mut().expect("rustmq_transform before rustmq_init");
        let batch = Batch::new(input(&self.buffer, length), base);
        self.decisions.reset(batch.len(), length);
        transform.batch(&batch);
        for (index, record) in batch.records().enumerate() {
            self.decisions.decide(index, |out| transform.record(&record, out));
        }
        self.decided = (0, 0);
        if self.decisions.all_kept() {
            return;
        }
        let at = self.decisions.bytes().as_ptr() as usize as u32;
        let table = self.decisions.lay(at, |table| table.as_ptr() as usize as u32);
        self.decided = (table.as_ptr() as usize, batch.len() * 40);
    }

    /// Where the decisions are, and how many bytes; 0, 0: all records are kept as they are.
    pub fn decided(&self) -> (usize, usize) {
        self.decided
    }

    /// The decisions as one piece of memory at `base`: the table, then the bytes.
    pub(crate) fn image(&mut self, base: u32) -> Vec<u8> {
        let bytes = self.decisions.bytes().to_vec();
        // The bytes begin where the table ends.
        let words = self.decisions.lay(0, |_| base).len();
        let table = self.decisions.lay(base + words as u32 * 8, |_| base);
        let mut image: Vec<u8> = table.iter().flat_map(|word| word.to_le_bytes()).collect();
        image.extend(bytes);
        image
    }
}

/// The first `length` bytes of the buffer, which the host has filled.
fn input(buffer: &[u64], length: usize) -> &[u8] {
    assert!(length <= buffer.len() * 8, "{} bytes in a buffer of {}", length, buffer.len() * 8);
    // SAFETY: length bytes lie within the words, and every byte is a value.
    unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast(), length) }
}

/// From now on a panic is written to the module's log, before it traps.
pub fn panics_to_log() {
    std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string())));
}
