//! Program interruptions as values.
//!
//! [`catch`] runs a closure and returns `Ok` or the interruption code. The handler does not step
//! over the instruction: it returns to `catch`, under the PSW mask `catch` was called with, so
//! problem state, DAT and the PSW key that the closure chose end there too. Control registers and
//! storage keys stay as the closure left them, and values it owned are not dropped.
//!
//! The compiler keeps no floating-point value alive across a `catch`: payloads do no
//! floating-point arithmetic outside asm blocks.

use super::interrupts::LEAVE_PROBLEM_STATE;
use super::lowcore::{self, offset};
use super::registers::Psw;
use crate::runner;
use assay_protocol::line as wire;
use core::arch::{asm, global_asm};
use core::fmt;
use core::mem::MaybeUninit;

/// A program-interruption code, unfiltered: a PER event adds 0x80.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub u16);

macro_rules! faults {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        impl Fault {
            $(#[doc = concat!("The ", $text, " exception.")] pub const $name: Fault = Fault($code);)*
        }

        impl fmt::Debug for Fault {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                match self.0 {
                    $($code => write!(f, "{} ({:#x})", $text, self.0),)*
                    code => write!(f, "program interruption {code:#x}"),
                }
            }
        }
    };
}

faults! {
    OPERATION = 1, "operation";
    PRIVILEGED_OPERATION = 2, "privileged-operation";
    EXECUTE = 3, "execute";
    PROTECTION = 4, "protection";
    ADDRESSING = 5, "addressing";
    SPECIFICATION = 6, "specification";
    DATA = 7, "data";
    FIXED_POINT_OVERFLOW = 8, "fixed-point-overflow";
    FIXED_POINT_DIVIDE = 9, "fixed-point-divide";
    DECIMAL_OVERFLOW = 0xa, "decimal-overflow";
    DECIMAL_DIVIDE = 0xb, "decimal-divide";
    SEGMENT_TRANSLATION = 0x10, "segment-translation";
    PAGE_TRANSLATION = 0x11, "page-translation";
    TRANSLATION_SPECIFICATION = 0x12, "translation-specification";
    SPECIAL_OPERATION = 0x13, "special-operation";
    OPERAND = 0x15, "operand";
    TRACE_TABLE = 0x16, "trace-table";
    VECTOR_PROCESSING = 0x1b, "vector-processing";
    ASCE_TYPE = 0x38, "ASCE-type";
    REGION_FIRST_TRANSLATION = 0x39, "region-first-translation";
    REGION_SECOND_TRANSLATION = 0x3a, "region-second-translation";
    REGION_THIRD_TRANSLATION = 0x3b, "region-third-translation";
    MONITOR_EVENT = 0x40, "monitor-event";
}

/// What a program interruption stores beside its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Details {
    /// The code.
    pub fault: Fault,
    /// Length of the instruction in bytes, from the instruction-length code.
    pub instruction_length: u16,
    /// Data-exception code; meaningful for [`Fault::DATA`].
    pub data_exception: u32,
    /// Exception access identification.
    pub exception_access: u8,
    /// Operand access identification: the register fields of MOVE PAGE.
    pub operand_access: u8,
    /// Translation-exception identification.
    pub translation_exception: u64,
    /// The program old PSW.
    pub psw: Psw128,
}

/// A whole PSW.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Psw128 {
    /// Bits 0 to 63.
    pub mask: u64,
    /// The instruction address.
    pub address: u64,
}

impl Psw128 {
    /// The mask by its bits' names.
    pub fn bits(&self) -> Psw {
        Psw::from_bits_retain(self.mask)
    }
}

impl fmt::Debug for Psw128 {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:016x} {:016x}", self.mask, self.address)
    }
}

