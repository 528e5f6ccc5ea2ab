//! Watchpoints. Spec: DDI0487 D2.9.
//!
//! A watchpoint is taken before its access is done, with FAR in the watched range and WnR for the
//! direction; afterwards the same access completes. Byte selects and masks say exactly which accesses
//! match, and a hypervisor or emulator that watches whole pages has to compute that again.

use crate::setup::{ALL, DEBUG, Place, enable, expect_from};
use guest_lib::arch::code::{self, Code};
use guest_lib::arch::debug::{Debug, set_watchpoint_control, set_watchpoint_value, watchpoints};
use guest_lib::arch::enter::enter;
use guest_lib::arch::fault::{Frame, ec};
use guest_lib::arch::registers::OslarEl1;
use guest_lib::arch::snippets::{self, Snippet};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const WRITE: u64 = 1 << 6;
/// Bits that only newer processors fill in: WPT, WPTV, WPF, FnP.
const FREE: u64 = 0x3f << 18 | 1 << 17 | 1 << 16 | 1 << 15;

fn access(place: Place, snippet: Snippet, address: u64) -> (Frame, u64) {
    let mut words = snippet.words().to_vec();
    words.push(code::svc(1));
    let code = Code::new(&words);
    let mut state = place.state(&code);
    (state.x[0], state.x[1]) = (0x1122_3344_5566_7788, address);
    enable(ALL);
    let frame = enter(&state);
    enable(0);
    (frame, code.address())
}

fn is_hit(frame: &Frame, place: Place) -> bool {
    frame.fault().ec() == place.class(ec::WATCHPOINT_LOWER)
}

/// Every implemented watchpoint stops its store before it is done, and the store completes afterwards.
#[case(spec = "DDI0487 D2.9", rows(el1: Place::Here, el0: Place::User))]
fn every_watchpoint_hits(_debug: &mut Debug, place: Place) -> Verdict {
    let data = Frames::new(1);
    for n in 0..watchpoints() {
        data.write(8, 0u64);
        set_watchpoint_value(n, data.address() + 8);
        set_watchpoint_control(n, place.watchpoint(0xff, 3));
        let (frame, code) = access(place, snippets::STR_X, data.address() + 8);
        let class = place.class(ec::WATCHPOINT_LOWER);
        let got = Fault(frame.esr & !FREE);
        expect_eq!(got, Fault::new(class, DEBUG | WRITE), "watchpoint {n}")?;
        expect_eq!(frame.far, data.address() + 8, "FAR")?;
        expect_eq!(frame.elr, code, "ELR")?;
        expect_eq!(data.read::<u64>(8), 0, "the memory before the store")?;
        set_watchpoint_control(n, 0);
        let (frame, _) = access(place, snippets::STR_X, data.address() + 8);
        expect_eq!(frame.fault(), Fault::svc(1), "without watchpoint {n}")?;
        expect_eq!(data.read::<u64>(8), 0x1122_3344_5566_7788)?;
    }
    note!("{} watchpoints", watchpoints());
    Ok(())
}

/// LSC chooses loads, stores or both, and WnR tells which it was.
#[case(spec = "DDI0487 D2.9", rows(loads: 1, stores: 2, both: 3))]
fn direction_is_chosen(_debug: &mut Debug, accesses: u64) -> Verdict {
    let data = Frames::new(1);
    for place in [Place::Here, Place::User] {
        set_watchpoint_value(0, data.address());
        set_watchpoint_control(0, place.watchpoint(0xff, accesses));
        for (snippet, bit) in [(snippets::LDR_X, 1), (snippets::STR_X, 2)] {
            let (frame, _) = access(place, snippet, data.address());
            expect_eq!(is_hit(&frame, place), accesses & bit != 0, "access {bit}")?;
            if accesses & bit != 0 {
                expect_eq!(frame.fault().is_write(), bit == 2, "WnR")?;
            }
        }
    }
    Ok(())
}

/// BAS chooses bytes of the doubleword: an access matches when it touches one of them.
#[case(
    spec = "DDI0487 D2.9",
    rows(first: 0x01, last: 0x80, low_half: 0x0f, middle: 0x18, high_half: 0xf0)
)]
fn bytes_are_chosen(_debug: &mut Debug, select: u64) -> Verdict {
    let data = Frames::new(1);
    set_watchpoint_value(0, data.address() + 64);
    set_watchpoint_control(0, Place::Here.watchpoint(select, 3));
    for (snippet, size) in [
        (snippets::LDRB, 1),
        (snippets::LDRH, 2),
        (snippets::LDR_W, 4),
    ] {
        for offset in (0..16).step_by(size as usize) {
            let touched = ((1u64 << size) - 1) << offset >> 4;
            let (frame, _) = access(Place::Here, snippet, data.address() + 60 + offset);
            let expected = touched & select != 0;
            let what = format!("{size} bytes at {}", offset as i64 - 4);
            expect_eq!(is_hit(&frame, Place::Here), expected, "{what}")?;
        }
    }
    Ok(())
}

