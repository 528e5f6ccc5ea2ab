//! WFE and SEV. Spec: DDI0487 D1.7.
//!
//! WFE may end early, but it must end after an event that came since the last one: the event register
//! remembers. Spin locks stand on this. A processor that checks, is overtaken by SEV, and then waits would
//! wait for ever if the register were lost, as it is when a hypervisor forgets it on a switch.

use core::sync::atomic::{AtomicU64, Ordering};
use guest_lib::arch::code::{Code, RET};
use guest_lib::arch::cpu::{sevl, wake_others, wfe};
use guest_lib::arch::registers::CntkctlEl1;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// An event that is set beforehand lets WFE pass, every time.
#[case(spec = "DDI0487 D1.7 WFE")]
fn local_event_passes_wfe() -> Verdict {
    let before = time::now();
    for _ in 0..1_000 {
        sevl();
        wfe();
    }
    expect_ne!(time::now(), before, "the counter")
}

/// No event from another processor is lost around WFE, in three hundred rounds each way.
#[case(spec = "DDI0487 D1.7 SEV", needs("cpus>=2"), timeout_s = 120)]
fn no_event_is_lost() -> Verdict {
    const ROUNDS: u64 = 300;
    let turn = AtomicU64::new(0);
    let results = cpus::on_each([Cpu::BOOT, Cpu(1)].into_iter(), |cpu| {
        let mut waits = 0u64;
        for i in 0..ROUNDS {
            // Even turns are the boot processor's.
            let mine = i * 2 + cpu.0 as u64;
            while turn.load(Ordering::Acquire) != mine {
                wfe();
                waits += 1;
            }
            turn.store(mine + 1, Ordering::Release);
            wake_others();
        }
        waits
    })?;
    note!("waits by CPU: {results:?}");
    expect_eq!(turn.into_inner(), ROUNDS * 2)
}

/// The event stream of the counter ends WFE with nobody else around.
#[case(spec = "DDI0487 D12.2 CNTKCTL_EL1")]
fn event_stream_ends_wfe() -> Verdict {
    let before = CntkctlEl1::read();
    // EVNTEN, on the change of counter bit 8, EVNTI in bits 7:4.
    CntkctlEl1::write(before & !0xff | 1 << 2 | 8 << 4 | before & 3);
    let start = time::now();
    for _ in 0..20 {
        sevl();
        wfe();
        wfe();
    }
    CntkctlEl1::write(before);
    expect_ne!(time::now(), start, "the counter")?;
    expect_eq!(CntkctlEl1::read(), before, "CNTKCTL_EL1")
}

/// A store of another processor to a monitored address ends WFE: no SEV is needed.
#[case(spec = "DDI0487 D1.7 WFE", needs("cpus>=2"), timeout_s = 120)]
fn lost_monitor_ends_wfe() -> Verdict {
    const ROUNDS: u64 = 300;
    let words = Frames::new(2);
    let (here, there) = (words.address(), words.address() + 4096);
    // l: ldaxr x2, [x0]; cmp x2, x1; b.eq end; wfe; b l; end: ret
    let wait = Code::new(&[
        0xc85f_fc02,
        0xeb01_005f,
        0x5400_0060,
        0xd503_205f,
        0x17ff_fffc,
        RET,
    ]);
    let (wait, words) = (&wait, &words);
    cpus::on_each([Cpu::BOOT, Cpu(1)].into_iter(), |cpu| {
        for i in 1..=ROUNDS {
            if cpu == Cpu::BOOT {
                words.write(4096, i);
                wait.run(here, i);
            } else {
                wait.run(there, i);
                words.write(0, i);
            }
        }
    })?;
    expect_eq!(
        (words.read::<u64>(0), words.read::<u64>(4096)),
        (ROUNDS, ROUNDS)
    )
}
