//! MOVE PAGE: a page copied by one instruction, with faults as condition codes on request.
//!
//! Spec: SA22-7832 10 MOVE PAGE. General register 0 holds the access key, its use, and the
//! condition-code option. A hypervisor that resolves page faults itself runs into all of it.

use crate::space::{HIGH, HighPage};
use guest_lib::arch::exec::{Ran, execute, registers, with_psw_key};
use guest_lib::arch::fault::last;
use guest_lib::arch::paging::{Level, PAGE_INVALID, PAGE_PROTECTED};
use guest_lib::memory::{Frames, total};
use guest_lib::prelude::*;

/// Condition-code option.
const CCO: u64 = 0x100;

/// MVPG r2,r4 with register 0.
fn mvpg(control: u64, target: u64, source: u64) -> Result<Ran, Fault> {
    execute(
        &[0xb254, 0x0024],
        registers([(0, control), (2, target), (4, source)]),
    )
}

fn filled(seed: u64) -> Frames {
    let page = Frames::new(1);
    for word in 0..512u64 {
        page.write(8 * word as usize, seed.wrapping_mul(word + 1));
    }
    page
}

/// The whole page is copied and nothing beside it, in supervisor and in problem state.
#[case(spec = "SA22-7832 10 MOVE PAGE", rows(supervisor: false, problem: true))]
fn page_is_copied(problem: bool) -> Verdict {
    let source = filled(0x0102_0304_0506_0708);
    let target = Frames::new(3);
    let moved = || mvpg(0, target.address() + 4096, source.address()).map(|ran| ran.cc);
    let cc = if problem {
        fault::catch_user(moved)?
    } else {
        moved()
    };
    expect_eq!(cc, Ok(0))?;
    expect!(target.bytes()[4096..8192] == *source.bytes(), "the page")?;
    expect!(target.bytes()[..4096].iter().all(|&b| b == 0), "before it")?;
    expect!(target.bytes()[8192..].iter().all(|&b| b == 0), "after it")
}

/// Bits inside the page of both addresses are ignored.
#[case(spec = "SA22-7832 10 MOVE PAGE")]
fn offsets_in_the_page_are_ignored() -> Verdict {
    let (source, target) = (filled(3), Frames::new(1));
    expect_eq!(
        mvpg(0, target.address() + 0x123, source.address() + 0xfff)?.cc,
        0
    )?;
    expect!(target.bytes() == source.bytes(), "the page")
}

/// Sixteen pages in a row are copied, touched before or not, DAT off and on.
#[case(spec = "SA22-7832 10 MOVE PAGE", rows(
    cold_real: (false, false),
    warm_real: (true, false),
    cold_virtual: (false, true),
    warm_virtual: (true, true),
))]
fn many_pages_are_copied((warm, dat): (bool, bool)) -> Verdict {
    let space = guest_lib::arch::paging::AddressSpace::identity();
    let target = Frames::new(16);
    for i in 0..16 {
        let source = filled(i + 1);
        let to = target.address() + 4096 * i;
        if warm {
            target.write(4096 * i as usize, 1u64);
        }
        let moved = || mvpg(0, to, source.address()).map(|ran| ran.cc);
        expect_eq!(
            if dat { space.run(moved) } else { moved() },
            Ok(0),
            "page {i}"
        )?;
        let at = 4096 * i as usize;
        expect!(target.bytes()[at..at + 4096] == *source.bytes(), "page {i}")?;
    }
    Ok(())
}

/// Reserved codes of key-function control are a specification exception.
#[case(spec = "SA22-7832 10 MOVE PAGE")]
fn reserved_key_function_is_refused() -> Verdict {
    let (source, target) = (filled(5), Frames::new(1));
    for control in 3..32u64 {
        // 4 and 5 belong to the DAT-enhancement facility 2's store-key forms.
        if matches!(control, 4 | 5) && guest_lib::arch::registers::facility(149) {
            continue;
        }
        let refused = mvpg(control << 11, target.address(), source.address());
        expect_eq!(
            refused.err(),
            Some(Fault::SPECIFICATION),
            "key-function control {control}"
        )?;
    }
    expect!(target.bytes().iter().all(|&b| b == 0), "nothing was copied")?;
    expect_eq!(mvpg(0, target.address(), source.address())?.cc, 0)
}

