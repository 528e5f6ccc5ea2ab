//! CR0 and CR4 through masks and shadows, CR3 targets, CLTS, LMSW. Spec: SDM 3C 26.1.3, 26.3.
//!
//! A bit of the mask belongs to the host: the guest reads the shadow, and a write that differs
//! from the shadow exits. The other bits are the guest's own.

use guest_lib::arch::registers::{Cr0, Cr4};
use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::prelude::*;

/// A control register: its fields, a few bits to play with, MOV to and from RSI.
type Row = (Field, Field, Field, u64, &'static [u8], &'static [u8], u64);

const CR0: Row = (
    Field::GUEST_CR0,
    Field::CR0_MASK,
    Field::CR0_SHADOW,
    Cr0::TS.bits() | Cr0::MP.bits(),
    &[0x0f, 0x20, 0xc6],
    &[0x0f, 0x22, 0xc6],
    0x600,
);
const CR4: Row = (
    Field::GUEST_CR4,
    Field::CR4_MASK,
    Field::CR4_SHADOW,
    Cr4::TSD.bits() | Cr4::DE.bits(),
    &[0x0f, 0x20, 0xe6],
    &[0x0f, 0x22, 0xe6],
    0x604,
);

/// Without a mask the guest reads and writes the register itself.
#[case(spec = "SDM 3C 26.3", rows(cr0: CR0, cr4: CR4))]
fn unmasked_bits_belong_to_the_guest(vm: &mut NestedVm, row: Row) -> Verdict {
    let (guest, _, shadow, bits, read, write, _) = row;
    let value = vm.get(guest);
    vm.set(shadow, !value);
    vm.code(read);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.registers.rsi, value, "read")?;
    vm.code(write);
    vm.registers.rsi = value ^ bits;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.get(guest), value ^ bits, "written")
}

/// Masked bits read as the shadow has them.
#[case(spec = "SDM 3C 26.3", rows(cr0: CR0, cr4: CR4))]
fn masked_bits_read_as_the_shadow(vm: &mut NestedVm, row: Row) -> Verdict {
    let (guest, mask, shadow, bits, read, _, _) = row;
    let value = vm.get(guest);
    vm.set(mask, bits);
    vm.set(shadow, !value);
    vm.code(read);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.registers.rsi, value ^ bits)
}

/// Writing the shadow's value to masked bits does not exit and keeps the real bits.
#[case(spec = "SDM 3C 26.1.3", rows(cr0: CR0, cr4: CR4))]
fn write_equal_to_the_shadow_does_not_exit(vm: &mut NestedVm, row: Row) -> Verdict {
    let (guest, mask, shadow, bits, _, write, _) = row;
    let value = vm.get(guest);
    vm.set(mask, bits);
    vm.set(shadow, value ^ bits);
    vm.code(write);
    vm.registers.rsi = value ^ bits;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.get(guest), value, "the real bits")
}

/// Writing another value to one masked bit exits, with the register in the qualification.
#[case(spec = "SDM 3C 26.1.3", rows(cr0: CR0, cr4: CR4))]
fn write_other_than_the_shadow_exits(vm: &mut NestedVm, row: Row) -> Verdict {
    let (guest, mask, shadow, bits, _, write, qualification) = row;
    let value = vm.get(guest);
    vm.set(shadow, value);
    vm.code(write);
    for bit in (0..64).map(|n| 1u64 << n).filter(|bit| bits & bit != 0) {
        vm.registers.rsi = value ^ bit;
        vm.set(mask, bit);
        expect_eq!(
            vm.run(),
            Entry::exited(Reason::CR_ACCESS, qualification),
            "bit {bit:#x}"
        )?;
        expect_eq!(vm.get(guest), value, "nothing is written")?;
        vm.set(mask, bits & !bit);
        expect_eq!(vm.run(), Entry::DONE, "another bit masked")?;
        vm.set(guest, value);
    }
    Ok(())
}

