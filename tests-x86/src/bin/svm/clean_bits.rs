//! VMCB clean bits. Spec: APM 2 15.15.
//!
//! A clean bit promises that a group of fields is as it was at the last exit from this VMCB, so the
//! processor need not load it again. A bit that is 0 always means "load": a hypervisor that caches more
//! than it may keeps running with old state. Each row sets every bit but one, changes a field of that
//! group, and sees the new value in force.

use guest_lib::arch::cpu;
use guest_lib::arch::paging::{AddressSpace, FREE_BASE, P, W};
use guest_lib::arch::registers::{Cr0, Cr4, Efer};
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, Segment, field, int_ctl, intercept, l2};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const BITS: u32 = 0x7ff;

fn all_clean_but(vm: &NestedVm, bit: u32) {
    vm.vmcb.set(field::CLEAN, BITS & !(1 << bit));
}

/// A changed intercept counts with the intercept bit clear.
#[case(spec = "APM 2 15.15.3", needs("x86.svm"))]
fn changed_intercept_counts(vm: &mut NestedVm) -> Verdict {
    for round in 0..3 {
        for on in [true, false] {
            vm.vmcb.intercept(intercept::CPUID, on);
            vm.load_bytes(&[0x0f, 0xa2]);
            all_clean_but(vm, 0);
            let expected = if on {
                Entry::Exited(ExitCode::CPUID)
            } else {
                Entry::VMMCALL
            };
            expect_eq!(vm.enter(), expected, "intercept {on}, round {round}")?;
        }
    }
    Ok(())
}

/// A changed exception intercept and a changed TSC offset belong to the same group.
#[case(spec = "APM 2 15.15.3", needs("x86.svm"))]
fn changed_tsc_offset_counts(vm: &mut NestedVm) -> Verdict {
    for offset in [1u64 << 50, 1 << 51, 0] {
        vm.vmcb.set(field::TSC_OFFSET, offset);
        vm.load(|| l2::tell(0, cpu::rdtsc()));
        all_clean_but(vm, 0);
        let before = time::now();
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        let shown = vm.told(0).wrapping_sub(offset);
        expect!(
            (before..=time::now()).contains(&shown),
            "offset {offset:#x}: {shown:#x}"
        )?;
    }
    Ok(())
}

/// A changed permission-map base counts with the IOPM bit clear.
#[case(spec = "APM 2 15.15.3", needs("x86.svm"))]
fn changed_permission_map_base_counts(vm: &mut NestedVm) -> Verdict {
    let mut other = Frames::new(3);
    other.bytes_mut().fill(0xff);
    let ours = vm.iopm().address();
    vm.vmcb.intercept(intercept::IOIO, true);
    for (base, expected) in [
        (ours, Entry::VMMCALL),
        (other.address(), Entry::Exited(ExitCode::IOIO)),
        (ours, Entry::VMMCALL),
    ] {
        vm.vmcb.set(field::IOPM_BASE_PA, base);
        vm.load_bytes(&[0xe6, 0x80]);
        all_clean_but(vm, 1);
        expect_eq!(vm.enter(), expected)?;
    }
    Ok(())
}

/// A changed ASID counts with the ASID bit clear: the other ASID's translations are not used.
#[case(spec = "APM 2 15.15.3", needs("x86.svm"))]
fn changed_asid_counts(vm: &mut NestedVm) -> Verdict {
    let pages = [Frames::new(1), Frames::new(1)];
    pages[0].write(0, 0x20u8);
    pages[1].write(0, 0x21u8);
    let mut space = AddressSpace::new(false);
    vm.vmcb.set(field::CR3, space.root());
    let mut look = |vm: &mut NestedVm, asid: u32, page: usize, flush: u8| {
        space.set(FREE_BASE, 1, pages[page].address() | P | W);
        vm.vmcb.set(field::ASID, asid);
        vm.vmcb.set(field::TLB_CONTROL, flush);
        vm.load(|| l2::tell(0, cpu::peek_raw(FREE_BASE)));
        vm.vmcb
            .set(field::CLEAN, if flush == 0 { BITS & !(1 << 2) } else { 0 });
        let entry = vm.enter();
        (entry, vm.told(0))
    };
    expect_eq!(look(vm, 2, 0, 1), (Entry::VMMCALL, 0x20))?;
    expect_eq!(look(vm, 1, 0, 1), (Entry::VMMCALL, 0x20))?;
    expect_eq!(look(vm, 2, 1, 0), (Entry::VMMCALL, 0x21))
}

/// A changed virtual interrupt and priority count with the TPR bit clear.
#[case(spec = "APM 2 15.15.3", needs("x86.svm"))]
fn changed_interrupt_control_counts(vm: &mut NestedVm) -> Verdict {
    for class in [3u64, 9, 0] {
        vm.vmcb.set(
            field::INT_CTL,
            int_ctl::V_INTR_MASKING | int_ctl::v_tpr(class),
        );
        vm.load(|| l2::tell(0, cpu::read_cr8()));
        all_clean_but(vm, 3);
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        expect_eq!(vm.told(0), class)?;
    }
    Ok(())
}

