//! Exception entry and return. Spec: DDI0487 D1.4, D1.5.
//!
//! ESR, ELR, SPSR and PSTATE of an exception are fixed by the architecture, wherever it came from. KVM has
//! entered injected exceptions with a wrong PSTATE; only a handler that looks can notice.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_lib::arch::fault::{Frame, Vector, ec};
use guest_lib::arch::gic::Gic;
use guest_lib::arch::probe::{self, Instruction, Probe, Registers, observed};
use guest_lib::arch::registers::*;
use guest_lib::arch::timer::Timers;
use guest_lib::prelude::*;

/// The frame of the exception that `probe` runs into.
fn frame_of(probe: Probe) -> Result<Frame, Stop> {
    fault::forget();
    match fault::catch(|| probe.run(0, 0)) {
        Err(_) => Ok(fault::details()),
        Ok(_) => fail!("no exception is taken"),
    }
}

fn user_frame_of(probe: Probe) -> Result<Frame, Stop> {
    fault::forget();
    match fault::catch_user(|| probe.run(0, 0)) {
        Err(_) => Ok(fault::details()),
        Ok(_) => fail!("no exception is taken"),
    }
}

/// The syndrome, the return address and the vector are exact, from both levels.
#[case(
    spec = "DDI0487 D1.4",
    rows(
        undefined_register: (probe::UNDEFINED, Fault::UNDEFINED, 0),
        udf: (probe::UDF, Fault::UNDEFINED, 0),
        svc: (probe::SVC, Fault::svc(123), 4),
        brk: (probe::BRK, Fault::new(ec::BRK64, 0x5a5a), 0),
    )
)]
fn exception_is_exact_at_both_levels(row: (Probe, Fault, u64)) -> Verdict {
    let (probe, fault, after) = row;
    let same = frame_of(probe)?;
    expect_eq!(same.fault(), fault, "from the same level")?;
    expect_eq!(same.elr, probe.address() + after, "ELR from the same level")?;
    expect_eq!(same.vector, Vector::SPX_SYNC)?;
    let lower = user_frame_of(probe)?;
    expect_eq!(lower.fault(), fault, "from EL0")?;
    expect_eq!(lower.elr, probe.address() + after, "ELR from EL0")?;
    expect_eq!(lower.vector, Vector::LOWER64_SYNC)
}

/// x0 to x30, SP, NZCV and the FP registers survive an exception that is handled.
#[case(
    spec = "DDI0487 D1.4",
    needs("arm64.fp"),
    rows(svc: (Instruction::Svc, 0), undefined: (Instruction::Undefined, 4))
)]
fn registers_survive(row: (Instruction, u64)) -> Verdict {
    let (instruction, skip) = row;
    let mut before = Registers::pattern();
    let after = fault::with_hook(
        |frame| {
            frame.elr += skip;
            true
        },
        || observed(instruction, &before),
    );
    before.tpidr_el0 = after.tpidr_el0;
    expect_eq!(after, before)
}

/// SPSR holds the interrupted flags, masks and mode.
#[case(
    spec = "DDI0487 D1.5",
    needs("arm64.fp"),
    rows(svc: (Instruction::Svc, 0), undefined: (Instruction::Undefined, 4))
)]
fn spsr_holds_the_interrupted_pstate(row: (Instruction, u64)) -> Verdict {
    let (instruction, skip) = row;
    let (spsr, before) = (AtomicU64::new(0), Registers::pattern());
    let hook = |frame: &mut Frame| {
        spsr.store(frame.spsr, SeqCst);
        frame.elr += skip;
        true
    };
    fault::with_hook(hook, || observed(instruction, &before));
    let spsr = Pstate::from_bits_retain(spsr.into_inner());
    expect_eq!((spsr & Pstate::NZCV).bits(), before.nzcv, "NZCV")?;
    expect_eq!(spsr & Pstate::DAIF, Pstate::DAIF)?;
    expect_eq!(
        spsr & (Pstate::SS | Pstate::IL),
        Pstate::empty(),
        "SS and IL"
    )?;
    expect_eq!(spsr.bits() & 0x1f, arch::cpu::current_el() << 2 | 1, "mode")
}

/// SPSR holds PSTATE bits of extensions that were set before the exception.
#[case(
    spec = "DDI0487 D1.5",
    rows(
        pan: (20, set_pan, Pstate::PAN),
        uao: (104, set_uao, Pstate::UAO),
        dit: (48, set_dit, Pstate::DIT),
        ssbs: (68, set_ssbs, Pstate::SSBS),
        tco: (72, set_tco, Pstate::TCO),
    )
)]
fn spsr_holds_extension_bits(row: (u32, fn(bool), Pstate)) -> Verdict {
    let (place, set, bit) = row;
    // Where the extension is announced: MMFR1.PAN, MMFR2.UAO (+100), PFR0.DIT, PFR1.SSBS and MTE (+64).
    let level = match place {
        20 => field(IdAa64mmfr1El1::read(), 20),
        104 => field(IdAa64mmfr2El1::read(), 4),
        48 => field(IdAa64pfr0El1::read(), 48),
        68 => field(IdAa64pfr1El1::read(), 4) / 2,
        _ => field(IdAa64pfr1El1::read(), 8) / 2,
    };
    if level == 0 {
        // Without the extension the bit's register is undefined.
        return expect_eq!(fault::catch(|| set(false)), Err(Fault::UNDEFINED));
    }
    let spsr_with = |on| {
        fault::forget();
        let caught = fault::catch(|| {
            set(on);
            probe::SVC.run(0, 0)
        });
        set(bit == Pstate::SSBS && on);
        caught
            .err()
            .map(|_| Pstate::from_bits_retain(fault::details().spsr) & bit)
    };
    let (set_on, set_off) = (spsr_with(true), spsr_with(false));
    set(false);
    expect_eq!(
        (set_on, set_off),
        (Some(bit), Some(Pstate::empty())),
        "(set, clear)"
    )
}

