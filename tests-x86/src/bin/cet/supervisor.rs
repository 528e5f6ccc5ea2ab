//! The supervisor shadow stack: its token, events, the IST table. Spec: SDM 1 17.2.3, SDM 3A 6.14.
//!
//! A supervisor shadow stack is entered through a token that says whether it is busy. Events
//! push where they came from, and switch shadow stacks along with stacks.

use guest_lib::arch::cet::{
    self, CP_SETSSBSY, Cet, SH_STK_EN, SUPERVISOR_STACK, SUPERVISOR_STACK_2, TOKEN,
};
use guest_lib::arch::registers::Cr4;
use guest_lib::arch::{msr, segments};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const FIRST: u64 = SUPERVISOR_STACK + TOKEN;
const SECOND: u64 = SUPERVISOR_STACK_2 + TOKEN;

/// Turns S_CET off, so that code can return to a caller that is on no shadow stack.
const LEAVE: [u8; 11] = [0xb9, 0xa2, 6, 0, 0, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30];
/// PL0_SSP = RDI; SETSSBSY
const SET_BUSY: [u8; 19] = [
    0xb9, 0xa4, 6, 0, 0, 0x89, 0xf8, 0x48, 0x89, 0xfa, 0x48, 0xc1, 0xea, 0x20, 0x0f, 0x30, 0xf3,
    0x0f, 0x01,
];

fn set_busy() -> Vec<u8> {
    let mut code = SET_BUSY.to_vec();
    code.push(0xe8);
    code
}

/// SETSSBSY marks the token busy and makes it SSP.
#[case(spec = "SDM 2B 4.3 SETSSBSY", needs("x86.cet_ss"))]
fn setssbsy_takes_the_stack(cet: &mut Cet) -> Verdict {
    // rdsspq rax; the call that got here has pushed 8 bytes
    let got = cet.supervisor(SH_STK_EN, &[0xf3, 0x48, 0x0f, 0x1e, 0xc8], 0);
    expect_eq!(got, Ok(FIRST - 8))?;
    expect_eq!(
        cet.supervisor_stack.read::<u64>(TOKEN as usize),
        FIRST | 1,
        "the token is busy"
    )
}

/// SETSSBSY refuses a token that is busy or of another address: #CP(5).
#[case(
    spec = "SDM 2B 4.3 SETSSBSY",
    needs("x86.cet_ss"),
    rows(busy: SECOND | 1, other_address: SECOND + 8, reserved_bit: SECOND | 2, zero: 0)
)]
fn setssbsy_checks_the_token(cet: &mut Cet, row: u64) -> Verdict {
    let mut code = set_busy();
    cet.supervisor_stack_2.write(TOKEN as usize, row);
    let got = cet.supervisor(SH_STK_EN, &code, SECOND);
    expect_eq!(got, Err(Fault::cp(CP_SETSSBSY)), "bad token")?;
    expect_eq!(
        cet.supervisor_stack_2.read::<u64>(TOKEN as usize),
        row,
        "the token stays"
    )?;
    cet.supervisor_stack_2.write(TOKEN as usize, SECOND);
    code.extend(LEAVE);
    expect_eq!(
        cet.supervisor(SH_STK_EN, &code, SECOND).map(|_| ()),
        Ok(()),
        "good token"
    )?;
    expect_eq!(
        cet.supervisor_stack_2.read::<u64>(TOKEN as usize),
        SECOND | 1
    )
}

/// SETSSBSY needs an SSP that is a multiple of 8.
#[case(spec = "SDM 2B 4.3 SETSSBSY", needs("x86.cet_ss"))]
fn setssbsy_checks_the_alignment(cet: &mut Cet) -> Verdict {
    expect_eq!(
        cet.supervisor(SH_STK_EN, &set_busy(), SECOND - 4),
        Err(Fault::GP0)
    )
}

/// SETSSBSY is #UD without supervisor shadow stacks, and #GP at level 3.
#[case(spec = "SDM 2B 4.3 SETSSBSY", needs("x86.cet_ss"))]
fn setssbsy_needs_supervisor_shadow_stacks(cet: &mut Cet) -> Verdict {
    let code = [0xf3, 0x0f, 0x01, 0xe8];
    expect_eq!(cet.supervisor(0, &code, 0), Err(Fault::UD), "S_CET off")?;
    expect_eq!(
        cet.user(SH_STK_EN, &code, 0),
        Err(Fault::UD),
        "level 3, S_CET off"
    )
}

