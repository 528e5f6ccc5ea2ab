//! Exception intercepts. Spec: APM 2 15.12.
//!
//! With its bit set, an exception exits with its error code and address before anything of the guest
//! changes: CR2 stays, nothing is pushed. With the bit clear the guest's own handler takes it, and
//! the host never hears of it.

use guest_lib::arch::code::Code;
use guest_lib::arch::cpu;
use guest_lib::arch::paging::FREE_BASE;
use guest_lib::arch::registers::{Cr0, Rflags};
use guest_lib::arch::segments::{self, FREE};
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, Segment, field, intercept, l2};
use guest_lib::prelude::*;

/// What raises it: bytes, where in them the reported RIP stands, the fault, EXITINFO2.
struct Row {
    bytes: &'static [u8],
    at: u64,
    fault: Fault,
    address: Option<u64>,
    prepare: fn(&NestedVm),
}

const fn row(fault: Fault, at: u64, bytes: &'static [u8]) -> Row {
    Row {
        bytes,
        at,
        fault,
        address: None,
        prepare: |_| (),
    }
}

const MOV_RAX_FREE_BASE: &[u8] = &[0x48, 0xb8, 0, 0, 0, 0, 0, 1, 0, 0, 0x48, 0x8b, 0x00];
const WRITE_FREE_BASE: &[u8] = &[0x48, 0xb8, 0, 0, 0, 0, 0, 1, 0, 0, 0x48, 0x89, 0x00];
const _: () = assert!(FREE_BASE == 0x0000_0100_0000_0000);

/// The exception exits with its intercept, error code and RIP, and reaches the guest's handler without.
#[case(
    spec = "APM 2 15.12",
    needs("x86.svm"),
    rows(
        // xor edx,edx; xor ecx,ecx; div ecx
        de: row(Fault::DE, 4, &[0x31, 0xd2, 0x31, 0xc9, 0xf7, 0xf1]),
        ud: row(Fault::UD, 1, &[0x90, 0x0f, 0x0b]),
        nm: Row {
            prepare: |vm| vm.vmcb.update(field::CR0, |c| c & !Cr0::EM.bits() | Cr0::TS.bits()),
            ..row(Fault::NM, 0, &[0xd9, 0xd0])
        },
        // mov rax,2^47; mov rax,[rax]
        gp: row(Fault::GP0, 10, &[0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0, 0, 0x48, 0x8b, 0x00]),
        pf_read: Row { address: Some(FREE_BASE), ..row(Fault::pf(0), 10, MOV_RAX_FREE_BASE) },
        pf_write: Row { address: Some(FREE_BASE), ..row(Fault::pf(2), 10, WRITE_FREE_BASE) },
        // mov eax,38h; mov ds,eax; the descriptor is not present
        np: Row {
            prepare: |_| segments::set_free_descriptor(0, 0x00cf_1300_0000_ffff),
            ..row(Fault::np(FREE as u32), 5, &[0xb8, 0x38, 0, 0, 0, 0x8e, 0xd8])
        },
        ss: Row {
            prepare: |_| segments::set_free_descriptor(0, 0x00cf_1300_0000_ffff),
            ..row(Fault::ss(FREE as u32), 5, &[0xb8, 0x38, 0, 0, 0, 0x8e, 0xd0])
        },
        // pushf; or dword [rsp],100h; popf; nop: a trap, reported behind the NOP.
        db: row(Fault::DB, 10, &[0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90]),
    )
)]
fn intercept(vm: &mut NestedVm, row: Row) -> Verdict {
    let code = Code::new(row.bytes);
    let start = code.address();
    let run = move || {
        cpu::call_raw(start);
    };
    (row.prepare)(vm);
    vm.vmcb.set(field::CR2, 0x1111);

    vm.vmcb.intercept_exception(row.fault.vector, true);
    let entry = vm.run(run);
    expect_eq!(
        entry,
        Entry::Exited(ExitCode::exception(row.fault.vector)),
        "intercepted"
    )?;
    expect_eq!(vm.rip(), start + row.at, "RIP")?;
    expect_eq!(vm.int_info() >> 31 & 1, 0, "EXITINTINFO.V")?;
    if fault::has_error_code(row.fault.vector) {
        expect_eq!(vm.info1(), u64::from(row.fault.error), "EXITINFO1")?;
    }
    if let Some(address) = row.address {
        expect_eq!(vm.info2(), address, "EXITINFO2")?;
        expect_eq!(
            vm.vmcb.get(field::CR2),
            0x1111,
            "CR2 after an intercepted page fault"
        )?;
    }

    // Every other exception is intercepted, but not this one.
    vm.vmcb
        .set(field::INTERCEPT_EXCEPTION, !(1 << row.fault.vector));
    expect_eq!(vm.run(run), Entry::VMMCALL, "not intercepted")?;
    expect_eq!(vm.fault(), Some(row.fault), "the guest's own fault")?;
    expect_eq!(fault::details().rip, start + row.at, "RIP for the guest")?;
    if let Some(address) = row.address {
        expect_eq!(fault::details().cr2, address)?;
        expect_eq!(vm.vmcb.get(field::CR2), address)?;
    }
    segments::set_free_descriptor(0, 0);
    Ok(())
}

