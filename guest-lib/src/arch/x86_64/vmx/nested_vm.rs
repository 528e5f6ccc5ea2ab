//! A valid, enterable guest: fresh per case, to spoil. Spec: SDM 3C 27, 28.
//!
//! The guest is a mirror of the payload: 64-bit, the same page tables, descriptor tables and task
//! register, interrupts off, no control set that may be clear, every exception an exit. What it
//! runs is machine code ([`NestedVm::code`]) or a closure ([`NestedVm::closure`]); both end in
//! VMCALL. So an untouched guest ends with [`Entry::DONE`].
//!
//! [`NestedVm::enter`] is one VM entry, by VMLAUNCH the first time and VMRESUME from then on. All
//! its ends are values. Fields are written as they are: the processor does the checking.

use super::VmxOperation;
use super::controls::{self, Control};
use super::ept::Ept;
use super::instructions::{VmFail, vmclear, vmread, vmwrite};
use super::vmcs::{Field, Segment};
use crate::arch::{cpu, msr, paging, segments, smp};
use crate::case::{Fixture, Stop, skip};
use crate::fault::{self, Fault};
use crate::memory::Frames;
use alloc::boxed::Box;
use core::arch::{asm, global_asm};
use core::cell::Cell;
use core::fmt;

/// A basic exit reason, with the modifier bits 30:16 that nobody asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u32);

macro_rules! reasons {
    ($($name:ident = $number:literal;)*) => {
        #[expect(missing_docs, reason = "named by the manual's words")]
        impl Reason {
            $(pub const $name: Reason = Reason($number);)*
        }
        impl fmt::Debug for Reason {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                match self.0 {
                    $($number => f.write_str(stringify!($name)),)*
                    other => write!(f, "Reason({other:#x})"),
                }
            }
        }
    };
}

reasons! {
    EXCEPTION_OR_NMI = 0;
    EXTERNAL_INTERRUPT = 1;
    TRIPLE_FAULT = 2;
    INIT = 3;
    SIPI = 4;
    INTERRUPT_WINDOW = 7;
    NMI_WINDOW = 8;
    TASK_SWITCH = 9;
    CPUID = 10;
    GETSEC = 11;
    HLT = 12;
    INVD = 13;
    INVLPG = 14;
    RDPMC = 15;
    RDTSC = 16;
    RSM = 17;
    VMCALL = 18;
    VMCLEAR = 19;
    VMLAUNCH = 20;
    VMPTRLD = 21;
    VMPTRST = 22;
    VMREAD = 23;
    VMRESUME = 24;
    VMWRITE = 25;
    VMXOFF = 26;
    VMXON = 27;
    CR_ACCESS = 28;
    MOV_DR = 29;
    IO = 30;
    RDMSR = 31;
    WRMSR = 32;
    GUEST_STATE = 33;
    MSR_LOADING = 34;
    MWAIT = 36;
    MONITOR_TRAP = 37;
    MONITOR = 39;
    PAUSE = 40;
    MACHINE_CHECK = 41;
    TPR_BELOW_THRESHOLD = 43;
    APIC_ACCESS = 44;
    VIRTUALIZED_EOI = 45;
    GDTR_IDTR_ACCESS = 46;
    LDTR_TR_ACCESS = 47;
    EPT_VIOLATION = 48;
    EPT_MISCONFIGURATION = 49;
    INVEPT = 50;
    RDTSCP = 51;
    PREEMPTION_TIMER = 52;
    INVVPID = 53;
    WBINVD = 54;
    XSETBV = 55;
    APIC_WRITE = 56;
    RDRAND = 57;
    INVPCID = 58;
    VMFUNC = 59;
    RDSEED = 61;
    PML_FULL = 62;
    XSAVES = 63;
    XRSTORS = 64;
}

/// How one VM entry ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The guest ran, or could have, and a VM exit ended it.
    Exited {
        /// Why.
        reason: Reason,
        /// The exit qualification.
        qualification: u64,
    },
    /// The entry failed after the host state was safe: bit 31 of the exit reason is set.
    Failed {
        /// Why.
        reason: Reason,
        /// The exit qualification.
        qualification: u64,
    },
    /// VMLAUNCH or VMRESUME failed and the next instruction ran.
    Refused(VmFail),
    /// VMLAUNCH or VMRESUME did nothing: the next instruction ran, without CF and ZF.
    FellThrough,
    /// A field that the case wrote or read before cannot be accessed.
    Inaccessible(Field, VmFail),
}

