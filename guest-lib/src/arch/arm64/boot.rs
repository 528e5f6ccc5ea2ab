//! From the hypervisor's entry to [`crate::runner::main`].
//!
//! The arm64 Linux boot protocol promises little: MMU off, interrupts masked, x0 = device tree, EL1
//! or EL2, and a place that the loader chose. So the first instructions use no absolute address,
//! drop to EL1 (leaving a stub at EL2 that can take the processor back up), relocate the image,
//! and turn the MMU on with a rough map: the gigabytes of image and device tree as memory, all
//! else as device. Rust never runs with the MMU off, where atomics need not work.
//!
//! Then [`enter`] reads the device tree, builds the exact map, goes to EL2 if the command line
//! says `el=2`, and runs the cases. Secondary processors come the same way with the exact map.

use super::registers::{IdAa64mmfr1El1, field};
use super::{cpu, fault, paging, platform, smp, time};
use crate::{memory, runner};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

/// Where the linker script puts the image.
const LINK_BASE: u64 = 0x4020_0000;

/// SCTLR_EL1 with MMU and caches off: the RES1 bits.
const SCTLR_OFF: u64 = 1 << 29 | 1 << 28 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 11;
/// SCTLR_EL1 as the runtime wants it: MMU, caches, stack alignment checks; EL0 may use WFI, WFE,
/// DC ZVA, CTR_EL0 and cache maintenance.
pub(super) const SCTLR_ON: u64 = SCTLR_OFF
    | 1 << 26
    | 1 << 18
    | 1 << 16
    | 1 << 15
    | 1 << 14
    | 1 << 12
    | 1 << 5
    | 1 << 4
    | 1 << 3
    | 1 << 2
    | 1;
/// MAIR_EL1: write-back memory, Device-nGnRE, non-cacheable memory, Device-nGnRnE.
const MAIR: u64 = 0xff | 0x04 << 8 | 0x44 << 16;
/// TCR_EL1: 48-bit addresses, 4 KiB pages, cacheable and shareable walks, no TTBR1, without IPS.
const TCR: u64 = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 16 << 16 | 1 << 23 | 2 << 30;
const DEVICE_BLOCK: u64 = 1 | 1 << 2 | 1 << 10 | 3 << 53;
const NORMAL_BLOCK: u64 = 1 | 3 << 8 | 1 << 10;

/// Function number of the stub at EL2: run the caller at EL2 from now on.
const STUB_UP: u64 = 0x6173_0001;
/// Function number of the stub at EL2: disable HVC, as a hypervisor without services would.
const STUB_SEAL: u64 = 0x6173_0002;

#[repr(C, align(4096))]
pub(super) struct Table(pub [u64; 512]);

#[unsafe(no_mangle)]
static mut ARM64_BOOT_L0: Table = Table([0; 512]);
#[unsafe(no_mangle)]
static mut ARM64_BOOT_L1: Table = Table([0; 512]);

/// What secondary processors load before they turn the MMU on: TTBR0_EL1.
#[unsafe(no_mangle)]
static ARM64_TTBR: AtomicU64 = AtomicU64::new(0);

