//! Exits caused by instructions, one row per instruction. Spec: SDM 3C 26.1.2, 26.1.3, 28.2.5.
//!
//! Each row gives machine code, the exit it must cause, and the control that turns the exit on.
//! Rows of conditional exits run twice: with the control the exit must come, without it the
//! instruction must run. The exit must leave RIP at the instruction and report its length.

use guest_lib::arch::cpuid;
use guest_lib::arch::vmx::controls::{self, Control};
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::prelude::*;

fn exits(vm: &mut NestedVm, code: &[u8], reason: Reason, qualification: u64) -> Verdict {
    // A NOP first, so that RIP is seen to move.
    let mut bytes = vec![0x90];
    bytes.extend_from_slice(code);
    vm.code(&bytes);
    expect_eq!(vm.enter(), Entry::exited(reason, qualification))?;
    expect_eq!(vm.offset(), 1, "RIP stays at the instruction")?;
    expect_eq!(vm.get(Field::EXIT_INSTRUCTION_LENGTH), code.len() as u64)?;
    vm.skip_instruction();
    expect_eq!(vm.enter(), Entry::DONE, "after the instruction")
}

/// An instruction that always exits does so, with its length, and is not executed.
#[case(
    spec = "SDM 3C 26.1.2",
    rows(
        cpuid: (&[0x0f, 0xa2], Reason::CPUID),
        invd: (&[0x0f, 0x08], Reason::INVD),
        vmcall: (&[0x0f, 0x01, 0xc1], Reason::VMCALL),
        vmclear: (&[0x66, 0x0f, 0xc7, 0x36], Reason::VMCLEAR),
        vmlaunch: (&[0x0f, 0x01, 0xc2], Reason::VMLAUNCH),
        vmptrld: (&[0x0f, 0xc7, 0x36], Reason::VMPTRLD),
        vmptrst: (&[0x0f, 0xc7, 0x3e], Reason::VMPTRST),
        vmread: (&[0x0f, 0x78, 0x0e], Reason::VMREAD),
        vmresume: (&[0x0f, 0x01, 0xc3], Reason::VMRESUME),
        vmwrite: (&[0x0f, 0x79, 0x0e], Reason::VMWRITE),
        vmxoff: (&[0x0f, 0x01, 0xc4], Reason::VMXOFF),
        vmxon: (&[0xf3, 0x0f, 0xc7, 0x36], Reason::VMXON),
        rdmsr: (&[0x0f, 0x32], Reason::RDMSR),
        wrmsr: (&[0x0f, 0x30], Reason::WRMSR),
    )
)]
fn unconditional_exit(vm: &mut NestedVm, row: (&[u8], Reason)) -> Verdict {
    exits(vm, row.0, row.1, 0)
}

/// INVEPT and INVVPID exit where the processor has them, and are #UD elsewhere.
#[case(
    spec = "SDM 3C 26.1.2",
    rows(
        invept: (&[0x66, 0x0f, 0x38, 0x80, 0x06], Reason::INVEPT, "x86.vmx.invept"),
        invvpid: (&[0x66, 0x0f, 0x38, 0x81, 0x06], Reason::INVVPID, "x86.vmx.invvpid"),
    )
)]
fn invalidation_exits(vm: &mut NestedVm, row: (&[u8], Reason, &str)) -> Verdict {
    if guest_lib::runner::is_met(row.2) {
        return exits(vm, row.0, row.1, 0);
    }
    vm.code(row.0);
    expect_eq!(vm.enter(), Entry::exited(Reason::EXCEPTION_OR_NMI, 0))?;
    expect_eq!(vm.get(Field::EXIT_EVENT) & 0xff, 6)
}

/// XSETBV exits where the processor has XSAVE.
#[case(spec = "SDM 3C 26.1.2 XSETBV", needs("x86.vmx"))]
fn xsetbv_exits(vm: &mut NestedVm) -> Verdict {
    if cpuid::query(1, 0).ecx >> 26 & 1 == 0 {
        return skip("x86.xsave");
    }
    vm.set_bits(Field::GUEST_CR4, 1 << 18);
    exits(vm, &[0x0f, 0x01, 0xd1], Reason::XSETBV, 0)
}