impl Entry {
    /// The guest's code ended with its VMCALL.
    pub const DONE: Entry = Entry::exited(Reason::VMCALL, 0);
    /// Invalid control fields.
    pub const BAD_CONTROLS: Entry = Entry::Refused(VmFail::Valid(7));
    /// Invalid host-state fields.
    pub const BAD_HOST: Entry = Entry::Refused(VmFail::Valid(8));
    /// Invalid guest state.
    pub const BAD_GUEST: Entry = Entry::failed(Reason::GUEST_STATE, 0);

    /// An exit.
    pub const fn exited(reason: Reason, qualification: u64) -> Entry {
        Entry::Exited {
            reason,
            qualification,
        }
    }

    /// A failed entry.
    pub const fn failed(reason: Reason, qualification: u64) -> Entry {
        Entry::Failed {
            reason,
            qualification,
        }
    }

    /// The exit reason, whatever the qualification; `None` when there was no exit.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Entry::Exited { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// The guest's registers that are not in the VMCS; loaded before an entry, stored after an exit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "named as the registers they hold")]
pub struct Registers {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    /// RFLAGS of the host at the exit.
    host_flags: u64,
}

/// What a VM exit left in host registers that the payload needs otherwise; see SDM 3C 28.5.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "named as the registers they hold")]
pub struct HostAfterExit {
    pub gdtr: segments::TableRegister,
    pub idtr: segments::TableRegister,
    pub ldtr: u16,
    pub dr7: u64,
    pub debugctl: u64,
    pub rflags: u64,
}

/// The instruction before VMLAUNCH or VMRESUME.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Before {
    /// Nothing that matters.
    Nothing = 0,
    /// MOV to SS: events are blocked by MOV SS.
    MovSs = 2,
    /// STI: events are blocked by STI.
    Sti = 4,
}

/// A nested guest. See the module's documentation.
pub struct NestedVm {
    launched: bool,
    /// Asked once: a case may have a handler for #GP later.
    has_debugctl: bool,
    trouble: Cell<Option<(Field, VmFail)>>,
    start: u64,
    /// The guest's registers.
    pub registers: Registers,
    /// What the last exit left in the host's registers.
    pub host_after_exit: Option<HostAfterExit>,
    /// Extended page tables, from [`NestedVm::enable_ept`].
    pub ept: Option<Ept>,
    closure: Option<Box<Box<dyn Fn() -> u64>>>,
    code: Frames,
    stack: Frames,
    vmcs: Frames,
    /// VMX operation; it ends after the VMCS is cleared.
    pub operation: VmxOperation,
}

/// Access rights: 64-bit code, read, accessed.
pub const CODE64: u64 = 0xa09b;
/// Access rights: 32-bit code, read, accessed.
pub const CODE32: u64 = 0xc09b;
/// Access rights: data, writable, accessed, 4 GiB.
pub const DATA: u64 = 0xc093;
/// Access rights: busy 64-bit or 32-bit TSS.
pub const BUSY_TSS: u64 = 0x8b;
/// Access rights: unusable.
pub const UNUSABLE: u64 = 0x1_0000;

/// Bytes of code a guest may have.
const CODE_SIZE: usize = 4096;

unsafe extern "C" {
    fn assay_vmx_enter(registers: *mut Registers, how: u64) -> u64;
    fn assay_vmx_exit();
    fn assay_vmx_guest();
}

