//! VMCS shadowing: VMREAD and VMWRITE in a guest. Spec: SDM 3C 26.1.3, 25.6.15.
//!
//! A guest that is a hypervisor itself may be given a VMCS to read and write without exits. Two
//! bitmaps say which fields; all others exit.

use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::instructions::{vmclear, vmptrld, vmread, vmwrite};
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::revision;
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// vmread rax, rbx (RBX is the value read)
const READ: [u8; 3] = [0x0f, 0x78, 0xc3];
/// vmwrite rax, rbx
const WRITE: [u8; 3] = [0x0f, 0x79, 0xc3];

/// The guest's shadow VMCS and the two bitmaps.
struct Shadow {
    vmcs: Frames,
    bitmaps: Frames,
}

fn shadow(vm: &mut NestedVm) -> Result<Shadow, Stop> {
    vm.enable(controls::VMCS_SHADOWING)?;
    let shadow = Shadow {
        vmcs: Frames::new(1),
        bitmaps: Frames::new(2),
    };
    shadow.vmcs.write(0, revision() | 1 << 31);
    vmclear(shadow.vmcs.address())?;
    vm.set(Field::VMREAD_BITMAP, shadow.bitmaps.address());
    vm.set(Field::VMWRITE_BITMAP, shadow.bitmaps.address() + 4096);
    vm.set(Field::LINK_POINTER, shadow.vmcs.address());
    vm.registers.rax = u64::from(Field::GUEST_RSP.0);
    Ok(shadow)
}

/// A VMREAD or VMWRITE whose bit is clear works on the shadow VMCS, without an exit.
#[case(spec = "SDM 3C 26.3 VMREAD", needs("x86.vmx.vmcs_shadowing"))]
fn clear_bits_work_on_the_shadow(vm: &mut NestedVm) -> Verdict {
    let shadow = shadow(vm)?;
    let mut code = WRITE.to_vec();
    // xor ebx, ebx
    code.extend([0x31, 0xdb]);
    code.extend(READ);
    vm.code(&code);
    vm.registers.rbx = 0x5555_6666_7777;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.registers.rbx, 0x5555_6666_7777, "read back in the guest")?;
    expect_eq!(vm.get(Field::LINK_POINTER), shadow.vmcs.address())?;
    vmclear(shadow.vmcs.address())?;
    vmptrld(shadow.vmcs.address())?;
    let seen = vmread(Field::GUEST_RSP);
    vmptrld(vm.vmcs())?;
    expect_eq!(seen, Ok(0x5555_6666_7777), "in the shadow VMCS")
}

/// A VMREAD or VMWRITE whose bit is set exits.
#[case(
    spec = "SDM 3C 26.1.3 VMREAD",
    needs("x86.vmx.vmcs_shadowing"),
    rows(vmread: (&READ, 0, Reason::VMREAD), vmwrite: (&WRITE, 4096, Reason::VMWRITE))
)]
fn set_bits_exit(vm: &mut NestedVm, row: (&[u8; 3], usize, Reason)) -> Verdict {
    let (code, bitmap, reason) = row;
    let shadow = shadow(vm)?;
    vm.code(code);
    expect_eq!(vm.enter(), Entry::DONE, "bit clear")?;
    let number = Field::GUEST_RSP.0 as usize;
    shadow
        .bitmaps
        .write(bitmap + number / 8, 1u8 << (number % 8));
    expect_eq!(vm.run().reason(), Some(reason), "bit set")?;
    shadow
        .bitmaps
        .write(bitmap + number / 8, !(1u8 << (number % 8)));
    expect_eq!(vm.run(), Entry::DONE, "only neighbours' bits set")
}

/// An encoding above bit 14 always exits.
#[case(
    spec = "SDM 3C 26.1.3 VMREAD",
    needs("x86.vmx.vmcs_shadowing"),
    rows(vmread: (&READ, Reason::VMREAD), vmwrite: (&WRITE, Reason::VMWRITE))
)]
fn high_encodings_exit(vm: &mut NestedVm, row: (&[u8; 3], Reason)) -> Verdict {
    let _shadow = shadow(vm)?;
    vm.code(row.0);
    for bit in [15, 16, 31, 32, 63] {
        vm.registers.rax = u64::from(Field::GUEST_RSP.0) | 1 << bit;
        expect_eq!(vm.run().reason(), Some(row.1), "bit {bit}")?;
    }
    vm.registers.rax = u64::from(Field::GUEST_RSP.0);
    expect_eq!(vm.run(), Entry::DONE)
}

/// Without a shadow VMCS the guest's VMREAD fails without a number.
#[case(spec = "SDM 3C 31.3 VMREAD", needs("x86.vmx.vmcs_shadowing"))]
fn no_shadow_fails_without_a_number(vm: &mut NestedVm) -> Verdict {
    let _shadow = shadow(vm)?;
    vm.set(Field::LINK_POINTER, u64::MAX);
    // vmread rax, rbx; setc cl; setz dl
    let mut code = READ.to_vec();
    code.extend([0x0f, 0x92, 0xc1, 0x0f, 0x94, 0xc2]);
    vm.code(&code);
    vm.registers.rcx = 0;
    vm.registers.rdx = 0;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!((vm.registers.rcx, vm.registers.rdx), (1, 0), "CF and ZF")
}

/// An unknown field fails with a number: ZF, not CF.
#[case(spec = "SDM 3C 31.3 VMREAD", needs("x86.vmx.vmcs_shadowing"))]
fn unknown_field_fails_in_the_shadow(vm: &mut NestedVm) -> Verdict {
    let _shadow = shadow(vm)?;
    let mut code = READ.to_vec();
    code.extend([0x0f, 0x92, 0xc1, 0x0f, 0x94, 0xc2]);
    vm.code(&code);
    vm.registers.rax = 0x3fe;
    vm.registers.rcx = 0;
    vm.registers.rdx = 0;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!((vm.registers.rcx, vm.registers.rdx), (0, 1), "CF and ZF")
}

/// A shadow VMCS cannot be entered.
#[case(spec = "SDM 3C 27.1", needs("x86.vmx.vmcs_shadowing"))]
fn shadow_vmcs_cannot_be_entered(vm: &mut NestedVm) -> Verdict {
    use guest_lib::arch::vmx::instructions::VmFail;
    use guest_lib::arch::vmx::nested_vm::Before;
    let shadow = shadow(vm)?;
    vmptrld(shadow.vmcs.address())?;
    vmwrite(Field::GUEST_RSP, 0)?;
    let got = vm.enter_by(false, Before::Nothing);
    vmptrld(vm.vmcs())?;
    expect_eq!(got, Entry::Refused(VmFail::Invalid))
}
