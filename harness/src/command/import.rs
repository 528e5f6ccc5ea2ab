//! `assay import DIR`: runs an existing build of kvm-unit-tests under this runner.

use super::merge;
use crate::arch::Arch;
use crate::cli::ImportOptions;
use crate::error::{Error, Result, did_you_mean, exit};
use crate::expectations::{Expectations, Verdict};
use crate::hypervisor::which;
use crate::interrupt::Interrupt;
use crate::kut::config::{Section, config_mak, errata, sections};
use crate::kut::console::{Point, slug};
use crate::kut::machine::{self, Report as Ran, Setting};
use crate::kut::shell::{self, Variables};
use crate::outcome::{CaseResult, Kind, Outcome};
use crate::report::json::{self, Case, Document, Host, SCHEMA};
use crate::report::{self, Format, stored};
use crate::runs::{RESULTS, blank};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What becomes of a section.
enum Turn {
    /// It runs.
    Run(crate::process::CommandLine),
    /// It does not, for the lack of this.
    Skip(String),
    /// It cannot, and should.
    Broken(String),
}

/// Runs what `options` asks for; returns the exit code.
pub fn import(options: &ImportOptions) -> Result<u8> {
    let begun = Instant::now();
    let config = config_mak(&options.dir.join("config.mak"))?;
    let arch = architecture(&config)?;
    let all = read_sections(&options.dir, &config)?;
    let chosen = choose(options, all)?;
    if options.list {
        let mut out = io::stdout().lock();
        let written = chosen.iter().try_for_each(|s| writeln!(out, "{}", s.name));
        return super::written(written.map(|()| exit::OK));
    }
    let dir = directory(options)?;
    let setting = setting(options, config, arch, &dir)?;
    let turns = turns(options, &setting, &chosen)?;
    if options.dry_run {
        let mut out = io::stdout().lock();
        let written = chosen
            .iter()
            .zip(&turns)
            .try_for_each(|(section, turn)| match turn {
                Turn::Run(command) => writeln!(out, "# {}\n{}", section.name, command.shell()),
                Turn::Skip(why) => writeln!(out, "# {}: skip, needs {why}", section.name),
                Turn::Broken(why) => writeln!(out, "# {}: {why}", section.name),
            });
        return super::written(written.map(|()| exit::OK));
    }
    let interrupt =
        Interrupt::listen().map_err(|e| Error::usage(format!("cannot listen to signals: {e}")))?;
    let ran = run_all(options, &setting, &chosen, &turns, &dir, &interrupt)?;
    let expectations = match &options.expectations {
        Some(path) => Expectations::load(path)?,
        None => Expectations::default(),
    };
    let hypervisor = format!("qemu-{}", setting.accel);
    let version = version(&setting.program);
    let mut cases = Vec::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (section, ran) in chosen.iter().zip(&ran) {
        let n = names.entry(slug(&section.name)).or_insert(0);
        *n += 1;
        let name = match *n {
            1 => slug(&section.name),
            n => format!("{}_{n}", slug(&section.name)),
        };
        let unit = Unit {
            id: format!("{arch}/{name}"),
            section,
            options,
            hypervisor: &hypervisor,
        };
        unit.cases(ran, &expectations, &version, &mut cases);
    }
    for (i, case) in cases.iter_mut().enumerate() {
        (case.number, case.place) = (i + 1, i + 1);
    }
    let document = Document {
        schema: SCHEMA.into(),
        run: crate::workspace::run_name(),
        shard: None,
        many: false,
        complete: !interrupt.is_set(),
        duration_s: (begun.elapsed().as_secs_f64() * 1e3).round() / 1e3,
        hypervisors: vec![Host {
            name: hypervisor,
            arch: arch.to_string(),
            version: Some(version),
        }],
        cases,
    };
    write(options, &document, &dir, interrupt.signalled())
}

/// Writes the reports; returns the exit code.
fn write(options: &ImportOptions, document: &Document, dir: &Path, signalled: bool) -> Result<u8> {
    let terminal = io::stdout().is_terminal();
    let usual = if terminal && !options.tap {
        Format::Pretty
    } else {
        Format::Tap
    };
    let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let format = options.format.unwrap_or(usual);
    let mut reports = vec![report::open(format, io::stdout(), color, options.verbose)];
    let own = [(Format::Tap, "results.tap"), (Format::Junit, "junit.xml")];
    let own = own.map(|(format, name)| report::Target {
        format,
        path: dir.join(name),
    });
    reports.extend(merge::open(&own, false)?);
    reports.extend(merge::open(&options.outputs, options.verbose)?);
    let summary = stored::replay(document, &dir.display().to_string(), &mut reports)?;
    let path = dir.join(RESULTS);
    let file = File::create(&path).map_err(|e| Error::file("write", &path, e))?;
    json::write(document, &mut BufWriter::new(file)).map_err(|e| Error::file("write", &path, e))?;
    Ok(if signalled {
        exit::INTERRUPTED
    } else {
        summary.code()
    })
}

