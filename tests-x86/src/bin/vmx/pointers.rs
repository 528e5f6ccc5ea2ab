//! VMCLEAR, VMPTRLD, VMPTRST: which VMCS is current. Spec: SDM 3C 31.3, 25.11.
//!
//! A hypervisor that nests keeps a copy of the current VMCS and must write it back, and switch,
//! exactly at these instructions. An error must leave the current pointer alone.

use guest_lib::arch::vmx::instructions::*;
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::vmx::{self, VmxOperation};
use guest_lib::prelude::*;

/// VMPTRLD makes a VMCS current, VMPTRST tells which, VMCLEAR of it leaves none.
#[case(spec = "SDM 3C 31.3 VMPTRST")]
fn vmptrst_names_the_current_vmcs(vmx: &mut VmxOperation) -> Verdict {
    let (a, b) = (vmx.new_vmcs()?, vmx.new_vmcs()?);
    expect_eq!(vmptrst(), Ok(u64::MAX))?;
    vmptrld(a.address())?;
    expect_eq!(vmptrst(), Ok(a.address()))?;
    vmptrld(b.address())?;
    expect_eq!(vmptrst(), Ok(b.address()))?;
    vmclear(a.address())?;
    expect_eq!(vmptrst(), Ok(b.address()), "VMCLEAR of another VMCS")?;
    vmclear(b.address())?;
    expect_eq!(vmptrst(), Ok(u64::MAX), "VMCLEAR of the current VMCS")
}

/// VMPTRLD of an address that is misaligned or too wide fails with number 9.
#[case(
    spec = "SDM 3C 31.3 VMPTRLD",
    rows(bit_0: 1 << 0, bit_11: 1 << 11, beyond_the_width: vmx::address_limit(), bit_63: 1 << 63)
)]
fn vmptrld_checks_the_address(vmx: &mut VmxOperation, row: u64) -> Verdict {
    let (current, other) = (vmx.current_vmcs()?, vmx.new_vmcs()?);
    expect_eq!(vmptrld(other.address() | row), Err(VmFail::Valid(9)))?;
    expect_eq!(vmptrst(), Ok(current.address()))?;
    expect_eq!(vmptrld(other.address()), Ok(()))
}

/// Without a current VMCS, VMPTRLD of a bad address fails without a number.
#[case(spec = "SDM 3C 31.2")]
fn errors_without_a_vmcs_have_no_number(vmx: &mut VmxOperation) -> Verdict {
    expect_eq!(vmptrld(1), Err(VmFail::Invalid), "VMPTRLD")?;
    expect_eq!(vmclear(1), Err(VmFail::Invalid), "VMCLEAR")?;
    let read = vmread(Field::GUEST_RIP);
    expect_eq!(read, Err(VmFail::Invalid), "VMREAD")?;
    let write = vmwrite(Field::GUEST_RIP, 0);
    expect_eq!(write, Err(VmFail::Invalid), "VMWRITE")?;
    let _vmcs = vmx.current_vmcs()?;
    expect_eq!(vmptrld(1), Err(VmFail::Valid(9)))
}

/// VMPTRLD of the VMXON region fails with number 10.
#[case(spec = "SDM 3C 31.4 VMPTRLD")]
fn vmptrld_refuses_the_vmxon_region(vmx: &mut VmxOperation) -> Verdict {
    let current = vmx.current_vmcs()?;
    expect_eq!(vmptrld(vmx.region.address()), Err(VmFail::Valid(10)))?;
    expect_eq!(vmptrst(), Ok(current.address()))
}

/// VMPTRLD of a region with another revision identifier fails with number 11.
#[case(spec = "SDM 3C 31.4 VMPTRLD", rows(bit_0: 1, bit_30: 1 << 30))]
fn vmptrld_checks_the_revision(vmx: &mut VmxOperation, row: u32) -> Verdict {
    let (current, other) = (vmx.current_vmcs()?, vmx.new_vmcs()?);
    other.write(0, vmx::revision() ^ row);
    expect_eq!(vmptrld(other.address()), Err(VmFail::Valid(11)))?;
    expect_eq!(vmptrst(), Ok(current.address()))?;
    other.write(0, vmx::revision());
    expect_eq!(vmptrld(other.address()), Ok(()))
}

/// The shadow-VMCS indicator is refused where the processor has no VMCS shadowing.
#[case(spec = "SDM 3C 25.2")]
fn vmptrld_takes_shadows_only_where_offered(vmx: &mut VmxOperation) -> Verdict {
    let _current = vmx.current_vmcs()?;
    let other = vmx.new_vmcs()?;
    other.write(0, vmx::revision() | 1 << 31);
    let expected = match vmx::controls::VMCS_SHADOWING.is_offered() {
        true => Ok(()),
        false => Err(VmFail::Valid(11)),
    };
    expect_eq!(vmptrld(other.address()), expected)
}

/// VMCLEAR of an address that is misaligned or too wide fails with number 2.
#[case(
    spec = "SDM 3C 31.3 VMCLEAR",
    rows(bit_0: 1 << 0, bit_11: 1 << 11, beyond_the_width: vmx::address_limit(), bit_63: 1 << 63)
)]
fn vmclear_checks_the_address(vmx: &mut VmxOperation, row: u64) -> Verdict {
    let current = vmx.current_vmcs()?;
    expect_eq!(vmclear(current.address() | row), Err(VmFail::Valid(2)))?;
    expect_eq!(vmptrst(), Ok(current.address()))?;
    expect_eq!(vmclear(current.address()), Ok(()))
}

/// VMCLEAR of the VMXON region fails with number 3.
#[case(spec = "SDM 3C 31.4 VMCLEAR")]
fn vmclear_refuses_the_vmxon_region(vmx: &mut VmxOperation) -> Verdict {
    let current = vmx.current_vmcs()?;
    expect_eq!(vmclear(vmx.region.address()), Err(VmFail::Valid(3)))?;
    expect_eq!(vmptrst(), Ok(current.address()))
}

/// Each VMCS keeps its own fields while another is current, and over VMCLEAR.
#[case(spec = "SDM 3C 25.11.1")]
fn each_vmcs_keeps_its_fields(vmx: &mut VmxOperation) -> Verdict {
    let (a, b) = (vmx.new_vmcs()?, vmx.new_vmcs()?);
    vmptrld(a.address())?;
    vmwrite(Field::GUEST_RIP, 0xaaaa)?;
    vmwrite(Field::TSC_OFFSET, 0xa5a5_5a5a_1234_5678)?;
    vmptrld(b.address())?;
    vmwrite(Field::GUEST_RIP, 0xbbbb)?;
    vmclear(a.address())?;
    expect_eq!(vmread(Field::GUEST_RIP), Ok(0xbbbb))?;
    vmclear(b.address())?;
    vmptrld(a.address())?;
    expect_eq!(vmread(Field::GUEST_RIP), Ok(0xaaaa))?;
    expect_eq!(vmread(Field::TSC_OFFSET), Ok(0xa5a5_5a5a_1234_5678))?;
    vmptrld(b.address())?;
    expect_eq!(vmread(Field::GUEST_RIP), Ok(0xbbbb))
}

/// A current VMCS survives VMPTRLD of itself.
#[case(spec = "SDM 3C 31.3 VMPTRLD")]
fn vmptrld_of_the_current_vmcs_keeps_it(vmx: &mut VmxOperation) -> Verdict {
    let vmcs = vmx.current_vmcs()?;
    vmwrite(Field::GUEST_RSP, 0x1234)?;
    vmptrld(vmcs.address())?;
    expect_eq!(vmread(Field::GUEST_RSP), Ok(0x1234))
}
