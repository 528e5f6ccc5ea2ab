//! State that entries and exits load and save. Spec: SDM 3C 27.3.2, 27.4, 28.3 to 28.6.
//!
//! Each MSR that a control switches is tried with the control on and off, in the direction that
//! the control belongs to. A hypervisor that nests has three sets of these values to keep apart.

use guest_lib::arch::registers::{Cr0, Efer};
use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::{Field, Segment};
use guest_lib::arch::{cpu, cpuid, msr, segments};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Puts MSRs back that a case changes by way of a guest.
struct Saved(Vec<(u32, u64)>);

impl Saved {
    fn new(numbers: &[u32]) -> Self {
        Saved(
            numbers
                .iter()
                .map(|&n| (n, msr::read(n).unwrap_or(0)))
                .collect(),
        )
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        for &(number, value) in &self.0 {
            let _ = msr::write(number, value);
        }
    }
}

/// rdmsr of RCX into RAX, 64 bits: rdmsr; shl rdx, 32; or rax, rdx
const READ_MSR: &[u8] = &[0x0f, 0x32, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0];

/// Lets the guest read and write MSRs without exits.
fn pass_msrs(vm: &mut NestedVm) -> Result<Frames, Stop> {
    let bitmap = Frames::new(1);
    vm.set(Field::MSR_BITMAP, bitmap.address());
    vm.enable(controls::MSR_BITMAPS)?;
    Ok(bitmap)
}

fn guest_reads(vm: &mut NestedVm, number: u32) -> Result<u64, Stop> {
    vm.code(READ_MSR);
    vm.registers.rcx = u64::from(number);
    expect_eq!(vm.enter(), Entry::DONE, "the guest reads MSR {number:#x}")?;
    Ok(vm.registers.rax)
}

/// All entries write-back but the last, which is write-through.
const OTHER_PAT: u64 = 0x0406_0606_0606_0606;

/// The entry loads the PAT exactly with its control.
#[case(spec = "SDM 3C 27.3.2.1 IA32_PAT", needs("x86.vmx.pat"))]
fn entry_loads_pat(vm: &mut NestedVm) -> Verdict {
    let _saved = Saved::new(&[msr::PAT]);
    let _bitmap = pass_msrs(vm)?;
    let host = msr::read(msr::PAT)?;
    let guest = host ^ 0x0200_0000_0000_0000 ^ (host & 0x0600_0000_0000_0000);
    let guest = guest & !(7 << 56)
        | if host >> 56 & 7 == 4 {
            6 << 56
        } else {
            4 << 56
        };
    vm.set(Field::GUEST_PAT, guest);
    expect_eq!(guest_reads(vm, msr::PAT)?, host, "control off")?;
    vm.enable(controls::LOAD_PAT)?;
    expect_eq!(guest_reads(vm, msr::PAT)?, guest, "control on")?;
    expect_eq!(msr::read(msr::PAT), Ok(guest), "the exit does not load it")?;
    vm.set(Field::HOST_PAT, host);
    vm.enable(controls::LOAD_HOST_PAT)?;
    expect_eq!(guest_reads(vm, msr::PAT)?, guest, "both controls")?;
    expect_eq!(msr::read(msr::PAT), Ok(host), "the exit loads it")
}

/// The exit saves the PAT exactly with its control.
#[case(spec = "SDM 3C 28.3.1 IA32_PAT", needs("x86.vmx.pat"))]
fn exit_saves_pat(vm: &mut NestedVm) -> Verdict {
    let _saved = Saved::new(&[msr::PAT]);
    let host = msr::read(msr::PAT)?;
    vm.set(Field::GUEST_PAT, OTHER_PAT);
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(vm.get(Field::GUEST_PAT), OTHER_PAT, "control off")?;
    vm.enable(controls::SAVE_PAT)?;
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(vm.get(Field::GUEST_PAT), host, "control on")
}

