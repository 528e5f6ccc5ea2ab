//! The machine moves while a guest runs inside it. Spec: APM 2 15.5, 15.21, 15.25.
//!
//! A processor in an inner guest has two sets of registers, intercepts and tables, and those of the
//! outer one are nowhere but in the processor until the next exit. A hypervisor that leaves one
//! of them behind ends the inner guest in the wrong place, or writes its pages by the wrong address.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest_lib::arch::apic;
use guest_lib::arch::paging::{P, U, W};
use guest_lib::arch::svm::{self, Entry, ExitCode, NestedVm, field, int_ctl, intercept, l2};
use guest_lib::arch::{cpu, cpuid, keep, msr};
use guest_lib::memory::{FRAME, Frames};
use guest_lib::prelude::*;
use guest_lib::protocol::stamp;
use guest_lib::service::{self, Request};

/// Pages of one inner guest.
const PAGES: usize = 32;
/// Processors that may run inner guests.
const MOST: usize = 8;

static OVER: AtomicBool = AtomicBool::new(false);
/// Pages that each processor's inner guest has stamped.
static TURNS: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
/// 1 and the page's number where an inner guest found a page that was not as it had left it.
static WRONG: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];

fn turns(cpu: usize) -> u64 {
    TURNS[cpu].load(Ordering::SeqCst)
}

fn stamp_of(page: usize, pass: u64) -> u64 {
    pass << 16 | (page as u64 + 1)
}

/// The words of a page behind its header.
fn words(page: usize) -> impl Iterator<Item = usize> {
    (stamp::HEADER..FRAME)
        .step_by(8)
        .map(move |i| page * FRAME + i)
}

/// Runs a guest on this processor that looks at its pages and stamps them, one per turn, until all is
/// over. Its addresses are those of other pages of the host, which must stay empty.
fn inner_guest(cpu: usize, exits: bool) -> Verdict {
    let mut vm = NestedVm::fresh()?;
    let (shown, real) = (Frames::new(PAGES), Frames::new(PAGES));
    let start = shown.address();
    vm.nest_paging();
    for page in 0..PAGES {
        let number = ((cpu - 1) * PAGES + page) as u32;
        let header = stamp::header(stamp::WRITTEN, number);
        for (i, byte) in header.into_iter().enumerate() {
            real.write(page * FRAME + i, byte);
        }
        words(page).for_each(|word| real.write(word, stamp_of(page, 0)));
        let offset = (page * FRAME) as u64;
        let entry = (real.address() + offset) | P | W | U;
        vm.npt().set(start + offset, 1, entry);
    }
    vm.load(move || {
        while !OVER.load(Ordering::SeqCst) {
            let turn = turns(cpu);
            let (page, pass) = (turn as usize % PAGES, turn / PAGES as u64 + 1);
            for word in words(page) {
                if shown.read::<u64>(word) != stamp_of(page, pass - 1) {
                    WRONG[cpu].store(1 + page as u64, Ordering::SeqCst);
                }
                shown.write(word, stamp_of(page, pass));
            }
            TURNS[cpu].store(turn + 1, Ordering::SeqCst);
            if exits && turn.is_multiple_of(4) {
                l2::vmmcall();
            }
        }
    });
    let mut entry = vm.enter();
    while entry == Entry::VMMCALL && !vm.finished() {
        entry = vm.resume();
    }
    expect_eq!(entry, Entry::VMMCALL, "the inner guest's exit")?;
    expect_eq!(vm.fault(), None, "the inner guest's fault")?;
    let wrong = WRONG[cpu].load(Ordering::SeqCst);
    expect_eq!(wrong, 0, "1 and the page that the inner guest found wrong")?;
    let (done, pages) = (turns(cpu), PAGES as u64);
    for page in 0..PAGES {
        let pass = done / pages + u64::from((page as u64) < done % pages);
        let old = words(page).find(|&word| real.read::<u64>(word) != stamp_of(page, pass));
        expect_eq!(old, None, "page {page}: a word without its last stamp")?;
        let bytes = (0..FRAME)
            .step_by(8)
            .map(|i| start + (page * FRAME + i) as u64);
        let stray = bytes.map(cpu::peek_raw).any(|byte| byte != 0);
        expect!(
            !stray,
            "page {page} was written at the inner guest's address"
        )?;
    }
    Ok(())
}

