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

/// Whether the watchdog answers: it is started for an hour and stopped.
pub fn has_watchdog() -> bool {
    diagnose(0x288, 0, 3600, 0).is_ok() && diagnose(0x288, 2, 0, 0).is_ok()
}

/// The request block of page-reference services: cancel with no token set.
pub fn page_reference_block(function: u16) -> crate::memory::Frames {
    let block = crate::memory::Frames::new(1);
    // Length in doublewords, diagnose code, function, version.
    block.write(0, 5u16);
    block.write(2, 0x258u16);
    block.write(4, function);
    block.write(6, 2u16);
    block
}

/// DIAGNOSE 0x258 with the block at `address`.
pub fn page_reference(address: u64) -> Result<Ran, Fault> {
    diagnose(0x258, address, 0, 0)
}

/// Whether page-reference services answer a cancel.
pub fn has_page_reference_services() -> bool {
    page_reference(page_reference_block(1).address()).is_ok()
}
