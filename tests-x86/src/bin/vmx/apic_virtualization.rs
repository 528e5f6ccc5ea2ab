//! The virtual APIC page. Spec: SDM 3C 30.
//!
//! CR8, the APIC-access page and the x2APIC MSRs can be answered from a page of memory, in part
//! or in full. What is answered, what exits, and with which qualification is a table of its own
//! for each set of controls.

use guest_lib::arch::registers::Rflags;
use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const TPR: usize = 0x80;

/// The virtual-APIC page, in force with a TPR shadow.
fn virtual_apic(vm: &mut NestedVm) -> Result<Frames, Stop> {
    let page = Frames::new(1);
    vm.enable(controls::TPR_SHADOW)?;
    vm.set(Field::VIRTUAL_APIC_ADDRESS, page.address());
    vm.set(Field::TPR_THRESHOLD, 0);
    Ok(page)
}

/// MOV from CR8 reads the virtual TPR, MOV to CR8 writes it.
#[case(spec = "SDM 3C 30.3", needs("x86.vmx.tpr_shadow"))]
fn cr8_is_the_virtual_tpr(vm: &mut NestedVm) -> Verdict {
    let page = virtual_apic(vm)?;
    page.write(TPR, 0x70u32);
    // mov rax, cr8; mov ecx, 5; mov cr8, rcx
    vm.code(&[
        0x44, 0x0f, 0x20, 0xc0, 0xb9, 5, 0, 0, 0, 0x44, 0x0f, 0x22, 0xc1,
    ]);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.registers.rax, 7)?;
    expect_eq!(page.read::<u32>(TPR), 0x50)
}

/// A MOV to CR8 that drops the virtual TPR below the threshold exits behind the instruction.
#[case(spec = "SDM 3C 30.1.2", needs("x86.vmx.tpr_shadow"))]
fn tpr_below_the_threshold_exits(vm: &mut NestedVm) -> Verdict {
    let page = virtual_apic(vm)?;
    vm.set(Field::TPR_THRESHOLD, 5);
    // mov cr8, rcx
    vm.code(&[0x44, 0x0f, 0x22, 0xc1, 0x90]);
    for value in 0..16u64 {
        page.write(TPR, 0xf0u32);
        vm.registers.rcx = value;
        let below = value < 5;
        let expected = match below {
            true => Entry::exited(Reason::TPR_BELOW_THRESHOLD, 0),
            false => Entry::DONE,
        };
        expect_eq!(vm.run(), expected, "CR8 = {value}")?;
        expect_eq!(page.read::<u32>(TPR), (value as u32) << 4, "virtual TPR")?;
        if below {
            expect_eq!(vm.offset(), 4, "behind the MOV")?;
        }
    }
    Ok(())
}

/// Puts the guest's APIC-access page at a linear address of its own.
fn access_page(vm: &mut NestedVm) -> Result<(Frames, guest_lib::arch::paging::AddressSpace), Stop> {
    use guest_lib::arch::paging::{A, AddressSpace, D, FREE_BASE, P, W};
    let page = Frames::new(1);
    vm.enable(controls::APIC_ACCESSES)?;
    vm.set(Field::APIC_ACCESS_ADDRESS, page.address());
    let mut space = AddressSpace::new(false);
    space.set(FREE_BASE, 1, page.address() | P | W | A | D);
    vm.set(Field::GUEST_CR3, space.root());
    Ok((page, space))
}

/// mov eax, [rsi] and mov [rsi], eax at `offset` of the access page.
fn access(vm: &mut NestedVm, offset: u64, write: bool) -> Entry {
    vm.code(if write { &[0x89, 0x06] } else { &[0x8b, 0x06] });
    vm.registers.rsi = guest_lib::arch::paging::FREE_BASE + offset;
    vm.registers.rax = 0x1234_5678;
    vm.enter()
}

