//! A subchannel's own state: enabled or not, status pending or not, which processor is told.
//!
//! Spec: SA22-7832 14, 15, 16.

use guest_lib::arch::channel::{self, Device, ISC, command, pmcw, scsw};
use guest_lib::arch::interrupts::{Interruption, take, wait};
use guest_lib::arch::registers::{Control, Psw};
use guest_lib::prelude::*;

fn sense_id(device: &Device) -> u64 {
    let data = device.program.address() + 1024;
    let ccw = channel::Ccw {
        code: command::SENSE_ID,
        flags: command::SLI,
        count: 64,
        address: data as u32,
    };
    ccw.put(&device.program, 0);
    device.program.address()
}

/// Enabling, interruption parameter and subclass read back.
#[case(spec = "SA22-7832 14 MODIFY SUBCHANNEL")]
fn modified_fields_read_back(device: &mut Device) -> Verdict {
    for isc in 0..8 {
        let set = |flags: u16| flags & !pmcw::isc(7) | pmcw::isc(isc);
        expect_eq!(device.change_flags(set), Ok(0))?;
        device.store()?;
        let flags: u16 = device.blocks().read(4);
        expect_eq!(
            flags & (pmcw::isc(7) | pmcw::ENABLED),
            pmcw::isc(isc) | pmcw::ENABLED
        )?;
    }
    expect_eq!(
        device.blocks().read::<u32>(0),
        0xcafe_f00d,
        "interruption parameter"
    )
}

/// A disabled subchannel is not operational for START, HALT and CLEAR.
#[case(spec = "SA22-7832 14 START SUBCHANNEL")]
fn disabled_subchannel_is_not_operational(device: &mut Device) -> Verdict {
    let program = sense_id(device);
    device.change_flags(|flags| flags & !pmcw::ENABLED)?;
    expect_eq!(device.start(program, 0), Ok(3), "start")?;
    expect_eq!(channel::halt(device.name().into()), Ok(3), "halt")?;
    expect_eq!(channel::clear(device.name().into()), Ok(3), "clear")?;
    device.change_flags(|flags| flags | pmcw::ENABLED)?;
    expect_eq!(device.start(program, 0), Ok(0), "enabled")
}

/// A start ends with an interruption that carries name, parameter and subclass, and TEST
/// SUBCHANNEL takes the status once.
#[case(spec = "SA22-7832 16 I/O Interruption Code")]
fn interruption_names_the_subchannel(device: &mut Device) -> Verdict {
    expect_eq!(device.start(sense_id(device), 0), Ok(0))?;
    match wait(Psw::IO, time::PATIENCE) {
        Some(Interruption::Io {
            subchannel,
            parameter,
            word,
        }) => {
            expect_eq!((subchannel, parameter), (device.name(), 0xcafe_f00d))?;
            expect_eq!(word >> 27 & 7, u32::from(ISC), "subclass in {word:#x}")?;
        }
        other => return fail!("no I/O interruption: {other:?}"),
    }
    expect_eq!(take(Psw::IO), None, "once")?;
    expect_eq!(device.test()?.0, 0, "status was pending")?;
    expect_eq!(device.test()?.0, 1, "and is taken")
}

/// The interruption waits until the subclass mask lets it through.
#[case(spec = "SA22-7832 16 I/O-Interruption Subclass")]
fn subclass_mask_holds_interruptions(device: &mut Device) -> Verdict {
    {
        let _others = Control::<6>::changed(|all| !all & 0xff00_0000);
        expect_eq!(device.start(sense_id(device), 0), Ok(0))?;
        let pending = || device.store().is_ok() && device.blocks().read::<u32>(28) & 1 != 0;
        expect!(
            time::wait_until(time::PATIENCE, pending),
            "status is pending"
        )?;
        expect_eq!(take(Psw::IO), None, "masked")?;
    }
    device.interruption()
}

/// TEST PENDING INTERRUPTION tells which one is pending and takes it; then there is none.
#[case(spec = "SA22-7832 14 TEST PENDING INTERRUPTION")]
fn tpi_takes_the_interruption(device: &mut Device) -> Verdict {
    let at = device.blocks().address() + 512;
    expect_eq!(channel::test_pending(0, at), Ok(0), "nothing is pending")?;
    expect_eq!(device.start(sense_id(device), 0), Ok(0))?;
    let told = || channel::test_pending(0, at) == Ok(1);
    expect!(
        time::wait_until(time::PATIENCE, told),
        "an interruption is pending"
    )?;
    let code = (
        device.blocks().read::<u32>(512),
        device.blocks().read::<u32>(516),
    );
    expect_eq!(code, (device.name(), 0xcafe_f00d))?;
    expect_eq!(take(Psw::IO), None, "it was taken")?;
    expect_eq!(device.test()?.0, 0, "the status is still pending")
}

/// TEST SUBCHANNEL takes the interruption along with the status.
#[case(spec = "SA22-7832 14 TEST SUBCHANNEL")]
fn tsch_takes_the_interruption(device: &mut Device) -> Verdict {
    expect_eq!(device.start(sense_id(device), 0), Ok(0))?;
    let pending = || device.store().is_ok() && device.blocks().read::<u32>(28) & scsw::PENDING != 0;
    expect!(
        time::wait_until(time::PATIENCE, pending),
        "status is pending"
    )?;
    expect_eq!(device.test()?.0, 0)?;
    expect_eq!(take(Psw::IO), None, "no interruption without status")?;
    expect_eq!(device.start(sense_id(device), 0), Ok(0))?;
    device.interruption()
}

/// With address 0 TEST PENDING INTERRUPTION stores into the prefix area.
#[case(spec = "SA22-7832 14 TEST PENDING INTERRUPTION")]
fn tpi_stores_into_the_prefix_area(device: &mut Device) -> Verdict {
    use guest_lib::arch::lowcore::{offset, read32, write32};
    write32(offset::IO, 0);
    expect_eq!(device.start(sense_id(device), 0), Ok(0))?;
    let told = || channel::test_pending(0, 0) == Ok(1);
    expect!(
        time::wait_until(time::PATIENCE, told),
        "an interruption is pending"
    )?;
    expect_eq!(
        (read32(offset::IO), read32(offset::IO + 4)),
        (device.name(), 0xcafe_f00d)
    )
}

/// While status is pending a start and a halt are refused with condition code 1.
#[case(spec = "SA22-7832 14 START SUBCHANNEL")]
fn pending_status_refuses_a_start(device: &mut Device) -> Verdict {
    let program = sense_id(device);
    expect_eq!(device.start(program, 0), Ok(0))?;
    device.interruption()?;
    expect_eq!(device.start(program, 0), Ok(1), "start")?;
    expect_eq!(channel::halt(device.name().into()), Ok(1), "halt")?;
    device.test()?;
    expect_eq!(device.start(program, 0), Ok(0), "after TEST SUBCHANNEL")
}

/// TEST SUBCHANNEL without status is condition code 1.
#[case(spec = "SA22-7832 14 TEST SUBCHANNEL")]
fn tsch_without_status_is_code_1(device: &mut Device) -> Verdict {
    expect_eq!(device.test()?.0, 1)?;
    device.start(sense_id(device), 0)?;
    device.interruption()?;
    let (cc, status) = device.test()?;
    expect_eq!((cc, status.control & scsw::PENDING), (0, scsw::PENDING))
}
