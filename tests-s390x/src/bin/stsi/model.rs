//! Facilities that need other facilities, and those that need interpretive execution.
//!
//! Spec: SA22-7832 4 Facility Indications. A hypervisor that offers a subset of its host's
//! facilities has to keep the subset closed; programs test only the bit they care about.

use guest_lib::arch::registers::facility;
use guest_lib::arch::sclp::{cpu_byte, info_byte};
use guest_lib::prelude::*;

/// Where one facility is installed, the one it is built on is too.
#[case(spec = "SA22-7832 4 Facility Indications", rows(
    f4_implies_3: (4, 3), f5_implies_3: (5, 3), f5_implies_4: (5, 4), f19_implies_18: (19, 18),
    f37_implies_42: (37, 42), f43_implies_42: (43, 42), f73_implies_49: (73, 49),
    f134_implies_129: (134, 129), f135_implies_129: (135, 129), f139_implies_25: (139, 25),
    f139_implies_28: (139, 28), f146_implies_76: (146, 76), f78_implies_8: (78, 8),
    f61_implies_45: (61, 45), f148_implies_129: (148, 129), f148_implies_135: (148, 135),
    f152_implies_129: (152, 129), f152_implies_134: (152, 134), f155_implies_76: (155, 76),
    f155_implies_77: (155, 77),
))]
fn facility_brings_its_base((one, base): (usize, usize)) -> Verdict {
    if !facility(one) {
        return skip("s390x.facility");
    }
    expect!(facility(base), "facility {one} without facility {base}")
}

/// Without interpretive execution none of its assists is announced.
#[case(spec = "SCLP READ SCP INFO", rows(
    basic_sca_origin: (info_byte as fn(usize) -> u8, 116, 0x80),
    collaborative_memory: (info_byte as fn(usize) -> u8, 116, 0x40),
    extended_sca: (info_byte as fn(usize) -> u8, 116, 0x08),
    pfmf_interpretation: (info_byte as fn(usize) -> u8, 117, 0x40),
    interlock_and_broadcast: (info_byte as fn(usize) -> u8, 117, 0x20),
    guest_suppression: (info_byte as fn(usize) -> u8, 85, 0x80),
    keyless_subset: (info_byte as fn(usize) -> u8, 98, 0x01),
    storage_key: (cpu_byte as fn(usize) -> u8, 2, 0x04),
    guest_per: (cpu_byte as fn(usize) -> u8, 3, 0x20),
    sie_interlock: (cpu_byte as fn(usize) -> u8, 3, 0x10),
    sigp_interpretation: (cpu_byte as fn(usize) -> u8, 3, 0x08),
))]
fn assist_needs_interpretive_execution(row: (fn(usize) -> u8, usize, u8)) -> Verdict {
    let (byte, at, bit) = row;
    if guest_lib::arch::has("s390x.sie") {
        return skip("s390x.no_sie");
    }
    expect_eq!(byte(at) & bit, 0, "byte {at}, bit {bit:#x}")
}
