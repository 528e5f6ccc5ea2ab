//! Guests in every mode. Spec: APM 2 15.5.1.
//!
//! The VMCB's CR0, CR4, EFER and CS attributes decide the mode, in any combination the processor has.
//! Each guest proves its mode by instructions that decode or address differently there.

use guest_lib::arch::paging::{P, PS, W};
use guest_lib::arch::registers::{Cr0, Cr4, Efer};
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, Segment, field, intercept};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

fn leave_long_mode(vm: &NestedVm) {
    vm.vmcb
        .update(field::EFER, |efer| efer & !(Efer::LME | Efer::LMA).bits());
}

fn unpaged(vm: &NestedVm) {
    leave_long_mode(vm);
    vm.vmcb.update(field::CR0, |cr0| cr0 & !Cr0::PG.bits());
}

/// Code and data as 32-bit flat segments.
fn flat_32(vm: &NestedVm) {
    vm.vmcb.set(Segment::CS.attributes(), 0xc9b);
}

/// mov eax,[address]; dec eax (a REX prefix in 64-bit mode)
fn load_and_decrement(vm: &mut NestedVm, address: u64) {
    let a = (address as u32).to_le_bytes();
    vm.load_bytes(&[0xa1, a[0], a[1], a[2], a[3], 0x48]);
    vm.vmcb.set(field::RAX, 0xffff_ffff_0000_0000);
}

/// A guest in real mode addresses by segment base and runs 16-bit code.
#[case(spec = "APM 2 15.5.1", needs("x86.svm"), rows(shadow: false, nested_paging: true))]
fn real_mode(vm: &mut NestedVm, nested: bool) -> Verdict {
    if nested {
        if !guest_lib::arch::has("x86.svm.npt") {
            return skip("x86.svm.npt");
        }
        vm.nest_paging();
    }
    unpaged(vm);
    vm.vmcb.update(field::CR0, |cr0| cr0 & !Cr0::PE.bits());
    let data = Frames::new(1);
    data.write(0x10, 0x1234u16);
    // mov ax,[10h] with a 16-bit address; inc ax
    let code = vm.load_bytes(&[0xa1, 0x10, 0x00, 0x40]);
    for (segment, base, attributes) in [
        (Segment::CS, code, 0x9b),
        (Segment::DS, data.address(), 0x93),
        (Segment::ES, 0, 0x93),
        (Segment::SS, 0, 0x93),
    ] {
        vm.vmcb.set(segment.selector(), 0);
        vm.vmcb.set(segment.base(), base);
        vm.vmcb.set(segment.limit(), 0xffff);
        vm.vmcb.set(segment.attributes(), attributes);
    }
    vm.vmcb.set(field::RIP, 0);
    vm.vmcb.set(field::RAX, 0x7777_0000);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.rip(), 4)?;
    expect_eq!(vm.vmcb.get(field::RAX), 0x7777_1235)?;
    expect_eq!(vm.vmcb.get(field::CR0) & (Cr0::PE | Cr0::PG).bits(), 0)
}

/// A guest in protected mode without paging runs 32-bit code on physical addresses.
#[case(spec = "APM 2 15.5.1", needs("x86.svm"), rows(shadow: false, nested_paging: true))]
fn protected_mode_without_paging(vm: &mut NestedVm, nested: bool) -> Verdict {
    if nested {
        if !guest_lib::arch::has("x86.svm.npt") {
            return skip("x86.svm.npt");
        }
        vm.nest_paging();
    }
    let data = Frames::new(1);
    data.write(0, 0x8000_0001u32);
    unpaged(vm);
    flat_32(vm);
    load_and_decrement(vm, data.address());
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.vmcb.get(field::RAX), 0x8000_0000)
}

/// A guest in compatibility mode runs 32-bit code under long-mode paging.
#[case(spec = "APM 2 15.5.1", needs("x86.svm"))]
fn compatibility_mode(vm: &mut NestedVm) -> Verdict {
    let data = Frames::new(1);
    data.write(0, 0x8000_0001u32);
    flat_32(vm);
    load_and_decrement(vm, data.address());
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.vmcb.get(field::RAX), 0x8000_0000)
}

