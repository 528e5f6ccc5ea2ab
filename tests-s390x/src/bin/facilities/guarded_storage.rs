//! Guarded storage: loads of pointers into a guarded section leave for a handler.
//!
//! Spec: SA22-7832 4 Guarded-Storage Facility, 7 LOAD GUARDED STORAGE CONTROLS.

use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::registers::Control;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// CR2 bit 59.
const ENABLE: u64 = 0x10;
const LGSC: [u16; 3] = [0xe340, 0x2000, 0x004d];
const STGSC: [u16; 3] = [0xe340, 0x2000, 0x0049];

/// With the control off both instructions are special-operation exceptions.
#[case(spec = "SA22-7832 7 LOAD GUARDED STORAGE CONTROLS", needs("s390x.guarded_storage"), rows(
    load: LGSC, store: STGSC,
))]
fn control_off_is_refused(code: [u16; 3]) -> Verdict {
    let page = Frames::new(1);
    let with = registers([(2, page.address())]);
    {
        let _off = Control::<2>::changed(|c| c & !ENABLE);
        expect_eq!(execute(&code, with).err(), Some(Fault::SPECIAL_OPERATION))?;
    }
    let _on = Control::<2>::changed(|c| c | ENABLE);
    expect!(execute(&code, with).is_ok(), "with the control on")
}

/// What is loaded is stored again.
#[case(
    spec = "SA22-7832 7 STORE GUARDED STORAGE CONTROLS",
    needs("s390x.guarded_storage")
)]
fn controls_read_back() -> Verdict {
    let page = Frames::new(1);
    let _on = Control::<2>::changed(|c| c | ENABLE);
    // Designation: origin 4 GiB, shift 0, characteristic 25; section mask; parameter list.
    let controls = [
        0,
        0x0000_0001_0000_0019u64,
        u64::MAX >> 1,
        page.address() + 1024,
    ];
    for (i, word) in controls.into_iter().enumerate() {
        page.write(8 * i, word);
    }
    execute(&LGSC, registers([(2, page.address())]))?;
    execute(&STGSC, registers([(2, page.address() + 512)]))?;
    let stored = [0, 8, 16, 24].map(|i| page.read::<u64>(512 + i));
    for word in 0..4 {
        page.write(8 * word, 0u64);
    }
    execute(&LGSC, registers([(2, page.address())]))?;
    expect_eq!(stored, controls)
}
