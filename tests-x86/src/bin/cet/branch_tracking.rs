//! Indirect-branch tracking. Spec: SDM 1 17.3.
//!
//! After an indirect CALL or JMP the processor waits for ENDBRANCH: any other instruction is
//! #CP(3). The waiting is state, which events save and IRET restores, and which a bitmap of
//! legacy pages can suppress.

use guest_lib::arch::cet::{
    self, CP_ENDBRANCH, Cet, ENDBR_EN, LEG_IW_EN, NO_TRACK_EN, SUPPRESS, SUPPRESS_DIS, TRACKER,
};
use guest_lib::arch::registers::Cr4;
use guest_lib::arch::{msr, segments};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
const ENDBR32: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfb];
const NOP4: [u8; 4] = [0x0f, 0x1f, 0x40, 0x00];
const MISSED: Result<(), Fault> = Err(Fault::cp(CP_ENDBRANCH));

/// lea rax, [rip + length of branch]; branch; target
fn to(branch: &[u8], target: [u8; 4]) -> Vec<u8> {
    let mut code = vec![0x48, 0x8d, 0x05, branch.len() as u8, 0, 0, 0];
    code.extend_from_slice(branch);
    code.extend(target);
    code
}

/// An indirect branch must land on ENDBR64.
#[case(
    spec = "SDM 1 17.3.4",
    needs("x86.cet_ibt"),
    rows(jmp: &[0xff, 0xe0], call: &[0xff, 0xd0])
)]
fn indirect_branch_needs_endbr64(cet: &mut Cet, row: &[u8]) -> Verdict {
    expect_eq!(cet.user(ENDBR_EN, &to(row, ENDBR64), 0), Ok(()), "ENDBR64")?;
    expect_eq!(cet.u_cet_after & TRACKER, 0, "the tracker is idle")?;
    expect_eq!(
        cet.user(ENDBR_EN, &to(row, NOP4), 0),
        MISSED,
        "another instruction"
    )?;
    expect_eq!(
        cet.u_cet_after & TRACKER,
        TRACKER,
        "the tracker still waits"
    )?;
    expect_eq!(
        cet.user(ENDBR_EN, &to(row, ENDBR32), 0),
        MISSED,
        "ENDBR32 in 64-bit code"
    )?;
    expect_eq!(cet.user(0, &to(row, NOP4), 0), Ok(()), "tracking off")
}

/// The fault points at the instruction that is not ENDBR64.
#[case(spec = "SDM 1 17.3.4", needs("x86.cet_ibt"))]
fn missing_endbr_faults_at_the_target(cet: &mut Cet) -> Verdict {
    let mut code = Frames::new(1);
    let bytes = to(&[0xff, 0xe0], NOP4);
    code.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
    expect_eq!(cet.user_at(ENDBR_EN, code.address(), 0), MISSED)?;
    expect_eq!(fault::details().rip, code.address() + 9)
}

/// Indirect branches through memory are tracked, near and far.
#[case(
    spec = "SDM 1 17.3.4",
    needs("x86.cet_ibt"),
    rows(
        near_jmp: &[0xff, 0x27], near_call: &[0xff, 0x17],
        far_jmp: &[0x48, 0xff, 0x2f], far_call: &[0x48, 0xff, 0x1f],
    )
)]
fn branch_through_memory_needs_endbr64(cet: &mut Cet, row: &[u8]) -> Verdict {
    let pointer = Frames::new(1);
    for (target, expected) in [(ENDBR64, Ok(())), (NOP4, MISSED), (ENDBR64, Ok(()))] {
        let mut code = Frames::new(1);
        let mut bytes = row.to_vec();
        bytes.extend(target);
        bytes.extend([0xcd, 0x81]);
        code.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
        pointer.write(0, code.address() + row.len() as u64);
        pointer.write(8, segments::USER_CODE);
        let got = cet.user_at(ENDBR_EN, code.address(), pointer.address());
        expect_eq!(got, expected, "target {:#x}", target[0])?;
    }
    Ok(())
}

