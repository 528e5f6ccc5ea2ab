//! How exceptions are delivered. Spec: SDM 3A 6.13, 6.14, 6.15.
//!
//! The vector is rarely wrong; the error code and the choice between neighbouring vectors are,
//! because few operating systems look at them.

use core::sync::atomic::{AtomicU32, Ordering};
use guest_lib::arch::code::Code;
use guest_lib::arch::cpu;
use guest_lib::arch::segments::with_gate;
use guest_lib::prelude::*;

/// A non-canonical address by way of RBP belongs to the stack segment: #SS(0); by way of RBX it is #GP(0).
#[case(spec = "SDM 3A 6.15 #SS")]
fn non_canonical_stack_reference_raises_ss() -> Verdict {
    // mov rbp,2^47; mov rax,[rbp]
    let stack = Code::new(&[
        0x48, 0xbd, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x48, 0x8b, 0x45, 0, 0xc3,
    ]);
    // mov rax,2^47; mov rax,[rax]
    let data = Code::new(&[0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x48, 0x8b, 0, 0xc3]);
    expect_eq!(data.call(), Err(Fault::GP0))?;
    expect_eq!(stack.call(), Err(Fault::ss(0)))?;
    expect_eq!(fault::details().rip, stack.address() + 10)
}

/// INT n from privilege level 3 through a gate of DPL 0 raises #GP(n * 8 + 2); DPL 3 lets it in.
#[case(spec = "SDM 3A 6.13 INT n")]
fn gate_privilege_is_checked_for_int_n() -> Verdict {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    SEEN.store(0, Ordering::Relaxed);
    let _handler = fault::Handler::new(0x60, |_| {
        SEEN.fetch_add(1, Ordering::Relaxed);
    });
    // int 60h; ret
    let code = Code::new(&[0xcd, 0x60, 0xc3]);
    let address = code.address();
    let call = || fault::catch_user(|| cpu::call_raw(address));
    expect_eq!(call(), Err(Fault::gp(0x60 * 8 + 2)))?;
    expect_eq!(SEEN.load(Ordering::Relaxed), 0)?;
    expect_eq!(with_gate(0x60, 3, 0, call).is_ok(), true)?;
    expect_eq!(SEEN.load(Ordering::Relaxed), 1)
}
