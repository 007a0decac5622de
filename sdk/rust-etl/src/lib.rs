//! Guest kit of RustMQ's ETL: write a transform of records in Rust, compile it to
//! WebAssembly, deploy it with `rustmq admin etl deploy`.
//!
//! ```
//! use rustmq_etl::{Output, Record, Transform};
//!
//! struct OnlyOrders;
//!
//! impl Transform for OnlyOrders {
//!     fn init(_config: &[u8]) -> Result<Self, String> {
//!         Ok(OnlyOrders)
//!     }
//!     fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) {
//!         match record.key() {
//!             None => out.reject("a record without a key"),
//!             Some(key) if !key.starts_with(b"order-") => out.drop(),
//!             Some(_) => {} // kept as it is
//!         }
//!     }
//! }
//!
//! rustmq_etl::export!(OnlyOrders);
//! ```
//!
//! A crate of type `cdylib`, built with `--target wasm32-unknown-unknown`, is a module. The
//! broker calls it once per batch; the kit calls [`Transform::record`] for each record, in
//! order, and hands over what became of them. A record is kept as it is unless [`Output`] is
//! told otherwise.
//!
//! Views ([`Batch`], [`Record`]) read the batch where the host has put it, without a copy, and
//! end with the call. A panic is written to the module's log and traps: the batch fails, the
//! instance is thrown away, and the pipeline's failure policy decides what becomes of the
//! records. So input must never panic: reject it.
//!
//! On the host the same code runs under `cargo test`, by way of [`testing`]. The layout of what
//! passes between host and guest stands in `docs/etl-abi.md`.
#![warn(missing_docs)]

mod batch;
mod guest;
mod host;
mod output;
pub mod testing;

pub use batch::{Batch, Header, Headers, Record};
#[doc(hidden)]
pub use guest::{panics_to_log, Guest};
pub use host::{log, metric_add, Level};
pub use output::{Output, MAX_TEXT};

/// The version of the ABI that this kit speaks.
pub const ABI_VERSION: i32 = 1;

/// What becomes of records.
pub trait Transform: Sized {
    /// Makes the transform of its configuration, the bytes of `config` in the module's spec (JSON;
    /// `null` where there is none). An error refuses the module: it says what is wrong and what to do.
    fn init(config: &[u8]) -> Result<Self, String>;

    /// Looks at the batch before its records. Does nothing unless it is overridden.
    fn batch(&mut self, batch: &Batch<'_>) {
        let _ = batch;
    }

    /// Decides what becomes of one record. It is kept as it is unless `out` is told otherwise.
    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>);
}

/// Exports a [`Transform`] under the names that the host calls. Once per module.
#[macro_export]
macro_rules! export {
    ($transform:ty) => {
        // Elsewhere nothing calls it but tests: it is not dead for that.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> $crate::Guest<$transform> = $crate::Guest::<$transform>::new;

        #[cfg(target_arch = "wasm32")]
        #[doc(hidden)]
        mod rustmq_exports {
            #[allow(unused_imports)]
            use super::*;

            std::thread_local! {
                static GUEST: std::cell::RefCell<$crate::Guest<$transform>> =
                    std::cell::RefCell::new($crate::Guest::new());
            }

            #[no_mangle]
            pub extern "C" fn rustmq_abi() -> i32 {
                $crate::ABI_VERSION
            }

            #[no_mangle]
            pub extern "C" fn rustmq_buffer(size: u32) -> u32 {
                GUEST.with(|guest| guest.borrow_mut().buffer(size) as u32)
            }

            #[no_mangle]
            pub extern "C" fn rustmq_init(length: u32) -> u64 {
                $crate::panics_to_log();
                GUEST.with(|guest| {
                    let mut guest = guest.borrow_mut();
                    let error = guest.init(length as usize);
                    if error.is_empty() {
                        return 0;
                    }
                    (error.as_ptr() as u64) << 32 | error.len() as u64
                })
            }

            #[no_mangle]
            pub extern "C" fn rustmq_transform(length: u32) -> u64 {
                GUEST.with(|guest| {
                    let mut guest = guest.borrow_mut();
                    let address = guest.address() as u32;
                    guest.transform(length as usize, address);
                    let (at, bytes) = guest.decided();
                    (at as u64) << 32 | bytes as u64
                })
            }
        }
    };
}
