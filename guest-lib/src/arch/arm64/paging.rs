//! Stage 1 translation: the runtime's two maps, and address spaces of a case's own.
//!
//! The **kernel map** shows all RAM as write-back memory and everything else below 512 GiB as
//! Device-nGnRE memory, one to one; address 0 is left out where no console lies there. The **user
//! map** is the same with RAM open to EL0, code read-only: EL1 may not execute what EL0 may write.
//!
//! A [`Space`] copies one of them and adds entries of any bits, at addresses above 512 GiB.

use super::platform::{self, Uart};
use super::registers::{TcrEl1, Ttbr0El1};
use super::{boot, cpu};
use crate::memory::Frames;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bits of a descriptor.
pub mod bits {
    /// The entry is valid.
    pub const VALID: u64 = 1;
    /// At levels 0 to 2 a table, at level 3 a page.
    pub const TABLE_OR_PAGE: u64 = 2;
    /// AttrIndx: write-back memory.
    pub const NORMAL: u64 = 0;
    /// AttrIndx: Device-nGnRE.
    pub const DEVICE: u64 = 1 << 2;
    /// AttrIndx: non-cacheable memory.
    pub const NON_CACHEABLE: u64 = 2 << 2;
    /// AttrIndx: Device-nGnRnE.
    pub const STRONG_DEVICE: u64 = 3 << 2;
    /// AP[1]: open to EL0.
    pub const USER: u64 = 1 << 6;
    /// AP[2]: read-only.
    pub const READ_ONLY: u64 = 1 << 7;
    /// Inner shareable.
    pub const SHARED: u64 = 3 << 8;
    /// Access flag.
    pub const ACCESSED: u64 = 1 << 10;
    /// Of one ASID only.
    pub const NOT_GLOBAL: u64 = 1 << 11;
    /// DBM: a read-only page becomes writable by the first store, while TCR_EL1.HD is set.
    pub const DIRTY_MODIFIER: u64 = 1 << 51;
    /// EL1 may not execute.
    pub const PXN: u64 = 1 << 53;
    /// EL0 may not execute.
    pub const UXN: u64 = 1 << 54;
    /// A valid page of memory that EL1 may read, write and execute.
    pub const PAGE: u64 = VALID | TABLE_OR_PAGE | SHARED | ACCESSED | NOT_GLOBAL;
    /// A valid block of the same kind.
    pub const BLOCK: u64 = VALID | SHARED | ACCESSED | NOT_GLOBAL;
}
use bits::*;

const POOL: usize = 64;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// How far the one-to-one maps reach: one entry of level 0.
const REACH: u64 = 1 << 39;

#[repr(C, align(4096))]
struct Pool(core::cell::UnsafeCell<[boot::Table; POOL]>);
// SAFETY: tables are handed out once each, at boot (S4).
unsafe impl Sync for Pool {}

static TABLES: Pool = Pool(core::cell::UnsafeCell::new(
    [const { boot::Table([0; 512]) }; POOL],
));
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static KERNEL: AtomicU64 = AtomicU64::new(0);
static USER_ROOT: AtomicU64 = AtomicU64::new(0);

fn take_table() -> *mut boot::Table {
    let index = TAKEN.fetch_add(1, Ordering::Relaxed);
    assert!(
        index < POOL,
        "RAM has too many odd edges for {POOL} translation tables"
    );
    // SAFETY: each index is handed out once.
    unsafe { (TABLES.0.get() as *mut boot::Table).add(index) }
}

/// TTBR0 of the kernel map.
pub fn kernel_root() -> u64 {
    KERNEL.load(Ordering::Relaxed)
}

/// TTBR0 of the user map.
pub fn user_root() -> u64 {
    USER_ROOT.load(Ordering::Relaxed)
}

const ASID_SHIFT: u32 = 48;

/// Builds both maps and installs the first. Boot processor, once.
pub(super) fn init() {
    let kernel = map_all(UXN, None) | 1 << ASID_SHIFT;
    let (start, _, text_end) = boot::image();
    let user = map_all(USER, Some((start as u64, text_end as u64))) | 2 << ASID_SHIFT;
    KERNEL.store(kernel, Ordering::Relaxed);
    USER_ROOT.store(user, Ordering::Relaxed);
    cpu::dsb();
    Ttbr0El1::write(kernel);
    flush();
}

