//! Save and restore into a fresh machine. Spec: KVM api 4 and the part of the state at hand.
//!
//! Everything a guest can see is state, and a machine that is moved takes it along: registers,
//! pages, what is pending, what is armed. Each case leaves a mark in one part, has the machine
//! rebuilt around itself, and looks for the mark; that the mark can be changed at all is shown first.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest_lib::arch::apic::{self, Register};
use guest_lib::arch::code::Code;
use guest_lib::arch::{cpu, msr};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;
use guest_lib::service::{self, Request, SLOTS, ServiceError, Slot};

/// Memory survives, in the payload's slot and in another one.
#[case(
    spec = "KVM api 4.35",
    needs("service.memslot", "service.save_restore")
)]
fn memory_survives() -> Verdict {
    let slot = Slot::add(1, SLOTS, 64, 0)?;
    let heap: Vec<u64> = (0..2048).map(|i| i * i + 1).collect();
    for round in 0..3u64 {
        (0..64).for_each(|p| slot.touch(p, p * 7 + round + 1));
        service::ask(Request::SaveRestore)?;
        for page in 0..64 {
            expect_eq!(
                slot.load::<u64>(4096 * page),
                page * 7 + round + 1,
                "page {page}"
            )?;
        }
        expect!(
            (0..2048).all(|i| heap[i as usize] == i * i + 1),
            "the heap changed"
        )?;
    }
    Ok(())
}

/// A model-specific register keeps its value.
#[case(
    spec = "SDM 3A 10.4",
    needs("service.save_restore"),
    rows(
        lstar: (msr::LSTAR, 0x0012_3456_7890),
        star: (msr::STAR, 0x0023_0010_1234_5678),
        sfmask: (msr::SFMASK, 0x4_7700),
        cstar: (msr::CSTAR, 0x0000_7fff_1234_5670),
        kernel_gs_base: (msr::KERNEL_GS_BASE, 0xffff_8000_dead_0000),
        sysenter_esp: (msr::SYSENTER_ESP, 0x1234_5678),
        sysenter_eip: (msr::SYSENTER_EIP, 0x8765_4321),
        pat: (msr::PAT, 0x0007_0106_0007_0406),
    )
)]
fn register_survives(row: (u32, u64)) -> Verdict {
    let (number, value) = row;
    let before = msr::read(number)?;
    expect_ne!(before, value, "the mark differs from what is there")?;
    msr::write(number, value)?;
    expect_eq!(msr::read(number)?, value, "the mark can be set")?;
    let rebuilt = service::ask(Request::SaveRestore);
    let after = msr::read(number)?;
    msr::write(number, before)?;
    rebuilt?;
    expect_eq!(after, value)
}

/// Debug registers keep their values.
#[case(spec = "SDM 3B 18.2", needs("service.save_restore"))]
fn debug_registers_survive() -> Verdict {
    cpu::write_dr0(0x1111_0000)?;
    cpu::write_dr1(0x2222_0000)?;
    cpu::write_dr2(0x3333_0000)?;
    cpu::write_dr3(0x4444_0000)?;
    // Conditions and lengths, all breakpoints off.
    cpu::write_dr7(0x5555_0400)?;
    let rebuilt = service::ask(Request::SaveRestore);
    let seen = [
        cpu::read_dr0(),
        cpu::read_dr1(),
        cpu::read_dr2(),
        cpu::read_dr3(),
        cpu::read_dr7(),
    ];
    cpu::write_dr7(0x400)?;
    rebuilt?;
    expect_eq!(
        seen,
        [
            0x1111_0000,
            0x2222_0000,
            0x3333_0000,
            0x4444_0000,
            0x5555_0400
        ]
    )
}

