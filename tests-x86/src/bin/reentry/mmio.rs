//! Accesses to a device, undisturbed and interrupted. Spec: KVM api 5.
//!
//! An emulated instruction that touches a device leaves the guest in the middle. It may need several
//! exits (a page boundary, a string), read before it writes (a locked exchange), and have to be
//! finished after the host was interrupted. Starting it anew instead of finishing it looks right
//! to the guest and wrong to the device: that is what the device's own log is for.

use crate::{Device, bytes};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_lib::arch::code::Code;
use guest_lib::arch::cpu;
use guest_lib::prelude::*;
use guest_lib::service::{COUNTER, PORT_OFFSET, counter_byte, kick};

/// Code that makes accesses with RDI = device + `offset` and RSI = [`DATA`].
struct Instruction {
    code: &'static [u8],
    offset: u64,
    /// Bytes that are read, as (offset, count); the device answers with [`counter_byte`].
    read: (u64, u64),
    /// Bytes that are written, as (offset, count), and where their values come from.
    written: (u64, u64),
    values: Values,
}

#[derive(Clone, Copy)]
enum Values {
    /// The bytes of RSI.
    Data,
    /// The low byte of RSI again and again.
    LowByte,
    /// The bytes that memory at 7000h holds.
    Memory,
}

const DATA: u64 = 0x8877_6655_4433_2211;
/// Where string moves to the device take their bytes from: below 1 MiB, which nobody manages.
const SOURCE: u64 = 0x7000;
const PORT: u64 = PORT_OFFSET as u64;

const fn store(offset: u64, width: u64, code: &'static [u8]) -> Instruction {
    Instruction {
        code,
        offset,
        read: (0, 0),
        written: (offset, width),
        values: Values::Data,
    }
}

const fn load(offset: u64, width: u64, code: &'static [u8]) -> Instruction {
    Instruction {
        code,
        offset,
        read: (offset, width),
        written: (0, 0),
        values: Values::Data,
    }
}

const fn update(offset: u64, width: u64, code: &'static [u8]) -> Instruction {
    Instruction {
        code,
        offset,
        read: (offset, width),
        written: (offset, width),
        values: Values::Data,
    }
}

const fn string(offset: u64, width: u64, values: Values, code: &'static [u8]) -> Instruction {
    Instruction {
        code,
        offset,
        read: (0, 0),
        written: (offset, width),
        values,
    }
}

const fn port(width: u64, is_write: bool, code: &'static [u8]) -> Instruction {
    let (there, nothing) = ((PORT, width), (0, 0));
    let (read, written) = if is_write {
        (nothing, there)
    } else {
        (there, nothing)
    };
    Instruction {
        code,
        offset: 0,
        read,
        written,
        values: Values::Data,
    }
}

macro_rules! instructions {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[case(
            spec = "KVM api 5",
            needs("service.kick", "service.mmio_counter"),
            rows(
                // mov [rdi], sil
                store_byte: store(3, 1, &[0x40, 0x88, 0x37]),
                // mov [rdi], si
                store_word: store(2, 2, &[0x66, 0x89, 0x37]),
                // mov [rdi], esi
                store_doubleword: store(4, 4, &[0x89, 0x37]),
                // mov [rdi], rsi
                store_quadword: store(8, 8, &[0x48, 0x89, 0x37]),
                // mov [rdi], rsi: six bytes before the boundary, two behind
                store_over_a_page_boundary: store(0xffa, 8, &[0x48, 0x89, 0x37]),
                // movzx eax, byte [rdi]
                load_byte: load(5, 1, &[0x0f, 0xb6, 0x07]),
                // mov eax, [rdi]
                load_doubleword: load(0x10, 4, &[0x8b, 0x07]),
                // mov rax, [rdi]
                load_quadword: load(0x18, 8, &[0x48, 0x8b, 0x07]),
                // mov rax, [rdi] over the boundary
                load_over_a_page_boundary: load(0xffd, 8, &[0x48, 0x8b, 0x07]),
                // mov eax, esi; xchg [rdi], eax
                exchange: update(0x20, 4, &[0x89, 0xf0, 0x87, 0x07]),
                // mov eax, esi; mov ecx, 5; rep stosb
                string_store: string(0x40, 5, Values::LowByte,
                    &[0x89, 0xf0, 0xb9, 5, 0, 0, 0, 0xf3, 0xaa]),
                // mov eax, esi; mov ecx, 6; rep stosb over the boundary
                string_store_over_a_page_boundary: string(0xffd, 6, Values::LowByte,
                    &[0x89, 0xf0, 0xb9, 6, 0, 0, 0, 0xf3, 0xaa]),
                // mov esi, 0x7000; mov ecx, 3; rep movsd
                string_move_to_the_device: string(0x80, 12, Values::Memory,
                    &[0xbe, 0, 0x70, 0, 0, 0xb9, 3, 0, 0, 0, 0xf3, 0xa5]),
                // mov dx, 0xa5b0; mov eax, esi; out dx, al
                out_byte: port(1, true, &[0x66, 0xba, 0xb0, 0xa5, 0x89, 0xf0, 0xee]),
                // mov dx, 0xa5b0; mov eax, esi; out dx, eax
                out_doubleword: port(4, true, &[0x66, 0xba, 0xb0, 0xa5, 0x89, 0xf0, 0xef]),
                // mov dx, 0xa5b0; xor eax, eax; in al, dx
                in_byte: port(1, false, &[0x66, 0xba, 0xb0, 0xa5, 0x31, 0xc0, 0xec]),
                // mov dx, 0xa5b0; in eax, dx
                in_doubleword: port(4, false, &[0x66, 0xba, 0xb0, 0xa5, 0xed]),
            )
        )]
        fn $name(device: &Device, instruction: Instruction) -> Verdict {
            let kind = match stringify!($name) {
                "undisturbed" => 0,
                "interrupted_by_immediate_exit" => kick::IMMEDIATE_EXIT,
                "interrupted_by_a_signal" => kick::SIGNAL,
                _ => kick::STATE,
            };
            once(device, &instruction, kind)
        }
    };
}

