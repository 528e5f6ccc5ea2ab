//! A build of kvm-unit-tests under this runner, with payloads and a configuration of our own.
//!
//! The hypervisor is a shell script that plays its "kernel": the file's first line is the exit
//! status, the rest the console. One test boots a real payload on QEMU where that is installed.

#[expect(dead_code, reason = "payloads here are not our own")]
mod support;

use assay::tap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use support::{Dir, text};

/// Plays the file after `-kernel`: status, then console.
const QEMU: &str = "#!/bin/sh
case \"$1\" in --version) echo 'QEMU emulator version 9.1.2'; exit 0;; esac
echo \"$@\" >> \"$(dirname \"$0\")/calls\"
while [ $# -gt 0 ]; do case \"$1\" in -kernel) kernel=$2;; esac; shift; done
status=$(head -n 1 \"$kernel\")
tail -n +2 \"$kernel\"
case $status in hang) sleep 100;; TERM) kill -TERM $$;; esac
exit $status
";

const CONFIG: &str = "# made by configure\nSRCDIR=/nowhere\nARCH=x86_64\nTEST_DIR=x86\nPROCESSOR=x86_64\n\
                      ENVIRON_DEFAULT=yes\n";

/// One section per way to end, as in 21 sections of a real file that a runner can get wrong.
const SECTIONS: &[(&str, &str, &str, &str)] = &[
    ("good", "1", "PASS: one\nPASS: two\nSUMMARY: 2 tests\n", ""),
    (
        "letters",
        "3",
        "PASS: a\nFAIL: b\nSKIP: c\nXFAIL: d\nKFAIL: e\nXPASS: f\n",
        "",
    ),
    (
        "wraps",
        "1",
        "FAIL: a\nSUMMARY: 1 tests, 1 unexpected failures\n",
        "",
    ),
    ("silent_failure", "3", "hello\n", ""),
    ("triple_fault", "0", "PASS: before\n", ""),
    ("aborts", "127", "ABORT: out of luck\n", ""),
    ("skips", "77", "SKIP: nothing to do\n", ""),
    ("killed", "TERM", "PASS: before\n", ""),
    ("hangs", "hang", "PASS: before\n", "timeout = 1s\n"),
    ("hidden", "1", "walk 4: FAIL: error code 5\n", ""),
    (
        "values",
        "1",
        "PASS: tsc 123456\nPASS: tsc 654321\nPASS: at # 0xffff8000\n",
        "",
    ),
    ("other_arch", "1", "", "arch = i386\n"),
    ("other_accel", "1", "", "accel = kvm\n"),
    ("manual", "1", "PASS: a\n", "groups = nodefault slow\n"),
    ("moves", "1", "", "groups = migration\n"),
    ("disabled", "1", "", "disabled_if = [[ $ACCEL == tcg ]]\n"),
    (
        "checked",
        "1",
        "",
        "check = /proc/sys/kernel/ostype=Windows\n",
    ),
    (
        "many",
        "1",
        "PASS: a\n",
        "smp = $((($MAX_SMP < 3)?$MAX_SMP:3))\ntest_args = \"x 'y z'\"\n",
    ),
    (
        "params",
        "1",
        "PASS: a\n",
        "extra_params = \"\"\"-cpu max \\\n  -name 'a b'\"\"\"\n",
    ),
];

fn build(name: &str) -> Dir {
    let dir = Dir::new(name);
    let qemu = dir.write("qemu", QEMU);
    std::fs::set_permissions(qemu, PermissionsExt::from_mode(0o755)).unwrap();
    dir.write("kut/config.mak", CONFIG);
    dir.write("kut/errata.txt", "9e3f7a296940 : 4.11 : a fix\n");
    let mut cfg = String::from("# sections\n");
    for (name, status, console, keys) in SECTIONS {
        dir.write(
            &format!("kut/x86/{name}.flat"),
            format!("{status}\n{console}"),
        );
        cfg += &format!("[{name}]\nfile = {name}.flat\n{keys}\n");
    }
    cfg += "[absent]\nfile = absent.flat\n";
    dir.write("kut/x86/unittests.cfg", cfg);
    dir
}

fn import(dir: &Dir, args: &[&str]) -> Command {
    let mut command = dir.command(&["import", "kut"]);
    for name in ["ACCEL", "MACHINE", "TIMEOUT", "CHECK", "TARGET_CPU"] {
        command.env_remove(name);
    }
    command
        .args(args)
        .env("QEMU", dir.0.join("qemu"))
        .env("MAX_SMP", "4");
    command
}

/// The exit code, standard output, standard error.
fn run(dir: &Dir, args: &[&str]) -> (i32, String, String) {
    let output = import(dir, args).output().unwrap();
    let code = output.status.code().unwrap();
    (code, text(&output.stdout), text(&output.stderr))
}

