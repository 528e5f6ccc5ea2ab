//! `--hypervisor auto`: for each unit the hypervisor that serves it best here.
//!
//! QEMU TCG can build every machine and emulates what the host lacks. The built-in VMM is faster
//! and helps its guests, where KVM works. A unit runs as a whole on one of them, so that the
//! plan's numbers do not depend on the choice.

use super::Hypervisor;
use super::kvm::Kvm;
use super::qemu::Qemu;
use crate::arch::Arch;
use crate::catalog::CatalogUnit;
use std::path::Path;
use std::sync::Arc;

/// The two to choose from.
pub struct Auto {
    kvm: Arc<Kvm>,
    tcg: Arc<Qemu>,
    /// Whether KVM can be used, and whether it is faster.
    kvm_works: bool,
    kvm_is_fast: bool,
    kvm_has: Vec<String>,
}

impl Auto {
    /// Looks at this host.
    pub fn new(cache: &Path) -> Self {
        let kvm = Arc::new(Kvm::default());
        Auto {
            kvm_works: kvm.probe(Arch::X86).is_ok(),
            kvm_is_fast: kvm.in_hardware(),
            kvm_has: kvm.capabilities(Arch::X86),
            tcg: Arc::new(Qemu::tcg(cache)),
            kvm,
        }
    }

    /// Both, for whoever needs to know them all.
    pub fn all(&self) -> Vec<Arc<dyn Hypervisor>> {
        vec![self.tcg.clone(), self.kvm.clone()]
    }

    /// The one for `unit`.
    pub fn choose(&self, unit: &CatalogUnit) -> Arc<dyn Hypervisor> {
        let needs: Vec<&str> = unit
            .numbers
            .iter()
            .flat_map(|n| &unit.case(*n).needs)
            .map(String::as_str)
            .collect();
        let can =
            unit.unit.arch == Arch::X86 && self.kvm_works && self.kvm.supports(&unit.unit).is_ok();
        match can && prefers_kvm(&needs, self.kvm_is_fast, &self.kvm_has) {
            true => self.kvm.clone(),
            false => self.tcg.clone(),
        }
    }
}

/// Whether a unit whose cases have these needs is better off on a KVM that has `kvm_has`.
fn prefers_kvm(needs: &[&str], kvm_is_fast: bool, kvm_has: &[String]) -> bool {
    let service = |need: &&str| need.starts_with("service.");
    let has = |need: &&str| kvm_has.iter().any(|h| h == need);
    // A machine that moves is one that QEMU moves, whatever else its unit asks for.
    if needs.contains(&"service.migrate") && !has(&"service.migrate") {
        return false;
    }
    if needs.iter().any(|need| service(need) && has(need)) {
        return true;
    }
    // What TCG emulates whatever the host is.
    let emulated = |need: &&str| need.starts_with("x86.svm") && !kvm_has.iter().any(|h| h == need);
    kvm_is_fast && !needs.iter().any(emulated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_decide_first_then_features_then_speed() {
        let has = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let full = has(&["service.dirty_log", "x86.vmx", "x86.svm"]);
        let bare = has(&["service.dirty_log"]);
        assert!(prefers_kvm(&["service.dirty_log"], false, &bare));
        assert!(!prefers_kvm(&[], false, &bare));
        assert!(prefers_kvm(&["cpus>=2"], true, &bare));
        assert!(!prefers_kvm(&["x86.svm"], true, &bare));
        assert!(prefers_kvm(&["x86.svm"], true, &full));
        assert!(!prefers_kvm(&["service.migrate"], false, &full));
    }
}