instructions! {
    /// Each access reaches the device once, with its bytes, and reads return the device's.
    undisturbed
}
instructions! {
    /// An access whose processor is made to leave the kernel before it goes on is made once.
    interrupted_by_immediate_exit
}
instructions! {
    /// An access whose thread is hit by a signal is made once.
    interrupted_by_a_signal
}
instructions! {
    /// An access after which the host reads and writes back the processor's state is made once.
    interrupted_by_state_access
}

fn once(device: &Device, instruction: &Instruction, kind: u64) -> Verdict {
    for i in 0..16u64 {
        cpu::poke(SOURCE + i, i as u8 ^ 0x5a)?;
    }
    let code = Code::new(instruction.code);
    device.reset(u64::from(kind != 0), kind)?;
    let result = code.run(COUNTER + instruction.offset, DATA)?;
    let seen = device.seen()?;

    let (offset, count) = instruction.read;
    let answered = |i: u64| (((offset + i) as u32), counter_byte(offset + i));
    let expected: Vec<_> = (0..count).map(answered).collect();
    expect_eq!(
        bytes(&seen.log, false),
        expected,
        "bytes the device was asked for"
    )?;
    if count != 0 {
        let value = (0..count).fold(0, |v, i| v | u64::from(answered(i).1) << (8 * i));
        let mask = u64::MAX >> (64 - 8 * count);
        expect_eq!(result & mask, value, "what the instruction read")?;
    }
    let (offset, count) = instruction.written;
    let value = |i: u64| match instruction.values {
        Values::Data => (DATA >> (8 * i)) as u8,
        Values::LowByte => DATA as u8,
        Values::Memory => i as u8 ^ 0x5a,
    };
    let expected: Vec<_> = (0..count)
        .map(|i| ((offset + i) as u32, value(i)))
        .collect();
    expect_eq!(
        bytes(&seen.log, true),
        expected,
        "bytes the device was given"
    )?;
    if kind != 0 {
        expect!(seen.kicks > 0, "no access was interrupted")?;
    }
    Ok(())
}

/// A hundred accesses in a row, every third interrupted: the device sees a hundred, in order.
#[case(
    spec = "KVM api 5",
    needs("service.kick", "service.mmio_counter"),
    rows(immediate_exit: kick::IMMEDIATE_EXIT, signal: kick::SIGNAL, state: kick::STATE)
)]
fn every_third_access_interrupted_by(device: &Device, kind: u64) -> Verdict {
    // mov [rdi], esi; inc esi; dec ecx; jnz
    let code = Code::new(&[
        0xb9, 100, 0, 0, 0, 0x89, 0x37, 0xff, 0xc6, 0xff, 0xc9, 0x75, 0xf8,
    ]);
    device.reset(3, kind)?;
    code.run(COUNTER, 1)?;
    let seen = device.seen()?;
    let values: Vec<u64> = seen.log.iter().map(|a| a.value).collect();
    expect_eq!(values, (1..=100).collect::<Vec<u64>>())?;
    expect_eq!(seen.kicks, 33)
}

