//! The virtual machine control block. Spec: APM 2 Appendix B.

use super::exit::ExitCode;
use crate::memory::{Frames, Plain};
use core::marker::PhantomData;

/// A field: its offset, and its width as a type.
#[derive(Debug)]
pub struct Field<T> {
    /// Offset in bytes from the start of the VMCB.
    pub offset: usize,
    width: PhantomData<T>,
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Field<T> {}

impl<T> Field<T> {
    /// The field at `offset`.
    pub const fn at(offset: usize) -> Self {
        Field {
            offset,
            width: PhantomData,
        }
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $offset:expr;)*) => {
        $($(#[$doc])* pub const $name: Field<$type> = Field::at($offset);)*
    };
}

/// Every field, by the manual's name.
pub mod field {
    use super::Field;

    fields! {
        /// Intercepts of reads of CR0 to CR15.
        INTERCEPT_CR_READ: u16 = 0x000;
        /// Intercepts of writes to CR0 to CR15.
        INTERCEPT_CR_WRITE: u16 = 0x002;
        /// Intercepts of reads of DR0 to DR15.
        INTERCEPT_DR_READ: u16 = 0x004;
        /// Intercepts of writes to DR0 to DR15.
        INTERCEPT_DR_WRITE: u16 = 0x006;
        /// Intercepts of exception vectors 0 to 31.
        INTERCEPT_EXCEPTION: u32 = 0x008;
        /// First vector of intercepts (INTR to shutdown).
        INTERCEPT_1: u32 = 0x00c;
        /// Second vector of intercepts (VMRUN to the CR write traps).
        INTERCEPT_2: u32 = 0x010;
        /// Third vector of intercepts (INVLPGB and younger).
        INTERCEPT_3: u32 = 0x014;
        /// PAUSE filter threshold.
        PAUSE_THRESHOLD: u16 = 0x03c;
        /// PAUSE filter count.
        PAUSE_COUNT: u16 = 0x03e;
        /// Physical address of the I/O permission map.
        IOPM_BASE_PA: u64 = 0x040;
        /// Physical address of the MSR permission map.
        MSRPM_BASE_PA: u64 = 0x048;
        /// Added to the TSC in the guest.
        TSC_OFFSET: u64 = 0x050;
        /// Address space id.
        ASID: u32 = 0x058;
        /// What VMRUN does to the TLB.
        TLB_CONTROL: u8 = 0x05c;
        /// V_TPR, V_IRQ and their neighbours; see [`super::int_ctl`].
        INT_CTL: u64 = 0x060;
        /// Interrupt shadow (bit 0) and the guest's interrupt mask (bit 1).
        INT_STATE: u64 = 0x068;
        /// Exit code.
        EXIT_CODE: u64 = 0x070;
        /// Exit information 1.
        EXIT_INFO_1: u64 = 0x078;
        /// Exit information 2.
        EXIT_INFO_2: u64 = 0x080;
        /// The event whose delivery the exit interrupted.
        EXIT_INT_INFO: u64 = 0x088;
        /// Nested paging (bit 0) and its neighbours.
        NESTED_CTL: u64 = 0x090;
        /// The event that VMRUN injects.
        EVENT_INJ: u64 = 0x0a8;
        /// Root of the nested page tables.
        N_CR3: u64 = 0x0b0;
        /// LBR virtualization (bit 0), VMLOAD/VMSAVE virtualization (bit 1).
        VIRT_EXT: u64 = 0x0b8;
        /// Clean bits.
        CLEAN: u32 = 0x0c0;
        /// Address of the next instruction, on an intercepted one.
        NRIP: u64 = 0x0c8;
        /// Number of instruction bytes that the decode assist fetched.
        FETCHED: u8 = 0x0d0;
        /// CPL.
        CPL: u8 = 0x4cb;
        /// EFER.
        EFER: u64 = 0x4d0;
        /// CR4.
        CR4: u64 = 0x548;
        /// CR3.
        CR3: u64 = 0x550;
        /// CR0.
        CR0: u64 = 0x558;
        /// DR7.
        DR7: u64 = 0x560;
        /// DR6.
        DR6: u64 = 0x568;
        /// RFLAGS.
        RFLAGS: u64 = 0x570;
        /// RIP.
        RIP: u64 = 0x578;
        /// RSP.
        RSP: u64 = 0x5d8;
        /// RAX.
        RAX: u64 = 0x5f8;
        /// STAR.
        STAR: u64 = 0x600;
        /// LSTAR.
        LSTAR: u64 = 0x608;
        /// CSTAR.
        CSTAR: u64 = 0x610;
        /// SFMASK.
        SFMASK: u64 = 0x618;
        /// KernelGSBase.
        KERNEL_GS_BASE: u64 = 0x620;
        /// SYSENTER_CS.
        SYSENTER_CS: u64 = 0x628;
        /// SYSENTER_ESP.
        SYSENTER_ESP: u64 = 0x630;
        /// SYSENTER_EIP.
        SYSENTER_EIP: u64 = 0x638;
        /// CR2.
        CR2: u64 = 0x640;
        /// The guest's PAT, with nested paging.
        G_PAT: u64 = 0x668;
        /// DebugCtl, with LBR virtualization.
        DBGCTL: u64 = 0x670;
        /// LastBranchFromIP.
        BR_FROM: u64 = 0x678;
        /// LastBranchToIP.
        BR_TO: u64 = 0x680;
        /// LastIntFromIP.
        LAST_EXCEPTION_FROM: u64 = 0x688;
        /// LastIntToIP.
        LAST_EXCEPTION_TO: u64 = 0x690;
    }
}

/// A segment register, by the offset of its 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment(pub usize);

#[expect(missing_docs, reason = "named by the manual's mnemonics")]
impl Segment {
    pub const ES: Segment = Segment(0x400);
    pub const CS: Segment = Segment(0x410);
    pub const SS: Segment = Segment(0x420);
    pub const DS: Segment = Segment(0x430);
    pub const FS: Segment = Segment(0x440);
    pub const GS: Segment = Segment(0x450);
    pub const GDTR: Segment = Segment(0x460);
    pub const LDTR: Segment = Segment(0x470);
    pub const IDTR: Segment = Segment(0x480);
    pub const TR: Segment = Segment(0x490);
}

impl Segment {
    /// The selector.
    pub const fn selector(self) -> Field<u16> {
        Field::at(self.0)
    }
    /// Attributes: descriptor bits 55:52 and 47:40, joined.
    pub const fn attributes(self) -> Field<u16> {
        Field::at(self.0 + 2)
    }
    /// The limit, expanded.
    pub const fn limit(self) -> Field<u32> {
        Field::at(self.0 + 4)
    }
    /// The base.
    pub const fn base(self) -> Field<u64> {
        Field::at(self.0 + 8)
    }
}

/// Bits of [`field::INTERCEPT_1`] (below 32) and [`field::INTERCEPT_2`] (from 32 on).
#[expect(missing_docs, reason = "named by the manual's words")]
pub mod intercept {
    pub const INTR: u32 = 0;
    pub const NMI: u32 = 1;
    pub const SMI: u32 = 2;
    pub const INIT: u32 = 3;
    pub const VINTR: u32 = 4;
    pub const CR0_SELECTIVE: u32 = 5;
    pub const IDTR_READ: u32 = 6;
    pub const GDTR_READ: u32 = 7;
    pub const LDTR_READ: u32 = 8;
    pub const TR_READ: u32 = 9;
    pub const IDTR_WRITE: u32 = 10;
    pub const GDTR_WRITE: u32 = 11;
    pub const LDTR_WRITE: u32 = 12;
    pub const TR_WRITE: u32 = 13;
    pub const RDTSC: u32 = 14;
    pub const RDPMC: u32 = 15;
    pub const PUSHF: u32 = 16;
    pub const POPF: u32 = 17;
    pub const CPUID: u32 = 18;
    pub const RSM: u32 = 19;
    pub const IRET: u32 = 20;
    pub const INTN: u32 = 21;
    pub const INVD: u32 = 22;
    pub const PAUSE: u32 = 23;
    pub const HLT: u32 = 24;
    pub const INVLPG: u32 = 25;
    pub const INVLPGA: u32 = 26;
    pub const IOIO: u32 = 27;
    pub const MSR: u32 = 28;
    pub const TASK_SWITCH: u32 = 29;
    pub const FERR_FREEZE: u32 = 30;
    pub const SHUTDOWN: u32 = 31;
    pub const VMRUN: u32 = 32;
    pub const VMMCALL: u32 = 33;
    pub const VMLOAD: u32 = 34;
    pub const VMSAVE: u32 = 35;
    pub const STGI: u32 = 36;
    pub const CLGI: u32 = 37;
    pub const SKINIT: u32 = 38;
    pub const RDTSCP: u32 = 39;
    pub const ICEBP: u32 = 40;
    pub const WBINVD: u32 = 41;
    pub const MONITOR: u32 = 42;
    pub const MWAIT: u32 = 43;
    pub const MWAIT_ARMED: u32 = 44;
    pub const XSETBV: u32 = 45;
    pub const RDPRU: u32 = 46;
}

/// Bits of [`field::INT_CTL`].
pub mod int_ctl {
    /// V_TPR of priority `class`.
    pub const fn v_tpr(class: u64) -> u64 {
        class
    }
    /// V_IRQ: a virtual interrupt is pending.
    pub const V_IRQ: u64 = 1 << 8;
    /// V_GIF.
    pub const V_GIF: u64 = 1 << 9;
    /// V_INTR_PRIO.
    pub const fn v_intr_prio(class: u64) -> u64 {
        class << 16
    }
    /// V_IGN_TPR.
    pub const V_IGN_TPR: u64 = 1 << 20;
    /// V_INTR_MASKING.
    pub const V_INTR_MASKING: u64 = 1 << 24;
    /// Virtual GIF is enabled.
    pub const V_GIF_ENABLE: u64 = 1 << 25;
    /// V_INTR_VECTOR.
    pub const fn v_intr_vector(vector: u8) -> u64 {
        (vector as u64) << 32
    }
}

/// A control block in a frame of its own.
#[derive(Debug)]
pub struct Vmcb {
    frame: Frames,
}

impl Vmcb {
    /// All zeroes: no processor enters it.
    pub fn zeroed() -> Self {
        Vmcb {
            frame: Frames::new(1),
        }
    }

    /// Its physical address.
    pub fn address(&self) -> u64 {
        self.frame.address()
    }

    /// Reads a field.
    pub fn get<T: Plain>(&self, field: Field<T>) -> T {
        self.frame.read(field.offset)
    }

    /// Writes a field, any value.
    pub fn set<T: Plain>(&self, field: Field<T>, value: T) {
        self.frame.write(field.offset, value);
    }

    /// Changes a field.
    pub fn update<T: Plain>(&self, field: Field<T>, change: impl FnOnce(T) -> T) {
        self.set(field, change(self.get(field)));
    }

    /// Turns an intercept of [`intercept`] on or off.
    pub fn intercept(&self, bit: u32, on: bool) {
        let field = if bit < 32 {
            field::INTERCEPT_1
        } else {
            field::INTERCEPT_2
        };
        let mask = 1u32 << (bit % 32);
        self.update(field, |old| if on { old | mask } else { old & !mask });
    }

    /// Turns the intercept of an exception vector on or off.
    pub fn intercept_exception(&self, vector: u8, on: bool) {
        let mask = 1u32 << vector;
        self.update(field::INTERCEPT_EXCEPTION, |old| {
            if on { old | mask } else { old & !mask }
        });
    }

    /// The exit code, as wide as it is.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode(self.get(field::EXIT_CODE))
    }

    /// Puts back what [`Vmcb::bytes`] returned.
    pub fn restore(&mut self, bytes: &[u8]) {
        self.frame.bytes_mut().copy_from_slice(bytes);
    }

    /// The bytes of the whole block.
    pub fn bytes(&self) -> &[u8] {
        self.frame.bytes()
    }
}
