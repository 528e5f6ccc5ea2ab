//! HALT, CLEAR, RESUME and CANCEL SUBCHANNEL on a subchannel with nothing to do.
//!
//! Spec: SA22-7832 14, 15 Halt Function, Clear Function.

use guest_lib::arch::channel::{self, Device, scsw};
use guest_lib::prelude::*;

/// CLEAR SUBCHANNEL is always accepted; its status names the function and nothing else.
#[case(spec = "SA22-7832 14 CLEAR SUBCHANNEL")]
fn clear_reports_its_function(device: &mut Device) -> Verdict {
    for round in 0..2 {
        expect_eq!(channel::clear(device.name().into()), Ok(0), "round {round}")?;
        device.interruption()?;
        let (cc, status) = device.test()?;
        expect_eq!((cc, status.control & 0x7000), (0, scsw::CLEAR_FUNCTION))?;
        expect_eq!(status.control & 0x1f, scsw::PENDING, "status control")?;
    }
    Ok(())
}

/// CLEAR SUBCHANNEL is accepted while status is pending, and takes its place.
#[case(spec = "SA22-7832 14 CLEAR SUBCHANNEL")]
fn clear_replaces_pending_status(device: &mut Device) -> Verdict {
    expect_eq!(channel::halt(device.name().into()), Ok(0))?;
    device.interruption()?;
    expect_eq!(channel::clear(device.name().into()), Ok(0))?;
    device.interruption()?;
    expect_eq!(device.test()?.1.control & 0x7000, scsw::CLEAR_FUNCTION)
}

/// HALT SUBCHANNEL of an idle subchannel ends with its function in the status.
#[case(spec = "SA22-7832 14 HALT SUBCHANNEL")]
fn halt_reports_its_function(device: &mut Device) -> Verdict {
    expect_eq!(channel::halt(device.name().into()), Ok(0))?;
    device.interruption()?;
    let (cc, status) = device.test()?;
    expect_eq!((cc, status.control & 0x7000), (0, scsw::HALT_FUNCTION))?;
    expect_ne!(status.control & scsw::PENDING, 0, "status control")
}

/// RESUME SUBCHANNEL without a suspended program is condition code 2, with pending status 1.
#[case(spec = "SA22-7832 14 RESUME SUBCHANNEL")]
fn resume_without_suspension_is_code_2(device: &mut Device) -> Verdict {
    expect_eq!(channel::resume(device.name().into()), Ok(2), "idle")?;
    channel::clear(device.name().into())?;
    device.interruption()?;
    expect_eq!(
        channel::resume(device.name().into()),
        Ok(1),
        "status pending"
    )
}

/// CANCEL SUBCHANNEL without a pending start is condition code 2, with pending status 1.
#[case(spec = "SA22-7832 14 CANCEL SUBCHANNEL")]
fn cancel_without_a_start_is_code_2(device: &mut Device) -> Verdict {
    expect_eq!(channel::cancel(device.name().into()), Ok(2), "idle")?;
    channel::clear(device.name().into())?;
    device.interruption()?;
    expect_eq!(
        channel::cancel(device.name().into()),
        Ok(1),
        "status pending"
    )
}