fn architecture(config: &Variables) -> Result<Arch> {
    let word = config.get("ARCH").map_or("", String::as_str);
    match word {
        "x86_64" | "i386" => Ok(Arch::X86),
        "arm64" | "aarch64" => Ok(Arch::Arm64),
        "s390x" => Ok(Arch::S390x),
        _ => Err(Error::usage(format!(
            "config.mak: ARCH '{word}' is not one of x86_64, i386, arm64, s390x"
        ))),
    }
}

fn read_sections(dir: &Path, config: &Variables) -> Result<Vec<Section>> {
    let test_dir = config.get("TEST_DIR").map_or("x86", String::as_str);
    let source = config.get("SRCDIR").map(PathBuf::from).unwrap_or_default();
    let name = format!("{test_dir}/unittests.cfg");
    let path = [dir.join(&name), source.join(&name)]
        .into_iter()
        .find(|p| p.is_file());
    let path = path.unwrap_or_else(|| dir.join(&name));
    let text = std::fs::read_to_string(&path).map_err(|e| Error::file("read", &path, e))?;
    sections(&name, &text)
}

/// The sections that names and groups choose. Who names nothing gets all; `nodefault` is decided
/// later, because such a section has its line.
fn choose(options: &ImportOptions, all: Vec<Section>) -> Result<Vec<Section>> {
    let names: BTreeSet<&str> = all.iter().map(|s| s.name.as_str()).collect();
    let groups: BTreeSet<&str> = all
        .iter()
        .flat_map(|s| &s.groups)
        .map(String::as_str)
        .collect();
    for (what, asked, known) in [
        ("section", &options.names, &names),
        ("group", &options.groups, &groups),
    ] {
        if let Some(word) = asked.iter().find(|w| !known.contains(w.as_str())) {
            let hint = did_you_mean(word, known.iter().copied());
            return Err(Error::usage(format!("unknown {what} '{word}'{hint}")));
        }
    }
    let wanted = |s: &Section| {
        (options.names.is_empty() || options.names.contains(&s.name))
            && (options.groups.is_empty() || s.groups.iter().any(|g| options.groups.contains(g)))
    };
    let chosen: Vec<Section> = all.into_iter().filter(wanted).collect();
    match chosen.is_empty() {
        true => Err(Error::nothing(
            "nothing to run: no section is in this selection",
        )),
        false => Ok(chosen),
    }
}

fn directory(options: &ImportOptions) -> Result<PathBuf> {
    let dir = match &options.output_dir {
        Some(dir) => dir.clone(),
        None => options.dir.join("assay").join(crate::workspace::run_name()),
    };
    if !options.dry_run {
        std::fs::create_dir_all(&dir).map_err(|e| Error::file("create folder", &dir, e))?;
    }
    Ok(dir)
}

/// A variable of the environment, which wins over config.mak as in kvm-unit-tests.
fn variable(config: &Variables, name: &str) -> Option<String> {
    let value = std::env::var(name)
        .ok()
        .or_else(|| config.get(name).cloned());
    value.filter(|v| !v.is_empty())
}

fn setting(options: &ImportOptions, config: Variables, arch: Arch, dir: &Path) -> Result<Setting> {
    let usual = match arch {
        Arch::X86 => "qemu-system-x86_64",
        Arch::Arm64 => "qemu-system-aarch64",
        Arch::S390x => "qemu-system-s390x",
    };
    let program = variable(&config, "QEMU").unwrap_or_else(|| usual.into());
    let program = which(&program)
        .ok_or_else(|| Error::nothing(format!("{program} not found; install it or set QEMU")))?;
    let accel_word = variable(&config, "ACCEL").unwrap_or_else(|| "tcg".into());
    let accel = accel_word.split(',').next().unwrap_or_default().to_owned();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let max_smp = variable(&config, "MAX_SMP").unwrap_or_else(|| cpus.to_string());
    let machine = variable(&config, "MACHINE");
    let environ = match config.get("ENVIRON_DEFAULT").map(String::as_str) {
        Some("yes") if !options.dry_run => Some(environ(options, &accel, &program, dir)?),
        _ => None,
    };
    let cpu = variable(&config, "TARGET_CPU").or_else(|| config.get("PROCESSOR").cloned());
    // On x86 PROCESSOR is what the compiler aims at, not a model of QEMU.
    let cpu = cpu.filter(|_| arch == Arch::Arm64 && accel == "tcg");
    let mut variables = config;
    variables.insert("MAX_SMP".into(), max_smp);
    variables.insert("ACCEL".into(), accel.clone());
    variables.insert("MACHINE".into(), machine.clone().unwrap_or_default());
    for name in ["TARGET", "EL2", "CONFIG_EFI", "TARGET_CPU"] {
        let value = variable(&variables, name).unwrap_or_default();
        variables.insert(name.into(), value);
    }
    let test_dir = variables.get("TEST_DIR").map_or("x86", String::as_str);
    Ok(Setting {
        arch,
        accel,
        accel_word,
        machine,
        program,
        cpu,
        environ,
        dir: options.dir.join(test_dir),
        timeout: std::env::var("TIMEOUT").ok().filter(|t| !t.is_empty()),
        variables,
    })
}

