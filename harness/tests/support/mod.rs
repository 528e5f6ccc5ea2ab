//! What the integration tests share: a payload ELF made of nothing but a case table, a folder
//! that goes away, and the `assay` binary.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A case of a fixture payload.
#[derive(Clone, Copy)]
pub struct Fixture {
    /// `<topic>/<function>`.
    pub path: &'static str,
    /// 0 returns, 1 poweroff, 2 reset, 3 again.
    pub ends: u32,
    /// Needs, separated by blanks.
    pub needs: &'static str,
}

impl Fixture {
    /// A case that returns.
    pub const fn new(path: &'static str) -> Self {
        Fixture {
            path,
            ends: 0,
            needs: "",
        }
    }
}

/// Where the fixture's only segment is loaded.
const BASE: u64 = 0x10_0000;
const EHDR: usize = 64;
const PHDR: usize = 56;
const SHDR: usize = 64;

/// Bytes of one byte order.
struct Bytes {
    big: bool,
    bytes: Vec<u8>,
}

impl Bytes {
    fn put(&mut self, value: u64, size: usize) {
        let le = value.to_le_bytes();
        match self.big {
            false => self.bytes.extend(&le[..size]),
            true => self.bytes.extend(le[..size].iter().rev()),
        }
    }
}

/// An ELF64 file for `machine` (62 x86, 183 arm64, 22 s390x) that carries `cases`.
pub fn elf(machine: u16, cases: &[Fixture]) -> Vec<u8> {
    let big = machine == 22;
    let mut text = Vec::new();
    let mut table = Bytes {
        big,
        bytes: Vec::new(),
    };
    let start = (EHDR + PHDR) as u64 + BASE;
    let mut string = |s: &str, table: &mut Bytes| {
        table.put(start + text.len() as u64, 8);
        table.put(s.len() as u64, 8);
        text.extend_from_slice(s.as_bytes());
    };
    for case in cases {
        let (topic, name) = case.path.split_once('/').unwrap();
        string(&format!("fixture::{topic}"), &mut table);
        string(name, &mut table);
        string(&format!("The rule of {name}."), &mut table);
        string("SPEC 1", &mut table);
        string(case.needs, &mut table);
        string("", &mut table);
        string("tests-x86/src/fixture.rs", &mut table);
        table.put(7, 4); // line
        table.put(0, 4); // timeout
        table.put(case.ends.into(), 4);
        table.put(0, 4);
        table.put(0, 8); // run
    }
    let names = b"\0.assay.cases\0.shstrtab\0";
    let table_at = EHDR + PHDR + text.len();
    let names_at = table_at + table.bytes.len();
    let sections_at = names_at + names.len();
    let mut out = Bytes {
        big,
        bytes: b"\x7fELF\x02".to_vec(),
    };
    out.bytes.push(if big { 2 } else { 1 });
    out.bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (value, size) in [
        (2, 2),
        (u64::from(machine), 2),
        (1, 4),
        (BASE, 8),
        (EHDR as u64, 8),
        (sections_at as u64, 8),
        (0, 4),
        (EHDR as u64, 2),
        (PHDR as u64, 2),
        (1, 2),
        (SHDR as u64, 2),
        (3, 2),
        (2, 2),
    ] {
        out.put(value, size);
    }
    for (value, size) in [
        (1, 4),
        (5, 4),
        (0, 8),
        (BASE, 8),
        (BASE, 8),
        (names_at as u64, 8),
        (names_at as u64, 8),
        (8, 8),
    ] {
        out.put(value, size);
    }
    out.bytes.extend(&text);
    out.bytes.extend(&table.bytes);
    out.bytes.extend(names);
    let table_length = table.bytes.len();
    let mut section = |name: u64, kind: u64, at: usize, length: usize| {
        for (value, size) in [
            (name, 4),
            (kind, 4),
            (0, 8),
            (0, 8),
            (at as u64, 8),
            (length as u64, 8),
            (0, 4),
            (0, 4),
            (1, 8),
            (0, 8),
        ] {
            out.put(value, size);
        }
    };
    section(0, 0, 0, 0);
    section(1, 1, table_at, table_length);
    section(14, 3, names_at, names.len());
    out.bytes
}

/// A folder that is removed with its value.
pub struct Dir(pub PathBuf);

impl Dir {
    /// A fresh folder; `name` tells tests apart.
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("assay-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    /// Writes a file below the folder.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// `assay` in this folder, with fixture payloads from `payloads`.
    pub fn assay(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The command of [`Dir::assay`].
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
        command
            .current_dir(&self.0)
            .args(["--payload-dir", "payloads"])
            .args(args);
        command.env_remove("ASSAY_TIMEOUT_SCALE");
        command
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Text of a process's output.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
