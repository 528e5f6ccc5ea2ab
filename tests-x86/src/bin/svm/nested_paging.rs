//! Nested page faults. Spec: APM 2 15.25.6.

use guest_lib::arch::paging::{AddressSpace, FREE_BASE, P, U, W};
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, field, l2};
use guest_lib::arch::cpu;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const FINAL: u64 = 1 << 32;
const TABLE: u64 = 1 << 33;

/// An absent final page exits with bit 32, an absent page-table page with bit 33, each with its address.
#[case(spec = "APM 2 15.25.6", needs("x86.svm.npt"))]
fn final_and_table_are_told_apart(vm: &mut NestedVm) -> Verdict {
    let page = Frames::new(1);
    let mut space = AddressSpace::new(false);
    space.set(FREE_BASE, 1, page.address() | P | W | U);
    let table = space.entry_address(FREE_BASE, 1);
    vm.vmcb.set(field::CR3, space.root());
    vm.nest_paging();
    let target = page.address();
    vm.load(|| l2::tell(0, 1 + cpu::peek_raw(FREE_BASE + 0x18)));
    vm.npt().update(target, 1, |e| e & !P);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::NPF))?;
    expect_eq!(vm.info1(), FINAL | 4)?;
    expect_eq!(vm.info2(), target + 0x18)?;
    vm.npt().update(target, 1, |e| e | P);
    vm.npt().update(table, 1, |e| e & !P);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::NPF))?;
    expect_eq!(vm.info1() & !2, TABLE | 4)?;
    expect_eq!(vm.info2() & !0xfff, table & !0xfff)?;
    vm.npt().update(table, 1, |e| e | P);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)
}
