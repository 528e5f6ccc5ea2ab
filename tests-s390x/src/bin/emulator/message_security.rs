//! The message-security instructions: function codes, register rules, parameter blocks.
//!
//! Spec: SA22-7832 7 CIPHER MESSAGE and its family. Function 0 of each answers which functions there
//! are; the rest of these cases provokes what must be refused before any data is touched.

use guest_lib::arch::exec::{Ran, execute, registers};
use guest_lib::arch::registers::{Cr0, cr0_with};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// An instruction of the family: its opcode and what its register fields must be.
#[derive(Clone, Copy)]
struct Op {
    code: u16,
    /// Fields R1, R2, R3 that must name an even register other than 0.
    even: [bool; 3],
    /// Whether the modifier bit of register 0 must be zero.
    plain: bool,
}

const fn op(code: u16, even: [bool; 3], plain: bool) -> Op {
    Op { code, even, plain }
}

const KMAC: Op = op(0xb91e, [false, true, false], true);
const KM: Op = op(0xb92e, [true, true, false], false);
const KMC: Op = op(0xb92f, [true, true, false], false);
const KIMD: Op = op(0xb93e, [false, true, false], true);
const KLMD: Op = op(0xb93f, [false, true, false], true);
const PCKMO: Op = op(0xb928, [false, false, false], true);
const KMF: Op = op(0xb92a, [true, true, false], false);
const KMO: Op = op(0xb92b, [true, true, false], false);
const PCC: Op = op(0xb92c, [false, false, false], true);
const KMCTR: Op = op(0xb92d, [true, true, true], false);
const PRNO: Op = op(0xb93c, [true, true, false], false);

impl Op {
    /// Executes it with function `function` and the parameter block at `block`.
    fn run(self, function: u64, block: u64, fields: [u16; 3]) -> Result<Ran, Fault> {
        let [r1, r2, r3] = fields;
        let second = if self.even[2] { r3 << 12 } else { 0 } | r1 << 4 | r2;
        execute(&[self.code, second], registers([(0, function), (1, block)]))
    }

    /// Stops as skipped where the instruction is not installed.
    fn installed(self) -> Verdict {
        let page = Frames::new(1);
        match self.run(0, page.address(), GOOD) {
            Err(Fault::OPERATION) => skip("s390x.msa"),
            _ => Ok(()),
        }
    }
}

const GOOD: [u16; 3] = [2, 4, 6];

/// Function 0 stores a 16-byte mask that names itself, and nothing behind it.
#[case(spec = "SA22-7832 7 CIPHER MESSAGE", rows(
    kmac: KMAC, km: KM, kmc: KMC, kimd: KIMD, klmd: KLMD, pckmo: PCKMO, kmf: KMF, kmo: KMO,
    pcc: PCC, kmctr: KMCTR, prno: PRNO,
))]
fn query_names_itself(op: Op) -> Verdict {
    op.installed()?;
    let page = Frames::new(1);
    for i in 0..64 {
        page.write(i, 0xffu8);
    }
    expect_eq!(op.run(0, page.address() + 16, GOOD)?.cc, 0)?;
    let mask = page.read::<u128>(16);
    expect_eq!(mask >> 127, 1, "function 0")?;
    expect_ne!(mask, u128::MAX, "the mask was stored")?;
    expect_eq!(
        (page.read::<u128>(0), page.read::<u128>(32)),
        (u128::MAX, u128::MAX),
        "beside it"
    )
}

/// An odd register and register 0 are refused in each field that names a pair.
#[case(spec = "SA22-7832 7 CIPHER MESSAGE", rows(
    kmac: KMAC, km: KM, kmc: KMC, kimd: KIMD, klmd: KLMD, kmf: KMF, kmo: KMO,
    kmctr: KMCTR, prno: PRNO,
))]
fn register_rules_hold(op: Op) -> Verdict {
    op.installed()?;
    let page = Frames::new(1);
    for field in (0..3).filter(|&f| op.even[f]) {
        for bad in [GOOD[field] + 1, 0] {
            let mut fields = GOOD;
            fields[field] = bad;
            let refused = op.run(0, page.address(), fields);
            expect_eq!(
                refused.err(),
                Some(Fault::SPECIFICATION),
                "field {field} is {bad}"
            )?;
        }
    }
    expect_eq!(op.run(0, page.address(), GOOD)?.cc, 0)
}

/// A function that is not there is refused.
#[case(spec = "SA22-7832 7 CIPHER MESSAGE", rows(
    kmac: KMAC, km: KM, kmc: KMC, kimd: KIMD, klmd: KLMD, pckmo: PCKMO, kmf: KMF, kmo: KMO,
    pcc: PCC, kmctr: KMCTR, prno: PRNO,
))]
fn absent_function_is_refused(op: Op) -> Verdict {
    op.installed()?;
    let page = Frames::new(1);
    op.run(0, page.address(), GOOD)?;
    let mask = page.read::<u128>(0);
    // 127 is never assigned; another one that the mask does not name must be refused as well.
    let absent = (1..127).find(|n| mask >> (127 - n) & 1 == 0).unwrap_or(127);
    for function in [127, absent] {
        let refused = op.run(function, page.address(), GOOD);
        expect_eq!(
            refused.err(),
            Some(Fault::SPECIFICATION),
            "function {function}"
        )?;
    }
    Ok(())
}

/// The modifier bit is refused by instructions that have no use for it.
#[case(spec = "SA22-7832 7 CIPHER MESSAGE", rows(
    kmac: KMAC, kimd: KIMD, klmd: KLMD, pckmo: PCKMO, pcc: PCC,
))]
fn modifier_bit_is_refused(op: Op) -> Verdict {
    op.installed()?;
    let page = Frames::new(1);
    expect!(op.plain, "the table says so")?;
    expect_eq!(
        op.run(0x80, page.address(), GOOD).err(),
        Some(Fault::SPECIFICATION)
    )?;
    expect_eq!(op.run(0, page.address(), GOOD)?.cc, 0)
}

/// A parameter block beyond storage is an addressing exception.
#[case(spec = "SA22-7832 7 CIPHER MESSAGE", rows(
    kmac: KMAC, km: KM, kmc: KMC, kimd: KIMD, klmd: KLMD, pckmo: PCKMO, kmf: KMF, kmo: KMO,
    pcc: PCC, kmctr: KMCTR, prno: PRNO,
))]
fn block_beyond_storage_is_refused(op: Op) -> Verdict {
    op.installed()?;
    expect_eq!(op.run(0, u64::MAX, GOOD).err(), Some(Fault::ADDRESSING))?;
    expect_eq!(
        op.run(0, guest_lib::memory::total(), GOOD).err(),
        Some(Fault::ADDRESSING)
    )
}

/// Low-address protection holds for the parameter block.
#[case(spec = "SA22-7832 3 Low-Address Protection", rows(
    kmac: KMAC, km: KM, kmc: KMC, kimd: KIMD, klmd: KLMD, pckmo: PCKMO, kmf: KMF, kmo: KMO,
    pcc: PCC, kmctr: KMCTR, prno: PRNO,
))]
fn low_address_protection_holds(op: Op) -> Verdict {
    op.installed()?;
    let _protection = cr0_with(Cr0::LOW_ADDRESS_PROTECTION);
    expect_eq!(op.run(0, 8, GOOD).err(), Some(Fault::PROTECTION))?;
    expect_eq!(op.run(0, 0xc00, GOOD).map(|ran| ran.cc), Ok(0), "above it")
}
