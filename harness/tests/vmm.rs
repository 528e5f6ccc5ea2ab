//! The built-in VMM: that its faults turn cases red, and that its absence is told.
//!
//! A sabotage is a promise that the VMM breaks on request. For each there are cases that must notice
//! and cases of other families that must not: a suite in which everything goes red says as little
//! as one in which nothing does. These tests need a KVM that works and built payloads, and say so
//! when they cannot run.

mod support;

use assay::arch::Arch;
use assay::payload::{self, Payload};
use std::path::PathBuf;
use std::process::Command;
use support::{Dir, Fixture, elf, text};

const SERVICES: &str =
    "services=dirty_log,dirty_ring,inject,kick,memslot,mmio_counter,save_restore,userfault";

/// Sabotage, payload, cases that must go red (all of them), cases that must stay green.
const ROWS: &[(&str, &str, &[&str], &[&str])] = &[
    (
        "drop-dirty-page",
        "dirty",
        &[
            "bitmap/log_names_exactly_the_written_pages",
            "manual/clearing_a_part_leaves_the_rest",
            "writers/write_by/store_byte",
        ],
        &[
            "slots/moved_slot_keeps_its_contents",
            "slots/read_only_slot_ignores_writes",
        ],
    ),
    (
        "extra-dirty-page",
        "dirty",
        &[
            "bitmap/reads_leave_pages_clean",
            "writers/refused_write_leaves_the_page_clean",
        ],
        &["slots/moved_slot_keeps_its_contents"],
    ),
    (
        "clear-early",
        "dirty",
        &["manual/getting_the_log_clears_nothing"],
        &[
            "bitmap/getting_the_log_clears_it",
            "manual/cleared_page_is_reported_when_written_again",
        ],
    ),
    (
        "clear-too-much",
        "dirty",
        &["manual/clearing_a_part_leaves_the_rest"],
        &[
            "bitmap/getting_the_log_clears_it",
            "manual/getting_the_log_clears_nothing",
        ],
    ),
    (
        "drop-ring-entry",
        "dirty",
        &[
            "ring/rings_hold_exactly_the_written_pages",
            "ring/full_ring_stops_the_processor",
        ],
        &[
            "bitmap/getting_the_log_clears_it",
            "ring/ring_length_must_be_a_power_of_two",
        ],
    ),
    (
        "lose-page-on-move",
        "dirty",
        &["slots/moved_slot_keeps_its_contents"],
        &[
            "slots/moved_slot_is_logged_by_its_own_pages",
            "slots/deleted_slot_is_gone",
        ],
    ),
    (
        "write-read-only",
        "dirty",
        &["slots/read_only_slot_ignores_writes"],
        &["slots/moved_slot_keeps_its_contents"],
    ),
    (
        "mmio-twice",
        "reentry",
        &[
            "mmio/undisturbed/store_doubleword",
            "mmio/every_third_access_interrupted_by/signal",
        ],
        &[
            "mmio/undisturbed/out_byte",
            "inject/message_is_taken_once",
            "restore/memory_survives",
        ],
    ),
    (
        "mmio-lost",
        "reentry",
        &[
            "mmio/every_third_access_interrupted_by/immediate_exit",
            "mmio/undisturbed/string_store",
        ],
        &[
            "mmio/undisturbed/store_byte",
            "inject/message_is_taken_once",
        ],
    ),
    (
        "restart-kicked",
        "reentry",
        &[
            "mmio/interrupted_by_a_signal/store_doubleword",
            "mmio/interrupted_by_immediate_exit/out_byte",
        ],
        &[
            "mmio/undisturbed/store_doubleword",
            "restore/memory_survives",
        ],
    ),
    (
        "lose-interrupt",
        "reentry",
        &["inject/message_is_taken_once", "inject/nmi_is_taken_once"],
        &[
            "mmio/undisturbed/store_byte",
            "restore/pending_interrupt_survives",
        ],
    ),
    (
        "double-interrupt",
        "reentry",
        &["inject/message_is_taken_once"],
        &["inject/nmi_is_taken_once", "mmio/undisturbed/store_byte"],
    ),
    (
        "misroute-interrupt",
        "reentry",
        &["inject/message_reaches_the_processor_it_names"],
        &["mmio/undisturbed/store_byte", "restore/memory_survives"],
    ),
    (
        "lose-restored-page",
        "reentry",
        &["restore/memory_survives"],
        &[
            "restore/debug_registers_survive",
            "inject/message_is_taken_once",
        ],
    ),
    (
        "wrong-msr",
        "reentry",
        &["restore/register_survives/lstar"],
        &["restore/register_survives/star", "restore/memory_survives"],
    ),
    (
        "lose-apic",
        "reentry",
        &["restore/armed_timer_survives"],
        &["restore/debug_registers_survive", "restore/memory_survives"],
    ),
    (
        "lose-debug-registers",
        "reentry",
        &["restore/debug_registers_survive"],
        &["restore/register_survives/lstar", "restore/memory_survives"],
    ),
    (
        "lose-fpu",
        "reentry",
        &["restore/floating_point_state_survives"],
        &["restore/register_survives/lstar", "restore/memory_survives"],
    ),
    (
        "wrong-demand-page",
        "reentry",
        &[
            "demand/page_is_filled_at_its_first_access/missing",
            "demand/string_instruction_goes_on_through_absent_pages",
        ],
        &["mmio/undisturbed/store_byte", "restore/memory_survives"],
    ),
    (
        "wrong-apic-id",
        "selftest",
        &["smp/all_processors_run_code"],
        &["faults/ud2_raises_ud"],
    ),
];

