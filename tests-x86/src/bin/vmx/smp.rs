//! INIT and SIPI in VMX operation. Spec: SDM 3C 26.2.
//!
//! In root operation both are blocked; in a guest INIT exits, and a start-up IPI exits only from
//! the wait-for-SIPI state. The second processor is the guest, the first one sends.

use core::sync::atomic::{AtomicU32, Ordering};
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::{apic, smp};
use guest_lib::prelude::*;

static READY: AtomicU32 = AtomicU32::new(0);

fn is_ready() -> bool {
    READY.load(Ordering::Acquire) != 0
}

/// A guest in wait-for-SIPI exits for a start-up IPI, which the qualification names.
#[case(spec = "SDM 3C 26.2", needs("x86.vmx.activity_sipi", "cpus>=2"))]
fn sipi_exits_from_wait_for_sipi() -> Verdict {
    READY.store(0, Ordering::Release);
    let job = cpus::spawn_on(Cpu(1), || -> Result<Entry, Stop> {
        let mut vm = NestedVm::fresh()?;
        vm.set(Field::ACTIVITY, 3);
        READY.store(1, Ordering::Release);
        Ok(vm.enter())
    })?;
    time::wait_until(time::PATIENCE, is_ready);
    // One that comes too early is lost, and one that comes after the exit is blocked.
    time::wait_until(time::PATIENCE, || {
        apic::send_ipi(smp::apic_id(1), apic::ICR_STARTUP | 0x9a);
        time::spin(time::us(200));
        job.is_done()
    });
    let entry = job.join_within(time::PATIENCE)??;
    expect_eq!(entry, Entry::exited(Reason::SIPI, 0x9a))
}

/// A start-up IPI to a guest that is active is lost.
#[case(spec = "SDM 3C 26.2", needs("x86.vmx", "cpus>=2"))]
fn sipi_is_lost_in_an_active_guest() -> Verdict {
    static GO: AtomicU32 = AtomicU32::new(0);
    READY.store(0, Ordering::Release);
    GO.store(0, Ordering::Release);
    let job = cpus::spawn_on(Cpu(1), || -> Result<Entry, Stop> {
        let mut vm = NestedVm::fresh()?;
        vm.closure(|| {
            READY.store(1, Ordering::Release);
            while GO.load(Ordering::Acquire) == 0 {
                guest_lib::arch::cpu::relax();
            }
            0
        });
        Ok(vm.enter())
    })?;
    time::wait_until(time::PATIENCE, is_ready);
    apic::send_ipi(smp::apic_id(1), apic::ICR_STARTUP | 0x9b);
    time::spin(time::us(500));
    GO.store(1, Ordering::Release);
    expect_eq!(job.join_within(time::PATIENCE)??, Entry::DONE)
}
