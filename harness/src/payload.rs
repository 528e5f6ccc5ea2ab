//! Payload ELF files: the case table they carry, and the flat image some loaders want.
//!
//! Only the parts that hold cases are read: listing every case of every payload takes
//! milliseconds however much debug information the files carry.

use crate::arch::Arch;
use crate::error::{Error, Result};
use assay_protocol::table;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, ReadCache};
use std::path::{Path, PathBuf};

pub use assay_protocol::table::Ends;

/// One case of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// `<topic>/<function>[/<row>]`.
    pub path: String,
    /// The rule in plain words.
    pub doc: String,
    /// The manual's section.
    pub spec: String,
    /// What the case asks of its machine.
    pub needs: Vec<String>,
    /// Groups beyond those of the unit.
    pub groups: Vec<String>,
    /// `file:line` of the function.
    pub at: String,
    /// Seconds it may take, where it says so itself.
    pub timeout_s: Option<u32>,
    /// How the machine ends when the case passes.
    pub ends: Ends,
}

/// A payload: where it is and what it holds. A case's index is its number for `cases=`.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The ELF file.
    pub path: PathBuf,
    /// Its cases, sorted by path.
    pub cases: Vec<Case>,
}

/// Where payloads are.
#[derive(Clone, Debug)]
pub struct PayloadDir {
    /// The workspace.
    pub root: PathBuf,
    /// Overrides the build output; holds `<arch>/<payload>`.
    pub over: Option<PathBuf>,
}

impl PayloadDir {
    /// The ELF file of `payload`.
    pub fn path(&self, arch: Arch, payload: &str) -> PathBuf {
        match &self.over {
            Some(dir) => dir.join(arch.word()).join(payload),
            None => self
                .root
                .join("target")
                .join(arch.target())
                .join("guest")
                .join(payload),
        }
    }
}

/// Reads the case table of the ELF at `path`, which must be for `arch`.
pub fn read(path: &Path, arch: Arch) -> Result<Payload> {
    let file = std::fs::File::open(path).map_err(|e| {
        let cure = "build the payloads with ./run_tests.sh or `assay run --build`";
        Error::usage(format!(
            "cannot open payload {}: {e}; {cure}",
            path.display()
        ))
    })?;
    let cache = ReadCache::new(file);
    let cases = cases(&cache, arch).map_err(|why| {
        let cure = "build it again with ./run_tests.sh or `assay run --build`";
        Error::usage(format!(
            "cannot use payload {}: {why}; {cure}",
            path.display()
        ))
    })?;
    Ok(Payload {
        path: path.to_owned(),
        cases,
    })
}

type Elf = FileHeader64<Endianness>;
type Why<T> = std::result::Result<T, String>;

/// A loadable part of the file: its addresses and bytes.
struct Segment<'a> {
    virt: u64,
    phys: u64,
    bytes: &'a [u8],
}

fn broken(error: object::read::Error) -> String {
    format!("it is truncated or no ELF64 file ({error})")
}

fn header<'a>(
    data: &'a ReadCache<std::fs::File>,
    arch: Arch,
) -> Why<(&'a Elf, Endianness, Vec<Segment<'a>>)> {
    let elf = Elf::parse(data).map_err(broken)?;
    let endian = elf.endian().map_err(broken)?;
    let machine = elf.e_machine(endian);
    if machine != arch.elf_machine() {
        let found = Arch::ALL.into_iter().find(|a| a.elf_machine() == machine);
        let found = found.map_or_else(|| format!("ELF machine {}", machine.0), |a| a.to_string());
        return Err(format!("it is built for {found}, not for {arch}"));
    }
    let mut segments = Vec::new();
    for segment in elf.program_headers(endian, data).map_err(broken)? {
        if segment.p_type(endian) == PT_LOAD {
            let bytes = segment
                .data(endian, data)
                .map_err(|()| "it is truncated (a segment lies beyond its end)".to_owned())?;
            segments.push(Segment {
                virt: segment.p_vaddr(endian),
                phys: segment.p_paddr(endian),
                bytes,
            });
        }
    }
    Ok((elf, endian, segments))
}

fn cases(data: &ReadCache<std::fs::File>, arch: Arch) -> Why<Vec<Case>> {
    let (elf, endian, segments) = header(data, arch)?;
    let sections = elf.sections(endian, data).map_err(broken)?;
    let (_, section) = sections
        .section_by_name(endian, table::SECTION.as_bytes())
        .ok_or_else(|| format!("it holds no case table (section {})", table::SECTION))?;
    let bytes = section.data(endian, data).map_err(broken)?;
    if bytes.len() % table::RECORD_SIZE != 0 {
        return Err(format!(
            "its case table of {} bytes is no whole number of records",
            bytes.len()
        ));
    }
    let reader = Reader { endian, segments };
    let mut cases: Vec<Case> = bytes
        .chunks(table::RECORD_SIZE)
        .map(|r| reader.case(r))
        .collect::<Why<_>>()?;
    cases.sort_by(|a, b| a.path.cmp(&b.path));
    match cases.windows(2).find(|w| w[0].path == w[1].path) {
        Some(twice) => Err(format!("it holds case '{}' twice", twice[0].path)),
        None => Ok(cases),
    }
}

