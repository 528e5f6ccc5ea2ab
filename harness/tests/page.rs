//! The HTML page in a real browser: it loads without errors, filters filter, cells open.
//!
//! Needs Chromium (`ASSAY_CHROMIUM`, or one of the usual names in PATH) and passes without one,
//! unless `ASSAY_REQUIRE_CHROMIUM` is set, as CI does.

mod support;

use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use support::{Dir, Fixture, elf, text};

const MANIFEST: &str = "units:
- { unit: demo, arch: x86, payload: demo, groups: [demo] }
- { unit: other, arch: x86, payload: demo, groups: [other] }
";

/// Drives the page as a person would; every `step` is a fact that the test looks at.
const PROBE: &str = r##"<script>
(async () => {
  const facts = {};
  const $ = (s) => document.querySelector(s);
  const shown = () => [...document.querySelectorAll("tr[data-r]")].filter((l) => l.offsetParent).length;
  const tick = () => new Promise((done) => setTimeout(done, 20));
  const input = (e) => e.dispatchEvent(new Event("input", { bubbles: true }));
  facts.ready = document.documentElement.dataset.ready;
  facts.all = shown();
  $("#q").value = "UNIQUE words"; input($("#q"));
  facts.text = [shown(), $("#count").textContent, location.hash];
  $("#q").value = "nothing like it"; input($("#q"));
  facts.none = [shown(), $("#empty").hidden];
  $("#filters").reset(); await tick();
  facts.reset = [shown(), location.hash];
  $("#group").value = "other"; input($("#group"));
  facts.group = shown();
  $("#filters").reset(); await tick();
  const fail = $(".chip input[value=fail]"); fail.click();
  facts.outcome = shown();
  fail.click();
  $("#diff").click();
  facts.diff = shown();
  $("#filters").reset(); await tick();
  const cell = $("button.fail[data-c]"); cell.click();
  facts.panel = $("#detail").innerText;
  facts.expanded = cell.getAttribute("aria-expanded");
  facts.injected = document.querySelectorAll("img, #detail b").length;
  cell.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  facts.closed = [$("#detail"), cell.getAttribute("aria-expanded"), document.activeElement === cell];
  cell.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
  facts.down = document.activeElement.closest("tr").dataset.r;
  $("button[data-group=demo]").click();
  facts.byGroup = [shown(), $("#group").value];
  location.hash = "#outcome=skip&open=0:1"; await tick(); await tick();
  facts.hash = [shown(), $("#detail") !== null];
  const named = (e) => e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim();
  facts.unnamed = [...document.querySelectorAll("input, select, button")].filter((e) => !named(e)).length;
  facts.scopes = [...document.querySelectorAll("th")].filter((e) => !e.scope).length;
  facts.errors = window.errors;
  const out = document.createElement("pre");
  out.id = "facts";
  out.textContent = JSON.stringify(facts);
  document.body.append(out);
})();
</script>"##;

/// Errors are collected from before the first line of the page.
const WATCH: &str = "<head><script>window.errors = [];\
    addEventListener('error', (e) => window.errors.push(String(e.message)));\
    addEventListener('unhandledrejection', (e) => window.errors.push(String(e.reason)));</script>";

fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("ASSAY_CHROMIUM").map(PathBuf::from);
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.iter().find_map(|n| assay::hypervisor::which(n));
    let program = named.or(found);
    assert!(
        program.is_some() || std::env::var_os("ASSAY_REQUIRE_CHROMIUM").is_none(),
        "no Chromium; install package chromium"
    );
    program
}

fn console(unit: &str, bad: &[&str]) -> String {
    let mut text = String::from("TAP version 13\n1..3\n");
    for (i, case) in ["a", "b", "c"].iter().enumerate() {
        let (n, id) = (i + 1, format!("x86/{unit}/t/{case}"));
        writeln!(text, "# start {n} {id}").unwrap();
        if bad.contains(case) {
            let message = "unique words <img src=x><b>bold</b>";
            let block = format!("  ---\n  message: \"{message}\"\n  got: \"2\"\n  ...");
            writeln!(text, "not ok {n} - {id}\n{block}").unwrap();
        } else if *case == "c" {
            writeln!(text, "ok {n} - {id} # SKIP needs x86.svm").unwrap();
        } else {
            writeln!(text, "ok {n} - {id}").unwrap();
        }
    }
    text + "# done\n"
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(chromium) = chromium() else {
        eprintln!("no Chromium here: the page is not tested");
        return;
    };
    let dir = Dir::new("browser");
    dir.write("unittests.yaml", MANIFEST);
    dir.write(
        "payloads/x86/demo",
        elf(62, &["t/a", "t/b", "t/c"].map(Fixture::new)),
    );
    dir.write("play/x86/other.1", console("other", &[]));
    for (run, bad) in [("A", &[][..]), ("B", &["b"])] {
        dir.write("play/x86/demo.1", console("demo", bad));
        dir.assay(&["run", "--tap", "--replay", "play", "--output-dir", run]);
    }
    assert!(
        dir.assay(&["compare", "A", "B", "--html", "page.html"])
            .status
            .success()
    );
    let page = std::fs::read_to_string(dir.0.join("page.html")).unwrap();
    let page = page.replacen("<head>", WATCH, 1);
    let probed = page.replacen("</body>", &format!("{PROBE}</body>"), 1);
    let file = dir.write("probed.html", probed);
    let output = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!(
            "--user-data-dir={}",
            dir.0.join("profile").display()
        ))
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let dom = text(&output.stdout);
    let facts = dom
        .split_once("<pre id=\"facts\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"));
    let (facts, _) = facts.unwrap_or_else(|| panic!("no facts: {}", text(&output.stderr)));
    let facts = facts
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    let facts: Value = serde_json::from_str(&facts).unwrap();
    let is = |key: &str, expected: Value| assert_eq!(facts[key], expected, "{key}");
    is("ready", "1".into());
    is("all", 6.into());
    is(
        "text",
        serde_json::json!([1, "1 of 6 cases", "#q=UNIQUE+words"]),
    );
    is("none", serde_json::json!([0, false]));
    is("reset", serde_json::json!([6, ""]));
    is("group", 3.into());
    is("outcome", 1.into());
    is("diff", 1.into());
    is("expanded", "true".into());
    is("injected", 0.into());
    is("closed", serde_json::json!([null, "false", true]));
    is("down", "1".into());
    is("byGroup", serde_json::json!([3, "demo"]));
    is("hash", serde_json::json!([2, false]));
    is("unnamed", 0.into());
    is("scopes", 0.into());
    is("errors", serde_json::json!([]));
    let panel = facts["panel"].as_str().unwrap();
    for part in [
        "unique words <img src=x><b>bold</b>",
        "The rule of b.",
        "# start 2 x86/demo/t/b",
        "./run_tests.sh --hypervisor replay x86/demo/t/b",
        " replay ",
    ] {
        assert!(panel.contains(part), "'{part}' is not in {panel}");
    }
}