/// A map with RAM as memory plus `extra` bits, and `code`, if any, read-only.
fn map_all(extra: u64, code: Option<(u64, u64)>) -> u64 {
    let root = take_table();
    let device = BLOCK & !SHARED | DEVICE | PXN | UXN;
    map(root, 0, REACH, device);
    let console = match platform::info().uart {
        Uart::None => !0,
        Uart::Pl011(base) | Uart::Ns16550(base, ..) => base,
    };
    if console >= 4096 {
        map(root, 0, 4096, 0);
    }
    for &(address, length) in platform::memory_map() {
        let end = (address + length).min(REACH) & !0xfff;
        map(root, address.next_multiple_of(4096), end, BLOCK | extra);
    }
    if let Some((start, end)) = code {
        map(root, start, end, BLOCK | extra | READ_ONLY);
    }
    root as u64
}

/// Maps `start..end` one to one with `flags` of a block; flags of 0 leave the range out.
fn map(root: *mut boot::Table, start: u64, end: u64, flags: u64) {
    let mut at = start;
    while at < end {
        let mut table = root;
        let mut level = 0;
        loop {
            let shift = 39 - 9 * level;
            let size = 1u64 << shift;
            let index = (at >> shift & 511) as usize;
            // SAFETY: S4; tables of this map, which only the boot processor knows yet.
            let entry = unsafe { &mut (*table).0[index] };
            if level > 0 && at.is_multiple_of(size) && end - at >= size {
                let page = if level == 3 { TABLE_OR_PAGE } else { 0 };
                *entry = if flags == 0 { 0 } else { at | flags | page };
                at += size;
                break;
            }
            if *entry & 3 != 3 {
                let next = take_table();
                if *entry & VALID != 0 {
                    split(*entry, next, level);
                }
                *entry = next as u64 | 3;
            }
            table = (*entry & ADDRESS) as *mut boot::Table;
            level += 1;
        }
    }
}

/// Fills `next` with the pieces of block `entry` of `level`.
fn split(entry: u64, next: *mut boot::Table, level: u32) {
    let size = 1u64 << (39 - 9 * (level + 1));
    let page = if level + 1 == 3 { TABLE_OR_PAGE } else { 0 };
    for i in 0..512u64 {
        // SAFETY: S4; the table was just taken.
        unsafe { (*next).0[i as usize] = entry + i * size | page };
    }
}

/// Invalidates this machine's TLBs, on all processors.
pub fn flush() {
    // SAFETY: S5; TLB entries are caches of tables.
    unsafe {
        asm!(
            "dsb ishst",
            "tlbi vmalle1is",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        );
    }
}

/// Invalidates the entries of one page, on all processors.
pub fn flush_page(address: u64) {
    // SAFETY: S5; TLB entries are caches of tables.
    unsafe {
        asm!(
            "dsb ishst", "tlbi vaae1is, {}", "dsb ish", "isb", in(reg) address >> 12 & ((1 << 44) - 1),
            options(nostack, preserves_flags),
        );
    }
}

/// The first address that no map of the runtime uses: 512 GiB.
pub const PRIVATE: u64 = REACH;

/// An address space of a case's own: one of the runtime's maps and entries above [`PRIVATE`].
pub struct Space {
    root: Frames,
    tables: Vec<Frames>,
    asid: u64,
}

impl Space {
    /// The kernel map and nothing else.
    pub fn kernel() -> Self {
        Space::over(kernel_root(), 3)
    }

    /// The user map and nothing else.
    pub fn user() -> Self {
        Space::over(user_root(), 4)
    }

    fn over(base: u64, asid: u64) -> Self {
        let root = Frames::new(1);
        // SAFETY: S2; the maps of the runtime are never freed.
        let first = unsafe { core::ptr::read_volatile((base & ADDRESS) as *const u64) };
        root.write(0, first);
        flush();
        Space {
            root,
            tables: Vec::new(),
            asid,
        }
    }

    /// The value for TTBR0.
    pub fn ttbr0(&self) -> u64 {
        self.root.address() | self.asid << ASID_SHIFT
    }

    /// Writes the raw descriptor of `address` at `level`, and makes tables down to it. TLBs are
    /// left alone: a case that changes a live entry flushes itself.
    pub fn set(&mut self, address: u64, level: u32, raw: u64) {
        let slot = self.slot(address, level);
        // SAFETY: `slot` lies in a table of this space.
        unsafe { core::ptr::write_volatile(slot, raw) };
        cpu::dsb();
    }

    /// The raw descriptor of `address` at `level`.
    pub fn get(&mut self, address: u64, level: u32) -> u64 {
        let slot = self.slot(address, level);
        // SAFETY: `slot` lies in a table of this space.
        unsafe { core::ptr::read_volatile(slot) }
    }

