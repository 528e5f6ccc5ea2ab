//! One access with every register watched. Spec: DDI0487 C3.2.
//!
//! The instruction under test is followed by one that counts in x10. A hypervisor that advances the
//! PC twice skips the count, one that forgets to advance it runs the access again, and one
//! that mixes up registers shows in the comparison of all of them.

use guest_lib::arch::code::observed;
use guest_lib::arch::fault::ec;
use guest_lib::arch::probe::Registers;
use guest_lib::arch::snippets::{COUNT, Snippet};
use guest_lib::prelude::*;

/// Registers before: a pattern, with the device's address in x1 and 0 in x3.
pub fn before(address: u64) -> Registers {
    let mut registers = Registers::pattern();
    registers.x[1] = address;
    registers.x[3] = 0;
    registers
}

/// What came of an access.
pub enum Outcome {
    /// It was done; the registers afterwards.
    Done(Box<Registers>),
    /// The machine refused it with an external abort.
    Refused,
}

/// Runs `snippet` once. The count is taken out of the registers that come back.
pub fn run(snippet: Snippet, registers: &Registers) -> Result<Outcome, Stop> {
    let mut words = snippet.words().to_vec();
    words.extend(COUNT.words());
    match fault::catch(|| observed(&words, registers)) {
        Ok(mut after) => {
            expect_eq!(
                after.x[10],
                registers.x[10] + 1,
                "the count behind the access"
            )?;
            after.x[10] = registers.x[10];
            if words.len() > 2 {
                // The snippet kept the stack pointer in x9, or moved x1 to and fro.
                after.x[9] = registers.x[9];
            }
            Ok(Outcome::Done(Box::new(after)))
        }
        Err(fault) => {
            expect_eq!(fault.ec(), ec::DATA_ABORT, "the class of the refusal")?;
            expect_eq!(fault.status(), 0x10, "the status of the refusal")?;
            Ok(Outcome::Refused)
        }
    }
}

/// As [`run`], where a refusal is a failure: the syndrome describes the access in full.
pub fn done(snippet: Snippet, registers: &Registers) -> Result<Registers, Stop> {
    match run(snippet, registers)? {
        Outcome::Done(after) => Ok(*after),
        Outcome::Refused => fail!("an access with a valid syndrome was refused"),
    }
}

/// Compares registers one by one, so that a difference has a name.
pub fn expect_registers(after: &Registers, expected: &Registers) -> Verdict {
    for i in 0..31 {
        expect_eq!(after.x[i], expected.x[i], "x{i}")?;
    }
    for i in 0..32 {
        expect_eq!(after.q[i], expected.q[i], "q{i}")?;
    }
    expect_eq!(after.sp, 0, "the stack pointer's change")?;
    expect_eq!(after.nzcv, expected.nzcv, "NZCV")
}
