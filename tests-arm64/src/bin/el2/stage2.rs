//! Stage 2 faults. Spec: DDI0487 D8.15, D24.2 ESR_EL2.
//!
//! A second stage turns an access of EL1 into an exception to EL2 with everything an emulator needs: the
//! intermediate address in HPFAR, the virtual one in FAR, and for simple loads and stores the size, sign,
//! register and direction. A hypervisor that nests has to build exactly this syndrome by hand.

use guest_lib::arch::code::{self, Code};
use guest_lib::arch::cpu::clean_to_memory;
use guest_lib::arch::fault::{Frame, Vector, ec};
use guest_lib::arch::nested::{HpfarEl2, Nested, Stage2, hcr};
use guest_lib::arch::snippets::{CALL_HVC, LOAD_HVC, LOAD_SIGNED_HVC, STORE_HVC, Snippet};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const ISV: u64 = 1 << 24;
const WRITE: u64 = 1 << 6;
/// ISS of LDR X0: doubleword into a 64-bit register.
const LDR_X0: u64 = ISV | 3 << 22 | 1 << 15;
/// ISS of LDRSB W5: byte, signed, register 5.
const LDRSB_W5: u64 = ISV | 1 << 21 | 5 << 16;

/// EL1 with a second stage, and a page of it to spoil.
struct World {
    nested: Nested,
    stage2: Stage2,
    page: Frames,
}

impl Fixture for World {
    fn fresh() -> Result<Self, Stop> {
        let nested = Nested::fresh()?;
        let page = Frames::new(1);
        page.write(0, code::RET);
        page.write(0x128, 0x1234_5678_9abc_def0u64);
        clean_to_memory(page.address() as usize, page.len());
        let stage2 = Stage2::around(page.address());
        Ok(World {
            nested,
            stage2,
            page,
        })
    }
}

impl World {
    fn run(&self, snippet: Snippet, offset: u64) -> (Frame, u64) {
        let code = Code::new(snippet.words());
        let mut state = self.nested.state(code.address());
        state.x[0] = 0x77;
        state.x[1] = self.page.address() + offset;
        HpfarEl2::write(0);
        (self.nested.run(hcr::VM, &state), code.address())
    }

    fn expect_done(&self, snippet: Snippet, offset: u64) -> Verdict {
        expect_eq!(
            self.run(snippet, offset).0.fault(),
            Fault::new(ec::HVC64, 1),
            "a whole map"
        )
    }
}

/// A translation or access flag fault of a load or store tells both addresses and the access.
#[case(
    spec = "DDI0487 D24.2 ESR_EL2",
    needs("arm64.el2"),
    rows(
        load: (LOAD_HVC, |_| 0, LDR_X0 | 0x07),
        store: (STORE_HVC, |_| 0, LDR_X0 | WRITE | 0x07),
        signed_load: (LOAD_SIGNED_HVC, |_| 0, LDRSB_W5 | 0x07),
        access_flag: (LOAD_HVC, |d| d & !(1 << 10), LDR_X0 | 0x0b)
    )
)]
fn data_fault_is_exact(world: &mut World, row: (Snippet, fn(u64) -> u64, u64)) -> Verdict {
    let (snippet, spoil, iss) = row;
    world.expect_done(snippet, 0x128)?;
    let whole = world.stage2.descriptor();
    world.stage2.change(spoil);
    let (frame, code) = world.run(snippet, 0x128);
    expect_eq!(frame.fault(), Fault::new(ec::DATA_ABORT_LOWER, iss))?;
    expect_eq!(frame.vector, Vector::LOWER64_SYNC)?;
    expect_eq!(
        (frame.elr, frame.far),
        (code, world.page.address() + 0x128),
        "ELR and FAR"
    )?;
    expect_eq!(HpfarEl2::read(), world.page.address() >> 12 << 4, "HPFAR")?;
    world.stage2.change(|_| whole);
    world.expect_done(snippet, 0x128)
}

