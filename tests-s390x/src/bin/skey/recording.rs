//! The reference and change bits: what the machine records about every access.
//!
//! Spec: SA22-7832 3 Storage Key, 10 RESET REFERENCE BIT EXTENDED. This is the architecture's own
//! dirty tracking; a hypervisor that loses a change bit makes its guest lose data.

use crate::page::KeyedPage;
use guest_lib::arch::exec::{load, store};
use guest_lib::arch::skey::{self, Skey};
use guest_lib::arch::{cpu, sigp, smp};
use guest_lib::prelude::*;

/// A store sets the change bit and the reference bit; before it both are zero.
#[case(spec = "SA22-7832 3 Change Recording")]
fn store_sets_the_change_bit(page: &mut KeyedPage) -> Verdict {
    page.set_key(Skey::acc(3))?;
    expect_eq!(page.key()?, Skey::acc(3))?;
    store(page.address() + 8, 1)?;
    expect_eq!(
        page.key()?,
        Skey(Skey::acc(3).0 | Skey::CHANGE | Skey::REFERENCE)
    )
}

/// A fetch sets the reference bit and not the change bit.
#[case(spec = "SA22-7832 3 Reference Recording")]
fn fetch_sets_the_reference_bit(page: &mut KeyedPage) -> Verdict {
    page.set_key(Skey::acc(3))?;
    load(page.address() + 8)?;
    expect_eq!(page.key()?, Skey(Skey::acc(3).0 | Skey::REFERENCE))
}

/// A store into one frame leaves the bits of the next.
#[case(spec = "SA22-7832 3 Change Recording")]
fn store_marks_its_frame_only() -> Verdict {
    let frames = guest_lib::memory::Frames::new(2);
    let (first, second) = (frames.address(), frames.address() + 4096);
    skey::set(first, Skey::acc(0))?;
    skey::set(second, Skey::acc(0))?;
    store(second - 8, 1)?;
    expect_eq!(
        (
            skey::get(first)?.is_changed(),
            skey::get(second)?.is_changed()
        ),
        (true, false)
    )?;
    store(second - 4, 1)?;
    expect!(
        skey::get(second)?.is_changed(),
        "a store across the border marks both"
    )
}

/// The condition code of RRBE tells the old reference and change bits, and only the reference
/// bit is reset.
#[case(spec = "SA22-7832 10 RESET REFERENCE BIT EXTENDED", rows(
    neither: (0, 0),
    change: (Skey::CHANGE, 1),
    reference: (Skey::REFERENCE, 2),
    both: (Skey::REFERENCE | Skey::CHANGE, 3),
))]
fn rrbe_tells_and_resets(page: &mut KeyedPage, (bits, cc): (u8, u8)) -> Verdict {
    page.set_key(Skey(0x30 | bits))?;
    expect_eq!(skey::reset_reference(page.address())?, cc)?;
    expect_eq!(page.key()?, Skey(0x30 | bits & Skey::CHANGE))?;
    expect_eq!(
        skey::reset_reference(page.address())?,
        cc & 1,
        "the second time"
    )
}

/// A reset reference bit is set again by the next access.
#[case(spec = "SA22-7832 3 Reference Recording")]
fn reference_is_recorded_again(page: &mut KeyedPage) -> Verdict {
    for round in 0..5 {
        skey::reset_reference(page.address())?;
        expect!(!page.key()?.is_referenced(), "reset, round {round}")?;
        load(page.address())?;
        expect!(page.key()?.is_referenced(), "set again, round {round}")?;
    }
    Ok(())
}

/// A cleared change bit is set again by the next store.
#[case(spec = "SA22-7832 3 Change Recording")]
fn change_is_recorded_again(page: &mut KeyedPage) -> Verdict {
    for round in 0..5 {
        page.set_key(Skey::acc(0))?;
        expect!(!page.key()?.is_changed(), "cleared, round {round}")?;
        store(page.address(), round)?;
        expect!(page.key()?.is_changed(), "set again, round {round}")?;
    }
    Ok(())
}

/// A control instruction that stores sets the change bit like any store.
#[case(spec = "SA22-7832 3 Change Recording", rows(
    stap: cpu::store_cpu_address,
    stidp: cpu::store_cpu_id,
    stpx: cpu::store_prefix,
    stpt: cpu::store_cpu_timer,
    stck: |a| cpu::store_clock(a).map(|_| ()),
))]
fn control_instructions_record_changes(
    page: &mut KeyedPage,
    operate: fn(u64) -> Result<(), Fault>,
) -> Verdict {
    page.set_key(Skey::acc(0))?;
    operate(page.address() + 16)?;
    expect!(page.key()?.is_changed(), "{:?}", page.key())
}

/// A refused store records no change.
#[case(spec = "SA22-7832 3 Change Recording")]
fn refused_store_records_no_change(page: &mut KeyedPage) -> Verdict {
    page.set_key(Skey::acc(0))?;
    expect_eq!(
        cpu::store_cpu_id(page.address() + 1),
        Err(Fault::SPECIFICATION)
    )?;
    expect!(!page.key()?.is_changed(), "nothing was stored")?;
    cpu::store_cpu_id(page.address())?;
    expect!(page.key()?.is_changed(), "now it was")
}

/// A store by another processor sets the change bit that this one reads.
#[case(spec = "SA22-7832 3 Change Recording", needs("cpus>=2"))]
fn change_by_another_processor_is_seen(page: &mut KeyedPage) -> Verdict {
    page.set_key(Skey::acc(0))?;
    let address = page.address();
    cpus::run_on(Cpu(1), || store(address, 1))??;
    expect!(page.key()?.is_changed(), "{:?}", page.key())?;
    page.set_key(Skey::acc(0))?;
    cpus::run_on(Cpu(1), || store(address, 2))??;
    expect!(page.key()?.is_changed(), "a second time: {:?}", page.key())
}

/// A key that one processor sets is what another one reads.
#[case(spec = "SA22-7832 3 Storage Key", needs("cpus>=2"))]
fn keys_are_shared_by_processors(page: &mut KeyedPage) -> Verdict {
    let address = page.address();
    for acc in [4, 11] {
        cpus::run_on(Cpu(1), || skey::set(address, Skey::acc(acc)))??;
        expect_eq!(page.key()?.protection(), Skey::acc(acc))?;
    }
    expect!(
        !sigp::is_stopped(smp::address(1)),
        "the other processor runs"
    )
}
