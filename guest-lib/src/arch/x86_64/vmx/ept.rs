//! Extended page tables with raw entries. Spec: SDM 3C 29.3.

use super::instructions::{VmResult, invept};
use crate::memory::Frames;
use alloc::vec::Vec;

/// Read access.
pub const R: u64 = 1 << 0;
/// Write access.
pub const W: u64 = 1 << 1;
/// Execute access (supervisor-mode linear addresses, with mode-based execute control).
pub const X: u64 = 1 << 2;
/// All three.
pub const RWX: u64 = R | W | X;
/// Memory type write-back, in bits 5:3 of a leaf.
pub const WB: u64 = 6 << 3;
/// Memory type uncacheable.
pub const UC: u64 = 0;
/// A leaf above level 1.
pub const LARGE: u64 = 1 << 7;
/// Accessed.
pub const A: u64 = 1 << 8;
/// Dirty.
pub const D: u64 = 1 << 9;
/// Address bits of an entry.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// EPTP bit 6: accessed and dirty flags.
pub const EPTP_AD: u64 = 1 << 6;

/// A tree that maps the first 4 GiB one to one, in 2 MiB leaves until a case changes an entry.
#[derive(Debug)]
pub struct Ept {
    root: Frames,
    tables: Vec<Frames>,
}

impl Ept {
    /// The first 4 GiB with all permissions, write-back below 3 GiB.
    ///
    /// Where the processor has no 2 MiB leaves, page tables for the first 64 MiB and the APIC's
    /// page are used instead.
    pub fn identity() -> Self {
        let mut ept = Ept {
            root: Frames::new(1),
            tables: Vec::new(),
        };
        let has_2m = super::ept_vpid_capability() >> 16 & 1 != 0;
        for gib in 0..4u64 {
            let directory = ept.table();
            let memory_type = if gib == 3 { UC } else { WB };
            if has_2m {
                for i in 0..512u64 {
                    let leaf = (gib << 30 | i << 21) | RWX | LARGE | memory_type;
                    write_entry(directory + 8 * i, leaf);
                }
            }
            ept.set(gib << 30, 3, directory | RWX);
        }
        if !has_2m {
            for page in (0..64 << 20).step_by(4096).chain([0xfee0_0000]) {
                let memory_type = if page >= 3 << 30 { UC } else { WB };
                ept.set(page, 1, page | RWX | memory_type);
            }
        }
        ept
    }

    fn table(&mut self) -> u64 {
        let frames = Frames::new(1);
        let address = frames.address();
        self.tables.push(frames);
        address
    }

    /// Address of the entry for `gpa` at `level` (1: 4 KiB to 4: PML4). Tables are made on the
    /// way, large leaves are split.
    pub fn entry_address(&mut self, gpa: u64, level: u32) -> u64 {
        let mut table = self.root.address();
        for at in (level + 1..=4).rev() {
            let slot = table + 8 * (gpa >> (12 + 9 * (at - 1)) & 511);
            let mut entry = read_entry(slot);
            if entry & RWX == 0 {
                entry = self.table() | RWX;
                write_entry(slot, entry);
            } else if at < 4 && entry & LARGE != 0 {
                let step = 1u64 << (12 + 9 * (at - 2));
                let size_bit = if at == 2 { LARGE } else { 0 };
                let split = self.table();
                for i in 0..512 {
                    write_entry(split + 8 * i, (entry & !size_bit) + i * step);
                }
                entry = split | RWX;
                write_entry(slot, entry);
            }
            table = entry & ADDRESS;
        }
        table + 8 * (gpa >> (12 + 9 * (level - 1)) & 511)
    }

    /// Sets the raw entry for `gpa` at `level`.
    pub fn set(&mut self, gpa: u64, level: u32, entry: u64) {
        let slot = self.entry_address(gpa, level);
        write_entry(slot, entry);
    }

    /// The raw entry for `gpa` at `level`, as the processor may have changed it.
    pub fn get(&mut self, gpa: u64, level: u32) -> u64 {
        read_entry(self.entry_address(gpa, level))
    }

    /// The pointer for the VMCS: write-back, four levels, no accessed and dirty flags.
    pub fn pointer(&self) -> u64 {
        self.root.address() | 3 << 3 | 6
    }

    /// INVEPT for this tree, where offered: of its own context, or of all.
    pub fn invalidate(&self, eptp: u64) -> VmResult {
        let cap = super::ept_vpid_capability();
        if cap >> 25 & 1 != 0 {
            invept(1, [eptp, 0])
        } else {
            invept(2, [0, 0])
        }
    }
}

fn read_entry(slot: u64) -> u64 {
    // SAFETY: S2; a slot of a table that an `Ept` owns.
    unsafe { core::ptr::read_volatile(slot as *const u64) }
}

fn write_entry(slot: u64, entry: u64) {
    // SAFETY: S2; a slot of a table that an `Ept` owns.
    unsafe { core::ptr::write_volatile(slot as *mut u64, entry) };
}
