//! PSCI (DEN0022) by the conduit that the device tree names, and SMCCC calls (DEN0028) in general.

use super::platform;
use core::arch::asm;
use core::fmt;

/// How calls reach the firmware or the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// HVC.
    Hvc,
    /// SMC.
    Smc,
}

/// The affinity fields of MPIDR_EL1, which name a processor to PSCI.
pub const AFFINITY: u64 = 0xff_00ff_ffff;

/// Function ids.
pub mod id {
    /// PSCI_VERSION.
    pub const VERSION: u64 = 0x8400_0000;
    /// CPU_SUSPEND, 32-bit.
    pub const CPU_SUSPEND_32: u64 = 0x8400_0001;
    /// CPU_SUSPEND, 64-bit.
    pub const CPU_SUSPEND: u64 = 0xc400_0001;
    /// CPU_OFF.
    pub const CPU_OFF: u64 = 0x8400_0002;
    /// CPU_ON, 32-bit.
    pub const CPU_ON_32: u64 = 0x8400_0003;
    /// CPU_ON, 64-bit.
    pub const CPU_ON: u64 = 0xc400_0003;
    /// AFFINITY_INFO, 32-bit.
    pub const AFFINITY_INFO_32: u64 = 0x8400_0004;
    /// AFFINITY_INFO, 64-bit.
    pub const AFFINITY_INFO: u64 = 0xc400_0004;
    /// MIGRATE, 64-bit.
    pub const MIGRATE: u64 = 0xc400_0005;
    /// MIGRATE_INFO_TYPE.
    pub const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
    /// SYSTEM_OFF.
    pub const SYSTEM_OFF: u64 = 0x8400_0008;
    /// SYSTEM_RESET.
    pub const SYSTEM_RESET: u64 = 0x8400_0009;
    /// PSCI_FEATURES.
    pub const FEATURES: u64 = 0x8400_000a;
    /// CPU_FREEZE.
    pub const CPU_FREEZE: u64 = 0x8400_000b;
    /// CPU_DEFAULT_SUSPEND, 64-bit.
    pub const CPU_DEFAULT_SUSPEND: u64 = 0xc400_000c;
    /// NODE_HW_STATE, 64-bit.
    pub const NODE_HW_STATE: u64 = 0xc400_000d;
    /// SYSTEM_SUSPEND, 32-bit.
    pub const SYSTEM_SUSPEND_32: u64 = 0x8400_000e;
    /// SYSTEM_SUSPEND, 64-bit.
    pub const SYSTEM_SUSPEND: u64 = 0xc400_000e;
    /// PSCI_SET_SUSPEND_MODE.
    pub const SET_SUSPEND_MODE: u64 = 0x8400_000f;
    /// SYSTEM_RESET2, 64-bit.
    pub const SYSTEM_RESET2: u64 = 0xc400_0012;
    /// SYSTEM_OFF2, 64-bit.
    pub const SYSTEM_OFF2: u64 = 0xc400_0015;
    /// SMCCC_VERSION.
    pub const SMCCC_VERSION: u64 = 0x8000_0000;
    /// SMCCC_ARCH_FEATURES.
    pub const ARCH_FEATURES: u64 = 0x8000_0001;
    /// SMCCC_ARCH_SOC_ID.
    pub const ARCH_SOC_ID: u64 = 0x8000_0002;
    /// SMCCC_ARCH_WORKAROUND_1.
    pub const WORKAROUND_1: u64 = 0x8000_8000;
    /// SMCCC_ARCH_WORKAROUND_2.
    pub const WORKAROUND_2: u64 = 0x8000_7fff;
    /// SMCCC_ARCH_WORKAROUND_3.
    pub const WORKAROUND_3: u64 = 0x8000_3fff;
    /// TRNG_VERSION.
    pub const TRNG_VERSION: u64 = 0x8400_0050;
    /// TRNG_FEATURES.
    pub const TRNG_FEATURES: u64 = 0x8400_0051;
    /// TRNG_GET_UUID.
    pub const TRNG_UUID: u64 = 0x8400_0052;
    /// TRNG_RND, 64-bit.
    pub const TRNG_RND: u64 = 0xc400_0053;
    /// PV_TIME_FEATURES.
    pub const PV_TIME_FEATURES: u64 = 0xc500_0020;
    /// PV_TIME_ST.
    pub const PV_TIME_ST: u64 = 0xc500_0021;
    /// Call UID of the vendor specific hypervisor service.
    pub const VENDOR_HYP_UID: u64 = 0x8600_ff01;
    /// Feature bitmap of KVM's vendor specific hypervisor service.
    pub const VENDOR_HYP_FEATURES: u64 = 0x8600_0000;
}

