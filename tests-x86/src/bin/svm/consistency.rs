//! State that VMRUN refuses. Spec: APM 2 15.5.1, "Canonicalization and Consistency Checks".
//!
//! A hypervisor that copies the nested VMCB unchecked lets the processor refuse instead, and the
//! wrong party sees the failure; one that checks too little runs a guest in an impossible state. Each row
//! enters the valid guest, spoils one thing, is refused without running an instruction, mends it and
//! enters again.

use guest_lib::arch::registers::{Cr0, Cr4, Efer};
use guest_lib::arch::svm::{Entry, ExitCode, Field, NestedVm, Segment, field, intercept, l2};
use guest_lib::arch::{cpuid, msr};
use guest_lib::prelude::*;

/// One spoiled state after the other: `spoil` returns false when it has no `n`th one.
type Spoil = fn(vm: &mut NestedVm, n: u32) -> bool;

fn bits<T: Copy>(
    vm: &NestedVm,
    field: Field<T>,
    bits: &[u32],
    n: u32,
    set: fn(&NestedVm, Field<T>, u32),
) -> bool {
    let Some(&bit) = bits.get(n as usize) else {
        return false;
    };
    set(vm, field, bit);
    true
}

fn set64(vm: &NestedVm, field: Field<u64>, bit: u32) {
    vm.vmcb.update(field, |old| old | 1 << bit);
}

fn high_half(vm: &mut NestedVm, field: Field<u64>, n: u32) -> bool {
    n < 32 && {
        set64(vm, field, 32 + n);
        true
    }
}

/// Address bits from the physical width to 51, then the bits above.
fn beyond_physical(vm: &mut NestedVm, field: Field<u64>, n: u32, end: u32) -> bool {
    let bit = cpuid::physical_bits() + n;
    bit < end && {
        set64(vm, field, bit);
        true
    }
}

fn once(n: u32, spoil: impl FnOnce()) -> bool {
    n == 0 && {
        spoil();
        true
    }
}

/// VMRUN refuses the state before the guest's first instruction, and takes the mended one.
#[case(
    spec = "APM 2 15.5.1 VMRUN",
    needs("x86.svm"),
    rows(
        efer_svme_clear: |vm, n| once(n, || vm.vmcb.update(field::EFER, |e| e & !Efer::SVME.bits())),
        efer_reserved_bit: |vm, n| bits(vm, field::EFER, &[9, 32, 33, 40, 47, 48, 62, 63], n, set64),
        cr0_nw_without_cd: |vm, n| once(n, || vm.vmcb.update(field::CR0, |c| c & !Cr0::CD.bits() | Cr0::NW.bits())),
        cr0_high_half: |vm, n| high_half(vm, field::CR0, n),
        cr3_beyond_physical_width: |vm, n| beyond_physical(vm, field::CR3, n, 64),
        cr4_high_half: |vm, n| high_half(vm, field::CR4, n),
        cr4_vmxe: |vm, n| once(n, || vm.vmcb.update(field::CR4, |c| c | Cr4::VMXE.bits())),
        dr6_high_half: |vm, n| high_half(vm, field::DR6, n),
        dr7_high_half: |vm, n| high_half(vm, field::DR7, n),
        long_mode_paging_without_pae: |vm, n| once(n, || vm.vmcb.update(field::CR4, |c| c & !Cr4::PAE.bits())),
        long_mode_paging_without_pe: |vm, n| once(n, || vm.vmcb.update(field::CR0, |c| c & !Cr0::PE.bits())),
        cs_l_and_d: |vm, n| once(n, || vm.vmcb.update(Segment::CS.attributes(), |a| a | 0x400)),
        vmrun_not_intercepted: |vm, n| once(n, || vm.vmcb.intercept(intercept::VMRUN, false)),
        asid_zero: |vm, n| once(n, || vm.vmcb.set(field::ASID, 0)),
        msrpm_beyond_physical_width: |vm, n| beyond_physical(vm, field::MSRPM_BASE_PA, n, 64),
        iopm_beyond_physical_width: |vm, n| beyond_physical(vm, field::IOPM_BASE_PA, n, 64),
        msrpm_ends_beyond_physical_width: |vm, n| once(n, || {
            vm.vmcb.intercept(intercept::MSR, true);
            vm.vmcb.set(field::MSRPM_BASE_PA, (1 << cpuid::physical_bits()) - 0x1000);
        }),
        iopm_ends_beyond_physical_width: |vm, n| once(n, || {
            vm.vmcb.intercept(intercept::IOIO, true);
            vm.vmcb.set(field::IOPM_BASE_PA, (1 << cpuid::physical_bits()) - 0x1000);
        }),
        event_of_reserved_type: |vm, n| [1u64, 5, 6, 7].get(n as usize).is_some_and(|t| {
            vm.vmcb.set(field::EVENT_INJ, 1 << 31 | t << 8 | 0x40);
            true
        }),
        exception_of_vector_2: |vm, n| once(n, || vm.vmcb.set(field::EVENT_INJ, 1 << 31 | 3 << 8 | 2)),
        exception_above_vector_31: |vm, n| [32u64, 0x80, 0xff].get(n as usize).is_some_and(|v| {
            vm.vmcb.set(field::EVENT_INJ, 1 << 31 | 3 << 8 | v);
            true
        }),
    )
)]
fn refused(vm: &mut NestedVm, spoil: Spoil) -> Verdict {
    check(vm, spoil)
}

