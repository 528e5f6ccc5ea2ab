//! Dirty logging by the bits of nested page tables. Spec: APM 2 15.25.5.
//!
//! SVM has no log of its own: a host that wants to know what its guest wrote clears the dirty bits,
//! flushes, lets the guest run and looks again. A bit that stays clear after a write is a page that a
//! migration loses; one that comes without a write is only slow, but a processor sets it for writes
//! and walks alone.

use guest_lib::arch::cpu;
use guest_lib::arch::paging::{A, AddressSpace, D, FREE_BASE, P, PS, U, W};
use guest_lib::arch::svm::{Entry, NestedVm, field, l2};
use guest_lib::memory::{FRAME, Frames};
use guest_lib::prelude::*;

const LINEAR: u64 = FREE_BASE + 0x7000;
const ALL: u64 = P | W | U;

/// Two neighbouring pages at their own addresses, with clean nested entries.
fn pair(vm: &mut NestedVm) -> Frames {
    let pages = Frames::new(2);
    vm.nest_paging();
    clean(vm, &pages);
    pages
}

fn clean(vm: &mut NestedVm, pages: &Frames) {
    for page in (pages.address()..).step_by(FRAME).take(pages.len() / FRAME) {
        vm.npt().set(page, 1, page | ALL);
    }
}

/// Compares the accessed and dirty bits of the nested leaves of `pages`. A processor may look ahead, so
/// an accessed bit too many is no mistake; a dirty bit is.
fn expect_bits(vm: &mut NestedVm, pages: &Frames, expected: &[u64], when: &str) -> Verdict {
    for (i, expected) in expected.iter().enumerate() {
        let got = vm.npt().get(pages.address() + (i * FRAME) as u64, 1);
        expect_eq!(got & (D | expected), *expected, "page {i}{when}")?;
    }
    Ok(())
}

/// Code that touches memory at RDI (and RSI), where RDI points to in the first page, and the bits that
/// the two pages have afterwards.
type Access = (&'static [u8], u64, [u64; 2]);

const NONE: u64 = 0;
const READ: u64 = A;
const WRITTEN: u64 = A | D;

/// Each way to touch memory sets the bits of the pages it touches, and of no other.
#[case(
    spec = "APM 2 15.25.5",
    needs("x86.svm.npt"),
    rows(
        // mov rax,[rdi]
        load: (&[0x48, 0x8b, 0x07], 0x10, [READ, NONE]),
        // mov rax,[rdi], across the border
        spanning_load: (&[0x48, 0x8b, 0x07], 0xffc, [READ, READ]),
        // call rdi
        fetch: (&[0xff, 0xd7], 0x10, [READ, NONE]),
        // mov [rdi],al
        store: (&[0x88, 0x07], 0x10, [WRITTEN, NONE]),
        // mov [rdi],rax
        spanning_store: (&[0x48, 0x89, 0x07], 0xffc, [WRITTEN, WRITTEN]),
        // mov byte [rdi],0c3h: what is there already
        store_of_the_same_value: (&[0xc6, 0x07, 0xc3], 0x10, [WRITTEN, NONE]),
        // movups [rdi],xmm0
        spanning_vector_store: (&[0x0f, 0x11, 0x07], 0xff8, [WRITTEN, WRITTEN]),
        // fxsave64 [rdi]: 512 bytes, to the end of the page
        fxsave: (&[0x48, 0x0f, 0xae, 0x07], 0xe00, [WRITTEN, NONE]),
        // mov rsp,rdi; push rax: the eight bytes below
        push: (&[0x48, 0x89, 0xfc, 0x50], 0x1000, [WRITTEN, NONE]),
        // mov rsp,rdi; call to the next instruction
        call: (&[0x48, 0x89, 0xfc, 0xe8, 0, 0, 0, 0], 0x1000, [WRITTEN, NONE]),
        // lock add byte [rdi],1
        locked_add: (&[0xf0, 0x80, 0x07, 0x01], 0x10, [WRITTEN, NONE]),
        // xor eax,eax; lock cmpxchg [rdi],cl: the comparison fails, and the old value is written back
        failing_locked_compare_and_exchange:
            (&[0x31, 0xc0, 0xf0, 0x0f, 0xb0, 0x0f], 0x10, [WRITTEN, NONE]),
        // xchg [rdi],al
        exchange: (&[0x86, 0x07], 0x10, [WRITTEN, NONE]),
        // mov ecx,0x20; rep stosb
        string_store_across: (&[0xb9, 0x20, 0, 0, 0, 0xf3, 0xaa], 0xff0, [WRITTEN, WRITTEN]),
        // lea rsi,[rdi-0x20]; mov ecx,0x10; rep movsb: from the first page to the second
        string_move: (
            &[0x48, 0x8d, 0x77, 0xe0, 0xb9, 0x10, 0, 0, 0, 0xf3, 0xa4],
            0x1000,
            [READ, WRITTEN]
        ),
        // xor ecx,ecx; rep stosb: nothing
        empty_string_store: (&[0x31, 0xc9, 0xf3, 0xaa], 0x10, [NONE, NONE]),
        // mov edx,0x80; insb
        string_input: (&[0xba, 0x80, 0, 0, 0, 0x6c], 0x10, [WRITTEN, NONE]),
        // sidt [rdi]
        descriptor_table_store: (&[0x0f, 0x01, 0x0f], 0x10, [WRITTEN, NONE]),
    )
)]
fn access_sets_its_bits(vm: &mut NestedVm, row: Access) -> Verdict {
    let (code, offset, expected) = row;
    let mut pages = pair(vm);
    pages.bytes_mut().fill(0xc3);
    vm.load_bytes(code);
    vm.gprs.rdi = pages.address() + offset;
    vm.vmcb.set(field::RAX, 0xc3c3_c3c3_c3c3_c3c3);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_bits(vm, &pages, &expected, "")
}

