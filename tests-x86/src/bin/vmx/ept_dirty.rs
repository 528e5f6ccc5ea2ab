//! Dirty logging by EPT: accessed and dirty flags, and the page-modification log. Spec: SDM 3C 29.3.5,
//! 29.3.6.
//!
//! A host learns what its guest wrote from flags that the processor sets, or from a log that it
//! fills. What is missing there is lost in a migration. A hypervisor that nests keeps a log of its
//! own by the same means, and has to serve both levels from one bit.

use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::ept::{A, D, EPTP_AD, LARGE, R, RWX, W, WB};
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::{cpu, paging};
use guest_lib::memory::{FRAME, Frames};
use guest_lib::prelude::*;

const CLEAN: u64 = WB | RWX;
const LINEAR: u64 = paging::FREE_BASE + 0x7000;

/// A guest on EPT with accessed and dirty flags.
fn flagged(vm: &mut NestedVm) -> Verdict {
    vm.enable_ept()?;
    vm.set_bits(Field::EPTP, EPTP_AD);
    Ok(())
}

/// Pages at their own addresses, without flags.
fn clean(vm: &mut NestedVm, pages: &Frames) -> Verdict {
    for page in (pages.address()..).step_by(FRAME).take(pages.len() / FRAME) {
        vm.ept().set(page, 1, page | CLEAN);
    }
    vm.invalidate_ept()
}

/// Compares the flags of the leaves of `pages`. A processor may look ahead, so an accessed flag too many
/// is no mistake; a dirty flag is.
fn expect_flags(vm: &mut NestedVm, pages: &Frames, expected: &[u64], when: &str) -> Verdict {
    for (i, expected) in expected.iter().enumerate() {
        let got = vm.ept().get(pages.address() + (i * FRAME) as u64, 1);
        expect_eq!(got & (D | expected), *expected, "page {i}{when}")?;
    }
    Ok(())
}