/// What a PSCI function answers: a signed 32-bit number in W0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub i32);

impl Status {
    /// 0
    pub const SUCCESS: Status = Status(0);
    /// -1
    pub const NOT_SUPPORTED: Status = Status(-1);
    /// -2
    pub const INVALID_PARAMETERS: Status = Status(-2);
    /// -3
    pub const DENIED: Status = Status(-3);
    /// -4
    pub const ALREADY_ON: Status = Status(-4);
    /// -5
    pub const ON_PENDING: Status = Status(-5);
    /// -6
    pub const INTERNAL_FAILURE: Status = Status(-6);
    /// -7
    pub const NOT_PRESENT: Status = Status(-7);
    /// -8
    pub const DISABLED: Status = Status(-8);
    /// -9
    pub const INVALID_ADDRESS: Status = Status(-9);
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let names = [
            "SUCCESS",
            "NOT_SUPPORTED",
            "INVALID_PARAMETERS",
            "DENIED",
            "ALREADY_ON",
            "ON_PENDING",
            "INTERNAL_FAILURE",
            "NOT_PRESENT",
            "DISABLED",
            "INVALID_ADDRESS",
        ];
        let name = usize::try_from(-i64::from(self.0))
            .ok()
            .and_then(|i| names.get(i));
        write!(f, "{} ({})", name.unwrap_or(&"answer"), self.0)
    }
}

/// The conduit of this machine.
pub fn conduit() -> Conduit {
    platform::info()
        .conduit
        .expect("the device tree has a psci node")
}

/// A call by the machine's conduit: x0 to x3 in, x0 to x3 out.
pub fn call(x: [u64; 4]) -> [u64; 4] {
    call_by(conduit(), x)
}

/// A call by `conduit`.
pub fn call_by(conduit: Conduit, x: [u64; 4]) -> [u64; 4] {
    let [mut a, mut b, mut c, mut d] = x;
    macro_rules! conduit_call {
        ($instruction:literal) => {
            // SAFETY: S1, S5; SMCCC 1.0 lets a call change x0 to x17 and no more. What it does to
            // the machine is what the caller asks for.
            unsafe {
                asm!(
                    $instruction,
                    inout("x0") a, inout("x1") b, inout("x2") c, inout("x3") d,
                    out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
                    out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _,
                    out("x15") _, out("x16") _, out("x17") _,
                    options(nostack),
                )
            }
        };
    }
    match conduit {
        Conduit::Hvc => conduit_call!("hvc #0"),
        Conduit::Smc => conduit_call!("smc #0"),
    }
    [a, b, c, d]
}

/// A PSCI call: function id and up to three arguments.
pub fn psci(function: u64, arguments: [u64; 3]) -> Status {
    let [a, b, c] = arguments;
    Status(call([function, a, b, c])[0] as i32)
}

/// CPU_ON.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Status {
    psci(id::CPU_ON, [mpidr, entry, context])
}

/// CPU_OFF. Returns only when it fails.
pub fn cpu_off() -> Status {
    psci(id::CPU_OFF, [0; 3])
}

/// AFFINITY_INFO: 0 on, 1 off, 2 on pending, or negative.
pub fn affinity_info(mpidr: u64, level: u64) -> i32 {
    psci(id::AFFINITY_INFO, [mpidr, level, 0]).0
}

/// PSCI_FEATURES.
pub fn features(function: u64) -> Status {
    psci(id::FEATURES, [function, 0, 0])
}

/// SYSTEM_OFF. Returns only when it fails.
pub fn system_off() -> Status {
    psci(id::SYSTEM_OFF, [0; 3])
}
