//! Control fields at VM entry: capabilities and dependencies. Spec: SDM 3C 27.2.1.
//!
//! A bit that the capability MSRs forbid, or a control without the one it builds on, must refuse
//! the entry with error 7 and leave everything else alone. A hypervisor that copies the fields
//! into its own VMCS unchecked either runs a guest that no processor would, or blames itself.
//!
//! Each case starts from `NestedVm`'s valid guest, spoils it, then mends it.

use guest_lib::arch::vmx::controls::{self, Control, allowed};
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::vmx::{MISC, capability};
use guest_lib::prelude::*;

/// A control bit that must be 1 or must be 0 refuses the entry when it is not.
#[case(
    spec = "SDM 3C A.2",
    rows(
        pin: Field::PIN_CONTROLS,
        primary: Field::PRIMARY_CONTROLS,
        secondary: Field::SECONDARY_CONTROLS,
        exit: Field::EXIT_CONTROLS,
        entry: Field::ENTRY_CONTROLS,
    )
)]
fn reserved_controls_are_refused(vm: &mut NestedVm, row: Field) -> Verdict {
    if row == Field::SECONDARY_CONTROLS {
        vm.enable(controls::SECONDARY)?;
    }
    let (zero, one) = allowed(row);
    let good = vm.get(row);
    for bit in 0..32 {
        let mask = 1u64 << bit;
        if zero & mask != 0 {
            vm.set(row, good & !mask);
            expect_eq!(vm.run(), Entry::BAD_CONTROLS, "bit {bit} must be 1")?;
        }
        if one & mask == 0 {
            vm.set(row, good | mask);
            expect_eq!(vm.run(), Entry::BAD_CONTROLS, "bit {bit} must be 0")?;
        }
    }
    vm.set(row, good);
    expect_eq!(vm.run(), Entry::DONE)
}

/// Secondary controls count only when they are activated.
#[case(spec = "SDM 3C 27.2.1.1", needs("x86.vmx.secondary_controls"))]
fn inactive_secondary_controls_are_ignored(vm: &mut NestedVm) -> Verdict {
    let forbidden = !allowed(Field::SECONDARY_CONTROLS).1 & 0xffff_ffff;
    expect_ne!(forbidden, 0, "a secondary control that must be 0")?;
    vm.set(Field::SECONDARY_CONTROLS, forbidden);
    expect_eq!(vm.run(), Entry::DONE)?;
    vm.force(controls::SECONDARY);
    expect_eq!(vm.run(), Entry::BAD_CONTROLS)
}

/// A control refuses the entry without the one that it builds on.
#[case(
    spec = "SDM 3C 27.2.1.1",
    rows(
        virtual_nmis: (controls::VIRTUAL_NMIS, &[controls::NMI_EXITING]),
        nmi_window: (controls::NMI_WINDOW, &[controls::NMI_EXITING, controls::VIRTUAL_NMIS]),
        x2apic_mode: (controls::X2APIC_MODE, &[controls::TPR_SHADOW]),
        apic_registers: (controls::APIC_REGISTERS, &[controls::TPR_SHADOW]),
        virtual_interrupts: (
            controls::VIRTUAL_INTERRUPTS,
            &[controls::TPR_SHADOW, controls::EXTERNAL_INTERRUPT_EXITING],
        ),
        unrestricted_guest: (controls::UNRESTRICTED_GUEST, &[controls::EPT]),
        mode_based_execute: (controls::MODE_BASED_EXECUTE, &[controls::EPT]),
        pml: (controls::PML, &[controls::EPT]),
        sub_page_write: (controls::SUB_PAGE_WRITE, &[controls::EPT]),
        save_preemption_timer: (controls::SAVE_PREEMPTION_TIMER, &[controls::PREEMPTION_TIMER]),
    )
)]
fn control_needs_its_base(vm: &mut NestedVm, row: (Control, &[Control])) -> Verdict {
    let (control, bases) = row;
    vm.enable(control)?;
    // EPT is mended through a real tree; TPR shadow through a page.
    let page = guest_lib::memory::Frames::new(1);
    for base in bases {
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "without {base:?}")?;
        if *base == controls::EPT {
            vm.enable_ept()?;
        } else {
            vm.enable(*base)?;
        }
        if *base == controls::TPR_SHADOW {
            vm.set(Field::VIRTUAL_APIC_ADDRESS, page.address());
            vm.set(Field::TPR_THRESHOLD, 0);
        }
    }
    if control == controls::PML {
        vm.set(Field::PML_ADDRESS, page.address());
    }
    if control == controls::NMI_WINDOW {
        // With the window open the guest exits at once.
        expect_ne!(vm.run(), Entry::BAD_CONTROLS)?;
        vm.clear_bits(control.field, control.mask());
        return expect_eq!(vm.run(), Entry::DONE);
    }
    vm.set(Field::PREEMPTION_TIMER, 0xffff_ffff);
    expect_eq!(vm.run(), Entry::DONE, "with all of them")
}

