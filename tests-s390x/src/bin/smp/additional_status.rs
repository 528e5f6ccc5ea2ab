//! STORE ADDITIONAL STATUS AT ADDRESS: vector registers of a stopped processor.
//!
//! Spec: SA22-7832 4 Store Additional Status at Address. The parameter is an address with a length
//! code in its low bits: 0 for 1 KiB.

use crate::target::{OTHER, Other, absent};
use guest_lib::arch::sigp::{self, Answer, status};
use guest_lib::arch::vector;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// The vector registers of a stopped processor are stored in order, 512 bytes and no more.
#[case(
    spec = "SA22-7832 4 Store Additional Status at Address",
    needs("cpus>=2", "s390x.vector")
)]
fn vector_registers_are_stored(other: &mut Other) -> Verdict {
    let values = Frames::new(1);
    for i in 0..512u32 {
        values.write(i as usize, (i * 7 + 1) as u8);
    }
    let from = values.address();
    cpus::run_on(OTHER, move || vector::load_all(from))??;
    other.stop()?;
    let save = Frames::new(1);
    for at in (0..4096).step_by(8) {
        save.write(at, u64::MAX);
    }
    let answer = other.order(sigp::STORE_ADDITIONAL_STATUS, save.address() + 1024);
    expect_eq!(answer, Answer::Accepted)?;
    expect!(
        save.bytes()[1024..1536] == values.bytes()[..512],
        "the registers"
    )?;
    expect!(save.bytes()[..1024].iter().all(|&b| b == 0xff), "before")?;
    expect!(save.bytes()[2048..].iter().all(|&b| b == 0xff), "after")
}

/// A running processor is in the incorrect state, and nothing is stored.
#[case(
    spec = "SA22-7832 4 Store Additional Status at Address",
    needs("cpus>=2", "s390x.vector")
)]
fn running_processor_stores_nothing(other: &mut Other) -> Verdict {
    let save = Frames::new(1);
    let refused = other.order(sigp::STORE_ADDITIONAL_STATUS, save.address());
    expect_eq!(refused, Answer::Status(status::INCORRECT_STATE))?;
    expect!(save.bytes().iter().all(|&b| b == 0), "nothing is stored")?;
    other.stop()?;
    expect_eq!(
        other.order(sigp::STORE_ADDITIONAL_STATUS, save.address()),
        Answer::Accepted
    )
}

/// An address that is not on a 1 KiB boundary is an invalid parameter, and nothing is stored.
#[case(
    spec = "SA22-7832 4 Store Additional Status at Address",
    needs("cpus>=2", "s390x.vector")
)]
fn misaligned_address_is_refused(other: &mut Other) -> Verdict {
    other.stop()?;
    let save = Frames::new(1);
    for off in [16, 256, 512] {
        let refused = other.order(sigp::STORE_ADDITIONAL_STATUS, save.address() + off);
        expect_eq!(
            refused,
            Answer::Status(status::INVALID_PARAMETER),
            "{off} bytes off"
        )?;
    }
    expect!(save.bytes().iter().all(|&b| b == 0), "nothing is stored")?;
    expect_eq!(
        other.order(sigp::STORE_ADDITIONAL_STATUS, save.address()),
        Answer::Accepted
    )
}

/// An absent processor is not operational, and nothing is stored.
#[case(
    spec = "SA22-7832 4 Store Additional Status at Address",
    needs("cpus>=2")
)]
fn absent_processor_stores_nothing() -> Verdict {
    let save = Frames::new(1);
    let answer = sigp::signal(sigp::STORE_ADDITIONAL_STATUS, absent(), save.address());
    expect_eq!(answer, Ok(Answer::NotOperational))?;
    expect!(save.bytes().iter().all(|&b| b == 0), "nothing is stored")
}

/// On a machine with neither vector registers nor guarded storage the order is invalid; with them
/// it is not.
#[case(
    spec = "SA22-7832 4 Store Additional Status at Address",
    needs("cpus>=2")
)]
fn order_exists_with_its_facilities(other: &mut Other) -> Verdict {
    use guest_lib::arch::registers::facility;
    other.stop()?;
    let save = Frames::new(1);
    let answer = other.order(sigp::STORE_ADDITIONAL_STATUS, save.address());
    let expected = match facility(129) || facility(133) {
        true => Answer::Accepted,
        false => Answer::Status(status::INVALID_ORDER),
    };
    expect_eq!(answer, expected)
}
