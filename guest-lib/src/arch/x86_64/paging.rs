//! Page tables with raw entries. Spec: SDM 3A 4.5; APM 2 5.3.
//!
//! The payload runs on tables that map the first 4 GiB one to one as supervisor memory; a second
//! root maps the same as user memory. A case works on an [`AddressSpace`] of its own.

use super::cpu;
use crate::memory::Frames;
use alloc::vec::Vec;
use core::cell::UnsafeCell;

/// One page-table page.
#[repr(C, align(4096))]
pub(super) struct Table<const N: usize>(UnsafeCell<[u64; N]>);
// SAFETY: written by boot code (S4) and, through `AddressSpace`, not at all.
unsafe impl<const N: usize> Sync for Table<N> {}

pub(super) static BOOT_PML4: Table<512> = Table(UnsafeCell::new([0; 512]));
pub(super) static BOOT_PDPT: Table<512> = Table(UnsafeCell::new([0; 512]));
pub(super) static BOOT_PD: Table<2048> = Table(UnsafeCell::new([0; 2048]));
pub(super) static USER_PML4: Table<512> = Table(UnsafeCell::new([0; 512]));
pub(super) static USER_PDPT: Table<512> = Table(UnsafeCell::new([0; 512]));

/// Present.
pub const P: u64 = 1 << 0;
/// Writable.
pub const W: u64 = 1 << 1;
/// User.
pub const U: u64 = 1 << 2;
/// Write-through.
pub const PWT: u64 = 1 << 3;
/// Cache disable.
pub const PCD: u64 = 1 << 4;
/// Accessed.
pub const A: u64 = 1 << 5;
/// Dirty.
pub const D: u64 = 1 << 6;
/// Large page.
pub const PS: u64 = 1 << 7;
/// Global.
pub const G: u64 = 1 << 8;
/// No execute.
pub const NX: u64 = 1 << 63;

/// Page-fault error code: the page was present.
pub const PF_P: u32 = 1 << 0;
/// Page-fault error code: a write.
pub const PF_W: u32 = 1 << 1;
/// Page-fault error code: from user mode.
pub const PF_U: u32 = 1 << 2;
/// Page-fault error code: a reserved bit in an entry.
pub const PF_RSVD: u32 = 1 << 3;
/// Page-fault error code: an instruction fetch.
pub const PF_I: u32 = 1 << 4;

/// CR3 of the supervisor tables.
pub fn kernel_root() -> u64 {
    BOOT_PML4.0.get() as u64
}

/// CR3 of the tables in which all memory is user memory.
pub fn user_root() -> u64 {
    USER_PML4.0.get() as u64
}

/// A linear address that no boot table maps: cases build their pages from here.
pub const FREE_BASE: u64 = 0x0000_0100_0000_0000;

/// A tree of page tables in the 4-level format: the payload's memory plus what a case maps.
#[derive(Debug)]
pub struct AddressSpace {
    root: Frames,
    tables: Vec<Frames>,
}

impl AddressSpace {
    /// The payload's memory as supervisor memory, or as user memory.
    pub fn new(user: bool) -> Self {
        let root = Frames::new(1);
        let pdpt = if user {
            USER_PDPT.0.get()
        } else {
            BOOT_PDPT.0.get()
        };
        root.write(0, pdpt as u64 | P | W | if user { U } else { 0 });
        AddressSpace {
            root,
            tables: Vec::new(),
        }
    }

    /// Only what the case maps: nothing of the payload.
    pub fn empty() -> Self {
        AddressSpace {
            root: Frames::new(1),
            tables: Vec::new(),
        }
    }

    /// The value for CR3.
    pub fn root(&self) -> u64 {
        self.root.address()
    }

    /// Address of the entry for `address` at `level` (1: 4 KiB, 2: 2 MiB, 3: 1 GiB, 4: PML4),
    /// making tables on the way with all permissions.
    pub fn entry_address(&mut self, address: u64, level: u32) -> u64 {
        let mut table = self.root.address();
        for at in (level + 1..=4).rev() {
            let slot = table + 8 * index(address, at);
            let mut entry = read_entry(slot);
            if entry & P == 0 {
                let frames = Frames::new(1);
                entry = frames.address() | P | W | U;
                self.tables.push(frames);
                write_entry(slot, entry);
            }
            assert!(
                entry & PS == 0 || at == 4,
                "{address:#x} is mapped by a large page"
            );
            table = entry & 0x000f_ffff_ffff_f000;
        }
        table + 8 * index(address, level)
    }

    /// Sets the raw entry for `address` at `level`.
    pub fn set(&mut self, address: u64, level: u32, entry: u64) {
        let slot = self.entry_address(address, level);
        write_entry(slot, entry);
        cpu::invlpg(address);
    }

    /// The raw entry for `address` at `level`.
    pub fn get(&mut self, address: u64, level: u32) -> u64 {
        read_entry(self.entry_address(address, level))
    }

    /// Runs `f` with these tables in CR3. The payload must be mapped.
    pub fn with<T>(&self, f: impl FnOnce() -> T) -> T {
        let old = cpu::read_cr3();
        cpu::write_cr3(self.root()).expect("CR3 takes the root of a valid tree");
        let result = f();
        cpu::write_cr3(old).expect("CR3 takes back its value");
        result
    }
}

fn index(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * (level - 1)) & 511
}

/// Reads an entry as the processor may have changed it.
pub fn read_entry(slot: u64) -> u64 {
    // SAFETY: S2; a slot of a table that the caller owns.
    unsafe { core::ptr::read_volatile(slot as *const u64) }
}

/// Writes an entry in place, without INVLPG. The slot must belong to a tree of the caller.
pub fn write_entry(slot: u64, entry: u64) {
    // SAFETY: S2; a slot of a table that an `AddressSpace` owns.
    unsafe { core::ptr::write_volatile(slot as *mut u64, entry) };
}
