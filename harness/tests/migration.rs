//! The migration cases can go red: each fault in the stream is noticed by the cases that are about
//! it, and by no others. Without QEMU or the payloads nothing is tested; `./run_tests.sh` insists.

use std::path::Path;
use std::process::Command;

/// Runs the migration cases of x86 called `cases` with a fault; which of them are not ok.
fn not_ok(name: &str, fault: Option<&str>, cases: &[&str]) -> Option<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let payload = root.join("target/x86_64-unknown-none/guest/migration");
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output();
    if !payload.exists() || qemu.is_err() {
        eprintln!("not tested: there is no QEMU here, or the payloads are not built");
        return None;
    }
    let dir = std::env::temp_dir().join(format!("assay-{name}-{}", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    command.current_dir(&root);
    command.args(["run", "-t", "--hypervisor", "qemu-tcg", "--timeout", "30"]);
    command.arg("--output-dir").arg(&dir);
    command.args(cases.iter().map(|case| format!("x86/migration/{case}")));
    command.env_remove("ASSAY_QEMU_SABOTAGE");
    if let Some(fault) = fault {
        command.env("ASSAY_QEMU_SABOTAGE", fault);
    }
    let output = command.output().unwrap();
    let tap = String::from_utf8_lossy(&output.stdout);
    let _ = std::fs::remove_dir_all(&dir);
    let plan = format!("1..{}", cases.len());
    assert!(tap.lines().any(|l| l == plan), "{tap}");
    let red = tap.lines().filter_map(|l| l.strip_prefix("not ok "));
    let id = |line: &str| line.rsplit("x86/migration/").next().unwrap().to_owned();
    Some(red.map(id).collect())
}

const STAMPS: &str = "memory/no_page_is_older_than_its_last_stamp";
const QUIET: &str = "memory/quiet_pages_stay";
const PENDING: &str = "interrupts/pending_interrupt_comes_once";
const IO_APIC: &str = "interrupts/io_apic_keeps_its_entries";
const CLOCK: &str = "processors/no_clock_goes_back";
const REGISTERS: &str = "processors/spinning_processor_keeps_its_registers";
const ALL: [&str; 6] = [STAMPS, QUIET, PENDING, IO_APIC, CLOCK, REGISTERS];

#[test]
fn a_whole_stream_turns_nothing_red() {
    if let Some(red) = not_ok("mig-whole", None, &ALL) {
        assert_eq!(red, Vec::<String>::new());
    }
}

/// Each fault, and the one case of [`ALL`] that is about it.
fn only(name: &str, fault: &str, case: &str) {
    if let Some(red) = not_ok(name, Some(fault), &ALL) {
        assert_eq!(red, [case], "{fault}");
    }
}

#[test]
fn an_old_page_is_noticed() {
    only("mig-stale", "stale-page", STAMPS);
}

#[test]
fn a_torn_page_is_noticed() {
    only("mig-torn", "torn-page", STAMPS);
}

#[test]
fn a_lost_page_is_noticed() {
    only("mig-lost", "lost-page", QUIET);
}

#[test]
fn a_lost_apic_is_noticed() {
    only("mig-apic", "drop=apic", PENDING);
}

#[test]
fn a_lost_io_apic_is_noticed() {
    only("mig-ioapic", "drop=ioapic", IO_APIC);
}

#[test]
fn a_lost_clock_is_noticed() {
    only("mig-clock", "drop=timer", CLOCK);
}