/// CLRSSBSY: clears the busy bit and CF; sets CF for any other token; SSP becomes 0.
#[case(
    spec = "SDM 2A 3.3 CLRSSBSY",
    needs("x86.cet_ss"),
    rows(busy: (SECOND | 1, SECOND, 0), free: (SECOND, SECOND, 1), other: (0x1001, 0x1001, 1))
)]
fn clrssbsy_frees_a_busy_token(cet: &mut Cet, row: (u64, u64, u64)) -> Verdict {
    let (before, after, carry) = row;
    // clrssbsy [rdi]; setc r8b; mov r9, -1; rdsspq r9
    let mut code = vec![0xf3, 0x0f, 0xae, 0x37, 0x41, 0x0f, 0x92, 0xc0];
    code.extend([
        0x49, 0xc7, 0xc1, 0xff, 0xff, 0xff, 0xff, 0xf3, 0x49, 0x0f, 0x1e, 0xc9,
    ]);
    code.extend(LEAVE);
    // movzx eax, r8b; shl r9, 1; or rax, r9
    code.extend([0x41, 0x0f, 0xb6, 0xc0, 0x49, 0xd1, 0xe1, 0x4c, 0x09, 0xc8]);
    cet.supervisor_stack_2.write(TOKEN as usize, before);
    let got = cet.supervisor(SH_STK_EN, &code, SECOND)?;
    expect_eq!(
        cet.supervisor_stack_2.read::<u64>(TOKEN as usize),
        after,
        "the token"
    )?;
    expect_eq!(got >> 1, 0, "SSP")?;
    expect_eq!(got & 1, carry, "CF")
}

/// CLRSSBSY needs an operand that is a multiple of 8.
#[case(spec = "SDM 2A 3.3 CLRSSBSY", needs("x86.cet_ss"))]
fn clrssbsy_checks_the_alignment(cet: &mut Cet) -> Verdict {
    let got = cet.supervisor(SH_STK_EN, &[0xf3, 0x0f, 0xae, 0x37], SECOND - 4);
    expect_eq!(got, Err(Fault::GP0))
}

/// A supervisor RET to another place is #CP(1).
#[case(spec = "SDM 2B 4.3 RET", needs("x86.cet_ss"))]
fn supervisor_ret_compares(cet: &mut Cet) -> Verdict {
    let good = [
        0xe8, 3, 0, 0, 0, 0x90, 0xeb, 6, 0x0f, 0x1f, 0x40, 0, 0xc3, 0x90,
    ];
    expect_eq!(
        cet.supervisor(SH_STK_EN, &good, 0).map(|_| ()),
        Ok(()),
        "good"
    )?;
    let bad = [
        0xe8, 3, 0, 0, 0, 0x90, 0xeb, 6, 0x48, 0xff, 0x04, 0x24, 0xc3, 0x90,
    ];
    let got = cet.supervisor(SH_STK_EN, &bad, 0).map(|_| ());
    expect_eq!(got, Err(Fault::cp(cet::CP_NEAR_RET)), "changed")?;
    expect_eq!(
        cet.supervisor(0, &bad, 0).map(|_| ()),
        Ok(()),
        "changed, shadow stack off"
    )
}

/// Code at an address of its own, with RET behind it.
fn place(bytes: &[u8]) -> Frames {
    let mut frames = Frames::new(1);
    frames.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
    frames.bytes_mut()[bytes.len()] = 0xc3;
    frames
}

/// An event at level 0 pushes CS, LIP and SSP, and IRET takes them back.
#[case(spec = "SDM 2A 3.3 INT", needs("x86.cet_ss"))]
fn event_at_level_zero_pushes_a_frame(cet: &mut Cet) -> Verdict {
    let code = place(&[0xcd, 0x95]);
    let handler = fault::Handler::new(0x95, |_| ());
    let got = cet.supervisor_at(SH_STK_EN, code.address(), 0).map(|_| ());
    drop(handler);
    expect_eq!(got, Ok(()))?;
    let at = TOKEN as usize;
    let frame = [at - 16, at - 24, at - 32].map(|at| cet.supervisor_stack.read::<u64>(at));
    let expected = [
        u64::from(segments::KERNEL_CODE),
        code.address() + 2,
        FIRST - 8,
    ];
    expect_eq!(frame, expected, "CS, LIP, SSP")
}

/// IRET at level 0 to another place than the frame's is #CP(2).
#[case(spec = "SDM 2A 3.3 IRET", needs("x86.cet_ss"))]
fn iret_at_level_zero_compares(cet: &mut Cet) -> Verdict {
    // int 0x96; nop; nop: the handler skips one byte
    let code = place(&[0xcd, 0x96, 0x90, 0x90]);
    let handler = fault::Handler::new(0x96, |frame| frame.rip += 1);
    let off = cet.supervisor_at(0, code.address(), 0).map(|_| ());
    let on = cet.supervisor_at(SH_STK_EN, code.address(), 0).map(|_| ());
    drop(handler);
    expect_eq!(off, Ok(()), "shadow stack off")?;
    expect_eq!(on, Err(Fault::cp(cet::CP_FAR_RET)), "shadow stack on")
}

