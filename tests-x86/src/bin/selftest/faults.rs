//! Faults as values. Spec: SDM 3A 6.15.
//!
//! Every other case compares the fault it gets with the fault the manual asks for, so the
//! runtime must report vector, error code and address exactly, and must survive nesting. Cases
//! about the reported address run bytes they wrote themselves: the compiler has no say there.

use guest_lib::arch::code::Code;
use guest_lib::arch::cpu;
use guest_lib::arch::registers::{Cr0, Rflags, SavedControl};
use guest_lib::prelude::*;

/// DR6 bit 14: single step.
const DR6_BS: u64 = 1 << 14;
/// An address whose upper bits do not repeat bit 47.
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

/// UD2 raises #UD at its own address, and code after it runs when it is taken away.
#[case(spec = "SDM 3A 6.15 UD2")]
fn ud2_raises_ud() -> Verdict {
    expect_eq!(fault::catch(cpu::ud2), Err(Fault::UD))?;
    expect_eq!(fault::catch(|| 7), Ok(7))?;

    let code = Code::new(&[0x90, 0x0f, 0x0b, 0xc3]);
    expect_eq!(code.call(), Err(Fault::UD))?;
    expect_eq!(fault::details().rip, code.address() + 1)
}

/// DIV by zero raises #DE at the instruction; by one it divides.
#[case(spec = "SDM 3A 6.15 DIV")]
fn division_by_zero_raises_de() -> Verdict {
    // xor edx,edx; mov eax,7; xor r8d,r8d; (inc r8d); div r8d; ret
    let zero = [
        0x31, 0xd2, 0xb8, 7, 0, 0, 0, 0x45, 0x31, 0xc0, 0x41, 0xf7, 0xf0, 0xc3,
    ];
    let one = [
        0x31, 0xd2, 0xb8, 7, 0, 0, 0, 0x45, 0x31, 0xc0, 0x41, 0xff, 0xc0, 0x41, 0xf7, 0xf0, 0xc3,
    ];
    let code = Code::new(&zero);
    expect_eq!(code.call(), Err(Fault::DE))?;
    expect_eq!(fault::details().rip, code.address() + 10)?;
    expect_eq!(Code::new(&one).call(), Ok(7))
}

/// A data access to a non-canonical address raises #GP(0).
#[case(spec = "SDM 3A 6.15 MOV")]
fn non_canonical_address_raises_gp() -> Verdict {
    expect_eq!(cpu::peek(NON_CANONICAL), Err(Fault::GP0))?;
    expect_eq!(cpu::poke(NON_CANONICAL, 1), Err(Fault::GP0))?;
    expect_eq!(cpu::peek(!NON_CANONICAL), Err(Fault::GP0))?;
    let byte = Box::new(0x5au8);
    expect_eq!(cpu::peek(&raw const *byte as u64), Ok(0x5a))
}

/// INT3 is a trap: #BP is reported with the address after it.
#[case(spec = "SDM 3A 6.15 INT3")]
fn breakpoint_is_reported_after_the_instruction() -> Verdict {
    let code = Code::new(&[0x90, 0xcc, 0xc3]);
    expect_eq!(code.call(), Err(Fault::BP))?;
    expect_eq!(fault::details().rip, code.address() + 2)
}

/// INTO raises #OF when OF is set, as a trap, and does nothing when it is clear.
#[case(spec = "SDM 3A 6.15 INTO")]
fn into_raises_of_when_the_flag_is_set() -> Verdict {
    // add al,1; into; retf
    let code = Code::new(&[0x04, 0x01, 0xce, 0xcb]);
    expect_eq!(code.call_compat(0x7f), Err(Fault::OF))?;
    expect_eq!(fault::details().rip, code.address() + 3)?;
    expect_eq!(code.call_compat(0x70), Ok(0x71))
}

/// BOUND raises #BR at itself for an index outside its bounds, and passes one inside.
#[case(spec = "SDM 3A 6.15 BOUND")]
fn bound_raises_br_outside_its_bounds() -> Verdict {
    // bound eax,[bounds]; retf; bounds 3 to 5 follow at offset 8
    let mut bytes = [0x62, 0x05, 0, 0, 0, 0, 0xcb, 0, 3, 0, 0, 0, 5, 0, 0, 0];
    let room = Code::new(&bytes);
    bytes[2..6].copy_from_slice(&(room.address() as u32 + 8).to_le_bytes());
    drop(room);
    // The allocator hands out the lowest free frame: the same one again.
    let code = Code::new(&bytes);
    expect_eq!(
        u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]),
        code.address() as u32 + 8
    )?;
    expect_eq!(code.call_compat(4), Ok(4))?;
    for index in [2, 6] {
        expect_eq!(code.call_compat(index), Err(Fault::BR))?;
        expect_eq!(fault::details().rip, code.address())?;
    }
    Ok(())
}

