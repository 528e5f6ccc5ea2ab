//! GIF, NMI and INIT. Spec: APM 2 15.13, 15.17, 15.21.
//!
//! While GIF is 0 nothing gets in, NMIs included: they are held, not lost. VMRUN sets GIF, an exit
//! clears it, so what the host held before VMRUN arrives in the guest or as an exit, and what arrives
//! during an exit waits for STGI.

use super::interrupts::Irq;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_lib::arch::svm::{self, Entry, ExitCode, NestedVm, field, int_ctl, intercept, l2};
use guest_lib::arch::{apic, cpu, paging, smp};
use guest_lib::prelude::*;

const IN_GUEST: usize = 0;
const IN_HOST: usize = 1;

fn nmi_handler(vm: &NestedVm) -> fault::Handler {
    let guest = vm.stack_range();
    apic::enable(0xff);
    fault::Handler::new(2, move |frame| {
        l2::count(if guest.contains(&frame.rsp) {
            IN_GUEST
        } else {
            IN_HOST
        });
    })
}

/// Sends an NMI to this processor, which holds it: GIF is 0.
fn hold_nmi() -> Verdict {
    svm::clgi()?;
    apic::send_ipi(apic::id(), apic::ICR_NMI);
    time::spin(time::us(100));
    Ok(())
}

/// While GIF is 0 an NMI is held; STGI lets it in, once.
#[case(spec = "APM 2 15.17 STGI", needs("x86.svm"))]
fn nmi_waits_for_stgi(vm: &mut NestedVm) -> Verdict {
    let _handler = nmi_handler(vm);
    hold_nmi()?;
    let held = vm.told(IN_HOST);
    svm::stgi()?;
    expect!(
        time::wait_until(time::PATIENCE, || l2::told(IN_HOST) != 0),
        "the NMI is lost"
    )?;
    time::spin(time::us(100));
    expect_eq!(
        (held, vm.told(IN_HOST)),
        (0, 1),
        "NMIs before and after STGI"
    )
}

/// While GIF is 0 an interrupt is held even with RFLAGS.IF set; STGI lets it in.
#[case(spec = "APM 2 15.17 CLGI", needs("x86.svm"))]
fn interrupt_waits_for_stgi(vm: &mut NestedVm) -> Verdict {
    let irq = Irq::new(vm, 0x7a);
    svm::clgi()?;
    let pending = irq.pend();
    cpu::enable_interrupts();
    time::spin(time::us(100));
    let held = vm.told(IN_HOST);
    svm::stgi()?;
    let came = time::wait_until(time::PATIENCE, || l2::told(IN_HOST) == 1);
    cpu::disable_interrupts();
    pending?;
    expect_eq!(held, 0)?;
    expect!(came, "the interrupt is lost")
}

/// An NMI that the host held exits before the guest's first instruction, and the host gets it at STGI.
#[case(spec = "APM 2 15.13.2 NMI", needs("x86.svm"))]
fn held_nmi_exits_before_the_guest_runs(vm: &mut NestedVm) -> Verdict {
    let _handler = nmi_handler(vm);
    vm.vmcb.intercept(intercept::NMI, true);
    vm.load(|| l2::tell(4, 1));
    hold_nmi()?;
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::NMI))?;
    expect_eq!(vm.told(4), 0, "the guest ran")?;
    expect_eq!(
        (vm.told(IN_GUEST), vm.told(IN_HOST)),
        (0, 1),
        "NMIs in guest and host"
    )?;
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(4), 1)
}

/// Without the intercept the guest's own handler takes the NMI.
#[case(spec = "APM 2 15.13.2 NMI", needs("x86.svm"))]
fn nmi_without_intercept_reaches_the_guest(vm: &mut NestedVm) -> Verdict {
    let _handler = nmi_handler(vm);
    vm.load(|| l2::tell(4, 1));
    hold_nmi()?;
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(
        (vm.told(IN_GUEST), vm.told(IN_HOST)),
        (1, 0),
        "NMIs in guest and host"
    )?;
    expect_eq!(vm.told(4), 1)
}

/// An NMI that the running guest causes exits at once with the intercept.
#[case(spec = "APM 2 15.13.2 NMI", needs("x86.svm"))]
fn nmi_interrupts_the_running_guest(vm: &mut NestedVm) -> Verdict {
    let _handler = nmi_handler(vm);
    vm.vmcb.intercept(intercept::NMI, true);
    let entry = vm.run(|| {
        l2::tell(4, 1);
        apic::send_ipi(apic::id(), apic::ICR_NMI);
        let deadline = time::Deadline::after(time::PATIENCE);
        while !deadline.passed() {
            l2::nop();
        }
        l2::tell(4, 2);
    });
    expect_eq!(entry, Entry::Exited(ExitCode::NMI))?;
    expect_eq!(vm.told(4), 1)?;
    expect_eq!(
        (vm.told(IN_GUEST), vm.told(IN_HOST)),
        (0, 1),
        "NMIs in guest and host"
    )
}

