//! DIAGNOSE, the hypervisor's own instruction: any code with any registers.

use super::exec::{Ran, execute, registers};
use super::fault::Fault;

/// DIAGNOSE `code` with the R1 operand in register 2 (its odd neighbour 3 too) and the R3
/// operand in register 4.
pub fn diagnose(code: u64, r1: u64, r1_odd: u64, r3: u64) -> Result<Ran, Fault> {
    execute(
        &[0x8324, 0x5000],
        registers([(2, r1), (3, r1_odd), (4, r3), (5, code)]),
    )
}

/// As [`diagnose`], with the register fields as they are; the code's address is in register 5.
pub fn diagnose_fields(fields: u8, all: [u64; 14]) -> Result<Ran, Fault> {
    execute(&[0x8300 | u16::from(fields), 0x5000], all)
}
