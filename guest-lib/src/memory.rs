//! Frames of RAM, and the heap above them.
//!
//! RAM is mapped one to one (S2). The allocator manages one region that the platform names at
//! boot, at most [`MANAGED_MIB`] of it; what lies beyond stays untouched and can be used by address.

use crate::arch;
use crate::sync::SpinLock;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

/// Size of a frame in bytes.
pub const FRAME: usize = 4096;
/// The most RAM the allocator manages, in MiB.
pub const MANAGED_MIB: usize = 512;

const WORDS: usize = MANAGED_MIB * 1024 * 1024 / FRAME / 64;

struct Bitmap {
    base: usize,
    frames: usize,
    used: [u64; WORDS],
}

static BITMAP: SpinLock<Bitmap> = SpinLock::new(Bitmap {
    base: 0,
    frames: 0,
    used: [0; WORDS],
});

/// Hands the RAM from `start` to `end` (physical addresses) to the allocator. Once, at boot.
pub(crate) fn init(start: usize, end: usize) {
    let mut bitmap = BITMAP.lock();
    bitmap.base = start.next_multiple_of(FRAME);
    bitmap.frames = (end.saturating_sub(bitmap.base) / FRAME).min(WORDS * 64);
}

/// How many frames the allocator manages, and how many are taken.
pub fn usage() -> (usize, usize) {
    let bitmap = BITMAP.lock();
    (
        bitmap.frames,
        bitmap.used.iter().map(|w| w.count_ones() as usize).sum(),
    )
}

impl Bitmap {
    fn is_used(&self, i: usize) -> bool {
        self.used[i / 64] >> (i % 64) & 1 != 0
    }

    fn set(&mut self, first: usize, count: usize, used: bool) {
        for i in first..first + count {
            let bit = 1 << (i % 64);
            if used {
                self.used[i / 64] |= bit;
            } else {
                self.used[i / 64] &= !bit;
            }
        }
    }

    fn take(&mut self, count: usize, align: usize) -> Option<usize> {
        let mut address = self.base.next_multiple_of(align);
        loop {
            let first = (address - self.base) / FRAME;
            if first + count > self.frames {
                return None;
            }
            match (first..first + count).rev().find(|&i| self.is_used(i)) {
                None => {
                    self.set(first, count, true);
                    return Some(address);
                }
                Some(i) => address = (self.base + (i + 1) * FRAME).next_multiple_of(align),
            }
        }
    }
}

/// Frames of RAM in a row, zeroed, given back on drop.
#[derive(Debug)]
pub struct Frames {
    address: usize,
    count: usize,
}

impl Frames {
    /// `count` frames aligned to `align` bytes (a power of two, at least [`FRAME`]).
    ///
    /// Panics when RAM is exhausted: that is the payload's mistake, not the hypervisor's.
    pub fn aligned(count: usize, align: usize) -> Self {
        let align = align.max(FRAME);
        let address = BITMAP.lock().take(count, align);
        let address = address.unwrap_or_else(|| panic!("no {count} free frames"));
        let mut frames = Frames { address, count };
        frames.bytes_mut().fill(0);
        frames
    }

    /// `count` frames.
    pub fn new(count: usize) -> Self {
        Frames::aligned(count, FRAME)
    }

    /// Physical address of the first byte; by S2 its virtual address too.
    pub fn address(&self) -> u64 {
        self.address as u64
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.count * FRAME
    }

    /// Never: there is at least one frame.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first byte.
    pub fn pointer(&self) -> *mut u8 {
        self.address as *mut u8
    }

    /// The bytes. Where a device, another processor or a nested guest writes them, use
    /// [`Frames::read`] instead, which is volatile.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: S2; the frames are ours until drop.
        unsafe { core::slice::from_raw_parts(self.pointer(), self.len()) }
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: S2; the frames are ours until drop.
        unsafe { core::slice::from_raw_parts_mut(self.pointer(), self.len()) }
    }

    /// Volatile read at byte `offset`, of a plain integer type.
    pub fn read<T: Plain>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= self.len());
        // SAFETY: in bounds, S2; `Plain` types take any bits; alignment is not required.
        unsafe { core::ptr::read_volatile(self.pointer().add(offset).cast::<Unaligned<T>>()).0 }
    }

    /// Volatile write at byte `offset`.
    pub fn write<T: Plain>(&self, offset: usize, value: T) {
        assert!(offset + size_of::<T>() <= self.len());
        // SAFETY: in bounds, S2; the frames are ours until drop.
        unsafe {
            core::ptr::write_volatile(
                self.pointer().add(offset).cast::<Unaligned<T>>(),
                Unaligned(value),
            );
        }
    }
}

