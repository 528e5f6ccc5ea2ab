//! Self-hosted debug. Spec: DDI0487 D2.
//!
//! A debugger arms breakpoints and waits, for hours if need be. A host that forgets them says
//! nothing: the program just runs on.

use guest_lib::arch::code::Code;
use guest_lib::arch::debug::{
    Debug, MDSCR_KDE, MDSCR_MDE, breakpoint_control, breakpoint_here, breakpoint_value,
    breakpoints, set_breakpoint_control, set_breakpoint_value, set_watchpoint_control,
    set_watchpoint_value, watchpoint_control, watchpoint_here, watchpoint_value, watchpoints,
};
use guest_lib::arch::interrupts;
use guest_lib::arch::registers::MdscrEl1;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

const RET: u32 = 0xd65f_03c0;

/// Runs `body` with breakpoints and watchpoints of the own level on.
fn watched<T>(body: impl FnOnce() -> T) -> Result<T, Fault> {
    MdscrEl1::write(MDSCR_KDE | MDSCR_MDE);
    let result = fault::catch(|| {
        interrupts::unmask_debug();
        let result = body();
        interrupts::mask_debug();
        result
    });
    interrupts::mask_debug();
    MdscrEl1::write(0);
    result
}

/// Every breakpoint register stays.
#[case(spec = "DDI0487 D2.8", needs("service.migrate"))]
fn breakpoint_registers_stay(_debug: &mut Debug) -> Verdict {
    for n in 0..breakpoints() {
        set_breakpoint_value(n, 0x1000_0000 + 0x40 * n as u64);
        set_breakpoint_control(n, breakpoint_here() & !1);
    }
    let all = || -> Vec<(u64, u64)> {
        (0..breakpoints())
            .map(|n| (breakpoint_value(n), breakpoint_control(n)))
            .collect()
    };
    let before = all();
    service::ask(Request::Migrate)?;
    expect_eq!(all(), before, "DBGBVR, DBGBCR")?;
    expect_eq!(before[1].0, 0x1000_0040, "control")
}

/// Every watchpoint register stays.
#[case(spec = "DDI0487 D2.9", needs("service.migrate"))]
fn watchpoint_registers_stay(_debug: &mut Debug) -> Verdict {
    for n in 0..watchpoints() {
        set_watchpoint_value(n, 0x2000_0000 + 0x40 * n as u64);
        set_watchpoint_control(n, watchpoint_here(0xf0, 2) & !1);
    }
    let all = || -> Vec<(u64, u64)> {
        (0..watchpoints())
            .map(|n| (watchpoint_value(n), watchpoint_control(n)))
            .collect()
    };
    let before = all();
    service::ask(Request::Migrate)?;
    expect_eq!(all(), before, "DBGWVR, DBGWCR")?;
    expect_eq!(before[1].0, 0x2000_0040, "control")
}

/// A breakpoint that was armed before the move is taken after it.
#[case(spec = "DDI0487 D2.8", needs("service.migrate"))]
fn armed_breakpoint_is_taken(_debug: &mut Debug) -> Verdict {
    // NOP; RET: the breakpoint is on the RET.
    let code = Code::new(&[0xd503_201f, RET]);
    expect_eq!(watched(|| code.run(1, 2)), Ok(1), "without a breakpoint")?;
    let last = breakpoints() - 1;
    set_breakpoint_value(last, code.address() + 4);
    set_breakpoint_control(last, breakpoint_here());
    service::ask(Request::Migrate)?;
    let taken = watched(|| code.run(1, 2)).map_err(|fault| fault.ec());
    set_breakpoint_control(last, 0);
    expect_eq!(taken, Err(0x31), "the exception class")?;
    expect_eq!(fault::details().elr, code.address() + 4, "ELR")?;
    expect_eq!(watched(|| code.run(1, 2)), Ok(1), "with the breakpoint off")
}

/// A watchpoint that was armed before the move stops a store after it.
#[case(spec = "DDI0487 D2.9", needs("service.migrate"))]
fn armed_watchpoint_is_taken(_debug: &mut Debug) -> Verdict {
    // STR X1, [X0]; RET.
    let code = Code::new(&[0xf900_0001, RET]);
    let data = Frames::new(1);
    let store = |offset: u64, value: u64| watched(|| code.run(data.address() + offset, value));
    let last = watchpoints() - 1;
    set_watchpoint_value(last, data.address() + 8);
    set_watchpoint_control(last, watchpoint_here(0xff, 2));
    service::ask(Request::Migrate)?;
    let beside = store(0, 5).map(|_| ()).map_err(|fault| fault.ec());
    let taken = store(8, 6).map(|_| ()).map_err(|fault| fault.ec());
    let untouched = data.read::<u64>(8);
    set_watchpoint_control(last, 0);
    expect_eq!(beside, Ok(()), "a store beside it")?;
    expect_eq!(taken, Err(0x35), "the exception class")?;
    expect_eq!(untouched, 0, "the memory before the store")?;
    store(8, 6)?;
    expect_eq!(data.read::<u64>(8), 6, "the store with the watchpoint off")
}
