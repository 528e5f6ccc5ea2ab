//! Descriptors, gates and stacks. Spec: SDM 3A 6.13, 6.14.
//!
//! Selector error codes have three fields (index, table, external), and an interrupt stack
//! table entry moves the stack whatever the privilege level: both are easy to get almost right.

use guest_lib::arch::segments::{self, FREE, KERNEL_DATA, with_gate};
use guest_lib::arch::{code::Code, cpu, paging};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Writable data, present, DPL 0.
const DATA: u64 = 0x00cf_9300_0000_ffff;
const PRESENT: u64 = 1 << 47;

/// Loading a segment that is not present raises #NP(selector), into SS #SS(selector).
#[case(spec = "SDM 3A 6.13 MOV")]
fn absent_segment_raises_np_and_ss() -> Verdict {
    segments::set_free_descriptor(0, DATA & !PRESENT);
    expect_eq!(cpu::load_ds(FREE), Err(Fault::np(u32::from(FREE))))?;
    expect_eq!(cpu::load_ss(FREE), Err(Fault::ss(u32::from(FREE))))?;
    segments::set_free_descriptor(0, DATA);
    expect_eq!(cpu::load_ds(FREE), Ok(()))?;
    expect_eq!(cpu::load_ss(FREE), Ok(()))?;
    cpu::load_ds(KERNEL_DATA)?;
    segments::set_free_descriptor(0, 0);
    Ok(())
}

/// A selector beyond the table's limit raises #GP with index and table bit in the error code.
#[case(spec = "SDM 3A 6.13 MOV")]
fn selector_beyond_the_limit_raises_gp_with_it() -> Verdict {
    expect_eq!(cpu::load_ds(0xfff8), Err(Fault::gp(0xfff8)))?;
    // TI = 1: the LDT, which is empty. RPL does not appear in the error code.
    expect_eq!(cpu::load_ds(0x0007), Err(Fault::gp(0x0004)))?;
    expect_eq!(cpu::load_ds(KERNEL_DATA), Ok(()))
}

/// A gate with an IST index switches to that stack, and a gate without one keeps the stack.
#[case(spec = "SDM 3A 6.14.5")]
fn gate_with_ist_switches_the_stack() -> Verdict {
    use core::sync::atomic::{AtomicU64, Ordering};
    static FRAME: AtomicU64 = AtomicU64::new(0);
    let stack = Frames::new(4);
    let _handler = fault::Handler::new(0x61, |frame| {
        FRAME.store(&raw const *frame as u64, Ordering::Relaxed);
    });
    let code = Code::new(&[0xcd, 0x61, 0xc3]);
    let inside =
        |address: u64| (stack.address()..stack.address() + stack.len() as u64).contains(&address);
    segments::set_ist(3, stack.address() + stack.len() as u64);

    with_gate(0x61, 0, 0, || code.call())?;
    let without = FRAME.swap(0, Ordering::Relaxed);
    with_gate(0x61, 0, 3, || code.call())?;
    let with = FRAME.load(Ordering::Relaxed);
    segments::set_ist(3, 0);

    expect!(!inside(without), "{without:#x} lies on the other stack")?;
    expect!(inside(with), "{with:#x} does not lie on the stack of IST 3")?;
    // The frame is 22 words, and the stack starts at the very top.
    expect_eq!(with, stack.address() + stack.len() as u64 - 22 * 8)
}

/// A page fault whose handler's stack is absent becomes #DF(0), on the double-fault stack.
#[case(spec = "SDM 3A 6.15 #DF")]
fn undeliverable_page_fault_becomes_double_fault() -> Verdict {
    let absent = paging::FREE_BASE + 0x10_0000;
    let page_fault = || cpu::peek(paging::FREE_BASE);
    expect_eq!(page_fault(), Err(Fault::pf(0)))?;

    segments::set_ist(4, absent);
    let undeliverable = with_gate(14, 0, 4, page_fault);
    segments::set_ist(4, 0);
    expect_eq!(undeliverable, Err(Fault::DF))?;

    expect_eq!(page_fault(), Err(Fault::pf(0)))
}
