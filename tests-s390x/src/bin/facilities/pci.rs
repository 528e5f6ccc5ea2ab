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

const QUERY_GROUP: u16 = 0x0004;
const SET: u16 = 0x0005;
const ENABLE: u8 = 0;
const DISABLE: u8 = 1;
/// The configuration space.
const CONFIGURATION: u8 = 15;

/// The first PCI function, disabled again when dropped.
struct Function {
    handle: u32,
    id: u32,
    vendor: u16,
}

impl Function {
    /// SET PCI FUNCTION with an operation and a number of DMA address spaces: the response.
    fn set(&mut self, handle: u32, operation: u8, spaces: u8) -> Result<u16, Fault> {
        let page = block(32, SET, 32);
        page.write(16, handle);
        page.write(22, operation);
        page.write(23, spaces);
        clp(page.address())?;
        let response = page.read(34);
        if response == DONE {
            self.handle = page.read(48);
        }
        Ok(response)
    }
}

impl Fixture for Function {
    fn fresh() -> Result<Self, Stop> {
        let page = block(32, LIST, 4064);
        expect_eq!(clp(page.address())?.cc, 0)?;
        if page.read::<u16>(32) < 48 {
            return skip("s390x.zpci");
        }
        let (vendor, id, handle) = (page.read(66), page.read(72), page.read(76));
        Ok(Function { handle, id, vendor })
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // Refused when it is disabled.
        let _ = self.set(self.handle, DISABLE, 0);
    }
}

/// The list has entries of 16 bytes, names the function, and ends.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"))]
fn list_names_the_function(function: &mut Function) -> Verdict {
    let page = block(32, LIST, 4064);
    clp(page.address())?;
    expect_eq!(
        (page.read::<u8>(63), page.read::<u64>(48)),
        (16, 0),
        "entry size, resume token"
    )?;
    expect_eq!((page.read::<u16>(32) - 32) % 16, 0, "whole entries")?;
    expect_eq!(
        (page.read::<u32>(72), page.read::<u32>(76)),
        (function.id, function.handle)
    )
}

/// A list request with a format, reserved bits, an unknown resume token or an answer that holds no
/// whole entry is answered with a code that is not success.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"), rows(
    format: (4, 0x1000_0000, 4064), reserved: (8, 1, 4064), token: (20, 0x7777, 4064),
    short_answer: (4, 0, 40), partial_entry: (4, 0, 56),
))]
fn bad_list_request_is_answered((at, value, answer): (usize, u32, u16)) -> Verdict {
    let page = block(32, LIST, answer);
    page.write(at, value);
    clp(page.address())?;
    expect_ne!(page.read::<u16>(34), DONE)?;
    let good = block(32, LIST, 4064);
    clp(good.address())?;
    expect_eq!(good.read::<u16>(34), DONE)
}

/// A request of another length than its command has is answered with a code that is not success.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"), rows(
    list: (LIST, 4000), query: (QUERY, 160), group: (QUERY_GROUP, 64), set: (SET, 32),
))]
fn wrong_request_length_is_answered((command, answer): (u16, u16)) -> Verdict {
    let page = block(40, command, answer);
    clp(page.address())?;
    expect_ne!(page.read::<u16>(42), DONE)
}

/// A query of the function tells the id that the list tells.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"))]
fn query_describes_the_function(function: &mut Function) -> Verdict {
    let page = block(32, QUERY, 160);
    page.write(16, function.handle);
    expect_eq!(clp(page.address())?.cc, 0)?;
    expect_eq!(
        (page.read::<u16>(34), page.read::<u32>(52)),
        (DONE, function.id)
    )
}

/// A query of a group that nobody has is answered with a code that is not success.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"))]
fn query_of_an_unknown_group_is_answered() -> Verdict {
    let page = block(32, QUERY_GROUP, 64);
    page.write(19, 0xeeu8);
    clp(page.address())?;
    expect_ne!(page.read::<u16>(34), DONE)
}

/// Enabling gives a handle with its first bit set, once; disabling takes it back, once.
#[case(spec = "Linux-s390 CLP", needs("s390x.zpci"))]
fn function_is_enabled_and_disabled(function: &mut Function) -> Verdict {
    let disabled = function.handle;
    expect_ne!(
        function.set(disabled, ENABLE, 0)?,
        DONE,
        "without an address space"
    )?;
    expect_ne!(function.set(disabled, ENABLE, 2)?, DONE, "with two")?;
    expect_eq!(function.set(disabled, ENABLE, 1)?, DONE, "with one")?;
    let enabled = function.handle;
    expect_eq!(
        (disabled >> 31, enabled >> 31),
        (0, 1),
        "{disabled:#x}, {enabled:#x}"
    )?;
    expect_ne!(function.set(enabled, ENABLE, 1)?, DONE, "twice")?;
    expect_ne!(
        function.set(disabled, ENABLE, 1)?,
        DONE,
        "by the old handle"
    )?;
    expect_eq!(function.set(enabled, DISABLE, 0)?, DONE)?;
    expect_eq!(function.handle >> 31, 0)?;
    expect_ne!(
        function.set(enabled, DISABLE, 0)?,
        DONE,
        "by the enabled handle"
    )
}

/// PCI LOAD from a disabled function is condition code 3; enabled, the configuration space has the
/// vendor that the list tells.
#[case(spec = "Linux-s390 PCILG", needs("s390x.zpci"))]
fn pcilg_of_a_disabled_function_is_refused(function: &mut Function) -> Verdict {
    expect_eq!(pcilg(function.handle, CONFIGURATION, 2, 0)?.cc, 3)?;
    expect_eq!(function.set(function.handle, ENABLE, 1)?, DONE)?;
    let ran = pcilg(function.handle, CONFIGURATION, 2, 0)?;
    expect_eq!(
        (ran.cc, (ran.registers[4] as u16).swap_bytes()),
        (0, function.vendor)
    )
}

/// A length of zero, one that crosses a doubleword, and three bytes of configuration space are
/// operand exceptions.
#[case(spec = "Linux-s390 PCILG", needs("s390x.zpci"))]
fn pcilg_lengths_are_checked(function: &mut Function) -> Verdict {
    expect_eq!(function.set(function.handle, ENABLE, 1)?, DONE)?;
    let handle = function.handle;
    for (space, length, offset) in [(0, 0, 0), (0, 8, 4), (0, 9, 0), (CONFIGURATION, 3, 0)] {
        let refused = pcilg(handle, space, length, offset).err();
        expect_eq!(
            refused,
            Some(Fault::OPERAND),
            "space {space}, {length} bytes at {offset}"
        )?;
    }
    expect_eq!(pcilg(handle, CONFIGURATION, 4, 0)?.cc, 0)
}

/// An address space that no function has is condition code 1.
#[case(spec = "Linux-s390 PCILG", needs("s390x.zpci"))]
fn pcilg_of_an_unknown_space_is_code_1(function: &mut Function) -> Verdict {
    expect_eq!(function.set(function.handle, ENABLE, 1)?, DONE)?;
    for space in [6, 7, 14] {
        expect_eq!(pcilg(function.handle, space, 4, 0)?.cc, 1, "space {space}")?;
    }
    expect_eq!(pcilg(function.handle, CONFIGURATION, 4, 0)?.cc, 0)
}