/// APIC accesses and x2APIC mode cannot both be virtualized.
#[case(
    spec = "SDM 3C 27.2.1.1",
    needs("x86.vmx.x2apic_mode", "x86.vmx.apic_accesses")
)]
fn x2apic_mode_excludes_apic_accesses(vm: &mut NestedVm) -> Verdict {
    let page = guest_lib::memory::Frames::new(2);
    vm.enable_all(&[
        controls::TPR_SHADOW,
        controls::X2APIC_MODE,
        controls::APIC_ACCESSES,
    ])?;
    vm.set(Field::VIRTUAL_APIC_ADDRESS, page.address());
    vm.set(Field::APIC_ACCESS_ADDRESS, page.address() + 4096);
    expect_eq!(vm.run(), Entry::BAD_CONTROLS, "both")?;
    for control in [controls::X2APIC_MODE, controls::APIC_ACCESSES] {
        vm.disable(control)?;
        expect_eq!(vm.run(), Entry::DONE, "without {control:?}")?;
        vm.force(control);
    }
    expect_eq!(vm.run(), Entry::BAD_CONTROLS, "both again")
}

/// Posted interrupts need virtual-interrupt delivery, acknowledgement and an 8-bit vector.
#[case(spec = "SDM 3C 27.2.1.1", needs("x86.vmx.posted_interrupts"))]
fn posted_interrupts_need_their_bases(vm: &mut NestedVm) -> Verdict {
    let page = guest_lib::memory::Frames::new(2);
    let all = [
        controls::POSTED_INTERRUPTS,
        controls::EXTERNAL_INTERRUPT_EXITING,
        controls::TPR_SHADOW,
        controls::VIRTUAL_INTERRUPTS,
        controls::ACK_INTERRUPT,
    ];
    vm.enable_all(&all)?;
    vm.set(Field::VIRTUAL_APIC_ADDRESS, page.address());
    vm.set(
        Field::POSTED_INTERRUPT_DESCRIPTOR,
        page.address() + 4096 + 64,
    );
    vm.set(Field::POSTED_INTERRUPT_VECTOR, 0xf2);
    expect_eq!(vm.run(), Entry::DONE)?;
    for base in [controls::VIRTUAL_INTERRUPTS, controls::ACK_INTERRUPT] {
        vm.clear_bits(base.field, base.mask());
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "without {base:?}")?;
        vm.force(base);
    }
    for bit in 8..16 {
        vm.set(Field::POSTED_INTERRUPT_VECTOR, 0xf2 | 1 << bit);
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "vector bit {bit}")?;
    }
    vm.set(Field::POSTED_INTERRUPT_VECTOR, 0xff);
    for bit in 0..6 {
        vm.set(
            Field::POSTED_INTERRUPT_DESCRIPTOR,
            page.address() | 1 << bit,
        );
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "descriptor bit {bit}")?;
    }
    vm.set(Field::POSTED_INTERRUPT_DESCRIPTOR, page.address() + 4096);
    expect_eq!(vm.run(), Entry::DONE)
}

