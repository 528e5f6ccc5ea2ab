//! A PL011 that sends at once and receives nothing. Spec: Arm DDI 0183, chapter 3.

use std::io::{self, Write};

const DR: u64 = 0x00;
const FR: u64 = 0x18;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFE: u32 = 1 << 7;
/// Registers that hold what is written: ILPR to DMACR, but for FR and those of raised interrupts.
const STORED: [u64; 8] = [0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38, 0x48];
/// UARTPeriphID0 to 3, UARTPCellID0 to 3.
const IDS: [u32; 8] = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];
const FIRST_ID: u64 = 0xfe0;

/// The device.
pub struct Pl011<W> {
    out: W,
    stored: [u32; STORED.len()],
}

impl<W: Write> Pl011<W> {
    /// A device that was just reset and sends to `out`.
    pub fn new(out: W) -> Self {
        let mut stored = [0; STORED.len()];
        // CR: transmitter and receiver on. IFLS: both half full.
        (stored[4], stored[5]) = (0x300, 0x12);
        Pl011 { out, stored }
    }

    /// What it sends to.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// A write of the register at `offset`.
    pub fn write(&mut self, offset: u64, value: u32) -> io::Result<()> {
        if offset == DR {
            return self.out.write_all(&[value as u8]);
        }
        if let Some(i) = STORED.iter().position(|at| *at == offset) {
            self.stored[i] = value & 0xffff;
        }
        Ok(())
    }

    /// A read of the register at `offset`.
    pub fn read(&self, offset: u64) -> u32 {
        if offset == FR {
            return FR_TXFE | FR_RXFE;
        }
        if let Some(i) = STORED.iter().position(|at| *at == offset) {
            return self.stored[i];
        }
        let id = offset.checked_sub(FIRST_ID).map(|o| o as usize / 4);
        id.and_then(|i| IDS.get(i)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_out_and_it_is_always_ready() {
        let mut device = Pl011::new(Vec::new());
        device.write(0x30, 0x301).unwrap();
        for byte in *b"ok\n" {
            // Neither full nor busy.
            assert_eq!(device.read(FR) & (1 << 5 | 1 << 3), 0);
            device.write(DR, byte.into()).unwrap();
        }
        assert_eq!(device.out(), b"ok\n");
        assert_ne!(device.read(FR) & FR_RXFE, 0);
        assert_eq!(device.read(0x30), 0x301);
    }

    #[test]
    fn it_names_itself() {
        let device = Pl011::new(Vec::new());
        let ids: Vec<u32> = (0xfe0..0x1000)
            .step_by(4)
            .map(|at| device.read(at))
            .collect();
        assert_eq!(ids, IDS);
        assert_eq!(device.read(0x1000), 0);
    }
}
