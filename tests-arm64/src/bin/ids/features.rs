//! Instructions exist exactly when their field says so. Spec: DDI0487 D24.2.
//!
//! A guest decides by the ID registers which instructions to use. What is advertised must work; what is
//! not must be undefined, or a guest that moves to another host breaks there. Each row is an
//! extension: its field, the smallest value that includes it, and one instruction of it.

use guest_lib::arch::code::{self, Code};
use guest_lib::arch::enter::{State, enter};
use guest_lib::arch::snippets;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Field at CRm, op2, shift; smallest value; instruction.
type Row = (u32, u32, u32, u64, u32);

/// The instruction of an extension is executed when its field is set, and undefined otherwise.
#[case(
    spec = "DDI0487 D24.2",
    needs("arm64.fp"),
    rows(
        // aese v0.16b, v1.16b
        aes: (6, 0, 4, 1, 0x4e28_4820),
        // pmull v0.1q, v0.1d, v0.1d
        pmull: (6, 0, 4, 2, 0x0ee0_e000),
        // sha1h s0, s0
        sha1: (6, 0, 8, 1, 0x5e28_0800),
        // sha256su0 v0.4s, v0.4s
        sha256: (6, 0, 12, 1, 0x5e28_2800),
        // sha512su0 v0.2d, v0.2d
        sha512: (6, 0, 12, 2, 0xcec0_8000),
        // crc32b w0, w0, w1
        crc32: (6, 0, 16, 1, 0x1ac1_4000),
        // ldadd x2, x3, [x0]
        lse: (6, 0, 20, 2, 0xf822_0003),
        // sqrdmlah v0.4h, v0.4h, v0.4h
        rdm: (6, 0, 28, 1, 0x2e40_8400),
        // eor3 v0.16b, v0.16b, v0.16b, v0.16b
        sha3: (6, 0, 32, 1, 0xce00_0000),
        // sm3partw1 v0.4s, v0.4s, v0.4s
        sm3: (6, 0, 36, 1, 0xce60_c000),
        // sm4e v0.4s, v0.4s
        sm4: (6, 0, 40, 1, 0xcec0_8400),
        // udot v0.2s, v0.8b, v0.8b
        dot_product: (6, 0, 44, 1, 0x2e80_9400),
        // cfinv
        flagm: (6, 0, 52, 1, 0xd500_401f),
        // axflag
        flagm2: (6, 0, 52, 2, 0xd500_405f),
        // tlbi vmalle1os
        tlbi_os: (6, 0, 56, 1, 0xd508_811f),
        // tlbi rvae1is, xzr
        tlbi_range: (6, 0, 56, 2, 0xd508_823f),
        // mrs x0, rndr
        rndr: (6, 0, 60, 1, 0xd53b_2400),
        // dc cvap, x0
        dc_cvap: (6, 1, 0, 1, 0xd50b_7c20),
        // dc cvadp, x0
        dc_cvadp: (6, 1, 0, 2, 0xd50b_7d20),
        // fjcvtzs w0, d0
        jscvt: (6, 1, 12, 1, 0x1e7e_0000),
        // fcadd v0.4s, v0.4s, v0.4s, #90
        fcma: (6, 1, 16, 1, 0x6e80_e400),
        // ldaprb w3, [x0]
        lrcpc: (6, 1, 20, 1, 0x38bf_c003),
        // ldapurb w3, [x0]
        lrcpc2: (6, 1, 20, 2, 0x1940_0003),
        // frint32z s0, s0
        frintts: (6, 1, 32, 1, 0x1e28_4000),
        // bfdot v0.2s, v0.4h, v0.4h
        bf16: (6, 1, 44, 1, 0x2e40_fc00),
        // usdot v0.2s, v0.8b, v0.8b
        i8mm: (6, 1, 52, 1, 0x0e80_9c00),
        // wfet x3, of a moment long past
        wfxt: (6, 2, 0, 2, 0xd503_1003),
        // abs x0, x0
        cssc: (6, 2, 52, 1, 0xdac0_2000),
        // fadd h0, h0, h0
        half_precision: (4, 0, 16, 1, 0x1ee0_2800),
        // msr dit, #0
        dit: (4, 0, 48, 1, 0xd503_405f),
        // msr ssbs, #0
        ssbs: (4, 1, 4, 2, 0xd503_403f),
        // msr tco, #0
        mte: (4, 1, 8, 1, 0xd503_409f),
        // msr pan, #0
        pan: (7, 1, 20, 1, 0xd500_409f),
        // msr uao, #0
        uao: (7, 2, 4, 1, 0xd500_407f),
        // mrs x0, cntvctss_el0
        ecv: (7, 0, 60, 1, 0xd53b_e0c0)
    )
)]
fn instruction_is_as_advertised(row: Row) -> Verdict {
    let (crm, op2, shift, least, word) = row;
    let value = code::Register(3, 0, 0, crm, op2).read() >> shift & 0xf;
    // FP is a signed field, where 15 means none.
    let advertised = value >= least && !(shift == 16 && crm == 4 && value == 15);
    let data = Frames::new(1);
    let code = Code::new(&[word, code::svc(1)]);
    let mut state = State::here(code.address());
    (state.x[0], state.x[3]) = (data.address(), 0);
    let frame = enter(&state);
    let expected = if advertised {
        Fault::svc(1)
    } else {
        Fault::UNDEFINED
    };
    expect_eq!(frame.fault(), expected, "field value {value}")?;
    expect_eq!(frame.elr, code.address() + if advertised { 8 } else { 0 })
}

/// Floating point runs when it is announced, and is refused when it is not.
#[case(spec = "DDI0487 D24.2 ID_AA64PFR0_EL1")]
fn floating_point_is_as_advertised() -> Verdict {
    let advertised = code::Register(3, 0, 0, 4, 0).read() >> 16 & 0xf != 15;
    let code = Code::new(snippets::FLOAT_SVC.words());
    let frame = enter(&State::here(code.address()));
    expect_eq!(frame.fault() == Fault::svc(1), advertised, "FMOV D0, X0")
}

/// Pointer authentication is there with any of its algorithms, and undefined without.
#[case(spec = "DDI0487 D24.2 ID_AA64ISAR1_EL1")]
fn pacga_is_as_advertised() -> Verdict {
    let field = |crm, op2, shift: u32| code::Register(3, 0, 0, crm, op2).read() >> shift & 0xf_u64;
    let advertised = field(6, 1, 24) | field(6, 1, 28) | field(6, 2, 8) != 0;
    // pacga x0, x0, x1
    let code = Code::new(&[0x9ac1_3000, code::svc(1)]);
    let frame = enter(&State::here(code.address()));
    expect_eq!(
        frame.fault(),
        if advertised {
            Fault::svc(1)
        } else {
            Fault::UNDEFINED
        }
    )
}
