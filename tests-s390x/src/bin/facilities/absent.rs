//! An instruction of an absent facility is an operation exception; of a present one it is not.
//!
//! Spec: SA22-7832 4 Facility Indications, 6 Operation Exception. A hypervisor that hides a facility
//! has to hide its instructions, too, or programs that probe by execution see another machine.

use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::registers::facility;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// The facility bit and the instruction agree.
#[case(spec = "SA22-7832 4 Facility Indications", rows(
    // Bit, instruction with r2 as an address and r4 as a spare register pair.
    stfle: (7, &[0xb2b0, 0x2000]),
    pfmf: (8, &[0xb9af, 0x0042]),
    ptf: (11, &[0xb9a2, 0x0040]),
    clp: (69, &[0xb9a0, 0x8042]),
    sthyi: (74, &[0xb256, 0x0042]),
    stckf: (25, &[0xb27c, 0x2000]),
    ptff: (28, &[0x0104]),
    lat: (49, &[0xe340, 0x2000, 0x0085]),
    locr: (45, &[0xb9f2, 0x1064]),
    popcnt: (45, &[0xb9e1, 0x0064]),
    vector_load: (129, &[0xe700, 0x2000, 0x0006]),
    guarded_storage_load: (133, &[0xe340, 0x2000, 0x004d]),
    ultravisor_call: (158, &[0xb9a4, 0x0042]),
    transaction_begin: (73, &[0xe560, 0x2000, 0xff00]),
    select: (61, &[0xb9f0, 0x6164]),
    random_number: (57, &[0xb93c, 0x0046]),
))]
fn instruction_exists_with_its_facility((bit, code): (usize, &[u16])) -> Verdict {
    let page = Frames::new(1);
    // Register 0 asks for function 0 wherever there are functions; register 1 is a block.
    let with = registers([(1, page.address() + 256), (2, page.address())]);
    let fault = execute(code, with).err();
    let absent = fault == Some(Fault::OPERATION);
    expect_eq!(
        absent,
        !facility(bit),
        "facility {bit}: {}, {fault:?}",
        facility(bit)
    )
}
