//! arm64: AArch64 at EL1, or at EL2 with FEAT_VHE.
//!
//! A payload that stays at EL2 runs with HCR_EL2.{E2H, TGE} = {1, 1}. There the names of EL1 system
//! registers reach those of EL2, EL0 is governed by EL2, and one runtime serves both levels.
//! Without FEAT_VHE the payload drops to EL1, and `arm64.el2` is not met.

mod boot;
pub mod code;
pub mod cpu;
pub mod debug;
pub mod dtb;
pub mod enter;
pub mod fault;
pub mod fw_cfg;
pub mod gic;
pub mod interrupts;
pub mod keep;
pub mod mmio;
pub mod nested;
pub mod paging;
pub mod platform;
pub mod probe;
pub mod psci;
pub mod pstate;
pub mod registers;
pub mod smp;
pub mod snippets;
pub mod time;
pub mod timer;

/// First segment of a case id.
pub const NAME: &str = "arm64";

/// Whether the machine meets `need`.
pub fn has(need: &str) -> bool {
    let field = registers::field;
    match need {
        "arm64.aarch32_el0" => field(registers::IdAa64pfr0El1::read(), 0) == 2,
        "arm64.big_endian_el0" => {
            let features = registers::IdAa64mmfr0El1::read();
            field(features, 8) != 0 || field(features, 16) != 0
        }
        "arm64.bti" => field(registers::IdAa64pfr1El1::read(), 0) != 0,
        "arm64.dit" => matches!(field(registers::IdAa64pfr0El1::read(), 48), 1..15),
        "arm64.dirty_state" => field(registers::IdAa64mmfr1El1::read(), 0) >= 2,
        "arm64.el2" => cpu::current_el() == 2,
        "arm64.fp" => field(registers::IdAa64pfr0El1::read(), 16) != 15,
        "arm64.fw_cfg" => fw_cfg::address().is_some(),
        "arm64.gicv2" => platform::info().gic.version == 2,
        "arm64.gicv3" => platform::info().gic.version == 3,
        "arm64.hafdbs" => field(registers::IdAa64mmfr1El1::read(), 0) >= 1,
        "arm64.hyp_virtual_timer" => platform::info().timer_intids[4] != 0,
        "arm64.idst" => field(registers::IdAa64mmfr2El1::read(), 36) != 0,
        "arm64.its" => platform::info().gic.its != 0,
        "arm64.mte" => field(registers::IdAa64pfr1El1::read(), 8) >= 2,
        "arm64.pan" => field(registers::IdAa64mmfr1El1::read(), 20) != 0,
        "arm64.pan2" => field(registers::IdAa64mmfr1El1::read(), 20) >= 2,
        "arm64.pl011" => matches!(platform::info().uart, platform::Uart::Pl011(_)),
        "arm64.psci" => platform::info().conduit.is_some(),
        "arm64.smccc11" => {
            platform::info().conduit.is_some()
                && psci::call([psci::id::SMCCC_VERSION, 0, 0, 0])[0] as i32 >= 0x1_0001
        }
        "arm64.ssbs" => field(registers::IdAa64pfr1El1::read(), 4) >= 2,
        "arm64.system_reset2" => {
            platform::info().conduit.is_some() && psci::features(psci::id::SYSTEM_RESET2).0 >= 0
        }
        "arm64.uao" => field(registers::IdAa64mmfr2El1::read(), 4) != 0,
        _ => false,
    }
}
