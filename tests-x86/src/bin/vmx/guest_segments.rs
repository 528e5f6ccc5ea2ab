//! Guest segment registers and descriptor tables at VM entry. Spec: SDM 3C 27.3.1.2, 27.3.1.3.
//!
//! Access rights in the VMCS must be what a segment load would have left behind. The rules differ
//! by register, by mode and for unusable registers. Emulators and hypervisors get these wrong
//! most often, because no ordinary guest breaks them.

use crate::checks::each_is_refused;
use guest_lib::arch::registers::Rflags;
use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::nested_vm::{CODE64, DATA, Entry, NestedVm, UNUSABLE};
use guest_lib::arch::vmx::vmcs::{Field, Segment};
use guest_lib::prelude::*;

/// TR must be in the GDT: its TI flag is 0.
#[case(spec = "SDM 3C 27.3.1.2")]
fn tr_selector_has_no_ti(vm: &mut NestedVm) -> Verdict {
    let good = vm.get(Field::GUEST_TR_SELECTOR);
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_TR_SELECTOR, &[good | 4])
}

/// LDTR must be in the GDT when it is usable.
#[case(spec = "SDM 3C 27.3.1.2")]
fn ldtr_selector_has_no_ti(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::GUEST_LDTR_SELECTOR, 4);
    expect_eq!(vm.run(), Entry::DONE, "unusable")?;
    vm.rewind();
    vm.set_segment(Segment::Ldtr, 0, 0, 0, 0x82);
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_LDTR_SELECTOR, &[4])
}

/// Usable LDTR: an LDT descriptor, system, present, no reserved bit.
#[case(spec = "SDM 3C 27.3.1.2")]
fn ldtr_rights_are_checked(vm: &mut NestedVm) -> Verdict {
    vm.set_segment(Segment::Ldtr, 8, 0, 0xfff, 0x82);
    let values = [
        0x81,
        0x83,
        0x89,
        0x92,
        0x02,
        0x182,
        0x882,
        0x2_0082,
        0x8000_0082,
    ];
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_LDTR_RIGHTS, &values)
}

/// TR: a busy TSS, system, present, usable, no reserved bit.
#[case(spec = "SDM 3C 27.3.1.2")]
fn tr_rights_are_checked(vm: &mut NestedVm) -> Verdict {
    // Type 3, a busy 16-bit TSS, is not allowed in an IA-32e guest.
    let values = [
        0x83, 0x89, 0x82, 0x8f, 0x9b, 0x0b, 0x1_008b, 0x18b, 0x88b, 0x2_008b,
    ];
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_TR_RIGHTS, &values)
}

/// Bits 11:8 and 31:17 of usable access rights are reserved.
#[case(
    spec = "SDM 3C 27.3.1.2",
    rows(
        es: Segment::Es, cs: Segment::Cs, ss: Segment::Ss, ds: Segment::Ds,
        fs: Segment::Fs, gs: Segment::Gs,
    )
)]
fn reserved_rights_are_refused(vm: &mut NestedVm, row: Segment) -> Verdict {
    let field = Field::guest_rights(row);
    let good = vm.get(field);
    let values: Vec<u64> = (8..12).chain(17..32).map(|bit| good | 1 << bit).collect();
    each_is_refused(vm, Entry::BAD_GUEST, field, &values)
}

/// A usable segment is present and is a code or data segment.
#[case(
    spec = "SDM 3C 27.3.1.2",
    rows(
        es: Segment::Es, cs: Segment::Cs, ss: Segment::Ss, ds: Segment::Ds,
        fs: Segment::Fs, gs: Segment::Gs,
    )
)]
fn usable_segments_are_present(vm: &mut NestedVm, row: Segment) -> Verdict {
    let field = Field::guest_rights(row);
    let good = vm.get(field);
    each_is_refused(vm, Entry::BAD_GUEST, field, &[good & !0x80, good & !0x10])
}

