//! Console, exit, command line and memory map.
//!
//! A PVH or multiboot2 start says where the command line, the memory map and the ACPI root are. It
//! says nothing of a console: that is the 16550 at COM1, as on every PC.

use super::acpi;
use super::cpu::{inb, outb, outl, outsb};
use crate::memory;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};

const COM1: u16 = 0x3f8;
const IDENTIFICATION: u16 = COM1 + 2;
const FIFO_ENABLED: u8 = 0xc0;
const FIFO_BYTES: u32 = 16;
const LINE_STATUS: u16 = COM1 + 5;
const DATA_READY: u8 = 1 << 0;
const TRANSMIT_HOLDING_EMPTY: u8 = 1 << 5;
const TRANSMITTER_EMPTY: u8 = 1 << 6;

const PVH_MAGIC: u32 = 0x336e_c578;
const MAX_REGIONS: usize = 32;
const MAX_COMMAND_LINE: usize = 4096;

struct Found {
    command_line: [u8; MAX_COMMAND_LINE],
    command_line_length: usize,
    regions: [(u64, u64); MAX_REGIONS],
    region_count: usize,
}

struct Once(UnsafeCell<Found>);
// SAFETY: written by `init` before any other processor runs (S4), read after it.
unsafe impl Sync for Once {}

static FOUND: Once = Once(UnsafeCell::new(Found {
    command_line: [0; MAX_COMMAND_LINE],
    command_line_length: 0,
    regions: [(0, 0); MAX_REGIONS],
    region_count: 0,
}));

unsafe extern "C" {
    static __image_end: u8;
}

/// Reads what the hypervisor passed at `info`, starts the console and the allocator.
pub(super) fn init(info: u64) {
    // 115200 baud, 8n1, FIFO on; a device without a real line ignores it.
    for (offset, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xc7), (4, 3)] {
        outb(COM1 + offset, value);
    }
    let has_fifo = inb(IDENTIFICATION) & FIFO_ENABLED == FIFO_ENABLED;
    BURST.store(if has_fifo { FIFO_BYTES } else { 1 }, Ordering::Relaxed);
    // SAFETY: S4; nothing reads it yet.
    let found = unsafe { &mut *FOUND.0.get() };
    let rsdp = if read::<u32>(info) == PVH_MAGIC {
        from_pvh(info, found)
    } else {
        from_multiboot2(info, found)
    };
    acpi::init(rsdp);

    let image_end = (&raw const __image_end) as u64;
    let above = |&(start, length): &(u64, u64)| {
        let end = (start + length).min(0xc000_0000);
        let start = start.max(image_end);
        (start < end).then_some((start, end))
    };
    let largest = found.regions[..found.region_count]
        .iter()
        .filter_map(above)
        .max_by_key(|(start, end)| end - start);
    let (mut start, end) = largest.unwrap_or((image_end, image_end + (16 << 20)));
    // What the hypervisor passed may lie just above the image; it has been copied by now.
    start = start.max(image_end);
    memory::init(start as usize, end as usize);
}

/// Reads a value from the data that the hypervisor passed.
pub(super) fn read<T: memory::Plain>(address: u64) -> T {
    // SAFETY: S2; plain integers in RAM that the hypervisor filled; alignment is not required.
    unsafe { core::ptr::read_unaligned(address as *const T) }
}

fn copy_command_line(address: u64, found: &mut Found) {
    if address == 0 {
        return;
    }
    let mut length = 0;
    while length < MAX_COMMAND_LINE {
        let byte = read::<u8>(address + length as u64);
        if byte == 0 {
            break;
        }
        found.command_line[length] = byte;
        length += 1;
    }
    found.command_line_length = length;
}

fn add_region(found: &mut Found, start: u64, length: u64, kind: u32) {
    if kind == 1 && length != 0 && found.region_count < MAX_REGIONS {
        found.regions[found.region_count] = (start, length);
        found.region_count += 1;
    }
}

/// Xen's `hvm_start_info`; returns the address of the ACPI root pointer.
fn from_pvh(info: u64, found: &mut Found) -> u64 {
    let version = read::<u32>(info + 4);
    copy_command_line(read::<u64>(info + 24), found);
    if version >= 1 {
        let map = read::<u64>(info + 40);
        for i in 0..u64::from(read::<u32>(info + 48)) {
            let entry = map + 24 * i;
            add_region(found, read(entry), read(entry + 8), read(entry + 16));
        }
    }
    read(info + 32)
}