/// Both bits come again after they were cleared and the guest's translations flushed, as often as that
/// is done.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"))]
fn cleared_bits_are_set_again(vm: &mut NestedVm) -> Verdict {
    let pages = pair(vm);
    let (first, second) = (pages.address(), pages.address() + 0x1000);
    for round in 0..8u8 {
        let entry = vm.run(move || {
            cpu::poke_raw(first, round);
            l2::tell(0, cpu::peek_raw(second));
        });
        expect_eq!(entry, Entry::VMMCALL)?;
        expect_bits(vm, &pages, &[WRITTEN, READ], ", touched")?;
        clean(vm, &pages);
        expect_eq!(vm.run(|| ()), Entry::VMMCALL)?;
        expect_bits(vm, &pages, &[NONE, NONE], ", left alone")?;
    }
    Ok(())
}

/// A 2 MiB nested page has the bits in its own entry: dirty by any write to its 512 pages, not by reads.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"))]
fn large_page_has_bits_of_its_own(vm: &mut NestedVm) -> Verdict {
    let block = Frames::aligned(512, 2 << 20);
    let start = block.address();
    vm.nest_paging();
    for offset in [0u64, 0x12_3456, 0x1f_ffff] {
        let place = start + offset;
        vm.npt().set(start, 2, start | ALL | PS);
        let read = vm.run(move || l2::tell(0, cpu::peek_raw(place)));
        expect_eq!(read, Entry::VMMCALL)?;
        expect_eq!(vm.npt().get(start, 2) & (A | D), A, "{offset:#x}, read")?;
        let written = vm.run(move || {
            cpu::poke_raw(place, 1);
        });
        expect_eq!(written, Entry::VMMCALL)?;
        let got = vm.npt().get(start, 2);
        expect_eq!(got, start | ALL | PS | A | D, "{offset:#x}, written")?;
    }
    Ok(())
}