/// The x87 control word, MXCSR, x87 and vector registers keep their values.
#[case(spec = "SDM 1 10.5", needs("service.save_restore"))]
fn floating_point_state_survives() -> Verdict {
    // fxrstor [rdi]; fxsave [rdi]
    let load = Code::new(&[0x0f, 0xae, 0x0f]);
    let save = Code::new(&[0x0f, 0xae, 0x07]);
    let (kept, image) = (Frames::new(1), Frames::new(1));
    save.run(kept.address(), 0)?;
    save.run(image.address(), 0)?;
    // Control word, MXCSR, the significand of ST0, XMM0, XMM5.
    image.write(0, 0x027fu16);
    image.write(24, 0x3f80u32);
    image.write(32, 0x8123_4567_89ab_cdefu64);
    image.write(40, 0x4001u16);
    image.write(160, 0x0123_4567_89ab_cdefu64);
    image.write(240, 0xfedc_ba98_7654_3210u64);
    let seen = Frames::new(1);
    load.run(image.address(), 0)?;
    let rebuilt = service::ask(Request::SaveRestore);
    let saved = save.run(seen.address(), 0);
    load.run(kept.address(), 0)?;
    rebuilt?;
    saved?;
    expect_eq!(seen.read::<u16>(0), 0x027f, "FCW")?;
    expect_eq!(seen.read::<u32>(24), 0x3f80, "MXCSR")?;
    expect_eq!(seen.read::<u64>(32), 0x8123_4567_89ab_cdef, "ST0")?;
    expect_eq!(seen.read::<u64>(160), 0x0123_4567_89ab_cdef, "XMM0")?;
    expect_eq!(seen.read::<u64>(240), 0xfedc_ba98_7654_3210, "XMM5")
}

/// The local APIC keeps its registers.
#[case(spec = "SDM 3A 11.4.1", needs("service.save_restore"))]
fn local_apic_registers_survive() -> Verdict {
    const MASKED: u32 = 1 << 16;
    apic::enable(0xef);
    let old = [
        (Register::TPR, apic::read(Register::TPR)),
        (Register::LVT_ERROR, apic::read(Register::LVT_ERROR)),
        (Register::DIVIDE, apic::read(Register::DIVIDE)),
    ];
    apic::write(Register::TPR, 0x50)?;
    apic::write(Register::LVT_ERROR, MASKED | 0x77)?;
    apic::write(Register::DIVIDE, 0xa)?;
    let rebuilt = service::ask(Request::SaveRestore);
    let read = |r: Register| apic::read(r);
    let seen = [
        read(Register::SVR) & 0x1ff,
        read(Register::TPR),
        read(Register::LVT_ERROR),
        read(Register::DIVIDE),
    ];
    for (register, value) in old {
        apic::write(register, value)?;
    }
    rebuilt?;
    expect_eq!(seen, [0x1ef, 0x50, MASKED | 0x77, 0xa])
}

static TAKEN: AtomicU64 = AtomicU64::new(0);

fn counting(vector: u8) -> fault::Handler {
    TAKEN.store(0, Ordering::SeqCst);
    fault::Handler::new(vector, |_| {
        TAKEN.fetch_add(1, Ordering::SeqCst);
        apic::eoi();
    })
}

/// An interrupt that is pending stays pending, and is taken once.
#[case(spec = "SDM 3A 11.8.4", needs("service.save_restore"))]
fn pending_interrupt_survives() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x73);
    apic::send_ipi(apic::id(), apic::ICR_FIXED | 0x73);
    let before = apic::is_pending(0x73);
    service::ask(Request::SaveRestore)?;
    let after = apic::is_pending(0x73);
    expect_eq!(TAKEN.load(Ordering::SeqCst), 0, "interrupts are off")?;
    cpu::with_interrupts(|| time::wait_until(time::ms(500), || TAKEN.load(Ordering::SeqCst) != 0));
    cpu::with_interrupts(|| time::spin(time::ms(1)));
    expect_eq!((before, after), (true, true), "IRR before and after")?;
    expect_eq!(TAKEN.load(Ordering::SeqCst), 1)
}

