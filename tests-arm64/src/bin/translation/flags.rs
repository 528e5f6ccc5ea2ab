//! What the MMU writes into descriptors. Spec: DDI0487 D8.5.
//!
//! With TCR_EL1.HA a walk sets the access flag itself; with HD a store to a page with DBM clears AP[2], which makes
//! it writable: a clean page becomes dirty. Both are writes of the processor to the guest's tables, atomic with
//! those of others. A hypervisor or emulator that walks by software tends to do too much (a load or AT makes
//! a page dirty) or too little (an update is lost when two processors make it).

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use guest_lib::arch::code::{self, Code};
use guest_lib::arch::enter::{State, enter};
use guest_lib::arch::fault::{Frame, ec};
use guest_lib::arch::mmio::Mmio;
use guest_lib::arch::paging::{
    self, HardwareUpdates, PRIVATE, Space, bits, flush, flush_page, translate_read, translate_write,
};
use guest_lib::arch::snippets::{self, Snippet};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;
use guest_lib::sync::Barrier;

const AT: u64 = PRIVATE + 0x51_0000_0000;
/// A page that becomes writable by the first store.
const CLEAN: u64 = bits::PAGE | bits::DIRTY_MODIFIER | bits::READ_ONLY;
/// Status: access flag fault of level 3.
const ACCESS_FLAG: u64 = 0x0b;
/// Status: permission fault of level 3.
const PERMISSION: u64 = 0x0f;
const WRITE: u64 = 1 << 6;

/// A page of a space of its own, at EL0 or at the level of the runtime.
struct Page {
    user: bool,
    space: Space,
    frame: Frames,
}

impl Page {
    fn new(user: bool) -> Self {
        Page {
            user,
            space: if user { Space::user() } else { Space::kernel() },
            frame: Frames::new(1),
        }
    }

    /// Maps the page with `flags`; the descriptor.
    fn map(&mut self, flags: u64) -> u64 {
        let raw = self.frame.address() | flags | if self.user { bits::USER } else { 0 };
        self.space.set(AT, 3, raw);
        flush();
        raw
    }

    fn descriptor(&mut self) -> u64 {
        self.space.get(AT, 3)
    }

    /// Runs `snippet` on the page, then SVC #1; the exception that ends it.
    fn run(&self, snippet: Snippet) -> Frame {
        let code = Code::new(&[snippet.words()[0], code::svc(1)]);
        let mut state = self.state(code.address());
        state.x[1] = AT + 0x40;
        enter(&state)
    }

    fn state(&self, pc: u64) -> State {
        let mut state = match self.user {
            true => State::user(pc),
            false => State::here(pc),
        };
        state.ttbr0 = self.space.ttbr0();
        state
    }

    /// The abort that `status` describes.
    fn abort(&self, status: u64) -> Fault {
        Fault::new(ec::DATA_ABORT_LOWER + u64::from(!self.user), status)
    }
}

/// The syndrome without what an emulator may add for an abort of its own level: see `exceptions/aborts`.
fn plain(frame: &Frame) -> Fault {
    const ACCESS_SYNDROME: u64 = 0x7ff << 14;
    let fault = frame.fault();
    match fault.ec() {
        ec::DATA_ABORT | ec::DATA_ABORT_LOWER => Fault(frame.esr & !ACCESS_SYNDROME),
        _ => fault,
    }
}

/// With HA an access sets the access flag and nothing else; without, it is an access flag fault.
#[case(
    spec = "DDI0487 D8.5",
    needs("arm64.hafdbs"),
    rows(
        load: (false, snippets::LDR_X, 0),
        store: (false, snippets::STR_X, WRITE),
        load_el0: (true, snippets::LDR_X, 0),
        store_el0: (true, snippets::STR_X, WRITE)
    )
)]
fn access_sets_the_access_flag(
    updates: &mut HardwareUpdates,
    row: (bool, Snippet, u64),
) -> Verdict {
    let (user, snippet, write) = row;
    let mut page = Page::new(user);
    for _ in 0..2 {
        updates.set(false, false);
        let raw = page.map(bits::PAGE & !bits::ACCESSED);
        let refused = plain(&page.run(snippet));
        expect_eq!(refused, page.abort(ACCESS_FLAG | write), "without HA")?;
        expect_eq!(page.descriptor(), raw, "the descriptor without HA")?;
        updates.set(true, false);
        expect_eq!(page.run(snippet).fault(), Fault::svc(1), "with HA")?;
        expect_eq!(page.descriptor(), raw | bits::ACCESSED, "the descriptor")?;
    }
    Ok(())
}