/// With nested paging on, an impossible nested CR3 or guest PAT is refused too.
#[case(
    spec = "APM 2 15.25.3 VMRUN",
    needs("x86.svm.npt"),
    rows(
        nested_cr3_beyond_physical_width: |vm, n| beyond_physical(vm, field::N_CR3, n, 64),
        guest_pat_of_reserved_type: |vm, n| [2u64, 3, 8, 0x80].get(n as usize).is_some_and(|t| {
            vm.vmcb.update(field::G_PAT, |pat| pat & !0xff00 | t << 8);
            true
        }),
    )
)]
fn refused_with_nested_paging(vm: &mut NestedVm, spoil: Spoil) -> Verdict {
    vm.nest_paging();
    check(vm, spoil)
}

fn check(vm: &mut NestedVm, spoil: Spoil) -> Verdict {
    // The maps are looked at in every row, not only in those that spoil them.
    vm.vmcb.intercept(intercept::MSR, true);
    vm.vmcb.intercept(intercept::IOIO, true);
    for n in 0.. {
        let good = vm.vmcb.bytes().to_vec();
        let entries = vm.told(0);
        expect_eq!(vm.run(|| l2::count(0)), Entry::VMMCALL)?;
        expect_eq!(vm.told(0), entries + 1)?;

        vm.load(|| l2::count(0));
        if !spoil(vm, n) {
            return expect!(n > 0, "nothing to spoil");
        }
        let entry = vm.enter();
        expect_eq!(entry, Entry::Invalid, "spoiled state {n}")?;
        expect_eq!(
            vm.told(0),
            entries + 1,
            "the guest ran in spoiled state {n}"
        )?;

        vm.vmcb.restore(&good);
        expect_eq!(vm.run(|| l2::count(0)), Entry::VMMCALL)?;
    }
    Ok(())
}

/// CR0.CD and NW in the three legal combinations are taken.
#[case(spec = "APM 2 15.5.1 VMRUN", needs("x86.svm"))]
fn legal_cache_modes_are_taken(vm: &mut NestedVm) -> Verdict {
    let base = vm.vmcb.get(field::CR0) & !(Cr0::CD | Cr0::NW).bits();
    for cache in [Cr0::empty(), Cr0::CD, Cr0::CD | Cr0::NW] {
        vm.vmcb.set(field::CR0, base | cache.bits());
        expect_eq!(vm.run(|| ()), Entry::VMMCALL, "{cache:?}")?;
    }
    Ok(())
}

/// The low 12 bits of a permission map's address are ignored: the map is found all the same.
#[case(
    spec = "APM 2 15.10.1",
    needs("x86.svm"),
    rows(iopm: (intercept::IOIO, field::IOPM_BASE_PA), msrpm: (intercept::MSR, field::MSRPM_BASE_PA))
)]
fn low_bits_of_map_address_are_ignored(vm: &mut NestedVm, row: (u32, Field<u64>)) -> Verdict {
    vm.vmcb.intercept(row.0, true);
    vm.trap_port(0x80, true);
    vm.trap_msr(msr::TSC, true, false);
    // out 80h,al; or mov ecx,10h; rdmsr
    let (trapped, exit): (&[u8], _) = match row.0 {
        intercept::IOIO => (&[0xe6, 0x80], ExitCode::IOIO),
        _ => (&[0xb9, 0x10, 0, 0, 0, 0x0f, 0x32], ExitCode::MSR),
    };
    for low in [0, 1, 0x800, 0xfff] {
        vm.vmcb.update(row.1, |a| a & !0xfff | low);
        vm.load_bytes(&[]);
        expect_eq!(
            vm.enter(),
            Entry::VMMCALL,
            "low bits {low:#x}, nothing trapped"
        )?;
        vm.load_bytes(trapped);
        expect_eq!(vm.enter(), Entry::Exited(exit), "low bits {low:#x}")?;
    }
    Ok(())
}

/// A refused entry leaves the host's registers alone.
#[case(spec = "APM 2 15.5.1 VMRUN", needs("x86.svm"))]
fn refusal_leaves_the_host_alone(vm: &mut NestedVm) -> Verdict {
    use guest_lib::arch::{cpu, segments};
    let look = || {
        [
            cpu::read_cr0(),
            cpu::read_cr3(),
            cpu::read_cr4(),
            Efer::read().bits(),
            segments::gdtr().base,
            segments::idtr().base,
            u64::from(segments::gdtr().limit),
            msr::read(msr::LSTAR).unwrap_or(0),
        ]
    };
    let before = look();
    vm.vmcb.set(field::ASID, 0);
    vm.vmcb.set(field::CR4, before[2] | Cr4::PGE.bits());
    vm.vmcb.set(field::LSTAR, 0x1234);
    expect_eq!(vm.enter(), Entry::Invalid)?;
    expect_eq!(look(), before)
}

/// Non-canonical bases of ES, CS, SS, DS, GDTR and IDTR do not stop VMRUN: it makes them canonical.
#[case(spec = "APM 2 15.5.1 VMRUN", needs("x86.svm"))]
fn non_canonical_bases_are_taken(vm: &mut NestedVm) -> Verdict {
    for segment in [
        Segment::ES,
        Segment::CS,
        Segment::SS,
        Segment::DS,
        Segment::GDTR,
        Segment::IDTR,
    ] {
        let before = vm.vmcb.get(segment.base());
        vm.vmcb.set(segment.base(), 0x0001_0000_0000_0000 | before);
        vm.load_bytes(&[]);
        expect_eq!(vm.enter(), Entry::VMMCALL, "{segment:x?}")?;
        vm.vmcb.set(segment.base(), before);
    }
    Ok(())
}