/// A changed CR0, CR3, CR4 or EFER counts with the control-register bit clear.
#[case(spec = "APM 2 15.15.3", needs("x86.svm"))]
fn changed_control_registers_count(vm: &mut NestedVm) -> Verdict {
    for _ in 0..3 {
        vm.vmcb.update(field::CR0, |old| old ^ Cr0::TS.bits());
        vm.vmcb.update(field::CR4, |old| old ^ Cr4::PGE.bits());
        vm.vmcb.update(field::EFER, |old| old ^ Efer::SCE.bits());
        vm.load(|| {
            l2::tell(0, cpu::read_cr0());
            l2::tell(1, cpu::read_cr4());
            l2::tell(2, Efer::read().bits());
        });
        all_clean_but(vm, 5);
        let want = (
            vm.vmcb.get(field::CR0),
            vm.vmcb.get(field::CR4),
            vm.vmcb.get(field::EFER),
        );
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        expect_eq!((vm.told(0), vm.told(1), vm.told(2)), want)?;
    }
    Ok(())
}

/// A changed DR6 or DR7 counts with the debug-register bit clear.
#[case(spec = "APM 2 15.15.3", needs("x86.svm"))]
fn changed_debug_registers_count(vm: &mut NestedVm) -> Verdict {
    for (dr6, dr7) in [
        (0xffff_0ff1, 0x701),
        (0xffff_0ff4, 0x710),
        (0xffff_0ff0, 0x400),
    ] {
        vm.vmcb.set(field::DR6, dr6);
        vm.vmcb.set(field::DR7, dr7);
        vm.load(|| {
            l2::tell(0, cpu::read_dr6());
            l2::tell(1, cpu::read_dr7());
        });
        all_clean_but(vm, 6);
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        expect_eq!((vm.told(0), vm.told(1)), (dr6, dr7))?;
    }
    Ok(())
}

/// A changed GDTR or IDTR counts with the descriptor-table bit clear.
#[case(spec = "APM 2 15.15.3", needs("x86.svm"))]
fn changed_descriptor_tables_count(vm: &mut NestedVm) -> Verdict {
    use guest_lib::arch::segments;
    for limit in [0x1ff, 0x2ff, 0xfff] {
        vm.vmcb.set(Segment::GDTR.limit(), limit);
        vm.vmcb.set(Segment::IDTR.limit(), limit);
        vm.load(|| {
            l2::tell(0, u64::from(segments::gdtr().limit));
            l2::tell(1, u64::from(segments::idtr().limit));
        });
        all_clean_but(vm, 7);
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        expect_eq!(
            (vm.told(0), vm.told(1)),
            (u64::from(limit), u64::from(limit))
        )?;
    }
    Ok(())
}

/// A changed CS or CPL counts with the segment bit clear: 64-bit code becomes 32-bit code and back.
#[case(spec = "APM 2 15.15.3", needs("x86.svm"))]
fn changed_segments_count(vm: &mut NestedVm) -> Verdict {
    for (attributes, rax) in [(0xa9b, 5), (0xc9b, 4), (0xa9b, 5)] {
        vm.vmcb.set(Segment::CS.attributes(), attributes);
        // mov eax,5; dec eax in 32-bit mode, a prefix of NOP in 64-bit mode; nop
        vm.load_bytes(&[0xb8, 5, 0, 0, 0, 0x48, 0x90]);
        all_clean_but(vm, 8);
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        expect_eq!(
            vm.vmcb.get(field::RAX),
            rax,
            "CS attributes {attributes:#x}"
        )?;
    }
    Ok(())
}

/// A changed CR2 counts with its bit clear.
#[case(spec = "APM 2 15.15.3", needs("x86.svm"))]
fn changed_cr2_counts(vm: &mut NestedVm) -> Verdict {
    for value in [0x1000, 0x2000, 0] {
        vm.vmcb.set(field::CR2, value);
        vm.load(|| l2::tell(0, cpu::read_cr2()));
        all_clean_but(vm, 9);
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        expect_eq!(vm.told(0), value)?;
    }
    Ok(())
}

/// A changed nested CR3 counts with the nested-paging bit clear.
#[case(spec = "APM 2 15.15.3", needs("x86.svm.npt"))]
fn changed_nested_tables_count(vm: &mut NestedVm) -> Verdict {
    let pages = [Frames::new(1), Frames::new(1)];
    pages[0].write(0, 0x20u8);
    pages[1].write(0, 0x21u8);
    let shown = pages[0].address();
    let mut other = guest_lib::arch::svm::Npt::identity();
    other.set(shown, 1, pages[1].address() | P | W | 4);
    let ours = vm.nest_paging().root();
    for (root, value) in [(ours, 0x20), (other.root(), 0x21), (ours, 0x20)] {
        vm.vmcb.set(field::N_CR3, root);
        vm.load(move || l2::tell(0, cpu::peek_raw(shown)));
        all_clean_but(vm, 4);
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        expect_eq!(vm.told(0), value)?;
    }
    Ok(())
}
