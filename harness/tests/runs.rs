//! What is done with runs that are over: compare, merge, report, history, schemas.

mod support;

use serde_json::Value;
use std::fmt::Write as _;
use support::{Dir, Fixture, elf, text};

const MANIFEST: &str = "units:
- { unit: demo, arch: x86, payload: demo, groups: [demo] }
- { unit: other, arch: x86, payload: demo, groups: [other, slow] }
";
const CASES: [&str; 4] = ["a", "b", "c", "d"];

/// A recording in which the cases of `bad` fail and those of `skip` lack a need.
fn console(unit: &str, bad: &[&str], skip: &[&str]) -> String {
    let mut text = String::from("TAP version 13\n1..4\n");
    for (i, case) in CASES.iter().enumerate() {
        let (n, id) = (i + 1, format!("x86/{unit}/t/{case}"));
        writeln!(text, "# start {n} {id}").unwrap();
        if bad.contains(case) {
            writeln!(
                text,
                "not ok {n} - {id}\n  ---\n  message: \"<b> # {case}\"\n  ..."
            )
            .unwrap();
        } else if skip.contains(case) {
            writeln!(text, "ok {n} - {id} # SKIP needs x86.svm").unwrap();
        } else {
            writeln!(text, "ok {n} - {id}").unwrap();
        }
    }
    text + "# done\n"
}

fn workspace(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("unittests.yaml", MANIFEST);
    let cases = ["t/a", "t/b", "t/c", "t/d"].map(Fixture::new);
    dir.write("payloads/x86/demo", elf(62, &cases));
    dir.write("play/x86/demo.1", console("demo", &["b"], &["c"]));
    dir.write("play/x86/other.1", console("other", &[], &[]));
    dir
}

/// Runs `assay` with `args`: the exit code, standard output, standard error.
fn assay(dir: &Dir, args: &[&str]) -> (i32, String, String) {
    let output = dir.assay(args);
    let code = output.status.code().unwrap();
    (code, text(&output.stdout), text(&output.stderr))
}

fn run(dir: &Dir, to: &str, more: &[&str]) -> i32 {
    let mut args = vec!["run", "--tap", "--replay", "play", "--output-dir", to];
    args.extend(more);
    assay(dir, &args).0
}

fn read(dir: &Dir, path: &str) -> String {
    std::fs::read_to_string(dir.0.join(path)).unwrap()
}

#[test]
fn runs_are_compared_differences_first() {
    let dir = workspace("compare");
    run(&dir, "A", &[]);
    dir.write("play/x86/demo.1", console("demo", &["a"], &["c", "d"]));
    run(&dir, "B", &[]);
    let (code, out, _) = assay(&dir, &["compare", "A", "B"]);
    assert_eq!(code, 0);
    let expected = "# A: A (replay 1.0)\n# B: B (replay 1.0)\n\n\
        # regressed: 1\npass    fail    x86/demo/t/a\n\n\
        # lost: 1\npass    skip    x86/demo/t/d\n\n\
        # fixed: 1\nfail    pass    x86/demo/t/b\n\n\
        # by group\ndemo   A: 2 pass, 1 skip, 1 fail\n       B: 1 pass, 2 skip, 1 fail\n\
        other  4 pass\nslow   4 pass\n\
        all    A: 6 pass, 1 skip, 1 fail\n       B: 5 pass, 2 skip, 1 fail\n\n\
        # 3 differ, 5 are the same, 1 regressed\n";
    assert_eq!(out, expected);
    for (args, code) in [
        (["A", "B", "regression"], 1),
        (["A", "A", "difference"], 0),
        (["A", "B", "loss"], 1),
        (["B/results.json", "B/results.tap", "difference"], 0),
    ] {
        let [a, b, what] = args;
        let args = ["compare", a, b, "--fail-on", what];
        assert_eq!(assay(&dir, &args).0, code, "{args:?}");
    }
    let (_, markdown, _) = assay(&dir, &["compare", "A", "B", "--markdown"]);
    assert!(markdown.starts_with("### 1 regressed, 1 fixed, 5 the same\n"));
    let row = "| `x86/demo/t/a` | pass | **fail** | \\<b\\> \\# a |";
    assert!(markdown.contains(row), "{markdown}");
    let (code, _, error) = assay(&dir, &["compare", "A", "nowhere"]);
    assert_eq!(code, 2);
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn the_page_holds_everything_and_only_text_of_guests() {
    let dir = workspace("page");
    run(&dir, "A", &[]);
    let (code, _, _) = assay(&dir, &["compare", "A", "--html", "page.html"]);
    assert_eq!(code, 0);
    let page = read(&dir, "page.html");
    assert!(page.starts_with("<!doctype html>"));
    assert!(!page.contains("<b> #"), "markup of a guest");
    let from = page.find("id=\"data\">").unwrap() + 10;
    let data = &page[from..from + page[from..].find("</script>").unwrap()];
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["rows"].as_array().unwrap().len(), 8);
    // The bad case comes first, with the console of its own lines.
    let cell = &data["rows"][0]["cells"][0];
    assert_eq!(data["rows"][0]["id"], "x86/demo/t/b");
    assert_eq!(cell["console"][0], "# start 2 x86/demo/t/b");
    assert_eq!(cell["console"].as_array().unwrap().len(), 5);
    assert!(data["commands"][0].as_str().unwrap().contains(" replay "));
}

