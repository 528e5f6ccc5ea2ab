//! How VMRUN ends, as a value. Spec: APM 2 Appendix C.

use crate::fault::Fault;
use core::fmt;

/// An exit code, as the VMCB holds it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitCode(pub u64);

macro_rules! codes {
    ($($name:ident = $value:literal;)*) => {
        #[expect(missing_docs, reason = "named by the manual's words")]
        impl ExitCode {
            $(pub const $name: ExitCode = ExitCode($value);)*
        }
        const NAMES: &[(u64, &str)] = &[$(($value, stringify!($name)),)*];
    };
}

codes! {
    INTR = 0x60;
    NMI = 0x61;
    SMI = 0x62;
    INIT = 0x63;
    VINTR = 0x64;
    CR0_SELECTIVE = 0x65;
    IDTR_READ = 0x66;
    GDTR_READ = 0x67;
    LDTR_READ = 0x68;
    TR_READ = 0x69;
    IDTR_WRITE = 0x6a;
    GDTR_WRITE = 0x6b;
    LDTR_WRITE = 0x6c;
    TR_WRITE = 0x6d;
    RDTSC = 0x6e;
    RDPMC = 0x6f;
    PUSHF = 0x70;
    POPF = 0x71;
    CPUID = 0x72;
    RSM = 0x73;
    IRET = 0x74;
    INTN = 0x75;
    INVD = 0x76;
    PAUSE = 0x77;
    HLT = 0x78;
    INVLPG = 0x79;
    INVLPGA = 0x7a;
    IOIO = 0x7b;
    MSR = 0x7c;
    TASK_SWITCH = 0x7d;
    FERR_FREEZE = 0x7e;
    SHUTDOWN = 0x7f;
    VMRUN = 0x80;
    VMMCALL = 0x81;
    VMLOAD = 0x82;
    VMSAVE = 0x83;
    STGI = 0x84;
    CLGI = 0x85;
    SKINIT = 0x86;
    RDTSCP = 0x87;
    ICEBP = 0x88;
    WBINVD = 0x89;
    MONITOR = 0x8a;
    MWAIT = 0x8b;
    MWAIT_ARMED = 0x8c;
    XSETBV = 0x8d;
    RDPRU = 0x8e;
    NPF = 0x400;
    INVALID = 0xffff_ffff_ffff_ffff;
}

impl ExitCode {
    /// Read of control register `n`.
    pub const fn cr_read(n: u64) -> Self {
        ExitCode(n)
    }
    /// Write of control register `n`.
    pub const fn cr_write(n: u64) -> Self {
        ExitCode(0x10 + n)
    }
    /// Read of debug register `n`.
    pub const fn dr_read(n: u64) -> Self {
        ExitCode(0x20 + n)
    }
    /// Write of debug register `n`.
    pub const fn dr_write(n: u64) -> Self {
        ExitCode(0x30 + n)
    }
    /// Exception `vector`.
    pub const fn exception(vector: u8) -> Self {
        ExitCode(0x40 + vector as u64)
    }
}

impl fmt::Debug for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let n = self.0;
        if let Some((_, name)) = NAMES.iter().find(|(value, _)| *value == n) {
            return write!(f, "{name} ({n:#x})");
        }
        match n {
            0x00..=0x0f => write!(f, "read of CR{n} ({n:#x})"),
            0x10..=0x1f => write!(f, "write of CR{} ({n:#x})", n - 0x10),
            0x20..=0x2f => write!(f, "read of DR{} ({n:#x})", n - 0x20),
            0x30..=0x3f => write!(f, "write of DR{} ({n:#x})", n - 0x30),
            0x40..=0x5f => write!(f, "exception {} ({n:#x})", n - 0x40),
            _ => write!(f, "exit code {n:#x}"),
        }
    }
}

/// What became of VMRUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The guest ran, and left for this reason.
    Exited(ExitCode),
    /// The state was refused (VMEXIT_INVALID). The low half of the exit code counts: one case
    /// of its own asks for all 64 bits, so that a hypervisor that stores 32 of them fails there
    /// and its consistency checks can still be told apart.
    Invalid,
    /// VMRUN itself faulted.
    Faulted(Fault),
}

impl Entry {
    /// The usual end of a guest.
    pub const VMMCALL: Entry = Entry::Exited(ExitCode::VMMCALL);

    /// Whether the guest went on past the intercept of `code`: it left for any other reason.
    pub fn is_past_intercept(self, code: ExitCode) -> bool {
        matches!(self, Entry::Exited(other) if other != code)
    }

    pub(super) fn of(code: ExitCode) -> Self {
        if code.0 as u32 == u32::MAX {
            Entry::Invalid
        } else {
            Entry::Exited(code)
        }
    }
}
