//! Registers whose reads and writes have effects. Spec: IHI0048 4.4.4, 4.4.5.
//!
//! A read of GICC_IAR acknowledges the interrupt it names, so a second one finds another state; a write
//! to GICC_EOIR drops one running priority. Both show an access that was done twice or not at all, on
//! any hypervisor with a GICv2.

use crate::access::{Outcome, before, done, run};
use guest_lib::arch::gic::{Gicv2, Intid, registers::gicc};
use guest_lib::arch::snippets::{self, Snippet};
use guest_lib::prelude::*;

/// Two SGIs wait, the lower number with the higher priority.
fn two_pending(gic: &Gicv2) -> u64 {
    for (n, priority) in [(1, 0x40), (2, 0x80)] {
        gic.0.set_priority(Intid::sgi(n), priority);
        gic.0.set_enabled(Intid::sgi(n), true);
        gic.0.send(n, Cpu::BOOT);
    }
    gic.0.cpu_interface().base()
}

fn states(gic: &Gicv2) -> [(bool, bool); 2] {
    [1, 2].map(|n| {
        (
            gic.0.is_pending(Intid::sgi(n)),
            gic.0.is_active(Intid::sgi(n)),
        )
    })
}

/// One load of GICC_IAR acknowledges one interrupt and gives its number.
#[case(
    spec = "IHI0048 4.4.4 GICC_IAR",
    needs("arm64.gicv2"),
    rows(
        ldr_w: (snippets::LDR_W, Some(0)),
        ldar_w: (snippets::LDAR_W, Some(0)),
        ldr_w30_from_sp: (snippets::LDR_W30_SP, Some(30)),
        ldr_wzr: (snippets::LDR_WZR, None)
    )
)]
fn load_acknowledges_once(gic: &mut Gicv2, row: (Snippet, Option<usize>)) -> Verdict {
    let (snippet, destination) = row;
    let base = two_pending(gic);
    let after = done(snippet, &before(base + gicc::IAR))?;
    if let Some(n) = destination {
        expect_eq!(after.x[n] & 0x3ff, 1, "the acknowledged interrupt")?;
    }
    expect_eq!(
        states(gic),
        [(false, true), (true, false)],
        "(pending, active) of both"
    )?;
    gic.0.cpu_interface().write32(gicc::EOIR, 1);
    expect_eq!(
        gic.0.cpu_interface().read32(gicc::IAR) & 0x3ff,
        2,
        "the next one"
    )?;
    gic.0.cpu_interface().write32(gicc::EOIR, 2);
    Ok(())
}

/// A load with writeback of GICC_IAR acknowledges once, or is refused and acknowledges nothing.
#[case(spec = "IHI0048 4.4.4 GICC_IAR", needs("arm64.gicv2"))]
fn writeback_acknowledges_once_or_never(gic: &mut Gicv2) -> Verdict {
    let base = two_pending(gic);
    match run(snippets::LDR_POST, &before(base + gicc::IAR))? {
        Outcome::Done(after) => {
            expect_eq!((after.x[0] & 0x3ff, after.x[1]), (1, base + gicc::IAR + 4))?;
            expect_eq!(states(gic), [(false, true), (true, false)])?;
            gic.0.cpu_interface().write32(gicc::EOIR, 1);
            Ok(())
        }
        Outcome::Refused => expect_eq!(states(gic), [(true, false), (true, false)]),
    }
}

/// One store to GICC_EOIR drops one running priority.
#[case(
    spec = "IHI0048 4.4.5 GICC_EOIR",
    needs("arm64.gicv2"),
    rows(str_w: snippets::STR_W, stlr_w: snippets::STLR_W)
)]
fn store_ends_one_interrupt(gic: &mut Gicv2, snippet: Snippet) -> Verdict {
    let cpu = gic.0.cpu_interface();
    for (n, priority) in [(2, 0x80), (1, 0x40)] {
        gic.0.set_priority(Intid::sgi(n), priority);
        gic.0.set_enabled(Intid::sgi(n), true);
        gic.0.send(n, Cpu::BOOT);
        expect_eq!(cpu.read32(gicc::IAR) & 0x3ff, n)?;
    }
    expect_eq!(cpu.read32(gicc::RPR), 0x40, "with both active")?;
    let mut registers = before(cpu.base() + gicc::EOIR);
    registers.x[0] = 1;
    done(snippet, &registers)?;
    expect_eq!(cpu.read32(gicc::RPR), 0x80, "with one active")?;
    registers.x[0] = 2;
    done(snippet, &registers)?;
    expect_eq!(cpu.read32(gicc::RPR), 0xff, "with none")
}
