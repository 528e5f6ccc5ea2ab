//! I/O intercepts. Spec: APM 2 15.10.
//!
//! The I/O permission map has one bit per port; an access exits if any byte it touches has its bit
//! set, also past the last port, for which the map has three bits more. EXITINFO1 describes the access,
//! EXITINFO2 names the next instruction.

use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, field, intercept};
use guest_lib::prelude::*;

const IN: u64 = 1;
const STR: u64 = 1 << 2;
const REP: u64 = 1 << 3;
const SZ8: u64 = 1 << 4;
const SZ16: u64 = 1 << 5;
const SZ32: u64 = 1 << 6;
/// Port, and everything below the address size.
const MASK: u64 = 0xffff_007d;

const IN8: &[u8] = &[0xec];
const IN16: &[u8] = &[0x66, 0xed];
const IN32: &[u8] = &[0xed];
const OUT8: &[u8] = &[0xee];
const OUT16: &[u8] = &[0x66, 0xef];
const OUT32: &[u8] = &[0xef];

/// A port with no device on any machine of today that would mind a read.
const PORT: u32 = 0x5000;

fn access(vm: &mut NestedVm, bytes: &[u8], port: u32) -> Entry {
    vm.load_bytes(bytes);
    vm.gprs.rdx = u64::from(port);
    vm.gprs.rdi = vm.stack_top() - 0x800;
    vm.gprs.rsi = vm.stack_top() - 0x800;
    vm.gprs.rcx = 1;
    vm.enter()
}

/// EXITINFO1 tells direction, width and port, EXITINFO2 the address of the next instruction.
#[case(
    spec = "APM 2 15.10.2 EXITINFO1",
    needs("x86.svm"),
    rows(
        in_byte: (IN8, IN | SZ8),
        in_word: (IN16, IN | SZ16),
        in_doubleword: (IN32, IN | SZ32),
        out_byte: (OUT8, SZ8),
        out_word: (OUT16, SZ16),
        out_doubleword: (OUT32, SZ32),
        insb: (&[0x6c], IN | STR | SZ8),
        outsb: (&[0x6e], STR | SZ8),
        rep_insw: (&[0xf3, 0x66, 0x6d], IN | STR | REP | SZ16),
        rep_outsd: (&[0xf3, 0x6f], STR | REP | SZ32),
    )
)]
fn exit_information(vm: &mut NestedVm, row: (&'static [u8], u64)) -> Verdict {
    vm.vmcb.intercept(intercept::IOIO, true);
    vm.trap_port(PORT, true);
    expect_eq!(access(vm, row.0, PORT), Entry::Exited(ExitCode::IOIO))?;
    expect_eq!(
        vm.info1() & MASK,
        u64::from(PORT) << 16 | row.1,
        "EXITINFO1"
    )?;
    expect_eq!(vm.info2(), vm.rip() + row.0.len() as u64, "EXITINFO2")
}

/// EXITINFO1 tells the address size of a string access, and the segment of OUTS.
#[case(spec = "APM 2 15.10.2 EXITINFO1", needs("x86.svm"))]
fn string_access_tells_its_address_size(vm: &mut NestedVm) -> Verdict {
    const A32: u64 = 1 << 8;
    const A64: u64 = 1 << 9;
    vm.vmcb.intercept(intercept::IOIO, true);
    vm.trap_port(PORT, true);
    for (bytes, size) in [
        (&[0x6c][..], A64),
        (&[0x67, 0x6c], A32),
        (&[0x6e], A64),
        (&[0x67, 0x6e], A32),
    ] {
        expect_eq!(access(vm, bytes, PORT), Entry::Exited(ExitCode::IOIO))?;
        expect_eq!(vm.info1() & 0x380, size, "address size of {bytes:x?}")?;
    }
    Ok(())
}

/// The immediate form of IN and OUT exits with its port.
#[case(spec = "APM 2 15.10.1", needs("x86.svm"))]
fn immediate_port(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::IOIO, true);
    vm.trap_port(0x80, true);
    expect_eq!(access(vm, &[0xe6, 0x80], 0), Entry::Exited(ExitCode::IOIO))?;
    expect_eq!(vm.info1() & MASK, 0x80 << 16 | SZ8)?;
    expect_eq!(vm.info2(), vm.rip() + 2)
}

