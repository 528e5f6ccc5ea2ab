//! Runs jobs in parallel and releases their reports in plan order.

use crate::plan::{Job, Plan};
use crate::run::UnitReport;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, mpsc};

/// How many machines run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// As many as fit this many CPUs, by the CPUs that units ask for; at least one.
    Cpus(usize),
    /// This many, whatever they ask for.
    Machines(usize),
}

/// What a worker has to say.
pub enum Progress<'a> {
    /// Case `id` of a job began.
    Case {
        /// The job's index in the plan.
        job: usize,
        /// The case's id.
        id: &'a str,
    },
}

/// What jobs wait for.
struct Room {
    /// The place in the order of the job that starts next.
    next: usize,
    free: usize,
}

/// Runs a job and tells a listener the id of each case that starts.
pub type Runner<'a> = dyn Fn(&Job, &dyn Fn(&str)) -> UnitReport + Sync + 'a;

/// The order in which jobs start: the longest first, so that none of them runs on alone at the end.
/// One at a time they keep the plan's order, for then nobody waits.
fn order(plan: &Plan, total: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..plan.jobs.len()).collect();
    if total > 1 {
        order.sort_by_key(|job| std::cmp::Reverse(plan.jobs[*job].weight()));
    }
    order
}

/// Runs all jobs of `plan` by `run`. `watch` hears of progress, from many threads; `release` gets the
/// report of each job, in plan order, on this thread.
pub fn schedule(
    plan: &Plan,
    width: Width,
    run: &Runner<'_>,
    watch: &(dyn Fn(Progress<'_>) + Sync),
    mut release: impl FnMut(usize, UnitReport),
) {
    let total = match width {
        Width::Cpus(n) | Width::Machines(n) => n.max(1),
    };
    let cost = |job: usize| match width {
        Width::Cpus(_) => (plan.jobs[job].unit.unit.machine.cpus() as usize).clamp(1, total),
        Width::Machines(_) => 1,
    };
    let order = order(plan, total);
    let room = Mutex::new(Room {
        next: 0,
        free: total,
    });
    let freed = Condvar::new();
    let (sender, receiver) = mpsc::channel();
    // Each worker starts its machines itself: they die with the thread that started them.
    let worker = || {
        let sender = sender.clone();
        loop {
            let job = {
                let Ok(mut room) = room.lock() else { return };
                let job = loop {
                    let Some(&job) = order.get(room.next) else {
                        return;
                    };
                    if room.free >= cost(job) {
                        break job;
                    }
                    room = match freed.wait(room) {
                        Ok(room) => room,
                        Err(_) => return,
                    };
                };
                room.next += 1;
                room.free -= cost(job);
                job
            };
            let report = run(&plan.jobs[job], &|id| {
                watch(Progress::Case { job, id });
            });
            if let Ok(mut room) = room.lock() {
                room.free += cost(job);
            }
            freed.notify_all();
            if sender.send((job, report)).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..total.min(plan.jobs.len()) {
            scope.spawn(worker);
        }
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        while next < plan.jobs.len() {
            let Ok((job, report)) = receiver.recv() else {
                return;
            };
            waiting.insert(job, report);
            while let Some(report) = waiting.remove(&next) {
                release(next, report);
                next += 1;
            }
        }
    });
}
