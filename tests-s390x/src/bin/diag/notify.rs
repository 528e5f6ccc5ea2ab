//! DIAGNOSE 0x500: a virtio-ccw driver notifies its device. General register 1 holds the function
//! (3), 2 the subchannel, 3 the queue; an error comes back as a negative number in register 2.

use guest_lib::arch::channel;
use guest_lib::arch::diag::diagnose_fields;
use guest_lib::arch::exec::registers;
use guest_lib::prelude::*;

fn hypercall(function: u64, subchannel: u64, queue: u64) -> Result<i64, Fault> {
    let with = registers([(1, function), (2, subchannel), (3, queue)]);
    diagnose_fields(0x24, 0x500, with).map(|ran| ran.registers[2] as i64)
}

/// A subchannel that has no device is answered with an error, and the guest goes on.
#[case(spec = "VIRTIO 1.2 4.3.3.2")]
fn absent_subchannel_is_an_error() -> Verdict {
    for subchannel in [0x0001_ffff, 0, u64::from(u32::MAX)] {
        let answer = hypercall(3, subchannel, 0);
        expect!(
            answer.is_ok_and(|code| code < 0),
            "{subchannel:#x}: {answer:?}"
        )?;
    }
    Ok(())
}

/// A queue that the device does not have is answered with an error.
#[case(spec = "VIRTIO 1.2 4.3.3.2", needs("s390x.css_device"))]
fn absent_queue_is_an_error() -> Verdict {
    let Some(device) = channel::first_device() else {
        return skip("s390x.css_device");
    };
    for queue in [0x400, 0xffff] {
        let answer = hypercall(3, device.into(), queue);
        expect!(
            answer.is_ok_and(|code| code < 0),
            "queue {queue:#x}: {answer:?}"
        )?;
    }
    Ok(())
}

/// A function that does not exist is an error or a specification exception.
#[case(spec = "S390-DIAG 0x500")]
fn unknown_function_is_refused() -> Verdict {
    let answer = hypercall(0x4242, 0x0001_0000, 0);
    let refused = match answer {
        Ok(code) => code < 0,
        Err(fault) => fault == Fault::SPECIFICATION,
    };
    expect!(refused, "{answer:?}")
}