/// A conditional exit: code, reason, qualification, and its control.
type Conditional = (&'static [u8], Reason, u64, Control);

/// An instruction with a control exits exactly when the control is 1.
#[case(
    spec = "SDM 3C 26.1.3",
    rows(
        invlpg: (&[0x0f, 0x01, 0x3e], Reason::INVLPG, 0x1234_5678, controls::INVLPG_EXITING),
        rdtsc: (&[0x0f, 0x31], Reason::RDTSC, 0, controls::RDTSC_EXITING),
        pause: (&[0xf3, 0x90], Reason::PAUSE, 0, controls::PAUSE_EXITING),
        wbinvd: (&[0x0f, 0x09], Reason::WBINVD, 0, controls::WBINVD_EXITING),
        mov_to_cr3: (&[0x0f, 0x22, 0xd8], Reason::CR_ACCESS, 0x003, controls::CR3_LOAD_EXITING),
        mov_from_cr3: (&[0x41, 0x0f, 0x20, 0xd9], Reason::CR_ACCESS, 0x913, controls::CR3_STORE_EXITING),
        mov_to_cr8: (&[0x44, 0x0f, 0x22, 0xc1], Reason::CR_ACCESS, 0x108, controls::CR8_LOAD_EXITING),
        mov_from_cr8: (&[0x44, 0x0f, 0x20, 0xc2], Reason::CR_ACCESS, 0x218, controls::CR8_STORE_EXITING),
        mov_to_dr: (&[0x0f, 0x23, 0xd1], Reason::MOV_DR, 0x102, controls::MOV_DR_EXITING),
        mov_from_dr: (&[0x41, 0x0f, 0x21, 0xf1], Reason::MOV_DR, 0x916, controls::MOV_DR_EXITING),
        out_imm8: (&[0xe6, 0x80], Reason::IO, 0x0080_0040, controls::UNCONDITIONAL_IO),
        in_dx: (&[0xed], Reason::IO, 0x0080_000b, controls::UNCONDITIONAL_IO),
        sgdt: (&[0x0f, 0x01, 0x07], Reason::GDTR_IDTR_ACCESS, 0, controls::DESCRIPTOR_TABLE_EXITING),
        sidt: (&[0x0f, 0x01, 0x0f], Reason::GDTR_IDTR_ACCESS, 0, controls::DESCRIPTOR_TABLE_EXITING),
        sldt: (&[0x0f, 0x00, 0x07], Reason::LDTR_TR_ACCESS, 0, controls::DESCRIPTOR_TABLE_EXITING),
        str_tr: (&[0x0f, 0x00, 0x0f], Reason::LDTR_TR_ACCESS, 0, controls::DESCRIPTOR_TABLE_EXITING),
        rdrand: (&[0x0f, 0xc7, 0xf0], Reason::RDRAND, 0, controls::RDRAND_EXITING),
        rdseed: (&[0x0f, 0xc7, 0xf8], Reason::RDSEED, 0, controls::RDSEED_EXITING),
    )
)]
fn conditional_exit(vm: &mut NestedVm, row: Conditional) -> Verdict {
    let (code, reason, qualification, control) = row;
    let scratch = guest_lib::memory::Frames::new(1);
    vm.registers.rax = vm.get(Field::GUEST_CR3);
    vm.registers.rcx = 0;
    vm.registers.rdx = 0x80;
    vm.registers.rsi = 0x1234_5678;
    vm.registers.rdi = scratch.address();
    vm.enable(control)?;
    exits(vm, code, reason, qualification)?;
    vm.disable(control)?;
    vm.code(code);
    expect_eq!(vm.enter(), Entry::DONE, "control off")
}

/// HLT exits exactly when HLT exiting is 1.
#[case(spec = "SDM 3C 26.1.3 HLT")]
fn hlt_exits(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::HLT_EXITING)?;
    exits(vm, &[0xf4], Reason::HLT, 0)
}

/// RDPMC exits with its control; without it the guest's own rules decide.
#[case(spec = "SDM 3C 26.1.3 RDPMC")]
fn rdpmc_exits(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::RDPMC_EXITING)?;
    vm.registers.rcx = 0;
    exits(vm, &[0x0f, 0x33], Reason::RDPMC, 0)?;
    vm.disable(controls::RDPMC_EXITING)?;
    vm.code(&[0x0f, 0x33]);
    // A processor without counters answers #GP, which the bitmap turns into an exit.
    let got = vm.enter();
    expect!(
        got == Entry::DONE || got == Entry::exited(Reason::EXCEPTION_OR_NMI, 0),
        "control off: {got:?}"
    )
}

