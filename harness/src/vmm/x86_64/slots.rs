//! Memory slots: pieces of the guest's physical address space with memory of ours behind them.

use super::userfault::Userfault;
pub use crate::vmm::memory::{PAGE, Region};
use assay_protocol::service::flag;
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The slot with the payload's own memory.
pub const MAIN: u32 = 0;

/// A slot that exists.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Where the guest sees it.
    pub address: u64,
    /// Its memory.
    pub region: Arc<Region>,
    /// [`flag`] bits.
    pub flags: u64,
    /// Who fills it, when it is filled on demand.
    pub filler: Option<Arc<Userfault>>,
}

impl Slot {
    /// Its length in pages.
    pub fn pages(&self) -> u64 {
        self.region.bytes() / PAGE
    }

    fn end(&self) -> u64 {
        self.address + self.region.bytes()
    }
}

/// All slots, by number.
#[derive(Clone, Debug, Default)]
pub struct Slots(pub BTreeMap<u32, Slot>);

impl Slots {
    /// The slot and offset behind `bytes` at guest address `address`.
    pub fn find(&self, address: u64, bytes: u64) -> Option<(&Slot, u64)> {
        let end = address.checked_add(bytes)?;
        let slot = self
            .0
            .values()
            .find(|s| s.address <= address && end <= s.end())?;
        Some((slot, address - slot.address))
    }

    /// Copies from guest memory.
    pub fn read(&self, address: u64, to: &mut [u8]) -> Option<()> {
        let (slot, offset) = self.find(address, to.len() as u64)?;
        slot.region.read(offset, to).ok()
    }

    /// Copies to guest memory.
    pub fn write(&self, address: u64, from: &[u8]) -> Option<()> {
        let (slot, offset) = self.find(address, from.len() as u64)?;
        slot.region.write(offset, from).ok()
    }
}

/// Tells KVM what slot `number` is; `None` takes it away. The error is the kernel's errno.
pub fn tell(vm: &VmFd, number: u32, slot: Option<&Slot>) -> Result<(), i32> {
    let mut region = kvm_userspace_memory_region {
        slot: number,
        ..Default::default()
    };
    if let Some(slot) = slot {
        let kvm = [
            (flag::LOG, KVM_MEM_LOG_DIRTY_PAGES),
            (flag::READ_ONLY, KVM_MEM_READONLY),
        ];
        for (ours, theirs) in kvm {
            region.flags |= if slot.flags & ours != 0 { theirs } else { 0 };
        }
        region.guest_phys_addr = slot.address;
        region.memory_size = slot.region.bytes();
        region.userspace_addr = slot.region.address();
    }
    // SAFETY: the memory belongs to `Slots`, which outlives its registration: a slot is taken
    // away from KVM before its `Region` is dropped, and the process ends with the machine.
    unsafe { vm.set_user_memory_region(region) }.map_err(|e| e.errno())
}
