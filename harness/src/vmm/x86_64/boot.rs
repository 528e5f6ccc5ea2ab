//! From an ELF file to a processor that is about to run it.
//!
//! Two entries are known. PVH (note type 18, owner "Xen") starts in 32-bit protected mode without
//! paging. A payload of ours has a second note (owner "Assay", type 1) with a 64-bit entry
//! that takes the same start information in RBX, and the places of its page tables: we fill them
//! and enter in long mode at once. There are hosts whose KVM emulates what a boot does, at a
//! microsecond per instruction. A third note (owner "Assay", type 2) says where the case table is: we
//! sort it, and the payload need not.

use super::acpi;
use super::slots::Region;
use assay_protocol::table::{RECORD_SIZE, Record};
use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use object::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader};
use std::mem::offset_of;
use std::path::Path;

type Elf = object::elf::FileHeader64<object::Endianness>;

/// Start of day information of PVH.
const START_INFO: u64 = 0x6000;
const MEMORY_MAP: u64 = 0x6100;
const MODULES_END: u64 = 0x7000;
const GDT: u64 = 0x5000;
const COMMAND_LINE: u64 = 0x2_0000;
const MAX_COMMAND_LINE: usize = 0x8000;
/// The root pointer lies where a BIOS would leave it, so that a search finds it too.
const ACPI: u64 = 0xe_0000;
/// More than that is no case table.
const MAX_CASES: usize = 1 << 16;
const MAX_TEXT: usize = 4096;
const PVH_MAGIC: u32 = 0x336e_c578;

/// The note with the 32-bit entry.
const XEN_PHYS32_ENTRY: u32 = 18;
/// Our note: six 64-bit words, [`Long`].
const ASSAY_LONG_ENTRY: u32 = 1;

/// Our other note: three 64-bit words, [`CaseTable`].
const ASSAY_CASES: u32 = 2;

/// Where a payload begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// At this address, as PVH says.
    Pvh(u64),
    /// In long mode.
    Long(Long),
}

/// A 64-bit entry and the page tables that the payload wants to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Long {
    address: u64,
    pml4: u64,
    pdpt: u64,
    /// Four page directories in a row.
    pd: u64,
    user_pml4: u64,
    user_pdpt: u64,
}

/// The records of the cases, and the word that says that they are sorted.
struct CaseTable {
    start: u64,
    end: u64,
    sorted: u64,
}

/// Loads the ELF file at `path` and everything it asks for; says where it begins.
pub fn load(
    path: &Path,
    memory: &Region,
    command_line: &str,
    cpus: u32,
    pvh: bool,
) -> Result<Entry, String> {
    let file = std::fs::File::open(path);
    let file = file.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    // Most of a payload is debug information, which nobody reads here.
    let data = &ReadCache::new(file);
    let not_elf = |e| format!("{} is no x86-64 ELF file: {e}", path.display());
    let header = Elf::parse(data).map_err(not_elf)?;
    let endian = header.endian().map_err(not_elf)?;
    if header.e_machine(endian) != object::elf::EM_X86_64 {
        return Err(format!("{} is no x86-64 ELF file", path.display()));
    }
    let (mut short, mut long, mut table) = (None, None, None);
    for segment in header.program_headers(endian, data).map_err(not_elf)? {
        if segment.p_type(endian) == object::elf::PT_LOAD {
            let bytes = segment.data(endian, data).map_err(|()| {
                format!(
                    "{}: a segment lies beyond the end of the file",
                    path.display()
                )
            })?;
            let at = segment.p_paddr(endian);
            let end = at.checked_add(segment.p_memsz(endian));
            if end.is_none_or(|end| end > memory.bytes()) {
                return Err(format!("{} does not fit into the memory", path.display()));
            }
            // The rest of the segment is zero already: the memory is fresh.
            memory.write(at, bytes)?;
        }
        let mut notes = segment.notes(endian, data).map_err(not_elf)?;
        while let Some(note) = notes.as_mut().and_then(|n| n.next().ok().flatten()) {
            let words: Vec<u64> = note
                .desc()
                .chunks_exact(8)
                .map(|w| u64::from_le_bytes(w.try_into().unwrap_or_default()))
                .collect();
            match (note.name(), note.n_type(endian).0, &words[..]) {
                (b"Xen", XEN_PHYS32_ENTRY, []) => {
                    let word = note.desc().try_into().map(u32::from_le_bytes);
                    short = word.ok().map(u64::from);
                }
                (b"Xen", XEN_PHYS32_ENTRY, &[address]) => short = Some(address),
                (b"Assay", ASSAY_LONG_ENTRY, &[address, pml4, pdpt, pd, user_pml4, user_pdpt]) => {
                    long = Some(Long {
                        address,
                        pml4,
                        pdpt,
                        pd,
                        user_pml4,
                        user_pdpt,
                    });
                }
                (b"Assay", ASSAY_CASES, &[start, end, sorted]) => {
                    table = Some(CaseTable { start, end, sorted });
                }
                _ => {}
            }
        }
    }
    // Where that fails the payload sorts them itself, and finds out what is wrong.
    let _ = table.and_then(|table| sort(memory, &table));
    start_info(memory, command_line, cpus)?;
    match (short, long) {
        (_, Some(long)) if !pvh => Ok(Entry::Long(long)),
        (Some(address), _) => Ok(Entry::Pvh(address)),
        _ => Err(format!(
            "{} has no PVH note (type 18, owner Xen), so there is no way to enter it",
            path.display()
        )),
    }
}

