//! Aborts: memory that is not there, or not in that way. Spec: DDI0487 D8.15, D7.6.
//!
//! An access to an address where the machine has nothing leaves the choice to the machine: a value, or
//! a synchronous external abort. Under a hypervisor it is a stage 2 fault that the hypervisor turns into
//! one of the two, by hand, and then class, status, FAR, WnR and ELR must fit the access, at whichever
//! level it was made. Alignment and cache maintenance faults have details of their own.

use crate::level::{Level, expect_exact, expect_frame};
use guest_lib::arch::code::{self, Code};
use guest_lib::arch::enter::{State, enter};
use guest_lib::arch::fault::{Frame, ec};
use guest_lib::arch::paging::{PRIVATE, Space, bits, flush};
use guest_lib::arch::snippets::{self, Snippet};
use guest_lib::memory::{self, Frames};
use guest_lib::prelude::*;

const AT: u64 = PRIVATE + 0x40_0000_0000;
/// Status: synchronous external abort, not on a table walk.
const EXTERNAL: u64 = 0x10;
/// Status: translation fault of level 3.
const TRANSLATION: u64 = 0x07;
/// Status: permission fault of level 3.
const PERMISSION: u64 = 0x0f;
/// Status: alignment fault.
const ALIGNMENT: u64 = 0x21;
const WRITE: u64 = 1 << 6;
const CACHE: u64 = 1 << 8;
/// ISS bits that an external abort may fill in as it likes: EA, and SET of FEAT_RAS.
const FREE: u64 = 1 << 9 | 3 << 11;

/// The first address behind the machine's RAM.
fn hole() -> u64 {
    let end = memory::regions()
        .iter()
        .map(|(start, length)| start + length)
        .max();
    end.unwrap_or(0).next_multiple_of(0x1000)
}

/// A space of the level's own kind with one page at [`AT`].
fn space(level: Level, raw: u64) -> Space {
    let mut space = match level {
        Level::User => Space::user(),
        _ => Space::kernel(),
    };
    let user = if level == Level::User { bits::USER } else { 0 };
    space.set(AT, 3, raw | user);
    flush();
    space
}

fn run(snippet: Snippet, level: Level, space: &Space, address: u64) -> (State, Frame, u64) {
    let code = Code::new(snippet.words());
    let (state, frame) = run_code(&code, level, space, address);
    (state, frame, code.address())
}

fn run_code(code: &Code, level: Level, space: &Space, address: u64) -> (State, Frame) {
    let mut state = level.state(code);
    state.x[1] = address;
    state.ttbr0 = space.ttbr0();
    let frame = enter(&state);
    (state, frame)
}

/// A data access to a hole ends, and if in an abort, then in an exact one.
#[case(
    spec = "DDI0487 D7.6",
    rows(
        load: (snippets::LOAD_SVC, 0, Level::Here),
        store: (snippets::STORE_SVC, WRITE, Level::Here),
        load_sp0: (snippets::LOAD_SVC, 0, Level::HereSp0),
        load_el0: (snippets::LOAD_SVC, 0, Level::User),
        store_el0: (snippets::STORE_SVC, WRITE, Level::User)
    )
)]
fn hole_aborts_are_exact(row: (Snippet, u64, Level)) -> Verdict {
    let (snippet, write, level) = row;
    let device = bits::PAGE & !bits::SHARED | bits::DEVICE | bits::PXN | bits::UXN;
    let empty = space(level, hole() | device);
    let (state, frame, code) = run(snippet, level, &empty, AT + 0x128);
    if frame.fault() == Fault::svc(1) {
        note!("the machine answers accesses to a hole");
    } else {
        let fault = Fault(frame.esr & !FREE);
        expect_eq!(
            fault,
            Fault::new(level.class(ec::DATA_ABORT_LOWER), EXTERNAL | write)
        )?;
        expect_eq!(frame.far, AT + 0x128, "FAR")?;
        expect_frame(&frame, level, &state, code)?;
    }
    // The same access where there is memory.
    let data = Frames::new(1);
    let full = space(level, data.address() | bits::PAGE);
    expect_eq!(
        run(snippet, level, &full, AT + 0x128).1.fault(),
        Fault::svc(1)
    )
}