/// Inner guests on all processors but the first, which asks for the move.
fn stamped_pages(requests: &[Request], exits: bool) -> Verdict {
    OVER.store(false, Ordering::SeqCst);
    for slot in TURNS.iter().chain(&WRONG) {
        slot.store(0, Ordering::SeqCst);
    }
    let others = 1..cpus::count().min(MOST);
    let advanced = || {
        let from: Vec<u64> = (0..MOST).map(turns).collect();
        let far = |cpu: usize| turns(cpu) >= from[cpu] + 2 * PAGES as u64;
        time::wait_until(time::PATIENCE, || others.clone().all(far))
    };
    let lead = || -> Verdict {
        expect!(advanced(), "an inner guest does not run")?;
        for &request in requests {
            service::ask(request)?;
            expect!(advanced(), "an inner guest stands still after the move")?;
        }
        Ok(())
    };
    let results = cpus::on_all(|cpu| {
        if cpu != Cpu::BOOT {
            return match cpu.0 < MOST {
                true => inner_guest(cpu.0, exits),
                false => Ok(()),
            };
        }
        let led = lead();
        OVER.store(true, Ordering::SeqCst);
        led
    })?;
    note!("{} pages stamped", others.map(turns).sum::<u64>());
    results.into_iter().collect()
}

/// A page that an inner guest writes while the machine moves holds its last stamp: at the host's address,
/// whatever the inner guest's is. One runs without an exit through the whole move, another exits all
/// the time.
#[case(
    spec = "APM 2 15.25.5",
    needs("service.migrate", "x86.svm.npt", "cpus>=2"),
    rows(without_exits: false, with_exits: true)
)]
fn pages_of_an_inner_guest_keep_their_last_stamp(row: bool) -> Verdict {
    stamped_pages(&[Request::Migrate, Request::Migrate], row)
}

/// The same in a machine that was saved and restored.
#[case(
    spec = "APM 2 15.25.5",
    needs("service.save_restore", "x86.svm.npt", "cpus>=2"),
    rows(without_exits: false, with_exits: true)
)]
fn saved_pages_of_an_inner_guest_keep_their_last_stamp(row: bool) -> Verdict {
    stamped_pages(&[Request::SaveRestore], row)
}

/// An inner guest that spins while the machine moves keeps all its registers.
#[case(spec = "APM 2 15.5.1", needs("service.migrate", "x86.svm", "cpus>=2"))]
fn inner_guest_keeps_its_registers() -> Verdict {
    static STOP: AtomicU64 = AtomicU64::new(0);
    STOP.store(keep::GO_ON, Ordering::SeqCst);
    OVER.store(false, Ordering::SeqCst);
    let job = cpus::spawn_on(Cpu(1), || -> Result<(Entry, u64), Stop> {
        let mut vm = NestedVm::fresh()?;
        vm.load(|| {
            OVER.store(true, Ordering::SeqCst);
            let wrong = keep::spin(&STOP, 0x1357_9bdf_0246_8ace);
            l2::tell(0, 1 + wrong.len() as u64);
        });
        Ok((vm.enter(), vm.told(0)))
    })?;
    let spins = time::wait_until(time::PATIENCE, || OVER.load(Ordering::SeqCst));
    let moved = service::ask(Request::Migrate).and_then(|()| service::ask(Request::Migrate));
    STOP.store(keep::STOP, Ordering::SeqCst);
    let (entry, told) = job.join_within(time::PATIENCE)??;
    moved?;
    expect!(spins, "the inner guest does not run")?;
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(told, 1, "1 and the number of registers that changed")
}

/// What the inner guest tells of its move: 1 when it was moved.
const MOVED: usize = 8;

/// Asks from within the inner guest: the machine moves while this very processor is in it.
fn ask_inside(request: Request) {
    l2::tell(MOVED, 1 + u64::from(service::ask(request).is_err()));
}

