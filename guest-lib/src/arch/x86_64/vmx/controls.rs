//! VM-execution, VM-exit and VM-entry controls by name. Spec: SDM 3C 25.6 to 25.8, A.3 to A.5.

use super::vmcs::Field;
use super::{BASIC, capability};

/// One control bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// The field that holds it.
    pub field: Field,
    /// Its number in the field.
    pub bit: u32,
    /// The need of a case that sets it.
    pub need: &'static str,
}

impl Control {
    /// The bit in place.
    pub const fn mask(self) -> u64 {
        1 << self.bit
    }

    /// Whether the processor lets it be 1.
    pub fn is_offered(self) -> bool {
        if self.field == Field::SECONDARY_CONTROLS && !SECONDARY.is_offered() {
            return false;
        }
        allowed(self.field).1 & self.mask() != 0
    }

    /// Whether the processor lets it be 0.
    pub fn can_be_clear(self) -> bool {
        allowed(self.field).0 & self.mask() == 0
    }
}

/// Whether the processor has the TRUE capability MSRs.
pub fn has_true() -> bool {
    capability(BASIC) >> 55 & 1 != 0
}

/// The capability MSR for a control field.
pub fn capability_msr(field: Field) -> u32 {
    let (plain, exact) = match field {
        Field::PIN_CONTROLS => (0x481, 0x48d),
        Field::PRIMARY_CONTROLS => (0x482, 0x48e),
        Field::EXIT_CONTROLS => (0x483, 0x48f),
        Field::ENTRY_CONTROLS => (0x484, 0x490),
        Field::SECONDARY_CONTROLS => (0x48b, 0x48b),
        other => panic!("{other:?} holds no controls"),
    };
    if has_true() { exact } else { plain }
}

/// The bits that must be 1 and the bits that may be 1 in a control field.
pub fn allowed(field: Field) -> (u64, u64) {
    if field == Field::SECONDARY_CONTROLS && !SECONDARY.is_offered() {
        return (0, 0);
    }
    let value = capability(capability_msr(field));
    (value & 0xffff_ffff, value >> 32)
}

macro_rules! controls {
    ($($name:ident = $field:ident $bit:literal $need:literal;)*) => {
        $(
            #[doc = concat!("Bit ", $bit, " of ", stringify!($field), ".")]
            pub const $name: Control =
                Control { field: Field::$field, bit: $bit, need: $need };
        )*
        /// Every control with a name here.
        pub const ALL: &[Control] = &[$($name),*];
    };
}

