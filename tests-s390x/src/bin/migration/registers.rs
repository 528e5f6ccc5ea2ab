//! Control, access, floating-point and vector registers, prefix. Spec: SA22-7832 4, 9, 21.

use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::lowcore::PrefixArea;
use guest_lib::arch::registers::{Control, Cr0, control, cr0_with};
use guest_lib::arch::vector;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

fn words(frames: &Frames, offset: usize, count: usize) -> Vec<u64> {
    (0..count).map(|i| frames.read(offset + 8 * i)).collect()
}

fn fill(frames: &Frames, length: usize) {
    for i in 0..length {
        frames.write(i, (i * 7 + 3) as u8);
    }
}

/// Control registers that no one uses here keep what was loaded.
#[case(spec = "SA22-7832 4 Control Registers", needs("service.save_restore"))]
fn control_registers_stay() -> Verdict {
    // PER's start and end address, and the primary-ASN registers: all off.
    let _ten = Control::<10>::loaded(0x0123_4567_89ab_c000);
    let _eleven = Control::<11>::loaded(0x0fed_cba9_8765_4000);
    let _three = Control::<3>::loaded(0x0000_0000_00c0_1234);
    let all = || {
        let low = [
            control::<0>(),
            control::<1>(),
            control::<3>(),
            control::<6>(),
        ];
        (
            low,
            [
                control::<7>(),
                control::<10>(),
                control::<11>(),
                control::<13>(),
                control::<14>(),
            ],
        )
    };
    let before = all();
    service::ask(Request::SaveRestore)?;
    expect_eq!(all(), before, "CR0, 1, 3, 6, 7, 10, 11, 13, 14")?;
    expect_eq!(before.1[1], 0x0123_4567_89ab_c000, "control")
}

/// Access registers stay.
#[case(spec = "SA22-7832 5 Access Registers", needs("service.save_restore"))]
fn access_registers_stay() -> Verdict {
    let frames = Frames::new(1);
    fill(&frames, 64);
    // STAM a0,a15,128(%r2) keeps them; LAM a0,a15,0(%r2); STAM a0,a15,64(%r2).
    let at = registers([(2, frames.address())]);
    execute(&[0x9b0f, 0x2080, 0x9a0f, 0x2000], at)?;
    let moved = service::ask(Request::SaveRestore);
    execute(&[0x9b0f, 0x2040, 0x9a0f, 0x2080], at)?;
    moved?;
    expect_eq!(words(&frames, 64, 8), words(&frames, 0, 8))
}

/// Floating-point registers and the floating-point control register stay.
#[case(
    spec = "SA22-7832 9 Floating-Point Registers",
    needs("service.save_restore")
)]
fn floating_point_registers_stay() -> Verdict {
    let frames = Frames::new(1);
    fill(&frames, 128);
    // DXC 0, rounding up, all masks off, two flags.
    frames.write(128, 0x0088_0002u32);
    let _on = cr0_with(Cr0::AFP);
    let at = registers([(2, frames.address())]);
    for i in 0..16u16 {
        // LD fi, 8i(%r2)
        execute(&[0x6800 | i << 4, 0x2000 | 8 * i], at)?;
    }
    // LFPC 128(%r2)
    execute(&[0xb29d, 0x2080], at)?;
    let moved = service::ask(Request::SaveRestore);
    for i in 0..16u16 {
        // STD fi, 256+8i(%r2)
        execute(&[0x6000 | i << 4, 0x2100 | 8 * i], at)?;
    }
    // STFPC 132(%r2); LFPC 136(%r2), which is zero.
    execute(&[0xb29c, 0x2084, 0xb29d, 0x2088], at)?;
    moved?;
    expect_eq!(words(&frames, 256, 16), words(&frames, 0, 16), "f0 to f15")?;
    expect_eq!(frames.read::<u32>(132), 0x0088_0002, "FPC")
}

/// Vector registers stay.
#[case(
    spec = "SA22-7832 21 Vector Registers",
    needs("service.save_restore", "s390x.vector")
)]
fn vector_registers_stay() -> Verdict {
    let frames = Frames::new(1);
    fill(&frames, 512);
    vector::load_all(frames.address())?;
    let moved = service::ask(Request::SaveRestore);
    vector::store_all(frames.address() + 1024)?;
    moved?;
    expect_eq!(words(&frames, 1024, 64), words(&frames, 0, 64), "v0 to v31")
}

/// The prefix stays, so the low core is the one that was chosen.
#[case(spec = "SA22-7832 3 Prefixing", needs("service.save_restore"))]
fn prefix_stays(area: &mut PrefixArea) -> Verdict {
    let first = area.current()?;
    area.enter()?;
    let moved = service::ask(Request::SaveRestore);
    let after = area.current();
    area.back()?;
    moved?;
    expect_eq!(after, Ok(area.address()))?;
    expect_eq!(area.current()?, first, "back again")
}
