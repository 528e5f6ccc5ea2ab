//! Channel I/O: the instructions, and the blocks they take.
//!
//! A subchannel is named by a word in general register 1. The channel subsystem reads operation-
//! request blocks and channel programs from storage and writes status there; a channel program
//! that names memory of the runtime overwrites it.

use super::exec::{Ran, execute, registers, rre, s_format_r1};
use super::fault::Fault;
use crate::memory::Frames;

/// CHANNEL SUBSYSTEM CALL on the block at `address`: the condition code.
pub fn chsc(address: u64) -> Result<u8, Fault> {
    rre(0xb25f, address, 0).map(|ran| ran.cc)
}

/// Writes a request for the channel-subsystem characteristics into `page`.
pub fn scsc_request(page: &Frames) {
    for offset in (0..4096).step_by(8) {
        page.write(offset, 0u64);
    }
    page.write(0, 16u16);
    page.write(2, 0x0010u16);
}

macro_rules! subchannel {
    ($($(#[$doc:meta])* $name:ident = $opcode:literal;)*) => {
        $($(#[$doc])* pub fn $name(subchannel: u32, address: u64) -> Result<u8, Fault> {
            s_format_r1($opcode, subchannel.into(), address)
        })*
    };
}

subchannel! {
    /// START SUBCHANNEL with the ORB at `address`.
    start = 0xb233;
    /// MODIFY SUBCHANNEL with the SCHIB at `address`.
    modify = 0xb232;
    /// STORE SUBCHANNEL to the SCHIB at `address`.
    store = 0xb234;
    /// TEST SUBCHANNEL, storing the IRB at `address`.
    test = 0xb235;
    /// STORE CHANNEL REPORT WORD at `address`; the subchannel means nothing.
    store_report = 0xb239;
    /// TEST PENDING INTERRUPTION, storing at `address` or, for 0, in the prefix area.
    test_pending = 0xb236;
}

macro_rules! no_operand {
    ($($(#[$doc:meta])* $name:ident = $opcode:literal;)*) => {
        $($(#[$doc])* pub fn $name(r1: u64) -> Result<u8, Fault> {
            execute(&[$opcode, 0], registers([(1, r1)])).map(|ran| ran.cc)
        })*
    };
}

no_operand! {
    /// CLEAR SUBCHANNEL.
    clear = 0xb230;
    /// HALT SUBCHANNEL.
    halt = 0xb231;
    /// RESUME SUBCHANNEL.
    resume = 0xb238;
    /// CANCEL SUBCHANNEL.
    cancel = 0xb276;
    /// RESET CHANNEL PATH.
    reset_path = 0xb23b;
}

/// SET CHANNEL MONITOR with the flags of `r1` and the block origin `r2`.
pub fn set_monitor(r1: u64, r2: u64) -> Result<Ran, Fault> {
    execute(&[0xb23c, 0], registers([(1, r1), (2, r2)]))
}

/// The first subchannel with a valid device, by STORE SUBCHANNEL over all numbers.
pub fn first_device() -> Option<u32> {
    let schib = Frames::new(1);
    for number in 0..0x1_0000u32 {
        let name = 0x0001_0000 | number;
        match store(name, schib.address()) {
            Ok(0) if schib.read::<u16>(4) & pmcw::VALID != 0 => return Some(name),
            Ok(0) => (),
            _ => return None,
        }
    }
    None
}

/// Flags of the path-management-control word: 16 bits at offset 4 of a SCHIB.
pub mod pmcw {
    /// Enabled.
    pub const ENABLED: u16 = 0x0080;
    /// Measurement-block update.
    pub const MEASUREMENT: u16 = 0x0010;
    /// Device number valid.
    pub const VALID: u16 = 0x0001;
    /// Interruption subclass `isc`.
    pub const fn isc(isc: u16) -> u16 {
        isc << 11
    }
}

/// Bits of the subchannel-status word's first word, and bytes of its third.
pub mod scsw {
    /// Start function.
    pub const START_FUNCTION: u32 = 0x4000;
    /// Halt function.
    pub const HALT_FUNCTION: u32 = 0x2000;
    /// Clear function.
    pub const CLEAR_FUNCTION: u32 = 0x1000;
    /// Alert status.
    pub const ALERT: u32 = 0x10;
    /// Primary status.
    pub const PRIMARY: u32 = 0x04;
    /// Secondary status.
    pub const SECONDARY: u32 = 0x02;
    /// Status pending.
    pub const PENDING: u32 = 0x01;
    /// Device status: channel end.
    pub const CHANNEL_END: u8 = 0x08;
    /// Device status: device end.
    pub const DEVICE_END: u8 = 0x04;
    /// Device status: unit check.
    pub const UNIT_CHECK: u8 = 0x02;
    /// Subchannel status: incorrect length.
    pub const INCORRECT_LENGTH: u8 = 0x40;
    /// Subchannel status: program check.
    pub const PROGRAM_CHECK: u8 = 0x20;
}

/// Channel commands.
pub mod command {
    /// No operation.
    pub const NOP: u8 = 0x03;
    /// Transfer in channel.
    pub const TIC: u8 = 0x08;
    /// Sense id.
    pub const SENSE_ID: u8 = 0xe4;
    /// Flag: chain data.
    pub const CHAIN_DATA: u8 = 0x80;
    /// Flag: chain commands.
    pub const CHAIN: u8 = 0x40;
    /// Flag: suppress incorrect length.
    pub const SLI: u8 = 0x20;
}

/// A channel-command word of format 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ccw {
    /// Command.
    pub code: u8,
    /// Flags.
    pub flags: u8,
    /// Bytes.
    pub count: u16,
    /// Data, or the next word for a transfer in channel.
    pub address: u32,
}

impl Ccw {
    /// Writes it into `page` in format 1.
    pub fn put(self, page: &Frames, offset: usize) {
        page.write(offset, self.code);
        page.write(offset + 1, self.flags);
        page.write(offset + 2, self.count);
        page.write(offset + 4, self.address);
    }

    /// Writes it into `page` in format 0.
    pub fn put_format_0(self, page: &Frames, offset: usize) {
        page.write(offset, self.address | u32::from(self.code) << 24);
        page.write(offset + 4, self.flags);
        page.write(offset + 5, 0u8);
        page.write(offset + 6, self.count);
    }
}

/// What TEST SUBCHANNEL stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// First word of the SCSW.
    pub control: u32,
    /// Address behind the last CCW.
    pub ccw: u32,
    /// Device status.
    pub device: u8,
    /// Subchannel status.
    pub subchannel: u8,
    /// Residual count.
    pub count: u16,
}

/// The first device, enabled for interruption subclass 3 on this processor; idle and disabled
/// again when dropped.
pub struct Device {
    name: u32,
    /// A page for SCHIB (0), ORB (128) and IRB (256).
    blocks: Frames,
    /// A page below 16 MiB for channel programs and data.
    pub program: Frames,
    _subclass: super::registers::Control<6>,
}

/// The subclass of [`Device`].
pub const ISC: u16 = 3;
const INTERRUPTION_PARAMETER: u32 = 0xcafe_f00d;

impl Device {
    /// The subsystem-identification word.
    pub fn name(&self) -> u32 {
        self.name
    }

    /// The page with SCHIB, ORB and IRB.
    pub fn blocks(&self) -> &Frames {
        &self.blocks
    }

    /// STORE SUBCHANNEL into the SCHIB at the start of the blocks.
    pub fn store(&self) -> Result<u8, Fault> {
        store(self.name, self.blocks.address())
    }

    /// MODIFY SUBCHANNEL from there.
    pub fn modify(&self) -> Result<u8, Fault> {
        modify(self.name, self.blocks.address())
    }

    /// Stores the SCHIB, changes its flags, and modifies the subchannel.
    pub fn change_flags(&self, change: impl FnOnce(u16) -> u16) -> Result<u8, Fault> {
        self.store()?;
        self.blocks.write(4, change(self.blocks.read(4)));
        self.modify()
    }

    /// Writes an ORB for the program at `ccw`: format 1, all paths, with `control` added.
    pub fn prepare(&self, ccw: u64, control: u32) -> u64 {
        for word in 0..16 {
            self.blocks.write(128 + 8 * word, 0u64);
        }
        self.blocks.write(128, INTERRUPTION_PARAMETER);
        self.blocks.write(132, 0x0080_ff00 ^ control);
        self.blocks.write(136, ccw as u32);
        self.blocks.address() + 128
    }

    /// START SUBCHANNEL for the program at `ccw`.
    pub fn start(&self, ccw: u64, control: u32) -> Result<u8, Fault> {
        start(self.name, self.prepare(ccw, control))
    }

    /// TEST SUBCHANNEL: the condition code and the status.
    pub fn test(&self) -> Result<(u8, Status), Fault> {
        let cc = test(self.name, self.blocks.address() + 256)?;
        let irb = |offset: usize| 256 + offset;
        let status = Status {
            control: self.blocks.read(irb(0)),
            ccw: self.blocks.read(irb(4)),
            device: self.blocks.read(irb(8)),
            subchannel: self.blocks.read(irb(9)),
            count: self.blocks.read(irb(10)),
        };
        Ok((cc, status))
    }

    /// Waits for the I/O interruption of this device.
    pub fn interruption(&self) -> Result<(), crate::case::Stop> {
        use super::interrupts::{Interruption, wait};
        match wait(super::registers::Psw::IO, crate::time::PATIENCE) {
            Some(Interruption::Io { subchannel, .. }) if subchannel == self.name => Ok(()),
            other => {
                let what = alloc::format!("no I/O interruption of the device: {other:?}");
                Err(crate::case::Failure::new(what).into())
            }
        }
    }

    /// Runs a channel program in the program page from `offset` on; the final status.
    pub fn run(&self, offset: u64, control: u32) -> Result<Status, crate::case::Stop> {
        let cc = self.start(self.program.address() + offset, control)?;
        if cc != 0 {
            let what = alloc::format!("START SUBCHANNEL: condition code {cc}");
            return Err(crate::case::Failure::new(what).into());
        }
        self.interruption()?;
        Ok(self.test()?.1)
    }
}

impl crate::case::Fixture for Device {
    fn fresh() -> Result<Self, crate::case::Stop> {
        let Some(name) = first_device() else {
            return crate::case::skip("s390x.css_device");
        };
        let subclass = super::registers::Control::<6>::loaded(u64::from(0x80u8 >> ISC) << 24);
        let device = Device {
            name,
            blocks: Frames::new(1),
            program: Frames::new(2),
            _subclass: subclass,
        };
        device.store()?;
        device.blocks.write(0, INTERRUPTION_PARAMETER);
        let flags: u16 = device.blocks.read(4);
        device
            .blocks
            .write(4, flags & !pmcw::isc(7) | pmcw::ENABLED | pmcw::isc(ISC));
        match device.modify()? {
            0 => Ok(device),
            cc => {
                let what = alloc::format!("MODIFY SUBCHANNEL: condition code {cc}");
                Err(crate::case::Failure::new(what).into())
            }
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // A clear ends whatever runs; its status and any other are then taken away. The subchannel
        // exists, so nothing here is refused.
        let _ = clear(self.name.into());
        let _all = super::registers::Control::<6>::loaded(0xff00_0000);
        let mut tries = 0;
        while tries < 1000 && matches!(self.test(), Ok((1, _))) {
            tries += 1;
        }
        while super::interrupts::take(super::registers::Psw::IO).is_some() {
            let _ = self.test();
        }
        let _ = self.change_flags(|flags| flags & !(pmcw::ENABLED | pmcw::MEASUREMENT));
    }
}
