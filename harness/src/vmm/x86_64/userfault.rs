//! Memory that is filled at its first access, by userfaultfd (missing and minor faults).
//!
//! The kernel stops whoever touches a page that is not there, KVM's processors included, and tells
//! us which page; we fill it with words that say which page it is and wake the toucher.

use super::Sabotage;
use super::slots::{PAGE, Region};
use assay_protocol::service::demand_word;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mm::UserfaultfdFlags;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{FileOffset, MmapRegion};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;

const UFFD_API: u64 = 0xaa;
const FEATURE_MINOR_SHMEM: u64 = 1 << 10;
const MODE_MISSING: u64 = 1 << 0;
const MODE_MINOR: u64 = 1 << 2;
const EVENT_PAGEFAULT: u8 = 0x12;

#[repr(C)]
#[derive(Default)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Default)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Default)]
struct Copy {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    copy: i64,
}

#[repr(C)]
#[derive(Default)]
struct Continue {
    start: u64,
    len: u64,
    mode: u64,
    mapped: i64,
}

ioctl_iowr_nr!(UFFDIO_API, UFFD_API as u32, 0x3f, Api);
ioctl_iowr_nr!(UFFDIO_REGISTER, UFFD_API as u32, 0x00, Register);
ioctl_iowr_nr!(UFFDIO_COPY, UFFD_API as u32, 0x03, Copy);
ioctl_iowr_nr!(UFFDIO_CONTINUE, UFFD_API as u32, 0x07, Continue);

fn errno() -> i32 {
    std::io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// Fills one region, until dropped.
#[derive(Debug)]
pub struct Userfault {
    served: Arc<AtomicU64>,
    /// The filler hears when this end closes.
    _alive: OwnedFd,
}

impl Userfault {
    /// How many pages were filled.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    /// `pages` of memory that is filled on demand. The error is an errno.
    pub fn memory(
        pages: u64,
        minor: bool,
        sabotage: Option<Sabotage>,
    ) -> Result<(Region, Arc<Userfault>), i32> {
        let bytes = pages * PAGE;
        // SAFETY: the descriptor is closed when its thread ends; nothing else uses it.
        let fd = unsafe { rustix::mm::userfaultfd(UserfaultfdFlags::CLOEXEC) }
            .map_err(|e| e.raw_os_error())?;
        let mut api = Api {
            api: UFFD_API,
            features: if minor { FEATURE_MINOR_SHMEM } else { 0 },
            ..Api::default()
        };
        // SAFETY: `api` is the structure that this ioctl takes.
        if unsafe { ioctl_with_mut_ref(&fd, UFFDIO_API(), &mut api) } != 0 {
            return Err(errno());
        }
        let (region, alias) = if minor {
            shared(bytes)?
        } else {
            (private(bytes)?, None)
        };
        let mut register = Register {
            start: region.address(),
            len: bytes,
            mode: if minor { MODE_MINOR } else { MODE_MISSING },
            ..Register::default()
        };
        // SAFETY: the range is the region's own mapping.
        if unsafe { ioctl_with_mut_ref(&fd, UFFDIO_REGISTER(), &mut register) } != 0 {
            return Err(errno());
        }
        let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (end, alive) = pipe.map_err(|e| e.raw_os_error())?;
        let served = Arc::new(AtomicU64::new(0));
        let filler = Filler {
            fd,
            start: region.address(),
            pages,
            minor,
            wrong: sabotage == Some(Sabotage::WrongDemandPage),
            end,
            served: Arc::clone(&served),
            _alias: alias,
        };
        std::thread::Builder::new()
            .name("userfault".into())
            .spawn(move || filler.serve())
            .map_err(|_| libc::EAGAIN)?;
        let userfault = Userfault {
            served,
            _alive: alive,
        };
        Ok((region, Arc::new(userfault)))
    }
}

fn private(bytes: u64) -> Result<Region, i32> {
    Region::new(bytes).map_err(|_| libc::ENOMEM)
}

/// Shared memory whose contents exist already: written through an alias that is not registered.
fn shared(bytes: u64) -> Result<(Region, Option<Region>), i32> {
    let fd = rustix::fs::memfd_create("assay", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| e.raw_os_error())?;
    rustix::fs::ftruncate(&fd, bytes).map_err(|e| e.raw_os_error())?;
    let file = Arc::new(File::from(fd));
    let map = || {
        MmapRegion::build(
            Some(FileOffset::from_arc(Arc::clone(&file), 0)),
            bytes as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
        )
        .map(Region::from_map)
        .map_err(|_| libc::ENOMEM)
    };
    let (region, alias) = (map()?, map()?);
    for page in 0..bytes / PAGE {
        alias
            .write(page * PAGE, &contents(page))
            .map_err(|_| libc::EFAULT)?;
    }
    Ok((region, Some(alias)))
}

fn contents(page: u64) -> Vec<u8> {
    demand_word(page).to_le_bytes().repeat(PAGE as usize / 8)
}

struct Filler {
    fd: OwnedFd,
    start: u64,
    pages: u64,
    minor: bool,
    wrong: bool,
    end: OwnedFd,
    served: Arc<AtomicU64>,
    _alias: Option<Region>,
}

impl Filler {
    fn serve(self) {
        // SAFETY: the descriptor is ours; the duplicate is closed by `File`.
        let mut file = unsafe { File::from_raw_fd(libc::dup(self.fd.as_raw_fd())) };
        let mut message = [0u8; 32];
        loop {
            let mut fds = [
                PollFd::new(&self.fd, PollFlags::IN),
                PollFd::new(&self.end, PollFlags::empty()),
            ];
            if poll(&mut fds, None).is_err() {
                continue;
            }
            // The slot is gone, and nobody can touch its memory any more.
            if !fds[1].revents().is_empty() {
                return;
            }
            match file.read(&mut message) {
                Ok(32) if message[0] == EVENT_PAGEFAULT => {
                    let bytes = message[16..24].try_into().unwrap_or_default();
                    self.fill((u64::from_le_bytes(bytes) - self.start) / PAGE);
                }
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn fill(&self, page: u64) {
        let at = self.start + page * PAGE;
        let from = contents(if self.wrong {
            (page + 1) % self.pages
        } else {
            page
        });
        // Counted before the guest wakes up and may ask.
        self.served.fetch_add(1, Ordering::SeqCst);
        let failed = if self.minor {
            let mut go_on = Continue {
                start: at,
                len: PAGE,
                ..Continue::default()
            };
            // SAFETY: the range lies in the registered region.
            unsafe { ioctl_with_mut_ref(&self.fd, UFFDIO_CONTINUE(), &mut go_on) }
        } else {
            let mut copy = Copy {
                dst: at,
                src: from.as_ptr() as u64,
                len: PAGE,
                ..Copy::default()
            };
            // SAFETY: `from` holds a page, and the target lies in the registered region.
            unsafe { ioctl_with_mut_ref(&self.fd, UFFDIO_COPY(), &mut copy) }
        };
        // EEXIST: two processors touched the page at once and the first one's fault filled it.
        if failed != 0 {
            self.served.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
