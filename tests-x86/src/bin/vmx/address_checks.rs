//! Addresses in control fields: alignment and width. Spec: SDM 3C 27.2.1.
//!
//! Each structure that a control refers to has an alignment, and must lie within the physical
//! address width. The check belongs to the control: with the control off the field is not looked
//! at. A hypervisor maps these pages itself, so a missing check makes it touch what it should not.

use guest_lib::arch::vmx::controls::{self, Control};
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::vmx::{self, ept};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// A structure: its address field, its control, what else must be on, and the alignment's bits.
type Row = (Field, Control, &'static [Control], u32);

/// An address in a control field must be aligned and within the physical address width.
#[case(
    spec = "SDM 3C 27.2.1.1",
    rows(
        io_bitmap_a: (Field::IO_BITMAP_A, controls::IO_BITMAPS, &[], 12),
        io_bitmap_b: (Field::IO_BITMAP_B, controls::IO_BITMAPS, &[], 12),
        msr_bitmap: (Field::MSR_BITMAP, controls::MSR_BITMAPS, &[], 12),
        virtual_apic: (Field::VIRTUAL_APIC_ADDRESS, controls::TPR_SHADOW, &[], 12),
        apic_access: (Field::APIC_ACCESS_ADDRESS, controls::APIC_ACCESSES, &[], 12),
        pml: (Field::PML_ADDRESS, controls::PML, &[controls::EPT], 12),
        vmread_bitmap: (Field::VMREAD_BITMAP, controls::VMCS_SHADOWING, &[], 12),
        vmwrite_bitmap: (Field::VMWRITE_BITMAP, controls::VMCS_SHADOWING, &[], 12),
        ve_information: (
            Field::VE_INFORMATION_ADDRESS, controls::VIRTUALIZATION_EXCEPTIONS, &[controls::EPT], 12
        ),
    )
)]
fn structure_address_is_checked(vm: &mut NestedVm, row: Row) -> Verdict {
    let (field, control, others, alignment) = row;
    if !control.is_offered() {
        return skip(control.need);
    }
    let page = Frames::new(2);
    let good = page.address();
    for pair in [
        (Field::IO_BITMAP_A, Field::IO_BITMAP_B),
        (Field::VMREAD_BITMAP, Field::VMWRITE_BITMAP),
    ] {
        if field == pair.0 || field == pair.1 {
            vm.set(pair.0, good);
            vm.set(pair.1, good);
        }
    }
    vm.set(field, 1);
    expect_eq!(vm.run(), Entry::DONE, "{field:?} = 1 with the control off")?;
    for other in others {
        if *other == controls::EPT {
            vm.enable_ept()?;
        }
    }
    vm.enable(control)?;
    for bit in 0..alignment {
        vm.set(field, good | 1 << bit);
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "bit {bit}")?;
    }
    let mut high = vmx::address_limit();
    while high != 0 {
        vm.set(field, good | high);
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "{:#x}", good | high)?;
        high <<= 1;
    }
    vm.set(field, good);
    expect_eq!(vm.run(), Entry::DONE)
}

/// An MSR area must be aligned to 16 bytes and end within the width, when its count is not 0.
#[case(
    spec = "SDM 3C 27.2.1.2",
    rows(
        exit_store: (Field::EXIT_MSR_STORE_ADDRESS, Field::EXIT_MSR_STORE_COUNT),
        exit_load: (Field::EXIT_MSR_LOAD_ADDRESS, Field::EXIT_MSR_LOAD_COUNT),
        entry_load: (Field::ENTRY_MSR_LOAD_ADDRESS, Field::ENTRY_MSR_LOAD_COUNT),
    )
)]
fn msr_area_address_is_checked(vm: &mut NestedVm, row: (Field, Field)) -> Verdict {
    let (address, count) = row;
    let page = Frames::new(1);
    // IA32_SYSENTER_CS, in each direction a harmless MSR.
    page.write(0, 0x174u32);
    let good = page.address();
    vm.set(address, good | 1);
    vm.set(count, 0);
    expect_eq!(vm.run(), Entry::DONE, "misaligned with count 0")?;
    vm.set(count, 1);
    for bit in 0..4 {
        vm.set(address, good | 1 << bit);
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "bit {bit}")?;
    }
    vm.set(address, good | vmx::address_limit());
    expect_eq!(vm.run(), Entry::BAD_CONTROLS, "beyond the width")?;
    vm.set(address, vmx::address_limit() - 16);
    vm.set(count, 2);
    expect_eq!(
        vm.run(),
        Entry::BAD_CONTROLS,
        "the last byte beyond the width"
    )?;
    vm.set(address, good);
    vm.set(count, 1);
    expect_eq!(vm.run(), Entry::DONE)
}

