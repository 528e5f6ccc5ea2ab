//! Breakpoints and watchpoints that are linked to a context. Spec: DDI0487 D2.8, D2.9.
//!
//! A debugger of one process links an address to CONTEXTIDR: the last breakpoints of a processor
//! can compare it. Linked ones hit only while the identifier matches, so a hypervisor that keeps a
//! breakpoint but loses its link stops every process.

use crate::setup::{ALL, DEBUG, Place, enable};
use guest_lib::arch::code::Code;
use guest_lib::arch::debug::{
    Debug, breakpoints, context_breakpoints, set_breakpoint_control, set_breakpoint_value,
    set_watchpoint_control, set_watchpoint_value,
};
use guest_lib::arch::enter::enter;
use guest_lib::arch::fault::ec;
use guest_lib::arch::registers::ContextidrEl1;
use guest_lib::arch::snippets::{ADDS, STORE_SVC};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const ID: u64 = 0x1234_5678;

/// CONTEXTIDR as it was, at the end.
struct Context(u64);

impl Fixture for Context {
    fn fresh() -> Result<Self, Stop> {
        Ok(Context(ContextidrEl1::read()))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        ContextidrEl1::write(self.0);
    }
}

/// The context-aware breakpoints, the last ones.
fn aware() -> core::ops::Range<usize> {
    breakpoints() - context_breakpoints()..breakpoints()
}

/// A breakpoint linked to a context hits while CONTEXTIDR has its value, and only then.
#[case(spec = "DDI0487 D2.8", rows(el1: Place::Here, el0: Place::User))]
fn linked_breakpoint_needs_its_context(
    _debug: &mut Debug,
    _context: &mut Context,
    place: Place,
) -> Verdict {
    let code = Code::new(ADDS.words());
    let state = place.state(&code);
    let hit = Fault::new(place.class(ec::BREAKPOINT_LOWER), DEBUG);
    for n in aware().filter(|&n| n != 0) {
        set_breakpoint_value(n, ID);
        // Linked context match; its own level is that of any.
        set_breakpoint_control(n, 0b0011 << 20 | 0xf << 5 | place.breakpoint());
        set_breakpoint_value(0, code.address() + 4);
        set_breakpoint_control(0, 0b0001 << 20 | (n as u64) << 16 | place.breakpoint());
        for (id, expected) in [(ID, hit), (ID + 1, Fault::svc(1)), (ID, hit)] {
            ContextidrEl1::write(id);
            enable(ALL);
            let frame = enter(&state);
            enable(0);
            expect_eq!(frame.fault(), expected, "link {n}, CONTEXTIDR {id:#x}")?;
        }
        // The same without the link.
        set_breakpoint_control(0, place.breakpoint());
        ContextidrEl1::write(ID + 1);
        enable(ALL);
        let frame = enter(&state);
        enable(0);
        expect_eq!(frame.fault(), hit, "unlinked")?;
        set_breakpoint_control(n, 0);
    }
    Ok(())
}

/// A watchpoint linked to a context hits while CONTEXTIDR has its value, and only then.
#[case(spec = "DDI0487 D2.9", rows(el1: Place::Here, el0: Place::User))]
fn linked_watchpoint_needs_its_context(
    _debug: &mut Debug,
    _context: &mut Context,
    place: Place,
) -> Verdict {
    let data = Frames::new(1);
    let code = Code::new(STORE_SVC.words());
    let mut state = place.state(&code);
    state.x[1] = data.address();
    for n in aware() {
        set_breakpoint_value(n, ID);
        set_breakpoint_control(n, 0b0011 << 20 | 0xf << 5 | place.breakpoint());
        set_watchpoint_value(0, data.address());
        let linked = 1 << 20 | (n as u64) << 16;
        set_watchpoint_control(0, place.watchpoint(0xff, 2) | linked);
        for (id, expected) in [(ID, true), (ID - 1, false), (ID, true)] {
            ContextidrEl1::write(id);
            enable(ALL);
            let frame = enter(&state);
            enable(0);
            let hit = frame.fault().ec() == place.class(ec::WATCHPOINT_LOWER);
            expect_eq!(hit, expected, "link {n}, CONTEXTIDR {id:#x}")?;
        }
        set_breakpoint_control(n, 0);
    }
    Ok(())
}

/// An unlinked context breakpoint stops the first instruction that runs with its identifier.
#[case(spec = "DDI0487 D2.8")]
fn unlinked_context_breakpoint_hits(_debug: &mut Debug, _context: &mut Context) -> Verdict {
    let code = Code::new(ADDS.words());
    let place = Place::User;
    let state = place.state(&code);
    let n = aware().start;
    set_breakpoint_value(n, ID);
    set_breakpoint_control(n, 0b0010 << 20 | 0xf << 5 | place.breakpoint());
    for (id, expected) in [
        (ID + 1, Fault::svc(1)),
        (ID, Fault::new(place.class(ec::BREAKPOINT_LOWER), DEBUG)),
    ] {
        ContextidrEl1::write(id);
        enable(ALL);
        let frame = enter(&state);
        enable(0);
        expect_eq!(frame.fault(), expected, "CONTEXTIDR {id:#x}")?;
    }
    Ok(())
}
