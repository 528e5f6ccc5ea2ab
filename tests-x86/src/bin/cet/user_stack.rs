//! The user shadow stack and its instructions. Spec: SDM 1 17.2, SDM 2.
//!
//! Every CALL pushes a copy that software cannot write, every RET compares. Switching shadow
//! stacks goes through tokens, so that no two processors and no attacker share one. Each case
//! runs machine code at privilege level 3, and looks at SSP and at the shadow stack afterwards.

use guest_lib::arch::cet::{
    self, CP_FAR_RET, CP_NEAR_RET, CP_RSTORSSP, Cet, SH_STK_EN, USER_STACK, USER_STACK_2,
    WR_SHSTK_EN,
};
use guest_lib::arch::registers::Cr4;
use guest_lib::arch::segments;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const TOP: u64 = USER_STACK + 4096;
const TOP_2: u64 = USER_STACK_2 + 4096;

/// Code with INT 81h behind it, at an address of its own.
fn place(bytes: &[u8]) -> Frames {
    let mut frames = Frames::new(1);
    frames.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
    frames.bytes_mut()[bytes.len()..bytes.len() + 2].copy_from_slice(&[0xcd, 0x81]);
    frames
}

/// A far pointer to `offset` in user code, for CALL and JMP through memory.
fn far_pointer(offset: u64) -> Frames {
    let frames = Frames::new(1);
    frames.write(0, offset);
    frames.write(8, segments::USER_CODE);
    frames
}

/// A RET to where its CALL came from passes; to another place it is #CP(1), with CET on only.
#[case(spec = "SDM 2B 4.3 RET", needs("x86.cet_ss"))]
fn near_ret_compares(cet: &mut Cet) -> Verdict {
    // call 8; 5: nop; 6: jmp 14; 8: nop (4); 12: ret
    let good = [
        0xe8, 3, 0, 0, 0, 0x90, 0xeb, 6, 0x0f, 0x1f, 0x40, 0, 0xc3, 0x90,
    ];
    expect_eq!(cet.user(SH_STK_EN, &good, 0), Ok(()), "good")?;
    expect_eq!(cet.ssp_after, TOP)?;
    // 8: inc qword ptr [rsp]
    let bad = [
        0xe8, 3, 0, 0, 0, 0x90, 0xeb, 6, 0x48, 0xff, 0x04, 0x24, 0xc3, 0x90,
    ];
    expect_eq!(cet.user(0, &bad, 0), Ok(()), "changed, shadow stack off")?;
    let code = place(&bad);
    let got = cet.user_at(SH_STK_EN, code.address(), 0);
    expect_eq!(got, Err(Fault::cp(CP_NEAR_RET)), "changed, shadow stack on")?;
    expect_eq!(fault::details().rip, code.address() + 12, "at the RET")?;
    expect_eq!(cet.user(SH_STK_EN, &good, 0), Ok(()), "good again")
}

/// RET with an operand pops the shadow stack once.
#[case(spec = "SDM 2B 4.3 RET", needs("x86.cet_ss"))]
fn ret_with_operand_pops_once(cet: &mut Cet) -> Verdict {
    // push rax; call 8; 6: jmp 11; 8: ret 8
    let code = [0x50, 0xe8, 2, 0, 0, 0, 0xeb, 3, 0xc2, 8, 0];
    expect_eq!(cet.user(SH_STK_EN, &code, 0), Ok(()))?;
    expect_eq!(cet.ssp_after, TOP)
}

/// CALL pushes its return address, 8 bytes.
#[case(spec = "SDM 2A 3.3 CALL", needs("x86.cet_ss"))]
fn near_call_pushes_the_return_address(cet: &mut Cet) -> Verdict {
    let code = place(&[0xe8, 1, 0, 0, 0, 0x90]);
    expect_eq!(cet.user_at(SH_STK_EN, code.address(), 0), Ok(()))?;
    expect_eq!(cet.ssp_after, TOP - 8)?;
    expect_eq!(cet.user_stack.read::<u64>(4088), code.address() + 5)
}

/// A relative CALL to the next instruction, which only reads RIP, is not pushed.
#[case(spec = "SDM 2A 3.3 CALL", needs("x86.cet_ss"))]
fn call_to_next_instruction_is_not_pushed(cet: &mut Cet) -> Verdict {
    expect_eq!(cet.user(SH_STK_EN, &[0xe8, 0, 0, 0, 0, 0x58], 0), Ok(()))?;
    expect_eq!(cet.ssp_after, TOP)
}