/// MONITOR and MWAIT exit with their controls.
#[case(
    spec = "SDM 3C 26.1.3",
    needs("x86.monitor"),
    rows(
        monitor: (&[0x0f, 0x01, 0xc8], Reason::MONITOR, controls::MONITOR_EXITING),
        mwait: (&[0x0f, 0x01, 0xc9], Reason::MWAIT, controls::MWAIT_EXITING),
    )
)]
fn monitor_and_mwait_exit(vm: &mut NestedVm, row: (&[u8], Reason, Control)) -> Verdict {
    vm.registers.rax = vm.stack().address();
    vm.registers.rcx = 0;
    vm.registers.rdx = 0;
    vm.enable(row.2)?;
    exits(vm, row.0, row.1, 0)
}

/// RDTSCP without its control is #UD; with it, it runs, or exits with RDTSC exiting.
#[case(spec = "SDM 3C 26.3 RDTSCP", needs("x86.vmx.rdtscp"))]
fn rdtscp_needs_its_control(vm: &mut NestedVm) -> Verdict {
    let code = &[0x0f, 0x01, 0xf9];
    vm.code(code);
    expect_eq!(
        vm.enter(),
        Entry::exited(Reason::EXCEPTION_OR_NMI, 0),
        "control off"
    )?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0306)?;
    vm.enable(controls::RDTSCP)?;
    expect_eq!(vm.run(), Entry::DONE, "control on")?;
    vm.enable(controls::RDTSC_EXITING)?;
    exits(vm, code, Reason::RDTSCP, 0)
}

/// INVPCID without its control is #UD; with it, it exits with INVLPG exiting.
#[case(spec = "SDM 3C 26.3 INVPCID", needs("x86.vmx.invpcid"))]
fn invpcid_needs_its_control(vm: &mut NestedVm) -> Verdict {
    let code = &[0x66, 0x0f, 0x38, 0x82, 0x07];
    let descriptor = guest_lib::memory::Frames::new(1);
    vm.registers.rdi = descriptor.address();
    vm.registers.rax = 2;
    vm.code(code);
    expect_eq!(
        vm.enter(),
        Entry::exited(Reason::EXCEPTION_OR_NMI, 0),
        "control off"
    )?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0306)?;
    vm.enable(controls::INVPCID)?;
    expect_eq!(vm.run(), Entry::DONE, "control on")?;
    vm.enable(controls::INVLPG_EXITING)?;
    exits(vm, code, Reason::INVPCID, 0)
}

/// A fault of the instruction itself comes before its exit, where the manual says so.
#[case(
    spec = "SDM 3C 26.1.1",
    rows(
        cli_at_level_3: (&[0xfa], controls::HLT_EXITING, 13),
        hlt_at_level_3: (&[0xf4], controls::HLT_EXITING, 13),
        invd_at_level_3: (&[0x0f, 0x08], controls::HLT_EXITING, 13),
        mov_to_cr3_at_level_3: (&[0x0f, 0x22, 0xd8], controls::CR3_LOAD_EXITING, 13),
        vmread_at_level_3: (&[0x0f, 0x78, 0x0e], controls::HLT_EXITING, 0x100),
    )
)]
fn privilege_comes_before_the_exit(vm: &mut NestedVm, row: (&[u8], Control, u64)) -> Verdict {
    use guest_lib::arch::vmx::vmcs::Segment;
    let (code, control, vector) = row;
    vm.code(code);
    vm.enable(control)?;
    vm.set(Field::GUEST_CR3, guest_lib::arch::paging::user_root());
    vm.set_segment(Segment::Cs, 0x23, 0, 0xffff_ffff, 0xa0fb);
    vm.set_segment(Segment::Ss, 0x1b, 0, 0xffff_ffff, 0xc0f3);
    if vector == 0x100 {
        // VM exits of VMX instructions come before the check of the privilege level.
        return expect_eq!(vm.enter(), Entry::exited(Reason::VMREAD, 0));
    }
    expect_eq!(vm.enter(), Entry::exited(Reason::EXCEPTION_OR_NMI, 0))?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0b00 | vector)
}

