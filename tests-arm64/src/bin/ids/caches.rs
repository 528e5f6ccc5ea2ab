//! The caches as they describe themselves. Spec: DDI0487 D7.5, D24.2.
//!
//! Software walks CLIDR and CCSIDR to maintain caches by set and way, and takes line sizes from CTR. On a
//! machine with unlike host processors a hypervisor must invent one geometry, and it must stay the
//! same wherever the virtual processor runs.

use guest_lib::arch::code::clean_set_way;
use guest_lib::arch::registers::{
    CcsidrEl1, ClidrEl1, CsselrEl1, CtrEl0, DczidEl0, IdAa64mmfr2El1, field,
};
use guest_lib::arch::{cpu, probe};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// Number of sets and ways, and the line size as a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Geometry {
    sets: u64,
    ways: u64,
    line: u32,
}

/// CSSELR_EL1 of every implemented cache: level from 0, and instruction or not.
fn caches() -> Vec<u64> {
    let levels = ClidrEl1::read();
    let mut all = Vec::new();
    for level in 0..7u64 {
        match levels >> (level * 3) & 7 {
            1 => all.push(level << 1 | 1),
            2 | 4 => all.push(level << 1),
            3 => all.extend([level << 1, level << 1 | 1]),
            _ => {}
        }
    }
    all
}

fn geometry(select: u64) -> Geometry {
    CsselrEl1::write(select);
    let value = CcsidrEl1::read();
    let wide = field(IdAa64mmfr2El1::read(), 20) != 0;
    let (ways, sets) = match wide {
        true => (value >> 3 & 0x1f_ffff, value >> 32 & 0xff_ffff),
        false => (value >> 3 & 0x3ff, value >> 13 & 0x7fff),
    };
    Geometry {
        sets: sets + 1,
        ways: ways + 1,
        line: (value & 7) as u32 + 4,
    }
}

/// CTR_EL0 has its RES1 bit, a policy that exists, and lines of sixteen bytes or more.
#[case(spec = "DDI0487 D24.2 CTR_EL0")]
fn ctr_is_legal() -> Verdict {
    let value = CtrEl0::read();
    expect_eq!(value >> 31 & 1, 1, "bit 31")?;
    expect_eq!(value >> 30 & 1, 0, "bit 30")?;
    let policy = value >> 14 & 3;
    expect!([2, 3].contains(&policy), "L1Ip is {policy}")?;
    for (name, shift) in [("IminLine", 0), ("DminLine", 16)] {
        let words = field(value, shift);
        expect!((2..=9).contains(&words), "{name} is {words}")?;
    }
    for (name, shift) in [("ERG", 20), ("CWG", 24)] {
        let words = field(value, shift);
        expect!(words <= 9, "{name} is {words}")?;
    }
    Ok(())
}

/// CLIDR_EL1 lists caches from level 1 without a gap, and its points lie within them.
#[case(spec = "DDI0487 D24.2 CLIDR_EL1")]
fn clidr_is_contiguous() -> Verdict {
    let value = ClidrEl1::read();
    let mut ended = false;
    let mut levels = 0;
    for level in 0..7 {
        let kind = value >> (level * 3) & 7;
        expect!(kind <= 4, "level {} is of kind {kind}", level + 1)?;
        expect!(kind == 0 || !ended, "level {} follows a gap", level + 1)?;
        ended |= kind == 0;
        levels += u64::from(kind != 0);
    }
    let (inner, coherency, unification) = (value >> 21 & 7, value >> 24 & 7, value >> 27 & 7);
    expect!(coherency <= levels, "LoC {coherency} of {levels} levels")?;
    expect!(
        unification <= coherency,
        "LoUU {unification}, LoC {coherency}"
    )?;
    expect!(inner <= coherency, "LoUIS {inner}, LoC {coherency}")
}

