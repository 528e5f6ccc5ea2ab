//! Devices that EL0 may reach, in either byte order. Spec: DDI0487 C3.2, D24.2 SCTLR_EL1.
//!
//! A driver in user space makes the same accesses from EL0, and EL0 may be big-endian
//! (SCTLR_EL1.E0E): then each access swaps its bytes before it extends them. The hypervisor finds the
//! order in the guest's state, not in the syndrome, and forgets it easily.

use guest_lib::arch::code::{self, Code};
use guest_lib::arch::enter::{State, enter};
use guest_lib::arch::gic::{Gic, registers::gicd};
use guest_lib::arch::paging::{PRIVATE, Space, bits, flush};
use guest_lib::arch::registers::SctlrEl1;
use guest_lib::arch::snippets::{self, Snippet};
use guest_lib::prelude::*;

const AT: u64 = PRIVATE + 0x60_0000_0000;
const E0E: u64 = 1 << 24;

/// The distributor as EL0 sees it at [`AT`], and SCTLR as it was.
struct Device {
    gic: Gic,
    space: Space,
    control: u64,
}

impl Fixture for Device {
    fn fresh() -> Result<Self, Stop> {
        let gic = Gic::fresh()?;
        let mut space = Space::user();
        let attributes = bits::PAGE & !bits::SHARED | bits::DEVICE | bits::USER;
        space.set(AT, 3, gic.distributor().base() | attributes);
        flush();
        Ok(Device {
            gic,
            space,
            control: SctlrEl1::read(),
        })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        SctlrEl1::write(self.control);
    }
}

impl Device {
    /// Runs the access at EL0; x0 afterwards.
    fn access(&self, snippet: Snippet, value: u64, big: bool) -> Result<u64, Stop> {
        let mut words = snippet.words().to_vec();
        words.push(code::svc(1));
        let code = Code::new(&words);
        let mut state = State::user(code.address());
        state.ttbr0 = self.space.ttbr0();
        state.x[0] = value;
        state.x[1] = AT + gicd::IPRIORITYR + 40;
        SctlrEl1::write(self.control & !E0E | if big { E0E } else { 0 });
        let frame = enter(&state);
        SctlrEl1::write(self.control);
        expect_eq!(frame.fault(), Fault::svc(1))?;
        expect_eq!(&frame.x[2..], &state.x[2..], "the other registers")?;
        Ok(frame.x[0])
    }

    fn word(&self) -> u32 {
        self.gic.distributor().read32(gicd::IPRIORITYR + 40)
    }

    fn set_word(&self, value: u32) {
        self.gic.distributor().write32(gicd::IPRIORITYR + 40, value);
    }
}

/// EL0 loads and stores a device as EL1 does.
#[case(spec = "DDI0487 C3.2")]
fn el0_accesses_are_the_same(device: &mut Device) -> Verdict {
    device.set_word(0xc0b0_a0f0);
    for (snippet, expected) in [
        (snippets::LDRB, 0xf0),
        (snippets::LDRSB_X, 0xffff_ffff_ffff_fff0),
        (snippets::LDRSB_W, 0xffff_fff0),
        (snippets::LDR_W, 0xc0b0_a0f0),
        (snippets::LDRSW, 0xffff_ffff_c0b0_a0f0),
    ] {
        expect_eq!(device.access(snippet, !0, false)?, expected)?;
    }
    device.access(snippets::STR_W, 0x3040_5060, false)?;
    expect_eq!(device.word(), 0x3040_5060)?;
    device.access(snippets::STRB, 0xff70, false)?;
    expect_eq!(device.word(), 0x3040_5070)
}

/// Big-endian EL0 swaps the bytes of an access, then extends; bytes stay as they are.
#[case(
    spec = "DDI0487 D24.2 SCTLR_EL1",
    needs("arm64.big_endian_el0"),
    rows(
        ldrb: (snippets::LDRB, 0xf0, 0xf0),
        ldrsb_x: (snippets::LDRSB_X, 0xffff_ffff_ffff_fff0, 0xffff_ffff_ffff_fff0),
        ldr_w: (snippets::LDR_W, 0xc0b0_a0f0, 0xf0a0_b0c0),
        ldrsw: (snippets::LDRSW, 0xffff_ffff_c0b0_a0f0, 0xffff_ffff_f0a0_b0c0)
    )
)]
fn big_endian_loads_swap(device: &mut Device, row: (Snippet, u64, u64)) -> Verdict {
    let (snippet, little, big) = row;
    device.set_word(0xc0b0_a0f0);
    expect_eq!(device.access(snippet, !0, false)?, little, "little-endian")?;
    expect_eq!(device.access(snippet, !0, true)?, big, "big-endian")
}

/// Big-endian EL0 swaps the bytes of what it stores.
#[case(spec = "DDI0487 D24.2 SCTLR_EL1", needs("arm64.big_endian_el0"))]
fn big_endian_stores_swap(device: &mut Device) -> Verdict {
    device.access(snippets::STR_W, 0x3040_5060, false)?;
    expect_eq!(device.word(), 0x3040_5060, "little-endian")?;
    device.access(snippets::STR_W, 0x3040_5060, true)?;
    expect_eq!(device.word(), 0x6050_4030, "big-endian")
}
