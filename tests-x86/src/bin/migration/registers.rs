//! Registers beyond the general ones. Spec: SDM 3A 2.
//!
//! Most are the same in every guest for hours, so a machine that loses them goes on for a while.

use guest_lib::arch::code::Code;
use guest_lib::arch::registers::Cr4;
use guest_lib::arch::{cpu, msr, segments};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

/// Model-specific registers keep what was written to them, on every processor its own.
#[case(
    spec = "SDM 3A 2.7",
    needs("service.migrate"),
    rows(
        star: (msr::STAR, 0x0013_0008_0000_0000, 1 << 48),
        lstar: (msr::LSTAR, 0x0000_1234_5678_9abc, 0x10),
        cstar: (msr::CSTAR, 0x0000_0fed_cba9_8765, 0x10),
        sfmask: (msr::SFMASK, 0x4_7702, 0x10),
        sysenter_cs: (msr::SYSENTER_CS, 0x1238, 8),
        sysenter_esp: (msr::SYSENTER_ESP, 0x0000_5a5a_a5a5_5a50, 0x10),
        sysenter_eip: (msr::SYSENTER_EIP, 0x0000_3c3c_c3c3_3c30, 0x10),
        pat: (msr::PAT, 0x0007_0406_0107_0406, 1 << 32),
        tsc_aux: (msr::TSC_AUX, 0x1357_9bd0, 1),
        fs_base: (msr::FS_BASE, 0x0000_1111_2222_3330, 0x10),
        gs_base: (msr::GS_BASE, 0x0000_2222_3333_4440, 0x10),
        kernel_gs_base: (msr::KERNEL_GS_BASE, 0x0000_3333_4444_5550, 0x10),
    )
)]
fn model_specific_register_stays(row: (u32, u64, u64)) -> Verdict {
    let (number, value, step) = row;
    if number == msr::TSC_AUX && !guest_lib::arch::has("x86.rdtscp") {
        return case::skip("x86.rdtscp");
    }
    let own = |cpu: Cpu| value + step * cpu.0 as u64;
    let before = cpus::on_all(|cpu| {
        let before = msr::read(number);
        let written = msr::write(number, own(cpu));
        (before, written)
    })?;
    for (read, written) in &before {
        (*read)?;
        (*written)?;
    }
    let moved = service::ask(Request::Migrate);
    let after = cpus::on_all(|cpu| {
        let after = msr::read(number);
        if let Ok(old) = before[cpu.0].0 {
            // It was in force before; what it is now is what counts.
            let _ = msr::write(number, old);
        }
        after
    })?;
    moved?;
    let expected: Vec<_> = cpus::all().map(|cpu| Ok(own(cpu))).collect();
    expect_eq!(after, expected, "on each processor")
}

/// EFER and the control registers keep their bits, CR2 its address.
#[case(spec = "SDM 3A 2.5", needs("service.migrate"))]
fn control_registers_stay() -> Verdict {
    let cr4 = Cr4::read();
    let efer = msr::read(msr::EFER)?;
    // TSD and DE have no effect on this code; SCE none without SYSCALL.
    (cr4 | Cr4::TSD | Cr4::DE).write()?;
    msr::write(msr::EFER, efer ^ 1)?;
    cpu::write_cr2(0x0000_1234_5678_9000)?;
    let all = || {
        let efer = msr::read(msr::EFER);
        let cr2 = cpu::read_cr2();
        (cpu::read_cr0(), cr2, cpu::read_cr3(), cpu::read_cr4(), efer)
    };
    let set = all();
    let moved = service::ask(Request::Migrate);
    let after = all();
    cr4.write()?;
    msr::write(msr::EFER, efer)?;
    moved?;
    expect_eq!(after, set, "CR0, CR2, CR3, CR4, EFER")?;
    expect_eq!(after.1, 0x0000_1234_5678_9000, "control: CR2")
}

/// The descriptor-table registers stay, and the task register.
#[case(spec = "SDM 3A 2.4", needs("service.migrate"))]
fn table_registers_stay() -> Verdict {
    let all = || {
        (
            segments::gdtr(),
            segments::idtr(),
            segments::ldtr(),
            cpus::this(),
        )
    };
    let before = format!("{:x?}", all());
    service::ask(Request::Migrate)?;
    expect_eq!(format!("{:x?}", all()), before)
}

fn debug_registers(request: Request) -> Verdict {
    let data = Frames::new(1);
    let armed = [
        data.address(),
        data.address() + 0x40,
        0x1234_5000,
        0x8765_4000,
    ];
    cpu::write_dr0(armed[0])?;
    cpu::write_dr1(armed[1])?;
    cpu::write_dr2(armed[2])?;
    cpu::write_dr3(armed[3])?;
    // DR1: data writes of eight bytes, global. The others off.
    let dr7 = 0x0090_0400 | 1 << 3;
    cpu::write_dr7(dr7)?;
    let all = || {
        let addresses = [
            cpu::read_dr0(),
            cpu::read_dr1(),
            cpu::read_dr2(),
            cpu::read_dr3(),
        ];
        (addresses, cpu::read_dr7())
    };
    let set = all();
    let moved = service::ask(request);
    let after = all();
    let silent = cpu::poke(armed[0], 1);
    cpu::write_dr6(0xffff_0ff0)?;
    let hit = cpu::poke(armed[1], 2);
    let dr6 = cpu::read_dr6();
    cpu::write_dr7(0x400)?;
    cpu::write_dr6(0xffff_0ff0)?;
    moved?;
    expect_eq!(after, set, "DR0 to DR3, DR7")?;
    expect_eq!(
        silent,
        Ok(()),
        "a store to the address of a breakpoint that is off"
    )?;
    expect_eq!(
        hit,
        Err(Fault::DB),
        "a store to the address of one that is on"
    )?;
    expect_eq!(dr6 & 0xf, 2, "DR6")?;
    expect_eq!(data.read::<u8>(0x40), 2, "the store itself")
}

