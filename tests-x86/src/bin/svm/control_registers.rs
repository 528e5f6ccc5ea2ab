//! Intercepts of control and debug registers. Spec: APM 2 15.8.1, 15.9.
//!
//! One bit per register and direction, and for CR0 a third one that looks at what changes. An
//! intercept fires before the register changes, with RIP at the instruction; it comes after the
//! instruction's own privilege check.

use guest_lib::arch::code::Code;
use guest_lib::arch::cpu;
use guest_lib::arch::registers::Cr0;
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, field, intercept, l2};
use guest_lib::prelude::*;

/// MOV RAX, CRn and MOV CRn, RAX.
fn mov_from(n: u8) -> Vec<u8> {
    let rex: &[u8] = if n >= 8 { &[0x44] } else { &[] };
    [rex, &[0x0f, 0x20, 0xc0 | (n & 7) << 3]].concat()
}
fn mov_to(n: u8) -> Vec<u8> {
    let rex: &[u8] = if n >= 8 { &[0x44] } else { &[] };
    [rex, &[0x0f, 0x22, 0xc0 | (n & 7) << 3]].concat()
}

/// A read of the control register exits with its bit set, before RAX changes, and completes with it clear.
#[case(spec = "APM 2 15.9 MOV from CR", needs("x86.svm"), rows(cr0: 0, cr2: 2, cr3: 3, cr4: 4, cr8: 8))]
fn read(vm: &mut NestedVm, n: u8) -> Verdict {
    let bytes = mov_from(n);
    let start = vm.load_bytes(&bytes);
    expect_eq!(vm.enter(), Entry::VMMCALL, "not intercepted")?;
    let value = vm.vmcb.get(field::RAX);

    vm.load_address(start);
    vm.vmcb.set(field::RAX, !value);
    vm.vmcb.set(field::INTERCEPT_CR_READ, 1 << n);
    expect_eq!(
        vm.enter(),
        Entry::Exited(ExitCode::cr_read(u64::from(n))),
        "intercepted"
    )?;
    expect_eq!(vm.rip(), start)?;
    expect_eq!(vm.vmcb.get(field::RAX), !value, "RAX after the exit")?;

    vm.vmcb.set(field::INTERCEPT_CR_READ, !(1 << n));
    expect_eq!(vm.enter(), Entry::VMMCALL, "all others intercepted")?;
    expect_eq!(vm.vmcb.get(field::RAX), value)
}

/// A write of the control register exits with its bit set, and completes with it clear.
#[case(spec = "APM 2 15.9 MOV to CR", needs("x86.svm"), rows(cr0: 0, cr2: 2, cr3: 3, cr4: 4, cr8: 8))]
fn write(vm: &mut NestedVm, n: u8) -> Verdict {
    let bytes = [mov_from(n), mov_to(n)].concat();
    let half = bytes.len() as u64 / 2;
    let start = vm.load_bytes(&bytes);
    vm.vmcb.set(field::INTERCEPT_CR_WRITE, 1 << n);
    expect_eq!(
        vm.enter(),
        Entry::Exited(ExitCode::cr_write(u64::from(n))),
        "intercepted"
    )?;
    expect_eq!(vm.rip(), start + half)?;
    vm.vmcb.set(field::INTERCEPT_CR_WRITE, !(1 << n));
    expect_eq!(vm.enter(), Entry::VMMCALL, "all others intercepted")
}

/// An intercepted write leaves the register as it was.
#[case(spec = "APM 2 15.9 MOV to CR", needs("x86.svm"))]
fn intercepted_write_changes_nothing(vm: &mut NestedVm) -> Verdict {
    let cr0 = vm.vmcb.get(field::CR0);
    vm.load_bytes(&mov_to(0));
    vm.vmcb.set(field::RAX, cr0 ^ Cr0::TS.bits());
    vm.vmcb.set(field::INTERCEPT_CR_WRITE, 1);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::cr_write(0)))?;
    expect_eq!(vm.vmcb.get(field::CR0), cr0)?;
    vm.vmcb.set(field::INTERCEPT_CR_WRITE, 0);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.vmcb.get(field::CR0), cr0 ^ Cr0::TS.bits())
}

