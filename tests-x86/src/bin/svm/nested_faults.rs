//! Nested page faults and what they say. Spec: APM 2 15.25.6.
//!
//! Every access of a guest is a user access to the nested tables, and every access to the guest's own
//! page tables is a user write. EXITINFO1 holds a page-fault error code plus two bits that tell the
//! guest's final address (bit 32) from one of its page tables (bit 33); EXITINFO2 holds the guest-physical
//! address. A host that gets them wrong pages in the wrong thing.

use guest_lib::arch::cpu;
use guest_lib::arch::paging::{AddressSpace, FREE_BASE, NX, P, PS, U, W};
use guest_lib::arch::registers::{Cr0, Efer, SavedControl};
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, field, l2};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const FINAL: u64 = 1 << 32;
const TABLE: u64 = 1 << 33;
const NPF: Entry = Entry::Exited(ExitCode::NPF);

/// Where the guest maps the page under test, and the offset it uses.
const LINEAR: u64 = FREE_BASE + 0x3000;
const OFFSET: u64 = 0x120;

/// A guest with page tables of its own that maps one page at [`LINEAR`].
struct World {
    space: AddressSpace,
    page: Frames,
}

fn world(vm: &mut NestedVm) -> World {
    let mut page = Frames::new(1);
    page.bytes_mut().fill(0xc3);
    let mut space = AddressSpace::new(false);
    space.set(LINEAR, 1, page.address() | P | W);
    vm.vmcb.set(field::CR3, space.root());
    vm.nest_paging();
    World { space, page }
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
    Fetch,
}
use Access::{Fetch, Read, Write};

fn load(vm: &mut NestedVm, access: Access) {
    vm.load(move || {
        match access {
            Read => cpu::peek_raw(LINEAR + OFFSET),
            Write => cpu::poke_raw(LINEAR + OFFSET, 0xc3),
            Fetch => cpu::call_raw(LINEAR + OFFSET),
        };
    });
}

/// The guest's access, what is spoiled in the nested entry of the page, EXITINFO1.
type Row = (Access, fn(u64) -> u64, u64);

fn check_final(vm: &mut NestedVm, row: Row) -> Verdict {
    let world = world(vm);
    let target = world.page.address();
    let good = vm.npt().get(target, 1);
    load(vm, row.0);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;

    vm.npt().set(target, 1, (row.1)(good));
    load(vm, row.0);
    expect_eq!(vm.enter(), NPF)?;
    expect_eq!(vm.info1(), FINAL | row.2, "EXITINFO1")?;
    expect_eq!(vm.info2(), target + OFFSET, "EXITINFO2")?;
    expect_eq!(vm.vmcb.get(field::CR2), 0, "the guest's CR2")?;

    vm.npt().set(target, 1, good);
    expect_eq!(vm.enter(), Entry::VMMCALL, "mended")?;
    expect!(vm.finished() && vm.fault().is_none())
}

/// A fault on the final address tells its kind in EXITINFO1 and its address in EXITINFO2.
#[case(
    spec = "APM 2 15.25.6 EXITINFO1",
    needs("x86.svm.npt"),
    rows(
        read_of_absent_page: (Read, |e| e & !P, 0x4),
        write_to_absent_page: (Write, |e| e & !P, 0x6),
        fetch_from_absent_page: (Fetch, |e| e & !P, 0x14),
        read_of_supervisor_page: (Read, |e| e & !U, 0x5),
        write_to_supervisor_page: (Write, |e| e & !U, 0x7),
        write_to_read_only_page: (Write, |e| e & !W, 0x7),
        fetch_from_nx_page: (Fetch, |e| e | NX, 0x15),
        fetch_from_supervisor_page: (Fetch, |e| e & !U, 0x15),
    )
)]
fn final_address(vm: &mut NestedVm, row: Row) -> Verdict {
    check_final(vm, row)
}

/// A reserved bit in the nested entry of the final address is reported with RSVD and P.
#[case(
    spec = "APM 2 15.25.6 EXITINFO1",
    needs("x86.svm.npt", "x86.reserved_pte_bit"),
    rows(
        read: (Read, |e| e | 1 << 51, 0xd),
        write: (Write, |e| e | 1 << 51, 0xf),
        fetch: (Fetch, |e| e | 1 << 51, 0x1d),
    )
)]
fn reserved_bit(vm: &mut NestedVm, row: Row) -> Verdict {
    check_final(vm, row)
}

