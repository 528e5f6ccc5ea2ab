//! Address translation instructions. Spec: DDI0487 C5.4, D24.2 PAR_EL1.
//!
//! AT asks the MMU and answers in PAR_EL1: the output address and attributes, or F and the status that an
//! access would have given. It never takes the exception itself. A hypervisor that emulates AT (nested
//! virtualization does) walks the guest's tables in software. ESR and FAR must stay as they were.

use guest_lib::arch::paging::{
    PRIVATE, Space, bits, flush, translate_read, translate_user_read, translate_user_write,
    translate_write,
};
use guest_lib::arch::registers::{EsrEl1, FarEl1};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const AT: u64 = PRIVATE + 0x50_0000_0000;

/// A page of a space of its own.
struct Page {
    space: Space,
    frame: Frames,
}

impl Fixture for Page {
    fn fresh() -> Result<Self, Stop> {
        Ok(Page {
            space: Space::kernel(),
            frame: Frames::new(1),
        })
    }
}

type Ask = fn(u64) -> u64;
/// By row of the case below: read, write, EL0 read, EL0 write.
const ASKS: [Ask; 4] = [
    translate_read,
    translate_write,
    translate_user_read,
    translate_user_write,
];

impl Page {
    fn ask(&mut self, raw: u64) -> Result<[u64; 4], Fault> {
        self.space.set(AT, 3, raw);
        flush();
        EsrEl1::write(0x1234);
        FarEl1::write(0x5678_9abc);
        fault::catch(|| self.space.run(|| ASKS.map(|ask| ask(AT + 0x123))))
    }
}

/// PAR_EL1 of a failed translation: F and the status.
fn failed(status: u64) -> u64 {
    1 | status << 1
}

/// Who may do what shows in PAR_EL1 as it would in an access, and no exception is taken.
#[case(
    spec = "DDI0487 C5.4 AT",
    rows(
        kernel_page: (bits::PAGE, [None, None, Some(0xf), Some(0xf)]),
        user_page: (bits::PAGE | bits::USER, [None, None, None, None]),
        read_only: (bits::PAGE | bits::READ_ONLY, [None, Some(0xf), Some(0xf), Some(0xf)]),
        user_read_only: (
            bits::PAGE | bits::USER | bits::READ_ONLY,
            [None, Some(0xf), None, Some(0xf)]
        ),
        no_access_flag: (bits::PAGE & !bits::ACCESSED, [Some(0xb); 4]),
        invalid: (0, [Some(7); 4])
    )
)]
fn par_tells_what_an_access_would(page: &mut Page, row: (u64, [Option<u64>; 4])) -> Verdict {
    let (flags, expected) = row;
    let raw = if flags == 0 {
        0
    } else {
        page.frame.address() | flags
    };
    let answers = page.ask(raw)?;
    expect_eq!(
        (EsrEl1::read(), FarEl1::read()),
        (0x1234, 0x5678_9abc),
        "ESR and FAR"
    )?;
    for (i, (par, status)) in answers.into_iter().zip(expected).enumerate() {
        match status {
            // Bit 11 is RES1; the level of a failed walk is in the status.
            Some(status) => expect_eq!(par & 0x7f, failed(status), "PAR_EL1 of query {i}")?,
            None => {
                expect_eq!(par & 1, 0, "PAR_EL1.F of query {i}")?;
                expect_eq!(
                    par & 0xf_ffff_ffff_f000,
                    page.frame.address(),
                    "PA of query {i}"
                )?;
            }
        }
    }
    Ok(())
}

/// PAR_EL1 tells the attributes of the page: MAIR's byte, and shareability.
#[case(
    spec = "DDI0487 D24.2 PAR_EL1",
    rows(
        memory: (bits::PAGE, 0xff, 3),
        device: (bits::PAGE & !bits::SHARED | bits::DEVICE, 0x04, 2),
        non_cacheable: (bits::PAGE & !bits::SHARED | bits::NON_CACHEABLE, 0x44, 2)
    )
)]
fn par_tells_the_attributes(page: &mut Page, row: (u64, u64, u64)) -> Verdict {
    let (flags, attribute, shareable) = row;
    let raw = page.frame.address() | flags;
    let [par, ..] = page.ask(raw)?;
    expect_eq!(par & 1, 0, "F")?;
    expect_eq!(par >> 56, attribute, "ATTR")?;
    expect_eq!(par >> 7 & 3, shareable, "SH")
}

/// A failed walk tells the level at which it ended.
#[case(spec = "DDI0487 D24.2 PAR_EL1", rows(level_1: 1, level_2: 2, level_3: 3))]
fn par_tells_the_level_of_a_failed_walk(page: &mut Page, level: u32) -> Verdict {
    let raw = page.frame.address() | bits::PAGE;
    expect_eq!(page.ask(raw)?[0] & 1, 0, "F of the whole walk")?;
    page.space.set(AT, level, 0);
    flush();
    let par = fault::catch(|| page.space.run(|| translate_read(AT)))?;
    expect_eq!(par & 0x7f, failed(4 + u64::from(level)))
}

/// AT S1E1RP and S1E1WP refuse pages of EL0 while PSTATE.PAN is set; the plain forms do not.
#[case(spec = "DDI0487 C5.4 AT", needs("arm64.pan2"))]
fn par_honours_pan_when_asked(page: &mut Page) -> Verdict {
    use guest_lib::arch::code::{Code, RET};
    use guest_lib::arch::registers::{ParEl1, set_pan};
    page.space
        .set(AT, 3, page.frame.address() | bits::PAGE | bits::USER);
    flush();
    // AT S1E1RP, X0 and AT S1E1WP, X0.
    for word in [0xd508_7900, 0xd508_7920] {
        let code = Code::new(&[word, 0xd503_3fdf, RET]);
        let ask = |pan: bool| {
            fault::catch(|| {
                page.space.run(|| {
                    set_pan(pan);
                    code.run(AT, 0);
                    set_pan(false);
                    ParEl1::read()
                })
            })
        };
        expect_eq!(ask(false)? & 1, 0, "F without PAN")?;
        expect_eq!(ask(true)? & 0x7f, failed(0xf), "with PAN")?;
    }
    let plain = fault::catch(|| {
        page.space.run(|| {
            set_pan(true);
            let par = translate_read(AT);
            set_pan(false);
            par
        })
    })?;
    expect_eq!(plain & 1, 0, "F of S1E1R with PAN")
}