/// Code that touches memory at RDI, where RDI points to in the first page, and the flags that the two
/// pages have afterwards.
type Access = (&'static [u8], u64, [u64; 2]);

const NONE: u64 = 0;
const READ: u64 = A;
const WRITTEN: u64 = A | D;

/// Each way to touch memory sets the flags of the pages it touches, and of no other.
#[case(
    spec = "SDM 3C 29.3.5",
    needs("x86.vmx.ept_ad"),
    rows(
        // mov rax,[rdi], across the border
        spanning_load: (&[0x48, 0x8b, 0x07], 0xffc, [READ, READ]),
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
        // lock add byte [rdi],1
        locked_add: (&[0xf0, 0x80, 0x07, 0x01], 0x10, [WRITTEN, NONE]),
        // xor eax,eax; lock cmpxchg [rdi],cl: the comparison fails, and the old value is written back
        failing_locked_compare_and_exchange:
            (&[0x31, 0xc0, 0xf0, 0x0f, 0xb0, 0x0f], 0x10, [WRITTEN, NONE]),
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
fn access_sets_its_flags(vm: &mut NestedVm, row: Access) -> Verdict {
    let (code, offset, expected) = row;
    flagged(vm)?;
    let mut pages = Frames::new(2);
    pages.bytes_mut().fill(0xc3);
    clean(vm, &pages)?;
    vm.code(code);
    vm.registers.rdi = pages.address() + offset;
    vm.registers.rax = 0xc3c3_c3c3_c3c3_c3c3;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_flags(vm, &pages, &expected, "")
}

/// The guest writes one byte at RDI, and reads one at RSI.
const WRITE_AND_READ: &[u8] = &[0x88, 0x07, 0x8a, 0x0e];

/// Both flags come again after they were cleared and INVEPT, as often as that is done.
#[case(spec = "SDM 3C 29.3.5", needs("x86.vmx.ept_ad"))]
fn cleared_flags_are_set_again(vm: &mut NestedVm) -> Verdict {
    flagged(vm)?;
    let pages = Frames::new(2);
    vm.registers.rdi = pages.address();
    vm.registers.rsi = pages.address() + 0x1000;
    for _ in 0..8 {
        clean(vm, &pages)?;
        vm.code(WRITE_AND_READ);
        expect_eq!(vm.enter(), Entry::DONE)?;
        expect_flags(vm, &pages, &[WRITTEN, READ], ", touched")?;
        clean(vm, &pages)?;
        vm.code(&[]);
        expect_eq!(vm.enter(), Entry::DONE)?;
        expect_flags(vm, &pages, &[NONE, NONE], ", left alone")?;
    }
    Ok(())
}

/// The entries above a page are accessed, at every level, and none of them is dirty.
#[case(spec = "SDM 3C 29.3.5", needs("x86.vmx.ept_ad"))]
fn upper_levels_are_accessed(vm: &mut NestedVm) -> Verdict {
    flagged(vm)?;
    let page = Frames::new(1);
    clean(vm, &page)?;
    vm.code(WRITE_AND_READ);
    vm.registers.rdi = page.address();
    vm.registers.rsi = page.address();
    for level in 2..=4 {
        let entry = vm.ept().get(page.address(), level);
        vm.ept().set(page.address(), level, entry & !(A | D));
    }
    vm.invalidate_ept()?;
    expect_eq!(vm.enter(), Entry::DONE)?;
    for level in 2..=4 {
        let flags = vm.ept().get(page.address(), level) & (A | D);
        expect_eq!(flags, A, "level {level}")?;
    }
    expect_flags(vm, &page, &[WRITTEN], "")
}

/// A 2 MiB leaf has the flags in its own entry: dirty by any write to its 512 pages, not by reads.
#[case(spec = "SDM 3C 29.3.5", needs("x86.vmx.ept_ad", "x86.vmx.ept_2m"))]
fn large_leaf_has_flags_of_its_own(vm: &mut NestedVm) -> Verdict {
    flagged(vm)?;
    let block = Frames::aligned(512, 2 << 20);
    let start = block.address();
    let leaf = start | CLEAN | LARGE;
    for offset in [0u64, 0x12_3456, 0x1f_ffff] {
        vm.registers.rsi = start + offset;
        vm.registers.rdi = start + offset;
        vm.ept().set(start, 2, leaf);
        vm.invalidate_ept()?;
        vm.code(&WRITE_AND_READ[2..]);
        expect_eq!(vm.enter(), Entry::DONE)?;
        expect_eq!(vm.ept().get(start, 2), leaf | A, "{offset:#x}, read")?;
        vm.code(&WRITE_AND_READ[..2]);
        expect_eq!(vm.enter(), Entry::DONE)?;
        expect_eq!(vm.ept().get(start, 2), leaf | A | D, "{offset:#x}, written")?;
    }
    Ok(())
}

/// One page at two guest-physical addresses: the dirty flag tells by which it was written.
#[case(spec = "SDM 3C 29.3.5", needs("x86.vmx.ept_ad"))]
fn alias_that_was_written_is_dirty(vm: &mut NestedVm) -> Verdict {
    flagged(vm)?;
    let (aliases, real) = (Frames::new(2), Frames::new(1));
    let places = [aliases.address(), aliases.address() + 0x1000];
    vm.code(WRITE_AND_READ);
    for (written, expected) in [(0, [WRITTEN, READ]), (1, [READ, WRITTEN])] {
        clean(vm, &real)?;
        for place in places {
            vm.ept().set(place, 1, real.address() | CLEAN);
        }
        vm.invalidate_ept()?;
        vm.registers.rdi = places[written];
        vm.registers.rsi = places[1 - written];
        vm.registers.rax = 0x40 + written as u64;
        expect_eq!(vm.run(), Entry::DONE)?;
        let read = vm.registers.rcx & 0xff;
        expect_eq!(read, 0x40 + written as u64, "both are the same page")?;
        expect_flags(vm, &aliases, &expected, " of the aliases")?;
        expect_flags(vm, &real, &[NONE], " by its own address")?;
    }
    Ok(())
}

/// A write that the leaf forbids leaves the page clean.
#[case(spec = "SDM 3C 29.3.5", needs("x86.vmx.ept_ad"))]
fn refused_write_leaves_the_page_clean(vm: &mut NestedVm) -> Verdict {
    flagged(vm)?;
    let page = Frames::new(1);
    let gpa = page.address();
    vm.ept().set(gpa, 1, gpa | WB | R);
    vm.invalidate_ept()?;
    vm.code(&WRITE_AND_READ[..2]);
    vm.registers.rdi = gpa;
    vm.registers.rax = 0x55;
    let got = vm.enter().reason();
    expect_eq!(got, Some(Reason::EPT_VIOLATION))?;
    expect_eq!(vm.ept().get(gpa, 1) & D, 0, "refused")?;
    vm.ept().set(gpa, 1, gpa | WB | R | W);
    vm.invalidate_ept()?;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.ept().get(gpa, 1) & D, D, "allowed")?;
    expect_eq!(page.read::<u8>(0), 0x55)
}

/// A guest that walks tables of its own to [`LINEAR`], where `page` is; the tables' pages, by level.
fn own_tables(vm: &mut NestedVm, page: &Frames, flags: u64) -> (paging::AddressSpace, [u64; 3]) {
    let mut space = paging::AddressSpace::new(false);
    space.set(LINEAR, 1, page.address() | paging::P | paging::W | flags);
    for level in 2..=4 {
        let entry = space.get(LINEAR, level);
        space.set(LINEAR, level, entry & !paging::A | flags & paging::A);
    }
    vm.set(Field::GUEST_CR3, space.root());
    let tables = [1, 2, 3].map(|level| space.entry_address(LINEAR, level) & !0xfff);
    (space, tables)
}

/// A walk of the guest's own tables makes their pages dirty even where it has no flag to set in them.
#[case(
    spec = "SDM 3C 29.3.5",
    needs("x86.vmx.ept_ad"),
    rows(clean: 0, accessed: paging::A, accessed_and_dirty: paging::A | paging::D)
)]
fn walk_counts_as_a_write(vm: &mut NestedVm, row: u64) -> Verdict {
    flagged(vm)?;
    let page = Frames::new(1);
    let (_space, tables) = own_tables(vm, &page, row);
    clean(vm, &page)?;
    for table in tables {
        vm.ept().set(table, 1, table | CLEAN);
    }
    vm.invalidate_ept()?;
    vm.code(&WRITE_AND_READ[2..]);
    vm.registers.rsi = LINEAR;
    expect_eq!(vm.enter(), Entry::DONE)?;
    for (level, table) in (1..).zip(tables) {
        let got = vm.ept().get(table, 1) & (A | D);
        expect_eq!(got, A | D, "the guest's table of level {level}")?;
    }
    expect_flags(vm, &page, &[READ], ", which was only read")
}