/// More CR3-target values than the processor has are refused.
#[case(spec = "SDM 3C 27.2.1.1")]
fn cr3_target_count_is_limited(vm: &mut NestedVm) -> Verdict {
    let most = capability(MISC) >> 16 & 0x1ff;
    for count in 0..=most {
        vm.set(Field::CR3_TARGET_COUNT, count);
        expect_eq!(vm.run(), Entry::DONE, "{count} of {most}")?;
    }
    for count in [most + 1, 0x100 + most + 1, 0x8000_0000, 0xffff_ffff] {
        vm.set(Field::CR3_TARGET_COUNT, count);
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "{count:#x} of {most}")?;
    }
    Ok(())
}

/// With VPID, the identifier 0 belongs to the host and is refused.
#[case(spec = "SDM 3C 27.2.1.1", needs("x86.vmx.vpid"))]
fn vpid_zero_is_refused(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::VPID, 0);
    expect_eq!(vm.run(), Entry::DONE, "VPID off")?;
    vm.enable(controls::VPID)?;
    expect_eq!(vm.run(), Entry::BAD_CONTROLS, "VPID 0")?;
    for vpid in [1, 0x100, 0xffff] {
        vm.set(Field::VPID, vpid);
        expect_eq!(vm.run(), Entry::DONE, "VPID {vpid:#x}")?;
    }
    Ok(())
}

/// The TPR threshold has four bits, without virtual-interrupt delivery.
#[case(spec = "SDM 3C 27.2.1.1", needs("x86.vmx.tpr_shadow"))]
fn tpr_threshold_has_four_bits(vm: &mut NestedVm) -> Verdict {
    let page = guest_lib::memory::Frames::new(1);
    page.write(0x80, 0xf0u8);
    vm.set(Field::TPR_THRESHOLD, 0x10);
    expect_eq!(vm.run(), Entry::DONE, "no TPR shadow")?;
    vm.enable(controls::TPR_SHADOW)?;
    vm.set(Field::VIRTUAL_APIC_ADDRESS, page.address());
    for bit in 4..32 {
        vm.set(Field::TPR_THRESHOLD, 1 << bit);
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "bit {bit}")?;
    }
    vm.set(Field::TPR_THRESHOLD, 0xf);
    expect_eq!(vm.run(), Entry::DONE)
}

/// The TPR threshold may not exceed the class of the virtual TPR.
#[case(spec = "SDM 3C 27.2.1.1", needs("x86.vmx.tpr_shadow"))]
fn tpr_threshold_stays_below_the_virtual_tpr(vm: &mut NestedVm) -> Verdict {
    let page = guest_lib::memory::Frames::new(1);
    vm.enable(controls::TPR_SHADOW)?;
    vm.set(Field::VIRTUAL_APIC_ADDRESS, page.address());
    for class in 0..16u64 {
        page.write(0x80, (class << 4 | 0xf) as u8);
        for threshold in 0..16 {
            vm.set(Field::TPR_THRESHOLD, threshold);
            let expected = match threshold > class {
                true => Entry::BAD_CONTROLS,
                false => Entry::DONE,
            };
            expect_eq!(vm.run(), expected, "threshold {threshold}, class {class}")?;
        }
    }
    Ok(())
}

/// Entry to SMM and the end of dual-monitor treatment are refused outside SMM.
#[case(
    spec = "SDM 3C 27.2.1.3",
    rows(
        entry_to_smm: controls::ENTRY_TO_SMM,
        deactivate_dual_monitor: controls::DEACTIVATE_DUAL_MONITOR,
    )
)]
fn smm_controls_are_refused_outside_smm(vm: &mut NestedVm, row: Control) -> Verdict {
    vm.force(row);
    expect_eq!(vm.run(), Entry::BAD_CONTROLS)?;
    vm.clear_bits(row.field, row.mask());
    expect_eq!(vm.run(), Entry::DONE)
}