/// CLTS exits when the host owns TS and the shadow has it set.
#[case(spec = "SDM 3C 26.1.3 CLTS")]
fn clts_exits_by_mask_and_shadow(vm: &mut NestedVm) -> Verdict {
    let value = vm.get(Field::GUEST_CR0) | Cr0::TS.bits();
    vm.set(Field::GUEST_CR0, value);
    vm.code(&[0x0f, 0x06]);
    vm.set(Field::CR0_MASK, Cr0::TS.bits());
    vm.set(Field::CR0_SHADOW, value);
    expect_eq!(
        vm.enter(),
        Entry::exited(Reason::CR_ACCESS, 0x20),
        "masked, shadow 1"
    )?;
    vm.set(Field::CR0_SHADOW, value & !Cr0::TS.bits());
    expect_eq!(vm.run(), Entry::DONE, "masked, shadow 0")?;
    expect_eq!(vm.get(Field::GUEST_CR0), value, "TS stays")?;
    vm.set(Field::CR0_MASK, 0);
    expect_eq!(vm.run(), Entry::DONE, "not masked")?;
    expect_eq!(
        vm.get(Field::GUEST_CR0),
        value & !Cr0::TS.bits(),
        "TS is clear"
    )
}

/// LMSW exits when it would set a masked bit that the shadow has clear.
#[case(spec = "SDM 3C 26.1.3 LMSW")]
fn lmsw_exits_by_mask_and_shadow(vm: &mut NestedVm) -> Verdict {
    let value = vm.get(Field::GUEST_CR0) & !0xe;
    vm.set(Field::GUEST_CR0, value);
    vm.set(Field::CR0_MASK, Cr0::TS.bits());
    vm.set(Field::CR0_SHADOW, value);
    // lmsw ax
    vm.code(&[0x0f, 0x01, 0xf0]);
    vm.registers.rax = 0x9;
    expect_eq!(
        vm.enter(),
        Entry::exited(Reason::CR_ACCESS, 0x9_0030),
        "TS masked"
    )?;
    vm.set(Field::CR0_MASK, 0);
    expect_eq!(vm.run(), Entry::DONE, "TS not masked")?;
    expect_eq!(vm.get(Field::GUEST_CR0), value | Cr0::TS.bits())
}

/// A MOV to CR3 of a CR3-target value does not exit; of another value it does.
#[case(spec = "SDM 3C 26.1.3")]
fn cr3_targets_do_not_exit(vm: &mut NestedVm) -> Verdict {
    use guest_lib::arch::vmx::{MISC, capability};
    let count = capability(MISC) >> 16 & 0x1ff;
    vm.enable(controls::CR3_LOAD_EXITING)?;
    // mov cr3, rsi
    vm.code(&[0x0f, 0x22, 0xde]);
    let root = vm.get(Field::GUEST_CR3);
    vm.registers.rsi = root;
    let exit = Entry::exited(Reason::CR_ACCESS, 0x603);
    expect_eq!(vm.enter(), exit, "no targets")?;
    let fields = [
        Field::CR3_TARGET_0,
        Field::CR3_TARGET_1,
        Field::CR3_TARGET_2,
        Field::CR3_TARGET_3,
    ];
    for (i, field) in fields.into_iter().take(count as usize).enumerate() {
        vm.set(Field::CR3_TARGET_COUNT, i as u64 + 1);
        vm.set(field, root);
        expect_eq!(vm.run(), Entry::DONE, "target {i}")?;
        vm.set(Field::CR3_TARGET_COUNT, i as u64);
        expect_eq!(vm.run(), exit, "target {i} beyond the count")?;
        vm.set(field, root ^ 8);
    }
    Ok(())
}

/// A guest may not change a bit of CR0 or CR4 that VMX operation fixes: #GP in the guest.
#[case(
    spec = "SDM 3C 26.3",
    rows(
        cr0_ne: (&[0x0f, 0x22, 0xc6], Field::GUEST_CR0, Cr0::NE.bits()),
        cr4_vmxe: (&[0x0f, 0x22, 0xe6], Field::GUEST_CR4, Cr4::VMXE.bits()),
    )
)]
fn fixed_bits_raise_gp_in_the_guest(vm: &mut NestedVm, row: (&[u8], Field, u64)) -> Verdict {
    let (code, field, bit) = row;
    vm.code(code);
    vm.registers.rsi = vm.get(field) & !bit;
    expect_eq!(vm.enter(), Entry::exited(Reason::EXCEPTION_OR_NMI, 0))?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0b0d)?;
    vm.registers.rsi = vm.get(field);
    expect_eq!(vm.enter(), Entry::DONE)
}