/// Writes the guest's environment, as `KEY=VAL` lines.
fn environ(options: &ImportOptions, accel: &str, program: &Path, dir: &Path) -> Result<PathBuf> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let numbers: Vec<u64> = release
        .split(['.', '-'])
        .map_while(|n| n.parse().ok())
        .collect();
    let kernel = (
        numbers.first().copied().unwrap_or(0),
        numbers.get(1).copied().unwrap_or(0),
    );
    let version = version(program);
    let mut qemu = version.split('.');
    let mut text = format!(
        "TARGET=qemu\nQEMU_ACCEL={accel}\nQEMU_VERSION_STRING={version}\n\
         KERNEL_VERSION_STRING={release}\nKERNEL_VERSION={}\nKERNEL_PATCHLEVEL={}\n\
         KERNEL_SUBLEVEL={}\n",
        kernel.0,
        kernel.1,
        numbers.get(2).copied().unwrap_or(0)
    );
    for name in ["QEMU_MAJOR", "QEMU_MINOR", "QEMU_MICRO"] {
        text += &format!("{name}={}\n", qemu.next().unwrap_or("0"));
    }
    let list =
        std::env::var_os("ERRATATXT").map_or_else(|| options.dir.join("errata.txt"), PathBuf::from);
    // Errata are about the host's KVM: its absence, and --all, force them on.
    let force = options.all || accel == "tcg";
    let list = std::fs::read_to_string(&list).unwrap_or_default();
    for (key, value) in errata(&list, kernel, force) {
        let value = std::env::var(&key).unwrap_or(value);
        text += &format!("{key}={value}\n");
    }
    let path = dir.join("environ");
    std::fs::write(&path, text).map_err(|e| Error::file("write", &path, e))?;
    // QEMU runs wherever this program runs, so the path need not be absolute.
    Ok(path)
}

fn version(program: &Path) -> String {
    let output = std::process::Command::new(program)
        .arg("--version")
        .output();
    let text = output
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default();
    let mut words = text
        .split_ascii_whitespace()
        .skip_while(|w| *w != "version");
    words.nth(1).unwrap_or("unknown").to_owned()
}

/// Decides of each section, in the order that run_tests.sh asks its questions.
fn turns(options: &ImportOptions, setting: &Setting, chosen: &[Section]) -> Result<Vec<Turn>> {
    let one = |section: &Section| -> Result<Turn> {
        let in_group = |name: &str| section.groups.iter().any(|g| g == name);
        let asked =
            options.all || !options.groups.is_empty() || options.names.contains(&section.name);
        let skip = |need: String| Ok(Turn::Skip(need));
        // Every text is read before anything runs: a mistake is an error even where it is skipped.
        let command = setting.command(section)?;
        setting.limit(section)?;
        let disabled = match section.disabled_if.as_str() {
            "" => false,
            text => shell::condition(text, &setting.variables)
                .map_err(|e| Error::usage(format!("{}: disabled_if: {e}", section.at)))?,
        };
        if in_group("nodefault") && !asked {
            return skip("-a (it runs only when asked for)".into());
        }
        let built = setting.variables.get("ARCH").cloned().unwrap_or_default();
        if !section.arch.is_empty() && section.arch != built {
            return skip(format!("arch {}", section.arch));
        }
        if let Some(machine) = &setting.machine
            && !section.machine.is_empty()
            && section.machine != *machine
        {
            return skip(format!("machine {}", section.machine));
        }
        let accel = section.accel.split(',').next().unwrap_or_default();
        if !accel.is_empty() && accel != setting.accel {
            return skip(format!("accel {accel}"));
        }
        if disabled {
            return skip(format!("not {}", section.disabled_if));
        }
        let check = std::env::var("CHECK").unwrap_or_else(|_| section.check.clone());
        for pair in section.words(&check, &setting.variables)? {
            let (path, value) = pair.split_once('=').ok_or_else(|| {
                Error::usage(format!(
                    "{}: check '{pair}' is not like path=value",
                    section.at
                ))
            })?;
            let found = std::fs::read_to_string(path).unwrap_or_default();
            if found.trim() != value {
                return skip(format!("{path} = {value}"));
            }
        }
        for (group, service) in [("migration", "migrate"), ("panic", "panic_event")] {
            if in_group(group) {
                return skip(format!("service.{service}"));
            }
        }
        let payload = setting.dir.join(&section.file);
        if !payload.is_file() {
            return Ok(Turn::Broken(format!(
                "payload {} is not built",
                payload.display()
            )));
        }
        Ok(Turn::Run(command))
    };
    chosen.iter().map(one).collect()
}