controls! {
    EXTERNAL_INTERRUPT_EXITING = PIN_CONTROLS 0 "x86.vmx";
    NMI_EXITING = PIN_CONTROLS 3 "x86.vmx";
    VIRTUAL_NMIS = PIN_CONTROLS 5 "x86.vmx.virtual_nmis";
    PREEMPTION_TIMER = PIN_CONTROLS 6 "x86.vmx.preemption_timer";
    POSTED_INTERRUPTS = PIN_CONTROLS 7 "x86.vmx.posted_interrupts";
    INTERRUPT_WINDOW = PRIMARY_CONTROLS 2 "x86.vmx";
    TSC_OFFSETTING = PRIMARY_CONTROLS 3 "x86.vmx";
    HLT_EXITING = PRIMARY_CONTROLS 7 "x86.vmx";
    INVLPG_EXITING = PRIMARY_CONTROLS 9 "x86.vmx";
    MWAIT_EXITING = PRIMARY_CONTROLS 10 "x86.vmx";
    RDPMC_EXITING = PRIMARY_CONTROLS 11 "x86.vmx";
    RDTSC_EXITING = PRIMARY_CONTROLS 12 "x86.vmx";
    CR3_LOAD_EXITING = PRIMARY_CONTROLS 15 "x86.vmx";
    CR3_STORE_EXITING = PRIMARY_CONTROLS 16 "x86.vmx";
    CR8_LOAD_EXITING = PRIMARY_CONTROLS 19 "x86.vmx";
    CR8_STORE_EXITING = PRIMARY_CONTROLS 20 "x86.vmx";
    TPR_SHADOW = PRIMARY_CONTROLS 21 "x86.vmx.tpr_shadow";
    NMI_WINDOW = PRIMARY_CONTROLS 22 "x86.vmx.virtual_nmis";
    MOV_DR_EXITING = PRIMARY_CONTROLS 23 "x86.vmx";
    UNCONDITIONAL_IO = PRIMARY_CONTROLS 24 "x86.vmx";
    IO_BITMAPS = PRIMARY_CONTROLS 25 "x86.vmx";
    MONITOR_TRAP = PRIMARY_CONTROLS 27 "x86.vmx.monitor_trap_flag";
    MSR_BITMAPS = PRIMARY_CONTROLS 28 "x86.vmx";
    MONITOR_EXITING = PRIMARY_CONTROLS 29 "x86.vmx";
    PAUSE_EXITING = PRIMARY_CONTROLS 30 "x86.vmx";
    SECONDARY = PRIMARY_CONTROLS 31 "x86.vmx.secondary_controls";
    APIC_ACCESSES = SECONDARY_CONTROLS 0 "x86.vmx.apic_accesses";
    EPT = SECONDARY_CONTROLS 1 "x86.vmx.ept";
    DESCRIPTOR_TABLE_EXITING = SECONDARY_CONTROLS 2 "x86.vmx.descriptor_table_exiting";
    RDTSCP = SECONDARY_CONTROLS 3 "x86.vmx.rdtscp";
    X2APIC_MODE = SECONDARY_CONTROLS 4 "x86.vmx.x2apic_mode";
    VPID = SECONDARY_CONTROLS 5 "x86.vmx.vpid";
    WBINVD_EXITING = SECONDARY_CONTROLS 6 "x86.vmx.wbinvd_exiting";
    UNRESTRICTED_GUEST = SECONDARY_CONTROLS 7 "x86.vmx.unrestricted_guest";
    APIC_REGISTERS = SECONDARY_CONTROLS 8 "x86.vmx.apic_registers";
    VIRTUAL_INTERRUPTS = SECONDARY_CONTROLS 9 "x86.vmx.virtual_interrupts";
    PAUSE_LOOP_EXITING = SECONDARY_CONTROLS 10 "x86.vmx.pause_loop_exiting";
    RDRAND_EXITING = SECONDARY_CONTROLS 11 "x86.vmx.rdrand_exiting";
    INVPCID = SECONDARY_CONTROLS 12 "x86.vmx.invpcid";
    VM_FUNCTIONS = SECONDARY_CONTROLS 13 "x86.vmx.vm_functions";
    VMCS_SHADOWING = SECONDARY_CONTROLS 14 "x86.vmx.vmcs_shadowing";
    RDSEED_EXITING = SECONDARY_CONTROLS 16 "x86.vmx.rdseed_exiting";
    PML = SECONDARY_CONTROLS 17 "x86.vmx.pml";
    VIRTUALIZATION_EXCEPTIONS = SECONDARY_CONTROLS 18 "x86.vmx.virtualization_exceptions";
    XSAVES = SECONDARY_CONTROLS 20 "x86.vmx.xsaves";
    MODE_BASED_EXECUTE = SECONDARY_CONTROLS 22 "x86.vmx.mode_based_execute";
    SUB_PAGE_WRITE = SECONDARY_CONTROLS 23 "x86.vmx.sub_page_write";
    TSC_SCALING = SECONDARY_CONTROLS 25 "x86.vmx.tsc_scaling";
    SAVE_DEBUG = EXIT_CONTROLS 2 "x86.vmx";
    HOST_64 = EXIT_CONTROLS 9 "x86.vmx";
    EXIT_LOAD_PERF_GLOBAL_CTRL = EXIT_CONTROLS 12 "x86.vmx.perf_global_ctrl";
    ACK_INTERRUPT = EXIT_CONTROLS 15 "x86.vmx";
    SAVE_PAT = EXIT_CONTROLS 18 "x86.vmx.pat";
    LOAD_HOST_PAT = EXIT_CONTROLS 19 "x86.vmx.pat";
    SAVE_EFER = EXIT_CONTROLS 20 "x86.vmx.efer";
    LOAD_HOST_EFER = EXIT_CONTROLS 21 "x86.vmx.efer";
    SAVE_PREEMPTION_TIMER = EXIT_CONTROLS 22 "x86.vmx.save_preemption_timer";
    LOAD_HOST_CET = EXIT_CONTROLS 28 "x86.vmx.cet";
    LOAD_DEBUG = ENTRY_CONTROLS 2 "x86.vmx";
    GUEST_64 = ENTRY_CONTROLS 9 "x86.vmx";
    ENTRY_TO_SMM = ENTRY_CONTROLS 10 "x86.vmx.smm";
    DEACTIVATE_DUAL_MONITOR = ENTRY_CONTROLS 11 "x86.vmx.smm";
    ENTRY_LOAD_PERF_GLOBAL_CTRL = ENTRY_CONTROLS 13 "x86.vmx.perf_global_ctrl";
    LOAD_PAT = ENTRY_CONTROLS 14 "x86.vmx.pat";
    LOAD_EFER = ENTRY_CONTROLS 15 "x86.vmx.efer";
    LOAD_CET = ENTRY_CONTROLS 20 "x86.vmx.cet";
}
