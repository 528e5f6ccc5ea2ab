//! The blocks themselves, compared with what other instructions say.
//!
//! Spec: SA22-7832 10 STORE SYSTEM INFORMATION (SYSIB 1.1.1, 1.2.1, 1.2.2, 3.2.2).

use guest_lib::arch::cpu::{self, store_system_information as stsi};
use guest_lib::arch::smp;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

fn block(function: u64, selector1: u64, selector2: u64) -> Result<Frames, Stop> {
    let page = Frames::new(1);
    expect_eq!(
        stsi(function << 28 | selector1, selector2, page.address())?.cc,
        0
    )?;
    Ok(page)
}

/// EBCDIC letters, digits and blanks, the alphabet of these blocks.
fn is_ebcdic_word(bytes: &[u8]) -> bool {
    let letter = |b: u8| {
        matches!(b, 0xc1..=0xc9 | 0xd1..=0xd9 | 0xe2..=0xe9 | 0xf0..=0xf9 | 0x40)
            || matches!(b, 0x81..=0x89 | 0x91..=0x99 | 0xa2..=0xa9)
    };
    bytes.iter().all(|&b| letter(b)) && bytes[0] != 0x40
}

/// SYSIB 1.1.1: the machine type in EBCDIC is the one of STORE CPU ID.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn machine_type_is_that_of_stidp() -> Verdict {
    let id = Frames::new(1);
    cpu::store_cpu_id(id.address())?;
    let page = block(1, 1, 1)?;
    let digits = (0..4).map(|i| format!("{:X}", id.read::<u16>(4) >> (12 - 4 * i) & 0xf));
    let text: String = (48..52)
        .map(|i| match page.read::<u8>(i) {
            b @ 0xf0..=0xf9 => char::from(b - 0xf0 + b'0'),
            b @ 0xc1..=0xc6 => char::from(b - 0xc1 + b'A'),
            _ => '?',
        })
        .collect();
    expect_eq!(text, digits.collect::<String>())
}

/// SYSIB 1.1.1: the manufacturer's name is a word in EBCDIC.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn manufacturer_is_named() -> Verdict {
    let page = block(1, 1, 1)?;
    expect!(
        is_ebcdic_word(&page.bytes()[32..48]),
        "{:02x?}",
        &page.bytes()[32..48]
    )
}

/// SYSIB 1.2.1: each processor reads its own address.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn processors_read_their_own_address() -> Verdict {
    let addresses = cpus::on_all(|_| block(1, 2, 1).map(|page| page.read::<u16>(102)).ok())?;
    for (cpu, address) in cpus::all().zip(addresses) {
        expect_eq!(address, Some(smp::address(cpu.0)), "{cpu:?}")?;
    }
    Ok(())
}

/// SYSIB 1.2.2 and 3.2.2: the configured processors are those the SCLP lists, and configured,
/// standby and reserved ones make the total.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION", rows(machine: (1, 36), guest: (3, 36)))]
fn processor_counts_add_up((function, at): (u64, usize)) -> Verdict {
    let page = block(function, 2, 2)?;
    let [total, configured, standby, reserved] =
        [0, 2, 4, 6].map(|i| usize::from(page.read::<u16>(at + i)));
    note!("{configured} configured, {standby} standby, {reserved} reserved of {total}");
    expect_eq!(configured + standby + reserved, total)?;
    expect_eq!(configured, smp::count())
}

/// SYSIB 3.2.2: one description at least, whose name and control program are words in EBCDIC.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn guest_is_described() -> Verdict {
    let page = block(3, 2, 2)?;
    let count = page.read::<u8>(31) & 0xf;
    expect!((1..=8).contains(&count), "{count} descriptions")?;
    expect!(
        is_ebcdic_word(&page.bytes()[44..52]),
        "name {:02x?}",
        &page.bytes()[44..52]
    )?;
    let program = &page.bytes()[56..72];
    // A solidus separates the words of a control program's identification.
    let words: Vec<u8> = program
        .iter()
        .map(|&b| if b == 0x61 { 0x40 } else { b })
        .collect();
    expect!(is_ebcdic_word(&words), "control program {program:02x?}")
}

/// Every processor reads the same blocks.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION", needs("cpus>=2"), rows(
    machine: (1, 1, 1), processors: (1, 2, 2), guest: (3, 2, 2),
))]
fn processors_read_the_same(which: (u64, u64, u64)) -> Verdict {
    let (function, selector1, selector2) = which;
    let here = block(function, selector1, selector2)?;
    let there = cpus::run_on(Cpu(1), || block(function, selector1, selector2))??;
    expect!(here.bytes() == there.bytes(), "the same bytes")
}
