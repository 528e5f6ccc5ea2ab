//! Checks on the host-state area at VM entry. Spec: SDM 3C 27.2.2 to 27.2.4.
//!
//! The next exit loads these fields unchecked, so the entry checks them: a bad one refuses the
//! entry with error 8 before the guest's state is looked at. A hypervisor that nests loads most
//! of them by software, and a missing check becomes a crash of the wrong party.

use crate::checks::{FixedBits, each_is_refused, fixed_bits_are_refused};
use guest_lib::arch::registers::{Cr4, Efer};
use guest_lib::arch::vmx::controls::{self, Control};
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm};
use guest_lib::arch::vmx::vmcs::{Field, Segment};
use guest_lib::arch::vmx::{self, capability};
use guest_lib::prelude::*;

/// A bit of CR0 or CR4 that VMX operation fixes must have that value.
#[case(
    spec = "SDM 3C 27.2.2",
    rows(
        cr0: (Field::HOST_CR0, vmx::CR0_FIXED0, vmx::CR0_FIXED1),
        cr4: (Field::HOST_CR4, vmx::CR4_FIXED0, vmx::CR4_FIXED1),
    )
)]
fn fixed_bits_are_checked(vm: &mut NestedVm, row: FixedBits) -> Verdict {
    fixed_bits_are_refused(vm, Entry::BAD_HOST, row)
}

/// CR3 must not set a bit beyond the physical address width.
#[case(spec = "SDM 3C 27.2.2")]
fn cr3_width_is_checked(vm: &mut NestedVm) -> Verdict {
    let good = vm.get(Field::HOST_CR3);
    // Bits 62:61 turn on linear-address masking where that exists; bit 63 is always refused.
    let width = vmx::address_limit().trailing_zeros();
    let values: Vec<u64> = (width..61).chain([63]).map(|bit| good | 1 << bit).collect();
    each_is_refused(vm, Entry::BAD_HOST, Field::HOST_CR3, &values)
}

/// An address that the host state holds must be canonical.
#[case(
    spec = "SDM 3C 27.2.3",
    rows(
        sysenter_esp: Field::HOST_SYSENTER_ESP,
        sysenter_eip: Field::HOST_SYSENTER_EIP,
        fs_base: Field::HOST_FS_BASE,
        gs_base: Field::HOST_GS_BASE,
        tr_base: Field::HOST_TR_BASE,
        gdtr_base: Field::HOST_GDTR_BASE,
        idtr_base: Field::HOST_IDTR_BASE,
        rip: Field::HOST_RIP,
    )
)]
fn addresses_must_be_canonical(vm: &mut NestedVm, row: Field) -> Verdict {
    let good = vm.get(row);
    // Non-canonical with 48 and with 57 bits.
    each_is_refused(
        vm,
        Entry::BAD_HOST,
        row,
        &[0xaaaa_aaaa_aaaa_aaaa, good | 1 << 63, good | 1 << 60],
    )
}

/// RPL and TI of a host selector must be 0.
#[case(
    spec = "SDM 3C 27.2.3",
    rows(
        es: Segment::Es, cs: Segment::Cs, ss: Segment::Ss, ds: Segment::Ds,
        fs: Segment::Fs, gs: Segment::Gs, tr: Segment::Tr,
    )
)]
fn selectors_have_no_rpl_and_ti(vm: &mut NestedVm, row: Segment) -> Verdict {
    let field = Field::host_selector(row);
    let good = vm.get(field);
    each_is_refused(vm, Entry::BAD_HOST, field, &[good | 1, good | 2, good | 4])
}

/// The host's CS and TR selectors must not be 0.
#[case(spec = "SDM 3C 27.2.3", rows(cs: Segment::Cs, tr: Segment::Tr))]
fn selector_zero_is_refused(vm: &mut NestedVm, row: Segment) -> Verdict {
    each_is_refused(vm, Entry::BAD_HOST, Field::host_selector(row), &[0])
}

/// The host's SS selector may be 0 in a 64-bit host.
#[case(spec = "SDM 3C 27.2.3")]
fn ss_selector_may_be_zero(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::HOST_SS_SELECTOR, 0);
    expect_eq!(vm.run(), Entry::DONE)?;
    vm.set(Field::HOST_SS_SELECTOR, 1);
    expect_eq!(vm.run(), Entry::BAD_HOST)
}

/// PAT entries must hold memory types that exist, when the exit loads the PAT.
#[case(spec = "SDM 3C 27.2.2", needs("x86.vmx.pat"))]
fn pat_is_checked(vm: &mut NestedVm) -> Verdict {
    let good = vm.get(Field::HOST_PAT);
    vm.set(Field::HOST_PAT, u64::MAX);
    expect_eq!(vm.run(), Entry::DONE, "not loaded")?;
    vm.enable(controls::LOAD_HOST_PAT)?;
    for byte in 0..8 {
        for value in 0..=255u64 {
            // Each boot is paid for: the sixteen low values, and each high bit once.
            if value >= 16 && !value.is_power_of_two() {
                continue;
            }
            vm.set(
                Field::HOST_PAT,
                good & !(0xff << (8 * byte)) | value << (8 * byte),
            );
            if !matches!(value, 0 | 1 | 4..=7) {
                expect_eq!(vm.run(), Entry::BAD_HOST, "byte {byte} = {value:#x}")?;
            } else if byte >= 4 {
                // Bytes 0 to 3 are in use: only the high half is loaded with other types.
                expect_eq!(vm.run(), Entry::DONE, "byte {byte} = {value:#x}")?;
            }
        }
    }
    vm.set(Field::HOST_PAT, good);
    expect_eq!(vm.run(), Entry::DONE)
}

