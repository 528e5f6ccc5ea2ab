//! SVM's own instructions: who may execute them, and with what. Spec: APM 2 15.4, 15.5.
//!
//! They exist only while EFER.SVME is set, only at privilege level 0, and VMRUN, VMLOAD and VMSAVE take a
//! page-aligned physical address. A hypervisor that emulates them checks these by hand, one by one.

use guest_lib::arch::code::Code;
use guest_lib::arch::svm::{self, Entry, ExitCode, NestedVm, Vmcb, field, l2};
use guest_lib::arch::{cpuid, msr};
use guest_lib::prelude::*;

/// A valid guest runs, leaves by VMMCALL and goes on where it left.
#[case(spec = "APM 2 15.5.1 VMRUN", needs("x86.svm"))]
fn valid_guest_runs_and_goes_on(vm: &mut NestedVm) -> Verdict {
    let entry = vm.run(|| {
        l2::tell(0, 1);
        l2::vmmcall();
        l2::tell(0, 2);
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)?;
    expect!(!vm.finished())?;
    expect_eq!(vm.resume(), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 2)?;
    expect!(vm.finished())
}

/// A guest that is entered a thousand times counts every entry.
#[case(spec = "APM 2 15.6", needs("x86.svm"))]
fn a_thousand_exits_lose_nothing(vm: &mut NestedVm) -> Verdict {
    vm.load(|| {
        for _ in 0..1000 {
            l2::count(0);
            l2::vmmcall();
        }
    });
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    for round in 1..1000 {
        expect_eq!(vm.told(0), round)?;
        expect_eq!(vm.resume(), Entry::VMMCALL)?;
    }
    expect!(!vm.finished())?;
    expect_eq!(vm.resume(), Entry::VMMCALL)?;
    expect!(vm.finished())
}

/// VMEXIT_INVALID is -1 in all 64 bits of the exit code.
#[case(spec = "APM 2 15.5.1 VMRUN", needs("x86.svm"))]
fn invalid_exit_code_has_64_bits(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.set(field::ASID, 0);
    expect_eq!(vm.enter(), Entry::Invalid)?;
    expect_eq!(vm.vmcb.exit_code(), ExitCode::INVALID)
}

/// Exits that are not VMEXIT_INVALID clear the upper half of the exit code.
#[case(spec = "APM 2 15.6", needs("x86.svm"))]
fn exit_code_is_stored_whole(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.set(field::EXIT_CODE, u64::MAX);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.vmcb.exit_code(), ExitCode::VMMCALL)
}

