//! Aborts: syndrome, address, direction. Spec: DDI0487 D8.15, D7.6.
//!
//! A data abort's syndrome tells status, direction and, for stage 2 only, the instruction. What lies
//! outside RAM and devices must end in finite time: with a value or with an external abort that
//! is exact.

use guest_lib::arch::fault::ec;
use guest_lib::arch::paging::{PRIVATE, Space, bits};
use guest_lib::arch::probe::{self, Probe};
use guest_lib::arch::registers::ParEl1;
use guest_lib::arch::{paging, platform};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const AT: u64 = PRIVATE + 0x765_4321_0000;

/// The first address behind the last region of RAM.
fn behind_ram() -> u64 {
    platform::memory_map()
        .iter()
        .map(|&(a, l)| a + l)
        .max()
        .unwrap_or(0)
}

/// A stage 1 fault has status, direction and address, and no instruction in its syndrome.
#[case(
    spec = "DDI0487 D8.15",
    rows(
        load: (probe::LOAD, false),
        signed_byte_load: (probe::LOAD_SIGNED8, false),
        half_load: (probe::LOAD16, false),
        store: (probe::STORE, true),
        byte_store: (probe::STORE8, true),
    )
)]
fn stage_1_fault_has_a_plain_syndrome(row: (Probe, bool)) -> Verdict {
    let (probe, write) = row;
    let mut space = Space::kernel();
    space.set(AT, 3, 0);
    fault::forget();
    let refused = fault::catch(|| space.run(|| probe.run(AT + 0x10, 0)));
    let expected = Fault::new(ec::DATA_ABORT, 7 | u64::from(write) << 6);
    expect_eq!(refused, Err(expected))?;
    expect_eq!(fault::details().far, AT + 0x10, "FAR")?;
    expect_eq!(fault::details().elr, probe.address(), "ELR")?;
    let frame = Frames::new(1);
    space.set(AT, 3, frame.address() | bits::PAGE);
    paging::flush();
    fault::catch(|| space.run(|| probe.run(AT + 0x10, 0)))?;
    Ok(())
}

/// A cache maintenance fault says so in its syndrome, and counts as a write.
#[case(spec = "DDI0487 D8.15")]
fn cache_maintenance_fault_says_so() -> Verdict {
    let mut space = Space::kernel();
    space.set(AT, 3, 0);
    fault::forget();
    let refused = fault::catch(|| space.run(|| probe::CLEAN.run(AT, 0)));
    let expected = Fault::new(ec::DATA_ABORT, 7 | 1 << 6 | 1 << 8);
    expect_eq!(refused, Err(expected))?;
    expect_eq!(fault::details().far, AT, "FAR")
}

/// A fetch from an unmapped page faults at its target.
#[case(spec = "DDI0487 D8.15")]
fn fetch_fault_is_exact() -> Verdict {
    let mut space = Space::kernel();
    space.set(AT, 3, 0);
    fault::forget();
    let refused = fault::catch(|| space.run(|| probe::JUMP.run(AT + 8, 0)));
    expect_eq!(refused, Err(Fault::new(ec::INSTRUCTION_ABORT, 7)))?;
    expect_eq!(
        (fault::details().elr, fault::details().far),
        (AT + 8, AT + 8),
        "(ELR, FAR)"
    )
}

/// A misaligned branch target is a PC alignment fault.
#[case(spec = "DDI0487 D1.4")]
fn misaligned_pc_faults() -> Verdict {
    let target = probe::NOPS.address() + 2;
    fault::forget();
    let refused = fault::catch(|| probe::JUMP.run(target, 0));
    expect_eq!(refused, Err(Fault::new(ec::PC_ALIGNMENT, 0)))?;
    expect_eq!(
        (fault::details().elr, fault::details().far),
        (target, target),
        "(ELR, FAR)"
    )
}

/// Device memory refuses unaligned accesses with an alignment fault; write-back memory takes them.
#[case(spec = "DDI0487 B2.8")]
fn device_memory_wants_alignment() -> Verdict {
    let (mut space, frame) = (Space::kernel(), Frames::new(1));
    space.set(AT, 3, frame.address() | bits::PAGE);
    fault::catch(|| space.run(|| probe::LOAD.run(AT + 1, 0)))?;
    space.set(AT, 3, frame.address() | bits::PAGE | bits::DEVICE);
    paging::flush();
    fault::forget();
    let refused = fault::catch(|| space.run(|| probe::LOAD.run(AT + 1, 0)));
    expect_eq!(refused, Err(Fault::new(ec::DATA_ABORT, 0x21)))?;
    expect_eq!(fault::details().far, AT + 1, "FAR")
}