/// A 32-bit guest with PAE paging walks its own page-directory-pointer table.
#[case(spec = "APM 2 15.5.1", needs("x86.svm"), rows(shadow: false, nested_paging: true))]
fn pae_paging(vm: &mut NestedVm, nested: bool) -> Verdict {
    if nested {
        if !guest_lib::arch::has("x86.svm.npt") {
            return skip("x86.svm.npt");
        }
        vm.nest_paging();
    }
    const MAPPED_AT: u64 = 0x8000_0000;
    let data = Frames::aligned(512, 2 << 20);
    data.write(0x1000, 0x8000_0001u32);
    let (pdpt, directories) = (Frames::new(1), Frames::new(4));
    for i in 0..4 {
        pdpt.write(8 * i, (directories.address() + 4096 * i as u64) | P);
    }
    for i in 0..512 {
        directories.write(8 * i, (i as u64) << 21 | P | W | PS);
    }
    // The third GiB holds the data, where the identity map has nothing.
    directories.write(4096 * 2, data.address() | P | W | PS);
    leave_long_mode(vm);
    flat_32(vm);
    vm.vmcb.set(field::CR3, pdpt.address());
    load_and_decrement(vm, MAPPED_AT + 0x1000);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.vmcb.get(field::RAX), 0x8000_0000)
}

/// A 32-bit guest without PAE walks two levels of 32-bit entries.
#[case(spec = "APM 2 15.5.1", needs("x86.svm"))]
fn two_level_paging(vm: &mut NestedVm) -> Verdict {
    const MAPPED_AT: u64 = 0x9000_0000;
    let data = Frames::new(1);
    data.write(0x20, 0x8000_0001u32);
    let (directory, table) = (Frames::new(1), Frames::new(1));
    for i in 0..512 {
        directory.write(4 * i, ((i as u32) << 22) | (P | W | PS) as u32);
    }
    directory.write(
        4 * (MAPPED_AT >> 22) as usize,
        table.address() as u32 | (P | W) as u32,
    );
    table.write(0, data.address() as u32 | (P | W) as u32);
    leave_long_mode(vm);
    flat_32(vm);
    vm.vmcb
        .update(field::CR4, |cr4| cr4 & !Cr4::PAE.bits() | Cr4::PSE.bits());
    vm.vmcb.set(field::CR3, directory.address());
    load_and_decrement(vm, MAPPED_AT + 0x20);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.vmcb.get(field::RAX), 0x8000_0000)
}

/// A guest that turns paging on by itself arrives in long mode, and EFER.LMA shows it.
#[case(spec = "APM 2 15.5.1", needs("x86.svm"))]
fn guest_turns_long_mode_on(vm: &mut NestedVm) -> Verdict {
    unpaged(vm);
    flat_32(vm);
    vm.vmcb.update(field::EFER, |efer| efer | Efer::LME.bits());
    // mov eax,cr0; bts eax,31; mov cr0,eax
    vm.load_bytes(&[0x0f, 0x20, 0xc0, 0x0f, 0xba, 0xe8, 31, 0x0f, 0x22, 0xc0]);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    let long = (Efer::LME | Efer::LMA).bits();
    expect_eq!(vm.vmcb.get(field::EFER) & long, long, "EFER")?;
    expect_eq!(vm.vmcb.get(field::CR0) & Cr0::PG.bits(), Cr0::PG.bits())
}

/// A task switch by a far jump in a 32-bit guest exits with its intercept, naming the TSS selector.
#[case(spec = "APM 2 15.14.1 task switch", needs("x86.svm"))]
fn task_switch_exits(vm: &mut NestedVm) -> Verdict {
    // A GDT of its own: null, code, data, an available 32-bit TSS.
    let (gdt, tss) = (Frames::new(1), Frames::new(1));
    let base = tss.address();
    gdt.write(8, 0x00cf_9b00_0000_ffffu64);
    gdt.write(16, 0x00cf_9300_0000_ffffu64);
    let descriptor = 0x67 | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    gdt.write(24, descriptor);
    // Should the switch take place after all, the old task's state must not end up in the payload's TSS.
    let old = Frames::new(1);
    vm.vmcb.set(Segment::TR.base(), old.address());
    vm.vmcb.set(Segment::GDTR.base(), gdt.address());
    vm.vmcb.set(Segment::GDTR.limit(), 0xfff);
    unpaged(vm);
    flat_32(vm);
    vm.vmcb.intercept(intercept::TASK_SWITCH, true);
    vm.vmcb.set(field::INTERCEPT_EXCEPTION, u32::MAX);
    // jmp 18h:0
    let start = vm.load_bytes(&[0x90, 0xea, 0, 0, 0, 0, 0x18, 0]);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::TASK_SWITCH))?;
    expect_eq!(vm.info1() & 0xffff, 0x18, "EXITINFO1: the new TSS")?;
    // Bit 38: by a far jump; bit 36: by IRET; bit 44: an error code is valid.
    expect_eq!(vm.info2() >> 36 & 5, 4, "EXITINFO2: by JMP, not by IRET")?;
    expect_eq!(vm.rip(), start + 1)
}

