//! Interrupts, physical and virtual. Spec: APM 2 15.13, 15.21.
//!
//! Three switches decide who gets a physical interrupt: its intercept, V_INTR_MASKING and two
//! RFLAGS.IF, the host's and the guest's. Virtual interrupts live in the VMCB only, with a priority and
//! a shadow of their own. Every case knows on whose stack its handler ran.

use guest_lib::arch::apic::{self, Register};
use guest_lib::arch::cpu;
use guest_lib::arch::registers::Rflags;
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, field, int_ctl, intercept, l2};
use guest_lib::prelude::*;

const IF: u64 = Rflags::IF.bits();
/// Where handlers count: interrupts on the guest's stack, and on the host's.
const IN_GUEST: usize = 0;
const IN_HOST: usize = 1;

/// A physical interrupt with its handler; what is left of it is taken on drop.
pub struct Irq {
    vector: u8,
    _handler: fault::Handler,
}

impl Irq {
    pub fn new(vm: &NestedVm, vector: u8) -> Self {
        let guest = vm.stack_range();
        apic::enable(0xff);
        let handler = fault::Handler::new(vector, move |frame| {
            l2::count(if guest.contains(&frame.rsp) {
                IN_GUEST
            } else {
                IN_HOST
            });
            apic::eoi();
        });
        Irq {
            vector,
            _handler: handler,
        }
    }

    /// Makes it pending; interrupts are off.
    pub fn pend(&self) -> Verdict {
        apic::send_ipi(apic::id(), apic::ICR_FIXED | u32::from(self.vector));
        let pending = time::wait_until(time::PATIENCE, || apic::is_pending(self.vector));
        expect!(pending, "the self-IPI does not become pending")
    }
}

impl Drop for Irq {
    fn drop(&mut self) {
        cpu::with_interrupts(|| time::wait_until(time::ms(500), || !apic::is_pending(self.vector)));
    }
}

/// A handler for a virtual interrupt: there is nothing to acknowledge.
fn virtual_handler(vector: u8) -> fault::Handler {
    fault::Handler::new(vector, |frame| {
        l2::count(IN_GUEST);
        l2::tell(2, frame.rip);
    })
}

fn virtual_interrupt(vector: u8, priority: u64) -> u64 {
    int_ctl::V_IRQ | int_ctl::v_intr_prio(priority) | int_ctl::v_intr_vector(vector)
}

/// Looks at the deliveries with interrupts off, lets one in, looks again.
fn open_and_look() {
    l2::tell(4, 1 + l2::told(IN_GUEST));
    l2::sti();
    l2::cli();
    l2::tell(5, 1 + l2::told(IN_GUEST));
}

/// A pending interrupt that the host may take exits before the guest's first instruction, and the host gets it.
#[case(spec = "APM 2 15.13.1 INTR", needs("x86.svm"))]
fn pending_interrupt_exits_before_the_guest_runs(vm: &mut NestedVm) -> Verdict {
    let irq = Irq::new(vm, 0x77);
    vm.load(|| l2::tell(4, 1));
    let start = vm.rip();
    vm.vmcb.intercept(intercept::INTR, true);
    vm.vmcb.set(field::INT_CTL, int_ctl::V_INTR_MASKING);
    vm.host_rflags = 2 | IF;
    irq.pend()?;
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::INTR))?;
    expect_eq!(vm.rip(), start)?;
    expect_eq!(vm.told(4), 0, "the guest ran")?;
    expect_eq!(
        (vm.told(IN_GUEST), vm.told(IN_HOST)),
        (0, 1),
        "deliveries in guest and host"
    )?;
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(4), 1)
}

/// With V_INTR_MASKING the host's IF decides: at 0 the interrupt waits, whatever the guest's IF says.
#[case(spec = "APM 2 15.21.1 V_INTR_MASKING", needs("x86.svm"))]
fn host_flag_decides_with_masking(vm: &mut NestedVm) -> Verdict {
    let irq = Irq::new(vm, 0x77);
    vm.vmcb.intercept(intercept::INTR, true);
    vm.vmcb.set(field::INT_CTL, int_ctl::V_INTR_MASKING);
    irq.pend()?;
    expect_eq!(vm.run(open_and_look), Entry::VMMCALL)?;
    expect_eq!(
        (vm.told(4), vm.told(5)),
        (1, 1),
        "deliveries before and after STI, plus 1"
    )?;
    expect_eq!(vm.told(IN_HOST), 0)?;
    drop(irq);
    expect_eq!(vm.told(IN_HOST), 1, "the host takes it afterwards")
}

