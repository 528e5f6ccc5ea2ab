//! Control-flow enforcement: shadow stacks and indirect-branch tracking.
//! Spec: SDM 1 17, SDM 3A 4.6.
//!
//! A payload is compiled without CET, so it cannot run with it: its RETs would meet a shadow
//! stack that its CALLs never filled. [`Cet`] therefore runs machine code with CET on, for that
//! code alone: [`Cet::user`] at privilege level 3, [`Cet::supervisor`] at level 0. A fault ends
//! either, as a value; the trap handler turns supervisor CET off before it goes back.

use super::paging::{self, AddressSpace};
use super::registers::{Cr4, SavedControl};
use super::segments::{self, PER_CPU, this_cpu};
use super::{cpu, msr};
use crate::case::{Fixture, Stop};
use crate::fault::{self, Fault};
use crate::memory::Frames;
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// IA32_U_CET.
pub const U_CET: u32 = 0x6a0;
/// IA32_S_CET.
pub const S_CET: u32 = 0x6a2;
/// IA32_PL0_SSP; those of levels 1 to 3 follow.
pub const PL0_SSP: u32 = 0x6a4;
/// IA32_PL3_SSP.
pub const PL3_SSP: u32 = 0x6a7;
/// IA32_INTERRUPT_SSP_TABLE_ADDR.
pub const SSP_TABLE: u32 = 0x6a8;
/// IA32_XSS.
pub const XSS: u32 = 0xda0;

/// U_CET and S_CET: shadow stacks.
pub const SH_STK_EN: u64 = 1 << 0;
/// WRSS.
pub const WR_SHSTK_EN: u64 = 1 << 1;
/// Indirect-branch tracking.
pub const ENDBR_EN: u64 = 1 << 2;
/// The legacy code-page bitmap.
pub const LEG_IW_EN: u64 = 1 << 3;
/// The no-track prefix.
pub const NO_TRACK_EN: u64 = 1 << 4;
/// No suppression on a legacy hit.
pub const SUPPRESS_DIS: u64 = 1 << 5;
/// Tracking is suppressed.
pub const SUPPRESS: u64 = 1 << 10;
/// The tracker waits for ENDBRANCH.
pub const TRACKER: u64 = 1 << 11;

/// #CP error code: near RET.
pub const CP_NEAR_RET: u32 = 1;
/// #CP error code: far RET or IRET.
pub const CP_FAR_RET: u32 = 2;
/// #CP error code: missing ENDBRANCH.
pub const CP_ENDBRANCH: u32 = 3;
/// #CP error code: RSTORSSP.
pub const CP_RSTORSSP: u32 = 4;
/// #CP error code: SETSSBSY.
pub const CP_SETSSBSY: u32 = 5;
/// Page-fault error code: a shadow-stack access.
pub const PF_SS: u32 = 1 << 6;

/// Linear address of the user shadow stack: one page.
pub const USER_STACK: u64 = paging::FREE_BASE + 0x10_0000;
/// Linear address of a second user shadow stack: one page.
pub const USER_STACK_2: u64 = USER_STACK + 0x2000;
/// Linear address of the supervisor shadow stack that [`Cet::supervisor`] starts on: one page.
pub const SUPERVISOR_STACK: u64 = USER_STACK + 0x4000;
/// Linear address of a second supervisor shadow stack: one page.
pub const SUPERVISOR_STACK_2: u64 = USER_STACK + 0x6000;
/// Leaf of a user shadow-stack page, without its address.
pub const USER_LEAF: u64 = paging::P | paging::U | paging::A | paging::D;
/// Leaf of a supervisor shadow-stack page, without its address.
pub const SUPERVISOR_LEAF: u64 = paging::P | paging::A | paging::D;

/// A supervisor shadow stack's token lies in its highest word.
pub const TOKEN: u64 = 4088;

unsafe extern "C" {
    fn assay_cet_user(
        code: u64,
        data: u64,
        slot: *mut fault::Recovery,
        cr3: u64,
        stack: u64,
        rsp0: *mut u64,
    ) -> u64;
    fn assay_cet_supervisor(code: u64, data: u64, s_cet: u64) -> u64;
}

