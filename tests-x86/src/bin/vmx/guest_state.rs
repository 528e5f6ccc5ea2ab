//! Guest control registers, MSRs, RIP and RFLAGS at VM entry. Spec: SDM 3C 27.3.1.
//!
//! An impossible guest must be refused after the control and host checks and before its first
//! instruction, with exit reason 33 and the host state loaded. A hypervisor that copies the
//! nested VMCS unchecked lets the real processor refuse instead, and the wrong party sees the
//! failure.
//!
//! Each case starts from `NestedVm`'s valid guest, spoils one field, then mends it.

use crate::checks::{FixedBits, each_is_refused, fixed_bits_are_refused};
use crate::modes::pae_identity;
use guest_lib::arch::registers::{Cr0, Cr4, Efer, Rflags};
use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm};
use guest_lib::arch::vmx::vmcs::{Field, Segment};
use guest_lib::arch::vmx::{self, capability};
use guest_lib::prelude::*;

/// A bit of CR0 or CR4 that VMX operation fixes must have that value.
#[case(
    spec = "SDM 3C 27.3.1.1",
    rows(
        cr0: (Field::GUEST_CR0, vmx::CR0_FIXED0, vmx::CR0_FIXED1),
        cr4: (Field::GUEST_CR4, vmx::CR4_FIXED0, vmx::CR4_FIXED1),
    )
)]
fn fixed_bits_are_checked(vm: &mut NestedVm, row: FixedBits) -> Verdict {
    fixed_bits_are_refused(vm, Entry::BAD_GUEST, row)
}

/// CR0.PG without CR0.PE is refused, for an unrestricted guest too.
#[case(spec = "SDM 3C 27.3.1.1", needs("x86.vmx.unrestricted_guest"))]
fn paging_requires_protection(vm: &mut NestedVm) -> Verdict {
    vm.enable_ept()?;
    vm.enable(controls::UNRESTRICTED_GUEST)?;
    let good = vm.get(Field::GUEST_CR0);
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::GUEST_CR0,
        &[good & !Cr0::PE.bits()],
    )
}

/// An IA-32e guest needs CR0.PG and CR4.PAE.
#[case(spec = "SDM 3C 27.3.1.1")]
fn long_mode_requires_paging_and_pae(vm: &mut NestedVm) -> Verdict {
    let good = vm.get(Field::GUEST_CR4);
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::GUEST_CR4,
        &[good & !Cr4::PAE.bits()],
    )?;
    vm.rewind();
    let good = vm.get(Field::GUEST_CR0);
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::GUEST_CR0,
        &[good & !Cr0::PG.bits()],
    )
}

/// CR4.PCIDE without IA-32e mode is refused.
#[case(spec = "SDM 3C 27.3.1.1")]
fn pcide_requires_long_mode(vm: &mut NestedVm) -> Verdict {
    if capability(vmx::CR4_FIXED1) & Cr4::PCIDE.bits() == 0 {
        return skip("x86.pcid");
    }
    vm.unpaged_32()?;
    let good = vm.get(Field::GUEST_CR4);
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::GUEST_CR4,
        &[good | Cr4::PCIDE.bits()],
    )
}

/// CR3 must not set a bit beyond the physical address width.
#[case(spec = "SDM 3C 27.3.1.1")]
fn cr3_width_is_checked(vm: &mut NestedVm) -> Verdict {
    let good = vm.get(Field::GUEST_CR3);
    let width = vmx::address_limit().trailing_zeros();
    let values: Vec<u64> = (width..61).chain([63]).map(|bit| good | 1 << bit).collect();
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_CR3, &values)
}

/// Bits 63:32 of DR7 must be 0 when the entry loads debug controls.
#[case(spec = "SDM 3C 27.3.1.1")]
fn dr7_upper_half_is_checked(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::LOAD_DEBUG)?;
    let values: Vec<u64> = (32..64).map(|bit| 0x400 | 1 << bit).collect();
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_DR7, &values)?;
    vm.disable(controls::LOAD_DEBUG)?;
    vm.set(Field::GUEST_DR7, 0x400 | 1 << 40);
    expect_eq!(vm.run(), Entry::DONE, "not loaded")
}

/// Reserved bits of IA32_DEBUGCTL are refused when the entry loads debug controls.
#[case(spec = "SDM 3C 27.3.1.1")]
fn debugctl_reserved_bits_are_checked(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::LOAD_DEBUG)?;
    let values: Vec<u64> = (16..64).map(|bit| 1 << bit).collect();
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_DEBUGCTL, &values)?;
    vm.disable(controls::LOAD_DEBUG)?;
    vm.set(Field::GUEST_DEBUGCTL, 1 << 40);
    expect_eq!(vm.run(), Entry::DONE, "not loaded")
}

