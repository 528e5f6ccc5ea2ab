//! DIAGNOSE 0x308: resets of the machine that keep storage, and the IPL parameter block.
//!
//! Subcodes 0 and 1 reset the machine and load the PSW at absolute address 0, so the program goes
//! on. What a hypervisor forgets to reset shows afterwards, and what it resets too much as well.

use guest_lib::arch::diag::{diagnose, diagnose_fields, reset_and_resume};
use guest_lib::arch::exec::{registers, with_psw_key};
use guest_lib::arch::registers::control;
use guest_lib::arch::skey::{self, Skey};
use guest_lib::arch::{cpu, sigp, smp};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// The program goes on at the PSW at absolute 0, and storage is kept.
#[case(spec = "S390-DIAG 0x308", rows(modified_clear: 0, load_normal: 1))]
fn program_resumes_with_its_storage(subcode: u64) -> Verdict {
    let page = Frames::new(1);
    page.write(8, 0x1234_5678u64);
    reset_and_resume(subcode, || ())?;
    expect_eq!(page.read::<u64>(8), 0x1234_5678)
}

/// Control registers have their initial values.
#[case(spec = "S390-DIAG 0x308", rows(modified_clear: 0, load_normal: 1))]
fn control_registers_are_initial(subcode: u64) -> Verdict {
    let mut seen = (0, 0);
    guest_lib::arch::registers::set_control::<13>(0x1234);
    reset_and_resume(subcode, || seen = (control::<13>(), control::<14>()))?;
    expect_eq!(seen, (0, 0xc200_0000))
}

/// The prefix is zero, and the clock comparator too.
#[case(spec = "S390-DIAG 0x308", rows(modified_clear: 0, load_normal: 1))]
fn prefix_and_comparator_are_zero(
    comparator: &mut guest_lib::arch::clock::Comparator,
    subcode: u64,
) -> Verdict {
    let page = Frames::new(1);
    page.write(0, u64::MAX);
    comparator.set(0x1234_5678_9abc_d000)?;
    let mut seen = Ok(1);
    reset_and_resume(subcode, || seen = comparator.get())?;
    cpu::store_prefix(page.address())?;
    expect_eq!((page.read::<u32>(0), seen), (0, Ok(0)))
}

/// The other processors are stopped.
#[case(spec = "S390-DIAG 0x308", needs("cpus>=2"), rows(modified_clear: 0, load_normal: 1))]
fn other_processors_are_stopped(subcode: u64) -> Verdict {
    cpus::start(Cpu(1))?;
    expect!(!sigp::is_stopped(smp::address(1)), "it runs before")?;
    reset_and_resume(subcode, || ())?;
    cpus::forget(Cpu(1));
    expect!(sigp::is_stopped(smp::address(1)), "stopped")?;
    expect_eq!(cpus::run_on(Cpu(1), || 42)?, 42, "and it starts again")
}

/// Odd R1 fields and misaligned blocks of set and store are refused.
#[case(spec = "S390-DIAG 0x308", rows(set: 5, store: 6))]
fn bad_block_is_refused(subcode: u64) -> Verdict {
    let page = Frames::new(1);
    let odd = registers([(3, page.address()), (4, subcode)]);
    expect_eq!(
        diagnose_fields(0x34, 0x308, odd).err(),
        Some(Fault::SPECIFICATION),
        "odd register"
    )?;
    let misaligned = diagnose(0x308, page.address() + 1, 0, subcode);
    expect_eq!(misaligned.err(), Some(Fault::SPECIFICATION), "misaligned")?;
    let beyond = diagnose(0x308, guest_lib::memory::total(), 0, subcode);
    expect_eq!(beyond.err(), Some(Fault::ADDRESSING), "beyond storage")
}

/// A set with a block that is no IPL parameter block answers with a code in the odd register.
#[case(spec = "S390-DIAG 0x308")]
fn empty_block_is_answered() -> Verdict {
    let page = Frames::new(1);
    let ran = diagnose(0x308, page.address(), 0, 5)?;
    expect_eq!(ran.registers[3], 0x0402)
}

/// The block is reached whatever the PSW key and its storage key.
#[case(spec = "S390-DIAG 0x308")]
fn keys_do_not_matter() -> Verdict {
    let page = Frames::new(1);
    skey::set(page.address(), Skey::acc(1).fetch())?;
    let ran = with_psw_key(2, || diagnose(0x308, page.address(), 0, 5));
    skey::set(page.address(), Skey::acc(0))?;
    expect_eq!(ran.map(|ran| ran.registers[3]), Ok(0x0402))
}

/// Subcodes that do not exist are refused.
#[case(spec = "S390-DIAG 0x308", rows(
    code_2: 2, code_101: 0x101, code_ffff: 0xffff, code_10001: 0x10001, all_ones: u64::MAX,
))]
fn unknown_subcode_is_refused(subcode: u64) -> Verdict {
    let page = Frames::new(1);
    let refused = diagnose(0x308, page.address(), 0, subcode);
    expect_eq!(refused.err(), Some(Fault::SPECIFICATION))
}