    /// The descriptor of `address` at `level`, for updates that race with the MMU's.
    pub fn entry(&mut self, address: u64, level: u32) -> &AtomicU64 {
        let slot = self.slot(address, level);
        // SAFETY: `slot` lies in a table of this space, which lives as long as the borrow.
        unsafe { AtomicU64::from_ptr(slot) }
    }

    fn slot(&mut self, address: u64, level: u32) -> *mut u64 {
        assert!(
            (PRIVATE..1 << 48).contains(&address),
            "{address:#x} belongs to the runtime"
        );
        let mut table = self.root.address();
        for at in 0..level {
            let slot = (table + (address >> (39 - 9 * at) & 511) * 8) as *mut u64;
            // SAFETY: `table` is a table of this space: the root or one made below.
            let entry = unsafe { core::ptr::read_volatile(slot) };
            let known = self.tables.iter().any(|t| t.address() == entry & ADDRESS);
            if entry & 3 != 3 || !known {
                let next = Frames::new(1);
                // SAFETY: as above.
                unsafe { core::ptr::write_volatile(slot, next.address() | 3) };
                table = next.address();
                self.tables.push(next);
            } else {
                table = entry & ADDRESS;
            }
        }
        (table + (address >> (39 - 9 * level) & 511) * 8) as *mut u64
    }

    /// Runs `body` at the level of the runtime with this space installed. A fault that leaves `body` puts
    /// the former space back by itself.
    pub fn run<T>(&self, body: impl FnOnce() -> T) -> T {
        run_with(self.ttbr0(), body)
    }

    /// Runs `body` at EL0 with this space installed.
    pub fn run_user<T>(&self, body: impl FnOnce() -> T) -> Result<T, super::fault::Fault> {
        super::fault::catch_user_with(0x3c0, self.ttbr0(), body)
    }
}

/// As [`Space::run`], with the value for TTBR0.
pub fn run_with<T>(ttbr0: u64, body: impl FnOnce() -> T) -> T {
    let before = Ttbr0El1::read();
    Ttbr0El1::write(ttbr0);
    let result = body();
    Ttbr0El1::write(before);
    result
}

impl Drop for Space {
    fn drop(&mut self) {
        flush();
    }
}

/// TCR_EL1.{HA, HD} of this processor: clear at first, as they were at the end.
pub struct HardwareUpdates {
    control: u64,
}

impl crate::case::Fixture for HardwareUpdates {
    fn fresh() -> Result<Self, crate::case::Stop> {
        let updates = HardwareUpdates {
            control: TcrEl1::read(),
        };
        updates.set(false, false);
        Ok(updates)
    }
}

impl HardwareUpdates {
    /// HA: the MMU sets the access flag. HD: it also makes pages with DBM writable.
    pub fn set(&self, access: bool, dirty: bool) {
        let bits = u64::from(access) << 39 | u64::from(dirty) << 40;
        TcrEl1::write(self.control & !(3 << 39) | bits);
        flush();
    }
}

impl Drop for HardwareUpdates {
    fn drop(&mut self) {
        TcrEl1::write(self.control);
        flush();
    }
}

/// AT S1E1R of `address`: PAR_EL1.
pub fn translate_read(address: u64) -> u64 {
    // SAFETY: S5; asks the MMU, changes PAR_EL1 only.
    unsafe { asm!("at s1e1r, {}", "isb", in(reg) address, options(nostack, preserves_flags)) };
    super::registers::ParEl1::read()
}

/// AT S1E1W of `address`: PAR_EL1.
pub fn translate_write(address: u64) -> u64 {
    // SAFETY: as above.
    unsafe { asm!("at s1e1w, {}", "isb", in(reg) address, options(nostack, preserves_flags)) };
    super::registers::ParEl1::read()
}

/// AT S1E0R of `address`: PAR_EL1.
pub fn translate_user_read(address: u64) -> u64 {
    // SAFETY: as above.
    unsafe { asm!("at s1e0r, {}", "isb", in(reg) address, options(nostack, preserves_flags)) };
    super::registers::ParEl1::read()
}

/// AT S1E0W of `address`: PAR_EL1.
pub fn translate_user_write(address: u64) -> u64 {
    // SAFETY: as above.
    unsafe { asm!("at s1e0w, {}", "isb", in(reg) address, options(nostack, preserves_flags)) };
    super::registers::ParEl1::read()
}
