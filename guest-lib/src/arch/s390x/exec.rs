//! Any instruction with any registers, executed directly, with its fault or its condition code.
//!
//! The instruction's halfwords are put into a buffer in this processor's prefix area, between an
//! optional change of the PSW key and a return. So the instruction under test touches storage
//! with the chosen key, and nothing else does: with a key that protects the stack, Rust code
//! could not run. z/Architecture promises that stores are seen by later instruction fetches.

use super::fault::{Fault, catch};
use super::lowcore::{self, offset};
use core::arch::global_asm;

/// General registers 0 to 13; 14 and 15 belong to the runtime.
pub type Registers = [u64; 14];

/// Registers with zeroes but for the named ones.
pub fn registers<const N: usize>(values: [(usize, u64); N]) -> Registers {
    let mut all = [0; 14];
    for (register, value) in values {
        all[register] = value;
    }
    all
}

/// How an instruction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The condition code.
    pub cc: u8,
    /// The registers afterwards.
    pub registers: Registers,
}

unsafe extern "C" {
    fn __assay_execute(code: u64, registers: *mut u64) -> u64;
}

global_asm!(
    ".text",
    ".globl __assay_execute",
    ".balign 8",
    "__assay_execute:",
    "stmg %r6, %r15, 48(%r15)",
    "aghi %r15, -176",
    "stg %r3, 160(%r15)",
    "lgr %r14, %r2",
    "lmg %r0, %r13, 0(%r3)",
    "basr %r14, %r14",
    "lg %r14, 160(%r15)",
    "stmg %r0, %r13, 0(%r14)",
    "ipm %r2",
    "srl %r2, 28",
    "llgcr %r2, %r2",
    "lmg %r6, %r15, 224(%r15)",
    "br %r14",
);

/// Executes `code`, one instruction or a few in a row, at most 24 bytes.
///
/// An instruction that stores can store anywhere, the runtime's own memory included.
pub fn execute(code: &[u16], registers: Registers) -> Result<Ran, Fault> {
    let key = lowcore::read64(offset::OPERAND_KEY) as u16;
    let mut buffer = [0u16; 16];
    let mut length = 0;
    let mut put = |half: u16| {
        buffer[length] = half;
        length += 1;
    };
    if key != 0 {
        put(SPKA);
        put(key << 4);
    }
    code.iter().for_each(|&half| put(half));
    if key != 0 {
        put(SPKA);
        put(0);
    }
    put(0x07fe);
    for (i, four) in buffer.chunks(4).enumerate() {
        let word = four
            .iter()
            .fold(0, |word, &half| word << 16 | u64::from(half));
        lowcore::write64(offset::CODE + 8 * i as u64, word);
    }
    catch(|| {
        let mut values = registers;
        // SAFETY: S1; the code keeps r14 and r15, because no operand field of a caller's
        // instruction is a result in them; what it stores is the caller's wish.
        let cc = unsafe { __assay_execute(offset::CODE, values.as_mut_ptr()) };
        Ran {
            cc: cc as u8,
            registers: values,
        }
    })
}

const SPKA: u16 = 0xb20a;

/// Where [`execute`] puts the first halfword, when no PSW key is chosen.
pub const CODE: u64 = offset::CODE;

/// Executes an instruction of format S: opcode and a second operand at `address` (base r2).
pub fn s_format(opcode: u16, address: u64) -> Result<u8, Fault> {
    execute(&[opcode, 0x2000], registers([(2, address)])).map(|ran| ran.cc)
}

/// As [`s_format`], with a parameter in r1.
pub fn s_format_r1(opcode: u16, r1: u64, address: u64) -> Result<u8, Fault> {
    execute(&[opcode, 0x2000], registers([(1, r1), (2, address)])).map(|ran| ran.cc)
}

/// Executes an instruction of format RRE with `r1` in r2 and `r2` in r4.
pub fn rre(opcode: u16, r1: u64, r2: u64) -> Result<Ran, Fault> {
    execute(&[opcode, 0x0024], registers([(2, r1), (4, r2)]))
}

/// Lets instructions that `work` executes through this module use PSW key `key`.
pub fn with_psw_key<T>(key: u8, work: impl FnOnce() -> T) -> T {
    let before = lowcore::read64(offset::OPERAND_KEY);
    lowcore::write64(offset::OPERAND_KEY, u64::from(key));
    let result = work();
    lowcore::write64(offset::OPERAND_KEY, before);
    result
}

/// Loads 64 bits from `address`.
pub fn load(address: u64) -> Result<u64, Fault> {
    execute(&[0xe330, 0x2000, 0x0004], registers([(2, address)])).map(|ran| ran.registers[3])
}

/// Loads a byte from `address`.
pub fn load_byte(address: u64) -> Result<u8, Fault> {
    execute(&[0xe330, 0x2000, 0x0090], registers([(2, address)])).map(|r| r.registers[3] as u8)
}

/// Stores 64 bits at `address`. Anything may lie there.
pub fn store(address: u64, value: u64) -> Result<(), Fault> {
    execute(
        &[0xe330, 0x2000, 0x0024],
        registers([(2, address), (3, value)]),
    )
    .map(|_| ())
}

/// Stores a byte at `address`. Anything may lie there.
pub fn store_byte(address: u64, value: u8) -> Result<(), Fault> {
    execute(
        &[0x4230, 0x2000],
        registers([(2, address), (3, value.into())]),
    )
    .map(|_| ())
}

/// Branches to `address` and expects to come back by a `br %r14` there.
pub fn branch_to(address: u64) -> Result<Ran, Fault> {
    // The buffer's own return is replaced: `br %r2` leaves r14 as `execute` set it.
    execute(&[0x07f2], registers([(2, address)]))
}
