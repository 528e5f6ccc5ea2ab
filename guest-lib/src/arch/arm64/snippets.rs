//! Short pieces of assembly for [`super::code`], by name. Each is a list of instruction words.

use core::arch::global_asm;

/// Instruction words, assembled at build time.
#[derive(Clone, Copy)]
pub struct Snippet {
    start: unsafe extern "C" fn(),
    end: unsafe extern "C" fn(),
}

impl Snippet {
    /// The words.
    pub fn words(&self) -> &'static [u32] {
        let (start, end) = (
            self.start as *const () as usize,
            self.end as *const () as usize,
        );
        // SAFETY: code between two labels of this file, which nobody writes.
        unsafe { core::slice::from_raw_parts(start as *const u32, (end - start) / 4) }
    }
}

macro_rules! snippets {
    ($($(#[doc = $doc:literal])+ $name:ident $symbol:ident $end:ident $text:literal;)*) => {
        global_asm!(
            ".pushsection .text.arm64_snippets, \"ax\"",
            ".arch_extension fp",
            ".arch_extension simd",
            ".balign 8",
            $(concat!(".global ", stringify!($symbol), "\n", stringify!($symbol), ":\n", $text,
                "\n.global ", stringify!($end), "\n", stringify!($end), ":\nnop"),)*
            ".popsection",
        );
        unsafe extern "C" {
            $(fn $symbol(); fn $end();)*
        }
        $(
            $(#[doc = $doc])+
            pub const $name: Snippet = Snippet { start: $symbol, end: $end };
        )*
    };
}

// Device accesses. The address is in x1, what is loaded or stored in x0 and x2.
snippets! {
    /// LDRB W0.
    LDRB arm64_s_ldrb arm64_e_ldrb "ldrb w0, [x1]";
    /// LDRH W0.
    LDRH arm64_s_ldrh arm64_e_ldrh "ldrh w0, [x1]";
    /// LDR W0.
    LDR_W arm64_s_ldrw arm64_e_ldrw "ldr w0, [x1]";
    /// LDR X0.
    LDR_X arm64_s_ldrx arm64_e_ldrx "ldr x0, [x1]";
    /// LDRSB W0.
    LDRSB_W arm64_s_ldrsbw arm64_e_ldrsbw "ldrsb w0, [x1]";
    /// LDRSB X0.
    LDRSB_X arm64_s_ldrsbx arm64_e_ldrsbx "ldrsb x0, [x1]";
    /// LDRSH W0.
    LDRSH_W arm64_s_ldrshw arm64_e_ldrshw "ldrsh w0, [x1]";
    /// LDRSH X0.
    LDRSH_X arm64_s_ldrshx arm64_e_ldrshx "ldrsh x0, [x1]";
    /// LDRSW X0.
    LDRSW arm64_s_ldrsw arm64_e_ldrsw "ldrsw x0, [x1]";
    /// LDAR W0.
    LDAR_W arm64_s_ldar arm64_e_ldar "ldar w0, [x1]";
    /// LDARB W0.
    LDARB arm64_s_ldarb arm64_e_ldarb "ldarb w0, [x1]";
    /// LDUR W0 with a negative offset; x1 - 4 is the device.
    LDUR_W arm64_s_ldur arm64_e_ldur "add x1, x1, #4\nldur w0, [x1, #-4]\nsub x1, x1, #4";
    /// LDR W0 with a register offset: x1 + (w3 << 2).
    LDR_OFFSET arm64_s_ldro arm64_e_ldro "ldr w0, [x1, w3, uxtw #2]";
    /// LDR W0, post-indexed by 4.
    LDR_POST arm64_s_ldrpost arm64_e_ldrpost "ldr w0, [x1], #4";
    /// LDR W0, pre-indexed by 4.
    LDR_PRE arm64_s_ldrpre arm64_e_ldrpre "ldr w0, [x1, #4]!";
    /// LDRB W0, post-indexed by 1.
    LDRB_POST arm64_s_ldrbpost arm64_e_ldrbpost "ldrb w0, [x1], #1";
    /// LDP W0, W2.
    LDP_W arm64_s_ldpw arm64_e_ldpw "ldp w0, w2, [x1]";
    /// LDPSW X0, X2.
    LDPSW arm64_s_ldpsw arm64_e_ldpsw "ldpsw x0, x2, [x1]";
    /// LDR S0.
    LDR_S arm64_s_ldrs arm64_e_ldrs "ldr s0, [x1]";
    /// LDR D0.
    LDR_D arm64_s_ldrd arm64_e_ldrd "ldr d0, [x1]";
    /// LD1 of one lane of four bytes.
    LD1_LANE arm64_s_ld1 arm64_e_ld1 "ld1 {{v0.s}}[1], [x1]";
    /// LDR WZR.
    LDR_WZR arm64_s_ldrwzr arm64_e_ldrwzr "ldr wzr, [x1]";
    /// LDRB WZR.
    LDRB_WZR arm64_s_ldrbwzr arm64_e_ldrbwzr "ldrb wzr, [x1]";
    /// LDR X30 from the stack pointer, which holds the device's address meanwhile.
    LDR_X30_SP arm64_s_ldr30 arm64_e_ldr30 "mov x9, sp\nmov sp, x1\nldr x30, [sp]\nmov sp, x9";
    /// LDR W30 from the stack pointer.
    LDR_W30_SP arm64_s_ldrw30 arm64_e_ldrw30 "mov x9, sp\nmov sp, x1\nldr w30, [sp]\nmov sp, x9";
    /// LDRB W30 from the stack pointer.
    LDRB_W30_SP arm64_s_ldrb30 arm64_e_ldrb30 "mov x9, sp\nmov sp, x1\nldrb w30, [sp]\nmov sp, x9";
    /// A load whose base is its destination.
    LDR_OWN_BASE arm64_s_ldrown arm64_e_ldrown "ldr x1, [x1]";
    /// ADD X10, X10, #1: shows whether the instruction behind an access ran, and how often.
    COUNT arm64_s_count arm64_e_count "add x10, x10, #1";
    /// STRB W0.
    STRB arm64_s_strb arm64_e_strb "strb w0, [x1]";
    /// STRH W0.
    STRH arm64_s_strh arm64_e_strh "strh w0, [x1]";
    /// STR W0.
    STR_W arm64_s_strw arm64_e_strw "str w0, [x1]";
    /// STR X0.
    STR_X arm64_s_strx arm64_e_strx "str x0, [x1]";
    /// STR WZR.
    STR_WZR arm64_s_strwzr arm64_e_strwzr "str wzr, [x1]";
    /// STRB WZR.
    STRB_WZR arm64_s_strbwzr arm64_e_strbwzr "strb wzr, [x1]";
    /// STR XZR.
    STR_XZR arm64_s_strxzr arm64_e_strxzr "str xzr, [x1]";
    /// STLR W0.
    STLR_W arm64_s_stlr arm64_e_stlr "stlr w0, [x1]";
    /// STR W0, post-indexed by 4.
    STR_POST arm64_s_strpost arm64_e_strpost "str w0, [x1], #4";
    /// STR W0, pre-indexed by 4.
    STR_PRE arm64_s_strpre arm64_e_strpre "str w0, [x1, #4]!";
    /// STP W0, W2.
    STP_W arm64_s_stpw arm64_e_stpw "stp w0, w2, [x1]";
    /// STR S0.
    STR_S arm64_s_strs arm64_e_strs "str s0, [x1]";
    /// STR W30 to the stack pointer, which holds the device's address meanwhile.
    STR_W30_SP arm64_s_strw30 arm64_e_strw30 "mov x9, sp\nmov sp, x1\nstr w30, [sp]\nmov sp, x9";
}

// State and control flow.
snippets! {
    /// LDR of the stack pointer's own word, then SVC #1: wants an aligned stack pointer.
    SP_LOAD arm64_s_spload arm64_e_spload "ldr x0, [sp]\nsvc #1";
    /// LDR X0, [X1], then SVC #1.
    LOAD_SVC arm64_s_loadsvc arm64_e_loadsvc "ldr x0, [x1]\nsvc #1";
    /// STR X0, [X1], then SVC #1.
    STORE_SVC arm64_s_storesvc arm64_e_storesvc "str x0, [x1]\nsvc #1";
    /// LDXR X0, [X1], then SVC #1.
    EXCLUSIVE_SVC arm64_s_exclsvc arm64_e_exclsvc "ldxr x0, [x1]\nsvc #1";
    /// LDAR X0, [X1], then SVC #1.
    ACQUIRE_SVC arm64_s_acqsvc arm64_e_acqsvc "ldar x0, [x1]\nsvc #1";
    /// DC CVAC, X1, then SVC #1.
    CLEAN_SVC arm64_s_cvac arm64_e_cvac "dc cvac, x1\nsvc #1";
    /// DC CIVAC, X1, then SVC #1.
    CLEAN_INVALIDATE_SVC arm64_s_civac arm64_e_civac "dc civac, x1\nsvc #1";
    /// DC IVAC, X1, then SVC #1.
    INVALIDATE_SVC arm64_s_ivac arm64_e_ivac "dc ivac, x1\nsvc #1";
    /// DC ZVA, X1, then SVC #1.
    ZERO_SVC arm64_s_zva arm64_e_zva "dc zva, x1\nsvc #1";
    /// BLR X1, then SVC #1.
    CALL_SVC arm64_s_callsvc arm64_e_callsvc "blr x1\nsvc #1";
    /// WFI, then SVC #1.
    WFI_SVC arm64_s_wfisvc arm64_e_wfisvc "wfi\nsvc #1";
    /// WFE, then SVC #1; SEVL before, so that it does not wait.
    WFE_SVC arm64_s_wfesvc arm64_e_wfesvc "sevl\nwfe\nsvc #1";
    /// WFE without an event.
    WFE_COLD_SVC arm64_s_wfecold arm64_e_wfecold "sevl\nwfe\nwfe\nsvc #1";
    /// ERET.
    ERET arm64_s_eret arm64_e_eret "eret";
    /// FMOV D0, X0, then SVC #1.
    FLOAT_SVC arm64_s_fmovsvc arm64_e_fmovsvc "fmov d0, x0\nsvc #1";
    /// Three additions, then SVC #1.
    ADDS arm64_s_adds arm64_e_adds "add x0, x0, #1\nadd x0, x0, #1\nadd x0, x0, #1\nsvc #1";
    /// MSR DAIFCLR, #4 and ISB: opens SError; then ADD X0, #1 and HVC #1.
    OPEN_SERROR_HVC arm64_s_serror arm64_e_serror "msr daifclr, #4\nisb\nadd x0, x0, #1\nhvc #1";
    /// MSR DAIFCLR, #2 and ISB: opens IRQ; then ADD X0, #1 and HVC #1.
    OPEN_IRQ_HVC arm64_s_openirq arm64_e_openirq "msr daifclr, #2\nisb\nadd x0, x0, #1\nhvc #1";
    /// MRS X0, ISR_EL1, then HVC #1.
    PENDING_HVC arm64_s_isr arm64_e_isr "mrs x0, isr_el1\nhvc #1";
    /// SMC #3.
    SMC arm64_s_smc arm64_e_smc "smc #3\nhvc #1";
    /// LDR X0, [X1], then HVC #1.
    LOAD_HVC arm64_s_loadhvc arm64_e_loadhvc "ldr x0, [x1]\nhvc #1";
    /// STR X0, [X1], then HVC #1.
    STORE_HVC arm64_s_storehvc arm64_e_storehvc "str x0, [x1]\nhvc #1";
    /// LDRSB W5, [X1], then HVC #1.
    LOAD_SIGNED_HVC arm64_s_ldrsbhvc arm64_e_ldrsbhvc "ldrsb w5, [x1]\nhvc #1";
    /// BLR X1, then HVC #1.
    CALL_HVC arm64_s_callhvc arm64_e_callhvc "blr x1\nhvc #1";
    /// WFI, then HVC #1.
    WFI_HVC arm64_s_wfihvc arm64_e_wfihvc "wfi\nhvc #1";
}
