//! A valid, enterable guest: fresh per case, to be spoiled. Spec: APM 2 15.5.

use super::enter::{self, Gprs, Run};
use super::exit::Entry;
use super::vmcb::{Segment, Vmcb, field, intercept};
use super::{Npt, l2};
use crate::arch::code::Code;
use crate::arch::segments::{self, KERNEL_CODE, KERNEL_DATA, PER_CPU};
use crate::arch::{cpu, cpuid, msr, registers::Efer};
use crate::case::{Fixture, Stop, skip};
use crate::fault::{self, Fault};
use crate::memory::Frames;
use alloc::boxed::Box;
use core::arch::asm;

/// Pages of an I/O permission map: two, and a byte of a third for accesses that reach past FFFFh.
const IOPM_FRAMES: usize = 3;
const MSRPM_FRAMES: usize = 2;
const STACK_FRAMES: usize = 8;

struct L2 {
    code: Box<dyn FnMut()>,
    finished: bool,
    fault: Option<Fault>,
}

/// A guest in 64-bit mode at level 0, in the payload's own address space, on its own stack.
///
/// It runs a closure, catches the closure's faults as values, and ends with VMMCALL. VMRUN,
/// VMMCALL and shutdown are intercepted, nothing else. RFLAGS.IF is 0 inside and outside. Nested paging is
/// off until [`NestedVm::nest_paging`].
pub struct NestedVm {
    /// The control block. `VMCB` fields can be set and read between entries.
    pub vmcb: Vmcb,
    /// The guest's general registers but RAX and RSP.
    pub gprs: Gprs,
    /// The host's RFLAGS around VMRUN: `IF` lets interrupts through to the host after STGI.
    pub host_rflags: u64,
    /// RAX for VMRUN, when it is not to be the VMCB's address.
    pub rax_for_vmrun: Option<u64>,
    npt: Option<Npt>,
    iopm: Frames,
    msrpm: Frames,
    stack: Frames,
    host: Frames,
    // Owned while VM_HSAVE_PA names it.
    _hsave: Frames,
    l2: Option<Box<L2>>,
    code: Option<Code>,
    recovery: u64,
    cpu: usize,
    saved: Saved,
}

/// What the drop puts back.
struct Saved {
    efer: u64,
    hsave: u64,
    dr6: u64,
    cr: [u64; 3],
}

impl Fixture for NestedVm {
    fn fresh() -> Result<Self, Stop> {
        NestedVm::new()
    }
}

impl NestedVm {
    /// A guest for the processor this runs on, with SVM turned on there.
    pub fn new() -> Result<Self, Stop> {
        if !cpuid::has_svm() || super::is_disabled() {
            return skip("x86.svm");
        }
        let saved = Saved {
            efer: Efer::read().bits(),
            hsave: msr::read(msr::VM_HSAVE_PA)?,
            dr6: cpu::read_dr6(),
            cr: [cpu::read_cr0(), cpu::read_cr3(), cpu::read_cr4()],
        };
        super::enable()?;
        let hsave = Frames::new(1);
        msr::write(msr::VM_HSAVE_PA, hsave.address())?;
        l2::forget();
        let mut vm = NestedVm {
            vmcb: Vmcb::zeroed(),
            gprs: Gprs::default(),
            host_rflags: 2,
            rax_for_vmrun: None,
            npt: None,
            iopm: Frames::new(IOPM_FRAMES),
            msrpm: Frames::new(MSRPM_FRAMES),
            stack: Frames::new(STACK_FRAMES),
            host: Frames::new(1),
            _hsave: hsave,
            l2: None,
            code: None,
            recovery: 0,
            cpu: segments::this_cpu(),
            saved,
        };
        vm.set_controls();
        vm.set_state()?;
        vm.load(|| ());
        Ok(vm)
    }

    fn set_controls(&self) {
        let vmcb = &self.vmcb;
        for bit in [intercept::VMRUN, intercept::VMMCALL, intercept::SHUTDOWN] {
            vmcb.intercept(bit, true);
        }
        vmcb.set(field::IOPM_BASE_PA, self.iopm.address());
        vmcb.set(field::MSRPM_BASE_PA, self.msrpm.address());
        vmcb.set(field::ASID, 1);
        // Flush everything on each entry: what other guests left under this ASID is not ours.
        vmcb.set(field::TLB_CONTROL, 1);
    }

