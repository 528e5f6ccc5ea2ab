//! Program interruptions come back as values. Spec: SA22-7832 6 Program Interruption.
//!
//! The processor stores a code, the length of the instruction and the old PSW, and every case in
//! this project compares them. A runtime that lost one of them, or came back with registers of
//! the faulting code, would turn every later verdict into noise.

use guest_lib::arch::exec::{CODE, execute, load, registers, store};
use guest_lib::arch::fault::last;
use guest_lib::arch::registers::psw_mask;
use guest_lib::prelude::*;

/// An opcode that no instruction has.
const INVALID: u16 = 0x0000;

/// An opcode that no instruction has is an operation exception, and a defined one is none.
#[case(spec = "SA22-7832 6 Operation Exception")]
fn invalid_opcode_is_an_operation_exception() -> Verdict {
    expect_eq!(
        execute(&[0x1823], registers([(3, 42)])).map(|r| r.registers[2]),
        Ok(42)
    )?;
    expect_eq!(
        execute(&[INVALID], registers([])).err(),
        Some(Fault::OPERATION)
    )?;
    expect_eq!(
        execute(&[0x1823], registers([(3, 43)])).map(|r| r.registers[2]),
        Ok(43)
    )
}

/// A store beyond the end of storage is an addressing exception; the last doubleword is storage.
#[case(spec = "SA22-7832 6 Addressing Exception")]
fn store_beyond_storage_is_an_addressing_exception() -> Verdict {
    let end = guest_lib::memory::total();
    let last = load(end - 8)?;
    expect_eq!(store(end - 8, last ^ 1), Ok(()))?;
    expect_eq!(store(end - 8, last), Ok(()))?;
    expect_eq!(store(end, 0), Err(Fault::ADDRESSING))?;
    expect_eq!(store(u64::MAX - 7, 0), Err(Fault::ADDRESSING))
}

/// The instruction length is stored with the code, and the old PSW points behind the instruction.
#[case(spec = "SA22-7832 6 Instruction-Length Code", rows(
    two_bytes: &[0x0000],
    four_bytes: &[0x5820, 0x3000],
    six_bytes: &[0xe320, 0x3000, 0x0004],
))]
fn fault_names_its_instruction(code: &[u16]) -> Verdict {
    expect!(
        execute(code, registers([(3, !0xfff)])).is_err(),
        "the fault comes"
    )?;
    let length = 2 * code.len() as u16;
    expect_eq!(last().instruction_length, length)?;
    expect_eq!(last().psw.address, CODE + u64::from(length))
}

/// A fault inside a caught fault ends the inner closure only.
#[case(spec = "SA22-7832 6 Program Interruption")]
fn catches_nest() -> Verdict {
    let outer = fault::catch(|| {
        let inner = fault::catch(|| execute(&[INVALID], registers([])).map_err(|e| e.0));
        (inner, load(8 * 1024).is_ok())
    });
    expect_eq!(
        outer.map(|(inner, after)| (inner.is_ok(), after)),
        Ok((true, true))
    )
}

/// After a caught fault the PSW is as before: supervisor state, DAT off, key 0.
#[case(spec = "SA22-7832 6 Program Interruption")]
fn psw_is_back_after_a_fault() -> Verdict {
    let before = psw_mask() & !0x0000_3f00_0000_0000;
    let refused = fault::catch_user(|| guest_lib::arch::registers::set_control::<0>(0));
    expect_eq!(refused, Err(Fault::PRIVILEGED_OPERATION))?;
    expect_eq!(psw_mask() & !0x0000_3f00_0000_0000, before)
}

/// Values in registers and on the stack survive many faults.
#[case(spec = "SA22-7832 6 Program Interruption")]
fn thousand_faults_change_nothing() -> Verdict {
    let mut values: Vec<u64> = (0..8).collect();
    for round in 0..1000u64 {
        expect_eq!(
            execute(&[INVALID], registers([])).err(),
            Some(Fault::OPERATION)
        )?;
        values.iter_mut().for_each(|v| *v += round);
    }
    let sum: u64 = (0..1000).sum();
    expect_eq!(values, (0..8).map(|v| v + sum).collect::<Vec<_>>())
}

/// Floating-point arithmetic works with the additional registers enabled.
#[case(spec = "SA22-7832 4 Control Registers")]
fn floating_point_divides() -> Verdict {
    let (three, two) = (core::hint::black_box(3.0f64), core::hint::black_box(2.0f64));
    expect_eq!((three / two).to_bits(), 1.5f64.to_bits())
}
