//! What the device tree says: console, memory, processors, interrupt controller, PSCI.

use super::dtb::{self, Tree, cells};
use super::mmio::Mmio;
use super::psci::{self, Conduit};
use super::{boot, cpu, fault};
use crate::cpus::MAX;
use core::cell::UnsafeCell;

/// A console device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uart {
    /// None was found; nothing is printed.
    None,
    /// An Arm PL011 at this address.
    Pl011(u64),
    /// A 16550: address, shift of register numbers, width of an access in bytes.
    Ns16550(u64, u32, u32),
}

/// The interrupt controller.
#[derive(Clone, Copy, Debug, Default)]
pub struct GicInfo {
    /// 2 or 3; 0 when there is none.
    pub version: u32,
    /// The distributor.
    pub distributor: u64,
    /// GICv2: the CPU interface and its length.
    pub cpu_interface: (u64, u64),
    /// GICv3: regions of redistributors, each with its length.
    pub redistributors: [(u64, u64); 8],
    /// How many of them there are.
    pub redistributor_regions: usize,
    /// GICv3: bytes from one redistributor to the next, where the tree says so; otherwise 0.
    pub redistributor_stride: u64,
    /// GICv2m MSI frame.
    pub v2m: u64,
    /// The first ITS, and its length.
    pub its: u64,
    /// INTID of the maintenance interrupt.
    pub maintenance: u32,
}

/// Everything the runtime took from the tree.
pub struct Info {
    /// Where the tree lies, and its size.
    pub tree: (u64, u64),
    /// `/chosen/bootargs`.
    pub command_line: &'static str,
    /// Console.
    pub uart: Uart,
    /// INTID of the console's interrupt, or 0.
    pub uart_intid: u32,
    /// How PSCI is called.
    pub conduit: Option<Conduit>,
    /// Interrupt controller.
    pub gic: GicInfo,
    /// INTIDs of the timers: EL3 physical, EL1 physical, EL1 virtual, EL2 physical, EL2 virtual.
    pub timer_intids: [u32; 5],
    /// Whether there is a PCI Express host bridge.
    pub has_pcie: bool,
    /// How many processors there are.
    pub cpu_count: usize,
    /// Their MPIDR affinities; the boot processor first.
    pub mpidr: [u64; MAX],
    memory: [(u64, u64); 16],
    memory_count: usize,
    reserved: [(u64, u64); 16],
    reserved_count: usize,
}

struct Shared(UnsafeCell<Info>);
// SAFETY: written once by the boot processor before others exist (S4), then only read.
unsafe impl Sync for Shared {}

static INFO: Shared = Shared(UnsafeCell::new(Info {
    tree: (0, 0),
    command_line: "",
    uart: Uart::None,
    uart_intid: 0,
    conduit: None,
    gic: GicInfo {
        version: 0,
        distributor: 0,
        cpu_interface: (0, 0),
        redistributors: [(0, 0); 8],
        redistributor_regions: 0,
        redistributor_stride: 0,
        v2m: 0,
        its: 0,
        maintenance: 0,
    },
    timer_intids: [0; 5],
    has_pcie: false,
    cpu_count: 0,
    mpidr: [0; MAX],
    memory: [(0, 0); 16],
    memory_count: 0,
    reserved: [(0, 0); 16],
    reserved_count: 0,
}));

/// What the tree says.
pub fn info() -> &'static Info {
    // SAFETY: written once at boot (S4).
    unsafe { &*INFO.0.get() }
}

/// The device tree, as the hypervisor passed it.
pub fn tree() -> &'static [u8] {
    let (address, size) = info().tree;
    // SAFETY: S2; `init` checked header and size, and the allocator leaves the tree alone.
    unsafe { core::slice::from_raw_parts(address as *const u8, size as usize) }
}