global_asm!(
    // The header of a Linux Image. Flags: little endian, 4 KiB pages, any 2 MiB-aligned place.
    ".pushsection .head, \"ax\"",
    ".global _start",
    "_start:",
    "b arm64_primary",
    ".long 0",
    ".quad 0",
    ".quad __image_end - . + 16",
    ".quad 0xa",
    ".quad 0, 0, 0",
    ".ascii \"ARM\\x64\"",
    ".long 0",
    "arm64_primary:",
    // What entry found, until there is memory for it: x22 to x26, and CurrentEL in x21.
    "mov x22, x0",
    "mrs x23, daif",
    "mrs x24, SPSel",
    "orr x26, x1, x2",
    "orr x26, x26, x3",
    "mrs x3, CurrentEL",
    "cmp x3, #8",
    "b.eq 1f",
    "mrs x25, sctlr_el1",
    "b 2f",
    "1: mrs x25, sctlr_el2",
    "2: msr daifset, #0xf",
    "mov x20, x0",
    // A loader of plain ELF files leaves x0 zero; QEMU's puts the tree at the start of memory.
    "cbnz x20, 1f",
    "adrp x20, __image_start",
    "sub x20, x20, #0x200000",
    "1: bl arm64_to_el1",
    // Relocate: every RELA entry is R_AARCH64_RELATIVE (1027).
    "adrp x0, __image_start",
    "ldr x1, ={link_base}",
    "subs x2, x0, x1",
    "b.eq 3f",
    "adrp x3, __rela_start",
    "add x3, x3, :lo12:__rela_start",
    "adrp x4, __rela_end",
    "add x4, x4, :lo12:__rela_end",
    "2:",
    "cmp x3, x4",
    "b.hs 3f",
    "ldp x5, x6, [x3], #16",
    "ldr x7, [x3], #8",
    "cmp x6, #1027",
    "b.ne arm64_stuck",
    "add x7, x7, x2",
    "str x7, [x5, x2]",
    "b 2b",
    "3:",
    // Zero .bss.
    "adrp x3, __bss_start",
    "adrp x4, __bss_end",
    "4:",
    "cmp x3, x4",
    "b.hs 5f",
    "stp xzr, xzr, [x3], #16",
    "b 4b",
    "5:",
    // The rough map.
    "adrp x5, ARM64_BOOT_L1",
    "add x5, x5, :lo12:ARM64_BOOT_L1",
    "ldr x6, ={device_block}",
    "mov x7, #0",
    "6:",
    "add x8, x6, x7, lsl #30",
    "str x8, [x5, x7, lsl #3]",
    "add x7, x7, #1",
    "cmp x7, #512",
    "b.ne 6b",
    "ldr x6, ={normal_block}",
    "adrp x0, __image_start",
    "bl arm64_map_normal",
    "adrp x0, __image_end",
    "bl arm64_map_normal",
    "mov x0, x20",
    "bl arm64_map_normal",
    "add x0, x20, #0x200000",
    "bl arm64_map_normal",
    "adrp x0, ARM64_BOOT_L0",
    "add x0, x0, :lo12:ARM64_BOOT_L0",
    "orr x5, x5, #3",
    "str x5, [x0]",
    "mov x19, x0",
    "adrp x0, {boot_cpu}",
    "add x0, x0, :lo12:{boot_cpu}",
    "lsl x1, x21, #2",
    "str x22, [x0, #{entry_x0}]",
    "str x1, [x0, #{entry_el}]",
    "str x23, [x0, #{entry_daif}]",
    "str x24, [x0, #{entry_spsel}]",
    "str x25, [x0, #{entry_sctlr}]",
    "str x26, [x0, #{entry_rest}]",
    // What was written with the MMU off must not be shadowed by older cache lines.
    "adrp x3, __image_start",
    "adrp x4, __image_end",
    "dsb sy",
    "7:",
    "dc ivac, x3",
    "add x3, x3, #64",
    "cmp x3, x4",
    "b.lo 7b",
    "dsb sy",
    "adrp x0, {boot_cpu}",
    "add x0, x0, :lo12:{boot_cpu}",
    "adrp x1, {boot_stack}",
    "add x1, x1, :lo12:{boot_stack}",
    "add x1, x1, #{boot_stack_size}",
    "bl arm64_mmu_on",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, x20",
    "mov x1, x21",
    "bl {enter}",
    "arm64_stuck: wfe",
    "b arm64_stuck",

    // A secondary processor: x0 = its PerCpu record. The first things it does are to keep what it
    // was entered with, for the cases that check it.
    ".global arm64_secondary",
    "arm64_secondary:",
    "mrs x1, CurrentEL",
    "mrs x2, daif",
    "mrs x3, SPSel",
    "str x0, [x0, #{entry_x0}]",
    "str x1, [x0, #{entry_el}]",
    "str x2, [x0, #{entry_daif}]",
    "str x3, [x0, #{entry_spsel}]",
    "cmp x1, #8",
    "b.eq 1f",
    "mrs x4, sctlr_el1",
    "b 2f",
    "1: mrs x4, sctlr_el2",
    "2: str x4, [x0, #{entry_sctlr}]",
    "msr daifset, #0xf",
    "mov x20, x0",
    "bl arm64_to_el1",
    "adrp x1, ARM64_TTBR",
    "ldr x19, [x1, :lo12:ARM64_TTBR]",
    "mov x0, x20",
    "ldr x1, [x0, #{stack_top}]",
    "bl arm64_mmu_on",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, x20",
    "bl {enter_secondary}",
    "b arm64_stuck",

    // Marks the gigabyte of x0 as memory in the L1 table at x5.
    "arm64_map_normal:",
    "lsr x0, x0, #30",
    "cmp x0, #512",
    "b.hs 1f",
    "add x8, x6, x0, lsl #30",
    "str x8, [x5, x0, lsl #3]",
    "1: ret",

    // x0 = PerCpu, x1 = stack, x19 = translation table. Sets up EL1 and turns the MMU on.
    "arm64_mmu_on:",
    "mov sp, x1",
    "msr tpidr_el1, x0",
    "ldr x2, [x0, #{index}]",
    "msr tpidrro_el0, x2",
    "adrp x2, arm64_vectors",
    "add x2, x2, :lo12:arm64_vectors",
    "msr vbar_el1, x2",
    "mov x2, #(3 << 20)",
    "msr cpacr_el1, x2",
    // The physical address size, at most 48 bits; 16-bit ASIDs where there are any.
    "mrs x3, id_aa64mmfr0_el1",
    "and x4, x3, #0xf",
    "mov x2, #5",
    "cmp x4, x2",
    "csel x4, x4, x2, lo",
    "ldr x2, ={tcr}",
    "orr x2, x2, x4, lsl #32",
    "ubfx x4, x3, #5, #1",
    "orr x2, x2, x4, lsl #36",
    "msr tcr_el1, x2",
    "ldr x2, ={mair}",
    "msr mair_el1, x2",
    "msr ttbr0_el1, x19",
    "isb",
    "tlbi vmalle1",
    "ic iallu",
    "dsb sy",
    "isb",
    // FEAT_PAN: memory of EL0 stays open to the runtime.
    "mrs x3, id_aa64mmfr1_el1",
    "ubfx x3, x3, #20, #4",
    "cbz x3, 1f",
    ".inst 0xd500409f",
    "1: ldr x2, ={sctlr_on}",
    "msr sctlr_el1, x2",
    "isb",
    "ret",

    // Leaves x21 = the exception level of entry, and returns at EL1 with the MMU off.
    "arm64_to_el1:",
    "ldr x2, ={sctlr_off}",
    "mrs x21, CurrentEL",
    "lsr x21, x21, #2",
    "cmp x21, #2",
    "b.eq 1f",
    "b.hi arm64_stuck",
    "msr sctlr_el1, x2",
    "isb",
    "ret",
    "1:",
    // RW, and API and APK so that pointer authentication is not trapped.
    "mov x3, #(1 << 31)",
    "orr x3, x3, #(3 << 40)",
    "msr hcr_el2, x3",
    "isb",
    "msr sctlr_el1, x2",
    "msr sctlr_el2, x2",
    "mov x2, #3",
    "msr cnthctl_el2, x2",
    "msr cntvoff_el2, xzr",
    "mov x2, #0x32ff",
    "msr cptr_el2, x2",
    "msr hstr_el2, xzr",
    "msr vttbr_el2, xzr",
    "mrs x2, midr_el1",
    "msr vpidr_el2, x2",
    "mrs x2, mpidr_el1",
    "msr vmpidr_el2, x2",
    // All event counters belong to EL1.
    "mrs x3, id_aa64dfr0_el1",
    "ubfx x3, x3, #8, #4",
    "mov x2, #0",
    "cbz x3, 2f",
    "cmp x3, #15",
    "b.eq 2f",
    "mrs x2, pmcr_el0",
    "ubfx x2, x2, #11, #5",
    "2: msr mdcr_el2, x2",
    // GICv3: system registers for both levels (ICC_SRE_EL2, ICH_HCR_EL2).
    "mrs x3, id_aa64pfr0_el1",
    "ubfx x3, x3, #24, #4",
    "cbz x3, 3f",
    "mrs x2, S3_4_C12_C9_5",
    "orr x2, x2, #0xf",
    "msr S3_4_C12_C9_5, x2",
    "isb",
    "mrs x2, S3_4_C12_C9_5",
    "tbz x2, #0, 3f",
    "msr S3_4_C12_C11_0, xzr",
    // FEAT_FGT: no fine-grained traps. FEAT_HCX: no extended ones.
    "3: mrs x3, id_aa64mmfr0_el1",
    "ubfx x3, x3, #56, #4",
    "cbz x3, 4f",
    "msr S3_4_C1_C1_4, xzr",
    "msr S3_4_C1_C1_5, xzr",
    "msr S3_4_C1_C1_6, xzr",
    "msr S3_4_C3_C1_4, xzr",
    "msr S3_4_C3_C1_5, xzr",
    "4: mrs x3, id_aa64mmfr1_el1",
    "ubfx x3, x3, #40, #4",
    "cbz x3, 5f",
    "msr S3_4_C1_C2_2, xzr",
    "5: adrp x2, arm64_stub",
    "add x2, x2, :lo12:arm64_stub",
    "msr vbar_el2, x2",
    "mov x2, #0x3c5",
    "msr spsr_el2, x2",
    "msr elr_el2, x30",
    "isb",
    "eret",

    // What stays at EL2: one service for this runtime, on HVC from EL1.
    ".balign 2048",
    "arm64_stub:",
    ".rept 8",
    "b arm64_stuck",
    ".balign 128",
    ".endr",
    "ldr x1, ={stub_seal}",
    "cmp x0, x1",
    "b.eq 2f",
    "ldr x1, ={stub_up}",
    "cmp x0, x1",
    "b.ne arm64_stuck",
    "b 1f",
    ".balign 128",
    ".rept 7",
    "b arm64_stuck",
    ".balign 128",
    ".endr",
    // Up: E2H and TGE, then EL1's state (by its _EL12 names) becomes that of EL2.
    "1: mrs x1, hcr_el2",
    "mov x2, #(1 << 34)",
    "orr x2, x2, #(1 << 27)",
    "orr x1, x1, x2",
    "msr hcr_el2, x1",
    "isb",
    "mrs x1, S3_5_C2_C0_0",
    "msr ttbr0_el1, x1",
    "mrs x1, S3_5_C2_C0_2",
    "msr tcr_el1, x1",
    "mrs x1, S3_5_C10_C2_0",
    "msr mair_el1, x1",
    "mrs x1, S3_5_C12_C0_0",
    "msr vbar_el1, x1",
    "mrs x1, S3_5_C1_C0_2",
    "msr cpacr_el1, x1",
    "mrs x1, S3_5_C14_C1_0",
    "msr cntkctl_el1, x1",
    "mrs x1, sp_el1",
    "mov sp, x1",
    "mov x1, #0x3c9",
    "msr spsr_el2, x1",
    "isb",
    "tlbi vmalle1",
    "ic iallu",
    "dsb sy",
    "isb",
    "mrs x1, S3_5_C1_C0_0",
    "msr sctlr_el1, x1",
    "isb",
    "eret",
    // Seal: HCD.
    "2: mrs x1, hcr_el2",
    "orr x1, x1, #(1 << 29)",
    "msr hcr_el2, x1",
    "isb",
    "eret",
    ".ltorg",
    ".popsection",
    link_base = const LINK_BASE,
    device_block = const DEVICE_BLOCK,
    normal_block = const NORMAL_BLOCK,
    sctlr_off = const SCTLR_OFF,
    sctlr_on = const SCTLR_ON,
    tcr = const TCR,
    mair = const MAIR,
    stub_up = const STUB_UP,
    stub_seal = const STUB_SEAL,
    boot_cpu = sym smp::BOOT_CPU,
    boot_stack = sym smp::BOOT_STACK,
    boot_stack_size = const smp::BOOT_STACK_SIZE,
    index = const core::mem::offset_of!(smp::PerCpu, index),
    stack_top = const core::mem::offset_of!(smp::PerCpu, stack_top),
    entry_x0 = const core::mem::offset_of!(smp::PerCpu, entry.x0),
    entry_el = const core::mem::offset_of!(smp::PerCpu, entry.current_el),
    entry_daif = const core::mem::offset_of!(smp::PerCpu, entry.daif),
    entry_spsel = const core::mem::offset_of!(smp::PerCpu, entry.spsel),
    entry_sctlr = const core::mem::offset_of!(smp::PerCpu, entry.sctlr),
    entry_rest = const core::mem::offset_of!(smp::PerCpu, entry.rest),
    enter = sym enter,
    enter_secondary = sym enter_secondary,
);

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
    static __text_end: u8;
    fn arm64_secondary();
}

