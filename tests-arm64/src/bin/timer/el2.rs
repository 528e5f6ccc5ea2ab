//! Timers seen from EL2. Spec: DDI0487 D8.13, D24.10.
//!
//! With HCR_EL2.E2H set the names CNTP_* and CNTV_* reach the EL2 timers, and the names with _EL02 those
//! of EL1. A hypervisor that nests has to keep four timers apart where its guest sees two names.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_lib::arch::gic::{Gic, Iar, Intid};
use guest_lib::arch::platform;
use guest_lib::arch::registers::*;
use guest_lib::arch::timer::Timers;
use guest_lib::prelude::*;

/// All four timers of EL1 and EL2, off at the end.
struct Four(Timers);

impl Fixture for Four {
    fn fresh() -> Result<Self, Stop> {
        let four = Four(Timers::fresh()?);
        four.quiet();
        Ok(four)
    }
}

impl Four {
    fn quiet(&self) {
        if arch::has("arm64.el2") {
            CntpCtlEl02::write(0);
            CntvCtlEl02::write(0);
            CntvoffEl2::write(0);
        }
    }
}

impl Drop for Four {
    fn drop(&mut self) {
        self.quiet();
    }
}

/// With E2H the names of EL1 timers reach those of EL2, and the _EL02 names do not.
#[case(spec = "DDI0487 D8.13", needs("arm64.el2"))]
fn e2h_redirects_timer_names(four: &mut Four) -> Verdict {
    four.0.phys.set_deadline(0x1000);
    four.0.virt.set_deadline(0x2000);
    CntpCvalEl02::write(0x3000);
    CntvCvalEl02::write(0x4000);
    expect_eq!(CnthpCvalEl2::read(), 0x1000, "CNTHP_CVAL_EL2")?;
    expect_eq!(CnthvCvalEl2::read(), 0x2000, "CNTHV_CVAL_EL2")?;
    expect_eq!(CntpCvalEl02::read(), 0x3000, "CNTP_CVAL_EL02")?;
    expect_eq!(CntvCvalEl02::read(), 0x4000, "CNTV_CVAL_EL02")?;
    CnthpCvalEl2::write(0x5000);
    expect_eq!(
        four.0.phys.deadline(),
        0x5000,
        "CNTP_CVAL_EL0 after a write of CNTHP_CVAL_EL2"
    )
}

fn fires_on(gic: &Gic, intid: Intid, arm: impl FnOnce(), stop: impl Fn() + Sync) -> Verdict {
    let (taken, strange) = (AtomicU32::new(0), AtomicU32::new(0));
    for known in platform::info()
        .timer_intids
        .into_iter()
        .skip(1)
        .filter(|n| *n != 0)
    {
        gic.set_enabled(Intid(known), true);
    }
    let seen = |iar: Iar| {
        stop();
        let which = if iar.intid() == intid {
            &taken
        } else {
            &strange
        };
        which.fetch_add(1, SeqCst);
    };
    gic.taking(&seen, || {
        arm();
        time::wait_until(time::PATIENCE, || {
            taken.load(SeqCst) + strange.load(SeqCst) > 0
        });
        time::spin(time::us(300));
    });
    expect_eq!(
        (taken.load(SeqCst), strange.load(SeqCst)),
        (1, 0),
        "(INTID {}, others)",
        intid.0
    )
}

/// EL2 arms EL1's timers, and they fire with EL1's INTIDs.
#[case(spec = "DDI0487 D8.13", needs("arm64.el2"), rows(virt: true, phys: false))]
fn el02_timer_fires_as_that_of_el1(gic: &mut Gic, _four: &mut Four, virt: bool) -> Verdict {
    let intid = Intid(platform::info().timer_intids[if virt { 2 } else { 1 }]);
    let arm = || match virt {
        true => {
            CntvCvalEl02::write(0);
            CntvCtlEl02::write(1);
        }
        false => {
            CntpCvalEl02::write(0);
            CntpCtlEl02::write(1);
        }
    };
    fires_on(gic, intid, arm, || {
        CntvCtlEl02::write(0);
        CntpCtlEl02::write(0);
    })
}

/// CNTVOFF_EL2 moves EL1's virtual timer and leaves the EL2 timers alone.
#[case(spec = "DDI0487 D12.2 CNTVOFF_EL2", needs("arm64.el2"))]
fn offset_moves_the_virtual_timer_of_el1(_four: &mut Four) -> Verdict {
    let now = physical_count();
    CntvCvalEl02::write(now / 2);
    CntvCtlEl02::write(3);
    expect_eq!(CntvCtlEl02::read() & 4, 4, "ISTATUS without an offset")?;
    CntvoffEl2::write(now);
    expect_eq!(CntvCtlEl02::read() & 4, 0, "ISTATUS with an offset")?;
    expect_eq!(
        virtual_count() >= now,
        true,
        "CNTVCT_EL0 at EL2 ignores the offset with E2H"
    )
}
