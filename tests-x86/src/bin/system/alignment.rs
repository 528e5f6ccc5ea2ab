//! Alignment checking. Spec: SDM 3A 6.15, Interrupt 17.
//!
//! An unaligned access faults only when three things agree: CR0.AM, RFLAGS.AC and privilege
//! level 3. Emulators like to leave it out, because x86 memory accesses need no alignment otherwise.

use guest_lib::arch::registers::{Cr0, Rflags, SavedControl};
use guest_lib::arch::{code::Code, cpu};
use guest_lib::prelude::*;

/// The three conditions, and the fault they lead to.
fn unaligned(am: bool, ac: bool, user: bool) -> Result<(), Fault> {
    let _saved = SavedControl::new();
    let cr0 = Cr0::read();
    if am { cr0 | Cr0::AM } else { cr0 - Cr0::AM }.write()?;
    // pushfq; (or dword [rsp],40000h); popfq; mov eax,[rsp-7]; pushfq; and dword ..; popfq; ret
    let flag = if ac { 4 } else { 0 };
    let code = Code::new(&[
        0x9c, 0x81, 0x0c, 0x24, 0, 0, flag, 0, 0x9d, 0x8b, 0x44, 0x24, 0xf9, 0x9c, 0x81, 0x24,
        0x24, 0xff, 0xff, 0xfb, 0xff, 0x9d, 0xc3,
    ]);
    let address = code.address();
    if user {
        fault::catch_user(|| cpu::call_raw(address)).map(|_| ())
    } else {
        fault::catch(|| cpu::call_raw(address)).map(|_| ())
    }
}

/// An unaligned access at level 3 with CR0.AM and RFLAGS.AC set raises #AC(0); without any one of the three it succeeds.
#[case(spec = "SDM 3A 6.15 #AC")]
fn unaligned_access_raises_ac_only_when_all_agree() -> Verdict {
    expect_eq!(unaligned(false, true, true), Ok(()))?;
    expect_eq!(unaligned(true, false, true), Ok(()))?;
    expect_eq!(unaligned(true, true, false), Ok(()))?;
    expect_eq!(unaligned(true, true, true), Err(Fault::AC))?;
    expect_eq!(cpu::rflags() & Rflags::AC.bits(), 0)
}
