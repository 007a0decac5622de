//! A running `bin/rustmq` for tests, and small things that tests share.
//!
//! The binary is the repository's (`make build`), or what `SERVER_BIN` names. A server is killed, and
//! its directory removed, when its [`Server`] is dropped.

#![allow(dead_code)] // each test binary uses its own part

pub mod relay;
mod server;

#[allow(unused_imports)]
pub use server::{Options, Server, binary as server_binary};

use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything may take on a machine that is busy.
pub const MOMENTS: Duration = Duration::from_secs(45);

/// What ends a test.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Runs a test on a runtime of its own.
pub fn run<F: Future<Output = Result<(), Failed>>>(test: F) -> Result<(), Failed> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(test)
}

/// Waits for a future, for [`MOMENTS`] at most.
pub async fn within<T>(what: &str, f: impl Future<Output = T>) -> Result<T, Failed> {
    within_for(MOMENTS, what, f).await
}

/// Waits for a future, for so long at most.
pub async fn within_for<T>(limit: Duration, what: &str, f: impl Future<Output = T>) -> Result<T, Failed> {
    tokio::time::timeout(limit, f).await.map_err(|_| format!("not in {limit:?}: {what}").into())
}

/// Polls until `ok` holds.
pub async fn eventually(what: &str, mut ok: impl AsyncFnMut() -> bool) -> Result<(), Failed> {
    let began = Instant::now();
    while !ok().await {
        if began.elapsed() > MOMENTS {
            return Err(format!("not in {MOMENTS:?}: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
