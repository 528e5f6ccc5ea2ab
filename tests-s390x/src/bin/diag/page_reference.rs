//! DIAGNOSE 0x258: the guest asks to be told when the host waits for one of its pages.

use guest_lib::arch::diag::{page_reference, page_reference_block};
use guest_lib::prelude::*;

/// A block that names another function code is refused.
#[case(spec = "S390-DIAG 0x258", needs("s390x.diag258"))]
fn wrong_code_in_the_block_is_refused() -> Verdict {
    let block = page_reference_block(1);
    expect!(page_reference(block.address()).is_ok(), "the right code")?;
    block.write(2, 0x259u16);
    expect_eq!(
        page_reference(block.address()).err(),
        Some(Fault::SPECIFICATION)
    )
}

/// A block beyond storage is an addressing exception.
#[case(spec = "S390-DIAG 0x258", needs("s390x.diag258"))]
fn block_beyond_storage_is_refused() -> Verdict {
    let end = guest_lib::memory::total();
    expect_eq!(
        page_reference(end).err(),
        Some(Fault::ADDRESSING),
        "behind the end"
    )?;
    expect_eq!(
        page_reference(end - 8).err(),
        Some(Fault::ADDRESSING),
        "across the end"
    )
}

/// The block's address is real: a virtual alias above storage is an addressing exception.
#[case(spec = "S390-DIAG 0x258", needs("s390x.diag258"))]
fn block_address_is_real() -> Verdict {
    const ALIAS: u64 = 1 << 40;
    let block = page_reference_block(1);
    let mut space = guest_lib::arch::paging::AddressSpace::identity();
    space.map(ALIAS, block.address());
    expect_eq!(
        space.run(|| page_reference(ALIAS).err()),
        Some(Fault::ADDRESSING)
    )?;
    expect!(
        space.run(|| page_reference(block.address())).is_ok(),
        "its real address"
    )
}
