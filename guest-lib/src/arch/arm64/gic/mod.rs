//! The interrupt controller: GICv2 or GICv3, whichever the device tree names.
//!
//! [`Gic`] is a quiet, known controller: nothing enabled, pending or active, every priority
//! [`PRIORITY`], SPIs routed to the boot processor, the boot processor's interface open. Both
//! versions answer to the same verbs; what only one has is in [`Gic::distributor`] and the register
//! frames, which take and give any value.

pub mod its;
pub mod registers;

use super::fault::Frame;
use super::mmio::Mmio;
use super::registers as sys;
use super::{cpu, interrupts, platform, psci, smp};
use crate::case::{Fixture, Stop, skip};
use crate::cpus::{self, Cpu, MAX};
use crate::time;
use core::sync::atomic::{AtomicU64, Ordering};
use registers::{gicc, gicd, gicr};

/// The number of an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Intid(pub u32);

impl Intid {
    /// What an acknowledge register gives when there is nothing to acknowledge.
    pub const SPURIOUS: Intid = Intid(1023);

    /// Software generated interrupt `n`, 0 to 15.
    pub const fn sgi(n: u32) -> Self {
        Intid(n)
    }

    /// Private peripheral interrupt `n`, 0 to 15.
    pub const fn ppi(n: u32) -> Self {
        Intid(16 + n)
    }

    /// Shared peripheral interrupt `n`.
    pub const fn spi(n: u32) -> Self {
        Intid(32 + n)
    }

    /// Whether each processor has its own.
    pub const fn is_private(self) -> bool {
        self.0 < 32
    }
}

/// What an acknowledge register gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Iar(pub u64);

impl Iar {
    /// The interrupt.
    pub const fn intid(self) -> Intid {
        Intid(
            (self.0
                & if self.0 & 0xff_e000 != 0 {
                    0xff_ffff
                } else {
                    0x3ff
                }) as u32,
        )
    }

    /// GICv2: for an SGI, the number of the sender's CPU interface.
    pub const fn sender(self) -> u64 {
        self.0 >> 10 & 7
    }

    /// Whether there was nothing to acknowledge (1020 to 1023).
    pub const fn is_spurious(self) -> bool {
        matches!(self.intid().0, 1020..=1023)
    }
}

/// The priority that every interrupt has at first.
pub const PRIORITY: u8 = 0xa0;

/// What each processor acknowledged and did not end: a case that stops early leaves it behind, and
/// GICv2 has no other way to find it again.
static OUTSTANDING: [[AtomicU64; 8]; MAX] = [const { [const { AtomicU64::new(NOTHING) }; 8] }; MAX];
const NOTHING: u64 = u64::MAX;

fn outstanding() -> &'static [AtomicU64; 8] {
    &OUTSTANDING[cpus::this().0]
}

static REDISTRIBUTORS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];

/// The interrupt controller, quiet and known.
pub struct Gic {
    version: u32,
    distributor: Mmio,
    cpu_interface: Mmio,
}

/// A GICv2 or nothing.
pub struct Gicv2(pub Gic);
/// A GICv3 or nothing.
pub struct Gicv3(pub Gic);

/// A processor's interface to a controller that another one quiets; see [`Gic::here`].
pub struct Interface(core::mem::ManuallyDrop<Gic>);

impl core::ops::Deref for Interface {
    type Target = Gic;
    fn deref(&self) -> &Gic {
        &self.0
    }
}

impl Fixture for Gicv2 {
    fn fresh() -> Result<Self, Stop> {
        match platform::info().gic.version {
            2 => Ok(Gicv2(Gic::fresh()?)),
            _ => skip("arm64.gicv2"),
        }
    }
}

impl Fixture for Gicv3 {
    fn fresh() -> Result<Self, Stop> {
        match platform::info().gic.version {
            3 => Ok(Gicv3(Gic::fresh()?)),
            _ => skip("arm64.gicv3"),
        }
    }
}

impl core::ops::Deref for Gicv2 {
    type Target = Gic;
    fn deref(&self) -> &Gic {
        &self.0
    }
}

impl core::ops::Deref for Gicv3 {
    type Target = Gic;
    fn deref(&self) -> &Gic {
        &self.0
    }
}

