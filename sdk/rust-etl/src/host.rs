//! What the host does for a guest.

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// For who writes the module.
    Debug = 0,
    /// Worth a person's time.
    Info = 1,
    /// Something is not as it should be.
    Warn = 2,
    /// Something has failed.
    Error = 3,
}

/// Writes a line to the module's log, which the broker bounds per call.
pub fn log(level: Level, line: &str) {
    guest::log(level, line);
}

/// Adds to a counter of the module. The host bounds how many there are.
pub fn metric_add(name: &str, delta: f64) {
    guest::metric_add(name, delta);
}

#[cfg(target_arch = "wasm32")]
mod guest {
    use super::Level;

    #[link(wasm_import_module = "rustmq")]
    extern "C" {
        #[link_name = "log"]
        fn host_log(level: i32, address: *const u8, length: usize);
        #[link_name = "metric_add"]
        fn host_metric_add(address: *const u8, length: usize, delta: f64);
    }

    pub(super) fn log(level: Level, line: &str) {
        // SAFETY: the host reads length bytes at address, before it returns.
        unsafe { host_log(level as i32, line.as_ptr(), line.len()) }
    }

    pub(super) fn metric_add(name: &str, delta: f64) {
        // SAFETY: as above.
        unsafe { host_metric_add(name.as_ptr(), name.len(), delta) }
    }
}

/// Outside of a broker what is said is kept for the test of the same thread.
#[cfg(not(target_arch = "wasm32"))]
mod guest {
    use super::Level;
    use crate::testing;

    pub(super) fn log(level: Level, line: &str) {
        testing::logged(level, line);
    }

    pub(super) fn metric_add(name: &str, delta: f64) {
        testing::counted(name, delta);
    }
}