/// Debug registers stay, and a breakpoint that was armed before the move hits after it.
#[case(spec = "SDM 3B 18.2", needs("service.migrate"))]
fn armed_breakpoint_hits() -> Verdict {
    debug_registers(Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(spec = "SDM 3B 18.2", needs("service.save_restore"))]
fn saved_breakpoint_hits() -> Verdict {
    debug_registers(Request::SaveRestore)
}

/// FXRSTOR64 [rdi] and FXSAVE64 [rdi].
const FXRSTOR: [u8; 4] = [0x48, 0x0f, 0xae, 0x0f];
const FXSAVE: [u8; 4] = [0x48, 0x0f, 0xae, 0x07];

fn floating_point(request: Request) -> Verdict {
    let (restore, save) = (Code::new(&FXRSTOR), Code::new(&FXSAVE));
    let (old, set, after) = (Frames::new(1), Frames::new(1), Frames::new(1));
    save.run(old.address(), 0)?;
    for i in 0..512usize {
        set.write(i, old.read::<u8>(i));
    }
    // Control word with another rounding and precision, status word with TOP = 3, MXCSR with
    // flags and rounding up; then eight 80-bit registers and sixteen of 128 bits.
    set.write(0, 0x0b7fu16);
    set.write(2, 0x1800u16);
    set.write(4, 0xffu8);
    set.write(24, 0x5fbfu32);
    for register in 0..8usize {
        set.write(
            32 + 16 * register,
            0x8123_4567_89ab_cd00u64 + register as u64,
        );
        set.write(40 + 16 * register, 0x3fffu16 + register as u16);
    }
    for byte in 160..416usize {
        set.write(byte, (byte * 7 + 3) as u8);
    }
    restore.run(set.address(), 0)?;
    let moved = service::ask(request);
    save.run(after.address(), 0)?;
    restore.run(old.address(), 0)?;
    moved?;
    let differs = |i: &usize| after.read::<u8>(*i) != set.read::<u8>(*i);
    // Bytes 5 to 23 are the instruction's and operand's address; 28 to 31 the mask of MXCSR.
    let checked = (0..5)
        .chain(24..28)
        .chain((32..160).filter(|i| i % 16 < 10))
        .chain(160..416);
    let wrong: Vec<usize> = checked.filter(differs).collect();
    expect_eq!(wrong, Vec::new(), "bytes of the FXSAVE area that changed")
}

/// x87 and SSE registers, with control and status words, stay.
#[case(spec = "SDM 1 10.5", needs("service.migrate"))]
fn floating_point_state_stays() -> Verdict {
    floating_point(Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(spec = "SDM 1 10.5", needs("service.save_restore"))]
fn saved_floating_point_state_stays() -> Verdict {
    floating_point(Request::SaveRestore)
}

/// The upper halves of the AVX registers stay, and XCR0.
#[case(spec = "SDM 1 13.2", needs("service.migrate", "x86.xsave"))]
fn avx_state_stays() -> Verdict {
    let cr4 = Cr4::read();
    (cr4 | Cr4::OSXSAVE).write()?;
    // xor ecx, ecx; xgetbv; and with xor edx, edx; mov eax, edi: xsetbv.
    let get = Code::new(&[0x31, 0xc9, 0x0f, 0x01, 0xd0]);
    let set = Code::new(&[0x31, 0xc9, 0x31, 0xd2, 0x89, 0xf8, 0x0f, 0x01, 0xd1]);
    let old = get.run(0, 0)? & 0xffff_ffff;
    if set.run(7, 0).is_err() {
        cr4.write()?;
        return skip("x86.xsave");
    }
    // vmovdqu ymm0, [rdi]; vmovdqu ymm15, [rdi + 32]; and back.
    let load = Code::new(&[0xc5, 0xfe, 0x6f, 0x07, 0xc5, 0x7e, 0x6f, 0x7f, 0x20]);
    let store = Code::new(&[0xc5, 0xfe, 0x7f, 0x07, 0xc5, 0x7e, 0x7f, 0x7f, 0x20]);
    let (from, to) = (Frames::new(1), Frames::new(1));
    for i in 0..64usize {
        from.write(i, (i * 5 + 9) as u8);
    }
    let loaded = load.run(from.address(), 0);
    let moved = service::ask(Request::Migrate);
    let xcr0 = get.run(0, 0);
    let stored = store.run(to.address(), 0);
    set.run(old, 0)?;
    cr4.write()?;
    loaded?;
    moved?;
    stored?;
    expect_eq!(xcr0? & 0xffff_ffff, 7, "XCR0")?;
    let word = |f: &Frames, i: usize| f.read::<u64>(8 * i);
    let found: Vec<u64> = (0..8).map(|i| word(&to, i)).collect();
    let expected: Vec<u64> = (0..8).map(|i| word(&from, i)).collect();
    expect_eq!(found, expected, "YMM0 and YMM15")
}

/// Code that was changed before the move runs as changed after it, and can be changed again.
#[case(spec = "SDM 3A 8.1.3", needs("service.migrate"))]
fn changed_code_runs_as_changed() -> Verdict {
    // mov eax, 1
    let code = Code::new(&[0xb8, 1, 0, 0, 0]);
    expect_eq!(code.run(0, 0), Ok(1))?;
    code.frames().write(1, 2u8);
    service::ask(Request::Migrate)?;
    expect_eq!(code.run(0, 0), Ok(2), "after the move")?;
    code.frames().write(1, 3u8);
    expect_eq!(code.run(0, 0), Ok(3), "changed after the move")
}
