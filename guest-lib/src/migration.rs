//! What must survive when the machine moves to another host, and how a case watches it.
//!
//! The witnesses must not be able to go stale together with what they testify about: a processor
//! that writes pages keeps its count in its own state and looks, before each write, whether the
//! page still holds what it wrote there the time before. A page that arrived older, newer or torn
//! is noticed at the next turn, and by a last look when all is over.

use crate::arch;
use crate::case::{Failure, Stop, Verdict};
use crate::cpus::{self, Cpu};
use crate::memory::{FRAME, Frames};
use crate::service::{self, Request, ServiceError, during};
use crate::{expect, expect_eq, time};
use alloc::format;
use alloc::vec::Vec;
use assay_protocol::stamp::{self, HEADER};
use core::sync::atomic::{AtomicU64, Ordering};

/// Words of a page behind its header.
const WORDS: usize = (FRAME - HEADER) / 8;
/// Pages that each processor writes: more than a migration can send while it looks for changes.
const EACH: usize = 48;
/// Pages that are written once, before.
const COLD: usize = 64;

/// Pages with stamps, and pages that nothing touches.
pub struct Stamps {
    hot: Frames,
    cold: Frames,
    untouched: Frames,
}

/// What a page holds that it must not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The page's number.
    pub page: usize,
    /// The word in it.
    pub word: usize,
    /// What it holds.
    pub found: u64,
    /// What was written there last.
    pub expected: u64,
}

/// One processor's writing, with its own account of what it wrote.
pub struct Writer<'a> {
    stamps: &'a Stamps,
    first: usize,
    pass: u64,
    at: usize,
    /// The first wrong word it came across.
    pub wrong: Option<Wrong>,
}

fn cold_word(page: usize, word: usize) -> u64 {
    0x9e37_79b9_7f4a_7c15u64.wrapping_mul((page * WORDS + word + 1) as u64)
}

fn stamp_of(page: usize, pass: u64) -> u64 {
    pass << 16 | page as u64
}

/// The first word of `page` that is not what `expected` says.
fn look(frames: &Frames, page: usize, expected: impl Fn(usize) -> u64) -> Option<Wrong> {
    (0..WORDS).find_map(|word| {
        let found: u64 = frames.read(page * FRAME + HEADER + 8 * word);
        let expected = expected(word);
        (found != expected).then_some(Wrong {
            page,
            word,
            found,
            expected,
        })
    })
}

impl Stamps {
    /// Fresh pages, each with its first contents.
    #[expect(clippy::new_without_default, reason = "it takes memory and fills it")]
    pub fn new() -> Self {
        let stamps = Stamps {
            hot: Frames::new(EACH * cpus::count()),
            cold: Frames::new(COLD),
            untouched: Frames::new(COLD),
        };
        for page in 0..EACH * cpus::count() {
            head(&stamps.hot, page, stamp::WRITTEN);
            stamps.write(page, 0);
        }
        for page in 0..COLD {
            head(&stamps.cold, page, stamp::COLD);
            for word in 0..WORDS {
                stamps
                    .cold
                    .write(page * FRAME + HEADER + 8 * word, cold_word(page, word));
            }
        }
        stamps
    }

    fn write(&self, page: usize, pass: u64) {
        let stamp = stamp_of(page, pass);
        for word in 0..WORDS {
            self.hot.write(page * FRAME + HEADER + 8 * word, stamp);
        }
    }

    /// The writer for `cpu`'s own pages.
    pub fn writer(&self, cpu: Cpu) -> Writer<'_> {
        Writer {
            stamps: self,
            first: cpu.0 * EACH,
            pass: 1,
            at: 0,
            wrong: None,
        }
    }

    /// Pages that were written once hold what was written; pages that were not hold zeroes.
    pub fn check_quiet(&self) -> Verdict {
        let cold = (0..COLD).find_map(|p| look(&self.cold, p, |word| cold_word(p, word)));
        expect_eq!(cold, None, "a page that was written once, before")?;
        let wrong = (0..COLD * FRAME / 8).find(|&i| self.untouched.read::<u64>(8 * i) != 0);
        expect_eq!(wrong, None, "a word of a page that nothing wrote")
    }
}