/// A page without write permission lets loads through and refuses stores, which change nothing.
#[case(spec = "DDI0487 D8.15", needs("arm64.el2"))]
fn read_only_page_refuses_stores(world: &mut World) -> Verdict {
    world.expect_done(STORE_HVC, 0x200)?;
    world.stage2.change(|d| d & !(2 << 6));
    world.expect_done(LOAD_HVC, 0x128)?;
    let (frame, code) = world.run(STORE_HVC, 0x128);
    expect_eq!(
        frame.fault(),
        Fault::new(ec::DATA_ABORT_LOWER, LDR_X0 | WRITE | 0x0f)
    )?;
    expect_eq!(
        (frame.elr, frame.far),
        (code, world.page.address() + 0x128),
        "ELR and FAR"
    )?;
    expect_eq!(
        world.page.read::<u64>(0x128),
        0x1234_5678_9abc_def0,
        "the memory"
    )
}

/// A page without read permission refuses loads.
#[case(spec = "DDI0487 D8.15", needs("arm64.el2"))]
fn write_only_page_refuses_loads(world: &mut World) -> Verdict {
    world.expect_done(LOAD_HVC, 0x128)?;
    world.stage2.change(|d| d & !(1 << 6));
    let (frame, _) = world.run(LOAD_HVC, 0x128);
    expect_eq!(
        frame.fault(),
        Fault::new(ec::DATA_ABORT_LOWER, LDR_X0 | 0x0f)
    )?;
    world.expect_done(STORE_HVC, 0x200)
}

/// A fetch from a page that is not there, or not executable, is an instruction abort at its target.
#[case(
    spec = "DDI0487 D8.15",
    needs("arm64.el2"),
    rows(
        invalid: (|_| 0, 0x07),
        execute_never: (|d| d | 2 << 53, 0x0f),
        access_flag: (|d| d & !(1 << 10), 0x0b)
    )
)]
fn instruction_fault_is_exact(world: &mut World, row: (fn(u64) -> u64, u64)) -> Verdict {
    let (spoil, iss) = row;
    world.expect_done(CALL_HVC, 0)?;
    let whole = world.stage2.descriptor();
    world.stage2.change(spoil);
    let (frame, code) = world.run(CALL_HVC, 0);
    let at = world.page.address();
    expect_eq!(frame.fault(), Fault::new(ec::INSTRUCTION_ABORT_LOWER, iss))?;
    expect_eq!((frame.elr, frame.far), (at, at), "ELR and FAR")?;
    expect_eq!(frame.x[30], code + 4, "the link register")?;
    if iss != 0x0f {
        expect_eq!(HpfarEl2::read(), at >> 12 << 4, "HPFAR")?;
    }
    world.stage2.change(|_| whole);
    world.expect_done(CALL_HVC, 0)
}

/// A page that is mapped elsewhere shows what lies there.
#[case(spec = "DDI0487 D8.15", needs("arm64.el2"))]
fn second_stage_translates(world: &mut World) -> Verdict {
    let other = Frames::new(1);
    other.write(0x128, 0xfeed_f00du64);
    clean_to_memory(other.address() as usize, other.len());
    expect_eq!(
        world.run(LOAD_HVC, 0x128).0.x[0],
        0x1234_5678_9abc_def0,
        "one to one"
    )?;
    world
        .stage2
        .change(|d| d & 0xfff | d & !0 << 52 | other.address());
    expect_eq!(world.run(LOAD_HVC, 0x128).0.x[0], 0xfeed_f00d, "elsewhere")?;
    world.expect_done(STORE_HVC, 0x128)?;
    clean_to_memory(other.address() as usize, other.len());
    expect_eq!(other.read::<u64>(0x128), 0x77, "what was stored")?;
    expect_eq!(
        world.page.read::<u64>(0x128),
        0x1234_5678_9abc_def0,
        "the page itself"
    )
}
