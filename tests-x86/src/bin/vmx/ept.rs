//! Extended page tables. Spec: SDM 3C 29.3, 28.2.1.
//!
//! An access that EPT forbids exits with a qualification that says what was tried, what was
//! allowed, and whether it was the access itself or the walk to it. A hypervisor that nests must
//! build this from its own shadow of the tables, where most of these bits have to be recomputed.

use guest_lib::arch::paging;
use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::ept::{A, D, EPTP_AD, LARGE, R, RWX, UC, W, WB, X};
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::vmx::{self, ept_vpid_capability};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// mov al, [rsi]
const READ: &[u8] = &[0x8a, 0x06];
/// mov [rsi], al
const WRITE: &[u8] = &[0x88, 0x06];
/// call rsi
const FETCH: &[u8] = &[0xff, 0xd6];
const ACCESSES: [(&[u8], u64); 3] = [(READ, R), (WRITE, W), (FETCH, X)];

/// A page of RETs, and the guest's RSI in its middle.
fn target(vm: &mut NestedVm) -> Result<Frames, Stop> {
    vm.enable_ept()?;
    let mut page = Frames::new(1);
    page.bytes_mut().fill(0xc3);
    vm.registers.rsi = page.address() + 0x234;
    vm.registers.rax = 0xc3;
    Ok(page)
}

/// Linear address valid, translation complete.
const FINAL: u64 = 1 << 7 | 1 << 8;

/// A guest-physical address beyond the payload's memory; every processor with EPT can form it.
const OTHER: u64 = (5 << 30) + 0x20_0000;

/// The qualification, without bits 11:9 that only some processors fill.
fn without_advanced(entry: Entry) -> Entry {
    match entry {
        Entry::Exited {
            reason: Reason::EPT_VIOLATION,
            qualification,
        } => Entry::exited(Reason::EPT_VIOLATION, qualification & !0xe00),
        other => other,
    }
}

fn violation(qualification: u64) -> Entry {
    Entry::exited(Reason::EPT_VIOLATION, qualification)
}

/// Each combination of permissions allows its accesses, and reports the others with what it has.
#[case(
    spec = "SDM 3C 29.3.3.2",
    needs("x86.vmx.ept"),
    rows(none: 0, r: R, rw: R | W, rx: R | X, rwx: RWX, x: X)
)]
fn permissions_decide(vm: &mut NestedVm, row: u64) -> Verdict {
    if row == X && ept_vpid_capability() & 1 == 0 {
        return skip("x86.vmx.ept_execute_only");
    }
    let page = target(vm)?;
    let gpa = page.address();
    vm.ept().set(gpa, 1, gpa | WB | row);
    for (code, access) in ACCESSES {
        vm.code(code);
        vm.invalidate_ept()?;
        let expected = match access & row {
            0 => violation(access | row << 3 | FINAL),
            _ => Entry::DONE,
        };
        expect_eq!(without_advanced(vm.enter()), expected, "access {access:#x}")?;
        if expected != Entry::DONE {
            expect_eq!(vm.get(Field::GUEST_PHYSICAL_ADDRESS), gpa + 0x234)?;
            expect_eq!(vm.get(Field::GUEST_LINEAR_ADDRESS), gpa + 0x234)?;
            expect_eq!(
                vm.offset(),
                if access == X {
                    gpa + 0x234 - vm.start()
                } else {
                    0
                }
            )?;
        }
    }
    Ok(())
}

