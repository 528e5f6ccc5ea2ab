//! Commands that do not exist, and completion of those that do.

use guest_lib::arch::interrupts::{Interruption, external_code, take, wait};
use guest_lib::arch::registers::{Cr0, Psw, cr0_with};
use guest_lib::arch::sclp::{READ_SCP_INFO, READ_SCP_INFO_FORCED, block, call, service_call};
use guest_lib::prelude::*;

/// An unknown command is answered with 0x01f0.
#[case(spec = "SCLP SERVC", rows(
    class: 0x0042_0001,
    all_ones: 0xffff_ff00,
    detail: READ_SCP_INFO | 0x4200,
))]
fn unknown_command_is_answered(command: u32) -> Verdict {
    let page = block(4096);
    let (cc, response) = call(command, &page)?;
    // The detail code of a known class may be ignored, as the forced form shows.
    expect_eq!(cc, 0)?;
    match command == READ_SCP_INFO | 0x4200 {
        true => expect!(
            response == 0x10 || response == 0x01f0,
            "response {response:#x}"
        ),
        false => expect_eq!(response, 0x01f0),
    }
}

/// No class of commands but the known ones is answered as if it were done.
#[case(spec = "SCLP SERVC")]
fn unknown_classes_are_refused() -> Verdict {
    // Class codes of the 256 that no published command has.
    for class in (0x60..0x70u32).chain(0x80..0x90).chain(0xa0..0xb0) {
        let (cc, response) = call(class << 16 | 0xff, &block(64))?;
        expect_eq!((cc, response), (0, 0x01f0), "class {class:#x}")?;
    }
    Ok(())
}

/// Each accepted call signals completion once, with the block's address.
#[case(spec = "SCLP SERVC")]
fn completion_is_signalled_once() -> Verdict {
    let _subclass = cr0_with(Cr0::SERVICE_SIGNAL);
    for round in 0..5 {
        let page = block(4096);
        expect_eq!(
            service_call(READ_SCP_INFO_FORCED.into(), page.address()),
            Ok(0)
        )?;
        match wait(Psw::EXTERNAL, time::PATIENCE) {
            Some(Interruption::External {
                code, parameter, ..
            }) => {
                expect_eq!(code, external_code::SERVICE_SIGNAL)?;
                expect_eq!(u64::from(parameter & !7), page.address(), "round {round}")?;
            }
            other => return fail!("round {round}: {other:?}"),
        }
        expect_eq!(page.read::<u16>(6), 0x10, "the answer is there")?;
        expect_eq!(take(Psw::EXTERNAL), None, "once, round {round}")?;
    }
    Ok(())
}

/// The high half of both registers means nothing.
#[case(spec = "SCLP SERVC")]
fn high_half_of_the_command_is_ignored() -> Verdict {
    let page = block(4096);
    let command = 0x1234_5678_0000_0000 | u64::from(READ_SCP_INFO_FORCED);
    let cc = service_call(command, page.address());
    guest_lib::arch::sclp::take_service_signal();
    expect_eq!((cc, page.read::<u16>(6)), (Ok(0), 0x10))
}
