//! STORE CPU ID and STORE CPU ADDRESS: who the processor says it is. Spec: SA22-7832 10.

use guest_lib::arch::{cpu, smp};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

fn cpu_id() -> Result<u64, Fault> {
    let page = Frames::new(1);
    cpu::store_cpu_id(page.address())?;
    Ok(page.read(0))
}

/// The machine type is not zero.
#[case(spec = "SA22-7832 10 STORE CPU ID")]
fn machine_type_is_given() -> Verdict {
    let id = cpu_id()?;
    note!("CPU id {id:016x}");
    expect_ne!(id >> 16 & 0xffff, 0)
}

/// The version byte is zero, or all ones under a hypervisor.
#[case(spec = "SA22-7832 10 STORE CPU ID")]
fn version_is_zero_or_all_ones() -> Verdict {
    let version = cpu_id()? >> 56;
    expect!(version == 0 || version == 0xff, "version {version:#x}")
}

/// Bits 49 to 63 are zero: the format bit alone may be one.
#[case(spec = "SA22-7832 10 STORE CPU ID")]
fn reserved_bits_are_zero() -> Verdict {
    expect_eq!(cpu_id()? & 0x7fff, 0)
}

/// All processors have the same machine type, and the same id every time.
#[case(spec = "SA22-7832 10 STORE CPU ID", needs("cpus>=2"))]
fn processors_agree_on_the_machine() -> Verdict {
    let ids = cpus::on_all(|_| (cpu_id(), cpu_id()))?;
    for (cpu, (first, second)) in cpus::all().zip(ids) {
        expect_eq!(first?, second?, "{cpu:?}")?;
        expect_eq!(first? & 0xffff_ffff, cpu_id()? & 0xffff_ffff, "{cpu:?}")?;
    }
    Ok(())
}

/// STORE CPU ADDRESS gives each processor the address that SIGP reaches it by.
#[case(spec = "SA22-7832 10 STORE CPU ADDRESS", needs("cpus>=2"))]
fn cpu_addresses_are_distinct() -> Verdict {
    let addresses = cpus::on_all(|_| {
        let page = Frames::new(1);
        cpu::store_cpu_address(page.address()).map(|()| page.read::<u16>(0))
    })?;
    for (cpu, address) in cpus::all().zip(addresses) {
        expect_eq!(address, Ok(smp::address(cpu.0)))?;
    }
    expect_ne!(smp::address(0), smp::address(1))
}
