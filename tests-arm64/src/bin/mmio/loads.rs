//! Loads from a device that counts. Spec: DDI0487 C3.2.
//!
//! QEMU's firmware configuration device hands out a string, byte after byte, so the next
//! bytes tell how many an access has taken: not one more, not one less, whatever its form. The first
//! table has the forms that a data abort describes in full (ISV = 1), which every hypervisor must emulate.
//! The second has those that it does not describe: writeback, pairs, vector registers. A
//! hypervisor may decode the instruction, or refuse with an external abort that takes nothing; what it must
//! not do is pretend.

use crate::access::{Outcome, before, done, expect_registers, run};
use guest_lib::arch::fw_cfg::{DIRECTORY, FwCfg};
use guest_lib::arch::probe::Registers;
use guest_lib::arch::snippets::{self, Snippet};
use guest_lib::prelude::*;

/// Where the first file's name begins: text, in which a shift by a byte shows.
const NAME: usize = 12;

fn skip_to_name(device: &FwCfg) {
    for _ in 0..NAME {
        device.next();
    }
}

/// The bytes that come next, and the device with its position at the first of them.
fn stream(device: &FwCfg) -> Result<[u8; 48], Stop> {
    device.select(DIRECTORY);
    skip_to_name(device);
    let bytes: [u8; 48] = core::array::from_fn(|_| device.next());
    let [a, b, c, d, ..] = bytes;
    expect!(
        a != 0 && (a, b) != (b, c) && (b, c) != (c, d),
        "the name {bytes:?} shows no shift"
    )?;
    device.select(DIRECTORY);
    skip_to_name(device);
    Ok(bytes)
}

fn word(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u64::from(byte))
}

fn expect_position(device: &FwCfg, bytes: &[u8], taken: usize) -> Verdict {
    let next: [u8; 16] = core::array::from_fn(|_| device.next());
    expect_eq!(
        &next[..],
        &bytes[taken..taken + 16],
        "the bytes behind {taken}"
    )
}

/// A load with a full syndrome takes its bytes once and writes its register, extended, and no other.
#[case(
    spec = "DDI0487 C3.2",
    needs("arm64.fw_cfg"),
    rows(
        ldrb: (snippets::LDRB, 1, Some(0)),
        ldrh: (snippets::LDRH, 2, Some(0)),
        ldr_w: (snippets::LDR_W, 4, Some(0)),
        ldr_x: (snippets::LDR_X, 8, Some(0)),
        ldrsb_w: (snippets::LDRSB_W, 1, Some(0)),
        ldrsb_x: (snippets::LDRSB_X, 1, Some(0)),
        ldrsh_w: (snippets::LDRSH_W, 2, Some(0)),
        ldrsh_x: (snippets::LDRSH_X, 2, Some(0)),
        ldrsw: (snippets::LDRSW, 4, Some(0)),
        ldar_w: (snippets::LDAR_W, 4, Some(0)),
        ldarb: (snippets::LDARB, 1, Some(0)),
        ldur_w: (snippets::LDUR_W, 4, Some(0)),
        ldr_register_offset: (snippets::LDR_OFFSET, 4, Some(0)),
        ldr_own_base: (snippets::LDR_OWN_BASE, 8, Some(1)),
        ldr_wzr: (snippets::LDR_WZR, 4, None),
        ldrb_wzr: (snippets::LDRB_WZR, 1, None),
        ldr_x30_from_sp: (snippets::LDR_X30_SP, 8, Some(30)),
        ldr_w30_from_sp: (snippets::LDR_W30_SP, 4, Some(30)),
        ldrb_w30_from_sp: (snippets::LDRB_W30_SP, 1, Some(30))
    )
)]
fn load_retires_once(device: &mut FwCfg, row: (Snippet, usize, Option<usize>)) -> Verdict {
    let (snippet, taken, destination) = row;
    let bytes = stream(device)?;
    let registers = before(device.data());
    let after = done(snippet, &registers)?;
    let mut expected = registers;
    if let Some(n) = destination {
        expected.x[n] = word(&bytes[..taken]);
    }
    expect_registers(&after, &expected)?;
    expect_position(device, &bytes, taken)
}

/// What a load without a full syndrome leaves, given the bytes.
type Leaves = fn(&mut Registers, &[u8]);

/// A load without a full syndrome is done right and once, or refused without taking anything.
#[case(
    spec = "DDI0487 C3.2",
    needs("arm64.fw_cfg"),
    rows(
        post_index: (snippets::LDR_POST, 4, 0, |r, b| {
            r.x[0] = word(&b[..4]);
            r.x[1] += 4;
        }),
        pre_index: (snippets::LDR_PRE, 4, 4, |r, b| {
            r.x[0] = word(&b[..4]);
            r.x[1] += 4;
        }),
        byte_post_index: (snippets::LDRB_POST, 1, 0, |r, b| {
            r.x[0] = word(&b[..1]);
            r.x[1] += 1;
        }),
        ldr_s: (snippets::LDR_S, 4, 0, |r, b| r.q[0] = [word(&b[..4]), 0]),
        ldr_d: (snippets::LDR_D, 8, 0, |r, b| r.q[0] = [word(&b[..8]), 0]),
        ld1_lane: (snippets::LD1_LANE, 4, 0, |r, b| {
            r.q[0][0] = r.q[0][0] & 0xffff_ffff | word(&b[..4]) << 32;
        })
    )
)]
fn undescribed_load_is_right_or_refused(
    device: &mut FwCfg,
    row: (Snippet, usize, u64, Leaves),
) -> Verdict {
    let (snippet, taken, ahead, leaves) = row;
    let bytes = stream(device)?;
    let registers = before(device.data() - ahead);
    let Outcome::Done(after) = run(snippet, &registers)? else {
        note!("refused");
        return expect_position(device, &bytes, 0);
    };
    let mut expected = registers;
    leaves(&mut expected, &bytes);
    expect_registers(&after, &expected)?;
    expect_position(device, &bytes, taken)
}