/// SMSW reads CR0, LMSW and CLTS write it, as far as intercepts go.
#[case(
    spec = "APM 2 15.9",
    needs("x86.svm"),
    rows(
        smsw: (field::INTERCEPT_CR_READ, ExitCode::cr_read(0), &[0x0f, 0x01, 0xe0]),
        lmsw: (field::INTERCEPT_CR_WRITE, ExitCode::cr_write(0), &[0x0f, 0x01, 0xf0]),
        clts: (field::INTERCEPT_CR_WRITE, ExitCode::cr_write(0), &[0x0f, 0x06]),
    )
)]
fn short_forms(
    vm: &mut NestedVm,
    row: (guest_lib::arch::svm::Field<u16>, ExitCode, &'static [u8]),
) -> Verdict {
    let start = vm.load_bytes(row.2);
    vm.vmcb.set(field::RAX, 1);
    vm.vmcb.set(row.0, 1);
    expect_eq!(vm.enter(), Entry::Exited(row.1), "intercepted")?;
    expect_eq!(vm.rip(), start)?;
    vm.vmcb.set(row.0, !1);
    expect_eq!(vm.enter(), Entry::VMMCALL, "not intercepted")
}

/// Runs MOV to CR0 with these bits toggled, under the selective intercept.
fn toggle_cr0(vm: &mut NestedVm, bits: Cr0) -> Entry {
    let cr0 = vm.vmcb.get(field::CR0);
    vm.load_bytes(&mov_to(0));
    vm.vmcb.set(field::RAX, cr0 ^ bits.bits());
    let entry = vm.enter();
    vm.vmcb.set(field::CR0, cr0);
    entry
}

/// The selective CR0 intercept fires when a bit other than TS and MP changes, and only then.
#[case(spec = "APM 2 15.9 CR0", needs("x86.svm"))]
fn selective_cr0_write_looks_at_what_changes(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::CR0_SELECTIVE, true);
    for quiet in [Cr0::empty(), Cr0::TS, Cr0::MP, Cr0::TS | Cr0::MP] {
        expect_eq!(toggle_cr0(vm, quiet), Entry::VMMCALL, "{quiet:?}")?;
    }
    for loud in [Cr0::WP, Cr0::AM, Cr0::CD, Cr0::WP | Cr0::TS] {
        expect_eq!(
            toggle_cr0(vm, loud),
            Entry::Exited(ExitCode::CR0_SELECTIVE),
            "{loud:?}"
        )?;
    }
    vm.vmcb.intercept(intercept::CR0_SELECTIVE, false);
    expect_eq!(toggle_cr0(vm, Cr0::WP), Entry::VMMCALL)
}

/// The plain CR0 write intercept comes before the selective one.
#[case(spec = "APM 2 15.9 CR0", needs("x86.svm"))]
fn plain_cr0_write_comes_before_selective(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::CR0_SELECTIVE, true);
    expect_eq!(
        toggle_cr0(vm, Cr0::WP),
        Entry::Exited(ExitCode::CR0_SELECTIVE)
    )?;
    vm.vmcb.set(field::INTERCEPT_CR_WRITE, 1);
    expect_eq!(
        toggle_cr0(vm, Cr0::WP),
        Entry::Exited(ExitCode::cr_write(0))
    )?;
    expect_eq!(
        toggle_cr0(vm, Cr0::TS),
        Entry::Exited(ExitCode::cr_write(0))
    )
}

