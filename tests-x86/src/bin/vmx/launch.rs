//! VMLAUNCH and VMRESUME before any check of the VMCS. Spec: SDM 3C 27.1.
//!
//! The order of these checks is visible: no VMCS comes before blocking by MOV SS, that before
//! the launch state, and that before the control fields.

use guest_lib::arch::vmx::instructions::{VmFail, vmclear, vmptrld};
use guest_lib::arch::vmx::nested_vm::{Before, Entry, NestedVm};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::prelude::*;

/// VMLAUNCH runs the guest, VMRESUME continues it, and general registers pass both ways.
#[case(spec = "SDM 3C 27.1")]
fn launch_then_resume_runs_the_guest(vm: &mut NestedVm) -> Verdict {
    // inc rax; not rbx; xchg rdi, r15
    vm.code(&[0x48, 0xff, 0xc0, 0x48, 0xf7, 0xd3, 0x4c, 0x87, 0xff]);
    vm.registers.rax = 41;
    vm.registers.rbx = 0x00ff_00ff_00ff_00ff;
    vm.registers.rdi = 0xd1;
    vm.registers.r15 = 0xf15;
    expect_eq!(vm.enter(), Entry::DONE)?;
    for expected in [42, 43, 44] {
        expect_eq!(vm.registers.rax, expected)?;
        expect_eq!(vm.get(Field::EXIT_INSTRUCTION_LENGTH), 3)?;
        expect_eq!(vm.run(), Entry::DONE)?;
    }
    expect_eq!(vm.registers.rbx, 0x00ff_00ff_00ff_00ff, "after four runs")?;
    expect_eq!(
        (vm.registers.rdi, vm.registers.r15),
        (0xd1, 0xf15),
        "after four runs"
    )
}

/// VMLAUNCH needs a clear VMCS (4), VMRESUME a launched one (5).
#[case(spec = "SDM 3C 31.4 VMLAUNCH")]
fn launch_state_decides(vm: &mut NestedVm) -> Verdict {
    let enter = |vm: &mut NestedVm, resume| {
        vm.rewind();
        vm.enter_by(resume, Before::Nothing)
    };
    expect_eq!(
        enter(vm, true),
        Entry::Refused(VmFail::Valid(5)),
        "VMRESUME, clear"
    )?;
    expect_eq!(enter(vm, false), Entry::DONE, "VMLAUNCH, clear")?;
    expect_eq!(
        enter(vm, false),
        Entry::Refused(VmFail::Valid(4)),
        "VMLAUNCH, launched"
    )?;
    expect_eq!(enter(vm, true), Entry::DONE, "VMRESUME, launched")?;
    vm.relaunch()?;
    expect_eq!(
        enter(vm, true),
        Entry::Refused(VmFail::Valid(5)),
        "VMRESUME after VMCLEAR"
    )?;
    expect_eq!(enter(vm, false), Entry::DONE, "VMLAUNCH after VMCLEAR")
}

/// An entry that fails leaves the launch state as it was.
#[case(spec = "SDM 3C 27.8", rows(controls: Entry::BAD_CONTROLS, guest: Entry::BAD_GUEST))]
fn failed_entry_keeps_the_launch_state(vm: &mut NestedVm, row: Entry) -> Verdict {
    let field = match row {
        Entry::BAD_CONTROLS => Field::CR3_TARGET_COUNT,
        _ => Field::GUEST_RFLAGS,
    };
    let good = vm.get(field);
    vm.set(field, 0xffff_0000);
    expect_eq!(vm.enter_by(false, Before::Nothing), row, "VMLAUNCH")?;
    let refused = Entry::Refused(VmFail::Valid(5));
    expect_eq!(vm.enter_by(true, Before::Nothing), refused, "still clear")?;
    vm.set(field, good);
    expect_eq!(vm.enter_by(false, Before::Nothing), Entry::DONE, "mended")?;
    vm.rewind();
    vm.set(field, 0xffff_0000);
    expect_eq!(vm.enter_by(true, Before::Nothing), row, "VMRESUME")?;
    vm.set(field, good);
    expect_eq!(
        vm.enter_by(true, Before::Nothing),
        Entry::DONE,
        "still launched"
    )
}

/// Without a current VMCS both instructions fail without a number.
#[case(spec = "SDM 3C 27.1", rows(vmlaunch: false, vmresume: true))]
fn entry_needs_a_current_vmcs(vm: &mut NestedVm, row: bool) -> Verdict {
    vmclear(vm.vmcs())?;
    for before in [Before::Nothing, Before::MovSs] {
        let got = vm.enter_by(row, before);
        expect_eq!(got, Entry::Refused(VmFail::Invalid), "after {before:?}")?;
    }
    vmptrld(vm.vmcs())?;
    expect_eq!(vm.enter_by(false, Before::Nothing), Entry::DONE)
}

/// Blocking by MOV SS refuses the entry (26) before the launch state and the controls are seen.
#[case(spec = "SDM 3C 27.1", rows(vmlaunch: false, vmresume: true))]
fn mov_ss_blocks_the_entry(vm: &mut NestedVm, row: bool) -> Verdict {
    let blocked = Entry::Refused(VmFail::Valid(26));
    expect_eq!(vm.enter_by(row, Before::MovSs), blocked, "clear VMCS")?;
    vm.set(Field::CR3_TARGET_COUNT, 0xffff);
    expect_eq!(
        vm.enter_by(row, Before::MovSs),
        blocked,
        "clear VMCS with bad controls"
    )?;
    vm.set(Field::CR3_TARGET_COUNT, 0);
    expect_eq!(vm.run(), Entry::DONE)?;
    vm.rewind();
    expect_eq!(vm.enter_by(row, Before::MovSs), blocked, "launched VMCS")?;
    expect_eq!(vm.enter_by(true, Before::Nothing), Entry::DONE)
}

/// Blocking by STI does not refuse the entry.
#[case(spec = "SDM 3C 27.1")]
fn sti_does_not_block_the_entry(vm: &mut NestedVm) -> Verdict {
    expect_eq!(vm.enter_by(false, Before::Sti), Entry::DONE)?;
    let flags = vm.host_after_exit.map(|host| host.rflags);
    expect_eq!(flags, Some(2), "RFLAGS after the exit")
}

/// The launch state comes before the control fields.
#[case(spec = "SDM 3C 27.1")]
fn launch_state_comes_before_controls(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::CR3_TARGET_COUNT, 0xffff);
    let got = vm.enter_by(true, Before::Nothing);
    expect_eq!(
        got,
        Entry::Refused(VmFail::Valid(5)),
        "VMRESUME of a clear VMCS"
    )?;
    expect_eq!(vm.enter(), Entry::BAD_CONTROLS)
}
