//! CPUID. Spec: SDM 2A CPUID; APM 3 Appendix E.

/// The four registers that CPUID returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "named as the registers they hold")]
pub struct Leaf {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// CPUID with `leaf` in EAX and `subleaf` in ECX.
pub fn query(leaf: u32, subleaf: u32) -> Leaf {
    let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    Leaf {
        eax: r.eax,
        ebx: r.ebx,
        ecx: r.ecx,
        edx: r.edx,
    }
}

/// The highest basic leaf.
pub fn max_leaf() -> u32 {
    query(0, 0).eax
}

/// The highest extended leaf, or 0.
pub fn max_extended_leaf() -> u32 {
    let max = query(0x8000_0000, 0).eax;
    if max >= 0x8000_0000 { max } else { 0 }
}

/// Whether CPUID announces SVM (8000_0001h ECX bit 2).
pub fn has_svm() -> bool {
    max_extended_leaf() >= 0x8000_000a && query(0x8000_0001, 0).ecx >> 2 & 1 != 0
}

/// SVM feature bits (8000_000Ah EDX).
pub fn svm_features() -> u32 {
    query(0x8000_000a, 0).edx
}

/// Whether the processor has the NX bit (8000_0001h EDX bit 20).
pub fn has_nx() -> bool {
    max_extended_leaf() >= 0x8000_0001 && query(0x8000_0001, 0).edx >> 20 & 1 != 0
}

/// Width of a physical address in bits.
pub fn physical_bits() -> u32 {
    if max_extended_leaf() >= 0x8000_0008 {
        query(0x8000_0008, 0).eax & 0xff
    } else {
        36
    }
}
