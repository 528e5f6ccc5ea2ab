//! arm64: AArch64 at EL1, or at EL2 with FEAT_VHE.
//!
//! A payload that stays at EL2 runs with HCR_EL2.{E2H, TGE} = {1, 1}. There the names of EL1 system
//! registers reach those of EL2, EL0 is governed by EL2, and one runtime serves both levels.
//! Without FEAT_VHE the payload drops to EL1, and `arm64.el2` is not met.

mod boot;
pub mod cpu;
pub mod debug;
pub mod dtb;
pub mod fault;
pub mod gic;
pub mod interrupts;
pub mod mmio;
pub mod paging;
pub mod platform;
pub mod probe;
pub mod psci;
pub mod registers;
pub mod smp;
pub mod time;
pub mod timer;

/// First segment of a case id.
pub const NAME: &str = "arm64";

/// Whether the machine meets `need`.
pub fn has(need: &str) -> bool {
    let field = registers::field;
    match need {
        "arm64.aarch32_el0" => field(registers::IdAa64pfr0El1::read(), 0) == 2,
        "arm64.el2" => cpu::current_el() == 2,
        "arm64.fp" => field(registers::IdAa64pfr0El1::read(), 16) != 15,
        "arm64.gicv2" => platform::info().gic.version == 2,
        "arm64.gicv3" => platform::info().gic.version == 3,
        "arm64.hyp_virtual_timer" => platform::info().timer_intids[4] != 0,
        "arm64.its" => platform::info().gic.its != 0,
        "arm64.psci" => platform::info().conduit.is_some(),
        "arm64.smccc11" => {
            platform::info().conduit.is_some()
                && psci::call([psci::id::SMCCC_VERSION, 0, 0, 0])[0] as i32 >= 0x1_0001
        }
        _ => false,
    }
}