impl Fixture for Gic {
    fn fresh() -> Result<Self, Stop> {
        let info = &platform::info().gic;
        if info.version == 0 {
            return skip("arm64.gicv2");
        }
        let gic = Gic {
            version: info.version,
            distributor: Mmio::new(info.distributor),
            cpu_interface: Mmio::new(info.cpu_interface.0),
        };
        gic.quiet();
        gic.init_cpu();
        Ok(gic)
    }
}

impl Drop for Gic {
    fn drop(&mut self) {
        self.quiet();
        self.init_cpu();
    }
}

impl Gic {
    /// The controller for another processor than the one that holds the fixture: it opens this
    /// processor's interface and leaves everything else as it is.
    pub fn here() -> Result<Interface, Stop> {
        let info = &platform::info().gic;
        let gic = core::mem::ManuallyDrop::new(Gic {
            version: info.version,
            distributor: Mmio::new(info.distributor),
            cpu_interface: Mmio::new(info.cpu_interface.0),
        });
        gic.init_cpu();
        Ok(Interface(gic))
    }

    /// 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// GICD.
    pub fn distributor(&self) -> Mmio {
        self.distributor
    }

    /// GICC of this processor (GICv2).
    pub fn cpu_interface(&self) -> Mmio {
        self.cpu_interface
    }

    /// The first frame of `cpu`'s redistributor (GICv3).
    pub fn redistributor(&self, cpu: Cpu) -> Mmio {
        let slot = &REDISTRIBUTORS[cpu.0];
        if slot.load(Ordering::Relaxed) == 0 {
            self.find_redistributors();
        }
        let base = slot.load(Ordering::Relaxed);
        assert!(
            base != 0,
            "no redistributor has the affinity of CPU {}",
            cpu.0
        );
        Mmio::new(base)
    }

    /// The frame of `cpu`'s private interrupts (GICv3).
    pub fn sgi_frame(&self, cpu: Cpu) -> Mmio {
        self.redistributor(cpu).at(gicr::SGI_FRAME)
    }

    /// Every redistributor in the order of its region: base, GICR_TYPER, and the region's number.
    pub fn redistributors(&self) -> alloc::vec::Vec<(Mmio, u64, usize)> {
        let info = &platform::info().gic;
        let mut all = alloc::vec::Vec::new();
        for (i, &(base, length)) in info.redistributors[..info.redistributor_regions]
            .iter()
            .enumerate()
        {
            let mut at = 0;
            while at < length {
                let frame = Mmio::new(base + at);
                let typer = frame.read64(gicr::TYPER);
                all.push((frame, typer, i));
                if typer & gicr::LAST != 0 {
                    break;
                }
                at += self.stride(typer);
            }
        }
        all
    }

    /// Bytes from a redistributor to the next.
    fn stride(&self, typer: u64) -> u64 {
        match platform::info().gic.redistributor_stride {
            0 if typer & gicr::VLPIS != 0 => 4 * gicr::SGI_FRAME,
            0 => 2 * gicr::SGI_FRAME,
            stride => stride,
        }
    }

    fn find_redistributors(&self) {
        for (frame, typer, _) in self.redistributors() {
            let affinity = typer >> 32;
            for cpu in cpus::all() {
                let mpidr = smp::mpidr(cpu.0);
                if mpidr & 0xff_ffff | mpidr >> 32 << 24 == affinity {
                    REDISTRIBUTORS[cpu.0].store(frame.base(), Ordering::Relaxed);
                }
            }
        }
    }

    /// The registers that hold `intid`, as this processor sees them.
    pub fn bank(&self, intid: Intid) -> Mmio {
        match self.version == 3 && intid.is_private() {
            true => self.sgi_frame(cpus::this()),
            false => self.distributor,
        }
    }

    /// The INTIDs that the distributor has, private ones included: 32 to 1020.
    pub fn lines(&self) -> u32 {
        (32 * ((self.distributor.read32(gicd::TYPER) & 0x1f) + 1)).min(1020)
    }

    /// Waits for GICD_CTLR.RWP.
    fn settle(&self) {
        if self.version == 3 {
            let busy = || self.distributor.read32(gicd::CTLR) & gicd::RWP != 0;
            assert!(
                time::wait_until(time::PATIENCE, || !busy()),
                "GICD_CTLR.RWP stays set"
            );
        }
    }