/// First and last address of the image, and the end of its code.
pub(super) fn image() -> (usize, usize, usize) {
    (
        &raw const __image_start as usize,
        &raw const __image_end as usize,
        &raw const __text_end as usize,
    )
}

/// Where CPU_ON sends a processor of the runtime.
pub(super) fn secondary_entry() -> u64 {
    arm64_secondary as *const () as u64
}

/// An address in the image, as the linker saw it.
pub(super) fn link_address(address: usize) -> usize {
    let (start, end, _) = image();
    match (start..end).contains(&address) {
        true => address - start + LINK_BASE as usize,
        false => address,
    }
}

/// Whether the runtime stays at EL2, decided once by the boot processor.
static AT_EL2: AtomicU64 = AtomicU64::new(0);
/// The exception level of entry.
static ENTRY_EL: AtomicU64 = AtomicU64::new(0);

/// The exception level at which the hypervisor entered the payload.
pub(super) fn entry_el() -> u64 {
    ENTRY_EL.load(Ordering::Relaxed)
}

/// The rest of the boot processor's way.
extern "C" fn enter(tree: usize, entry_el: u64) -> ! {
    fault::init_boot_cpu();
    platform::init(tree);
    paging::init();
    let root = paging::kernel_root();
    ARM64_TTBR.store(root, Ordering::Release);
    cpu::clean_to_memory(&raw const ARM64_TTBR as usize, 8);
    ENTRY_EL.store(entry_el, Ordering::Relaxed);
    let wants_el2 = crate::cmdline::value("el") == Some("2");
    AT_EL2.store(
        u64::from(entry_el == 2 && wants_el2 && vhe()),
        Ordering::Relaxed,
    );
    settle_level(entry_el);
    let (start, end) = platform::free_memory();
    memory::init(start, end);
    time::init();
    runner::main()
}

fn vhe() -> bool {
    field(IdAa64mmfr1El1::read(), 8) != 0
}

/// The rest of a secondary processor's way.
extern "C" fn enter_secondary(this: &'static smp::PerCpu) -> ! {
    settle_level(this.entry.current_el >> 2);
    crate::cpus::secondary_main(this.index as usize)
}

/// Goes to EL2 when the payload runs there; otherwise shuts the way up.
fn settle_level(entered_at: u64) {
    if entered_at != 2 {
        return;
    }
    let function = if AT_EL2.load(Ordering::Relaxed) != 0 {
        STUB_UP
    } else {
        STUB_SEAL
    };
    // SAFETY: S4; the stub of this file keeps every register but x0 to x2 and returns at EL2 or EL1
    // with the same map and stack.
    unsafe { asm!("hvc #0", inout("x0") function => _, out("x1") _, out("x2") _) };
}
