//! Self-hosted debug: breakpoints, watchpoints, single step. Spec: DDI0487 D2.
//!
//! The guest's debugger and the hypervisor's own share the same registers. Every comparator that is
//! announced must hit exactly where it is set, and nowhere once it is off.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_lib::arch::debug::*;
use guest_lib::arch::fault::{Frame, ec};
use guest_lib::arch::interrupts;
use guest_lib::arch::probe::{self, Probe};
use guest_lib::arch::registers::{ContextidrEl1, MdscrEl1, OslarEl1, OslsrEl1};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Runs `probe` with debug exceptions open; the first one, if any.
fn run(probe: Probe, x0: u64) -> Result<u64, Fault> {
    fault::forget();
    let result = fault::catch(|| {
        interrupts::unmask_debug();
        probe.run(x0, 0x5a5a)
    });
    interrupts::mask_debug();
    result
}

fn arm() {
    MdscrEl1::write(MDSCR_KDE | MDSCR_MDE);
}

/// Every breakpoint hits at its address, and not when it is off.
#[case(spec = "DDI0487 D2.8")]
fn every_breakpoint_hits(_debug: &mut Debug) -> Verdict {
    arm();
    let at = probe::NOPS.address() + 4;
    for n in 0..breakpoints() {
        set_breakpoint_value(n, at);
        set_breakpoint_control(n, breakpoint_here());
        let hit = run(probe::NOPS, 0);
        expect_eq!(
            hit.err().map(Fault::ec),
            Some(ec::BREAKPOINT),
            "breakpoint {n}"
        )?;
        expect_eq!(fault::details().elr, at, "ELR at breakpoint {n}")?;
        set_breakpoint_control(n, 0);
        expect_eq!(run(probe::NOPS, 9), Ok(9), "with breakpoint {n} off")?;
    }
    Ok(())
}

/// Every watchpoint hits on a store to its address before the store is done; resumed, the store is done.
#[case(spec = "DDI0487 D2.9")]
fn every_watchpoint_hits(_debug: &mut Debug) -> Verdict {
    arm();
    let data = Frames::new(1);
    for n in 0..watchpoints() {
        data.write(8, 0u64);
        set_watchpoint_value(n, data.address() + 8);
        set_watchpoint_control(n, watchpoint_here(0xff, 3));
        let hit = run(probe::STORE, data.address() + 8);
        expect_eq!(
            hit.err().map(Fault::ec),
            Some(ec::WATCHPOINT),
            "watchpoint {n}"
        )?;
        expect_eq!(
            fault::details().far,
            data.address() + 8,
            "FAR at watchpoint {n}"
        )?;
        expect_eq!(
            fault::details().elr,
            probe::STORE.address(),
            "ELR at watchpoint {n}"
        )?;
        expect_eq!(
            fault::details().fault().is_write(),
            true,
            "WnR at watchpoint {n}"
        )?;
        expect_eq!(data.read::<u64>(8), 0, "memory at watchpoint {n}")?;
        set_watchpoint_control(n, 0);
        run(probe::STORE, data.address() + 8)?;
        expect_eq!(
            data.read::<u64>(8),
            0x5a5a,
            "memory with watchpoint {n} off"
        )?;
    }
    Ok(())
}

/// A watchpoint for loads spares stores, and one for stores spares loads.
#[case(spec = "DDI0487 D2.9", rows(loads: (1, true), stores: (2, false)))]
fn watchpoint_tells_loads_from_stores(_debug: &mut Debug, row: (u64, bool)) -> Verdict {
    let (accesses, loads) = row;
    arm();
    let data = Frames::new(1);
    set_watchpoint_value(0, data.address());
    set_watchpoint_control(0, watchpoint_here(0xff, accesses));
    expect_eq!(
        run(probe::LOAD, data.address()).is_err(),
        loads,
        "a load hits"
    )?;
    expect_eq!(
        run(probe::STORE, data.address()).is_err(),
        !loads,
        "a store hits"
    )
}

/// A watchpoint on some bytes spares the others.
#[case(spec = "DDI0487 D2.9")]
fn watchpoint_selects_bytes(_debug: &mut Debug) -> Verdict {
    arm();
    let data = Frames::new(1);
    set_watchpoint_value(0, data.address());
    set_watchpoint_control(0, watchpoint_here(0x0c, 3));
    for byte in 0..8 {
        let hit = run(probe::STORE8, data.address() + byte).is_err();
        expect_eq!(hit, byte == 2 || byte == 3, "a store to byte {byte} hits")?;
    }
    Ok(())
}

/// A masked debug exception is not taken.
#[case(spec = "DDI0487 D2.3")]
fn masked_breakpoint_does_not_hit(_debug: &mut Debug) -> Verdict {
    arm();
    set_breakpoint_value(0, probe::NOPS.address());
    set_breakpoint_control(0, breakpoint_here());
    expect_eq!(
        fault::catch(|| probe::NOPS.run(3, 0)),
        Ok(3),
        "with PSTATE.D set"
    )?;
    expect_eq!(run(probe::NOPS, 3).is_err(), true, "with PSTATE.D clear")
}

