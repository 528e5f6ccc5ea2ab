//! CET state over VM entries and exits. Spec: SDM 3C 27.2.2, 27.3.1, 27.3.2, 28.3, 28.5.
//!
//! S_CET, SSP and the SSP table have fields for guest and host; entry and exit load them with a
//! control each, and the exit always saves the guest's.

use guest_lib::arch::cet;
use guest_lib::arch::msr;
use guest_lib::arch::registers::{Cr0, Cr4};
use guest_lib::arch::vmx::controls::{self, Control};
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Host or guest: what refuses a bad field, and the control that has it checked.
type Side = (Control, Entry, [Field; 3]);

const GUEST: Side = (
    controls::LOAD_CET,
    Entry::BAD_GUEST,
    [Field::GUEST_S_CET, Field::GUEST_SSP, Field::GUEST_SSP_TABLE],
);
const HOST: Side = (
    controls::LOAD_HOST_CET,
    Entry::BAD_HOST,
    [Field::HOST_S_CET, Field::HOST_SSP, Field::HOST_SSP_TABLE],
);

/// A CET field with a value that its register would refuse is refused, if it is to be loaded.
#[case(
    spec = "SDM 3C 27.3.1.1",
    needs("x86.vmx.cet"),
    rows(
        guest_s_cet_reserved: (GUEST, 0, &[1 << 6, 1 << 7, 1 << 8, 1 << 9]),
        guest_s_cet_suppress_and_wait: (GUEST, 0, &[3 << 10]),
        guest_s_cet_address: (GUEST, 0, &[1 << 63, 0x0100_0000_0000_0000]),
        guest_ssp_alignment: (GUEST, 1, &[1, 2, 3]),
        guest_ssp_address: (GUEST, 1, &[1 << 63]),
        guest_ssp_table_address: (GUEST, 2, &[1 << 63, 0x0100_0000_0000_0000]),
        host_s_cet_reserved: (HOST, 0, &[1 << 6, 1 << 7, 1 << 8, 1 << 9]),
        host_s_cet_suppress_and_wait: (HOST, 0, &[3 << 10]),
        host_s_cet_address: (HOST, 0, &[1 << 63, 0x0100_0000_0000_0000]),
        host_ssp_alignment: (HOST, 1, &[1, 2, 3]),
        host_ssp_address: (HOST, 1, &[1 << 63]),
        host_ssp_table_address: (HOST, 2, &[1 << 63, 0x0100_0000_0000_0000]),
    )
)]
fn field_is_checked(vm: &mut NestedVm, row: (Side, usize, &[u64])) -> Verdict {
    let ((control, refused, fields), index, values) = row;
    for field in fields {
        vm.set(field, 0);
    }
    vm.set(fields[index], values[0]);
    expect_eq!(vm.run(), Entry::DONE, "not loaded")?;
    vm.enable(control)?;
    for &value in values {
        vm.set(fields[index], value);
        expect_eq!(vm.run(), refused, "{:?} = {value:#x}", fields[index])?;
    }
    vm.set(fields[index], 0);
    expect_eq!(vm.run(), Entry::DONE, "mended")
}

/// CR4.CET without CR0.WP is refused, for guest and host.
#[case(
    spec = "SDM 3C 27.3.1.1",
    needs("x86.vmx.cet"),
    rows(
        guest: (Field::GUEST_CR0, Field::GUEST_CR4, Entry::BAD_GUEST),
        host: (Field::HOST_CR0, Field::HOST_CR4, Entry::BAD_HOST),
    )
)]
fn cet_requires_write_protection(vm: &mut NestedVm, row: (Field, Field, Entry)) -> Verdict {
    let (cr0, cr4, refused) = row;
    vm.set_bits(cr4, Cr4::CET.bits());
    expect_eq!(vm.run(), Entry::DONE, "CET and WP")?;
    vm.clear_bits(cr0, Cr0::WP.bits());
    expect_eq!(vm.run(), refused, "CET without WP")?;
    vm.clear_bits(cr4, Cr4::CET.bits());
    expect_eq!(vm.run(), Entry::DONE, "neither")
}

