//! Translation tables with raw entries. Spec: DDI0487 D8.
//!
//! Cases put any bits into a descriptor; so the runtime must really use it. Each case makes a page of
//! its own far above RAM, shows that it works, changes one thing, and expects the exact fault:
//! class, status with level, address and direction.

use guest_lib::arch::fault::ec;
use guest_lib::arch::paging::{PRIVATE, Space, bits, flush, flush_page, translate_read};
use guest_lib::arch::probe;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// A page at level 3 of a space of its own.
struct Page {
    space: Space,
    frame: Frames,
}

const AT: u64 = PRIVATE + 0x12_3456_7000;

impl Fixture for Page {
    fn fresh() -> Result<Self, Stop> {
        let mut page = Page {
            space: Space::kernel(),
            frame: Frames::new(1),
        };
        page.set(bits::PAGE);
        Ok(page)
    }
}

impl Page {
    fn set(&mut self, flags: u64) {
        let raw = if flags == 0 {
            0
        } else {
            self.frame.address() | flags
        };
        self.space.set(AT, 3, raw);
        flush_page(AT);
    }

    fn load(&self) -> Result<u64, Fault> {
        fault::forget();
        fault::catch(|| self.space.run(|| probe::LOAD.run(AT + 8, 0))).map_err(plain)
    }

    fn store(&self, value: u64) -> Result<u64, Fault> {
        fault::forget();
        fault::catch(|| self.space.run(|| probe::STORE.run(AT + 8, value))).map_err(plain)
    }
}

/// Class, direction and status. What else a syndrome says is not the runtime's business.
fn plain(fault: Fault) -> Fault {
    Fault::new(fault.ec(), fault.iss() & 0x7f)
}

/// A data abort with this status and direction.
fn abort(status: u64, write: bool) -> Result<u64, Fault> {
    Err(Fault::new(ec::DATA_ABORT, status | u64::from(write) << 6))
}

/// What is stored through one mapping is loaded through the other.
#[case(spec = "DDI0487 D8.3")]
fn pages_alias_memory(page: &mut Page) -> Verdict {
    page.frame.write(8, 0x1122_3344_5566_7788u64);
    expect_eq!(page.load(), Ok(0x1122_3344_5566_7788))?;
    page.store(99)?;
    expect_eq!(page.frame.read::<u64>(8), 99)
}

/// An entry that is not valid gives a translation fault of its level.
#[case(
    spec = "DDI0487 D8.15",
    rows(level_0: 0, level_1: 1, level_2: 2, level_3: 3)
)]
fn invalid_entry_faults_with_its_level(page: &mut Page, level: u32) -> Verdict {
    page.load()?;
    let old = page.space.get(AT, level);
    page.space.set(AT, level, 0);
    flush();
    expect_eq!(page.load(), abort(4 + u64::from(level), false))?;
    expect_eq!(fault::details().far, AT + 8)?;
    expect_eq!(fault::details().elr, probe::LOAD.address())?;
    page.space.set(AT, level, old);
    flush();
    page.load()?;
    Ok(())
}

/// A read-only page gives a permission fault to stores only.
#[case(spec = "DDI0487 D8.4")]
fn read_only_refuses_stores(page: &mut Page) -> Verdict {
    page.set(bits::PAGE | bits::READ_ONLY);
    page.load()?;
    expect_eq!(page.store(1), abort(0xf, true))?;
    expect_eq!(
        page.frame.read::<u64>(8),
        0,
        "memory after the refused store"
    )?;
    page.set(bits::PAGE);
    page.store(1)?;
    Ok(())
}

/// A page without its access flag gives an access flag fault.
#[case(spec = "DDI0487 D8.15")]
fn access_flag_is_asked_for(page: &mut Page) -> Verdict {
    page.set(bits::PAGE & !bits::ACCESSED);
    expect_eq!(page.load(), abort(0xb, false))?;
    page.set(bits::PAGE);
    page.load()?;
    Ok(())
}

/// PXN refuses execution with an instruction abort at the target.
#[case(spec = "DDI0487 D8.4")]
fn pxn_refuses_execution(page: &mut Page) -> Verdict {
    const RET: u32 = 0xd65f_03c0;
    page.frame.write(0, RET);
    arch::cpu::sync_code(page.frame.address() as usize, 4);
    fault::catch(|| page.space.run(|| probe::JUMP.run(AT, 0)))?;
    page.set(bits::PAGE | bits::PXN);
    fault::forget();
    let refused = fault::catch(|| page.space.run(|| probe::JUMP.run(AT, 0)));
    expect_eq!(refused, Err(Fault::new(ec::INSTRUCTION_ABORT, 0xf)))?;
    expect_eq!(fault::details().elr, AT)?;
    expect_eq!(fault::details().far, AT)
}

/// A page of the runtime is refused to EL0, the same page marked for it is not.
#[case(spec = "DDI0487 D8.4")]
fn el0_needs_the_user_bit(page: &mut Page) -> Verdict {
    page.space = Space::user();
    page.set(bits::PAGE | bits::USER);
    page.frame.write(8, 5u64);
    expect_eq!(page.space.run_user(|| probe::LOAD.run(AT + 8, 0)), Ok(5))?;
    page.set(bits::PAGE);
    let refused = page.space.run_user(|| probe::LOAD.run(AT + 8, 0));
    expect_eq!(refused, Err(Fault::new(ec::DATA_ABORT_LOWER, 0xf)))
}

/// A 2 MiB block maps its first and its last byte.
#[case(spec = "DDI0487 D8.3")]
fn blocks_map_both_ends(page: &mut Page) -> Verdict {
    const SIZE: u64 = 2 << 20;
    let big = Frames::aligned((SIZE / 4096) as usize, SIZE as usize);
    let at = PRIVATE + 0x4000_0000;
    page.space.set(at, 2, big.address() | bits::BLOCK);
    big.write(0, 0xaau8);
    big.write(SIZE as usize - 1, 0xbbu8);
    let byte = |offset| page.space.run(|| probe::LOAD_SIGNED8.run(at + offset, 0)) as u8;
    expect_eq!((byte(0), byte(SIZE - 1)), (0xaa, 0xbb))?;
    let beyond = fault::catch(|| page.space.run(|| probe::LOAD.run(at + SIZE, 0))).map_err(plain);
    expect_eq!(beyond, abort(6, false))
}

/// After an exception the runtime's own map is back.
#[case(spec = "DDI0487 D8.15")]
fn recovery_restores_the_map(page: &mut Page) -> Verdict {
    let before = arch::registers::Ttbr0El1::read();
    page.set(0);
    expect_eq!(page.load(), abort(7, false))?;
    expect_eq!(arch::registers::Ttbr0El1::read(), before)?;
    page.set(bits::PAGE);
    let physical = page.space.run(|| translate_read(AT));
    expect_eq!(
        physical & 0x000f_ffff_ffff_f001,
        page.frame.address(),
        "PAR_EL1"
    )
}
