//! Channel reports, and the characteristics of the channel subsystem.
//!
//! Spec: SA22-7832 14 STORE CHANNEL REPORT WORD, RESET CHANNEL PATH, 17 Channel Report.

use guest_lib::arch::channel::{self, Device};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Takes all pending reports.
fn drain() -> Verdict {
    let page = Frames::new(1);
    for _ in 0..1000 {
        if channel::store_report(0, page.address())? == 1 {
            return Ok(());
        }
    }
    fail!("reports do not end")
}

/// Without a report condition code 1 and zeroes are stored.
#[case(spec = "SA22-7832 14 STORE CHANNEL REPORT WORD")]
fn no_report_is_code_1() -> Verdict {
    drain()?;
    let page = Frames::new(1);
    page.write(0, u64::MAX);
    expect_eq!(channel::store_report(0, page.address()), Ok(1))?;
    expect_eq!(
        page.read::<u64>(0),
        0x0000_0000_ffff_ffff,
        "one word of zeroes"
    )
}

/// RESET CHANNEL PATH makes a report about its path, once.
#[case(spec = "SA22-7832 14 RESET CHANNEL PATH")]
fn reset_path_is_reported(device: &mut Device) -> Verdict {
    drain()?;
    device.store()?;
    let path: u8 = device.blocks().read(16);
    expect_eq!(channel::reset_path(path.into()), Ok(0))?;
    let page = Frames::new(1);
    let reported = || channel::store_report(0, page.address()) == Ok(0);
    expect!(time::wait_until(time::PATIENCE, reported), "a report comes")?;
    let word: u32 = page.read(0);
    // Reporting source 4 is a channel path; its number is in the low half.
    expect_eq!(
        (word >> 24 & 0xf, word & 0xff),
        (4, path.into()),
        "{word:#010x}"
    )?;
    expect_eq!(channel::store_report(0, page.address()), Ok(1), "once")
}

/// Reserved bits of the path word are operand exceptions.
#[case(spec = "SA22-7832 14 RESET CHANNEL PATH")]
fn reserved_path_bits_are_refused() -> Verdict {
    for bits in [0x0000_0100, 0x0100_0000] {
        expect_eq!(channel::reset_path(bits), Err(Fault::OPERAND), "{bits:#x}")?;
    }
    drain()
}

/// The characteristics of the channel subsystem are stored with response 1.
#[case(spec = "SA22-7832 14 CHANNEL SUBSYSTEM CALL")]
fn characteristics_are_stored() -> Verdict {
    let page = Frames::new(1);
    channel::scsc_request(&page);
    expect_eq!(channel::chsc(page.address()), Ok(0))?;
    expect_eq!(page.read::<u16>(18), 1, "response code")?;
    let length: u16 = page.read(16);
    expect!((16..=4080).contains(&length), "{length} bytes")
}

/// An unknown command and a bad length are answered with their response codes.
#[case(spec = "SA22-7832 14 CHANNEL SUBSYSTEM CALL", rows(
    unknown_command: (16, 0x4242, 4),
    short_request: (8, 0x0010, 3),
))]
fn bad_request_is_answered((length, code, response): (u16, u16, u16)) -> Verdict {
    let page = Frames::new(1);
    page.write(0, length);
    page.write(2, code);
    let cc = channel::chsc(page.address());
    match length {
        // A request without room for its fields is an operand exception instead.
        8 if cc == Err(Fault::OPERAND) => Ok(()),
        _ => expect_eq!(
            (cc, page.read::<u16>(usize::from(length) + 2)),
            (Ok(0), response)
        ),
    }
}

/// A block that is not on a page is a specification exception.
#[case(spec = "SA22-7832 14 CHANNEL SUBSYSTEM CALL")]
fn misaligned_block_is_refused() -> Verdict {
    let page = Frames::new(2);
    channel::scsc_request(&page);
    for off in [1, 8, 2048] {
        let refused = channel::chsc(page.address() + off);
        expect_eq!(refused, Err(Fault::SPECIFICATION), "{off} bytes off")?;
    }
    Ok(())
}

/// A device that is there is found by STORE SUBCHANNEL over the numbers from 0 on, and SENSE ID
/// names it.
#[case(spec = "SA22-7832 14 STORE SUBCHANNEL")]
fn enumeration_finds_the_device(device: &mut Device) -> Verdict {
    expect_eq!(channel::first_device(), Some(device.name()))?;
    expect_eq!(device.store(), Ok(0))?;
    let (lpm, pim, pam) = (
        device.blocks().read::<u8>(8),
        device.blocks().read::<u8>(11),
        device.blocks().read::<u8>(15),
    );
    expect_ne!(pim, 0, "a path is installed")?;
    expect_eq!(lpm & !pim, 0, "logical paths are installed")?;
    expect_ne!(pam & pim, 0, "one of them is available")
}