/// Without more controls every access to the APIC-access page exits with its offset and type.
#[case(spec = "SDM 3C 30.4", needs("x86.vmx.apic_accesses"))]
fn accesses_exit(vm: &mut NestedVm) -> Verdict {
    let (_page, _space) = access_page(vm)?;
    for offset in (0..0x400).step_by(0x10) {
        for (write, kind) in [(false, 0u64), (true, 1 << 12)] {
            let exit = Entry::exited(Reason::APIC_ACCESS, kind | offset);
            expect_eq!(access(vm, offset, write), exit, "offset {offset:#x}")?;
            expect_eq!(vm.offset(), 0)?;
        }
    }
    vm.disable(controls::APIC_ACCESSES)?;
    expect_eq!(
        access(vm, 0x20, true),
        Entry::DONE,
        "control off: plain memory"
    )
}

/// An instruction fetch from the APIC-access page exits with type 2.
#[case(spec = "SDM 3C 30.4", needs("x86.vmx.apic_accesses"))]
fn fetch_exits(vm: &mut NestedVm) -> Verdict {
    let (_page, _space) = access_page(vm)?;
    // jmp rsi
    vm.code(&[0xff, 0xe6]);
    vm.registers.rsi = guest_lib::arch::paging::FREE_BASE + 0x30;
    expect_eq!(
        vm.enter(),
        Entry::exited(Reason::APIC_ACCESS, 2 << 12 | 0x30)
    )
}

/// With a TPR shadow the TPR's offset is answered from the virtual page, the others exit.
#[case(spec = "SDM 3C 30.4.2", needs("x86.vmx.apic_accesses"))]
fn tpr_shadow_answers_the_tpr(vm: &mut NestedVm) -> Verdict {
    let (_access, _space) = access_page(vm)?;
    let page = virtual_apic(vm)?;
    page.write(TPR, 0x55u32);
    expect_eq!(access(vm, 0x80, false), Entry::DONE, "read")?;
    expect_eq!(vm.registers.rax, 0x55)?;
    expect_eq!(access(vm, 0x80, true), Entry::DONE, "write")?;
    expect_eq!(page.read::<u32>(TPR), 0x78, "bits 31:8 are cleared")?;
    for offset in (0..0x400).step_by(0x10).filter(|&o| o != 0x80) {
        let exit = Entry::exited(Reason::APIC_ACCESS, offset);
        expect_eq!(access(vm, offset, false), exit, "offset {offset:#x}")?;
    }
    Ok(())
}

/// APIC-register virtualization answers reads of the listed registers.
#[case(
    spec = "SDM 3C 30.4.2",
    needs("x86.vmx.apic_registers", "x86.vmx.apic_accesses")
)]
fn register_virtualization_answers_reads(vm: &mut NestedVm) -> Verdict {
    let (_access, _space) = access_page(vm)?;
    let page = virtual_apic(vm)?;
    vm.enable(controls::APIC_REGISTERS)?;
    let is_listed = |offset: u64| {
        matches!(
            offset,
            0x20 | 0x30 | 0x80 | 0xb0 | 0xd0 | 0xe0 | 0xf0 | 0x280 | 0x300 | 0x310
        ) || (0x100..0x280).contains(&offset)
            || (0x320..=0x370).contains(&offset)
            || matches!(offset, 0x380 | 0x3e0)
    };
    for offset in (0..0x400u64).step_by(0x10) {
        page.write(offset as usize, 0xa000_0000 | offset as u32);
        let got = access(vm, offset, false);
        if is_listed(offset) {
            expect_eq!(got, Entry::DONE, "offset {offset:#x}")?;
            expect_eq!(vm.registers.rax, 0xa000_0000 | offset, "offset {offset:#x}")?;
        } else {
            let exit = Entry::exited(Reason::APIC_ACCESS, offset);
            expect_eq!(got, exit, "offset {offset:#x}")?;
        }
    }
    Ok(())
}