/// With V_INTR_MASKING and no INTR intercept, the host's IF lets an interrupt into a guest whose own IF is 0.
#[case(spec = "APM 2 15.21.1 V_INTR_MASKING", needs("x86.svm"))]
fn host_flag_opens_the_guest_with_masking(vm: &mut NestedVm) -> Verdict {
    let irq = Irq::new(vm, 0x77);
    vm.vmcb.set(field::INT_CTL, int_ctl::V_INTR_MASKING);
    vm.host_rflags = 2 | IF;
    irq.pend()?;
    expect_eq!(vm.run(|| l2::tell(4, 1)), Entry::VMMCALL)?;
    expect_eq!(
        (vm.told(IN_GUEST), vm.told(IN_HOST)),
        (1, 0),
        "deliveries in guest and host"
    )
}

/// Without V_INTR_MASKING and without the intercept, the guest takes the interrupt when it sets its IF.
#[case(spec = "APM 2 15.21.1", needs("x86.svm"))]
fn guest_flag_decides_without_masking(vm: &mut NestedVm) -> Verdict {
    let irq = Irq::new(vm, 0x77);
    irq.pend()?;
    expect_eq!(vm.run(open_and_look), Entry::VMMCALL)?;
    expect_eq!(
        (vm.told(4), vm.told(5)),
        (1, 2),
        "deliveries before and after STI, plus 1"
    )?;
    expect_eq!(vm.told(IN_HOST), 0)
}

/// Without V_INTR_MASKING the INTR intercept waits for the guest's IF, whatever the host's was.
#[case(spec = "APM 2 15.13.1 INTR", needs("x86.svm"))]
fn intercept_waits_for_the_guest_flag_without_masking(vm: &mut NestedVm) -> Verdict {
    let irq = Irq::new(vm, 0x77);
    vm.vmcb.intercept(intercept::INTR, true);
    vm.host_rflags = 2 | IF;
    irq.pend()?;
    expect_eq!(vm.run(open_and_look), Entry::Exited(ExitCode::INTR))?;
    expect_eq!(
        (vm.told(4), vm.told(5)),
        (1, 0),
        "the guest got to its STI and no further"
    )?;
    expect_eq!(
        (vm.told(IN_GUEST), vm.told(IN_HOST)),
        (0, 1),
        "deliveries in guest and host"
    )
}

/// A halted guest exits when the host's timer fires.
#[case(spec = "APM 2 15.13.1 INTR", needs("x86.svm"))]
fn halted_guest_exits_for_the_hosts_timer(vm: &mut NestedVm) -> Verdict {
    let _irq = Irq::new(vm, 0x78);
    vm.vmcb.intercept(intercept::INTR, true);
    vm.vmcb.set(field::INT_CTL, int_ctl::V_INTR_MASKING);
    vm.host_rflags = 2 | IF;
    let start = vm.load_bytes(&[0xf4]);
    apic::write(Register::DIVIDE, 0xb)?;
    apic::write(Register::LVT_TIMER, 0x78)?;
    apic::write(Register::INITIAL_COUNT, 1_000_000)?;
    let entry = vm.enter();
    apic::write(Register::LVT_TIMER, 1 << 16)?;
    apic::write(Register::INITIAL_COUNT, 0)?;
    expect_eq!(entry, Entry::Exited(ExitCode::INTR))?;
    expect!(
        [start, start + 1].contains(&vm.rip()),
        "RIP {:#x}",
        vm.rip()
    )?;
    expect_eq!(vm.told(IN_HOST), 1)
}

/// A virtual interrupt waits for the guest's IF, is delivered once, and V_IRQ is clear afterwards.
#[case(spec = "APM 2 15.21.4 V_IRQ", needs("x86.svm"))]
fn virtual_interrupt_waits_for_the_guest_flag(vm: &mut NestedVm) -> Verdict {
    let _handler = virtual_handler(0x79);
    vm.vmcb.set(
        field::INT_CTL,
        virtual_interrupt(0x79, 15) | int_ctl::V_INTR_MASKING,
    );
    expect_eq!(vm.run(open_and_look), Entry::VMMCALL)?;
    expect_eq!(
        (vm.told(4), vm.told(5)),
        (1, 2),
        "deliveries before and after STI, plus 1"
    )?;
    expect_eq!(
        vm.vmcb.get(field::INT_CTL) & int_ctl::V_IRQ,
        0,
        "V_IRQ after delivery"
    )
}

