//! System and floating-point registers. Spec: DDI0487 D19, B1.2.
//!
//! Most are the same in every guest for hours, so a machine that loses them goes on for a while.

use guest_lib::arch::code::Code;
use guest_lib::arch::registers::{
    CntkctlEl1, ContextidrEl1, CpacrEl1, ElrEl1, EsrEl1, FarEl1, MairEl1, SpsrEl1, TpidrEl0,
    Ttbr0El1, VbarEl1,
};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

const RET: u32 = 0xd65f_03c0;

/// How a register is read and written, and what is written.
type Row = (fn() -> u64, fn(u64), u64);

/// A system register keeps what was written to it, on every processor its own.
#[case(
    spec = "DDI0487 D19.2",
    needs("service.migrate"),
    rows(
        tpidr_el0: (TpidrEl0::read as fn() -> u64, TpidrEl0::write as fn(u64), 0x1122_3344_5566_7780),
        contextidr_el1: (ContextidrEl1::read, ContextidrEl1::write, 0x1234_5670),
        far_el1: (FarEl1::read, FarEl1::write, 0x0000_8899_aabb_ccd0),
        esr_el1: (EsrEl1::read, EsrEl1::write, 0x5600_1230),
        elr_el1: (ElrEl1::read, ElrEl1::write, 0x0000_4455_6677_8890),
        spsr_el1: (SpsrEl1::read, SpsrEl1::write, 0x6000_03c0),
        cntkctl_el1: (CntkctlEl1::read, CntkctlEl1::write, 0x300),
    )
)]
fn system_register_stays(row: Row) -> Verdict {
    let (read, write, value) = row;
    // The last processors have values of their own, as far as four bits reach.
    let own = |cpu: Cpu| value + cpu.0 as u64 % 4;
    let before = cpus::on_all(|cpu| {
        let before = read();
        write(own(cpu));
        (before, read())
    })?;
    let moved = service::ask(Request::Migrate);
    let after = cpus::on_all(|cpu| {
        let after = read();
        write(before[cpu.0].0);
        after
    })?;
    moved?;
    let written: Vec<u64> = before.iter().map(|b| b.1).collect();
    expect_eq!(after, written, "on each processor")?;
    expect_eq!(written[0], value, "control: what was written")
}

/// Translation, vectors and memory attributes stay: values that are in use all the time.
#[case(spec = "DDI0487 D19.2", needs("service.migrate"))]
fn translation_registers_stay() -> Verdict {
    let all = || {
        [
            Ttbr0El1::read(),
            MairEl1::read(),
            VbarEl1::read(),
            CpacrEl1::read(),
        ]
    };
    let mair = MairEl1::read();
    // Attribute 7 is in no page table here.
    MairEl1::write(mair & !(0xff << 56) | 0x44 << 56);
    let before = cpus::on_all(|_| all())?;
    let moved = service::ask(Request::Migrate);
    let after = cpus::on_all(|_| all())?;
    MairEl1::write(mair);
    moved?;
    expect_eq!(after, before, "TTBR0, MAIR, VBAR, CPACR of each processor")?;
    expect_eq!(after[0][1] >> 56, 0x44, "control: MAIR")
}

fn vectors(request: Request) -> Verdict {
    // LDP or STP of Q0 to Q31 at X0.
    let pairs = |opcode: u32| {
        let pair = |i: u32| opcode | 2 * i << 15 | (2 * i + 1) << 10 | 2 * i;
        let words: Vec<u32> = (0..16).map(pair).chain([RET]).collect();
        Code::new(&words)
    };
    let (load, store) = (pairs(0xad40_0000), pairs(0xad00_0000));
    // MSR FPCR, X0; MSR FPSR, X1; and back: FPCR in the low half, FPSR in the high one.
    let set = Code::new(&[0xd51b_4400, 0xd51b_4421, RET]);
    let get = Code::new(&[0xd53b_4400, 0xd53b_4421, 0xaa01_8000, RET]);
    let (from, to) = (Frames::new(1), Frames::new(1));
    for i in 0..512usize {
        from.write(i, (i * 7 + 3) as u8);
    }
    let cpacr = CpacrEl1::read();
    CpacrEl1::write(cpacr | 3 << 20);
    load.run(from.address(), 0);
    // Rounding towards zero and flush to zero; saturation and inexact.
    set.run(3 << 22 | 1 << 24, 1 << 27 | 1 << 4);
    let control = get.run(0, 0);
    let moved = service::ask(request);
    let after = get.run(0, 0);
    store.run(to.address(), 0);
    set.run(0, 0);
    CpacrEl1::write(cpacr);
    moved?;
    let wrong: Vec<usize> = (0..512)
        .filter(|&i| from.read::<u8>(i) != to.read::<u8>(i))
        .map(|i| i / 16)
        .collect();
    expect_eq!(wrong, Vec::new(), "registers with a wrong byte")?;
    expect_eq!(after, control, "FPCR and FPSR")?;
    expect_eq!(control as u32, 3 << 22 | 1 << 24, "control: FPCR")
}

/// The vector registers stay, and FPCR and FPSR.
#[case(spec = "DDI0487 B1.2", needs("service.migrate", "arm64.fp"))]
fn vector_registers_stay() -> Verdict {
    vectors(Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(spec = "DDI0487 B1.2", needs("service.save_restore", "arm64.fp"))]
fn saved_vector_registers_stay() -> Verdict {
    vectors(Request::SaveRestore)
}