/// APIC-register virtualization takes writes into the page and exits behind the instruction.
#[case(
    spec = "SDM 3C 30.4.3",
    needs("x86.vmx.apic_registers", "x86.vmx.apic_accesses")
)]
fn register_virtualization_exits_after_writes(vm: &mut NestedVm) -> Verdict {
    let (_access, _space) = access_page(vm)?;
    let page = virtual_apic(vm)?;
    vm.enable(controls::APIC_REGISTERS)?;
    for offset in [0x20u64, 0xd0, 0xe0, 0xf0, 0x280, 0x320, 0x370, 0x380, 0x3e0] {
        page.write(offset as usize, 0u32);
        let exit = Entry::exited(Reason::APIC_WRITE, offset);
        expect_eq!(access(vm, offset, true), exit, "offset {offset:#x}")?;
        expect_eq!(vm.offset(), 2, "behind the MOV")?;
        expect_eq!(
            page.read::<u32>(offset as usize),
            0x1234_5678,
            "offset {offset:#x}"
        )?;
    }
    for offset in [0x30u64, 0x100, 0x170, 0x200, 0x390] {
        let exit = Entry::exited(Reason::APIC_ACCESS, 1 << 12 | offset);
        expect_eq!(access(vm, offset, true), exit, "offset {offset:#x}")?;
        expect_eq!(vm.offset(), 0, "before the MOV")?;
    }
    Ok(())
}

/// x2APIC mode answers the TPR's MSR from the virtual page.
#[case(spec = "SDM 3C 30.5", needs("x86.vmx.x2apic_mode"))]
fn x2apic_mode_answers_the_tpr(vm: &mut NestedVm) -> Verdict {
    let page = virtual_apic(vm)?;
    let bitmap = Frames::new(1);
    vm.set(Field::MSR_BITMAP, bitmap.address());
    vm.enable_all(&[controls::MSR_BITMAPS, controls::X2APIC_MODE])?;
    page.write(TPR, 0x66u32);
    // mov ecx, 0x808; rdmsr; mov ebx, eax; mov eax, 0x77; wrmsr
    vm.code(&[
        0xb9, 8, 8, 0, 0, 0x0f, 0x32, 0x89, 0xc3, 0xb8, 0x77, 0, 0, 0, 0x31, 0xd2, 0x0f, 0x30,
    ]);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.registers.rbx, 0x66, "RDMSR")?;
    expect_eq!(page.read::<u32>(TPR), 0x77, "WRMSR")
}

/// Virtual interrupts in force: external-interrupt exiting, and a clean page.
fn virtual_interrupts(vm: &mut NestedVm) -> Result<Frames, Stop> {
    let page = virtual_apic(vm)?;
    vm.enable_all(&[
        controls::EXTERNAL_INTERRUPT_EXITING,
        controls::VIRTUAL_INTERRUPTS,
    ])?;
    for field in [
        Field::EOI_EXIT_BITMAP_0,
        Field::EOI_EXIT_BITMAP_1,
        Field::EOI_EXIT_BITMAP_2,
        Field::EOI_EXIT_BITMAP_3,
    ] {
        vm.set(field, 0);
    }
    Ok(page)
}

/// Requests `vector` in the virtual IRR.
fn request(page: &Frames, vector: u32) {
    let at = 0x200 + 0x10 * (vector as usize / 32);
    page.write(at, page.read::<u32>(at) | 1 << (vector % 32));
}

/// A requested virtual interrupt is delivered when its class is above the virtual TPR's.
#[case(spec = "SDM 3C 30.2", needs("x86.vmx.virtual_interrupts"))]
fn virtual_interrupt_obeys_the_tpr(vm: &mut NestedVm) -> Verdict {
    let page = virtual_interrupts(vm)?;
    let handler = fault::Handler::new(0x71, |frame| frame.r12 = 0x71);
    let result = (|| -> Verdict {
        for tpr in (0..=0xff_u32).step_by(0x0f) {
            for at in (0x100..0x280).step_by(0x10) {
                page.write(at, 0u32);
            }
            page.write(TPR, tpr);
            request(&page, 0x71);
            vm.rewind();
            vm.set(Field::GUEST_INTERRUPT_STATUS, 0x71);
            vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
            vm.registers.r12 = 0;
            expect_eq!(vm.enter(), Entry::DONE, "TPR {tpr:#x}")?;
            let delivered = 7 > tpr >> 4;
            let expected = if delivered { 0x71 } else { 0 };
            expect_eq!(vm.registers.r12, expected, "TPR {tpr:#x}")?;
            let status = if delivered { 0x7100 } else { 0x71 };
            expect_eq!(
                vm.get(Field::GUEST_INTERRUPT_STATUS),
                status,
                "TPR {tpr:#x}: RVI, SVI"
            )?;
        }
        Ok(())
    })();
    drop(handler);
    result
}

