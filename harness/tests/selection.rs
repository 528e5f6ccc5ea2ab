//! Selection and repetition from outside: `-E`, `--rerun-failed`, `--shard`, `--shuffle`,
//! `--repeat`, `--retries`, `-o`. Consoles are recorded, so nothing here needs a hypervisor.

mod support;

use assay::tap;
use std::fmt::Write as _;
use support::{Dir, Fixture, elf, text};

const MANIFEST: &str = "units:
- { unit: demo, arch: x86, payload: demo, groups: [demo] }
- { unit: other, arch: x86, payload: demo, groups: [other] }
";

/// A recording in which the cases of `bad` fail and the others pass.
fn console(unit: &str, bad: &[&str]) -> String {
    let mut text = String::from("TAP version 13\n1..3\n");
    for (i, case) in ["a", "b", "c"].iter().enumerate() {
        let (n, id) = (i + 1, format!("x86/{unit}/t/{case}"));
        let word = if bad.contains(case) { "not ok" } else { "ok" };
        writeln!(text, "# start {n} {id}\n{word} {n} - {id}").unwrap();
    }
    text + "# done\n"
}

fn workspace(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("unittests.yaml", MANIFEST);
    dir.write(
        "payloads/x86/demo",
        elf(62, &["t/a", "t/b", "t/c"].map(Fixture::new)),
    );
    dir.write("play/x86/demo.1", console("demo", &["b"]));
    dir.write("play/x86/other.1", console("other", &[]));
    dir
}

/// Runs `assay run --tap --replay play` with `args`: the exit code, the titles, the stream.
fn run(dir: &Dir, args: &[&str]) -> (i32, Vec<String>, String) {
    let mut all = vec!["run", "--tap", "--replay", "play"];
    all.extend(args);
    let output = dir.assay(&all);
    let out = text(&output.stdout);
    let titles = match tap::validate(&out) {
        Ok(stream) => stream.points.into_iter().map(|p| p.title).collect(),
        Err(_) => Vec::new(),
    };
    (
        output.status.code().unwrap(),
        titles,
        out + &text(&output.stderr),
    )
}

#[test]
fn expressions_choose_cases() {
    let dir = workspace("expressions");
    let (code, titles, _) = run(&dir, &["-E", "group(other) & !id(x86/*/t/a)"]);
    assert_eq!((code, titles.len()), (0, 2));
    assert_eq!(titles, ["x86/other/t/b", "x86/other/t/c"]);
    let (_, titles, _) = run(&dir, &["demo", "-E", "hypervisor(replay) & id(/[ac]$/)"]);
    assert_eq!(titles, ["x86/demo/t/a", "x86/demo/t/c"]);
    let (code, titles, _) = run(&dir, &["-E", "hypervisor(bochs)"]);
    assert_eq!((code, titles.len()), (3, 0));
    let list = dir.assay(&["list", "--cases", "-E", "unit(demo) & !id(**/b)"]);
    assert_eq!(text(&list.stdout), "x86/demo/t/a\nx86/demo/t/c\n");
}

#[test]
fn a_mistake_in_an_expression_is_pointed_at() {
    let dir = workspace("carets");
    let (code, _, out) = run(&dir, &["-E", "gruop(demo)"]);
    assert_eq!(code, 2);
    assert!(
        out.ends_with("(did you mean 'group'?)\n  gruop(demo)\n  ^^^^^\n"),
        "{out}"
    );
    let (code, _, out) = run(&dir, &["-E", "all() & group(dmo)"]);
    assert_eq!(code, 2);
    assert!(
        out.ends_with("  all() & group(dmo)\n                ^^^\n"),
        "{out}"
    );
    let (code, _, out) = run(&dir, &["-E", "failed(last)"]);
    assert_eq!(code, 2);
    assert!(out.contains("no earlier run"), "{out}");
}

#[test]
fn failures_of_the_last_run_are_run_again() {
    let dir = workspace("rerun");
    assert_eq!(run(&dir, &[]).0, 1);
    let (code, titles, _) = run(&dir, &["--rerun-failed"]);
    assert_eq!((code, titles), (1, vec!["x86/demo/t/b".to_owned()]));
    // The last run is now the one that held the failure alone.
    let (_, titles, _) = run(&dir, &["-E", "new(last) & unit(demo)"]);
    assert_eq!(titles, ["x86/demo/t/a", "x86/demo/t/c"]);
    dir.write("play/x86/demo.1", console("demo", &[]));
    assert_eq!(run(&dir, &["--output-dir", "mine"]).0, 0);
    let (code, _, out) = run(&dir, &["--rerun-failed=mine"]);
    assert_eq!(code, 3, "{out}");
    assert!(
        out.contains("no case of this selection failed in that run"),
        "{out}"
    );
    let (_, titles, _) = run(&dir, &["-E", "outcome(pass, mine/results.tap) & id(**/c)"]);
    assert_eq!(titles, ["x86/demo/t/c", "x86/other/t/c"]);
}

