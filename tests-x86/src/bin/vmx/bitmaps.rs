//! I/O and MSR bitmaps, exception bitmap. Spec: SDM 3C 25.6.3, 25.6.4, 25.6.9, 26.1.3.
//!
//! Edges are where these go wrong: the last bit of a bitmap, an access that spans two ports, the
//! wrap past FFFFh, the first MSR outside a range.

use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Two pages for ports 0 to 7FFFh and 8000h to FFFFh, in force.
fn io_bitmaps(vm: &mut NestedVm) -> Result<Frames, Stop> {
    let bitmaps = Frames::new(2);
    vm.set(Field::IO_BITMAP_A, bitmaps.address());
    vm.set(Field::IO_BITMAP_B, bitmaps.address() + 4096);
    vm.enable(controls::IO_BITMAPS)?;
    Ok(bitmaps)
}

fn set(bitmaps: &Frames, port: u16, on: bool) {
    let (byte, bit) = (usize::from(port / 8), 1u8 << (port % 8));
    let old = bitmaps.read::<u8>(byte);
    bitmaps.write(byte, if on { old | bit } else { old & !bit });
}

/// in al, dx; in ax, dx; in eax, dx
const IN: [&[u8]; 3] = [&[0xec], &[0x66, 0xed], &[0xed]];

/// A port exits exactly when its bit is set, at both ends of both bitmaps.
#[case(
    spec = "SDM 3C 25.6.4",
    rows(first: 0x0, last_of_a: 0x7fff, first_of_b: 0x8000, last: 0xffff, middle: 0x5000)
)]
fn io_bitmap_decides(vm: &mut NestedVm, row: u16) -> Verdict {
    let bitmaps = io_bitmaps(vm)?;
    vm.code(IN[0]);
    vm.registers.rdx = u64::from(row);
    expect_eq!(vm.enter(), Entry::DONE, "bit clear")?;
    for other in [row.wrapping_sub(1), row.wrapping_add(1)] {
        set(&bitmaps, other, true);
    }
    expect_eq!(vm.run(), Entry::DONE, "neighbours' bits set")?;
    set(&bitmaps, row, true);
    let qualification = u64::from(row) << 16 | 8;
    expect_eq!(
        vm.run(),
        Entry::exited(Reason::IO, qualification),
        "bit set"
    )?;
    set(&bitmaps, row, false);
    expect_eq!(vm.run(), Entry::DONE, "bit clear again")
}

/// An access of several bytes exits when one of its ports has its bit set.
#[case(spec = "SDM 3C 25.6.4")]
fn io_access_exits_for_each_of_its_ports(vm: &mut NestedVm) -> Verdict {
    let bitmaps = io_bitmaps(vm)?;
    for (log, code) in IN.into_iter().enumerate() {
        let size = 1u16 << log;
        vm.code(code);
        for first in [0x5000u16, 0x7ffe, 0x7fff] {
            vm.registers.rdx = u64::from(first);
            expect_eq!(vm.run(), Entry::DONE, "{size} bytes at {first:#x}, clear")?;
            for trapped in 0..size {
                set(&bitmaps, first + trapped, true);
                let qualification = u64::from(first) << 16 | 8 | u64::from(size - 1);
                let exit = Entry::exited(Reason::IO, qualification);
                expect_eq!(vm.run(), exit, "{size} bytes at {first:#x}, byte {trapped}")?;
                set(&bitmaps, first + trapped, false);
            }
            set(&bitmaps, first + size, true);
            expect_eq!(
                vm.run(),
                Entry::DONE,
                "{size} bytes at {first:#x}, the port behind"
            )?;
            set(&bitmaps, first + size, false);
        }
    }
    Ok(())
}

/// An access that wraps past port FFFFh always exits.
#[case(spec = "SDM 3C 26.1.3")]
fn io_access_past_the_last_port_exits(vm: &mut NestedVm) -> Verdict {
    let _bitmaps = io_bitmaps(vm)?;
    for (code, size, first) in [
        (IN[1], 2u64, 0xffff),
        (IN[2], 4, 0xffff),
        (IN[2], 4, 0xfffd),
    ] {
        vm.code(code);
        vm.registers.rdx = first;
        let exit = Entry::exited(Reason::IO, first << 16 | 8 | (size - 1));
        expect_eq!(vm.enter(), exit, "{size} bytes at {first:#x}")?;
    }
    Ok(())
}

