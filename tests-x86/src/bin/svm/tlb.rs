//! Translations that must be forgotten, and translations that must not be shared. Spec: APM 2 15.16.
//!
//! The ASID keeps guests and host apart in the TLB, so VMRUN need not flush. A hypervisor that
//! forgets a flush shows old memory; one that mixes ASIDs shows somebody else's. A processor may forget
//! too much at any time, so only staleness can fail here.

use guest_lib::arch::cpu;
use guest_lib::arch::paging::{self, AddressSpace, FREE_BASE, P, W};
use guest_lib::arch::svm::{self, Entry, NestedVm, field, l2};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const LINEAR: u64 = FREE_BASE + 0x5000;
const FLUSH_NOTHING: u8 = 0;
const FLUSH_ALL: u8 = 1;
const FLUSH_THIS_GUEST: u8 = 3;

/// A guest whose page at [`LINEAR`] the host swaps behind its back.
struct World {
    pages: [Frames; 2],
    _space: AddressSpace,
    slot: u64,
}

fn world(vm: &mut NestedVm) -> World {
    let pages = [Frames::new(1), Frames::new(1)];
    pages[0].write(0, 0x10u8);
    pages[1].write(0, 0x11u8);
    let mut space = AddressSpace::new(false);
    space.set(LINEAR, 1, pages[0].address() | P | W);
    let slot = space.entry_address(LINEAR, 1);
    vm.vmcb.set(field::CR3, space.root());
    World {
        pages,
        _space: space,
        slot,
    }
}

impl World {
    fn show(&self, page: usize) {
        paging::write_entry(self.slot, self.pages[page].address() | P | W);
    }
}

fn look(vm: &mut NestedVm, tlb_control: u8) -> Result<u64, Stop> {
    vm.vmcb.set(field::TLB_CONTROL, tlb_control);
    expect_eq!(
        vm.run(|| l2::tell(0, cpu::peek_raw(LINEAR))),
        Entry::VMMCALL
    )?;
    Ok(vm.told(0))
}

fn swapped_page_shows(
    vm: &mut NestedVm,
    tlb_control: u8,
    forget: impl Fn(&NestedVm) -> Verdict,
) -> Verdict {
    let world = world(vm);
    for round in 0..4 {
        expect_eq!(look(vm, FLUSH_ALL)?, 0x10, "round {round}")?;
        world.show(1);
        forget(vm)?;
        expect_eq!(
            look(vm, tlb_control)?,
            0x11,
            "after the swap, round {round}"
        )?;
        world.show(0);
    }
    Ok(())
}

/// TLB_CONTROL 1 flushes the guest's translations.
#[case(spec = "APM 2 15.16.1 TLB_CONTROL", needs("x86.svm"))]
fn flush_of_everything_shows_the_new_page(vm: &mut NestedVm) -> Verdict {
    swapped_page_shows(vm, FLUSH_ALL, |_| Ok(()))
}

/// TLB_CONTROL 3 flushes the translations of the guest's ASID.
#[case(spec = "APM 2 15.16.1 TLB_CONTROL", needs("x86.svm.flush_by_asid"))]
fn flush_of_this_guest_shows_the_new_page(vm: &mut NestedVm) -> Verdict {
    swapped_page_shows(vm, FLUSH_THIS_GUEST, |_| Ok(()))
}

/// INVLPGA forgets one page of one ASID.
#[case(spec = "APM 2 15.16.2 INVLPGA", needs("x86.svm"))]
fn invlpga_shows_the_new_page(vm: &mut NestedVm) -> Verdict {
    swapped_page_shows(vm, FLUSH_NOTHING, |vm| {
        expect_eq!(svm::invlpga(LINEAR, vm.vmcb.get(field::ASID)), Ok(()))
    })
}

/// Another ASID has no translations of the old one.
#[case(spec = "APM 2 15.16 ASID", needs("x86.svm"))]
fn another_asid_shows_the_new_page(vm: &mut NestedVm) -> Verdict {
    let world = world(vm);
    for asid in [1, 2, 3] {
        // Clean slate for every ASID used here.
        vm.vmcb.set(field::ASID, asid);
        look(vm, FLUSH_ALL)?;
    }
    vm.vmcb.set(field::ASID, 1);
    look(vm, FLUSH_ALL)?;
    world.show(1);
    vm.vmcb.set(field::ASID, 2);
    expect_eq!(look(vm, FLUSH_NOTHING)?, 0x11, "ASID 2 after the swap")?;
    world.show(0);
    vm.vmcb.set(field::ASID, 3);
    expect_eq!(
        look(vm, FLUSH_NOTHING)?,
        0x10,
        "ASID 3 after the second swap"
    )
}

/// The guest's own INVLPG and CR3 load make its changes count.
#[case(spec = "APM 2 15.16 INVLPG", needs("x86.svm"), rows(invlpg: true, cr3_load: false))]
fn guest_forgets_its_own_translations(vm: &mut NestedVm, by_page: bool) -> Verdict {
    let world = world(vm);
    let (slot, second) = (world.slot, world.pages[1].address() | P | W);
    let entry = vm.run(move || {
        l2::tell(0, cpu::peek_raw(LINEAR));
        paging::write_entry(slot, second);
        if by_page {
            cpu::invlpg(LINEAR);
        } else {
            let _ = cpu::write_cr3(cpu::read_cr3());
        }
        l2::tell(1, cpu::peek_raw(LINEAR));
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!((vm.told(0), vm.told(1)), (0x10, 0x11))
}

/// The host does not see what the guest's translations named, with no flush in between.
#[case(spec = "APM 2 15.16 ASID", needs("x86.svm"))]
fn guest_translations_stay_out_of_the_host(vm: &mut NestedVm) -> Verdict {
    let _world = world(vm);
    for _ in 0..4 {
        expect_eq!(look(vm, FLUSH_NOTHING)?, 0x10)?;
        expect_eq!(
            cpu::peek(LINEAR),
            Err(Fault::pf(0)),
            "the guest's address in the host"
        )?;
    }
    Ok(())
}

/// The guest does not see what the host's translations named.
#[case(spec = "APM 2 15.16 ASID", needs("x86.svm"))]
fn host_translations_stay_out_of_the_guest(vm: &mut NestedVm) -> Verdict {
    let mut space = AddressSpace::new(false);
    let page = Frames::new(1);
    space.set(LINEAR, 1, page.address() | P | W);
    space.with(|| {
        for _ in 0..4 {
            cpu::peek(LINEAR)?;
            vm.vmcb.set(field::CR3, paging::kernel_root());
            vm.vmcb.set(field::TLB_CONTROL, FLUSH_NOTHING);
            let entry = vm.run(|| {
                cpu::peek_raw(LINEAR);
            });
            expect_eq!(entry, Entry::VMMCALL)?;
            expect_eq!(
                vm.fault(),
                Some(Fault::pf(0)),
                "the host's address in the guest"
            )?;
        }
        Ok(())
    })
}
