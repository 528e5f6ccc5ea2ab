//! Vector registers, through storage: the compiler never uses them here.

use super::exec::{execute, registers};
use super::fault::Fault;
use super::registers::{Cr0, cr0_with};

/// Loads all 32 vector registers from the 512 bytes at `address`.
pub fn load_all(address: u64) -> Result<(), Fault> {
    let _on = cr0_with(Cr0::VECTOR | Cr0::AFP);
    // VLM v0,v15 and VLM v16,v31.
    execute(
        &[0xe70f, 0x2000, 0x0036, 0xe70f, 0x2100, 0x0c36],
        registers([(2, address)]),
    )
    .map(|_| ())
}

/// Stores all 32 vector registers to the 512 bytes at `address`.
pub fn store_all(address: u64) -> Result<(), Fault> {
    let _on = cr0_with(Cr0::VECTOR | Cr0::AFP);
    // VSTM v0,v15 and VSTM v16,v31.
    execute(
        &[0xe70f, 0x2000, 0x003e, 0xe70f, 0x2100, 0x0c3e],
        registers([(2, address)]),
    )
    .map(|_| ())
}

/// Loads v0 and v1 from `address`, executes a vector instruction, stores v2 behind them.
pub fn apply(instruction: [u16; 3], address: u64) -> Result<(), Fault> {
    let _on = cr0_with(Cr0::VECTOR | Cr0::AFP);
    let [a, b, c] = instruction;
    // VLM v0,v1; the instruction; VST v2.
    let code = [0xe701, 0x2000, 0x0036, a, b, c, 0xe720, 0x2020, 0x000e];
    execute(&code, registers([(2, address)])).map(|_| ())
}
