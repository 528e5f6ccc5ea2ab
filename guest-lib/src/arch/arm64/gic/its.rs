//! An Interrupt Translation Service and the LPI tables of the redistributors (IHI0069 5 and 12.19).
//!
//! LPIs cannot in general be disabled again in a redistributor, so their tables are made once and
//! live for ever; an [`Its`] starts from LPIs that are all disabled and not pending.

use super::registers::{gicr, gits};
use super::{Gicv3, Intid};
use crate::arch::cpu;
use crate::arch::mmio::Mmio;
use crate::arch::platform;
use crate::case::{Failure, Fixture, Stop, skip};
use crate::cpus::{self, Cpu};
use crate::memory::Frames;
use crate::sync::SpinLock;
use crate::time;
use alloc::vec::Vec;

/// The first LPI.
pub const FIRST_LPI: u32 = 8192;
/// How many bits an INTID has here: LPIs 8192 to 16383.
const ID_BITS: u32 = 14;
/// Bytes of a command.
const COMMAND: u64 = 32;
/// Inner write-back cacheable, inner shareable.
const CACHEABLE: u64 = 7 << 59 | 1 << 10;

struct Lpis {
    /// One byte per LPI: priority, and enabled in bit 0.
    config: Frames,
    /// One table per processor that was set up.
    pending: Vec<(Cpu, Frames)>,
}

static LPIS: SpinLock<Option<Lpis>> = SpinLock::new(None);

/// An ITS with empty tables and an empty queue, enabled.
pub struct Its {
    /// The GIC it belongs to.
    pub gic: Gicv3,
    registers: Mmio,
    queue: Frames,
    write: u64,
    tables: Vec<Frames>,
    translation: Vec<Frames>,
}

/// The registers of the first ITS, as they are.
pub fn registers() -> Result<Mmio, Stop> {
    match platform::info().gic.its {
        0 => skip("arm64.its"),
        base => Ok(Mmio::new(base)),
    }
}

impl Fixture for Its {
    fn fresh() -> Result<Self, Stop> {
        let gic = Gicv3::fresh()?;
        let registers = registers()?;
        let mut its = Its {
            gic,
            registers,
            queue: Frames::aligned(16, 65536),
            write: 0,
            tables: Vec::new(),
            translation: Vec::new(),
        };
        its.disable()?;
        for i in 0..8 {
            let offset = gits::BASER + i * 8;
            let baser = registers.read64(offset);
            if baser >> 56 & 7 == 0 {
                continue;
            }
            // 16 pages of 4 KiB, unless the ITS insists on larger ones.
            registers.write64(offset, 0);
            let table = Frames::aligned(64, 65536);
            let page = match registers.read64(offset) >> 8 & 3 {
                0 => 4096,
                1 => 16384,
                _ => 65536,
            };
            let pages = table.len() as u64 / page;
            let size = registers.read64(offset) & 3 << 8;
            registers.write64(
                offset,
                1 << 63 | CACHEABLE | table.address() | size | (pages - 1),
            );
            its.tables.push(table);
        }
        let queue = its.queue.address();
        registers.write64(gits::CBASER, 1 << 63 | CACHEABLE | queue | 15);
        registers.write64(gits::CWRITER, 0);
        registers.write32(gits::CTLR, gits::ENABLED);
        for cpu in cpus::all() {
            its.enable_lpis(cpu);
        }
        its.forget_lpis()?;
        Ok(its)
    }
}

impl Drop for Its {
    fn drop(&mut self) {
        for lpi in 0..64 {
            set_config(Intid(FIRST_LPI + lpi), PRIORITY_OFF);
        }
        // A case may have left the queue stalled on purpose, so failure here is no news.
        let _ = self.disable();
        for i in 0..8 {
            self.registers.write64(gits::BASER + i * 8, 0);
        }
    }
}

const PRIORITY_OFF: u8 = super::PRIORITY;

/// Writes the configuration byte of an LPI. The redistributors see it after INV or INVALL.
pub fn set_config(lpi: Intid, value: u8) {
    let lpis = LPIS.lock();
    if let Some(lpis) = &*lpis {
        lpis.config.write((lpi.0 - FIRST_LPI) as usize, value);
        cpu::dsb();
    }
}

impl Its {
    /// GITS.
    pub fn registers(&self) -> Mmio {
        self.registers
    }

    fn disable(&mut self) -> Result<(), Stop> {
        self.registers.write32(gits::CTLR, 0);
        let quiet = || self.registers.read32(gits::CTLR) & gits::QUIESCENT != 0;
        if !time::wait_until(time::PATIENCE, quiet) {
            return Err(Failure::new("GITS_CTLR.Quiescent stays clear").into());
        }
        Ok(())
    }

    /// Gives `cpu`'s redistributor its LPI tables, once.
    fn enable_lpis(&self, cpu: Cpu) {
        let mut lpis = LPIS.lock();
        let lpis = lpis.get_or_insert_with(|| {
            let mut config = Frames::aligned(2, 4096);
            config.bytes_mut().fill(PRIORITY_OFF);
            Lpis {
                config,
                pending: Vec::new(),
            }
        });
        if lpis.pending.iter().any(|(known, _)| *known == cpu) {
            return;
        }
        let pending = Frames::aligned(16, 65536);
        let frame = self.gic.redistributor(cpu);
        frame.write64(
            gicr::PROPBASER,
            CACHEABLE & !(7 << 59) | 7 << 7 | lpis.config.address() | u64::from(ID_BITS - 1),
        );
        frame.write64(
            gicr::PENDBASER,
            1 << 62 | 1 << 10 | 7 << 7 | pending.address(),
        );
        frame.write32(gicr::CTLR, frame.read32(gicr::CTLR) | gicr::ENABLE_LPIS);
        lpis.pending.push((cpu, pending));
    }

