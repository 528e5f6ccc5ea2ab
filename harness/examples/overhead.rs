//! What the runner costs: pairs of the bare hypervisor command and `assay run` on one unit.
//!
//! ```text
//! cargo build --release && cargo run --release --example overhead -- x86/selftest 20
//! ```

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let unit = args.next().unwrap_or_else(|| "x86/selftest".into());
    let rounds: usize = args.next().map_or(Ok(20), |n| n.parse())?;
    let assay = std::env::current_exe()?;
    let assay = assay
        .parent()
        .and_then(Path::parent)
        .ok_or("no target folder")?
        .join("assay");
    let dry = Command::new(&assay)
        .args(["run", "--dry-run", &unit])
        .output()?;
    let dry = String::from_utf8(dry.stdout)?;
    let bare = dry.lines().nth(1).ok_or("no such unit")?;
    let (mut alone, mut run) = (Vec::new(), Vec::new());
    let timed = |command: &mut Command| -> std::io::Result<Duration> {
        let begun = Instant::now();
        command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()?;
        Ok(begun.elapsed())
    };
    for _ in 0..rounds.max(1) {
        // `exec` leaves no shell between us and the hypervisor; a hang ends some time.
        alone.push(timed(
            Command::new("sh").args(["-c", &format!("exec timeout 60 {bare}")]),
        )?);
        run.push(timed(Command::new(&assay).args(["run", "-t", &unit]))?);
    }
    let mut pairs: Vec<f64> = alone
        .iter()
        .zip(&run)
        .map(|(a, r)| r.as_secs_f64() - a.as_secs_f64())
        .collect();
    pairs.sort_by(f64::total_cmp);
    alone.sort();
    run.sort();
    let half = alone.len() / 2;
    println!(
        "bare hypervisor {:8.1} ms (median of {rounds})",
        alone[half].as_secs_f64() * 1e3
    );
    println!("assay run       {:8.1} ms", run[half].as_secs_f64() * 1e3);
    println!(
        "overhead        {:8.1} ms (median of the differences)",
        pairs[half] * 1e3
    );
    Ok(())
}