/// MASK widens a watchpoint to a range of a power of two, and no further.
#[case(
    spec = "DDI0487 D2.9",
    rows(bytes_16: 4, bytes_64: 6, bytes_2048: 11)
)]
fn mask_widens_the_range(_debug: &mut Debug, mask: u64) -> Verdict {
    let data = Frames::new(3);
    let start = data.address() + 4096;
    let length = 1 << mask;
    set_watchpoint_value(0, start);
    set_watchpoint_control(0, Place::Here.watchpoint(0xff, 3) | mask << 24);
    for (address, expected) in [
        (start - 1, false),
        (start, true),
        (start + length / 2, true),
        (start + length - 1, true),
        (start + length, false),
    ] {
        let (frame, _) = access(Place::Here, snippets::LDRB, address);
        let what = format!("the byte at {:#x}", address.wrapping_sub(start) as i64);
        expect_eq!(is_hit(&frame, Place::Here), expected, "{what}")?;
    }
    Ok(())
}

/// A wide or paired access that begins before the watched byte is stopped too, with nothing of it done.
#[case(
    spec = "DDI0487 D2.9",
    rows(stp: snippets::STP_W, str_x: snippets::STR_X)
)]
fn overlapping_access_is_stopped(_debug: &mut Debug, snippet: Snippet) -> Verdict {
    let data = Frames::new(1);
    set_watchpoint_value(0, data.address());
    set_watchpoint_control(0, Place::Here.watchpoint(0x80, 2));
    let (frame, code) = access(Place::Here, snippet, data.address());
    expect_eq!(
        is_hit(&frame, Place::Here),
        true,
        "the access that covers the byte"
    )?;
    expect_eq!(frame.elr, code)?;
    // FAR may be anywhere in the access, up to the watched byte.
    let far = frame.far.wrapping_sub(data.address());
    expect!(far < 8, "FAR is {far:#x} from the access")?;
    set_watchpoint_value(0, data.address() + 8);
    let (frame, _) = access(Place::Here, snippet, data.address());
    expect_eq!(frame.fault(), Fault::svc(1), "a neighbour")
}

/// A level that is not chosen, or a locked OS lock, lets the access through.
#[case(spec = "DDI0487 D2.3")]
fn other_level_and_lock_pass(_debug: &mut Debug) -> Verdict {
    let data = Frames::new(1);
    set_watchpoint_value(0, data.address());
    for (watched, place) in [
        (Place::Here, Place::Here),
        (Place::Here, Place::User),
        (Place::User, Place::User),
        (Place::User, Place::Here),
    ] {
        set_watchpoint_control(0, watched.watchpoint(0xff, 3));
        let (frame, _) = access(place, snippets::LDR_X, data.address());
        expect_eq!(is_hit(&frame, place), watched == place, "without the lock")?;
        OslarEl1::write(1);
        let (frame, _) = access(place, snippets::LDR_X, data.address());
        OslarEl1::write(0);
        expect_eq!(frame.fault(), Fault::svc(1), "with the lock")?;
    }
    Ok(())
}

/// DC ZVA counts as a store to its whole block.
#[case(spec = "DDI0487 D2.9 DC ZVA")]
fn dc_zva_is_a_store(_debug: &mut Debug) -> Verdict {
    let data = Frames::new(1);
    data.write(24, !0u64);
    set_watchpoint_value(0, data.address() + 24);
    set_watchpoint_control(0, Place::Here.watchpoint(0xff, 2));
    let code = Code::new(snippets::ZERO_SVC.words());
    let mut state = Place::Here.state(&code);
    state.x[1] = data.address();
    enable(ALL);
    let frame = enter(&state);
    enable(0);
    expect_eq!(is_hit(&frame, Place::Here), true)?;
    expect_eq!(data.read::<u64>(24), !0, "the memory")?;
    set_watchpoint_control(0, 0);
    let frame = enter(&state);
    expect_from(&frame, &state, code.address() + 8)?;
    expect_eq!(data.read::<u64>(24), 0)
}
