//! VMREAD and VMWRITE. Spec: SDM 3C 25.11.2, 31.3.
//!
//! Fields have widths of their own: a write is cut to the field, a read zero-extends, and bits
//! 63:32 of a 64-bit field have an encoding of their own. A hypervisor that nests stores fields
//! in its own layout, so each one is a chance to cut wrong or to hit a neighbour.

use guest_lib::arch::code::Code;
use guest_lib::arch::paging;
use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::instructions::*;
use guest_lib::arch::vmx::vmcs::{ALL, Field, Group, Width};
use guest_lib::arch::vmx::{self, VmxOperation};
use guest_lib::prelude::*;

fn mask(field: Field) -> u64 {
    match field.width() {
        Width::Word => 0xffff,
        Width::Double => 0xffff_ffff,
        Width::Quad | Width::Natural => u64::MAX,
    }
}

/// Bits that the manual lets a VMWRITE drop: reserved bits of access rights.
fn kept(field: Field) -> u64 {
    if (0x4814..=0x4822).contains(&field.0) {
        0x1_f0ff
    } else {
        mask(field)
    }
}

/// Every writable field keeps what is written to it, as wide as it is, and no other field changes.
#[case(spec = "SDM 3C 31.3 VMWRITE")]
fn fields_keep_what_is_written(vmx: &mut VmxOperation) -> Verdict {
    let _vmcs = vmx.current_vmcs()?;
    let cookie = |field: Field| 0x0123_4567_89ab_cdef_u64.rotate_left(field.0) ^ u64::from(field.0);
    let offered: Vec<Field> = ALL
        .iter()
        .copied()
        .filter(|f| f.group() != Group::ExitInformation && vmread(*f).is_ok())
        .collect();
    expect!(
        offered.len() > 80,
        "only {} fields can be read",
        offered.len()
    )?;
    for &field in &offered {
        expect_eq!(vmwrite(field, cookie(field)), Ok(()), "VMWRITE {field:?}")?;
    }
    for &field in &offered {
        let got = vmread(field).map(|value| value & kept(field));
        expect_eq!(got, Ok(cookie(field) & kept(field)), "{field:?}")?;
    }
    Ok(())
}

/// VMREAD zero-extends a field that is narrower than its operand.
#[case(spec = "SDM 3C 31.3 VMREAD", rows(word: Field::GUEST_ES_SELECTOR, double: Field::GUEST_ES_LIMIT))]
fn vmread_zero_extends(vmx: &mut VmxOperation, row: Field) -> Verdict {
    let _vmcs = vmx.current_vmcs()?;
    vmwrite(row, u64::MAX)?;
    expect_eq!(vmread(row), Ok(mask(row)))
}

/// The odd encoding of a 64-bit field reads and writes its bits 63:32 alone.
#[case(spec = "SDM 3C 25.11.2")]
fn high_encoding_is_the_upper_half(vmx: &mut VmxOperation) -> Verdict {
    let _vmcs = vmx.current_vmcs()?;
    for field in [
        Field::TSC_OFFSET,
        Field::LINK_POINTER,
        Field::GUEST_DEBUGCTL,
    ] {
        vmwrite(field, 0x1111_2222_3333_4444)?;
        expect_eq!(vmread(field.high()), Ok(0x1111_2222), "{field:?} high")?;
        vmwrite(field.high(), 0xffff_ffff_5555_6666)?;
        expect_eq!(vmread(field), Ok(0x5555_6666_3333_4444), "{field:?}")?;
    }
    Ok(())
}

/// An encoding that names no field fails with number 12.
#[case(
    spec = "SDM 3C 31.4",
    rows(
        unused_index: 0x3fe,
        reserved_bit_12: 0x681e | 1 << 12,
        bit_15: 0x681e | 1 << 15,
        bit_31: 0x681e | 1 << 31,
        high_half_of_natural: 0x681e | 1,
        high_half_of_word: 0x800 | 1,
    )
)]
fn unknown_encodings_are_refused(vmx: &mut VmxOperation, row: u64) -> Verdict {
    let _vmcs = vmx.current_vmcs()?;
    expect_eq!(vmread_raw(row), Err(VmFail::Valid(12)), "VMREAD")?;
    expect_eq!(vmwrite_raw(row, 0), Err(VmFail::Valid(12)), "VMWRITE")?;
    expect!(vmread_raw(0x681e).is_ok(), "VMREAD of GUEST_RIP")
}

