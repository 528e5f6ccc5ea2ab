//! The closed vocabulary of needs: what a case may ask of the machine it runs on.
//!
//! A need is either `cpus>=N`, `memory>=N` (MiB) or a word of [`NEEDS`]. The guest decides at run time
//! whether a need is met, by the architecture's own means (CPUID, ID registers, facility
//! bits); words that start with `service.` are met when the host says so on the command line.

/// One word of the vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// The word.
    pub word: &'static str,
    /// What it means, for people.
    pub means: &'static str,
}

const fn need(word: &'static str, means: &'static str) -> Need {
    Need { word, means }
}

/// A need, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// `cpus>=N`
    Cpus(u32),
    /// `memory>=N`, in MiB
    MemoryMib(u32),
    /// `service.<name>`
    Service(&'a str),
    /// Any other word of [`NEEDS`].
    Word(&'a str),
}

/// Takes `text` apart; `None` when it is not in the vocabulary.
pub fn parse(text: &str) -> Option<Parsed<'_>> {
    if let Some(n) = text.strip_prefix("cpus>=") {
        return n.parse().ok().map(Parsed::Cpus);
    }
    if let Some(n) = text.strip_prefix("memory>=") {
        return n.parse().ok().map(Parsed::MemoryMib);
    }
    NEEDS.iter().find(|n| n.word == text)?;
    Some(match text.strip_prefix("service.") {
        Some(name) => Parsed::Service(name),
        None => Parsed::Word(text),
    })
}

