//! From the hypervisor's entry to Rust: 32-bit protected mode in, long mode out.
//!
//! PVH and multiboot2 both enter in 32-bit protected mode with flat segments and paging off, and
//! both pass a physical address in EBX. Which of the two it is shows in what EBX points at.
//! No 1 GiB pages are needed: four page directories of 2 MiB pages map the first 4 GiB.
//!
//! A third way in is for hosts that run this code slowly, because their KVM emulates it: Assay's own
//! VMM fills the page tables itself and enters in long mode on them, with what PVH passes in EBX in
//! RBX. An ELF note (owner "Assay", type 1) says where the entry and the tables are. A second one
//! (type 2) says where the case table is and the word to set when the loader has sorted it.

use super::paging::{BOOT_PD, BOOT_PDPT, BOOT_PML4, USER_PDPT, USER_PML4};
use super::{apic, platform, registers, segments};
use core::arch::global_asm;

/// CR0 after boot: protection, paging, write protection, native x87 errors.
pub const BOOT_CR0: u64 = 0x8001_0033;
/// CR4 after boot: PAE, and SSE usable (the payload itself uses no SSE).
pub const BOOT_CR4: u64 = 0x620;

const STACK_SIZE: usize = 64 * 1024;

#[repr(C, align(4096))]
struct Stack(core::cell::UnsafeCell<[u8; STACK_SIZE]>);
// SAFETY: used as a stack only, by one processor.
unsafe impl Sync for Stack {}

static BOOT_STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK_SIZE]));

global_asm!(
    // Multiboot2 header: magic, architecture i386, length, checksum, end tag.
    ".pushsection .multiboot2, \"a\", @progbits",
    ".balign 8",
    "assay_mb2:",
    ".long 0xe85250d6, 0, 24, 0x100000000 - (0xe85250d6 + 24)",
    ".short 0, 0",
    ".long 8",
    ".popsection",
    // PVH note: XEN_ELFNOTE_PHYS32_ENTRY (18).
    ".pushsection .note.Xen, \"a\", @note",
    ".balign 4",
    ".long 4, 8, 18",
    ".asciz \"Xen\"",
    ".quad start32",
    // Our own note: the 64-bit entry, then the tables in the order of the harness' vmm::boot.
    ".long 6, 48, 1",
    ".asciz \"Assay\"",
    ".balign 4",
    ".quad start64, {pml4}, {pdpt}, {pd}, {user_pml4}, {user_pdpt}",
    // And the case table: first byte, end, the word that says that it is sorted.
    ".long 6, 24, 2",
    ".asciz \"Assay\"",
    ".balign 4",
    ".quad __cases_start, __cases_end, {sorted}",
    ".popsection",
    ".pushsection .text.boot, \"ax\", @progbits",
    ".code32",
    ".global start32",
    "start32:",
    "cli",
    "cld",
    "mov esp, offset {stack} + {stack_size}",
    // Supervisor and user tables share the page directories; only their upper levels differ.
    "mov edi, offset {pml4}",
    "mov dword ptr [edi], offset {pdpt} + 3",
    "mov edi, offset {user_pml4}",
    "mov dword ptr [edi], offset {user_pdpt} + 7",
    "xor ecx, ecx",
    "2:",
    "mov eax, ecx",
    "shl eax, 12",
    "lea edx, [eax + {pd} + 3]",
    "mov dword ptr [ecx * 8 + {pdpt}], edx",
    "lea edx, [eax + {pd} + 7]",
    "mov dword ptr [ecx * 8 + {user_pdpt}], edx",
    "inc ecx",
    "cmp ecx, 4",
    "jb 2b",
    // 2048 entries of 2 MiB; the last GiB holds devices and is mapped uncached.
    "xor ecx, ecx",
    "3:",
    "mov eax, ecx",
    "shl eax, 21",
    "or eax, 0x87",
    "cmp ecx, 1536",
    "jb 4f",
    "or eax, 0x18",
    "4:",
    "mov dword ptr [ecx * 8 + {pd}], eax",
    "inc ecx",
    "cmp ecx, 2048",
    "jb 3b",
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
    "lgdt [assay_boot_gdtr]",
    // Far jump, assembled by hand: the assembler has no symbolic form for it.
    ".byte 0xea",
    ".long assay_start64",
    ".short 8",
    ".code64",
    ".global start64",
    "start64:",
    "cli",
    "cld",
    "mov esp, offset {stack} + {stack_size}",
    "mov eax, {cr4}",
    "mov cr4, rax",
    "mov eax, {cr0}",
    "mov cr0, rax",
    "lgdt [assay_boot_gdtr]",
    "push 8",
    "push offset assay_start64",
    "retfq",
    "assay_start64:",
    "mov eax, 16",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "xor eax, eax",
    "mov fs, eax",
    "mov gs, eax",
    "mov edi, ebx",
    "xor ebp, ebp",
    "call {rust}",
    "ud2",
    ".balign 8",
    "assay_boot_gdt:",
    ".quad 0, 0x00209b0000000000, 0x0000930000000000",
    "assay_boot_gdtr:",
    ".short 23",
    ".quad assay_boot_gdt",
    ".popsection",
    stack = sym BOOT_STACK,
    stack_size = const STACK_SIZE,
    pml4 = sym BOOT_PML4,
    pdpt = sym BOOT_PDPT,
    pd = sym BOOT_PD,
    user_pml4 = sym USER_PML4,
    user_pdpt = sym USER_PDPT,
    sorted = sym crate::runner::TABLE_IS_SORTED,
    cr0 = const BOOT_CR0,
    cr4 = const BOOT_CR4,
    rust = sym start,
);

/// First Rust code: `info` is the address the hypervisor passed.
extern "C" fn start(info: u64) -> ! {
    segments::init_cpu(0);
    registers::init_efer();
    platform::init(info);
    apic::mask_legacy();
    crate::runner::main()
}
