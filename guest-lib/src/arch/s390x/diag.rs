//! DIAGNOSE, the hypervisor's own instruction: any code with any registers.

use super::exec::{Ran, execute, registers};
use super::fault::Fault;

/// DIAGNOSE `code` with the R1 operand in register 2 (its odd neighbour 3 too) and the R3
/// operand in register 4. The code is the displacement where it fits, as programs write it.
pub fn diagnose(code: u64, r1: u64, r1_odd: u64, r3: u64) -> Result<Ran, Fault> {
    let with = registers([(2, r1), (3, r1_odd), (4, r3), (5, code)]);
    match u16::try_from(code) {
        Ok(displacement) if displacement < 0x1000 => execute(&[0x8324, displacement], with),
        _ => diagnose_by_register(code, r1, r1_odd, r3),
    }
}

/// As [`diagnose`], with the code in base register 5.
pub fn diagnose_by_register(code: u64, r1: u64, r1_odd: u64, r3: u64) -> Result<Ran, Fault> {
    execute(
        &[0x8324, 0x5000],
        registers([(2, r1), (3, r1_odd), (4, r3), (5, code)]),
    )
}

/// As [`diagnose`], with the register fields as they are; `code` is below 4096.
pub fn diagnose_fields(fields: u8, code: u16, all: [u64; 14]) -> Result<Ran, Fault> {
    execute(&[0x8300 | u16::from(fields), code], all)
}

/// Whether the watchdog answers: it is started for an hour and stopped.
pub fn has_watchdog() -> bool {
    diagnose(0x288, 0, 3600, 0).is_ok() && diagnose(0x288, 2, 0, 0).is_ok()
}

/// The request block of page-reference services: cancel with no token set.
pub fn page_reference_block(function: u16) -> crate::memory::Frames {
    let block = crate::memory::Frames::new(1);
    // Length in doublewords, diagnose code, function, version.
    block.write(0, 5u16);
    block.write(2, 0x258u16);
    block.write(4, function);
    block.write(6, 2u16);
    block
}

/// DIAGNOSE 0x258 with the block at `address`.
pub fn page_reference(address: u64) -> Result<Ran, Fault> {
    diagnose(0x258, address, 0, 0)
}

/// Whether page-reference services answer a cancel.
pub fn has_page_reference_services() -> bool {
    page_reference(page_reference_block(1).address()).is_ok()
}

core::arch::global_asm!(
    ".text",
    ".globl __assay_reset",
    ".balign 8",
    // r2: subcode. Everything but storage may be gone when the program resumes.
    "__assay_reset:",
    "larl %r1, 2f",
    "stmg %r6, %r15, 0(%r1)",
    "stctg %c0, %c0, 80(%r1)",
    "larl %r3, 1f",
    "st %r3, 4",
    "oi 4, 0x80",
    "lgfi %r0, 0x00080001",
    "st %r0, 0",
    "lgr %r4, %r2",
    "lghi %r2, 1",
    "lghi %r3, 0",
    "diag %r2, %r4, 0x308",
    // Only a refused subcode comes here.
    "lghi %r2, 1",
    "br %r14",
    ".balign 8",
    "1: larl %r1, 2f",
    "lmg %r6, %r15, 0(%r1)",
    // CR0 first: the rest of the program wants its floating-point registers.
    "lctlg %c0, %c0, 80(%r1)",
    "lghi %r2, 0",
    "br %r14",
    ".bss",
    ".balign 8",
    "2: .zero 88",
    ".text",
);

unsafe extern "C" {
    fn __assay_reset(subcode: u64) -> u64;
}

/// DIAGNOSE 0x308 with a subcode that resets the machine and loads the PSW at absolute 0, which
/// resumes here. `look` runs next, while control registers 1 to 15 are as the reset left them;
/// then they get their old values.
///
/// The prefix must be zero. Other processors are stopped afterwards.
pub fn reset_and_resume(subcode: u64, look: impl FnOnce()) -> Result<(), Fault> {
    let page = crate::memory::Frames::new(1);
    let store = |at| execute(&[0xeb0f, 0x2000, 0x0025], registers([(2, at)]));
    store(page.address())?;
    let refused = super::fault::catch(|| {
        // SAFETY: S1; storage survives the reset, and the resumed code restores the registers.
        unsafe { __assay_reset(subcode) }
    })?;
    look();
    execute(&[0xeb1f, 0x2008, 0x002f], registers([(2, page.address())]))?;
    super::platform::announce_console();
    if refused != 0 {
        return Err(Fault::SPECIFICATION);
    }
    Ok(())
}
