//! GDT, TSS and IDT. The task register tells which processor runs: it survives what cases do to
//! GS and to the local APIC.

use super::fault::{self, Recovery};
use crate::cpus::MAX;
use core::arch::asm;
use core::cell::UnsafeCell;

/// Selector of 64-bit kernel code.
pub const KERNEL_CODE: u16 = 0x08;
/// Selector of kernel data.
pub const KERNEL_DATA: u16 = 0x10;
/// Selector of user data, RPL 3.
pub const USER_DATA: u16 = 0x1b;
/// Selector of 64-bit user code, RPL 3.
pub const USER_CODE: u16 = 0x23;
/// Selector of 32-bit (compatibility mode) kernel code.
pub const KERNEL_CODE32: u16 = 0x28;
/// Selector of 32-bit user code, RPL 3.
pub const USER_CODE32: u16 = 0x33;
/// First selector that a case may fill with a descriptor of its own (two slots of 8 bytes).
pub const FREE: u16 = 0x38;
/// Selector of the first processor's TSS; the others follow, 16 bytes each.
pub const TSS_BASE: u16 = 0x48;

const GDT_ENTRIES: usize = (TSS_BASE as usize + 16 * MAX) / 8;

/// A 64-bit task-state segment. Spec: SDM 3A 8.7.
#[repr(C, packed(4))]
pub struct Tss {
    reserved0: u32,
    /// Stack pointers for privilege levels 0 to 2.
    pub rsp: [u64; 3],
    reserved1: u64,
    /// Interrupt stack table, IST1 to IST7.
    pub ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    /// Offset of the I/O permission bitmap.
    pub io_map_base: u16,
}

const IST_STACK: usize = 8192;

/// What belongs to one processor.
pub(super) struct PerCpu {
    pub(super) tss: UnsafeCell<Tss>,
    pub(super) recovery: UnsafeCell<Recovery>,
    pub(super) details: UnsafeCell<fault::Details>,
}

// SAFETY: each element is used by its own processor only.
unsafe impl Sync for PerCpu {}

pub(super) static PER_CPU: [PerCpu; MAX] = [const {
    PerCpu {
        tss: UnsafeCell::new(Tss {
            reserved0: 0,
            rsp: [0; 3],
            reserved1: 0,
            ist: [0; 7],
            reserved2: 0,
            reserved3: 0,
            io_map_base: size_of::<Tss>() as u16,
        }),
        recovery: UnsafeCell::new(Recovery::NONE),
        details: UnsafeCell::new(fault::Details::NONE),
    }
}; MAX];

#[repr(C, align(16))]
struct Gdt(UnsafeCell<[u64; GDT_ENTRIES]>);
// SAFETY: a processor writes its own TSS descriptor; `FREE` belongs to the running case.
unsafe impl Sync for Gdt {}

static GDT: Gdt = Gdt(UnsafeCell::new({
    let mut gdt = [0; GDT_ENTRIES];
    gdt[1] = 0x00af_9b00_0000_ffff;
    gdt[2] = 0x00cf_9300_0000_ffff;
    gdt[3] = 0x00cf_f300_0000_ffff;
    gdt[4] = 0x00af_fb00_0000_ffff;
    gdt[5] = 0x00cf_9b00_0000_ffff;
    gdt[6] = 0x00cf_fb00_0000_ffff;
    gdt
}));

/// A gate of the IDT. Spec: SDM 3A 6.14.1.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Gate([u64; 2]);

#[repr(C, align(4096))]
struct Idt(UnsafeCell<[Gate; 256]>);
// SAFETY: written at boot by one processor (S4), and by `set_ist` for a case.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new([Gate([0; 2]); 256]));

#[repr(C, align(16))]
struct IstStack(UnsafeCell<[u8; IST_STACK]>);
// SAFETY: used as the double-fault stack of the boot processor only.
unsafe impl Sync for IstStack {}
static DOUBLE_FAULT_STACK: IstStack = IstStack(UnsafeCell::new([0; IST_STACK]));

/// A pseudo-descriptor, as LGDT, LIDT, SGDT and SIDT use it.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRegister {
    /// Size of the table in bytes, less one.
    pub limit: u16,
    /// Linear address of the table.
    pub base: u64,
}

impl TableRegister {
    /// A table without entries: with it as IDT, no exception can be delivered.
    pub const EMPTY: TableRegister = TableRegister { limit: 0, base: 0 };
}

/// Loads descriptor tables and the task register of processor `index`.
pub(super) fn init_cpu(index: usize) {
    let tss = PER_CPU[index].tss.get();
    let selector = TSS_BASE + 16 * index as u16;
    // SAFETY: S4: only processor `index` runs this, and it owns its TSS and its GDT slot.
    unsafe {
        // An INIT may have ended a closure under `catch`.
        *PER_CPU[index].recovery.get() = Recovery::NONE;
        if index == 0 {
            (*tss).ist[0] = DOUBLE_FAULT_STACK.0.get() as u64 + IST_STACK as u64;
            fill_idt();
        }
        let (base, limit) = (tss as u64, size_of::<Tss>() as u64 - 1);
        let low = limit & 0xffff
            | (base & 0xff_ffff) << 16
            | 0x89 << 40
            | (limit >> 16 & 0xf) << 48
            | (base >> 24 & 0xff) << 56;
        let gdt = GDT.0.get().cast::<u64>();
        gdt.add(usize::from(selector) / 8).write(low);
        gdt.add(usize::from(selector) / 8 + 1).write(base >> 32);
        reload();
        asm!("ltr {0:x}", in(reg) selector, options(nostack, preserves_flags));
    }
}

