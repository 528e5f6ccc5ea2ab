//! Trapped coprocessor accesses. Spec: DDI0487 G1.13, D24.2 ESR_EL1.
//!
//! System registers of AArch32 are coprocessor registers, and each kind of access has a class of its
//! own. A hypervisor traps some of them itself and must tell EL1 exactly what the processor would
//! have. Each case opens the register first, so that the trap bit is what makes the difference.

use crate::run::{SVC_A32, Text};
use guest_lib::arch::fault::ec;
use guest_lib::arch::registers::{CntkctlEl1, CpacrEl1, MdscrEl1};
use guest_lib::prelude::*;

/// CV = 1 and COND = 0b1110: valid, always.
const ALWAYS: u64 = 1 << 24 | 0xe << 20;
/// Class of a trapped MCR or MRC of coprocessor 15.
const CP15_32: u64 = 0x03;
/// Class of a trapped MCRR or MRRC of coprocessor 15.
const CP15_64: u64 = 0x04;
/// Class of a trapped MCR or MRC of coprocessor 14.
const CP14_32: u64 = 0x05;

/// Registers with the trap that closes them.
struct Controls([u64; 3]);

impl Fixture for Controls {
    fn fresh() -> Result<Self, Stop> {
        let saved = [CntkctlEl1::read(), CpacrEl1::read(), MdscrEl1::read()];
        CntkctlEl1::write(saved[0] | 0x303);
        Ok(Controls(saved))
    }
}

impl Drop for Controls {
    fn drop(&mut self) {
        CntkctlEl1::write(self.0[0]);
        CpacrEl1::write(self.0[1]);
        MdscrEl1::write(self.0[2]);
    }
}

/// Closes one access.
type Close = fn(&Controls);

/// A trapped access arrives with its class, and its ISS names the register, direction and destination.
#[case(
    spec = "DDI0487 D24.2 ESR_EL1",
    needs("arm64.aarch32_el0"),
    rows(
        // mrc p15, 0, r5, c14, c3, 1 (CNTV_CTL)
        mrc_cp15: (
            Text::Arm(&[0xee1e_5f33, SVC_A32]),
            |c| CntkctlEl1::write(c.0[0] & !0x300 | 3),
            CP15_32,
            1 << 17 | 14 << 10 | 5 << 5 | 3 << 1 | 1
        ),
        // mcr p15, 0, r6, c14, c3, 1
        mcr_cp15: (
            Text::Arm(&[0xee0e_6f33, SVC_A32]),
            |c| CntkctlEl1::write(c.0[0] & !0x300 | 3),
            CP15_32,
            1 << 17 | 14 << 10 | 6 << 5 | 3 << 1
        ),
        // mrrc p15, 1, r2, r3, c14 (CNTVCT)
        mrrc_cp15: (
            Text::Arm(&[0xec53_2f1e, SVC_A32]),
            |c| CntkctlEl1::write(c.0[0] & !3 | 0x300),
            CP15_64,
            1 << 16 | 3 << 10 | 2 << 5 | 14 << 1 | 1
        ),
        // mrc p14, 0, r4, c0, c0, 0 (DBGDIDR)
        mrc_cp14: (
            Text::Arm(&[0xee10_4e10, SVC_A32]),
            |c| MdscrEl1::write(c.0[2] | 1 << 12),
            CP14_32,
            4 << 5 | 1
        ),
        // vmov s0, r4
        floating_point: (
            Text::Arm(&[0xee00_4a10, SVC_A32]),
            |c| CpacrEl1::write(c.0[1] & !(3 << 20)),
            ec::FP,
            0
        )
    )
)]
fn trapped_access_is_exact(controls: &mut Controls, row: (Text, Close, u64, u64)) -> Verdict {
    let (text, close, class, iss) = row;
    // Under HCR_EL2.TGE debug registers are closed to EL0 whatever MDSCR says.
    if class != CP14_32 || arch::cpu::current_el() == 1 {
        let open = text.run(0, 0);
        expect_eq!(open.frame.fault(), Fault::new(ec::SVC32, 1), "open")?;
    }
    close(controls);
    let ran = text.run(0, 0);
    controls.restore_open();
    let got = ran.frame.fault();
    // For floating point the low half holds details that only a trap to AArch32 has.
    let got = if class == ec::FP {
        Fault(got.0 & !0xffff)
    } else {
        got
    };
    expect_eq!(got, Fault::new(class, ALWAYS | iss))?;
    ran.expect_at(0)
}

impl Controls {
    fn restore_open(&self) {
        CntkctlEl1::write(self.0[0] | 0x303);
        CpacrEl1::write(self.0[1]);
        MdscrEl1::write(self.0[2]);
    }
}

/// Registers of EL1 are undefined at EL0; the thread registers of EL0 are those of AArch64.
#[case(spec = "DDI0487 G1.13", needs("arm64.aarch32_el0"))]
fn privileged_registers_are_undefined() -> Verdict {
    for text in [
        // mrc p15, 0, r0, c1, c0, 0 (SCTLR)
        Text::Arm(&[0xee11_0f10, SVC_A32]),
        // mcr p15, 0, r0, c2, c0, 0 (TTBR0)
        Text::Arm(&[0xee02_0f10, SVC_A32]),
        // mrc p15, 0, r0, c0, c0, 0 (MIDR)
        Text::Arm(&[0xee10_0f10, SVC_A32]),
        // mcr p15, 0, r0, c8, c7, 0 (TLBIALL)
        Text::Arm(&[0xee08_0f17, SVC_A32]),
        // mrc p15, 0, r0, c13, c0, 4 (TPIDRPRW)
        Text::Arm(&[0xee1d_0f90, SVC_A32]),
    ] {
        let ran = text.run(0, 0);
        expect_eq!(ran.frame.fault(), Fault::UNDEFINED)?;
        ran.expect_at(0)?;
    }
    // mcr p15, 0, r1, c13, c0, 2; mrc p15, 0, r0, c13, c0, 2 (TPIDRURW)
    let text = Text::Arm(&[0xee0d_1f50, 0xee1d_0f50, SVC_A32]);
    let ran = text.run(0x8765_4321, 0);
    expect_eq!(ran.frame.fault(), Fault::new(ec::SVC32, 1))?;
    expect_eq!(ran.frame.x[0], 0x8765_4321, "TPIDRURW")
}
