//! Storage keys. Spec: SA22-7832 3.
//!
//! Keys do not lie in storage, so they need a way of their own to the other host; reference and
//! change bits with them, for they are what an operating system pages by.

use guest_lib::arch::skey::{self, Skey};
use guest_lib::memory::{FRAME, Frames};
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

const PAGES: usize = 128;

/// The key of page `i`: every access-control value, with and without fetch protection, changed and
/// unchanged. The reference bit may be set by anyone at any time.
fn pattern(i: usize, seed: usize) -> Skey {
    Skey(((i ^ seed) * 2 & 0xfa) as u8)
}

/// A key without its reference bit.
fn told(key: Skey) -> u8 {
    key.0 & !Skey::REFERENCE & 0xfe
}

fn all_keys(frames: &Frames) -> Result<Vec<u8>, Fault> {
    let key = |i: usize| skey::get(frames.address() + (i * FRAME) as u64).map(told);
    (0..PAGES).map(key).collect()
}

fn clear(frames: &Frames) -> Verdict {
    for i in 0..PAGES {
        skey::set(frames.address() + (i * FRAME) as u64, Skey(0))?;
    }
    Ok(())
}

fn stay(request: Request) -> Verdict {
    let frames = Frames::new(PAGES);
    let mut expected = Vec::new();
    for i in 0..PAGES {
        skey::set(frames.address() + (i * FRAME) as u64, pattern(i, 0x2b))?;
        expected.push(told(pattern(i, 0x2b)));
    }
    expect_eq!(all_keys(&frames)?, expected, "before")?;
    let moved = service::ask(request);
    let after = all_keys(&frames)?;
    clear(&frames)?;
    moved?;
    let wrong = after.iter().zip(&expected).position(|(a, e)| a != e);
    expect_eq!(wrong, None, "the first page whose key changed")
}

/// Storage keys stay, change bits included.
#[case(spec = "SA22-7832 3 Storage Key", needs("service.migrate"))]
fn keys_stay() -> Verdict {
    stay(Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(spec = "SA22-7832 3 Storage Key", needs("service.save_restore"))]
fn saved_keys_stay() -> Verdict {
    stay(Request::SaveRestore)
}

/// Keys that are set again and again while the machine moves are those that were set last.
#[case(spec = "SA22-7832 3 Storage Key", needs("service.migrate"))]
fn keys_set_meanwhile_are_the_last_ones() -> Verdict {
    let frames = Frames::new(PAGES);
    let set =
        |i: usize, seed: usize| skey::set(frames.address() + (i * FRAME) as u64, pattern(i, seed));
    for i in 0..PAGES {
        set(i, 0)?;
    }
    let mut turn = 0;
    let mut failed = None;
    let mut wrong = None;
    let moved = service::ask_while(Request::Migrate, || {
        for _ in 0..4 {
            let (i, seed) = (turn % PAGES, turn / PAGES);
            // What was set the last time is still there.
            match skey::get(frames.address() + (i * FRAME) as u64) {
                Ok(key) if told(key) == told(pattern(i, seed)) => {}
                Ok(key) => {
                    wrong.get_or_insert((i, key, pattern(i, seed)));
                }
                Err(fault) => failed = Some(fault),
            }
            turn += 1;
            failed = failed.or(set(i, seed + 1).err());
        }
    });
    let after = all_keys(&frames)?;
    clear(&frames)?;
    moved?;
    expect_eq!(failed, None, "a fault of SSKE or ISKE")?;
    expect_eq!(wrong, None, "page, key, key that was set")?;
    note!("{turn} keys set");
    let seed = |i: usize| turn / PAGES + usize::from(i < turn % PAGES);
    let expected: Vec<u8> = (0..PAGES).map(|i| told(pattern(i, seed(i)))).collect();
    expect_eq!(after, expected)
}

/// The change bit of a page that was only stored into, and of one that was not.
#[case(spec = "SA22-7832 3 Change Recording", needs("service.save_restore"))]
fn change_bits_stay() -> Verdict {
    let frames = Frames::new(2);
    let key = |i: u64| skey::get(frames.address() + i * FRAME as u64);
    for i in 0..2 {
        skey::set(frames.address() + i * FRAME as u64, Skey(0))?;
    }
    frames.write(8, 1u64);
    expect_eq!(
        (key(0)?.is_changed(), key(1)?.is_changed()),
        (true, false),
        "before"
    )?;
    service::ask(Request::SaveRestore)?;
    expect_eq!(
        (key(0)?.is_changed(), key(1)?.is_changed()),
        (true, false),
        "after"
    )?;
    frames.write(FRAME, 1u64);
    expect!(key(1)?.is_changed(), "a store after the move is recorded")
}