/// An event through an IST gate at level 0 takes its shadow stack from the table.
#[case(spec = "SDM 2A 3.3 INT", needs("x86.cet_ss"))]
fn ist_gate_uses_the_table(cet: &mut Cet) -> Verdict {
    let code = place(&[0xcd, 0x97]);
    let (stack, table) = (Frames::new(2), Frames::new(1));
    let at = TOKEN as usize;
    for ist in 1..8 {
        table.write(8 * ist, if ist == 3 { SECOND } else { 0 });
    }
    cet.supervisor_stack_2.write(at, SECOND);
    msr::write(cet::SSP_TABLE, table.address())?;
    segments::set_ist(3, stack.address() + stack.len() as u64);
    let handler = fault::Handler::new(0x97, |_| ());
    let got = segments::with_gate(0x97, 0, 3, || {
        cet.supervisor_at(SH_STK_EN, code.address(), 0)
    });
    drop(handler);
    segments::set_ist(3, 0);
    expect_eq!(got.map(|_| ()), Ok(()))?;
    let frame = [at - 8, at - 16, at - 24].map(|at| cet.supervisor_stack_2.read::<u64>(at));
    let expected = [
        u64::from(segments::KERNEL_CODE),
        code.address() + 2,
        FIRST - 8,
    ];
    expect_eq!(frame, expected, "CS, LIP, SSP on the stack of the table")?;
    expect_eq!(
        cet.supervisor_stack_2.read::<u64>(at),
        SECOND,
        "IRET frees the token"
    )
}

/// User code that ends with INT 81h.
fn place_user(bytes: &[u8]) -> Frames {
    let mut frames = Frames::new(1);
    frames.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
    frames.bytes_mut()[bytes.len()..bytes.len() + 2].copy_from_slice(&[0xcd, 0x81]);
    frames
}

/// An event at level 3 takes the shadow stack of PL0_SSP and marks it busy, and pushes no frame.
#[case(spec = "SDM 2A 3.3 INT", needs("x86.cet_ss"))]
fn event_at_level_three_takes_pl0_ssp(cet: &mut Cet) -> Verdict {
    let code = place_user(&[0x90]);
    let at = TOKEN as usize;
    cet.supervisor_stack_2.write(at, SECOND);
    cet.supervisor_stack_2.write(at - 8, u64::MAX);
    expect_eq!(
        cet.user_under_supervisor(SH_STK_EN, code.address(), SECOND),
        Ok(())
    )?;
    expect_eq!(cet.supervisor_stack_2.read::<u64>(at), SECOND | 1, "busy")?;
    // What lies below is a return address of the handler, never CS.
    let below = cet.supervisor_stack_2.read::<u64>(at - 8);
    expect_ne!(below, u64::from(segments::USER_CODE), "no frame")?;
    expect_eq!(cet.ssp_after, cet::USER_STACK + 4096, "PL3_SSP")
}

/// IRET to level 3 frees the token of the shadow stack it leaves.
#[case(spec = "SDM 2A 3.3 IRET", needs("x86.cet_ss"))]
fn iret_to_level_three_frees_the_token(cet: &mut Cet) -> Verdict {
    let code = place_user(&[0x90]);
    let at = TOKEN as usize;
    cet.supervisor_stack_2.write(at, SECOND);
    expect_eq!(
        cet.user_under_supervisor(SH_STK_EN, code.address(), SECOND),
        Ok(())
    )?;
    expect_eq!(
        cet.supervisor_stack.read::<u64>(at),
        FIRST,
        "free after IRET"
    )
}

/// With CR4.CET off, S_CET has no effect on RET.
#[case(spec = "SDM 1 17.1", needs("x86.cet_ss"))]
fn cr4_cet_gates_supervisor_shadow_stacks(cet: &mut Cet) -> Verdict {
    Cr4::read().difference(Cr4::CET).write()?;
    let bad = [
        0xe8, 3, 0, 0, 0, 0x90, 0xeb, 6, 0x48, 0xff, 0x04, 0x24, 0xc3, 0x90,
    ];
    // WR_SHSTK_EN alone would do as well; SETSSBSY is not executed for it.
    let got = cet.supervisor(cet::WR_SHSTK_EN, &bad, 0).map(|_| ());
    expect_eq!(got, Ok(()))?;
    expect_eq!(
        cet.user(SH_STK_EN, &bad, 0),
        Ok(()),
        "and on user shadow stacks"
    )
}
