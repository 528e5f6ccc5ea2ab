//! Processors as places to run closures on.
//!
//! A processor is started on first use by the architecture's own means (INIT-SIPI, PSCI CPU_ON,
//! SIGP) and parked again after each case, so every case finds the others stopped.

use crate::arch;
use crate::case::{Failure, Stop};
use crate::time::{self, Duration};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The most processors the runtime handles.
pub const MAX: usize = 512;

/// A processor, by its place in the platform's list; the one that boots is number 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cpu(pub usize);

impl Cpu {
    /// The processor that boots and runs the cases.
    pub const BOOT: Cpu = Cpu(0);
}

const OFF: u32 = 0;
const STARTING: u32 = 1;
const IDLE: u32 = 2;
const POSTED: u32 = 3;
const RUNNING: u32 = 4;
const PARKING: u32 = 5;

type Work = Box<dyn FnOnce() + Send>;

struct Slot {
    state: AtomicU32,
    work: UnsafeCell<Option<Work>>,
}

// SAFETY: `work` is written only by the owner of the transition IDLE -> POSTED and taken only by
// the processor of the slot at POSTED -> RUNNING.
unsafe impl Sync for Slot {}

static SLOTS: [Slot; MAX] = [const {
    Slot {
        state: AtomicU32::new(OFF),
        work: UnsafeCell::new(None),
    }
}; MAX];
/// The highest slot ever started, so that parking need not look at all of them.
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

/// How many processors the platform lists.
pub fn count() -> usize {
    arch::smp::count().min(MAX)
}

/// The processor this code runs on.
pub fn this() -> Cpu {
    Cpu(arch::smp::this())
}

/// All processors, the boot processor first.
pub fn all() -> impl Iterator<Item = Cpu> + Clone {
    (0..count()).map(Cpu)
}

/// All processors but the boot processor.
pub fn others() -> impl Iterator<Item = Cpu> + Clone {
    (1..count()).map(Cpu)
}

/// Something that runs on another processor.
pub struct Job<T> {
    cpu: Cpu,
    result: Arc<UnsafeCell<Option<T>>>,
}

impl<T> Job<T> {
    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        SLOTS[self.cpu.0].state.load(Ordering::Acquire) == IDLE
    }

    /// Waits for the result, however long it takes: the runner's limit ends a case that hangs.
    pub fn join(self) -> T {
        while !self.is_done() {
            arch::cpu::relax();
        }
        self.take().expect("a job that ended has a result")
    }

    /// Waits for the result at most `limit` on the guest's clock.
    pub fn join_within(self, limit: Duration) -> Result<T, Stop> {
        if time::wait_until(limit, || self.is_done()) {
            return Ok(self.take().expect("a job that ended has a result"));
        }
        Err(Failure::new(format!(
            "CPU {} does not end its work within {limit:?}",
            self.cpu.0
        ))
        .into())
    }

    fn take(&self) -> Option<T> {
        // SAFETY: the job has ended (IDLE was read with Acquire), so its closure no longer writes.
        unsafe { (*self.result.get()).take() }
    }
}

struct Shared<T>(Arc<UnsafeCell<Option<T>>>);
// SAFETY: the closure writes before IDLE is published, the owner reads after it.
unsafe impl<T: Send> Send for Shared<T> {}