/// Reads the tree at `address`. A wrong tree ends the payload with a message, as far as there is
/// a console to print it on.
pub(super) fn init(address: usize) {
    // SAFETY: S2, S4; the boot protocol says where the tree is, and its place is mapped.
    let head = unsafe { core::slice::from_raw_parts(address as *const u8, 8) };
    let read = dtb::stated_size(head).and_then(|size| {
        // SAFETY: as above; at most 2 MiB, which boot code mapped.
        let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, size) };
        Tree::new(bytes)
    });
    // SAFETY: S4; nobody else reads it yet.
    let info = unsafe { &mut *INFO.0.get() };
    match read {
        Ok(tree) => {
            info.tree = (address as u64, tree.size() as u64);
            let result = take(info, &tree);
            console_init(info.uart);
            if let Err(error) = result {
                give_up(info, error);
            }
        }
        Err(error) => give_up(info, error),
    }
    assert!(info.memory_count > 0, "the device tree lists no memory");
    assert!(info.cpu_count > 0, "the device tree lists no processor");
}

/// Without a tree there is no console either: the place of QEMU's and Cloud Hypervisor's PL011 is
/// tried, if it answers.
fn give_up(info: &mut Info, error: dtb::Error) -> ! {
    const LAST_RESORT: u64 = 0x0900_0000;
    if info.uart == Uart::None && fault::catch(|| Mmio::new(LAST_RESORT).read32(0xfe0)) == Ok(0x11)
    {
        info.uart = Uart::Pl011(LAST_RESORT);
    }
    // Nearly every hypervisor has one of the two; the wrong one is undefined and caught.
    info.conduit.get_or_insert(Conduit::Hvc);
    panic!("{error}");
}

fn take(info: &mut Info, tree: &Tree<'static>) -> Result<(), dtb::Error> {
    for range in tree.reservations() {
        info.reserve(range);
    }
    let mut stdout = None;
    let mut in_aliases = None;
    let mut alias = None;
    tree.walk(|node| {
        if node.depth == 1 && node.name == "chosen" {
            stdout = node.text("stdout-path");
            info.command_line = node.text("bootargs").unwrap_or("");
            let edge = |key| node.number(key).unwrap_or(0);
            let (start, end) = (edge("linux,initrd-start"), edge("linux,initrd-end"));
            info.reserve((start, end.saturating_sub(start)));
        }
        if node.depth == 1 && node.name == "aliases" {
            in_aliases = Some(true);
        }
    })?;
    // `stdout-path` is a path or an alias, perhaps with `:options` behind it.
    let wanted = stdout.map(|s: &str| s.split(':').next().unwrap_or(s));
    if let Some(name) = wanted.filter(|w| !w.starts_with('/')) {
        tree.walk(|node| {
            if node.depth == 1 && node.name == "aliases" {
                alias = node.text(name);
            }
        })?;
    }
    let leaf = alias.or(wanted).and_then(|path| path.rsplit('/').next());

    let mut boot_found = false;
    let own = super::registers::MpidrEl1::read() & psci::AFFINITY;
    let mut in_reserved = usize::MAX;
    tree.walk(|node| {
        if in_reserved < node.depth {
            if let Some(range) = node.reg(0) {
                info.reserve(range);
            }
        } else {
            in_reserved = usize::MAX;
        }
        if node.depth == 1 && node.name == "reserved-memory" {
            in_reserved = node.depth;
        }
        uart(info, node, leaf);
        if node.text("device_type") == Some("memory") {
            for i in 0.. {
                let Some(range) = node.reg(i) else { break };
                if info.memory_count < info.memory.len() && range.1 > 0 {
                    info.memory[info.memory_count] = range;
                    info.memory_count += 1;
                }
            }
        }
        if node.text("device_type") == Some("cpu") && info.cpu_count < MAX {
            let reg = node.property("reg").unwrap_or(&[]);
            if let Some(affinity) = cells(reg, 0, (reg.len() / 4).min(2)) {
                let mut slot = info.cpu_count;
                if affinity == own && !boot_found {
                    // The boot processor is number 0, wherever the tree lists it.
                    boot_found = true;
                    info.mpidr.copy_within(0..slot, 1);
                    slot = 0;
                }
                info.mpidr[slot] = affinity;
                info.cpu_count += 1;
            }
        }
        if ["arm,psci-0.2", "arm,psci-1.0", "arm,psci-1.1"]
            .iter()
            .any(|c| node.is_compatible(c))
        {
            info.conduit = match node.text("method") {
                Some("hvc") => Some(Conduit::Hvc),
                Some("smc") => Some(Conduit::Smc),
                _ => None,
            };
        }
        if node.is_compatible("arm,armv8-timer") {
            let value = node.property("interrupts").unwrap_or(&[]);
            for i in 0..5 {
                info.timer_intids[i] = intid(value, i).unwrap_or(0);
            }
        }
        if node.is_compatible("pci-host-ecam-generic") {
            info.has_pcie = true;
        }
        gic(info, node);
    })
}