/// A field of a feature that the processor lacks is unknown; with the feature it is there.
#[case(
    spec = "SDM 3C 25.11.2",
    rows(
        eptp: (Field::EPTP, controls::EPT),
        vpid: (Field::VPID, controls::VPID),
        guest_efer: (Field::GUEST_EFER, controls::LOAD_EFER),
        guest_pat: (Field::GUEST_PAT, controls::LOAD_PAT),
        preemption_timer: (Field::PREEMPTION_TIMER, controls::PREEMPTION_TIMER),
        posted_descriptor: (Field::POSTED_INTERRUPT_DESCRIPTOR, controls::POSTED_INTERRUPTS),
        pml_address: (Field::PML_ADDRESS, controls::PML),
        tsc_multiplier: (Field::TSC_MULTIPLIER, controls::TSC_SCALING),
        guest_s_cet: (Field::GUEST_S_CET, controls::LOAD_CET),
    )
)]
fn fields_exist_with_their_feature(
    vmx: &mut VmxOperation,
    row: (Field, controls::Control),
) -> Verdict {
    let _vmcs = vmx.current_vmcs()?;
    let (field, control) = row;
    let expected = match control.is_offered() {
        true => Ok(()),
        false => Err(VmFail::Valid(12)),
    };
    expect_eq!(vmread(field).map(|_| ()), expected, "{field:?}")
}

/// VMWRITE to an exit-information field fails with number 13, unless the processor allows it.
#[case(
    spec = "SDM 3C 31.4 VMWRITE",
    rows(
        exit_reason: Field::EXIT_REASON,
        instruction_error: Field::INSTRUCTION_ERROR,
        qualification: Field::EXIT_QUALIFICATION,
        linear_address: Field::GUEST_LINEAR_ADDRESS,
    )
)]
fn exit_information_is_read_only(vmx: &mut VmxOperation, row: Field) -> Verdict {
    let _vmcs = vmx.current_vmcs()?;
    if vmx::capability(vmx::MISC) >> 29 & 1 == 0 {
        return expect_eq!(vmwrite(row, 0x77), Err(VmFail::Valid(13)));
    }
    expect_eq!(vmwrite(row, 0x77), Ok(()))?;
    expect_eq!(vmread(row), Ok(0x77))
}

/// The highest index in use is the one that IA32_VMX_VMCS_ENUM reports.
#[case(spec = "SDM 3C A.9 IA32_VMX_VMCS_ENUM")]
fn vmcs_enum_reports_the_highest_index(vmx: &mut VmxOperation) -> Verdict {
    let _vmcs = vmx.current_vmcs()?;
    let mut highest = Field(0);
    for high_bits in 0..16u32 {
        for index in 0..512u32 {
            // Bits 14:13 width, 11:10 group, 9:1 index.
            let field = Field((high_bits >> 2) << 13 | (high_bits & 3) << 10 | index << 1);
            if vmread(field).is_ok() && index > highest.index() {
                highest = field;
            }
        }
    }
    let reported = vmx::capability(vmx::VMCS_ENUM) >> 1 & 0x1ff;
    expect_eq!(
        reported,
        u64::from(highest.index()),
        "the highest is {highest:?}"
    )
}

/// A #PF in the memory operand of VMREAD or VMWRITE leaves CF and ZF alone.
#[case(
    spec = "SDM 3C 31.3",
    rows(vmread: &[0x0f, 0x78, 0x07], vmwrite: &[0x0f, 0x79, 0x07])
)]
fn page_fault_keeps_the_flags(vmx: &mut VmxOperation, row: &[u8]) -> Verdict {
    let _vmcs = vmx.current_vmcs()?;
    for (set, flags) in [(0xf8u8, 0u64), (0xf9, 1)] {
        // mov eax, GUEST_RIP; clc or stc; vmread [rdi], rax or vmwrite rax, [rdi]
        let mut bytes = vec![0xb8, 0x1e, 0x68, 0, 0, set];
        bytes.extend_from_slice(row);
        let code = Code::new(&bytes);
        let write = if row[1] == 0x78 { paging::PF_W } else { 0 };
        let got = code.run(paging::FREE_BASE, 0);
        expect_eq!(got, Err(Fault::pf(write)))?;
        expect_eq!(fault::details().rflags & 1, flags, "CF in the handler")?;
        let page = guest_lib::memory::Frames::new(1);
        expect!(code.run(page.address(), 0).is_ok(), "with memory there")?;
    }
    Ok(())
}