/// What fills the slots of a log that nothing was logged to.
const UNUSED: u64 = 0x5a5a_5a5a_5a5a_5000;

/// A guest with a page-modification log. It has run its code once, so that what it needs besides the
/// pages of the case is dirty already.
struct Logging {
    pages: Frames,
    log: Frames,
    start: u16,
}

impl Logging {
    /// `code` finds the pages in RDI, RSI and RBX.
    fn new(vm: &mut NestedVm, code: &[u8], start: u16) -> Result<Self, Stop> {
        flagged(vm)?;
        let pages = Frames::new(3);
        clean(vm, &pages)?;
        vm.code(code);
        vm.registers.rdi = pages.address();
        vm.registers.rsi = pages.address() + 0x1000;
        vm.registers.rbx = pages.address() + 0x2000;
        expect_eq!(vm.run(), Entry::DONE, "without a log")?;
        let mut logging = Logging {
            pages,
            log: Frames::new(1),
            start,
        };
        vm.enable(controls::PML)?;
        vm.set(Field::PML_ADDRESS, logging.log.address());
        logging.restart(vm, start)?;
        Ok(logging)
    }

    /// Empties the log, cleans the pages, and rewinds the guest.
    fn restart(&mut self, vm: &mut NestedVm, start: u16) -> Verdict {
        for slot in 0..512 {
            self.log.write(8 * slot, UNUSED);
        }
        self.pages.bytes_mut().fill(0);
        self.start = start;
        vm.set(Field::PML_INDEX, u64::from(start));
        clean(vm, &self.pages)?;
        vm.rewind();
        Ok(())
    }

