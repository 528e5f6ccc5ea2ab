//! Orders and their condition codes: absent processors, unknown orders, stop, start, sense.
//!
//! Spec: SA22-7832 4 Signal-Processor Orders, Conditions Determining Response.

use crate::target::{Other, absent};
use guest_lib::arch::sigp::{self, Answer, status};
use guest_lib::arch::smp;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// An order to an address without a processor is not operational, whatever the order.
#[case(spec = "SA22-7832 4 Conditions Determining Response", needs("cpus>=2"), rows(
    sense: sigp::SENSE,
    external_call: sigp::EXTERNAL_CALL,
    emergency_signal: sigp::EMERGENCY_SIGNAL,
    start: sigp::START,
    stop: sigp::STOP,
    restart: sigp::RESTART,
    stop_and_store_status: sigp::STOP_AND_STORE_STATUS,
    initial_cpu_reset: sigp::INITIAL_CPU_RESET,
    cpu_reset: sigp::CPU_RESET,
    set_prefix: sigp::SET_PREFIX,
    store_status_at_address: sigp::STORE_STATUS_AT_ADDRESS,
    conditional_emergency_signal: sigp::CONDITIONAL_EMERGENCY_SIGNAL,
    sense_running_status: sigp::SENSE_RUNNING_STATUS,
    unassigned: 0x42,
))]
fn absent_processor_is_not_operational(order: u8) -> Verdict {
    let page = Frames::aligned(2, 8192);
    expect_eq!(
        sigp::signal(order, absent(), page.address()),
        Ok(Answer::NotOperational)
    )?;
    expect!(page.bytes().iter().all(|&b| b == 0), "nothing is stored")?;
    expect_ne!(
        sigp::signal(sigp::SENSE, smp::address(1), 0)?,
        Answer::NotOperational
    )
}

/// An unassigned order to a processor is refused with the invalid-order status.
#[case(spec = "SA22-7832 4 Signal-Processor Status", needs("cpus>=2"))]
fn unassigned_order_is_invalid(other: &mut Other) -> Verdict {
    for order in [0x00u8, 0x42, 0xff] {
        let answer = other.order(order, 0);
        expect_eq!(
            answer,
            Answer::Status(status::INVALID_ORDER),
            "order {order:#x}"
        )?;
    }
    expect_eq!(other.order(sigp::SENSE, 0), Answer::Accepted)
}

/// Only bits 56 to 63 of the second-operand address are the order.
#[case(spec = "SA22-7832 10 SIGNAL PROCESSOR", needs("cpus>=2"))]
fn order_is_the_low_byte(other: &mut Other) -> Verdict {
    let order = 0x1234_5600u64 | u64::from(sigp::SENSE);
    expect_eq!(
        sigp::signal(order, other.address(), 0),
        Ok(Answer::Accepted)
    )
}

/// STOP stops a running processor; START lets it go on where it was.
#[case(spec = "SA22-7832 4 Stop", needs("cpus>=2"))]
fn stop_and_start_keep_the_program(other: &mut Other) -> Verdict {
    let beating = other.beat()?;
    other.stop()?;
    expect!(beating.stands(), "no instruction is executed")?;
    expect_eq!(other.order(sigp::START, 0), Answer::Accepted)?;
    expect!(beating.advances(), "it goes on")?;
    beating.end()
}

/// STOP of a stopped processor is accepted and changes nothing, START of a running one too.
#[case(spec = "SA22-7832 4 Stop", needs("cpus>=2"))]
fn repeated_stop_and_start_change_nothing(other: &mut Other) -> Verdict {
    let beating = other.beat()?;
    expect_eq!(other.order(sigp::START, 0), Answer::Accepted)?;
    expect!(beating.advances(), "it runs")?;
    other.stop()?;
    other.stop()?;
    expect!(beating.stands(), "it stands")?;
    expect_eq!(other.order(sigp::START, 0), Answer::Accepted)?;
    beating.end()
}

/// SENSE reports the stopped state and nothing for a running processor.
#[case(spec = "SA22-7832 4 Sense", needs("cpus>=2"))]
fn sense_reports_the_stopped_state(other: &mut Other) -> Verdict {
    expect_eq!(other.order(sigp::SENSE, 0), Answer::Accepted)?;
    other.stop()?;
    expect_eq!(other.order(sigp::SENSE, 0), Answer::Status(status::STOPPED))
}