/// Bitmaps take the place of unconditional I/O exiting.
#[case(spec = "SDM 3C 25.6.2")]
fn io_bitmaps_override_unconditional_exiting(vm: &mut NestedVm) -> Verdict {
    let bitmaps = io_bitmaps(vm)?;
    vm.enable(controls::UNCONDITIONAL_IO)?;
    vm.code(IN[0]);
    vm.registers.rdx = 0x80;
    expect_eq!(vm.enter(), Entry::DONE, "both, bit clear")?;
    set(&bitmaps, 0x80, true);
    expect_eq!(
        vm.run(),
        Entry::exited(Reason::IO, 0x80_0008),
        "both, bit set"
    )?;
    set(&bitmaps, 0x80, false);
    vm.disable(controls::IO_BITMAPS)?;
    expect_eq!(
        vm.run(),
        Entry::exited(Reason::IO, 0x80_0008),
        "unconditional alone"
    )
}

/// String I/O reports direction, string, REP and the linear address.
#[case(
    spec = "SDM 3C 28.2.1",
    rows(
        insb: (&[0x6c], 0x80_0018),
        outsw: (&[0x66, 0x6f], 0x80_0011),
        rep_insd: (&[0xf3, 0x6d], 0x80_003b),
        rep_outsb: (&[0xf3, 0x6e], 0x80_0030),
    )
)]
fn string_io_is_described(vm: &mut NestedVm, row: (&[u8], u64)) -> Verdict {
    let page = Frames::new(1);
    vm.enable(controls::UNCONDITIONAL_IO)?;
    vm.code(row.0);
    vm.registers.rdx = 0x80;
    vm.registers.rcx = 3;
    vm.registers.rsi = page.address() + 0x10;
    vm.registers.rdi = page.address() + 0x20;
    expect_eq!(vm.enter(), Entry::exited(Reason::IO, row.1))?;
    let expected = page.address() + if row.1 & 8 != 0 { 0x20 } else { 0x10 };
    expect_eq!(vm.get(Field::GUEST_LINEAR_ADDRESS), expected)?;
    expect_eq!(vm.registers.rcx, 3, "nothing is executed")
}

/// An MSR in a bitmap range: number, byte offset of its read bit.
#[case(
    spec = "SDM 3C 25.6.9",
    rows(
        sysenter_cs: (0x174, 0x174),
        efer: (0xc000_0080, 0x2000 + 0x80),
        lstar: (0xc000_0082, 0x2000 + 0x82),
    )
)]
fn msr_bitmap_decides(vm: &mut NestedVm, row: (u64, usize)) -> Verdict {
    let (number, bit) = row;
    let bitmap = Frames::new(1);
    vm.set(Field::MSR_BITMAP, bitmap.address());
    // rdmsr; wrmsr
    vm.code(&[0x0f, 0x32, 0x0f, 0x30]);
    vm.registers.rcx = number;
    expect_eq!(vm.enter(), Entry::exited(Reason::RDMSR, 0), "no bitmap")?;
    vm.enable(controls::MSR_BITMAPS)?;
    expect_eq!(vm.run(), Entry::DONE, "bits clear")?;
    for (offset, reason, at) in [(0, Reason::RDMSR, 0), (0x4000, Reason::WRMSR, 2)] {
        let byte = (bit + offset) / 8;
        bitmap.write(byte, 1u8 << (bit % 8));
        expect_eq!(vm.run(), Entry::exited(reason, 0))?;
        expect_eq!(vm.offset(), at)?;
        bitmap.write(byte, !(1u8 << (bit % 8)));
        expect_eq!(vm.run(), Entry::DONE, "only neighbours' bits set")?;
        bitmap.write(byte, 0u8);
    }
    Ok(())
}

/// An MSR outside both ranges exits whatever the bitmap says.
#[case(
    spec = "SDM 3C 26.1.3",
    rows(
        above_low: 0x2000, below_high: 0xbfff_ffff, above_high: 0xc000_2000, last: 0xffff_ffff,
        middle: 0x4000_0000,
    )
)]
fn msrs_outside_the_ranges_exit(vm: &mut NestedVm, row: u64) -> Verdict {
    let bitmap = Frames::new(1);
    vm.set(Field::MSR_BITMAP, bitmap.address());
    vm.enable(controls::MSR_BITMAPS)?;
    vm.registers.rcx = row;
    vm.code(&[0x0f, 0x32]);
    expect_eq!(vm.enter(), Entry::exited(Reason::RDMSR, 0))?;
    vm.code(&[0x0f, 0x30]);
    expect_eq!(vm.enter(), Entry::exited(Reason::WRMSR, 0))
}

/// The last MSR of each range obeys its bit: an absent MSR is #GP, not an exit, when it is clear.
#[case(spec = "SDM 3C 25.6.9", rows(low: (0x1fff, 0x3ff), high: (0xc000_1fff, 0x7ff)))]
fn msr_range_ends_obey_the_bitmap(vm: &mut NestedVm, row: (u64, usize)) -> Verdict {
    let bitmap = Frames::new(1);
    vm.set(Field::MSR_BITMAP, bitmap.address());
    vm.enable(controls::MSR_BITMAPS)?;
    vm.registers.rcx = row.0;
    vm.code(&[0x0f, 0x32]);
    expect_ne!(vm.enter(), Entry::exited(Reason::RDMSR, 0), "bit clear")?;
    bitmap.write(row.1, 0x80u8);
    expect_eq!(vm.run(), Entry::exited(Reason::RDMSR, 0), "bit set")
}

