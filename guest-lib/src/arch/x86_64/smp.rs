//! Other processors: INIT-SIPI-SIPI. Spec: SDM 3A 9.4.4.

use super::boot::{BOOT_CR0, BOOT_CR4};
use super::{acpi, apic, cpuid, paging, registers, segments};
use crate::cpus::{self, MAX};
use crate::memory::Frames;
use crate::sync::SpinLock;
use crate::time;
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

const STACK_SIZE: usize = 64 * 1024;
/// Page below 1 MiB where other processors wake up.
const TRAMPOLINE: u64 = 0x8000;

static COUNT: AtomicUsize = AtomicUsize::new(0);

struct ApicIds(UnsafeCell<[u32; MAX]>);
// SAFETY: filled once by the boot processor before it starts another one.
unsafe impl Sync for ApicIds {}
static APIC_IDS: ApicIds = ApicIds(UnsafeCell::new([0; MAX]));

/// How many processors the MADT lists; 1 without a MADT.
pub fn count() -> usize {
    let known = COUNT.load(Ordering::Acquire);
    if known != 0 {
        return known;
    }
    let own = apic::initial_id();
    // SAFETY: only the boot processor runs until COUNT is set.
    let ids = unsafe { &mut *APIC_IDS.0.get() };
    ids[0] = own;
    let mut found = 1;
    acpi::for_each_apic_id(|id| {
        if id != own && found < MAX {
            ids[found] = id;
            found += 1;
        }
    });
    COUNT.store(found, Ordering::Release);
    found
}

/// The processor this code runs on.
pub fn this() -> usize {
    segments::this_cpu()
}

/// The local APIC id of processor `index`.
pub fn apic_id(index: usize) -> u32 {
    count();
    // SAFETY: filled by `count`, constant afterwards.
    unsafe { (*APIC_IDS.0.get())[index] }
}

/// What the trampoline needs; one processor starts at a time.
struct Starting {
    stacks: [Option<Frames>; MAX],
}

static STARTING: SpinLock<Starting> = SpinLock::new(Starting {
    stacks: [const { None }; MAX],
});
static STACK_TOP: AtomicU64 = AtomicU64::new(0);
static INDEX: AtomicUsize = AtomicUsize::new(0);
/// Set by the processor that starts, once it has read the two above.
static ARRIVED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static assay_ap_start: u8;
    static assay_ap_end: u8;
}

global_asm!(
    ".pushsection .text.boot, \"ax\", @progbits",
    ".global assay_ap_start, assay_ap_end",
    // Copied to TRAMPOLINE; real mode, CS = TRAMPOLINE >> 4.
    ".code16",
    "assay_ap_start:",
    // A local twin: differences of global symbols become relocations.
    "assay_ap_base:",
    "cli",
    "cld",
    "xor ax, ax",
    "mov ds, ax",
    // LGDT with a 32-bit operand, assembled by hand: its address is a difference of labels.
    ".byte 0x66, 0x0f, 0x01, 0x16",
    ".short {base} + (assay_ap_gdtr - assay_ap_base)",
    "mov eax, cr0",
    "or al, 1",
    "mov cr0, eax",
    // Far jump to 32-bit code, assembled by hand: the assembler has no symbolic form for it.
    ".byte 0x66, 0xea",
    ".long {base} + (assay_ap32 - assay_ap_base)",
    ".short 8",
    ".code32",
    "assay_ap32:",
    "mov ax, 16",
    "mov ds, ax",
    "mov es, ax",
    "mov ss, ax",
    "mov eax, {cr4}",
    "mov cr4, eax",
    "mov eax, offset {pml4}",
    "mov cr3, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x100",
    "wrmsr",
    "mov eax, {cr0}",
    "mov cr0, eax",
    ".byte 0xea",
    ".long assay_ap64",
    ".short 24",
    ".balign 8",
    "assay_ap_gdt:",
    ".quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff",
    "assay_ap_gdtr:",
    ".short 31",
    ".long {base} + (assay_ap_gdt - assay_ap_base)",
    "assay_ap_end:",
    // Not copied: long mode runs in the image.
    ".code64",
    "assay_ap64:",
    "mov rsp, [{stack_top}]",
    "xor ebp, ebp",
    "xor eax, eax",
    "mov fs, eax",
    "mov gs, eax",
    "call {rust}",
    "ud2",
    ".popsection",
    base = const TRAMPOLINE,
    cr4 = const BOOT_CR4,
    cr0 = const BOOT_CR0,
    pml4 = sym paging::BOOT_PML4,
    stack_top = sym STACK_TOP,
    rust = sym secondary,
);

extern "C" fn secondary() -> ! {
    let index = INDEX.load(Ordering::Acquire);
    segments::init_cpu(index);
    registers::init_efer();
    ARRIVED.store(1, Ordering::Release);
    cpus::secondary_main(index)
}

/// Starts processor `index`.
pub fn start(index: usize) -> Result<(), &'static str> {
    let destination = apic_id(index);
    let mut starting = STARTING.lock();
    let stack = starting.stacks[index].get_or_insert_with(|| Frames::new(STACK_SIZE / 4096));
    STACK_TOP.store(stack.address() + STACK_SIZE as u64, Ordering::Release);
    INDEX.store(index, Ordering::Release);
    ARRIVED.store(0, Ordering::Release);
    let code = &raw const assay_ap_start;
    let length = (&raw const assay_ap_end) as usize - code as usize;
    // SAFETY: S2; the page below 1 MiB is RAM that the allocator does not manage, and STARTING is held.
    unsafe { core::ptr::copy_nonoverlapping(code, TRAMPOLINE as *mut u8, length) };

    apic::enable(0xff);
    apic::send_ipi(destination, apic::ICR_INIT);
    // The manual asks for 10 ms after INIT. Virtual processors need none, and a payload
    // that says it runs on a hypervisor starts hundreds of times in a run.
    let is_virtual = cpuid::query(1, 0).ecx >> 31 != 0;
    time::spin(time::us(if is_virtual { 10 } else { 10_000 }));
    let arrived = || ARRIVED.load(Ordering::Acquire) != 0;
    for patience in [time::ms(200), time::PATIENCE] {
        apic::send_ipi(destination, apic::ICR_STARTUP | (TRAMPOLINE >> 12) as u32);
        if time::wait_until(patience, arrived) {
            return Ok(());
        }
    }
    Err("no answer to INIT-SIPI-SIPI")
}

/// Says "off" and waits, halted, for the next INIT.
pub fn park(state: &AtomicU32, off: u32) -> ! {
    super::cpu::disable_interrupts();
    state.store(off, Ordering::Release);
    super::cpu::halt()
}

/// Whether processor `index` can be started again; INIT does that in any state.
pub fn wait_parked(_index: usize) -> bool {
    true
}
