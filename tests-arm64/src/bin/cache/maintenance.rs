//! Cache maintenance instructions. Spec: DDI0487 C5.3, D24.2 SCTLR_EL1.
//!
//! Maintenance by address changes no data, is open to EL0 only as SCTLR_EL1.UCI says, and asks for the
//! permissions of a read. A hypervisor traps some of it to keep track of caches, and must then do what
//! the guest asked for.

use guest_lib::arch::code::{self, Code, Register};
use guest_lib::arch::enter::{State, enter};
use guest_lib::arch::fault::ec;
use guest_lib::arch::registers::SctlrEl1;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// A SYS instruction with X1: op1, CRn = 7, CRm, op2.
fn sys(op1: u32, crm: u32, op2: u32) -> u32 {
    Register(1, op1, 7, crm, op2).msr(1)
}

/// Maintenance of EL0 traps with its encoding while UCI is 0, and is done while it is 1.
#[case(
    spec = "DDI0487 D24.2 SCTLR_EL1",
    rows(dc_cvac: (10, 1), dc_cvau: (11, 1), dc_civac: (14, 1), ic_ivau: (5, 1))
)]
fn uci_opens_maintenance_to_el0(row: (u32, u32)) -> Verdict {
    let (crm, op2) = row;
    let data = Frames::new(1);
    data.write(0, 0x1234_5678u64);
    let code = Code::new(&[sys(3, crm, op2), code::svc(1)]);
    let mut state = State::user(code.address());
    state.x[1] = data.address();
    let before = SctlrEl1::read();
    SctlrEl1::write(before | 1 << 26);
    let open = enter(&state);
    SctlrEl1::write(before & !(1 << 26));
    let closed = enter(&state);
    SctlrEl1::write(before);
    expect_eq!(open.fault(), Fault::svc(1), "open")?;
    let trap = Fault::new(ec::SYSTEM, Register(1, 3, 7, crm, op2).iss(1, false));
    expect_eq!(
        (closed.fault(), closed.elr),
        (trap, code.address()),
        "closed"
    )?;
    expect_eq!(data.read::<u64>(0), 0x1234_5678, "the memory")
}

/// Maintenance that EL1 alone may do is undefined at EL0, and loses nothing at EL1.
#[case(
    spec = "DDI0487 C5.3",
    rows(dc_isw: (0, 6, 2), dc_csw: (0, 10, 2), dc_cisw: (0, 14, 2), ic_iallu: (0, 5, 0))
)]
fn privileged_maintenance_is_undefined_at_el0(row: (u32, u32, u32)) -> Verdict {
    let (op1, crm, op2) = row;
    let code = Code::new(&[sys(op1, crm, op2), code::svc(1)]);
    let mut state = State::user(code.address());
    state.x[1] = 0;
    let frame = enter(&state);
    expect_eq!(
        (frame.fault(), frame.elr),
        (Fault::UNDEFINED, code.address())
    )?;
    // DC ISW may lose data by its definition, so EL1 tries the others only.
    if crm != 6 {
        let mut state = State::here(code.address());
        state.x[1] = 0;
        expect_eq!(enter(&state).fault(), Fault::svc(1), "at EL1")?;
    }
    Ok(())
}

/// Clean, invalidate, and both, by address over a page that was just written, lose nothing.
#[case(
    spec = "DDI0487 C5.3",
    rows(dc_cvac: (3, 10, 1), dc_cvau: (3, 11, 1), dc_civac: (3, 14, 1))
)]
fn maintenance_by_address_keeps_data(row: (u32, u32, u32)) -> Verdict {
    let (op1, crm, op2) = row;
    let data = Frames::new(4);
    let code = Code::new(&[sys(op1, crm, op2), code::RET]);
    for round in 0..20u64 {
        for i in (0..data.len()).step_by(8) {
            data.write(i, i as u64 * 3 + round);
        }
        for line in (0..data.len()).step_by(64) {
            fault::catch(|| code.run(0, data.address() + line as u64))?;
        }
        arch::cpu::dsb();
        for i in (0..data.len()).step_by(8) {
            expect_eq!(
                data.read::<u64>(i),
                i as u64 * 3 + round,
                "byte {i}, round {round}"
            )?;
        }
    }
    Ok(())
}

/// Memory that is cleaned is what a non-cacheable view of it shows, and the other way round.
#[case(spec = "DDI0487 B2.7")]
fn non_cacheable_views_agree_after_maintenance() -> Verdict {
    use guest_lib::arch::paging::{PRIVATE, Space, bits, flush};
    let at = PRIVATE + 0x71_0000_0000;
    let data = Frames::new(1);
    let mut space = Space::kernel();
    space.set(
        at,
        3,
        data.address() | bits::PAGE & !bits::SHARED | bits::NON_CACHEABLE,
    );
    flush();
    // dc civac, x1
    let clean = Code::new(&[sys(3, 14, 1), code::RET]);
    for i in 1..500u32 {
        data.write(0, i);
        clean.run(0, data.address());
        arch::cpu::dsb();
        let view = arch::mmio::Mmio::new(at);
        let seen = fault::catch(|| space.run(|| view.read32(0)))?;
        expect_eq!(seen, i, "by the non-cacheable view")?;
        fault::catch(|| space.run(|| view.write32(0, i ^ 0xffff)))?;
        arch::cpu::dsb();
        clean.run(0, data.address());
        arch::cpu::dsb();
        expect_eq!(data.read::<u32>(0), i ^ 0xffff, "by the cacheable view")?;
    }
    Ok(())
}
