//! An address space with one page far above storage, the fixture of this area.

use guest_lib::arch::paging::{AddressSpace, Level};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Shares no table with the program's own mappings.
pub const HIGH: u64 = 3 << 53 | 3 << 42 | 3 << 31;

/// An identity space, and a frame mapped at [`HIGH`].
pub struct HighPage {
    /// The tables.
    pub space: AddressSpace,
    /// The frame.
    pub frame: Frames,
}

impl HighPage {
    /// Adds `bits` to the entry of `level`, or takes them away again.
    pub fn change(&self, level: Level, bits: u64, on: bool) {
        let entry = self.space.read(level, HIGH);
        self.space
            .write(level, HIGH, if on { entry | bits } else { entry & !bits });
    }
}

impl Fixture for HighPage {
    fn fresh() -> Result<Self, Stop> {
        let mut page = HighPage {
            space: AddressSpace::identity(),
            frame: Frames::new(1),
        };
        page.space.map(HIGH, page.frame.address());
        Ok(page)
    }
}