/// Without its bit a port is the guest's own, whatever its neighbours' bits say.
#[case(spec = "APM 2 15.10.1", needs("x86.svm"))]
fn clear_bit_lets_the_access_through(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::IOIO, true);
    vm.iopm().bytes_mut().fill(0xff);
    expect_eq!(access(vm, OUT8, 0x80), Entry::Exited(ExitCode::IOIO))?;
    vm.trap_port(0x80, false);
    expect_eq!(access(vm, OUT8, 0x80), Entry::VMMCALL)?;
    expect_eq!(access(vm, OUT16, 0x80), Entry::Exited(ExitCode::IOIO))
}

/// With the IOIO intercept clear the map is not looked at.
#[case(spec = "APM 2 15.10.1", needs("x86.svm"))]
fn map_counts_only_with_the_intercept(vm: &mut NestedVm) -> Verdict {
    vm.iopm().bytes_mut().fill(0xff);
    expect_eq!(access(vm, OUT8, 0x80), Entry::VMMCALL)?;
    vm.vmcb.intercept(intercept::IOIO, true);
    expect_eq!(access(vm, OUT8, 0x80), Entry::Exited(ExitCode::IOIO))
}

/// A bit of any byte that the access touches is enough, across a byte of the map too.
#[case(spec = "APM 2 15.10.1", needs("x86.svm"))]
fn any_touched_byte_is_enough(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::IOIO, true);
    for base in [0x5000u32, 0x5006, 0x4fff, 0x4ffd] {
        for trapped in base..base + 4 {
            vm.trap_port(trapped, true);
            let entry = access(vm, IN32, base);
            vm.trap_port(trapped, false);
            expect_eq!(
                entry,
                Entry::Exited(ExitCode::IOIO),
                "port {base:#x}, bit {trapped:#x}"
            )?;
            expect_eq!(vm.info1() >> 16, u64::from(base), "port")?;
        }
    }
    // Bits just outside the access do not count.
    for (bytes, length) in [(OUT8, 1), (OUT16, 2)] {
        vm.iopm().bytes_mut().fill(0xff);
        for port in 0x80..0x80 + length {
            vm.trap_port(port, false);
        }
        expect_eq!(
            access(vm, bytes, 0x80),
            Entry::VMMCALL,
            "{length} bytes at 80h"
        )?;
    }
    Ok(())
}

/// Accesses that reach past port FFFFh use the three bits after the last port.
#[case(spec = "APM 2 15.10.1", needs("x86.svm"))]
fn access_past_the_last_port_uses_the_extra_bits(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::IOIO, true);
    for (port, bit) in [
        (0xfffd, 0x10000),
        (0xfffe, 0x10001),
        (0xffff, 0x10002),
        (0xffff, 0xffff),
    ] {
        vm.trap_port(bit, true);
        let entry = access(vm, IN32, port);
        vm.trap_port(bit, false);
        expect_eq!(
            entry,
            Entry::Exited(ExitCode::IOIO),
            "port {port:#x}, bit {bit:#x}"
        )?;
        expect_eq!(vm.info1() & MASK, u64::from(port) << 16 | IN | SZ32)?;
    }
    Ok(())
}

/// The first and the last port have bits of their own.
#[case(spec = "APM 2 15.10.1", needs("x86.svm"))]
fn first_and_last_port(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::IOIO, true);
    for port in [0, 1, 7, 8, 0x7fff, 0x8000, 0xfff8, 0xffff] {
        vm.trap_port(port, true);
        let entry = access(vm, IN8, port);
        vm.trap_port(port, false);
        expect_eq!(entry, Entry::Exited(ExitCode::IOIO), "port {port:#x}")?;
        expect_eq!(vm.info1() >> 16, u64::from(port))?;
    }
    Ok(())
}

/// The exit comes before the access: an input does not change RAX.
#[case(spec = "APM 2 15.10.2", needs("x86.svm"))]
fn intercepted_input_changes_nothing(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::IOIO, true);
    vm.trap_port(PORT, true);
    vm.load_bytes(IN32);
    vm.gprs.rdx = u64::from(PORT);
    vm.vmcb.set(field::RAX, 0x1234_5678_9abc_def0);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::IOIO))?;
    expect_eq!(vm.vmcb.get(field::RAX), 0x1234_5678_9abc_def0)?;
    expect_eq!(vm.resume_after(1), Entry::VMMCALL)
}