/// Where built payloads are: `ASSAY_PAYLOAD_DIR/x86`, or the build output.
fn payload_of(name: &str) -> Option<Payload> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = match std::env::var_os("ASSAY_PAYLOAD_DIR") {
        Some(dir) => PathBuf::from(dir).join("x86").join(name),
        None => root.join("target/x86_64-unknown-none/guest").join(name),
    };
    payload::read(&path, Arch::X86).ok()
}

/// Runs `cases` of `payload`; the paths of those that were not ok.
fn red(payload: &Payload, cases: &[&str], sabotage: Option<&str>) -> Vec<String> {
    let number = |path: &&str| {
        let found = payload.cases.iter().position(|c| c.path == **path);
        found
            .unwrap_or_else(|| panic!("no case {path}"))
            .to_string()
    };
    let numbers: Vec<String> = cases.iter().map(number).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    command
        .args(["vmm", "--cpus", "2", "--memory", "32", "--kernel"])
        .arg(&payload.path);
    if let Some(name) = sabotage {
        command.args(["--sabotage", name]);
    }
    let line = format!("unit=u cases={} {SERVICES}", numbers.join(","));
    let output = command.args(["--append", &line]).output().unwrap();
    let tap = text(&output.stdout);
    assert!(
        tap.contains("# done"),
        "{sabotage:?}: {tap}{}",
        text(&output.stderr)
    );
    let path = |line: &str| line.split_once("x86/u/").map(|(_, path)| path.to_owned());
    tap.lines()
        .filter(|l| l.starts_with("not ok"))
        .filter_map(path)
        .collect()
}

fn works() -> bool {
    match assay::vmm::probe() {
        Ok(_) => true,
        Err(why) => {
            eprintln!("not run: {why}");
            false
        }
    }
}

#[test]
fn each_sabotage_turns_its_cases_red_and_no_others() {
    if !works() {
        return;
    }
    for (sabotage, name, must_be_red, must_be_green) in ROWS {
        let Some(payload) = payload_of(name) else {
            eprintln!("not run: payload {name} is not built");
            continue;
        };
        let all: Vec<&str> = must_be_red.iter().chain(*must_be_green).copied().collect();
        assert_eq!(
            red(&payload, &all, None),
            Vec::<String>::new(),
            "{name} without sabotage"
        );
        let mut seen = red(&payload, &all, Some(sabotage));
        let mut expected: Vec<String> = must_be_red.iter().map(|p| (*p).to_owned()).collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "{sabotage}");
    }
}

