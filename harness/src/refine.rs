//! The last cuts before a plan is numbered: what depends on the hypervisor or on an earlier run,
//! shards, and the order.
//!
//! A shard is decided by a hash of the id alone. So a case stays in its shard when others come and
//! go, on every machine and for every hypervisor, and N shards together are exactly the whole.

use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::expression::{Expression, Subject};
use crate::plan::{Job, Plan};
use crate::runs::Past;
use std::fmt;
use std::str::FromStr;

/// Most cases of one s390x launch in a shuffled order: its command line ends at 896 bytes, and
/// numbers that are not in sequence do not shorten to ranges.
const SHUFFLED_S390X: usize = 160;

/// `K/N`: the Kth of N parts, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    part: u64,
    of: u64,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text
            .split_once('/')
            .and_then(|(k, n)| k.parse().ok().zip(n.parse().ok()));
        match parts {
            Some((part, of)) if 1 <= part && part <= of => Ok(Shard { part, of }),
            Some(_) => Err(format!("'{text}': K goes from 1 to N")),
            None => Err(format!("'{text}' is not like 2/5")),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.of)
    }
}

impl Shard {
    /// Whether case `id` belongs to it.
    pub fn holds(&self, id: &str) -> bool {
        hash(id) % self.of + 1 == self.part
    }
}

/// FNV-1a with a final mix, so that the remainder depends on every bit.
fn hash(text: &str) -> u64 {
    let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    mix(text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

/// The output function of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64: the same seed gives the same order everywhere and for ever.
struct Random(u64);

impl Random {
    fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let j = mix(self.0) % (i as u64 + 1);
            list.swap(i, usize::try_from(j).unwrap_or(0));
        }
    }
}

/// What to cut, and in which order to run.
#[derive(Default)]
pub struct Refinement<'a> {
    /// `-E`.
    pub expression: Option<&'a Expression>,
    /// `--rerun-failed`: only what was unexpected there.
    pub failed: Option<&'a Past>,
    /// `--shard`.
    pub shard: Option<Shard>,
    /// `--shuffle`.
    pub seed: Option<u64>,
}

/// Refines `plan` and numbers it anew.
pub fn refine(plan: Plan, by: &Refinement<'_>) -> Result<Plan> {
    let before = plan.cases;
    let mut jobs = plan.jobs;
    for job in &mut jobs {
        let hypervisor = job.hypervisor.name();
        let unit = job.unit.clone();
        let keeps = |number: usize| {
            let id = unit.id(number);
            let subject = Subject {
                unit: &unit,
                number,
                hypervisor: Some(hypervisor),
            };
            let failed = |past: &Past| {
                past.of(hypervisor, &id)
                    .is_some_and(|was| was.is("unexpected"))
            };
            by.expression.is_none_or(|e| e.allows(&subject))
                && by.failed.is_none_or(failed)
                && by.shard.is_none_or(|shard| shard.holds(&id))
        };
        let pairs = unit
            .numbers
            .iter()
            .copied()
            .zip(std::mem::take(&mut job.places));
        (job.unit.numbers, job.places) = pairs.filter(|(number, _)| keeps(*number)).unzip();
    }
    jobs.retain(|job| !job.unit.numbers.is_empty());
    if let Some(seed) = by.seed {
        jobs = shuffle(jobs, seed);
    }
    let mut cases = 0;
    for job in &mut jobs {
        job.first = cases + 1;
        cases += job.unit.numbers.len();
    }
    if cases == 0 && before > 0 {
        let why = match (by.shard, by.failed) {
            (_, Some(_)) => "nothing to run: no case of this selection failed in that run".into(),
            (Some(shard), _) => {
                format!("nothing to run: shard {shard} of these {before} cases is empty")
            }
            _ => "nothing to run: no case is in this selection".into(),
        };
        return Err(Error::nothing(why));
    }
    Ok(Plan {
        jobs,
        cases,
        many: plan.many,
        shard: by.shard,
    })
}

fn shuffle(mut jobs: Vec<Job>, seed: u64) -> Vec<Job> {
    let mut random = Random(seed);
    random.shuffle(&mut jobs);
    let mut parts = Vec::new();
    for mut job in jobs {
        let numbers = std::mem::take(&mut job.unit.numbers).into_iter();
        let mut pairs: Vec<(usize, usize)> = numbers.zip(std::mem::take(&mut job.places)).collect();
        random.shuffle(&mut pairs);
        let most = match job.unit.unit.arch {
            Arch::S390x => SHUFFLED_S390X,
            Arch::X86 | Arch::Arm64 => usize::MAX,
        };
        for (i, part) in pairs.chunks(most.min(pairs.len())).enumerate() {
            let mut job = job.clone();
            (job.unit.numbers, job.places) = part.iter().copied().unzip();
            if i > 0 {
                job.log = format!("{}-{}.log", job.log.trim_end_matches(".log"), i + 1);
            }
            parts.push(job);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_checked() {
        assert_eq!("2/5".parse(), Ok(Shard { part: 2, of: 5 }));
        for wrong in ["", "3", "0/2", "3/2", "a/b", "1/0", "1/2/3", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn shards_are_a_partition_of_similar_parts() {
        let ids: Vec<String> = (0..3000)
            .map(|i| format!("x86/unit/topic/case_{i}"))
            .collect();
        let shards: Vec<Shard> = (1..=5).map(|k| format!("{k}/5").parse().unwrap()).collect();
        let mut sizes = [0; 5];
        for id in &ids {
            let holders: Vec<usize> = (0..5).filter(|i| shards[*i].holds(id)).collect();
            assert_eq!(holders.len(), 1);
            sizes[holders[0]] += 1;
        }
        assert!(sizes.iter().all(|n| (500..700).contains(n)), "{sizes:?}");
    }

    #[test]
    fn the_shard_of_an_id_is_a_promise() {
        // CI configurations rely on it: this number must never change.
        assert_eq!(hash("x86/svm/vmrun/asid_zero_is_refused") % 7, 3);
    }

    #[test]
    fn a_seed_is_an_order() {
        let order = |seed| {
            let mut list: Vec<u32> = (0..20).collect();
            Random(seed).shuffle(&mut list);
            list
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }
}