/// Without EFER.SVME the instruction raises #UD; with it, it does not.
#[case(
    spec = "APM 2 15.4",
    needs("x86.svm"),
    rows(
        vmload: &[0x0f, 0x01, 0xda],
        vmsave: &[0x0f, 0x01, 0xdb],
        clgi: &[0x0f, 0x01, 0xdd],
        invlpga: &[0x0f, 0x01, 0xdf],
    )
)]
fn needs_svme(vm: &mut NestedVm, bytes: &'static [u8]) -> Verdict {
    let page = Vmcb::zeroed();
    svm::vmsave(page.address())?;
    // push rcx; mov rax,rdi; xor ecx,ecx; <instruction>; pop rcx
    let mut all = vec![0x51, 0x48, 0x89, 0xf8, 0x31, 0xc9];
    all.extend_from_slice(bytes);
    all.push(0x59);
    let code = Code::new(&all);
    svm::disable()?;
    let without = code.run(page.address(), 0);
    svm::enable()?;
    let with = code.run(page.address(), 0).map(|_| ());
    svm::stgi()?;
    expect_eq!(without, Err(Fault::UD))?;
    expect_eq!(with, Ok(()))?;
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// VMRUN without EFER.SVME raises #UD; with it, the guest runs.
#[case(spec = "APM 2 15.4 VMRUN", needs("x86.svm"))]
fn vmrun_needs_svme(vm: &mut NestedVm) -> Verdict {
    svm::disable()?;
    expect_eq!(svm::vmrun_from(vm.vmcb.address()), Err(Fault::UD))?;
    svm::enable()?;
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// VMMCALL outside a guest raises #UD.
#[case(spec = "APM 2 15.18 VMMCALL", needs("x86.svm"))]
fn vmmcall_outside_a_guest_raises_ud(vm: &mut NestedVm) -> Verdict {
    expect_eq!(svm::vmmcall(), Err(Fault::UD))?;
    expect_eq!(vm.run(l2::vmmcall), Entry::VMMCALL)
}

/// At privilege level 3 the instruction raises #GP(0), with EFER.SVME set.
#[case(
    spec = "APM 2 15.5",
    needs("x86.svm"),
    rows(
        vmrun: &[0x0f, 0x01, 0xd8],
        vmload: &[0x0f, 0x01, 0xda],
        vmsave: &[0x0f, 0x01, 0xdb],
        stgi: &[0x0f, 0x01, 0xdc],
        clgi: &[0x0f, 0x01, 0xdd],
        invlpga: &[0x0f, 0x01, 0xdf],
    )
)]
fn is_privileged(vm: &mut NestedVm, bytes: &'static [u8]) -> Verdict {
    let page = Vmcb::zeroed();
    let mut all = vec![0x48, 0x89, 0xf8];
    all.extend_from_slice(bytes);
    let code = Code::new(&all);
    expect_eq!(code.run_user(page.address(), 0), Err(Fault::GP0))?;
    expect_eq!(fault::details().rip, code.address() + 3)?;
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// A VMCB address that is not page-aligned raises #GP(0).
#[case(
    spec = "APM 2 15.5.1",
    needs("x86.svm"),
    rows(vmrun: svm::vmrun_from, vmload: svm::vmload, vmsave: svm::vmsave)
)]
fn unaligned_address(vm: &mut NestedVm, instruction: fn(u64) -> Result<(), Fault>) -> Verdict {
    let page = Vmcb::zeroed();
    for bit in [0, 3, 6, 11] {
        let address = page.address() + (1 << bit);
        expect_eq!(instruction(address), Err(Fault::GP0), "bit {bit}")?;
    }
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// A VMCB address beyond the physical width raises #GP(0).
#[case(
    spec = "APM 2 15.5.1",
    needs("x86.svm"),
    rows(vmrun: svm::vmrun_from, vmload: svm::vmload, vmsave: svm::vmsave)
)]
fn address_beyond_physical_width(
    vm: &mut NestedVm,
    instruction: fn(u64) -> Result<(), Fault>,
) -> Verdict {
    let page = Vmcb::zeroed();
    for bit in [cpuid::physical_bits(), 62, 63] {
        let address = page.address() | 1 << bit;
        expect_eq!(instruction(address), Err(Fault::GP0), "bit {bit}")?;
    }
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// VM_HSAVE_PA takes page-aligned physical addresses and refuses others with #GP(0), keeping its value.
#[case(spec = "APM 2 15.30.4 VM_HSAVE_PA", needs("x86.svm"))]
fn hsave_address_is_checked(vm: &mut NestedVm) -> Verdict {
    let good = msr::read(msr::VM_HSAVE_PA)?;
    for bad in [
        good | 1,
        good | 0x800,
        good | 1 << cpuid::physical_bits(),
        good | 1 << 63,
    ] {
        expect_eq!(
            msr::write(msr::VM_HSAVE_PA, bad),
            Err(Fault::GP0),
            "{bad:#x}"
        )?;
        expect_eq!(msr::read(msr::VM_HSAVE_PA), Ok(good))?;
    }
    expect_eq!(msr::write(msr::VM_HSAVE_PA, good), Ok(()))?;
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// With VM_CR.SVMDIS set, EFER.SVME cannot be set; with SVMDIS clear it can.
#[case(spec = "APM 2 15.30.1 VM_CR", needs("x86.svm"))]
fn svmdis_keeps_svme_clear(vm: &mut NestedVm) -> Verdict {
    const LOCK: u64 = 1 << 3;
    let before = msr::read(msr::VM_CR)?;
    if before & LOCK != 0 {
        return skip("x86.svm.unlocked");
    }
    svm::disable()?;
    let disabled = msr::write(msr::VM_CR, before | svm::VM_CR_SVMDIS);
    let enabled = svm::enable();
    let restored = msr::write(msr::VM_CR, before);
    expect_eq!(disabled, Ok(()))?;
    expect_eq!(restored, Ok(()))?;
    expect_eq!(enabled, Err(Fault::GP0), "setting SVME with SVMDIS")?;
    expect_eq!(svm::enable(), Ok(()))?;
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// VMRUN inside the guest exits, and shows its own RAX.
#[case(spec = "APM 2 15.9 VMRUN", needs("x86.svm"))]
fn vmrun_in_the_guest_exits(vm: &mut NestedVm) -> Verdict {
    let start = vm.load_bytes(&[0x90, 0x0f, 0x01, 0xd8]);
    vm.vmcb.set(field::RAX, 0x1234_5000);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::VMRUN))?;
    expect_eq!(vm.rip(), start + 1)?;
    expect_eq!(vm.vmcb.get(field::RAX), 0x1234_5000)?;
    expect_eq!(vm.resume(), Entry::VMMCALL)
}

/// Every processor runs a guest of its own at the same time.
#[case(spec = "APM 2 15.5.1 VMRUN", needs("x86.svm", "cpus>=2"))]
fn guests_run_on_all_processors(vm: &mut NestedVm) -> Verdict {
    use alloc::sync::Arc;
    use core::sync::atomic::{AtomicU64, Ordering};
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    let counts = cpus::on_each(cpus::others(), |cpu| {
        let Ok(mut vm) = NestedVm::new() else {
            return 0;
        };
        let (mine, seen) = (cpu.0 as u64, Arc::new(AtomicU64::new(0)));
        let tally = seen.clone();
        vm.load(move || {
            for _ in 0..200 {
                // 1 per round in which the guest runs where it should.
                tally.fetch_add(u64::from(cpus::this().0 as u64 == mine), Ordering::SeqCst);
                l2::vmmcall();
            }
        });
        let mut entry = vm.enter();
        while entry == Entry::VMMCALL && !vm.finished() {
            entry = vm.resume();
        }
        seen.load(Ordering::SeqCst)
    })?;
    expect!(
        counts.iter().all(|&n| n == 200),
        "rounds by processor: {counts:?}"
    )?;
    expect_eq!(vm.enter(), Entry::VMMCALL)
}