#[test]
fn shards_are_a_partition() {
    let dir = workspace("shards");
    let (_, whole, _) = run(&dir, &[]);
    let mut parts = Vec::new();
    for k in 1..=3 {
        let (code, titles, out) = run(&dir, &["--shard", &format!("{k}/3")]);
        // A shard without a case says so and is not green.
        assert_eq!(code == 3, titles.is_empty(), "{out}");
        parts.extend(titles);
    }
    parts.sort();
    assert_eq!(parts, whole);
    assert_eq!(run(&dir, &["--shard", "4/3"]).0, 2);
}

#[test]
fn a_seed_is_an_order_and_every_case_keeps_its_line() {
    let dir = workspace("shuffle");
    let (_, whole, _) = run(&dir, &[]);
    let orders: Vec<Vec<String>> = (0..8)
        .map(|seed: u64| run(&dir, &["--shuffle", &seed.to_string()]).1)
        .collect();
    assert_eq!(orders[3], run(&dir, &["--shuffle", "3"]).1);
    assert!(orders.iter().any(|order| *order != whole));
    for mut order in orders {
        order.sort();
        assert_eq!(order, whole);
    }
}

#[test]
fn a_pass_on_a_later_attempt_is_flaky() {
    let dir = workspace("retries");
    dir.write("play/x86/demo.2", console("demo", &["b"]));
    dir.write("play/x86/demo.3", console("demo", &[]));
    assert_eq!(run(&dir, &["--retries", "1"]).0, 1);
    let (code, titles, out) = run(&dir, &["--retries", "5", "-o", "json=j", "-o", "junit=x"]);
    assert_eq!((code, titles.len()), (0, 6), "{out}");
    assert!(
        out.contains("ok 2 - x86/demo/t/b\n  ---\n  outcome: \"flaky\"\n"),
        "{out}"
    );
    assert!(out.contains("    - \"pass\"\n"), "{out}");
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.0.join("j")).unwrap()).unwrap();
    assert_eq!(json["cases"][1]["verdict"], "flaky");
    assert_eq!(json["cases"][1]["attempts"].as_array().unwrap().len(), 3);
    assert!(json["cases"][0].get("attempts").is_none());
    let junit = std::fs::read_to_string(dir.0.join("x")).unwrap();
    assert_eq!(junit.matches("<flakyFailure").count(), 2, "{junit}");
    let (code, _, out) = run(&dir, &["--retries", "5", "--strict"]);
    assert_eq!(code, 1);
    assert!(out.contains("not ok 2 - x86/demo/t/b\n"), "{out}");
}

#[test]
fn one_failure_in_many_repetitions_decides() {
    let dir = workspace("repeat");
    for n in 1..=5 {
        let bad: &[&str] = if n == 4 { &["c"] } else { &[] };
        dir.write(&format!("play/x86/demo.{n}"), console("demo", bad));
    }
    assert_eq!(run(&dir, &["demo", "--repeat", "3"]).0, 0);
    let (code, titles, out) = run(&dir, &["demo", "--repeat", "5"]);
    assert_eq!((code, titles.len()), (1, 3));
    assert!(
        out.contains("4 of 5 attempts passed\\x3a pass, pass, pass, fail, pass"),
        "{out}"
    );
}

#[test]
fn several_reports_are_written_at_once() {
    let dir = workspace("outputs");
    let (_, _, out) = run(
        &dir,
        &["-o", "tap=a.tap", "-o", "pretty=b.txt", "-o", "junit=c.xml"],
    );
    let tap = std::fs::read_to_string(dir.0.join("a.tap")).unwrap();
    assert!(out.starts_with(&tap), "{out}");
    assert!(
        std::fs::read_to_string(dir.0.join("b.txt"))
            .unwrap()
            .contains("x86/demo")
    );
    assert!(
        std::fs::read_to_string(dir.0.join("c.xml"))
            .unwrap()
            .contains("<testsuites")
    );
    let (code, _, out) = run(&dir, &["-o", "junti=x"]);
    assert_eq!(code, 2);
    assert!(out.contains("did you mean 'junit'?"), "{out}");
    assert_eq!(run(&dir, &["-o", "junit=no/such/folder/x"]).0, 2);
}