/// INTID of entry `index` of a three-cell `interrupts` value.
fn intid(value: &[u8], index: usize) -> Option<u32> {
    let number = cells(value, index * 3 + 1, 1)? as u32;
    Some(match cells(value, index * 3, 1)? {
        0 => number + 32,
        _ => number + 16,
    })
}

fn uart(info: &mut Info, node: &dtb::Node<'static>, wanted: Option<&str>) {
    let chosen = wanted == Some(node.name);
    if info.uart != Uart::None && !chosen {
        return;
    }
    let Some((base, _)) = node.reg(0) else { return };
    let found = if node.is_compatible("arm,pl011") {
        Uart::Pl011(base)
    } else if ["ns16550a", "ns16550", "snps,dw-apb-uart"]
        .iter()
        .any(|c| node.is_compatible(c))
    {
        let shift = node.number("reg-shift").unwrap_or(0) as u32;
        Uart::Ns16550(base, shift, node.number("reg-io-width").unwrap_or(1) as u32)
    } else {
        return;
    };
    info.uart = found;
    info.uart_intid = node
        .property("interrupts")
        .and_then(|v| intid(v, 0))
        .unwrap_or(0);
}

fn gic(info: &mut Info, node: &dtb::Node<'static>) {
    let gic = &mut info.gic;
    let v2 = ["arm,cortex-a15-gic", "arm,gic-400", "arm,cortex-a7-gic"];
    if v2.iter().any(|c| node.is_compatible(c)) {
        gic.version = 2;
        gic.distributor = node.reg(0).map_or(0, |r| r.0);
        gic.cpu_interface = node.reg(1).unwrap_or((0, 0));
        gic.maintenance = node
            .property("interrupts")
            .and_then(|v| intid(v, 0))
            .unwrap_or(0);
    }
    if node.is_compatible("arm,gic-v3") {
        gic.version = 3;
        gic.distributor = node.reg(0).map_or(0, |r| r.0);
        gic.redistributor_stride = node.number("redistributor-stride").unwrap_or(0);
        gic.maintenance = node
            .property("interrupts")
            .and_then(|v| intid(v, 0))
            .unwrap_or(0);
        let regions = node
            .number("#redistributor-regions")
            .unwrap_or(1)
            .clamp(1, 8) as usize;
        gic.redistributor_regions = 0;
        for i in 0..regions {
            if let Some(range) = node.reg(1 + i) {
                gic.redistributors[gic.redistributor_regions] = range;
                gic.redistributor_regions += 1;
            }
        }
    }
    if node.is_compatible("arm,gic-v2m-frame") {
        gic.v2m = node.reg(0).map_or(0, |r| r.0);
    }
    if node.is_compatible("arm,gic-v3-its") && gic.its == 0 {
        gic.its = node.reg(0).map_or(0, |r| r.0);
    }
}

impl Info {
    fn reserve(&mut self, range: (u64, u64)) {
        if self.reserved_count < self.reserved.len() && range.1 > 0 {
            self.reserved[self.reserved_count] = range;
            self.reserved_count += 1;
        }
    }
}

