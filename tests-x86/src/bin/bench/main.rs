//! What the first write to a page costs when the host watches the page or has yet to fill it.
//!
//! `assay bench` reads the notes of these cases. A case measures in rounds: plain writes to memory
//! that is there and not watched, then one first write to each page of a second slot. Only the
//! ratio of the two says something about a hypervisor, for it is the same moment of the same
//! machine. No time decides a case. What decides is that the host did the work that was timed:
//! each page is in the log, or was filled once with its own contents. A host that is broken gets no
//! number.
//!
//! The writes are made at privilege level 3: a KVM without hardware virtualization runs user code
//! itself and emulates the rest, and its emulator marks pages dirty without a fault. Where the
//! processor runs guests, a fault of the second level costs the same at every level.
#![no_std]
#![no_main]
guest_lib::payload!();

mod demand;
mod dirty;

use guest_lib::cmdline;
use guest_lib::prelude::*;
use guest_lib::protocol::bench::{self, Kind, Sample};
use guest_lib::service::{PAGE, SLOTS, Slot, demand_word};
use guest_lib::sync::Barrier;

/// Passes of plain writes, whose median counts: a pass is so short that the host's scheduler doubles
/// some of them many times over.
const PLAIN_PASSES: usize = 33;
/// The slot of the plain writes, and the one whose first writes are timed.
const PLAIN: u64 = 1;
const TIMED: u64 = 2;
/// Where the timed slot lies: behind the largest plain one.
const TIMED_AT: u64 = SLOTS + 2 * PAGE * bench::MAX_PAGES as u64;

/// The measurement of one kind on some of the processors.
pub struct Bench {
    kind: Kind,
    cpus: usize,
    pages: u64,
    rounds: u64,
    plain: Slot,
}

impl Bench {
    /// Of `kind`, on the first `cpus` processors, as large as the command line says.
    pub fn of(kind: Kind, cpus: usize) -> Result<Bench, Stop> {
        let pages = size(bench::PAGES, bench::DEFAULT_PAGES, bench::MAX_PAGES)?;
        let rounds = size(bench::ROUNDS, bench::DEFAULT_ROUNDS, bench::MAX_ROUNDS)?;
        Ok(Bench {
            kind,
            cpus,
            pages,
            rounds,
            plain: Slot::add(PLAIN, SLOTS, pages, 0)?,
        })
    }

    /// Pages of each slot.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The rounds, as numbers that are never 0.
    pub fn rounds(&self) -> impl Iterator<Item = u64> + use<> {
        1..=self.rounds
    }

    /// A slot to be timed.
    pub fn slot(&self, flags: u64) -> Result<Slot, guest_lib::service::ServiceError> {
        Slot::add(TIMED, TIMED_AT, self.pages, flags)
    }

    /// Writes to each page of `slot` once, so that its memory is there.
    pub fn warm_up(&self, slot: &Slot) -> Verdict {
        self.timed::<1>(slot, 0)?;
        Ok(())
    }

    /// Times one round and notes it: plain writes, then the first writes to `slot`. `filled` says
    /// that the host fills its pages; then the rest of each must be what the host put there.
    pub fn round(&self, slot: &Slot, round: u64, filled: bool) -> Verdict {
        let stamp = round << 32;
        self.warm_up(&self.plain)?;
        let plain_ns = self.timed::<PLAIN_PASSES>(&self.plain, stamp)?;
        let ns = self.timed::<1>(slot, stamp)?;
        expect_eq!(self.wrong(&self.plain, stamp, false)?, None, "plain page")?;
        expect_eq!(self.wrong(slot, stamp, filled)?, None, "timed page")?;
        let sample = Sample {
            kind: self.kind,
            cpus: self.cpus as u32,
            pages: self.pages,
            ns,
            plain_ns,
        };
        note!("{sample}");
        Ok(())
    }

    /// Each processor writes to its share of the pages, all at once, `PASSES` times: how long the
    /// slowest one's median pass takes, in nanoseconds. Each reads its own clock only.
    fn timed<const PASSES: usize>(&self, slot: &Slot, stamp: u64) -> Result<u64, Stop> {
        let n = self.cpus as u64;
        let barrier = Barrier::new(self.cpus);
        let medians = cpus::on_each((0..self.cpus).map(Cpu), |cpu| {
            let cpu = cpu.0 as u64;
            let share = self.pages * cpu / n..self.pages * (cpu + 1) / n;
            fault::catch_user(|| {
                let mut ticks = [0; PASSES];
                barrier.wait();
                for ticks in &mut ticks {
                    let start = time::now();
                    share
                        .clone()
                        .for_each(|page| slot.touch(page, stamp + page));
                    *ticks = time::now() - start;
                }
                ticks.sort_unstable();
                ticks[PASSES / 2]
            })
        })?;
        let mut slowest = 0;
        for median in medians {
            slowest = slowest.max(median?);
        }
        expect!(slowest > 0, "the guest's clock stands still")?;
        Ok((time::duration(slowest).as_nanos() as u64).max(1))
    }

    /// The first page that does not hold its stamp or, when the host filled it, the host's words.
    fn wrong(&self, slot: &Slot, stamp: u64, filled: bool) -> Result<Option<u64>, Stop> {
        let good = |page: u64| {
            slot.load::<u64>(PAGE * page) == stamp + page
                && (!filled || slot.load::<u64>(PAGE * page + 8) == demand_word(page))
        };
        Ok(fault::catch_user(|| {
            (0..self.pages).find(|page| !good(*page))
        })?)
    }
}

/// A number of the command line, from 1 to `most`.
fn size(key: &str, default: u32, most: u32) -> Result<u64, Stop> {
    let Some(text) = cmdline::value(key) else {
        return Ok(default.into());
    };
    match text.parse::<u32>() {
        Ok(n) if (1..=most).contains(&n) => Ok(n.into()),
        _ => fail!("{key}={text} is no number from 1 to {most}"),
    }
}
