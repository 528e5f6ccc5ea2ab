//! The modes a guest may be entered in. Spec: SDM 3C 26.6, 27.3.
//!
//! A guest need not be in its host's mode. Without unrestricted guests every guest is paged;
//! with them it may be unpaged or in real-address mode, where EPT alone translates.

use guest_lib::arch::paging;
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm};
use guest_lib::arch::vmx::vmcs::{Field, Segment};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// A PDPT whose four entries lead to the payload's own page directories.
pub fn pae_identity() -> Frames {
    let pdpt = Frames::new(1);
    let root = paging::read_entry(paging::kernel_root()) & 0x000f_ffff_ffff_f000;
    for i in 0..4 {
        let entry = paging::read_entry(root + 8 * i);
        pdpt.write(8 * i as usize, entry & 0x000f_ffff_ffff_f000 | 1);
    }
    pdpt
}

/// Real-address mode: addresses are 20 bits of segment arithmetic, or the cached bases.
#[case(spec = "SDM 3C 26.6", needs("x86.vmx.unrestricted_guest"))]
fn real_mode_guest_runs(vm: &mut NestedVm) -> Verdict {
    // mov eax, cr0; mov bx, 0x1234; shl ebx, 16 (operand-size prefix)
    vm.code(&[0x0f, 0x20, 0xc0, 0xbb, 0x34, 0x12, 0x66, 0xc1, 0xe3, 0x10]);
    vm.real_mode()?;
    vm.registers.rbx = 0;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.registers.rax & 0x8000_0001, 0, "PG and PE")?;
    expect_eq!(vm.registers.rbx, 0x1234_0000)
}

/// Protected mode without paging.
#[case(spec = "SDM 3C 26.6", needs("x86.vmx.unrestricted_guest"))]
fn unpaged_guest_runs(vm: &mut NestedVm) -> Verdict {
    // mov eax, cr0
    vm.code(&[0x0f, 0x20, 0xc0]);
    vm.unpaged_32()?;
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(vm.registers.rax & 0x8000_0001, 1, "PG and PE")
}

/// Without unrestricted guests, an unpaged guest is refused.
#[case(spec = "SDM 3C 27.3.1.1")]
fn unpaged_guest_needs_unrestricted(vm: &mut NestedVm) -> Verdict {
    let controls = vm.get(Field::ENTRY_CONTROLS);
    vm.clear_bits(Field::ENTRY_CONTROLS, 1 << 9);
    vm.set_segment(Segment::Cs, 0x28, 0, 0xffff_ffff, 0xc09b);
    for cleared in [1u64 << 31, 1 << 31 | 1] {
        let good = vm.get(Field::GUEST_CR0);
        vm.set(Field::GUEST_CR0, good & !cleared);
        expect_eq!(vm.enter(), Entry::BAD_GUEST, "CR0 without {cleared:#x}")?;
        vm.set(Field::GUEST_CR0, good);
    }
    vm.set(Field::ENTRY_CONTROLS, controls);
    vm.set_segment(Segment::Cs, 8, 0, 0xffff_ffff, 0xa09b);
    expect_eq!(vm.enter(), Entry::DONE)
}

/// PAE paging under a 64-bit host.
#[case(spec = "SDM 3C 27.3.2.4")]
fn pae_guest_runs(vm: &mut NestedVm) -> Verdict {
    let pdpt = pae_identity();
    // push eax; mov eax, 0x55; pop ecx: inc and dec have their 32-bit meaning: dec eax
    vm.code(&[0x50, 0xb8, 0x55, 0, 0, 0, 0x59, 0x48]);
    vm.pae_32(pdpt.address());
    vm.registers.rax = 0x77;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!((vm.registers.rax, vm.registers.rcx), (0x54, 0x77))
}

/// Bits 4:0 of CR3 are ignored with PAE paging.
#[case(spec = "SDM 3C 27.3.2.1")]
fn pae_ignores_low_cr3_bits(vm: &mut NestedVm) -> Verdict {
    let pdpt = pae_identity();
    vm.code(&[]);
    for bits in [0, 1, 0x1f] {
        vm.pae_32(pdpt.address() | bits);
        expect_eq!(vm.run(), Entry::DONE, "CR3 bits {bits:#x}")?;
    }
    Ok(())
}

/// 32-bit paging with 4 MiB pages, under a 64-bit host.
#[case(spec = "SDM 3C 27.3.2.1")]
fn guest_with_32_bit_paging_runs(vm: &mut NestedVm) -> Verdict {
    let directory = Frames::new(1);
    for i in 0..1024usize {
        directory.write(4 * i, (i as u32) << 22 | 0x83);
    }
    // mov eax, cr4
    vm.code(&[0x0f, 0x20, 0xe0]);
    vm.pae_32(directory.address());
    // PSE for PAE.
    vm.clear_bits(Field::GUEST_CR4, 1 << 5);
    vm.set_bits(Field::GUEST_CR4, 1 << 4);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.registers.rax & 0x30, 0x10, "PAE and PSE")
}

/// Compatibility mode: 32-bit code in an IA-32e guest.
#[case(spec = "SDM 3C 27.3.1.2")]
fn compatibility_mode_guest_runs(vm: &mut NestedVm) -> Verdict {
    // dec eax (a REX prefix in 64-bit code); nop
    vm.code(&[0x48, 0x90]);
    vm.set_segment(Segment::Cs, 0x28, 0, 0xffff_ffff, 0xc09b);
    vm.registers.rax = 10;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.registers.rax, 9)
}
