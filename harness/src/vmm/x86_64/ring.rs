//! Dirty rings: the kernel appends each page that a processor dirties to that processor's ring.
//! Spec: KVM api 8.29.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// Page of the processor's mapping where its ring begins.
const RING_PAGE: usize = 64;
const PAGE: usize = 4096;
const DIRTY: u32 = 1 << 0;
const RESET: u32 = 1 << 1;

#[repr(C)]
struct Gfn {
    flags: AtomicU32,
    slot: u32,
    offset: u64,
}

/// The ring of one processor.
pub struct Ring {
    entries: *mut Gfn,
    count: usize,
    next: usize,
}

// SAFETY: the mapping belongs to this value alone; the kernel's side is synchronised by `flags`.
unsafe impl Send for Ring {}

impl Ring {
    /// Bytes of a ring with `count` entries.
    pub fn bytes(count: u64) -> u64 {
        count * size_of::<Gfn>() as u64
    }

    /// Maps the ring of `vcpu`, which has `count` entries.
    pub fn map(vcpu: &impl AsRawFd, count: usize) -> Result<Self, i32> {
        let bytes = count * size_of::<Gfn>();
        // SAFETY: a fresh shared mapping of the processor's own ring.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                (RING_PAGE * PAGE) as libc::off_t,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO));
        }
        Ok(Ring {
            entries: at.cast(),
            count,
            next: 0,
        })
    }

    /// Takes what is there, as (slot, page), and marks it for the kernel to reset.
    pub fn harvest(&mut self, to: &mut Vec<(u32, u64)>) {
        loop {
            // SAFETY: the index is within the ring, and the mapping lives as long as `self`.
            let entry = unsafe { &*self.entries.add(self.next % self.count) };
            if entry.flags.load(Ordering::Acquire) & DIRTY == 0 {
                return;
            }
            to.push((entry.slot, entry.offset));
            entry.flags.store(RESET, Ordering::Release);
            self.next += 1;
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length.
        unsafe { libc::munmap(self.entries.cast(), self.count * size_of::<Gfn>()) };
    }
}