global_asm!(
    ".global assay_vmx_enter, assay_vmx_exit, assay_vmx_guest",
    // rdi registers; rsi bit 0: resume, bit 1: MOV SS first, bit 2: STI first.
    "assay_vmx_enter:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rdi",
    "mov eax, {host_rsp}",
    "vmwrite rax, rsp",
    "lea rax, [rip + assay_vmx_entries]",
    "mov rax, [rax + rsi * 8]",
    "push rax",
    "mov rax, [rdi]",
    "mov rcx, [rdi + 8]",
    "mov rdx, [rdi + 16]",
    "mov rbx, [rdi + 24]",
    "mov rbp, [rdi + 32]",
    "mov rsi, [rdi + 40]",
    "mov r8, [rdi + 56]",
    "mov r9, [rdi + 64]",
    "mov r10, [rdi + 72]",
    "mov r11, [rdi + 80]",
    "mov r12, [rdi + 88]",
    "mov r13, [rdi + 96]",
    "mov r14, [rdi + 104]",
    "mov r15, [rdi + 112]",
    "mov rdi, [rdi + 48]",
    // Clears the arithmetic flags, so that a fall-through shows; then to the right entry.
    "test rsp, rsp",
    "ret",
    ".balign 8",
    "assay_vmx_entries:",
    ".quad 20f, 21f, 22f, 23f, 24f, 25f",
    "assay_vmx_ss:",
    ".quad {data}",
    "20: vmlaunch",
    "jmp 30f",
    "21: vmresume",
    "jmp 30f",
    "22: mov ss, word ptr [rip + assay_vmx_ss]",
    "vmlaunch",
    "jmp 30f",
    "23: mov ss, word ptr [rip + assay_vmx_ss]",
    "vmresume",
    "jmp 30f",
    "24: sti",
    "vmlaunch",
    "jmp 30f",
    "25: sti",
    "vmresume",
    "30:",
    "pushfq",
    "cli",
    "pop rax",
    "or eax, 0x80000000",
    "pop rdi",
    "jmp 40f",
    "assay_vmx_exit:",
    "push rdi",
    "mov rdi, [rsp + 8]",
    "pushfq",
    "pop qword ptr [rdi + 120]",
    "mov [rdi], rax",
    "mov [rdi + 8], rcx",
    "mov [rdi + 16], rdx",
    "mov [rdi + 24], rbx",
    "mov [rdi + 32], rbp",
    "mov [rdi + 40], rsi",
    "pop rax",
    "mov [rdi + 48], rax",
    "mov [rdi + 56], r8",
    "mov [rdi + 64], r9",
    "mov [rdi + 72], r10",
    "mov [rdi + 80], r11",
    "mov [rdi + 88], r12",
    "mov [rdi + 96], r13",
    "mov [rdi + 104], r14",
    "mov [rdi + 112], r15",
    "pop rdi",
    "xor eax, eax",
    "40:",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    // Where a closure starts in the guest: rdi is its address.
    "assay_vmx_guest:",
    "call {main}",
    "50: vmcall",
    "jmp 50b",
    host_rsp = const Field::HOST_RSP.0,
    data = const segments::KERNEL_DATA,
    main = sym guest_main,
);

#[expect(clippy::borrowed_box, reason = "a thin pointer, as the asm passes it")]
extern "C" fn guest_main(closure: &Box<dyn Fn() -> u64>) -> u64 {
    closure()
}

impl NestedVm {
    /// Writes a field. A failure shows in the next [`NestedVm::enter`].
    pub fn set(&mut self, field: Field, value: u64) {
        if let Err(fail) = vmwrite(field, value) {
            self.note(field, fail);
        }
    }

    /// Reads a field; all ones when it cannot be read, which also shows in the next entry.
    pub fn get(&self, field: Field) -> u64 {
        vmread(field).unwrap_or_else(|fail| {
            self.note(field, fail);
            u64::MAX
        })
    }

    fn note(&self, field: Field, fail: VmFail) {
        if self.trouble.get().is_none() {
            self.trouble.set(Some((field, fail)));
        }
    }

    /// Sets the bits of `mask` in a field.
    pub fn set_bits(&mut self, field: Field, mask: u64) {
        let value = self.get(field);
        self.set(field, value | mask);
    }

    /// Clears the bits of `mask` in a field.
    pub fn clear_bits(&mut self, field: Field, mask: u64) {
        let value = self.get(field);
        self.set(field, value & !mask);
    }

