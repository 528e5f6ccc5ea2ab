//! External interrupts and a guest: who takes them, and what the exit reports.
//! Spec: SDM 3C 26.2, 28.2.2, 27.7.5.
//!
//! An interrupt that is pending at VM entry, or comes while the guest runs or halts, belongs to
//! the host with external-interrupt exiting, and to the guest without.

use core::sync::atomic::{AtomicU32, Ordering};
use guest_lib::arch::registers::Rflags;
use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason, unblock_nmi};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::{apic, cpu};
use guest_lib::prelude::*;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A fixed interrupt that this processor has sent to itself and has not taken.
pub struct Pending {
    vector: u8,
    handler: Option<fault::Handler>,
}

impl Pending {
    /// Sends `vector` to this processor and waits until its APIC requests it.
    pub fn new(vector: u8) -> Result<Self, Stop> {
        TAKEN.store(0, Ordering::Relaxed);
        let handler = fault::Handler::new(vector, |_| {
            TAKEN.fetch_add(1, Ordering::Relaxed);
            apic::eoi();
        });
        apic::enable(0xff);
        apic::send_ipi(apic::id(), apic::ICR_FIXED | u32::from(vector));
        let pending = Pending {
            vector,
            handler: Some(handler),
        };
        if !time::wait_until(time::PATIENCE, || pending.is_requested()) {
            return fail!("vector {vector:#x} does not reach the APIC");
        }
        Ok(pending)
    }

    fn bit(&self, register: apic::Register) -> bool {
        let word = apic::Register(register.0 + 0x10 * (u32::from(self.vector) / 32));
        apic::read(word) >> (self.vector % 32) & 1 != 0
    }

    /// Whether it waits in the APIC.
    pub fn is_requested(&self) -> bool {
        self.bit(apic::Register::IRR)
    }

    /// Whether the APIC takes it for being served.
    pub fn is_in_service(&self) -> bool {
        self.bit(apic::Register::ISR)
    }

    /// How often the handler ran, in host or guest.
    pub fn taken(&self) -> u32 {
        TAKEN.load(Ordering::Relaxed)
    }

    /// Lets the host take it.
    pub fn take(&self) {
        cpu::enable_interrupts();
        for _ in 0..16 {
            cpu::relax();
        }
        cpu::disable_interrupts();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.is_in_service() {
            apic::eoi();
        }
        self.take();
        drop(self.handler.take());
    }
}

/// A pending interrupt exits before the guest's first instruction, whatever RFLAGS.IF is.
#[case(spec = "SDM 3C 26.2", rows(if_clear: 2, if_set: 2 | Rflags::IF.bits()))]
fn pending_interrupt_exits_at_once(vm: &mut NestedVm, row: u64) -> Verdict {
    vm.enable(controls::EXTERNAL_INTERRUPT_EXITING)?;
    let pending = Pending::new(0x61)?;
    vm.set(Field::GUEST_RFLAGS, row);
    expect_eq!(vm.enter(), Entry::exited(Reason::EXTERNAL_INTERRUPT, 0))?;
    expect_eq!(vm.offset(), 0, "no instruction ran")?;
    expect_eq!(vm.get(Field::EXIT_EVENT) >> 31, 0, "not acknowledged")?;
    expect!(pending.is_requested(), "the interrupt is still pending")?;
    pending.take();
    expect_eq!(pending.taken(), 1)?;
    expect_eq!(vm.enter(), Entry::DONE, "none pending")
}

/// With acknowledgement the exit reports the vector and puts the interrupt in service.
#[case(spec = "SDM 3C 28.2.2")]
fn acknowledged_interrupt_is_reported(vm: &mut NestedVm) -> Verdict {
    vm.enable_all(&[
        controls::EXTERNAL_INTERRUPT_EXITING,
        controls::ACK_INTERRUPT,
    ])?;
    let pending = Pending::new(0x62)?;
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    expect_eq!(vm.enter(), Entry::exited(Reason::EXTERNAL_INTERRUPT, 0))?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0062)?;
    expect!(pending.is_in_service(), "in service")?;
    expect!(!pending.is_requested(), "no longer requested")?;
    pending.take();
    expect_eq!(pending.taken(), 0, "nobody else takes it")
}

