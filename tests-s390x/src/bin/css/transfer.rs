//! Transfer in channel: the branch of channel programs, and the loops one can make of it.
//!
//! Spec: SA22-7832 15 Transfer in Channel, 16 Program Check. A channel that follows a chain for ever
//! takes its processor with it, and on a hypervisor the host's thread as well. The manual lets a
//! channel limit what it does for one start; whatever it does, CLEAR SUBCHANNEL must end it.

use guest_lib::arch::channel::{self, Ccw, Device, Status, command, scsw};
use guest_lib::prelude::*;

const DATA: usize = 1024;

fn at(device: &Device, offset: usize) -> u32 {
    device.program.address() as u32 + offset as u32
}

fn tic(device: &Device, from: usize, to: usize) {
    let address = at(device, to);
    Ccw {
        code: command::TIC,
        flags: 0,
        count: 0,
        address,
    }
    .put(&device.program, from);
}

fn nop(device: &Device, offset: usize, address: u32) {
    let flags = command::CHAIN | command::SLI;
    Ccw {
        code: command::NOP,
        flags,
        count: 1,
        address,
    }
    .put(&device.program, offset);
}

fn sense_id(device: &Device, offset: usize, flags: u8) {
    let address = at(device, DATA);
    let flags = flags | command::SLI;
    Ccw {
        code: command::SENSE_ID,
        flags,
        count: 64,
        address,
    }
    .put(&device.program, offset);
}

fn program_check(status: Status) -> Verdict {
    expect_eq!(
        status.subchannel & scsw::PROGRAM_CHECK,
        scsw::PROGRAM_CHECK,
        "{status:?}"
    )
}

/// A transfer forward skips what lies between, and the program ends behind its last command.
#[case(spec = "SA22-7832 15 Transfer in Channel")]
fn transfer_goes_forward(device: &mut Device) -> Verdict {
    nop(device, 0, 0);
    tic(device, 8, 32);
    // Over words that would be a program check.
    sense_id(device, 32, 0);
    let status = device.run(0, 0)?;
    expect_eq!(
        status.device,
        scsw::CHANNEL_END | scsw::DEVICE_END,
        "{status:?}"
    )?;
    expect_eq!((status.subchannel, status.ccw), (0, at(device, 40)))?;
    expect_eq!(device.program.read::<u8>(DATA), 0xff)
}

/// A transfer backward reaches a command before it.
#[case(spec = "SA22-7832 15 Transfer in Channel")]
fn transfer_goes_backward(device: &mut Device) -> Verdict {
    sense_id(device, 0, 0);
    nop(device, 8, 0);
    tic(device, 16, 0);
    let status = device.run(8, 0)?;
    expect_eq!(
        status.device,
        scsw::CHANNEL_END | scsw::DEVICE_END,
        "{status:?}"
    )?;
    expect_eq!((status.subchannel, status.ccw), (0, at(device, 8)))?;
    expect_eq!(device.program.read::<u8>(DATA), 0xff)
}

/// The same works with and without the prefetch control.
#[case(spec = "SA22-7832 15 Operation-Request Block", rows(plain: 0, prefetch: 0x0040_0000))]
fn prefetch_changes_nothing(device: &mut Device, control: u32) -> Verdict {
    nop(device, 0, 0);
    tic(device, 8, 32);
    sense_id(device, 32, 0);
    let status = device.run(0, control)?;
    expect_eq!((status.subchannel, status.ccw), (0, at(device, 40)))
}

/// A transfer must not be the first command of a program.
#[case(spec = "SA22-7832 15 Transfer in Channel")]
fn transfer_must_not_come_first(device: &mut Device) -> Verdict {
    tic(device, 0, 32);
    sense_id(device, 32, 0);
    program_check(device.run(0, 0)?)
}

/// A transfer must not lead to a transfer, to itself included.
#[case(spec = "SA22-7832 15 Transfer in Channel", rows(itself: 8, another: 32))]
fn transfer_must_not_lead_to_a_transfer(device: &mut Device, to: usize) -> Verdict {
    nop(device, 0, 0);
    tic(device, 32, 48);
    sense_id(device, 48, 0);
    tic(device, 8, to);
    program_check(device.run(0, 0)?)?;
    expect_eq!(device.program.read::<u8>(DATA), 0)
}

/// A target that is not on a doubleword boundary, beyond storage, or at zero is a program check.
#[case(spec = "SA22-7832 15 Transfer in Channel", rows(
    misaligned: |d: &Device| at(d, 36),
    beyond_storage: |_: &Device| guest_lib::memory::total() as u32,
    zero: |_: &Device| 0,
))]
fn bad_target_is_a_program_check(device: &mut Device, target: fn(&Device) -> u32) -> Verdict {
    nop(device, 0, 0);
    sense_id(device, 36, 0);
    Ccw {
        code: command::TIC,
        flags: 0,
        count: 0,
        address: target(device),
    }
    .put(&device.program, 8);
    program_check(device.run(0, 0)?)
}

