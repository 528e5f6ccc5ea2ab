//! SET CHANNEL MONITOR and measurement blocks: counts of starts, kept by the channel subsystem.
//!
//! Spec: SA22-7832 14 SET CHANNEL MONITOR, 17 Channel-Subsystem Monitoring.

use guest_lib::arch::channel::{self, Ccw, Device, command, pmcw};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Register 1: measurement-block update.
const UPDATE: u64 = 2;
/// PMCW characteristics: measurement-block format 1.
const FORMAT_1: u32 = 4;

/// Monitoring, off again when dropped.
pub struct Monitor;

impl Fixture for Monitor {
    fn fresh() -> Result<Self, Stop> {
        Ok(Monitor)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Without flags there is nothing to refuse.
        let _ = channel::set_monitor(0, 0);
    }
}

/// A measurement-block origin off its 32-byte boundary is an operand exception.
#[case(spec = "SA22-7832 14 SET CHANNEL MONITOR")]
fn misaligned_origin_is_refused(_monitor: &mut Monitor) -> Verdict {
    let page = Frames::new(1);
    for off in [1, 8, 16] {
        let refused = channel::set_monitor(UPDATE, page.address() + off);
        expect_eq!(refused.err(), Some(Fault::OPERAND), "{off} bytes off")?;
    }
    expect!(
        channel::set_monitor(UPDATE, page.address() + 32).is_ok(),
        "aligned"
    )
}

/// Reserved bits of register 1 are operand exceptions.
#[case(spec = "SA22-7832 14 SET CHANNEL MONITOR")]
fn reserved_flags_are_refused(_monitor: &mut Monitor) -> Verdict {
    for flag in [0x4, 0x80, 0x8000, 0x0080_0000] {
        let refused = channel::set_monitor(flag, 0);
        expect_eq!(refused.err(), Some(Fault::OPERAND), "flag {flag:#x}")?;
    }
    expect!(channel::set_monitor(0, 0).is_ok(), "no flag")
}

/// SET CHANNEL MONITOR is privileged.
#[case(spec = "SA22-7832 14 SET CHANNEL MONITOR")]
fn schm_is_privileged(_monitor: &mut Monitor) -> Verdict {
    let refused = fault::catch_user(|| channel::set_monitor(0, 0).err())?;
    expect_eq!(refused, Some(Fault::PRIVILEGED_OPERATION))?;
    expect!(channel::set_monitor(0, 0).is_ok(), "supervisor state may")
}

/// Switching off takes no origin into account.
#[case(spec = "SA22-7832 14 SET CHANNEL MONITOR")]
fn switching_off_ignores_the_origin(_monitor: &mut Monitor) -> Verdict {
    expect!(channel::set_monitor(0, u64::MAX).is_ok(), "any origin")
}

fn ten_starts(device: &Device) -> Verdict {
    let address = device.program.address() as u32 + 1024;
    let ccw = Ccw {
        code: command::SENSE_ID,
        flags: command::SLI,
        count: 64,
        address,
    };
    ccw.put(&device.program, 0);
    for _ in 0..10 {
        device.run(0, 0)?;
    }
    Ok(())
}

/// A block of format 0 counts ten starts at its index, and the neighbouring block stays.
#[case(spec = "SA22-7832 17 Measurement Block", rows(index_0: 0, index_1: 1))]
fn format_0_counts_starts(device: &mut Device, _monitor: &mut Monitor, index: u16) -> Verdict {
    let blocks = Frames::new(1);
    channel::set_monitor(UPDATE, blocks.address())?;
    device.store()?;
    let flags: u16 = device.blocks().read(4);
    device.blocks().write(4, flags | pmcw::MEASUREMENT);
    device.blocks().write(12, index);
    expect_eq!(device.modify(), Ok(0))?;
    ten_starts(device)?;
    channel::set_monitor(0, 0)?;
    let counts = [0, 1].map(|i| blocks.read::<u16>(32 * i));
    let mut expected = [0, 0];
    expected[usize::from(index)] = 10;
    expect_eq!(counts, expected)
}

/// A block of format 1 counts ten starts.
#[case(spec = "SA22-7832 17 Measurement Block")]
fn format_1_counts_starts(device: &mut Device, _monitor: &mut Monitor) -> Verdict {
    let block = Frames::new(1);
    channel::set_monitor(UPDATE, 0)?;
    device.store()?;
    let flags: u16 = device.blocks().read(4);
    device.blocks().write(4, flags | pmcw::MEASUREMENT);
    device
        .blocks()
        .write(24, device.blocks().read::<u32>(24) | FORMAT_1);
    device.blocks().write(40, block.address() + 64);
    expect_eq!(device.modify(), Ok(0))?;
    ten_starts(device)?;
    device.store()?;
    device
        .blocks()
        .write(24, device.blocks().read::<u32>(24) & !FORMAT_1);
    device.modify()?;
    expect_eq!((block.read::<u32>(0), block.read::<u32>(64)), (0, 10))
}

/// A block of format 1 off its 64-byte boundary is an operand exception.
#[case(spec = "SA22-7832 14 MODIFY SUBCHANNEL")]
fn misaligned_block_is_refused(device: &mut Device) -> Verdict {
    let block = Frames::new(1);
    device.store()?;
    device
        .blocks()
        .write(24, device.blocks().read::<u32>(24) | FORMAT_1);
    device.blocks().write(40, block.address() + 32);
    expect_eq!(device.modify(), Err(Fault::OPERAND))?;
    device.blocks().write(40, block.address() + 64);
    expect_eq!(device.modify(), Ok(0))?;
    device
        .blocks()
        .write(24, device.blocks().read::<u32>(24) & !FORMAT_1);
    device.blocks().write(40, 0u64);
    expect_eq!(device.modify(), Ok(0))
}