/// Permissions of all levels are taken together.
#[case(spec = "SDM 3C 29.3.3.2", needs("x86.vmx.ept"), rows(page_table: 2, directory: 3, pml4: 4))]
fn permissions_of_all_levels_combine(vm: &mut NestedVm, row: u32) -> Verdict {
    let page = target(vm)?;
    // Another guest-physical address, so that the guest itself keeps its own tables.
    let gpa = OTHER;
    vm.ept().set(gpa, 1, page.address() | WB | RWX);
    let mut space = paging::AddressSpace::new(false);
    let linear = paging::FREE_BASE;
    space.set(
        linear,
        1,
        gpa | paging::P | paging::W | paging::A | paging::D,
    );
    vm.set(Field::GUEST_CR3, space.root());
    vm.registers.rsi = linear + 4;
    vm.code(WRITE);
    expect_eq!(vm.enter(), Entry::DONE)?;
    let good = vm.ept().get(gpa, row);
    vm.ept().set(gpa, row, good & !W);
    vm.invalidate_ept()?;
    expect_eq!(
        without_advanced(vm.run()),
        violation(W | (R | X) << 3 | FINAL),
        "write"
    )?;
    expect_eq!(vm.get(Field::GUEST_PHYSICAL_ADDRESS), gpa + 4)?;
    expect_eq!(vm.get(Field::GUEST_LINEAR_ADDRESS), linear + 4)?;
    vm.code(READ);
    expect_eq!(vm.enter(), Entry::DONE, "read")?;
    vm.ept().set(gpa, row, good);
    vm.invalidate_ept()?;
    vm.code(WRITE);
    expect_eq!(vm.enter(), Entry::DONE, "mended")
}

/// EPT translates: two guest-physical pages swapped read each other's data.
#[case(spec = "SDM 3C 29.3.2", needs("x86.vmx.ept"), rows(plain: 0, accessed_dirty: EPTP_AD))]
fn translation_is_used(vm: &mut NestedVm, row: u64) -> Verdict {
    if row != 0 && ept_vpid_capability() >> 21 & 1 == 0 {
        return skip("x86.vmx.ept_ad");
    }
    vm.enable_ept()?;
    vm.set_bits(Field::EPTP, row);
    let (a, b) = (Frames::new(1), Frames::new(1));
    a.write(8, 0xaaaa_aaaau64);
    b.write(8, 0xbbbb_bbbbu64);
    vm.ept().set(a.address(), 1, b.address() | WB | RWX);
    vm.ept().set(b.address(), 1, a.address() | WB | RWX);
    // mov rax, [rsi]; mov rbx, [rdi]; mov [rsi], rbx
    vm.code(&[0x48, 0x8b, 0x06, 0x48, 0x8b, 0x1f, 0x48, 0x89, 0x1e]);
    vm.registers.rsi = a.address() + 8;
    vm.registers.rdi = b.address() + 8;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(
        (vm.registers.rax, vm.registers.rbx),
        (0xbbbb_bbbb, 0xaaaa_aaaa),
        "reads"
    )?;
    expect_eq!(
        (a.read::<u64>(8), b.read::<u64>(8)),
        (0xaaaa_aaaa, 0xaaaa_aaaa),
        "the write"
    )
}

/// An entry that no tables may hold exits as a misconfiguration.
#[case(
    spec = "SDM 3C 29.3.3.1",
    needs("x86.vmx.ept"),
    rows(
        write_only: (1, RWX, W),
        write_execute: (1, RWX, W | X),
        memory_type_2: (1, 0x38, 2 << 3),
        memory_type_3: (1, 0x38, 3 << 3),
        memory_type_7: (1, 0x38, 7 << 3),
        address_width_of_page: (1, 0, 1 << 51),
        address_width_of_table: (2, 0, 1 << 51),
        address_width_of_directory: (3, 0, 1 << 51),
        address_width_of_pml4: (4, 0, 1 << 51),
        reserved_bit_3_of_table: (2, 0, 1 << 3),
        reserved_bit_6_of_table: (2, 0, 1 << 6),
        reserved_bit_3_of_directory: (3, 0, 1 << 3),
        reserved_bit_6_of_directory: (3, 0, 1 << 6),
        reserved_bit_3_of_pml4: (4, 0, 1 << 3),
        reserved_bit_7_of_pml4: (4, 0, 1 << 7),
    )
)]
fn misconfigured_entry_exits(vm: &mut NestedVm, row: (u32, u64, u64)) -> Verdict {
    let (level, clear, set) = row;
    if set == 1 << 51 && vmx::address_limit() > 1 << 51 {
        return skip("x86.reserved_pte_bit");
    }
    let page = target(vm)?;
    let gpa = OTHER;
    vm.ept().set(gpa, 1, page.address() | WB | RWX);
    let mut space = paging::AddressSpace::new(false);
    space.set(
        paging::FREE_BASE,
        1,
        gpa | paging::P | paging::W | paging::A | paging::D,
    );
    vm.set(Field::GUEST_CR3, space.root());
    vm.registers.rsi = paging::FREE_BASE + 8;
    let good = vm.ept().get(gpa, level);
    for (code, access) in [(READ, R), (WRITE, W)] {
        vm.ept().set(gpa, level, good & !clear | set);
        vm.invalidate_ept()?;
        vm.code(code);
        let got = vm.enter();
        expect_eq!(
            got.reason(),
            Some(Reason::EPT_MISCONFIGURATION),
            "access {access:#x}, {got:?}"
        )?;
        // The PML4 entry serves all of the guest, whose first fetch meets it.
        if level < 4 {
            expect_eq!(vm.get(Field::GUEST_PHYSICAL_ADDRESS), gpa + 8)?;
        }
        vm.ept().set(gpa, level, good);
        vm.invalidate_ept()?;
        expect_eq!(vm.run(), Entry::DONE, "mended, access {access:#x}")?;
    }
    Ok(())
}