/// An unusable data segment is not looked at; CS must be usable.
#[case(
    spec = "SDM 3C 27.3.1.2",
    rows(es: Segment::Es, ss: Segment::Ss, ds: Segment::Ds, fs: Segment::Fs, gs: Segment::Gs)
)]
fn unusable_segments_are_not_checked(vm: &mut NestedVm, row: Segment) -> Verdict {
    let field = Field::guest_rights(row);
    vm.set(field, UNUSABLE);
    expect_eq!(vm.run(), Entry::DONE, "unusable, nothing else")?;
    vm.set(Field::guest_limit(row), 0x1234_5678);
    expect_eq!(vm.run(), Entry::DONE, "unusable, limit without meaning")?;
    vm.set(field, 0);
    expect_eq!(vm.run(), Entry::BAD_GUEST, "usable, type 0, not present")
}

/// CS: an accessed code segment.
#[case(spec = "SDM 3C 27.3.1.2")]
fn cs_type_is_checked(vm: &mut NestedVm) -> Verdict {
    let values: Vec<u64> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14]
        .map(|kind| CODE64 & !0xf | kind)
        .to_vec();
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_CS_RIGHTS, &values)?;
    for kind in [9, 11, 13, 15] {
        vm.set(Field::GUEST_CS_RIGHTS, CODE64 & !0xf | kind);
        expect_eq!(vm.run(), Entry::DONE, "type {kind}")?;
    }
    Ok(())
}

/// SS: an accessed writable data segment, when usable.
#[case(spec = "SDM 3C 27.3.1.2")]
fn ss_type_is_checked(vm: &mut NestedVm) -> Verdict {
    let values: Vec<u64> = [0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15]
        .map(|kind| DATA & !0xf | kind)
        .to_vec();
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_SS_RIGHTS, &values)
}

/// Data segments: accessed, and readable if they are code.
#[case(
    spec = "SDM 3C 27.3.1.2",
    rows(es: Segment::Es, ds: Segment::Ds, fs: Segment::Fs, gs: Segment::Gs)
)]
fn data_segment_type_is_checked(vm: &mut NestedVm, row: Segment) -> Verdict {
    let field = Field::guest_rights(row);
    let values: Vec<u64> = [0, 2, 4, 6, 8, 9, 10, 12, 13, 14]
        .map(|kind| DATA & !0xf | kind)
        .to_vec();
    each_is_refused(vm, Entry::BAD_GUEST, field, &values)?;
    for kind in [1, 3, 5, 7, 11, 15] {
        vm.set(field, DATA & !0xf | kind);
        expect_eq!(vm.run(), Entry::DONE, "type {kind}")?;
    }
    Ok(())
}

/// CS: L and D cannot both be 1 in an IA-32e guest.
#[case(spec = "SDM 3C 27.3.1.2")]
fn long_code_segments_have_no_d(vm: &mut NestedVm) -> Verdict {
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::GUEST_CS_RIGHTS,
        &[CODE64 | 1 << 14],
    )
}

/// Granularity must fit the limit: bytes need bits 31:20 clear, pages bits 11:0 set.
#[case(
    spec = "SDM 3C 27.3.1.2",
    rows(
        es: Segment::Es, cs: Segment::Cs, ss: Segment::Ss, ds: Segment::Ds,
        fs: Segment::Fs, gs: Segment::Gs, tr: Segment::Tr,
    )
)]
fn granularity_fits_the_limit(vm: &mut NestedVm, row: Segment) -> Verdict {
    let (limit, rights) = (Field::guest_limit(row), Field::guest_rights(row));
    let good = vm.get(rights);
    vm.set(rights, good & !(1 << 15));
    vm.set(limit, 0xf_ffff);
    expect_eq!(vm.run(), Entry::DONE, "bytes, 20 bits")?;
    for bit in 20..32 {
        vm.set(limit, 0xfffff | 1 << bit);
        expect_eq!(vm.run(), Entry::BAD_GUEST, "bytes, limit bit {bit}")?;
    }
    vm.set(rights, good | 1 << 15);
    vm.set(limit, 0xffff_ffff);
    expect_eq!(vm.run(), Entry::DONE, "pages")?;
    for bit in 0..12 {
        vm.set(limit, 0xffff_ffff & !(1 << bit));
        expect_eq!(vm.run(), Entry::BAD_GUEST, "pages, limit bit {bit}")?;
    }
    Ok(())
}