/// The largest free piece of the region of RAM that holds the image.
pub(super) fn free_memory() -> (usize, usize) {
    let info = info();
    let (start, end, _) = boot::image();
    let mut taken = [(0u64, 0u64); 18];
    taken[0] = (start as u64, end as u64);
    taken[1] = (info.tree.0, info.tree.0 + info.tree.1);
    for (slot, &(address, length)) in taken[2..].iter_mut().zip(&info.reserved) {
        *slot = (address, address.saturating_add(length));
    }
    taken.sort_unstable();
    let mut best = (0, 0);
    for &(address, length) in memory_map() {
        let mut free = address;
        let region_end = address + length;
        let edges = taken.iter().copied().chain([(region_end, region_end)]);
        for (from, to) in edges.filter(|&(from, _)| from >= address && from <= region_end) {
            if from.saturating_sub(free) > best.1 - best.0 {
                best = (free, from);
            }
            free = free.max(to);
        }
    }
    (best.0 as usize, best.1 as usize)
}

/// RAM, as (first address, length in bytes).
pub fn memory_map() -> &'static [(u64, u64)] {
    &info().memory[..info().memory_count]
}

/// The command line.
pub fn command_line() -> &'static str {
    info().command_line
}

/// PL011 registers.
mod pl011 {
    pub const DR: u64 = 0x00;
    pub const FR: u64 = 0x18;
    pub const CR: u64 = 0x30;
    pub const BUSY: u32 = 1 << 3;
    pub const RXFE: u32 = 1 << 4;
    pub const TXFF: u32 = 1 << 5;
}

fn console_init(uart: Uart) {
    if let Uart::Pl011(base) = uart {
        // UARTEN, TXE and RXE: firmware would have set them.
        Mmio::new(base).write32(pl011::CR, 0x301);
    }
}

fn ns16550(base: u64, shift: u32, width: u32, register: u64) -> (u64, bool) {
    (base + (register << shift), width == 4)
}

fn line_status((address, wide): (u64, bool)) -> u32 {
    match wide {
        true => Mmio::new(address).read32(0),
        false => u32::from(Mmio::new(address).read8(0)),
    }
}

/// Writes bytes to the console.
pub fn console_write(bytes: &[u8]) {
    match info().uart {
        Uart::None => {}
        Uart::Pl011(base) => {
            let device = Mmio::new(base);
            for &byte in bytes {
                while device.read32(pl011::FR) & pl011::TXFF != 0 {
                    cpu::relax();
                }
                device.write32(pl011::DR, u32::from(byte));
            }
        }
        Uart::Ns16550(base, shift, width) => {
            let (data, wide) = ns16550(base, shift, width, 0);
            for &byte in bytes {
                while line_status(ns16550(base, shift, width, 5)) & 0x20 == 0 {
                    cpu::relax();
                }
                match wide {
                    true => Mmio::new(data).write32(0, u32::from(byte)),
                    false => Mmio::new(data).write8(0, byte),
                }
            }
        }
    }
}

/// A byte that was typed on the console.
pub fn console_read() -> Option<u8> {
    match info().uart {
        Uart::None => None,
        Uart::Pl011(base) => {
            let device = Mmio::new(base);
            let empty = device.read32(pl011::FR) & pl011::RXFE != 0;
            (!empty).then(|| device.read32(pl011::DR) as u8)
        }
        Uart::Ns16550(base, shift, width) => {
            if line_status(ns16550(base, shift, width, 5)) & 1 == 0 {
                return None;
            }
            let (data, wide) = ns16550(base, shift, width, 0);
            Some(match wide {
                true => Mmio::new(data).read32(0) as u8,
                false => Mmio::new(data).read8(0),
            })
        }
    }
}

/// Lets the console take input or not; these always do.
pub fn console_listen(_on: bool) {}

/// Waits until the console has sent everything.
pub fn console_drain() {
    match info().uart {
        Uart::None => {}
        Uart::Pl011(base) => {
            while Mmio::new(base).read32(pl011::FR) & pl011::BUSY != 0 {
                cpu::relax();
            }
        }
        Uart::Ns16550(base, shift, width) => {
            while line_status(ns16550(base, shift, width, 5)) & 0x40 == 0 {
                cpu::relax();
            }
        }
    }
}

/// Ends the machine.
pub fn exit(_success: bool) -> ! {
    super::interrupts::mask_all();
    console_drain();
    let _ = fault::catch(psci::system_off);
    loop {
        cpu::wfi();
    }
}
