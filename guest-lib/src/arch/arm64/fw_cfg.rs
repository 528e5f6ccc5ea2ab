//! QEMU's firmware configuration device: a device that counts.
//!
//! Its data register hands out the bytes of the selected item one after the other: a load of
//! n bytes moves the position by exactly n. So a load that a hypervisor executes twice, or not at
//! all, shows in the next one. Interface: docs/specs/fw_cfg of QEMU.

use super::mmio::Mmio;
use super::{dtb::Tree, platform};
use crate::case::{Fixture, Stop, skip};

const SELECTOR: u64 = 8;
/// The item that holds the signature "QEMU".
pub const SIGNATURE: u16 = 0x0000;
/// The item that lists the files: a count, then 64 bytes per file.
pub const DIRECTORY: u16 = 0x0019;

/// The device.
pub struct FwCfg {
    device: Mmio,
}

/// Where the device tree puts it.
pub fn address() -> Option<u64> {
    let mut found = None;
    let _ = Tree::new(platform::tree()).and_then(|tree| {
        tree.walk(|node| {
            if node.is_compatible("qemu,fw-cfg-mmio") {
                found = node.reg(0).map(|r| r.0);
            }
        })
    });
    found
}

impl Fixture for FwCfg {
    fn fresh() -> Result<Self, Stop> {
        let Some(base) = address() else {
            return skip("arm64.fw_cfg");
        };
        let device = FwCfg {
            device: Mmio::new(base),
        };
        device.select(SIGNATURE);
        Ok(device)
    }
}

impl FwCfg {
    /// Selects `item` and goes to its first byte.
    pub fn select(&self, item: u16) {
        self.device.write16(SELECTOR, item.swap_bytes());
    }

    /// Address of the data register.
    pub fn data(&self) -> u64 {
        self.device.base()
    }

    /// The next byte.
    pub fn next(&self) -> u8 {
        self.device.read8(0)
    }
}
