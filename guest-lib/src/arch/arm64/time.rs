//! The guest's clock: the generic counter.

use super::registers;

/// Checks that there is a usable frequency.
pub(super) fn init() {
    assert!(
        ticks_per_second() > 0,
        "CNTFRQ_EL0 is zero: firmware must set it"
    );
}

/// CNTVCT_EL0.
pub fn ticks() -> u64 {
    registers::virtual_count()
}

/// CNTFRQ_EL0.
pub fn ticks_per_second() -> u64 {
    registers::CntfrqEl0::read()
}