    /// Nothing enabled, pending or active anywhere; the distributor on.
    fn quiet(&self) {
        let d = self.distributor;
        d.write32(gicd::CTLR, if self.version == 3 { gicd::ARE } else { 0 });
        self.settle();
        let lines = self.lines();
        for word in 1..u64::from(lines.div_ceil(32)) {
            for bank in [gicd::ICENABLER, gicd::ICACTIVER, gicd::ICPENDR] {
                d.write32(bank + word * 4, !0);
            }
            let group1 = if self.version == 3 { !0 } else { 0 };
            d.write32(gicd::IGROUPR + word * 4, group1);
            d.write32(gicd::ICFGR + word * 8, 0);
            d.write32(gicd::ICFGR + word * 8 + 4, 0);
        }
        let word_of = |byte: u8| u32::from_ne_bytes([byte; 4]);
        for word in 8..u64::from(lines.div_ceil(4)) {
            d.write32(gicd::IPRIORITYR + word * 4, word_of(PRIORITY));
            if self.version == 2 {
                d.write32(gicd::ITARGETSR + word * 4, word_of(1));
            }
        }
        if self.version == 3 {
            for n in 32..u64::from(lines) {
                d.write64(gicd::IROUTER + n * 8, smp::mpidr(0));
            }
            for cpu in cpus::all() {
                self.quiet_private(self.sgi_frame(cpu));
            }
            d.write32(gicd::CTLR, gicd::ARE | gicd::ENABLE_GRP1);
            self.settle();
        } else {
            self.quiet_private(d);
            d.write32(gicd::CTLR, gicd::ENABLE_GRP0);
        }
    }

    fn quiet_private(&self, bank: Mmio) {
        for register in [gicd::ICENABLER, gicd::ICACTIVER, gicd::ICPENDR] {
            bank.write32(register, !0);
        }
        if self.version == 3 {
            bank.write32(gicd::IGROUPR, !0);
            bank.write32(gicd::IGRPMODR, 0);
        } else {
            bank.write32(gicd::IGROUPR, 0);
            for word in 0..4 {
                bank.write32(gicd::CPENDSGIR + word * 4, !0);
            }
        }
        for word in 0..8 {
            bank.write32(
                gicd::IPRIORITYR + word * 4,
                u32::from_ne_bytes([PRIORITY; 4]),
            );
        }
        bank.write32(gicd::ICFGR + 4, 0);
    }

    /// Ends what this processor acknowledged and did not end, the last one first.
    fn end_all(&self) {
        for slot in outstanding().iter().rev() {
            let iar = Iar(slot.swap(NOTHING, Ordering::Relaxed));
            if iar.0 != NOTHING {
                self.end(iar);
                self.set_active(iar.intid(), false);
            }
        }
    }

    /// Opens this processor's interface: priority mask 0xf0, binary point 0, EOI mode 0.
    pub fn init_cpu(&self) {
        self.end_all();
        if self.version == 3 {
            let frame = self.redistributor(cpus::this());
            frame.write32(
                gicr::WAKER,
                frame.read32(gicr::WAKER) & !gicr::PROCESSOR_SLEEP,
            );
            let asleep = || frame.read32(gicr::WAKER) & gicr::CHILDREN_ASLEEP != 0;
            assert!(
                time::wait_until(time::PATIENCE, || !asleep()),
                "a redistributor stays asleep"
            );
            sys::IccSreEl1::write(7);
            sys::IccIgrpen0El1::write(0);
            sys::IccAp1r0El1::write(0);
            sys::IccCtlrEl1::write(0);
            sys::IccPmrEl1::write(0xf0);
            sys::IccBpr1El1::write(0);
            sys::IccIgrpen1El1::write(1);
        } else {
            if cpus::this() != Cpu::BOOT {
                self.quiet_private(self.distributor);
            }
            let c = self.cpu_interface;
            c.write32(gicc::APR, 0);
            c.write32(gicc::PMR, 0xf0);
            c.write32(gicc::BPR, 0);
            c.write32(gicc::CTLR, 1);
        }
    }

    fn bit(&self, register: u64, intid: Intid) -> (Mmio, u64, u32) {
        (
            self.bank(intid),
            register + u64::from(intid.0 / 32) * 4,
            1 << (intid.0 % 32),
        )
    }

    fn set_bit(&self, register: u64, intid: Intid) {
        let (bank, offset, bit) = self.bit(register, intid);
        bank.write32(offset, bit);
    }