/// A jump to a hole ends in an instruction abort at its target, with the link register set.
#[case(spec = "DDI0487 D7.6", rows(el1: Level::Here, sp0: Level::HereSp0, el0: Level::User))]
fn fetch_from_a_hole_is_exact(level: Level) -> Verdict {
    let empty = space(level, hole() | bits::PAGE);
    let (state, frame, code) = run(snippets::CALL_SVC, level, &empty, AT);
    let fault = Fault(frame.esr & !FREE);
    // A machine that answers reads of a hole with zeroes has UDF there.
    let answers = Fault::UNDEFINED;
    if fault != answers {
        expect_eq!(
            fault,
            Fault::new(level.class(ec::INSTRUCTION_ABORT_LOWER), EXTERNAL)
        )?;
        expect_eq!(frame.far, AT, "FAR")?;
    }
    expect_eq!(frame.x[30], code + 4, "the link register")?;
    let mut called = state;
    called.x[30] = code + 4;
    // BLR leaves BTYPE = 0b10 for its target.
    if arch::has("arm64.bti") {
        called.spsr |= 2 << 10;
    }
    expect_frame(&frame, level, &called, AT)?;
    // The same call where there is code.
    let target = Code::new(&[code::RET]);
    let full = space(level, target.address() | bits::PAGE);
    expect_eq!(
        run(snippets::CALL_SVC, level, &full, AT).1.fault(),
        Fault::svc(1)
    )
}

/// A translation table in a hole gives an external abort on the walk, or an invalid entry: with its level.
#[case(spec = "DDI0487 D8.15", rows(el1: Level::Here, el0: Level::User))]
fn table_in_a_hole_is_exact(level: Level) -> Verdict {
    let data = Frames::new(1);
    let mut space = space(level, data.address() | bits::PAGE);
    expect_eq!(
        run(snippets::LOAD_SVC, level, &space, AT).1.fault(),
        Fault::svc(1)
    )?;
    space.set(AT, 2, hole() | bits::VALID | bits::TABLE_OR_PAGE);
    flush();
    let (state, frame, code) = run(snippets::LOAD_SVC, level, &space, AT);
    expect_eq!(frame.fault().ec(), level.class(ec::DATA_ABORT_LOWER))?;
    let status = frame.fault().status();
    expect!(
        [0x17, 0x07].contains(&status),
        "status {status:#x} is not of level 3"
    )?;
    expect_eq!(frame.far, AT, "FAR")?;
    expect_frame(&frame, level, &state, code)
}

/// A stage 1 abort has nothing in its ISS but status and direction, whatever the form of the access: no
/// syndrome of the access.
#[case(
    spec = "DDI0487 D24.2 ESR_EL1",
    rows(
        load: (Level::Here, snippets::LDR_X, 0),
        load_half: (Level::Here, snippets::LDRH, 0),
        load_signed_byte: (Level::Here, snippets::LDRSB_X, 0),
        store: (Level::Here, snippets::STR_X, WRITE),
        store_byte: (Level::Here, snippets::STRB, WRITE),
        load_el0: (Level::User, snippets::LDR_X, 0),
        load_signed_byte_el0: (Level::User, snippets::LDRSB_X, 0),
        store_el0: (Level::User, snippets::STR_X, WRITE)
    )
)]
fn stage_1_aborts_have_no_access_syndrome(row: (Level, Snippet, u64)) -> Verdict {
    let (level, snippet, write) = row;
    let code = Code::new(&[snippet.words()[0], code::svc(1)]);
    let class = level.class(ec::DATA_ABORT_LOWER);
    let data = Frames::new(1);
    let page = data.address() | bits::PAGE;
    let refused = |raw: u64, status: u64| {
        let (state, frame) = run_code(&code, level, &space(level, raw), AT + 8);
        expect_eq!(frame.fault(), Fault::new(class, status | write))?;
        expect_eq!(frame.far, AT + 8, "FAR")?;
        expect_frame(&frame, level, &state, code.address())
    };
    refused(0, TRANSLATION)?;
    let (_, frame) = run_code(&code, level, &space(level, page), AT + 8);
    expect_eq!(frame.fault(), Fault::svc(1), "with a page")?;
    if write == 0 {
        return Ok(());
    }
    refused(page | bits::READ_ONLY, PERMISSION)
}

/// A fetch from a page that is not mapped, or not executable, aborts at its target.
#[case(
    spec = "DDI0487 D8.15",
    rows(
        unmapped: (0, TRANSLATION),
        never_executed: (bits::PAGE | bits::PXN | bits::UXN, PERMISSION)
    )
)]
fn refused_fetch_is_exact(row: (u64, u64)) -> Verdict {
    let (flags, status) = row;
    let target = Code::new(&[code::svc(1)]);
    for level in [Level::Here, Level::HereSp0, Level::User] {
        let raw = if flags == 0 {
            0
        } else {
            target.address() | flags
        };
        let closed = space(level, raw);
        let mut state = level.state(&target);
        state.pc = AT;
        state.ttbr0 = closed.ttbr0();
        let class = level.class(ec::INSTRUCTION_ABORT_LOWER);
        expect_exact(&state, level, Fault::new(class, status), AT)?;
        expect_eq!(fault::details().far, AT, "FAR")?;
        let open = space(level, target.address() | bits::PAGE);
        state.ttbr0 = open.ttbr0();
        expect_exact(&state, level, Fault::svc(1), AT + 4)?;
    }
    Ok(())
}

