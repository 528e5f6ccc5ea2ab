//! The files in ci/, as far as one machine can run them: the scripts run, with a recorded console for a
//! hypervisor; of the engines' files the YAML is read and the commands in it are those scripts'.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{Dir, Fixture, elf, text};

const CASES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const PATHS: [&str; 8] = ["t/a", "t/b", "t/c", "t/d", "t/e", "t/f", "t/g", "t/h"];

fn ci() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci")
}

fn workspace(name: &str) -> Dir {
    let dir = Dir::new(name);
    let manifest = "units: [{ unit: demo, arch: x86, payload: demo, groups: [demo] }]\n";
    dir.write("unittests.yaml", manifest);
    dir.write("payloads/x86/demo", elf(62, &PATHS.map(Fixture::new)));
    let mut console = String::from("TAP version 13\n1..8\n");
    for (i, case) in CASES.iter().enumerate() {
        let (n, id) = (i + 1, format!("x86/demo/t/{case}"));
        let block = "  ---\n  message: \"a # b: 'c'\"\n  got: \"\\\"2\\\"\"\n  ...\n";
        console += &format!("# start {n} {id}\n");
        console += &match *case {
            "b" => format!("not ok {n} - {id}\n{block}"),
            "c" => format!("ok {n} - {id} # SKIP needs cpus>=2\n"),
            _ => format!("ok {n} - {id}\n"),
        };
    }
    dir.write("play/x86/demo.1", console + "# done\n");
    assert!(dir.assay(&["--version"]).status.success());
    #[cfg(unix)]
    std::os::unix::fs::symlink(ci(), dir.0.join("ci")).unwrap();
    dir
}

/// Runs `script` as the engines do, in the workspace.
fn shell(dir: &Dir, script: &str, variables: &[(&str, &str)]) -> Output {
    let assay = env!("CARGO_BIN_EXE_assay");
    let run = format!("{assay} --payload-dir payloads run --replay play");
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(&dir.0);
    command.env("ASSAY", assay).env("ASSAY_RUN", run);
    command
        .env_remove("BASELINE")
        .envs(variables.iter().copied());
    command.output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn shards_and_a_merge_are_the_whole_run() {
    let dir = workspace("ci-shards");
    assert_eq!(code(&shell(&dir, "ci/shard.sh 1 1 whole", &[])), 0);
    for k in ["1", "2"] {
        let shard = shell(&dir, &format!("ci/shard.sh {k} 2 shards/{k}"), &[]);
        assert_eq!(code(&shard), 0, "{}", text(&shard.stderr));
    }
    let merged = shell(
        &dir,
        "ci/merge.sh merged shards/*",
        &[("BASELINE", "whole")],
    );
    assert_eq!(code(&merged), 1, "{}", text(&merged.stderr));
    for file in [
        "junit.xml",
        "report.html",
        "summary.md",
        "compare.md",
        "compare.html",
    ] {
        assert!(dir.0.join("merged").join(file).is_file(), "{file}");
    }
    let compare = std::fs::read_to_string(dir.0.join("merged/compare.md")).unwrap();
    assert!(
        compare.starts_with("### 0 regressed, 0 fixed, 8 the same\n"),
        "{compare}"
    );
    // What keeps results from being complete is not left to the merge.
    assert_eq!(code(&shell(&dir, "ci/shard.sh 1 1 x no_such_unit", &[])), 3);
    assert_eq!(
        code(&shell(&dir, "ci/shard.sh 1 1 x --no-such-option", &[])),
        2
    );
    assert_eq!(
        code(&shell(&dir, "rm -r shards/2; ci/merge.sh m shards/*", &[])),
        2
    );
}

#[test]
fn a_slurm_array_is_its_shards() {
    let dir = workspace("ci-slurm");
    for k in ["1", "2"] {
        let variables = [("SLURM_ARRAY_TASK_ID", k), ("SLURM_ARRAY_TASK_COUNT", "2")];
        let task = shell(&dir, "ci/slurm.sh", &variables);
        assert_eq!(code(&task), 0, "{}", text(&task.stderr));
    }
    let merged = shell(&dir, "ci/slurm.sh", &[("ASSAY_MERGE", "1")]);
    assert_eq!(code(&merged), 1, "{}", text(&merged.stderr));
    assert!(dir.0.join("assay-slurm/merged/results.tap").is_file());
    assert_ne!(
        code(&shell(&dir, "ci/slurm.sh", &[("SLURM_ARRAY_TASK_ID", "1")])),
        0
    );
}

#[test]
fn every_consumer_counts_the_same() {
    let dir = workspace("ci-consumers");
    let script = "ci/shard.sh 1 1 run -o ktap=k >/dev/null; ci/tap-consumers.sh run/results.tap k";
    let output = shell(&dir, script, &[]);
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(code(&output), 0, "{out}{error}");
    assert!(out.contains("KTAP: 8 tests"), "{out}{error}");
    let broken = "sed -i s/^1..8/1..9/ run/results.tap; ci/tap-consumers.sh run/results.tap";
    let installed = shell(&dir, "command -v prove", &[]).status.success();
    assert_eq!(code(&shell(&dir, broken, &[])) != 0, installed);
}

/// The scripts' calls in an engine's file, with every `${{ .. }}` of GitHub taken as 1.
fn commands(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(ci().join(file)).unwrap();
    let document: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let mut found = Vec::new();
    collect(&document, &mut found);
    let plain = |command: String| {
        let mut command = command;
        while let Some((from, to)) = command.find("${{").zip(command.find("}}")) {
            command.replace_range(from..to + 2, "1");
        }
        command
    };
    let calls = found.into_iter().filter(|c| c.contains("ci/"));
    calls.map(plain).collect()
}

fn collect(value: &serde_yaml::Value, found: &mut Vec<String>) {
    match value {
        serde_yaml::Value::String(text) => found.push(text.clone()),
        serde_yaml::Value::Sequence(list) => list.iter().for_each(|v| collect(v, found)),
        serde_yaml::Value::Mapping(map) => map.values().for_each(|v| collect(v, found)),
        _ => {}
    }
}

#[test]
fn the_commands_of_the_engines_work() {
    for (file, variables, codes) in [
        (
            "gitlab-ci.yml",
            &[("CI_NODE_INDEX", "1"), ("CI_NODE_TOTAL", "1")][..],
            &[0, 1][..],
        ),
        ("github-actions.yml", &[][..], &[0, 2][..]),
        ("lava.yaml", &[][..], &[0][..]),
    ] {
        let dir = workspace(&format!("ci-{file}"));
        let calls = commands(file);
        assert_eq!(calls.len(), codes.len(), "{file}: {calls:?}");
        for (call, expected) in calls.iter().zip(codes) {
            // The recorded console has a name of its own.
            let call = call.replace("--hypervisor qemu-tcg", "");
            let mut all = vec![("ASSAY_OPTIONS", "")];
            all.extend(variables);
            let output = shell(&dir, &call, &all);
            let error = text(&output.stderr);
            // GitHub's matrix asks for shard 1 of 3 alone here, and the merge misses the others.
            assert_eq!(code(&output), *expected, "{file}: {call}: {error}");
        }
    }
}