/// Execute-only entries are a misconfiguration where they are not offered.
#[case(spec = "SDM 3C 29.3.3.1", needs("x86.vmx.ept"))]
fn execute_only_follows_the_capability(vm: &mut NestedVm) -> Verdict {
    let page = target(vm)?;
    let gpa = page.address();
    vm.ept().set(gpa, 1, gpa | WB | X);
    vm.code(FETCH);
    let expected = match ept_vpid_capability() & 1 {
        0 => Some(Reason::EPT_MISCONFIGURATION),
        _ => Some(Reason::VMCALL),
    };
    expect_eq!(vm.enter().reason(), expected)
}

/// Low address bits of a large leaf are reserved.
#[case(spec = "SDM 3C 29.3.3.1", needs("x86.vmx.ept_2m"))]
fn low_bits_of_a_large_leaf_are_reserved(vm: &mut NestedVm) -> Verdict {
    let block = Frames::aligned(512, 2 << 20);
    vm.enable_ept()?;
    vm.code(READ);
    vm.registers.rsi = block.address() + 0x1_2345;
    let good = block.address() | WB | RWX | LARGE;
    for bit in 12..21 {
        vm.ept().set(block.address(), 2, good | 1 << bit);
        vm.invalidate_ept()?;
        let got = vm.run().reason();
        expect_eq!(got, Some(Reason::EPT_MISCONFIGURATION), "bit {bit}")?;
    }
    vm.ept().set(block.address(), 2, good);
    vm.invalidate_ept()?;
    expect_eq!(vm.run(), Entry::DONE)
}

/// A large leaf obeys its permissions.
#[case(spec = "SDM 3C 29.3.2", needs("x86.vmx.ept_2m"))]
fn large_leaf_obeys_its_permissions(vm: &mut NestedVm) -> Verdict {
    let block = Frames::aligned(512, 2 << 20);
    vm.enable_ept()?;
    vm.registers.rsi = block.address() + 0x1_2345;
    vm.ept()
        .set(block.address(), 2, block.address() | WB | R | LARGE);
    vm.code(READ);
    expect_eq!(vm.enter(), Entry::DONE, "read")?;
    vm.code(WRITE);
    expect_eq!(
        without_advanced(vm.enter()),
        violation(W | R << 3 | FINAL),
        "write"
    )?;
    expect_eq!(
        vm.get(Field::GUEST_PHYSICAL_ADDRESS),
        block.address() + 0x1_2345
    )
}

/// Ignored bits of a leaf are ignored.
#[case(spec = "SDM 3C 29.3.2", needs("x86.vmx.ept"))]
fn ignored_bits_are_ignored(vm: &mut NestedVm) -> Verdict {
    let page = target(vm)?;
    let gpa = page.address();
    vm.code(WRITE);
    // Bits 57 to 61 and 63 have a meaning with newer controls, which are off.
    for bit in [8, 9, 10, 11, 52, 53, 54, 55, 56, 62, 63] {
        vm.ept().set(gpa, 1, gpa | WB | RWX | 1 << bit);
        vm.invalidate_ept()?;
        expect_eq!(vm.run(), Entry::DONE, "bit {bit}")?;
    }
    Ok(())
}