fn head(frames: &Frames, page: usize, kind: &[u8; 8]) {
    for (i, byte) in stamp::header(kind, page as u32).into_iter().enumerate() {
        frames.write(page * FRAME + i, byte);
    }
}

impl Writer<'_> {
    /// Looks at the next page, then stamps it.
    pub fn step(&mut self) {
        let page = self.first + self.at;
        let before = stamp_of(page, self.pass - 1);
        if self.wrong.is_none() {
            self.wrong = look(&self.stamps.hot, page, |_| before);
        }
        self.stamps.write(page, self.pass);
        self.at += 1;
        if self.at == EACH {
            (self.at, self.pass) = (0, self.pass + 1);
        }
    }

    /// How many pages it has stamped.
    pub fn stamped(&self) -> u64 {
        (self.pass - 1) * EACH as u64 + self.at as u64
    }

    /// Looks at all its pages once more.
    pub fn check(mut self) -> Verdict {
        for i in 0..EACH {
            let pass = if i < self.at {
                self.pass
            } else {
                self.pass - 1
            };
            let page = self.first + i;
            let wrong = look(&self.stamps.hot, page, |_| stamp_of(page, pass));
            self.wrong = self.wrong.or(wrong);
        }
        expect_eq!(self.wrong, None, "a page against its last stamp")?;
        expect!(self.stamped() > 0, "a processor that wrote nothing")
    }
}

/// Every processor stamps its pages while the host does each of `requests`.
pub fn written_pages(requests: &[Request]) -> Verdict {
    let stamps = Stamps::new();
    let writers = during(requests, |cpu| stamps.writer(cpu), Writer::step)?;
    let total: u64 = writers.iter().map(Writer::stamped).sum();
    crate::note!("{total} pages stamped");
    for writer in writers {
        writer.check()?;
    }
    Ok(())
}

/// Pages that rest while others are written.
pub fn quiet_pages(requests: &[Request]) -> Verdict {
    let stamps = Stamps::new();
    during(requests, |cpu| stamps.writer(cpu), Writer::step)?;
    stamps.check_quiet()
}

/// Pages that hold something at first, and are emptied while the machine moves, one per turn.
pub fn emptied_pages(requests: &[Request]) -> Verdict {
    let frames = Frames::new(EACH * cpus::count());
    let fill = |page: usize, value: u64| {
        for word in 0..FRAME / 8 {
            frames.write(page * FRAME + 8 * word, value);
        }
    };
    (0..EACH * cpus::count()).for_each(|page| fill(page, 0x5a5a_0000 | page as u64));
    struct Emptier {
        first: usize,
        turn: usize,
        wrong: Option<(usize, u64)>,
    }
    let holds = |turn: usize, i: usize, page: usize| {
        // Full in even passes up to its turn, empty in odd ones.
        let passed = turn / EACH + usize::from(i < turn % EACH);
        if passed % 2 == 1 {
            0
        } else {
            0x5a5a_0000 | page as u64
        }
    };
    let states = during(
        requests,
        |cpu| Emptier {
            first: cpu.0 * EACH,
            turn: 0,
            wrong: None,
        },
        |s| {
            let i = s.turn % EACH;
            let page = s.first + i;
            let expected = holds(s.turn, i, page);
            for word in 0..FRAME / 8 {
                let found: u64 = frames.read(page * FRAME + 8 * word);
                if found != expected && s.wrong.is_none() {
                    s.wrong = Some((page, found));
                }
            }
            s.turn += 1;
            fill(page, holds(s.turn, i, page));
        },
    )?;
    for s in states {
        expect_eq!(
            s.wrong,
            None,
            "a page that is emptied and filled in turn, and a word of it"
        )?;
        for i in 0..EACH {
            let page = s.first + i;
            let found: u64 = frames.read(page * FRAME + FRAME - 8);
            expect_eq!(found, holds(s.turn, i, page), "page {page} after all")?;
        }
    }
    Ok(())
}