#[repr(C, packed)]
struct Unaligned<T>(T);

/// Integer types that memory can hold in any bit pattern.
pub trait Plain: Copy + sealed::Sealed {}
mod sealed {
    /// Closes [`super::Plain`].
    pub trait Sealed {}
}
macro_rules! plain {
    ($($t:ty)*) => { $(impl sealed::Sealed for $t {} impl Plain for $t {})* };
}
plain!(u8 u16 u32 u64 u128 i8 i16 i32 i64);

impl Drop for Frames {
    fn drop(&mut self) {
        let mut bitmap = BITMAP.lock();
        let first = (self.address - bitmap.base) / FRAME;
        bitmap.set(first, self.count, false);
    }
}

/// The heap: free lists by size class over frames. Small, and it never gives frames back.
struct Heap;

const CLASSES: usize = 8;
const LARGEST: usize = 16 << (CLASSES - 1);

struct FreeLists {
    heads: [Option<NonNull<FreeBlock>>; CLASSES],
    /// What is left of the frame that each class takes new blocks from, as (next, end).
    fresh: [(usize, usize); CLASSES],
}

struct FreeBlock {
    next: Option<NonNull<FreeBlock>>,
}

// SAFETY: blocks on the lists belong to the heap alone.
unsafe impl Send for FreeLists {}

static LISTS: SpinLock<FreeLists> = SpinLock::new(FreeLists {
    heads: [None; CLASSES],
    fresh: [(0, 0); CLASSES],
});

fn class_of(layout: &Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(16);
    (size <= LARGEST).then(|| size.next_power_of_two().trailing_zeros() as usize - 4)
}

// SAFETY: blocks of a class are of its size and alignment, and on a list only while free; larger
// layouts get frames of their own.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(&layout) else {
            let frames = layout.size().div_ceil(FRAME);
            let taken = BITMAP.lock().take(frames, layout.align().max(FRAME));
            return taken.map_or(core::ptr::null_mut(), |address| address as *mut u8);
        };
        let mut lists = LISTS.lock();
        let Some(block) = lists.heads[class] else {
            // Block by block, not the frame at once: a boot takes few blocks, and where privileged
            // code is emulated a list of 256 costs milliseconds.
            let (next, end) = &mut lists.fresh[class];
            if next == end {
                let Some(address) = BITMAP.lock().take(1, FRAME) else {
                    return core::ptr::null_mut();
                };
                (*next, *end) = (address, address + FRAME);
            }
            let block = *next;
            *next += 16usize << class;
            return block as *mut u8;
        };
        // SAFETY: blocks on a list are valid and ours.
        lists.heads[class] = unsafe { block.as_ref() }.next;
        block.as_ptr().cast()
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(class) = class_of(&layout) else {
            let mut bitmap = BITMAP.lock();
            let first = (pointer as usize - bitmap.base) / FRAME;
            bitmap.set(first, layout.size().div_ceil(FRAME), false);
            return;
        };
        let mut lists = LISTS.lock();
        let block = pointer.cast::<FreeBlock>();
        // SAFETY: the caller gives the block back; it has the class's size and alignment.
        unsafe {
            block.write(FreeBlock {
                next: lists.heads[class],
            })
        };
        lists.heads[class] = NonNull::new(block);
    }
}

#[cfg(not(test))]
#[global_allocator]
static HEAP: Heap = Heap;

/// The regions of RAM the platform reports, as (first address, length in bytes).
pub fn regions() -> &'static [(u64, u64)] {
    arch::platform::memory_map()
}

/// All RAM, in bytes.
pub fn total() -> u64 {
    regions().iter().map(|(_, length)| length).sum()
}