/// The path of the case `name` in `module`: without the payload's own name.
pub(crate) fn case_path(module: &str, name: &str) -> String {
    let mut path = String::with_capacity(module.len() + name.len());
    for segment in module.split("::").skip(1) {
        path.push_str(segment);
        path.push('/');
    }
    path + name
}

struct Reader<'a> {
    endian: Endianness,
    segments: Vec<Segment<'a>>,
}

impl Reader<'_> {
    fn u64(&self, bytes: &[u8], at: usize) -> u64 {
        let b: [u8; 8] = bytes[at..at + 8].try_into().unwrap_or_default();
        match self.endian {
            Endianness::Little => u64::from_le_bytes(b),
            Endianness::Big => u64::from_be_bytes(b),
        }
    }

    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let b: [u8; 4] = bytes[at..at + 4].try_into().unwrap_or_default();
        match self.endian {
            Endianness::Little => u32::from_le_bytes(b),
            Endianness::Big => u32::from_be_bytes(b),
        }
    }

    /// The string whose address and length stand at `at`.
    fn text(&self, record: &[u8], at: usize) -> Why<String> {
        let (address, length) = (self.u64(record, at), self.u64(record, at + 8));
        if length == 0 {
            return Ok(String::new());
        }
        let bytes = self.segments.iter().find_map(|s| {
            let from = usize::try_from(address.checked_sub(s.virt)?).ok()?;
            let to = from.checked_add(usize::try_from(length).ok()?)?;
            s.bytes.get(from..to)
        });
        let bytes = bytes.ok_or_else(|| {
            format!(
                "its case table points outside the file (address {address:#x}, length {length})"
            )
        })?;
        let text = std::str::from_utf8(bytes).map_err(|_| {
            format!("its case table holds text that is not UTF-8 (at {address:#x})")
        })?;
        Ok(text.to_owned())
    }

    /// Field offsets are those of [`table::Record`].
    fn case(&self, r: &[u8]) -> Why<Case> {
        use std::mem::offset_of;
        let module = self.text(r, offset_of!(table::Record, module))?;
        let name = self.text(r, offset_of!(table::Record, name))?;
        let file = self.text(r, offset_of!(table::Record, file))?;
        let path = case_path(&module, &name);
        if let Some(bad) = path.split('/').find(|s| !assay_protocol::id::is_segment(s)) {
            return Err(format!(
                "its case table holds the illegal name '{bad}' in '{path}'"
            ));
        }
        let words = |text: String| text.split_ascii_whitespace().map(str::to_owned).collect();
        let timeout = self.u32(r, offset_of!(table::Record, timeout_s));
        let ends = match self.u32(r, offset_of!(table::Record, ends)) {
            0 => Ends::Returns,
            1 => Ends::Poweroff,
            2 => Ends::Reset,
            3 => Ends::Again,
            n => return Err(format!("case '{path}' ends in an unknown way ({n})")),
        };
        Ok(Case {
            doc: self
                .text(r, offset_of!(table::Record, doc))?
                .trim()
                .replace('\n', " "),
            spec: self.text(r, offset_of!(table::Record, spec))?,
            needs: words(self.text(r, offset_of!(table::Record, needs))?),
            groups: words(self.text(r, offset_of!(table::Record, groups))?),
            at: format!("{file}:{}", self.u32(r, offset_of!(table::Record, line))),
            timeout_s: (timeout != 0).then_some(timeout),
            ends,
            path,
        })
    }
}

/// The payload as memory would hold it from its lowest address on: what loaders of flat images
/// (an arm64 `Image`) want. Zero-filled memory after the last byte is left out; the image's
/// own header states the full size.
pub fn flat_image(path: &Path, arch: Arch) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|e| Error::file("open payload", path, e))?;
    let cache = ReadCache::new(file);
    let flat = || -> Why<Vec<u8>> {
        let (_, _, mut segments) = header(&cache, arch)?;
        segments.retain(|s| !s.bytes.is_empty());
        segments.sort_by_key(|s| s.phys);
        let base = segments.first().ok_or("it loads nothing")?.phys;
        let mut image = Vec::new();
        for segment in segments {
            let at = usize::try_from(segment.phys - base).map_err(|e| e.to_string())?;
            if at < image.len() || at > 1 << 30 {
                return Err("its segments overlap or lie a gigabyte apart".into());
            }
            image.resize(at, 0);
            image.extend_from_slice(segment.bytes);
        }
        Ok(image)
    };
    flat().map_err(|why| Error::file("flatten payload", path, why))
}