/// What the last fault that this processor caught stored.
pub fn last() -> Details {
    let read = |field: u64| offset::FAULT + field - 0x88;
    Details {
        fault: Fault(lowcore::read16(read(offset::PROGRAM) + 2)),
        instruction_length: lowcore::read16(read(offset::PROGRAM)) & 6,
        data_exception: lowcore::read32(read(offset::DATA_EXCEPTION)),
        exception_access: (lowcore::read16(read(offset::EXCEPTION_ACCESS)) >> 8) as u8,
        operand_access: (lowcore::read16(read(offset::OPERAND_ACCESS)) >> 8) as u8,
        translation_exception: lowcore::read64(read(offset::TRANSLATION_EXCEPTION)),
        psw: Psw128 {
            mask: lowcore::read64(offset::FAULT_PSW),
            address: lowcore::read64(offset::FAULT_PSW + 8),
        },
    }
}

/// The last caught fault in words.
pub fn details() -> impl fmt::Display {
    struct Shown(Details);
    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
            let d = &self.0;
            write!(f, "psw {:?}, ilc {}", d.psw, d.instruction_length)?;
            match d.fault {
                Fault::DATA => write!(f, ", dxc {:#x}", d.data_exception),
                Fault::PROTECTION | Fault::SEGMENT_TRANSLATION | Fault::PAGE_TRANSLATION => {
                    write!(f, ", teid {:#x}", d.translation_exception)
                }
                _ => Ok(()),
            }
        }
    }
    Shown(last())
}

/// What `catch` leaves for the handler: r6 to r15, the PSW to go on with, the `catch` around.
#[repr(C)]
struct Recovery {
    registers: [u64; 10],
    psw: Psw128,
    outer: u64,
}

unsafe extern "C" {
    /// Calls `call(argument)`; returns 0 when it returned and 1 when it faulted.
    fn __assay_catch(
        call: unsafe extern "C" fn(*mut u8),
        argument: *mut u8,
        recovery: *mut Recovery,
    ) -> u64;
}

global_asm!(
    ".text",
    ".globl __assay_catch",
    ".balign 8",
    "__assay_catch:",
    "stmg %r6, %r15, 0(%r4)",
    "epsw %r0, %r1",
    "st %r0, 80(%r4)",
    "st %r1, 84(%r4)",
    "larl %r1, 1f",
    "stg %r1, 88(%r4)",
    "lg %r1, {recovery}",
    "stg %r1, 96(%r4)",
    "stg %r4, {recovery}",
    "lgr %r6, %r4",
    "lgr %r1, %r2",
    "lgr %r2, %r3",
    "lgr %r3, %r15",
    "aghi %r15, -160",
    "stg %r3, 0(%r15)",
    "basr %r14, %r1",
    "lg %r1, 96(%r6)",
    "stg %r1, {recovery}",
    "lghi %r2, 0",
    "lmg %r6, %r15, 0(%r6)",
    "br %r14",
    // Here the handler lands, with r4 as it was at the start.
    "1:",
    "lg %r1, 96(%r4)",
    "stg %r1, {recovery}",
    "lghi %r2, 1",
    "lmg %r6, %r15, 0(%r4)",
    "br %r14",
    ".globl __assay_program",
    ".balign 8",
    "__assay_program:",
    "stmg %r0, %r15, {save}",
    "lg %r4, {recovery}",
    "ltgr %r4, %r4",
    "jz 2f",
    "mvc {fault}(48), 0x88",
    "mvc {fault_psw}(16), {old}",
    "lpswe 80(%r4)",
    "2: lg %r15, {emergency}",
    "brasl %r14, {uncaught}",
    recovery = const offset::RECOVERY,
    save = const offset::SAVE_PROGRAM,
    fault = const offset::FAULT,
    fault_psw = const offset::FAULT_PSW,
    old = const offset::PROGRAM_OLD,
    emergency = const offset::EMERGENCY_STACK,
    uncaught = sym uncaught,
);

struct Call<F, T> {
    work: Option<F>,
    result: MaybeUninit<T>,
}

