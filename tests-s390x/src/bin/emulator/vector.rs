//! Vector registers: loaded, computed with, kept apart between processors.
//!
//! Spec: SA22-7832 21, 22. A hypervisor that switches them lazily loses them first when two
//! processors use them at once.

use guest_lib::arch::vector::{apply, load_all, store_all};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// All 32 registers come back as they were loaded.
#[case(spec = "SA22-7832 21", needs("s390x.vector"))]
fn registers_keep_their_values() -> Verdict {
    let page = Frames::new(1);
    for i in 0..512u32 {
        page.write(i as usize, (i * 11 + 3) as u8);
    }
    load_all(page.address())?;
    store_all(page.address() + 1024)?;
    expect!(
        page.bytes()[..512] == page.bytes()[1024..1536],
        "the registers"
    )
}

/// A faulting instruction and a problem-state call in between do not change them.
#[case(spec = "SA22-7832 21", needs("s390x.vector"))]
fn faults_keep_the_registers() -> Verdict {
    let page = Frames::new(1);
    for i in 0..512u32 {
        page.write(i as usize, (i * 13 + 5) as u8);
    }
    load_all(page.address())?;
    for _ in 0..50 {
        let beyond = guest_lib::arch::exec::load(guest_lib::memory::total());
        expect_eq!(beyond, Err(Fault::ADDRESSING))?;
        fault::catch_user(|| guest_lib::arch::cpu::store_cpu_id(page.address() + 8).is_err())?;
    }
    store_all(page.address() + 1024)?;
    expect!(
        page.bytes()[..512] == page.bytes()[1024..1536],
        "the registers"
    )
}

/// Each processor has its own.
#[case(spec = "SA22-7832 21", needs("s390x.vector", "cpus>=2"))]
fn processors_have_their_own() -> Verdict {
    let kept = cpus::on_all(|cpu| {
        let page = Frames::new(1);
        for i in 0..512u32 {
            page.write(i as usize, (i * 7 + cpu.0 as u32) as u8);
        }
        (0..50).all(|_| {
            load_all(page.address()).is_ok()
                && store_all(page.address() + 1024).is_ok()
                && page.bytes()[..512] == page.bytes()[1024..1536]
        })
    })?;
    expect!(kept.iter().all(|&kept| kept), "{kept:?}")
}

/// VECTOR ADD of halfwords adds each element on its own.
#[case(spec = "SA22-7832 22 VECTOR ADD", needs("s390x.vector"))]
fn va_adds_halfwords() -> Verdict {
    let page = Frames::new(1);
    for i in 0..8u32 {
        page.write(2 * i as usize, (0xfff0 + i) as u16);
        page.write(16 + 2 * i as usize, (i * 5) as u16);
    }
    apply([0xe720, 0x1000, 0x10f3], page.address())?;
    for i in 0..8u32 {
        let expected = (0xfff0 + i + i * 5) as u16;
        expect_eq!(
            page.read::<u16>(32 + 2 * i as usize),
            expected,
            "element {i}"
        )?;
    }
    Ok(())
}

/// VECTOR NAND.
#[case(spec = "SA22-7832 22 VECTOR NAND", needs("s390x.vector_enhancements1"))]
fn vnn_nands() -> Verdict {
    let page = Frames::new(1);
    let (a, b) = (
        0x0123_4567_89ab_cdef_u128 << 60,
        0xff00_ff00_ff00_ff00_u128 << 40 | 0xf0f0,
    );
    page.write(0, a);
    page.write(16, b);
    apply([0xe720, 0x1000, 0x006e], page.address())?;
    expect_eq!(page.read::<u128>(32), !(a & b))
}

/// VECTOR ADD DECIMAL adds packed digits.
#[case(
    spec = "SA22-7832 25 VECTOR ADD DECIMAL",
    needs("s390x.vector_decimal")
)]
fn vap_adds_digits() -> Verdict {
    let page = Frames::new(1);
    page.write(0, 0x9999_123c_u128);
    page.write(16, 0x0001_877c_u128);
    apply([0xe620, 0x1011, 0xf071], page.address())?;
    expect_eq!(page.read::<u128>(32), 0x1_0001_000c)
}