/// Every cache that CLIDR lists has a geometry that stays, with lines no shorter than CTR's minimum.
#[case(spec = "DDI0487 D24.2 CCSIDR_EL1")]
fn ccsidr_is_stable_and_fits_ctr() -> Verdict {
    let smallest = CtrEl0::read();
    for select in caches() {
        let first = geometry(select);
        let minimum = field(smallest, if select & 1 != 0 { 0 } else { 16 }) as u32 + 2;
        expect!(
            first.line >= minimum,
            "cache {select:#x}: {first:?}, minimum {minimum}"
        )?;
        for _ in 0..100 {
            expect_eq!(geometry(select), first, "cache {select:#x}")?;
            expect_eq!(CsselrEl1::read(), select, "CSSELR_EL1")?;
        }
    }
    Ok(())
}

/// Selecting a cache that is not there harms nothing, and the real ones stay readable.
#[case(spec = "DDI0487 D24.2 CSSELR_EL1")]
fn absent_caches_are_harmless() -> Verdict {
    let known: Vec<Geometry> = caches().into_iter().map(geometry).collect();
    for select in 0..16 {
        fault::catch(|| geometry(select))?;
    }
    let again: Vec<Geometry> = caches().into_iter().map(geometry).collect();
    expect_eq!(again, known)
}

/// All processors have the same caches, and CSSELR_EL1 is each one's own.
#[case(spec = "DDI0487 D24.2 CCSIDR_EL1", needs("cpus>=2"))]
fn caches_are_alike() -> Verdict {
    let look = || {
        let geometries: Vec<Geometry> = caches().into_iter().map(geometry).collect();
        (
            CtrEl0::read(),
            ClidrEl1::read(),
            DczidEl0::read(),
            geometries,
        )
    };
    let here = look();
    CsselrEl1::write(0);
    for (cpu, there) in cpus::on_each(cpus::others(), |_| look())?
        .into_iter()
        .enumerate()
    {
        expect_eq!(there, here, "CPU {}", cpu + 1)?;
    }
    expect_eq!(CsselrEl1::read() & 0xf, 0, "CSSELR_EL1 here")
}

/// Cleaning and invalidating every set and way loses nothing.
#[case(spec = "DDI0487 C5.3 DC CISW")]
fn set_way_maintenance_keeps_data() -> Verdict {
    let data = Frames::new(16);
    for i in (0..data.len()).step_by(64) {
        data.write(i, i as u64 ^ 0x1234_5678);
    }
    for select in caches().into_iter().filter(|s| s & 1 == 0) {
        let geometry = geometry(select);
        let way_shift = 32 - (geometry.ways - 1).checked_ilog2().map_or(0, |b| b + 1);
        for set in 0..geometry.sets {
            for way in 0..geometry.ways {
                let way = if way_shift < 32 { way << way_shift } else { 0 };
                clean_set_way(way | set << geometry.line | select);
            }
        }
    }
    cpu::dsb();
    for i in (0..data.len()).step_by(64) {
        expect_eq!(data.read::<u64>(i), i as u64 ^ 0x1234_5678, "byte {i}")?;
    }
    Ok(())
}

/// DC ZVA zeroes one aligned block of the size that DCZID_EL0 gives, wherever in it the address lies.
#[case(spec = "DDI0487 D24.2 DCZID_EL0")]
fn dc_zva_zeroes_its_block() -> Verdict {
    let dczid = DczidEl0::read();
    if dczid >> 4 & 1 != 0 {
        let refused = fault::catch(|| probe::ZERO.run(Frames::new(1).address(), 0)).err();
        return expect_ne!(refused, None, "DC ZVA with DCZID_EL0.DZP set");
    }
    let size = 4u64 << (dczid & 0xf);
    expect!((16..=2048).contains(&size), "{size} bytes")?;
    let mut data = Frames::new(3);
    let middle = data.address() + 4096;
    for inside in [0, 1, size / 2, size - 1] {
        data.bytes_mut().fill(0xff);
        fault::catch(|| probe::ZERO.run(middle + inside, 0))?;
        for i in 0..data.len() {
            let zeroed = (4096..4096 + size as usize).contains(&i);
            let expected = if zeroed { 0 } else { 0xff };
            expect_eq!(
                data.read::<u8>(i),
                expected,
                "byte {} of the block",
                i as i64 - 4096
            )?;
        }
    }
    Ok(())
}