/// With the host's EFER.NXE clear, the NX bit of a nested entry is reserved.
#[case(spec = "APM 2 15.25.6 EXITINFO1", needs("x86.svm.npt"))]
fn nx_bit_is_reserved_without_nxe(vm: &mut NestedVm) -> Verdict {
    let _saved = SavedControl::new();
    let world = world(vm);
    let target = world.page.address();
    vm.npt().update(target, 1, |e| e | NX);
    load(vm, Read);
    expect_eq!(vm.enter(), Entry::VMMCALL, "NXE set: a read may")?;
    (Efer::read() - Efer::NXE).write()?;
    load(vm, Read);
    expect_eq!(vm.enter(), NPF, "NXE clear")?;
    expect_eq!(vm.info1(), FINAL | 0xd, "EXITINFO1")?;
    (Efer::read() | Efer::NXE).write()?;
    expect_eq!(vm.enter(), Entry::VMMCALL, "NXE set again")
}

/// A fault on one of the guest's page tables is a user write with bit 33, at the address of the table.
#[case(
    spec = "APM 2 15.25.6 EXITINFO1",
    needs("x86.svm.npt"),
    rows(
        absent_page_table: (1, |e| e & !P, 0x6),
        absent_page_directory: (2, |e| e & !P, 0x6),
        absent_page_directory_pointers: (3, |e| e & !P, 0x6),
        absent_root: (4, |e| e & !P, 0x6),
        read_only_page_table: (1, |e| e & !W, 0x7),
        read_only_root: (4, |e| e & !W, 0x7),
        supervisor_page_table: (1, |e| e & !U, 0x7),
    )
)]
fn guest_table(vm: &mut NestedVm, row: (u32, fn(u64) -> u64, u64)) -> Verdict {
    let mut world = world(vm);
    let table = world.space.entry_address(LINEAR, row.0);
    let good = vm.npt().get(table, 1);
    load(vm, Read);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;

    vm.npt().set(table, 1, (row.1)(good));
    load(vm, Read);
    expect_eq!(vm.enter(), NPF)?;
    expect_eq!(vm.info1(), TABLE | row.2, "EXITINFO1")?;
    // Any walk that uses the same table page may come first.
    expect_eq!(vm.info2() & !0xfff, table & !0xfff, "EXITINFO2")?;

    vm.npt().set(table, 1, good);
    expect_eq!(vm.enter(), Entry::VMMCALL, "mended")
}

/// Reserved bits of upper nested levels are refused at the guest's first walk.
#[case(
    spec = "APM 2 15.25.5",
    needs("x86.svm.npt"),
    rows(
        large_page_bit_13: (2, |e| e | 1 << 13),
        large_page_bit_20: (2, |e| e | 1 << 20),
        pml4e_page_size: (4, |e| e | PS),
        pml4e_bit_8: (4, |e| e | 1 << 8),
    )
)]
fn reserved_bit_in_upper_level(vm: &mut NestedVm, row: (u32, fn(u64) -> u64)) -> Verdict {
    let root = vm.vmcb.get(field::CR3);
    vm.nest_paging();
    let good = vm.npt().get(root, row.0);
    expect_eq!(vm.run(|| ()), Entry::VMMCALL)?;
    vm.npt().set(root, row.0, (row.1)(good));
    vm.load(|| ());
    expect_eq!(vm.enter(), NPF)?;
    expect_eq!(vm.info1(), TABLE | 0xf, "EXITINFO1")?;
    expect_eq!(vm.info2() & !0xfff, root & !0xfff, "EXITINFO2")?;
    vm.npt().set(root, row.0, good);
    expect_eq!(vm.enter(), Entry::VMMCALL, "mended")
}

