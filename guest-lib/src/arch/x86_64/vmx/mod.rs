//! VMX: capabilities, VMX operation, and a nested guest to spoil. Spec: SDM 3C 24 to 31.
//!
//! * [`VmxOperation`] is a processor in VMX operation without a current VMCS.
//! * [`NestedVm`] is a valid, enterable guest.
//! * [`ept::Ept`] builds extended page tables from raw entries.
//!
//! The wrappers are safe although a VM entry can run anything: a nested guest shares the payload's
//! memory, and what the case lets it do is the case's business, as with any other code of a case.

pub mod controls;
pub mod ept;
pub mod instructions;
pub mod nested_vm;
pub mod vmcs;

pub use controls::Control;
pub use instructions::{VmFail, VmResult};
pub use nested_vm::{Entry, NestedVm, Reason};
pub use vmcs::{Field, Segment};

use super::registers::{Cr4, SavedControl};
use super::{cpuid, msr};
use crate::case::{Failure, Fixture, Stop};
use crate::memory::Frames;

/// IA32_VMX_BASIC.
pub const BASIC: u32 = 0x480;
/// IA32_VMX_MISC.
pub const MISC: u32 = 0x485;
/// IA32_VMX_CR0_FIXED0.
pub const CR0_FIXED0: u32 = 0x486;
/// IA32_VMX_CR0_FIXED1.
pub const CR0_FIXED1: u32 = 0x487;
/// IA32_VMX_CR4_FIXED0.
pub const CR4_FIXED0: u32 = 0x488;
/// IA32_VMX_CR4_FIXED1.
pub const CR4_FIXED1: u32 = 0x489;
/// IA32_VMX_VMCS_ENUM.
pub const VMCS_ENUM: u32 = 0x48a;
/// IA32_VMX_EPT_VPID_CAP.
pub const EPT_VPID_CAP: u32 = 0x48c;
/// IA32_VMX_VMFUNC.
pub const VMFUNC: u32 = 0x491;

/// Whether CPUID announces VMX.
pub fn is_offered() -> bool {
    cpuid::query(1, 0).ecx >> 5 & 1 != 0
}

/// A capability MSR; 0 where the processor has none.
pub fn capability(number: u32) -> u64 {
    msr::read(number).unwrap_or(0)
}

/// The revision identifier for VMXON regions and VMCSs.
pub fn revision() -> u32 {
    capability(BASIC) as u32 & 0x7fff_ffff
}

/// IA32_VMX_EPT_VPID_CAP, or 0 where neither EPT nor VPID is offered.
pub fn ept_vpid_capability() -> u64 {
    if controls::EPT.is_offered() || controls::VPID.is_offered() {
        capability(EPT_VPID_CAP)
    } else {
        0
    }
}

/// The first physical address that the processor cannot form.
pub fn address_limit() -> u64 {
    1 << cpuid::physical_bits()
}

/// Whether the machine meets a need that starts with `x86.vmx`.
pub(super) fn has(need: &str) -> bool {
    if !is_offered() {
        return false;
    }
    let cap = |bit: u32| ept_vpid_capability() >> bit & 1 != 0;
    let misc = |bit: u32| capability(MISC) >> bit & 1 != 0;
    match need {
        "x86.vmx" => true,
        "x86.vmx.activity_hlt" => misc(6),
        "x86.vmx.activity_shutdown" => misc(7),
        "x86.vmx.activity_sipi" => misc(8),
        "x86.vmx.ept_1g" => cap(17),
        "x86.vmx.ept_2m" => cap(16),
        "x86.vmx.ept_ad" => cap(21),
        "x86.vmx.ept_execute_only" => cap(0),
        "x86.vmx.invept" => cap(20),
        "x86.vmx.invvpid" => cap(32),
        "x86.vmx.true_controls" => controls::has_true(),
        "x86.vmx.eptp_switching" => {
            controls::VM_FUNCTIONS.is_offered() && capability(VMFUNC) & 1 != 0
        }
        _ => controls::ALL
            .iter()
            .any(|c| c.need == need && c.is_offered()),
    }
}

/// Makes a frame that starts with `revision`.
pub fn region(revision: u32) -> Frames {
    let frames = Frames::new(1);
    frames.write(0, revision);
    frames
}

/// The processor is ready for VMXON: the feature-control MSR allows it, CR4.VMXE is 1.
///
/// A feature-control MSR that is unlocked gets locked, and stays so until the machine resets.
pub fn allow() -> Result<(), Stop> {
    if !is_offered() {
        return crate::case::skip("x86.vmx");
    }
    let control = capability(msr::FEATURE_CONTROL);
    if control & 1 == 0 {
        msr::write(msr::FEATURE_CONTROL, control | 5)?;
    } else if control & 4 == 0 {
        return crate::case::skip("x86.vmx");
    }
    (Cr4::read() | Cr4::VMXE).write()?;
    Ok(())
}

/// This processor in VMX operation, without a current VMCS, until dropped.
#[derive(Debug)]
pub struct VmxOperation {
    /// The VMXON region.
    pub region: Frames,
    saved: Option<SavedControl>,
}

impl VmxOperation {
    /// A new VMCS, cleared and not current.
    pub fn new_vmcs(&self) -> VmResult<Frames> {
        let vmcs = region(revision());
        instructions::vmclear(vmcs.address())?;
        Ok(vmcs)
    }

    /// A new VMCS, cleared and current.
    pub fn current_vmcs(&self) -> VmResult<Frames> {
        let vmcs = self.new_vmcs()?;
        instructions::vmptrld(vmcs.address())?;
        Ok(vmcs)
    }
}

impl Fixture for VmxOperation {
    fn fresh() -> Result<Self, Stop> {
        let saved = SavedControl::new();
        allow()?;
        let region = region(revision());
        instructions::vmxon(region.address())
            .map_err(|fail| Failure::new(alloc::format!("VMXON: {fail:?}")))?;
        Ok(VmxOperation {
            region,
            saved: Some(saved),
        })
    }
}

impl Drop for VmxOperation {
    fn drop(&mut self) {
        // A case may have left VMX operation itself; the control registers go back either way.
        let _ = instructions::vmxoff();
        drop(self.saved.take());
    }
}

/// A processor that may execute VMXON, outside VMX operation, until dropped.
#[derive(Debug)]
pub struct ReadyForVmxon {
    /// A valid VMXON region.
    pub region: Frames,
    _saved: SavedControl,
}

impl Fixture for ReadyForVmxon {
    fn fresh() -> Result<Self, Stop> {
        let saved = SavedControl::new();
        allow()?;
        Ok(ReadyForVmxon {
            region: region(revision()),
            _saved: saved,
        })
    }
}

impl Drop for ReadyForVmxon {
    fn drop(&mut self) {
        // Outside VMX operation this is #UD; inside it a case forgot to leave.
        let _ = instructions::vmxoff();
    }
}
