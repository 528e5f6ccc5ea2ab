//! Dynamic address translation: five levels of tables, every entry open to raw values.
//!
//! An [`AddressSpace`] maps all RAM one to one with 4 KiB pages, so Rust code runs under it
//! unchanged, and leaves everything above to the case.

use super::registers::{Control, control};
use crate::memory::Frames;
use alloc::collections::BTreeMap;
use core::arch::asm;

/// Region- and segment-table entries: invalid.
pub const REGION_INVALID: u64 = 0x20;
/// Region- and segment-table entries: DAT protection.
pub const REGION_PROTECTED: u64 = 0x200;
/// Region-third and segment-table entries: format control, a large page.
pub const FORMAT_CONTROL: u64 = 0x400;
/// Page-table entries: invalid.
pub const PAGE_INVALID: u64 = 0x400;
/// Page-table entries: DAT protection.
pub const PAGE_PROTECTED: u64 = 0x200;
/// Page-table entries: no instruction fetch.
pub const PAGE_NO_EXECUTE: u64 = 0x100;
/// Page-table entries: the bit that must be zero.
pub const PAGE_RESERVED: u64 = 0x800;

/// The tables, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Region-first table.
    RegionFirst,
    /// Region-second table.
    RegionSecond,
    /// Region-third table.
    RegionThird,
    /// Segment table.
    Segment,
    /// Page table.
    Page,
}

impl Level {
    const ALL: [Level; 5] = [
        Level::RegionFirst,
        Level::RegionSecond,
        Level::RegionThird,
        Level::Segment,
        Level::Page,
    ];

    fn shift(self) -> u32 {
        [53, 42, 31, 20, 12][self as usize]
    }

    fn entries(self) -> usize {
        if self == Level::Page { 256 } else { 2048 }
    }

    /// Table type in an entry of this table; for the page table there is none.
    fn table_type(self) -> u64 {
        [0xc, 0x8, 0x4, 0, 0][self as usize]
    }

    /// What an entry of this table adds to the origin of the next one.
    fn link(self) -> u64 {
        // Tables have full length; page tables have none.
        self.table_type() | if self < Level::Segment { 3 } else { 0 }
    }

    fn invalid(self) -> u64 {
        match self {
            Level::Page => PAGE_INVALID,
            _ => self.table_type() | REGION_INVALID,
        }
    }
}

/// Tables of one address space.
pub struct AddressSpace {
    tables: BTreeMap<(Level, u64), Frames>,
}

impl AddressSpace {
    /// All RAM one to one, nothing above.
    pub fn identity() -> Self {
        let mut space = AddressSpace {
            tables: BTreeMap::new(),
        };
        for &(start, length) in crate::memory::regions() {
            for segment in (start..start + length).step_by(1 << 20) {
                space.table(Level::Page, segment);
                let table = &space.tables[&(Level::Page, segment >> 20)];
                for page in 0..256u64 {
                    table.write(8 * page as usize, segment + (page << 12));
                }
            }
        }
        space
    }

    /// Builds the table of `level` that covers `address`, and those above it.
    fn table(&mut self, level: Level, address: u64) -> u64 {
        let index = match level {
            Level::RegionFirst => 0,
            _ => address >> Level::ALL[level as usize - 1].shift(),
        };
        if let Some(table) = self.tables.get(&(level, index)) {
            return table.address();
        }
        let bytes = level.entries() * 8;
        let table = Frames::aligned(bytes.div_ceil(4096), 4096);
        for i in 0..level.entries() {
            table.write(8 * i, level.invalid());
        }
        let origin = table.address();
        self.tables.insert((level, index), table);
        if level != Level::RegionFirst {
            let above = Level::ALL[level as usize - 1];
            self.table(above, address);
            self.write(above, address, origin | above.link());
        }
        origin
    }

    fn place(&self, level: Level, address: u64) -> (&Frames, usize) {
        let index = match level {
            Level::RegionFirst => 0,
            _ => address >> Level::ALL[level as usize - 1].shift(),
        };
        let table = self.tables.get(&(level, index));
        let table = table.unwrap_or_else(|| panic!("no {level:?} table for {address:#x}"));
        (
            table,
            8 * ((address >> level.shift()) as usize & (level.entries() - 1)),
        )
    }

    /// The entry of `level` that translates `address`. Panics where there is no table.
    pub fn read(&self, level: Level, address: u64) -> u64 {
        let (table, offset) = self.place(level, address);
        table.read(offset)
    }

    /// Sets that entry, to any value, and purges this processor's TLB.
    pub fn write(&self, level: Level, address: u64, entry: u64) {
        let (table, offset) = self.place(level, address);
        table.write(offset, entry);
        purge_tlb();
    }

    /// Absolute address of the entry itself.
    pub fn entry_address(&self, level: Level, address: u64) -> u64 {
        let (table, offset) = self.place(level, address);
        table.address() + offset as u64
    }

    /// Maps the page at `address` to `entry`, and builds the tables that lack.
    pub fn map(&mut self, address: u64, entry: u64) {
        self.table(Level::Page, address);
        self.write(Level::Page, address, entry);
    }

    /// Builds the tables down to `level` for `address`, without a mapping.
    pub fn prepare(&mut self, level: Level, address: u64) {
        self.table(level, address);
    }

    /// The address-space-control element: region-first table of full length.
    pub fn asce(&self) -> u64 {
        self.tables[&(Level::RegionFirst, 0)].address() | 0xc | 3
    }

    /// Runs `work` with this space as the primary one and DAT on.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        self.run_with_asce(self.asce(), work)
    }

    /// As [`AddressSpace::run`], with an ASCE of the case's own making.
    pub fn run_with_asce<T>(&self, asce: u64, work: impl FnOnce() -> T) -> T {
        let _primary = Control::<1>::loaded(asce);
        purge_tlb();
        dat(true);
        let result = work();
        dat(false);
        purge_tlb();
        result
    }
}

/// The primary ASCE.
pub fn primary_asce() -> u64 {
    control::<1>()
}

/// PURGE TLB.
pub fn purge_tlb() {
    // SAFETY: S1; no translation changes its meaning by it.
    unsafe { asm!("ptlb", options(nostack)) };
}

/// Turns DAT on or off for the code around.
fn dat(on: bool) {
    let mut old = 0u8;
    // SAFETY: S1, S2; the primary space maps the code, the stack and all RAM one to one.
    unsafe {
        match on {
            true => asm!("stosm 0({p}), 4", p = in(reg_addr) &raw mut old),
            false => asm!("stnsm 0({p}), 0xfb", p = in(reg_addr) &raw mut old),
        }
    }
}
