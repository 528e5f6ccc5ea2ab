//! CPU reset and initial CPU reset: what they clear, what they keep.
//!
//! Spec: SA22-7832 4 CPU Reset, Initial CPU Reset. The state afterwards is read by STORE STATUS AT
//! ADDRESS, which both resets leave possible because they stop the processor.

use crate::target::{OTHER, Other};
use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::interrupts::take;
use guest_lib::arch::registers::{Cr0, Psw, cr0_with, set_control};
use guest_lib::arch::sigp::{self, Answer};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const GARBAGE: u64 = 0x1234_5678_9abc_def0;

/// Gives the other processor values that a reset has to clear, resets it, and stores its status.
fn status_after(other: &Other, order: u8) -> Result<Frames, Stop> {
    cpus::run_on(OTHER, || {
        set_control::<1>(GARBAGE);
        set_control::<7>(GARBAGE);
        set_control::<13>(GARBAGE);
        let page = Frames::new(1);
        page.write(0, GARBAGE);
        let at = registers([(2, page.address()), (5, 2), (0, 0x4242)]);
        // SCKC, SPT, SFPC r5, SCKPF.
        execute(&[0xb206, 0x2000], at)?;
        execute(&[0xb208, 0x2000], at)?;
        execute(&[0xb384, 0x0050], at)?;
        execute(&[0x0107], at).map(|_| ())
    })??;
    expect_eq!(other.order(order, 0), Answer::Accepted)?;
    expect!(
        time::wait_until(time::PATIENCE, || other.is_stopped()),
        "the reset stops it"
    )?;
    let save = Frames::new(1);
    let answer = other.order(sigp::STORE_STATUS_AT_ADDRESS, save.address());
    expect_eq!(answer, Answer::Accepted)?;
    Ok(save)
}

/// Initial CPU reset gives a register of the machine its initial value.
#[case(spec = "SA22-7832 4 Initial CPU Reset", needs("cpus>=2"), rows(
    psw_mask: (0x100, u64::MAX, 0),
    psw_address: (0x108, u64::MAX, 0),
    prefix: (0x118, 0xffff_ffff_0000_0000, 0),
    fpc: (0x118, 0x0000_0000_ffff_ffff, 0),
    tod_programmable: (0x120, 0x0000_0000_ffff_ffff, 0),
    clock_comparator: (0x130, u64::MAX, 0),
    control0: (0x180, u64::MAX, 0xe0),
    control1: (0x188, u64::MAX, 0),
    control2: (0x190, u64::MAX, 0),
    control3: (0x198, u64::MAX, 0),
    control4: (0x1a0, u64::MAX, 0),
    control5: (0x1a8, u64::MAX, 0),
    control6: (0x1b0, u64::MAX, 0),
    control7: (0x1b8, u64::MAX, 0),
    control8: (0x1c0, u64::MAX, 0),
    control9: (0x1c8, u64::MAX, 0),
    control10: (0x1d0, u64::MAX, 0),
    control11: (0x1d8, u64::MAX, 0),
    control12: (0x1e0, u64::MAX, 0),
    control13: (0x1e8, u64::MAX, 0),
    control14: (0x1f0, u64::MAX, 0xc200_0000),
    control15: (0x1f8, u64::MAX, 0),
))]
fn initial_reset_sets(other: &mut Other, (at, mask, value): (usize, u64, u64)) -> Verdict {
    let save = status_after(other, sigp::INITIAL_CPU_RESET)?;
    expect_eq!(save.read::<u64>(at) & mask, value)
}

/// CPU reset keeps the registers, the prefix and the control registers.
#[case(spec = "SA22-7832 4 CPU Reset", needs("cpus>=2"))]
fn cpu_reset_keeps_registers(other: &mut Other) -> Verdict {
    let save = status_after(other, sigp::CPU_RESET)?;
    for (at, what) in [(0x188, 1), (0x1b8, 7), (0x1e8, 13)] {
        expect_eq!(save.read::<u64>(at), GARBAGE, "control register {what}")?;
    }
    expect_eq!(u64::from(save.read::<u32>(0x118)), other.prefix(), "prefix")?;
    expect_eq!(save.read::<u32>(0x11c), 2, "FPC register")?;
    expect_ne!(save.read::<u64>(0x108), 0, "PSW address")
}

/// Both resets drop pending external and emergency calls.
#[case(spec = "SA22-7832 4 CPU Reset", needs("cpus>=2"), rows(
    cpu_reset: sigp::CPU_RESET,
    initial_cpu_reset: sigp::INITIAL_CPU_RESET,
))]
fn reset_drops_pending_calls(other: &mut Other, order: u8) -> Verdict {
    other.order(sigp::EXTERNAL_CALL, 0);
    other.order(sigp::EMERGENCY_SIGNAL, 0);
    expect_eq!(other.order(order, 0), Answer::Accepted)?;
    cpus::forget(OTHER);
    let pending = cpus::run_on(OTHER, || {
        let _subclasses = cr0_with(Cr0::EXTERNAL_CALL | Cr0::EMERGENCY_SIGNAL);
        take(Psw::EXTERNAL)
    })?;
    expect_eq!(pending, None)
}

/// A reset processor is stopped and stays so until it is started.
#[case(spec = "SA22-7832 4 CPU Reset", needs("cpus>=2"), rows(
    cpu_reset: sigp::CPU_RESET,
    initial_cpu_reset: sigp::INITIAL_CPU_RESET,
))]
fn reset_stops_the_processor(other: &mut Other, order: u8) -> Verdict {
    let beating = other.beat()?;
    expect_eq!(other.order(order, 0), Answer::Accepted)?;
    expect!(
        time::wait_until(time::PATIENCE, || other.is_stopped()),
        "stopped"
    )?;
    expect!(beating.stands(), "the loop stands")
}