/// Without external-interrupt exiting the guest takes the interrupt by its own IDT.
#[case(spec = "SDM 3C 26.2")]
fn guest_takes_interrupt_without_exiting(vm: &mut NestedVm) -> Verdict {
    vm.disable(controls::EXTERNAL_INTERRUPT_EXITING)?;
    let _bitmap = pass_msrs(vm)?;
    let pending = Pending::new(0x63)?;
    expect_eq!(vm.enter(), Entry::DONE, "IF = 0")?;
    expect_eq!(pending.taken(), 0, "IF = 0")?;
    vm.rewind();
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    expect_eq!(vm.enter(), Entry::DONE, "IF = 1")?;
    expect_eq!(pending.taken(), 1, "IF = 1")
}

/// A guest entered in HLT is woken by an interrupt, which exits and reports activity HLT.
#[case(spec = "SDM 3C 26.2", needs("x86.vmx.activity_hlt"))]
fn interrupt_exits_from_activity_hlt(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::EXTERNAL_INTERRUPT_EXITING)?;
    let _pending = Pending::new(0x64)?;
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    vm.set(Field::ACTIVITY, 1);
    expect_eq!(vm.enter(), Entry::exited(Reason::EXTERNAL_INTERRUPT, 0))?;
    expect_eq!(vm.get(Field::ACTIVITY), 1, "the activity state saved")?;
    expect_eq!(vm.offset(), 0)
}

/// HLT in a guest without HLT exiting ends with an interrupt, and the activity state says HLT.
#[case(spec = "SDM 3C 26.2", needs("x86.vmx.activity_hlt"))]
fn interrupt_exits_from_hlt_instruction(vm: &mut NestedVm) -> Verdict {
    vm.disable(controls::HLT_EXITING)?;
    vm.enable(controls::EXTERNAL_INTERRUPT_EXITING)?;
    // sti; hlt
    vm.code(&[0xfb, 0xf4]);
    // The timer may fire before the guest gets to HLT; then it gets more time.
    for moment in [20_000, 200_000, 2_000_000, 20_000_000] {
        let timer = Timer::start(0x65, moment);
        let got = vm.run();
        drop(timer);
        expect_eq!(got, Entry::exited(Reason::EXTERNAL_INTERRUPT, 0))?;
        if vm.offset() == 2 {
            return expect_eq!(vm.get(Field::ACTIVITY), 1, "after HLT");
        }
    }
    fail!("the guest does not get to HLT")
}

/// Without exiting, a halted guest takes the interrupt and goes on after HLT.
#[case(spec = "SDM 3C 27.7.2")]
fn interrupt_wakes_halted_guest(vm: &mut NestedVm) -> Verdict {
    vm.disable(controls::HLT_EXITING)?;
    vm.disable(controls::EXTERNAL_INTERRUPT_EXITING)?;
    // sti; hlt; cli
    vm.code(&[0xfb, 0xf4, 0xfa]);
    let _bitmap = pass_msrs(vm)?;
    let pending = Pending::new(0x66)?;
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(pending.taken(), 1)
}

/// The local APIC's timer, once, in a moment.
struct Timer {
    vector: u8,
    handler: Option<fault::Handler>,
}

impl Timer {
    fn start(vector: u8, moment: u32) -> Self {
        let handler = fault::Handler::new(vector, |_| apic::eoi());
        apic::enable(0xff);
        let _ = apic::write(apic::Register::DIVIDE, 0xb);
        let _ = apic::write(apic::Register::LVT_TIMER, u32::from(vector));
        let _ = apic::write(apic::Register::INITIAL_COUNT, moment);
        Timer {
            vector,
            handler: Some(handler),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let _ = apic::write(apic::Register::INITIAL_COUNT, 0);
        let _ = apic::write(apic::Register::LVT_TIMER, 1 << 16 | u32::from(self.vector));
        cpu::with_interrupts(cpu::relax);
        drop(self.handler.take());
    }
}

/// An NMI exits with NMI exiting: vector 2, type 2, and blocks further NMIs in the host.
#[case(spec = "SDM 3C 28.2.2")]
fn nmi_exits_with_nmi_exiting(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::NMI_EXITING)?;
    let sent = send_nmi_from_guest(vm)?;
    expect_eq!(sent, Entry::exited(Reason::EXCEPTION_OR_NMI, 0))?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0202)
}