/// A guest that may use CLGI holds interrupts back until its STGI.
#[case(spec = "APM 2 15.17 CLGI", needs("x86.svm"))]
fn guest_clgi_holds_interrupts_until_stgi(vm: &mut NestedVm) -> Verdict {
    let irq = Irq::new(vm, 0x7a);
    irq.pend()?;
    let entry = vm.run(|| {
        l2::clgi();
        l2::sti();
        l2::nop();
        l2::tell(4, 1 + l2::told(IN_GUEST));
        l2::stgi();
        l2::nop();
        l2::cli();
        l2::tell(5, 1 + l2::told(IN_GUEST));
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(
        (vm.told(4), vm.told(5)),
        (1, 2),
        "deliveries before and after STGI, plus 1"
    )
}

/// The INTR intercept fires at the guest's STGI, not while its GIF is 0.
#[case(spec = "APM 2 15.17 STGI", needs("x86.svm"))]
fn interrupt_intercept_waits_for_guest_stgi(vm: &mut NestedVm) -> Verdict {
    let irq = Irq::new(vm, 0x7a);
    vm.vmcb.intercept(intercept::INTR, true);
    irq.pend()?;
    let entry = vm.run(|| {
        l2::clgi();
        l2::sti();
        l2::tell(4, 1);
        l2::stgi();
        l2::nop();
        l2::tell(4, 2);
    });
    expect_eq!(entry, Entry::Exited(ExitCode::INTR))?;
    expect_eq!(vm.told(4), 1)
}

/// With virtual GIF the guest's CLGI and STGI change V_GIF only, and V_GIF holds virtual interrupts back.
#[case(spec = "APM 2 15.33.2 V_GIF", needs("x86.svm.vgif"))]
fn virtual_gif_belongs_to_the_guest(vm: &mut NestedVm) -> Verdict {
    let _handler = fault::Handler::new(0x7b, |_| l2::count(IN_GUEST));
    let control = int_ctl::V_GIF_ENABLE | int_ctl::V_GIF | int_ctl::V_INTR_MASKING;
    vm.vmcb.set(field::INT_CTL, control);
    expect_eq!(vm.run(l2::clgi), Entry::VMMCALL)?;
    expect_eq!(
        vm.vmcb.get(field::INT_CTL) & int_ctl::V_GIF,
        0,
        "V_GIF after CLGI"
    )?;
    expect_eq!(vm.run(l2::stgi), Entry::VMMCALL)?;
    expect_eq!(
        vm.vmcb.get(field::INT_CTL) & int_ctl::V_GIF,
        int_ctl::V_GIF,
        "V_GIF after STGI"
    )?;

    let virq = int_ctl::V_IRQ | int_ctl::v_intr_prio(15) | int_ctl::v_intr_vector(0x7b);
    vm.vmcb.set(
        field::INT_CTL,
        virq | int_ctl::V_GIF_ENABLE | int_ctl::V_INTR_MASKING,
    );
    let entry = vm.run(|| {
        l2::sti();
        l2::nop();
        l2::tell(4, 1 + l2::told(IN_GUEST));
        l2::stgi();
        l2::nop();
        l2::tell(5, 1 + l2::told(IN_GUEST));
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(
        (vm.told(4), vm.told(5)),
        (1, 2),
        "deliveries before and after STGI, plus 1"
    )
}

/// INIT for a processor that runs a guest exits with its intercept, and takes the host at STGI.
#[case(spec = "APM 2 15.13.4 INIT", needs("x86.svm", "cpus>=2"))]
fn init_exits_the_guest(vm: &mut NestedVm) -> Verdict {
    static VMCB: AtomicU64 = AtomicU64::new(0);
    VMCB.store(0, Ordering::SeqCst);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    let cpu = Cpu(1);
    let _job = cpus::spawn_on(cpu, || {
        let Ok(mut vm) = NestedVm::new() else { return };
        vm.vmcb.intercept(intercept::INIT, true);
        vm.load(|| {
            l2::tell(4, 1);
            loop {
                cpu::relax();
            }
        });
        VMCB.store(vm.vmcb.address(), Ordering::SeqCst);
        vm.enter();
    })?;
    expect!(
        time::wait_until(time::PATIENCE, || l2::told(4) == 1),
        "the guest does not run"
    )?;
    apic::enable(0xff);
    apic::send_ipi(smp::apic_id(cpu.0), apic::ICR_INIT);
    // The INIT stays pending, so the processor is gone after its STGI: look from here.
    let code = || paging::read_entry(VMCB.load(Ordering::SeqCst) + field::EXIT_CODE.offset as u64);
    let exited = time::wait_until(time::ms(2000), || code() == ExitCode::INIT.0);
    cpus::forget(cpu);
    expect!(exited, "exit code {:#x}", code())?;
    expect_eq!(cpus::run_on(cpu, || 7)?, 7)
}

/// In the guest too, an NMI handler is not interrupted by a second NMI before its IRET.
#[case(spec = "APM 2 15.21.9 NMI", needs("x86.svm"))]
fn second_nmi_waits_for_the_guests_iret(vm: &mut NestedVm) -> Verdict {
    apic::enable(0xff);
    let _handler = fault::Handler::new(2, |_| {
        l2::count(0);
        if l2::told(0) == 1 {
            apic::send_ipi(apic::id(), apic::ICR_NMI);
            time::spin(time::us(200));
            l2::tell(1, 1 + l2::told(0));
        }
    });
    vm.load(|| {
        let both = || l2::told(0) == 2;
        l2::tell(2, u64::from(time::wait_until(time::PATIENCE, both)));
    });
    hold_nmi()?;
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(
        vm.told(1),
        2,
        "NMIs at the end of the first handler, plus 1"
    )?;
    expect_eq!(vm.told(2), 1, "the second NMI came after IRET")
}