    fn page(&self, i: u64) -> u64 {
        self.pages.address() + i * 0x1000
    }

    /// What was logged, in its order. A slot that the index passed and nobody wrote shows as unused.
    fn logged(&self, vm: &NestedVm) -> Vec<u64> {
        let index = vm.get(Field::PML_INDEX) as u16;
        let count = self.start.wrapping_sub(index).min(512);
        let slots = (0..count).map(|i| self.start.wrapping_sub(i));
        slots.map(|i| self.slot(i)).collect()
    }

    fn slot(&self, slot: u16) -> u64 {
        self.log.read(8 * usize::from(slot & 511))
    }

    /// How many slots hold something.
    fn used(&self) -> usize {
        (0..512).filter(|&slot| self.slot(slot) != UNUSED).count()
    }
}

/// mov [rdi],al; mov [rsi],al; mov [rbx],al
const THREE_WRITES: &[u8] = &[0x88, 0x07, 0x88, 0x06, 0x88, 0x03];

/// Pages are logged in the order in which they become dirty, each in the slot of the index, which goes
/// down; other slots keep what they hold.
#[case(
    spec = "SDM 3C 29.3.6",
    needs("x86.vmx.pml", "x86.vmx.ept_ad"),
    rows(first_slot: 511, middle: 256, last_three: 2)
)]
fn pml_goes_down_from_the_index(vm: &mut NestedVm, row: u16) -> Verdict {
    let logging = Logging::new(vm, THREE_WRITES, row)?;
    expect_eq!(vm.enter(), Entry::DONE)?;
    let expected: Vec<u64> = (0..3).map(|i| logging.page(i)).collect();
    expect_eq!(logging.logged(vm), expected)?;
    let index = row.wrapping_sub(3);
    expect_eq!(vm.get(Field::PML_INDEX), u64::from(index), "the index")?;
    expect_eq!(logging.used(), 3, "slots in use")
}

/// The index wraps below 0, and the next page exits before its write; with room in the log it goes on.
#[case(spec = "SDM 3C 29.3.6", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn pml_exits_when_the_index_has_wrapped(vm: &mut NestedVm) -> Verdict {
    let mut logging = Logging::new(vm, THREE_WRITES, 1)?;
    vm.registers.rax = 0x99;
    expect_eq!(vm.enter(), Entry::exited(Reason::PML_FULL, 0))?;
    expect_eq!(vm.offset(), 4, "at the third write")?;
    expect_eq!(vm.get(Field::PML_INDEX), 0xffff, "the index")?;
    expect_eq!(logging.logged(vm), [logging.page(0), logging.page(1)])?;
    expect_eq!(logging.used(), 2, "slots in use")?;
    let written = [0, 1, 2].map(|i| logging.pages.read::<u8>(i * FRAME));
    expect_eq!(written, [0x99, 0x99, 0], "what was written")?;
    expect_flags(vm, &logging.pages, &[WRITTEN, WRITTEN, NONE], "")?;
    logging.start = 511;
    vm.set(Field::PML_INDEX, 511);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(logging.logged(vm), [logging.page(2)], "with room")?;
    expect_eq!(logging.pages.read::<u8>(2 * FRAME), 0x99)
}

/// With an index beyond the log nothing is logged or written; an index in it is taken.
#[case(
    spec = "SDM 3C 29.3.6",
    needs("x86.vmx.pml", "x86.vmx.ept_ad"),
    rows(one_beyond: 512, bit_15: 0x8000, bit_15_and_slot: 0x8003, all_ones: 0xffff)
)]
fn pml_index_beyond_the_log_exits(vm: &mut NestedVm, row: u16) -> Verdict {
    let mut logging = Logging::new(vm, THREE_WRITES, row)?;
    vm.registers.rax = 0x99;
    expect_eq!(vm.enter(), Entry::exited(Reason::PML_FULL, 0))?;
    expect_eq!(vm.offset(), 0, "at the first write")?;
    expect_eq!(vm.get(Field::PML_INDEX), u64::from(row), "the index")?;
    expect_eq!(logging.used(), 0, "slots in use")?;
    expect_eq!(logging.pages.read::<u8>(0), 0, "what was written")?;
    logging.restart(vm, 511)?;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(logging.used(), 3, "with room")
}

