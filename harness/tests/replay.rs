//! Recorded consoles, most of them hostile, and the exact report each must give.
//!
//! A scenario is a folder in `transcripts/`: `x86/<unit>.<launch>` are consoles (see
//! `hypervisor::replay` for the lines that begin with `%`), `expected.txt` is standard output and
//! the exit code. `ASSAY_BLESS=1` writes the reports anew; read the difference.

mod support;

use assay::tap;
use std::fmt::Write as _;
use std::path::Path;
use support::{Dir, Fixture, elf, text};

const MANIFEST: &str = "units:
- { unit: demo, arch: x86, payload: demo, timeout_s: 2 }
- { unit: ends, arch: x86, payload: ends, timeout_s: 2 }
- { unit: again, arch: x86, payload: again, timeout_s: 2 }
";

fn workspace(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("unittests.yaml", MANIFEST);
    let demo = ["t/a", "t/b", "t/c"].map(Fixture::new);
    dir.write("payloads/x86/demo", elf(62, &demo));
    let ends = [
        Fixture {
            ends: 1,
            ..Fixture::new("e/off")
        },
        Fixture {
            ends: 2,
            ..Fixture::new("e/reset")
        },
        Fixture::new("e/returns"),
    ];
    dir.write("payloads/x86/ends", elf(62, &ends));
    let again = ["e/back", "e/fails", "e/forgets"].map(|name| Fixture {
        ends: 3,
        ..Fixture::new(name)
    });
    dir.write("payloads/x86/again", elf(62, &again));
    dir
}

/// What the limits are multiplied by: little where a console never ends, and much elsewhere, so that
/// a slow machine changes no report.
fn scale(scenario: &Path) -> &'static str {
    let endless = |path: &Path| {
        let console = std::fs::read(path).unwrap();
        let has = |word: &[u8]| console.windows(word.len()).any(|w| w == word);
        has(b"%hang") || has(b"%flood")
    };
    let consoles = std::fs::read_dir(scenario.join("x86")).unwrap();
    match consoles.map(|c| c.unwrap().path()).any(|c| endless(&c)) {
        true => "0.25",
        false => "30",
    }
}

/// Runs the scenario and returns its report.
fn report(dir: &Dir, scenario: &Path) -> (String, String) {
    let units: Vec<String> = ["demo", "ends", "again"]
        .iter()
        .filter(|unit| scenario.join(format!("x86/{unit}.1")).exists())
        .map(|unit| (*unit).to_owned())
        .collect();
    let mut args = vec!["run", "--tap", "--replay", scenario.to_str().unwrap()];
    args.extend(units.iter().map(String::as_str));
    let output = dir
        .command(&args)
        .env("ASSAY_TIMEOUT_SCALE", scale(scenario))
        .output()
        .unwrap();
    let out = text(&output.stdout);
    let stream =
        tap::validate(&out).unwrap_or_else(|e| panic!("{}: {e}\n{out}", scenario.display()));
    assert_eq!(
        stream.points.len(),
        3 * units.len(),
        "{}",
        scenario.display()
    );
    let code = output.status.code().unwrap();
    let mut report = out;
    writeln!(report, "# exit {code}").unwrap();
    (report, text(&output.stderr))
}

#[test]
fn every_transcript_gives_its_exact_report() {
    let mut scenarios: Vec<_> =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
    scenarios.sort();
    assert!(scenarios.len() >= 21);
    let dir = workspace("replay");
    let mut wrong = String::new();
    for scenario in scenarios {
        let (got, stderr) = report(&dir, &scenario);
        let file = scenario.join("expected.txt");
        if std::env::var_os("ASSAY_BLESS").is_some() {
            std::fs::write(&file, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if got != expected {
            let name = scenario.display();
            writeln!(
                wrong,
                "{name}\n--- expected\n{expected}--- got\n{got}{stderr}"
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_child_that_keeps_the_console_open_dies_with_its_group() {
    let dir = workspace("leak");
    dir.write(
        "rec/x86/demo.1",
        "TAP version 13\n1..3\n# start 1 x86/demo/t/a\nok 1 - x86/demo/t/a\n%fork\n# done\n",
    );
    let output = dir.assay(&["run", "-t", "--replay", "rec", "x86/demo/t/a"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let log =
        std::fs::read_to_string(dir.0.join("target/assay/latest/demo-replay-x86.log")).unwrap();
    assert!(
        log.lines()
            .next()
            .unwrap()
            .contains(" replay rec/x86/demo.1 "),
        "{log}"
    );
    // `%fork` leaves `sleep 1000` behind; its working folder tells ours from others.
    let here = dir.0.canonicalize().unwrap();
    let alive = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|process| {
            let cwd = std::fs::read_link(process.path().join("cwd"));
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            cwd.is_ok_and(|cwd| cwd == here) && !stat.contains(") Z ")
        });
    assert!(!alive);
}

#[test]
fn ten_thousand_cases_take_less_than_two_seconds() {
    let dir = Dir::new("many");
    dir.write(
        "unittests.yaml",
        "units:\n- { unit: many, arch: x86, payload: many }\n",
    );
    let names: Vec<String> = (0..10_000).map(|i| format!("t/c{i:05}")).collect();
    let cases: Vec<Fixture> = names
        .iter()
        .map(|n| Fixture::new(Box::leak(n.clone().into_boxed_str())))
        .collect();
    dir.write("payloads/x86/many", elf(62, &cases));
    let mut console = String::from("TAP version 13\n1..10000\n");
    for (i, name) in names.iter().enumerate() {
        let n = i + 1;
        write!(
            console,
            "# start {n} x86/many/{name}\nok {n} - x86/many/{name}\n"
        )
        .unwrap();
    }
    console += "# done\n";
    dir.write("rec/x86/many.1", console);
    let begun = std::time::Instant::now();
    let output = dir.assay(&["run", "-t", "--replay", "rec"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(begun.elapsed().as_secs_f64() < 2.0, "{:?}", begun.elapsed());
    assert_eq!(
        tap::validate(&text(&output.stdout)).unwrap().points.len(),
        10_000
    );
}

#[test]
fn the_order_of_lines_does_not_depend_on_the_width() {
    let dir = Dir::new("width");
    let mut manifest = String::from("units:\n");
    for i in 0..12 {
        writeln!(
            manifest,
            "- {{ unit: u{i}, arch: x86, payload: demo, timeout_s: 5 }}"
        )
        .unwrap();
        // The first units take longest, so that parallel runs end in another order.
        let wait = 60 - 5 * i;
        dir.write(
            &format!("rec/x86/u{i}.1"),
            format!(
                "TAP version 13\n1..1\n# start 1 x86/u{i}/t/a\n%sleep {wait}\nnot ok 1 - x86/u{i}/t/a\n# done\n"
            ),
        );
    }
    dir.write("unittests.yaml", manifest);
    dir.write("payloads/x86/demo", elf(62, &[Fixture::new("t/a")]));
    let run = |jobs: &str| {
        dir.assay(&["run", "-t", "-j", jobs, "--replay", "rec"])
            .stdout
    };
    let one = run("1");
    assert_eq!(text(&one), text(&run("8")));
    assert_eq!(text(&one), text(&run("4")));
}