/// Puts the CET MSRs back to 0.
struct Clean;

impl Drop for Clean {
    fn drop(&mut self) {
        for number in [cet::S_CET, cet::SSP_TABLE] {
            // Zero is taken by every processor that has the MSR.
            let _ = msr::write(number, 0);
        }
    }
}

/// mov ecx, S_CET; rdmsr; mov ebx, eax; mov ecx, SSP_TABLE; rdmsr
const READ: [u8; 16] = [
    0xb9, 0xa2, 6, 0, 0, 0x0f, 0x32, 0x89, 0xc3, 0xb9, 0xa8, 6, 0, 0, 0x0f, 0x32,
];

/// Entry and exit load S_CET and the SSP table exactly with their controls.
#[case(
    spec = "SDM 3C 27.3.2.1 IA32_S_CET",
    needs("x86.vmx.cet", "x86.cet_ss")
)]
fn controls_load_the_state(vm: &mut NestedVm) -> Verdict {
    let _clean = Clean;
    let bitmap = Frames::new(1);
    vm.set(Field::MSR_BITMAP, bitmap.address());
    vm.enable(controls::MSR_BITMAPS)?;
    vm.code(&READ);
    for (field, value) in [
        (Field::GUEST_S_CET, 2),
        (Field::GUEST_SSP, 0),
        (Field::GUEST_SSP_TABLE, 0x1000),
        (Field::HOST_S_CET, 0),
        (Field::HOST_SSP, 0),
        (Field::HOST_SSP_TABLE, 0x2000),
    ] {
        vm.set(field, value);
    }
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(
        (vm.registers.rbx, vm.registers.rax),
        (0, 0),
        "guest, controls off"
    )?;
    expect_eq!(msr::read(cet::SSP_TABLE), Ok(0), "host, controls off")?;
    vm.set(Field::GUEST_S_CET, 2);
    vm.set(Field::GUEST_SSP_TABLE, 0x1000);
    vm.enable(controls::LOAD_CET)?;
    vm.enable(controls::LOAD_HOST_CET)?;
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(
        (vm.registers.rbx, vm.registers.rax),
        (2, 0x1000),
        "guest, controls on"
    )?;
    expect_eq!(msr::read(cet::S_CET), Ok(0), "host, controls on")?;
    expect_eq!(msr::read(cet::SSP_TABLE), Ok(0x2000), "host, controls on")
}

/// The exit saves the guest's CET state without a control.
#[case(spec = "SDM 3C 28.3.1 IA32_S_CET", needs("x86.vmx.cet", "x86.cet_ss"))]
fn exit_saves_the_state(vm: &mut NestedVm) -> Verdict {
    let _clean = Clean;
    vm.set(Field::GUEST_S_CET, 0);
    vm.set(Field::GUEST_SSP_TABLE, 0);
    msr::write(cet::S_CET, 2)?;
    msr::write(cet::SSP_TABLE, 0x3000)?;
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(vm.get(Field::GUEST_S_CET), 2)?;
    expect_eq!(vm.get(Field::GUEST_SSP_TABLE), 0x3000)
}

/// An injected #CP arrives with its error code.
#[case(spec = "SDM 3C 27.6.1.1", needs("x86.vmx.cet"))]
fn injected_cp_is_delivered(vm: &mut NestedVm) -> Verdict {
    let handler = fault::Handler::new(21, |frame| frame.r12 = frame.error | 0x100);
    vm.set_bits(Field::GUEST_CR4, Cr4::CET.bits());
    vm.set(Field::EXCEPTION_BITMAP, 0);
    vm.set(Field::ENTRY_EVENT, 0x8000_0b15);
    vm.set(Field::ENTRY_EVENT_ERROR, 3);
    vm.registers.r12 = 0;
    let got = vm.enter();
    drop(handler);
    expect_eq!(got, Entry::DONE)?;
    expect_eq!(vm.registers.r12, 0x103)
}
