//! STOP AND STORE STATUS, STORE STATUS AT ADDRESS: the picture of a stopped processor.
//!
//! Spec: SA22-7832 4 Store Status, Stop and Store Status, Store Status at Address. Dump tools live
//! on it; each field is given a value that no other field has. Without an address the status goes
//! to fixed absolute locations from 0x1200 on, wherever the processor's prefix area is.

use crate::target::{OTHER, Other};
use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::registers::{Control, control};
use guest_lib::arch::sigp::{self, Answer, status};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Offsets in the 512 bytes of status.
const GENERAL: usize = 0x80;
const PSW: usize = 0x100;
const PREFIX: usize = 0x118;
const FPC: usize = 0x11c;
const TIMER: usize = 0x128;
const COMPARATOR: usize = 0x130;
const CONTROL: usize = 0x180;

/// What the CPU timer of the other processor counts down from.
const HOUR: u64 = 3600 * 4096 * 1_000_000;

/// Puts the other processor into a loop with known registers.
fn loop_in_known_state() -> Verdict {
    static LOOPING: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);
    LOOPING.store(false, core::sync::atomic::Ordering::Release);
    let flag = LOOPING.as_ptr() as u64;
    cpus::spawn_on(OTHER, move || {
        let _space = Control::<13>::loaded(0x1313_1313_1313_1313);
        let page = Frames::new(1);
        page.write(0, HOUR);
        page.write(8, 0xc0c0_c0c0_c0c0_c000u64);
        let _ = guest_lib::arch::cpu::set_cpu_timer(page.address());
        let _ = guest_lib::arch::cpu::set_clock_comparator(page.address() + 8);
        // SFPC r5; then MVI 0(r4),1 and a branch to itself.
        let code = [0xb384, 0x0050, 0x9201, 0x4000, 0xa7f4, 0x0000];
        let with = registers([(4, flag), (5, 2), (6, 0x6666), (7, 0x7777), (13, 0xdddd)]);
        let _ = execute(&code, with);
    })?;
    let looping = || LOOPING.load(core::sync::atomic::Ordering::Acquire);
    expect!(time::wait_until(time::PATIENCE, looping), "it loops")
}

fn check(save: impl Fn(usize) -> u64, prefix: u64) -> Verdict {
    expect_eq!(save(GENERAL + 8 * 6), 0x6666, "general register 6")?;
    expect_eq!(save(GENERAL + 8 * 7), 0x7777, "general register 7")?;
    expect_eq!(save(GENERAL + 8 * 13), 0xdddd, "general register 13")?;
    expect_eq!(
        save(CONTROL + 8 * 13),
        0x1313_1313_1313_1313,
        "control register 13"
    )?;
    expect_eq!(
        save(CONTROL) & 0xffff_ffff,
        control::<0>() & 0xffff_ffff,
        "control register 0"
    )?;
    let address = guest_lib::arch::exec::CODE + 8;
    expect_eq!(save(PSW + 8), address, "PSW address")?;
    expect_eq!(save(PREFIX) >> 32, prefix, "prefix")?;
    expect_eq!(save(FPC & !7) & 0xffff_ffff, 2, "FPC register")?;
    expect_eq!(
        save(COMPARATOR),
        0x00c0_c0c0_c0c0_c0c0,
        "clock comparator, bits 0 to 55"
    )
}

/// Absolute address 0x1200, which is a real address too: the boot processor's prefix is zero.
fn fixed(at: usize) -> u64 {
    guest_lib::arch::exec::load(0x1200 + at as u64).unwrap_or(0)
}

fn clear_fixed() -> Verdict {
    for at in (0..512).step_by(8) {
        guest_lib::arch::exec::store(0x1200 + at, 0)?;
    }
    Ok(())
}