/// Memory types that exist can be used in a leaf.
#[case(spec = "SDM 3C 29.3.7", needs("x86.vmx.ept"))]
fn memory_types_are_taken(vm: &mut NestedVm) -> Verdict {
    let page = target(vm)?;
    let gpa = page.address();
    vm.code(WRITE);
    for memory_type in [UC, 1 << 3, 4 << 3, 5 << 3, WB] {
        vm.ept().set(gpa, 1, gpa | memory_type | RWX);
        vm.invalidate_ept()?;
        expect_eq!(vm.run(), Entry::DONE, "type {}", memory_type >> 3)?;
    }
    Ok(())
}

/// A violation in the walk of the guest's own page tables is told from one of the access.
#[case(
    spec = "SDM 3C 28.2.1",
    needs("x86.vmx.ept"),
    rows(plain: 0, accessed_dirty: EPTP_AD)
)]
fn violation_in_the_guest_walk_is_reported(vm: &mut NestedVm, row: u64) -> Verdict {
    if row != 0 && ept_vpid_capability() >> 21 & 1 == 0 {
        return skip("x86.vmx.ept_ad");
    }
    let page = target(vm)?;
    vm.set_bits(Field::EPTP, row);
    let mut space = paging::AddressSpace::new(false);
    let linear = paging::FREE_BASE + 0x5000;
    let flags = paging::P | paging::W | paging::A | paging::D;
    space.set(linear, 1, page.address() | flags);
    let slot = space.entry_address(linear, 1);
    vm.set(Field::GUEST_CR3, space.root());
    vm.registers.rsi = linear + 9;
    vm.code(READ);
    let table = slot & !0xfff;
    vm.ept().set(table, 1, 0);
    // With accessed and dirty flags, accesses to guest page tables count as writes.
    let access = if row == 0 { R } else { R | W };
    expect_eq!(without_advanced(vm.enter()), violation(access | 1 << 7))?;
    expect_eq!(vm.get(Field::GUEST_PHYSICAL_ADDRESS), slot)?;
    expect_eq!(vm.get(Field::GUEST_LINEAR_ADDRESS), linear + 9)?;
    vm.ept().set(table, 1, table | WB | RWX);
    vm.invalidate_ept()?;
    expect_eq!(vm.enter(), Entry::DONE)
}

/// A guest page table without write permission stops updates of its accessed and dirty flags.
#[case(spec = "SDM 3C 29.3.3.2", needs("x86.vmx.ept"))]
fn read_only_guest_table_stops_flag_updates(vm: &mut NestedVm) -> Verdict {
    let page = target(vm)?;
    let mut space = paging::AddressSpace::new(false);
    let linear = paging::FREE_BASE + 0x5000;
    let slot = space.entry_address(linear, 1);
    vm.set(Field::GUEST_CR3, space.root());
    vm.registers.rsi = linear;
    let table = slot & !0xfff;
    vm.ept().set(table, 1, table | WB | R);
    let (p, a, d) = (paging::P | paging::W, paging::A, paging::D);
    let stopped = Entry::exited(Reason::EPT_VIOLATION, R | W | R << 3 | 1 << 7);
    for (flags, read, write) in [
        (p, stopped, stopped),
        (p | a, Entry::DONE, stopped),
        (p | a | d, Entry::DONE, Entry::DONE),
    ] {
        for (code, expected) in [(READ, read), (WRITE, write)] {
            space.set(linear, 1, page.address() | flags);
            vm.invalidate_ept()?;
            vm.code(code);
            let mut got = without_advanced(vm.enter());
            // The read bit beside the write bit is the processor's choice for flag updates.
            if let Entry::Exited {
                reason: Reason::EPT_VIOLATION,
                qualification,
            } = got
            {
                got = Entry::exited(Reason::EPT_VIOLATION, qualification | R);
            }
            expect_eq!(got, expected, "flags {flags:#x}, code {:#x}", code[0])?;
        }
    }
    Ok(())
}