/// In format 1 a transfer with flags, a count, or high bits of its code is a program check.
#[case(spec = "SA22-7832 15 Transfer in Channel", rows(
    chain_command: (command::TIC, command::CHAIN, 0),
    chain_data: (command::TIC, command::CHAIN_DATA, 0),
    count: (command::TIC, 0, 1),
    high_code_bits: (0x18, 0, 0),
    all_code_bits: (0xf8, 0, 0),
))]
fn format_1_wants_zeroes(device: &mut Device, row: (u8, u8, u16)) -> Verdict {
    let (code, flags, count) = row;
    nop(device, 0, 0);
    sense_id(device, 32, 0);
    Ccw {
        code,
        flags,
        count,
        address: at(device, 32),
    }
    .put(&device.program, 8);
    program_check(device.run(0, 0)?)?;
    tic(device, 8, 32);
    let mended = device.run(0, 0)?;
    expect_eq!(mended.subchannel, 0, "{mended:?}")
}

/// In format 0 high bits of its code, flags and count are ignored.
#[case(spec = "SA22-7832 15 Transfer in Channel", rows(
    high_code_bits: (0x18, 0, 0), all_code_bits: (0xf8, 0, 0), count: (0x08, 0, 1),
))]
fn format_0_ignores_the_rest(device: &mut Device, row: (u8, u8, u16)) -> Verdict {
    let (code, flags, count) = row;
    let chained = command::CHAIN | command::SLI;
    let first = Ccw {
        code: command::NOP,
        flags: chained,
        count: 1,
        address: 0,
    };
    first.put_format_0(&device.program, 0);
    Ccw {
        code,
        flags,
        count,
        address: at(device, 32),
    }
    .put_format_0(&device.program, 8);
    let address = at(device, DATA);
    let last = Ccw {
        code: command::SENSE_ID,
        flags: command::SLI,
        count: 64,
        address,
    };
    last.put_format_0(&device.program, 32);
    let status = device.run(0, 0x0080_0000)?;
    expect_eq!(status.subchannel, 0, "{status:?}")?;
    expect_eq!(device.program.read::<u8>(DATA), 0xff)
}

/// A long straight chain of commands with transfers between them ends well.
#[case(spec = "SA22-7832 15 Command Chaining")]
fn long_chain_ends_well(device: &mut Device) -> Verdict {
    // Fifty pairs of NOP and transfer to the next pair; the data lies behind.
    for pair in 0..50 {
        nop(device, 16 * pair, at(device, DATA));
        tic(device, 16 * pair + 8, 16 * (pair + 1));
    }
    sense_id(device, 800, 0);
    let status = device.run(0, 0)?;
    expect_eq!((status.subchannel, status.ccw), (0, at(device, 808)))?;
    expect_eq!(device.program.read::<u8>(DATA), 0xff)
}

/// A program that reads over its own next command runs what is in storage then.
#[case(spec = "SA22-7832 15 Channel-Command Word")]
fn program_reads_its_next_command(device: &mut Device) -> Verdict {
    // SENSE ID overwrites the first word of the next command; its first byte becomes 0xff, which no
    // device knows. With less than four bytes it would store zeroes there.
    let next = at(device, 8);
    let flags = command::CHAIN | command::SLI;
    let first = Ccw {
        code: command::SENSE_ID,
        flags,
        count: 4,
        address: next,
    };
    first.put(&device.program, 0);
    nop(device, 8, 0);
    sense_id(device, 16, 0);
    let status = device.run(0, 0)?;
    expect_eq!(device.program.read::<u8>(8), 0xff)?;
    expect_ne!(status.device & scsw::UNIT_CHECK, 0, "{status:?}")
}

/// Ends a loop, one way or the other: the channel gives up, or CLEAR SUBCHANNEL ends it.
fn ends(device: &Device) -> Verdict {
    expect_eq!(device.start(device.program.address(), 0), Ok(0))?;
    time::spin(time::ms(5));
    if device.test()?.0 == 0 {
        return Ok(());
    }
    expect_eq!(channel::clear(device.name().into()), Ok(0))?;
    let cleared = || device.test().is_ok_and(|(cc, _)| cc == 0);
    expect!(
        time::wait_until(time::PATIENCE, cleared),
        "the clear function ends it"
    )
}

/// A loop of commands without data ends.
#[case(spec = "SA22-7832 15 Transfer in Channel", timeout_s = 4)]
fn loop_without_data_ends(device: &mut Device) -> Verdict {
    nop(device, 0, 0);
    tic(device, 8, 0);
    ends(device)
}

/// A loop of commands with data addresses ends.
#[case(spec = "SA22-7832 15 Transfer in Channel", timeout_s = 4)]
fn loop_with_data_address_ends(device: &mut Device) -> Verdict {
    nop(device, 0, at(device, DATA));
    tic(device, 8, 0);
    ends(device)
}

/// A loop that transfers data ends.
#[case(spec = "SA22-7832 15 Transfer in Channel", timeout_s = 4)]
fn loop_with_data_ends(device: &mut Device) -> Verdict {
    sense_id(device, 0, command::CHAIN);
    tic(device, 8, 0);
    ends(device)
}
