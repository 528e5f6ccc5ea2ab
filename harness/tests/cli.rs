//! The command line from outside: selection, bad input, exit codes, interruption.

mod support;

use assay::tap;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{Dir, Fixture, elf, text};

const MANIFEST: &str = "units:
- { unit: svm, arch: x86, payload: svm, groups: [svm] }
- { unit: slow, arch: x86, payload: svm, groups: [time, nodefault] }
- { unit: breaks, arch: x86, payload: svm, groups: [selfcheck] }
- { unit: psci, arch: arm64, payload: psci, groups: [psci] }
";

fn workspace(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("unittests.yaml", MANIFEST);
    let cases = ["vmrun/a", "vmrun/b"].map(Fixture::new);
    dir.write("payloads/x86/svm", elf(62, &cases));
    dir.write("payloads/arm64/psci", elf(183, &[Fixture::new("off/c")]));
    dir
}

/// Runs `args`; checks the exit code and that the one message holds all of `parts`.
fn refuses(dir: &Dir, args: &[&str], code: i32, parts: &[&str]) {
    let output = dir.assay(args);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    assert!(
        output.stdout.is_empty(),
        "{args:?}: {}",
        text(&output.stdout)
    );
    assert!(!message.contains("panicked"), "{message}");
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    for part in parts {
        assert!(
            message.contains(part),
            "{args:?}: '{part}' is not in: {message}"
        );
    }
}

#[test]
fn cases_are_listed_without_booting() {
    let dir = workspace("list");
    let list = |args: &[&str]| text(&dir.assay(args).stdout);
    let svm = "x86/svm/vmrun/a\nx86/svm/vmrun/b\n";
    assert_eq!(
        list(&["list", "--cases"]),
        format!("{svm}arm64/psci/off/c\n")
    );
    assert_eq!(list(&["list", "--cases", "--arch", "x86"]), svm);
    assert_eq!(list(&["run", "-l", "--cases", "-g", "svm"]), svm);
    assert_eq!(list(&["list", "--cases", "-a"]).lines().count(), 5);
    assert_eq!(
        list(&["list", "--cases", "-g", "selfcheck"])
            .lines()
            .count(),
        2
    );
    assert!(list(&["list"]).contains("arm64/psci"));
    assert!(list(&["list", "--groups"]).contains("2 svm"));
    assert!(list(&["list", "--needs"]).contains("x86.svm.npt"));
    let json: serde_json::Value =
        serde_json::from_str(&list(&["list", "--cases", "--json"])).unwrap();
    assert_eq!(json["cases"][0]["id"], "x86/svm/vmrun/a");
    assert_eq!(json["cases"][0]["at"], "tests-x86/src/fixture.rs:7");
    assert!(!dir.0.join("target").exists());
}