/// An exception: code that raises it, its vector, what the exit reports.
type Raised = (&'static [u8], u64, u64);

/// An exception exits when its bit is set, and reaches the guest's IDT when it is clear.
#[case(
    spec = "SDM 3C 25.6.3",
    rows(
        // xor ecx, ecx; div ecx
        de: (&[0x31, 0xc9, 0xf7, 0xf1], 0, 0x8000_0300),
        bp: (&[0xcc], 3, 0x8000_0603),
        ud: (&[0x0f, 0x0b], 6, 0x8000_0306),
        // mov [rbx], al, with RBX not canonical
        gp: (&[0x88, 0x03], 13, 0x8000_0b0d),
        // mov [rsi], al, with RSI not mapped
        pf: (&[0x88, 0x06], 14, 0x8000_0b0e),
        // icebp
        db: (&[0xf1], 1, 0x8000_0501),
    )
)]
fn exception_bitmap_decides(vm: &mut NestedVm, row: Raised) -> Verdict {
    let (code, vector, event) = row;
    let page = guest_lib::arch::paging::FREE_BASE;
    vm.code(code);
    vm.registers.rbx = 1 << 63;
    vm.registers.rsi = page;
    vm.set(Field::EXCEPTION_BITMAP, 1 << vector);
    let qualification = if vector == 14 { page } else { 0 };
    expect_eq!(
        vm.enter(),
        Entry::exited(Reason::EXCEPTION_OR_NMI, qualification),
        "bit set"
    )?;
    expect_eq!(vm.get(Field::EXIT_EVENT), event)?;
    let handler = fault::Handler::new(vector as u8, move |frame| {
        frame.r12 = frame.vector + 0x100;
        if !matches!(frame.vector, 1 | 3) {
            frame.rip += if frame.vector == 0 {
                2
            } else {
                code.len() as u64
            };
        }
    });
    vm.set(Field::EXCEPTION_BITMAP, !(1 << vector) & 0xffff_ffff);
    vm.registers.r12 = 0;
    let got = vm.run();
    drop(handler);
    expect_eq!(got, Entry::DONE, "bit clear")?;
    expect_eq!(vm.registers.r12, vector + 0x100, "the guest's handler ran")
}

/// Page faults: mask and match select error codes, and with no match the bit's sense flips.
#[case(spec = "SDM 3C 25.6.3")]
fn page_fault_filter_selects_error_codes(vm: &mut NestedVm) -> Verdict {
    // mov [rsi], al: a write, error code 2; mov al, [rsi]: a read, error code 0.
    let exit = Entry::exited(Reason::EXCEPTION_OR_NMI, guest_lib::arch::paging::FREE_BASE);
    let handler = fault::Handler::new(14, |frame| frame.rip += 2);
    let result = (|| -> Verdict {
        for (code, error) in [(&[0x88, 0x06], 2u64), (&[0x8a, 0x06], 0)] {
            vm.code(code);
            for (bit, mask, matching) in [
                (1u64, 2, 2),
                (1, 2, 0),
                (0, 2, 2),
                (0, 2, 0),
                (1, 0, 0),
                (0, 0, 1),
            ] {
                vm.registers.rsi = guest_lib::arch::paging::FREE_BASE;
                vm.set(Field::EXCEPTION_BITMAP, bit << 14);
                vm.set(Field::PAGE_FAULT_MASK, mask);
                vm.set(Field::PAGE_FAULT_MATCH, matching);
                let exits = (error & mask == matching) == (bit == 1);
                let expected = if exits { exit } else { Entry::DONE };
                expect_eq!(
                    vm.run(),
                    expected,
                    "error {error}, bit {bit}, mask {mask}, match {matching}"
                )?;
            }
        }
        Ok(())
    })();
    drop(handler);
    result
}

/// A guest that cannot deliver a double fault ends in a triple-fault exit.
#[case(spec = "SDM 3C 26.2")]
fn triple_fault_exits(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::EXCEPTION_BITMAP, 0);
    vm.set(Field::GUEST_IDTR_LIMIT, 0);
    vm.code(&[0x0f, 0x0b]);
    expect_eq!(vm.enter(), Entry::exited(Reason::TRIPLE_FAULT, 0))?;
    vm.set(Field::EXCEPTION_BITMAP, 1 << 6);
    expect_eq!(
        vm.run(),
        Entry::exited(Reason::EXCEPTION_OR_NMI, 0),
        "#UD taken by the host"
    )
}