/// LMSW meets the selective intercept whatever it changes; CLTS changes TS only and does not.
#[case(spec = "APM 2 15.9 LMSW", needs("x86.svm"))]
fn lmsw_always_meets_the_selective_intercept(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::CR0_SELECTIVE, true);
    vm.load_bytes(&[0x0f, 0x06]);
    expect_eq!(vm.enter(), Entry::VMMCALL, "CLTS")?;
    vm.load_bytes(&[0x0f, 0x01, 0xf0]);
    let cr0 = vm.vmcb.get(field::CR0);
    vm.vmcb.set(field::RAX, (cr0 & 0xf) ^ Cr0::MP.bits());
    expect_eq!(
        vm.enter(),
        Entry::Exited(ExitCode::CR0_SELECTIVE),
        "LMSW that toggles MP"
    )
}

/// Every debug register has an intercept of its own for reads.
#[case(spec = "APM 2 15.9 MOV from DR", needs("x86.svm"))]
fn debug_register_reads(vm: &mut NestedVm) -> Verdict {
    for n in 0..8u8 {
        let start = vm.load_bytes(&[0x0f, 0x21, 0xc0 | n << 3]);
        vm.vmcb.set(field::INTERCEPT_DR_READ, 1 << n);
        vm.vmcb.set(field::INTERCEPT_DR_WRITE, !0);
        let expected = Entry::Exited(ExitCode::dr_read(u64::from(n)));
        expect_eq!(vm.enter(), expected, "DR{n}, intercepted")?;
        expect_eq!(vm.rip(), start)?;
        // DR4 and DR5 are DR6 and DR7 by another name, and may share their intercepts.
        if !matches!(n, 4 | 5) {
            vm.vmcb.set(field::INTERCEPT_DR_READ, !(1 << n));
            expect_eq!(vm.enter(), Entry::VMMCALL, "DR{n}, all others intercepted")?;
        }
    }
    Ok(())
}

/// Every debug register has an intercept of its own for writes, which then do not happen.
#[case(spec = "APM 2 15.9 MOV to DR", needs("x86.svm"))]
fn debug_register_writes(vm: &mut NestedVm) -> Verdict {
    for n in 0..8u8 {
        let start = vm.load_bytes(&[0x0f, 0x21, 0xc0 | n << 3, 0x0f, 0x23, 0xc0 | n << 3]);
        vm.vmcb.set(field::INTERCEPT_DR_WRITE, 1 << n);
        let expected = Entry::Exited(ExitCode::dr_write(u64::from(n)));
        expect_eq!(vm.enter(), expected, "DR{n}, intercepted")?;
        expect_eq!(vm.rip(), start + 3)?;
        if !matches!(n, 4 | 5) {
            vm.vmcb.set(field::INTERCEPT_DR_WRITE, !(1 << n));
            expect_eq!(vm.enter(), Entry::VMMCALL, "DR{n}, all others intercepted")?;
        }
    }
    Ok(())
}

/// At privilege level 3 the #GP(0) of MOV CR and MOV DR comes before the intercept.
#[case(
    spec = "APM 2 15.9",
    needs("x86.svm"),
    rows(
        mov_from_cr0: &[0x0f, 0x20, 0xc0],
        mov_to_cr3: &[0x0f, 0x22, 0xd8],
        mov_from_dr0: &[0x0f, 0x21, 0xc0],
        clts: &[0x0f, 0x06],
    )
)]
fn privilege_comes_before(vm: &mut NestedVm, bytes: &'static [u8]) -> Verdict {
    let code = Code::new(bytes);
    let address = code.address();
    for intercepts in [
        field::INTERCEPT_CR_READ,
        field::INTERCEPT_CR_WRITE,
        field::INTERCEPT_DR_READ,
        field::INTERCEPT_DR_WRITE,
    ] {
        vm.vmcb.set(intercepts, !0);
    }
    // CR3 is switched on the way to level 3 and back, and read by `catch`.
    vm.vmcb.set(
        field::INTERCEPT_CR_WRITE,
        if bytes[1] == 0x22 { 0 } else { 1 },
    );
    vm.vmcb.set(field::INTERCEPT_CR_READ, 1);
    let entry = vm.run(move || {
        let result = fault::catch_user(|| cpu::call_raw(address));
        l2::tell(0, 1 + u64::from(result == Err(Fault::GP0)));
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 2)
}
