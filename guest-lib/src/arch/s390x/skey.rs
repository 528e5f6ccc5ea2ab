//! Storage keys: one for each 4 KiB frame, with access-control bits, fetch protection, and the
//! reference and change bits that tell what was touched.

use super::exec::{Ran, execute, registers, rre};
use super::fault::Fault;
use core::fmt;

/// A storage key, unfiltered: ACC in bits 0 to 3, F, R, C, and a bit that is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Skey(pub u8);

impl Skey {
    /// Fetch protection.
    pub const FETCH: u8 = 0x08;
    /// Reference bit.
    pub const REFERENCE: u8 = 0x04;
    /// Change bit.
    pub const CHANGE: u8 = 0x02;

    /// Access-control bits `acc`, everything else zero.
    pub const fn acc(acc: u8) -> Self {
        Skey(acc << 4)
    }

    /// With fetch protection.
    pub const fn fetch(self) -> Self {
        Skey(self.0 | Skey::FETCH)
    }

    /// Access-control bits and fetch protection alone.
    pub const fn protection(self) -> Self {
        Skey(self.0 & 0xf8)
    }

    /// Whether the reference bit is one.
    pub const fn is_referenced(self) -> bool {
        self.0 & Skey::REFERENCE != 0
    }

    /// Whether the change bit is one.
    pub const fn is_changed(self) -> bool {
        self.0 & Skey::CHANGE != 0
    }
}

impl fmt::Debug for Skey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "acc {} f{} r{} c{}",
            self.0 >> 4,
            self.0 >> 3 & 1,
            self.0 >> 2 & 1,
            self.0 >> 1 & 1
        )
    }
}

/// SET STORAGE KEY EXTENDED.
pub fn set(address: u64, key: Skey) -> Result<(), Fault> {
    rre(0xb22b, key.0.into(), address).map(|_| ())
}

/// SET STORAGE KEY EXTENDED with an M3 field; registers afterwards: the first operand in 2, the
/// second in 4.
pub fn set_with(m3: u8, key: u64, address: u64) -> Result<Ran, Fault> {
    execute(
        &[0xb22b, u16::from(m3) << 12 | 0x24],
        registers([(2, key), (4, address)]),
    )
}

/// INSERT STORAGE KEY EXTENDED.
pub fn get(address: u64) -> Result<Skey, Fault> {
    rre(0xb229, 0, address).map(|ran| Skey(ran.registers[2] as u8))
}

/// RESET REFERENCE BIT EXTENDED; the condition code tells the old bits: reference times 2 plus change.
pub fn reset_reference(address: u64) -> Result<u8, Fault> {
    rre(0xb22a, 0, address).map(|ran| ran.cc)
}

/// INSERT VIRTUAL STORAGE KEY.
pub fn get_virtual(address: u64) -> Result<Skey, Fault> {
    rre(0xb223, 0, address).map(|ran| Skey(ran.registers[2] as u8))
}

/// TEST PROTECTION with an access key: the condition code.
pub fn test_protection(address: u64, key: u8) -> Result<u8, Fault> {
    execute(
        &[0xe501, 0x2000, 0x3000],
        registers([(2, address), (3, u64::from(key) << 4)]),
    )
    .map(|ran| ran.cc)
}

/// PERFORM FRAME MANAGEMENT FUNCTION; afterwards the second operand is in register 4.
pub fn pfmf(operation: u64, address: u64) -> Result<Ran, Fault> {
    rre(0xb9af, operation, address)
}

/// EXTRACT AND SET STORAGE ATTRIBUTES with an operation-request code.
pub fn essa(code: u8, address: u64) -> Result<Ran, Fault> {
    execute(
        &[0xb9ab, u16::from(code) << 12 | 0x24],
        registers([(4, address)]),
    )
}
