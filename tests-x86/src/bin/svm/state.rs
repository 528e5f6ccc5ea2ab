//! What VMRUN and #VMEXIT switch, and what VMLOAD and VMSAVE move. Spec: APM 2 15.5, 15.6.
//!
//! A hypervisor that nests keeps two VMCBs apart; state of one that shows up in the other is the
//! classic mistake. Here the guest changes everything it can, and the host looks at both sides.

use guest_lib::arch::registers::{Cr0, Cr4, Efer, Rflags};
use guest_lib::arch::svm::{self, Entry, Gprs, NestedVm, Segment, Vmcb, field, l2};
use guest_lib::arch::{cpu, cpuid, msr, segments};
use guest_lib::prelude::*;

/// All general registers go in and come out as they are.
#[case(spec = "APM 2 15.5.1 VMRUN", needs("x86.svm"))]
fn general_registers_pass_through(vm: &mut NestedVm) -> Verdict {
    // xchg rax,rbx; inc rcx; not r15
    vm.load_bytes(&[0x48, 0x93, 0x48, 0xff, 0xc1, 0x49, 0xf7, 0xd7]);
    let set = Gprs {
        rbx: 0x0101,
        rcx: 0x0202,
        rdx: 0x0303,
        rsi: 0x0404,
        rdi: 0x0505,
        rbp: 0x0606,
        r8: 0x0808,
        r9: 0x0909,
        r10: 0x1010,
        r11: 0x1111,
        r12: 0x1212,
        r13: 0x1313,
        r14: 0x1414,
        r15: 0x1515,
    };
    vm.gprs = set;
    vm.vmcb.set(field::RAX, 0xaaaa_bbbb_cccc_dddd);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    let expected = Gprs {
        rbx: 0xaaaa_bbbb_cccc_dddd,
        rcx: 0x0203,
        r15: !0x1515,
        ..set
    };
    expect_eq!(vm.gprs, expected)?;
    expect_eq!(vm.vmcb.get(field::RAX), 0x0101)
}