/// Loads the runtime's GDT, IDT and segment registers: what a case that replaced them does last.
pub(super) fn reload() {
    let gdtr = TableRegister {
        limit: (GDT_ENTRIES * 8 - 1) as u16,
        base: GDT.0.get() as u64,
    };
    let idtr = TableRegister {
        limit: 256 * 16 - 1,
        base: IDT.0.get() as u64,
    };
    // SAFETY: S1; the tables are static and valid.
    unsafe {
        asm!(
            "lgdt [{gdtr}]",
            "lidt [{idtr}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov ss, {data:e}",
            // After reset the LDT covers the first 64 KiB of memory; the runtime has none.
            "xor {scratch:e}, {scratch:e}",
            "lldt {scratch:x}",
            gdtr = in(reg) &gdtr,
            idtr = in(reg) &idtr,
            code = const KERNEL_CODE,
            data = in(reg) u32::from(KERNEL_DATA),
            scratch = out(reg) _,
        );
    }
}

/// # Safety
///
/// S4: one processor, before interrupts.
unsafe fn fill_idt() {
    let Gate([mut low, high]) = gate(0, 0, 0);
    // SAFETY: the caller's.
    let idt = unsafe { &mut *IDT.0.get() };
    for gate in idt {
        *gate = Gate([low, high]);
        // The stubs lie in one page, so only the offset's low bits differ. Every boot does this.
        low = low.wrapping_add(fault::STUB_SIZE as u64);
    }
    // SAFETY: the caller's.
    unsafe {
        write_gate(3, 3, 0);
        write_gate(4, 3, 0);
        write_gate(fault::USER_END, 3, 0);
        write_gate(8, 0, 1);
    }
}

/// # Safety
///
/// The caller owns the IDT.
unsafe fn write_gate(vector: usize, dpl: u64, ist: u64) {
    // SAFETY: `vector` is below 256; the caller owns the table.
    unsafe { (*IDT.0.get())[vector] = gate(vector, dpl, ist) };
}

fn gate(vector: usize, dpl: u64, ist: u64) -> Gate {
    let stub = fault::stub_address(vector);
    let low = stub & 0xffff
        | u64::from(KERNEL_CODE) << 16
        | ist << 32
        | 0x8e << 40
        | dpl << 45
        | (stub >> 16 & 0xffff) << 48;
    Gate([low, stub >> 32])
}

/// The processor this code runs on, from the task register.
pub(super) fn this_cpu() -> usize {
    let selector: u16;
    // SAFETY: STR only reads.
    unsafe { asm!("str {0:x}", out(reg) selector, options(nomem, nostack, preserves_flags)) };
    usize::from(selector.saturating_sub(TSS_BASE)) / 16
}

/// Runs `f` with the gate of `vector` on stack `ist` (0: none) at privilege level `dpl`.
pub fn with_gate<T>(vector: u8, dpl: u8, ist: u8, f: impl FnOnce() -> T) -> T {
    let vector = usize::from(vector);
    // SAFETY: the running case owns the IDT; the old gate returns afterwards.
    unsafe {
        let old = (*IDT.0.get())[vector];
        write_gate(vector, u64::from(dpl & 3), u64::from(ist & 7));
        let result = f();
        (*IDT.0.get())[vector] = old;
        result
    }
}

/// Writes a raw descriptor to slot [`FREE`] + 8 * `slot` (slot 0 or 1).
pub fn set_free_descriptor(slot: usize, descriptor: u64) {
    assert!(slot < 2);
    // SAFETY: the slots belong to the running case.
    unsafe {
        GDT.0
            .get()
            .cast::<u64>()
            .add(usize::from(FREE) / 8 + slot)
            .write_volatile(descriptor)
    };
}

/// Address of this processor's TSS.
pub fn tss_address() -> u64 {
    PER_CPU[this_cpu()].tss.get() as u64
}

/// Sets an interrupt stack (1 to 7) of this processor's TSS.
pub fn set_ist(ist: usize, stack_top: u64) {
    // SAFETY: a processor's TSS is its own.
    unsafe { (*PER_CPU[this_cpu()].tss.get()).ist[ist - 1] = stack_top };
}

/// SGDT.
pub fn gdtr() -> TableRegister {
    let mut value = TableRegister::EMPTY;
    // SAFETY: writes 10 bytes to `value`.
    unsafe { asm!("sgdt [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
    value
}

/// SIDT.
pub fn idtr() -> TableRegister {
    let mut value = TableRegister::EMPTY;
    // SAFETY: writes 10 bytes to `value`.
    unsafe { asm!("sidt [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
    value
}

/// SLDT.
pub fn ldtr() -> u16 {
    let selector: u16;
    // SAFETY: SLDT only reads.
    unsafe { asm!("sldt {0:x}", out(reg) selector, options(nomem, nostack, preserves_flags)) };
    selector
}