global_asm!(
    ".global assay_cet_user, assay_cet_supervisor",
    // The frame that `assay_recover` takes apart; see `fault`. rdi code, rsi data, rdx slot,
    // rcx cr3, r8 stack, r9 &tss.rsp0
    "assay_cet_user:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "pushfq",
    "mov rax, cr3",
    "push rax",
    "push qword ptr [rdx]",
    "push rdx",
    "mov [rdx], rsp",
    "mov [r9], rsp",
    "mov cr3, rcx",
    // Supervisor CET for the way back: on, with a shadow stack, and the next one in PL0_SSP.
    "mov rax, [{supervisor}]",
    "test eax, eax",
    "jz 2f",
    "xor edx, edx",
    "mov ecx, {s_cet}",
    "wrmsr",
    ".byte 0xf3, 0x0f, 0x01, 0xe8",
    "mov rax, [{next}]",
    "mov rdx, rax",
    "shr rdx, 32",
    "mov ecx, {pl0_ssp}",
    "wrmsr",
    "2:",
    "push {user_data}",
    "push r8",
    "pushfq",
    "push {user_code}",
    "push rdi",
    "mov rdi, rsi",
    "xor eax, eax",
    "iretq",
    // rdi code, rsi data, rdx S_CET. SETSSBSY gives SSP a value before anything uses it.
    "assay_cet_supervisor:",
    "mov r8, rdi",
    "mov rdi, rsi",
    "mov rax, rdx",
    "mov r9, rdx",
    "shr rdx, 32",
    "mov ecx, {s_cet}",
    "wrmsr",
    "test r9, 1",
    "jz 2f",
    ".byte 0xf3, 0x0f, 0x01, 0xe8",
    "2:",
    "xor eax, eax",
    "call r8",
    "mov r8, rax",
    "xor eax, eax",
    "xor edx, edx",
    "mov ecx, {s_cet}",
    "wrmsr",
    "mov rax, r8",
    "ret",
    user_data = const segments::USER_DATA,
    user_code = const segments::USER_CODE,
    s_cet = const S_CET,
    pl0_ssp = const PL0_SSP,
    supervisor = sym SUPERVISOR,
    next = sym NEXT,
);

/// S_CET for the way back from user code, or 0.
static SUPERVISOR: AtomicU64 = AtomicU64::new(0);
/// PL0_SSP for the way back.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// CET at work: CR4.CET is 1, all its MSRs are 0, and shadow stacks are mapped.
#[derive(Debug)]
pub struct Cet {
    /// The payload as user memory, and the shadow stacks.
    pub space: AddressSpace,
    /// What lies at [`USER_STACK`].
    pub user_stack: Frames,
    /// What lies at [`USER_STACK_2`].
    pub user_stack_2: Frames,
    /// What lies at [`SUPERVISOR_STACK`].
    pub supervisor_stack: Frames,
    /// What lies at [`SUPERVISOR_STACK_2`].
    pub supervisor_stack_2: Frames,
    /// SSP that [`Cet::user`] starts with.
    pub user_ssp: u64,
    /// SSP at the end of the last user code.
    pub ssp_after: u64,
    /// IA32_U_CET at the end of the last user code.
    pub u_cet_after: u64,
    _saved: SavedControl,
}

/// Machine code that ends user code: INT 81h.
const USER_END: [u8; 2] = [0xcd, fault::USER_END as u8];

fn end_user_cet() {
    for number in [U_CET, PL3_SSP] {
        // Bits 0 are taken by any processor that has the MSR.
        let _ = msr::write(number, 0);
    }
}

/// Turns supervisor CET off: what the trap handler does before it leaves a shadow stack behind.
pub(super) fn abandon_supervisor() {
    if cpu::read_cr4() & Cr4::CET.bits() != 0 {
        // SAFETY: WRMSR of a value that the MSR takes, without `catch`, which would return
        // through frames that the shadow stack does not know.
        unsafe {
            core::arch::asm!("wrmsr", in("ecx") S_CET, in("eax") 0, in("edx") 0, options(nostack));
        }
    }
}

impl Cet {
    /// Runs `code` at level 3 with `u_cet` in force and `data` in RDI. The code must fault, or
    /// run to its end, where INT 81h is added; it may change any register.
    pub fn user(&mut self, u_cet: u64, code: &[u8], data: u64) -> Result<(), Fault> {
        let mut page = Frames::new(1);
        page.bytes_mut()[..code.len()].copy_from_slice(code);
        page.bytes_mut()[code.len()..code.len() + 2].copy_from_slice(&USER_END);
        self.user_at(u_cet, page.address(), data)
    }