/// MOV DR exits before the privilege level is looked at.
#[case(spec = "SDM 3C 26.1.3 MOV DR")]
fn mov_dr_exits_before_the_privilege_check(vm: &mut NestedVm) -> Verdict {
    use guest_lib::arch::vmx::vmcs::Segment;
    // mov dr2, rax
    vm.code(&[0x0f, 0x23, 0xd0]);
    vm.set(Field::GUEST_CR3, guest_lib::arch::paging::user_root());
    vm.set_segment(Segment::Cs, 0x23, 0, 0xffff_ffff, 0xa0fb);
    vm.set_segment(Segment::Ss, 0x1b, 0, 0xffff_ffff, 0xc0f3);
    expect_eq!(
        vm.enter(),
        Entry::exited(Reason::EXCEPTION_OR_NMI, 0),
        "control off"
    )?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0b0d)?;
    vm.enable(controls::MOV_DR_EXITING)?;
    expect_eq!(vm.enter(), Entry::exited(Reason::MOV_DR, 2), "control on")
}

/// The displacement of a memory operand is the qualification; a register operand reports zero.
#[case(
    spec = "SDM 3C 28.2.1",
    rows(
        sldt: (&[0x0f, 0x00, 0x87], &[0x0f, 0x00, 0xc7], controls::DESCRIPTOR_TABLE_EXITING),
        str_tr: (&[0x0f, 0x00, 0x8f], &[0x0f, 0x00, 0xcf], controls::DESCRIPTOR_TABLE_EXITING),
        vmread: (&[0x0f, 0x78, 0x8f], &[0x0f, 0x78, 0xcf], controls::HLT_EXITING),
        vmwrite: (&[0x0f, 0x79, 0x8f], &[0x0f, 0x79, 0xcf], controls::HLT_EXITING),
    )
)]
fn displacement_is_the_qualification(vm: &mut NestedVm, row: (&[u8], &[u8], Control)) -> Verdict {
    let (memory, register, control) = row;
    vm.enable(control)?;
    vm.registers.rdi = vm.stack().address();
    // Forms take turns at the same addresses, so that a stale displacement shows.
    for round in 0..32u32 {
        let displacement = 0x10 + 8 * round;
        let mut code = memory.to_vec();
        code.extend(displacement.to_le_bytes());
        vm.code(&code);
        let Entry::Exited { qualification, .. } = vm.enter() else {
            return fail!("no exit in round {round}");
        };
        expect_eq!(
            qualification,
            u64::from(displacement),
            "memory, round {round}"
        )?;
        vm.code(register);
        let Entry::Exited { qualification, .. } = vm.enter() else {
            return fail!("no exit in round {round}");
        };
        expect_eq!(qualification, 0, "register, round {round}")?;
    }
    Ok(())
}

/// The instruction-information field names registers, operand size and addressing.
#[case(
    spec = "SDM 3C 28.2.5",
    rows(
        // vmread [rsi + rcx * 4], r9
        vmread_memory: (&[0x44, 0x0f, 0x78, 0x0c, 0x8e], 2 | 2 << 7 | 3 << 15 | 1 << 18 | 6 << 23 | 9 << 28),
        // vmread rdx, rbx
        vmread_register: (&[0x0f, 0x78, 0xda], 2 << 3 | 1 << 10 | 3 << 28),
        // vmptrld [rdi]
        vmptrld: (&[0x0f, 0xc7, 0x37], 2 << 7 | 3 << 15 | 1 << 22 | 7 << 23),
    )
)]
fn instruction_information_describes_operands(vm: &mut NestedVm, row: (&[u8], u64)) -> Verdict {
    let (code, expected) = row;
    vm.code(code);
    let entry = vm.enter();
    expect!(
        entry.reason().is_some_and(|r| r != Reason::VMCALL),
        "{entry:?}"
    )?;
    let is_memory = expected >> 10 & 1 == 0;
    let is_pointer = code[1] == 0xc7;
    // What is undefined for the form at hand is masked.
    let mask = match (is_memory, is_pointer) {
        (true, true) => 7 << 7 | 1 << 10 | 7 << 15 | 1 << 22 | 0xf << 23 | 1 << 27,
        (true, false) => 3 | 7 << 7 | 1 << 10 | 7 << 15 | 0x1f << 18 | 0x1f << 23 | 0xf << 28,
        _ => 0xf << 3 | 1 << 10 | 0xf << 28,
    };
    expect_eq!(vm.get(Field::EXIT_INSTRUCTION_INFO) & mask, expected & mask)
}