/// Every word, sorted.
pub const NEEDS: &[Need] = &[
    need(
        "arm64.aarch32_el0",
        "AArch32 at EL0 (ID_AA64PFR0_EL1.EL0 = 2)",
    ),
    need("arm64.big_endian_el0", "EL0 can be big-endian"),
    need("arm64.bti", "branch target identification (FEAT_BTI)"),
    need(
        "arm64.dirty_state",
        "hardware management of the dirty state (FEAT_HAFDBS)",
    ),
    need("arm64.dit", "data-independent timing (FEAT_DIT)"),
    need("arm64.el2", "the payload is entered at EL2"),
    need("arm64.fp", "floating point and Advanced SIMD"),
    need("arm64.fw_cfg", "QEMU's firmware configuration device"),
    need(
        "arm64.gic_1_of_n",
        "a GICv3 that routes SPIs to any processor (GICD_TYPER.No1N = 0)",
    ),
    need(
        "arm64.gic_one_security_state",
        "a GIC with one security state (GICD_CTLR.DS = 1)",
    ),
    need("arm64.gicv2", "a GICv2"),
    need(
        "arm64.gicv3",
        "a GICv3 or GICv4 with its system-register interface",
    ),
    need(
        "arm64.hafdbs",
        "hardware updates of the access flag (FEAT_HAFDBS)",
    ),
    need(
        "arm64.hyp_virtual_timer",
        "the device tree names the interrupt of the EL2 virtual timer",
    ),
    need(
        "arm64.idst",
        "traps of absent identification registers (FEAT_IDST)",
    ),
    need("arm64.its", "an Interrupt Translation Service"),
    need("arm64.mte", "memory tagging (FEAT_MTE2)"),
    need("arm64.pan", "privileged access never (FEAT_PAN)"),
    need(
        "arm64.pan2",
        "address translation that honours PAN (FEAT_PAN2)",
    ),
    need("arm64.pl011", "a PL011 as console"),
    need("arm64.psci", "PSCI 0.2 or later"),
    need("arm64.smccc11", "SMCCC 1.1 or later"),
    need(
        "arm64.ssbs",
        "speculative store bypass safe, as a PSTATE field (FEAT_SSBS2)",
    ),
    need(
        "arm64.system_reset2",
        "SYSTEM_RESET2 of PSCI 1.1, with SYSTEM_WARM_RESET",
    ),
    need("arm64.uao", "user access override (FEAT_UAO)"),
    need(
        "s390x.ap",
        "cryptographic adjunct processors (AP instructions)",
    ),
    need(
        "s390x.ap_configuration",
        "AP query configuration information (facility 12)",
    ),
    need("s390x.css_device", "an I/O device on the channel subsystem"),
    need("s390x.diag10", "DIAGNOSE 0x10 (release pages)"),
    need("s390x.diag258", "DIAGNOSE 0x258 (page-reference services)"),
    need("s390x.diag288", "DIAGNOSE 0x288 (the watchdog)"),
    need("s390x.diag318", "DIAGNOSE 0x318 (control-program name)"),
    need("s390x.diag9c", "DIAGNOSE 0x9c (directed yield)"),
    need("s390x.edat1", "enhanced DAT 1 with PFMF (facility 8)"),
    need("s390x.edat2", "enhanced DAT 2 (facility 78)"),
    need(
        "s390x.essa",
        "EXTRACT AND SET STORAGE ATTRIBUTES (collaborative memory management)",
    ),
    need("s390x.facility", "the facility that the case is about"),
    need("s390x.guarded_storage", "guarded storage (facility 133)"),
    need(
        "s390x.iep",
        "instruction-execution protection (facility 130)",
    ),
    need(
        "s390x.kss",
        "keyless-subset or storage-key removal (facility 169)",
    ),
    need(
        "s390x.movepage_dat",
        "DAT-based MOVE PAGE that honours condition-code-option",
    ),
    need(
        "s390x.msa",
        "the message-security function that the case is about",
    ),
    need(
        "s390x.no_sie",
        "a machine without START INTERPRETIVE EXECUTION",
    ),
    need("s390x.sie", "START INTERPRETIVE EXECUTION"),
    need("s390x.sthyi", "STORE HYPERVISOR INFORMATION (facility 74)"),
    need("s390x.topology", "configuration topology (facility 11)"),
    need(
        "s390x.transactions",
        "transactional execution (facility 73)",
    ),
    need("s390x.uvc", "ultravisor calls (facility 158)"),
    need("s390x.vector", "the vector facility"),
    need("s390x.vector_decimal", "the vector packed-decimal facility"),
    need("s390x.vector_enhancements1", "vector enhancements 1"),
    need(
        "s390x.zpci",
        "PCI functions (CALL LOGICAL PROCESSOR and PCI load/store)",
    ),
    need("service.dirty_log", "the host offers a dirty log"),
    need("service.dirty_ring", "the host offers a dirty ring"),
    need(
        "service.inject",
        "the host injects NMI, SMI or interrupts on request",
    ),
    need(
        "service.kick",
        "the host interrupts a virtual CPU at a chosen exit",
    ),
    need(
        "service.memslot",
        "the host changes memory slots on request",
    ),
    need(
        "service.migrate",
        "the host migrates the machine while it runs",
    ),
    need(
        "service.migrate_postcopy",
        "the host migrates the machine and sends the rest of its memory afterwards",
    ),
    need(
        "service.mmio_counter",
        "the host offers an MMIO page that counts accesses",
    ),
    need(
        "service.save_restore",
        "the host saves the machine and restores it into a fresh one",
    ),
    need(
        "service.userfault",
        "the host backs memory by demand paging",
    ),
    need("x86.cet_ibt", "CET indirect branch tracking"),
    need("x86.cet_ss", "CET shadow stacks"),
    need("x86.monitor", "MONITOR and MWAIT"),
    need("x86.pcid", "process-context identifiers"),
    need("x86.rdtscp", "RDTSCP"),
    need(
        "x86.reserved_pte_bit",
        "page-table entries with a reserved address bit: at most 51 physical bits",
    ),
    need("x86.skinit", "SKINIT"),
    need("x86.svm", "SVM"),
    need("x86.svm.clean_bits", "VMCB clean bits"),
    need("x86.svm.decode_assists", "SVM decode assists"),
    need("x86.svm.flush_by_asid", "SVM TLB flush by ASID"),
    need("x86.svm.lbrv", "SVM last-branch-record virtualization"),
    need("x86.svm.npt", "SVM nested paging"),
    need("x86.svm.nrips", "SVM saves the next RIP"),
    need("x86.svm.pause_filter", "SVM PAUSE intercept filter"),
    need(
        "x86.svm.pause_threshold",
        "SVM PAUSE intercept filter threshold",
    ),
    need("x86.svm.tsc_ratio", "SVM TSC ratio MSR"),
    need("x86.svm.unlocked", "VM_CR is not locked"),
    need("x86.svm.vgif", "SVM virtual GIF"),
    need("x86.vmx", "VMX"),
    need("x86.vmx.activity_hlt", "VMX: activity state HLT"),
    need("x86.vmx.activity_shutdown", "VMX: activity state shutdown"),
    need("x86.vmx.activity_sipi", "VMX: activity state wait-for-SIPI"),
    need("x86.vmx.apic_accesses", "VMX control: apic accesses"),
    need("x86.vmx.apic_registers", "VMX control: apic registers"),
    need("x86.vmx.cet", "VMX control: cet"),
    need(
        "x86.vmx.descriptor_table_exiting",
        "VMX control: descriptor table exiting",
    ),
    need("x86.vmx.efer", "VMX control: efer"),
    need("x86.vmx.ept", "VMX: extended page tables"),
    need(
        "x86.vmx.ept_1g",
        "VMX: 1 GiB leaves in extended page tables",
    ),
    need(
        "x86.vmx.ept_2m",
        "VMX: 2 MiB leaves in extended page tables",
    ),
    need("x86.vmx.ept_ad", "VMX: accessed and dirty flags for EPT"),
    need("x86.vmx.ept_execute_only", "VMX: execute-only EPT entries"),
    need(
        "x86.vmx.eptp_switching",
        "VMX: VM function 0, EPTP switching",
    ),
    need(
        "x86.vmx.feature_control_unlocked",
        "an IA32_FEATURE_CONTROL that the firmware leaves unlocked",
    ),
    need("x86.vmx.invept", "VMX: INVEPT"),
    need("x86.vmx.invpcid", "VMX control: invpcid"),
    need("x86.vmx.invvpid", "VMX: INVVPID"),
    need(
        "x86.vmx.mode_based_execute",
        "VMX control: mode based execute",
    ),
    need(
        "x86.vmx.monitor_trap_flag",
        "VMX control: monitor trap flag",
    ),
    need("x86.vmx.pat", "VMX control: pat"),
    need(
        "x86.vmx.pause_loop_exiting",
        "VMX control: pause loop exiting",
    ),
    need("x86.vmx.perf_global_ctrl", "VMX control: perf global ctrl"),
    need("x86.vmx.pml", "VMX: page-modification logging"),
    need(
        "x86.vmx.posted_interrupts",
        "VMX control: posted interrupts",
    ),
    need("x86.vmx.preemption_timer", "VMX control: preemption timer"),
    need("x86.vmx.rdrand_exiting", "VMX control: rdrand exiting"),
    need("x86.vmx.rdseed_exiting", "VMX control: rdseed exiting"),
    need("x86.vmx.rdtscp", "VMX control: rdtscp"),
    need(
        "x86.vmx.save_preemption_timer",
        "VMX control: save preemption timer",
    ),
    need(
        "x86.vmx.secondary_controls",
        "VMX control: secondary controls",
    ),
    need("x86.vmx.smm", "VMX: entry to SMM"),
    need("x86.vmx.sub_page_write", "VMX control: sub page write"),
    need("x86.vmx.tpr_shadow", "VMX control: tpr shadow"),
    need("x86.vmx.true_controls", "VMX: the TRUE capability MSRs"),
    need("x86.vmx.tsc_scaling", "VMX control: tsc scaling"),
    need(
        "x86.vmx.unrestricted_guest",
        "VMX control: unrestricted guest",
    ),
    need(
        "x86.vmx.virtual_interrupts",
        "VMX control: virtual interrupts",
    ),
    need("x86.vmx.virtual_nmis", "VMX control: virtual nmis"),
    need(
        "x86.vmx.virtualization_exceptions",
        "VMX control: virtualization exceptions",
    ),
    need("x86.vmx.vm_functions", "VMX control: vm functions"),
    need("x86.vmx.vmcs_shadowing", "VMX control: vmcs shadowing"),
    need("x86.vmx.vpid", "VMX: virtual-processor identifiers"),
    need("x86.vmx.wbinvd_exiting", "VMX control: wbinvd exiting"),
    need("x86.vmx.x2apic_mode", "VMX control: x2apic mode"),
    need("x86.vmx.xsaves", "VMX control: xsaves"),
    need("x86.x2apic", "x2APIC mode"),
    need("x86.xapic", "the local APIC in xAPIC mode"),
    need("x86.xsave", "XSAVE"),
    need("x86.xsaves", "XSAVES"),
    need("x86.xsaves_cet_s", "CET supervisor state in XSAVES"),
    need("x86.xsaves_cet_u", "CET user state in XSAVES"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_is_sorted_and_unique() {
        assert!(NEEDS.windows(2).all(|w| w[0].word < w[1].word));
    }

    #[test]
    fn needs_are_taken_apart() {
        assert_eq!(parse("cpus>=4"), Some(Parsed::Cpus(4)));
        assert_eq!(parse("service.migrate"), Some(Parsed::Service("migrate")));
        assert_eq!(parse("x86.svm"), Some(Parsed::Word("x86.svm")));
        assert_eq!(parse("x86.nonsense"), None);
        assert_eq!(parse("cpus>=x"), None);
    }
}
