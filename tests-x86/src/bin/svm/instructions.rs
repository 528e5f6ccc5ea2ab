//! Instruction intercepts. Spec: APM 2 15.9, table of instruction intercepts.
//!
//! Each has one bit in the VMCB, one exit code, and a RIP that still points at the instruction. Set,
//! the instruction exits; clear, it does what it does natively (run, or raise its own exception).
//! Intercepts are checked after the privilege check of most instructions, so the guest's #GP comes
//! first: that order is where emulations slip.

use guest_lib::arch::code::Code;
use guest_lib::arch::svm::{self, Entry, ExitCode, NestedVm, Vmcb, field, intercept, l2};
use guest_lib::arch::{cpu, registers::Cr4};
use guest_lib::prelude::*;

/// What the instruction does when it is not intercepted.
#[derive(Clone, Copy)]
enum Off {
    /// It completes.
    Completes,
    /// It raises this exception.
    Raises(u8),
    /// It must not be tried: it would stop the machine or spoil its memory.
    Untried,
}
use Off::{Completes, Raises, Untried};

struct Row {
    bit: u32,
    exit: ExitCode,
    bytes: &'static [u8],
    /// Offset and length of the intercepted instruction in `bytes`.
    at: u64,
    length: u64,
    off: Off,
    need: Option<&'static str>,
}

const fn row(bit: u32, exit: ExitCode, bytes: &'static [u8], off: Off) -> Row {
    Row {
        bit,
        exit,
        bytes,
        at: 0,
        length: bytes.len() as u64,
        off,
        need: None,
    }
}

impl Row {
    const fn at(self, at: u64, length: u64) -> Self {
        Row { at, length, ..self }
    }
    const fn needs(self, need: &'static str) -> Self {
        Row {
            need: Some(need),
            ..self
        }
    }
}

