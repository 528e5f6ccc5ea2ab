//! Sign and zero extension. Spec: DDI0487 C3.2.
//!
//! The bytes of a device read arrive in the hypervisor as a number; it has to cut them to the size of the
//! access, extend them as the instruction says, and cut again to the width of the register. Registers
//! of the interrupt controller (bytes and words) and of the console (halfwords) hold values with the
//! top bit set and clear.

use crate::access::{Outcome, before, done, expect_registers, run};
use guest_lib::arch::gic::{Gic, Gicv3, registers::gicd};
use guest_lib::arch::mmio::Mmio;
use guest_lib::arch::platform::{self, Uart};
use guest_lib::arch::snippets::{self, Snippet};
use guest_lib::prelude::*;

/// Priority of an SPI that nothing here uses, at a multiple of four.
const PRIORITY: u64 = gicd::IPRIORITYR + 40;

fn expect_load(snippet: Snippet, address: u64, value: u64) -> Verdict {
    let registers = before(address);
    let after = done(snippet, &registers)?;
    let mut expected = registers;
    expected.x[0] = value;
    expect_registers(&after, &expected)
}

/// A byte or word of the distributor is extended as the instruction says.
#[case(
    spec = "DDI0487 C3.2",
    rows(
        ldrb: (snippets::LDRB, [0xf0, 0x50]),
        ldrsb_w: (snippets::LDRSB_W, [0xffff_fff0, 0x50]),
        ldrsb_x: (snippets::LDRSB_X, [0xffff_ffff_ffff_fff0, 0x50]),
        ldr_w: (snippets::LDR_W, [0xc0b0_a0f0, 0x40b0_a050]),
        ldrsw: (snippets::LDRSW, [0xffff_ffff_c0b0_a0f0, 0x40b0_a050])
    )
)]
fn bytes_and_words_are_extended(gic: &mut Gic, row: (Snippet, [u64; 2])) -> Verdict {
    let (snippet, [negative, positive]) = row;
    let distributor = gic.distributor();
    distributor.write32(PRIORITY, 0xc0b0_a0f0);
    expect_load(snippet, distributor.base() + PRIORITY, negative)?;
    distributor.write32(PRIORITY, 0x40b0_a050);
    expect_load(snippet, distributor.base() + PRIORITY, positive)
}

/// A pair of words is loaded right and extended, or refused.
#[case(
    spec = "DDI0487 C3.2 LDP",
    rows(
        ldp_w: (snippets::LDP_W, [0xc0b0_a0f0, 0x4030_2010]),
        ldpsw: (snippets::LDPSW, [0xffff_ffff_c0b0_a0f0, 0x4030_2010])
    )
)]
fn pairs_are_right_or_refused(gic: &mut Gic, row: (Snippet, [u64; 2])) -> Verdict {
    let (snippet, [first, second]) = row;
    let distributor = gic.distributor();
    distributor.write32(PRIORITY, 0xc0b0_a0f0);
    distributor.write32(PRIORITY + 4, 0x4030_2010);
    let registers = before(distributor.base() + PRIORITY);
    let Outcome::Done(after) = run(snippet, &registers)? else {
        note!("refused");
        return Ok(());
    };
    let mut expected = registers;
    (expected.x[0], expected.x[2]) = (first, second);
    expect_registers(&after, &expected)
}

/// Each byte of a word is reached at its own address.
#[case(spec = "DDI0487 C3.2 LDRB")]
fn bytes_have_addresses(gic: &mut Gic) -> Verdict {
    let distributor = gic.distributor();
    distributor.write32(PRIORITY, 0xc030_a050);
    for (i, byte) in [0x50u64, 0xa0, 0x30, 0xc0].into_iter().enumerate() {
        let at = distributor.base() + PRIORITY + i as u64;
        expect_load(snippets::LDRB, at, byte)?;
        let signed = byte as u8 as i8 as i32 as u32;
        expect_load(snippets::LDRSB_W, at, u64::from(signed))?;
    }
    Ok(())
}

/// The console's baud rate divisor, put back at the end.
struct Divisor {
    device: Mmio,
    before: u16,
}

const IBRD: u64 = 0x24;

impl Fixture for Divisor {
    fn fresh() -> Result<Self, Stop> {
        let Uart::Pl011(base) = platform::info().uart else {
            return skip("arm64.pl011");
        };
        let device = Mmio::new(base);
        Ok(Divisor {
            before: device.read16(IBRD),
            device,
        })
    }
}

impl Drop for Divisor {
    fn drop(&mut self) {
        self.device.write16(IBRD, self.before);
    }
}

/// A halfword of the console is extended as the instruction says.
#[case(
    spec = "DDI0487 C3.2",
    needs("arm64.pl011"),
    rows(
        ldrh: (snippets::LDRH, [0x8123, 0x7123]),
        ldrsh_w: (snippets::LDRSH_W, [0xffff_8123, 0x7123]),
        ldrsh_x: (snippets::LDRSH_X, [0xffff_ffff_ffff_8123, 0x7123])
    )
)]
fn halfwords_are_extended(divisor: &mut Divisor, row: (Snippet, [u64; 2])) -> Verdict {
    let (snippet, [negative, positive]) = row;
    let at = divisor.device.base() + IBRD;
    divisor.device.write16(IBRD, 0x8123);
    expect_load(snippet, at, negative)?;
    divisor.device.write16(IBRD, 0x7123);
    expect_load(snippet, at, positive)
}

/// STRH stores sixteen bits, whatever the rest of the register holds.
#[case(spec = "DDI0487 C3.2 STRH", needs("arm64.pl011"))]
fn strh_stores_a_halfword(divisor: &mut Divisor) -> Verdict {
    let mut registers = before(divisor.device.base() + IBRD);
    registers.x[0] = 0xffff_ffff_ffff_4321;
    let after = done(snippets::STRH, &registers)?;
    expect_registers(&after, &registers)?;
    expect_eq!(divisor.device.read32(IBRD), 0x4321)?;
    registers.x[0] = 0x1_0000;
    done(snippets::STRH, &registers)?;
    expect_eq!(divisor.device.read32(IBRD), 0)
}

/// A 64-bit register is loaded and stored whole: STR and LDR of X, and of XZR.
#[case(spec = "DDI0487 C3.2", needs("arm64.gicv3"))]
fn doublewords_are_whole(gic: &mut Gicv3) -> Verdict {
    let distributor = gic.0.distributor();
    let at = distributor.base() + gicd::IROUTER + 40 * 8;
    // Affinities 3, 2, 1 and 0; bits that are not implemented stay away.
    let mut registers = before(at);
    registers.x[0] = 0x0000_0012_0034_5678;
    expect_registers(&done(snippets::STR_X, &registers)?, &registers)?;
    let whole = distributor.read64(gicd::IROUTER + 40 * 8);
    expect_ne!(whole, 0, "the routing register")?;
    expect_eq!(whole & !registers.x[0], 0, "bits that were not stored")?;
    expect_eq!(
        whole as u32 & 0x00ff_ffff,
        0x0034_5678,
        "the affinities 2 to 0"
    )?;
    expect_load(snippets::LDR_X, at, whole)?;
    expect_load(snippets::LDR_W, at, whole & 0xffff_ffff)?;
    expect_load(snippets::LDR_W, at + 4, whole >> 32)?;
    expect_registers(&done(snippets::STR_XZR, &registers)?, &registers)?;
    expect_load(snippets::LDR_X, at, 0)
}
