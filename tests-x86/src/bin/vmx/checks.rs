//! The shape that most checks of VM entry share: spoil a field, see the entry fail, mend it.

use guest_lib::arch::vmx::capability;
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::prelude::*;

/// Spoils a field with each value, then mends it. The entry ends as `refused`, or is good; the rest of
/// the guest's state stays as it is.
pub fn each_is_refused(vm: &mut NestedVm, refused: Entry, field: Field, values: &[u64]) -> Verdict {
    let good = vm.get(field);
    for &value in values {
        vm.set(field, value);
        expect_eq!(vm.enter(), refused, "{field:?} = {value:#x}")?;
    }
    vm.set(field, good);
    expect_eq!(vm.enter(), Entry::DONE, "{field:?} = {good:#x}")
}

/// A field for CR0 or CR4, and the capability MSRs that say which of its bits must be 1 and may be 1.
pub type FixedBits = (Field, u32, u32);

/// Turns each fixed bit of the field, one at a time.
pub fn fixed_bits_are_refused(vm: &mut NestedVm, refused: Entry, row: FixedBits) -> Verdict {
    let (field, fixed0, fixed1) = row;
    let (zero, one) = (capability(fixed0), capability(fixed1));
    let good = vm.get(field);
    // PE and PG are among them: in a guest that is not unrestricted other rules refuse them too.
    let spoiled: Vec<u64> = (0..64)
        .map(|bit| 1u64 << bit)
        .filter(|bit| zero & bit != 0 || one & bit == 0)
        .map(|bit| good ^ bit)
        .collect();
    expect!(spoiled.len() > 16, "only {} fixed bits", spoiled.len())?;
    each_is_refused(vm, refused, field, &spoiled)
}
