//! Nested page tables with raw entries. Spec: APM 2 15.25.

use super::super::paging::{P, PS, U, W, read_entry, write_entry};
use crate::memory::{FRAME, Frames};
use alloc::vec::Vec;

/// A 4-level tree that maps guest-physical addresses below 4 GiB one to one, until a case
/// changes it.
#[derive(Debug)]
pub struct Npt {
    root: Frames,
    pdpt: Frames,
    directories: Frames,
    tables: Vec<Frames>,
}

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl Npt {
    /// All 4 GiB as 2 MiB pages, present, writable and for user: nested walks are user accesses.
    pub fn identity() -> Self {
        let npt = Npt {
            root: Frames::new(1),
            pdpt: Frames::new(1),
            directories: Frames::new(4),
            tables: Vec::new(),
        };
        npt.root.write(0, npt.pdpt.address() | P | W | U);
        for i in 0..4 {
            let directory = npt.directories.address() + (i * FRAME) as u64;
            npt.pdpt.write(8 * i, directory | P | W | U);
        }
        for i in 0..2048 {
            npt.directories
                .write(8 * i, (i as u64) << 21 | P | W | U | PS);
        }
        npt
    }

    /// The value for N_CR3.
    pub fn root(&self) -> u64 {
        self.root.address()
    }

    /// Address of the entry for guest-physical `address` at `level` (1: 4 KiB, 2: 2 MiB, 3: 1 GiB,
    /// 4: PML4). A 2 MiB page is split when its 4 KiB entries are asked for.
    pub fn entry_address(&mut self, address: u64, level: u32) -> u64 {
        assert!(address >> 32 == 0, "beyond the identity map");
        let index = |level: u32| 8 * (address >> (12 + 9 * (level - 1)) & 511);
        match level {
            4 => self.root.address(),
            3 => self.pdpt.address() + index(3),
            2 => self.directories.address() + 8 * (address >> 21),
            _ => {
                let slot = self.directories.address() + 8 * (address >> 21);
                let entry = read_entry(slot);
                if entry & PS == 0 {
                    return (entry & ADDRESS) + index(1);
                }
                let table = Frames::new(1);
                let base = entry & ADDRESS & !0x1f_ffff;
                for i in 0..512 {
                    table.write(8 * i, (base + ((i as u64) << 12)) | P | W | U);
                }
                write_entry(slot, table.address() | P | W | U);
                let address = table.address() + index(1);
                self.tables.push(table);
                address
            }
        }
    }

    /// The raw entry for `address` at `level`.
    pub fn get(&mut self, address: u64, level: u32) -> u64 {
        read_entry(self.entry_address(address, level))
    }

    /// Sets the raw entry for `address` at `level`. The guest's TLB knows nothing of it.
    pub fn set(&mut self, address: u64, level: u32, entry: u64) {
        write_entry(self.entry_address(address, level), entry);
    }

    /// Changes the raw entry for `address` at `level`.
    pub fn update(&mut self, address: u64, level: u32, change: impl FnOnce(u64) -> u64) {
        let slot = self.entry_address(address, level);
        write_entry(slot, change(read_entry(slot)));
    }
}