fn intercepts(vm: &mut NestedVm, request: Request) -> Verdict {
    vm.vmcb.intercept(intercept::CPUID, true);
    vm.vmcb.intercept(intercept::MSR, true);
    vm.vmcb.intercept(intercept::IOIO, true);
    vm.vmcb.set(field::INTERCEPT_EXCEPTION, 1u32 << 6);
    vm.trap_msr(msr::LSTAR, true, false);
    vm.trap_port(0x80, true);
    let touch = || {
        let _ = cpuid::query(0, 0);
        let _ = msr::read(msr::LSTAR);
        cpu::outb(0x80, 0);
        cpu::ud2();
        // What is not intercepted.
        let _ = msr::read(msr::STAR);
        cpu::inb(0x84);
    };
    vm.load(move || {
        touch();
        ask_inside(request);
        touch();
    });
    // CPUID, RDMSR, OUT DX,AL and UD2, each with its length.
    let each = [
        (ExitCode::CPUID, 2),
        (ExitCode::MSR, 2),
        (ExitCode::IOIO, 1),
        (ExitCode::exception(6), 2),
    ];
    let mut entry = vm.enter();
    for when in ["before", "after"] {
        for (code, length) in each {
            expect_eq!(entry, Entry::Exited(code), "{when} the move")?;
            entry = vm.resume_after(length);
        }
    }
    expect_eq!(entry, Entry::VMMCALL, "at the end")?;
    expect_eq!(vm.told(MOVED), 1, "1 when it was moved")
}

/// Intercepts and permission maps are in force in an inner guest that was moved.
#[case(spec = "APM 2 15.9", needs("service.migrate", "x86.svm"))]
fn intercepts_stay_in_force(vm: &mut NestedVm) -> Verdict {
    intercepts(vm, Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(spec = "APM 2 15.9", needs("service.save_restore", "x86.svm"))]
fn saved_intercepts_stay_in_force(vm: &mut NestedVm) -> Verdict {
    intercepts(vm, Request::SaveRestore)
}

/// After a move in the inner guest the exit leads to the host's own state: its tables, control registers
/// and system-call registers.
#[case(spec = "APM 2 15.6", needs("service.migrate", "x86.svm"))]
fn exit_after_a_move_loads_the_hosts_state(vm: &mut NestedVm) -> Verdict {
    let all = || -> Result<[u64; 6], Fault> {
        let flags = cpu::rflags() & !0x8d5;
        let hsave = msr::read(msr::VM_HSAVE_PA)?;
        let efer = msr::read(msr::EFER)?;
        let (cr0, cr3, cr4) = (cpu::read_cr0(), cpu::read_cr3(), cpu::read_cr4());
        Ok([cr0, cr3, cr4, efer, hsave, flags])
    };
    let before = all()?;
    // Another CR4 inside: debugging extensions and no RDTSC at level 3.
    vm.vmcb.update(field::CR4, |cr4| cr4 | 0xc);
    let entry = vm.run(|| {
        l2::tell(0, cpu::read_cr4());
        ask_inside(Request::Migrate);
        l2::tell(1, cpu::read_cr4());
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(MOVED), 1, "1 when it was moved")?;
    expect_eq!(all()?, before, "CR0, CR3, CR4, EFER, VM_HSAVE_PA, RFLAGS")?;
    expect_eq!(
        vm.told(0),
        before[2] | 0xc,
        "control: the inner guest's CR4"
    )?;
    expect_eq!(
        vm.told(1),
        vm.told(0),
        "the inner guest's CR4 after the move"
    )?;
    expect_eq!(vm.vmcb.get(field::CR4), vm.told(0), "CR4 in the VMCB")?;
    expect_eq!(vm.run(|| ()), Entry::VMMCALL, "and in again")
}

/// Nested tables stay in force: a page that they lack exits with its address after the move too.
#[case(spec = "APM 2 15.25.6", needs("service.migrate", "x86.svm.npt"))]
fn nested_tables_stay_in_force(vm: &mut NestedVm) -> Verdict {
    let page = Frames::new(1);
    let address = page.address();
    vm.nest_paging();
    vm.npt().set(address, 1, 0);
    vm.load(move || {
        ask_inside(Request::Migrate);
        l2::tell(0, 1 + cpu::peek_raw(address + 0x123));
    });
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::NPF))?;
    expect_eq!(vm.told(MOVED), 1, "1 when it was moved")?;
    expect_eq!(vm.info2(), address + 0x123, "EXITINFO2")?;
    vm.npt().set(address, 1, address | P | W | U);
    expect_eq!(vm.enter(), Entry::VMMCALL, "mended")?;
    expect_eq!(vm.told(0), 1)
}

