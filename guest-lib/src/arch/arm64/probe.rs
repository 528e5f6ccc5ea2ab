//! Single instructions at known addresses, and the registers around one instruction.
//!
//! A case about an exception wants to know where exactly it happened. A [`Probe`] is a function whose
//! first instruction is the one under test, so the exact ELR is the function's address.

use core::arch::global_asm;

/// A function of one instruction and a return.
#[derive(Clone, Copy)]
pub struct Probe(unsafe extern "C" fn(u64, u64) -> u64);

impl Probe {
    /// Executes it with x0 and x1; returns x0.
    #[inline(always)]
    pub fn run(self, x0: u64, x1: u64) -> u64 {
        // SAFETY: S1, S2, S5; the function follows the calling convention. What it does to the machine
        // or to the memory that x0 points to is what the case asks for.
        unsafe { (self.0)(x0, x1) }
    }

    /// Where the instruction is.
    pub fn address(self) -> u64 {
        self.0 as *const () as u64
    }
}

macro_rules! probes {
    ($($(#[doc = $doc:literal])+ $name:ident $symbol:ident $text:literal;)*) => {
        global_asm!(
            ".pushsection .text.arm64_probes, \"ax\"",
            ".arch_extension fp",
            ".arch_extension simd",
            ".balign 64",
            $(concat!(".balign 16\n.global ", stringify!($symbol), "\n", stringify!($symbol), ": ",
                $text, "\nret"),)*
            ".popsection",
        );
        unsafe extern "C" {
            $(fn $symbol(x0: u64, x1: u64) -> u64;)*
        }
        $(
            $(#[doc = $doc])+
            pub const $name: Probe = Probe($symbol);
        )*
    };
}

probes! {
    /// MRS of SCTLR_EL3.
    UNDEFINED arm64_probe_undefined "mrs x0, S3_6_C1_C0_0";
    /// UDF #0.
    UDF arm64_probe_udf "udf #0";
    /// SVC #123.
    SVC arm64_probe_svc "svc #123";
    /// HVC #0 with whatever x0 holds.
    HVC arm64_probe_hvc "hvc #0";
    /// SMC #0 with whatever x0 holds.
    SMC arm64_probe_smc "smc #0";
    /// BRK #0x5a5a.
    BRK arm64_probe_brk "brk #0x5a5a";
    /// LDR X0, [X0].
    LOAD arm64_probe_load "ldr x0, [x0]";
    /// LDR W0, [X0].
    LOAD32 arm64_probe_load32 "ldr w0, [x0]";
    /// LDRSB X0, [X0].
    LOAD_SIGNED8 arm64_probe_ldrsb "ldrsb x0, [x0]";
    /// STR X1, [X0].
    STORE arm64_probe_store "str x1, [x0]";
    /// STRB W1, [X0].
    STORE8 arm64_probe_store8 "strb w1, [x0]";
    /// DC ZVA, X0.
    ZERO arm64_probe_zva "dc zva, x0";
    /// BR X0.
    JUMP arm64_probe_jump "br x0";
    /// MRS X0, CNTVCT_EL0.
    VIRTUAL_COUNT arm64_probe_cntvct "mrs x0, cntvct_el0";
    /// MRS X0, CNTV_CTL_EL0.
    VIRTUAL_TIMER arm64_probe_cntv "mrs x0, cntv_ctl_el0";
    /// MRS X0, CNTP_CTL_EL0.
    PHYSICAL_TIMER arm64_probe_cntp "mrs x0, cntp_ctl_el0";
    /// MRS X0, CNTPCT_EL0.
    PHYSICAL_COUNT arm64_probe_cntpct "mrs x0, cntpct_el0";
    /// Nothing but NOPs; steps and breakpoints go here.
    NOPS arm64_probe_nops "nop\nnop\nnop\nnop";
}

/// Every register that an instruction could touch by mistake.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Stack pointer; set by the call itself.
    pub sp: u64,
    /// q0 to q31, as pairs of 64 bits.
    pub q: [[u64; 2]; 32],
    /// FPCR and FPSR.
    pub fp: [u64; 2],
    /// SP_EL0.
    pub sp_el0: u64,
    /// TPIDR_EL0. The vectors use it, so it is only meaningful for instructions that trap to nobody
    /// here.
    pub tpidr_el0: u64,
    /// NZCV.
    pub nzcv: u64,
}

impl Registers {
    /// Every register holds a number of its own.
    pub fn pattern() -> Self {
        let mut x = [0; 31];
        for (i, x) in x.iter_mut().enumerate() {
            *x = 0x5a00_0000_c3c3_0000 | (i as u64) << 40 | i as u64;
        }
        let mut q = [[0; 2]; 32];
        for (i, q) in q.iter_mut().enumerate() {
            *q = [
                0x1111_0000_2222_0000 | i as u64,
                0x9999_0000_8888_0000 | (i as u64) << 32,
            ];
        }
        let (sp_el0, tpidr_el0) = (0x0123_4567_89ab_cde0, 0x7654_3210_fedc_ba90);
        Registers {
            x,
            sp: 0,
            q,
            fp: [0, 0],
            sp_el0,
            tpidr_el0,
            nzcv: 0xa000_0000,
        }
    }
}

unsafe extern "C" {
    fn arm64_observed_hvc(registers: *mut Registers);
    fn arm64_observed_smc(registers: *mut Registers);
    fn arm64_observed_hvc1(registers: *mut Registers);
    fn arm64_observed_svc(registers: *mut Registers);
    fn arm64_observed_undefined(registers: *mut Registers);
    fn arm64_observed_template(registers: *mut Registers);
    fn arm64_observed_end();
}

global_asm!(
    ".pushsection .text.arm64_observed, \"ax\"",
    ".arch_extension fp",
    ".arch_extension simd",
    ".macro arm64_observed name, instruction:vararg",
    ".global \\name",
    "\\name:",
    "stp x29, x30, [sp, #-112]!",
    "stp x19, x20, [sp, #16]",
    "stp x21, x22, [sp, #32]",
    "stp x23, x24, [sp, #48]",
    "stp x25, x26, [sp, #64]",
    "stp x27, x28, [sp, #80]",
    "stp x0, x18, [sp, #96]",
    // Where x0 points is needed afterwards, and every register is in use: TPIDRRO_EL0 holds it.
    "mrs x1, tpidrro_el0",
    "str x1, [sp, #-16]!",
    "msr tpidrro_el0, x0",
    "mov x1, sp",
    "str x1, [x0, #248]",
    ".irp r, 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30",
    "ldr q\\r, [x0, #256 + \\r * 16]",
    ".endr",
    ".irp r, 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31",
    "ldr q\\r, [x0, #256 + \\r * 16]",
    ".endr",
    "ldr x1, [x0, #784]",
    "msr sp_el0, x1",
    "ldr x1, [x0, #792]",
    "msr tpidr_el0, x1",
    "ldr x1, [x0, #800]",
    "msr nzcv, x1",
    "ldp x1, x2, [x0, #8]",
    "ldp x3, x4, [x0, #24]",
    "ldp x5, x6, [x0, #40]",
    "ldp x7, x8, [x0, #56]",
    "ldp x9, x10, [x0, #72]",
    "ldp x11, x12, [x0, #88]",
    "ldp x13, x14, [x0, #104]",
    "ldp x15, x16, [x0, #120]",
    "ldp x17, x18, [x0, #136]",
    "ldp x19, x20, [x0, #152]",
    "ldp x21, x22, [x0, #168]",
    "ldp x23, x24, [x0, #184]",
    "ldp x25, x26, [x0, #200]",
    "ldp x27, x28, [x0, #216]",
    "ldp x29, x30, [x0, #232]",
    "ldr x0, [x0]",
    "\\instruction",
    "str x0, [sp, #-16]!",
    "mrs x0, tpidrro_el0",
    "stp x1, x2, [x0, #8]",
    "mrs x1, nzcv",
    "str x1, [x0, #800]",
    "stp x3, x4, [x0, #24]",
    "stp x5, x6, [x0, #40]",
    "stp x7, x8, [x0, #56]",
    "stp x9, x10, [x0, #72]",
    "stp x11, x12, [x0, #88]",
    "stp x13, x14, [x0, #104]",
    "stp x15, x16, [x0, #120]",
    "stp x17, x18, [x0, #136]",
    "stp x19, x20, [x0, #152]",
    "stp x21, x22, [x0, #168]",
    "stp x23, x24, [x0, #184]",
    "stp x25, x26, [x0, #200]",
    "stp x27, x28, [x0, #216]",
    "stp x29, x30, [x0, #232]",
    "ldr x1, [sp], #16",
    "str x1, [x0]",
    "mov x1, sp",
    "ldr x2, [x0, #248]",
    "sub x1, x1, x2",
    "str x1, [x0, #248]",
    "mov sp, x2",
    ".irp r, 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30",
    "str q\\r, [x0, #256 + \\r * 16]",
    ".endr",
    ".irp r, 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31",
    "str q\\r, [x0, #256 + \\r * 16]",
    ".endr",
    "mrs x1, fpcr",
    "mrs x2, fpsr",
    "str x1, [x0, #768]",
    "str x2, [x0, #776]",
    "mrs x1, sp_el0",
    "mrs x2, tpidr_el0",
    "str x1, [x0, #784]",
    "str x2, [x0, #792]",
    "ldr x1, [sp], #16",
    "msr tpidrro_el0, x1",
    "ldp x19, x20, [sp, #16]",
    "ldp x21, x22, [sp, #32]",
    "ldp x23, x24, [sp, #48]",
    "ldp x25, x26, [sp, #64]",
    "ldp x27, x28, [sp, #80]",
    "ldr x18, [sp, #104]",
    "ldp x29, x30, [sp], #112",
    "ret",
    ".endm",
    "arm64_observed arm64_observed_hvc, hvc #0",
    "arm64_observed arm64_observed_smc, smc #0",
    "arm64_observed arm64_observed_hvc1, hvc #1",
    "arm64_observed arm64_observed_svc, svc #123",
    "arm64_observed arm64_observed_undefined, mrs x0, S3_6_C1_C0_0",
    ".macro arm64_eight_nops",
    ".rept 8",
    "nop",
    ".endr",
    ".endm",
    "arm64_observed arm64_observed_template, arm64_eight_nops",
    ".global arm64_observed_end",
    "arm64_observed_end:",
    ".popsection",
);

/// Which instruction is observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instruction {
    /// HVC #0.
    Hvc,
    /// HVC #1.
    Hvc1,
    /// SMC #0.
    Smc,
    /// SVC #123.
    Svc,
    /// MRS of SCTLR_EL3, which is undefined below EL3.
    Undefined,
}

/// One instruction with every register set from `registers`; every register as it is afterwards. `sp`
/// of the result is the difference to the stack pointer before: zero when it was preserved.
pub fn observed(instruction: Instruction, registers: &Registers) -> Registers {
    let mut all = *registers;
    let stub = match instruction {
        Instruction::Hvc => arm64_observed_hvc,
        Instruction::Hvc1 => arm64_observed_hvc1,
        Instruction::Smc => arm64_observed_smc,
        Instruction::Svc => arm64_observed_svc,
        Instruction::Undefined => arm64_observed_undefined,
    };
    // SAFETY: S1, S5; the stub saves what Rust needs, and the instruction changes no memory.
    unsafe { stub(&raw mut all) };
    all
}

/// The code of [`observed`] with eight NOPs where the instruction stands; [`super::code`] copies it.
pub(super) fn observed_template() -> &'static [u32] {
    let start = arm64_observed_template as *const () as usize;
    let end = arm64_observed_end as *const () as usize;
    // SAFETY: code between two labels of this file, which nobody writes.
    unsafe { core::slice::from_raw_parts(start as *const u32, (end - start) / 4) }
}
