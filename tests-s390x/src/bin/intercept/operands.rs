//! Storage operands of control instructions: alignment, existence, low-address protection.
//!
//! Spec: SA22-7832 10, 6 Specification / Addressing / Protection Exception. The instructions here
//! store or fetch one small operand, which a hypervisor does on the guest's behalf; each check
//! that the processor would make, the hypervisor has to make itself, before anything is stored.

use guest_lib::arch::cpu;
use guest_lib::arch::exec;
use guest_lib::arch::registers::{Cr0, cr0_with};
use guest_lib::memory::{Frames, total};
use guest_lib::prelude::*;

/// An instruction and the size of its operand, which is its alignment too.
#[derive(Clone, Copy)]
struct Op(fn(u64) -> Result<(), Fault>, u64);

const STPX: Op = Op(cpu::store_prefix, 4);
const STAP: Op = Op(cpu::store_cpu_address, 2);
const STIDP: Op = Op(cpu::store_cpu_id, 8);
const STCKC: Op = Op(cpu::store_clock_comparator, 8);
const STPT: Op = Op(cpu::store_cpu_timer, 8);
const SPX: Op = Op(cpu::set_prefix, 4);
const SCKC: Op = Op(cpu::set_clock_comparator, 8);
const SPT: Op = Op(cpu::set_cpu_timer, 8);
const SCK: Op = Op(|a| cpu::set_clock(a).map(|_| ()), 8);

/// A storing instruction writes its operand and not one byte beside it.
#[case(spec = "SA22-7832 10", rows(
    stpx: STPX, stap: STAP, stidp: STIDP, stckc: STCKC, stpt: STPT,
))]
fn stores_its_operand_only(Op(operate, size): Op) -> Verdict {
    let page = Frames::new(1);
    // Two backgrounds: a byte that is stored differs from at least one of them.
    let mut written = [false; 48];
    for background in [0x00u8, 0xff] {
        for i in 0..48 {
            page.write(i, background);
        }
        operate(page.address() + 16)?;
        for (i, touched) in written.iter_mut().enumerate() {
            *touched |= page.read::<u8>(i) != background;
        }
    }
    for (i, touched) in written.into_iter().enumerate() {
        let inside = (16..16 + size as usize).contains(&i);
        expect_eq!(touched, inside, "byte {i} of an operand at 16")?;
    }
    Ok(())
}

/// An operand that is not on its boundary is a specification exception, and nothing is stored.
#[case(spec = "SA22-7832 6 Specification Exception", rows(
    stpx: STPX, stap: STAP, stidp: STIDP, stckc: STCKC, stpt: STPT,
))]
fn misaligned_target_is_refused(Op(operate, size): Op) -> Verdict {
    let page = Frames::new(1);
    for off in 1..size {
        expect_eq!(
            operate(page.address() + off),
            Err(Fault::SPECIFICATION),
            "{off} bytes off"
        )?;
        expect!(
            page.bytes().iter().all(|&b| b == 0),
            "{off} bytes off, nothing is stored"
        )?;
    }
    expect_eq!(operate(page.address() + size), Ok(()))
}

/// A fetched operand that is not on its boundary is a specification exception.
#[case(spec = "SA22-7832 6 Specification Exception", rows(spx: SPX, sckc: SCKC, spt: SPT, sck: SCK))]
fn misaligned_source_is_refused(Op(operate, size): Op) -> Verdict {
    let page = Frames::new(1);
    for off in 1..size {
        expect_eq!(
            operate(page.address() + off),
            Err(Fault::SPECIFICATION),
            "{off} bytes off"
        )?;
    }
    Ok(())
}

/// An operand beyond the end of storage is an addressing exception.
#[case(spec = "SA22-7832 6 Addressing Exception", rows(
    stpx: STPX, stap: STAP, stidp: STIDP, stckc: STCKC, stpt: STPT,
    spx: SPX, sckc: SCKC, spt: SPT, sck: SCK,
))]
fn operand_beyond_storage_is_refused(Op(operate, _): Op) -> Verdict {
    expect_eq!(
        operate(total()),
        Err(Fault::ADDRESSING),
        "behind the last byte"
    )?;
    expect_eq!(
        operate(!7u64),
        Err(Fault::ADDRESSING),
        "at the end of the addresses"
    )
}

/// Low-address protection refuses stores to 0-511 and 4096-4607, and only those.
#[case(spec = "SA22-7832 3 Low-Address Protection", rows(
    stpx: STPX, stap: STAP, stidp: STIDP, stckc: STCKC, stpt: STPT,
    store: Op(|a| exec::store(a, 0x1122_3344_5566_7788), 8),
))]
fn low_address_protection_refuses_stores(Op(operate, size): Op) -> Verdict {
    // Bytes that nobody uses: 0x20 and 0x1010 in the protected ranges, 0xc00 and 0x1210 outside.
    expect_eq!(operate(0x20), Ok(()), "without protection")?;
    let _protection = cr0_with(Cr0::LOW_ADDRESS_PROTECTION);
    for low in [0x20, 512 - size, 4096, 0x1010, 4608 - size] {
        let before = exec::load(low & !7)?;
        expect_eq!(operate(low), Err(Fault::PROTECTION), "at {low:#x}")?;
        expect_eq!(exec::load(low & !7), Ok(before), "storage at {low:#x}")?;
    }
    for open in [512, 0xc00, 4096 - size, 4608, 0x1a00] {
        let before = exec::load(open & !7)?;
        expect_eq!(operate(open), Ok(()), "at {open:#x}")?;
        exec::store(open & !7, before)?;
    }
    Ok(())
}
