//! EXECUTE: the target is executed as if it stood where the EXECUTE stands, but for its own
//! relative addresses.
//!
//! Spec: SA22-7832 7 EXECUTE, EXECUTE RELATIVE LONG. Links lead behind the EXECUTE, relative
//! operands count from the target. Emulators and intercept handlers mix up the two.

use guest_lib::arch::exec::{CODE, Ran, execute, registers};
use guest_lib::arch::fault::last;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const BR_R14: u16 = 0x07fe;
const LGHI_R4_42: [u16; 2] = [0xa749, 42];

/// Instructions in a frame of their own, to be targets.
struct Target(Frames);

impl Target {
    fn new(code: &[u16]) -> Self {
        let target = Target(Frames::new(1));
        for (i, half) in code.iter().enumerate() {
            target.0.write(2 * i, *half);
        }
        target
    }

    /// EX 0 of the target, with r1 in the R1 field's register 5.
    fn ex(&self, r5: u64) -> Result<Ran, Fault> {
        execute(
            &[0x4400, 0x2000],
            registers([(2, self.0.address()), (5, r5)]),
        )
    }

    /// EX 5: bits 56 to 63 of register 5 are ORed into bits 8 to 15 of the target.
    fn ex_modified(&self, r5: u64) -> Result<Ran, Fault> {
        execute(
            &[0x4450, 0x2000],
            registers([(2, self.0.address()), (5, r5)]),
        )
    }
}

/// BASR as a target links behind the EXECUTE.
#[case(spec = "SA22-7832 7 EXECUTE")]
fn basr_links_behind_ex() -> Verdict {
    let target = Target::new(&[0x0d30]);
    expect_eq!(target.ex(0)?.registers[3], CODE + 4)
}

/// BRAS as a target branches relative to the target and links behind the EXECUTE.
#[case(spec = "SA22-7832 7 EXECUTE")]
fn bras_branches_relative_to_the_target() -> Verdict {
    // Over two bytes that are no instruction.
    let target = Target::new(&[0xa735, 3, 0x0000, LGHI_R4_42[0], LGHI_R4_42[1], BR_R14]);
    let ran = target.ex(0)?;
    expect_eq!((ran.registers[3], ran.registers[4]), (CODE + 4, 42))
}

/// BRASL as a target does the same with its long offset.
#[case(spec = "SA22-7832 7 EXECUTE")]
fn brasl_branches_relative_to_the_target() -> Verdict {
    let target = Target::new(&[0xc035, 0, 4, 0x0000, LGHI_R4_42[0], LGHI_R4_42[1], BR_R14]);
    let ran = target.ex(0)?;
    expect_eq!((ran.registers[3], ran.registers[4]), (CODE + 4, 42))
}

/// LARL as a target counts from the target.
#[case(spec = "SA22-7832 7 EXECUTE")]
fn larl_counts_from_the_target() -> Verdict {
    let target = Target::new(&[0xc030, 0, 8]);
    expect_eq!(target.ex(0)?.registers[3], target.0.address() + 16)
}

/// LLGFRL as a target loads relative to the target.
#[case(spec = "SA22-7832 7 EXECUTE")]
fn llgfrl_loads_relative_to_the_target() -> Verdict {
    let target = Target::new(&[0xc43e, 0, 8]);
    target.0.write(16, 0xcafe_f00du32);
    expect_eq!(target.ex(0)?.registers[3], 0xcafe_f00d)
}

/// CRL as a target compares with storage relative to the target.
#[case(spec = "SA22-7832 7 EXECUTE")]
fn crl_compares_relative_to_the_target() -> Verdict {
    let target = Target::new(&[0xc65d, 0, 8]);
    target.0.write(16, 1000u32);
    let answers = [999, 1000, 1001].map(|value| target.ex(value).map(|ran| ran.cc));
    expect_eq!(answers, [Ok(1), Ok(0), Ok(2)])
}

/// Bits of register R1 are ORed into the target's second byte; storage keeps the target.
#[case(spec = "SA22-7832 7 EXECUTE")]
fn r1_modifies_the_second_byte() -> Verdict {
    // LR 0,0 becomes LR 3,5.
    let target = Target::new(&[0x1800]);
    expect_eq!(target.ex_modified(0xffff_ff35)?.registers[3], 0xffff_ff35)?;
    expect_eq!(target.0.read::<u16>(0), 0x1800)
}

/// An odd target address is a specification exception, and the target is not executed.
#[case(spec = "SA22-7832 7 EXECUTE")]
fn odd_target_is_refused() -> Verdict {
    let target = Target::new(&[0x0018, 0x3500, 0x0000]);
    let odd = registers([(2, target.0.address() + 1), (3, 1), (5, 2)]);
    expect_eq!(
        execute(&[0x4400, 0x2000], odd).err(),
        Some(Fault::SPECIFICATION)
    )?;
    expect_eq!(last().instruction_length, 4)?;
    let even = registers([(2, Target::new(&[0x1835]).0.address()), (3, 1), (5, 2)]);
    expect!(execute(&[0x4400, 0x2000], even).is_ok(), "even")
}

/// EXECUTE of EXECUTE is an execute exception, by either instruction.
#[case(spec = "SA22-7832 6 Execute Exception", rows(ex: &[0x4400, 0x2000], exrl: &[0xc600, 0, 2]))]
fn ex_of_ex_is_refused(inner: &[u16]) -> Verdict {
    let target = Target::new(inner);
    expect_eq!(target.ex(0).err(), Some(Fault::EXECUTE))
}

/// A fault of the target is reported with the EXECUTE's length and the address behind it.
#[case(spec = "SA22-7832 5 Program Interruptions")]
fn fault_of_the_target_points_behind_ex() -> Verdict {
    for code in [&[0x0000u16][..], &[0xe320, 0x4000, 0x0004]] {
        let target = Target::new(code);
        let with = registers([(2, target.0.address()), (4, !0xfff)]);
        expect!(
            execute(&[0x4400, 0x2000], with).is_err(),
            "the target faults"
        )?;
        expect_eq!(
            (last().instruction_length, last().psw.address),
            (4, CODE + 4)
        )?;
    }
    Ok(())
}

/// A target beyond storage is an addressing exception.
#[case(spec = "SA22-7832 7 EXECUTE")]
fn target_beyond_storage_is_refused() -> Verdict {
    let with = registers([(2, guest_lib::memory::total())]);
    expect_eq!(
        execute(&[0x4400, 0x2000], with).err(),
        Some(Fault::ADDRESSING)
    )
}

/// A privileged target is refused in problem state, and so is an intercepted one.
#[case(spec = "SA22-7832 7 EXECUTE", rows(
    stidp: &[0xb202, 0x3000],
    diag: &[0x8300, 0x0044],
    ptlb: &[0xb20d, 0x0000],
))]
fn privileged_target_is_refused_in_problem_state(code: &[u16]) -> Verdict {
    let page = Frames::new(1);
    let target = Target::new(code);
    let with = registers([(2, target.0.address()), (3, page.address())]);
    let refused = fault::catch_user(|| execute(&[0x4400, 0x2000], with))?;
    expect_eq!(refused.err(), Some(Fault::PRIVILEGED_OPERATION))?;
    expect!(
        execute(&[0x4400, 0x2000], with).is_ok(),
        "supervisor state may"
    )
}
