//! The service-call logical processor: SERVICE CALL, the SCCBs the runtime uses, the console.
//!
//! A call is accepted (condition code 0) and completes with a service-signal external
//! interruption, whose parameter is the SCCB's address. The runtime takes that interruption after
//! each of its own calls, so that cases find none pending.

use super::fault::{Fault, catch};
use super::interrupts;
use super::registers::{Control, Cr0, Psw};
use crate::memory::Frames;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// Read SCP information, for any processor state.
pub const READ_SCP_INFO: u32 = 0x0002_0001;
/// Read SCP information, forced.
pub const READ_SCP_INFO_FORCED: u32 = 0x0012_0001;
/// Read CPU information.
pub const READ_CPU_INFO: u32 = 0x0001_0001;
/// Write event mask.
pub const WRITE_EVENT_MASK: u32 = 0x0078_0005;
/// Write event data.
pub const WRITE_EVENT_DATA: u32 = 0x0076_0005;
/// Read event data.
pub const READ_EVENT_DATA: u32 = 0x0077_0005;

/// A page for SCCBs.
#[repr(C, align(4096))]
pub(super) struct Sccb(pub [u8; 4096]);

impl Sccb {
    pub const fn new() -> Self {
        Sccb([0; 4096])
    }

    pub fn clear(&mut self, length: u16) {
        self.0.fill(0);
        self.0[..2].copy_from_slice(&length.to_be_bytes());
    }

    pub fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    pub fn word(&self, at: usize) -> u32 {
        u32::from(self.half(at)) << 16 | u32::from(self.half(at + 2))
    }

    pub fn double(&self, at: usize) -> u64 {
        u64::from(self.word(at)) << 32 | u64::from(self.word(at + 4))
    }
}

/// SERVICE CALL as it is: any command, any address; the condition code.
///
/// The SCLP writes to the SCCB. After condition code 0 a service signal is or becomes pending:
/// [`take_service_signal`] gets it out of the way.
pub fn service_call(command: u64, sccb: u64) -> Result<u8, Fault> {
    catch(|| {
        let cc: u64;
        // SAFETY: S1; the caller names the SCCB. S5.
        unsafe {
            asm!(".insn rre, 0xb2200000, {c}, {a}", "ipm {cc}", "srl {cc}, 28",
                c = in(reg) command, a = in(reg) sccb, cc = out(reg) cc);
        }
        cc as u32 as u8 & 3
    })
}

/// As [`service_call`], with reserved bits of the instruction set.
pub fn service_call_reserved_bits(command: u64, sccb: u64) -> Result<u8, Fault> {
    catch(|| {
        let cc: u64;
        // SAFETY: as `service_call`; bits 16 to 23 of the instruction are to be ignored.
        unsafe {
            asm!(".long 0xb2204213", "ipm {cc}", "srl {cc}, 28",
                in("r1") command, in("r3") sccb, cc = out(reg) cc);
        }
        cc as u32 as u8 & 3
    })
}

static SIGNALLED: AtomicBool = AtomicBool::new(false);
static EXPECTING: AtomicBool = AtomicBool::new(false);

/// Called by the external handler: whether the runtime itself waits for this service signal.
pub(super) fn consume() -> bool {
    let ours = EXPECTING.load(Ordering::Relaxed);
    if ours {
        SIGNALLED.store(true, Ordering::Relaxed);
    }
    ours
}

/// Waits for the service signal of an accepted call and drops it. Gives up after many tries:
/// a machine that never signals must still be able to print.
pub fn take_service_signal() -> bool {
    let subclasses = Cr0::EMERGENCY_SIGNAL
        | Cr0::EXTERNAL_CALL
        | Cr0::CLOCK_COMPARATOR
        | Cr0::CPU_TIMER
        | Cr0::from_bits_retain(0xe0);
    let _only = Control::<0>::changed(|old| old & !subclasses.bits() | Cr0::SERVICE_SIGNAL.bits());
    SIGNALLED.store(false, Ordering::Relaxed);
    EXPECTING.store(true, Ordering::Relaxed);
    for _ in 0..1_000_000 {
        interrupts::open(Psw::EXTERNAL);
        if SIGNALLED.load(Ordering::Relaxed) {
            break;
        }
    }
    EXPECTING.store(false, Ordering::Relaxed);
    SIGNALLED.load(Ordering::Relaxed)
}

/// Runs `command` on the runtime's own SCCB; the response code.
pub(super) fn run(command: u32, sccb: &mut Sccb) -> u16 {
    loop {
        let cc: u64;
        // SAFETY: S1, S3; the SCCB is ours. S5.
        unsafe {
            asm!(".insn rre, 0xb2200000, {c}, {a}", "ipm {cc}", "srl {cc}, 28",
                c = in(reg) u64::from(command), a = in(reg) sccb as *mut Sccb,
                cc = out(reg) cc);
        }
        match cc as u8 & 3 {
            0 => break,
            2 => take_service_signal(),
            _ => return 0,
        };
    }
    take_service_signal();
    sccb.half(6)
}

struct Info(core::cell::UnsafeCell<Sccb>);

// SAFETY: written by boot code alone (S4), read afterwards.
unsafe impl Sync for Info {}

static INFO: Info = Info(core::cell::UnsafeCell::new(Sccb::new()));

/// Keeps the answer to Read SCP information. Once, at boot.
pub(super) fn keep_info(sccb: &Sccb) {
    // SAFETY: S4.
    unsafe { (*INFO.0.get()).0.copy_from_slice(&sccb.0) };
}

/// The SCCB that answered Read SCP information at boot.
fn info() -> &'static Sccb {
    // SAFETY: written once, at boot (S4).
    unsafe { &*INFO.0.get() }
}

/// A byte of that answer; 0 where the processor entries begin.
pub fn info_byte(offset: usize) -> u8 {
    let entries = usize::from(info().half(18));
    if offset < entries {
        info().0[offset]
    } else {
        0
    }
}

/// A byte of the first processor entry.
pub fn cpu_byte(offset: usize) -> u8 {
    info().0[usize::from(info().half(18)) % 4000 + offset % 16]
}

/// A block for a service call: a page whose first bytes are `length`, in big-endian order.
pub fn block(length: u16) -> Frames {
    let page = Frames::new(2);
    page.write(0, length);
    page
}

/// Runs `command` on `block` and takes the service signal: the condition code and the response.
pub fn call(command: u32, block: &Frames) -> Result<(u8, u16), Fault> {
    let cc = service_call(command.into(), block.address())?;
    if cc == 0 {
        take_service_signal();
    }
    Ok((cc, block.read(6)))
}
