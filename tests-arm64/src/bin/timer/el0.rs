//! EL0's access to counters and timers. Spec: DDI0487 D24.10 CNTKCTL_EL1.
//!
//! CNTKCTL_EL1 opens each of the four to EL0 by a bit of its own. A closed one traps with class 0x18,
//! which names the register; a hypervisor that traps the physical ones itself must still honour
//! the guest's bits first.

use guest_lib::arch::fault::ec;
use guest_lib::arch::probe::{self, Probe};
use guest_lib::arch::registers::CntkctlEl1;
use guest_lib::prelude::*;

/// CNTKCTL_EL1, put back at the end.
struct Access(u64);

impl Fixture for Access {
    fn fresh() -> Result<Self, Stop> {
        Ok(Access(CntkctlEl1::read()))
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        CntkctlEl1::write(self.0);
    }
}

const EL0PCTEN: u64 = 1 << 0;
const EL0VCTEN: u64 = 1 << 1;
const EL0VTEN: u64 = 1 << 8;
const EL0PTEN: u64 = 1 << 9;

/// A register is closed to EL0 while its bit is clear, whatever the others are, and open while it is
/// set.
#[case(
    spec = "DDI0487 D24.10 CNTKCTL_EL1",
    rows(
        virtual_counter: (EL0VCTEN, probe::VIRTUAL_COUNT),
        physical_counter: (EL0PCTEN, probe::PHYSICAL_COUNT),
        virtual_timer: (EL0VTEN, probe::VIRTUAL_TIMER),
        physical_timer: (EL0PTEN, probe::PHYSICAL_TIMER),
    )
)]
fn bit_opens_its_register(access: &mut Access, row: (u64, Probe)) -> Verdict {
    let (bit, read) = row;
    let all = EL0PCTEN | EL0VCTEN | EL0VTEN | EL0PTEN;
    CntkctlEl1::write(access.0 & !all | all & !bit);
    fault::forget();
    let refused = fault::catch_user(|| read.run(0, 0)).err();
    expect_eq!(refused.map(Fault::ec), Some(ec::SYSTEM))?;
    expect_eq!(fault::details().elr, read.address())?;
    // Bit 0 of the syndrome says that the instruction is a read.
    expect_eq!(refused.map(|f| f.iss() & 1), Some(1), "direction")?;
    fault::catch(|| read.run(0, 0))?;
    CntkctlEl1::write(access.0 & !all | bit);
    fault::catch_user(|| read.run(0, 0))?;
    Ok(())
}

/// The counter that EL0 reads is the one that the runtime reads.
#[case(spec = "DDI0487 D12.2")]
fn el0_reads_the_same_counter(access: &mut Access) -> Verdict {
    CntkctlEl1::write(access.0 | EL0VCTEN);
    let before = time::now();
    let there = fault::catch_user(|| probe::VIRTUAL_COUNT.run(0, 0))?;
    let after = time::now();
    expect_eq!(
        (before..=after).contains(&there),
        true,
        "{before:#x} {there:#x} {after:#x}"
    )
}