/// Entry and exit load EFER exactly with their controls.
#[case(spec = "SDM 3C 27.3.2.1 IA32_EFER", needs("x86.vmx.efer"))]
fn entry_and_exit_load_efer(vm: &mut NestedVm) -> Verdict {
    let _saved = Saved::new(&[msr::EFER]);
    let _bitmap = pass_msrs(vm)?;
    let host = msr::read(msr::EFER)?;
    let guest = host ^ Efer::SCE.bits();
    vm.set(Field::GUEST_EFER, guest);
    expect_eq!(guest_reads(vm, msr::EFER)?, host, "controls off")?;
    vm.enable(controls::LOAD_EFER)?;
    vm.enable(controls::LOAD_HOST_EFER)?;
    expect_eq!(guest_reads(vm, msr::EFER)?, guest, "controls on")?;
    expect_eq!(msr::read(msr::EFER), Ok(host), "after the exit")
}

/// The exit saves EFER exactly with its control.
#[case(spec = "SDM 3C 28.3.1 IA32_EFER", needs("x86.vmx.efer"))]
fn exit_saves_efer(vm: &mut NestedVm) -> Verdict {
    let host = msr::read(msr::EFER)?;
    let other = host ^ Efer::SCE.bits();
    vm.set(Field::GUEST_EFER, other);
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(vm.get(Field::GUEST_EFER), other, "control off")?;
    vm.enable(controls::SAVE_EFER)?;
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(vm.get(Field::GUEST_EFER), host, "control on")
}

/// The entry loads DR7 exactly with "load debug controls".
#[case(spec = "SDM 3C 27.3.2.1 DR7")]
fn entry_loads_dr7(vm: &mut NestedVm) -> Verdict {
    // mov rax, dr7
    vm.code(&[0x0f, 0x21, 0xf8]);
    vm.enable(controls::LOAD_DEBUG)?;
    vm.set(Field::GUEST_DR7, 0x402);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.registers.rax, 0x402, "control on")?;
    vm.disable(controls::LOAD_DEBUG)?;
    vm.set(Field::GUEST_DR7, 0x408);
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(vm.registers.rax, 0x400, "control off: the host's")
}

/// The exit saves DR7 exactly with "save debug controls".
#[case(spec = "SDM 3C 28.3.1 DR7")]
fn exit_saves_dr7(vm: &mut NestedVm) -> Verdict {
    // mov eax, 0x420; mov dr7, rax
    vm.code(&[0xb8, 0x20, 4, 0, 0, 0x0f, 0x23, 0xf8]);
    vm.enable(controls::SAVE_DEBUG)?;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.get(Field::GUEST_DR7), 0x420, "control on")?;
    vm.disable(controls::SAVE_DEBUG)?;
    vm.set(Field::GUEST_DR7, 0x400);
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(vm.get(Field::GUEST_DR7), 0x400, "control off")
}

/// Every exit sets DR7 to 400h and IA32_DEBUGCTL to 0.
#[case(spec = "SDM 3C 28.5.1 DR7")]
fn exit_resets_debug_controls(vm: &mut NestedVm) -> Verdict {
    vm.code(&[0xb8, 0x20, 4, 0, 0, 0x0f, 0x23, 0xf8]);
    expect_eq!(vm.enter(), Entry::DONE)?;
    let Some(host) = vm.host_after_exit else {
        return fail!("no exit");
    };
    expect_eq!((host.dr7, host.debugctl), (0x400, 0))
}

/// Every exit sets RFLAGS to 2, both table limits to FFFFh, and clears LDTR.
#[case(spec = "SDM 3C 28.5.2")]
fn exit_sets_flags_limits_and_ldtr(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::GUEST_RFLAGS, 0x8d7);
    expect_eq!(vm.enter(), Entry::DONE)?;
    let Some(host) = vm.host_after_exit else {
        return fail!("no exit");
    };
    expect_eq!(host.rflags, 2, "RFLAGS")?;
    let (gdtr, idtr) = (host.gdtr, host.idtr);
    expect_eq!(({ gdtr.limit }, { idtr.limit }), (0xffff, 0xffff), "limits")?;
    expect_eq!({ gdtr.base }, vm.get(Field::HOST_GDTR_BASE), "GDTR")?;
    expect_eq!({ idtr.base }, vm.get(Field::HOST_IDTR_BASE), "IDTR")?;
    expect_eq!(host.ldtr, 0, "LDTR")
}

