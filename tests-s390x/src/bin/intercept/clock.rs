//! The TOD clock: set, stored in three forms, unique, shared. Spec: SA22-7832 4 TOD Clock, 10 SET
//! CLOCK, 7 STORE CLOCK.
//!
//! A hypervisor gives the guest an offset to the host's clock; SET CLOCK changes the offset, and
//! every form and every processor must see the same one.

use guest_lib::arch::clock::TodClock;
use guest_lib::arch::cpu;
use guest_lib::arch::exec::{execute, registers};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const HOUR: core::time::Duration = core::time::Duration::from_secs(3600);

/// SET CLOCK sets the clock: condition code 0, and the next reading is at or after the value.
#[case(spec = "SA22-7832 10 SET CLOCK")]
fn clock_takes_the_value(clock: &mut TodClock) -> Verdict {
    for (value, what) in [
        (time::now() + time::ticks(10 * HOUR), "ahead"),
        (time::now() - time::ticks(10 * HOUR), "back"),
    ] {
        expect_eq!(clock.set(value), Ok(0), "{what}")?;
        let now = time::now();
        expect!(
            now >= value && now - value < time::ticks(HOUR),
            "{what}: {now:#x}"
        )?;
    }
    Ok(())
}

/// The clock goes on from the value it was set to.
#[case(spec = "SA22-7832 4 TOD Clock")]
fn clock_advances_after_it_was_set(clock: &mut TodClock) -> Verdict {
    clock.set(time::now() + time::ticks(HOUR))?;
    let first = time::now();
    let later = || time::now() > first + time::ticks(time::us(10));
    expect!(time::wait_until(time::PATIENCE, later), "it advances")
}

/// SET CLOCK is privileged, and a refused one leaves the clock.
#[case(spec = "SA22-7832 10 SET CLOCK")]
fn sck_is_privileged(clock: &mut TodClock) -> Verdict {
    let value = time::now() + time::ticks(10 * HOUR);
    let refused = fault::catch_user(|| clock.set(value))?;
    expect_eq!(refused, Err(Fault::PRIVILEGED_OPERATION))?;
    expect!(time::now() < value, "the clock stays")?;
    expect_eq!(clock.set(value), Ok(0))?;
    expect!(time::now() >= value, "and supervisor state sets it")
}

/// Two STORE CLOCKs never store the same value, and the later one stores the greater.
#[case(spec = "SA22-7832 7 STORE CLOCK")]
fn readings_are_unique_and_rise() -> Verdict {
    let mut last = time::now();
    for round in 0..1000 {
        let now = time::now();
        expect!(now > last, "round {round}: {now:#x} after {last:#x}")?;
        last = now;
    }
    Ok(())
}

/// STORE CLOCK EXTENDED lies between two STORE CLOCKs, and its epoch index is zero at first.
#[case(spec = "SA22-7832 7 STORE CLOCK EXTENDED")]
fn extended_form_agrees() -> Verdict {
    let page = Frames::new(1);
    let before = time::now();
    expect_eq!(cpu::store_clock_extended(page.address()), Ok(0))?;
    let after = time::now();
    expect_eq!(page.read::<u8>(0), 0, "epoch index")?;
    let shifted = page.read::<u64>(1);
    expect!(
        before <= shifted && shifted <= after,
        "{before:x} {shifted:x} {after:x}"
    )
}

/// The programmable field, which SET CLOCK PROGRAMMABLE FIELD sets, ends STORE CLOCK EXTENDED.
#[case(spec = "SA22-7832 10 SET CLOCK PROGRAMMABLE FIELD")]
fn programmable_field_is_stored() -> Verdict {
    let page = Frames::new(1);
    let set = |value: u64| execute(&[0x0107], registers([(0, value)])).map(|_| ());
    set(0x1234)?;
    let stored = cpu::store_clock_extended(page.address());
    let field = page.read::<u16>(14);
    set(0)?;
    cpu::store_clock_extended(page.address())?;
    expect_eq!(stored, Ok(0))?;
    expect_eq!((field, page.read::<u16>(14)), (0x1234, 0))
}

/// STORE CLOCK FAST rises too and stays beside STORE CLOCK.
#[case(spec = "SA22-7832 7 STORE CLOCK FAST")]
fn fast_form_agrees() -> Verdict {
    let page = Frames::new(1);
    let before = time::now();
    execute(&[0xb27c, 0x2000], registers([(2, page.address())]))?;
    let after = time::now();
    let fast = page.read::<u64>(0);
    expect!(
        before <= fast && fast <= after,
        "{before:x} {fast:x} {after:x}"
    )
}

/// STORE CLOCK takes any boundary.
#[case(spec = "SA22-7832 7 STORE CLOCK")]
fn stck_takes_any_boundary() -> Verdict {
    let page = Frames::new(1);
    for off in 0..8 {
        expect_eq!(cpu::store_clock(page.address() + off), Ok(0))?;
        expect_ne!(page.read::<u64>(off as usize), 0)?;
    }
    Ok(())
}

/// All processors see the clock that one of them has set.
#[case(spec = "SA22-7832 4 TOD Clock", needs("cpus>=2"))]
fn processors_share_the_clock(clock: &mut TodClock) -> Verdict {
    let before = time::now();
    let there = cpus::run_on(Cpu(1), time::now)?;
    expect!(there > before && there < time::now(), "before it is set")?;
    let value = time::now() + time::ticks(10 * HOUR);
    clock.set(value)?;
    let there = cpus::run_on(Cpu(1), time::now)?;
    expect!(
        there >= value && there < time::now(),
        "{there:x} against {value:x}"
    )
}

/// STORE CLOCK COMPARATOR returns what SET CLOCK COMPARATOR was given.
#[case(spec = "SA22-7832 10 STORE CLOCK COMPARATOR")]
fn clock_comparator_reads_back(comparator: &mut guest_lib::arch::clock::Comparator) -> Verdict {
    for value in [0, 0x1234_5678_9abc_d000, 0xffff_ffff_ffff_f000] {
        comparator.set(value)?;
        expect_eq!(comparator.get(), Ok(value))?;
    }
    Ok(())
}

/// The CPU timer counts down from what it was set to.
#[case(spec = "SA22-7832 10 STORE CPU TIMER")]
fn cpu_timer_counts_down(timer: &mut guest_lib::arch::clock::CpuTimer) -> Verdict {
    let start = time::ticks(HOUR) as i64;
    timer.set(start)?;
    let first = timer.get()?;
    expect!(
        first <= start && first > start / 2,
        "{first:#x} of {start:#x}"
    )?;
    let lower = || timer.get().is_ok_and(|now| now < first);
    expect!(time::wait_until(time::PATIENCE, lower), "it counts")
}