/// SENSE to the processor itself finds it running.
#[case(spec = "SA22-7832 4 Sense")]
fn sense_of_itself_finds_it_running() -> Verdict {
    expect_eq!(
        sigp::signal(sigp::SENSE, smp::address(0), 0),
        Ok(Answer::Accepted)
    )
}

/// SENSE RUNNING STATUS: this processor runs, a stopped one does not.
#[case(spec = "SA22-7832 4 Sense Running Status", needs("cpus>=2"))]
fn sense_running_tells_a_stopped_processor(other: &mut Other) -> Verdict {
    let own = sigp::until_accepted(sigp::SENSE_RUNNING_STATUS, smp::address(0), 0);
    expect_eq!(own, Answer::Accepted)?;
    other.stop()?;
    let stopped = other.order(sigp::SENSE_RUNNING_STATUS, 0);
    expect_eq!(stopped, Answer::Status(status::NOT_RUNNING))
}

/// SET ARCHITECTURE to z/Architecture changes nothing on a machine that is in it.
#[case(spec = "SA22-7832 4 Set Architecture")]
fn set_architecture_keeps_zarchitecture() -> Verdict {
    let answer = sigp::signal(sigp::SET_ARCHITECTURE, smp::address(0), 1)?;
    let already = Answer::Status(status::INVALID_PARAMETER);
    expect!(
        answer == Answer::Accepted || answer == already,
        "{answer:?}"
    )?;
    expect_eq!(
        sigp::signal(sigp::SENSE, smp::address(0), 0),
        Ok(Answer::Accepted)
    )
}

/// SIGNAL PROCESSOR with status keeps the high half of the status register.
#[case(spec = "SA22-7832 10 SIGNAL PROCESSOR", needs("cpus>=2"))]
fn status_goes_to_the_low_half(other: &mut Other) -> Verdict {
    use guest_lib::arch::exec::{execute, registers};
    other.stop()?;
    let with = registers([(2, 0x1234_5678_9abc_def0), (4, other.address().into())]);
    let ran = execute(&[0xae24, u16::from(sigp::SENSE)], with)?;
    expect_eq!(
        (ran.cc, ran.registers[2]),
        (1, 0x1234_5678_0000_0000 | u64::from(status::STOPPED))
    )
}

/// SET PREFIX of a stopped processor is accepted, of a running one refused, and both show in
/// where its status goes.
#[case(spec = "SA22-7832 4 Set Prefix", needs("cpus>=2"))]
fn set_prefix_wants_a_stopped_processor(other: &mut Other) -> Verdict {
    let area = Frames::aligned(2, 8192);
    let beating = other.beat()?;
    let refused = other.order(sigp::SET_PREFIX, area.address());
    expect_eq!(refused, Answer::Status(status::INCORRECT_STATE))?;
    expect!(beating.advances(), "it runs on")?;
    other.stop()?;
    expect_eq!(
        other.order(sigp::SET_PREFIX, area.address()),
        Answer::Accepted
    )?;
    let save = Frames::new(1);
    expect_eq!(
        other.order(sigp::STORE_STATUS_AT_ADDRESS, save.address()),
        Answer::Accepted
    )?;
    expect_eq!(
        u64::from(save.read::<u32>(0x118)),
        area.address(),
        "the stored prefix"
    )?;
    expect_eq!(
        other.order(sigp::SET_PREFIX, other.prefix()),
        Answer::Accepted
    )?;
    expect_eq!(other.order(sigp::START, 0), Answer::Accepted)?;
    beating.end()
}

/// SET PREFIX beyond storage is refused as an invalid parameter.
#[case(spec = "SA22-7832 4 Set Prefix", needs("cpus>=2"))]
fn set_prefix_beyond_storage_is_refused(other: &mut Other) -> Verdict {
    other.stop()?;
    let refused = other.order(sigp::SET_PREFIX, guest_lib::memory::total());
    expect_eq!(refused, Answer::Status(status::INVALID_PARAMETER))?;
    expect_eq!(
        other.order(sigp::SET_PREFIX, other.prefix()),
        Answer::Accepted
    )
}