    fn get_bit(&self, register: u64, intid: Intid) -> bool {
        let (bank, offset, bit) = self.bit(register, intid);
        bank.read32(offset) & bit != 0
    }

    /// Enables an interrupt, or disables it and waits until that has taken effect.
    pub fn set_enabled(&self, intid: Intid, on: bool) {
        self.set_bit(if on { gicd::ISENABLER } else { gicd::ICENABLER }, intid);
        if !on && self.version == 3 {
            if intid.is_private() {
                let frame = self.redistributor(cpus::this());
                let busy = || frame.read32(gicr::CTLR) & gicr::RWP != 0;
                assert!(
                    time::wait_until(time::PATIENCE, || !busy()),
                    "GICR_CTLR.RWP stays set"
                );
            } else {
                self.settle();
            }
        }
    }

    /// Whether an interrupt is enabled.
    pub fn is_enabled(&self, intid: Intid) -> bool {
        self.get_bit(gicd::ISENABLER, intid)
    }

    /// Makes an interrupt pending by software, or not pending. A GICv2 SGI pends as if this
    /// processor had sent it.
    pub fn set_pending(&self, intid: Intid, on: bool) {
        if self.version == 2 && intid.0 < 16 {
            let register = if on { gicd::SPENDSGIR } else { gicd::CPENDSGIR };
            let sender = 1u8 << cpus::this().0;
            return self
                .distributor
                .write8(register + u64::from(intid.0), sender);
        }
        self.set_bit(if on { gicd::ISPENDR } else { gicd::ICPENDR }, intid);
    }

    /// Whether an interrupt is pending.
    pub fn is_pending(&self, intid: Intid) -> bool {
        self.get_bit(gicd::ISPENDR, intid)
    }

    /// Makes an interrupt active or inactive by register.
    pub fn set_active(&self, intid: Intid, on: bool) {
        self.set_bit(if on { gicd::ISACTIVER } else { gicd::ICACTIVER }, intid);
    }

    /// Whether an interrupt is active.
    pub fn is_active(&self, intid: Intid) -> bool {
        self.get_bit(gicd::ISACTIVER, intid)
    }

    /// Sets a priority.
    pub fn set_priority(&self, intid: Intid, priority: u8) {
        self.bank(intid)
            .write8(gicd::IPRIORITYR + u64::from(intid.0), priority);
    }

    /// A priority.
    pub fn priority(&self, intid: Intid) -> u8 {
        self.bank(intid)
            .read8(gicd::IPRIORITYR + u64::from(intid.0))
    }

    /// Makes an interrupt edge-triggered, or level-sensitive.
    pub fn set_edge(&self, intid: Intid, edge: bool) {
        let bank = self.bank(intid);
        let offset = gicd::ICFGR + u64::from(intid.0 / 16) * 4;
        let bit = 2 << (intid.0 % 16 * 2);
        let old = bank.read32(offset);
        bank.write32(offset, if edge { old | bit } else { old & !bit });
    }

    /// Puts an interrupt into group 1, or 0.
    pub fn set_group1(&self, intid: Intid, one: bool) {
        let (bank, offset, bit) = self.bit(gicd::IGROUPR, intid);
        let old = bank.read32(offset);
        bank.write32(offset, if one { old | bit } else { old & !bit });
    }

    /// Routes an SPI to `cpu`.
    pub fn route(&self, intid: Intid, cpu: Cpu) {
        match self.version {
            3 => {
                let offset = gicd::IROUTER + u64::from(intid.0) * 8;
                self.distributor.write64(offset, smp::mpidr(cpu.0));
            }
            _ => self
                .distributor
                .write8(gicd::ITARGETSR + u64::from(intid.0), 1 << cpu.0),
        }
    }

    /// Acknowledges the highest pending interrupt of this processor.
    pub fn acknowledge(&self) -> Iar {
        cpu::dsb();
        let iar = match self.version {
            3 => Iar(sys::IccIar1El1::read() & 0xff_ffff),
            _ => Iar(u64::from(self.cpu_interface.read32(gicc::IAR))),
        };
        if !iar.is_spurious() {
            let free = outstanding()
                .iter()
                .find(|s| s.load(Ordering::Relaxed) == NOTHING);
            free.inspect(|slot| slot.store(iar.0, Ordering::Relaxed));
        }
        iar
    }

