//! GICv3 software generated interrupts. Spec: IHI0069 12.2 ICC_SGI1R_EL1.
//!
//! The register names up to sixteen processors that share Aff3.Aff2.Aff1, or all but the sender. With many
//! processors the target list, the cluster fields and the range selector must all be right, so
//! each processor is sent one by one and all of them together.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use guest_lib::arch::gic::{Gicv3, Intid, sgi_value};
use guest_lib::arch::registers::{IccCtlrEl1, IccSgi1rEl1};
use guest_lib::arch::smp;
use guest_lib::cpus::MAX;
use guest_lib::prelude::*;

const SGI: u32 = 6;
const LIST: u64 = (SGI as u64) << 24;

static COUNTS: [AtomicU32; MAX] = [const { AtomicU32::new(0) }; MAX];
static STRANGE: AtomicU32 = AtomicU32::new(0);
static READY: AtomicU32 = AtomicU32::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

/// All other processors sleep until an SGI comes, count it, and end when they are told to.
struct Sleepers<'a> {
    gic: &'a Gicv3,
    jobs: Vec<cpus::Job<()>>,
}

impl<'a> Sleepers<'a> {
    fn new(gic: &'a Gicv3) -> Result<Self, Stop> {
        for count in &COUNTS {
            count.store(0, SeqCst);
        }
        STRANGE.store(0, SeqCst);
        READY.store(0, SeqCst);
        STOP.store(false, SeqCst);
        gic.set_enabled(Intid::sgi(SGI), true);
        let mut sleepers = Sleepers {
            gic,
            jobs: Vec::new(),
        };
        for cpu in cpus::others() {
            // SAFETY of borrows: the closure owns a GIC value of its own and borrows statics only.
            let job = cpus::spawn_on(cpu, sleep)?;
            sleepers.jobs.push(job);
            let ready = || READY.load(SeqCst) as usize == cpu.0;
            if !time::wait_until(time::PATIENCE, ready) {
                return fail!("CPU {} does not get ready", cpu.0);
            }
        }
        Ok(sleepers)
    }

    /// How often each processor took the SGI since the last call. The boot processor takes its own here.
    fn counts(&self, expected: &[u32]) -> Vec<u32> {
        let take = || {
            let iar = self.gic.acknowledge();
            if !iar.is_spurious() {
                self.gic.end(iar);
                COUNTS[0].fetch_add(1, SeqCst);
            }
        };
        let all = || {
            cpus::all()
                .map(|c| COUNTS[c.0].load(SeqCst))
                .collect::<Vec<_>>()
        };
        time::wait_until(time::ms(3_000), || {
            take();
            all()
                .iter()
                .zip(expected)
                .all(|(got, wanted)| got >= wanted)
        });
        time::spin(time::us(300));
        take();
        cpus::all().map(|c| COUNTS[c.0].swap(0, SeqCst)).collect()
    }

    /// Sends by `value` and checks who got it.
    fn expect(&self, value: u64, is_target: impl Fn(usize) -> bool) -> Verdict {
        let expected: Vec<u32> = cpus::all().map(|c| u32::from(is_target(c.0))).collect();
        arch::cpu::dsb();
        IccSgi1rEl1::write(value);
        let got = self.counts(&expected);
        expect_eq!(STRANGE.load(SeqCst), 0, "interrupts with another INTID")?;
        expect_eq!(
            got,
            expected,
            "SGIs per CPU after ICC_SGI1R_EL1 = {value:#x}"
        )
    }
}

impl Drop for Sleepers<'_> {
    fn drop(&mut self) {
        STOP.store(true, SeqCst);
        IccSgi1rEl1::write(1 << 40 | LIST);
        for job in self.jobs.drain(..) {
            // One that does not end is reported by the runner when it parks all processors.
            let _ = job.join_within(time::ms(3_000));
        }
    }
}

fn sleep() {
    let Ok(gic) = guest_lib::arch::gic::Gic::here() else {
        return;
    };
    gic.set_enabled(Intid::sgi(SGI), true);
    READY.fetch_add(1, SeqCst);
    while !STOP.load(SeqCst) {
        arch::cpu::wfi();
        let iar = gic.acknowledge();
        if iar.is_spurious() {
            continue;
        }
        if iar.intid() != Intid::sgi(SGI) {
            STRANGE.fetch_add(1, SeqCst);
        }
        gic.end(iar);
        COUNTS[cpus::this().0].fetch_add(1, SeqCst);
    }
}

/// A target list with the sender alone reaches the sender alone.
#[case(spec = "IHI0069 12.2 ICC_SGI1R_EL1", needs("arm64.gicv3"))]
fn list_of_self_reaches_self(gic: &mut Gicv3) -> Verdict {
    let sleepers = Sleepers::new(gic)?;
    sleepers.expect(sgi_value(SGI, smp::mpidr(0)), |i| i == 0)
}