/// Direct branches, RET and conditional jumps are not tracked.
#[case(
    spec = "SDM 1 17.3.4",
    needs("x86.cet_ibt"),
    rows(
        jmp: &[0xeb, 0x00], call: &[0xe8, 1, 0, 0, 0, 0x90], ret: &[0x48, 0x8d, 0x05, 2, 0, 0, 0, 0x50, 0xc3],
        jz: &[0x31, 0xc0, 0x74, 0x00],
    )
)]
fn other_branches_are_not_tracked(cet: &mut Cet, row: &[u8]) -> Verdict {
    let mut code = row.to_vec();
    code.extend(NOP4);
    expect_eq!(cet.user(ENDBR_EN, &code, 0), Ok(()))?;
    expect_eq!(cet.u_cet_after & TRACKER, 0)?;
    expect_eq!(
        cet.user(ENDBR_EN, &to(&[0xff, 0xe0], NOP4), 0),
        MISSED,
        "an indirect one is"
    )
}

/// The no-track prefix works exactly with its enable bit.
#[case(
    spec = "SDM 1 17.3.1",
    needs("x86.cet_ibt"),
    rows(jmp: &[0x3e, 0xff, 0xe0], call: &[0x3e, 0xff, 0xd0])
)]
fn no_track_prefix_needs_its_bit(cet: &mut Cet, row: &[u8]) -> Verdict {
    let code = to(row, NOP4);
    expect_eq!(
        cet.user(ENDBR_EN | NO_TRACK_EN, &code, 0),
        Ok(()),
        "bit set"
    )?;
    expect_eq!(cet.user(ENDBR_EN, &code, 0), MISSED, "bit clear")?;
    let plain = to(&row[1..], NOP4);
    expect_eq!(
        cet.user(ENDBR_EN | NO_TRACK_EN, &plain, 0),
        MISSED,
        "no prefix"
    )
}

/// ENDBR64 is a NOP where nothing waits for it, and where tracking is off.
#[case(spec = "SDM 2A 3.3 ENDBR64", needs("x86.cet_ibt"))]
fn endbr64_is_a_nop_elsewhere(cet: &mut Cet) -> Verdict {
    for u_cet in [0, ENDBR_EN] {
        expect_eq!(cet.user(u_cet, &ENDBR64, 0), Ok(()), "U_CET {u_cet:#x}")?;
    }
    Ok(())
}

/// With CR4.CET off nothing is tracked.
#[case(spec = "SDM 1 17.1", needs("x86.cet_ibt"))]
fn cr4_cet_gates_tracking(cet: &mut Cet) -> Verdict {
    let code = to(&[0xff, 0xe0], NOP4);
    expect_eq!(cet.user(ENDBR_EN, &code, 0), MISSED, "CR4.CET on")?;
    Cr4::read().difference(Cr4::CET).write()?;
    expect_eq!(cet.user(ENDBR_EN, &code, 0), Ok(()), "CR4.CET off")
}

/// A tracker that already waits when user code is entered takes ENDBR64 alone.
#[case(spec = "SDM 1 17.3.3", needs("x86.cet_ibt"))]
fn waiting_tracker_is_restored_by_iret(cet: &mut Cet) -> Verdict {
    expect_eq!(cet.user(ENDBR_EN | TRACKER, &ENDBR64, 0), Ok(()), "ENDBR64")?;
    expect_eq!(
        cet.user(ENDBR_EN | TRACKER, &NOP4, 0),
        MISSED,
        "another instruction"
    )?;
    expect_eq!(cet.user(ENDBR_EN, &NOP4, 0), Ok(()), "an idle tracker")
}

/// An event between the branch and its target saves the waiting, and IRET restores it.
#[case(spec = "SDM 1 17.3.3", needs("x86.cet_ibt"))]
fn event_before_endbr_saves_the_waiting(cet: &mut Cet) -> Verdict {
    use core::sync::atomic::{AtomicU64, Ordering};
    static SEEN: AtomicU64 = AtomicU64::new(0);
    // pushfq; or dword ptr [rsp], 0x100; popfq: the trap comes after the branch.
    let stepped = |target| {
        let mut code = vec![0x48, 0x8d, 0x05, 11, 0, 0, 0];
        code.extend([0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0xff, 0xe0]);
        code.extend(target);
        code
    };
    for (target, expected) in [(ENDBR64, Ok(())), (NOP4, MISSED)] {
        SEEN.store(0, Ordering::Relaxed);
        let handler = fault::Handler::new(1, |frame| {
            SEEN.store(msr::read(cet::U_CET).unwrap_or(0), Ordering::Relaxed);
            frame.rflags &= !0x100;
        });
        let got = cet.user(ENDBR_EN, &stepped(target), 0);
        drop(handler);
        expect_eq!(got, expected, "target {:#x}", target[0])?;
        expect_eq!(
            SEEN.load(Ordering::Relaxed),
            ENDBR_EN | TRACKER,
            "U_CET in the handler"
        )?;
    }
    Ok(())
}

