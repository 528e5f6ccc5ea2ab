//! DIAGNOSE 0x44 and 0x9c: the guest gives its time away and goes on where it was.

use guest_lib::arch::diag::diagnose;
use guest_lib::arch::smp;
use guest_lib::prelude::*;

/// A voluntary end of the time slice changes no register and no condition code.
#[case(spec = "S390-DIAG 0x44")]
fn time_slice_end_changes_nothing() -> Verdict {
    for _ in 0..10 {
        let ran = diagnose(0x44, 0x1111, 0x2222, 0x3333)?;
        let expected = (0x1111, 0x2222, 0x3333, 0x44);
        let r = ran.registers;
        expect_eq!((r[2], r[3], r[4], r[5]), expected)?;
    }
    Ok(())
}

/// A directed yield to this processor, to another one, and to none continues.
#[case(spec = "S390-DIAG 0x9c", needs("s390x.diag9c"))]
fn directed_yield_continues() -> Verdict {
    for target in [smp::address(0), smp::absent_address()] {
        expect!(
            diagnose(0x9c, target.into(), 0, 0).is_ok(),
            "to {target:#x}"
        )?;
    }
    if cpus::count() > 1 {
        expect!(
            diagnose(0x9c, smp::address(1).into(), 0, 0).is_ok(),
            "to another one"
        )?;
    }
    Ok(())
}