/// With HA a fetch sets the access flag of its page.
#[case(
    spec = "DDI0487 D8.5",
    needs("arm64.hafdbs"),
    rows(el1: false, el0: true)
)]
fn fetch_sets_the_access_flag(updates: &mut HardwareUpdates, user: bool) -> Verdict {
    let target = Code::new(&[code::svc(1)]);
    let mut page = Page::new(user);
    let level = if user { bits::USER } else { 0 };
    let raw = target.address() | bits::PAGE & !bits::ACCESSED | level;
    page.space.set(AT, 3, raw);
    flush();
    let refused = enter(&page.state(AT)).fault();
    let class = ec::INSTRUCTION_ABORT_LOWER + u64::from(!user);
    expect_eq!(refused, Fault::new(class, ACCESS_FLAG), "without HA")?;
    updates.set(true, false);
    expect_eq!(enter(&page.state(AT)).fault(), Fault::svc(1), "with HA")?;
    expect_eq!(page.descriptor(), raw | bits::ACCESSED, "the descriptor")
}

/// With HA and HD the first store to a clean page is done and clears AP[2]; the next finds it so.
#[case(
    spec = "DDI0487 D8.5",
    needs("arm64.dirty_state"),
    rows(
        str_x: (false, snippets::STR_X),
        strb: (false, snippets::STRB),
        stlr: (false, snippets::STLR_W),
        stp: (false, snippets::STP_W),
        dc_zva: (false, snippets::ZERO_SVC),
        str_x_el0: (true, snippets::STR_X)
    )
)]
fn store_makes_a_clean_page_dirty(updates: &mut HardwareUpdates, row: (bool, Snippet)) -> Verdict {
    let (user, snippet) = row;
    let mut page = Page::new(user);
    updates.set(true, true);
    for flags in [CLEAN, CLEAN & !bits::ACCESSED] {
        let raw = page.map(flags);
        page.frame.bytes_mut().fill(0xff);
        expect_eq!(page.run(snippet).fault(), Fault::svc(1), "the first store")?;
        let dirty = raw & !bits::READ_ONLY | bits::ACCESSED;
        expect_eq!(page.descriptor(), dirty, "the descriptor")?;
        expect_ne!(page.frame.read::<u64>(0x40), !0, "the memory")?;
        expect_eq!(page.run(snippet).fault(), Fault::svc(1), "the second store")?;
        expect_eq!(page.descriptor(), dirty, "the descriptor, again")?;
    }
    Ok(())
}

/// A load of a clean page leaves it clean, also when it sets the access flag.
#[case(
    spec = "DDI0487 D8.5",
    needs("arm64.dirty_state"),
    rows(
        ldr_x: (false, snippets::LDR_X),
        ldar: (false, snippets::LDAR_W),
        ldxr: (false, snippets::EXCLUSIVE_SVC),
        ldr_x_el0: (true, snippets::LDR_X)
    )
)]
fn load_leaves_a_clean_page_clean(updates: &mut HardwareUpdates, row: (bool, Snippet)) -> Verdict {
    let (user, snippet) = row;
    let mut page = Page::new(user);
    updates.set(true, true);
    for flags in [CLEAN, CLEAN & !bits::ACCESSED] {
        let raw = page.map(flags);
        expect_eq!(page.run(snippet).fault(), Fault::svc(1), "a load")?;
        expect_eq!(page.descriptor(), raw | bits::ACCESSED, "the descriptor")?;
    }
    expect_eq!(page.run(snippets::STR_X).fault(), Fault::svc(1), "a store")?;
    expect_eq!(
        page.descriptor() & bits::READ_ONLY,
        0,
        "AP[2] after a store"
    )
}

