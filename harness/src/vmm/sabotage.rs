//! Promises that the VMM breaks when asked to: one word each.
//!
//! A case that stays green while its promise is broken proves nothing. The tests run each word
//! against the cases that must notice, and against those that must not.

use clap::ValueEnum;

/// A fault that the VMM makes on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// The dirty log leaves out one page that was written.
    DropDirtyPage,
    /// The dirty log reports one page that was not written.
    ExtraDirtyPage,
    /// Getting the dirty log clears it although the guest was to clear it.
    ClearEarly,
    /// Clearing a part of the dirty log clears all of it.
    ClearTooMuch,
    /// A harvested dirty ring lacks one entry.
    DropRingEntry,
    /// A memory slot that moves loses its first page.
    LosePageOnMove,
    /// A write to a read-only slot changes the memory.
    WriteReadOnly,
    /// A device sees each MMIO write twice.
    MmioTwice,
    /// A device never sees the second of two MMIO writes.
    MmioLost,
    /// An access that is interrupted is started anew.
    RestartKicked,
    /// Every injected interrupt is lost.
    LoseInterrupt,
    /// An injected interrupt comes a second time.
    DoubleInterrupt,
    /// The interrupt goes to the next processor.
    MisrouteInterrupt,
    /// One page is not restored.
    LoseRestoredPage,
    /// One model-specific register is restored with another value.
    WrongMsr,
    /// The local APIC is not restored.
    LoseApic,
    /// Debug registers are not restored.
    LoseDebugRegisters,
    /// The floating-point state is not restored.
    LoseFpu,
    /// On-demand memory is filled with another page's contents.
    WrongDemandPage,
    /// CPUID tells every processor the same APIC id.
    WrongApicId,
}