#[test]
fn every_sabotage_has_a_row() {
    use clap::ValueEnum;
    let all = assay::vmm::Sabotage::value_variants().iter();
    let names = all.filter_map(|s| s.to_possible_value().map(|v| v.get_name().to_owned()));
    for name in names {
        assert!(ROWS.iter().any(|row| row.0 == name), "{name} has no row");
    }
}

fn workspace(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write(
        "unittests.yaml",
        "units:\n- { unit: svm, arch: x86, payload: svm }\n",
    );
    dir.write("payloads/x86/svm", elf(62, &[Fixture::new("vmrun/a")]));
    dir
}

/// A device that is not there, one that is something else, one that is a plain file.
#[test]
fn a_device_that_cannot_be_used_is_told() {
    let dir = workspace("vmm-absent");
    dir.write("file", "");
    let file = dir.0.join("file").display().to_string();
    for (device, part) in [
        ("/dev/does-not-exist", "does not exist"),
        ("/dev/null", "is no KVM device"),
        (&file, "is no KVM device"),
    ] {
        let assay = |args: &[&str]| {
            let mut command = dir.command(args);
            command.env("ASSAY_KVM_DEVICE", device).output().unwrap()
        };
        let output = assay(&["run", "--hypervisor", "kvm"]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(
            message.contains(part) && message.contains(device),
            "{message}"
        );
        // The default falls back.
        let output = assay(&["run", "--dry-run"]);
        let commands = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(commands.contains("qemu-system-x86_64"), "{commands}");
        let output = assay(&["hypervisors"]);
        assert!(text(&output.stdout).contains(part));
    }
}

/// `assay bench` of the checkout, with few pages.
fn bench(args: &[&str], sabotage: Option<&str>) -> std::process::Output {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    command.current_dir(root).args(["bench", "--pages", "70"]);
    if let Some(dir) = std::env::var_os("ASSAY_PAYLOAD_DIR") {
        command.arg("--payload-dir").arg(dir);
    }
    if let Some(name) = sabotage {
        command.env("ASSAY_VMM_SABOTAGE", name);
    }
    command.args(args).output().unwrap()
}

fn can_bench() -> bool {
    let built = payload_of("bench").is_some();
    if !built {
        eprintln!("not run: payload bench is not built");
    }
    built && works()
}

/// Kinds that every KVM has; page faults of userfaultfd may be denied to this process.
const LOGGED: [&str; 4] = ["plain", "dirty-bitmap", "dirty-bitmap-manual", "dirty-ring"];

/// Every kind has a row for one and for two processors, and its numbers are numbers. Nothing is said of
/// their size.
#[test]
fn bench_measures_every_kind() {
    if !can_bench() {
        return;
    }
    let output = bench(&["--rounds", "2", "--json"], None);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["schema"], "assay.bench/1");
    assert_eq!(
        (&document["pages"], &document["rounds"]),
        (&70.into(), &2.into())
    );
    let rows = document["rows"].as_array().unwrap();
    for row in rows {
        for number in ["pages_per_second", "ratio"] {
            let number = row[number].as_f64().unwrap();
            assert!(number.is_finite() && number > 0.0, "{row}");
        }
    }
    for vcpus in [1, 2] {
        let kinds = rows.iter().filter(|r| r["vcpus"] == vcpus);
        let kinds: Vec<&str> = kinds.map(|r| r["kind"].as_str().unwrap()).collect();
        match document["missing"].as_array().unwrap().is_empty() {
            true => assert_eq!(kinds[4..], ["demand-missing", "demand-minor"]),
            false => assert!(document["missing"][0]["reason"] == "needs service.userfault"),
        }
        assert_eq!(kinds[..4], LOGGED);
    }
    let output = bench(&["--rounds", "1"], None);
    let table = text(&output.stdout);
    for kind in LOGGED {
        assert_eq!(
            table
                .lines()
                .filter(|l| l.starts_with(&format!("{kind} ")))
                .count(),
            2,
            "{table}"
        );
    }
}

