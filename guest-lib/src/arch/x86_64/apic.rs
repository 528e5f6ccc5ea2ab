//! The local APIC, in xAPIC or x2APIC mode, behind one register set. Spec: SDM 3A 11.

use super::{cpu, cpuid, msr};
use crate::fault::Fault;

/// IA32_APIC_BASE bit 10: x2APIC mode.
pub const BASE_EXTD: u64 = 1 << 10;
/// IA32_APIC_BASE bit 11: APIC on.
pub const BASE_ENABLE: u64 = 1 << 11;

/// Registers, by their offset in the xAPIC page; the x2APIC MSR is 800h + offset / 16.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register(pub u32);

#[expect(missing_docs, reason = "named by the manual's words")]
impl Register {
    pub const ID: Register = Register(0x20);
    pub const VERSION: Register = Register(0x30);
    pub const TPR: Register = Register(0x80);
    pub const PPR: Register = Register(0xa0);
    pub const EOI: Register = Register(0xb0);
    pub const LDR: Register = Register(0xd0);
    pub const DFR: Register = Register(0xe0);
    pub const SVR: Register = Register(0xf0);
    pub const ISR: Register = Register(0x100);
    pub const TMR: Register = Register(0x180);
    pub const IRR: Register = Register(0x200);
    pub const ESR: Register = Register(0x280);
    pub const ICR: Register = Register(0x300);
    pub const ICR_HIGH: Register = Register(0x310);
    pub const LVT_TIMER: Register = Register(0x320);
    pub const LVT_LINT0: Register = Register(0x350);
    pub const LVT_LINT1: Register = Register(0x360);
    pub const LVT_ERROR: Register = Register(0x370);
    pub const INITIAL_COUNT: Register = Register(0x380);
    pub const CURRENT_COUNT: Register = Register(0x390);
    pub const DIVIDE: Register = Register(0x3e0);
    pub const SELF_IPI: Register = Register(0x3f0);
}

/// ICR: delivery mode INIT, level assert.
pub const ICR_INIT: u32 = 0x4500;
/// ICR: delivery mode start-up; the low byte is the page.
pub const ICR_STARTUP: u32 = 0x4600;
/// ICR: delivery mode NMI.
pub const ICR_NMI: u32 = 0x4400;
/// ICR: fixed delivery; the low byte is the vector.
pub const ICR_FIXED: u32 = 0x4000;

fn base() -> u64 {
    msr::read(msr::APIC_BASE).unwrap_or(0xfee0_0000 | BASE_ENABLE)
}

/// Whether the APIC of this processor is in x2APIC mode.
pub fn is_x2apic() -> bool {
    base() & BASE_EXTD != 0
}

/// Reads a register in the current mode.
pub fn read(register: Register) -> u32 {
    let base = base();
    if base & BASE_EXTD != 0 {
        return msr::read(0x800 + register.0 / 16).unwrap_or(0) as u32;
    }
    let address = (base & !0xfff) + u64::from(register.0);
    // SAFETY: S3; the APIC page is mapped uncached, and a 32-bit read is the way to read it.
    unsafe { core::ptr::read_volatile(address as *const u32) }
}

/// Writes a register in the current mode.
pub fn write(register: Register, value: u32) -> Result<(), Fault> {
    let base = base();
    if base & BASE_EXTD != 0 {
        return msr::write(0x800 + register.0 / 16, u64::from(value));
    }
    let address = (base & !0xfff) + u64::from(register.0);
    // SAFETY: S3; as in `read`.
    unsafe { core::ptr::write_volatile(address as *mut u32, value) };
    Ok(())
}

/// The APIC id of this processor.
pub fn id() -> u32 {
    let id = read(Register::ID);
    if is_x2apic() { id } else { id >> 24 }
}

/// The APIC id from CPUID, which no mode change alters.
pub fn initial_id() -> u32 {
    if cpuid::max_leaf() >= 0xb {
        let leaf = cpuid::query(0xb, 0);
        if leaf.ebx != 0 {
            return leaf.edx;
        }
    }
    cpuid::query(1, 0).ebx >> 24
}

/// Sends an inter-processor interrupt: `command` is the low word of the ICR.
pub fn send_ipi(destination: u32, command: u32) {
    if is_x2apic() {
        let value = u64::from(destination) << 32 | u64::from(command);
        // A refused ICR shows up as an interrupt that never comes.
        let _ = msr::write(0x830, value);
        return;
    }
    let _ = write(Register::ICR_HIGH, destination << 24);
    let _ = write(Register::ICR, command);
    // Delivery status: a moment on hardware, at once in a virtual machine.
    for _ in 0..1_000_000 {
        if read(Register::ICR) & 1 << 12 == 0 {
            break;
        }
    }
}

/// Turns the APIC of this processor on, with `spurious` as its spurious vector.
pub fn enable(spurious: u8) {
    let _ = write(Register::SVR, 0x100 | u32::from(spurious));
}

/// Ends the interrupt in service.
pub fn eoi() {
    let _ = write(Register::EOI, 0);
}

/// Masks both legacy interrupt controllers: a payload takes no interrupt it did not ask for.
pub(super) fn mask_legacy() {
    cpu::outb(0x21, 0xff);
    cpu::outb(0xa1, 0xff);
}

/// Whether interrupt `vector` waits in the IRR.
pub fn is_pending(vector: u8) -> bool {
    let word = Register(Register::IRR.0 + 0x10 * (u32::from(vector) / 32));
    read(word) >> (vector % 32) & 1 != 0
}