/// Without NMI exiting the guest takes the NMI.
#[case(spec = "SDM 3C 26.2")]
fn nmi_goes_to_the_guest_without_exiting(vm: &mut NestedVm) -> Verdict {
    vm.disable(controls::NMI_EXITING)?;
    static SEEN: AtomicU32 = AtomicU32::new(0);
    SEEN.store(0, Ordering::Relaxed);
    let handler = fault::Handler::new(2, |_| {
        SEEN.fetch_add(1, Ordering::Relaxed);
    });
    let got = send_nmi_from_guest(vm);
    drop(handler);
    expect_eq!(got?, Entry::DONE)?;
    expect_eq!(SEEN.load(Ordering::Relaxed), 1, "handler runs in the guest")
}

/// Lets the guest use the local APIC: RDMSR and WRMSR do not exit.
fn pass_msrs(vm: &mut NestedVm) -> Result<guest_lib::memory::Frames, Stop> {
    let bitmap = guest_lib::memory::Frames::new(1);
    vm.set(Field::MSR_BITMAP, bitmap.address());
    vm.enable(controls::MSR_BITMAPS)?;
    Ok(bitmap)
}

/// The guest sends an NMI to itself and waits a little; ends blocking by NMI in the host.
fn send_nmi_from_guest(vm: &mut NestedVm) -> Result<Entry, Stop> {
    vm.closure(|| {
        apic::send_ipi(apic::id(), apic::ICR_NMI);
        for _ in 0..1000 {
            cpu::relax();
        }
        0
    });
    let _bitmap = pass_msrs(vm)?;
    let got = vm.enter();
    unblock_nmi();
    Ok(got)
}

/// An NMI from another processor exits a guest that spins.
#[case(spec = "SDM 3C 26.2", needs("cpus>=2", "x86.vmx"))]
fn nmi_from_another_cpu_exits(vm: &mut NestedVm) -> Verdict {
    static RUNNING: AtomicU32 = AtomicU32::new(0);
    RUNNING.store(0, Ordering::Relaxed);
    vm.enable(controls::NMI_EXITING)?;
    let own = apic::id();
    let job = cpus::spawn_on(Cpu(1), move || {
        if time::wait_until(time::PATIENCE, || RUNNING.load(Ordering::Acquire) == 1) {
            apic::send_ipi(own, apic::ICR_NMI);
        }
    })?;
    vm.closure(|| {
        RUNNING.store(1, Ordering::Release);
        loop {
            cpu::relax();
        }
    });
    let got = vm.enter();
    unblock_nmi();
    job.join_within(time::PATIENCE)?;
    expect_eq!(got, Entry::exited(Reason::EXCEPTION_OR_NMI, 0))?;
    expect_eq!(vm.get(Field::EXIT_EVENT), 0x8000_0202)
}

/// An open interrupt window exits before the guest's first instruction.
#[case(spec = "SDM 3C 27.7.5")]
fn interrupt_window_exits_at_once(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::INTERRUPT_WINDOW)?;
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    expect_eq!(vm.enter(), Entry::exited(Reason::INTERRUPT_WINDOW, 0))?;
    expect_eq!(vm.offset(), 0)?;
    vm.disable(controls::INTERRUPT_WINDOW)?;
    expect_eq!(vm.enter(), Entry::DONE, "control off")
}