/// A guest's own page fault comes before a violation of the page it would reach.
#[case(spec = "SDM 3C 29.3.3.3", needs("x86.vmx.ept"))]
fn guest_page_fault_comes_first(vm: &mut NestedVm) -> Verdict {
    let page = target(vm)?;
    let mut space = paging::AddressSpace::new(false);
    let linear = paging::FREE_BASE + 0x5000;
    space.set(linear, 1, page.address() | paging::P | paging::A);
    vm.set(Field::GUEST_CR3, space.root());
    vm.ept().set(page.address(), 1, 0);
    vm.registers.rsi = linear;
    vm.code(WRITE);
    let fault = Entry::exited(Reason::EXCEPTION_OR_NMI, linear);
    expect_eq!(vm.enter(), fault, "a write to a read-only page")?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0b0e)?;
    vm.code(READ);
    expect_eq!(without_advanced(vm.enter()), violation(R | FINAL), "a read")
}

/// Accessed and dirty flags are set by reads and writes, and only when EPTP asks for them.
#[case(spec = "SDM 3C 29.3.5", needs("x86.vmx.ept_ad"))]
fn accessed_and_dirty_flags_are_set(vm: &mut NestedVm) -> Verdict {
    let page = target(vm)?;
    let gpa = page.address();
    let clean = gpa | WB | RWX;
    for (eptp, code, expected) in [
        (0, WRITE, 0),
        (EPTP_AD, READ, A),
        (EPTP_AD, WRITE, A | D),
        (EPTP_AD, FETCH, A),
    ] {
        vm.ept().set(gpa, 1, clean);
        let pointer = vm.ept().pointer();
        vm.set(Field::EPTP, pointer | eptp);
        vm.invalidate_ept()?;
        vm.code(code);
        expect_eq!(vm.enter(), Entry::DONE)?;
        let flags = vm.ept().get(gpa, 1) & (A | D);
        expect_eq!(flags, expected, "EPTP {eptp:#x}, code {:#x}", code[0])?;
    }
    let upper = vm.ept().get(gpa, 2) & (A | D);
    expect_eq!(upper & A, A, "accessed in the level above")
}

/// With accessed and dirty flags, a walk of guest page tables makes their pages dirty.
#[case(spec = "SDM 3C 29.3.5", needs("x86.vmx.ept_ad"))]
fn guest_walk_makes_tables_dirty(vm: &mut NestedVm) -> Verdict {
    let page = target(vm)?;
    vm.set_bits(Field::EPTP, EPTP_AD);
    let mut space = paging::AddressSpace::new(false);
    let linear = paging::FREE_BASE + 0x5000;
    let flags = paging::P | paging::W | paging::A | paging::D;
    space.set(linear, 1, page.address() | flags);
    let table = space.entry_address(linear, 1) & !0xfff;
    vm.set(Field::GUEST_CR3, space.root());
    vm.ept().set(table, 1, table | WB | RWX);
    vm.registers.rsi = linear;
    vm.code(READ);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.ept().get(table, 1) & (A | D), A | D)
}

/// INVEPT: good types succeed, others fail with number 28.
#[case(spec = "SDM 3C 31.3 INVEPT", needs("x86.vmx.invept"))]
fn invept_checks_its_type(vm: &mut NestedVm) -> Verdict {
    use guest_lib::arch::vmx::instructions::{VmFail, invept};
    let eptp = vm.enable_ept()?.pointer();
    let cap = ept_vpid_capability();
    for kind in [0u64, 1, 2, 3, 4, 0x8000_0000, 1 << 32 | 1, u64::MAX] {
        let offered = kind == 1 && cap >> 25 & 1 != 0 || kind == 2 && cap >> 26 & 1 != 0;
        let expected = if offered {
            Ok(())
        } else {
            Err(VmFail::Valid(28))
        };
        expect_eq!(invept(kind, [eptp, 0]), expected, "type {kind:#x}")?;
    }
    Ok(())
}