/// An armed timer goes on counting and interrupts once.
#[case(spec = "SDM 3A 11.5.4", needs("service.save_restore"))]
fn armed_timer_survives() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x74);
    // Divide by 1; one shot; long enough to outlive the rebuilding.
    apic::write(Register::DIVIDE, 0xb)?;
    apic::write(Register::LVT_TIMER, 0x74)?;
    apic::write(Register::INITIAL_COUNT, 2_000_000_000)?;
    let before = apic::read(Register::CURRENT_COUNT);
    service::ask(Request::SaveRestore)?;
    let after = apic::read(Register::CURRENT_COUNT);
    expect!(
        after != 0 && after <= before,
        "the count went from {before} to {after}"
    )?;
    cpu::with_interrupts(|| time::wait_until(time::PATIENCE, || TAKEN.load(Ordering::SeqCst) != 0));
    cpu::with_interrupts(|| time::spin(time::ms(1)));
    apic::write(Register::LVT_TIMER, 1 << 16)?;
    expect_eq!(TAKEN.load(Ordering::SeqCst), 1)
}

/// The time-stamp counter never goes back.
#[case(spec = "SDM 3B 18.17", needs("service.save_restore"))]
fn time_stamp_counter_never_goes_back() -> Verdict {
    for _ in 0..5 {
        let before = cpu::rdtsc();
        service::ask(Request::SaveRestore)?;
        let after = cpu::rdtsc();
        expect!(
            after > before,
            "the counter went from {before:#x} to {after:#x}"
        )?;
    }
    Ok(())
}

/// A processor that computes while the machine is rebuilt goes on where it was, again and again.
#[case(
    spec = "KVM api 4.10",
    needs("cpus>=2", "service.memslot", "service.save_restore")
)]
fn other_processors_go_on() -> Verdict {
    let slot = Slot::add(1, SLOTS, 64, 0)?;
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let results = cpus::on_each(cpus::all(), |cpu| {
        if cpu == Cpu::BOOT {
            let rounds = || -> Result<u64, Stop> {
                for _ in 0..10 {
                    let from = done.load(Ordering::SeqCst);
                    service::ask(Request::SaveRestore)?;
                    let moved = || done.load(Ordering::SeqCst) > from;
                    expect!(
                        time::wait_until(time::PATIENCE, moved),
                        "the writer stands still"
                    )?;
                }
                Ok(0)
            };
            let result = rounds();
            stop.store(true, Ordering::SeqCst);
            return result;
        }
        // Each stamp is written, and read back a full round later: the one that is written while the
        // machine moves must be there as well.
        let base = cpu.0 as u64 * 8;
        let mut stamp = 0u64;
        let mut wrong = 0;
        while !stop.load(Ordering::SeqCst) {
            stamp += 1;
            let offset = 4096 * (stamp % 64) + base;
            if stamp > 64 && slot.load::<u64>(offset) != stamp - 64 {
                wrong += 1;
            }
            slot.store(offset, stamp);
            if cpu.0 == 1 {
                done.store(stamp, Ordering::SeqCst);
            }
        }
        Ok(wrong)
    })?;
    for (cpu, wrong) in results.into_iter().enumerate() {
        expect_eq!(wrong?, 0, "old pages seen by CPU {cpu}")?;
    }
    Ok(())
}

/// A write to a device that is under way when another processor rebuilds the machine is made once.
#[case(
    spec = "KVM api 5",
    needs("cpus>=2", "service.mmio_counter", "service.save_restore")
)]
fn device_writes_survive_once(device: &crate::Device) -> Verdict {
    use guest_lib::service::COUNTER;
    const WRITES: u64 = 300;
    device.reset(0, 0)?;
    let finished = AtomicBool::new(false);
    let code = Code::new(&[0x89, 0x37]);
    let results = cpus::on_each([Cpu(0), Cpu(1)].into_iter(), |cpu| {
        if cpu == Cpu(1) {
            let bad = (1..=WRITES)
                .filter(|&i| code.run(COUNTER, i).is_err())
                .count();
            finished.store(true, Ordering::SeqCst);
            return Ok(bad);
        }
        while !finished.load(Ordering::SeqCst) {
            service::ask(Request::SaveRestore)?;
        }
        Ok(0)
    })?;
    for result in results {
        let result: Result<usize, ServiceError> = result;
        expect_eq!(result?, 0, "faults")?;
    }
    let values: Vec<u64> = device.seen()?.log.iter().map(|a| a.value).collect();
    expect_eq!(values, (1..=WRITES).collect::<Vec<_>>())
}