/// A legacy bitmap for user code below 128 MiB; bit n is for page n.
fn bitmap(code: &Frames, legacy: bool) -> Result<Frames, Stop> {
    let bitmap = Frames::new(1);
    let page = (code.address() >> 12) as usize;
    if page / 8 >= 4096 {
        return skip("x86.cet_ibt");
    }
    bitmap.write(page / 8, u8::from(legacy) << (page % 8));
    Ok(bitmap)
}

/// On a legacy page a missing ENDBRANCH is forgiven; SUPPRESS is set unless it is disabled.
#[case(
    spec = "SDM 1 17.3.6",
    needs("x86.cet_ibt"),
    rows(suppressing: (0, SUPPRESS), not_suppressing: (SUPPRESS_DIS, 0))
)]
fn legacy_page_forgives(cet: &mut Cet, row: (u64, u64)) -> Verdict {
    let (disable, expected) = row;
    let mut code = Frames::new(1);
    let mut bytes = to(&[0xff, 0xe0], NOP4);
    bytes.extend([0xcd, 0x81]);
    code.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
    let legacy = bitmap(&code, true)?;
    let enabled = ENDBR_EN | LEG_IW_EN | disable;
    let got = cet.user_at(enabled | legacy.address(), code.address(), 0);
    expect_eq!(got, Ok(()), "bit set")?;
    expect_eq!(
        cet.u_cet_after & (SUPPRESS | TRACKER),
        expected,
        "SUPPRESS and TRACKER"
    )?;
    let ordinary = bitmap(&code, false)?;
    let got = cet.user_at(enabled | ordinary.address(), code.address(), 0);
    expect_eq!(got, MISSED, "bit clear")?;
    let got = cet.user_at(ENDBR_EN | legacy.address(), code.address(), 0);
    expect_eq!(got, MISSED, "bit set, bitmap off")
}

/// A bitmap that is not mapped faults at its byte.
#[case(spec = "SDM 1 17.3.6", needs("x86.cet_ibt"))]
fn absent_bitmap_faults(cet: &mut Cet) -> Verdict {
    let mut code = Frames::new(1);
    let bytes = to(&[0xff, 0xe0], NOP4);
    code.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
    let base = guest_lib::arch::paging::FREE_BASE + 0x4000_0000;
    let got = cet.user_at(ENDBR_EN | LEG_IW_EN | base, code.address(), 0);
    // Whether the read counts as one of the user is left open: bit 2 is not compared.
    let got = got.map_err(|fault| Fault::new(fault.vector, fault.error & !4));
    expect_eq!(got, Err(Fault::pf(0)))?;
    expect_eq!(fault::details().cr2, base + (code.address() >> 15))
}

/// Supervisor code is tracked by S_CET.
#[case(spec = "SDM 1 17.3.4", needs("x86.cet_ibt"), rows(jmp: &[0xff, 0xe0], call: &[0xff, 0xd0, 0x58]))]
fn supervisor_branches_are_tracked(cet: &mut Cet, row: &[u8]) -> Verdict {
    // The code is reached by an indirect call, so it starts with ENDBR64 itself.
    let code = |target: [u8; 4]| {
        let mut code = ENDBR64.to_vec();
        let branch = &row[..2];
        code.extend(to(branch, target));
        // A CALL leaves its return address, which POP RAX takes away.
        code.extend(&row[2..]);
        code
    };
    let run = |cet: &mut Cet, s_cet, target| cet.supervisor(s_cet, &code(target), 0).map(|_| ());
    expect_eq!(run(cet, ENDBR_EN, ENDBR64), Ok(()), "ENDBR64")?;
    expect_eq!(run(cet, ENDBR_EN, NOP4), MISSED, "another instruction")?;
    expect_eq!(run(cet, 0, NOP4), Ok(()), "tracking off")
}