/// Far CALL pushes CS, LIP and SSP; far RET compares CS and LIP: #CP(2).
#[case(spec = "SDM 2A 3.3 CALL", needs("x86.cet_ss"))]
fn far_call_and_ret_compare(cet: &mut Cet) -> Verdict {
    // call far [rdi]; 3: nop; 4: jmp 12; 6: (4 bytes); 10: retfq
    let mut bytes = [
        0x48, 0xff, 0x1f, 0x90, 0xeb, 6, 0x0f, 0x1f, 0x40, 0, 0x48, 0xcb,
    ];
    let good = place(&bytes);
    let pointer = far_pointer(good.address() + 6);
    expect_eq!(
        cet.user_at(SH_STK_EN, good.address(), pointer.address()),
        Ok(()),
        "good"
    )?;
    expect_eq!(cet.ssp_after, TOP)?;
    let frame = [4088, 4080, 4072].map(|at| cet.user_stack.read::<u64>(at));
    let expected = [u64::from(segments::USER_CODE), good.address() + 3, TOP];
    expect_eq!(frame, expected, "CS, LIP, SSP")?;
    // inc qword ptr [rsp]
    bytes[6..10].copy_from_slice(&[0x48, 0xff, 0x04, 0x24]);
    let bad = place(&bytes);
    let pointer = far_pointer(bad.address() + 6);
    expect_eq!(
        cet.user_at(0, bad.address(), pointer.address()),
        Ok(()),
        "shadow stack off"
    )?;
    let got = cet.user_at(SH_STK_EN, bad.address(), pointer.address());
    expect_eq!(got, Err(Fault::cp(CP_FAR_RET)), "changed")
}

/// Far CALL from an SSP that is a multiple of 4 only aligns it first, and far RET goes back.
#[case(spec = "SDM 2A 3.3 CALL", needs("x86.cet_ss"))]
fn far_call_aligns_ssp(cet: &mut Cet) -> Verdict {
    let bytes = [
        0x48, 0xff, 0x1f, 0x90, 0xeb, 6, 0x0f, 0x1f, 0x40, 0, 0x48, 0xcb,
    ];
    let code = place(&bytes);
    let pointer = far_pointer(code.address() + 6);
    cet.user_ssp = TOP - 4;
    cet.user_stack.write(4088, u64::MAX);
    expect_eq!(
        cet.user_at(SH_STK_EN, code.address(), pointer.address()),
        Ok(())
    )?;
    expect_eq!(cet.ssp_after, TOP - 4)?;
    let frame = [4080, 4072, 4064].map(|at| cet.user_stack.read::<u64>(at));
    let expected = [u64::from(segments::USER_CODE), code.address() + 3, TOP - 4];
    expect_eq!(frame, expected, "CS, LIP, SSP")?;
    expect_eq!(cet.user_stack.read::<u32>(4088), 0, "the hole is zero")
}

/// IRET to the same level compares CS and LIP: #CP(2).
#[case(spec = "SDM 2A 3.3 IRET", needs("x86.cet_ss"))]
fn iret_compares(cet: &mut Cet) -> Verdict {
    // call far [rdi]; 3: nop; 4: jmp end; 6: pop rax; pop rcx; mov rdx, rsp; (3 bytes);
    // push 0x1b; push rdx; pushfq; push rcx; push rax; iretq
    let mut bytes = vec![
        0x48, 0xff, 0x1f, 0x90, 0xeb, 0x10, 0x58, 0x59, 0x48, 0x89, 0xe2,
    ];
    bytes.extend([
        0x0f, 0x1f, 0x00, 0x6a, 0x1b, 0x52, 0x9c, 0x51, 0x50, 0x48, 0xcf,
    ]);
    let good = place(&bytes);
    let pointer = far_pointer(good.address() + 6);
    expect_eq!(
        cet.user_at(SH_STK_EN, good.address(), pointer.address()),
        Ok(()),
        "good"
    )?;
    expect_eq!(cet.ssp_after, TOP)?;
    // inc rax
    bytes[11..14].copy_from_slice(&[0x48, 0xff, 0xc0]);
    let bad = place(&bytes);
    let pointer = far_pointer(bad.address() + 6);
    expect_eq!(
        cet.user_at(0, bad.address(), pointer.address()),
        Ok(()),
        "shadow stack off"
    )?;
    let got = cet.user_at(SH_STK_EN, bad.address(), pointer.address());
    expect_eq!(got, Err(Fault::cp(CP_FAR_RET)), "changed")
}