/// INVEPT of a single context refuses an EPTP that no entry would take.
#[case(spec = "SDM 3C 31.3 INVEPT", needs("x86.vmx.invept"))]
fn invept_checks_its_eptp(vm: &mut NestedVm) -> Verdict {
    use guest_lib::arch::vmx::instructions::{VmFail, invept};
    if ept_vpid_capability() >> 25 & 1 == 0 {
        return skip("x86.vmx.invept");
    }
    let eptp = vm.enable_ept()?.pointer();
    for bad in [eptp & !7 | 2, eptp & !0x38, eptp | 1 << 11, eptp | 1 << 63] {
        expect_eq!(invept(1, [bad, 0]), Err(VmFail::Valid(28)), "EPTP {bad:#x}")?;
    }
    expect_eq!(invept(1, [eptp, 0]), Ok(()))
}

/// INVVPID: types, VPID 0, reserved bits and addresses.
#[case(spec = "SDM 3C 31.3 INVVPID", needs("x86.vmx.invvpid"))]
fn invvpid_checks_its_operands(vm: &mut NestedVm) -> Verdict {
    use guest_lib::arch::vmx::instructions::{VmFail, invvpid};
    let refused = Err(VmFail::Valid(28));
    let cap = ept_vpid_capability();
    expect_eq!(vm.run(), Entry::DONE)?;
    for kind in 0..8u64 {
        let offered = kind < 4 && cap >> (40 + kind) & 1 != 0;
        let expected = if offered { Ok(()) } else { refused };
        expect_eq!(invvpid(kind, [1, 0x1000]), expected, "type {kind}")?;
        if !offered {
            continue;
        }
        if kind != 2 {
            expect_eq!(invvpid(kind, [0, 0x1000]), refused, "type {kind}, VPID 0")?;
        }
        for bit in 16..64 {
            expect_eq!(
                invvpid(kind, [1 | 1 << bit, 0]),
                refused,
                "type {kind}, bit {bit}"
            )?;
        }
        let expected = if kind == 0 { refused } else { Ok(()) };
        expect_eq!(
            invvpid(kind, [1, 1 << 63]),
            expected,
            "type {kind}, not canonical"
        )?;
    }
    Ok(())
}

/// INVEPT and INVVPID raise #PF for a descriptor that is not mapped, #GP for one not canonical.
#[case(spec = "SDM 3C 31.3", needs("x86.vmx.invept"), rows(invept: false, invvpid: true))]
fn invalidation_descriptor_may_fault(vm: &mut NestedVm, row: bool) -> Verdict {
    use guest_lib::arch::vmx::instructions::{VmFail, VmResult, invept_at, invvpid_at};
    if row && ept_vpid_capability() >> 32 & 1 == 0 {
        return skip("x86.vmx.invvpid");
    }
    let call: fn(u64, u64) -> VmResult = if row { invvpid_at } else { invept_at };
    expect_eq!(vm.run(), Entry::DONE)?;
    let unmapped = call(2, paging::FREE_BASE);
    expect_eq!(unmapped, Err(VmFail::Fault(Fault::pf(0))), "not mapped")?;
    let wild = call(2, 1 << 63);
    expect_eq!(wild, Err(VmFail::Fault(Fault::GP0)), "not canonical")
}

