//! Whether KVM can be used here, and what it can do; or why not, with the cure.

/// What KVM on this host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The API version and the kernel's release.
    pub version: String,
    /// Processor features and services that payloads can count on, as needs.
    pub capabilities: Vec<&'static str>,
    /// The most virtual CPUs of a machine.
    pub max_cpus: usize,
}

/// Why the VMM does not run on other hosts.
#[cfg_attr(
    all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ),
    expect(dead_code, reason = "the text for other hosts")
)]
pub const ELSEWHERE: &str = "the built-in VMM runs on x86-64 and arm64 Linux hosts only; use \
                             --hypervisor qemu-tcg";

/// Asks the device.
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
pub fn probe() -> Result<Found, String> {
    Err(ELSEWHERE.into())
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub use kvm::probe;

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod kvm {
    use super::Found;
    use kvm_ioctls::{Cap, Kvm};
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    const API: i32 = 12;

    /// Asks the device.
    pub fn probe() -> Result<Found, String> {
        let device = super::super::device();
        let shown = device.display();
        let path = CString::new(device.as_os_str().as_bytes())
            .map_err(|_| format!("{shown} is no path"))?;
        let kvm = Kvm::new_with_path(&path).map_err(|e| match e.errno() {
            libc::ENOENT => format!(
                "{shown} does not exist; load the kernel module kvm_intel or kvm_amd, or turn \
                 virtualization on in the firmware"
            ),
            libc::EACCES | libc::EPERM => format!(
                "{shown} is not yours to use; add your user to the group that owns it \
                 (`sudo usermod -aG kvm $USER`, then log in again)"
            ),
            _ => format!("cannot open {shown}: {e}"),
        })?;
        match kvm.get_api_version() {
            API => {}
            n if n < 0 => {
                let e = std::io::Error::last_os_error();
                return Err(format!("{shown} is no KVM device: {e}"));
            }
            n => return Err(format!("{shown} speaks API version {n}, not {API}")),
        }
        for (cap, name) in NEEDED {
            if !kvm.check_extension(*cap) {
                return Err(format!("{shown} lacks {name}; a newer kernel has it"));
            }
        }
        let capabilities = capabilities(&kvm).map_err(|why| format!("{shown}: {why}"))?;
        let release = rustix::system::uname();
        Ok(Found {
            version: release.release().to_string_lossy().into_owned(),
            capabilities,
            max_cpus: max_cpus(&kvm),
        })
    }

    #[cfg(target_arch = "x86_64")]
    const NEEDED: &[(Cap, &str)] = &[
        (Cap::UserMemory, "user memory"),
        (Cap::Irqchip, "interrupt controllers"),
        (Cap::Pit2, "a timer"),
        (Cap::ExtCpuid, "CPUID"),
        (Cap::ImmediateExit, "immediate exit"),
    ];

    #[cfg(target_arch = "aarch64")]
    const NEEDED: &[(Cap, &str)] = &[
        (Cap::UserMemory, "user memory"),
        (Cap::OneReg, "access to registers"),
        (Cap::DeviceCtrl, "devices"),
        (Cap::ArmPsci02, "PSCI"),
    ];

    #[cfg(target_arch = "aarch64")]
    fn max_cpus(kvm: &Kvm) -> usize {
        kvm.get_max_vcpus()
            .min(super::super::aarch64::MAX_CPUS as usize)
    }

    #[cfg(target_arch = "x86_64")]
    fn max_cpus(kvm: &Kvm) -> usize {
        kvm.get_max_vcpus()
    }

    #[cfg(target_arch = "aarch64")]
    fn capabilities(kvm: &Kvm) -> Result<Vec<&'static str>, String> {
        super::super::aarch64::probe(kvm)?;
        Ok(vec!["arm64.gicv3"])
    }

    #[cfg(target_arch = "x86_64")]
    fn capabilities(kvm: &Kvm) -> Result<Vec<&'static str>, String> {
        kvm.create_vm()
            .map_err(|e| format!("it makes no virtual machine: {e}"))?;
        let cpuid = kvm
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .map_err(|e| format!("it tells no CPUID: {e}"))?;
        let has = |leaf: u32, pick: fn(&kvm_bindings::kvm_cpuid_entry2) -> u32, bit: u32| {
            let entry = cpuid
                .as_slice()
                .iter()
                .find(|e| e.function == leaf && e.index == 0);
            entry.is_some_and(|e| pick(e) >> bit & 1 != 0)
        };
        let mut capabilities = Vec::new();
        for (word, there) in [
            ("x86.cet_ibt", has(7, |e| e.edx, 20)),
            ("x86.cet_ss", has(7, |e| e.ecx, 7)),
            ("x86.svm", has(0x8000_0001, |e| e.ecx, 2)),
            ("x86.vmx", has(1, |e| e.ecx, 5)),
            ("x86.x2apic", has(1, |e| e.ecx, 21)),
        ] {
            if there {
                capabilities.push(word);
            }
        }
        Ok(capabilities)
    }
}
