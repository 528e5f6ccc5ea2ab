//! SIGNAL PROCESSOR, as it is: any order, any address, any parameter.

use super::fault::{Fault, catch};
use core::arch::asm;

/// Sense.
pub const SENSE: u8 = 1;
/// External call.
pub const EXTERNAL_CALL: u8 = 2;
/// Emergency signal.
pub const EMERGENCY_SIGNAL: u8 = 3;
/// Start.
pub const START: u8 = 4;
/// Stop.
pub const STOP: u8 = 5;
/// Restart.
pub const RESTART: u8 = 6;
/// Stop and store status.
pub const STOP_AND_STORE_STATUS: u8 = 9;
/// Initial CPU reset.
pub const INITIAL_CPU_RESET: u8 = 11;
/// CPU reset.
pub const CPU_RESET: u8 = 12;
/// Set prefix.
pub const SET_PREFIX: u8 = 13;
/// Store status at address.
pub const STORE_STATUS_AT_ADDRESS: u8 = 14;
/// Set architecture.
pub const SET_ARCHITECTURE: u8 = 18;
/// Conditional emergency signal.
pub const CONDITIONAL_EMERGENCY_SIGNAL: u8 = 19;
/// Sense running status.
pub const SENSE_RUNNING_STATUS: u8 = 21;
/// Store additional status at address.
pub const STORE_ADDITIONAL_STATUS: u8 = 23;

/// Status bits.
pub mod status {
    /// Not running.
    pub const NOT_RUNNING: u32 = 0x400;
    /// Incorrect state.
    pub const INCORRECT_STATE: u32 = 0x200;
    /// Invalid parameter.
    pub const INVALID_PARAMETER: u32 = 0x100;
    /// External call pending.
    pub const EXTERNAL_CALL_PENDING: u32 = 0x80;
    /// Stopped.
    pub const STOPPED: u32 = 0x40;
    /// Invalid order.
    pub const INVALID_ORDER: u32 = 2;
}

/// The answer to an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Condition code 0.
    Accepted,
    /// Condition code 1, with the status word.
    Status(u32),
    /// Condition code 2.
    Busy,
    /// Condition code 3.
    NotOperational,
}

fn execute(order: u64, address: u16, parameter: u64) -> (u8, u64) {
    let cc: u64;
    let status: u64;
    // SAFETY: S1; what the order does to the processor is the caller's wish. S5: R1 is r2, its
    // odd neighbour r3 holds the parameter.
    unsafe {
        asm!("sigp %r2, {a}, 0({o})", "ipm {cc}", "srl {cc}, 28",
            inout("r2") 0u64 => status, in("r3") parameter,
            a = in(reg) u64::from(address), o = in(reg_addr) order, cc = out(reg) cc);
    }
    (cc as u8 & 3, status)
}

fn answer((cc, status): (u8, u64)) -> Answer {
    match cc {
        0 => Answer::Accepted,
        1 => Answer::Status(status as u32),
        2 => Answer::Busy,
        _ => Answer::NotOperational,
    }
}

/// SIGNAL PROCESSOR once; the order is the whole second-operand address.
///
/// Orders that store write to memory at `parameter`, or to the prefix area of the processor.
pub fn signal(order: impl Into<u64>, address: u16, parameter: u64) -> Result<Answer, Fault> {
    let order = order.into();
    catch(|| answer(execute(order, address, parameter)))
}

/// As [`signal`], again while the processor is busy.
pub fn until_accepted(order: u8, address: u16, parameter: u64) -> Answer {
    loop {
        match answer(execute(order.into(), address, parameter)) {
            Answer::Busy => super::cpu::relax(),
            other => return other,
        }
    }
}

/// Whether a processor is in the stopped state.
pub fn is_stopped(address: u16) -> bool {
    matches!(until_accepted(SENSE, address, 0), Answer::Status(s) if s & status::STOPPED != 0)
}