/// With nested paging a PAE guest's pointers are read when they are used: a broken one that is not used does no harm.
#[case(
    spec = "APM 2 15.25.10",
    needs("x86.svm.npt"),
    rows(low_reserved_bit: 1 << 1, high_reserved_bit: 1 << 62)
)]
fn unused_page_directory_pointer(vm: &mut NestedVm, reserved: u64) -> Verdict {
    let data = Frames::new(1);
    data.write(0, 0x8000_0001u32);
    let (pdpt, directories) = (Frames::new(1), Frames::new(4));
    for i in 0..4 {
        pdpt.write(8 * i, (directories.address() + 4096 * i as u64) | P);
        for j in 0..512 {
            let page = (i * 512 + j) as u64;
            directories.write(4096 * i + 8 * j, page << 21 | P | W | PS);
        }
    }
    vm.nest_paging();
    leave_long_mode(vm);
    flat_32(vm);
    vm.vmcb.set(field::CR3, pdpt.address());
    vm.vmcb.intercept_exception(14, true);
    // Everything the guest uses lies in the first GiB.
    expect!(data.address() >> 30 == 0)?;
    let good = [pdpt.read::<u64>(0), pdpt.read::<u64>(24)];
    pdpt.write(24, good[1] | reserved);
    load_and_decrement(vm, data.address());
    expect_eq!(vm.enter(), Entry::VMMCALL, "the last pointer broken")?;
    pdpt.write(0, good[0] | reserved);
    load_and_decrement(vm, data.address());
    expect_eq!(
        vm.enter(),
        Entry::Exited(ExitCode::exception(14)),
        "the first pointer broken"
    )?;
    pdpt.write(0, good[0]);
    load_and_decrement(vm, data.address());
    expect_eq!(vm.enter(), Entry::VMMCALL, "mended")
}

/// CR3 bits beyond the physical width are refused in 32-bit modes too.
#[case(spec = "APM 2 15.5.1 CR3", needs("x86.svm"), rows(pae: true, two_level: false))]
fn high_cr3_bits_are_refused(vm: &mut NestedVm, pae: bool) -> Verdict {
    let tables = Frames::new(5);
    for i in 0..4 {
        tables.write(8 * i, (tables.address() + 4096 * (i as u64 + 1)) | P);
        for j in 0..512 {
            tables.write(
                4096 * (i + 1) + 8 * j,
                ((i * 512 + j) as u64) << 21 | P | W | PS,
            );
        }
    }
    let directory = Frames::new(1);
    for i in 0..1024 {
        directory.write(4 * i, ((i as u32) << 22) | (P | W | PS) as u32);
    }
    leave_long_mode(vm);
    flat_32(vm);
    let root = if pae {
        tables.address()
    } else {
        directory.address()
    };
    if !pae {
        vm.vmcb
            .update(field::CR4, |cr4| cr4 & !Cr4::PAE.bits() | Cr4::PSE.bits());
    }
    vm.load_bytes(&[]);
    vm.vmcb.set(field::CR3, root);
    let good = vm.vmcb.bytes().to_vec();
    for bit in guest_lib::arch::cpuid::physical_bits()..64 {
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        // A refused entry may leave anything in the VMCB.
        vm.vmcb.restore(&good);
        vm.vmcb.set(field::CR3, root | 1 << bit);
        expect_eq!(vm.enter(), Entry::Invalid, "bit {bit}")?;
        vm.vmcb.restore(&good);
    }
    Ok(())
}

/// Bits of CR3 that mean nothing in a mode do not stop VMRUN.
#[case(spec = "APM 2 15.5.1 CR3", needs("x86.svm"))]
fn meaningless_cr3_bits_are_taken(vm: &mut NestedVm) -> Verdict {
    let root = vm.vmcb.get(field::CR3);
    // Long mode without PCID: 2:0 and 11:5.
    for bit in (0..3).chain(5..12) {
        vm.load_bytes(&[]);
        vm.vmcb.set(field::CR3, root | 1 << bit);
        expect_eq!(vm.enter(), Entry::VMMCALL, "bit {bit}")?;
    }
    Ok(())
}