/// SYSENTER addresses must be canonical.
#[case(
    spec = "SDM 3C 27.3.1.1",
    rows(esp: Field::GUEST_SYSENTER_ESP, eip: Field::GUEST_SYSENTER_EIP)
)]
fn sysenter_addresses_must_be_canonical(vm: &mut NestedVm, row: Field) -> Verdict {
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        row,
        &[0xaaaa_aaaa_aaaa_aaaa, 1 << 63, 1 << 60],
    )
}

/// PAT entries must hold memory types that exist, when the entry loads the PAT.
#[case(spec = "SDM 3C 27.3.1.1", needs("x86.vmx.pat"))]
fn pat_is_checked(vm: &mut NestedVm) -> Verdict {
    let good = vm.get(Field::GUEST_PAT);
    vm.set(Field::GUEST_PAT, u64::MAX);
    expect_eq!(vm.run(), Entry::DONE, "not loaded")?;
    vm.set(Field::GUEST_PAT, good);
    vm.rewind();
    vm.enable(controls::LOAD_PAT)?;
    let mut values = Vec::new();
    for byte in 0..8u32 {
        for value in [2u64, 3, 8, 9, 0x10, 0x20, 0x40, 0x80, 0xff] {
            values.push(good & !(0xff << (8 * byte)) | value << (8 * byte));
        }
    }
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_PAT, &values)
}

/// EFER: reserved bits are refused, when the entry loads EFER.
#[case(spec = "SDM 3C 27.3.1.1", needs("x86.vmx.efer"))]
fn efer_reserved_bits_are_refused(vm: &mut NestedVm) -> Verdict {
    let good = vm.get(Field::GUEST_EFER);
    vm.set(Field::GUEST_EFER, u64::MAX);
    expect_eq!(vm.run(), Entry::DONE, "not loaded")?;
    vm.set(Field::GUEST_EFER, good);
    vm.rewind();
    vm.enable(controls::LOAD_EFER)?;
    let known = Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE;
    let values: Vec<u64> = (0..64)
        .map(|bit| 1 << bit)
        .filter(|bit| known.bits() & bit == 0)
        .map(|bit| good | bit)
        .collect();
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_EFER, &values)
}

/// EFER: LMA must equal the IA-32e-guest control, and LME must equal LMA while paging is on.
#[case(
    spec = "SDM 3C 27.3.1.1",
    needs("x86.vmx.efer"),
    rows(lma: Efer::LMA.bits(), lme: Efer::LME.bits(), both: (Efer::LMA | Efer::LME).bits())
)]
fn efer_long_mode_equals_the_guest_mode(vm: &mut NestedVm, row: u64) -> Verdict {
    vm.enable(controls::LOAD_EFER)?;
    let good = vm.get(Field::GUEST_EFER);
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_EFER, &[good & !row])
}

/// EFER.LME may be set in a guest without paging.
#[case(
    spec = "SDM 3C 27.3.1.1",
    needs("x86.vmx.efer", "x86.vmx.unrestricted_guest")
)]
fn efer_lme_is_free_without_paging(vm: &mut NestedVm) -> Verdict {
    vm.unpaged_32()?;
    vm.enable(controls::LOAD_EFER)?;
    vm.set(Field::GUEST_EFER, Efer::LME.bits());
    expect_eq!(vm.run(), Entry::DONE, "LME")?;
    vm.set(Field::GUEST_EFER, (Efer::LME | Efer::LMA).bits());
    expect_eq!(vm.run(), Entry::BAD_GUEST, "LME and LMA")
}

/// RFLAGS: bit 1 must be 1, and bits 3, 5, 15 and 63:22 must be 0.
#[case(spec = "SDM 3C 27.3.1.4")]
fn rflags_reserved_bits_are_checked(vm: &mut NestedVm) -> Verdict {
    let mut values = vec![0];
    values.extend(
        [3, 5, 15]
            .iter()
            .chain(&Vec::from_iter(22..64))
            .map(|bit| 2 | 1u64 << bit),
    );
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_RFLAGS, &values)
}

/// RFLAGS.VM is refused in an IA-32e guest.
#[case(spec = "SDM 3C 27.3.1.4")]
fn virtual_8086_is_refused_in_long_mode(vm: &mut NestedVm) -> Verdict {
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::GUEST_RFLAGS,
        &[2 | Rflags::VM.bits()],
    )
}

