//! Help from the host: typed calls with a typed error, whichever way the host hears them.
//!
//! A [`Request`] can be answered by any host: Assay's own VMM hears it by its doorbell, another
//! hypervisor's supervisor over the console. [`ask`] knows which it is. The other calls are those
//! of the doorbell; their values that own something (a slot, a log mode, rings) give it back on drop.
//!
//! A case that calls one names the need (`service.dirty_log`, ...), so it is skipped where nobody
//! answers.

mod calls;
mod console;
mod doorbell;

pub use assay_protocol::service::{
    Access, COUNTER, COUNTER_BYTES, COUNTER_PORT, PORT_OFFSET, Request, counter_byte, demand_word,
    flag, inject, kick, mode,
};
pub use calls::{
    Counted, LogMode, PAGE, Rings, SLOTS, Slot, counter_read, counter_reset, inject_interrupt,
};

use crate::case::{Failure, Stop};
use crate::cmdline;
use crate::cpus::{self, Cpu};
use crate::time;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use assay_protocol::service::Refusal;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceError {
    /// This host does not offer it.
    NotOffered,
    /// The host does not know the call.
    Unknown,
    /// The host says that the arguments make no sense.
    Bad,
    /// The host's kernel refused, with this errno.
    Refused(i32),
    /// The host tried and could not; these are its words.
    Failed(String),
}

impl ServiceError {
    /// EINVAL.
    pub const INVALID: ServiceError = ServiceError::Refused(22);
    /// ENXIO.
    pub const NO_SUCH: ServiceError = ServiceError::Refused(6);
}

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown => ServiceError::Unknown,
            Refusal::Bad => ServiceError::Bad,
            Refusal::Errno(errno) => ServiceError::Refused(errno),
        }
    }
}

impl From<ServiceError> for Stop {
    #[track_caller]
    fn from(error: ServiceError) -> Self {
        Failure::new(format!("the host's service failed: {error:?}")).into()
    }
}

/// Asks the host and waits for its answer.
///
/// There is no limit: the clock may stand still or jump meanwhile. The runner's limit holds.
pub fn ask(request: Request) -> Result<(), ServiceError> {
    ask_while(request, || ())
}

/// As [`ask`], and does `meanwhile` again and again until the answer is there. A host with a
/// doorbell leaves no time for it.
pub fn ask_while(request: Request, meanwhile: impl FnMut()) -> Result<(), ServiceError> {
    let somebody_hears = match request.service() {
        Some(service) => cmdline::offers(service),
        None => cmdline::value(assay_protocol::cmdline::SERVICES).is_some(),
    };
    match doorbell::port() {
        _ if !somebody_hears => Err(ServiceError::NotOffered),
        Some(_) => doorbell::ask(request),
        None => console::ask(request, meanwhile),
    }
}

/// Runs `step` on every processor again and again while the host does each of `requests`. After
/// each answer every processor must go on. Returns the processors' states, in their order.
pub fn during<S: Send>(
    requests: &[Request],
    fresh: impl Fn(Cpu) -> S + Sync,
    step: impl Fn(&mut S) + Sync,
) -> Result<Vec<S>, Stop> {
    let steps: Vec<AtomicU64> = cpus::all().map(|_| AtomicU64::new(0)).collect();
    let over = AtomicBool::new(false);
    let advanced = |from: &[u64]| {
        let behind = || {
            let mut others = steps.iter().zip(from).skip(1);
            others.any(|(now, from)| now.load(Ordering::Relaxed) < from + 2)
        };
        time::wait_until(time::PATIENCE, || !behind())
    };
    let lead = |state: &mut S| -> Result<(), Stop> {
        let now = || -> Vec<u64> { steps.iter().map(|s| s.load(Ordering::Relaxed)).collect() };
        for &request in requests {
            if !advanced(&now()) {
                return Err(Failure::new("a processor does not go on before the request").into());
            }
            ask_while(request, || step(state))?;
            if !advanced(&now()) {
                return Err(
                    Failure::new(format!("a processor stands still after {request}")).into(),
                );
            }
        }
        Ok(())
    };
    let results = cpus::on_all(|cpu| {
        let mut state = fresh(cpu);
        if cpu == Cpu::BOOT {
            let led = lead(&mut state);
            over.store(true, Ordering::Release);
            return (state, led);
        }
        while !over.load(Ordering::Acquire) {
            step(&mut state);
            steps[cpu.0].fetch_add(1, Ordering::Relaxed);
        }
        (state, Ok(()))
    })?;
    let mut states = Vec::new();
    for (state, led) in results {
        led?;
        states.push(state);
    }
    Ok(states)
}
