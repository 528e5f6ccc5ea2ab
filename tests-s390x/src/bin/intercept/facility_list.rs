//! STORE FACILITY LIST and its extended form: what the machine says it can do.
//!
//! Spec: SA22-7832 7 STORE FACILITY LIST EXTENDED, 10 STORE FACILITY LIST.

use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::lowcore::{self, offset};
use guest_lib::arch::{cpu, registers as r};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

fn stfle(r0: u64, address: u64) -> Result<guest_lib::arch::exec::Ran, Fault> {
    execute(&[0xb2b0, 0x2000], registers([(0, r0), (2, address)]))
}

/// STFL and STFLE tell the same first word, and it names z/Architecture as installed and active.
#[case(spec = "SA22-7832 10 STORE FACILITY LIST")]
fn both_forms_agree() -> Verdict {
    cpu::store_facility_list(0)?;
    let word = lowcore::read32(offset::STFL);
    expect_eq!(u64::from(word), r::facilities()[0] >> 32)?;
    // Bit 1: z/Architecture is installed; bit 2: it is active.
    expect_eq!(word >> 29 & 3, 3)
}

/// STFLE stores as many doublewords as there are, at most as many as register 0 allows, and says
/// how many there are.
#[case(spec = "SA22-7832 7 STORE FACILITY LIST EXTENDED")]
fn stfle_stores_no_more_than_asked() -> Verdict {
    let page = Frames::new(1);
    let all = stfle(0xff, page.address())?;
    let count = (all.registers[0] & 0xff) as usize + 1;
    expect_eq!(all.cc, 0)?;
    expect!(count >= 2, "{count} doublewords")?;
    for allowed in 1..=count {
        let page = Frames::new(1);
        for i in 0..=count {
            page.write(8 * i, u64::MAX);
        }
        let ran = stfle(allowed as u64 - 1, page.address())?;
        expect_eq!(
            ran.cc,
            if allowed < count { 3 } else { 0 },
            "{allowed} of {count}"
        )?;
        expect_eq!((ran.registers[0] & 0xff) as usize + 1, count)?;
        let stored = (0..=count)
            .take_while(|&i| page.read::<u64>(8 * i) != u64::MAX)
            .count();
        expect_eq!(stored, allowed)?;
    }
    Ok(())
}

/// STFLE changes the low byte of register 0 only.
#[case(spec = "SA22-7832 7 STORE FACILITY LIST EXTENDED")]
fn stfle_keeps_the_rest_of_register_0() -> Verdict {
    let page = Frames::new(1);
    let ran = stfle(0x1122_3344_5566_0003, page.address())?;
    expect_eq!(ran.registers[0] >> 8, 0x0011_2233_4455_6600)
}

/// STFLE wants a doubleword boundary.
#[case(spec = "SA22-7832 7 STORE FACILITY LIST EXTENDED")]
fn stfle_refuses_a_misaligned_operand() -> Verdict {
    let page = Frames::new(1);
    for off in 1..8 {
        expect_eq!(
            stfle(1, page.address() + off).err(),
            Some(Fault::SPECIFICATION)
        )?;
    }
    expect!(stfle(1, page.address() + 8).is_ok(), "aligned")
}

/// STFLE is open to problem state and tells the same there; STFL is privileged.
#[case(spec = "SA22-7832 7 STORE FACILITY LIST EXTENDED")]
fn stfle_is_not_privileged() -> Verdict {
    let inside = fault::catch_user(r::facilities)?;
    expect_eq!(inside, r::facilities())?;
    let refused = fault::catch_user(|| cpu::store_facility_list(0))?;
    expect_eq!(refused, Err(Fault::PRIVILEGED_OPERATION))
}

/// Every processor has the same facilities.
#[case(spec = "SA22-7832 7 STORE FACILITY LIST EXTENDED", needs("cpus>=2"))]
fn processors_have_the_same_facilities() -> Verdict {
    let lists = cpus::on_all(|_| r::facilities())?;
    for (cpu, list) in cpus::all().zip(&lists) {
        expect_eq!(list, &lists[0], "{cpu:?}")?;
    }
    Ok(())
}