unsafe extern "C" fn call<F: FnOnce() -> T, T>(argument: *mut u8) {
    // SAFETY: `catch` passes its own `Call`, which outlives the call.
    let call = unsafe { &mut *argument.cast::<Call<F, T>>() };
    if let Some(work) = call.work.take() {
        call.result.write(work());
    }
}

/// Runs `work`; a program interruption ends it and is returned.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Fault> {
    fn run<F: FnOnce() -> T, T>(work: F) -> Result<T, Fault> {
        let mut frame = Call {
            work: Some(work),
            result: MaybeUninit::uninit(),
        };
        let mut recovery = Recovery {
            registers: [0; 10],
            psw: Psw128 {
                mask: 0,
                address: 0,
            },
            outer: 0,
        };
        // SAFETY: `call::<F, T>` takes the `Call` it is given; both structures live until the end
        // of the call, which comes back once, with every callee-saved general register.
        let faulted =
            unsafe { __assay_catch(call::<F, T>, (&raw mut frame).cast(), &raw mut recovery) };
        match faulted {
            // SAFETY: the closure ran to its end, so its result was written.
            0 => Ok(unsafe { frame.result.assume_init() }),
            _ => Err(last().fault),
        }
    }
    run(work)
}

/// Runs `work` in problem state, with key 0 and DAT as they are.
pub fn catch_user<T>(work: impl FnOnce() -> T) -> Result<T, Fault> {
    catch(|| {
        let mut psw = [0u64; 2];
        // SAFETY: S1; only the problem-state bit of the PSW changes. The SVC handler clears it.
        unsafe {
            asm!(
                "epsw {a}, {b}",
                "oilh {a}, 1",
                "st {a}, 0({p})",
                "st {b}, 4({p})",
                "larl {b}, 77f",
                "stg {b}, 8({p})",
                "lpswe 0({p})",
                "77:",
                a = out(reg) _,
                b = out(reg) _,
                p = in(reg_addr) &raw mut psw,
            );
        }
        let result = work();
        // SAFETY: S1; the runtime's own SVC.
        unsafe { asm!("svc {n}", n = const LEAVE_PROBLEM_STATE) };
        result
    })
}

/// Whether this code runs in problem state.
pub fn in_problem_state() -> bool {
    let mask: u64;
    // SAFETY: EXTRACT PSW reads; S5.
    unsafe { asm!("epsw {a}, 0", a = out(reg) mask, out("r0") _, options(nomem, nostack)) };
    mask >> 16 & 1 != 0
}

extern "C" fn uncaught() -> ! {
    let code = lowcore::read16(offset::PROGRAM + 2);
    let psw = Psw128 {
        mask: lowcore::read64(offset::PROGRAM_OLD),
        address: lowcore::read64(offset::PROGRAM_OLD + 8),
    };
    runner::give_up_with(
        wire::EXCEPTION,
        format_args!("{:?} on CPU {}", Fault(code), super::smp::this()),
        |line| {
            line(format_args!(
                "psw {psw:?}, ilc {}",
                lowcore::read16(offset::PROGRAM) & 6
            ));
            line(format_args!(
                "teid {:016x}, dxc {:#x}",
                lowcore::read64(offset::TRANSLATION_EXCEPTION),
                lowcore::read32(offset::DATA_EXCEPTION)
            ));
            registers(line, |i| lowcore::read64(offset::SAVE_PROGRAM + 8 * i));
        },
    )
}

/// Prints sixteen general registers, four a line.
pub(super) fn registers(line: &mut dyn FnMut(fmt::Arguments), read: impl Fn(u64) -> u64) {
    for i in (0..16).step_by(4) {
        line(format_args!(
            "r{i:<2} {:016x} {:016x} {:016x} {:016x}",
            read(i),
            read(i + 1),
            read(i + 2),
            read(i + 3)
        ));
    }
}