/// All processors add to one counter, each also to its own account.
pub fn shared_counter(requests: &[Request]) -> Verdict {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    COUNTER.store(0, Ordering::SeqCst);
    let states = during(
        requests,
        |_| (0u64, 0u64, true),
        |(own, last, grows)| {
            for _ in 0..64 {
                let before = COUNTER.fetch_add(1, Ordering::SeqCst);
                *grows &= *own == 0 || before > *last;
                *last = before;
                *own += 1;
            }
        },
    )?;
    let own: u64 = states.iter().map(|s| s.0).sum();
    expect_eq!(COUNTER.load(Ordering::SeqCst), own, "the shared counter")?;
    expect!(
        states.iter().all(|s| s.2),
        "the counter went back for one processor"
    )
}

/// Words that lie across the border of two pages are never half old.
pub fn crossing_words(requests: &[Request]) -> Verdict {
    let pairs = 16;
    let frames = Frames::new(2 * pairs * cpus::count());
    // Four bytes in one page, four in the next.
    let place = |cpu: usize, i: usize| (2 * (cpu * pairs + i) + 1) * FRAME - 4;
    let states = during(
        requests,
        |cpu| (cpu.0, 0u64, None),
        |(cpu, turn, wrong)| {
            let (pass, i) = (*turn / pairs as u64, *turn as usize % pairs);
            let at = place(*cpu, i);
            let found: u64 = frames.read(at);
            let expected = pass.wrapping_mul(0x0101_0101_0101_0101);
            if found != expected && wrong.is_none() {
                *wrong = Some((i, found, expected));
            }
            frames.write(at, (pass + 1).wrapping_mul(0x0101_0101_0101_0101));
            *turn += 1;
        },
    )?;
    for (_, turns, wrong) in states {
        expect_eq!(
            wrong,
            None,
            "a word across two pages: place, found, written"
        )?;
        expect!(turns > 0)?;
    }
    Ok(())
}

/// One processor leaves messages for the others: whoever sees the flag sees the message.
pub fn messages(requests: &[Request]) -> Verdict {
    let frames = Frames::new(2);
    // Atomics: a plain access may be made of bytes, and then a reader sees halves.
    let word = |offset: usize| {
        // SAFETY: aligned, inside the frames, which live as long as the case; S2.
        unsafe { AtomicU64::from_ptr(frames.pointer().add(offset).cast()) }
    };
    let (flag, message) = (word(0), word(FRAME + 64));
    let states = during(
        requests,
        |cpu| (cpu, 0u64, None),
        |(cpu, count, wrong)| {
            if *cpu == Cpu::BOOT {
                *count += 1;
                message.store(*count, Ordering::Relaxed);
                flag.store(*count, Ordering::Release);
                return;
            }
            let seen = flag.load(Ordering::Acquire);
            let told = message.load(Ordering::Relaxed);
            if (told < seen || seen < *count) && wrong.is_none() {
                *wrong = Some((*count, seen, told));
            }
            *count = seen;
        },
    )?;
    for (cpu, count, wrong) in states {
        expect_eq!(wrong, None, "{cpu:?}: flag before, flag, message")?;
        expect!(count > 0, "{cpu:?} saw no message")?;
    }
    Ok(())
}

/// Every other processor spins with a pattern in all its registers.
pub fn spinning_registers(requests: &[Request]) -> Verdict {
    let stop = AtomicU64::new(arch::keep::GO_ON);
    let ready = AtomicU64::new(0);
    let lead = || -> Result<(), Stop> {
        let all = cpus::count() as u64 - 1;
        let came = time::wait_until(time::PATIENCE, || ready.load(Ordering::SeqCst) == all);
        expect!(came, "not all processors spin")?;
        for &request in requests {
            service::ask(request)?;
        }
        Ok(())
    };
    let results = cpus::on_all(|cpu| {
        if cpu == Cpu::BOOT {
            let led = lead();
            stop.store(arch::keep::STOP, Ordering::SeqCst);
            return led.map(|()| Vec::new());
        }
        ready.fetch_add(1, Ordering::SeqCst);
        Ok(arch::keep::spin(
            &stop,
            0x1357_9bdf_0246_8ace ^ cpu.0 as u64,
        ))
    })?;
    for (cpu, result) in results.into_iter().enumerate() {
        expect_eq!(result?, Vec::new(), "CPU {cpu}: register, found, loaded")?;
    }
    Ok(())
}