/// The exit loads FS, GS and SYSENTER from the host area.
#[case(
    spec = "SDM 3C 28.5.1",
    rows(
        fs_base: (msr::FS_BASE, Field::HOST_FS_BASE, 0x1234_5000),
        gs_base: (msr::GS_BASE, Field::HOST_GS_BASE, 0xffff_8000_1234_5000),
        sysenter_cs: (msr::SYSENTER_CS, Field::HOST_SYSENTER_CS, 0x5678),
        sysenter_esp: (msr::SYSENTER_ESP, Field::HOST_SYSENTER_ESP, 0xffff_8000_0000_1000),
        sysenter_eip: (msr::SYSENTER_EIP, Field::HOST_SYSENTER_EIP, 0x7fff_ffff_f000),
    )
)]
fn exit_loads_host_msr(vm: &mut NestedVm, row: (u32, Field, u64)) -> Verdict {
    let (number, field, value) = row;
    let _saved = Saved::new(&[number]);
    vm.set(field, value);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(msr::read(number), Ok(value))
}

/// The entry loads FS, GS and SYSENTER from the guest area, and the exit saves them there.
#[case(
    spec = "SDM 3C 27.3.2.1",
    rows(
        fs_base: (msr::FS_BASE, Field::GUEST_FS_BASE, 0x1234_5000),
        gs_base: (msr::GS_BASE, Field::GUEST_GS_BASE, 0xffff_8000_1234_5000),
        sysenter_cs: (msr::SYSENTER_CS, Field::GUEST_SYSENTER_CS, 0x5678),
        sysenter_esp: (msr::SYSENTER_ESP, Field::GUEST_SYSENTER_ESP, 0xffff_8000_0000_1000),
        sysenter_eip: (msr::SYSENTER_EIP, Field::GUEST_SYSENTER_EIP, 0x7fff_ffff_f000),
    )
)]
fn entry_loads_guest_msr(vm: &mut NestedVm, row: (u32, Field, u64)) -> Verdict {
    let (number, field, value) = row;
    let _saved = Saved::new(&[number]);
    let _bitmap = pass_msrs(vm)?;
    vm.set(field, value);
    expect_eq!(guest_reads(vm, number)?, value)?;
    // xor eax, eax; xor edx, edx; wrmsr
    vm.code(&[0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30]);
    vm.registers.rcx = u64::from(number);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.get(field), 0, "saved by the exit")
}

/// The exit loads CR0, CR3 and CR4 of the host, whatever the guest left.
#[case(spec = "SDM 3C 28.5.1")]
fn exit_loads_host_control_registers(vm: &mut NestedVm) -> Verdict {
    let before = (cpu::read_cr0(), cpu::read_cr3(), cpu::read_cr4());
    vm.set(Field::GUEST_CR3, guest_lib::arch::paging::user_root());
    vm.set_bits(Field::GUEST_CR0, Cr0::TS.bits() | Cr0::AM.bits());
    vm.set_bits(Field::GUEST_CR4, 4);
    expect_eq!(vm.enter(), Entry::DONE)?;
    let after = (cpu::read_cr0(), cpu::read_cr3(), cpu::read_cr4());
    expect_eq!(after, before)?;
    vm.set_bits(Field::HOST_CR0, Cr0::TS.bits());
    expect_eq!(vm.run(), Entry::DONE)?;
    let after = cpu::read_cr0();
    cpu::write_cr0(before.0)?;
    expect_eq!(after, before.0 | Cr0::TS.bits(), "the field decides")
}

/// The exit saves the guest's segment registers, with what the guest loaded.
#[case(spec = "SDM 3C 28.3.2")]
fn exit_saves_segments(vm: &mut NestedVm) -> Verdict {
    // mov eax, USER_DATA; mov ds, ax; xor eax, eax; mov es, ax
    vm.code(&[0xb8, 0x1b, 0, 0, 0, 0x8e, 0xd8, 0x31, 0xc0, 0x8e, 0xc0]);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(
        vm.get(Field::GUEST_DS_SELECTOR),
        u64::from(segments::USER_DATA),
        "DS"
    )?;
    expect_eq!(
        vm.get(Field::guest_rights(Segment::Ds)) & 0xf0ff,
        0xc0f3,
        "DS"
    )?;
    expect_eq!(vm.get(Field::GUEST_ES_SELECTOR), 0, "ES")?;
    expect_eq!(
        vm.get(Field::guest_rights(Segment::Es)) >> 16 & 1,
        1,
        "ES is unusable"
    )
}