/// Reads and writes of the device change no register but the destination, interrupted or not.
#[case(spec = "KVM api 5", needs("service.kick", "service.mmio_counter"))]
fn accesses_keep_the_other_registers(device: &Device) -> Verdict {
    // push rbx; mov rbx, rsi; mov rcx, rsi; not rcx; mov [rdi], esi; mov eax, [rdi+4]
    // cmp rbx, rsi; jne bad; not rcx; cmp rcx, rsi; jne bad; mov eax, 1; pop rbx; ret
    // bad: xor eax, eax; pop rbx
    let code = Code::new(&[
        0x53, 0x48, 0x89, 0xf3, 0x48, 0x89, 0xf1, 0x48, 0xf7, 0xd1, 0x89, 0x37, 0x8b, 0x47, 0x04,
        0x48, 0x39, 0xf3, 0x75, 0x0f, 0x48, 0xf7, 0xd1, 0x48, 0x39, 0xf1, 0x75, 0x07, 0xb8, 1, 0,
        0, 0, 0x5b, 0xc3, 0x31, 0xc0, 0x5b,
    ]);
    for kind in [0, kick::IMMEDIATE_EXIT, kick::SIGNAL, kick::STATE] {
        device.reset(u64::from(kind != 0), kind)?;
        expect_eq!(code.run(COUNTER, DATA)?, 1, "registers with kick {kind}")?;
    }
    Ok(())
}

static TRAPS: AtomicU64 = AtomicU64::new(0);
static TRAP_AT: AtomicU64 = AtomicU64::new(0);

/// Single-stepping traps once after an access to the device, at the next instruction.
#[case(
    spec = "SDM 3B 18.3.1.4",
    needs("service.mmio_counter"),
    rows(
        // mov [rdi], esi
        store: &[0x89, 0x37],
        // mov eax, [rdi]
        load: &[0x8b, 0x07],
        // xchg [rdi], esi
        exchange: &[0x87, 0x37],
    )
)]
fn single_step_traps_once_after(device: &Device, access: &'static [u8]) -> Verdict {
    // pushfq; or qword [rsp], 0x100; popfq; <access>; nop
    let mut text = vec![0x9c, 0x48, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d];
    let next = text.len() as u64 + access.len() as u64;
    text.extend_from_slice(access);
    text.push(0x90);
    let code = Code::new(&text);
    TRAPS.store(0, Ordering::SeqCst);
    let _handler = fault::Handler::new(1, |frame| {
        if TRAPS.fetch_add(1, Ordering::SeqCst) == 0 {
            TRAP_AT.store(frame.rip, Ordering::SeqCst);
        }
        frame.rflags &= !0x100;
    });
    device.reset(0, 0)?;
    code.run(COUNTER + 8, DATA)?;
    expect_eq!(TRAPS.load(Ordering::SeqCst), 1, "single-step traps")?;
    expect_eq!(
        TRAP_AT.load(Ordering::SeqCst),
        code.address() + next,
        "where it traps"
    )?;
    let seen = device.seen()?;
    expect!(seen.reads + seen.writes >= 1, "the device saw nothing")?;
    expect!(
        seen.reads <= 1 && seen.writes <= 1,
        "accesses made twice: {seen:?}"
    )
}

/// A faulting instruction on emulated memory moves nothing: RIP stays and the device sees nothing.
#[case(spec = "SDM 3A 6.5", needs("service.mmio_counter"))]
fn faulting_access_reaches_no_device(device: &Device) -> Verdict {
    use guest_lib::arch::paging::{AddressSpace, FREE_BASE, P};
    let mut space = AddressSpace::new(false);
    // The first page is the device's and read-only, the second is absent.
    space.set(FREE_BASE, 1, COUNTER | P);
    let code = Code::new(&[0x90, 0x48, 0x89, 0x37]);
    for offset in [8, 0xffc] {
        device.reset(0, 0)?;
        let refused = space.with(|| code.run(FREE_BASE + offset, DATA));
        expect!(refused.is_err(), "a store to a read-only page went through")?;
        expect_eq!(fault::details().rip, code.address() + 1, "where it faults")?;
        let seen = device.seen()?;
        expect_eq!(
            (seen.reads, seen.writes),
            (0, 0),
            "accesses of a faulting store"
        )?;
    }
    let load = Code::new(&[0x48, 0x8b, 0x07]);
    expect!(
        space.with(|| load.run(FREE_BASE + 8, 0)).is_ok(),
        "the page can be read"
    )
}
