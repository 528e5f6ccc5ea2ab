//! PCI functions: CALL LOGICAL PROCESSOR lists them, PCI LOAD and STORE reach them by handle.
//!
//! Spec: Linux-s390 CLP, PCILG. The block of CLP is a request followed by its answer; each
//! starts with its length and a code.

use guest_lib::arch::exec::{Ran, execute, registers};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const LIST: u16 = 0x0002;
const QUERY: u16 = 0x0003;
const DONE: u16 = 0x0010;

/// CLP with an immediate that selects PCI, the block in r2.
fn clp(block: u64) -> Result<Ran, Fault> {
    execute(&[0xb9a0, 0x8042], registers([(2, block)]))
}

fn block(request: u16, command: u16, answer: u16) -> Frames {
    let page = Frames::new(2);
    page.write(0, request);
    page.write(2, command);
    page.write(usize::from(request), answer);
    page
}

/// PCI LOAD r4 from address space `space` of the function `handle`.
fn pcilg(handle: u32, space: u8, length: u8, offset: u64) -> Result<Ran, Fault> {
    let second = u64::from(handle) << 32 | u64::from(space) << 16 | u64::from(length);
    execute(&[0xb9d2, 0x0046], registers([(6, second), (7, offset)]))
}

/// CLP is privileged.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"))]
fn clp_is_privileged() -> Verdict {
    let page = block(32, LIST, 4064);
    let refused = fault::catch_user(|| clp(page.address()).err())?;
    expect_eq!(refused, Some(Fault::PRIVILEGED_OPERATION))?;
    expect_eq!(clp(page.address()).map(|_| ()), Ok(()))
}

/// Lengths that make no block are operand exceptions.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"), rows(
    request_too_short: (8, 64), request_too_long: (8192, 64), request_misaligned: (33, 64),
    answer_too_short: (32, 0), answer_too_long: (32, 8184), answer_misaligned: (32, 65),
    both_too_long: (4096, 4104),
))]
fn bad_length_is_refused((request, answer): (u16, u16)) -> Verdict {
    let page = Frames::new(3);
    page.write(0, request);
    page.write(2, LIST);
    page.write(usize::from(request), answer);
    expect_eq!(clp(page.address()).err(), Some(Fault::OPERAND))
}

/// A list command is answered with whole entries; without functions there are none.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"))]
fn list_is_answered() -> Verdict {
    let page = block(32, LIST, 4064);
    expect_eq!(clp(page.address())?.cc, 0)?;
    let (length, code) = (page.read::<u16>(32), page.read::<u16>(34));
    note!("answer of {length} bytes, code {code:#x}");
    expect_eq!(code, DONE)?;
    expect!(
        length >= 32 && length % 8 == 0 && length <= 4064,
        "{length} bytes"
    )
}

/// An unknown command is answered with a code that is not success.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"))]
fn unknown_command_is_answered() -> Verdict {
    let page = block(32, 0x4242, 64);
    clp(page.address())?;
    expect_ne!(page.read::<u16>(34), DONE)
}

/// A query of a handle that nobody has is answered with a code that is not success.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"))]
fn query_of_an_unknown_handle_is_answered() -> Verdict {
    let page = block(32, QUERY, 160);
    page.write(16, 0x7fff_ffffu32);
    clp(page.address())?;
    expect_ne!(page.read::<u16>(34), DONE)
}

/// PCI LOAD wants an even register.
#[case(spec = "Linux-s390 PCILG", needs("s390x.zpci"))]
fn pcilg_wants_an_even_register() -> Verdict {
    let odd = execute(&[0xb9d2, 0x0047], registers([]));
    expect_eq!(odd.err(), Some(Fault::SPECIFICATION))
}

/// PCI LOAD from a handle that nobody has is condition code 3.
#[case(spec = "Linux-s390 PCILG", needs("s390x.zpci"))]
fn pcilg_of_an_unknown_handle_is_code_3() -> Verdict {
    for handle in [0, 0x7fff_ffff, 0xffff_ffff] {
        expect_eq!(pcilg(handle, 15, 4, 0)?.cc, 3, "handle {handle:#x}")?;
    }
    Ok(())
}