/// EXITINFO2 holds the whole guest-physical address, above 4 GiB too.
#[case(spec = "APM 2 15.25.6 EXITINFO2", needs("x86.svm.npt"))]
fn fault_address_has_all_its_bits(vm: &mut NestedVm) -> Verdict {
    let mut world = world(vm);
    for address in [0x1_0000_0000, 0xa_bcde_f000u64] {
        world.space.set(LINEAR, 1, address | P | W);
        load(vm, Write);
        expect_eq!(vm.enter(), NPF)?;
        expect_eq!(vm.info1(), FINAL | 0x6, "EXITINFO1")?;
        expect_eq!(vm.info2(), address + OFFSET, "EXITINFO2")?;
    }
    Ok(())
}

/// An access that spans two pages reports the second one when that is the absent one, and writes nothing.
#[case(spec = "APM 2 15.25.6 EXITINFO2", needs("x86.svm.npt"))]
fn spanning_access_reports_the_absent_half(vm: &mut NestedVm) -> Verdict {
    let mut world = world(vm);
    let second = Frames::new(1);
    world
        .space
        .set(LINEAR + 0x1000, 1, second.address() | P | W);
    vm.npt().update(second.address(), 1, |e| e & !P);
    // mov [rbx],rax
    vm.load_bytes(&[0x48, 0x89, 0x03]);
    vm.gprs.rbx = LINEAR + 0xffc;
    vm.vmcb.set(field::RAX, 0x1122_3344_5566_7788);
    expect_eq!(vm.enter(), NPF)?;
    expect_eq!(vm.info1(), FINAL | 0x6, "EXITINFO1")?;
    expect_eq!(vm.info2(), second.address(), "EXITINFO2")?;
    expect_eq!(world.page.read::<u32>(0xffc), 0xc3c3_c3c3, "the first page")?;
    vm.npt().update(second.address(), 1, |e| e | P);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(
        (world.page.read::<u32>(0xffc), second.read::<u32>(0)),
        (0x5566_7788, 0x1122_3344)
    )
}

/// An instruction that spans two pages reports a fetch from the second one.
#[case(spec = "APM 2 15.25.6 EXITINFO2", needs("x86.svm.npt"))]
fn spanning_instruction_reports_the_absent_half(vm: &mut NestedVm) -> Verdict {
    let mut world = world(vm);
    let second = Frames::new(1);
    world
        .space
        .set(LINEAR + 0x1000, 1, second.address() | P | W);
    // mov eax,imm32 with its last two bytes on the second page; then VMMCALL.
    for (i, byte) in [0xb8u8, 0x11, 0x22].into_iter().enumerate() {
        world.page.write(0xffd + i, byte);
    }
    for (i, byte) in [0x33u8, 0x44, 0x0f, 0x01, 0xd9].into_iter().enumerate() {
        second.write(i, byte);
    }
    vm.npt().update(second.address(), 1, |e| e & !P);
    vm.load_address(LINEAR + 0xffd);
    expect_eq!(vm.enter(), NPF)?;
    expect_eq!(vm.info1(), FINAL | 0x14, "EXITINFO1")?;
    expect_eq!(vm.info2(), second.address(), "EXITINFO2")?;
    expect_eq!(vm.rip(), LINEAR + 0xffd)?;
    vm.npt().update(second.address(), 1, |e| e | P);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.vmcb.get(field::RAX), 0x4433_2211)
}

/// The guest's own page fault comes before the nested fault on the final address.
#[case(spec = "APM 2 15.25.6", needs("x86.svm.npt"))]
fn guest_fault_comes_before_the_final_nested_fault(vm: &mut NestedVm) -> Verdict {
    let mut world = world(vm);
    let target = world.page.address();
    world.space.set(LINEAR, 1, target | P);
    vm.npt().update(target, 1, |e| e & !P);
    load(vm, Write);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.fault(), Some(Fault::pf(3)), "the guest's own fault")?;
    expect_eq!(vm.vmcb.get(field::CR2), LINEAR + OFFSET)?;
    // With the guest's permission the nested fault shows.
    world.space.set(LINEAR, 1, target | P | W);
    load(vm, Write);
    expect_eq!(vm.enter(), NPF)
}

