//! Runs the selected cases and prints their lines.

use crate::arch;
use crate::case::{Stop, Verdict};
use crate::console::Quoted;
use crate::sync::SpinLock;
use crate::{cmdline, cpus, line};
use alloc::string::String;
use alloc::vec::Vec;
use assay_protocol::cmdline::{CASES, Selection, UNIT};
use assay_protocol::line as wire;
use assay_protocol::need::{self, Parsed};
use assay_protocol::table::{Ends, Record};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static NOTES: SpinLock<Vec<String>> = SpinLock::new(Vec::new());

/// Adds a note to the running case; see `note!`.
pub fn note(text: String) {
    NOTES.lock().push(text);
}

unsafe extern "C" {
    static __cases_start: Record;
    static __cases_end: Record;
}

/// Not zero when the loader has sorted the records in memory (see the boot notes of x86-64). To
/// sort them takes longer than everything else that a boot does.
pub(crate) static TABLE_IS_SORTED: AtomicU32 = AtomicU32::new(0);

/// The records by number.
struct Table {
    all: &'static [Record],
    /// The place of each number; none when the places are in order.
    order: Vec<usize>,
}

impl Table {
    fn new() -> Self {
        let (start, end) = (&raw const __cases_start, &raw const __cases_end);
        // SAFETY: the linker script puts the symbols around the section, which holds records only.
        let all = unsafe {
            core::slice::from_raw_parts(
                start,
                (end as usize - start as usize) / size_of::<Record>(),
            )
        };
        let mut order = Vec::new();
        if TABLE_IS_SORTED.load(Ordering::Relaxed) == 0 {
            order.extend(0..all.len());
            order.sort_by_cached_key(|&place| path(&all[place]));
        }
        Table { all, order }
    }

    fn get(&self, number: usize) -> &'static Record {
        &self.all[self.order.get(number).copied().unwrap_or(number)]
    }
}

/// The id without architecture and unit: `topic/function[/row]`.
fn path(record: &Record) -> String {
    let mut path = String::with_capacity(96);
    // Split at one character: searching for two is a multiple of the work, and every boot does it.
    let segments = record.module.get().split(':').filter(|s| !s.is_empty());
    for segment in segments.skip(1) {
        path.push_str(segment);
        path.push('/');
    }
    path.push_str(record.name.get());
    path
}

/// Runs the payload. Boot code calls it on the boot processor when Rust can run.
pub(crate) fn main() -> ! {
    let table = Table::new();
    let count = table.all.len();
    line!("{}", wire::VERSION);
    let selected: Vec<usize> = match cmdline::value(CASES) {
        None => (0..count).collect(),
        Some(text) => {
            let known = |n: u32| (n as usize) < count;
            let read: Result<Vec<u32>, _> = Selection::new(text).collect();
            match read {
                Ok(numbers) if numbers.iter().all(|&n| known(n)) => {
                    numbers.into_iter().map(|n| n as usize).collect()
                }
                _ => give_up(wire::USAGE, format_args!("cases={text} for {count} cases")),
            }
        }
    };
    let payload = table
        .all
        .first()
        .map_or("", |r| r.module.get().split("::").next().unwrap_or(""));
    let unit = cmdline::value(UNIT).unwrap_or(payload);

    line!("1..{}", selected.len());
    for (i, index) in selected.into_iter().enumerate() {
        run_one(i + 1, unit, table.get(index));
        if let Err(cpu) = cpus::park_all() {
            line!("{}CPU {} does not come back", wire::RESTART, cpu.0);
            arch::platform::exit(false);
        }
    }
    line!("{}", wire::DONE);
    arch::platform::exit(true)
}