/// The TSC offset of an inner guest stays: its clock is the host's and the offset, before and after.
#[case(spec = "APM 2 15.30.5", needs("service.migrate", "x86.svm"))]
fn tsc_offset_stays(vm: &mut NestedVm) -> Verdict {
    const OFFSET: u64 = 1 << 44;
    vm.vmcb.set(field::TSC_OFFSET, OFFSET);
    let first = cpu::rdtsc();
    let entry = vm.run(|| {
        l2::tell(0, cpu::rdtsc());
        ask_inside(Request::Migrate);
        l2::tell(1, cpu::rdtsc());
    });
    let last = cpu::rdtsc();
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(MOVED), 1, "1 when it was moved")?;
    let seen = [first, vm.told(0) - OFFSET, vm.told(1) - OFFSET, last];
    expect!(seen.is_sorted(), "host, inner guest twice, host: {seen:x?}")
}

/// A virtual interrupt that an inner guest keeps off is pending after the move, and comes once.
#[case(spec = "APM 2 15.21.4 V_IRQ", needs("service.migrate", "x86.svm"))]
fn virtual_interrupt_comes_once(vm: &mut NestedVm) -> Verdict {
    let _handler = fault::Handler::new(0x79, |_| l2::count(0));
    let pending = int_ctl::V_IRQ | int_ctl::v_intr_prio(15) | int_ctl::v_intr_vector(0x79);
    vm.vmcb
        .set(field::INT_CTL, pending | int_ctl::V_INTR_MASKING);
    let entry = vm.run(|| {
        ask_inside(Request::Migrate);
        l2::tell(1, l2::told(0));
        l2::sti();
        l2::nop();
        l2::cli();
        l2::tell(2, l2::told(0));
        l2::sti();
        l2::nop();
        l2::cli();
    });
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(MOVED), 1, "1 when it was moved")?;
    expect_eq!(vm.told(1), 0, "taken with the inner guest's IF clear")?;
    expect_eq!(vm.told(2), 1, "after STI")?;
    expect_eq!(vm.told(0), 1, "after another STI")?;
    expect_eq!(vm.vmcb.get(field::INT_CTL) & int_ctl::V_IRQ, 0, "V_IRQ")
}

/// A host that has cleared its global interrupt flag takes nothing after the move until it sets the flag,
/// and then what is pending, once.
#[case(spec = "APM 2 15.17", needs("service.migrate", "x86.svm"))]
fn clear_global_interrupt_flag_holds_back(_vm: &mut NestedVm) -> Verdict {
    apic::enable(0xff);
    let _handler = fault::Handler::new(0x7a, |_| {
        l2::count(0);
        apic::eoi();
    });
    svm::clgi()?;
    apic::send_ipi(apic::id(), apic::ICR_FIXED | 0x7a);
    let moved = service::ask(Request::Migrate);
    let mut held = 0;
    cpu::with_interrupts(|| {
        time::spin(time::ms(2));
        held = l2::told(0);
        let _ = svm::stgi();
        time::wait_until(time::PATIENCE, || l2::told(0) != 0);
        time::spin(time::ms(2));
    });
    moved?;
    expect_eq!(held, 0, "taken with GIF clear")?;
    expect_eq!(l2::told(0), 1, "after STGI")
}

/// A guest that was made before the move can be entered after it.
#[case(spec = "APM 2 15.5.1", needs("service.migrate", "x86.svm"))]
fn guest_can_be_entered_after_the_move(vm: &mut NestedVm) -> Verdict {
    vm.load(|| {
        l2::count(0);
        l2::vmmcall();
        l2::count(0);
    });
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    service::ask(Request::Migrate)?;
    expect_eq!(vm.resume(), Entry::VMMCALL)?;
    expect!(vm.finished(), "it goes on where it stood")?;
    expect_eq!(vm.told(0), 2)
}
