//! Channel I/O: the instructions, and the blocks they take.
//!
//! A subchannel is named by a word in general register 1. The channel subsystem reads operation-
//! request blocks and channel programs from storage and writes status there; a channel program
//! that names memory of the runtime overwrites it.

use super::exec::{Ran, execute, registers, rre, s_format_r1};
use super::fault::Fault;
use crate::memory::Frames;

/// CHANNEL SUBSYSTEM CALL on the block at `address`: the condition code.
pub fn chsc(address: u64) -> Result<u8, Fault> {
    rre(0xb25f, address, 0).map(|ran| ran.cc)
}

/// Writes a request for the channel-subsystem characteristics into `page`.
pub fn scsc_request(page: &Frames) {
    for offset in (0..4096).step_by(8) {
        page.write(offset, 0u64);
    }
    page.write(0, 16u16);
    page.write(2, 0x0010u16);
}

macro_rules! subchannel {
    ($($(#[$doc:meta])* $name:ident = $opcode:literal;)*) => {
        $($(#[$doc])* pub fn $name(subchannel: u32, address: u64) -> Result<u8, Fault> {
            s_format_r1($opcode, subchannel.into(), address)
        })*
    };
}

subchannel! {
    /// START SUBCHANNEL with the ORB at `address`.
    start = 0xb233;
    /// MODIFY SUBCHANNEL with the SCHIB at `address`.
    modify = 0xb232;
    /// STORE SUBCHANNEL to the SCHIB at `address`.
    store = 0xb234;
    /// TEST SUBCHANNEL, storing the IRB at `address`.
    test = 0xb235;
    /// STORE CHANNEL REPORT WORD at `address`; the subchannel means nothing.
    store_report = 0xb239;
    /// TEST PENDING INTERRUPTION, storing at `address` or, for 0, in the prefix area.
    test_pending = 0xb236;
}

macro_rules! no_operand {
    ($($(#[$doc:meta])* $name:ident = $opcode:literal;)*) => {
        $($(#[$doc])* pub fn $name(r1: u64) -> Result<u8, Fault> {
            execute(&[$opcode, 0], registers([(1, r1)])).map(|ran| ran.cc)
        })*
    };
}

no_operand! {
    /// CLEAR SUBCHANNEL.
    clear = 0xb230;
    /// HALT SUBCHANNEL.
    halt = 0xb231;
    /// RESUME SUBCHANNEL.
    resume = 0xb238;
    /// CANCEL SUBCHANNEL.
    cancel = 0xb276;
    /// RESET CHANNEL PATH.
    reset_path = 0xb23b;
}

/// SET CHANNEL MONITOR with the flags of `r1` and the block origin `r2`.
pub fn set_monitor(r1: u64, r2: u64) -> Result<Ran, Fault> {
    execute(&[0xb23c, 0], registers([(1, r1), (2, r2)]))
}

/// The first subchannel with a valid device, by STORE SUBCHANNEL over all numbers.
pub fn first_device() -> Option<u32> {
    let schib = Frames::new(1);
    for number in 0..0x1_0000u32 {
        let name = 0x0001_0000 | number;
        match store(name, schib.address()) {
            Ok(0) if schib.read::<u16>(6) & 1 != 0 => return Some(name),
            Ok(0) => (),
            _ => return None,
        }
    }
    None
}