/// A list of MSRs: number, zero, value.
fn msr_list(entries: &[(u32, u64)]) -> Frames {
    let frames = Frames::new((entries.len() * 16).div_ceil(4096).max(1));
    for (i, &(number, value)) in entries.iter().enumerate() {
        frames.write(16 * i, u64::from(number));
        frames.write(16 * i + 8, value);
    }
    frames
}

/// The entry loads the MSRs of its list.
#[case(spec = "SDM 3C 27.4")]
fn entry_loads_its_msr_list(vm: &mut NestedVm) -> Verdict {
    let _saved = Saved::new(&[msr::KERNEL_GS_BASE, msr::LSTAR]);
    let _bitmap = pass_msrs(vm)?;
    let list = msr_list(&[
        (msr::KERNEL_GS_BASE, 0x1111_0000),
        (msr::LSTAR, 0x2222_0000),
    ]);
    vm.set(Field::ENTRY_MSR_LOAD_ADDRESS, list.address());
    vm.set(Field::ENTRY_MSR_LOAD_COUNT, 2);
    expect_eq!(guest_reads(vm, msr::KERNEL_GS_BASE)?, 0x1111_0000)?;
    expect_eq!(guest_reads(vm, msr::LSTAR)?, 0x2222_0000)?;
    list.write(24, 0x3333_0000u64);
    vm.set(Field::ENTRY_MSR_LOAD_COUNT, 1);
    expect_eq!(
        guest_reads(vm, msr::LSTAR)?,
        0x2222_0000,
        "beyond the count"
    )
}

/// The exit stores the guest's values and then loads the host's.
#[case(spec = "SDM 3C 28.4")]
fn exit_stores_then_loads_its_msr_lists(vm: &mut NestedVm) -> Verdict {
    let _saved = Saved::new(&[msr::KERNEL_GS_BASE]);
    let _bitmap = pass_msrs(vm)?;
    let store = msr_list(&[(msr::KERNEL_GS_BASE, 0)]);
    let load = msr_list(&[(msr::KERNEL_GS_BASE, 0x4444_0000)]);
    vm.set(Field::EXIT_MSR_STORE_ADDRESS, store.address());
    vm.set(Field::EXIT_MSR_STORE_COUNT, 1);
    vm.set(Field::EXIT_MSR_LOAD_ADDRESS, load.address());
    vm.set(Field::EXIT_MSR_LOAD_COUNT, 1);
    // wrmsr
    vm.code(&[0x0f, 0x30]);
    vm.registers.rcx = u64::from(msr::KERNEL_GS_BASE);
    vm.registers.rax = 0x5555_0000;
    vm.registers.rdx = 0;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(store.read::<u64>(8), 0x5555_0000, "stored")?;
    expect_eq!(msr::read(msr::KERNEL_GS_BASE), Ok(0x4444_0000), "loaded")
}

/// An entry of the entry list that may not be loaded fails the entry with its number.
#[case(
    spec = "SDM 3C 27.4",
    rows(
        fs_base: (msr::FS_BASE, 0),
        gs_base: (msr::GS_BASE, 0),
        x2apic_range: (0x808, 0),
        reserved_bits: (1 << 31 | 0x1234, 0),
        value_that_wrmsr_refuses: (msr::KERNEL_GS_BASE, 1 << 63),
        absent_msr: (0xc000_1fff, 0),
    )
)]
fn bad_msr_in_the_entry_list_fails(vm: &mut NestedVm, row: (u32, u64)) -> Verdict {
    let _saved = Saved::new(&[msr::KERNEL_GS_BASE, msr::LSTAR]);
    let list = msr_list(&[(msr::LSTAR, 0x1000), row]);
    vm.set(Field::ENTRY_MSR_LOAD_ADDRESS, list.address());
    vm.set(Field::ENTRY_MSR_LOAD_COUNT, 2);
    expect_eq!(
        vm.enter(),
        Entry::failed(Reason::MSR_LOADING, 2),
        "second of two"
    )?;
    vm.set(Field::ENTRY_MSR_LOAD_ADDRESS, list.address() + 16);
    vm.set(Field::ENTRY_MSR_LOAD_COUNT, 1);
    expect_eq!(
        vm.enter(),
        Entry::failed(Reason::MSR_LOADING, 1),
        "first of one"
    )?;
    vm.set(Field::ENTRY_MSR_LOAD_ADDRESS, list.address());
    expect_eq!(vm.enter(), Entry::DONE, "not in the list")
}