/// Runs the sections on several threads; reports come back in the order of the file.
fn run_all(
    options: &ImportOptions,
    setting: &Setting,
    chosen: &[Section],
    turns: &[Turn],
    dir: &Path,
    interrupt: &Interrupt,
) -> Result<Vec<Ran>> {
    let slots: Vec<Mutex<Option<Ran>>> = chosen.iter().map(|_| Mutex::new(None)).collect();
    let limits = chosen
        .iter()
        .map(|s| setting.limit(s))
        .collect::<Result<Vec<_>>>()?;
    let next = AtomicUsize::new(0);
    let worker = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let (Some(turn), Some(section)) = (turns.get(i), chosen.get(i)) else {
                return;
            };
            let plain = |exit: CaseResult| Ran {
                points: Vec::new(),
                exit,
                command: String::new(),
                duration: std::time::Duration::ZERO,
            };
            let ran = match turn {
                Turn::Skip(need) => plain(CaseResult::skip(need)),
                Turn::Broken(why) => plain(CaseResult::caused(Outcome::Error, Kind::Spawn, why)),
                Turn::Run(command) => {
                    let log = dir.join(format!("{}.log", slug(&section.name)));
                    machine::run(command, setting.arch, limits[i], &log, interrupt)
                }
            };
            if !matches!(turn, Turn::Skip(_)) {
                eprintln!(
                    "{:>8} {} in {:.2} s",
                    ran.exit.outcome,
                    section.name,
                    ran.duration.as_secs_f64()
                );
            }
            if let Ok(mut slot) = slots[i].lock() {
                *slot = Some(ran);
            }
        }
    };
    let width = options.jobs.map_or(1, usize::from).min(chosen.len());
    std::thread::scope(|scope| (0..width).for_each(|_| drop(scope.spawn(worker))));
    let taken = slots
        .into_iter()
        .map(|slot| slot.into_inner().ok().flatten());
    taken
        .map(|ran| ran.ok_or_else(|| Error::usage("a section was lost; please report this")))
        .collect()
}

/// A section on its way into the document.
struct Unit<'a> {
    id: String,
    section: &'a Section,
    options: &'a ImportOptions,
    hypervisor: &'a str,
}

impl Unit<'_> {
    fn cases(&self, ran: &Ran, known: &Expectations, version: &str, cases: &mut Vec<Case>) {
        let exit = Point {
            slug: "end/exit".into(),
            text: "The payload ends as its own lines ask for.".into(),
            result: CaseResult {
                duration: ran.duration,
                ..ran.exit.clone()
            },
            known: false,
        };
        let path = |point: &Point| format!("case/{}", point.slug);
        for point in &ran.points {
            cases.push(self.case(&path(point), point, ran, known, version));
        }
        cases.push(self.case(&exit.slug, &exit, ran, known, version));
    }

    fn case(
        &self,
        path: &str,
        point: &Point,
        ran: &Ran,
        known: &Expectations,
        version: &str,
    ) -> Case {
        let id = format!("{}/{path}", self.id);
        let verdict = known.judge(&id, version, &point.result);
        let (verdict, why) = match (&verdict, point.known) {
            (_, true) => ("known", Some("the payload itself says so".to_owned())),
            (Verdict::Known(why), _) => ("known", Some(why.text.clone())),
            (Verdict::Fixed(why), _) => ("fixed", Some(why.text.clone())),
            (Verdict::Unexpected, _) => ("unexpected", None),
            _ => ("expected", None),
        };
        let r = &point.result;
        let mut groups = self.section.groups.clone();
        groups.push("kvm_unit_tests".into());
        let dir = self.options.dir.display();
        Case {
            hypervisor: self.hypervisor.into(),
            outcome: r.outcome,
            verdict: verdict.into(),
            known: why,
            kind: r.kind,
            need: r.need.clone(),
            groups,
            rule: point.text.clone(),
            at: self.section.at.clone(),
            diagnostic: r.diagnostic.clone(),
            console: r.console.clone(),
            duration_ms: (r.duration.as_secs_f64() * 1e6).round() / 1e3,
            log: format!("{}.log", slug(&self.section.name)),
            command: ran.command.clone(),
            repro: format!("assay import {dir} '{}'", self.section.name),
            id,
            ..blank()
        }
    }
}