/// A full log also stops an access that would set the accessed flag alone, and the flag stays clear. With
/// room in the log the flag is set, and nothing is logged.
#[case(spec = "SDM 3C 29.3.6", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn full_pml_stops_accessed_flags(vm: &mut NestedVm) -> Verdict {
    // mov cl,[rdi]
    let logging = Logging::new(vm, &[0x8a, 0x0f], 0xffff)?;
    expect_eq!(vm.enter(), Entry::exited(Reason::PML_FULL, 0))?;
    let flags = vm.ept().get(logging.page(0), 1) & (A | D);
    expect_eq!(flags, 0, "with a full log")?;
    vm.set(Field::PML_INDEX, 511);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_flags(vm, &logging.pages, &[READ], ", with room")?;
    expect_eq!(logging.used(), 0, "slots in use")
}

/// A full log does not matter to accesses that set no flag.
#[case(spec = "SDM 3C 29.3.6", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn full_pml_lets_dirty_pages_be_written(vm: &mut NestedVm) -> Verdict {
    let logging = Logging::new(vm, THREE_WRITES, 0xffff)?;
    for i in 0..3 {
        let page = logging.page(i);
        vm.ept().set(page, 1, page | CLEAN | A | D);
    }
    vm.invalidate_ept()?;
    vm.registers.rax = 0x99;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(logging.pages.read::<u8>(0), 0x99)
}

/// A read, and so an accessed flag, is not logged.
#[case(spec = "SDM 3C 29.3.6", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn pml_does_not_log_reads(vm: &mut NestedVm) -> Verdict {
    // mov cl,[rdi]; mov cl,[rsi]; mov [rbx],cl
    let logging = Logging::new(vm, &[0x8a, 0x0f, 0x8a, 0x0e, 0x88, 0x0b], 511)?;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_flags(vm, &logging.pages, &[READ, READ, WRITTEN], "")?;
    expect_eq!(logging.logged(vm), [logging.page(2)])
}

/// A page is logged when it becomes dirty, not when it is written again; cleaned, it is logged again.
#[case(spec = "SDM 3C 29.3.6", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn pml_logs_a_page_once(vm: &mut NestedVm) -> Verdict {
    // mov [rdi],al; mov [rdi+8],al; mov [rdi],al
    let mut logging = Logging::new(vm, &[0x88, 0x07, 0x88, 0x47, 8, 0x88, 0x07], 511)?;
    for round in 0..3 {
        expect_eq!(vm.enter(), Entry::DONE)?;
        expect_eq!(logging.logged(vm), [logging.page(0)], "round {round}")?;
        vm.rewind();
        expect_eq!(vm.enter(), Entry::DONE)?;
        expect_eq!(logging.used(), 1, "round {round}, still dirty")?;
        logging.restart(vm, 511)?;
    }
    Ok(())
}

/// Without the control nothing is logged, and the flags are set all the same.
#[case(spec = "SDM 3C 29.3.6", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn pml_logs_nothing_without_its_control(vm: &mut NestedVm) -> Verdict {
    let mut logging = Logging::new(vm, THREE_WRITES, 511)?;
    vm.disable(controls::PML)?;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(logging.used(), 0, "slots in use")?;
    expect_eq!(vm.get(Field::PML_INDEX), 511, "the index")?;
    expect_flags(vm, &logging.pages, &[WRITTEN; 3], "")?;
    vm.enable(controls::PML)?;
    logging.restart(vm, 511)?;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(logging.used(), 3, "with the control")
}

