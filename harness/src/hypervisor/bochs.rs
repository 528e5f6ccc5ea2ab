//! Bochs: an x86 emulator with VMX, SVM and CET of its own.
//!
//! Bochs knows no kernel images, and a boot loader on an ISO costs packages and seconds. So the payload
//! becomes a disk: a boot sector of ours, then the payload's memory as it is to lie from 1 MiB on,
//! then the start information of PVH with the command line. The boot sector copies it all and enters
//! the payload as PVH says. The machine runs as `assay launch bochs ...`, which writes disk and
//! configuration and becomes Bochs.
//!
//! COM1 is Bochs' standard output. The payload ends the machine by writing "Shutdown" to port
//! 8900h, which Bochs treats as a panic; the exit status means nothing.

use super::{Boot, Hypervisor, Launch, Offer, Unavailable, Unmet, which};
use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::hypervisor::kvm::own_program;
use crate::manifest::Unit;
use crate::process::CommandLine;
use clap::Args;
use object::read::elf::{FileHeader, ProgramHeader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Overrides the CPU model.
const MODEL_KEY: &str = "ASSAY_BOCHS_MODEL";
/// The model with VMX and CET, which is the usual one, and one with SVM.
const INTEL: &str = "tigerlake";
const AMD: &str = "ryzen";
/// What Debian's Bochs can put on one board.
const MAX_CPUS: u32 = 8;
/// Where distributions put the BIOS images.
const BIOS_PLACES: &[&str] = &["/usr/share/bochs", "/usr/local/share/bochs"];

/// The adaptor.
#[derive(Default)]
pub struct Bochs {
    found: OnceLock<std::result::Result<Offer, Unavailable>>,
}

fn bios() -> Option<PathBuf> {
    let mut places = BIOS_PLACES.iter().map(PathBuf::from);
    places.find(|p| p.join("BIOS-bochs-latest").is_file())
}

fn probe() -> std::result::Result<Offer, Unavailable> {
    let program = which("bochs").ok_or_else(|| {
        Unavailable("bochs not found; install packages bochs, bochsbios and vgabios".into())
    })?;
    if bios().is_none() {
        return Err(Unavailable(
            "the BIOS images of Bochs are missing; install packages bochsbios and vgabios".into(),
        ));
    }
    let output = Command::new(&program).arg("--help").output();
    let output = output.map_err(|e| Unavailable(format!("cannot run bochs --help: {e}")))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let version = text
        .split("Bochs x86 Emulator ")
        .nth(1)
        .and_then(|t| t.split_whitespace().next());
    Ok(Offer {
        version: version.unwrap_or("0").to_owned(),
        program,
        remarks: Vec::new(),
    })
}

/// The CPU model for `unit`.
fn model(unit: &Unit) -> String {
    let own = || unit.machine.bochs_cpu.clone();
    std::env::var(MODEL_KEY).unwrap_or_else(|_| own().unwrap_or_else(|| INTEL.to_owned()))
}

/// What a CPU model has, where that is known.
fn features(model: &str) -> &'static [&'static str] {
    match model {
        INTEL => &["x86.cet_ibt", "x86.cet_ss", "x86.vmx", "x86.x2apic"],
        AMD => &["x86.svm", "x86.svm.npt", "x86.x2apic"],
        _ => &[],
    }
}

