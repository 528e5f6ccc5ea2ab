//! Every way to write. Spec: KVM api 4.8 for the log, SDM 2 for the instructions.
//!
//! A hypervisor sees most writes through page protection, and some only because it makes them
//! itself: instructions it emulates, string I/O, tables that the processor walks. Each of those has
//! its own path to the log, and each path can forget it.

use crate::{Logged, PAGES, expect_exactly};
use guest_lib::arch::code::Code;
use guest_lib::arch::cpu;
use guest_lib::arch::paging::{A, AddressSpace, D, FREE_BASE, P, W};
use guest_lib::prelude::*;

/// An instruction that writes to the address in RDI, and nowhere else.
struct Writer {
    code: &'static [u8],
    /// Byte in page 20 where RDI points.
    offset: u64,
    /// Whether it reaches page 21 as well.
    crosses: bool,
}

const fn at(offset: u64, code: &'static [u8]) -> Writer {
    Writer {
        code,
        offset,
        crosses: false,
    }
}

const fn crossing(offset: u64, code: &'static [u8]) -> Writer {
    Writer {
        code,
        offset,
        crosses: true,
    }
}

/// An instruction that writes makes exactly the pages dirty that it reaches.
#[case(
    spec = "KVM api 4.8",
    needs("service.dirty_log"),
    rows(
        // mov [rdi], al
        store_byte: at(1, &[0x88, 0x07]),
        // mov [rdi], rax
        store_quadword: at(8, &[0x48, 0x89, 0x07]),
        // movnti [rdi], eax
        non_temporal_store: at(64, &[0x0f, 0xc3, 0x07]),
        // mov [rdi], rax, over the boundary
        store_over_a_page_boundary: crossing(0xffc, &[0x48, 0x89, 0x07]),
        // add [rdi], eax
        read_modify_write: at(16, &[0x01, 0x07]),
        // lock xadd [rdi], eax
        locked_exchange_add: at(16, &[0xf0, 0x0f, 0xc1, 0x07]),
        // xchg [rdi], eax
        exchange: at(16, &[0x87, 0x07]),
        // lock bts [rdi], eax with eax = 0
        locked_bit_set: at(16, &[0x31, 0xc0, 0xf0, 0x0f, 0xab, 0x07]),
        // mov eax, 1; lock cmpxchg [rdi], esi: the compare fails, the write cycle remains
        failed_compare_exchange: at(16, &[0xb8, 1, 0, 0, 0, 0xf0, 0x0f, 0xb1, 0x37]),
        // xor eax, eax; lock cmpxchg [rdi], esi
        compare_exchange: at(16, &[0x31, 0xc0, 0xf0, 0x0f, 0xb1, 0x37]),
        // mov ecx, 8; rep stosb
        string_store: at(0x100, &[0xb9, 8, 0, 0, 0, 0xf3, 0xaa]),
        // mov ecx, 32; rep stosb
        string_store_over_a_page_boundary: crossing(0xff0, &[0xb9, 32, 0, 0, 0, 0xf3, 0xaa]),
        // mov esi, 0x7000; mov ecx, 4; rep movsq
        string_move_over_a_page_boundary:
            crossing(0xff0, &[0xbe, 0, 0x70, 0, 0, 0xb9, 4, 0, 0, 0, 0xf3, 0x48, 0xa5]),
        // mov rax, rsp; mov rsp, rdi; push rsi; mov rsp, rax
        push: at(0x208, &[0x48, 0x89, 0xe0, 0x48, 0x89, 0xfc, 0x56, 0x48, 0x89, 0xc4]),
        // sgdt [rdi]
        store_descriptor_table: at(0x300, &[0x0f, 0x01, 0x07]),
        // fnstcw [rdi]
        store_control_word: at(0x302, &[0xd9, 0x3f]),
        // mov dx, 0xa5b0; insb
        input_string: at(0x400, &[0x66, 0xba, 0xb0, 0xa5, 0x6c]),
        // mov dx, 0xa5b0; mov ecx, 16; rep insb
        input_string_over_a_page_boundary:
            crossing(0xff8, &[0x66, 0xba, 0xb0, 0xa5, 0xb9, 16, 0, 0, 0, 0xf3, 0x6c]),
    )
)]
fn write_by(slot: &Logged, writer: Writer) -> Verdict {
    let slot = &slot.0;
    let code = Code::new(writer.code);
    let run = || code.run(slot.address() + 20 * 4096 + writer.offset, 7);
    let pages: &[u64] = if writer.crosses { &[20, 21] } else { &[20] };
    for _ in 0..2 {
        run()?;
        expect_exactly(slot, pages)?;
        expect_exactly(slot, &[])?;
    }
    Ok(())
}