/// RFLAGS.IF must be set when an external interrupt is injected.
#[case(spec = "SDM 3C 27.3.1.4")]
fn injected_interrupt_requires_the_interrupt_flag(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::ENTRY_EVENT, 1 << 31 | 0x80);
    expect_eq!(vm.enter(), Entry::BAD_GUEST, "IF = 0")?;
    vm.set(Field::ENTRY_EVENT, 0);
    expect_eq!(vm.enter(), Entry::DONE, "no event")?;
    let served = fault::Handler::new(0x80, |frame| frame.rcx = 0x80);
    vm.rewind();
    vm.set(Field::ENTRY_EVENT, 1 << 31 | 0x80);
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    vm.registers.rcx = 0;
    expect_eq!(vm.enter(), Entry::DONE, "IF = 1")?;
    drop(served);
    expect_eq!(vm.registers.rcx, 0x80, "the handler's mark")
}

/// RIP bits 63:48 (63:57) must be equal in 64-bit code.
#[case(spec = "SDM 3C 27.3.1.4")]
fn rip_upper_bits_are_identical(vm: &mut NestedVm) -> Verdict {
    let good = vm.get(Field::GUEST_RIP);
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::GUEST_RIP,
        &[good | 1 << 60, good | 1 << 63, 0xaaaa_aaaa_aaaa_aaaa],
    )
}

/// RIP bits 63:32 must be 0 in compatibility mode.
#[case(spec = "SDM 3C 27.3.1.4")]
fn rip_upper_half_is_checked_in_compatibility_mode(vm: &mut NestedVm) -> Verdict {
    let code = u64::from(guest_lib::arch::segments::KERNEL_CODE32);
    vm.set_segment(Segment::Cs, code, 0, 0xffff_ffff, 0xc09b);
    let good = vm.get(Field::GUEST_RIP);
    let values: Vec<u64> = (32..64).map(|bit| good | 1 << bit).collect();
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_RIP, &values)
}

/// PAE guests: a reserved bit in a present PDPTE in memory fails the entry, qualification 2.
#[case(
    spec = "SDM 3C 27.3.1.6",
    rows(bit_1: 1 << 1, bit_5: 1 << 5, bit_8: 1 << 8, width: vmx::address_limit(), bit_62: 1 << 62)
)]
fn pdptes_in_memory_are_checked(vm: &mut NestedVm, row: u64) -> Verdict {
    let pdpt = pae_identity();
    vm.pae_32(pdpt.address());
    let refused = Entry::failed(guest_lib::arch::vmx::Reason::GUEST_STATE, 2);
    for i in 0..4 {
        let good = pdpt.read::<u64>(8 * i);
        pdpt.write(8 * i, good | row);
        expect_eq!(vm.enter(), refused, "PDPTE {i}")?;
        pdpt.write(8 * i, good);
    }
    // Not present: nothing else is looked at. Bits 11:9 are ignored.
    let last = pdpt.read::<u64>(24);
    pdpt.write(24, row & !1);
    expect_eq!(vm.enter(), Entry::DONE, "not present")?;
    vm.rewind();
    pdpt.write(24, last | 7 << 9);
    expect_eq!(vm.enter(), Entry::DONE, "bits 11:9")
}

/// PAE guests with EPT: the PDPTE fields are checked, memory is not.
#[case(spec = "SDM 3C 27.3.1.6", needs("x86.vmx.ept"))]
fn pdpte_fields_are_checked_with_ept(vm: &mut NestedVm) -> Verdict {
    let pdpt = pae_identity();
    vm.enable_ept()?;
    vm.pae_32(pdpt.address());
    let fields = [
        Field::GUEST_PDPTE0,
        Field::GUEST_PDPTE1,
        Field::GUEST_PDPTE2,
        Field::GUEST_PDPTE3,
    ];
    for (i, field) in fields.into_iter().enumerate() {
        vm.set(field, pdpt.read(8 * i));
        pdpt.write(8 * i, u64::MAX);
    }
    expect_eq!(vm.enter(), Entry::DONE, "good fields, bad memory")?;
    let refused = Entry::failed(guest_lib::arch::vmx::Reason::GUEST_STATE, 2);
    for field in fields {
        let good = vm.get(field);
        for bit in [1, 5, 8, vmx::address_limit().trailing_zeros(), 62] {
            vm.rewind();
            vm.set(field, good | 1 << bit);
            expect_eq!(vm.enter(), refused, "{field:?} bit {bit}")?;
        }
        vm.set(field, good);
    }
    expect_eq!(vm.run(), Entry::DONE)
}
