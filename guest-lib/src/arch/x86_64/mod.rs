//! x86-64.

pub mod acpi;
pub mod apic;
mod boot;
pub mod cet;
pub mod code;
pub mod cpu;
pub mod cpuid;
pub mod fault;
pub mod keep;
pub mod msr;
pub mod paging;
pub mod platform;
pub mod registers;
pub mod segments;
pub mod smp;
pub mod svm;
pub mod time;
pub mod vmx;

/// The first segment of every id.
pub const NAME: &str = "x86";

/// Whether the machine meets a need of this architecture.
pub fn has(need: &str) -> bool {
    match need {
        "x86.monitor" => cpuid::query(1, 0).ecx >> 3 & 1 != 0,
        "x86.pcid" => cpuid::query(1, 0).ecx >> 17 & 1 != 0,
        "x86.rdtscp" => cpuid::query(0x8000_0001, 0).edx >> 27 & 1 != 0,
        "x86.skinit" => cpuid::query(0x8000_0001, 0).ecx >> 12 & 1 != 0,
        "x86.xsaves" => cpuid::max_leaf() >= 0xd && cpuid::query(0xd, 1).eax >> 3 & 1 != 0,
        "x86.xsaves_cet_s" => has("x86.xsaves") && cpuid::query(0xd, 1).ecx >> 12 & 1 != 0,
        "x86.xsaves_cet_u" => has("x86.xsaves") && cpuid::query(0xd, 1).ecx >> 11 & 1 != 0,
        "x86.xsave" => cpuid::query(1, 0).ecx >> 26 & 1 != 0,
        "x86.reserved_pte_bit" => cpuid::physical_bits() <= 51,
        "x86.x2apic" => cpuid::query(1, 0).ecx >> 21 & 1 != 0,
        "x86.cet_ss" => cpuid::max_leaf() >= 7 && cpuid::query(7, 0).ecx >> 7 & 1 != 0,
        "x86.cet_ibt" => cpuid::max_leaf() >= 7 && cpuid::query(7, 0).edx >> 20 & 1 != 0,
        _ if need.starts_with("x86.svm") => svm::has(need),
        _ if need.starts_with("x86.vmx") => vmx::has(need),
        _ => false,
    }
}
