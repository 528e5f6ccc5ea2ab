//! CPUID of the machine: what KVM supports, with topology and clock put in.

use super::{Options, Sabotage};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

/// The hypervisor's timing leaf: TSC and APIC bus frequency in kHz. A payload that finds it
/// measures nothing.
const TIMING: u32 = 0x4000_0010;
const HYPERVISOR: u32 = 0x4000_0000;
/// KVM's local APIC timer counts nanoseconds.
const APIC_BUS_KHZ: u32 = 1_000_000;

/// A feature that can be taken away: name, leaf, register (0 to 3 for EAX to EDX), bit.
const FEATURES: &[(&str, u32, usize, u32)] = &[
    ("vmx", 1, 2, 5),
    ("pcid", 1, 2, 17),
    ("x2apic", 1, 2, 21),
    ("tsc-deadline", 1, 2, 24),
    ("xsave", 1, 2, 26),
    ("smep", 7, 1, 7),
    ("smap", 7, 1, 20),
    ("umip", 7, 2, 2),
    ("pku", 7, 2, 3),
    ("la57", 7, 2, 16),
    ("svm", 0x8000_0001, 2, 2),
    ("nx", 0x8000_0001, 3, 20),
    ("pdpe1gb", 0x8000_0001, 3, 26),
];

/// Whether `name` is in the table.
pub fn is_feature(name: &str) -> bool {
    FEATURES.iter().any(|f| f.0 == name)
}

/// Names of the features that can be taken away.
fn known() -> String {
    FEATURES.iter().map(|f| f.0).collect::<Vec<_>>().join(", ")
}

/// The leaves that all processors share.
pub fn base(kvm: &Kvm, options: &Options) -> Result<Vec<kvm_cpuid_entry2>, String> {
    let supported = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|e| format!("cannot read the supported CPUID: {e}"))?;
    let mut leaves: Vec<kvm_cpuid_entry2> = supported.as_slice().to_vec();
    let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    for leaf in &mut leaves {
        if leaf.function == 1 {
            // Running on a hypervisor; x2APIC by KVM's own irqchip.
            leaf.ecx |= 1 << 31 | 1 << 21 | u32::from(deadline) << 24;
        }
    }
    for feature in &options.cpu_features {
        let name = feature.strip_prefix('-').ok_or_else(|| {
            format!(
                "--cpu-feature {feature}: everything is on already; write -NAME to take NAME away"
            )
        })?;
        let &(_, function, register, bit) = FEATURES
            .iter()
            .find(|f| f.0 == name)
            .ok_or_else(|| format!("--cpu-feature {feature}: known are {}", known()))?;
        let all = leaves
            .iter_mut()
            .filter(|l| l.function == function && l.index == 0);
        for leaf in all {
            let registers = [&mut leaf.eax, &mut leaf.ebx, &mut leaf.ecx, &mut leaf.edx];
            *registers
                .into_iter()
                .nth(register)
                .unwrap_or(&mut leaf.flags) &= !(1 << bit);
        }
    }
    leaves.retain(|l| l.function != TIMING);
    Ok(leaves)
}

/// Puts the clock's frequency in.
pub fn set_clock(leaves: &mut Vec<kvm_cpuid_entry2>, tsc_khz: u32) {
    match leaves.iter_mut().find(|l| l.function == HYPERVISOR) {
        Some(leaf) => leaf.eax = leaf.eax.max(TIMING),
        None => return,
    }
    leaves.push(kvm_cpuid_entry2 {
        function: TIMING,
        eax: tsc_khz,
        ebx: APIC_BUS_KHZ,
        ..Default::default()
    });
}

/// The leaves of processor `id` out of `cpus`.
pub fn of_cpu(
    base: &[kvm_cpuid_entry2],
    id: u32,
    cpus: u32,
    sabotage: Option<Sabotage>,
) -> Result<CpuId, String> {
    let id = match sabotage {
        Some(Sabotage::WrongApicId) => 0,
        _ => id,
    };
    let mut leaves = base.to_vec();
    let width = cpus.next_power_of_two().trailing_zeros();
    let indexed = kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    for leaf in &mut leaves {
        match leaf.function {
            1 => {
                leaf.ebx = leaf.ebx & 0x0000_ffff | cpus.min(255) << 16 | (id & 0xff) << 24;
                leaf.edx = leaf.edx & !(1 << 28) | u32::from(cpus > 1) << 28;
            }
            // One thread per core, all cores in one package.
            4 if leaf.eax & 0x1f != 0 => {
                let cores = (1u32 << width.min(6)) - 1;
                leaf.eax = leaf.eax & 0x3fff | cores << 26;
            }
            0x8000_0008 => leaf.ecx = leaf.ecx & !0xffff | width << 12 | (cpus - 1) & 0xff,
            0x8000_001e => leaf.eax = id,
            _ => {}
        }
    }
    let topology: Vec<u32> = [0xb, 0x1f]
        .into_iter()
        .filter(|f| leaves.iter().any(|l| l.function == *f))
        .collect();
    leaves.retain(|l| !topology.contains(&l.function));
    for function in topology {
        // Level 0: threads of a core; level 1: cores of the package; level 2: the end.
        for (index, eax, ebx, kind) in [(0, 0, 1, 1u32), (1, width, cpus, 2), (2, 0, 0, 0)] {
            leaves.push(kvm_cpuid_entry2 {
                function,
                index,
                flags: indexed,
                eax,
                ebx,
                ecx: kind << 8 | index,
                edx: id,
                ..Default::default()
            });
        }
    }
    CpuId::from_entries(&leaves).map_err(|e| format!("too many CPUID leaves: {e:?}"))
}