/// Without HA, HD or DBM a read-only page stays read-only.
#[case(
    spec = "DDI0487 D8.5",
    needs("arm64.dirty_state"),
    rows(
        ha: (false, true, CLEAN),
        hd: (true, false, CLEAN),
        dbm: (true, true, CLEAN & !bits::DIRTY_MODIFIER)
    )
)]
fn each_enable_is_needed(updates: &mut HardwareUpdates, row: (bool, bool, u64)) -> Verdict {
    let (access, dirty, flags) = row;
    for user in [false, true] {
        let mut page = Page::new(user);
        updates.set(access, dirty);
        let raw = page.map(flags);
        let refused = plain(&page.run(snippets::STR_X));
        expect_eq!(refused, page.abort(PERMISSION | WRITE), "one missing")?;
        expect_eq!(page.descriptor(), raw, "the descriptor")?;
        updates.set(true, true);
        page.map(CLEAN);
        expect_eq!(page.run(snippets::STR_X).fault(), Fault::svc(1), "with all")?;
    }
    Ok(())
}

/// A store that EL0 may not make leaves a clean page clean.
#[case(spec = "DDI0487 D8.5", needs("arm64.dirty_state"))]
fn refused_store_leaves_a_clean_page_clean(updates: &mut HardwareUpdates) -> Verdict {
    let mut page = Page::new(true);
    updates.set(true, true);
    let raw = page.map(CLEAN) & !bits::USER;
    page.space.set(AT, 3, raw);
    flush();
    let refused = plain(&page.run(snippets::STR_X));
    expect_eq!(refused, page.abort(PERMISSION | WRITE), "a page of EL1")?;
    expect_eq!(page.descriptor(), raw, "the descriptor")?;
    page.map(CLEAN);
    expect_eq!(page.run(snippets::STR_X).fault(), Fault::svc(1), "its own")
}

/// Cache maintenance, which needs no more than to read, leaves a clean page clean.
#[case(
    spec = "DDI0487 D8.5 DC",
    needs("arm64.dirty_state"),
    rows(dc_cvac: snippets::CLEAN_SVC, dc_civac: snippets::CLEAN_INVALIDATE_SVC)
)]
fn maintenance_leaves_a_clean_page_clean(
    updates: &mut HardwareUpdates,
    snippet: Snippet,
) -> Verdict {
    let mut page = Page::new(false);
    updates.set(true, true);
    let raw = page.map(CLEAN);
    expect_eq!(page.run(snippet).fault(), Fault::svc(1))?;
    expect_eq!(page.descriptor(), raw, "the descriptor")
}

/// AT finds a clean page writable while HD is set, and leaves it clean.
#[case(spec = "DDI0487 C5.4 AT", needs("arm64.dirty_state"))]
fn at_leaves_a_clean_page_clean(updates: &mut HardwareUpdates) -> Verdict {
    let mut page = Page::new(false);
    let status = |par: u64| (par & 1 != 0).then_some(par >> 1 & 0x3f);
    for (dirty, write) in [(false, Some(PERMISSION)), (true, None)] {
        updates.set(true, dirty);
        let raw = page.map(CLEAN);
        let read = fault::catch(|| page.space.run(|| translate_read(AT)))?;
        expect_eq!(status(read), None, "a read")?;
        let written = fault::catch(|| page.space.run(|| translate_write(AT)))?;
        expect_eq!(status(written), write, "a write, HD {dirty}")?;
        expect_eq!(page.descriptor(), raw, "the descriptor, HD {dirty}")?;
    }
    Ok(())
}

/// AT reports an access flag fault only while HA is clear; whether it sets the flag is free.
#[case(spec = "DDI0487 C5.4 AT", needs("arm64.hafdbs"))]
fn at_needs_no_access_flag_with_ha(updates: &mut HardwareUpdates) -> Verdict {
    let mut page = Page::new(false);
    for (access, expected) in [(false, 1 | ACCESS_FLAG << 1), (true, 0)] {
        updates.set(access, false);
        let raw = page.map(bits::PAGE & !bits::ACCESSED);
        let par = fault::catch(|| page.space.run(|| translate_read(AT)))?;
        let got = if par & 1 != 0 { par & 0x7f } else { 0 };
        expect_eq!(got, expected, "PAR_EL1 with HA {access}")?;
        let free = if access { bits::ACCESSED } else { 0 };
        expect_eq!(page.descriptor() & !free, raw, "the descriptor")?;
    }
    Ok(())
}

