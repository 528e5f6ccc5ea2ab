//! x86-64.

pub mod acpi;
pub mod apic;
mod boot;
pub mod code;
pub mod cpu;
pub mod cpuid;
pub mod fault;
pub mod msr;
pub mod paging;
pub mod platform;
pub mod registers;
pub mod segments;
pub mod smp;
pub mod time;

/// The first segment of every id.
pub const NAME: &str = "x86";

/// Whether the machine meets a need of this architecture.
pub fn has(need: &str) -> bool {
    match need {
        "x86.reserved_pte_bit" => cpuid::physical_bits() <= 51,
        "x86.svm" => cpuid::has_svm(),
        "x86.svm.npt" => cpuid::has_svm() && cpuid::svm_features() & 1 != 0,
        "x86.vmx" => cpuid::query(1, 0).ecx >> 5 & 1 != 0,
        "x86.x2apic" => cpuid::query(1, 0).ecx >> 21 & 1 != 0,
        "x86.cet_ss" => cpuid::max_leaf() >= 7 && cpuid::query(7, 0).ecx >> 7 & 1 != 0,
        "x86.cet_ibt" => cpuid::max_leaf() >= 7 && cpuid::query(7, 0).edx >> 20 & 1 != 0,
        _ => false,
    }
}