impl Hypervisor for Bochs {
    fn name(&self) -> &'static str {
        "bochs"
    }

    fn archs(&self) -> &'static [Arch] {
        &[Arch::X86]
    }

    fn probe(&self, arch: Arch) -> std::result::Result<Offer, Unavailable> {
        match arch {
            Arch::X86 => self.found.get_or_init(probe).clone(),
            _ => Err(Unavailable(format!("bochs emulates x86 only, not {arch}"))),
        }
    }

    fn capabilities(&self, _: Arch) -> Vec<String> {
        // Of both models; a unit picks one of them.
        let both = [features(INTEL), features(AMD)].concat();
        let sorted: std::collections::BTreeSet<&str> = both.into_iter().collect();
        sorted.into_iter().map(str::to_owned).collect()
    }

    fn meets(&self, unit: &Unit, need: &str) -> bool {
        features(&model(unit)).contains(&need)
    }

    fn supports(&self, unit: &Unit) -> std::result::Result<(), Unmet> {
        let machine = &unit.machine;
        let unmet = |what: String| Err(Unmet(what));
        match (&machine.machine, machine.devices.first()) {
            (Some(model), _) => unmet(format!("machine.{model}")),
            (_, Some(device)) => unmet(format!("device.{device}")),
            _ if machine.cpus() > MAX_CPUS => unmet(format!("cpus>={}", machine.cpus())),
            _ if machine.memory_mib() > 2048 => unmet(format!("memory>={}", machine.memory_mib())),
            _ if machine.pit == Some(false) => unmet("machine.without_pit".into()),
            _ => Ok(()),
        }
    }

    fn boot(&self, _: Arch) -> Boot {
        Boot::Elf
    }

    fn command(&self, launch: &Launch<'_>) -> CommandLine {
        let machine = &launch.unit.machine;
        let mut command = CommandLine::new(own_program());
        command
            .args(["launch", "bochs", "--kernel"])
            .arg(launch.image);
        command.args(["--cpus".to_owned(), machine.cpus().to_string()]);
        command.args(["--memory".to_owned(), machine.memory_mib().to_string()]);
        command.args(["--model".to_owned(), model(launch.unit)]);
        if launch.may_reset {
            command.arg("--reset");
        }
        command.arg("--scratch").arg(launch.scratch);
        command.args(["--append", launch.guest_args]);
        command
    }
}

/// `assay launch bochs`
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The payload
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// Virtual CPUs
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// CPU model, of `bochs --help cpu`
    #[arg(long, default_value = INTEL)]
    model: String,
    /// A reset starts the payload again
    #[arg(long)]
    reset: bool,
    /// A folder for the disk and the configuration
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// The guest's command line
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
}

/// Writes disk and configuration and becomes Bochs.
pub fn launch(options: &Options) -> Result<u8> {
    let offer = probe().map_err(|why| Error::nothing(why.0))?;
    let dir = &options.scratch;
    std::fs::create_dir_all(dir).map_err(|e| Error::file("create folder", dir, e))?;
    // The folder may be relative, and the configuration is read from anywhere.
    let dir = std::fs::canonicalize(dir).map_err(|e| Error::file("find folder", dir, e))?;
    let cannot = |what: &str, path: &Path, e: std::io::Error| Error::file(what, path, e);
    let elf = std::fs::read(&options.kernel).map_err(|e| cannot("read", &options.kernel, e))?;
    let disk = disk(&elf, options.memory, &options.append)
        .map_err(|why| Error::file("boot", &options.kernel, why))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes)
            .map_err(|e| cannot("write", &path, e))
            .map(|()| path)
    };
    let image = write("disk.img", &disk)?;
    // A Bochs that was killed leaves its lock behind, and the next one refuses the disk.
    match std::fs::remove_file(dir.join("disk.img.lock")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(cannot("remove", &dir.join("disk.img.lock"), e));
        }
        _ => {}
    }
    // Debian's Bochs has the debugger: `c` lets the machine run.
    let go = write("go", b"c\n")?;
    let sectors = disk.len() / SECTOR;
    let rc = write(
        "bochsrc",
        configuration(options, &dir, &image, sectors).as_bytes(),
    )?;
    let error = Command::new(&offer.program)
        .args(["-q", "-f"])
        .arg(&rc)
        .arg("-rc")
        .arg(&go)
        .stdin(std::process::Stdio::null())
        .exec();
    Err(Error::nothing(format!(
        "cannot start {}: {error}",
        offer.program.display()
    )))
}

fn configuration(options: &Options, dir: &Path, image: &Path, sectors: usize) -> String {
    let bios = bios().unwrap_or_else(|| PathBuf::from(BIOS_PLACES[0]));
    let (bios, image, dir) = (bios.display(), image.display(), dir.display());
    let cylinders = sectors / (HEADS * SECTORS_PER_TRACK);
    // Little speed makes the BIOS's waits short: they count guest time.
    format!(
        "display_library: rfb, options=\"timeout=0\"\n\
         romimage: file={bios}/BIOS-bochs-latest\n\
         vgaromimage: file={bios}/VGABIOS-lgpl-latest\n\
         megs: {}\n\
         cpu: model={}, count={}, ips=4000000, reset_on_triple_fault={}, ignore_bad_msrs=0\n\
         clock: sync=none\n\
         boot: disk\n\
         ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
         ata0-master: type=disk, mode=flat, path={image}, cylinders={cylinders}, heads={HEADS}, \
         spt={SECTORS_PER_TRACK}\n\
         com1: enabled=1, mode=file, dev=/dev/stdout\n\
         log: {dir}/bochs.log\n\
         debugger_log: /dev/null\n\
         panic: action=fatal\n\
         error: action=report\n\
         info: action=ignore\n\
         debug: action=ignore\n\
         speaker: enabled=0\n\
         sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy\n\
         mouse: enabled=0\n\
         private_colormap: enabled=0\n",
        options.memory,
        options.model,
        options.cpus,
        u8::from(options.reset),
    )
}

