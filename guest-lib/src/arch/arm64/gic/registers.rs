//! Offsets and fields of the GIC's register frames (IHI0048, IHI0069). Values stay plain integers.

/// The distributor. In GICv3 the private part of each bank lives in [`gicr_sgi`] instead.
pub mod gicd {
    /// Control.
    pub const CTLR: u64 = 0x000;
    /// Type.
    pub const TYPER: u64 = 0x004;
    /// Implementer.
    pub const IIDR: u64 = 0x008;
    /// Type, second word (GICv3).
    pub const TYPER2: u64 = 0x00c;
    /// Message-based SPI, set (GICv3).
    pub const SETSPI_NSR: u64 = 0x040;
    /// Message-based SPI, clear (GICv3).
    pub const CLRSPI_NSR: u64 = 0x048;
    /// Groups, one bit per INTID.
    pub const IGROUPR: u64 = 0x080;
    /// Set-enable.
    pub const ISENABLER: u64 = 0x100;
    /// Clear-enable.
    pub const ICENABLER: u64 = 0x180;
    /// Set-pending.
    pub const ISPENDR: u64 = 0x200;
    /// Clear-pending.
    pub const ICPENDR: u64 = 0x280;
    /// Set-active.
    pub const ISACTIVER: u64 = 0x300;
    /// Clear-active.
    pub const ICACTIVER: u64 = 0x380;
    /// Priorities, one byte per INTID.
    pub const IPRIORITYR: u64 = 0x400;
    /// Targets, one byte per INTID (GICv2).
    pub const ITARGETSR: u64 = 0x800;
    /// Configuration, two bits per INTID.
    pub const ICFGR: u64 = 0xc00;
    /// Group modifiers (GICv3).
    pub const IGRPMODR: u64 = 0xd00;
    /// Software generated interrupt (GICv2).
    pub const SGIR: u64 = 0xf00;
    /// SGI clear-pending (GICv2).
    pub const CPENDSGIR: u64 = 0xf10;
    /// SGI set-pending (GICv2).
    pub const SPENDSGIR: u64 = 0xf20;
    /// Affinity routing, 64 bits per INTID (GICv3).
    pub const IROUTER: u64 = 0x6000;
    /// Peripheral ID 2 of GICv2.
    pub const V2_PIDR2: u64 = 0xfe8;
    /// Peripheral ID 2 of GICv3.
    pub const V3_PIDR2: u64 = 0xffe8;

    /// CTLR: enable group 0.
    pub const ENABLE_GRP0: u32 = 1 << 0;
    /// CTLR: enable group 1.
    pub const ENABLE_GRP1: u32 = 1 << 1;
    /// CTLR: affinity routing.
    pub const ARE: u32 = 1 << 4;
    /// CTLR: one security state.
    pub const DS: u32 = 1 << 6;
    /// CTLR: a write is still taking effect.
    pub const RWP: u32 = 1 << 31;
}

/// A redistributor's first frame.
pub mod gicr {
    /// Control.
    pub const CTLR: u64 = 0x0000;
    /// Implementer.
    pub const IIDR: u64 = 0x0004;
    /// Type, 64 bits.
    pub const TYPER: u64 = 0x0008;
    /// Power.
    pub const WAKER: u64 = 0x0014;
    /// LPI configuration table.
    pub const PROPBASER: u64 = 0x0070;
    /// LPI pending table.
    pub const PENDBASER: u64 = 0x0078;
    /// Peripheral ID 2.
    pub const PIDR2: u64 = 0xffe8;

    /// CTLR: LPIs are enabled.
    pub const ENABLE_LPIS: u32 = 1 << 0;
    /// CTLR: a write is still taking effect.
    pub const RWP: u32 = 1 << 3;
    /// WAKER: the processor sleeps.
    pub const PROCESSOR_SLEEP: u32 = 1 << 1;
    /// WAKER: the interface to the processor is quiet.
    pub const CHILDREN_ASLEEP: u32 = 1 << 2;
    /// TYPER: physical LPIs.
    pub const PLPIS: u64 = 1 << 0;
    /// TYPER: virtual LPIs, and thus two more frames.
    pub const VLPIS: u64 = 1 << 1;
    /// TYPER: the last one of a region.
    pub const LAST: u64 = 1 << 4;
    /// From the first frame to [`super::gicr_sgi`].
    pub const SGI_FRAME: u64 = 0x1_0000;
}

/// A redistributor's second frame: the private INTIDs, at the distributor's offsets.
pub mod gicr_sgi {
    pub use super::gicd::{
        ICACTIVER, ICENABLER, ICFGR, ICPENDR, IGROUPR, IGRPMODR, IPRIORITYR, ISACTIVER, ISENABLER,
        ISPENDR,
    };
}

/// GICv2's CPU interface.
pub mod gicc {
    /// Control.
    pub const CTLR: u64 = 0x0000;
    /// Priority mask.
    pub const PMR: u64 = 0x0004;
    /// Binary point.
    pub const BPR: u64 = 0x0008;
    /// Interrupt acknowledge. Reading acknowledges.
    pub const IAR: u64 = 0x000c;
    /// End of interrupt.
    pub const EOIR: u64 = 0x0010;
    /// Running priority.
    pub const RPR: u64 = 0x0014;
    /// Highest pending interrupt.
    pub const HPPIR: u64 = 0x0018;
    /// Active priorities.
    pub const APR: u64 = 0x00d0;
    /// Identification.
    pub const IIDR: u64 = 0x00fc;
    /// Deactivate interrupt.
    pub const DIR: u64 = 0x1000;
    /// CTLR: EOIR only drops the priority.
    pub const EOI_MODE: u32 = 1 << 9;
}

/// An Interrupt Translation Service.
pub mod gits {
    /// Control.
    pub const CTLR: u64 = 0x0000;
    /// Implementer.
    pub const IIDR: u64 = 0x0004;
    /// Type, 64 bits.
    pub const TYPER: u64 = 0x0008;
    /// Command queue.
    pub const CBASER: u64 = 0x0080;
    /// Where software writes next.
    pub const CWRITER: u64 = 0x0088;
    /// Where the ITS reads next.
    pub const CREADR: u64 = 0x0090;
    /// Tables, eight of them.
    pub const BASER: u64 = 0x0100;
    /// Peripheral ID 2.
    pub const PIDR2: u64 = 0xffe8;
    /// Where a device writes its event.
    pub const TRANSLATER: u64 = 0x1_0040;

    /// CTLR: enabled.
    pub const ENABLED: u32 = 1 << 0;
    /// CTLR: idle after being disabled.
    pub const QUIESCENT: u32 = 1 << 31;
}

/// A GICv2m MSI frame.
pub mod v2m {
    /// SPIs of the frame.
    pub const MSI_TYPER: u64 = 0x008;
    /// Writing raises an SPI.
    pub const MSI_SETSPI_NS: u64 = 0x040;
}
