//! Code that changes. Spec: DDI0487 D7.5, B2.7.
//!
//! A just-in-time compiler writes instructions and then does exactly what CTR_EL0.{IDC, DIC} (and CLIDR_EL1) ask for: clean
//! to the point of unification, invalidate, two barriers. A hypervisor that advertises too
//! little, or an emulator that keeps translated code too long, runs the old instructions once in a while.
//! So the new value is checked after every one of thousands of changes, and no extra maintenance hides
//! anything.

use core::sync::atomic::{AtomicU64, Ordering};
use guest_lib::arch::code::{Code, NOP, RET, call, least_maintenance, movz, publish, publish_by};
use guest_lib::arch::paging::{PRIVATE, Space, bits, flush, flush_page};
use guest_lib::prelude::*;

const AT: u64 = PRIVATE + 0x70_0000_0000;

/// MOVZ X0, #n.
fn load(n: u32) -> u32 {
    movz(0, n as u16)
}

/// A function that is rewritten returns its new value every time.
#[case(spec = "DDI0487 D7.5")]
fn rewritten_code_runs() -> Verdict {
    let code = Code::new(&[load(0), RET]);
    let least = least_maintenance();
    for i in 1..10_000u32 {
        code.frame().write(0, load(i));
        publish_by(least, code.address(), 4);
        expect_eq!(call(code.address(), 0), u64::from(i as u16), "round {i}")?;
    }
    Ok(())
}

/// A change in the middle of a page and across a line is seen in both lines.
#[case(spec = "DDI0487 D7.5")]
fn code_across_lines_runs() -> Verdict {
    // Two instructions on both sides of every line boundary of the page, one after the other.
    let code = Code::new(&[NOP; 1024]);
    for i in 1..2_000u32 {
        let line = 64 * (1 + i as usize % 62);
        let words = [load(i), 0x9100_0400, RET];
        for (n, word) in words.into_iter().enumerate() {
            code.frame().write(line - 4 + n * 4, word);
        }
        let at = code.address() + line as u64 - 4;
        publish(at, 12);
        expect_eq!(call(at, 0), u64::from(i as u16) + 1, "round {i}")?;
    }
    Ok(())
}

/// Code that is written through another address runs anew at its own.
#[case(spec = "DDI0487 D7.5")]
fn code_written_by_an_alias_runs() -> Verdict {
    let code = Code::new(&[load(0), RET]);
    let mut space = Space::kernel();
    space.set(AT, 3, code.address() | bits::PAGE);
    flush();
    for i in 1..3_000u32 {
        space.run(|| {
            arch::mmio::Mmio::new(AT).write32(0, load(i));
            publish(AT, 4);
            publish(code.address(), 4);
        });
        expect_eq!(call(code.address(), 0), u64::from(i as u16), "round {i}")?;
        let alias = fault::catch(|| space.run(|| call(AT, 0)))?;
        expect_eq!(alias, u64::from(i as u16), "round {i}, by the alias")?;
    }
    Ok(())
}

/// A page that is mapped to other code runs that, after TLB maintenance only.
#[case(spec = "DDI0487 D8.17")]
fn remapped_code_runs() -> Verdict {
    let codes: Vec<Code> = (0..4).map(|i| Code::new(&[load(i * 11), RET])).collect();
    let mut space = Space::kernel();
    for i in 0..3_000usize {
        let code = &codes[i * 7 % 4];
        space.set(AT, 3, 0);
        flush_page(AT);
        space.set(AT, 3, code.address() | bits::PAGE);
        let got = fault::catch(|| space.run(|| call(AT, 0)))?;
        expect_eq!(got, (i * 7 % 4 * 11) as u64, "round {i}")?;
    }
    Ok(())
}

/// Another processor runs the new code after one ISB of its own.
#[case(spec = "DDI0487 B2.7", needs("cpus>=2"), timeout_s = 120)]
fn other_processors_run_rewritten_code() -> Verdict {
    const ROUNDS: u32 = 100;
    let code = Code::new(&[load(0), RET]);
    let (ready, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let wait = |word: &AtomicU64, value: u64| {
        time::wait_until(time::PATIENCE, || word.load(Ordering::Acquire) >= value)
    };
    let results = cpus::on_each([Cpu::BOOT, Cpu(1)].into_iter(), |cpu| {
        for i in 1..=ROUNDS {
            if cpu == Cpu::BOOT {
                code.frame().write(0, load(i));
                publish(code.address(), 4);
                ready.store(u64::from(i), Ordering::Release);
                if !wait(&done, u64::from(i)) {
                    return Err((i, 0));
                }
                continue;
            }
            if !wait(&ready, u64::from(i)) {
                return Err((i, 0));
            }
            arch::cpu::isb();
            let got = call(code.address(), 0);
            done.store(
                if got == u64::from(i) {
                    u64::from(i)
                } else {
                    !0
                },
                Ordering::Release,
            );
            if got != u64::from(i) {
                return Err((i, got));
            }
        }
        Ok(())
    })?;
    expect_eq!(
        results,
        vec![Ok(()), Ok(())],
        "(round, value) of the first mistake, by CPU"
    )
}

/// EL0 publishes code of its own by itself, and runs it.
#[case(spec = "DDI0487 D7.5")]
fn el0_publishes_its_own_code() -> Verdict {
    let code = Code::new(&[load(0), RET]);
    let address = code.address();
    for i in 1..1_000u32 {
        let got = fault::catch_user(|| {
            code.frame().write(0, load(i));
            publish(address, 4);
            call(address, 0)
        });
        expect_eq!(got, Ok(u64::from(i as u16)), "round {i}")?;
    }
    Ok(())
}
