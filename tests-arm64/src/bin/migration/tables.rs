//! Translation tables that the MMU writes. Spec: DDI0487 D8.5.
//!
//! A page table walk that sets an access flag, or makes a page dirty, is a write to memory that no store
//! of the guest announces. A host that copies memory while the guest runs must see it, or the table
//! arrives with the old descriptor.

use guest_lib::arch::mmio::Mmio;
use guest_lib::arch::paging::{HardwareUpdates, PRIVATE, Space, bits, flush};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

/// Pages, each in a table of its own: a table is written once only, by the walk.
const PAGES: u64 = 1024;

fn at(page: u64) -> u64 {
    PRIVATE + (page << 21)
}

/// Who writes the descriptors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// The MMU, for a store to the page.
    Mmu,
    /// Software, by a store to the table.
    Software,
}

fn updates_arrive(updates: &HardwareUpdates, writer: Writer, request: Request) -> Verdict {
    let (mut space, data) = (Space::kernel(), Frames::new(1));
    let clean = bits::PAGE & !bits::ACCESSED | bits::DIRTY_MODIFIER | bits::READ_ONLY;
    let raw = data.address() | clean;
    (0..PAGES).for_each(|page| space.set(at(page), 3, raw));
    flush();
    updates.set(true, true);
    // One store to each page, a few before the move, most of them while it lasts, a few after it.
    let dirty = raw & !bits::READ_ONLY | bits::ACCESSED;
    let mut stored = 0;
    let mut store = |until: u64| -> Result<u64, Fault> {
        while stored < until {
            let page = at(stored);
            match writer {
                Writer::Mmu => {
                    fault::catch(|| space.run(|| Mmio::new(page).write64(0, stored)))?;
                }
                Writer::Software => space.set(page, 3, dirty),
            }
            stored += 1;
        }
        Ok(stored)
    };
    let mut refused = store(16).err();
    let (mut target, mut last) = (16, 0);
    let moved = service::ask_while(request, || {
        target = (target + 1).min(PAGES - 16);
        match store(target) {
            Ok(stored) => last = stored,
            Err(fault) => refused = refused.or(Some(fault)),
        }
    });
    refused = refused.or(store(PAGES).err());
    updates.set(false, false);
    moved?;
    note!("{} tables written during the move", last.saturating_sub(16));
    expect_eq!(refused, None, "a store that was refused")?;
    let old: Vec<(u64, u64)> = (0..PAGES)
        .map(|page| (page, space.get(at(page), 3)))
        .filter(|&(_, found)| found != dirty)
        .collect();
    expect_eq!(
        (old.len(), old.first()),
        (0, None),
        "tables with an old descriptor, and the first of them"
    )
}

/// Descriptors that the MMU writes while the machine moves arrive as written, like those that software writes.
#[case(
    spec = "DDI0487 D8.5",
    needs("service.migrate", "arm64.dirty_state"),
    rows(mmu: Writer::Mmu, software: Writer::Software)
)]
fn updates_arrive_with_the_machine(updates: &mut HardwareUpdates, writer: Writer) -> Verdict {
    updates_arrive(updates, writer, Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(
    spec = "DDI0487 D8.5",
    needs("service.save_restore", "arm64.dirty_state"),
    rows(mmu: Writer::Mmu, software: Writer::Software)
)]
fn saved_updates_arrive(updates: &mut HardwareUpdates, writer: Writer) -> Verdict {
    updates_arrive(updates, writer, Request::SaveRestore)
}