/// What the guest writes to its control registers stands in the VMCB after the exit, and the host's are its own.
#[case(spec = "APM 2 15.6", needs("x86.svm"))]
fn control_registers_are_saved_and_apart(vm: &mut NestedVm) -> Verdict {
    let host = [
        cpu::read_cr0(),
        cpu::read_cr3(),
        cpu::read_cr4(),
        Efer::read().bits(),
    ];
    vm.vmcb.update(field::CR0, |cr0| cr0 & !Cr0::TS.bits());
    let entry = vm.run(|| {
        let done = (Cr0::read() | Cr0::TS | Cr0::AM).write().is_ok()
            && (Cr4::read() | Cr4::PGE | Cr4::DE).write().is_ok()
            && (Efer::read() | Efer::SCE).write().is_ok()
            && cpu::write_cr2(0x1234_5000).is_ok()
            && cpu::write_dr6(0xffff_0ff1).is_ok()
            && cpu::write_dr7(0x702).is_ok();
        l2::tell(0, u64::from(done));
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)?;
    expect_eq!(
        vm.vmcb.get(field::CR0),
        host[0] | (Cr0::TS | Cr0::AM).bits(),
        "CR0"
    )?;
    expect_eq!(
        vm.vmcb.get(field::CR4),
        host[2] | (Cr4::PGE | Cr4::DE).bits(),
        "CR4"
    )?;
    expect_eq!(vm.vmcb.get(field::EFER), host[3] | Efer::SCE.bits(), "EFER")?;
    expect_eq!(vm.vmcb.get(field::CR3), host[1], "CR3")?;
    expect_eq!(vm.vmcb.get(field::CR2), 0x1234_5000, "CR2")?;
    expect_eq!(vm.vmcb.get(field::DR6), 0xffff_0ff1, "DR6")?;
    expect_eq!(vm.vmcb.get(field::DR7), 0x702, "DR7")?;
    let after = [
        cpu::read_cr0(),
        cpu::read_cr3(),
        cpu::read_cr4(),
        Efer::read().bits(),
    ];
    expect_eq!(after, host, "the host's CR0, CR3, CR4, EFER")
}

/// The guest runs with the VMCB's values: it reads them back.
#[case(spec = "APM 2 15.5.1 VMRUN", needs("x86.svm"))]
fn guest_reads_the_vmcbs_values(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.update(field::CR0, |cr0| cr0 | Cr0::TS.bits());
    vm.vmcb.update(field::CR4, |cr4| cr4 | Cr4::PGE.bits());
    vm.vmcb.update(field::EFER, |efer| efer | Efer::SCE.bits());
    vm.vmcb.set(field::CR2, 0xabcd_0000);
    vm.vmcb.set(field::DR7, 0x703);
    vm.vmcb.set(field::DR6, 0xffff_0ff2);
    vm.vmcb.set(field::STAR, 0x0012_0034_0000_0000);
    vm.vmcb.set(field::SYSENTER_EIP, 0x77_0000);
    vm.vmcb.set(field::KERNEL_GS_BASE, 0x66_0000);
    vm.vmcb.set(Segment::GDTR.limit(), 0x1ff);
    let want = [
        vm.vmcb.get(field::CR0),
        vm.vmcb.get(field::CR4),
        vm.vmcb.get(field::EFER),
        0xabcd_0000,
        0x703,
        0xffff_0ff2,
        0x0012_0034_0000_0000,
        0x77_0000,
        0x66_0000,
        0x1ff,
    ];
    let entry = vm.run(|| {
        let read = |number| msr::read(number).unwrap_or(u64::MAX);
        let got = [
            cpu::read_cr0(),
            cpu::read_cr4(),
            Efer::read().bits(),
            cpu::read_cr2(),
            cpu::read_dr7(),
            cpu::read_dr6(),
            read(msr::STAR),
            read(msr::SYSENTER_EIP),
            read(msr::KERNEL_GS_BASE),
            u64::from(segments::gdtr().limit),
        ];
        for (slot, value) in got.into_iter().enumerate() {
            l2::tell(slot, value);
        }
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    for (slot, value) in want.into_iter().enumerate() {
        expect_eq!(
            vm.told(slot),
            value,
            "value {slot} of CR0 CR4 EFER CR2 DR7 DR6 STAR EIP GS GDTR"
        )?;
    }
    Ok(())
}

/// The host's descriptor tables, segments and system-call registers are as before the entry.
#[case(spec = "APM 2 15.6", needs("x86.svm"))]
fn host_tables_and_msrs_come_back(vm: &mut NestedVm) -> Verdict {
    let look = || {
        let msrs = [
            msr::STAR,
            msr::LSTAR,
            msr::CSTAR,
            msr::SFMASK,
            msr::SYSENTER_EIP,
            msr::FS_BASE,
            msr::KERNEL_GS_BASE,
        ];
        (
            segments::gdtr(),
            segments::idtr(),
            msrs.map(|number| msr::read(number).unwrap_or(0)),
        )
    };
    let before = look();
    vm.vmcb.set(Segment::GDTR.limit(), 0x3ff);
    vm.vmcb.set(field::LSTAR, 0x4444);
    let entry = vm.run(|| {
        let done = [
            msr::STAR,
            msr::CSTAR,
            msr::FS_BASE,
            msr::KERNEL_GS_BASE,
            msr::SYSENTER_EIP,
        ]
        .iter()
        .all(|&number| msr::write(number, 0x5550).is_ok());
        l2::tell(0, u64::from(done));
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)?;
    expect_eq!(look(), before)?;
    expect_eq!(vm.vmcb.get(field::CSTAR), 0x5550)?;
    expect_eq!(vm.vmcb.get(Segment::FS.base()), 0x5550)
}

/// An exit disables the host's breakpoints in DR7; DR0 to DR3 are not switched at all.
#[case(spec = "APM 2 15.6 DR7", needs("x86.svm"))]
fn exit_disables_breakpoints(vm: &mut NestedVm) -> Verdict {
    cpu::write_dr1(0x1111_0000)?;
    // A breakpoint on a write of a byte that nothing writes.
    cpu::write_dr7(0x400 | 1 << 2 | 1 << 20)?;
    let entry = vm.run(|| {
        l2::tell(0, cpu::read_dr1());
        l2::tell(1, u64::from(cpu::write_dr2(0x2222_0000).is_ok()));
    });
    let (dr7, dr2) = (cpu::read_dr7(), cpu::read_dr2());
    cpu::write_dr7(0x400)?;
    cpu::write_dr1(0)?;
    cpu::write_dr2(0)?;
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 0x1111_0000, "DR1 in the guest")?;
    expect_eq!(dr2, 0x2222_0000, "DR2 in the host")?;
    expect_eq!(dr7, 0x400, "DR7 in the host")
}

/// RFLAGS come from the VMCB and go back to it; the host keeps its own.
#[case(spec = "APM 2 15.6 RFLAGS", needs("x86.svm"))]
fn flags_are_apart(vm: &mut NestedVm) -> Verdict {
    let arithmetic =
        (Rflags::CF | Rflags::PF | Rflags::AF | Rflags::ZF | Rflags::SF | Rflags::OF).bits();
    let before = cpu::rflags() & !arithmetic;
    // cmc
    vm.load_bytes(&[0xf5]);
    let set =
        (Rflags::FIXED | Rflags::CF | Rflags::ZF | Rflags::DF | Rflags::ID | Rflags::IOPL).bits();
    vm.vmcb.set(field::RFLAGS, set);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.vmcb.get(field::RFLAGS), set & !Rflags::CF.bits())?;
    expect_eq!(cpu::rflags() & !arithmetic, before)
}

const MOVED: [u32; 8] = [
    msr::STAR,
    msr::LSTAR,
    msr::CSTAR,
    msr::SFMASK,
    msr::KERNEL_GS_BASE,
    msr::SYSENTER_CS,
    msr::SYSENTER_ESP,
    msr::SYSENTER_EIP,
];
const FIELDS: [svm::Field<u64>; 8] = [
    field::STAR,
    field::LSTAR,
    field::CSTAR,
    field::SFMASK,
    field::KERNEL_GS_BASE,
    field::SYSENTER_CS,
    field::SYSENTER_ESP,
    field::SYSENTER_EIP,
];

/// Keeps what VMLOAD changes.
struct Kept(Vmcb);
impl Kept {
    fn new() -> Result<Self, Fault> {
        let page = Vmcb::zeroed();
        svm::vmsave(page.address())?;
        Ok(Kept(page))
    }
}
impl Drop for Kept {
    fn drop(&mut self) {
        // It held these values before.
        let _ = svm::vmload(self.0.address());
    }
}

/// VMLOAD loads the system-call registers, FS, GS, LDTR and TR, and VMSAVE stores the same.
#[case(spec = "APM 2 15.5.2 VMLOAD", needs("x86.svm"))]
fn vmload_and_vmsave_move_their_list(vm: &mut NestedVm) -> Verdict {
    let _kept = Kept::new()?;
    let page = Vmcb::zeroed();
    svm::vmsave(page.address())?;
    for (i, field) in FIELDS.into_iter().enumerate() {
        page.set(field, 0x1000 + 0x10 * i as u64);
    }
    page.set(Segment::FS.base(), 0x7000_0000);
    page.set(Segment::GS.base(), 0x7100_0000);
    svm::vmload(page.address())?;
    for (i, number) in MOVED.into_iter().enumerate() {
        expect_eq!(
            msr::read(number),
            Ok(0x1000 + 0x10 * i as u64),
            "MSR {number:#x} after VMLOAD"
        )?;
    }
    expect_eq!(msr::read(msr::FS_BASE), Ok(0x7000_0000))?;
    expect_eq!(msr::read(msr::GS_BASE), Ok(0x7100_0000))?;

    for number in MOVED {
        msr::write(number, 0x2220)?;
    }
    svm::vmsave(page.address())?;
    for (i, field) in FIELDS.into_iter().enumerate() {
        expect_eq!(page.get(field), 0x2220, "field {i} after VMSAVE")?;
    }
    expect_eq!(page.get(Segment::GS.base()), 0x7100_0000)?;
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// VMSAVE writes nothing but its list.
#[case(spec = "APM 2 15.5.2 VMSAVE", needs("x86.svm"))]
fn vmsave_writes_nothing_else(vm: &mut NestedVm) -> Verdict {
    let mut page = Vmcb::zeroed();
    page.restore(&[0xa5; 4096]);
    svm::vmsave(page.address())?;
    let listed = |offset: usize| {
        let segment = |s: Segment| (s.0..s.0 + 16).contains(&offset);
        [Segment::FS, Segment::GS, Segment::LDTR, Segment::TR]
            .into_iter()
            .any(segment)
            || (field::STAR.offset..field::CR2.offset).contains(&offset)
    };
    let written = (0..4096).find(|&i| !listed(i) && page.bytes()[i] != 0xa5);
    expect_eq!(written, None, "first byte written outside the list")?;
    expect_ne!(page.get(Segment::TR.selector()), 0xa5a5)?;
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// VMLOAD makes non-canonical bases canonical, by repeating the top bit of a linear address.
///
/// The values are chosen so that addresses of 48 and of 57 bits give the same answer.
#[case(spec = "APM 2 15.5.2 VMLOAD", needs("x86.svm"))]
fn vmload_makes_bases_canonical(vm: &mut NestedVm) -> Verdict {
    let _kept = Kept::new()?;
    let page = Vmcb::zeroed();
    for field in [
        Segment::FS.base(),
        Segment::GS.base(),
        Segment::LDTR.base(),
        Segment::TR.base(),
        field::KERNEL_GS_BASE,
    ] {
        svm::vmsave(page.address())?;
        let low = page.get(field) & 0x0000_7fff_ffff_ffff;
        for (given, kept) in [
            (0x1200_0000_0000_0000 | low, low),
            (0x01ff_8000_0000_0000 | low, 0xffff_8000_0000_0000 | low),
        ] {
            page.set(field, given);
            // The TSS must be in place for the next fault, so the values leave at once.
            svm::vmload(page.address())?;
            svm::vmsave(page.address())?;
            svm::vmload(_kept.0.address())?;
            expect_eq!(
                page.get(field),
                kept,
                "{given:#x} at offset {:#x}",
                field.offset
            )?;
        }
    }
    expect_eq!(vm.enter(), Entry::VMMCALL)
}

/// Without nested paging there is one PAT: what the guest writes, the host reads.
#[case(spec = "APM 2 15.25.2 PAT", needs("x86.svm"))]
fn pat_is_shared_without_nested_paging(vm: &mut NestedVm) -> Verdict {
    let before = msr::read(msr::PAT)?;
    let written = before & !(0xff << 56) | 0x06 << 56;
    let entry = vm.run(move || l2::tell(0, u64::from(msr::write(msr::PAT, written).is_ok())));
    let host = msr::read(msr::PAT)?;
    msr::write(msr::PAT, before)?;
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)?;
    expect_eq!(host, written)
}

/// With nested paging the guest has a PAT of its own, in the VMCB.
#[case(spec = "APM 2 15.25.2 PAT", needs("x86.svm.npt"))]
fn pat_is_separate_with_nested_paging(vm: &mut NestedVm) -> Verdict {
    let before = msr::read(msr::PAT)?;
    let (given, written) = (
        before & !(0xff << 56) | 0x06 << 56,
        before & !(0xff << 56) | 0x05 << 56,
    );
    vm.nest_paging();
    vm.vmcb.set(field::G_PAT, given);
    let entry = vm.run(move || {
        l2::tell(0, msr::read(msr::PAT).unwrap_or(0));
        l2::tell(1, u64::from(msr::write(msr::PAT, written).is_ok()));
    });
    let host = msr::read(msr::PAT)?;
    msr::write(msr::PAT, before)?;
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(0), given, "PAT in the guest")?;
    expect_eq!(vm.told(1), 1)?;
    expect_eq!(
        vm.vmcb.get(field::G_PAT),
        written,
        "G_PAT after the guest's write"
    )?;
    expect_eq!(host, before, "PAT in the host")
}

/// CPUID's OSXSAVE bit follows the CR4 of whoever asks.
#[case(spec = "APM 2 15.5.1 CPUID", needs("x86.svm", "x86.xsave"))]
fn osxsave_follows_the_running_cr4(vm: &mut NestedVm) -> Verdict {
    let osxsave = || u64::from(cpuid::query(1, 0).ecx >> 27 & 1);
    let host = osxsave();
    expect_eq!(host, u64::from(Cr4::read().contains(Cr4::OSXSAVE)))?;
    for set in [1, 0] {
        vm.vmcb
            .update(field::CR4, |cr4| cr4 & !Cr4::OSXSAVE.bits() | set << 18);
        expect_eq!(vm.run(move || l2::tell(0, 2 + osxsave())), Entry::VMMCALL)?;
        expect_eq!(vm.told(0), 2 + set, "in the guest")?;
        expect_eq!(osxsave(), host, "in the host")?;
    }
    Ok(())
}

/// TSC_OFFSET is added to what the guest reads, modulo 2^64, and not in the host.
#[case(
    spec = "APM 2 15.30.5 TSC_OFFSET",
    needs("x86.svm"),
    rows(rdtsc: cpu::rdtsc, rdmsr: || msr::read(msr::TSC).unwrap_or(0))
)]
fn tsc_offset_is_added(vm: &mut NestedVm, read: fn() -> u64) -> Verdict {
    for offset in [0, 1 << 50, 1 << 40, u64::MAX << 20, 3 << 60] {
        vm.vmcb.set(field::TSC_OFFSET, offset);
        let before = time::now();
        let entry = vm.run(move || l2::tell(0, read()));
        let after = time::now();
        expect_eq!(entry, Entry::VMMCALL)?;
        let shown = vm.told(0).wrapping_sub(offset);
        expect!(
            (before..=after).contains(&shown),
            "offset {offset:#x}: {shown:#x} is not in {before:#x} to {after:#x}"
        )?;
    }
    Ok(())
}
