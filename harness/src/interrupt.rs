//! SIGINT, SIGTERM and SIGHUP: the first ends the run in good order, the second at once.

use crate::error::exit;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the run shall end. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    signalled: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens to the signals from now on.
    pub fn listen() -> io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let interrupt = Interrupt::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let flag = || Arc::clone(&interrupt.signalled);
            // The order matters: the second signal finds the flag set by the first.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                i32::from(exit::INTERRUPTED),
                flag(),
            )?;
            signal_hook::flag::register(signal, flag())?;
        }
        Ok(interrupt)
    }

    /// A signal asked for the end.
    pub fn signalled(&self) -> bool {
        self.signalled.load(Ordering::Relaxed)
    }

    /// Ends the run for a reason of our own, such as `--fail-fast`.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether no further machine may be started.
    pub fn is_set(&self) -> bool {
        self.signalled() || self.stopped.load(Ordering::Relaxed)
    }
}