#[test]
fn no_failure_and_no_skip_is_lost() {
    let dir = build("import");
    let (code, out, error) = run(&dir, &["-t", "-j", "4", "--output-dir", "run"]);
    assert_eq!(code, 1, "{error}");
    let stream = tap::validate(&out).unwrap();
    let line = |id: &str| {
        let found = out
            .lines()
            .find(|l| l.contains(&format!("- x86/{id}")) && l.contains("ok "));
        let found = found.unwrap_or_else(|| panic!("no {id} in {out}"));
        let (word, rest) = found.split_once(" - ").unwrap();
        let word = word
            .trim_end_matches(|c: char| c.is_ascii_digit())
            .trim()
            .to_owned();
        (
            word,
            rest.split_once(" # ")
                .map_or(String::new(), |(_, d)| d.to_owned()),
        )
    };
    for (id, word, directive) in [
        ("good/case/two", "ok", ""),
        ("good/end/exit", "ok", ""),
        ("letters/case/b", "not ok", ""),
        (
            "letters/case/c",
            "ok",
            "SKIP needs what the payload asks for",
        ),
        (
            "letters/case/d",
            "not ok",
            "TODO the payload itself says so",
        ),
        (
            "letters/case/e",
            "not ok",
            "TODO the payload itself says so",
        ),
        ("letters/case/f", "not ok", ""),
        ("letters/end/exit", "ok", ""),
        ("wraps/case/a", "not ok", ""),
        ("wraps/end/exit", "not ok", ""),
        ("silent_failure/end/exit", "not ok", ""),
        ("triple_fault/case/before", "ok", ""),
        ("triple_fault/end/exit", "not ok", ""),
        ("aborts/end/exit", "not ok", ""),
        (
            "skips/end/exit",
            "ok",
            "SKIP needs what the payload asks for",
        ),
        ("killed/end/exit", "not ok", ""),
        ("hangs/end/exit", "not ok", ""),
        ("hidden/end/exit", "not ok", ""),
        ("values/case/tsc_n", "ok", ""),
        ("values/case/tsc_n_2", "ok", ""),
        ("values/case/at_n", "ok", ""),
        ("other_arch/end/exit", "ok", "SKIP needs arch i386"),
        ("other_accel/end/exit", "ok", "SKIP needs accel kvm"),
        (
            "manual/end/exit",
            "ok",
            "SKIP needs -a (it runs only when asked for)",
        ),
        ("moves/end/exit", "ok", "SKIP needs service.migrate"),
        (
            "disabled/end/exit",
            "ok",
            "SKIP needs not [[ $ACCEL == tcg ]]",
        ),
        (
            "checked/end/exit",
            "ok",
            "SKIP needs /proc/sys/kernel/ostype = Windows",
        ),
        ("absent/end/exit", "not ok", ""),
    ] {
        assert_eq!(line(id), (word.to_owned(), directive.to_owned()), "{id}");
    }
    assert_eq!(
        stream
            .points
            .iter()
            .filter(|p| p.title.ends_with("/exit"))
            .count(),
        20
    );
    let calls = std::fs::read_to_string(dir.0.join("calls")).unwrap();
    // One process per section that runs: no probing, no second start.
    assert_eq!(calls.lines().count(), 13, "{calls}");
    assert!(
        calls.contains("many.flat -smp 3 -append x 'y z' -initrd "),
        "{calls}"
    );
    assert!(calls.contains("-cpu max -name a b\n"), "{calls}");
    let environ = std::fs::read_to_string(dir.0.join("run/environ")).unwrap();
    assert!(
        environ.contains("QEMU_MAJOR=9\nQEMU_MINOR=1\n"),
        "{environ}"
    );
    assert!(environ.contains("ERRATA_9e3f7a296940=y\n"), "{environ}");
    let (_, again, _) = run(&dir, &["-t", "--output-dir", "run"]);
    assert_eq!(again, out, "the order of sections depends on -j");
}

#[test]
fn sections_are_chosen_by_the_letters_of_run_tests() {
    let dir = build("letters");
    let (code, out, _) = run(&dir, &["-l", "-g", "slow"]);
    assert_eq!((code, out.as_str()), (0, "manual\n"));
    assert_eq!(run(&dir, &["-l"]).1.lines().count(), 20);
    let (code, out, _) = run(&dir, &["-t", "manual"]);
    assert_eq!(code, 0);
    assert!(
        out.starts_with("TAP version 13\n1..2\nok 1 - x86/manual/case/a\n"),
        "{out}"
    );
    assert_eq!(run(&dir, &["-t", "other_arch"]).0, 3);
    let (code, _, error) = run(&dir, &["goood"]);
    assert_eq!(code, 2);
    assert!(
        error.contains("unknown section 'goood' (did you mean 'good'?)"),
        "{error}"
    );
    std::fs::remove_file(dir.0.join("calls")).unwrap();
    let (code, out, _) = run(&dir, &["--dry-run", "params"]);
    assert_eq!(code, 0);
    assert!(out.contains("-cpu max -name 'a b'"), "{out}");
    assert!(!dir.0.join("calls").exists());
}

