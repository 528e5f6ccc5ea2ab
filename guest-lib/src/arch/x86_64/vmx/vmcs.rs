//! The fields of a VMCS by name. Spec: SDM 3C 25.4 to 25.9, Appendix B.

use core::fmt;

/// A field, by its encoding. Any encoding can be written and read; see [`super::instructions`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field(pub u32);

/// Bits 14:13 of an encoding. Spec: SDM 3C 25.11.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "named by the manual's words")]
pub enum Width {
    Word,
    Quad,
    Double,
    Natural,
}

/// Bits 11:10 of an encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "named by the manual's words")]
pub enum Group {
    Control,
    ExitInformation,
    Guest,
    Host,
}

impl Field {
    /// How wide it is.
    pub fn width(self) -> Width {
        [Width::Word, Width::Quad, Width::Double, Width::Natural][(self.0 >> 13 & 3) as usize]
    }

    /// What part of the VMCS it belongs to.
    pub fn group(self) -> Group {
        [
            Group::Control,
            Group::ExitInformation,
            Group::Guest,
            Group::Host,
        ][(self.0 >> 10 & 3) as usize]
    }

    /// Bits 9:1, the index within width and group.
    pub fn index(self) -> u32 {
        self.0 >> 1 & 0x1ff
    }

    /// The encoding for bits 63:32 of a 64-bit field.
    pub const fn high(self) -> Field {
        Field(self.0 | 1)
    }

    /// The selector field of a guest segment register.
    pub const fn guest_selector(segment: Segment) -> Field {
        Field(0x800 + 2 * segment as u32)
    }

    /// The base field of a guest segment register.
    pub const fn guest_base(segment: Segment) -> Field {
        Field(0x6806 + 2 * segment as u32)
    }

    /// The limit field of a guest segment register.
    pub const fn guest_limit(segment: Segment) -> Field {
        Field(0x4800 + 2 * segment as u32)
    }

    /// The access-rights field of a guest segment register.
    pub const fn guest_rights(segment: Segment) -> Field {
        Field(0x4814 + 2 * segment as u32)
    }

    /// The selector field of a host segment register; there is none for LDTR.
    pub const fn host_selector(segment: Segment) -> Field {
        Field(match segment {
            Segment::Tr => 0xc0c,
            other => 0xc00 + 2 * other as u32,
        })
    }
}

/// Segment registers in the order of the fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "named by the manual's words")]
pub enum Segment {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
}

impl Segment {
    /// The registers that hold code, data and stack segments.
    pub const USUAL: [Segment; 6] = [
        Segment::Es,
        Segment::Cs,
        Segment::Ss,
        Segment::Ds,
        Segment::Fs,
        Segment::Gs,
    ];
}

macro_rules! fields {
    ($($name:ident = $encoding:literal;)*) => {
        #[expect(missing_docs, reason = "named by the manual's words")]
        impl Field {
            $(pub const $name: Field = Field($encoding);)*
        }
        /// Every field with a name here.
        pub const ALL: &[Field] = &[$(Field::$name),*];
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match ALL.iter().position(|known| known == self) {
            Some(i) => f.write_str(NAMES[i]),
            None => write!(f, "Field({:#x})", self.0),
        }
    }
}

