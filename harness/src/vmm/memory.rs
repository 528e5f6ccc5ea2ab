//! Memory of ours that a guest sees.

use vm_memory::{Bytes, MmapRegion, VolatileMemory};

/// Bytes of a page.
#[cfg(target_arch = "x86_64")]
pub const PAGE: u64 = 4096;

/// A mapping that can back a memory slot.
#[derive(Debug)]
pub struct Region {
    map: MmapRegion,
}

impl Region {
    /// `bytes` of zeroed memory, not touched yet.
    pub fn new(bytes: u64) -> Result<Self, String> {
        let map = MmapRegion::build(
            None,
            bytes as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        Ok(Region {
            map: map.map_err(|e| format!("cannot map {bytes} bytes: {e}"))?,
        })
    }

    /// A mapping made elsewhere.
    #[cfg(target_arch = "x86_64")]
    pub fn from_map(map: MmapRegion) -> Self {
        Region { map }
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.map.size() as u64
    }

    /// Its address in this process.
    pub fn address(&self) -> u64 {
        self.map.as_ptr() as u64
    }

    /// Copies `from` to `offset`.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), String> {
        let memory = self.map.as_volatile_slice();
        let done = memory.write_slice(from, offset as usize);
        done.map_err(|e| format!("cannot write guest memory at {offset:#x}: {e}"))
    }

    /// Copies from `offset` to `to`.
    #[cfg(target_arch = "x86_64")]
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), String> {
        let memory = self.map.as_volatile_slice();
        let done = memory.read_slice(to, offset as usize);
        done.map_err(|e| format!("cannot read guest memory at {offset:#x}: {e}"))
    }
}