    fn set_state(&self) -> Result<(), Fault> {
        let vmcb = &self.vmcb;
        // FS, GS, TR, LDTR and the system-call registers: this processor's own.
        super::vmsave(vmcb.address())?;
        for segment in [Segment::ES, Segment::SS, Segment::DS] {
            vmcb.set(segment.selector(), KERNEL_DATA);
            vmcb.set(segment.attributes(), 0xc93);
            vmcb.set(segment.limit(), u32::MAX);
        }
        vmcb.set(Segment::CS.selector(), KERNEL_CODE);
        vmcb.set(Segment::CS.attributes(), 0xa9b);
        vmcb.set(Segment::CS.limit(), u32::MAX);
        let (gdtr, idtr) = (segments::gdtr(), segments::idtr());
        for (segment, table) in [(Segment::GDTR, gdtr), (Segment::IDTR, idtr)] {
            vmcb.set(segment.limit(), u32::from(table.limit));
            vmcb.set(segment.base(), table.base);
        }
        vmcb.set(field::EFER, Efer::read().bits());
        vmcb.set(field::CR0, cpu::read_cr0());
        vmcb.set(field::CR3, cpu::read_cr3());
        vmcb.set(field::CR4, cpu::read_cr4());
        vmcb.set(field::DR6, 0xffff_0ff0);
        vmcb.set(field::DR7, 0x400);
        vmcb.set(field::G_PAT, msr::read(msr::PAT)?);
        Ok(())
    }

    /// Gives the guest `code` to run from its start, on an empty stack.
    pub fn load(&mut self, code: impl FnMut() + 'static) {
        let mut l2 = Box::new(L2 {
            code: Box::new(code),
            finished: false,
            fault: None,
        });
        let argument: *mut L2 = &mut *l2;
        self.l2 = Some(l2);
        self.load_address(l2_main as *const () as u64);
        self.gprs.rdi = argument as u64;
    }

    /// Gives the guest machine code at `address`, on an empty stack. Nothing catches its faults.
    pub fn load_address(&mut self, address: u64) {
        self.gprs = Gprs::default();
        self.recovery = 0;
        self.vmcb.set(field::RIP, address);
        self.vmcb.set(field::RSP, self.stack_top());
        self.vmcb.set(field::RAX, 0);
        self.vmcb.set(field::RFLAGS, 2);
        self.vmcb.set(field::CPL, 0);
        self.vmcb.set(field::INT_STATE, 0);
        self.vmcb.set(field::EVENT_INJ, 0);
    }

    /// Gives the guest `bytes` and a VMMCALL to run; returns the address of the first byte.
    /// Nothing catches its faults: intercept those that may come.
    pub fn load_bytes(&mut self, bytes: &[u8]) -> u64 {
        let mut all = bytes.to_vec();
        all.extend_from_slice(&[0x0f, 0x01, 0xd9]);
        let code = Code::new(&all);
        let address = code.address();
        self.code = Some(code);
        self.load_address(address);
        address
    }

    /// Where the guest's stack starts: as after a call.
    pub fn stack_top(&self) -> u64 {
        self.stack.address() + self.stack.len() as u64 - 8
    }

    /// The addresses of the guest's stack: they tell the guest's interrupt frames from the host's.
    pub fn stack_range(&self) -> core::ops::Range<u64> {
        self.stack.address()..self.stack.address() + self.stack.len() as u64
    }

    /// Loads `code` and enters.
    pub fn run(&mut self, code: impl FnMut() + 'static) -> Entry {
        self.load(code);
        self.enter()
    }

    /// Enters the guest where it stands.
    pub fn enter(&mut self) -> Entry {
        assert!(
            segments::this_cpu() == self.cpu,
            "a guest stays on its processor"
        );
        // SAFETY: a processor's recovery slot is its own. While the guest runs, it holds what the guest's
        // `catch` put there; VMRUN's own faults are fixed up without it.
        let slot = unsafe { &mut *PER_CPU[self.cpu].recovery.get() };
        let ours = core::mem::replace(&mut slot.rsp, self.recovery);
        let mut run = Run {
            gprs: self.gprs,
            vmcb: self.rax_for_vmrun.unwrap_or(self.vmcb.address()),
            host: self.host.address(),
            rflags: self.host_rflags,
        };
        // SAFETY: SVME was set by `new`; the guest has stack, code and tables of its own, or what the
        // case gave it instead.
        let result = unsafe { enter::enter(&mut run) };
        self.recovery = core::mem::replace(&mut slot.rsp, ours);
        self.gprs = run.gprs;
        match result {
            Err(fault) => Entry::Faulted(fault),
            Ok(()) => Entry::of(self.vmcb.exit_code()),
        }
    }

    /// Enters again past the instruction of `length` bytes that exited.
    pub fn resume_after(&mut self, length: u64) -> Entry {
        self.vmcb.update(field::RIP, |rip| rip + length);
        self.enter()
    }

    /// Enters again past a VMMCALL.
    pub fn resume(&mut self) -> Entry {
        self.resume_after(3)
    }

    /// Whether the closure ran to its end, by itself or by a fault.
    pub fn finished(&self) -> bool {
        // Volatile: the guest wrote it behind the compiler's back.
        self.l2.as_ref().is_some_and(|l2| {
            // SAFETY: a reference to a live field.
            unsafe { core::ptr::read_volatile(&l2.finished) }
        })
    }