fn run_one(number: usize, unit: &str, record: &Record) {
    let path = path(record);
    let id = format_args!("{}/{unit}/{path}", arch::NAME);
    line!("{}{number} {id}", wire::START);
    if let Some(need) = missing_need(record.needs.get()) {
        line!("ok {number} - {id}{}{need}", wire::SKIP);
        return;
    }
    // SAFETY: the macro stores a `fn() -> Verdict` there.
    let run = unsafe { core::mem::transmute::<*const (), fn() -> Verdict>(record.run) };
    EXPECTING.store(record.ends != Ends::Returns as u32, Ordering::Relaxed);
    let verdict = run();
    let notes = core::mem::take(&mut *NOTES.lock());
    let failure = match verdict {
        Err(Stop::Skip(need)) => {
            line!("ok {number} - {id}{}{need}", wire::SKIP);
            return;
        }
        Ok(()) if record.ends != Ends::Returns as u32 && !CAME_BACK.load(Ordering::Relaxed) => {
            Some(crate::case::Failure::new(
                "the machine goes on where it must end",
            ))
        }
        Ok(()) => None,
        Err(Stop::Fail(failure)) => Some(failure),
    };
    line!(
        "{} {number} - {id}",
        if failure.is_some() { "not ok" } else { "ok" }
    );
    if failure.is_none() && notes.is_empty() {
        return;
    }
    line!("{}", wire::YAML_OPEN);
    if let Some(failure) = failure {
        item(wire::key::MESSAGE, &failure.message);
        if !failure.expected.is_empty() || !failure.got.is_empty() {
            item(wire::key::EXPECTED, &failure.expected);
            item(wire::key::GOT, &failure.got);
        }
        line!(
            "{}{}: \"{}:{}\"",
            wire::YAML_INDENT,
            wire::key::AT,
            failure.at.file(),
            failure.at.line()
        );
        item(wire::key::SPEC, record.spec.get());
    }
    if !notes.is_empty() {
        line!("{}{}:", wire::YAML_INDENT, wire::key::NOTES);
        for note in notes {
            line!("{}- {}", wire::YAML_INDENT, Quoted(&note));
        }
    }
    line!("{}", wire::YAML_CLOSE);
}

fn item(key: &str, value: &str) {
    line!("{}{key}: {}", wire::YAML_INDENT, Quoted(value));
}

static EXPECTING: AtomicBool = AtomicBool::new(false);

/// Says that the machine must now power off, reset, or reset and come back; the case does that next. Only for a case
/// with `ends = ...`.
pub fn expect_end(ends: Ends) {
    assert!(
        EXPECTING.load(Ordering::Relaxed),
        "the case is not declared with ends = ..."
    );
    line!(
        "{}{}",
        wire::EXPECT,
        match ends {
            Ends::Reset => "reset",
            Ends::Again => "again",
            _ => "poweroff",
        }
    );
}

static CAME_BACK: AtomicBool = AtomicBool::new(false);

/// Says that the case knows: this is its second life, after a reset. Only for a case with
/// `ends = again`; its verdict counts now.
pub fn came_back() {
    CAME_BACK.store(true, Ordering::Relaxed);
}

/// The first of `needs` that this machine does not meet.
fn missing_need(needs: &'static str) -> Option<&'static str> {
    needs.split_ascii_whitespace().find(|need| !is_met(need))
}

/// Whether this machine meets `need`. A word outside the vocabulary is the payload's mistake.
pub fn is_met(need: &str) -> bool {
    match need::parse(need) {
        Some(Parsed::Cpus(n)) => cpus::count() >= n as usize,
        Some(Parsed::MemoryMib(n)) => crate::memory::total() >= u64::from(n) << 20,
        Some(Parsed::Service(name)) => cmdline::offers(name),
        Some(Parsed::Word(word)) => arch::has(word),
        None => panic!("'{need}' is not in the vocabulary of needs"),
    }
}

/// Ends the run with one line of reason, the registers' story and a backtrace.
pub fn give_up(marker: &str, reason: fmt::Arguments) -> ! {
    give_up_with(marker, reason, |_| ())
}

/// As [`give_up`], with more `#` lines, which `details` passes to its argument.
pub fn give_up_with(
    marker: &str,
    reason: fmt::Arguments,
    details: impl FnOnce(&mut dyn FnMut(fmt::Arguments)),
) -> ! {
    static GIVING_UP: AtomicBool = AtomicBool::new(false);
    if GIVING_UP.swap(true, Ordering::AcqRel) {
        // A second processor, or a fault in the report itself: the first report stands.
        arch::platform::exit(false);
    }
    line!("{marker}{}", OneLine(reason));
    details(&mut |text| line!("#   {}", OneLine(text)));
    arch::cpu::backtrace(|address| line!("#   at {address:#x}"));
    arch::platform::exit(false)
}

/// Keeps text on one line, so that it cannot pass for a line of the protocol.
struct OneLine<'a>(fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        struct Folded<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Folded<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for (i, part) in text.split('\n').enumerate() {
                    if i > 0 {
                        self.0.write_str(" | ")?;
                    }
                    self.0.write_str(part)?;
                }
                Ok(())
            }
        }
        fmt::write(&mut Folded(f), self.0)
    }
}
