//! Interruptions: taken one at a time, as records.
//!
//! Cases open a window ([`take`], [`wait`]) and get the first interruption that comes through.
//! The handler stores a record and closes the window in the old PSW, so exactly one comes for
//! each window; a second one stays pending and shows in the next. A case that wants to act inside
//! the handler installs a function ([`Handler`]).

use super::fault::{Psw128, registers};
use super::lowcore::{self, offset};
use super::registers::Psw;
use super::smp;
use crate::cpus::MAX;
use crate::runner;
use crate::time::{Deadline, Duration};
use assay_protocol::line as wire;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The runtime's own supervisor call: back to supervisor state.
pub(super) const LEAVE_PROBLEM_STATE: u8 = 0xff;

/// Where an interruption came from and where the processor goes on; handlers may change it.
#[repr(C)]
#[derive(Debug)]
pub struct Context {
    /// The old PSW.
    pub psw: Psw128,
    /// The general registers.
    pub registers: [u64; 16],
}

/// The classes with windows and handlers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// External.
    External,
    /// Input/output.
    Io,
    /// Supervisor call.
    SupervisorCall,
    /// Restart.
    Restart,
}

/// What an interruption left in the prefix area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interruption {
    /// External: code, processor address, 32-bit parameter.
    External {
        /// Interruption code, as 0x1202.
        code: u16,
        /// The address of the processor that signalled, for external and emergency calls.
        cpu: u16,
        /// Parameter, for the service signal.
        parameter: u32,
    },
    /// Input/output: subsystem identification, parameter, word.
    Io {
        /// Subsystem-identification word.
        subchannel: u32,
        /// The parameter of the subchannel.
        parameter: u32,
        /// Interruption-identification word.
        word: u32,
    },
    /// Supervisor call, by number.
    SupervisorCall(u16),
    /// Restart.
    Restart,
}