/// The handler runs with everything masked, at its own level, on its own stack pointer.
#[case(
    spec = "DDI0487 D1.4",
    rows(svc: probe::SVC, undefined: probe::UNDEFINED, brk: probe::BRK)
)]
fn handler_state_is_architected(probe: Probe) -> Verdict {
    for frame in [frame_of(probe)?, user_frame_of(probe)?] {
        expect_eq!(
            Pstate::from_bits_retain(frame.daif),
            Pstate::DAIF,
            "DAIF in the handler"
        )?;
        expect_eq!(
            frame.level,
            arch::cpu::current_el() << 2 | 1,
            "level and stack pointer"
        )?;
    }
    Ok(())
}

/// An exception with SP_EL0 selected uses the first vector.
#[case(spec = "DDI0487 D1.4")]
fn sp0_uses_the_first_vector() -> Verdict {
    let frame = frame_of(probe::UNDEFINED_SP0)?;
    expect_eq!(frame.vector, Vector::SP0_SYNC)?;
    expect_eq!(frame.spsr & 1, 0, "SPSR.M[0]")?;
    expect_eq!(
        frame_of(probe::UNDEFINED)?.vector,
        Vector::SPX_SYNC,
        "with SP_ELx again"
    )
}

/// A register that does not exist for the guest is undefined, with nothing else in the syndrome.
#[case(
    spec = "DDI0487 D23.3",
    rows(
        of_el3: (SctlrEl3::read, false),
        implementation_defined: (ImplementationDefined::read, true),
    )
)]
fn absent_register_is_undefined(row: (fn() -> u64, bool)) -> Verdict {
    let (read, may_be_trapped) = row;
    fault::forget();
    let refused = fault::catch(read).err();
    let trapped = refused.map(Fault::ec) == Some(ec::SYSTEM);
    // An implementation defined register may be trapped by its own class; EL3's may not.
    if trapped && may_be_trapped {
        return Ok(());
    }
    expect_eq!(refused, Some(Fault::UNDEFINED))
}

/// WFI at EL0 traps while SCTLR_EL1.nTWI is clear and there is nothing to end it.
#[case(spec = "DDI0487 D24.2 SCTLR_EL1")]
fn wfi_at_el0_follows_ntwi(gic: &mut Gic, timers: &mut Timers) -> Verdict {
    const NTWI: u64 = 1 << 16;
    let timer = timers.phys;
    gic.set_enabled(timer.intid()?, true);
    let before = SctlrEl1::read();
    SctlrEl1::write(before & !NTWI);
    fault::forget();
    // The timer ends a WFI that is not trapped; until then nothing is pending.
    timer.set_deadline(timer.count() + time::ticks(time::ms(20)));
    timer.set_control(TimerControl::ENABLE);
    let trapped = fault::catch_user(|| probe::WFI.run(0, 0));
    let elr = fault::details().elr;
    timer.stop();
    SctlrEl1::write(before);
    expect_eq!(trapped.err().map(Fault::ec), Some(ec::WFX))?;
    expect_eq!(elr, probe::WFI.address())
}

/// Masking interrupts at EL0 is refused while SCTLR_EL1.UMA is clear, and allowed while it is set.
#[case(spec = "DDI0487 D24.2 SCTLR_EL1")]
fn daif_at_el0_follows_uma() -> Verdict {
    const UMA: u64 = 1 << 9;
    let before = SctlrEl1::read();
    SctlrEl1::write(before & !UMA);
    let refused = fault::catch_user(|| probe::MASK.run(0, 0)).err();
    SctlrEl1::write(before | UMA);
    let allowed = fault::catch_user(|| probe::MASK.run(0, 0));
    SctlrEl1::write(before);
    expect_eq!(refused.map(Fault::ec), Some(ec::SYSTEM), "with UMA clear")?;
    expect_eq!(allowed.err(), None, "with UMA set")
}

/// A floating-point instruction traps with class 7 while CPACR_EL1 closes it, and runs while it is open.
#[case(spec = "DDI0487 D24.2 CPACR_EL1", needs("arm64.fp"))]
fn floating_point_follows_cpacr() -> Verdict {
    let before = CpacrEl1::read();
    CpacrEl1::write(before & !(3 << 20));
    fault::forget();
    let refused = fault::catch(|| probe::FLOAT.run(0, 0)).err();
    let elr = fault::details().elr;
    CpacrEl1::write(before | 3 << 20);
    let allowed = fault::catch(|| probe::FLOAT.run(0, 0));
    CpacrEl1::write(before);
    expect_eq!(refused.map(Fault::ec), Some(ec::FP), "closed")?;
    expect_eq!(elr, probe::FLOAT.address())?;
    expect_eq!(allowed.err(), None, "open")
}