#[test]
fn what_selects_nothing_is_named() {
    let dir = workspace("nothing");
    refuses(
        &dir,
        &["run", "x86/sbm"],
        3,
        &["no case matches 'x86/sbm'", "did you mean 'x86/svm'?"],
    );
    refuses(
        &dir,
        &["run", "-g", "svn"],
        2,
        &["unknown group 'svn'", "did you mean 'svm'?"],
    );
    let output = dir.assay(&["run", "/(/"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'/(/' is not a regular expression"));
    refuses(
        &dir,
        &["run", "-g", "svm", "-g", "!svm"],
        3,
        &["no case is in this selection"],
    );
    refuses(
        &dir,
        &["run", "--hypervisor", "qemu-tgc"],
        2,
        &["did you mean 'qemu-tcg'?"],
    );
    assert_eq!(dir.assay(&["run", "--jobs", "0"]).status.code(), Some(2));
    assert_eq!(dir.assay(&["run", "--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn mistakes_in_the_manifest_are_named_with_their_place() {
    let dir = workspace("manifest");
    dir.write(
        "unittests.yaml",
        MANIFEST.replace("groups: [svm]", "grups: [svm]"),
    );
    refuses(
        &dir,
        &["list"],
        2,
        &["unittests.yaml:2:", "'grups' (did you mean 'groups'?)"],
    );
    dir.write(
        "unittests.yaml",
        MANIFEST.replace("unit: slow", "unit: svm"),
    );
    refuses(
        &dir,
        &["list"],
        2,
        &["unittests.yaml:3: unit 'x86/svm' is defined twice", ":2"],
    );
    dir.write("unittests.yaml", "units: [\n");
    refuses(&dir, &["list"], 2, &["unittests.yaml:"]);
    refuses(
        &dir,
        &["list", "--manifest", "none.yaml"],
        2,
        &["none.yaml"],
    );
    std::fs::remove_file(dir.0.join("unittests.yaml")).unwrap();
    refuses(&dir, &["list"], 2, &["no unittests.yaml here"]);
}

#[test]
fn payloads_that_cannot_be_used_are_named() {
    let dir = workspace("payloads");
    let good = elf(62, &[Fixture::new("vmrun/a")]);
    dir.write("payloads/x86/svm", elf(183, &[Fixture::new("vmrun/a")]));
    refuses(
        &dir,
        &["list"],
        2,
        &[
            "unittests.yaml:2",
            "built for arm64, not for x86",
            "build it again",
        ],
    );
    for length in [0, 3, 63, 64, 100, good.len() / 2, good.len() - 1] {
        dir.write("payloads/x86/svm", &good[..length]);
        refuses(&dir, &["list"], 2, &["payloads/x86/svm", "build it again"]);
    }
    let mut bad = good.clone();
    // The address of the first string, in the first record.
    let table = bad
        .windows(8)
        .position(|w| w == (0x10_0000u64 + 120).to_le_bytes())
        .unwrap();
    bad[table + 7] = 0xff;
    dir.write("payloads/x86/svm", &bad);
    refuses(&dir, &["list"], 2, &["points outside the file"]);
    dir.write(
        "payloads/x86/svm",
        b"not an ELF file, but long enough to hold its header; and then some",
    );
    refuses(&dir, &["list"], 2, &["no ELF64 file"]);
    dir.write(
        "payloads/x86/svm",
        elf(62, &[Fixture::new("vmrun/a"), Fixture::new("vmrun/a")]),
    );
    refuses(&dir, &["list"], 2, &["case 'vmrun/a' twice"]);
    dir.write("payloads/x86/svm", elf(62, &[Fixture::new("vmrun/A")]));
    refuses(&dir, &["list"], 2, &["illegal name 'A'"]);
    std::fs::remove_file(dir.0.join("payloads/x86/svm")).unwrap();
    refuses(
        &dir,
        &["list"],
        2,
        &["cannot open payload", "./run_tests.sh"],
    );
    // The payloads of other architectures are not in the way.
    assert_eq!(
        dir.assay(&["list", "--arch", "arm64"]).status.code(),
        Some(0)
    );
    assert_eq!(dir.assay(&["list", "arm64/psci"]).status.code(), Some(0));
}

#[test]
fn every_single_broken_byte_is_survived() {
    let dir = workspace("bytes");
    let good = elf(62, &[Fixture::new("vmrun/a")]);
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        let path = dir.write("payloads/x86/svm", &bad);
        // Either outcome is fine, as long as there is one.
        let _ = assay::payload::read(&path, assay::arch::Arch::X86);
    }
}

#[test]
fn a_missing_hypervisor_is_never_green() {
    let dir = workspace("missing");
    let run = |args: &[&str]| {
        let mut command = dir.command(args);
        command.env("ASSAY_QEMU_X86", "/nonexistent/qemu");
        command
            .env("ASSAY_QEMU_ARM64", "/nonexistent/qemu")
            .output()
            .unwrap()
    };
    let output = run(&["run", "-t"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    let message = text(&output.stderr);
    assert!(
        message.contains("install package qemu-system-x86"),
        "{message}"
    );
    // One architecture can run: the cases of the other are errors.
    dir.write(
        "fake",
        "#!/bin/sh\n[ $1 = --version ] && echo QEMU emulator version 9.1 || exit 1\n",
    );
    let chmod = std::process::Command::new("chmod")
        .arg("+x")
        .arg(dir.0.join("fake"))
        .status();
    assert!(chmod.unwrap().success());
    let mut command = dir.command(&["run", "-t"]);
    command
        .env("ASSAY_QEMU_X86", "/nonexistent/qemu")
        .env("ASSAY_QEMU_ARM64", dir.0.join("fake"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    let stream = tap::validate(&out).unwrap();
    assert_eq!(stream.points.len(), 3);
    assert!(out.contains("kind: \"unavailable\""), "{out}");
    assert!(out.contains("kind: \"no-boot\""), "{out}");
}

/// Writes a program that runs by itself: `sh` with nothing but its own commands.
fn program(dir: &Dir, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.0.join(name);
    // Another process writes it, so that no other test's child has it open for writing.
    let mut write = std::process::Command::new("sh");
    write.args(["-c", "printf %s \"$1\" >\"$0\" && chmod +x \"$0\""]);
    let text = format!("#!/bin/sh\n{text}");
    assert!(write.arg(&path).arg(text).status().unwrap().success());
    path
}

#[test]
fn a_run_that_chooses_says_who_ran_what_and_who_else_could() {
    let dir = workspace("chooses");
    let mine = |has: &str| {
        let line = format!("{{ command: [./mine, '{{kernel}}'], capabilities: [{has}] }}");
        let text = format!("{MANIFEST}hypervisors:\n  mine: {line}\n  gone: ");
        text + "{ command: [./gone, '{kernel}'], capabilities: [x86.vmx] }\n"
    };
    dir.write("unittests.yaml", mine("x86.vmx"));
    let console = "TAP version 13\n1..2\n# start 1 x86/svm/vmrun/a\nok 1 - x86/svm/vmrun/a\n\
                   # start 2 x86/svm/vmrun/b\nok 2 - x86/svm/vmrun/b # SKIP needs x86.vmx\n# done\n";
    let version = "[ $1 = --version ] && echo QEMU emulator version 9.1 && exit 0\n";
    let qemu = format!("{version}echo '{}'\n", console.trim_end());
    let qemu = program(&dir, "qemu", &qemu);
    program(&dir, "mine", "exit 0\n");
    let run = |args: &[&str]| {
        let mut command = dir.command(args);
        // Neither the hypervisors of this machine nor its KVM.
        command.env("PATH", &dir.0).env("ASSAY_QEMU_X86", &qemu);
        command.env("ASSAY_KVM_DEVICE", "/nonexistent/kvm");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let tap = ["run", "-t", "x86/svm"];
    let told = "# qemu-tcg ran 1 case\n# 1 skipped case needs x86.vmx: --hypervisor mine\n";
    let out = run(&tap);
    assert!(out.ends_with(told), "{out}");
    assert_eq!(tap::validate(&out).unwrap().points.len(), 2);
    assert_eq!(run(&tap), out, "the same bytes again");
    let pretty = run(&["run", "--format", "pretty", "x86/svm"]);
    assert!(pretty.contains(&told.replace("# ", "")), "{pretty}");
    // Who is asked for answers alone; who lacks it is not named.
    let out = run(&["run", "-t", "--hypervisor", "qemu-tcg", "x86/svm"]);
    assert!(out.ends_with("needs x86.vmx\n"), "{out}");
    dir.write("unittests.yaml", mine("x86.svm"));
    assert!(run(&tap).ends_with("\n# qemu-tcg ran 1 case\n"));
}

#[test]
fn accelerators_of_other_hosts_say_so() {
    let dir = workspace("accelerators");
    let out = text(&dir.assay(&["hypervisors", "--json"]).stdout);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let of = |name: &str| {
        let rows = rows.as_array().unwrap();
        let row = rows
            .iter()
            .find(|r| r["name"] == name && r["arch"] == "x86");
        row.unwrap_or_else(|| panic!("{name} is not in {out}"))
    };
    for name in ["qemu-hvf", "qemu-whpx", "qemu-mshv"] {
        assert_eq!(of(name)["verified"], false, "{name}");
    }
    if cfg!(target_os = "linux") {
        for (name, os) in [("qemu-hvf", "macos"), ("qemu-whpx", "windows")] {
            assert_eq!(of(name)["usable"], false);
            let reason = of(name)["reason"].as_str().unwrap();
            assert!(
                reason.contains(&format!("accelerator of {os} hosts")),
                "{reason}"
            );
        }
    }
}

#[test]
fn dry_run_prints_commands_and_starts_nothing() {
    let dir = workspace("dry");
    let output = dir.assay(&["run", "--dry-run", "x86/svm"]);
    let out = text(&output.stdout);
    assert!(
        out.starts_with("# x86/svm: 2 cases\nqemu-system-x86_64 -accel tcg "),
        "{out}"
    );
    assert!(out.contains("-kernel ./payloads/x86/svm") || out.contains("-kernel payloads/x86/svm"));
    assert!(out.contains("-append 'unit=svm cases=0-1'"), "{out}");
}

const PASS: &str = "TAP version 13\n1..2\n# start 1 x86/svm/vmrun/a\nok 1 - x86/svm/vmrun/a\n\
                    # start 2 x86/svm/vmrun/b\nok 2 - x86/svm/vmrun/b\n# done\n";

#[test]
fn expectations_decide_what_is_red() {
    let dir = workspace("expect");
    dir.write("rec/x86/svm.1", PASS.replace("ok 2", "not ok 2"));
    let entry =
        |id: &str| format!("- {{ id: '{id}', outcome: fail, reason: known, reference: 'here' }}\n");
    let run = |id: &str, more: &[&str]| {
        dir.write("known.yaml", entry(id));
        let mut args = vec![
            "run",
            "-t",
            "--replay",
            "rec",
            "--expectations",
            "known.yaml",
        ];
        args.extend(more);
        args.push("x86/svm");
        let output = dir.assay(&args);
        (output.status.code().unwrap(), text(&output.stdout))
    };
    let (code, out) = run("x86/svm/vmrun/b", &[]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("\nnot ok 2 - x86/svm/vmrun/b # TODO known\n  ---\n"),
        "{out}"
    );
    let (code, out) = run("x86/svm/vmrun/*", &[]);
    assert_eq!(code, 0);
    assert!(
        out.contains("\nok 1 - x86/svm/vmrun/a # TODO fixed: known\n"),
        "{out}"
    );
    let (code, out) = run("x86/svm/vmrun/*", &["--strict"]);
    assert_eq!(code, 1);
    assert!(out.contains("\nnot ok 1 - x86/svm/vmrun/a\n"), "{out}");
    let (code, _) = run("x86/svm/other/*", &[]);
    assert_eq!(code, 1);
    refuses(
        &dir,
        &[
            "run",
            "--replay",
            "rec",
            "--expectations",
            "none.yaml",
            "svm",
        ],
        2,
        &["none.yaml"],
    );
}

#[test]
fn skips_alone_are_not_green() {
    let dir = workspace("skips");
    let skip = PASS
        .replace("\n#", " # SKIP needs x86.svm\n#")
        .replace("..2 # SKIP needs x86.svm", "..2");
    dir.write(
        "rec/x86/svm.1",
        skip.replacen("13 # SKIP needs x86.svm", "13", 1),
    );
    let output = dir.assay(&["run", "-t", "--replay", "rec", "x86/svm"]);
    let out = text(&output.stdout);
    assert!(
        out.contains("ok 2 - x86/svm/vmrun/b # SKIP needs x86.svm\n"),
        "{out}"
    );
    assert_eq!(output.status.code(), Some(3), "{out}");
}

#[test]
fn a_run_leaves_its_reports_and_logs() {
    let dir = workspace("reports");
    dir.write("rec/x86/svm.1", PASS.replace("ok 2", "not ok 2"));
    let output = dir.assay(&["run", "-t", "--replay", "rec", "x86/svm"]);
    let latest = dir.0.join("target/assay/latest");
    let read = |name: &str| std::fs::read_to_string(latest.join(name)).unwrap();
    assert_eq!(read("results.tap"), text(&output.stdout));
    assert!(read("junit.xml").contains("<testsuite name=\"replay/x86/svm\" tests=\"2\""));
    let json: serde_json::Value = serde_json::from_str(&read("results.json")).unwrap();
    assert_eq!(json["schema"], "assay.results/1");
    assert_eq!(json["cases"][1]["outcome"], "fail");
    assert_eq!(
        json["cases"][1]["repro"],
        "./run_tests.sh --hypervisor replay x86/svm/vmrun/b"
    );
    // A run can be compared with another, and with the TAP of any runner.
    dir.write(
        "other.tap",
        "TAP version 13\n1..1\nok 1 - x86/svm/vmrun/b\n",
    );
    let output = dir.assay(&[
        "compare",
        "other.tap",
        "target/assay/latest",
        "--fail-on-regression",
    ]);
    let out = text(&output.stdout);
    assert!(out.contains("pass    fail    x86/svm/vmrun/b\n"), "{out}");
    assert!(out.contains("-       pass    x86/svm/vmrun/a\n"), "{out}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn fail_fast_still_gives_every_case_a_line() {
    let dir = workspace("fast");
    dir.write("rec/x86/svm.1", PASS.replace("ok 1", "not ok 1"));
    dir.write("rec/arm64/psci.1", "%hang\n");
    let args = ["run", "-t", "-j1", "--fail-fast", "--replay", "rec"];
    let output = dir.assay(&args);
    let out = text(&output.stdout);
    assert_eq!(tap::read(&out).unwrap().points.len(), 3, "{out}");
    assert!(out.ends_with("Bail out! --fail-fast\n"), "{out}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_interrupted_run_ends_with_a_complete_stream() {
    for signal in ["INT", "TERM", "HUP"] {
        let dir = workspace(&format!("interrupt-{signal}"));
        dir.write("rec/x86/svm.1", PASS);
        dir.write(
            "rec/arm64/psci.1",
            "TAP version 13\n# start 1 arm64/psci/off/c\n%hang\n",
        );
        let mut command = dir.command(&["run", "-t", "-j1", "--replay", "rec"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let log = dir.0.join("target/assay/latest/psci-replay-arm64.log");
        let until = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(&log).is_ok_and(|t| t.contains("# start 1 ")) {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        let kill = std::process::Command::new("kill")
            .args(["-s", signal, &pid])
            .status();
        assert!(kill.unwrap().success());
        let mut out = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}: {out}");
        let stream = tap::read(&out).unwrap();
        assert_eq!(stream.points.len(), 3, "{out}");
        assert!(
            stream.bailed && out.contains("kind: \"interrupted\""),
            "{out}"
        );
    }
}

#[test]
fn check_complains_about_everything_at_once() {
    let dir = workspace("check");
    let output = dir.assay(&["check"]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        message.contains("'SPEC 1' has no row in docs/specs.md"),
        "{message}"
    );
    assert!(
        message.contains("cases.txt lacks a case: arm64/psci/off/c (7 in all)"),
        "{message}"
    );
    dir.write(
        "docs/specs.md",
        "| doc | section | title |\n| --- | --- | --- |\n| SPEC | 1 | x |\n",
    );
    dir.write("expectations/qemu-tcg.yaml", "# none\n");
    assert_eq!(dir.assay(&["check", "--write"]).status.code(), Some(0));
    let cases = std::fs::read_to_string(dir.0.join("cases.txt")).unwrap();
    assert!(
        cases.starts_with("arm64/psci/off/c\nx86/breaks/vmrun/a\n"),
        "{cases}"
    );
    assert_eq!(dir.assay(&["check"]).status.code(), Some(0));
    dir.write(
        "cases.txt",
        cases.replace("x86/svm/vmrun/a", "x86/svm/vmrun/z"),
    );
    dir.write(
        "expectations/qemu-tcg.yaml",
        "- { id: x86/none/**, outcome: fail, reason: r, reference: r }\n",
    );
    let mut needy = [Fixture::new("off/c")];
    needy[0].needs = "arm64.el3";
    dir.write("payloads/arm64/psci", elf(183, &needy));
    let message = text(&dir.assay(&["check"]).stderr);
    for part in [
        "cases.txt lists a case that is gone: x86/svm/vmrun/z",
        "cases.txt lacks a case: x86/svm/vmrun/a",
        "'x86/none/**' matches no case",
        "unknown need 'arm64.el3' (did you mean 'arm64.el2'?)",
    ] {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = workspace("pipe");
    let mut child = dir
        .command(&["list", "--cases"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Processes whose command line holds `word`, zombies left out.
fn alive(word: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    lines.filter(|line| text(line).contains(word)).count()
}

#[test]
fn killing_the_runner_leaves_nothing_behind() {
    let rounds: u64 = std::env::var("ASSAY_KILL_ROUNDS").map_or(12, |n| n.parse().unwrap());
    let dir = workspace("kill");
    dir.write(
        "rec/x86/svm.1",
        "TAP version 13\n# start 1 x86/svm/vmrun/a\n%hang\n",
    );
    dir.write(
        "rec/arm64/psci.1",
        "TAP version 13\n# start 1 arm64/psci/off/c\n%hang\n",
    );
    let rec = dir.0.join("rec");
    for round in 0..rounds {
        let mut command = dir.command(&["run", "-t", "-j2", "--replay", rec.to_str().unwrap()]);
        command
            .args(["--output-dir", "out"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 7 % 50));
        let signal = ["KILL", "INT", "TERM", "HUP"][usize::try_from(round % 4).unwrap()];
        let pid = child.id().to_string();
        let kill = std::process::Command::new("kill")
            .args(["-s", signal, &pid])
            .status();
        assert!(kill.unwrap().success());
        child.wait().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while alive(rec.to_str().unwrap()) > 0 {
            assert!(
                Instant::now() < until,
                "{signal} in round {round} left a process behind"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let left = std::fs::read_dir(dir.0.join("out")).unwrap().flatten();
    let left: Vec<_> = left.map(|f| f.file_name()).collect();
    let known = [".log", ".tap", ".xml", ".json"];
    assert!(
        left.iter().all(|f| known
            .iter()
            .any(|k| text(f.as_encoded_bytes()).ends_with(k))),
        "{left:?}"
    );
}