    /// Sets a control, and with a secondary one their activation. Skips where it is not offered.
    pub fn enable(&mut self, control: Control) -> Result<(), Stop> {
        if !control.is_offered() {
            return skip(control.need);
        }
        if control.field == Field::SECONDARY_CONTROLS {
            self.set_bits(Field::PRIMARY_CONTROLS, controls::SECONDARY.mask());
        }
        self.set_bits(control.field, control.mask());
        Ok(())
    }

    /// Sets several controls.
    pub fn enable_all(&mut self, controls: &[Control]) -> Result<(), Stop> {
        controls
            .iter()
            .try_for_each(|&control| self.enable(control))
    }

    /// Sets a control whether it is offered or not.
    pub fn force(&mut self, control: Control) {
        self.set_bits(control.field, control.mask());
    }

    /// Clears a control. Skips where it must be 1.
    pub fn disable(&mut self, control: Control) -> Result<(), Stop> {
        if !control.can_be_clear() {
            return skip("x86.vmx.true_controls");
        }
        self.clear_bits(control.field, control.mask());
        Ok(())
    }

    /// Puts the guest on extended page tables that map memory one to one.
    pub fn enable_ept(&mut self) -> Result<&mut Ept, Stop> {
        self.enable(controls::EPT)?;
        let ept = Ept::identity();
        self.set(Field::EPTP, ept.pointer());
        Ok(self.ept.insert(ept))
    }

    /// The extended page tables. Panics before [`NestedVm::enable_ept`].
    pub fn ept(&mut self) -> &mut Ept {
        self.ept.as_mut().expect("enable_ept comes first")
    }

    /// Forgets what the processor cached of the extended page tables.
    pub fn invalidate_ept(&self) -> Result<(), Stop> {
        let eptp = self.get(Field::EPTP);
        if let Some(ept) = &self.ept {
            ept.invalidate(eptp)?;
        }
        Ok(())
    }

    /// What the guest runs: `bytes`, then VMCALL. Also rewinds.
    pub fn code(&mut self, bytes: &[u8]) {
        let page = self.code.bytes_mut();
        page[..bytes.len()].copy_from_slice(bytes);
        // VMCALL; a JMP back to it.
        page[bytes.len()..bytes.len() + 5].copy_from_slice(&[0x0f, 0x01, 0xc1, 0xeb, 0xfb]);
        self.start = self.code.address();
        self.rewind();
    }

    /// What the guest runs: a closure, then VMCALL with its result in RAX. Also rewinds.
    ///
    /// It must not take locks that the host holds, nor leave allocations to a guest that is
    /// stopped half-way.
    pub fn closure(&mut self, f: impl Fn() -> u64 + 'static) {
        let boxed: Box<Box<dyn Fn() -> u64>> = Box::new(Box::new(f));
        self.registers.rdi = &raw const *boxed as u64;
        self.closure = Some(boxed);
        self.start = assay_vmx_guest as *const () as u64;
        self.rewind();
    }

    /// Where the guest's code starts.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The guest's RIP, counted from the start of its code.
    pub fn offset(&self) -> u64 {
        self.get(Field::GUEST_RIP).wrapping_sub(self.start)
    }

    /// The top of the guest's stack.
    pub fn stack_top(&self) -> u64 {
        self.stack.address() + self.stack.len() as u64
    }

    /// The guest's stack.
    pub fn stack(&self) -> &Frames {
        &self.stack
    }

    /// The address of the VMCS.
    pub fn vmcs(&self) -> u64 {
        self.vmcs.address()
    }

    /// Back to the first instruction: RIP, RSP, RFLAGS and the non-register state.
    pub fn rewind(&mut self) {
        let in_place = self.get(Field::guest_base(Segment::Cs));
        self.set(Field::GUEST_RIP, self.start.wrapping_sub(in_place));
        self.set(Field::GUEST_RSP, self.stack_top());
        self.set(Field::GUEST_RFLAGS, 2);
        self.set(Field::INTERRUPTIBILITY, 0);
        self.set(Field::ACTIVITY, 0);
        self.set(Field::PENDING_DEBUG, 0);
        if let Some(closure) = &self.closure {
            self.registers.rdi = &raw const **closure as u64;
        }
    }