#[test]
fn shards_merge_into_the_run_that_was_never_cut() {
    let dir = workspace("merge");
    assert_eq!(run(&dir, "whole", &[]), 1);
    run(&dir, "s0", &["--shard", "1/2"]);
    run(&dir, "s1", &["--shard", "2/2"]);
    let (code, out, error) = assay(&dir, &["merge", "s1", "s0", "--output-dir", "joined"]);
    assert_eq!(code, 1, "{error}");
    let plain = |text: String| -> Vec<String> {
        let lines = text.lines().filter(|l| !l.contains("log: "));
        lines.map(str::to_owned).collect()
    };
    let whole = plain(read(&dir, "whole/results.tap"));
    assert_eq!(plain(read(&dir, "joined/results.tap")), whole);
    assert_eq!(plain(out), whole);
    assert!(read(&dir, "joined/junit.xml").contains("failures=\"1\""));
    let args = ["compare", "whole", "joined", "--fail-on", "difference"];
    assert_eq!(assay(&dir, &args).0, 0);
    let (code, _, error) = assay(&dir, &["merge", "s0", "--output-dir", "j"]);
    assert_eq!(code, 2);
    assert!(error.contains("shards are missing: 2/2"), "{error}");
    let (code, _, error) = assay(&dir, &["merge", "whole", "joined", "--output-dir", "j"]);
    assert_eq!(code, 2);
    assert!(error.contains("is in 'whole' and in 'joined'"), "{error}");
    // A later run that has the word mends the failure.
    dir.write("play/x86/demo.1", console("demo", &[], &["c"]));
    run(&dir, "again", &["--rerun-failed=whole"]);
    let merge = ["merge", "whole", "again", "--replace", "--output-dir", "j"];
    assert_eq!(assay(&dir, &merge).0, 0);
}

#[test]
fn reports_are_written_of_a_run_that_is_over() {
    let dir = workspace("report");
    let formats = ["ktap=k1", "lava=l1", "linaro=n1", "jsonl=e1"];
    let more: Vec<&str> = formats.iter().flat_map(|f| ["-o", f]).collect();
    run(&dir, "A", &more);
    let mut args = vec!["report", "A"];
    args.extend([
        "-o",
        "ktap=k2",
        "-o",
        "linaro=n2",
        "-o",
        "lava=l2",
        "-o",
        "tap=t2",
    ]);
    let (code, out, error) = assay(&dir, &args);
    assert_eq!((code, out.as_str()), (0, ""), "{error}");
    assert_eq!(read(&dir, "k1"), read(&dir, "k2"));
    assert_eq!(read(&dir, "n1"), read(&dir, "n2"));
    assert_eq!(read(&dir, "l1"), read(&dir, "l2"));
    assert_eq!(read(&dir, "A/results.tap"), read(&dir, "t2"));
    let linaro = "ok 1 - x86-demo-t-a\nnot ok 2 - x86-demo-t-b: fail <b>   b\n\
                  ok 3 - x86-demo-t-c # skip\n";
    assert!(read(&dir, "n1").contains(linaro), "{}", read(&dir, "n1"));
    let lava = read(&dir, "l1");
    assert!(lava.starts_with("<LAVA_SIGNAL_TESTSET START replay-x86-demo>\n"));
    let cases = lava.matches("<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=t-");
    assert_eq!(cases.count(), 8);
    assert_eq!(lava.matches(" RESULT=skip ").count(), 1);
    assert!(lava.ends_with("<LAVA_SIGNAL_TESTSET STOP>\n"));
    let events: Vec<Value> = read(&dir, "e1")
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(events.len(), 10);
    assert_eq!(
        (&events[0]["type"], &events[0]["cases"]),
        (&"run".into(), &8.into())
    );
    assert_eq!(events[2]["outcome"], "fail");
    assert_eq!(
        (&events[9]["type"], &events[9]["unexpected"]),
        (&"end".into(), &1.into())
    );
    let (_, out, _) = assay(&dir, &["report", "A"]);
    assert!(out.contains("x86/other") && out.contains("6 pass"), "{out}");
    let (code, _, _) = assay(&dir, &["report", "A", "-o", "html=p.html"]);
    assert_eq!(code, 0);
    assert!(read(&dir, "p.html").contains("# start 2 x86/demo/t/b"));
}