const SECTOR: usize = 512;
const HEADS: usize = 16;
const SECTORS_PER_TRACK: usize = 63;
/// Sectors that the boot sector reads at once.
const CHUNK: usize = 64;
/// Where the image goes.
const BASE: u64 = 0x10_0000;
/// The top of memory, which the BIOS uses for its tables.
const BIOS_BYTES: u64 = 0x10_0000;
const PVH_MAGIC: u32 = 0x336e_c578;
const XEN_PHYS32_ENTRY: u32 = 18;

/// Offsets of the words that differ from payload to payload.
const CHUNKS_AT: usize = 0xc2;
const INFO_AT: usize = 0xc4;
const ENTRY_AT: usize = 0xc8;

/// The boot sector's code, which the BIOS loads to 7C00h.
const BOOT: &[u8] = &[
    // cli; cld; ax = ds = es = ss = 0; sp = 7C00h
    0xfa, 0xfc, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c,
    // the A20 gate, by port 92h
    0xe4, 0x92, 0x0c, 0x02, 0x24, 0xfe, 0xe6, 0x92, // lgdt [gdtr]
    0x0f, 0x01, 0x16, 0xbc, 0x7c,
    // into protected mode for flat ds and es, and out again: their limits stay
    0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0xbb, 0x10, 0x00, 0x8e, 0xdb, 0x8e, 0xc3, 0x24,
    0xfe, 0x0f, 0x22, 0xc0, // ds = es = 0; edi = 1 MiB
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x66, 0xbf, 0x00, 0x00, 0x10, 0x00,
    // next: 64 sectors to 1000:0 by INT 13h, AH = 42h; on error to fail
    0xbe, 0x94, 0x7c, 0xb4, 0x42, 0xb2, 0x80, 0xcd, 0x13, 0x72, 0x2d,
    // rep movsd, 32-bit addresses: 32 KiB to edi
    0x66, 0xbe, 0x00, 0x00, 0x01, 0x00, 0x66, 0xb9, 0x00, 0x20, 0x00, 0x00, 0x67, 0x66, 0xf3, 0xa5,
    // add dword [sector], 64; dec word [chunks]; jnz next
    0x66, 0x83, 0x06, 0x9c, 0x7c, 0x40, 0xff, 0x0e, 0xc2, 0x7c, 0x75, 0xd9,
    // cli; protected mode; jmp 8:pm
    0xfa, 0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x78, 0x7c, 0x00, 0x00, 0x08,
    0x00, // fail: hlt; jmp fail
    0xba, 0x02, 0x04, 0xf4, 0xeb, 0xfa, // pm: ds = es = ss = fs = gs = 10h
    0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0x8e, 0xe0, 0x8e, 0xe8,
    // mov ebx, [info]; jmp [entry]; padding
    0x8b, 0x1d, 0xc4, 0x7c, 0x00, 0x00, 0xff, 0x25, 0xc8, 0x7c, 0x00, 0x00, 0x66, 0x90,
    // the disk address packet: 64 sectors to 1000:0 from sector 1
    0x10, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    // GDT: null, flat code, flat data
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00,
    0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00, // gdtr
    0x17, 0x00, 0xa4, 0x7c, 0x00, 0x00, // chunks, info, entry
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

/// A disk that boots the payload `elf`.
fn disk(elf: &[u8], memory_mib: u32, command_line: &str) -> std::result::Result<Vec<u8>, String> {
    type Elf = object::elf::FileHeader64<object::Endianness>;
    let wrong = |e: object::Error| format!("it is no ELF file: {e}");
    let header = Elf::parse(elf).map_err(wrong)?;
    let endian = header.endian().map_err(wrong)?;
    let mut memory: Vec<u8> = Vec::new();
    let mut entry = None;
    for segment in header.program_headers(endian, elf).map_err(wrong)? {
        if segment.p_type(endian) == object::elf::PT_LOAD {
            let at = segment
                .p_paddr(endian)
                .checked_sub(BASE)
                .ok_or("it loads below 1 MiB")?;
            let end = at + segment.p_memsz(endian);
            if end > 64 << 20 {
                return Err("it is larger than 64 MiB".into());
            }
            let bytes = segment
                .data(endian, elf)
                .map_err(|()| "a segment is cut off")?;
            let (at, end) = (at as usize, end as usize);
            memory.resize(memory.len().max(end), 0);
            memory[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let mut notes = segment.notes(endian, elf).map_err(wrong)?;
        while let Some(note) = notes.as_mut().and_then(|n| n.next().ok().flatten()) {
            if note.name() == b"Xen" && note.n_type(endian).0 == XEN_PHYS32_ENTRY {
                entry = note
                    .desc()
                    .first_chunk::<4>()
                    .map(|w| u32::from_le_bytes(*w));
            }
        }
    }
    let entry = entry.ok_or("it has no PVH note")?;
    memory.resize(memory.len().next_multiple_of(4096), 0);
    let info = BASE + memory.len() as u64;
    memory.extend(start_info(info, u64::from(memory_mib) << 20, command_line));
    memory.resize(memory.len().next_multiple_of(CHUNK * SECTOR), 0);

    let chunks = u16::try_from(memory.len() / (CHUNK * SECTOR)).map_err(|_| "it is too large")?;
    let mut disk = BOOT.to_vec();
    disk[CHUNKS_AT..CHUNKS_AT + 2].copy_from_slice(&chunks.to_le_bytes());
    disk[INFO_AT..INFO_AT + 4].copy_from_slice(&(info as u32).to_le_bytes());
    disk[ENTRY_AT..ENTRY_AT + 4].copy_from_slice(&entry.to_le_bytes());
    disk.resize(SECTOR - 2, 0);
    disk.extend([0x55, 0xaa]);
    disk.extend(memory);
    disk.resize(
        disk.len()
            .next_multiple_of(HEADS * SECTORS_PER_TRACK * SECTOR),
        0,
    );
    Ok(disk)
}

/// The start information of PVH, to lie at `at`: header, memory map, command line.
fn start_info(at: u64, memory: u64, command_line: &str) -> Vec<u8> {
    const HEADER: u64 = 56;
    let map = [(0, 0xa_0000), (BASE, memory - BASE - BIOS_BYTES)];
    let map_at = at + HEADER;
    let line_at = map_at + 24 * map.len() as u64;
    let mut info = Vec::new();
    for word in [PVH_MAGIC, 1, 0, 0] {
        info.extend(word.to_le_bytes());
    }
    // No modules, and no ACPI root: the payload finds it where the BIOS leaves it.
    for word in [0, line_at, 0, map_at, map.len() as u64] {
        info.extend(word.to_le_bytes());
    }
    for (start, length) in map {
        for word in [start, length, 1] {
            info.extend(u64::to_le_bytes(word));
        }
    }
    info.extend(command_line.as_bytes());
    info.push(0);
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_sector_keeps_its_place_for_parameters() {
        assert_eq!(BOOT.len(), ENTRY_AT + 4);
        assert!(BOOT[CHUNKS_AT..].iter().all(|b| *b == 0));
    }

    #[test]
    fn start_information_points_at_its_parts() {
        let info = start_info(0x20_0000, 64 << 20, "unit=x");
        let word = |at: usize| u64::from_le_bytes(info[at..at + 8].try_into().unwrap());
        assert_eq!(word(24) - 0x20_0000, 104);
        assert_eq!(&info[104..], b"unit=x\0");
        assert_eq!((word(40) - 0x20_0000, word(48)), (56, 2));
        assert_eq!((word(80), word(88)), (1 << 20, 62 << 20));
    }

    #[test]
    fn the_unit_picks_the_cpu_model() {
        let yaml = "units: [{unit: a, arch: x86, payload: p}, \
                    {unit: b, arch: x86, payload: p, machine: {bochs_cpu: ryzen}}]";
        let units = crate::manifest::parse("u", yaml).unwrap();
        let meets = |i: usize, need| Bochs::default().meets(&units[i], need);
        assert_eq!((meets(0, "x86.vmx"), meets(0, "x86.svm")), (true, false));
        assert_eq!((meets(1, "x86.vmx"), meets(1, "x86.svm")), (false, true));
    }
}