/// Sorts the records as the payload would.
fn sort(memory: &Region, table: &CaseTable) -> Option<()> {
    let bytes = usize::try_from(table.end.checked_sub(table.start)?).ok()?;
    if bytes > MAX_CASES * RECORD_SIZE || bytes % RECORD_SIZE != 0 {
        return None;
    }
    let mut records = vec![0; bytes];
    memory.read(table.start, &mut records).ok()?;
    let text = |record: &[u8], at: usize| {
        let word = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(record[at..at + 8].try_into().ok()?))
        };
        let mut text = vec![
            0;
            usize::try_from(word(at + 8)?)
                .ok()
                .filter(|n| *n <= MAX_TEXT)?
        ];
        memory.read(word(at)?, &mut text).ok()?;
        String::from_utf8(text).ok()
    };
    let path = |record: &[u8]| {
        let module = text(record, offset_of!(Record, module))?;
        let name = text(record, offset_of!(Record, name))?;
        Some(crate::payload::case_path(&module, &name))
    };
    let mut sorted: Vec<(String, &[u8])> = records
        .chunks(RECORD_SIZE)
        .map(|record| Some((path(record)?, record)))
        .collect::<Option<_>>()?;
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let bytes: Vec<u8> = sorted.iter().flat_map(|(_, r)| r.iter().copied()).collect();
    memory.write(table.start, &bytes).ok()?;
    memory.write(table.sorted, &1u32.to_le_bytes()).ok()
}

/// The memory map as (start, length, type): RAM below and above the hole for the BIOS.
fn memory_map(bytes: u64) -> [(u64, u64, u32); 3] {
    [
        (0, 0xa_0000, 1),
        (0xa_0000, 0x6_0000, 2),
        (0x10_0000, bytes - 0x10_0000, 1),
    ]
}

fn start_info(memory: &Region, command_line: &str, cpus: u32) -> Result<(), String> {
    if command_line.len() >= MAX_COMMAND_LINE {
        return Err(format!(
            "the command line has more than {MAX_COMMAND_LINE} bytes"
        ));
    }
    memory.write(COMMAND_LINE, command_line.as_bytes())?;
    memory.write(COMMAND_LINE + command_line.len() as u64, &[0])?;
    let map = memory_map(memory.bytes());
    let mut info = Vec::new();
    for word in [PVH_MAGIC, 1, 0, 0] {
        info.extend_from_slice(&word.to_le_bytes());
    }
    for word in [0, COMMAND_LINE, ACPI, MEMORY_MAP, map.len() as u64] {
        info.extend_from_slice(&word.to_le_bytes());
    }
    memory.write(START_INFO, &info)?;
    let mut entries = Vec::new();
    for (start, length, kind) in map {
        entries.extend_from_slice(&start.to_le_bytes());
        entries.extend_from_slice(&length.to_le_bytes());
        entries.extend_from_slice(&kind.to_le_bytes());
        entries.extend_from_slice(&[0; 4]);
    }
    debug_assert!(MEMORY_MAP + (entries.len() as u64) < MODULES_END);
    memory.write(MEMORY_MAP, &entries)?;
    memory.write(ACPI, &acpi::tables(ACPI, cpus))
}

fn segment(selector: u16, type_: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    }
}

/// Puts the boot processor's registers to where `entry` expects them.
pub fn registers(entry: Entry, memory: &Region, sregs: &mut kvm_sregs) -> Result<kvm_regs, String> {
    const CR0_PE: u64 = 1;
    const CR0_ET: u64 = 1 << 4;
    const CR0_PG: u64 = 1 << 31;
    const CR4_PAE: u64 = 1 << 5;
    const EFER_LME: u64 = 1 << 8;
    const EFER_LMA: u64 = 1 << 10;
    let data = segment(0x10, 3, false);
    sregs.cs = segment(8, 0xb, matches!(entry, Entry::Long(_)));
    for register in [
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
    ] {
        *register = data;
    }
    // PVH asks for a task register with base 0 and limit 67h.
    sregs.tr = kvm_segment {
        limit: 0x67,
        type_: 0xb,
        present: 1,
        ..Default::default()
    };
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    if let Entry::Long(long) = entry {
        sregs.cr0 |= CR0_PG;
        sregs.cr4 = CR4_PAE;
        sregs.efer = EFER_LME | EFER_LMA;
        sregs.cr3 = long.pml4;
        page_tables(memory, long)?;
        let descriptors = [0u64, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
        for (i, descriptor) in (0u64..).zip(descriptors) {
            memory.write(GDT + 8 * i, &descriptor.to_le_bytes())?;
        }
        sregs.gdt.base = GDT;
        sregs.gdt.limit = 23;
    }
    let (Entry::Pvh(rip) | Entry::Long(Long { address: rip, .. })) = entry;
    Ok(kvm_regs {
        rip,
        rbx: START_INFO,
        rflags: 2,
        ..Default::default()
    })
}

/// The first 4 GiB one to one, in 2 MiB pages, the last GiB uncached; once for the supervisor and
/// once for user code, with the same page directories.
fn page_tables(memory: &Region, long: Long) -> Result<(), String> {
    const TABLE: u64 = 0x3;
    const USER: u64 = 0x4;
    const LARGE: u64 = 0x87;
    const UNCACHED: u64 = 0x18;
    for (pml4, pdpt, user) in [
        (long.pml4, long.pdpt, 0),
        (long.user_pml4, long.user_pdpt, USER),
    ] {
        memory.write(pml4, &(pdpt | TABLE | user).to_le_bytes())?;
        for i in 0..4u64 {
            let entry = (long.pd + 0x1000 * i) | TABLE | user;
            memory.write(pdpt + 8 * i, &entry.to_le_bytes())?;
        }
    }
    let entries = (0..2048u64).map(|i| i << 21 | LARGE | if i >= 1536 { UNCACHED } else { 0 });
    let bytes: Vec<u8> = entries.flat_map(u64::to_le_bytes).collect();
    memory.write(long.pd, &bytes)
}