/// EFER: reserved bits are refused, when the exit loads EFER.
#[case(spec = "SDM 3C 27.2.2", needs("x86.vmx.efer"))]
fn efer_reserved_bits_are_refused(vm: &mut NestedVm) -> Verdict {
    let good = vm.get(Field::HOST_EFER);
    vm.set(Field::HOST_EFER, u64::MAX);
    expect_eq!(vm.run(), Entry::DONE, "not loaded")?;
    vm.set(Field::HOST_EFER, good);
    vm.enable(controls::LOAD_HOST_EFER)?;
    let known = Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE;
    let values: Vec<u64> = (0..64)
        .map(|bit| 1 << bit)
        .filter(|bit| known.bits() & bit == 0)
        .map(|bit| good | bit)
        .collect();
    each_is_refused(vm, Entry::BAD_HOST, Field::HOST_EFER, &values)
}

/// EFER: LMA and LME must both equal the host address-space size.
#[case(
    spec = "SDM 3C 27.2.2",
    needs("x86.vmx.efer"),
    rows(lma: Efer::LMA.bits(), lme: Efer::LME.bits(), both: (Efer::LMA | Efer::LME).bits())
)]
fn efer_long_mode_equals_the_host_size(vm: &mut NestedVm, row: u64) -> Verdict {
    vm.enable(controls::LOAD_HOST_EFER)?;
    let good = vm.get(Field::HOST_EFER);
    each_is_refused(vm, Entry::BAD_HOST, Field::HOST_EFER, &[good & !row])
}

/// A host in IA-32e mode must be a 64-bit host.
#[case(spec = "SDM 3C 27.2.4")]
fn host_size_equals_the_current_mode(vm: &mut NestedVm) -> Verdict {
    let host64 = controls::HOST_64;
    vm.clear_bits(host64.field, host64.mask());
    expect_eq!(vm.run(), Entry::BAD_HOST)?;
    vm.force(host64);
    expect_eq!(vm.run(), Entry::DONE)
}

/// A 64-bit host needs CR4.PAE.
#[case(spec = "SDM 3C 27.2.4")]
fn long_mode_host_needs_pae(vm: &mut NestedVm) -> Verdict {
    let good = vm.get(Field::HOST_CR4);
    each_is_refused(
        vm,
        Entry::BAD_HOST,
        Field::HOST_CR4,
        &[good & !Cr4::PAE.bits()],
    )
}

/// A 64-bit host may have CR4.PCIDE, and the exit sets it.
#[case(spec = "SDM 3C 27.2.4")]
fn long_mode_host_may_have_pcide(vm: &mut NestedVm) -> Verdict {
    if capability(vmx::CR4_FIXED1) & Cr4::PCIDE.bits() == 0 {
        return skip("x86.pcid");
    }
    vm.set_bits(Field::HOST_CR4, Cr4::PCIDE.bits());
    expect_eq!(vm.run(), Entry::DONE)?;
    expect!(
        Cr4::read().contains(Cr4::PCIDE),
        "CR4 after the exit: {:?}",
        Cr4::read()
    )
}

/// Control fields are checked before the host state, the host state before the guest's.
#[case(spec = "SDM 3C 27.2")]
fn controls_come_before_host_before_guest(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::GUEST_RFLAGS, 0);
    expect_eq!(vm.enter(), Entry::BAD_GUEST, "guest")?;
    vm.set(Field::HOST_TR_SELECTOR, 0);
    expect_eq!(vm.enter(), Entry::BAD_HOST, "host and guest")?;
    vm.set(
        Field::HOST_TR_SELECTOR,
        u64::from(guest_lib::arch::segments::TSS_BASE),
    );
    vm.set(Field::CR3_TARGET_COUNT, 0xffff);
    let got = vm.enter();
    expect_eq!(got, Entry::BAD_CONTROLS, "controls and guest")?;
    vm.set(Field::CR3_TARGET_COUNT, 0);
    expect_eq!(vm.run(), Entry::DONE)
}

/// The performance-control MSR of the host is loaded only where the control is offered.
#[case(spec = "SDM 3C 27.2.2", needs("x86.vmx.perf_global_ctrl"))]
fn perf_global_ctrl_reserved_bits_are_refused(vm: &mut NestedVm) -> Verdict {
    let control: Control = controls::EXIT_LOAD_PERF_GLOBAL_CTRL;
    if guest_lib::arch::msr::read(0x38f).is_err() {
        return skip("x86.vmx.perf_global_ctrl");
    }
    vm.set(Field::HOST_PERF_GLOBAL_CTRL, 1 << 63);
    expect_eq!(vm.run(), Entry::DONE, "not loaded")?;
    vm.set(Field::HOST_PERF_GLOBAL_CTRL, 0);
    vm.enable(control)?;
    each_is_refused(
        vm,
        Entry::BAD_HOST,
        Field::HOST_PERF_GLOBAL_CTRL,
        &[1 << 63, 1 << 31, 1 << 60],
    )
}