/// Makes sure that `cpu` waits for work.
pub fn start(cpu: Cpu) -> Result<(), Stop> {
    assert!(
        cpu != Cpu::BOOT && cpu.0 < count(),
        "CPU {} cannot be started",
        cpu.0
    );
    let slot = &SLOTS[cpu.0];
    if slot
        .state
        .compare_exchange(OFF, STARTING, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
    {
        HIGHEST.fetch_max(cpu.0, Ordering::Relaxed);
        arch::smp::start(cpu.0).map_err(|why| Failure::new(format!("CPU {}: {why}", cpu.0)))?;
    }
    let idle = || slot.state.load(Ordering::Acquire) == IDLE;
    if !time::wait_until(time::PATIENCE, idle) {
        return Err(Failure::new(format!("CPU {} does not come up", cpu.0)).into());
    }
    Ok(())
}

/// Starts `work` on `cpu` and returns at once.
pub fn spawn_on<T: Send + 'static>(
    cpu: Cpu,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Job<T>, Stop> {
    // SAFETY: `work` borrows nothing.
    unsafe { post(cpu, work) }
}

/// Runs `work` on `cpu` and waits for its result. On the current processor it is a plain call.
pub fn run_on<T: Send>(cpu: Cpu, work: impl FnOnce() -> T + Send) -> Result<T, Stop> {
    if cpu == this() {
        return Ok(work());
    }
    // SAFETY: `join` waits for the end of `work`, so its borrows outlive it.
    Ok(unsafe { post(cpu, work) }?.join())
}

/// Runs `work` on every processor at once, this one included, and waits for all.
pub fn on_all<T: Send>(work: impl Fn(Cpu) -> T + Sync) -> Result<Vec<T>, Stop> {
    on_each(all(), work)
}

/// Runs `work` on each of `cpus` at once and waits for all. Results are in the order of `cpus`.
pub fn on_each<T: Send>(
    cpus: impl Iterator<Item = Cpu> + Clone,
    work: impl Fn(Cpu) -> T + Sync,
) -> Result<Vec<T>, Stop> {
    let here = this();
    for cpu in cpus.clone().filter(|&c| c != here) {
        start(cpu)?;
    }
    let work = &work;
    let mut jobs = Vec::new();
    for cpu in cpus.clone() {
        if cpu == here {
            jobs.push(None);
            continue;
        }
        // SAFETY: every job is joined below, before `work` goes out of scope; nothing between
        // the first `post` and the last `join` returns early, because the processor is idle.
        let job = unsafe { post(cpu, move || work(cpu)) };
        jobs.push(Some(job.expect("the processor is idle")));
    }
    let mut own = cpus.clone().find(|&c| c == here).map(work);
    let results = jobs.into_iter().map(|job| match job {
        Some(job) => job.join(),
        None => own.take().expect("a processor is listed once"),
    });
    Ok(results.collect())
}

/// Gives `work` to `cpu`.
///
/// # Safety
///
/// What `work` borrows must live until the job has ended.
unsafe fn post<T: Send>(cpu: Cpu, work: impl FnOnce() -> T + Send) -> Result<Job<T>, Stop> {
    start(cpu)?;
    let result = Arc::new(UnsafeCell::new(None));
    let shared = Shared(result.clone());
    let work: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
        let shared = shared;
        let value = work();
        // SAFETY: the owner reads only after IDLE.
        unsafe { *shared.0.get() = Some(value) };
    });
    // SAFETY: only the lifetime changes, and the caller answers for it.
    let work = unsafe { core::mem::transmute::<Box<dyn FnOnce() + Send + '_>, Work>(work) };
    let slot = &SLOTS[cpu.0];
    // SAFETY: the slot is IDLE, and only this processor posts to it.
    unsafe { *slot.work.get() = Some(work) };
    slot.state.store(POSTED, Ordering::Release);
    arch::cpu::wake_others();
    Ok(Job { cpu, result })
}

/// Where a started processor ends up: it takes work until it is parked.
pub(crate) fn secondary_main(index: usize) -> ! {
    let slot = &SLOTS[index];
    slot.state.store(IDLE, Ordering::Release);
    loop {
        match slot.state.load(Ordering::Acquire) {
            POSTED => {
                slot.state.store(RUNNING, Ordering::Relaxed);
                // SAFETY: POSTED hands the work to this processor.
                if let Some(work) = unsafe { (*slot.work.get()).take() } {
                    work();
                }
                slot.state.store(IDLE, Ordering::Release);
            }
            PARKING => {
                // `park` reports OFF as late as it can: after that, the boot processor may start
                // this one again at any moment.
                arch::smp::park(&slot.state, OFF)
            }
            _ => arch::cpu::relax(),
        }
    }
}

/// Says that the case itself starts `cpu` into the runtime, by its own means. [`start`] then waits
/// for it.
pub fn claim(cpu: Cpu) {
    HIGHEST.fetch_max(cpu.0, Ordering::Relaxed);
    SLOTS[cpu.0].state.store(STARTING, Ordering::Release);
}

/// Says that `cpu` is off by its own doing (it called CPU_OFF, say), so it can be started again.
pub fn forget(cpu: Cpu) {
    SLOTS[cpu.0].state.store(OFF, Ordering::Release);
}

/// Parks every processor that waits for work. `Err` names one that cannot be had back.
pub fn park_all() -> Result<(), Cpu> {
    let highest = HIGHEST.load(Ordering::Relaxed);
    for (index, slot) in SLOTS.iter().enumerate().take(highest + 1).skip(1) {
        let idle = || matches!(slot.state.load(Ordering::Acquire), IDLE | OFF);
        if !time::wait_until(time::ms(2000), idle) {
            return Err(Cpu(index));
        }
        if slot.state.load(Ordering::Acquire) == OFF {
            continue;
        }
        slot.state.store(PARKING, Ordering::Release);
        arch::cpu::wake_others();
        let off = || slot.state.load(Ordering::Acquire) == OFF;
        if !time::wait_until(time::ms(2000), off) || !arch::smp::wait_parked(index) {
            return Err(Cpu(index));
        }
    }
    Ok(())
}
