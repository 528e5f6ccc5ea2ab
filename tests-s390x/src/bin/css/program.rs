//! Channel programs: SENSE ID, chains, counts, and what the channel refuses.
//!
//! Spec: SA22-7832 15 Channel-Command Word, Command Chaining, 16 Subchannel-Status Word; SA22-7204
//! SENSE ID.

use guest_lib::arch::channel::{Ccw, Device, Status, command, scsw};
use guest_lib::prelude::*;

const DATA: u32 = 1024;

fn ccw(device: &Device, code: u8, flags: u8, count: u16) -> Ccw {
    Ccw {
        code,
        flags,
        count,
        address: device.program.address() as u32 + DATA,
    }
}

/// Final status of a program that went well.
fn ended_well(status: Status) -> Verdict {
    expect_eq!(
        status.device,
        scsw::CHANNEL_END | scsw::DEVICE_END,
        "device status"
    )?;
    expect_eq!(status.subchannel, 0, "subchannel status")?;
    let wanted = scsw::PRIMARY | scsw::SECONDARY | scsw::PENDING;
    expect_eq!(status.control & wanted, wanted, "status control")
}

fn program_check(status: Status) -> Verdict {
    expect_eq!(
        status.subchannel & scsw::PROGRAM_CHECK,
        scsw::PROGRAM_CHECK,
        "{status:?}"
    )
}

/// SENSE ID answers 0xff and a control-unit type, and ends with channel end and device end.
#[case(spec = "SA22-7204 SENSE ID")]
fn sense_id_is_answered(device: &mut Device) -> Verdict {
    ccw(device, command::SENSE_ID, command::SLI, 64).put(&device.program, 0);
    let status = device.run(0, 0)?;
    ended_well(status)?;
    expect_eq!(device.program.read::<u8>(DATA as usize), 0xff)?;
    expect_ne!(
        device.program.read::<u16>(DATA as usize + 1),
        0,
        "control-unit type"
    )?;
    expect_eq!(
        status.ccw,
        device.program.address() as u32 + 8,
        "behind the last CCW"
    )
}

/// A CCW of format 0 does the same.
#[case(spec = "SA22-7832 15 Channel-Command Word")]
fn format_0_is_understood(device: &mut Device) -> Verdict {
    ccw(device, command::SENSE_ID, command::SLI, 64).put_format_0(&device.program, 0);
    ended_well(device.run(0, 0x0080_0000)?)?;
    expect_eq!(device.program.read::<u8>(DATA as usize), 0xff)
}

/// A short SENSE ID stores as many bytes as its count, and not one more.
#[case(spec = "SA22-7832 15 Channel-Command Word")]
fn count_limits_the_data(device: &mut Device) -> Verdict {
    for i in 0..64 {
        device.program.write(DATA as usize + i, 0xaau8);
    }
    ccw(device, command::SENSE_ID, command::SLI, 4).put(&device.program, 0);
    let status = device.run(0, 0)?;
    ended_well(status)?;
    expect_eq!(status.count, 0, "residual count")?;
    expect_eq!(device.program.read::<u8>(DATA as usize), 0xff)?;
    expect_eq!(
        device.program.read::<u8>(DATA as usize + 4),
        0xaa,
        "behind the count"
    )
}

/// A count above what the device has leaves a residual count, and without SLI is an incorrect
/// length.
#[case(spec = "SA22-7832 16 Incorrect Length")]
fn residual_count_and_incorrect_length(device: &mut Device) -> Verdict {
    ccw(device, command::SENSE_ID, command::SLI, 512).put(&device.program, 0);
    let lenient = device.run(0, 0)?;
    expect_eq!(lenient.subchannel, 0, "with SLI")?;
    expect!(
        lenient.count >= 512 - 256 && lenient.count < 512,
        "residual {}",
        lenient.count
    )?;
    ccw(device, command::SENSE_ID, 0, 512).put(&device.program, 0);
    let strict = device.run(0, 0)?;
    expect_eq!(strict.subchannel, scsw::INCORRECT_LENGTH, "without SLI")
}