    /// Moves RIP over the instruction that caused the exit.
    pub fn skip_instruction(&mut self) {
        let next = self.get(Field::GUEST_RIP) + self.get(Field::EXIT_INSTRUCTION_LENGTH);
        self.set(Field::GUEST_RIP, next);
    }

    /// One VM entry, from the guest's current state.
    pub fn enter(&mut self) -> Entry {
        self.enter_by(self.launched, Before::Nothing)
    }

    /// Rewinds, then one VM entry.
    pub fn run(&mut self) -> Entry {
        self.rewind();
        self.enter()
    }

    /// One VM entry by VMRESUME or VMLAUNCH, right after the instruction `before`.
    pub fn enter_by(&mut self, resume: bool, before: Before) -> Entry {
        if let Some((field, fail)) = self.trouble.take() {
            return Entry::Inaccessible(field, fail);
        }
        let registers = &raw mut self.registers;
        let how = u64::from(resume) | before as u64;
        // SAFETY: the exit comes back to the same stack; what the guest does is the case's
        // business, as the head of `vmx` says.
        let flags = match fault::catch(|| unsafe { assay_vmx_enter(registers, how) }) {
            Ok(flags) => flags,
            Err(fault) => return Entry::Refused(VmFail::Fault(fault)),
        };
        if flags & 1 != 0 {
            return Entry::Refused(VmFail::Invalid);
        }
        if flags & 0x40 != 0 {
            let number = self.get(Field::INSTRUCTION_ERROR);
            return Entry::Refused(VmFail::Valid(number as u32));
        }
        if flags != 0 {
            return Entry::FellThrough;
        }
        self.host_after_exit = Some(HostAfterExit {
            gdtr: segments::gdtr(),
            idtr: segments::idtr(),
            ldtr: segments::ldtr(),
            dr7: cpu::read_dr7(),
            debugctl: if self.has_debugctl {
                msr::read(msr::DEBUGCTL).unwrap_or(u64::MAX)
            } else {
                0
            },
            rflags: self.registers.host_flags,
        });
        segments::reload();
        let reason = self.get(Field::EXIT_REASON);
        let qualification = self.get(Field::EXIT_QUALIFICATION);
        let name = Reason(reason as u32 & 0x7fff_ffff);
        if reason & 1 << 31 != 0 {
            return Entry::failed(name, qualification);
        }
        self.launched = true;
        Entry::exited(name, qualification)
    }

    /// Whether the VMCS has been launched.
    pub fn is_launched(&self) -> bool {
        self.launched
    }

    /// VMCLEAR and VMPTRLD: the next entry is a VMLAUNCH again.
    pub fn relaunch(&mut self) -> Result<(), Stop> {
        vmclear(self.vmcs())?;
        super::instructions::vmptrld(self.vmcs())?;
        self.launched = false;
        Ok(())
    }

    /// A segment register of the guest, all four fields.
    pub fn set_segment(
        &mut self,
        segment: Segment,
        selector: u64,
        base: u64,
        limit: u64,
        rights: u64,
    ) {
        self.set(Field::guest_selector(segment), selector);
        self.set(Field::guest_base(segment), base);
        self.set(Field::guest_limit(segment), limit);
        self.set(Field::guest_rights(segment), rights);
    }

    /// Turns the guest into a 32-bit one without paging. Needs an unrestricted guest.
    pub fn unpaged_32(&mut self) -> Result<(), Stop> {
        self.enable_ept()?;
        self.enable(controls::UNRESTRICTED_GUEST)?;
        self.compatible_segments();
        self.clear_bits(Field::GUEST_CR0, 1 << 31);
        Ok(())
    }

    /// Turns the guest into one in real-address mode, with CS and SS based at its code and stack.
    pub fn real_mode(&mut self) -> Result<(), Stop> {
        self.unpaged_32()?;
        self.clear_bits(Field::GUEST_CR0, 1);
        for segment in Segment::USUAL {
            self.set_segment(segment, 0, 0, 0xffff, 0x93);
        }
        self.set_segment(Segment::Cs, 0, self.start, 0xffff, 0x9b);
        self.set_segment(Segment::Ss, 0, self.stack.address(), 0xffff, 0x93);
        self.rewind();
        self.set(Field::GUEST_RSP, 0x1000);
        Ok(())
    }