/// The intercept bit decides whether the instruction exits, with its code and its own RIP.
#[case(
    spec = "APM 2 15.9",
    needs("x86.svm"),
    rows(
        cpuid: row(intercept::CPUID, ExitCode::CPUID, &[0x0f, 0xa2], Completes),
        rdtsc: row(intercept::RDTSC, ExitCode::RDTSC, &[0x0f, 0x31], Completes),
        rdtscp: row(intercept::RDTSCP, ExitCode::RDTSCP, &[0x0f, 0x01, 0xf9], Completes).needs("x86.rdtscp"),
        rdpmc: row(intercept::RDPMC, ExitCode::RDPMC, &[0x0f, 0x33], Untried),
        pushf: row(intercept::PUSHF, ExitCode::PUSHF, &[0x9c, 0x58], Completes).at(0, 1),
        popf: row(intercept::POPF, ExitCode::POPF, &[0x6a, 0x02, 0x9d], Completes).at(2, 1),
        rsm: row(intercept::RSM, ExitCode::RSM, &[0x0f, 0xaa], Raises(6)),
        // push 10h; lea rax,[rsp+8]; push rax; push 2; push 8; lea rax,[rip+3]; push rax; iretq
        iret: row(intercept::IRET, ExitCode::IRET, &[
            0x6a, 0x10, 0x48, 0x8d, 0x44, 0x24, 8, 0x50, 0x6a, 2, 0x6a, 8, 0x48, 0x8d, 5, 3, 0, 0, 0, 0x50, 0x48, 0xcf,
        ], Completes).at(20, 2),
        invd: row(intercept::INVD, ExitCode::INVD, &[0x0f, 0x08], Untried),
        wbinvd: row(intercept::WBINVD, ExitCode::WBINVD, &[0x0f, 0x09], Completes),
        pause: row(intercept::PAUSE, ExitCode::PAUSE, &[0xf3, 0x90], Completes),
        hlt: row(intercept::HLT, ExitCode::HLT, &[0xf4], Untried),
        invlpg: row(intercept::INVLPG, ExitCode::INVLPG, &[0x0f, 0x01, 0x38], Completes),
        invlpga: row(intercept::INVLPGA, ExitCode::INVLPGA, &[0x31, 0xc9, 0x0f, 0x01, 0xdf], Completes).at(2, 3),
        icebp: row(intercept::ICEBP, ExitCode::ICEBP, &[0xf1], Raises(1)),
        vmmcall: row(intercept::VMMCALL, ExitCode::VMMCALL, &[0x0f, 0x01, 0xd9], Raises(6)),
        vmload: row(intercept::VMLOAD, ExitCode::VMLOAD, &[0x0f, 0x01, 0xda], Completes),
        vmsave: row(intercept::VMSAVE, ExitCode::VMSAVE, &[0x0f, 0x01, 0xdb], Completes),
        stgi: row(intercept::STGI, ExitCode::STGI, &[0x0f, 0x01, 0xdc], Completes),
        clgi: row(intercept::CLGI, ExitCode::CLGI, &[0x0f, 0x01, 0xdd], Completes),
        skinit: row(intercept::SKINIT, ExitCode::SKINIT, &[0x0f, 0x01, 0xde], Untried).needs("x86.skinit"),
        monitor: row(intercept::MONITOR, ExitCode::MONITOR, &[0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xc8], Completes).at(4, 3).needs("x86.monitor"),
        mwait: row(intercept::MWAIT, ExitCode::MWAIT, &[0x0f, 0x01, 0xc9], Untried).needs("x86.monitor"),
        // mov ecx,0; xgetbv; xsetbv
        xsetbv: row(intercept::XSETBV, ExitCode::XSETBV, &[0x31, 0xc9, 0x0f, 0x01, 0xd0, 0x0f, 0x01, 0xd1], Completes).at(5, 3).needs("x86.xsave"),
        sgdt: row(intercept::GDTR_READ, ExitCode::GDTR_READ, &[0x0f, 0x01, 0x44, 0x24, 0xf0], Completes),
        sidt: row(intercept::IDTR_READ, ExitCode::IDTR_READ, &[0x0f, 0x01, 0x4c, 0x24, 0xf0], Completes),
        lgdt: row(intercept::GDTR_WRITE, ExitCode::GDTR_WRITE, &[0x0f, 0x01, 0x44, 0x24, 0xf0, 0x0f, 0x01, 0x54, 0x24, 0xf0], Completes).at(5, 5),
        lidt: row(intercept::IDTR_WRITE, ExitCode::IDTR_WRITE, &[0x0f, 0x01, 0x4c, 0x24, 0xf0, 0x0f, 0x01, 0x5c, 0x24, 0xf0], Completes).at(5, 5),
        sldt: row(intercept::LDTR_READ, ExitCode::LDTR_READ, &[0x0f, 0x00, 0xc0], Completes),
        lldt: row(intercept::LDTR_WRITE, ExitCode::LDTR_WRITE, &[0x31, 0xc0, 0x0f, 0x00, 0xd0], Completes).at(2, 3),
        str: row(intercept::TR_READ, ExitCode::TR_READ, &[0x0f, 0x00, 0xc8], Completes),
        // str eax; ltr ax: the descriptor is busy, so LTR itself raises #GP.
        ltr: row(intercept::TR_WRITE, ExitCode::TR_WRITE, &[0x0f, 0x00, 0xc8, 0x0f, 0x00, 0xd8], Raises(13)).at(3, 3),
    )
)]
fn intercept(vm: &mut NestedVm, row: Row) -> Verdict {
    if let Some(need) = row.need.filter(|need| !guest_lib::arch::has(need)) {
        return skip(need);
    }
    // VMLOAD and VMSAVE find a block in RAX that changes nothing.
    let page = Vmcb::zeroed();
    svm::vmsave(page.address())?;
    if row.bit == intercept::XSETBV {
        vm.vmcb.update(field::CR4, |cr4| cr4 | Cr4::OSXSAVE.bits());
    }
    vm.vmcb.set(field::INTERCEPT_EXCEPTION, u32::MAX);

    vm.vmcb.intercept(row.bit, true);
    let start = vm.load_bytes(row.bytes);
    vm.vmcb.set(field::RAX, page.address());
    expect_eq!(vm.enter(), Entry::Exited(row.exit), "intercepted")?;
    expect_eq!(vm.rip(), start + row.at, "RIP")?;
    expect_eq!(vm.int_info() >> 31 & 1, 0, "EXITINTINFO.V")?;
    if row.bit != intercept::VMMCALL {
        expect_eq!(
            vm.resume_after(row.length).is_past_intercept(row.exit),
            true
        )?;
    }

    vm.vmcb.intercept(row.bit, false);
    let start = vm.load_bytes(row.bytes);
    vm.vmcb.set(field::RAX, page.address());
    match row.off {
        Completes => expect_eq!(vm.enter(), Entry::VMMCALL, "not intercepted"),
        Raises(vector) => {
            let entry = vm.enter();
            expect_eq!(
                entry,
                Entry::Exited(ExitCode::exception(vector)),
                "not intercepted"
            )?;
            // ICEBP is a trap, the others are faults.
            expect_eq!(
                vm.rip(),
                start + row.at + if vector == 1 { row.length } else { 0 }
            )
        }
        Untried => Ok(()),
    }
}

