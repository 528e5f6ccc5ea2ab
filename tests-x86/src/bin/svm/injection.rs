//! Events that VMRUN injects. Spec: APM 2 15.20.

use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, Segment, field, l2};
use guest_lib::prelude::*;

const VALID: u64 = 1 << 31;
const EXCEPTION: u64 = 3 << 8;

/// A fault while an injected event is delivered leaves the event in EXITINTINFO.
#[case(spec = "APM 2 15.7.2 EXITINTINFO", needs("x86.svm"))]
fn interrupted_injection_is_reported(vm: &mut NestedVm) -> Verdict {
    vm.load(|| l2::tell(0, 1));
    vm.vmcb.intercept_exception(13, true);
    vm.vmcb.set(Segment::IDTR.limit(), 0);
    vm.vmcb.set(field::EVENT_INJ, VALID | EXCEPTION | 6);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::exception(13)))?;
    expect_eq!(vm.int_info(), VALID | EXCEPTION | 6)?;
    expect_eq!(vm.info1(), 6 * 8 + 2 + 1)?;
    expect_eq!(vm.told(0), 0)
}
