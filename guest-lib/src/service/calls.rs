//! The calls that only a doorbell answers: memory slots and their logs, the counting device,
//! interrupts.

use super::ServiceError;
use super::doorbell::call;
use crate::memory::Plain;
use alloc::vec;
use alloc::vec::Vec;
use assay_protocol::service::{Access, Call};

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Memory of the host's, in a slot of its own, until dropped.
#[derive(Debug)]
pub struct Slot {
    number: u64,
    address: u64,
    pages: u64,
}

/// Where slots can lie: mapped one to one by the boot tables, below the devices and above the RAM of
/// every machine up to 2 GiB.
pub const SLOTS: u64 = 0x8000_0000;

impl Slot {
    /// `pages` of fresh memory at `address`, with [`flag`] bits.
    pub fn add(number: u64, address: u64, pages: u64, flags: u64) -> Result<Slot, ServiceError> {
        call(Call::SlotAdd, &[number, address, pages, flags])?;
        Ok(Slot {
            number,
            address,
            pages,
        })
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its length in pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Moves it to another address.
    pub fn move_to(&mut self, address: u64) -> Result<(), ServiceError> {
        call(Call::SlotMove, &[self.number, address])?;
        self.address = address;
        Ok(())
    }

    /// Sets its flags.
    pub fn set_flags(&self, flags: u64) -> Result<(), ServiceError> {
        call(Call::SlotFlags, &[self.number, flags]).map(|_| ())
    }

    /// Pages that the host filled on demand.
    pub fn faults(&self) -> Result<u64, ServiceError> {
        Ok(call(Call::SlotFaults, &[self.number])?[0])
    }

    /// The dirty bitmap as KVM_GET_DIRTY_LOG returns it.
    pub fn dirty_bitmap(&self) -> Result<Vec<u64>, ServiceError> {
        let words = self.pages.div_ceil(64);
        let bitmap = vec![0u64; words as usize];
        call(
            Call::DirtyGet,
            &[self.number, bitmap.as_ptr() as u64, 8 * words],
        )?;
        // The host wrote behind the compiler's back.
        Ok((0..bitmap.len()).map(|i| volatile(&bitmap, i)).collect())
    }

    /// The pages that are dirty, ascending. Bits beyond the slot count too: there must be none.
    pub fn dirty(&self) -> Result<Vec<u64>, ServiceError> {
        let bitmap = self.dirty_bitmap()?;
        let all = 0..64 * bitmap.len() as u64;
        Ok(all
            .filter(|p| bitmap[(p / 64) as usize] >> (p % 64) & 1 != 0)
            .collect())
    }

    /// KVM_CLEAR_DIRTY_LOG of the set bits of `bitmap`, which begins at page `first`.
    pub fn clear(&self, first: u64, pages: u64, bitmap: &[u64]) -> Result<(), ServiceError> {
        assert!(pages <= 64 * bitmap.len() as u64);
        let args = [self.number, first, pages, bitmap.as_ptr() as u64];
        call(Call::DirtyClear, &args).map(|_| ())
    }

    fn pointer<T>(&self, offset: u64) -> *mut T {
        assert!(offset + size_of::<T>() as u64 <= PAGE * self.pages);
        assert!(offset.is_multiple_of(align_of::<T>() as u64));
        (self.address + offset) as *mut T
    }

    /// Stores `value` at byte `offset`, aligned.
    pub fn store<T: Plain>(&self, offset: u64, value: T) {
        // SAFETY: in bounds and aligned; the memory is nobody's but the slot's, and where the host
        // has taken it away the access reaches a device that ignores it.
        unsafe { core::ptr::write_volatile(self.pointer(offset), value) };
    }

    /// Loads from byte `offset`, aligned.
    pub fn load<T: Plain>(&self, offset: u64) -> T {
        // SAFETY: as in `store`; `Plain` types take any bits.
        unsafe { core::ptr::read_volatile(self.pointer(offset)) }
    }

    /// Writes one word to page `page`, and says nothing of the others.
    pub fn touch(&self, page: u64, value: u64) {
        self.store(PAGE * page, value);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A host that cannot take it back has said why on its standard error.
        let _ = call(Call::SlotDelete, &[self.number]);
    }
}

fn volatile(words: &[u64], index: usize) -> u64 {
    // SAFETY: in bounds, by the slice.
    unsafe { core::ptr::read_volatile(&raw const words[index]) }
}

/// A mode of the dirty log, until dropped.
#[derive(Debug)]
pub struct LogMode(());

impl LogMode {
    /// Sets [`mode`] bits.
    pub fn set(bits: u64) -> Result<LogMode, ServiceError> {
        call(Call::DirtyMode, &[bits])?;
        Ok(LogMode(()))
    }
}

impl Drop for LogMode {
    fn drop(&mut self) {
        let _ = call(Call::DirtyMode, &[0]);
    }
}

/// Dirty rings on all processors, until dropped: a machine built for them.
#[derive(Debug)]
pub struct Rings(());

impl Rings {
    /// Goes on in a machine whose rings have `entries` entries.
    pub fn with(entries: u64) -> Result<Rings, ServiceError> {
        call(Call::Rebuild, &[entries])?;
        Ok(Rings(()))
    }

    /// Takes what the rings hold, as (slot, page), and how many entries the kernel has reset.
    pub fn harvest(&self) -> Result<(Vec<(u64, u64)>, u64), ServiceError> {
        const MOST: usize = 8192;
        let buffer = vec![0u64; MOST];
        let args = [buffer.as_ptr() as u64, MOST as u64];
        let [count, reset, ..] = call(Call::RingHarvest, &args)?;
        let entry = |i| volatile(&buffer, i);
        let taken = (0..count as usize).map(|i| (entry(i) >> 48, entry(i) & 0xffff_ffff_ffff));
        Ok((taken.collect(), reset))
    }

    /// How often a processor stopped because its ring was full.
    pub fn full_exits(&self) -> Result<u64, ServiceError> {
        Ok(call(Call::RingFullExits, &[])?[0])
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        let _ = call(Call::Rebuild, &[0]);
    }
}

/// What the counting device saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Accesses that were interrupted.
    pub kicks: u64,
    /// The first accesses, in order.
    pub log: Vec<Access>,
}

/// Clears the device's log, and has every `every`th access interrupted (0: none) as `kind` says.
pub fn counter_reset(every: u64, kind: u64) -> Result<(), ServiceError> {
    call(Call::CounterReset, &[every, kind]).map(|_| ())
}

/// What the device saw since then.
pub fn counter_read() -> Result<Counted, ServiceError> {
    const MOST: usize = 512;
    let log = vec![0u64; 2 * MOST];
    let results = call(Call::CounterRead, &[log.as_ptr() as u64, MOST as u64])?;
    let [reads, writes, kicks, count, ..] = results;
    let word = |i| volatile(&log, i);
    let access = |i: usize| Access {
        offset: word(2 * i) as u32,
        width: (word(2 * i) >> 32) as u16,
        is_write: (word(2 * i) >> 48) as u16,
        value: word(2 * i + 1),
    };
    Ok(Counted {
        reads,
        writes,
        kicks,
        log: (0..count as usize).map(access).collect(),
    })
}

/// Has the host interrupt processor `cpu` with an [`inject`] kind.
pub fn inject_interrupt(cpu: usize, kind: u64, vector: u8) -> Result<(), ServiceError> {
    call(Call::Inject, &[cpu as u64, kind, u64::from(vector)]).map(|_| ())
}