    /// Turns the guest into a 32-bit one with PAE paging through `pdpt`.
    pub fn pae_32(&mut self, pdpt: u64) {
        self.compatible_segments();
        self.set(Field::GUEST_CR3, pdpt);
    }

    /// 32-bit segments, no IA-32e mode.
    fn compatible_segments(&mut self) {
        self.clear_bits(Field::ENTRY_CONTROLS, controls::GUEST_64.mask());
        let code = u64::from(segments::KERNEL_CODE32);
        self.set_segment(Segment::Cs, code, 0, 0xffff_ffff, CODE32);
    }

    /// Writes every field that makes the guest valid and enterable.
    fn initialize(&mut self) {
        self.initialize_controls();
        self.initialize_host();
        self.initialize_guest();
    }

    fn initialize_controls(&mut self) {
        for field in [
            Field::PIN_CONTROLS,
            Field::PRIMARY_CONTROLS,
            Field::EXIT_CONTROLS,
            Field::ENTRY_CONTROLS,
        ] {
            self.set(field, controls::allowed(field).0);
        }
        if controls::SECONDARY.is_offered() {
            let required = controls::allowed(Field::SECONDARY_CONTROLS).0;
            self.set(Field::SECONDARY_CONTROLS, required);
        }
        self.set_bits(Field::EXIT_CONTROLS, controls::HOST_64.mask());
        self.set_bits(Field::ENTRY_CONTROLS, controls::GUEST_64.mask());
        for field in [
            Field::PAGE_FAULT_MASK,
            Field::PAGE_FAULT_MATCH,
            Field::CR3_TARGET_COUNT,
            Field::EXIT_MSR_STORE_COUNT,
            Field::EXIT_MSR_LOAD_COUNT,
            Field::ENTRY_MSR_LOAD_COUNT,
            Field::ENTRY_EVENT,
            Field::CR0_MASK,
            Field::CR4_MASK,
        ] {
            self.set(field, 0);
        }
        self.set(Field::EXCEPTION_BITMAP, 0xffff_ffff);
        self.set(Field::LINK_POINTER, u64::MAX);
    }

    fn initialize_host(&mut self) {
        for segment in Segment::USUAL {
            let data = u64::from(segments::KERNEL_DATA);
            self.set(Field::host_selector(segment), data);
        }
        for segment in [Segment::Fs, Segment::Gs] {
            self.set(Field::host_selector(segment), 0);
        }
        let task = segments::TSS_BASE + 16 * smp::this() as u16;
        let gdtr = segments::gdtr();
        let idtr = segments::idtr();
        for (field, value) in [
            (Field::HOST_CS_SELECTOR, u64::from(segments::KERNEL_CODE)),
            (Field::HOST_TR_SELECTOR, u64::from(task)),
            (Field::HOST_CR0, cpu::read_cr0()),
            (Field::HOST_CR3, cpu::read_cr3()),
            (Field::HOST_CR4, cpu::read_cr4()),
            (Field::HOST_FS_BASE, msr::read(msr::FS_BASE).unwrap_or(0)),
            (Field::HOST_GS_BASE, msr::read(msr::GS_BASE).unwrap_or(0)),
            (Field::HOST_TR_BASE, segments::tss_address()),
            (Field::HOST_GDTR_BASE, gdtr.base),
            (Field::HOST_IDTR_BASE, idtr.base),
            (Field::HOST_SYSENTER_CS, 0),
            (Field::HOST_SYSENTER_ESP, 0),
            (Field::HOST_SYSENTER_EIP, 0),
            (Field::HOST_RIP, assay_vmx_exit as *const () as u64),
        ] {
            self.set(field, value);
        }
        if controls::LOAD_HOST_EFER.is_offered() {
            self.set(Field::HOST_EFER, msr::read(msr::EFER).unwrap_or(0));
        }
        if controls::LOAD_HOST_PAT.is_offered() {
            self.set(Field::HOST_PAT, msr::read(msr::PAT).unwrap_or(0));
        }
    }