/// Nested write protection holds whatever CR0.WP says, in the guest and in the host.
#[case(spec = "APM 2 15.25.5 CR0", needs("x86.svm.npt"))]
fn nested_write_protection_ignores_cr0_wp(vm: &mut NestedVm) -> Verdict {
    let _saved = SavedControl::new();
    let world = world(vm);
    let target = world.page.address();
    vm.npt().update(target, 1, |e| e & !W);
    (Cr0::read() - Cr0::WP).write()?;
    vm.vmcb.update(field::CR0, |cr0| cr0 & !Cr0::WP.bits());
    load(vm, Write);
    expect_eq!(vm.enter(), NPF)?;
    expect_eq!(vm.info1(), FINAL | 0x7, "EXITINFO1")?;
    vm.npt().update(target, 1, |e| e | W);
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// A nested fault is not a page fault: the intercept of vector 14 does not see it, nor does the guest.
#[case(spec = "APM 2 15.25.6", needs("x86.svm.npt"))]
fn nested_fault_is_no_page_fault(vm: &mut NestedVm) -> Verdict {
    let world = world(vm);
    let target = world.page.address();
    vm.vmcb.set(field::INTERCEPT_EXCEPTION, u32::MAX);
    vm.npt().update(target, 1, |e| e & !P);
    load(vm, Read);
    expect_eq!(vm.enter(), NPF)?;
    vm.npt().update(target, 1, |e| e | P);
    vm.load(|| l2::tell(0, 1));
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// The memory side of a string input is a nested write, that of a string output a nested read.
#[case(
    spec = "APM 2 15.25.6 EXITINFO1",
    needs("x86.svm.npt"),
    rows(
        insb_to_absent_page: (&[0x6c], |e| e & !P, 0x6),
        insb_to_read_only_page: (&[0x6c], |e| e & !W, 0x7),
        outsb_from_absent_page: (&[0x6e], |e| e & !P, 0x4),
    )
)]
fn string_io(vm: &mut NestedVm, row: (&'static [u8], fn(u64) -> u64, u64)) -> Verdict {
    let world = world(vm);
    let target = world.page.address();
    let good = vm.npt().get(target, 1);
    vm.npt().set(target, 1, (row.1)(good));
    let start = vm.load_bytes(row.0);
    // The port for POST codes: a machine without one reads all ones.
    vm.gprs.rdx = 0x80;
    vm.gprs.rdi = LINEAR + OFFSET;
    vm.gprs.rsi = LINEAR + OFFSET;
    expect_eq!(vm.enter(), NPF)?;
    expect_eq!(vm.info1(), FINAL | row.2, "EXITINFO1")?;
    expect_eq!(vm.info2(), target + OFFSET, "EXITINFO2")?;
    expect_eq!(vm.rip(), start)?;
    vm.npt().set(target, 1, good);
    expect_eq!(vm.enter(), Entry::VMMCALL, "mended")?;
    expect_eq!(
        vm.gprs.rdi + vm.gprs.rsi,
        2 * (LINEAR + OFFSET) + 1,
        "RSI and RDI"
    )
}

/// The guest reads the host's device page through the nested tables, and a write-protected one faults.
#[case(spec = "APM 2 15.25.6", needs("x86.svm.npt"))]
fn device_page_is_reached_and_protected(vm: &mut NestedVm) -> Verdict {
    use guest_lib::arch::apic::{self, Register};
    if apic::is_x2apic() {
        return skip("x86.xapic");
    }
    let base = guest_lib::arch::msr::read(guest_lib::arch::msr::APIC_BASE)? & 0xf_ffff_f000;
    let version = apic::read(Register::VERSION);
    vm.nest_paging();
    expect_eq!(
        vm.run(|| l2::tell(0, u64::from(apic::read(Register::VERSION)))),
        Entry::VMMCALL
    )?;
    expect_eq!(vm.told(0), u64::from(version))?;

    vm.npt().update(base, 1, |e| e & !W);
    vm.load(|| {
        let _ = apic::write(Register::TPR, 0x10);
    });
    expect_eq!(vm.enter(), NPF)?;
    expect_eq!(vm.info1(), FINAL | 0x7, "EXITINFO1")?;
    expect_eq!(vm.info2(), base + u64::from(Register::TPR.0), "EXITINFO2")?;
    expect_eq!(apic::read(Register::TPR), 0, "TPR")
}