/// PML logs a page that becomes dirty: its address, once, from the last slot down.
#[case(spec = "SDM 3C 29.3.6", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn pml_logs_writes(vm: &mut NestedVm) -> Verdict {
    let page = target(vm)?;
    let gpa = page.address();
    let log = Frames::new(1);
    vm.set_bits(Field::EPTP, EPTP_AD);
    vm.enable(controls::PML)?;
    vm.set(Field::PML_ADDRESS, log.address());
    let logged = |vm: &NestedVm, log: &Frames| -> Vec<u64> {
        (vm.get(Field::PML_INDEX) as usize + 1..512)
            .map(|i| log.read(8 * i))
            .collect()
    };
    vm.ept().set(gpa, 1, gpa | WB | RWX);
    for (code, expected) in [(READ, 0), (WRITE, 1), (WRITE, 0)] {
        vm.set(Field::PML_INDEX, 511);
        vm.invalidate_ept()?;
        vm.code(code);
        expect_eq!(vm.enter(), Entry::DONE)?;
        let entries = logged(vm, &log);
        // Other pages that the guest makes dirty, its stack and tables, may be there too.
        let count = entries.iter().filter(|&&e| e & !0xfff == gpa).count();
        expect_eq!(count, expected, "code {:#x}: {entries:x?}", code[0])?;
        let aligned = entries.iter().all(|e| e & 0xfff == 0);
        expect!(aligned, "bits 11:0 are 0: {entries:x?}")?;
    }
    Ok(())
}

/// A full PML log exits before the write.
#[case(spec = "SDM 3C 29.3.6", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn full_pml_log_exits(vm: &mut NestedVm) -> Verdict {
    let page = target(vm)?;
    let gpa = page.address();
    let log = Frames::new(1);
    vm.code(READ);
    vm.set_bits(Field::EPTP, EPTP_AD);
    expect_eq!(vm.enter(), Entry::DONE, "the tables are dirty now")?;
    vm.enable(controls::PML)?;
    vm.set(Field::PML_ADDRESS, log.address());
    vm.set(Field::PML_INDEX, 0xffff);
    vm.ept().set(gpa, 1, gpa | WB | RWX);
    vm.invalidate_ept()?;
    vm.registers.rax = 0x77;
    vm.code(WRITE);
    let got = vm.enter();
    expect_eq!(got.reason(), Some(Reason::PML_FULL), "{got:?}")?;
    expect_eq!(page.read::<u8>(0x234), 0xc3, "not written")?;
    vm.set(Field::PML_INDEX, 511);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(page.read::<u8>(0x234), 0x77, "written")
}

/// VMFUNC 0 switches EPTP by index; a bad index or function exits; without the control it is #UD.
#[case(spec = "SDM 3C 26.5.5.3 VMFUNC", needs("x86.vmx.eptp_switching"))]
fn vmfunc_switches_eptp(vm: &mut NestedVm) -> Verdict {
    let (a, b, list) = (Frames::new(1), Frames::new(1), Frames::new(1));
    a.write(0, 0xaau8);
    b.write(0, 0xbbu8);
    let mut other = vmx::ept::Ept::identity();
    other.set(a.address(), 1, b.address() | WB | RWX);
    let first = vm.enable_ept()?.pointer();
    list.write(0, first);
    list.write(8, other.pointer());
    // vmfunc; mov al, [rsi]
    vm.code(&[0x0f, 0x01, 0xd4, 0x8a, 0x06]);
    vm.registers.rsi = a.address();
    vm.registers.rax = 0;
    vm.registers.rcx = 1;
    expect_eq!(
        vm.enter(),
        Entry::exited(Reason::EXCEPTION_OR_NMI, 0),
        "control off"
    )?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0306)?;
    vm.enable(controls::VM_FUNCTIONS)?;
    vm.set(Field::VM_FUNCTION_CONTROLS, 1);
    vm.set(Field::EPTP_LIST_ADDRESS, list.address());
    expect_eq!(vm.run(), Entry::DONE, "index 1")?;
    expect_eq!(vm.registers.rax & 0xff, 0xbb, "through the other tables")?;
    expect_eq!(vm.get(Field::EPTP), other.pointer(), "EPTP")?;
    let exit = Entry::exited(Reason::VMFUNC, 0);
    for (function, index) in [(0u64, 2u64), (0, 512), (1, 0), (63, 0)] {
        vm.registers.rax = function;
        vm.registers.rcx = index;
        expect_eq!(vm.run(), exit, "function {function}, index {index}")?;
    }
    vm.registers.rax = 64;
    expect_eq!(
        vm.run(),
        Entry::exited(Reason::EXCEPTION_OR_NMI, 0),
        "function 64"
    )?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0306)
}