/// INT3 has the intercept of vector 3, not that of INT n, and the exit's RIP is at the instruction.
#[case(spec = "APM 2 15.12.4 INT3", needs("x86.svm"))]
fn int3_is_vector_3(vm: &mut NestedVm) -> Verdict {
    let code = Code::new(&[0x90, 0xcc]);
    let address = code.address();
    vm.vmcb.intercept_exception(3, true);
    let entry = vm.run(move || {
        cpu::call_raw(address);
    });
    expect_eq!(entry, Entry::Exited(ExitCode::exception(3)))?;
    expect_eq!(vm.rip(), address + 1)?;

    vm.vmcb.set(field::INTERCEPT_EXCEPTION, !(1 << 3));
    vm.vmcb.intercept(intercept::INTN, true);
    expect_eq!(
        vm.run(l2::int3),
        Entry::VMMCALL,
        "INT n intercepted, vector 3 not"
    )?;
    expect_eq!(vm.fault(), Some(Fault::BP))
}

/// INT 3 in its long form is INT n, and the intercept of vector 3 does not see it.
#[case(spec = "APM 2 15.12.4 INTn", needs("x86.svm"))]
fn long_int_3_is_not_vector_3(vm: &mut NestedVm) -> Verdict {
    let code = Code::new(&[0xcd, 0x03]);
    let address = code.address();
    let run = move || {
        cpu::call_raw(address);
    };
    vm.vmcb.intercept_exception(3, true);
    expect_eq!(vm.run(run), Entry::VMMCALL)?;
    expect_eq!(vm.fault(), Some(Fault::BP))?;
    vm.vmcb.intercept(intercept::INTN, true);
    expect_eq!(vm.run(run), Entry::Exited(ExitCode::INTN))
}

/// INTO has the intercept of vector 4, with RIP at the instruction.
#[case(spec = "APM 2 15.12.5 INTO", needs("x86.svm"))]
fn into_is_vector_4(vm: &mut NestedVm) -> Verdict {
    // add al,1; into; retf
    let code = Code::new(&[0x04, 0x01, 0xce, 0xcb]);
    let address = code.address();
    let run = move || {
        let caught = cpu::call_compat(address, 0x7f);
        l2::tell(0, u64::from(caught == Err(Fault::OF)));
    };
    vm.vmcb.intercept_exception(4, true);
    expect_eq!(vm.run(run), Entry::Exited(ExitCode::exception(4)))?;
    expect_eq!(vm.rip(), address + 2)?;
    vm.vmcb.set(field::INTERCEPT_EXCEPTION, !(1 << 4));
    vm.vmcb.intercept(intercept::INTN, true);
    expect_eq!(vm.run(run), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)
}

/// A double fault exits with vector 8 and error code 0 when intercepted.
#[case(spec = "APM 2 15.12.9 #DF", needs("x86.svm"))]
fn double_fault_is_vector_8(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept_exception(8, true);
    // An absent IDT: the page fault of the first exception meets one of its own.
    vm.vmcb.set(Segment::IDTR.base(), FREE_BASE);
    vm.load_bytes(MOV_RAX_FREE_BASE);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::exception(8)))?;
    expect_eq!(vm.info1(), 0)
}

/// Exceptions that cannot be delivered at all exit as shutdown, and the host lives.
#[case(spec = "APM 2 15.14.3 shutdown", needs("x86.svm"))]
fn shutdown_exits(vm: &mut NestedVm) -> Verdict {
    vm.load_bytes(&[0x0f, 0x0b]);
    vm.vmcb.set(Segment::IDTR.limit(), 0);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::SHUTDOWN))?;
    // State after a shutdown is undefined, so a fresh guest must be fine.
    let mut fresh = NestedVm::fresh()?;
    expect_eq!(fresh.enter(), Entry::VMMCALL)
}

/// A fault inside the guest's handler is intercepted like any other.
#[case(spec = "APM 2 15.12", needs("x86.svm"))]
fn fault_in_the_guests_handler_exits(vm: &mut NestedVm) -> Verdict {
    let _handler = fault::Handler::new(0x63, |_| cpu::ud2());
    vm.vmcb.intercept_exception(6, true);
    let code = Code::new(&[0xcd, 0x63]);
    let address = code.address();
    let entry = vm.run(move || {
        cpu::call_raw(address);
    });
    expect_eq!(entry, Entry::Exited(ExitCode::exception(6)))?;
    expect_eq!(vm.vmcb.get(field::RFLAGS) & Rflags::IF.bits(), 0)
}

/// RFLAGS.TF in the VMCB traps after the guest's first instruction; VMRUN itself does not count as one.
#[case(spec = "APM 2 15.5.1 RFLAGS", needs("x86.svm"))]
fn single_step_starts_with_the_first_instruction(vm: &mut NestedVm) -> Verdict {
    const DR6_BS: u64 = 1 << 14;
    vm.vmcb.intercept_exception(1, true);
    let start = vm.load_bytes(&[0x90, 0x0f, 0x1f, 0x00]);
    for end in [1, 4] {
        vm.vmcb.set(field::RFLAGS, 2 | Rflags::TF.bits());
        vm.vmcb.set(field::DR6, 0xffff_0ff0);
        expect_eq!(vm.enter(), Entry::Exited(ExitCode::exception(1)))?;
        expect_eq!(vm.rip(), start + end)?;
        expect_eq!(vm.vmcb.get(field::DR6) & (DR6_BS | 0xf), DR6_BS)?;
    }
    vm.vmcb.set(field::RFLAGS, 2);
    expect_eq!(vm.enter(), Entry::VMMCALL)
}