/// A virtual interrupt that was not taken is still in the VMCB after the exit.
#[case(spec = "APM 2 15.21.4 V_IRQ", needs("x86.svm"))]
fn untaken_virtual_interrupt_stays(vm: &mut NestedVm) -> Verdict {
    let _handler = virtual_handler(0x79);
    let pending = virtual_interrupt(0x79, 15) | int_ctl::V_INTR_MASKING;
    vm.vmcb.set(field::INT_CTL, pending);
    expect_eq!(vm.run(|| ()), Entry::VMMCALL)?;
    expect_eq!(vm.told(IN_GUEST), 0)?;
    expect_eq!(vm.vmcb.get(field::INT_CTL) & int_ctl::V_IRQ, int_ctl::V_IRQ)?;
    expect_eq!(vm.run(open_and_look), Entry::VMMCALL)?;
    expect_eq!(vm.told(IN_GUEST), 1)
}

/// The VINTR intercept exits when the guest could take the virtual interrupt, before delivery.
#[case(spec = "APM 2 15.21.6 VINTR", needs("x86.svm"))]
fn virtual_interrupt_intercept_exits_before_delivery(vm: &mut NestedVm) -> Verdict {
    let _handler = virtual_handler(0x79);
    vm.vmcb.set(
        field::INT_CTL,
        virtual_interrupt(0x79, 15) | int_ctl::V_INTR_MASKING,
    );
    vm.vmcb.intercept(intercept::VINTR, true);
    expect_eq!(vm.run(open_and_look), Entry::Exited(ExitCode::VINTR))?;
    expect_eq!(
        (vm.told(4), vm.told(5)),
        (1, 0),
        "the guest got to its STI and no further"
    )?;
    expect_eq!(vm.told(IN_GUEST), 0)?;
    expect_eq!(
        vm.vmcb.get(field::INT_CTL) & int_ctl::V_IRQ,
        int_ctl::V_IRQ,
        "V_IRQ at the exit"
    )?;
    vm.vmcb.intercept(intercept::VINTR, false);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(IN_GUEST), 1)
}

/// A virtual interrupt needs a priority above V_TPR, unless V_IGN_TPR is set.
#[case(spec = "APM 2 15.21.4 V_TPR", needs("x86.svm"))]
fn task_priority_holds_virtual_interrupts_back(vm: &mut NestedVm) -> Verdict {
    let _handler = virtual_handler(0x79);
    let mut taken = 0;
    for (tpr, priority, ignored, comes) in [
        (10, 8, false, false),
        (8, 8, false, false),
        (15, 15, false, false),
        (7, 8, false, true),
        (0, 1, false, true),
        (10, 8, true, true),
    ] {
        let ignore = if ignored { int_ctl::V_IGN_TPR } else { 0 };
        let control = virtual_interrupt(0x79, priority) | int_ctl::v_tpr(tpr) | ignore;
        vm.vmcb
            .set(field::INT_CTL, control | int_ctl::V_INTR_MASKING);
        expect_eq!(vm.run(open_and_look), Entry::VMMCALL)?;
        taken += u64::from(comes);
        let what = format!("V_TPR {tpr}, priority {priority}, V_IGN_TPR {ignored}");
        expect_eq!(vm.told(IN_GUEST), taken, "{what}")?;
        // The intercept follows the same rule.
        vm.vmcb
            .set(field::INT_CTL, control | int_ctl::V_INTR_MASKING);
        vm.vmcb.intercept(intercept::VINTR, true);
        let expected = if comes {
            Entry::Exited(ExitCode::VINTR)
        } else {
            Entry::VMMCALL
        };
        expect_eq!(vm.run(open_and_look), expected, "intercepted, {what}")?;
        vm.vmcb.intercept(intercept::VINTR, false);
    }
    Ok(())
}

