//! Read SCP information and Read CPU information: the machine's size, told twice.

use guest_lib::arch::sclp::{READ_CPU_INFO, READ_SCP_INFO_FORCED, block, call};
use guest_lib::arch::smp;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

fn scp_info() -> Result<Frames, Stop> {
    let page = block(4096);
    expect_eq!(call(READ_SCP_INFO_FORCED, &page)?, (0, 0x10))?;
    Ok(page)
}

/// CPU addresses of the entries.
fn addresses(page: &Frames, count: usize, offset: usize) -> Vec<u8> {
    (0..count).map(|i| page.read(offset + 16 * i)).collect()
}

/// Increments times their size is the storage that is there.
#[case(spec = "SCLP READ SCP INFO")]
fn storage_size_is_right() -> Verdict {
    let page = scp_info()?;
    let increments: u16 = page.read(8);
    let mib: u8 = page.read(10);
    note!("{increments} increments of {mib} MiB");
    expect!(
        increments > 0 && mib.is_power_of_two(),
        "{increments} of {mib} MiB"
    )?;
    let end = (u64::from(increments) * u64::from(mib)) << 20;
    expect!(
        guest_lib::arch::exec::load(end - 8).is_ok(),
        "the last doubleword"
    )?;
    expect_eq!(
        guest_lib::arch::exec::load(end),
        Err(Fault::ADDRESSING),
        "the next one"
    )
}

/// Each processor entry names a processor that SIGP finds, and there are as many as claimed.
#[case(spec = "SCLP READ SCP INFO")]
fn every_entry_is_a_processor() -> Verdict {
    use guest_lib::arch::sigp::{self, Answer};
    let page = scp_info()?;
    let (count, offset) = (page.read::<u16>(16), page.read::<u16>(18));
    expect_eq!(usize::from(count), smp::count())?;
    expect!((128..4096).contains(&offset), "offset {offset}")?;
    let mut all = addresses(&page, count.into(), offset.into());
    for &address in &all {
        let answer = sigp::signal(sigp::SENSE, address.into(), 0)?;
        expect_ne!(answer, Answer::NotOperational, "CPU {address}")?;
    }
    all.sort_unstable();
    all.dedup();
    expect_eq!(all.len(), usize::from(count), "distinct addresses")
}

/// Read CPU information lists the same processors.
#[case(spec = "SCLP READ CPU INFO")]
fn both_commands_list_the_same_processors() -> Verdict {
    let scp = scp_info()?;
    let cpu = block(4096);
    expect_eq!(call(READ_CPU_INFO, &cpu)?, (0, 0x10))?;
    let count: u16 = cpu.read(8);
    expect_eq!(count, scp.read::<u16>(16))?;
    let (first, second) = (scp.read::<u16>(18), cpu.read::<u16>(10));
    expect_eq!(
        addresses(&cpu, count.into(), second.into()),
        addresses(&scp, count.into(), first.into())
    )
}

/// Reading twice gives the same answer.
#[case(spec = "SCLP READ SCP INFO")]
fn answers_do_not_change() -> Verdict {
    expect!(scp_info()?.bytes() == scp_info()?.bytes(), "the same bytes")
}
