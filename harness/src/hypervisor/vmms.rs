//! Other VMMs, each by its command line.
//!
//! None but Alioth has run here, so each of the others says `unverified`: its command is what its
//! documentation says. See docs/hypervisors.md.

use super::template::{BootWord, Described, Template};
use crate::arch::Arch;
use std::collections::BTreeMap;

/// Said of an adaptor that was written from documentation and has never run.
pub const UNVERIFIED: &str = "unverified: written from its documentation, never run";

/// The names, in the order of reports.
pub const NAMES: &[&str] = &[
    "alioth",
    "cloud-hypervisor",
    "firecracker",
    "crosvm",
    "kvmtool",
    "xen",
];

/// Those that run their x86 guests on KVM.
pub const ON_KVM: &[&str] = &["alioth", "cloud-hypervisor", "firecracker", "crosvm"];

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn template(command: &str, version: &str, install: &str) -> Template {
    Template {
        command: words(command),
        archs: vec![Arch::X86],
        boot: None,
        version: words(version),
        needs_pty: false,
        resets: false,
        max_cpus: None,
        max_memory_mib: None,
        capabilities: Vec::new(),
        install: Some(install.to_owned()),
        files: BTreeMap::new(),
    }
}

/// The adaptor called `name`.
pub fn find(name: &str) -> Option<Described> {
    let (template, remarks): (Template, &[&str]) = match name {
        "alioth" => {
            let command = "alioth boot --pvh {kernel} --memory size={memory_mib}M \
                           --cpu count={cpus} --cmdline {args}";
            let mut alioth = template(command, "alioth --version", "cargo install alioth-cli");
            alioth.needs_pty = true;
            (alioth, &[])
        }
        "cloud-hypervisor" => {
            let command = "cloud-hypervisor --kernel {kernel} --cpus boot={cpus} \
                           --memory size={memory_mib}M --cmdline {args} --serial tty --console off";
            let install = "get it from github.com/cloud-hypervisor/cloud-hypervisor";
            (
                template(command, "cloud-hypervisor --version", install),
                &[UNVERIFIED],
            )
        }
        "firecracker" => {
            let command = "firecracker --no-api --config-file {scratch}/machine.json";
            let install = "get it from github.com/firecracker-microvm/firecracker";
            let mut firecracker = template(command, "firecracker --version", install);
            firecracker.max_cpus = Some(32);
            let config = r#"{"boot-source": {"kernel_image_path": "{kernel}", "boot_args": "{args:json}"}, "drives": [], "machine-config": {"vcpu_count": {cpus}, "mem_size_mib": {memory_mib}}}"#;
            firecracker
                .files
                .insert("machine.json".into(), config.into());
            (firecracker, &[UNVERIFIED])
        }
        "crosvm" => {
            let command = "crosvm run --disable-sandbox --cpus {cpus} --mem {memory_mib} \
                           --serial type=stdout,hardware=serial,num=1 -p {args} {kernel}";
            let install = "build it from crosvm.dev";
            (template(command, "crosvm version", install), &[UNVERIFIED])
        }
        "kvmtool" => {
            let command = "lkvm run --kernel {kernel} --cpus {cpus} --mem {memory_mib} \
                           --console serial --params {args}";
            let install = "install package kvmtool";
            let mut kvmtool = template(command, "lkvm version", install);
            // On x86 it takes a bzImage only.
            kvmtool.archs = vec![Arch::Arm64];
            kvmtool.boot = Some(BootWord::Image);
            (kvmtool, &[UNVERIFIED])
        }
        "xen" => {
            let command = "xl create -c {scratch}/guest.cfg";
            let install = "install xen-utils and boot the Xen hypervisor";
            let mut xen = template(command, "", install);
            let config = "name = \"assay\"\ntype = \"hvm\"\nkernel = \"{kernel}\"\n\
                          cmdline = \"{args}\"\nmemory = {memory_mib}\nvcpus = {cpus}\n\
                          serial = \"pty\"\non_poweroff = \"destroy\"\non_reboot = \"destroy\"\n\
                          on_crash = \"destroy\"\n";
            xen.files.insert("guest.cfg".into(), config.into());
            (xen, &[UNVERIFIED])
        }
        _ => return None,
    };
    Some(Described::new(name, template, remarks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_an_adaptor() {
        for name in NAMES {
            assert!(find(name).is_some(), "{name}");
        }
        assert!(find("vmware").is_none());
    }
}