#[test]
fn history_says_since_when_and_what_is_flaky() {
    let dir = workspace("history");
    let runs: [&[&str]; 4] = [&[], &["a"], &["b", "d"], &["b", "d", "a"]];
    for (i, bad) in runs.iter().enumerate() {
        dir.write("play/x86/demo.1", console("demo", bad, &["c"]));
        run(&dir, &format!("runs/r{i}"), &[]);
    }
    dir.write("runs/broken/results.json", "{");
    let (code, out, error) = assay(&dir, &["history", "runs"]);
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("left out"), "{error}");
    let expected = "# 4 runs, r0 to r3\n\n# bad now: 3 (latest first)\n\
        fail    since r3 (passed in r2)  replay/x86/demo/t/a\n\
        fail    since r2 (passed in r1)  replay/x86/demo/t/b\n\
        fail    since r2 (passed in r1)  replay/x86/demo/t/d\n\n\
        # flaky: 1\n  2 of 4   bad, 3 turns  replay/x86/demo/t/a\n\n\
        # 8 cases, 3 bad now, 1 flaky\n";
    assert_eq!(out, expected);
    let (_, out, _) = assay(&dir, &["history", "runs", "--last", "2", "--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["runs"].as_array().unwrap().len(), 2);
    assert_eq!(json["cases"][0]["bad_since"], "r3");
    assert_eq!(assay(&dir, &["history", "play"]).0, 3);
}

#[test]
fn schemas_in_docs_are_those_of_the_program() {
    let dir = Dir::new("schemas");
    for name in ["manifest", "expectations", "results", "events", "bench"] {
        let (code, out, _) = assay(&dir, &["schema", name]);
        assert_eq!(code, 0);
        let path = format!("{}/../docs/schema/{name}.json", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("ASSAY_BLESS").is_some() {
            std::fs::write(&path, &out).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            out == written,
            "docs/schema/{name}.json is not what `assay schema {name}` prints; ASSAY_BLESS=1 mends it"
        );
    }
}

/// What a run writes fits the published schema: every key is known, every required key is there.
#[test]
fn results_fit_their_schema() {
    let dir = workspace("fits");
    run(&dir, "A", &["--retries", "1"]);
    let schema: Value = serde_json::from_str(&assay(&dir, &["schema", "results"]).1).unwrap();
    let document: Value = serde_json::from_str(&read(&dir, "A/results.json")).unwrap();
    let fits = |schema: &Value, value: &Value| {
        let known = schema["properties"].as_object().unwrap();
        let keys = value.as_object().unwrap();
        assert!(keys.keys().all(|k| known.contains_key(k)), "{keys:?}");
        for key in schema["required"].as_array().unwrap() {
            assert!(keys.contains_key(key.as_str().unwrap()), "{key}");
        }
    };
    fits(&schema, &document);
    for case in document["cases"].as_array().unwrap() {
        fits(&schema["$defs"]["Case"], case);
    }
}

#[test]
fn shells_get_completions_and_readers_a_manual() {
    let dir = Dir::new("shells");
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = assay(&dir, &["completions", shell]);
        assert_eq!(code, 0);
        assert!(out.contains("rerun-failed"), "{shell}");
    }
    let (code, out, _) = assay(&dir, &["man"]);
    assert_eq!(code, 0);
    assert!(out.contains(".TH assay 1"), "{out}");
    assert_eq!(assay(&dir, &["man", "pages"]).0, 0);
    assert!(read(&dir, "pages/assay-run.1").contains("rerun\\-failed"));
}