/// A host that leaves a page out of its log, names one too many or fills one with something else gets no
/// number for that.
#[test]
fn bench_gives_no_number_for_work_that_was_not_done() {
    if !can_bench() {
        return;
    }
    for (sabotage, lost, kept) in [
        ("drop-dirty-page", "dirty-bitmap ", "dirty-ring "),
        ("extra-dirty-page", "dirty-bitmap-manual ", "dirty-ring "),
        ("clear-early", "dirty-bitmap-manual ", "dirty-bitmap "),
        ("drop-ring-entry", "dirty-ring ", "dirty-bitmap "),
    ] {
        let output = bench(&["--rounds", "1"], Some(sabotage));
        let (table, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{sabotage}: {table}{err}");
        let has = |kind| table.lines().any(|l| l.starts_with(kind));
        assert!(!has(lost) && has(kept), "{sabotage}: {table}");
        assert!(err.contains("no number from x86/bench/dirty/"), "{err}");
    }
}

/// What keeps `assay bench` from measuring is told, with the cure.
#[test]
fn bench_tells_why_it_cannot_measure() {
    let dir = Dir::new("vmm-bench");
    let assay = |args: &[&str]| {
        let mut command = dir.command(args);
        let device = "/dev/does-not-exist";
        let output = command.env("ASSAY_KVM_DEVICE", device).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        text(&output.stderr)
    };
    dir.write(
        "unittests.yaml",
        "units:\n- { unit: svm, arch: x86, payload: svm }\n",
    );
    let message = assay(&["bench"]);
    assert!(message.contains("has no unit x86/bench"), "{message}");
    dir.write(
        "unittests.yaml",
        "units:\n- { unit: bench, arch: x86, payload: bench }\n",
    );
    let message = assay(&["bench"]);
    assert!(message.contains("build the payloads with"), "{message}");
    let ring = Fixture::new("dirty/ring_names_every_first_write/one_cpu");
    dir.write("payloads/x86/bench", elf(62, &[ring]));
    let message = assay(&["bench"]);
    assert!(
        message.contains("/dev/does-not-exist does not exist; load the kernel module"),
        "{message}"
    );
    let message = assay(&["bench", "--hypervisor", "qemu-tcg"]);
    assert!(message.contains("use --hypervisor kvm"), "{message}");
    for wrong in ["0", "32769", "many"] {
        assert!(assay(&["bench", "--pages", wrong]).contains("--pages"));
    }
}

/// A hypervisor of the manifest's own runs like any other.
#[test]
fn a_script_can_be_a_hypervisor() {
    let dir = workspace("vmm-script");
    dir.write(
        "unittests.yaml",
        "units:\n- { unit: svm, arch: x86, payload: svm, machine: { cpus: 2 } }\n\
         hypervisors:\n  mine:\n    command: [sh, play.sh, '{args}', '{cpus}', '{kernel}']\n",
    );
    dir.write(
        "play.sh",
        "echo noise; echo TAP version 13; echo 1..1; echo '# start 1 x86/svm/vmrun/a'\n\
         echo ok 1 - x86/svm/vmrun/a; test \"$2\" = 2 && echo '# done'; sleep 100\n",
    );
    let args = [
        "run",
        "-t",
        "--hypervisor",
        "mine",
        "--payload-dir",
        "payloads",
    ];
    let output = dir.assay(&args);
    let tap = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{tap}{}",
        text(&output.stderr)
    );
    assert!(tap.contains("ok 1 - x86/svm/vmrun/a"), "{tap}");
}