/// Multiboot2 boot information: tags of 8-byte alignment.
fn from_multiboot2(info: u64, found: &mut Found) -> u64 {
    let end = info + u64::from(read::<u32>(info));
    let mut tag = info + 8;
    let mut rsdp = 0;
    while tag + 8 <= end {
        let (kind, size) = (read::<u32>(tag), u64::from(read::<u32>(tag + 4)));
        match kind {
            0 => break,
            1 => copy_command_line(tag + 8, found),
            6 => {
                let step = u64::from(read::<u32>(tag + 8)).max(24);
                let mut entry = tag + 16;
                while entry + 24 <= tag + size {
                    add_region(found, read(entry), read(entry + 8), read(entry + 16));
                    entry += step;
                }
            }
            14 | 15 => rsdp = tag + 8,
            _ => {}
        }
        tag += size.max(8).next_multiple_of(8);
    }
    rsdp
}

/// Bytes that the transmitter takes once it says that it is empty: the depth of its FIFO.
static BURST: AtomicU32 = AtomicU32::new(1);
/// Bytes that it takes now without being asked. A device access is the dearest thing that a line
/// of the console costs. The console's lock guards it.
static ROOM: AtomicU32 = AtomicU32::new(0);

/// Writes bytes to COM1.
pub fn console_write(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let mut room = ROOM.load(Ordering::Relaxed) as usize;
        if room == 0 {
            // A UART that never gets ready must not hang the payload; the bytes are then lost.
            for _ in 0..100_000 {
                if inb(LINE_STATUS) & TRANSMIT_HOLDING_EMPTY != 0 {
                    break;
                }
            }
            room = BURST.load(Ordering::Relaxed) as usize;
        }
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        outsb(COM1, now);
        ROOM.store((room - now.len()) as u32, Ordering::Relaxed);
        bytes = later;
        // At the end of a line, so that the line is out: a host may gather writes until a read.
        if now.ends_with(b"\n") && inb(LINE_STATUS) & TRANSMIT_HOLDING_EMPTY != 0 {
            ROOM.store(BURST.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// A byte that was typed on COM1.
pub fn console_read() -> Option<u8> {
    (inb(LINE_STATUS) & DATA_READY != 0).then(|| inb(COM1))
}

/// Lets the console take input or not; this one always does.
pub fn console_listen(_on: bool) {}

/// The command line.
pub fn command_line() -> &'static str {
    // SAFETY: written once, before any caller runs (S4).
    let found = unsafe { &*FOUND.0.get() };
    core::str::from_utf8(&found.command_line[..found.command_line_length]).unwrap_or("")
}

/// Regions of RAM as (start, length).
pub fn memory_map() -> &'static [(u64, u64)] {
    // SAFETY: written once, before any caller runs (S4).
    let found = unsafe { &*FOUND.0.get() };
    &found.regions[..found.region_count]
}

/// Ends the machine by every means that some hypervisor offers, the fastest first.
pub fn exit(success: bool) -> ! {
    for _ in 0..100_000 {
        if inb(LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
            break;
        }
    }
    // QEMU's isa-debug-exit and Assay's own VMM.
    outl(0xf4, u32::from(!success));
    // Bochs and QEMU: the "Shutdown" port.
    for byte in *b"Shutdown" {
        outb(0x8900, byte);
    }
    power_off();
    // Firecracker, crosvm: the keyboard controller's reset line. Then the reset port.
    outb(0x64, 0xfe);
    outb(0xcf9, 6);
    triple_fault()
}

/// ACPI S5 where the tables name the port; it returns where they do not.
pub fn power_off() {
    if let Some(port) = acpi::pm1a_control() {
        // SLP_TYP of S5 stands in AML; these are the values of the hypervisors' own tables:
        // 0 (QEMU pc, q35), 5 (QEMU microvm-like, VirtualBox, Bochs 0), 7.
        for slp_typ in [0u16, 5, 7] {
            super::cpu::outw(port, slp_typ << 10 | 1 << 13);
        }
    }
}

/// Shuts the processor down by a fault that cannot be delivered.
pub fn triple_fault() -> ! {
    // SAFETY: S1; nothing is to run after this.
    unsafe {
        core::arch::asm!(
            "lidt [{}]",
            "ud2",
            in(reg) &super::segments::TableRegister::EMPTY,
            options(noreturn, nostack)
        )
    }
}
