//! Shadow-stack pages: how page tables mark them. Spec: SDM 3A 4.6.
//!
//! A shadow-stack page is read-only and dirty in its last entry, and writable in all others. It
//! takes shadow-stack accesses of its own privilege alone, and other pages take none. The page
//! fault of a shadow-stack access has bit 6.

use guest_lib::arch::cet::{self, Cet, PF_SS, SH_STK_EN, USER_STACK};
use guest_lib::arch::paging::{A, D, P, PF_P, PF_U, PF_W, U, W};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// call 6; nop; 6:
const CALL: [u8; 6] = [0xe8, 1, 0, 0, 0, 0x90];

/// A CALL whose shadow-stack push meets a page that is no user shadow stack faults with bit 6.
#[case(
    spec = "SDM 3A 4.6.1",
    needs("x86.cet_ss"),
    rows(
        writable: (P | W | U | A | D, PF_P),
        not_dirty: (P | U | A, PF_P),
        supervisor: (P | A | D, PF_P),
        absent: (0, 0),
    )
)]
fn push_needs_a_user_shadow_stack(cet: &mut Cet, row: (u64, u32)) -> Verdict {
    let (leaf, present) = row;
    let frame = cet.user_stack.address();
    expect_eq!(cet.user(SH_STK_EN, &CALL, 0), Ok(()), "a shadow stack")?;
    cet.space.set(USER_STACK, 1, frame | leaf);
    let got = cet.user(SH_STK_EN, &CALL, 0);
    expect_eq!(
        got,
        Err(Fault::pf(present | PF_W | PF_U | PF_SS)),
        "leaf {leaf:#x}"
    )?;
    expect_eq!(fault::details().cr2, USER_STACK + 4088)?;
    cet.space.set(USER_STACK, 1, frame | cet::USER_LEAF);
    expect_eq!(cet.user(SH_STK_EN, &CALL, 0), Ok(()), "mended")
}

/// A RET whose shadow-stack pop meets an ordinary page faults with bit 6, as a read.
#[case(spec = "SDM 3A 4.6.1", needs("x86.cet_ss"))]
fn pop_needs_a_shadow_stack(cet: &mut Cet) -> Verdict {
    cet.user_ssp = USER_STACK + 0x800;
    let frame = cet.user_stack.address();
    cet.space.set(USER_STACK, 1, frame | P | W | U | A | D);
    let got = cet.user(SH_STK_EN, &[0xc3], 0);
    expect_eq!(got, Err(Fault::pf(PF_P | PF_U | PF_SS)))
}

/// Read-only at a level above makes the page no shadow stack.
#[case(spec = "SDM 3A 4.6.1", needs("x86.cet_ss"), rows(table: 2, directory: 3, pml4: 4))]
fn upper_levels_must_be_writable(cet: &mut Cet, row: u32) -> Verdict {
    let good = cet.space.get(USER_STACK, row);
    cet.space.set(USER_STACK, row, good & !W);
    let got = cet.user(SH_STK_EN, &CALL, 0);
    expect_eq!(got, Err(Fault::pf(PF_P | PF_W | PF_U | PF_SS)))?;
    cet.space.set(USER_STACK, row, good);
    expect_eq!(cet.user(SH_STK_EN, &CALL, 0), Ok(()), "mended")
}

/// An ordinary write to a shadow-stack page faults, without bit 6; a read does not.
#[case(spec = "SDM 3A 4.6.1", needs("x86.cet_ss"))]
fn ordinary_writes_are_refused(cet: &mut Cet) -> Verdict {
    // mov rax, [rdi]; mov [rdi], rax
    expect_eq!(
        cet.user(SH_STK_EN, &[0x48, 0x8b, 0x07], USER_STACK),
        Ok(()),
        "read"
    )?;
    let write = [0x48, 0x89, 0x07];
    let refused = Err(Fault::pf(PF_P | PF_W | PF_U));
    expect_eq!(cet.user(SH_STK_EN, &write, USER_STACK), refused, "write")?;
    expect_eq!(
        cet.user(0, &write, USER_STACK),
        refused,
        "write, shadow stacks off"
    )?;
    let plain = Frames::new(1);
    expect_eq!(
        cet.user(SH_STK_EN, &write, plain.address()),
        Ok(()),
        "an ordinary page"
    )
}

/// A supervisor's ordinary write to a shadow-stack page faults.
#[case(spec = "SDM 3A 4.6.1", needs("x86.cet_ss"), rows(user: USER_STACK, supervisor: cet::SUPERVISOR_STACK_2))]
fn supervisor_writes_are_refused(cet: &mut Cet, row: u64) -> Verdict {
    let read = cet.supervisor(0, &[0x48, 0x8b, 0x07], row).map(|_| ());
    expect_eq!(read, Ok(()), "read")?;
    let write = cet.supervisor(0, &[0x48, 0x89, 0x07], row).map(|_| ());
    expect_eq!(write, Err(Fault::pf(PF_P | PF_W)), "write")
}