/// Chained commands are executed in turn.
#[case(spec = "SA22-7832 15 Command Chaining")]
fn chained_commands_run_in_turn(device: &mut Device) -> Verdict {
    let nop = Ccw {
        code: command::NOP,
        flags: command::CHAIN | command::SLI,
        count: 1,
        address: 0,
    };
    nop.put(&device.program, 0);
    nop.put(&device.program, 8);
    ccw(device, command::SENSE_ID, command::SLI, 64).put(&device.program, 16);
    let status = device.run(0, 0)?;
    ended_well(status)?;
    expect_eq!(device.program.read::<u8>(DATA as usize), 0xff)?;
    expect_eq!(status.ccw, device.program.address() as u32 + 24)
}

/// Without the chaining flag the program ends: the command behind is not executed.
#[case(spec = "SA22-7832 15 Command Chaining")]
fn unchained_command_is_not_executed(device: &mut Device) -> Verdict {
    let nop = Ccw {
        code: command::NOP,
        flags: command::SLI,
        count: 1,
        address: 0,
    };
    nop.put(&device.program, 0);
    ccw(device, command::SENSE_ID, command::SLI, 64).put(&device.program, 8);
    let status = device.run(0, 0)?;
    ended_well(status)?;
    expect_eq!(device.program.read::<u8>(DATA as usize), 0)?;
    expect_eq!(status.ccw, device.program.address() as u32 + 8)
}

/// A command that the device does not know is a unit check.
#[case(spec = "SA22-7204 Unit Check")]
fn unknown_command_is_a_unit_check(device: &mut Device) -> Verdict {
    ccw(device, 0xf7, command::SLI, 1).put(&device.program, 0);
    let status = device.run(0, 0)?;
    expect_eq!(
        status.device & scsw::UNIT_CHECK,
        scsw::UNIT_CHECK,
        "{status:?}"
    )?;
    ccw(device, command::SENSE_ID, command::SLI, 64).put(&device.program, 0);
    ended_well(device.run(0, 0)?)
}

/// A CCW with an invalid code or a reserved flag, is a program check.
#[case(spec = "SA22-7832 16 Program Check", rows(
    code_zero: (0x00, command::SLI, 64),
    code_low_digit_zero: (0x10, command::SLI, 64),
    reserved_flag: (command::SENSE_ID, command::SLI | 0x01, 64),
))]
fn invalid_ccw_is_a_program_check(device: &mut Device, row: (u8, u8, u16)) -> Verdict {
    let (code, flags, count) = row;
    ccw(device, code, flags, count).put(&device.program, 0);
    program_check(device.run(0, 0)?)?;
    ccw(device, command::SENSE_ID, command::SLI, 64).put(&device.program, 0);
    ended_well(device.run(0, 0)?)
}

/// In format 0 a count of zero is a program check; format 1 allows it.
#[case(spec = "SA22-7832 16 Program Check")]
fn format_0_wants_a_count(device: &mut Device) -> Verdict {
    let none = ccw(device, command::NOP, command::SLI, 0);
    none.put(&device.program, 0);
    ended_well(device.run(0, 0)?)?;
    none.put_format_0(&device.program, 0);
    program_check(device.run(0, 0x0080_0000)?)
}

/// A program that is not on a doubleword boundary is a program check.
#[case(spec = "SA22-7832 16 Program Check")]
fn misaligned_program_is_a_program_check(device: &mut Device) -> Verdict {
    ccw(device, command::SENSE_ID, command::SLI, 64).put(&device.program, 4);
    program_check(device.run(4, 0)?)
}

/// Data beyond storage is a program check.
#[case(spec = "SA22-7832 16 Program Check")]
fn data_beyond_storage_is_a_program_check(device: &mut Device) -> Verdict {
    let address = guest_lib::memory::total() as u32;
    let beyond = Ccw {
        code: command::SENSE_ID,
        flags: command::SLI,
        count: 64,
        address,
    };
    beyond.put(&device.program, 0);
    program_check(device.run(0, 0)?)
}

/// A program beyond storage is a program check.
#[case(spec = "SA22-7832 16 Program Check")]
fn program_beyond_storage_is_a_program_check(device: &mut Device) -> Verdict {
    expect_eq!(device.start(guest_lib::memory::total(), 0), Ok(0))?;
    device.interruption()?;
    program_check(device.test()?.1)
}