/// The interrupt shadow of the VMCB holds a virtual interrupt back for one instruction.
#[case(spec = "APM 2 15.21.5", needs("x86.svm"))]
fn shadow_of_the_vmcb_lasts_one_instruction(vm: &mut NestedVm) -> Verdict {
    let _handler = virtual_handler(0x79);
    for shadow in [0, 1] {
        let start = vm.load_bytes(&[0x90, 0x90, 0x90]);
        vm.vmcb.set(field::RFLAGS, 2 | IF);
        vm.vmcb.set(field::INT_STATE, shadow);
        vm.vmcb.set(
            field::INT_CTL,
            virtual_interrupt(0x79, 15) | int_ctl::V_INTR_MASKING,
        );
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        expect_eq!(
            vm.told(2),
            start + shadow,
            "interrupted RIP, shadow {shadow}"
        )?;
        expect_eq!(vm.vmcb.get(field::INT_STATE) & 1, 0)?;
    }
    expect_eq!(vm.told(IN_GUEST), 2)
}

/// An exit in the shadow of STI or MOV SS says so in the VMCB, and one after it does not.
#[case(
    spec = "APM 2 15.21.5",
    needs("x86.svm"),
    rows(sti: &[0xfb], mov_ss: &[0x8c, 0xd0, 0x8e, 0xd0])
)]
fn exit_in_a_shadow(vm: &mut NestedVm, opening: &'static [u8]) -> Verdict {
    vm.vmcb.intercept(intercept::CPUID, true);
    for (nops, shadow) in [(0, 1), (1, 0)] {
        let mut bytes = opening.to_vec();
        bytes.extend(core::iter::repeat_n(0x90, nops));
        bytes.extend_from_slice(&[0x0f, 0xa2]);
        vm.load_bytes(&bytes);
        expect_eq!(vm.enter(), Entry::Exited(ExitCode::CPUID))?;
        expect_eq!(
            vm.vmcb.get(field::INT_STATE) & 1,
            shadow,
            "after {nops} NOPs"
        )?;
    }
    Ok(())
}

/// The guest's RFLAGS.IF shows in bit 1 of the interrupt state when virtual interrupts are masked by it.
#[case(spec = "APM 2 15.21.1 V_INTR_MASKING", needs("x86.svm"))]
fn masking_keeps_the_two_flags_apart(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.set(field::INT_CTL, int_ctl::V_INTR_MASKING);
    for (host, guest) in [(0, IF), (IF, 0), (IF, IF), (0, 0)] {
        vm.load_bytes(&[0x90]);
        vm.host_rflags = 2 | host;
        vm.vmcb.set(field::RFLAGS, 2 | guest);
        expect_eq!(vm.enter(), Entry::VMMCALL)?;
        expect_eq!(vm.vmcb.get(field::RFLAGS) & IF, guest, "host {host:#x}")?;
    }
    Ok(())
}

/// With V_INTR_MASKING the guest's CR8 is V_TPR, and the host's priority stays.
#[case(spec = "APM 2 15.21.2 CR8", needs("x86.svm"))]
fn cr8_is_virtual_with_masking(vm: &mut NestedVm) -> Verdict {
    cpu::write_cr8(3)?;
    vm.vmcb
        .set(field::INT_CTL, int_ctl::V_INTR_MASKING | int_ctl::v_tpr(5));
    let entry = vm.run(|| {
        l2::tell(4, cpu::read_cr8());
        l2::tell(5, u64::from(cpu::write_cr8(9).is_ok()));
    });
    let host = cpu::read_cr8();
    cpu::write_cr8(0)?;
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(4), 5, "CR8 in the guest")?;
    expect_eq!(vm.told(5), 1)?;
    expect_eq!(
        vm.vmcb.get(field::INT_CTL) & 0xf,
        9,
        "V_TPR after the guest's write"
    )?;
    expect_eq!(host, 3, "CR8 in the host")
}

/// Without V_INTR_MASKING the guest's CR8 is the machine's own.
#[case(spec = "APM 2 15.21.2 CR8", needs("x86.svm"))]
fn cr8_is_physical_without_masking(vm: &mut NestedVm) -> Verdict {
    cpu::write_cr8(3)?;
    let entry = vm.run(|| {
        l2::tell(4, cpu::read_cr8());
        l2::tell(5, u64::from(cpu::write_cr8(9).is_ok()));
    });
    let host = cpu::read_cr8();
    cpu::write_cr8(0)?;
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(4), 3, "CR8 in the guest")?;
    expect_eq!(host, 9, "CR8 in the host")
}