/// A load from behind RAM ends: with a value, or with an exact synchronous external abort.
#[case(
    spec = "DDI0487 D7.6",
    rows(
        load: (probe::LOAD, false),
        byte_load: (probe::LOAD_SIGNED8, false),
        store: (probe::STORE, true),
    )
)]
fn access_behind_ram_ends(row: (Probe, bool)) -> Verdict {
    let (probe, write) = row;
    let hole = behind_ram();
    fault::forget();
    match fault::catch(|| probe.run(hole, 0)) {
        Ok(value) => note!("value {value:#x}"),
        Err(fault) => {
            expect_eq!(fault.ec(), ec::DATA_ABORT)?;
            expect_eq!(fault.status(), 0x10, "a synchronous external abort")?;
            expect_eq!(fault.is_write(), write, "WnR")?;
            expect_eq!(fault.il(), true, "IL")?;
            expect_eq!(fault::details().far, hole, "FAR")?;
            expect_eq!(fault::details().elr, probe.address(), "ELR")?;
        }
    }
    Ok(())
}

/// A fetch from behind RAM is a synchronous external abort at its target.
#[case(spec = "DDI0487 D7.6")]
fn fetch_behind_ram_is_an_external_abort() -> Verdict {
    let hole = behind_ram();
    let mut space = Space::kernel();
    space.set(AT, 3, hole | bits::PAGE);
    fault::forget();
    let refused = fault::catch(|| space.run(|| probe::JUMP.run(AT, 0)));
    expect_eq!(refused, Err(Fault::new(ec::INSTRUCTION_ABORT, 0x10)))?;
    expect_eq!(
        (fault::details().elr, fault::details().far),
        (AT, AT),
        "(ELR, FAR)"
    )
}

/// An access behind RAM from EL0 aborts as one from a lower level.
#[case(spec = "DDI0487 D7.6")]
fn el0_access_behind_ram_is_from_a_lower_level() -> Verdict {
    let hole = behind_ram();
    let mut space = Space::user();
    space.set(AT, 3, hole | bits::PAGE | bits::USER);
    fault::forget();
    match space.run_user(|| probe::LOAD.run(AT, 0)) {
        Ok(value) => note!("value {value:#x}"),
        Err(fault) => {
            expect_eq!(
                (fault.ec(), fault.status()),
                (ec::DATA_ABORT_LOWER, 0x10),
                "(EC, DFSC)"
            )?;
            expect_eq!(fault::details().spsr & 0xf, 0, "SPSR.M is EL0t")?;
            expect_eq!(fault::details().far, AT, "FAR")?;
        }
    }
    Ok(())
}

/// AT instructions report translation, permission and access flag faults in PAR_EL1, and fault not.
#[case(
    spec = "DDI0487 C5.4 AT S1E1R",
    rows(
        valid: (bits::PAGE, None, None),
        read_only: (bits::PAGE | bits::READ_ONLY, None, Some(0xf)),
        no_access_flag: (bits::PAGE & !bits::ACCESSED, Some(0xb), Some(0xb)),
        invalid: (0, Some(7), Some(7)),
    )
)]
fn at_reports_in_par(row: (u64, Option<u64>, Option<u64>)) -> Verdict {
    let (flags, read, write) = row;
    let (mut space, frame) = (Space::kernel(), Frames::new(1));
    let raw = if flags == 0 {
        0
    } else {
        frame.address() | flags
    };
    space.set(AT, 3, raw);
    let status = |par: u64| (par & 1 != 0).then_some(par >> 1 & 0x3f);
    let got = fault::catch(|| {
        space.run(|| {
            (
                paging::translate_read(AT + 8),
                paging::translate_write(AT + 8),
            )
        })
    })?;
    expect_eq!(status(got.0), read, "status of a read")?;
    expect_eq!(status(got.1), write, "status of a write")?;
    if read.is_none() {
        expect_eq!(got.0 & 0x000f_ffff_ffff_f000, frame.address(), "PAR_EL1.PA")?;
        expect_eq!(got.0 >> 56, 0xff, "PAR_EL1.ATTR")?;
    }
    let _ = ParEl1::read();
    Ok(())
}
