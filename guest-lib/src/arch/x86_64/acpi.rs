//! The few ACPI tables a payload needs: MADT for processors, FADT for power-off.
//! Spec: ACPI 5.2.5 (RSDP), 5.2.7 (RSDT), 5.2.8 (XSDT), 5.2.9 (FADT), 5.2.12 (MADT).

use super::platform::read;
use core::sync::atomic::{AtomicU64, Ordering};

static RSDP: AtomicU64 = AtomicU64::new(0);

/// Notes the root pointer the hypervisor passed, or looks for it where a BIOS leaves it.
pub(super) fn init(rsdp: u64) {
    let found = if is_rsdp(rsdp) {
        rsdp
    } else {
        (0xe_0000..0x10_0000)
            .step_by(16)
            .find(|&a| is_rsdp(a))
            .unwrap_or(0)
    };
    RSDP.store(found, Ordering::Relaxed);
}

fn is_rsdp(address: u64) -> bool {
    address != 0 && read::<u64>(address) == u64::from_le_bytes(*b"RSD PTR ")
}

/// The address of the table with `signature`.
pub fn table(signature: &[u8; 4]) -> Option<u64> {
    let rsdp = RSDP.load(Ordering::Relaxed);
    if rsdp == 0 {
        return None;
    }
    let xsdt = if read::<u8>(rsdp + 15) >= 2 {
        read::<u64>(rsdp + 24)
    } else {
        0
    };
    let (root, width) = if xsdt != 0 {
        (xsdt, 8)
    } else {
        (u64::from(read::<u32>(rsdp + 16)), 4)
    };
    let end = root + u64::from(read::<u32>(root + 4));
    let mut entry = root + 36;
    while entry + width <= end {
        let table = if width == 8 {
            read::<u64>(entry)
        } else {
            u64::from(read::<u32>(entry))
        };
        if read::<u32>(table) == u32::from_le_bytes(*signature) {
            return Some(table);
        }
        entry += width;
    }
    None
}

/// Calls `visit` with the local APIC id of each enabled processor, in table order.
pub fn for_each_apic_id(mut visit: impl FnMut(u32)) {
    let Some(madt) = table(b"APIC") else { return };
    let end = madt + u64::from(read::<u32>(madt + 4));
    let mut entry = madt + 44;
    while entry + 2 <= end {
        let length = u64::from(read::<u8>(entry + 1));
        match read::<u8>(entry) {
            0 if read::<u32>(entry + 4) & 1 != 0 => visit(u32::from(read::<u8>(entry + 3))),
            9 if read::<u32>(entry + 8) & 1 != 0 => visit(read::<u32>(entry + 4)),
            _ => {}
        }
        if length < 2 {
            return;
        }
        entry += length;
    }
}

/// The PM1a control port, from the FADT.
pub fn pm1a_control() -> Option<u16> {
    let port = read::<u32>(table(b"FACP")? + 64);
    (port != 0).then_some(port as u16)
}
