//! What EL1 sees of itself and of time. Spec: DDI0487 D24.2, D12.2.
//!
//! EL2 gives EL1 another identity (VPIDR, VMPIDR) and another counter (CNTVOFF). Both are read without a
//! trap, so under nesting the outer hypervisor has to put them in place on every entry.

use guest_lib::arch::code::{self, Code, Register};
use guest_lib::arch::nested::{Nested, VmpidrEl2, VpidrEl2};
use guest_lib::arch::registers::{CntvoffEl2, MidrEl1, MpidrEl1, physical_count};
use guest_lib::prelude::*;

/// EL1 reads VPIDR_EL2 and VMPIDR_EL2 as its identity; EL2 keeps its own.
#[case(spec = "DDI0487 D24.2 VPIDR_EL2", needs("arm64.el2"))]
fn identity_is_virtual(nested: &mut Nested) -> Verdict {
    let own = (MidrEl1::read(), MpidrEl1::read());
    // mrs x0, midr_el1; mrs x1, mpidr_el1
    let words = [
        Register(3, 0, 0, 0, 0).mrs(0),
        Register(3, 0, 0, 0, 5).mrs(1),
        code::hvc(1),
    ];
    let code = Code::new(&words);
    for (midr, mpidr) in [
        (0x410f_d034, 0x8000_0a05),
        (0x1234_5678, 0x7f_8000_0001),
        own,
    ] {
        VpidrEl2::write(midr);
        VmpidrEl2::write(mpidr);
        let frame = nested.run(0, &nested.state(code.address()));
        expect_eq!((frame.x[0], frame.x[1]), (midr, mpidr), "at EL1")?;
        expect_eq!((MidrEl1::read(), MpidrEl1::read()), own, "at EL2")?;
    }
    Ok(())
}

/// EL1's virtual counter is the physical one minus CNTVOFF_EL2.
#[case(spec = "DDI0487 D12.2 CNTVOFF_EL2", needs("arm64.el2"))]
fn virtual_counter_has_its_offset(nested: &mut Nested) -> Verdict {
    // isb; mrs x0, cntvct_el0
    let code = Code::new(&[0xd503_3fdf, Register(3, 3, 14, 0, 2).mrs(0), code::hvc(1)]);
    for offset in [0, 1 << 40, 0x1234_5678_9abc, !0 << 20] {
        CntvoffEl2::write(offset);
        let before = physical_count();
        let frame = nested.run(0, &nested.state(code.address()));
        let after = physical_count();
        let physical = frame.x[0].wrapping_add(offset);
        expect!(
            (before..=after).contains(&physical),
            "offset {offset:#x}: {physical:#x} is not between {before:#x} and {after:#x}"
        )?;
    }
    Ok(())
}
