//! Faults as values. Spec: SDM 3A 6.15.
//!
//! Every other case compares the fault it gets with the fault the manual asks for, so the
//! runtime must report vector, error code and address exactly, and must survive nesting.

use guest_lib::arch::cpu;
use guest_lib::arch::registers::Cr4;
use guest_lib::prelude::*;

/// UD2 raises #UD, and code after it runs when it is taken away.
#[case(spec = "SDM 3A 6.15 UD2")]
fn ud2_raises_ud() -> Verdict {
    expect_eq!(fault::catch(cpu::ud2), Err(Fault::UD))?;
    expect_eq!(fault::catch(|| 7), Ok(7))
}

/// A reserved bit written to CR4 raises #GP(0) and changes nothing; the old value is taken.
#[case(spec = "SDM 3A 2.5 CR4")]
fn reserved_cr4_bit_raises_gp() -> Verdict {
    let before = Cr4::read();
    let spoiled = Cr4::from_bits_retain(before.bits() | 1 << 63);
    expect_eq!(spoiled.write(), Err(Fault::GP0))?;
    expect_eq!(Cr4::read(), before)?;
    expect_eq!(before.write(), Ok(()))
}

/// A privileged instruction at privilege level 3 raises #GP(0); a harmless one does not.
#[case(spec = "SDM 3A 6.15 CLI")]
fn user_mode_is_not_privileged() -> Verdict {
    expect_eq!(fault::catch_user(cpu::disable_interrupts), Err(Fault::GP0))?;
    expect_eq!(fault::details().cs & 3, 3)?;
    expect_eq!(fault::catch_user(|| 40 + 2), Ok(42))
}

/// Every processor can be started, run code and stopped again.
#[case(spec = "SDM 3A 9.4.4", needs("cpus>=2"))]
fn all_processors_run_code() -> Verdict {
    for _ in 0..2 {
        let seen = cpus::on_all(|cpu| (cpu, cpus::this()))?;
        expect!(seen.iter().all(|(asked, ran)| asked == ran), "{seen:?}")?;
        expect_eq!(seen.len(), cpus::count())?;
    }
    Ok(())
}