/// A write across two pages logs both.
#[case(spec = "SDM 3C 29.3.6", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn pml_logs_both_pages_of_a_spanning_write(vm: &mut NestedVm) -> Verdict {
    // mov [rsi-4],rax
    let logging = Logging::new(vm, &[0x48, 0x89, 0x46, 0xfc], 511)?;
    expect_eq!(vm.enter(), Entry::DONE)?;
    // Their order is the processor's choice; that the low bits are clear is a rule of its own.
    let mut logged = logging.logged(vm);
    logged.iter_mut().for_each(|entry| *entry &= !0xfff);
    logged.sort_unstable();
    expect_eq!(logged, [logging.page(0), logging.page(1)])
}

/// A 2 MiB leaf is logged by the 4 KiB page that was written, and once: it has one dirty flag.
#[case(
    spec = "SDM 3C 29.3.6",
    needs("x86.vmx.pml", "x86.vmx.ept_ad", "x86.vmx.ept_2m")
)]
fn pml_logs_the_small_page_of_a_large_leaf(vm: &mut NestedVm) -> Verdict {
    let mut logging = Logging::new(vm, THREE_WRITES, 511)?;
    let block = Frames::aligned(512, 2 << 20);
    let start = block.address();
    for first in [0u64, 0x12_3000, 0x1f_f000] {
        logging.restart(vm, 511)?;
        vm.ept().set(start, 2, start | CLEAN | LARGE);
        vm.invalidate_ept()?;
        vm.registers.rdi = start + first;
        vm.registers.rsi = start + 0x5000;
        vm.registers.rbx = start + 0x6000;
        expect_eq!(vm.enter(), Entry::DONE)?;
        expect_eq!(logging.logged(vm), [start + first])?;
        expect_eq!(vm.ept().get(start, 2) & D, D, "the leaf")?;
    }
    Ok(())
}

/// A walk that makes the guest's tables dirty logs their pages, though the guest only reads.
#[case(spec = "SDM 3C 29.3.6", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn pml_logs_walked_tables(vm: &mut NestedVm) -> Verdict {
    // mov cl,[rsi]
    let logging = Logging::new(vm, &[0x8a, 0x0e], 511)?;
    let page = Frames::new(1);
    let (_space, tables) = own_tables(vm, &page, 0);
    clean(vm, &page)?;
    for table in tables {
        vm.ept().set(table, 1, table | CLEAN);
    }
    vm.invalidate_ept()?;
    vm.registers.rsi = LINEAR;
    expect_eq!(vm.enter(), Entry::DONE)?;
    // That the low bits are clear is a rule of its own.
    let logged: Vec<u64> = logging.logged(vm).iter().map(|e| e & !0xfff).collect();
    for (level, table) in (1..).zip(tables) {
        let count = logged.iter().filter(|&&entry| entry == table).count();
        expect_eq!(count, 1, "the table of level {level} in {logged:x?}")?;
    }
    let read = logged.contains(&page.address());
    expect!(!read, "the page that was only read is in {logged:x?}")
}

/// The delivery of an event that meets a full log exits and names the event; injected again with room in
/// the log it is delivered, once.
#[case(spec = "SDM 3C 28.2.4", needs("x86.vmx.pml", "x86.vmx.ept_ad"))]
fn full_pml_in_a_delivery_names_the_event(vm: &mut NestedVm) -> Verdict {
    const EVENT: u64 = 1 << 31 | 3 << 8 | 6;
    let handler = fault::Handler::new(6, |frame| frame.r12 += 1);
    let mut logging = Logging::new(vm, &[], 0xffff)?;
    // The frame goes to a clean page; what the handler needs besides is dirty already.
    let warm = |vm: &mut NestedVm| {
        vm.set(Field::ENTRY_EVENT, EVENT);
        vm.run()
    };
    vm.registers.r12 = 0;
    vm.disable(controls::PML)?;
    expect_eq!(warm(vm), Entry::DONE, "without a log")?;
    expect_eq!(vm.registers.r12, 1, "deliveries without a log")?;
    vm.enable(controls::PML)?;
    logging.restart(vm, 0xffff)?;
    let stack = logging.page(3);
    vm.set(Field::GUEST_RSP, stack);
    vm.set(Field::ENTRY_EVENT, EVENT);
    expect_eq!(vm.enter(), Entry::exited(Reason::PML_FULL, 0))?;
    expect_eq!(vm.get(Field::IDT_VECTORING), EVENT, "IDT-vectoring")?;
    expect_eq!(vm.registers.r12, 1, "deliveries with a full log")?;
    expect_eq!(vm.get(Field::GUEST_RSP), stack, "RSP")?;
    logging.start = 511;
    vm.set(Field::PML_INDEX, 511);
    vm.set(Field::ENTRY_EVENT, EVENT);
    let got = vm.enter();
    drop(handler);
    expect_eq!(got, Entry::DONE, "with room")?;
    expect_eq!(vm.registers.r12, 2, "deliveries with room")?;
    let logged: Vec<u64> = logging.logged(vm).iter().map(|e| e & !0xfff).collect();
    expect!(
        logged.contains(&logging.page(2)),
        "the stack in {logged:x?}"
    )
}