    /// Ends an interrupt.
    pub fn end(&self, iar: Iar) {
        let known = outstanding()
            .iter()
            .rev()
            .find(|s| s.load(Ordering::Relaxed) == iar.0);
        known.inspect(|slot| slot.store(NOTHING, Ordering::Relaxed));
        match self.version {
            3 => sys::IccEoir1El1::write(iar.0),
            _ => self.cpu_interface.write32(gicc::EOIR, iar.0 as u32),
        }
        cpu::dsb();
    }

    /// Deactivates an interrupt whose end only dropped the priority.
    pub fn deactivate(&self, iar: Iar) {
        match self.version {
            3 => sys::IccDirEl1::write(iar.0),
            _ => self.cpu_interface.write32(gicc::DIR, iar.0 as u32),
        }
        cpu::dsb();
    }

    /// EOI mode 1: the end of an interrupt only drops its priority.
    pub fn set_split_end(&self, split: bool) {
        match self.version {
            3 => sys::IccCtlrEl1::write(if split { 2 } else { 0 }),
            _ => self
                .cpu_interface
                .write32(gicc::CTLR, if split { gicc::EOI_MODE | 1 } else { 1 }),
        }
    }

    /// The highest pending interrupt, not acknowledged.
    pub fn highest_pending(&self) -> Intid {
        cpu::dsb();
        Intid(match self.version {
            3 => sys::IccHppir1El1::read() as u32 & 0xff_ffff,
            _ => self.cpu_interface.read32(gicc::HPPIR) & 0x3ff,
        })
    }

    /// The priority of what this processor handles; 0xff when it handles nothing.
    pub fn running_priority(&self) -> u8 {
        cpu::isb();
        match self.version {
            3 => sys::IccRprEl1::read() as u8,
            _ => self.cpu_interface.read32(gicc::RPR) as u8,
        }
    }

    /// Lets through only priorities higher (numerically lower) than `mask`.
    pub fn set_mask(&self, mask: u8) {
        match self.version {
            3 => sys::IccPmrEl1::write(mask.into()),
            _ => self.cpu_interface.write32(gicc::PMR, mask.into()),
        }
    }

    /// The priority mask as it reads.
    pub fn mask(&self) -> u8 {
        match self.version {
            3 => sys::IccPmrEl1::read() as u8,
            _ => self.cpu_interface.read32(gicc::PMR) as u8,
        }
    }

    /// Sends SGI `n` to `cpu`.
    pub fn send(&self, n: u32, cpu: Cpu) {
        cpu::dsb();
        match self.version {
            3 => {
                sys::IccSgi1rEl1::write(sgi_value(n, smp::mpidr(cpu.0)));
            }
            _ => self.distributor.write32(gicd::SGIR, 1 << (16 + cpu.0) | n),
        }
    }

    /// Sends SGI `n` to all processors but this.
    pub fn send_to_others(&self, n: u32) {
        cpu::dsb();
        match self.version {
            3 => sys::IccSgi1rEl1::write(1 << 40 | u64::from(n) << 24),
            _ => self.distributor.write32(gicd::SGIR, 1 << 24 | n),
        }
    }

    /// Runs `body` with IRQs open; each one that is acknowledged is shown to `seen`, then ended.
    pub fn taking<T>(&self, seen: &dyn Fn(Iar), body: impl FnOnce() -> T) -> T {
        let handler = |_: &mut Frame| {
            let iar = self.acknowledge();
            if !iar.is_spurious() {
                seen(iar);
                self.end(iar);
            }
        };
        interrupts::with_irq_handler(&handler, || {
            interrupts::unmask_irq();
            let result = body();
            interrupts::mask_irq();
            result
        })
    }
}

/// ICC_SGI1R_EL1 for SGI `n` to the processor with `mpidr`.
pub fn sgi_value(n: u32, mpidr: u64) -> u64 {
    let affinity = mpidr & psci::AFFINITY;
    let (aff0, aff1) = (affinity & 0xff, affinity >> 8 & 0xff);
    let (aff2, aff3) = (affinity >> 16 & 0xff, affinity >> 32 & 0xff);
    let (range, target) = (aff0 >> 4, 1 << (aff0 & 15));
    target | aff1 << 16 | u64::from(n) << 24 | aff2 << 32 | range << 44 | aff3 << 48
}