/// EPTP: the memory type must be one that the processor offers.
#[case(spec = "SDM 3C 25.6.11", needs("x86.vmx.ept"))]
fn eptp_memory_type_is_checked(vm: &mut NestedVm) -> Verdict {
    let good = vm.enable_ept()?.pointer();
    let cap = vmx::ept_vpid_capability();
    for memory_type in 0..8 {
        let offered =
            memory_type == 0 && cap >> 8 & 1 != 0 || memory_type == 6 && cap >> 14 & 1 != 0;
        vm.set(Field::EPTP, good & !7 | memory_type);
        let expected = if offered {
            Entry::DONE
        } else {
            Entry::BAD_CONTROLS
        };
        expect_eq!(vm.run(), expected, "memory type {memory_type}")?;
    }
    Ok(())
}

/// EPTP: the page-walk length must be 4, or 5 where offered.
#[case(spec = "SDM 3C 25.6.11", needs("x86.vmx.ept"))]
fn eptp_walk_length_is_checked(vm: &mut NestedVm) -> Verdict {
    let good = vm.enable_ept()?.pointer();
    let five = vmx::ept_vpid_capability() >> 7 & 1 != 0;
    for length in 0..8 {
        if length == 4 && five {
            continue;
        }
        vm.set(Field::EPTP, good & !0x38 | length << 3);
        let expected = if length == 3 {
            Entry::DONE
        } else {
            Entry::BAD_CONTROLS
        };
        expect_eq!(vm.run(), expected, "length field {length}")?;
    }
    Ok(())
}

/// EPTP: accessed and dirty flags can be asked for where they are offered, only there.
#[case(spec = "SDM 3C 25.6.11", needs("x86.vmx.ept"))]
fn eptp_accessed_and_dirty_is_checked(vm: &mut NestedVm) -> Verdict {
    let good = vm.enable_ept()?.pointer();
    vm.set(Field::EPTP, good | ept::EPTP_AD);
    let offered = vmx::ept_vpid_capability() >> 21 & 1 != 0;
    let expected = if offered {
        Entry::DONE
    } else {
        Entry::BAD_CONTROLS
    };
    expect_eq!(vm.run(), expected)?;
    vm.set(Field::EPTP, good);
    expect_eq!(vm.run(), Entry::DONE)
}

/// EPTP: bits 11:8 and those beyond the physical address width are reserved.
#[case(spec = "SDM 3C 25.6.11", needs("x86.vmx.ept"))]
fn eptp_reserved_bits_are_refused(vm: &mut NestedVm) -> Verdict {
    let good = vm.enable_ept()?.pointer();
    // Bit 7 enforces access rights for supervisor shadow stacks where bit 23 offers it.
    let first = if vmx::ept_vpid_capability() >> 23 & 1 != 0 {
        8
    } else {
        7
    };
    let width = vmx::address_limit().trailing_zeros();
    for bit in (first..12).chain(width..64) {
        vm.set(Field::EPTP, good | 1 << bit);
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "bit {bit}")?;
    }
    vm.set(Field::EPTP, good);
    expect_eq!(vm.run(), Entry::DONE)
}

/// VM functions: a function that is not offered is refused, and EPTP switching needs its list.
#[case(spec = "SDM 3C 27.2.1.1", needs("x86.vmx.eptp_switching"))]
fn vm_function_controls_are_checked(vm: &mut NestedVm) -> Verdict {
    let list = Frames::new(1);
    vm.enable(controls::VM_FUNCTIONS)?;
    vm.set(Field::VM_FUNCTION_CONTROLS, 0);
    expect_eq!(vm.run(), Entry::DONE, "no function")?;
    vm.set(Field::VM_FUNCTION_CONTROLS, 1);
    vm.set(Field::EPTP_LIST_ADDRESS, list.address());
    expect_eq!(vm.run(), Entry::BAD_CONTROLS, "EPTP switching without EPT")?;
    vm.enable_ept()?;
    expect_eq!(vm.run(), Entry::DONE, "EPTP switching with EPT")?;
    for bit in (0..12).chain([vmx::address_limit().trailing_zeros(), 63]) {
        vm.set(Field::EPTP_LIST_ADDRESS, list.address() | 1 << bit);
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "list address bit {bit}")?;
    }
    vm.set(Field::EPTP_LIST_ADDRESS, list.address());
    let offered = vmx::capability(vmx::VMFUNC);
    for bit in (1..64).filter(|bit| offered >> bit & 1 == 0) {
        vm.set(Field::VM_FUNCTION_CONTROLS, 1 | 1 << bit);
        expect_eq!(vm.run(), Entry::BAD_CONTROLS, "function {bit}")?;
    }
    vm.set(Field::VM_FUNCTION_CONTROLS, 1);
    expect_eq!(vm.run(), Entry::DONE)
}