/// Runs `turn` on the first two processors, each with HA and HD set and the map of `root`.
fn on_two<T: Send>(root: u64, turn: impl Fn(Cpu) -> T + Sync) -> Result<Vec<T>, Stop> {
    let both = cpus::on_each([Cpu::BOOT, Cpu(1)].into_iter(), |cpu| {
        let updates = HardwareUpdates::fresh()?;
        updates.set(true, true);
        Ok(fault::catch(|| paging::run_with(root, || turn(cpu)))?)
    })?;
    both.into_iter().collect()
}

/// Two processors that store to one clean page at the same time both succeed, and it is dirty.
#[case(
    spec = "DDI0487 D8.5",
    needs("arm64.dirty_state", "cpus>=2"),
    timeout_s = 90
)]
fn processors_make_one_page_dirty() -> Verdict {
    const ROUNDS: u64 = 40;
    let mut page = Page::new(false);
    let raw = page.map(CLEAN & !bits::ACCESSED);
    let (root, frame) = (page.space.ttbr0(), &page.frame);
    let entry = page.space.entry(AT, 3);
    let step = Barrier::new(2);
    let wrong = on_two(root, |cpu| {
        let mut wrong = None;
        for round in 1..=ROUNDS {
            if cpu == Cpu::BOOT {
                entry.store(raw, Ordering::SeqCst);
                flush_page(AT);
            }
            step.wait();
            Mmio::new(AT).write64(cpu.0 as u64 * 8, round);
            step.wait();
            let found = (entry.load(Ordering::SeqCst), frame.read(0), frame.read(8));
            let expected = (raw & !bits::READ_ONLY | bits::ACCESSED, round, round);
            if found != expected {
                wrong = wrong.or(Some(found));
            }
            step.wait();
        }
        wrong
    })?;
    expect_eq!(wrong, vec![None; 2], "(descriptor, words) on each CPU")
}

/// Software changes a bit of its own in a descriptor while the MMU sets the access flag: none of it is lost.
#[case(
    spec = "DDI0487 D8.5",
    needs("arm64.dirty_state", "cpus>=2"),
    timeout_s = 90
)]
fn updates_are_atomic_with_software() -> Verdict {
    const ROUNDS: u32 = 500;
    /// Bit 55: left to software.
    const OWN: u64 = 1 << 55;
    let mut page = Page::new(false);
    page.map(CLEAN);
    let root = page.space.ttbr0();
    let entry = page.space.entry(AT, 3);
    let (over, theirs) = (AtomicBool::new(false), AtomicU32::new(0));
    let lost = on_two(root, |cpu| {
        let (mut lost, mut round) = (0, 0u32);
        if cpu != Cpu::BOOT {
            while !over.load(Ordering::Acquire) {
                let before = entry.fetch_xor(OWN, Ordering::SeqCst);
                lost += u32::from((before & OWN != 0) != (round % 2 != 0));
                round += 1;
                theirs.store(round, Ordering::Relaxed);
            }
            return lost;
        }
        let limit = time::Deadline::after(time::PATIENCE);
        while round < ROUNDS || theirs.load(Ordering::Relaxed) < ROUNDS && !limit.passed() {
            entry.fetch_and(!bits::ACCESSED, Ordering::SeqCst);
            entry.fetch_or(bits::READ_ONLY, Ordering::SeqCst);
            flush_page(AT);
            Mmio::new(AT).write64(0, 1);
            let after = entry.load(Ordering::SeqCst);
            lost += u32::from(after & (bits::ACCESSED | bits::READ_ONLY) != bits::ACCESSED);
            round += 1;
        }
        over.store(true, Ordering::Release);
        lost
    })?;
    expect!(
        theirs.into_inner() >= ROUNDS,
        "the other processor changed nothing"
    )?;
    expect_eq!(lost, vec![0; 2], "lost updates of the MMU, and of software")
}