/// RDSSP reads SSP; with shadow stacks off it is a NOP.
#[case(spec = "SDM 2B 4.3 RDSSPQ", needs("x86.cet_ss"))]
fn rdssp_reads_ssp(cet: &mut Cet) -> Verdict {
    let data = Frames::new(1);
    // mov rax, [rdi]; rdsspq rax; mov [rdi], rax; mov eax, -1; rdsspd eax; mov [rdi + 8], rax
    let code = [
        0x48, 0x8b, 0x07, 0xf3, 0x48, 0x0f, 0x1e, 0xc8, 0x48, 0x89, 0x07, 0xb8, 0xff, 0xff, 0xff,
        0xff, 0xf3, 0x0f, 0x1e, 0xc8, 0x48, 0x89, 0x47, 0x08,
    ];
    data.write(0, 0x5555u64);
    expect_eq!(cet.user(SH_STK_EN, &code, data.address()), Ok(()))?;
    expect_eq!(data.read::<u64>(0), TOP, "64 bits")?;
    expect_eq!(data.read::<u64>(8), TOP & 0xffff_ffff, "32 bits")?;
    data.write(0, 0x5555u64);
    expect_eq!(cet.user(0, &code, data.address()), Ok(()))?;
    expect_eq!(data.read::<u64>(0), 0x5555, "off")?;
    expect_eq!(data.read::<u64>(8), 0xffff_ffff, "off")
}

/// INCSSP pops as many elements as the low 8 bits of its operand say.
#[case(spec = "SDM 2A 3.3 INCSSPQ", needs("x86.cet_ss"))]
fn incssp_pops_by_the_low_byte(cet: &mut Cet) -> Verdict {
    for (count, elements) in [
        (0u32, 0u64),
        (1, 1),
        (255, 255),
        (0x100, 0),
        (0xffff_ff02, 2),
    ] {
        for (wide, size) in [(true, 8), (false, 4)] {
            cet.user_ssp = USER_STACK + 0x100;
            // mov eax, count; incssp
            let mut code = vec![0xb8];
            code.extend(count.to_le_bytes());
            code.push(0xf3);
            if wide {
                code.push(0x48);
            }
            code.extend([0x0f, 0xae, 0xe8]);
            expect_eq!(cet.user(SH_STK_EN, &code, 0), Ok(()), "count {count:#x}")?;
            let expected = USER_STACK + 0x100 + elements * size;
            expect_eq!(
                cet.ssp_after,
                expected,
                "count {count:#x}, {size} bytes each"
            )?;
        }
    }
    Ok(())
}

/// INCSSP reads the last element it pops: an absent page there faults.
#[case(spec = "SDM 2A 3.3 INCSSPQ", needs("x86.cet_ss"))]
fn incssp_touches_the_last_element(cet: &mut Cet) -> Verdict {
    let pop = |count: u8| [0xb8, count, 0, 0, 0, 0xf3, 0x48, 0x0f, 0xae, 0xe8];
    cet.user_ssp = TOP - 16;
    expect_eq!(
        cet.user(SH_STK_EN, &pop(2), 0),
        Ok(()),
        "both elements there"
    )?;
    expect_eq!(cet.ssp_after, TOP)?;
    let got = cet.user(SH_STK_EN, &pop(3), 0);
    expect_eq!(
        got,
        Err(Fault::pf(4 | cet::PF_SS)),
        "the third on an absent page"
    )?;
    expect_eq!(fault::details().cr2, TOP)
}

/// Shadow-stack instructions are #UD while shadow stacks are off.
#[case(
    spec = "SDM 2B 4.3 RSTORSSP",
    needs("x86.cet_ss"),
    rows(
        incssp: (&[0xf3, 0x48, 0x0f, 0xae, 0xe8], SH_STK_EN),
        rstorssp: (&[0xf3, 0x0f, 0x01, 0x2f], SH_STK_EN),
        saveprevssp: (&[0xf3, 0x0f, 0x01, 0xea], SH_STK_EN),
        wrss: (&[0x48, 0x0f, 0x38, 0xf6, 0x07], SH_STK_EN | WR_SHSTK_EN),
    )
)]
fn instruction_needs_its_enable_bits(cet: &mut Cet, row: (&[u8], u64)) -> Verdict {
    let (code, needed) = row;
    let data = USER_STACK + 4088;
    cet.user_stack.write(4088, TOP | 1);
    cet.user_ssp = USER_STACK + 0x800;
    expect_eq!(cet.user(0, code, data), Err(Fault::UD), "all off")?;
    if needed != SH_STK_EN {
        expect_eq!(
            cet.user(SH_STK_EN, code, data),
            Err(Fault::UD),
            "WR_SHSTK_EN off"
        )?;
        expect_eq!(
            cet.user(WR_SHSTK_EN, code, data),
            Err(Fault::UD),
            "SH_STK_EN off"
        )?;
    }
    expect_ne!(cet.user(needed, code, data), Err(Fault::UD), "on")?;
    Cr4::read().difference(Cr4::CET).write()?;
    expect_eq!(cet.user(needed, code, data), Err(Fault::UD), "CR4.CET off")
}