/// One SGI to each processor in turn reaches that one and no other.
#[case(
    spec = "IHI0069 12.2 ICC_SGI1R_EL1",
    needs("arm64.gicv3", "cpus>=2"),
    timeout_s = 60
)]
fn list_of_one_reaches_each_cpu(gic: &mut Gicv3) -> Verdict {
    let sleepers = Sleepers::new(gic)?;
    for target in cpus::all() {
        sleepers.expect(sgi_value(SGI, smp::mpidr(target.0)), |i| i == target.0)?;
    }
    Ok(())
}

/// A target list of every second processor of a cluster reaches those and no others.
#[case(spec = "IHI0069 12.2 ICC_SGI1R_EL1", needs("arm64.gicv3", "cpus>=2"))]
fn list_reaches_every_second_cpu(gic: &mut Gicv3) -> Verdict {
    let sleepers = Sleepers::new(gic)?;
    let cluster = smp::mpidr(0) & !0xff;
    let value = sgi_value(SGI, cluster) & !0xffff | 0xaaaa;
    sleepers.expect(value, |i| {
        let mpidr = smp::mpidr(i);
        mpidr & !0xff == cluster && mpidr & 0xff < 16 && mpidr & 1 == 1
    })
}

/// IRM = 1 reaches all processors but the sender.
#[case(
    spec = "IHI0069 12.2 ICC_SGI1R_EL1",
    needs("arm64.gicv3", "cpus>=2"),
    timeout_s = 60
)]
fn irm_reaches_all_others(gic: &mut Gicv3) -> Verdict {
    let sleepers = Sleepers::new(gic)?;
    for _ in 0..3 {
        sleepers.expect(1 << 40 | LIST, |i| i != 0)?;
    }
    Ok(())
}

/// A target list for a cluster that does not exist reaches nobody.
#[case(spec = "IHI0069 12.2 ICC_SGI1R_EL1", needs("arm64.gicv3", "cpus>=2"))]
fn list_of_absent_cluster_reaches_nobody(gic: &mut Gicv3) -> Verdict {
    let sleepers = Sleepers::new(gic)?;
    sleepers.expect(sgi_value(SGI, 0xfe_00fe_fe00) | 0xffff, |_| false)?;
    sleepers.expect(sgi_value(SGI, smp::mpidr(1)), |i| i == 1)
}

/// A range beyond the processors' Aff0 reaches nobody, or the selector is not supported at all.
#[case(spec = "IHI0069 12.2 ICC_SGI1R_EL1", needs("arm64.gicv3", "cpus>=2"))]
fn range_selector_selects(gic: &mut Gicv3) -> Verdict {
    let large_aff0 = cpus::all().any(|c| smp::mpidr(c.0) & 0xff > 15);
    let supported = IccCtlrEl1::read() >> 18 & 1 != 0;
    note!("range selector: {supported}");
    if !supported {
        return expect_eq!(large_aff0, false, "Aff0 above 15 without a range selector");
    }
    let sleepers = Sleepers::new(gic)?;
    let value = sgi_value(SGI, smp::mpidr(1));
    sleepers.expect(value & !(0xf << 44) | 0xf << 44, |_| false)?;
    sleepers.expect(value, |i| i == 1)
}

/// Up to eight processors send to one another at the same time, and nothing is lost.
#[case(spec = "IHI0069 12.2 ICC_SGI1R_EL1", needs("arm64.gicv3", "cpus>=2"))]
fn all_to_all_loses_nothing(gic: &mut Gicv3) -> Verdict {
    let gic = &*gic;
    let n = cpus::count().min(8) as u32;
    let ready = AtomicU32::new(0);
    let seen = cpus::on_each(cpus::all().take(n as usize), |cpu| {
        if cpu != Cpu::BOOT {
            gic.init_cpu();
        }
        // SGI number = sender, so each pair has an interrupt of its own.
        for sender in 0..n {
            gic.set_enabled(Intid::sgi(sender), true);
        }
        ready.fetch_add(1, SeqCst);
        time::wait_until(time::PATIENCE, || ready.load(SeqCst) == n);
        for target in 0..n as usize {
            gic.send(cpu.0 as u32, Cpu(target));
        }
        let mut seen = 0u32;
        time::wait_until(time::PATIENCE, || {
            let iar = gic.acknowledge();
            if !iar.is_spurious() {
                seen |= 1 << iar.intid().0;
                gic.end(iar);
            }
            seen == (1 << n) - 1
        });
        seen
    })?;
    expect_eq!(seen, vec![(1 << n) - 1; n as usize], "senders seen per CPU")
}