#[test]
fn configuration_text_runs_no_programs() {
    let dir = build("closed");
    for (key, part) in [
        ("extra_params = $(touch owned)", "would run a program"),
        ("test_args = `touch owned`", "would run a program"),
        ("disabled_if = touch owned", "is not of the form [ .. ]"),
        (
            "extra_params = -x; touch owned",
            "means something to a shell",
        ),
        ("smp = many", "smp 'many' is no number"),
        ("timeout = soon", "is no duration"),
        ("grups = x", "did you mean 'groups'?"),
    ] {
        dir.write(
            "kut/x86/unittests.cfg",
            format!("[a]\nfile = good.flat\n{key}\n"),
        );
        let (code, out, error) = run(&dir, &["-t"]);
        assert_eq!((code, out.as_str()), (2, ""), "{key}: {error}");
        assert!(error.contains("x86/unittests.cfg:"), "{error}");
        assert!(error.contains(part), "{error}");
        assert!(!dir.0.join("owned").exists() && !dir.0.join("kut/owned").exists());
    }
    // With a good configuration, a missing hypervisor is never green.
    dir.write("kut/x86/unittests.cfg", "[a]\nfile = good.flat\n");
    let output = import(&dir, &[])
        .env("QEMU", "/no/such/qemu")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("/no/such/qemu not found"));
}

/// A multiboot ELF32 that prints `text` on COM1 and writes `code` to port 0xf4.
fn payload(text: &str, code: u8) -> Vec<u8> {
    const BASE: u32 = 0x10_0000;
    let head = 52 + 32;
    let mut code_bytes = vec![0x02, 0xb0, 0xad, 0x1b, 0, 0, 0, 0, 0xfe, 0x4f, 0x52, 0xe4];
    let entry = BASE + head + 12;
    let program = 36;
    let message = BASE + head + 12 + program;
    code_bytes.push(0xbe); // mov esi, message
    code_bytes.extend(message.to_le_bytes());
    code_bytes.extend([0x66, 0xba, 0xf8, 0x03]); // mov dx, 0x3f8
    code_bytes.extend([0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8]); // lodsb; put until zero
    code_bytes.extend([0x66, 0xba, 0xf4, 0x00]); // mov dx, 0xf4
    code_bytes.push(0xb8); // mov eax, code
    code_bytes.extend(u32::from(code).to_le_bytes());
    code_bytes.extend([0xef, 0xf4, 0xeb, 0xfd]); // out dx, eax; hlt
    code_bytes.resize(12 + program as usize, 0x90);
    code_bytes.extend(text.as_bytes());
    code_bytes.push(0);
    let size = head + u32::try_from(code_bytes.len()).unwrap();
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |elf: &mut Vec<u8>, v: u16| elf.extend(v.to_le_bytes());
    let word = |elf: &mut Vec<u8>, v: u32| elf.extend(v.to_le_bytes());
    half(&mut elf, 2);
    half(&mut elf, 3);
    for v in [1, entry, 52, 0, 0] {
        word(&mut elf, v);
    }
    for v in [52, 32, 1, 0, 0, 0] {
        half(&mut elf, v);
    }
    for v in [1, 0, BASE, BASE, size, size, 7, 0x1000] {
        word(&mut elf, v);
    }
    elf.extend(code_bytes);
    elf
}

#[test]
fn a_real_payload_runs_on_qemu() {
    if assay::hypervisor::which("qemu-system-x86_64").is_none() {
        eprintln!("no QEMU here: not tested");
        return;
    }
    let dir = Dir::new("import-qemu");
    dir.write("kut/config.mak", "ARCH=x86_64\nTEST_DIR=x86\n");
    dir.write("kut/x86/good.flat", payload("PASS: from the guest\n", 0));
    dir.write("kut/x86/bad.flat", payload("FAIL: from the guest\n", 1));
    dir.write("kut/x86/wraps.flat", payload("FAIL: from the guest\n", 128));
    dir.write(
        "kut/x86/unittests.cfg",
        "[good]\nfile = good.flat\n[bad]\nfile = bad.flat\n[wraps]\nfile = wraps.flat\n",
    );
    let mut command = import(&dir, &["-t"]);
    let output = command
        .env_remove("QEMU")
        .env("TIMEOUT", "60s")
        .output()
        .unwrap();
    let out = text(&output.stdout);
    let stream = tap::validate(&out).unwrap();
    let words: Vec<String> = stream
        .points
        .iter()
        .map(|p| format!("{} {}", p.title, p.outcome))
        .collect();
    let expected = [
        "x86/good/case/from_the_guest pass",
        "x86/good/end/exit pass",
        "x86/bad/case/from_the_guest fail",
        "x86/bad/end/exit pass",
        "x86/wraps/case/from_the_guest fail",
        "x86/wraps/end/exit fail",
    ];
    assert_eq!(words, expected, "{out}");
}
