//! Nested translation, accessed and dirty bits. Spec: APM 2 15.25.
//!
//! The nested tables say where guest-physical memory really is, and record what the guest touched:
//! dirty logging in software rests on those bits. Guest page tables count as written when they are
//! walked, because the walk may set their own accessed bits.

use guest_lib::arch::cpu;
use guest_lib::arch::paging::{A, AddressSpace, D, FREE_BASE, P, PS, U, W};
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, field, l2};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const LINEAR: u64 = FREE_BASE + 0x3000;

/// The nested tables decide which page the guest's address names.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"))]
fn guest_physical_pages_can_lie_anywhere(vm: &mut NestedVm) -> Verdict {
    let (shown, real) = (Frames::new(1), Frames::new(1));
    shown.write(0x40, 0x11u8);
    real.write(0x40, 0x22u8);
    let address = shown.address() + 0x40;
    vm.nest_paging();
    expect_eq!(
        vm.run(move || l2::tell(0, cpu::peek_raw(address))),
        Entry::VMMCALL
    )?;
    expect_eq!(vm.told(0), 0x11)?;
    vm.npt().set(shown.address(), 1, real.address() | P | W | U);
    let entry = vm.run(move || {
        l2::tell(0, cpu::peek_raw(address));
        cpu::poke_raw(address, 0x33);
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 0x22)?;
    expect_eq!(
        (shown.read::<u8>(0x40), real.read::<u8>(0x40)),
        (0x11, 0x33)
    )
}

/// A 2 MiB nested page keeps the low 21 bits of the address.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"))]
fn large_nested_page_translates_its_offset(vm: &mut NestedVm) -> Verdict {
    let real = Frames::aligned(512, 2 << 20);
    let shown = Frames::aligned(512, 2 << 20);
    for offset in [0usize, 0x1234, 0x1f_fff8] {
        real.write(offset, 0x100 + offset as u64);
    }
    vm.nest_paging();
    vm.npt()
        .set(shown.address(), 2, real.address() | P | W | U | PS);
    for offset in [0usize, 0x1234, 0x1f_fff8] {
        // mov rax,[rbx]
        vm.load_bytes(&[0x48, 0x8b, 0x03]);
        vm.gprs.rbx = shown.address() + offset as u64;
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        expect_eq!(
            vm.vmcb.get(field::RAX),
            0x100 + offset as u64,
            "offset {offset:#x}"
        )?;
    }
    Ok(())
}

/// A read sets the accessed bit of the nested entries on its way, and the dirty bit of none for the page read.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"))]
fn read_sets_accessed_only(vm: &mut NestedVm) -> Verdict {
    let page = Frames::new(1);
    let target = page.address();
    vm.nest_paging();
    vm.npt().set(target, 1, target | P | W | U);
    expect_eq!(vm.npt().get(target, 1) & (A | D), 0)?;
    expect_eq!(
        vm.run(move || l2::tell(0, 1 + cpu::peek_raw(target))),
        Entry::VMMCALL
    )?;
    expect_eq!(vm.told(0), 1)?;
    expect_eq!(vm.npt().get(target, 1) & (A | D), A, "leaf")?;
    for level in 2..=4 {
        expect_eq!(vm.npt().get(target, level) & A, A, "level {level}")?;
    }
    Ok(())
}

/// A write sets the dirty bit of the leaf; an untouched page keeps both bits clear.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"))]
fn write_sets_dirty(vm: &mut NestedVm) -> Verdict {
    let pages = Frames::new(2);
    let (target, other) = (pages.address(), pages.address() + 0x1000);
    vm.nest_paging();
    vm.npt().set(target, 1, target | P | W | U);
    vm.npt().set(other, 1, other | P | W | U);
    let entry = vm.run(move || {
        cpu::poke_raw(target, 1);
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.npt().get(target, 1) & (A | D), A | D, "written page")?;
    expect_eq!(vm.npt().get(other, 1) & (A | D), 0, "untouched page")?;
    // Cleared and written again after a flush, the bit comes back: this is dirty logging.
    vm.npt().set(target, 1, target | P | W | U | A);
    let entry = vm.run(move || {
        cpu::poke_raw(target, 2);
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.npt().get(target, 1) & D, D, "written again")
}

/// A read after a write-clear cycle leaves the dirty bit clear, so a clean page stays clean.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"))]
fn read_of_a_cleaned_page_leaves_it_clean(vm: &mut NestedVm) -> Verdict {
    let page = Frames::new(1);
    let target = page.address();
    vm.nest_paging();
    let entry = vm.run(move || {
        cpu::poke_raw(target, 1);
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    vm.npt().set(target, 1, target | P | W | U | A);
    expect_eq!(
        vm.run(move || l2::tell(0, cpu::peek_raw(target))),
        Entry::VMMCALL
    )?;
    expect_eq!(vm.told(0), 1)?;
    expect_eq!(vm.npt().get(target, 1) & D, 0)
}

/// A walk of the guest's tables sets accessed and dirty in the nested entries of those tables.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"))]
fn walked_guest_tables_become_dirty(vm: &mut NestedVm) -> Verdict {
    let page = Frames::new(1);
    let mut space = AddressSpace::new(false);
    space.set(LINEAR, 1, page.address() | P | W);
    let table = space.entry_address(LINEAR, 1) & !0xfff;
    vm.vmcb.set(field::CR3, space.root());
    vm.nest_paging();
    vm.npt().set(table, 1, table | P | W | U);
    expect_eq!(
        vm.run(|| l2::tell(0, 1 + cpu::peek_raw(LINEAR))),
        Entry::VMMCALL
    )?;
    expect_eq!(vm.told(0), 1)?;
    expect_eq!(space.get(LINEAR, 1) & A, A, "the guest's own accessed bit")?;
    expect_eq!(
        vm.npt().get(table, 1) & (A | D),
        A | D,
        "nested entry of the guest's table"
    )
}

/// A refused access leaves the dirty bit clear.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"))]
fn refused_write_leaves_the_page_clean(vm: &mut NestedVm) -> Verdict {
    let page = Frames::new(1);
    let target = page.address();
    vm.nest_paging();
    vm.npt().set(target, 1, target | P | U);
    vm.load(move || {
        cpu::poke_raw(target, 1);
    });
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::NPF))?;
    expect_eq!(vm.npt().get(target, 1) & D, 0)?;
    expect_eq!(page.read::<u8>(0), 0)
}

/// Two guests with nested tables of their own see different memory at the same address.
#[case(spec = "APM 2 15.25.4", needs("x86.svm.npt"))]
fn guests_with_their_own_tables_stay_apart(vm: &mut NestedVm) -> Verdict {
    let pages = [Frames::new(1), Frames::new(1), Frames::new(1)];
    for (i, page) in pages.iter().enumerate() {
        page.write(0, i as u8);
    }
    let shown = pages[0].address();
    let (first, second) = (pages[1].address(), pages[2].address());
    vm.nest_paging().set(shown, 1, first | P | W | U);
    let mut other = NestedVm::fresh()?;
    other.nest_paging().set(shown, 1, second | P | W | U);
    other.vmcb.set(field::ASID, 2);
    for round in 0..3 {
        expect_eq!(
            vm.run(move || l2::tell(0, cpu::peek_raw(shown))),
            Entry::VMMCALL
        )?;
        expect_eq!(l2::told(0), 1, "first guest, round {round}")?;
        expect_eq!(
            other.run(move || l2::tell(0, cpu::peek_raw(shown))),
            Entry::VMMCALL
        )?;
        expect_eq!(l2::told(0), 2, "second guest, round {round}")?;
        // From the second round on, without flushes: the ASID alone keeps them apart.
        vm.vmcb.set(field::TLB_CONTROL, 0);
        other.vmcb.set(field::TLB_CONTROL, 0);
    }
    Ok(())
}

/// With nested paging the guest's CR3 is its own, and MOV to CR3 needs no help of the host.
#[case(spec = "APM 2 15.25.4 CR3", needs("x86.svm.npt"))]
fn guest_switches_its_own_tables(vm: &mut NestedVm) -> Verdict {
    let pages = [Frames::new(1), Frames::new(1)];
    let mut spaces = [AddressSpace::new(false), AddressSpace::new(false)];
    for (i, (page, space)) in pages.iter().zip(&mut spaces).enumerate() {
        page.write(0, 0x40 + i as u8);
        space.set(LINEAR, 1, page.address() | P | W);
    }
    let roots = [spaces[0].root(), spaces[1].root()];
    vm.vmcb.set(field::CR3, roots[0]);
    vm.nest_paging();
    let entry = vm.run(move || {
        l2::tell(0, cpu::peek_raw(LINEAR));
        let _ = cpu::write_cr3(roots[1]);
        l2::tell(1, cpu::peek_raw(LINEAR));
        let _ = cpu::write_cr3(roots[0]);
        l2::tell(2, cpu::peek_raw(LINEAR));
        let _ = cpu::write_cr3(roots[1]);
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!((vm.told(0), vm.told(1), vm.told(2)), (0x40, 0x41, 0x40))?;
    expect_eq!(vm.vmcb.get(field::CR3), roots[1], "CR3 at the exit")
}