/// Without MDSCR_EL1.KDE or MDE no breakpoint of the handler's own level is taken.
#[case(spec = "DDI0487 D2.3", rows(without_kde: MDSCR_MDE, without_mde: MDSCR_KDE))]
fn disabled_debug_does_not_hit(_debug: &mut Debug, mdscr: u64) -> Verdict {
    MdscrEl1::write(mdscr);
    set_breakpoint_value(0, probe::NOPS.address());
    set_breakpoint_control(0, breakpoint_here());
    expect_eq!(run(probe::NOPS, 3), Ok(3))?;
    arm();
    expect_eq!(run(probe::NOPS, 3).is_err(), true, "with both")
}

/// The OS lock silences breakpoints and watchpoints, but not BRK.
#[case(spec = "DDI0487 D2.3 OSLAR_EL1")]
fn os_lock_silences_breakpoints(_debug: &mut Debug) -> Verdict {
    arm();
    set_breakpoint_value(0, probe::NOPS.address());
    set_breakpoint_control(0, breakpoint_here());
    OslarEl1::write(1);
    expect_eq!(OslsrEl1::read() & 2, 2, "OSLSR_EL1.OSLK")?;
    expect_eq!(run(probe::NOPS, 3), Ok(3), "locked")?;
    expect_eq!(
        run(probe::BRK, 0).err(),
        Some(Fault::new(ec::BRK64, 0x5a5a)),
        "BRK, locked"
    )?;
    OslarEl1::write(0);
    expect_eq!(run(probe::NOPS, 3).is_err(), true, "unlocked")
}

/// A breakpoint on SVC or BRK comes before the instruction's own exception.
#[case(
    spec = "DDI0487 D2.8",
    rows(svc: (probe::SVC, Fault::svc(123)), brk: (probe::BRK, Fault::new(ec::BRK64, 0x5a5a)))
)]
fn breakpoint_comes_before_the_instruction(_debug: &mut Debug, row: (Probe, Fault)) -> Verdict {
    let (probe, own) = row;
    arm();
    set_breakpoint_value(0, probe.address());
    set_breakpoint_control(0, breakpoint_here());
    expect_eq!(run(probe, 0).err().map(Fault::ec), Some(ec::BREAKPOINT))?;
    expect_eq!(fault::details().elr, probe.address())?;
    set_breakpoint_control(0, 0);
    expect_eq!(run(probe, 0).err(), Some(own), "with the breakpoint off")
}

/// A breakpoint linked to a context hits only with that CONTEXTIDR.
#[case(spec = "DDI0487 D2.8")]
fn linked_breakpoint_needs_its_context(_debug: &mut Debug) -> Verdict {
    arm();
    let context = breakpoints() - 1;
    set_breakpoint_value(context, 0x1234_5678);
    // BT = 3: a linked context ID; enabled with the same level fields.
    set_breakpoint_control(context, breakpoint_here() | 3 << 20);
    set_breakpoint_value(0, probe::NOPS.address());
    set_breakpoint_control(0, breakpoint_here() | 1 << 20 | (context as u64) << 16);
    let before = ContextidrEl1::read();
    ContextidrEl1::write(0x1111_1111);
    let other = run(probe::NOPS, 3);
    ContextidrEl1::write(0x1234_5678);
    let own = run(probe::NOPS, 3);
    ContextidrEl1::write(before);
    expect_eq!(other, Ok(3), "in another context")?;
    expect_eq!(
        own.err().map(Fault::ec),
        Some(ec::BREAKPOINT),
        "in its own context"
    )
}

/// Single step stops behind each instruction in turn.
#[case(spec = "DDI0487 D2.11")]
fn step_visits_each_instruction(_debug: &mut Debug) -> Verdict {
    const SS: u64 = 1 << 21;
    const D: u64 = 1 << 9;
    let first = probe::SVC_NOPS.address();
    let seen = [const { AtomicU64::new(0) }; 4];
    let count = AtomicU64::new(0);
    let hook = |frame: &mut Frame| {
        match frame.fault().ec() {
            ec::SVC64 => {
                // Starts stepping behind the SVC.
                MdscrEl1::write(MDSCR_KDE | MDSCR_SS);
                frame.spsr = (frame.spsr | SS) & !D;
            }
            ec::STEP => {
                let n = count.fetch_add(1, SeqCst);
                if let Some(slot) = seen.get(n as usize) {
                    slot.store(frame.elr, SeqCst);
                }
                frame.spsr |= SS;
                if n == 1 {
                    MdscrEl1::write(0);
                    frame.spsr &= !SS;
                    frame.spsr |= D;
                }
            }
            _ => return false,
        }
        true
    };
    let result = fault::catch(|| fault::with_hook(hook, || probe::SVC_NOPS.run(7, 0)))?;
    expect_eq!(result, 7)?;
    expect_eq!(count.load(SeqCst), 2, "steps")?;
    let seen = [seen[0].load(SeqCst), seen[1].load(SeqCst)];
    expect_eq!(seen, [first + 8, first + 12], "ELR of each step")
}