    /// The fault that ended the closure.
    pub fn fault(&self) -> Option<Fault> {
        self.l2.as_ref().and_then(|l2| {
            // SAFETY: a reference to a live field.
            unsafe { core::ptr::read_volatile(&l2.fault) }
        })
    }

    /// Exit information 1.
    pub fn info1(&self) -> u64 {
        self.vmcb.get(field::EXIT_INFO_1)
    }

    /// Exit information 2.
    pub fn info2(&self) -> u64 {
        self.vmcb.get(field::EXIT_INFO_2)
    }

    /// The event whose delivery the exit interrupted.
    pub fn int_info(&self) -> u64 {
        self.vmcb.get(field::EXIT_INT_INFO)
    }

    /// The guest's RIP.
    pub fn rip(&self) -> u64 {
        self.vmcb.get(field::RIP)
    }

    /// What the guest told in `slot` ([`l2::tell`]).
    pub fn told(&self, slot: usize) -> u64 {
        l2::told(slot)
    }

    /// Turns nested paging on, with 4 GiB mapped one to one.
    pub fn nest_paging(&mut self) -> &mut Npt {
        let npt = self.npt.insert(Npt::identity());
        self.vmcb.update(field::NESTED_CTL, |old| old | 1);
        self.vmcb.set(field::N_CR3, npt.root());
        npt
    }

    /// The nested page tables; nested paging is on.
    pub fn npt(&mut self) -> &mut Npt {
        self.npt.as_mut().expect("the case turned nested paging on")
    }

    /// Sets the I/O permission bit of `port`; 10000h to 10002h are the bits past the last port.
    pub fn trap_port(&mut self, port: u32, on: bool) {
        set_bit(&self.iopm, port as usize, on);
    }

    /// Sets the MSR permission bits of `number`: read, write. `number` is in one of the three ranges.
    pub fn trap_msr(&mut self, number: u32, read: bool, write: bool) {
        let bit = match number {
            0..=0x1fff => 2 * number as usize,
            0xc000_0000..=0xc000_1fff => 0x4000 + 2 * (number as usize & 0x1fff),
            0xc001_0000..=0xc001_1fff => 0x8000 + 2 * (number as usize & 0x1fff),
            _ => panic!("MSR {number:#x} has no permission bits"),
        };
        set_bit(&self.msrpm, bit, read);
        set_bit(&self.msrpm, bit + 1, write);
    }

    /// The I/O permission map.
    pub fn iopm(&mut self) -> &mut Frames {
        &mut self.iopm
    }

    /// The MSR permission map.
    pub fn msrpm(&mut self) -> &mut Frames {
        &mut self.msrpm
    }
}

fn set_bit(map: &Frames, bit: usize, on: bool) {
    let old: u8 = map.read(bit / 8);
    let mask = 1 << (bit % 8);
    map.write(bit / 8, if on { old | mask } else { old & !mask });
}

impl Drop for NestedVm {
    fn drop(&mut self) {
        // The machine worked with these values before; what cannot be put back shows in later cases.
        let _ = msr::write(msr::EFER, self.saved.efer | Efer::SVME.bits());
        let _ = super::stgi();
        let _ = msr::write(msr::VM_HSAVE_PA, self.saved.hsave);
        let _ = cpu::write_cr0(self.saved.cr[0]);
        let _ = cpu::write_cr3(self.saved.cr[1]);
        let _ = cpu::write_cr4(self.saved.cr[2]);
        let _ = cpu::write_cr8(0);
        let _ = cpu::write_cr2(0);
        let _ = cpu::write_dr7(0x400);
        let _ = cpu::write_dr6(self.saved.dr6);
        let _ = msr::write(msr::EFER, self.saved.efer);
    }
}

/// Where the guest starts.
extern "C" fn l2_main(l2: *mut L2) -> ! {
    // SAFETY: the box that `NestedVm` keeps; the host looks at it only while the guest is stopped.
    let l2 = unsafe { &mut *l2 };
    let outcome = fault::catch(|| (l2.code)());
    // SAFETY: fields of a live value; volatile, because the host reads them after an exit.
    unsafe {
        core::ptr::write_volatile(&mut l2.fault, outcome.err());
        core::ptr::write_volatile(&mut l2.finished, true);
    }
    loop {
        l2::vmmcall();
    }
}

/// VMRUN with `address` in RAX, by the bare instruction: for cases that expect its fault. Should it
/// not fault, the VMCB there must be one that no processor enters.
pub fn vmrun_from(address: u64) -> Result<(), Fault> {
    fault::catch(|| {
        // SAFETY: S1; nothing runs in between, so the registers are as before.
        unsafe { asm!("vmrun rax", "stgi", in("rax") address, options(nostack)) }
    })
}
