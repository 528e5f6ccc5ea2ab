//! Privilege level 3. Spec: SDM 3A 5.9, 6.15.
//!
//! User code is a closure, and its faults are values like any other. What must hold: it really
//! runs at level 3, it really returns, and nothing of it stays behind.

use guest_lib::arch::code::Code;
use guest_lib::arch::registers::Rflags;
use guest_lib::arch::{cpu, msr, segments};
use guest_lib::prelude::*;

/// A privileged instruction at privilege level 3 raises #GP(0); a harmless one does not.
#[case(spec = "SDM 3A 6.15 CLI")]
fn user_mode_is_not_privileged() -> Verdict {
    expect_eq!(fault::catch_user(cpu::disable_interrupts), Err(Fault::GP0))?;
    expect_eq!(fault::details().cs & 3, 3)?;
    expect_eq!(fault::details().cs, segments::USER_CODE)?;
    expect_eq!(fault::catch_user(|| 40 + 2), Ok(42))
}

/// HLT, MOV from CR0, RDMSR, LGDT and OUT raise #GP(0) at level 3 at their own address.
#[case(
    spec = "SDM 3A 5.9",
    rows(
        hlt: &[0xf4, 0xc3],
        mov_from_cr0: &[0x0f, 0x20, 0xc0, 0xc3],
        rdmsr: &[0x0f, 0x32, 0xc3],
        lgdt: &[0x0f, 0x01, 0x14, 0x24, 0xc3],
        out: &[0xe6, 0x80, 0xc3],
        invlpg: &[0x0f, 0x01, 0x3c, 0x24, 0xc3],
    )
)]
fn privileged_instruction(bytes: &'static [u8]) -> Verdict {
    let code = Code::new(bytes);
    let address = code.address();
    expect_eq!(
        fault::catch_user(|| cpu::call_raw(address)),
        Err(Fault::GP0)
    )?;
    expect_eq!(fault::details().rip, address)?;
    let nothing = Code::new(&[0x90, 0xc3]);
    let address = nothing.address();
    expect_eq!(fault::catch_user(|| cpu::call_raw(address)).is_ok(), true)
}

/// User code returns to level 0 with flags, stack and CR3 as they were, a thousand times.
#[case(spec = "SDM 3A 5.9")]
fn returning_from_user_mode_leaves_nothing_behind() -> Verdict {
    let (flags, cr3) = (cpu::rflags(), cpu::read_cr3());
    for i in 0..1000u64 {
        let seen = fault::catch_user(|| i + 1);
        expect_eq!(seen, Ok(i + 1))?;
    }
    expect_eq!(cpu::read_cr3(), cr3)?;
    let kept = (Rflags::IF | Rflags::DF | Rflags::TF | Rflags::IOPL).bits();
    expect_eq!(cpu::rflags() & kept, flags & kept)?;
    // Level 0 again: this would fault otherwise.
    msr::read(msr::EFER)?;
    Ok(())
}