/// A virtual interrupt waits for RFLAGS.IF.
#[case(spec = "SDM 3C 30.2", needs("x86.vmx.virtual_interrupts"))]
fn virtual_interrupt_waits_for_the_flag(vm: &mut NestedVm) -> Verdict {
    let page = virtual_interrupts(vm)?;
    let handler = fault::Handler::new(0x72, |frame| frame.r12 = frame.rip);
    request(&page, 0x72);
    // nop; sti; nop; nop
    vm.code(&[0x90, 0xfb, 0x90, 0x90]);
    vm.set(Field::GUEST_INTERRUPT_STATUS, 0x72);
    vm.registers.r12 = 0;
    let got = vm.enter();
    drop(handler);
    expect_eq!(got, Entry::DONE)?;
    expect_eq!(vm.registers.r12, vm.start() + 3, "after STI and its shadow")
}

/// EOI of a vector in the EOI-exit bitmap exits with the vector; others do not exit.
#[case(
    spec = "SDM 3C 30.1.4",
    needs("x86.vmx.virtual_interrupts", "x86.vmx.x2apic_mode")
)]
fn eoi_exits_by_its_bitmap(vm: &mut NestedVm) -> Verdict {
    let page = virtual_interrupts(vm)?;
    let bitmap = Frames::new(1);
    vm.set(Field::MSR_BITMAP, bitmap.address());
    vm.enable_all(&[controls::MSR_BITMAPS, controls::X2APIC_MODE])?;
    // mov ecx, 0x80b; xor eax, eax; xor edx, edx; wrmsr
    vm.code(&[0xb9, 0x0b, 8, 0, 0, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30]);
    for on in [false, true] {
        vm.rewind();
        page.write(0x100 + 0x10 * 3, 1u32 << (0x73 - 0x60));
        vm.set(Field::GUEST_INTERRUPT_STATUS, 0x7300);
        vm.set(Field::EOI_EXIT_BITMAP_1, u64::from(on) << (0x73 - 0x40));
        let expected = match on {
            true => Entry::exited(Reason::VIRTUALIZED_EOI, 0x73),
            false => Entry::DONE,
        };
        expect_eq!(vm.enter(), expected, "bit {on}")?;
        expect_eq!(page.read::<u32>(0x130), 0, "the virtual ISR")?;
        expect_eq!(vm.get(Field::GUEST_INTERRUPT_STATUS), 0, "SVI")?;
        if on {
            expect_eq!(vm.offset(), 11, "behind WRMSR")?;
        }
    }
    Ok(())
}

/// A self-IPI by MSR is delivered as a virtual interrupt, without an exit.
#[case(
    spec = "SDM 3C 30.1.5",
    needs("x86.vmx.virtual_interrupts", "x86.vmx.x2apic_mode")
)]
fn self_ipi_is_virtualized(vm: &mut NestedVm) -> Verdict {
    let _page = virtual_interrupts(vm)?;
    let bitmap = Frames::new(1);
    vm.set(Field::MSR_BITMAP, bitmap.address());
    vm.enable_all(&[controls::MSR_BITMAPS, controls::X2APIC_MODE])?;
    let handler = fault::Handler::new(0x74, |frame| frame.r12 = 0x74);
    // mov ecx, 0x83f; mov eax, 0x74; xor edx, edx; wrmsr; sti; nop; nop
    vm.code(&[
        0xb9, 0x3f, 8, 0, 0, 0xb8, 0x74, 0, 0, 0, 0x31, 0xd2, 0x0f, 0x30, 0xfb, 0x90, 0x90,
    ]);
    vm.registers.r12 = 0;
    vm.set(Field::GUEST_INTERRUPT_STATUS, 0);
    let got = vm.enter();
    drop(handler);
    expect_eq!(got, Entry::DONE)?;
    expect_eq!(vm.registers.r12, 0x74)
}