/// An operand beyond storage is an addressing exception.
#[case(spec = "SA22-7832 10 MOVE PAGE")]
fn operand_beyond_storage_is_refused() -> Verdict {
    let page = filled(7);
    expect_eq!(
        mvpg(0, total(), page.address()).err(),
        Some(Fault::ADDRESSING),
        "target"
    )?;
    let before: Vec<u8> = page.bytes().to_vec();
    expect_eq!(
        mvpg(0, page.address(), total()).err(),
        Some(Fault::ADDRESSING),
        "source"
    )?;
    expect!(page.bytes() == before, "the target stays")
}

/// A protected source may be read; a protected target is a protection exception, with and without
/// the condition-code option.
#[case(spec = "SA22-7832 10 MOVE PAGE", rows(plain: 0, option: CCO))]
fn protected_target_is_refused(page: &mut HighPage, control: u64) -> Verdict {
    let other = filled(9);
    page.change(Level::Page, PAGE_PROTECTED, true);
    let (from, to) = page.space.run(|| {
        (
            mvpg(control, other.address(), HIGH).map(|ran| ran.cc),
            mvpg(control, HIGH, other.address()).map(|ran| ran.cc),
        )
    });
    expect_eq!((from, to), (Ok(0), Err(Fault::PROTECTION)))
}

/// An invalid page is a page-translation exception that names the registers of the instruction.
#[case(spec = "SA22-7832 10 MOVE PAGE", rows(source: false, target: true))]
fn invalid_page_names_the_operands(page: &mut HighPage, target: bool) -> Verdict {
    let other = filled(11);
    page.change(Level::Page, PAGE_INVALID, true);
    let (to, from) = if target {
        (HIGH, other.address())
    } else {
        (other.address(), HIGH)
    };
    let fault = page.space.run(|| mvpg(0, to, from)).err();
    expect_eq!(fault, Some(Fault::PAGE_TRANSLATION))?;
    expect_eq!(last().translation_exception & !0xfff, HIGH)?;
    expect_eq!(last().operand_access, 0x24, "operand access identification")
}

/// With the condition-code option an invalid target is condition code 1 and an invalid source 2,
/// and with both 2.
#[case(spec = "SA22-7832 10 MOVE PAGE", rows(
    target: (true, false, 1),
    source: (false, true, 2),
    both: (true, true, 2),
))]
fn option_turns_faults_into_codes(page: &mut HighPage, row: (bool, bool, u8)) -> Verdict {
    let (bad_target, bad_source, cc) = row;
    let other = filled(13);
    page.change(Level::Page, PAGE_INVALID, true);
    let of = |bad: bool| if bad { HIGH } else { other.address() };
    let answer = page
        .space
        .run(|| mvpg(CCO, of(bad_target), of(bad_source)).map(|ran| ran.cc));
    expect_eq!(answer, Ok(cc))?;
    page.change(Level::Page, PAGE_INVALID, false);
    let (to, from) = (of(bad_target), of(bad_source && !bad_target));
    expect_eq!(
        page.space.run(|| mvpg(CCO, to, from).map(|ran| ran.cc)),
        Ok(0),
        "valid again"
    )
}

/// MOVE PAGE records the change of its target and the reference of its source.
#[case(spec = "SA22-7832 3 Change Recording")]
fn move_records_change_and_reference() -> Verdict {
    use guest_lib::arch::skey::{self, Skey};
    let (source, target) = (filled(15), Frames::new(1));
    skey::set(source.address(), Skey::acc(0))?;
    skey::set(target.address(), Skey::acc(0))?;
    expect_eq!(
        with_psw_key(0, || mvpg(0, target.address(), source.address()))?.cc,
        0
    )?;
    let (from, to) = (skey::get(source.address())?, skey::get(target.address())?);
    expect_eq!(
        (from.is_referenced(), from.is_changed(), to.is_changed()),
        (true, false, true)
    )
}