/// RSTORSSP moves SSP to the token and leaves a token of the old SSP; SAVEPREVSSP uses that.
#[case(spec = "SDM 2B 4.3 RSTORSSP", needs("x86.cet_ss"))]
fn rstorssp_and_saveprevssp_switch_stacks(cet: &mut Cet) -> Verdict {
    cet.user_stack_2.write(4088, TOP_2 | 1);
    expect_eq!(
        cet.user(SH_STK_EN, &[0xf3, 0x0f, 0x01, 0x2f], TOP_2 - 8),
        Ok(()),
        "RSTORSSP"
    )?;
    expect_eq!(cet.ssp_after, TOP_2 - 8, "SSP")?;
    expect_eq!(
        cet.user_stack_2.read::<u64>(4088),
        TOP | 3,
        "the previous-SSP token"
    )?;

    cet.user_stack_2.write(4088, TOP_2 | 1);
    let both = [0xf3, 0x0f, 0x01, 0x2f, 0xf3, 0x0f, 0x01, 0xea];
    expect_eq!(
        cet.user(SH_STK_EN, &both, TOP_2 - 8),
        Ok(()),
        "with SAVEPREVSSP"
    )?;
    expect_eq!(cet.ssp_after, TOP_2, "SSP")?;
    expect_eq!(
        cet.user_stack.read::<u64>(4088),
        TOP | 1,
        "a restore token on the old stack"
    )
}

/// RSTORSSP refuses a token with another mode, a reserved bit or another address: #CP(4).
#[case(
    spec = "SDM 2B 4.3 RSTORSSP",
    needs("x86.cet_ss"),
    rows(
        mode_bit: TOP_2, reserved_bit: TOP_2 | 3, address_below: (TOP_2 - 8) | 1,
        address_above: (TOP_2 + 8) | 1, zero: 0,
    )
)]
fn rstorssp_checks_the_token(cet: &mut Cet, row: u64) -> Verdict {
    let code = [0xf3, 0x0f, 0x01, 0x2f];
    cet.user_stack_2.write(4088, row);
    let got = cet.user(SH_STK_EN, &code, TOP_2 - 8);
    expect_eq!(got, Err(Fault::cp(CP_RSTORSSP)), "bad token")?;
    expect_eq!(cet.user_stack_2.read::<u64>(4088), row, "the token stays")?;
    cet.user_stack_2.write(4088, TOP_2 | 1);
    expect_eq!(cet.user(SH_STK_EN, &code, TOP_2 - 8), Ok(()), "good token")
}

/// RSTORSSP: the operand is a multiple of 8, and on a shadow-stack page.
#[case(spec = "SDM 2B 4.3 RSTORSSP", needs("x86.cet_ss"))]
fn rstorssp_checks_its_operand(cet: &mut Cet) -> Verdict {
    let code = [0xf3, 0x0f, 0x01, 0x2f];
    expect_eq!(
        cet.user(SH_STK_EN, &code, TOP_2 - 12),
        Err(Fault::GP0),
        "misaligned"
    )?;
    let plain = Frames::new(1);
    plain.write(0, (plain.address() + 8) | 1);
    let got = cet.user(SH_STK_EN, &code, plain.address());
    // It reads and writes in one access; the manual leaves open which of them the fault names.
    let got = got.map_err(|fault| Fault::new(fault.vector, fault.error | 2));
    expect_eq!(got, Err(Fault::pf(7 | cet::PF_SS)), "an ordinary page")
}

/// SAVEPREVSSP needs a previous-SSP token at SSP.
#[case(spec = "SDM 2B 4.3 SAVEPREVSSP", needs("x86.cet_ss"))]
fn saveprevssp_checks_the_token(cet: &mut Cet) -> Verdict {
    cet.user_ssp = TOP - 8;
    // clc; saveprevssp
    let code = [0xf8, 0xf3, 0x0f, 0x01, 0xea];
    for token in [TOP_2 | 1, 0] {
        cet.user_stack.write(4088, token);
        expect_eq!(
            cet.user(SH_STK_EN, &code, 0),
            Err(Fault::GP0),
            "token {token:#x}"
        )?;
    }
    cet.user_stack.write(4088, TOP_2 | 3);
    expect_eq!(cet.user(SH_STK_EN, &code, 0), Ok(()), "a good token")?;
    expect_eq!(cet.ssp_after, TOP)
}

