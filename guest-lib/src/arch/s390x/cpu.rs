//! The processor: spinning, the backtrace, and control instructions as functions.
//!
//! Each wrapper executes its instruction once with the operands it is given, legal or not, and
//! returns what the instruction reports or the fault it raised. Wrappers that store take the
//! target's address as a number: a case that names memory it does not own breaks the payload.

use super::exec::{Ran, execute, registers, s_format};
use super::fault::Fault;
use super::registers::facility;
use core::arch::asm;

/// Asks the machine.
type Question = fn() -> bool;

/// The needs of this architecture, with the question that settles each.
pub(super) const NEEDS: &[(&str, Question)] = &[
    ("s390x.ap", || {
        answers(&[0xb2af, 0x0000], registers([(0, 0x0400_0000)]))
    }),
    ("s390x.ap_configuration", || facility(12)),
    ("s390x.css_device", || {
        super::channel::first_device().is_some()
    }),
    ("s390x.diag10", || {
        answers_on_frame(|page| super::diag::diagnose(0x10, page, 0, page))
    }),
    ("s390x.diag258", super::diag::has_page_reference_services),
    ("s390x.diag288", super::diag::has_watchdog),
    ("s390x.diag318", || super::sclp::info_byte(134) & 0x80 != 0),
    ("s390x.diag9c", || {
        super::diag::diagnose(0x9c, 0xffff, 0, 0).is_ok()
    }),
    ("s390x.edat1", || facility(8)),
    ("s390x.edat2", || facility(78)),
    ("s390x.essa", || {
        answers_on_frame(|page| super::skey::essa(0, page))
    }),
    ("s390x.guarded_storage", || facility(133)),
    ("s390x.iep", || facility(130)),
    ("s390x.kss", || facility(169)),
    ("s390x.movepage_dat", || facility(149)),
    ("s390x.sie", || super::sclp::cpu_byte(2) & 0x08 != 0),
    ("s390x.sthyi", || facility(74)),
    ("s390x.topology", || facility(11)),
    ("s390x.transactions", || facility(73)),
    ("s390x.uvc", || facility(158)),
    ("s390x.vector", || facility(129)),
    ("s390x.vector_decimal", || facility(134)),
    ("s390x.vector_enhancements1", || facility(135)),
    ("s390x.zpci", || facility(69)),
];

/// Whether an instruction exists: anything but an operation exception.
fn answers(code: &[u16], with: super::exec::Registers) -> bool {
    !matches!(execute(code, with), Err(Fault::OPERATION))
}

/// Whether an operation on a spare frame ends without a fault.
fn answers_on_frame(operate: impl Fn(u64) -> Result<Ran, Fault>) -> bool {
    let frame = crate::memory::Frames::new(1);
    operate(frame.address()).is_ok()
}

/// How many pauses there are between two looks at a device: some hundred microseconds on an
/// emulator.
pub(crate) const RELAXES_BETWEEN_POLLS: u32 = 20_000;

/// A pause in a spin loop.
#[inline]
pub fn relax() {
    core::hint::spin_loop();
}

/// Processors that wait for work spin, so there is nobody to wake.
pub fn wake_others() {}

/// Return addresses, innermost first.
///
/// There is no frame pointer, but frames name themselves: a function saves r14 and r15 at 112 and
/// 120 bytes above the stack pointer it was entered with, so a place where the saved r15 is the
/// place itself is a frame, if the saved r14 follows a call. A dead frame in a hole of a live one
/// can still show.
pub fn backtrace(mut show: impl FnMut(u64)) {
    let here: u64;
    // SAFETY: reads the stack pointer.
    unsafe { asm!("lgr {f}, %r15", f = out(reg) here, options(nomem, nostack)) };
    let ram = super::platform::memory_map()[0].1;
    let end = (here + 64 * 1024).min(ram.saturating_sub(160));
    // SAFETY: below `end` is RAM (S2); `here` is aligned as every stack pointer is.
    let word = |address: u64| unsafe { (address as *const u64).read_volatile() };
    let mut shown = 0;
    for frame in (here..end).step_by(8) {
        let link = word(frame + 112);
        if word(frame + 120) == frame && follows_call(link) && shown < 32 {
            show(link);
            shown += 1;
        }
    }
}

/// Whether the instruction before `address` is BRASL or BASR in the image.
fn follows_call(address: u64) -> bool {
    if address & 1 != 0 || !super::boot::image().contains(&address) {
        return false;
    }
    // SAFETY: inside the image, which starts with more than six bytes of boot code.
    let half = |back: u64| unsafe { ((address - back) as *const u16).read_volatile() };
    half(6) == 0xc0e5 || half(2) >> 4 == 0x0de
}

macro_rules! s_format {
    ($($(#[$doc:meta])* $name:ident = $opcode:literal;)*) => {
        $($(#[$doc])* pub fn $name(address: u64) -> Result<(), Fault> {
            s_format($opcode, address).map(|_| ())
        })*
    };
}

s_format! {
    /// SET PREFIX, from the word at `address`. The new prefix area must be one the runtime can
    /// live with: a copy of the old one.
    set_prefix = 0xb210;
    /// STORE PREFIX, to the word at `address`.
    store_prefix = 0xb211;
    /// STORE CPU ADDRESS, to the halfword at `address`.
    store_cpu_address = 0xb212;
    /// STORE CPU ID, to the doubleword at `address`.
    store_cpu_id = 0xb202;
    /// SET CLOCK COMPARATOR, from the doubleword at `address`.
    set_clock_comparator = 0xb206;
    /// STORE CLOCK COMPARATOR, to the doubleword at `address`.
    store_clock_comparator = 0xb207;
    /// SET CPU TIMER, from the doubleword at `address`.
    set_cpu_timer = 0xb208;
    /// STORE CPU TIMER, to the doubleword at `address`.
    store_cpu_timer = 0xb209;
    /// STORE FACILITY LIST, to the prefix area.
    store_facility_list = 0xb2b1;
}

/// SET CLOCK, from the doubleword at `address`: the condition code.
pub fn set_clock(address: u64) -> Result<u8, Fault> {
    s_format(0xb204, address)
}

/// STORE CLOCK, to the doubleword at `address`: the condition code.
pub fn store_clock(address: u64) -> Result<u8, Fault> {
    s_format(0xb205, address)
}

/// STORE CLOCK EXTENDED, to 16 bytes at `address`: the condition code.
pub fn store_clock_extended(address: u64) -> Result<u8, Fault> {
    s_format(0xb278, address)
}

/// STORE SYSTEM INFORMATION with GPR0 and GPR1 as they are.
pub fn store_system_information(r0: u64, r1: u64, address: u64) -> Result<Ran, Fault> {
    execute(
        &[0xb27d, 0x2000],
        registers([(0, r0), (1, r1), (2, address)]),
    )
}

/// TEST BLOCK on the frame at `address`: the condition code.
pub fn test_block(address: u64) -> Result<u8, Fault> {
    execute(&[0xb22c, 0x0024], registers([(4, address)])).map(|ran| ran.cc)
}