/// Bits 63:32 of a list entry's first word are reserved.
#[case(spec = "SDM 3C 27.4")]
fn reserved_bits_of_a_list_entry_fail(vm: &mut NestedVm) -> Verdict {
    let _saved = Saved::new(&[msr::LSTAR]);
    let list = msr_list(&[(msr::LSTAR, 0x1000)]);
    vm.set(Field::ENTRY_MSR_LOAD_ADDRESS, list.address());
    vm.set(Field::ENTRY_MSR_LOAD_COUNT, 1);
    for bit in [32, 47, 63] {
        list.write(0, u64::from(msr::LSTAR) | 1 << bit);
        let failed = Entry::failed(Reason::MSR_LOADING, 1);
        expect_eq!(vm.enter(), failed, "bit {bit}")?;
    }
    list.write(0, u64::from(msr::LSTAR));
    expect_eq!(vm.enter(), Entry::DONE)
}

/// TSC offsetting adds to what the guest reads, by RDTSC and by RDMSR, and not in the exit list.
#[case(spec = "SDM 3C 26.3 RDTSC")]
fn tsc_offset_is_seen_by_the_guest_alone(vm: &mut NestedVm) -> Verdict {
    const OFFSET: u64 = 1 << 50;
    let store = msr_list(&[(msr::TSC, 0)]);
    let _bitmap = pass_msrs(vm)?;
    vm.enable(controls::TSC_OFFSETTING)?;
    vm.set(Field::TSC_OFFSET, OFFSET);
    vm.set(Field::EXIT_MSR_STORE_ADDRESS, store.address());
    vm.set(Field::EXIT_MSR_STORE_COUNT, 1);
    // rdtsc, then as in READ_MSR
    vm.code(&[0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0]);
    let before = cpu::rdtsc();
    expect_eq!(vm.enter(), Entry::DONE)?;
    let after = cpu::rdtsc();
    let (read, stored) = (vm.registers.rax, store.read::<u64>(8));
    expect!(
        (before..=after).contains(&(read.wrapping_sub(OFFSET))),
        "RDTSC {read:#x}"
    )?;
    expect!(
        (before..=after).contains(&stored),
        "stored {stored:#x}, not offset"
    )?;
    let before = cpu::rdtsc();
    let read = guest_reads(vm, msr::TSC)?;
    let after = cpu::rdtsc();
    expect!(
        (before..=after).contains(&(read.wrapping_sub(OFFSET))),
        "RDMSR {read:#x}"
    )?;
    vm.disable(controls::TSC_OFFSETTING)?;
    let before = cpu::rdtsc();
    let read = guest_reads(vm, msr::TSC)?;
    expect!(
        (before..=cpu::rdtsc()).contains(&read),
        "control off: {read:#x}"
    )
}

/// CPUID.OSXSAVE follows CR4 of whoever asks, on both sides of an exit.
#[case(spec = "SDM 3C 28.5.1 CR4", needs("x86.xsave"))]
fn osxsave_follows_each_cr4(vm: &mut NestedVm) -> Verdict {
    let osxsave = || cpuid::query(1, 0).ecx >> 27 & 1;
    let old = cpu::read_cr4();
    for host in [1u64, 0] {
        let value = old & !(1 << 18) | host << 18;
        cpu::write_cr4(value)?;
        vm.set(Field::HOST_CR4, value);
        vm.set(Field::GUEST_CR4, value ^ 1 << 18);
        expect_eq!(vm.run(), Entry::DONE)?;
        expect_eq!(u64::from(osxsave()), host, "host with OSXSAVE {host}")?;
    }
    Ok(())
}