/// STOP AND STORE STATUS stops the processor and fills the fixed save area.
#[case(spec = "SA22-7832 4 Stop and Store Status", needs("cpus>=2"))]
fn stop_and_store_fills_the_fixed_area(other: &mut Other) -> Verdict {
    clear_fixed()?;
    loop_in_known_state()?;
    expect_eq!(
        other.order(sigp::STOP_AND_STORE_STATUS, 0),
        Answer::Accepted
    )?;
    expect!(
        time::wait_until(time::PATIENCE, || other.is_stopped()),
        "it stops"
    )?;
    check(fixed, other.prefix())
}

/// On a stopped processor it stores the status all the same.
#[case(spec = "SA22-7832 4 Stop and Store Status", needs("cpus>=2"))]
fn stopped_processor_stores_its_status(other: &mut Other) -> Verdict {
    loop_in_known_state()?;
    other.stop()?;
    clear_fixed()?;
    expect_eq!(
        other.order(sigp::STOP_AND_STORE_STATUS, 0),
        Answer::Accepted
    )?;
    let stored = || fixed(GENERAL + 48) == 0x6666;
    expect!(time::wait_until(time::PATIENCE, stored), "the status comes")?;
    check(fixed, other.prefix())
}

/// STORE STATUS AT ADDRESS fills 512 bytes anywhere, and not one more.
#[case(spec = "SA22-7832 4 Store Status at Address", needs("cpus>=2"))]
fn store_status_fills_512_bytes(other: &mut Other) -> Verdict {
    loop_in_known_state()?;
    other.stop()?;
    let save = Frames::new(1);
    for at in (0..4096).step_by(8) {
        save.write(at, u64::MAX);
    }
    let answer = other.order(sigp::STORE_STATUS_AT_ADDRESS, save.address() + 512);
    expect_eq!(answer, Answer::Accepted)?;
    check(|at| save.read(512 + at), other.prefix())?;
    expect!(save.bytes()[..512].iter().all(|&b| b == 0xff), "before")?;
    expect!(save.bytes()[1024..].iter().all(|&b| b == 0xff), "after")
}

/// The CPU timer is stored as STORE CPU TIMER would have stored it when the processor stopped.
#[case(spec = "SA22-7832 4 Store Status", needs("cpus>=2"))]
fn stored_cpu_timer_is_the_timer(other: &mut Other) -> Verdict {
    loop_in_known_state()?;
    other.stop()?;
    let save = Frames::new(1);
    let answer = other.order(sigp::STORE_STATUS_AT_ADDRESS, save.address());
    expect_eq!(answer, Answer::Accepted)?;
    let timer = save.read::<u64>(TIMER);
    expect!(
        timer <= HOUR && timer > HOUR / 2,
        "{timer:#x}, counting down from {HOUR:#x}"
    )
}

/// STORE STATUS AT ADDRESS of a running processor is refused and stores nothing.
#[case(spec = "SA22-7832 4 Store Status at Address", needs("cpus>=2"))]
fn running_processor_stores_nothing(other: &mut Other) -> Verdict {
    let save = Frames::new(1);
    let refused = other.order(sigp::STORE_STATUS_AT_ADDRESS, save.address());
    expect_eq!(refused, Answer::Status(status::INCORRECT_STATE))?;
    expect!(save.bytes().iter().all(|&b| b == 0), "nothing is stored")?;
    expect!(!other.is_stopped(), "it runs on")?;
    other.stop()?;
    let answer = other.order(sigp::STORE_STATUS_AT_ADDRESS, save.address());
    expect_eq!(answer, Answer::Accepted)
}

/// STORE STATUS AT ADDRESS beyond storage is refused as an invalid parameter.
#[case(spec = "SA22-7832 4 Store Status at Address", needs("cpus>=2"))]
fn status_beyond_storage_is_refused(other: &mut Other) -> Verdict {
    other.stop()?;
    let refused = other.order(sigp::STORE_STATUS_AT_ADDRESS, guest_lib::memory::total());
    expect_eq!(refused, Answer::Status(status::INVALID_PARAMETER))
}
