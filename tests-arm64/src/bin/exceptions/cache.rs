//! Caches as a guest sees them. Spec: DDI0487 D7.5, D24.2.
//!
//! A virtual machine may move between processors with different caches, so hypervisors make the cache
//! registers up. What they say must at least be legal, the same on every processor, and enough for
//! code that was just written to run.

use guest_lib::arch::fault::ec;
use guest_lib::arch::probe;
use guest_lib::arch::registers::*;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// CTR_EL0 is the same on every processor, with a legal L1Ip and line sizes.
#[case(spec = "DDI0487 D24.2 CTR_EL0")]
fn ctr_is_legal_and_uniform() -> Verdict {
    let here = CtrEl0::read();
    note!("CTR_EL0 {here:#x}");
    expect_eq!(here >> 31 & 1, 1, "bit 31 is RES1")?;
    expect_ne!(here >> 14 & 3, 1, "L1Ip (AIVIVT is gone)")?;
    expect_eq!(
        (16..=2048).contains(&data_line()),
        true,
        "data line {}",
        data_line()
    )?;
    expect_eq!(
        (16..=2048).contains(&instruction_line()),
        true,
        "instruction line"
    )?;
    for (i, there) in cpus::on_all(|_| CtrEl0::read())?.into_iter().enumerate() {
        expect_eq!(there, here, "on CPU {i}")?;
    }
    Ok(())
}

/// CTR_EL0 at EL0 traps while SCTLR_EL1.UCT is clear, and reads as above while it is set.
#[case(spec = "DDI0487 D24.2 SCTLR_EL1")]
fn ctr_at_el0_follows_uct() -> Verdict {
    const UCT: u64 = 1 << 15;
    let before = SctlrEl1::read();
    SctlrEl1::write(before & !UCT);
    fault::forget();
    let refused = fault::catch_user(|| probe::CACHE_TYPE.run(0, 0)).err();
    let elr = fault::details().elr;
    SctlrEl1::write(before | UCT);
    let allowed = fault::catch_user(|| probe::CACHE_TYPE.run(0, 0));
    SctlrEl1::write(before);
    expect_eq!(refused.map(Fault::ec), Some(ec::SYSTEM), "with UCT clear")?;
    expect_eq!(elr, probe::CACHE_TYPE.address())?;
    expect_eq!(allowed, Ok(CtrEl0::read()), "with UCT set")
}

/// CLIDR_EL1: cache types without a gap, and levels of coherency and unification within them.
#[case(spec = "DDI0487 D24.2 CLIDR_EL1")]
fn clidr_is_legal_and_uniform() -> Verdict {
    let clidr = ClidrEl1::read();
    note!("CLIDR_EL1 {clidr:#x}");
    let types: Vec<u64> = (0..7).map(|n| clidr >> (3 * n) & 7).collect();
    let levels = types.iter().take_while(|t| **t != 0).count();
    expect_eq!(
        types[levels..].iter().find(|t| **t != 0),
        None,
        "a cache beyond a gap"
    )?;
    expect_eq!(
        types.iter().find(|t| **t > 4),
        None,
        "a reserved cache type"
    )?;
    let (louis, loc, louu) = (clidr >> 21 & 7, clidr >> 24 & 7, clidr >> 27 & 7);
    for (name, level) in [("LoUIS", louis), ("LoC", loc), ("LoUU", louu)] {
        expect_eq!(
            level as usize <= levels,
            true,
            "{name} {level} within {levels} levels"
        )?;
    }
    expect_eq!(
        louis <= loc && louu <= loc,
        true,
        "unification comes no later than coherency"
    )?;
    for (i, there) in cpus::on_all(|_| ClidrEl1::read())?.into_iter().enumerate() {
        expect_eq!(there, clidr, "on CPU {i}")?;
    }
    Ok(())
}

/// CCSIDR_EL1 of every level and kind reads without a fault, twice the same, on every processor.
#[case(spec = "DDI0487 D24.2 CCSIDR_EL1")]
fn ccsidr_is_stable_and_uniform() -> Verdict {
    let all = || {
        (0..14)
            .map(|n| {
                CsselrEl1::write(n);
                (CsselrEl1::read(), CcsidrEl1::read())
            })
            .collect::<Vec<_>>()
    };
    let here = fault::catch(all)?;
    expect_eq!(all(), here, "read again")?;
    let clidr = ClidrEl1::read();
    for (n, (selected, _)) in here.iter().enumerate() {
        let kind = clidr >> (3 * (n as u64 / 2)) & 7;
        let exists = if n % 2 == 0 {
            kind >= 2
        } else {
            kind == 1 || kind == 3
        };
        if exists {
            expect_eq!(*selected, n as u64, "CSSELR_EL1 of a cache that exists")?;
        }
    }
    for (i, there) in cpus::on_all(|_| all())?.into_iter().enumerate() {
        let same = (0..14).find(|&n| {
            let kind = clidr >> (3 * (n / 2)) & 7;
            let exists = if n % 2 == 0 {
                kind >= 2
            } else {
                kind == 1 || kind == 3
            };
            exists && there[n as usize] != here[n as usize]
        });
        expect_eq!(same, None, "the first cache that differs on CPU {i}")?;
    }
    Ok(())
}

/// Code that is rewritten a thousand times runs anew each time, with the maintenance that CTR_EL0
/// asks for and no more.
#[case(spec = "DDI0487 B2.7")]
fn rewritten_code_runs_anew() -> Verdict {
    const RET: u32 = 0xd65f_03c0;
    let page = Frames::new(1);
    page.write(4, RET);
    arch::cpu::sync_code(page.address() as usize, 8);
    for value in 0..1000u32 {
        // MOVZ X0, #value
        page.write(0, 0xd280_0000 | value << 5);
        arch::cpu::sync_code_as_ctr_asks(page.address() as usize);
        let got = probe::JUMP.run(page.address(), 0);
        expect_eq!(got, value.into(), "after rewrite {value}")?;
    }
    Ok(())
}

/// DC ZVA clears its whole block and nothing beside it.
#[case(spec = "DDI0487 C5.3 DC ZVA")]
fn dc_zva_clears_its_block() -> Verdict {
    let dczid = DczidEl0::read();
    if dczid & 1 << 4 != 0 {
        let refused = fault::catch(|| probe::ZERO.run(Frames::new(1).address(), 0)).err();
        return expect_ne!(refused, None, "DC ZVA with DCZID_EL0.DZP set");
    }
    let block = 4usize << (dczid & 0xf);
    let mut frames = Frames::new(2);
    frames.bytes_mut().fill(0xff);
    let start = 4096;
    probe::ZERO.run(frames.address() + start as u64 + block as u64 / 2, 0);
    let wrong = frames.bytes().iter().enumerate().find(|(i, byte)| {
        let inside = (start..start + block).contains(i);
        **byte != if inside { 0 } else { 0xff }
    });
    expect_eq!(
        wrong,
        None,
        "the first byte that is wrong, block of {block} bytes"
    )
}