    /// As [`Cet::user_at`], with supervisor shadow stacks on: level 3 is entered from
    /// [`SUPERVISOR_STACK`], and the next event finds `pl0_ssp` in IA32_PL0_SSP.
    pub fn user_under_supervisor(
        &mut self,
        u_cet: u64,
        code: u64,
        pl0_ssp: u64,
    ) -> Result<(), Fault> {
        let token = SUPERVISOR_STACK + TOKEN;
        self.supervisor_stack.write(TOKEN as usize, token);
        msr::write(PL0_SSP, token)?;
        SUPERVISOR.store(SH_STK_EN, Ordering::Relaxed);
        NEXT.store(pl0_ssp, Ordering::Relaxed);
        let result = self.user_at(u_cet, code, 0);
        SUPERVISOR.store(0, Ordering::Relaxed);
        result
    }

    /// As [`Cet::user`], for code at an address, which ends with INT 81h itself.
    pub fn user_at(&mut self, u_cet: u64, code: u64, data: u64) -> Result<(), Fault> {
        let stack = Frames::new(4);
        let top = stack.address() + stack.len() as u64;
        msr::write(U_CET, u_cet)?;
        if u_cet & SH_STK_EN != 0 {
            msr::write(PL3_SSP, self.user_ssp)?;
        }
        let per_cpu = &PER_CPU[this_cpu()];
        let slot = per_cpu.recovery.get();
        let root = self.space.root();
        // SAFETY: slot and TSS are this processor's; the code is the case's business.
        let faulted = unsafe {
            let rsp0 = (&raw mut (*per_cpu.tss.get()).rsp).cast::<u64>();
            assay_cet_user(code, data, slot, root, top, rsp0)
        };
        self.ssp_after = msr::read(PL3_SSP).unwrap_or(0);
        self.u_cet_after = msr::read(U_CET).unwrap_or(0);
        end_user_cet();
        if faulted != 0 {
            return Err(fault::last());
        }
        Ok(())
    }

    /// Runs `code` at level 0 with `s_cet` in force and `data` in RDI; returns RAX. With shadow
    /// stacks, SSP is that of [`SUPERVISOR_STACK`], less the return address of the code.
    ///
    /// `code` must fault, or run to its end, where RET is added; it keeps the registers that a
    /// function keeps.
    pub fn supervisor(&mut self, s_cet: u64, code: &[u8], data: u64) -> Result<u64, Fault> {
        let mut page = Frames::new(1);
        page.bytes_mut()[..code.len()].copy_from_slice(code);
        page.bytes_mut()[code.len()] = 0xc3;
        self.supervisor_at(s_cet, page.address(), data)
    }

    /// As [`Cet::supervisor`], for code at an address, which ends with RET itself.
    pub fn supervisor_at(&mut self, s_cet: u64, code: u64, data: u64) -> Result<u64, Fault> {
        let token = SUPERVISOR_STACK + TOKEN;
        self.supervisor_stack.write(TOKEN as usize, token);
        msr::write(PL0_SSP, token)?;
        // SAFETY: the code is the case's business; a fault abandons the shadow stack.
        self.space
            .with(|| fault::catch(|| unsafe { assay_cet_supervisor(code, data, s_cet) }))
    }
}

impl Fixture for Cet {
    fn fresh() -> Result<Self, Stop> {
        let saved = SavedControl::new();
        if !super::has("x86.cet_ss") && !super::has("x86.cet_ibt") {
            return crate::case::skip("x86.cet_ss");
        }
        (Cr4::read() | Cr4::CET).write()?;
        let mut space = AddressSpace::new(true);
        let [
            user_stack,
            user_stack_2,
            supervisor_stack,
            supervisor_stack_2,
        ] = [0; 4].map(|_| Frames::new(1));
        for (linear, frames, leaf) in [
            (USER_STACK, &user_stack, USER_LEAF),
            (USER_STACK_2, &user_stack_2, USER_LEAF),
            (SUPERVISOR_STACK, &supervisor_stack, SUPERVISOR_LEAF),
            (SUPERVISOR_STACK_2, &supervisor_stack_2, SUPERVISOR_LEAF),
        ] {
            space.set(linear, 1, frames.address() | leaf);
        }
        Ok(Cet {
            space,
            user_stack,
            user_stack_2,
            supervisor_stack,
            supervisor_stack_2,
            user_ssp: USER_STACK + 4096,
            ssp_after: 0,
            u_cet_after: 0,
            _saved: saved,
        })
    }
}

impl Drop for Cet {
    fn drop(&mut self) {
        end_user_cet();
        for number in [S_CET, PL0_SSP, PL0_SSP + 1, PL0_SSP + 2, SSP_TABLE] {
            // A processor with one of the two features alone may lack some.
            let _ = msr::write(number, 0);
        }
    }
}