/// INT n exits with its intercept and runs the guest's handler without it.
#[case(spec = "APM 2 15.9 INTn", needs("x86.svm"))]
fn int_n_exits_or_reaches_the_handler(vm: &mut NestedVm) -> Verdict {
    let _handler = fault::Handler::new(0x62, |_| l2::count(0));
    let start = vm.load_bytes(&[0x90, 0xcd, 0x62]);
    vm.vmcb.intercept(intercept::INTN, true);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::INTN))?;
    expect_eq!(vm.rip(), start + 1)?;
    expect_eq!(vm.told(0), 0)?;

    vm.vmcb.intercept(intercept::INTN, false);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)
}

/// At privilege level 3 the instruction's own #GP(0) comes before its intercept.
#[case(
    spec = "APM 2 15.9",
    needs("x86.svm"),
    rows(
        hlt: (intercept::HLT, &[0xf4]),
        invd: (intercept::INVD, &[0x0f, 0x08]),
        wbinvd: (intercept::WBINVD, &[0x0f, 0x09]),
        invlpg: (intercept::INVLPG, &[0x0f, 0x01, 0x38]),
        invlpga: (intercept::INVLPGA, &[0x0f, 0x01, 0xdf]),
        lgdt: (intercept::GDTR_WRITE, &[0x0f, 0x01, 0x54, 0x24, 0xf0]),
        lldt: (intercept::LDTR_WRITE, &[0x0f, 0x00, 0xd0]),
        vmload: (intercept::VMLOAD, &[0x0f, 0x01, 0xda]),
        clgi: (intercept::CLGI, &[0x0f, 0x01, 0xdd]),
        rdmsr: (intercept::MSR, &[0x0f, 0x32]),
    )
)]
fn privilege_comes_before(vm: &mut NestedVm, row: (u32, &'static [u8])) -> Verdict {
    let code = Code::new(row.1);
    let address = code.address();
    vm.vmcb.intercept(row.0, true);
    vm.msrpm().bytes_mut().fill(0xff);
    let entry = vm.run(move || match fault::catch_user(|| cpu::call_raw(address)) {
        Err(fault) => l2::tell(
            0,
            u64::from(fault.vector) << 32 | u64::from(fault.error) | 1 << 63,
        ),
        Ok(_) => l2::tell(0, 1),
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(
        vm.told(0),
        1 << 63 | 13 << 32,
        "the guest's fault: vector and error code"
    )
}

/// CPUID, PAUSE, RDTSC, INT n and VMMCALL exit from privilege level 3 too.
#[case(
    spec = "APM 2 15.9",
    needs("x86.svm"),
    rows(
        cpuid: (intercept::CPUID, ExitCode::CPUID, &[0x0f, 0xa2]),
        pause: (intercept::PAUSE, ExitCode::PAUSE, &[0xf3, 0x90]),
        rdtsc: (intercept::RDTSC, ExitCode::RDTSC, &[0x0f, 0x31]),
        int_n: (intercept::INTN, ExitCode::INTN, &[0xcd, 0x62]),
        vmmcall: (intercept::VMMCALL, ExitCode::VMMCALL, &[0x0f, 0x01, 0xd9]),
    )
)]
fn user_mode_exits_too(vm: &mut NestedVm, row: (u32, ExitCode, &'static [u8])) -> Verdict {
    let code = Code::new(row.2);
    let address = code.address();
    vm.vmcb.intercept(row.0, true);
    let entry = vm.run(move || {
        let _ = fault::catch_user(|| cpu::call_raw(address));
    });
    expect_eq!(entry, Entry::Exited(row.1))?;
    expect_eq!(vm.rip(), address)?;
    expect_eq!(vm.vmcb.get(field::CPL), 3)
}