/// One page at two guest-physical addresses: the dirty bit tells by which it was written.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"))]
fn alias_that_was_written_is_dirty(vm: &mut NestedVm) -> Verdict {
    let aliases = pair(vm);
    let real = Frames::new(1);
    let places = [aliases.address(), aliases.address() + 0x1000];
    for (written, expected) in [(0, [WRITTEN, READ]), (1, [READ, WRITTEN])] {
        for place in places {
            vm.npt().set(place, 1, real.address() | ALL);
        }
        vm.npt().update(real.address(), 1, |entry| entry & !(A | D));
        let (write, read) = (places[written], places[1 - written]);
        let value = 0x40 + written as u8;
        let entry = vm.run(move || {
            cpu::poke_raw(write, value);
            l2::tell(0, cpu::peek_raw(read));
        });
        expect_eq!(entry, Entry::VMMCALL)?;
        expect_eq!(vm.told(0), u64::from(value), "both are the same page")?;
        expect_bits(vm, &aliases, &expected, " of the aliases")?;
        expect_bits(vm, &real, &[NONE], " by its own address")?;
    }
    Ok(())
}

/// A walk of the guest's own tables makes their pages dirty even where it has no bit to set in them.
#[case(
    spec = "APM 2 15.25.5",
    needs("x86.svm.npt"),
    rows(clean: 0, accessed: A, accessed_and_dirty: A | D)
)]
fn walk_counts_as_a_write(vm: &mut NestedVm, row: u64) -> Verdict {
    let page = Frames::new(1);
    let mut space = AddressSpace::new(false);
    space.set(LINEAR, 1, page.address() | P | W | row);
    let tables = [1, 2, 3].map(|level| space.entry_address(LINEAR, level) & !0xfff);
    for level in 2..=4 {
        let entry = space.get(LINEAR, level);
        space.set(LINEAR, level, entry & !A | row & A);
    }
    vm.vmcb.set(field::CR3, space.root());
    vm.nest_paging();
    for page in tables.into_iter().chain([page.address()]) {
        vm.npt().set(page, 1, page | ALL);
    }
    let entry = vm.run(|| l2::tell(0, 1 + cpu::peek_raw(LINEAR)));
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)?;
    for (level, table) in (1..).zip(tables) {
        let got = vm.npt().get(table, 1) & (A | D);
        expect_eq!(got, A | D, "the guest's table of level {level}")?;
    }
    // Control: the page that was only read.
    expect_eq!(vm.npt().get(page.address(), 1) & D, 0, "the page itself")
}

/// Pages of the log case.
const PAGES: usize = 64;

/// Round after round, the dirty bits name exactly the pages that the guest wrote, at their guest-physical
/// addresses, which are not the host's.
#[case(spec = "APM 2 15.25.5", needs("x86.svm.npt"), rows(writes_alone: false, among_reads: true))]
fn log_names_exactly_the_written_pages(vm: &mut NestedVm, row: bool) -> Verdict {
    let (shown, real) = (Frames::new(PAGES), Frames::new(PAGES));
    let start = shown.address();
    vm.nest_paging();
    let mut random = 0x2545_f491_4f6c_dd1du64;
    for round in 1..=40u64 {
        // Xorshift: every round another set.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        for page in 0..PAGES as u64 {
            let entry = (real.address() + page * 0x1000) | ALL;
            vm.npt().set(start + page * 0x1000, 1, entry);
        }
        let set = random;
        let entry = vm.run(move || {
            for page in 0..PAGES as u64 {
                let place = start + page * 0x1000 + round * 8;
                if set >> page & 1 != 0 {
                    cpu::poke_raw(place, round as u8);
                } else if row {
                    l2::tell(0, cpu::peek_raw(place));
                }
            }
        });
        expect_eq!(entry, Entry::VMMCALL)?;
        let mut dirty = 0;
        let mut held = 0;
        for page in 0..PAGES {
            let entry = vm.npt().get(start + page as u64 * 0x1000, 1);
            dirty |= u64::from(entry & D != 0) << page;
            let byte: u8 = real.read(page * FRAME + 8 * round as usize);
            held |= u64::from(byte != 0) << page;
        }
        expect_eq!(held, set, "round {round}: what was written")?;
        expect_eq!(dirty, set, "round {round}: what is dirty")?;
    }
    let stray = shown.bytes().iter().any(|byte| *byte != 0);
    expect!(
        !stray,
        "a page of the host's at the guest's address was written"
    )
}