/// Clocks of all processors: none goes back, each goes on.
pub fn clocks(requests: &[Request]) -> Verdict {
    let states = during(
        requests,
        |_| (time::now(), 0u64, None),
        |(last, turns, back)| {
            for _ in 0..16 {
                let now = time::now();
                if now < *last && back.is_none() {
                    *back = Some((*last, now));
                }
                *last = now;
            }
            *turns += 1;
        },
    )?;
    for (cpu, (last, turns, back)) in states.into_iter().enumerate() {
        expect_eq!(
            back,
            None,
            "CPU {cpu}: an earlier and a later look at its clock"
        )?;
        expect!(
            turns > 0 && time::now() >= last,
            "CPU {cpu}: its clock is ahead of ours"
        )?;
    }
    let before = time::now();
    expect!(
        time::wait_until(time::PATIENCE, || time::now() > before),
        "the clock stands still"
    )
}

/// The clocks agree across processors: a later look, on whatever processor, is not earlier.
pub fn clocks_agree(requests: &[Request]) -> Verdict {
    static LAST: crate::sync::SpinLock<u64> = crate::sync::SpinLock::new(0);
    *LAST.lock() = 0;
    let states = during(
        requests,
        |_| 0u64,
        |back| {
            let mut last = LAST.lock();
            let now = time::now();
            *back = (*back).max(last.saturating_sub(now));
            *last = now;
        },
    )?;
    expect!(
        states.iter().all(|b| *b == 0),
        "ticks back, by processor: {states:?}"
    )
}

/// A processor that was never started, or was stopped, stays so, and can be started afterwards.
pub fn stopped_processor(requests: &[Request]) -> Verdict {
    let ran = |cpu| cpus::run_on(cpu, cpus::this);
    for cpu in cpus::others() {
        expect_eq!(ran(cpu)?, cpu)?;
    }
    let parked = cpus::park_all();
    parked.map_err(|cpu| Failure::new(format!("{cpu:?} does not stop")))?;
    for &request in requests {
        service::ask(request)?;
    }
    for cpu in cpus::others() {
        expect_eq!(ran(cpu)?, cpu, "after the move")?;
    }
    Ok(())
}

/// The host tells the guest what it cannot do, and the guest goes on.
pub fn refusal() -> Verdict {
    expect_eq!(service::ask(Request::Nonsense), Err(ServiceError::Unknown))?;
    // Control: it was the service, not the host.
    service::ask(Request::Migrate)?;
    Ok(())
}

