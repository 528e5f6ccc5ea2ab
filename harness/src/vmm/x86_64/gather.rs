//! Writes to the console's port that the kernel gathers in a page, so that a line costs one exit
//! of the guest instead of one per byte. Spec: KVM api, KVM_REGISTER_COALESCED_MMIO.

use kvm_bindings::{KVM_COALESCED_MMIO_PAGE_OFFSET, kvm_coalesced_mmio};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuFd, VmFd};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

const PAGE: usize = 4096;
/// The page begins with the places of the next entry to read and of the next to write.
const HEAD: usize = 8;
const ENTRIES: u32 = ((PAGE - HEAD) / size_of::<kvm_coalesced_mmio>()) as u32;

/// The page of one machine.
pub struct Gather {
    page: *mut u8,
}

// SAFETY: the mapping belongs to this value alone; the kernel's side is synchronised by the
// places at its beginning.
unsafe impl Send for Gather {}

impl Gather {
    /// Has `vm` gather byte writes to `port`; `vcpu` is any of its processors. None where the
    /// kernel does not do that: then each write is an exit.
    pub fn new(kvm: &Kvm, vm: &VmFd, vcpu: &VcpuFd, port: u16) -> Option<Self> {
        if !kvm.check_extension(Cap::CoalescedPio) {
            return None;
        }
        // SAFETY: a fresh shared mapping of the page that KVM keeps for this.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                (KVM_COALESCED_MMIO_PAGE_OFFSET as usize * PAGE) as libc::off_t,
            )
        };
        if page == libc::MAP_FAILED {
            return None;
        }
        let gather = Gather { page: page.cast() };
        vm.register_coalesced_mmio(IoEventAddress::Pio(port.into()), 1)
            .ok()?;
        Some(gather)
    }

    fn place(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the page begins with two aligned words that both sides access atomically.
        unsafe { &*self.page.cast::<AtomicU32>().add(index) }
    }

    /// The next gathered byte.
    pub fn next(&mut self) -> Option<u8> {
        let first = self.place(0).load(Ordering::Relaxed) % ENTRIES;
        if first == self.place(1).load(Ordering::Acquire) {
            return None;
        }
        let at = HEAD + first as usize * size_of::<kvm_coalesced_mmio>();
        // SAFETY: `at` is one of the entries in the page; the kernel wrote it before it moved the
        // second place on, and leaves it alone until the first one has passed it.
        let entry = unsafe { self.page.add(at).cast::<kvm_coalesced_mmio>().read() };
        self.place(0)
            .store((first + 1) % ENTRIES, Ordering::Release);
        Some(entry.data[0])
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        // SAFETY: `new` mapped this page.
        unsafe { libc::munmap(self.page.cast(), PAGE) };
    }
}