/// CS non-conforming: DPL equals that of SS; conforming: at most.
#[case(spec = "SDM 3C 27.3.1.2")]
fn cs_privilege_equals_that_of_ss(vm: &mut NestedVm) -> Verdict {
    // Non-conforming with DPL 1 to 3 under SS.DPL 0.
    let values: Vec<u64> = (1..4).map(|dpl| CODE64 | dpl << 5).collect();
    each_is_refused(vm, Entry::BAD_GUEST, Field::GUEST_CS_RIGHTS, &values)?;
    vm.rewind();
    // Conforming with DPL 1 under SS.DPL 0.
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::GUEST_CS_RIGHTS,
        &[CODE64 | 4 | 1 << 5],
    )?;
    vm.set(Field::GUEST_CS_RIGHTS, CODE64 | 4);
    expect_eq!(vm.run(), Entry::DONE, "conforming, DPL 0")
}

/// SS: RPL equals that of CS, and DPL equals RPL, unless the guest is unrestricted.
#[case(spec = "SDM 3C 27.3.1.2")]
fn ss_privilege_equals_its_rpl(vm: &mut NestedVm) -> Verdict {
    let selector = vm.get(Field::GUEST_SS_SELECTOR);
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::GUEST_SS_SELECTOR,
        &[selector | 1, selector | 2, selector | 3],
    )?;
    vm.rewind();
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::GUEST_SS_RIGHTS,
        &[DATA | 1 << 5, DATA | 3 << 5],
    )
}

/// An unrestricted guest may have an SS.RPL other than CS.RPL.
#[case(spec = "SDM 3C 27.3.1.2", needs("x86.vmx.unrestricted_guest"))]
fn ss_rpl_is_free_in_unrestricted_guests(vm: &mut NestedVm) -> Verdict {
    let selector = vm.get(Field::GUEST_SS_SELECTOR);
    vm.set(Field::GUEST_SS_SELECTOR, selector | 3);
    expect_eq!(vm.run(), Entry::BAD_GUEST, "restricted")?;
    vm.enable_ept()?;
    vm.enable(controls::UNRESTRICTED_GUEST)?;
    expect_eq!(vm.run(), Entry::DONE, "unrestricted")
}

/// Data segments: DPL is at least RPL, for data and non-conforming code.
#[case(
    spec = "SDM 3C 27.3.1.2",
    rows(es: Segment::Es, ds: Segment::Ds, fs: Segment::Fs, gs: Segment::Gs)
)]
fn data_segment_dpl_is_at_least_rpl(vm: &mut NestedVm, row: Segment) -> Verdict {
    let selector = Field::guest_selector(row);
    let good = vm.get(selector);
    each_is_refused(vm, Entry::BAD_GUEST, selector, &[good | 1, good | 3])?;
    vm.set(selector, good | 3);
    vm.set(Field::guest_rights(row), DATA | 3 << 5);
    expect_eq!(vm.run(), Entry::DONE, "RPL 3, DPL 3")
}

/// The bases of TR, FS and GS, and of a usable LDTR, must be canonical.
#[case(
    spec = "SDM 3C 27.3.1.2",
    rows(fs: Segment::Fs, gs: Segment::Gs, tr: Segment::Tr, ldtr: Segment::Ldtr)
)]
fn system_bases_must_be_canonical(vm: &mut NestedVm, row: Segment) -> Verdict {
    if row == Segment::Ldtr {
        vm.set(Field::GUEST_LDTR_BASE, 1 << 63);
        expect_eq!(vm.run(), Entry::DONE, "unusable LDTR")?;
        vm.rewind();
        vm.set_segment(Segment::Ldtr, 8, 0, 0xfff, 0x82);
    }
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        Field::guest_base(row),
        &[1 << 63, 1 << 60, 0xaaaa_aaaa_aaaa_aaaa],
    )
}