    fn initialize_guest(&mut self) {
        let gdtr = segments::gdtr();
        let idtr = segments::idtr();
        let task = u64::from(segments::TSS_BASE) + 16 * smp::this() as u64;
        let data = u64::from(segments::KERNEL_DATA);
        for segment in Segment::USUAL {
            self.set_segment(segment, data, 0, 0xffff_ffff, DATA);
        }
        let code = u64::from(segments::KERNEL_CODE);
        self.set_segment(Segment::Cs, code, 0, 0xffff_ffff, CODE64);
        self.set_segment(Segment::Ldtr, 0, 0, 0, UNUSABLE);
        self.set_segment(Segment::Tr, task, segments::tss_address(), 0x67, BUSY_TSS);
        for (field, value) in [
            (Field::GUEST_CR0, cpu::read_cr0()),
            (Field::GUEST_CR3, paging::kernel_root()),
            (Field::GUEST_CR4, cpu::read_cr4()),
            (Field::CR0_SHADOW, cpu::read_cr0()),
            (Field::CR4_SHADOW, cpu::read_cr4()),
            (Field::GUEST_DR7, 0x400),
            (Field::GUEST_DEBUGCTL, 0),
            (Field::GUEST_GDTR_BASE, gdtr.base),
            (Field::GUEST_GDTR_LIMIT, u64::from(gdtr.limit)),
            (Field::GUEST_IDTR_BASE, idtr.base),
            (Field::GUEST_IDTR_LIMIT, u64::from(idtr.limit)),
            (Field::GUEST_SYSENTER_CS, 0),
            (Field::GUEST_SYSENTER_ESP, 0),
            (Field::GUEST_SYSENTER_EIP, 0),
        ] {
            self.set(field, value);
        }
        if controls::LOAD_EFER.is_offered() {
            self.set(Field::GUEST_EFER, msr::read(msr::EFER).unwrap_or(0));
        }
        if controls::LOAD_PAT.is_offered() {
            self.set(Field::GUEST_PAT, msr::read(msr::PAT).unwrap_or(0));
        }
    }
}

impl fmt::Debug for NestedVm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "NestedVm at {:#x}", self.vmcs())
    }
}

impl Fixture for NestedVm {
    fn fresh() -> Result<Self, Stop> {
        let operation = VmxOperation::fresh()?;
        let vmcs = operation.current_vmcs()?;
        let mut vm = NestedVm {
            launched: false,
            has_debugctl: msr::read(msr::DEBUGCTL).is_ok(),
            trouble: Cell::new(None),
            start: 0,
            registers: Registers::default(),
            host_after_exit: None,
            ept: None,
            closure: None,
            code: Frames::new(CODE_SIZE / 4096),
            stack: Frames::new(4),
            vmcs,
            operation,
        };
        vm.initialize();
        vm.code(&[]);
        Ok(vm)
    }
}

impl Drop for NestedVm {
    fn drop(&mut self) {
        // A case may have left VMX operation itself; then there is nothing to clear.
        let _ = vmclear(self.vmcs());
        // Registers that a guest shares with its host.
        for write in [
            cpu::write_dr0,
            cpu::write_dr1,
            cpu::write_dr2,
            cpu::write_dr3,
        ] {
            let _ = write(0);
        }
        let _ = cpu::write_dr6(0xffff_0ff0);
        let _ = cpu::write_dr7(0x400);
        unblock_nmi();
    }
}

/// Ends blocking by NMI, which an exit due to an NMI leaves behind: an IRET to the next line.
pub fn unblock_nmi() {
    // SAFETY: a frame for IRETQ that leads to the next instruction with the same flags.
    unsafe {
        asm!(
            "mov {old}, rsp",
            "push {ss}",
            "push {old}",
            "pushfq",
            "push {cs}",
            "lea {old}, [rip + 2f]",
            "push {old}",
            "iretq",
            "2:",
            old = out(reg) _,
            ss = const segments::KERNEL_DATA,
            cs = const segments::KERNEL_CODE,
        );
    }
}

/// The fault in an exit's or IDT-vectoring event field: vector, and error code if it has one.
pub fn event_fault(information: u64, error: u64) -> Fault {
    let error = if information >> 11 & 1 != 0 { error } else { 0 };
    Fault::new(information as u8, error as u32)
}