/// The cases that are the same on every architecture; they differ in the manual's words only.
/// `$memory` cites the ordering and atomicity of storage.
#[macro_export]
macro_rules! migrated_memory_cases {
    ($memory:literal) => {
        use $crate::service::Request;
        use $crate::migration;
        use $crate::prelude::*;

        /// A page that a processor writes while the machine moves holds its last stamp, whole.
        #[case(spec = $memory, needs("service.migrate"))]
        fn no_page_is_older_than_its_last_stamp() -> Verdict {
            migration::written_pages(&[Request::Migrate])
        }

        /// The same when the machine moves three times in a row.
        #[case(spec = $memory, needs("service.migrate"))]
        fn no_page_is_older_after_three_moves() -> Verdict {
            migration::written_pages(&[Request::Migrate; 3])
        }

        /// The same after fifty moves in a row.
        #[case(spec = $memory, needs("service.migrate"), groups("slow", "nodefault"), timeout_s = 300)]
        fn no_page_is_older_after_fifty_moves() -> Verdict {
            migration::written_pages(&[Request::Migrate; 50])
        }

        /// A page holds its last stamp when the machine was stopped, saved and restored.
        #[case(spec = $memory, needs("service.save_restore"))]
        fn no_page_is_older_after_save_and_restore() -> Verdict {
            migration::written_pages(&[Request::SaveRestore, Request::SaveRestore])
        }

        /// A page holds its last stamp when it is sent after the processors have moved.
        #[case(spec = $memory, needs("service.migrate_postcopy"))]
        fn no_page_is_older_when_memory_follows() -> Verdict {
            migration::written_pages(&[Request::MigratePostcopy])
        }

        /// Pages that were written once before hold that, and pages that nothing wrote are empty.
        #[case(spec = $memory, needs("service.migrate"))]
        fn quiet_pages_stay() -> Verdict {
            migration::quiet_pages(&[Request::Migrate])
        }

        /// The same when the machine was saved and restored.
        #[case(spec = $memory, needs("service.save_restore"))]
        fn quiet_pages_stay_in_a_saved_machine() -> Verdict {
            migration::quiet_pages(&[Request::SaveRestore])
        }

        /// A page that is emptied while the machine moves is empty, one that is filled is full.
        #[case(spec = $memory, needs("service.migrate"))]
        fn emptied_pages_are_empty() -> Verdict {
            migration::emptied_pages(&[Request::Migrate, Request::Migrate])
        }

        /// A counter that all processors add to atomically loses no addition.
        #[case(spec = $memory, needs("service.migrate"))]
        fn shared_counter_loses_no_addition() -> Verdict {
            migration::shared_counter(&[Request::Migrate])
        }

        /// A word across two pages is not half old.
        #[case(spec = $memory, needs("service.migrate"))]
        fn words_across_pages_stay_whole() -> Verdict {
            migration::crossing_words(&[Request::Migrate])
        }

        /// Whoever sees a flag sees the message that was stored before it.
        #[case(spec = $memory, needs("service.migrate", "cpus>=2"))]
        fn messages_come_before_their_flag() -> Verdict {
            migration::messages(&[Request::Migrate])
        }
    };
}

/// As [`migrated_memory_cases`], for processors and their clocks: `$registers`, `$clock` and `$start`
/// cite the general registers, the clock, and how processors are started.
#[macro_export]
macro_rules! migrated_processor_cases {
    ($registers:literal, $clock:literal, $start:literal) => {
        use $crate::migration;
        use $crate::prelude::*;
        use $crate::service::Request;

        /// A processor that spins while the machine moves keeps all its registers.
        #[case(spec = $registers, needs("service.migrate", "cpus>=2"))]
        fn spinning_processor_keeps_its_registers() -> Verdict {
            migration::spinning_registers(&[Request::Migrate, Request::Migrate])
        }

        /// The same in a machine that was saved and restored.
        #[case(spec = $registers, needs("service.save_restore", "cpus>=2"))]
        fn saved_processor_keeps_its_registers() -> Verdict {
            migration::spinning_registers(&[Request::SaveRestore])
        }

        /// No processor's clock goes back when the machine moves, and each goes on.
        #[case(spec = $clock, needs("service.migrate"))]
        fn no_clock_goes_back() -> Verdict {
            migration::clocks(&[Request::Migrate, Request::Migrate])
        }

        /// The same in a machine that was saved and restored.
        #[case(spec = $clock, needs("service.save_restore"))]
        fn no_saved_clock_goes_back() -> Verdict {
            migration::clocks(&[Request::SaveRestore])
        }

        /// A later look at a clock is not earlier, whichever processor looks.
        #[case(spec = $clock, needs("service.migrate", "cpus>=2"))]
        fn clocks_agree_across_processors() -> Verdict {
            migration::clocks_agree(&[Request::Migrate])
        }

        /// A processor that was stopped before can be started after the move.
        #[case(spec = $start, needs("service.migrate", "cpus>=2"))]
        fn stopped_processor_can_be_started() -> Verdict {
            migration::stopped_processor(&[Request::Migrate])
        }

        /// A request that the host does not know is refused, and the machine goes on.
        #[case(spec = $start, needs("service.migrate"))]
        fn unknown_request_is_refused() -> Verdict {
            migration::refusal()
        }
    };
}