/// Bits 63:32 of the bases of CS, and of SS, DS and ES when usable, must be 0.
#[case(
    spec = "SDM 3C 27.3.1.2",
    rows(cs: Segment::Cs, ss: Segment::Ss, ds: Segment::Ds, es: Segment::Es)
)]
fn base_upper_half_is_checked(vm: &mut NestedVm, row: Segment) -> Verdict {
    let values: Vec<u64> = (32..64).map(|bit| 1 << bit).collect();
    each_is_refused(vm, Entry::BAD_GUEST, Field::guest_base(row), &values)?;
    if row != Segment::Cs {
        vm.set(Field::guest_rights(row), UNUSABLE);
        vm.set(Field::guest_base(row), 1 << 32);
        expect_eq!(vm.run(), Entry::DONE, "unusable")?;
    }
    Ok(())
}

/// GDTR and IDTR: canonical bases, limits of 16 bits.
#[case(
    spec = "SDM 3C 27.3.1.3",
    rows(
        gdtr: (Field::GUEST_GDTR_BASE, Field::GUEST_GDTR_LIMIT),
        idtr: (Field::GUEST_IDTR_BASE, Field::GUEST_IDTR_LIMIT),
    )
)]
fn descriptor_tables_are_checked(vm: &mut NestedVm, row: (Field, Field)) -> Verdict {
    each_is_refused(
        vm,
        Entry::BAD_GUEST,
        row.0,
        &[1 << 63, 1 << 60, 0xaaaa_aaaa_aaaa_aaaa],
    )?;
    vm.rewind();
    let values: Vec<u64> = (16..32).map(|bit| 1 << bit).collect();
    each_is_refused(vm, Entry::BAD_GUEST, row.1, &values)
}

/// What a virtual-8086 segment must have, and how to spoil it.
type V86 = fn(&mut NestedVm, Segment);

/// Virtual-8086 guests: base is selector * 16, limit FFFFh, access rights F3h.
#[case(
    spec = "SDM 3C 27.3.1.2",
    rows(
        base: (|vm, s| vm.set(Field::guest_base(s), 0x10)) as V86,
        limit: (|vm, s| vm.set(Field::guest_limit(s), 0xfffe)) as V86,
        rights: (|vm, s| vm.set(Field::guest_rights(s), 0x93)) as V86,
        rights_type: (|vm, s| vm.set(Field::guest_rights(s), 0xfb)) as V86,
    )
)]
fn virtual_8086_segments_are_fixed(vm: &mut NestedVm, row: V86) -> Verdict {
    let pdpt = crate::modes::pae_identity();
    vm.code(&[]);
    vm.pae_32(pdpt.address());
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::VM.bits());
    for segment in Segment::USUAL {
        vm.set_segment(segment, 0, 0, 0xffff, 0xf3);
    }
    // No code of ours below 1 MiB: the first fetch may run anything, so the valid guest is one
    // that exits at once, by an interrupt window.
    vm.set_bits(Field::GUEST_RFLAGS, Rflags::IF.bits());
    vm.enable(controls::INTERRUPT_WINDOW)?;
    vm.set(Field::GUEST_RIP, 0x500);
    let window = Entry::exited(guest_lib::arch::vmx::Reason::INTERRUPT_WINDOW, 0);
    expect_eq!(vm.enter(), window, "a valid guest")?;
    for segment in Segment::USUAL {
        row(vm, segment);
        expect_eq!(vm.enter(), Entry::BAD_GUEST, "{segment:?} spoiled")?;
        vm.set_segment(segment, 0, 0, 0xffff, 0xf3);
    }
    expect_eq!(vm.enter(), window, "mended")
}