/// With CR0.TS set an x87 instruction raises #NM; with TS clear it runs.
#[case(spec = "SDM 3A 6.15 FNOP")]
fn task_switched_flag_raises_nm() -> Verdict {
    let _saved = SavedControl::new();
    let fnop = Code::new(&[0xd9, 0xd0, 0xc3]);
    let cr0 = Cr0::read() - (Cr0::TS | Cr0::EM);
    (cr0 | Cr0::TS).write()?;
    expect_eq!(fnop.call(), Err(Fault::NM))?;
    expect_eq!(fault::details().rip, fnop.address())?;
    cr0.write()?;
    expect_eq!(fnop.call().is_ok(), true)
}

/// RFLAGS.TF raises #DB after the next instruction and sets DR6.BS; the handler runs without TF.
#[case(spec = "SDM 3A 6.15 POPF")]
fn trap_flag_raises_db_after_one_instruction() -> Verdict {
    cpu::write_dr6(0xffff_0ff0)?;
    // pushfq; or dword [rsp],100h; popfq; nop; nop; ret
    let code = Code::new(&[0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90, 0xc3]);
    expect_eq!(code.call(), Err(Fault::DB))?;
    expect_eq!(fault::details().rip, code.address() + 10)?;
    expect_eq!(fault::details().rflags & Rflags::TF.bits(), 0x100)?;
    expect_eq!(cpu::read_dr6() & (DR6_BS | 0xf), DR6_BS)?;
    expect_eq!(cpu::rflags() & Rflags::TF.bits(), 0)
}

/// A data breakpoint in DR0 raises #DB after the write it watches, and not after another one.
#[case(spec = "SDM 3A 6.15 DR7")]
fn write_breakpoint_raises_db_and_sets_dr6() -> Verdict {
    let watched = Box::new([0u64; 2]);
    let address = &raw const *watched as u64;
    cpu::write_dr6(0xffff_0ff0)?;
    cpu::write_dr0(address)?;
    // L0, LE; write, 1 byte.
    cpu::write_dr7(1 << 16 | 0x400 | 0x101)?;
    let other = cpu::poke(address + 8, 1);
    let hit = cpu::poke(address, 1);
    let dr6 = cpu::read_dr6();
    cpu::write_dr7(0x400)?;
    cpu::write_dr6(0xffff_0ff0)?;
    expect_eq!(other, Ok(()))?;
    expect_eq!(hit, Err(Fault::DB))?;
    expect_eq!(dr6 & 0xf, 1)
}

/// A caught fault inside a caught closure leaves the outer one intact, at any depth.
#[case(spec = "SDM 3A 6.15 UD2")]
fn catches_nest() -> Verdict {
    fn deep(levels: u32) -> Result<u32, Fault> {
        fault::catch(|| {
            if levels == 0 {
                cpu::ud2();
            }
            match deep(levels - 1) {
                Err(Fault::UD) => levels,
                Ok(below) => levels + below,
                Err(_) => 0,
            }
        })
    }
    expect_eq!(deep(20), Ok((1..=20).sum()))?;
    expect_eq!(deep(0), Err(Fault::UD))?;
    // An inner fault, then an outer one of another kind.
    let outer = fault::catch(|| {
        let inner = fault::catch(cpu::ud2);
        let address = if inner == Err(Fault::UD) {
            NON_CANONICAL
        } else {
            0x1000
        };
        cpu::peek(address).map_err(|f| f == Fault::GP0)
    });
    expect_eq!(outer, Ok(Err(true)))
}

/// Callee-saved registers, the flags and the stack are as before after a caught fault.
#[case(spec = "SDM 3A 6.15 UD2")]
fn a_caught_fault_restores_stack_and_flags() -> Verdict {
    let (stack, flags) = (cpu::stack_pointer(), cpu::rflags());
    for _ in 0..1000 {
        // std; cli; push rax; ud2: leaves the stack and DF in disorder.
        let code = fault::catch(|| {
            cpu::set_rflags(cpu::rflags() | Rflags::DF.bits() | Rflags::AC.bits());
            cpu::ud2();
        });
        expect_eq!(code, Err(Fault::UD))?;
    }
    expect_eq!(cpu::stack_pointer(), stack)?;
    let kept = (Rflags::DF | Rflags::AC | Rflags::IF | Rflags::TF).bits();
    expect_eq!(cpu::rflags() & kept, flags & kept)
}