/// A physical interrupt comes before a virtual one that is pending too, whatever their vectors.
#[case(spec = "APM 2 15.21.4 V_IRQ", needs("x86.svm"))]
fn physical_interrupt_comes_before_virtual(vm: &mut NestedVm) -> Verdict {
    let irq = Irq::new(vm, 0x31);
    let _handler = virtual_handler(0x79);
    vm.vmcb.intercept(intercept::INTR, true);
    vm.vmcb.set(
        field::INT_CTL,
        virtual_interrupt(0x79, 15) | int_ctl::V_INTR_MASKING,
    );
    vm.load(|| ());
    vm.vmcb.set(field::RFLAGS, 2 | IF);
    vm.host_rflags = 2 | IF;
    irq.pend()?;
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::INTR))?;
    expect_eq!(
        vm.vmcb.get(field::INT_CTL) & int_ctl::V_IRQ,
        int_ctl::V_IRQ,
        "V_IRQ at the exit"
    )?;
    expect_eq!(
        (vm.told(IN_GUEST), vm.told(IN_HOST)),
        (0, 1),
        "deliveries in guest and host"
    )?;
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(IN_GUEST), 1, "then the virtual one")
}

/// An injected event is delivered before a virtual interrupt that is pending too.
#[case(spec = "APM 2 15.20 EVENTINJ", needs("x86.svm"))]
fn injected_event_comes_before_virtual_interrupt(vm: &mut NestedVm) -> Verdict {
    let _virtual = fault::Handler::new(0x79, |_| l2::tell(4, l2::told(4) << 8 | 0x79));
    let _injected = fault::Handler::new(0x35, |_| l2::tell(4, l2::told(4) << 8 | 0x35));
    // sti; nop
    vm.load_bytes(&[0xfb, 0x90]);
    vm.vmcb.set(
        field::INT_CTL,
        virtual_interrupt(0x79, 15) | int_ctl::V_INTR_MASKING,
    );
    vm.vmcb.set(field::EVENT_INJ, 1 << 31 | 0x35);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(4), 0x3579, "vectors in the order of delivery")
}

/// A guest that computes while the host's timer interrupts it again and again loses nothing.
#[case(spec = "APM 2 15.6", needs("x86.svm"), timeout_s = 60)]
fn timer_exits_lose_no_guest_state(vm: &mut NestedVm) -> Verdict {
    const STOP: usize = 7;
    let _irq = Irq::new(vm, 0x78);
    vm.vmcb.intercept(intercept::INTR, true);
    vm.vmcb.set(field::INT_CTL, int_ctl::V_INTR_MASKING);
    vm.host_rflags = 2 | IF;
    fn compute() -> [u64; 6] {
        let mut x = [1u64, 2, 3, 4, 5, 6];
        for _ in 0..2000 {
            for i in 0..6 {
                x[i] = x[i].wrapping_mul(6_364_136_223_846_793_005).rotate_left(7) ^ x[(i + 1) % 6];
            }
        }
        x
    }
    let expected = compute();
    vm.load(move || {
        let deadline = time::Deadline::after(time::ms(5000));
        while l2::told(STOP) == 0 && !deadline.passed() {
            if core::hint::black_box(compute()) != expected {
                l2::count(5);
            }
            l2::count(4);
        }
    });
    apic::write(Register::DIVIDE, 0xb)?;
    apic::write(Register::LVT_TIMER, 1 << 17 | 0x78)?;
    apic::write(Register::INITIAL_COUNT, 100_000)?;
    let mut exits = 0;
    let last = loop {
        match vm.enter() {
            Entry::Exited(ExitCode::INTR) => exits += 1,
            other => break other,
        }
        if exits == 100 {
            l2::tell(STOP, 1);
            apic::write(Register::INITIAL_COUNT, 0)?;
        }
    };
    apic::write(Register::INITIAL_COUNT, 0)?;
    apic::write(Register::LVT_TIMER, 1 << 16)?;
    expect_eq!(last, Entry::VMMCALL)?;
    expect!(exits >= 100, "only {exits} exits")?;
    expect_eq!(vm.fault(), None)?;
    expect!(vm.told(4) > 0)?;
    expect_eq!(vm.told(5), 0, "wrong results")
}