impl Interruption {
    /// The code of an external interruption.
    pub fn external_code(&self) -> Option<u16> {
        match self {
            Interruption::External { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// External interruption codes.
pub mod external_code {
    /// Interrupt key.
    pub const INTERRUPT_KEY: u16 = 0x40;
    /// Clock comparator.
    pub const CLOCK_COMPARATOR: u16 = 0x1004;
    /// CPU timer.
    pub const CPU_TIMER: u16 = 0x1005;
    /// Emergency signal.
    pub const EMERGENCY_SIGNAL: u16 = 0x1201;
    /// External call.
    pub const EXTERNAL_CALL: u16 = 0x1202;
    /// Service signal.
    pub const SERVICE_SIGNAL: u16 = 0x2401;
}

struct Records(UnsafeCell<(Option<Interruption>, u64)>);
// SAFETY: each entry is touched only by its own processor.
unsafe impl Sync for Records {}
static RECORDS: [Records; MAX] = [const { Records(UnsafeCell::new((None, 0))) }; MAX];

static HANDLERS: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

/// A function for a class of interruptions, on every processor, until it is dropped.
pub struct Handler(Class);

impl Handler {
    /// Installs `function`.
    pub fn install(class: Class, function: fn(&mut Context, Interruption)) -> Self {
        HANDLERS[class as usize].store(function as *const () as usize, Ordering::Release);
        Handler(class)
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        HANDLERS[self.0 as usize].store(0, Ordering::Release);
    }
}

/// Runs the installed handler, or stores the record and closes the window.
fn dispatch(context: &mut Context, class: Class, what: Interruption) {
    let function = HANDLERS[class as usize].load(Ordering::Acquire);
    if function != 0 {
        // SAFETY: `Handler::install` stored a function of this type.
        let function: fn(&mut Context, Interruption) = unsafe { core::mem::transmute(function) };
        return function(context, what);
    }
    // SAFETY: only this processor uses its entry, and interruptions are masked here.
    unsafe {
        let record = RECORDS[smp::this()].0.get();
        (*record).0 = Some(what);
        (*record).1 += 1;
    }
    context.psw.mask &= !(Psw::IO | Psw::EXTERNAL | Psw::WAIT).bits();
}

pub(super) extern "C" fn external(context: &mut Context) {
    let word = lowcore::read32(offset::EXTERNAL_CPU);
    if word as u16 == external_code::SERVICE_SIGNAL && super::sclp::consume() {
        context.psw.mask &= !(Psw::IO | Psw::EXTERNAL).bits();
        return;
    }
    let what = Interruption::External {
        code: word as u16,
        cpu: (word >> 16) as u16,
        parameter: lowcore::read32(offset::EXTERNAL_PARAMETER),
    };
    dispatch(context, Class::External, what);
}

pub(super) extern "C" fn io(context: &mut Context) {
    let what = Interruption::Io {
        subchannel: lowcore::read32(offset::IO),
        parameter: lowcore::read32(offset::IO + 4),
        word: lowcore::read32(offset::IO + 8),
    };
    dispatch(context, Class::Io, what);
}

pub(super) extern "C" fn svc(context: &mut Context) {
    let number = lowcore::read16(offset::SVC + 2);
    if number == u16::from(LEAVE_PROBLEM_STATE) {
        context.psw.mask &= !Psw::PROBLEM.bits();
        return;
    }
    dispatch(
        context,
        Class::SupervisorCall,
        Interruption::SupervisorCall(number),
    );
}

pub(super) extern "C" fn restart(context: &mut Context) {
    dispatch(context, Class::Restart, Interruption::Restart);
}

pub(super) extern "C" fn machine_check(context: &mut Context) {
    runner::give_up_with(
        wire::EXCEPTION,
        format_args!("machine check {:016x}", lowcore::read64(0xe8)),
        |line| {
            line(format_args!("psw {:?}", context.psw));
            registers(line, |i| context.registers[i as usize]);
        },
    )
}

fn pop() -> Option<Interruption> {
    // SAFETY: only this processor uses its entry; the window is closed.
    unsafe { (*RECORDS[smp::this()].0.get()).0.take() }
}

/// How many interruptions this processor has recorded.
pub fn recorded() -> u64 {
    // SAFETY: as `pop`.
    unsafe { (*RECORDS[smp::this()].0.get()).1 }
}

/// Opens a window for `classes` ([`Psw::EXTERNAL`], [`Psw::IO`]) for a moment.
///
/// Which external and I/O subclasses get through is up to CR0 and CR6.
pub fn take(classes: Psw) -> Option<Interruption> {
    pop();
    open(classes);
    pop()
}

/// Opens a window for a moment and leaves the record where it is.
pub(super) fn open(classes: Psw) {
    let new = super::registers::psw_mask() | classes.bits();
    let byte = (new >> 56) as u8;
    let old = (super::registers::psw_mask() >> 56) as u8;
    // SAFETY: S1; SET SYSTEM MASK opens the window, the second one closes it. The handlers keep
    // every register.
    unsafe {
        asm!("ssm 0({new})", "nopr", "nopr", "ssm 0({old})",
            new = in(reg_addr) &raw const byte, old = in(reg_addr) &raw const old);
    }
}

/// Opens windows for `classes` until an interruption comes, at most `limit`.
pub fn wait(classes: Psw, limit: Duration) -> Option<Interruption> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(what) = take(classes) {
            return Some(what);
        }
        if deadline.passed() {
            return take(classes);
        }
    }
}

/// Waits in the wait state with `classes` enabled. Without an interruption it waits for ever, so
/// a case arms the clock comparator first.
pub fn enabled_wait(classes: Psw) -> Option<Interruption> {
    pop();
    let mask = super::registers::psw_mask() | (classes | Psw::WAIT).bits();
    let mut psw = [mask, 0u64];
    // SAFETY: S1; the handler clears the wait bit and the masks, and execution goes on at 77.
    unsafe {
        asm!("larl {a}, 77f", "stg {a}, 8({p})", "lpswe 0({p})", "77:",
            a = out(reg) _, p = in(reg_addr) &raw mut psw);
    }
    pop()
}

/// Executes SVC with number `N`; returns the record of the interruption.
pub fn supervisor_call<const N: u8>() -> Option<Interruption> {
    pop();
    // SAFETY: the handler keeps every register.
    unsafe { asm!("svc {n}", n = const N) };
    pop()
}