    /// No LPI of the first 64 is enabled or pending on any processor.
    fn forget_lpis(&mut self) -> Result<(), Stop> {
        for lpi in 0..64 {
            set_config(Intid(FIRST_LPI + lpi), PRIORITY_OFF);
        }
        // CLEAR needs a mapping, so each LPI is mapped to each processor in turn.
        self.map_device(0, 6)?;
        for cpu in cpus::all() {
            self.map_collection(0, Some(cpu))?;
            for n in 0..64 {
                self.map_event(0, n, Intid(FIRST_LPI + n), 0)?;
                self.command(4, 0, u64::from(n), 0, 0);
                self.discard(0, n);
            }
            self.invalidate_all(0);
            self.flush()?;
        }
        self.map_collection(0, None)?;
        self.unmap_device(0);
        self.flush()
    }

    /// What MAPC and SYNC call a redistributor.
    fn target(&self, cpu: Cpu) -> u64 {
        let frame = self.gic.redistributor(cpu);
        match self.registers.read64(gits::TYPER) >> 19 & 1 {
            0 => (frame.read64(gicr::TYPER) >> 8 & 0xffff) << 16,
            _ => frame.base(),
        }
    }

    /// Queues a command: number, DeviceID, second to fourth double word.
    pub fn command(&mut self, number: u64, device: u32, second: u64, third: u64, fourth: u64) {
        let at = self.write as usize;
        self.queue.write(at, number | u64::from(device) << 32);
        self.queue.write(at + 8, second);
        self.queue.write(at + 16, third);
        self.queue.write(at + 24, fourth);
        self.write = (self.write + COMMAND) % self.queue.len() as u64;
        cpu::dsb();
        self.registers.write64(gits::CWRITER, self.write);
        // A queue that is full would have to wait; 2048 commands are never outstanding here.
    }

    /// Waits until every command has been taken. `Err` when the ITS stalls or stops reading.
    pub fn flush(&self) -> Result<(), Stop> {
        if self.drained() {
            return Ok(());
        }
        Err(Failure::new("the ITS does not take its commands").into())
    }

    /// Whether the ITS takes every command.
    pub fn drained(&self) -> bool {
        let done = || self.registers.read64(gits::CREADR) & 0xf_ffe0 == self.write;
        time::wait_until(time::ms(3000), done)
    }

    /// MAPD with 2 to the `bits` events.
    pub fn map_device(&mut self, device: u32, bits: u32) -> Result<(), Stop> {
        let entry = (self.registers.read64(gits::TYPER) >> 4 & 0xf) + 1;
        let bytes = (entry << bits) as usize;
        let table = Frames::new(bytes.div_ceil(4096));
        self.command(8, device, u64::from(bits - 1), 1 << 63 | table.address(), 0);
        self.translation.push(table);
        Ok(())
    }

    /// MAPD with V = 0.
    pub fn unmap_device(&mut self, device: u32) {
        self.command(8, device, 0, 0, 0);
    }

    /// MAPC to `cpu`, or with V = 0.
    pub fn map_collection(&mut self, collection: u16, cpu: Option<Cpu>) -> Result<(), Stop> {
        let third = cpu.map_or(0, |cpu| 1 << 63 | self.target(cpu));
        self.command(9, 0, 0, third | u64::from(collection), 0);
        Ok(())
    }

    /// MAPTI.
    pub fn map_event(
        &mut self,
        device: u32,
        event: u32,
        lpi: Intid,
        collection: u16,
    ) -> Result<(), Stop> {
        let second = u64::from(lpi.0) << 32 | u64::from(event);
        self.command(0xa, device, second, collection.into(), 0);
        Ok(())
    }

    /// INT: the event happens.
    pub fn raise(&mut self, device: u32, event: u32) {
        self.command(3, device, event.into(), 0, 0);
    }

    /// CLEAR: the event is no longer pending.
    pub fn clear(&mut self, device: u32, event: u32) {
        self.command(4, device, event.into(), 0, 0);
    }

    /// INV: the configuration of one LPI is read anew.
    pub fn invalidate(&mut self, device: u32, event: u32) {
        self.command(0xc, device, event.into(), 0, 0);
    }

    /// INVALL: the configuration of all LPIs of a collection is read anew.
    pub fn invalidate_all(&mut self, collection: u16) {
        self.command(0xd, 0, 0, collection.into(), 0);
    }

    /// MOVI: one event goes to another collection.
    pub fn move_event(&mut self, device: u32, event: u32, collection: u16) {
        self.command(1, device, event.into(), collection.into(), 0);
    }

    /// MOVALL: every pending LPI of one processor goes to another.
    pub fn move_all(&mut self, from: Cpu, to: Cpu) {
        let (from, to) = (self.target(from), self.target(to));
        self.command(0xe, 0, 0, from, to);
    }

    /// DISCARD: the event has no mapping any more.
    pub fn discard(&mut self, device: u32, event: u32) {
        self.command(0xf, device, event.into(), 0, 0);
    }

    /// SYNC: what was asked of `cpu` has taken effect.
    pub fn sync(&mut self, cpu: Cpu) {
        let target = self.target(cpu);
        self.command(5, 0, 0, target, 0);
    }
}