/// Pages of the log case.
const PAGES: usize = 64;

/// Round after round, log and dirty flags name exactly the pages that the guest wrote, by its own
/// addresses, which are not the host's.
#[case(
    spec = "SDM 3C 29.3.6",
    needs("x86.vmx.ept_ad"),
    rows(flags: false, log: true)
)]
fn log_names_exactly_the_written_pages(vm: &mut NestedVm, row: bool) -> Verdict {
    flagged(vm)?;
    let (shown, real, log) = (Frames::new(PAGES), Frames::new(PAGES), Frames::new(1));
    let start = shown.address();
    if row {
        vm.enable(controls::PML)?;
        vm.set(Field::PML_ADDRESS, log.address());
    }
    let mut random = 0x2545_f491_4f6c_dd1du64;
    for round in 1..=40u64 {
        // Xorshift: every round another set.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        for page in 0..PAGES as u64 {
            let entry = (real.address() + page * 0x1000) | CLEAN;
            vm.ept().set(start + page * 0x1000, 1, entry);
        }
        vm.invalidate_ept()?;
        if row {
            vm.set(Field::PML_INDEX, 511);
        }
        let set = random;
        vm.closure(move || {
            let mut sum = 0;
            for page in 0..PAGES as u64 {
                let place = start + page * 0x1000;
                match set >> page & 1 {
                    0 => sum += cpu::peek_raw(place),
                    _ => sum += cpu::poke_raw(place, round as u8),
                }
            }
            sum
        });
        expect_eq!(vm.enter(), Entry::DONE)?;
        let (mut dirty, mut held) = (0, 0);
        for page in 0..PAGES {
            let entry = vm.ept().get(start + page as u64 * 0x1000, 1);
            dirty |= u64::from(entry & D != 0) << page;
            let byte: u8 = real.read(page * FRAME);
            held |= u64::from(u64::from(byte) == round) << page;
        }
        expect_eq!(held, set, "round {round}: what was written")?;
        expect_eq!(dirty, set, "round {round}: what is dirty")?;
        if !row {
            continue;
        }
        let index = vm.get(Field::PML_INDEX) as usize;
        expect!(index < 512, "index {index}")?;
        let logged: Vec<u64> = (index + 1..512).rev().map(|i| log.read(8 * i)).collect();
        let inside = |frames: &Frames, entry: &u64| {
            (frames.address()..frames.address() + frames.len() as u64).contains(entry)
        };
        // Pages that the guest needs besides, its stack and tables, are logged too.
        let ours = logged.iter().copied().filter(|entry| inside(&shown, entry));
        let expected = (0..PAGES as u64).filter(|page| set >> page & 1 != 0);
        let expected: Vec<u64> = expected.map(|page| start + page * 0x1000).collect();
        expect_eq!(ours.collect::<Vec<_>>(), expected, "round {round}: log")?;
        let hosts = logged.iter().any(|entry| inside(&real, entry));
        expect!(!hosts, "round {round}: an address of the host's is logged")?;
    }
    let stray = shown.bytes().iter().any(|byte| *byte != 0);
    expect!(
        !stray,
        "a page of the host's at the guest's address was written"
    )
}