/// WRSS writes a shadow stack, in 4 or 8 bytes.
#[case(spec = "SDM 2D 6.1 WRSSQ", needs("x86.cet_ss"))]
fn wrss_writes_the_shadow_stack(cet: &mut Cet) -> Verdict {
    let enabled = SH_STK_EN | WR_SHSTK_EN;
    // mov rax, -2; wrssq [rdi], rax
    let wide = [
        0x48, 0xc7, 0xc0, 0xfe, 0xff, 0xff, 0xff, 0x48, 0x0f, 0x38, 0xf6, 0x07,
    ];
    expect_eq!(cet.user(enabled, &wide, USER_STACK + 0x100), Ok(()))?;
    expect_eq!(cet.user_stack.read::<u64>(0x100), u64::MAX - 1, "8 bytes")?;
    let narrow = [0xb8, 0x78, 0x56, 0x34, 0x12, 0x0f, 0x38, 0xf6, 0x07];
    expect_eq!(cet.user(enabled, &narrow, USER_STACK + 0x104), Ok(()))?;
    expect_eq!(
        cet.user_stack.read::<u64>(0x100),
        0x1234_5678_ffff_fffe,
        "4 bytes"
    )?;
    let got = cet.user(enabled, &wide, USER_STACK + 0x104);
    expect_eq!(got, Err(Fault::GP0), "8 bytes, misaligned")?;
    let plain = Frames::new(1);
    let got = cet.user(enabled, &wide, plain.address());
    expect_eq!(got, Err(Fault::pf(7 | cet::PF_SS)), "an ordinary page")
}

/// WRUSS writes a user shadow stack from level 0, and is #GP at level 3.
#[case(spec = "SDM 2D 6.1 WRUSSQ", needs("x86.cet_ss"))]
fn wruss_writes_from_level_zero(cet: &mut Cet) -> Verdict {
    // mov eax, 0x77; wrussq [rdi], rax
    let code = [0xb8, 0x77, 0, 0, 0, 0x66, 0x48, 0x0f, 0x38, 0xf5, 0x07];
    let got = cet.supervisor(0, &code, USER_STACK + 0x200).map(|_| ());
    expect_eq!(got, Ok(()), "level 0")?;
    expect_eq!(cet.user_stack.read::<u64>(0x200), 0x77)?;
    let got = cet.user(SH_STK_EN | WR_SHSTK_EN, &code, USER_STACK + 0x200);
    expect_eq!(got, Err(Fault::GP0), "level 3")?;
    let got = cet
        .supervisor(0, &code, cet::SUPERVISOR_STACK_2)
        .map(|_| ());
    expect_eq!(
        got,
        Err(Fault::pf(7 | cet::PF_SS)),
        "a supervisor shadow stack"
    )?;
    Cr4::read().difference(Cr4::CET).write()?;
    let got = cet.supervisor(0, &code, USER_STACK + 0x200).map(|_| ());
    expect_eq!(got, Err(Fault::UD), "CR4.CET off")
}

/// An event at level 3 saves SSP to PL3_SSP, and IRET to level 3 loads it.
#[case(spec = "SDM 1 17.2.5", needs("x86.cet_ss"))]
fn event_saves_user_ssp(cet: &mut Cet) -> Verdict {
    use core::sync::atomic::{AtomicU64, Ordering};
    static SEEN: AtomicU64 = AtomicU64::new(0);
    SEEN.store(0, Ordering::Relaxed);
    let handler = fault::Handler::new(3, |_| {
        let ssp = guest_lib::arch::msr::read(cet::PL3_SSP).unwrap_or(0);
        SEEN.store(ssp, Ordering::Relaxed);
        // The user goes on with a shadow stack 16 bytes lower.
        let _ = guest_lib::arch::msr::write(cet::PL3_SSP, ssp - 16);
    });
    // call 6; nop; 6: int3
    let got = cet.user(SH_STK_EN, &[0xe8, 1, 0, 0, 0, 0x90, 0xcc], 0);
    drop(handler);
    expect_eq!(got, Ok(()))?;
    expect_eq!(
        SEEN.load(Ordering::Relaxed),
        TOP - 8,
        "PL3_SSP in the handler"
    )?;
    expect_eq!(cet.ssp_after, TOP - 24, "SSP goes on from PL3_SSP")
}