/// The processor's accessed and dirty bits make the page of the table dirty.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn page_walk_writes_are_logged(slot: &Logged) -> Verdict {
    let slot = &slot.0;
    let mut space = AddressSpace::new(false);
    // The last-level table lies in the slot: page 30; it maps page 31.
    let directory = slot.address() + 30 * 4096;
    space.set(FREE_BASE, 2, directory | P | W);
    slot.store(30 * 4096, (slot.address() + 31 * 4096) | P | W);
    slot.dirty()?;

    space.with(|| cpu::peek(FREE_BASE))?;
    expect_eq!(slot.load::<u64>(30 * 4096) & (A | D), A)?;
    expect_exactly(slot, &[30])?;
    space.with(|| cpu::poke(FREE_BASE, 1))?;
    expect_eq!(slot.load::<u64>(30 * 4096) & (A | D), A | D)?;
    expect_exactly(slot, &[30, 31])?;
    // Both bits are there: another write changes only the page.
    space.with(|| cpu::poke(FREE_BASE, 2))?;
    expect_exactly(slot, &[31])
}

/// A write through a second linear address is logged at the physical page.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn alias_is_logged_at_the_physical_page(slot: &Logged) -> Verdict {
    let slot = &slot.0;
    let mut space = AddressSpace::new(false);
    for (i, page) in [40u64, 41, 40].into_iter().enumerate() {
        let entry = (slot.address() + page * 4096) | P | W | A | D;
        space.set(FREE_BASE + 4096 * i as u64, 1, entry);
    }
    slot.dirty()?;
    space.with(|| cpu::poke(FREE_BASE + 2 * 4096, 1))?;
    expect_exactly(slot, &[40])?;
    space.with(|| cpu::poke(FREE_BASE + 4096, 1))?;
    space.with(|| cpu::poke(FREE_BASE, 1))?;
    expect_exactly(slot, &[40, 41])
}

/// A write that faults makes nothing dirty.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn refused_write_leaves_the_page_clean(slot: &Logged) -> Verdict {
    let slot = &slot.0;
    let mut space = AddressSpace::new(false);
    let page = slot.address() + 50 * 4096;
    space.set(FREE_BASE, 1, page | P);
    slot.dirty()?;
    let refused = space.with(|| cpu::poke(FREE_BASE, 1));
    expect_eq!(refused.is_err(), true, "a write to a read-only page faults")?;
    expect_exactly(slot, &[])?;
    space.set(FREE_BASE, 1, page | P | W);
    space.with(|| cpu::poke(FREE_BASE, 1))?;
    expect_exactly(slot, &[50])
}

/// Random writers, round by round: the log is the set of this round, never more or less.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn random_rounds_are_exact(slot: &Logged) -> Verdict {
    let mut seed = 0x1234_5678_9abc_def1u64;
    for round in 0..8 {
        let mut written: Vec<u64> = Vec::new();
        for _ in 0..40 {
            // xorshift64
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let page = seed % PAGES;
            slot.0.store(page * 4096 + (seed >> 32) % 512 * 8, round);
            written.push(page);
        }
        expect_exactly(&slot.0, &written)?;
    }
    Ok(())
}