/// Blocking by STI or MOV SS keeps the window shut for one instruction.
#[case(spec = "SDM 3C 27.7.5", rows(sti: 1, mov_ss: 2))]
fn interrupt_window_waits_for_blocking(vm: &mut NestedVm, row: u64) -> Verdict {
    vm.code(&[0x90, 0x90]);
    vm.enable(controls::INTERRUPT_WINDOW)?;
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    vm.set(Field::INTERRUPTIBILITY, row);
    expect_eq!(vm.enter(), Entry::exited(Reason::INTERRUPT_WINDOW, 0))?;
    expect_eq!(vm.offset(), 1, "after one NOP")?;
    expect_eq!(vm.get(Field::INTERRUPTIBILITY), 0)
}

/// The window is shut while IF is 0, and opens one instruction after STI.
#[case(spec = "SDM 3C 26.2")]
fn interrupt_window_opens_after_sti(vm: &mut NestedVm) -> Verdict {
    // nop; sti; sti; nop
    vm.code(&[0x90, 0xfb, 0xfb, 0x90]);
    vm.enable(controls::INTERRUPT_WINDOW)?;
    expect_eq!(vm.enter(), Entry::exited(Reason::INTERRUPT_WINDOW, 0))?;
    expect_eq!(vm.offset(), 3, "only the first STI blocks")
}

/// An open interrupt window wakes a guest entered in HLT.
#[case(spec = "SDM 3C 26.2", needs("x86.vmx.activity_hlt"), timeout_s = 10)]
fn interrupt_window_wakes_from_hlt(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::INTERRUPT_WINDOW)?;
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    vm.set(Field::ACTIVITY, 1);
    expect_eq!(vm.enter(), Entry::exited(Reason::INTERRUPT_WINDOW, 0))?;
    expect_eq!(vm.offset(), 0)
}

/// An open NMI window exits at once, with virtual NMIs.
#[case(spec = "SDM 3C 27.7.6", needs("x86.vmx.virtual_nmis"))]
fn nmi_window_exits_at_once(vm: &mut NestedVm) -> Verdict {
    vm.code(&[0x90, 0x90]);
    vm.enable_all(&[
        controls::NMI_EXITING,
        controls::VIRTUAL_NMIS,
        controls::NMI_WINDOW,
    ])?;
    expect_eq!(vm.enter(), Entry::exited(Reason::NMI_WINDOW, 0))?;
    expect_eq!(vm.offset(), 0)?;
    vm.set(Field::INTERRUPTIBILITY, 2);
    expect_eq!(
        vm.enter(),
        Entry::exited(Reason::NMI_WINDOW, 0),
        "blocking by MOV SS"
    )?;
    expect_eq!(vm.offset(), 1, "one instruction later")
}

/// Virtual NMI blocking keeps the NMI window shut until IRET.
#[case(spec = "SDM 3C 27.7.6", needs("x86.vmx.virtual_nmis"))]
fn nmi_window_opens_after_iret(vm: &mut NestedVm) -> Verdict {
    // nop; push ss; rsp; rflags; cs; rip of the end; iretq
    let mut code = vec![0x90];
    // mov eax, ss; mov rcx, rsp; push rax; push rcx; pushfq; mov edx, cs; push rdx
    code.extend([
        0x8c, 0xd0, 0x48, 0x89, 0xe1, 0x50, 0x51, 0x9c, 0x8c, 0xca, 0x52,
    ]);
    // lea rbx, [rip + 3]; push rbx; iretq
    code.extend([0x48, 0x8d, 0x1d, 3, 0, 0, 0, 0x53, 0x48, 0xcf]);
    let end = code.len() as u64;
    vm.code(&code);
    vm.enable_all(&[
        controls::NMI_EXITING,
        controls::VIRTUAL_NMIS,
        controls::NMI_WINDOW,
    ])?;
    vm.set(Field::INTERRUPTIBILITY, 8);
    expect_eq!(vm.enter(), Entry::exited(Reason::NMI_WINDOW, 0))?;
    expect_eq!(vm.offset(), end, "after IRET")?;
    expect_eq!(vm.get(Field::INTERRUPTIBILITY) & 8, 0)
}