/// Cache maintenance by address of an unmapped page aborts as a write with CM set.
#[case(
    spec = "DDI0487 D8.15",
    rows(
        dc_cvac: snippets::CLEAN_SVC,
        dc_civac: snippets::CLEAN_INVALIDATE_SVC,
        dc_ivac: snippets::INVALIDATE_SVC
    )
)]
fn maintenance_aborts_as_a_write(snippet: Snippet) -> Verdict {
    let level = Level::Here;
    let none = space(level, 0);
    let (state, frame, code) = run(snippet, level, &none, AT + 0x44);
    expect_eq!(
        frame.fault(),
        Fault::new(ec::DATA_ABORT, 0x07 | WRITE | CACHE)
    )?;
    expect_eq!(frame.far, AT + 0x44, "FAR")?;
    expect_frame(&frame, level, &state, code)?;
    let data = Frames::new(1);
    let full = space(level, data.address() | bits::PAGE);
    expect_eq!(
        run(snippet, level, &full, AT + 0x44).1.fault(),
        Fault::svc(1)
    )
}

/// DC ZVA of a read-only page aborts as a write without CM: it is a store, not maintenance.
#[case(spec = "DDI0487 D8.15 DC ZVA", rows(el1: Level::Here, el0: Level::User))]
fn dc_zva_aborts_as_a_store(level: Level) -> Verdict {
    let data = Frames::new(1);
    data.write(0, !0u64);
    let read_only = space(level, data.address() | bits::PAGE | bits::READ_ONLY);
    let (_, frame, _) = run(snippets::ZERO_SVC, level, &read_only, AT);
    let fault = Fault::new(level.class(ec::DATA_ABORT_LOWER), 0x0f | WRITE);
    expect_eq!(frame.fault(), fault)?;
    expect_eq!(data.read::<u64>(0), !0, "the memory")?;
    let open = space(level, data.address() | bits::PAGE);
    expect_eq!(
        run(snippets::ZERO_SVC, level, &open, AT).1.fault(),
        Fault::svc(1)
    )?;
    expect_eq!(data.read::<u64>(0), 0, "the memory")
}

/// An unaligned access to Device memory is an alignment fault with the exact address.
#[case(
    spec = "DDI0487 B2.8",
    rows(load: (snippets::LOAD_SVC, 0), store: (snippets::STORE_SVC, WRITE))
)]
fn unaligned_device_access_is_refused(row: (Snippet, u64)) -> Verdict {
    let level = Level::Here;
    let (snippet, write) = row;
    let data = Frames::new(1);
    let attributes = bits::PAGE & !bits::SHARED | bits::DEVICE;
    let device = space(level, data.address() | attributes);
    expect_eq!(
        run(snippet, level, &device, AT + 8).1.fault(),
        Fault::svc(1),
        "aligned"
    )?;
    let normal = space(level, data.address() | bits::PAGE);
    expect_eq!(
        run(snippet, level, &normal, AT + 9).1.fault(),
        Fault::svc(1),
        "memory"
    )?;
    let device = space(level, data.address() | attributes);
    for offset in [1, 2, 4, 7] {
        let (state, frame, code) = run(snippet, level, &device, AT + offset);
        let fault = Fault::new(ec::DATA_ABORT, ALIGNMENT | write);
        expect_eq!(frame.fault(), fault, "offset {offset}")?;
        expect_eq!(frame.far, AT + offset, "FAR")?;
        expect_frame(&frame, level, &state, code)?;
    }
    Ok(())
}

/// An exclusive or acquiring load that crosses 16 bytes is an alignment fault.
#[case(
    spec = "DDI0487 B2.8",
    rows(ldxr: snippets::EXCLUSIVE_SVC, ldar: snippets::ACQUIRE_SVC)
)]
fn unaligned_ordered_load_is_refused(snippet: Snippet) -> Verdict {
    let data = Frames::new(1);
    for level in [Level::Here, Level::User] {
        let full = space(level, data.address() | bits::PAGE);
        expect_eq!(
            run(snippet, level, &full, AT + 8).1.fault(),
            Fault::svc(1),
            "aligned"
        )?;
        let (state, frame, code) = run(snippet, level, &full, AT + 12);
        let class = level.class(ec::DATA_ABORT_LOWER);
        expect_eq!(frame.fault(), Fault::new(class, ALIGNMENT))?;
        expect_eq!(frame.far, AT + 12, "FAR")?;
        expect_frame(&frame, level, &state, code)?;
    }
    Ok(())
}