fields! {
    VPID = 0x0000;
    POSTED_INTERRUPT_VECTOR = 0x0002;
    EPTP_INDEX = 0x0004;
    GUEST_ES_SELECTOR = 0x0800;
    GUEST_CS_SELECTOR = 0x0802;
    GUEST_SS_SELECTOR = 0x0804;
    GUEST_DS_SELECTOR = 0x0806;
    GUEST_FS_SELECTOR = 0x0808;
    GUEST_GS_SELECTOR = 0x080a;
    GUEST_LDTR_SELECTOR = 0x080c;
    GUEST_TR_SELECTOR = 0x080e;
    GUEST_INTERRUPT_STATUS = 0x0810;
    PML_INDEX = 0x0812;
    HOST_ES_SELECTOR = 0x0c00;
    HOST_CS_SELECTOR = 0x0c02;
    HOST_SS_SELECTOR = 0x0c04;
    HOST_DS_SELECTOR = 0x0c06;
    HOST_FS_SELECTOR = 0x0c08;
    HOST_GS_SELECTOR = 0x0c0a;
    HOST_TR_SELECTOR = 0x0c0c;
    IO_BITMAP_A = 0x2000;
    IO_BITMAP_B = 0x2002;
    MSR_BITMAP = 0x2004;
    EXIT_MSR_STORE_ADDRESS = 0x2006;
    EXIT_MSR_LOAD_ADDRESS = 0x2008;
    ENTRY_MSR_LOAD_ADDRESS = 0x200a;
    EXECUTIVE_VMCS = 0x200c;
    PML_ADDRESS = 0x200e;
    TSC_OFFSET = 0x2010;
    VIRTUAL_APIC_ADDRESS = 0x2012;
    APIC_ACCESS_ADDRESS = 0x2014;
    POSTED_INTERRUPT_DESCRIPTOR = 0x2016;
    VM_FUNCTION_CONTROLS = 0x2018;
    EPTP = 0x201a;
    EOI_EXIT_BITMAP_0 = 0x201c;
    EOI_EXIT_BITMAP_1 = 0x201e;
    EOI_EXIT_BITMAP_2 = 0x2020;
    EOI_EXIT_BITMAP_3 = 0x2022;
    EPTP_LIST_ADDRESS = 0x2024;
    VMREAD_BITMAP = 0x2026;
    VMWRITE_BITMAP = 0x2028;
    VE_INFORMATION_ADDRESS = 0x202a;
    XSS_EXITING_BITMAP = 0x202c;
    ENCLS_EXITING_BITMAP = 0x202e;
    SPP_TABLE_POINTER = 0x2030;
    TSC_MULTIPLIER = 0x2032;
    GUEST_PHYSICAL_ADDRESS = 0x2400;
    LINK_POINTER = 0x2800;
    GUEST_DEBUGCTL = 0x2802;
    GUEST_PAT = 0x2804;
    GUEST_EFER = 0x2806;
    GUEST_PERF_GLOBAL_CTRL = 0x2808;
    GUEST_PDPTE0 = 0x280a;
    GUEST_PDPTE1 = 0x280c;
    GUEST_PDPTE2 = 0x280e;
    GUEST_PDPTE3 = 0x2810;
    GUEST_BNDCFGS = 0x2812;
    GUEST_RTIT_CTL = 0x2814;
    HOST_PAT = 0x2c00;
    HOST_EFER = 0x2c02;
    HOST_PERF_GLOBAL_CTRL = 0x2c04;
    PIN_CONTROLS = 0x4000;
    PRIMARY_CONTROLS = 0x4002;
    EXCEPTION_BITMAP = 0x4004;
    PAGE_FAULT_MASK = 0x4006;
    PAGE_FAULT_MATCH = 0x4008;
    CR3_TARGET_COUNT = 0x400a;
    EXIT_CONTROLS = 0x400c;
    EXIT_MSR_STORE_COUNT = 0x400e;
    EXIT_MSR_LOAD_COUNT = 0x4010;
    ENTRY_CONTROLS = 0x4012;
    ENTRY_MSR_LOAD_COUNT = 0x4014;
    ENTRY_EVENT = 0x4016;
    ENTRY_EVENT_ERROR = 0x4018;
    ENTRY_INSTRUCTION_LENGTH = 0x401a;
    TPR_THRESHOLD = 0x401c;
    SECONDARY_CONTROLS = 0x401e;
    PLE_GAP = 0x4020;
    PLE_WINDOW = 0x4022;
    INSTRUCTION_ERROR = 0x4400;
    EXIT_REASON = 0x4402;
    EXIT_EVENT = 0x4404;
    EXIT_EVENT_ERROR = 0x4406;
    IDT_VECTORING = 0x4408;
    IDT_VECTORING_ERROR = 0x440a;
    EXIT_INSTRUCTION_LENGTH = 0x440c;
    EXIT_INSTRUCTION_INFO = 0x440e;
    GUEST_ES_LIMIT = 0x4800;
    GUEST_CS_LIMIT = 0x4802;
    GUEST_SS_LIMIT = 0x4804;
    GUEST_DS_LIMIT = 0x4806;
    GUEST_FS_LIMIT = 0x4808;
    GUEST_GS_LIMIT = 0x480a;
    GUEST_LDTR_LIMIT = 0x480c;
    GUEST_TR_LIMIT = 0x480e;
    GUEST_GDTR_LIMIT = 0x4810;
    GUEST_IDTR_LIMIT = 0x4812;
    GUEST_ES_RIGHTS = 0x4814;
    GUEST_CS_RIGHTS = 0x4816;
    GUEST_SS_RIGHTS = 0x4818;
    GUEST_DS_RIGHTS = 0x481a;
    GUEST_FS_RIGHTS = 0x481c;
    GUEST_GS_RIGHTS = 0x481e;
    GUEST_LDTR_RIGHTS = 0x4820;
    GUEST_TR_RIGHTS = 0x4822;
    INTERRUPTIBILITY = 0x4824;
    ACTIVITY = 0x4826;
    GUEST_SMBASE = 0x4828;
    GUEST_SYSENTER_CS = 0x482a;
    PREEMPTION_TIMER = 0x482e;
    HOST_SYSENTER_CS = 0x4c00;
    CR0_MASK = 0x6000;
    CR4_MASK = 0x6002;
    CR0_SHADOW = 0x6004;
    CR4_SHADOW = 0x6006;
    CR3_TARGET_0 = 0x6008;
    CR3_TARGET_1 = 0x600a;
    CR3_TARGET_2 = 0x600c;
    CR3_TARGET_3 = 0x600e;
    EXIT_QUALIFICATION = 0x6400;
    IO_RCX = 0x6402;
    IO_RSI = 0x6404;
    IO_RDI = 0x6406;
    IO_RIP = 0x6408;
    GUEST_LINEAR_ADDRESS = 0x640a;
    GUEST_CR0 = 0x6800;
    GUEST_CR3 = 0x6802;
    GUEST_CR4 = 0x6804;
    GUEST_ES_BASE = 0x6806;
    GUEST_CS_BASE = 0x6808;
    GUEST_SS_BASE = 0x680a;
    GUEST_DS_BASE = 0x680c;
    GUEST_FS_BASE = 0x680e;
    GUEST_GS_BASE = 0x6810;
    GUEST_LDTR_BASE = 0x6812;
    GUEST_TR_BASE = 0x6814;
    GUEST_GDTR_BASE = 0x6816;
    GUEST_IDTR_BASE = 0x6818;
    GUEST_DR7 = 0x681a;
    GUEST_RSP = 0x681c;
    GUEST_RIP = 0x681e;
    GUEST_RFLAGS = 0x6820;
    PENDING_DEBUG = 0x6822;
    GUEST_SYSENTER_ESP = 0x6824;
    GUEST_SYSENTER_EIP = 0x6826;
    GUEST_S_CET = 0x6828;
    GUEST_SSP = 0x682a;
    GUEST_SSP_TABLE = 0x682c;
    HOST_CR0 = 0x6c00;
    HOST_CR3 = 0x6c02;
    HOST_CR4 = 0x6c04;
    HOST_FS_BASE = 0x6c06;
    HOST_GS_BASE = 0x6c08;
    HOST_TR_BASE = 0x6c0a;
    HOST_GDTR_BASE = 0x6c0c;
    HOST_IDTR_BASE = 0x6c0e;
    HOST_SYSENTER_ESP = 0x6c10;
    HOST_SYSENTER_EIP = 0x6c12;
    HOST_RSP = 0x6c14;
    HOST_RIP = 0x6c16;
    HOST_S_CET = 0x6c18;
    HOST_SSP = 0x6c1a;
    HOST_SSP_TABLE = 0x6c1c;
}
