//! The calls that payloads make: [`assay_protocol::service`] is the contract.

use super::Sabotage;
use super::devices::COM1;
use super::gather::Gather;
use super::machine::{Machine, Vcpu, lock, new_vm};
use super::ring::Ring;
use super::slots::{MAIN, PAGE, Region, Slot, Slots, tell};
use super::state::{Board, Cpu};
use super::userfault::Userfault;
use assay_protocol::service::{Access, Call, Message, Refusal, flag, inject, mode};
use kvm_bindings::{
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVMIO, kvm_clear_dirty_log, kvm_enable_cap, kvm_msi,
};
use std::os::fd::AsRawFd;
use std::sync::{Arc, MutexGuard, PoisonError};
use vmm_sys_util::ioctl::{ioctl, ioctl_with_ref};
use vmm_sys_util::{ioctl_io_nr, ioctl_iowr_nr};

ioctl_iowr_nr!(KVM_CLEAR_DIRTY_LOG, KVMIO, 0xc0, kvm_clear_dirty_log);
ioctl_io_nr!(KVM_RESET_DIRTY_RINGS, KVMIO, 0xc7);

/// The largest slot that a guest may ask for, in pages.
const MAX_PAGES: u64 = 1 << 16;
/// The highest slot number that a guest may use.
const MAX_SLOT: u64 = 31;
/// The highest guest address for memory of a guest's asking.
const MAX_ADDRESS: u64 = 1 << 36;

/// What the services remember.
#[derive(Debug, Default)]
pub struct Book {
    /// Pages harvested because a ring was full, not yet given to the guest.
    harvested: Vec<(u32, u64)>,
    /// Entries that the kernel has reset.
    reset: u64,
    /// Exits because a ring was full.
    full_exits: u64,
    /// The dirty log's mode.
    mode: u64,
}

type Answer = Result<[u64; 6], Refusal>;

/// What the kernel says no with.
fn errno(error: kvm_ioctls::Error) -> Refusal {
    Refusal::Errno(error.errno())
}

fn none() -> Answer {
    Ok([0; 6])
}

/// Serves the message at `address`; returns the lock on the caller's processor.
pub fn serve(
    machine: &'static Machine,
    index: usize,
    mut vcpu: MutexGuard<'static, Vcpu>,
    address: u64,
) -> MutexGuard<'static, Vcpu> {
    let mut bytes = [0; size_of::<Message>()];
    let readable = slots(machine, |s| s.read(address, &mut bytes)).is_some();
    if !readable {
        return vcpu;
    }
    let mut message = decode(&bytes);
    let (answer, vcpu) = match Call::from_number(message.call) {
        None => (Err(Refusal::Unknown), vcpu),
        Some(Call::Rebuild) => {
            // The OUT is complete before the machine is saved, or it would be made again.
            machine.complete(index, &mut vcpu);
            super::machine::aim_at_nothing();
            drop(vcpu);
            let done = machine.with_world_stopped(|all| rebuild(machine, all, message.args[0]));
            (
                done.unwrap_or(Err(Refusal::Errno(libc::EBUSY))),
                lock(&machine.vcpus[index]),
            )
        }
        Some(call) => (call_one(machine, call, &message.args, &mut vcpu), vcpu),
    };
    match answer {
        Ok(results) => (message.status, message.results) = (0, results),
        Err(refusal) => message.status = refusal.status(),
    }
    slots(machine, |s| s.write(address, &encode(&message)));
    vcpu
}

fn decode(bytes: &[u8; size_of::<Message>()]) -> Message {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
    let mut message = Message {
        call: word(0) as u32,
        status: (word(0) >> 32) as i32,
        ..Message::default()
    };
    for i in 0..6 {
        message.args[i] = word(8 + 8 * i);
        message.results[i] = word(56 + 8 * i);
    }
    message
}

fn encode(message: &Message) -> [u8; size_of::<Message>()] {
    let mut bytes = [0; size_of::<Message>()];
    let head = u64::from(message.call) | (message.status as u32 as u64) << 32;
    let words = [head]
        .into_iter()
        .chain(message.args)
        .chain(message.results);
    for (at, word) in bytes.chunks_exact_mut(8).zip(words) {
        at.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn slots<T>(machine: &Machine, f: impl FnOnce(&Slots) -> T) -> T {
    f(&machine.slots.read().unwrap_or_else(PoisonError::into_inner))
}

fn call_one(machine: &'static Machine, call: Call, args: &[u64; 6], vcpu: &mut Vcpu) -> Answer {
    match call {
        Call::SlotAdd => slot_add(machine, args),
        Call::SlotDelete => slot_delete(machine, args),
        Call::SlotMove => slot_move(machine, args),
        Call::SlotFlags => slot_flags(machine, args),
        Call::SlotFaults => {
            let slot = get(machine, args[0])?;
            let served = slot.filler.as_ref().ok_or(Refusal::Bad)?.served();
            Ok([served, 0, 0, 0, 0, 0])
        }
        Call::DirtyMode => dirty_mode(machine, args[0]),
        Call::DirtyGet => dirty_get(machine, args),
        Call::DirtyClear => dirty_clear(machine, args),
        Call::RingHarvest => ring_harvest(machine, args),
        Call::RingFullExits => Ok([lock(&machine.book).full_exits, 0, 0, 0, 0, 0]),
        Call::Rebuild => Err(Refusal::Unknown),
        Call::CounterReset => {
            lock(&machine.devices).counter.reset(args[0], args[1]);
            none()
        }
        Call::CounterRead => counter_read(machine, args),
        Call::Inject => inject_one(machine, args, vcpu),
    }
}

/// A slot that the guest made: the one with its own memory is not for sale.
fn get(machine: &Machine, number: u64) -> Result<Slot, Refusal> {
    if number == u64::from(MAIN) || number > MAX_SLOT {
        return Err(Refusal::Bad);
    }
    slots(machine, |s| s.0.get(&(number as u32)).cloned()).ok_or(Refusal::Bad)
}

/// Changes KVM's view and then ours, as one step for other services.
fn put(machine: &Machine, number: u64, slot: Option<Slot>) -> Result<(), Refusal> {
    let number = number as u32;
    let vm = machine.vm.read().unwrap_or_else(PoisonError::into_inner);
    let mut all = machine
        .slots
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    tell(&vm, number, slot.as_ref()).map_err(Refusal::Errno)?;
    match slot {
        Some(slot) => all.0.insert(number, slot),
        None => all.0.remove(&number),
    };
    Ok(())
}

fn slot_add(machine: &Machine, args: &[u64; 6]) -> Answer {
    let [number, address, pages, flags, ..] = *args;
    let free = slots(machine, |s| !s.0.contains_key(&(number as u32)));
    let sane = (1..=MAX_SLOT).contains(&number)
        && (1..=MAX_PAGES).contains(&pages)
        && address.is_multiple_of(PAGE)
        && address < MAX_ADDRESS;
    if !free || !sane {
        return Err(Refusal::Bad);
    }
    let (region, filler) = if flags & flag::ON_DEMAND != 0 {
        let minor = flags & flag::MINOR != 0;
        let (region, filler) =
            Userfault::memory(pages, minor, machine.options.sabotage).map_err(Refusal::Errno)?;
        (region, Some(filler))
    } else {
        (
            Region::new(pages * PAGE).map_err(|_| Refusal::Errno(libc::ENOMEM))?,
            None,
        )
    };
    let slot = Slot {
        address,
        region: Arc::new(region),
        flags,
        filler,
    };
    put(machine, number, Some(slot))?;
    none()
}

fn slot_delete(machine: &Machine, args: &[u64; 6]) -> Answer {
    get(machine, args[0])?;
    put(machine, args[0], None)?;
    none()
}

fn slot_move(machine: &Machine, args: &[u64; 6]) -> Answer {
    let mut slot = get(machine, args[0])?;
    if !args[1].is_multiple_of(PAGE) || args[1] >= MAX_ADDRESS {
        return Err(Refusal::Bad);
    }
    slot.address = args[1];
    if machine.breaks(Sabotage::LosePageOnMove) {
        slot.region
            .write(0, &[0; PAGE as usize])
            .map_err(|_| Refusal::Bad)?;
    }
    put(machine, args[0], Some(slot))?;
    none()
}

fn slot_flags(machine: &Machine, args: &[u64; 6]) -> Answer {
    let mut slot = get(machine, args[0])?;
    let kept = flag::ON_DEMAND | flag::MINOR;
    slot.flags = slot.flags & kept | args[1] & !kept;
    put(machine, args[0], Some(slot))?;
    none()
}

fn dirty_mode(machine: &Machine, bits: u64) -> Answer {
    let kvm = [(mode::MANUAL, 1u64), (mode::INITIALLY_SET, 2)];
    let mut enable = kvm_enable_cap {
        cap: KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
        ..Default::default()
    };
    for (ours, theirs) in kvm {
        enable.args[0] |= if bits & ours != 0 { theirs } else { 0 };
    }
    let vm = machine.vm.read().unwrap_or_else(PoisonError::into_inner);
    vm.enable_cap(&enable).map_err(errno)?;
    lock(&machine.book).mode = bits;
    none()
}

fn dirty_get(machine: &Machine, args: &[u64; 6]) -> Answer {
    let [number, buffer, bytes, ..] = *args;
    let slot = get(machine, number)?;
    let pages = slot.pages();
    if bytes < pages.div_ceil(64) * 8 {
        return Err(Refusal::Bad);
    }
    let vm = machine.vm.read().unwrap_or_else(PoisonError::into_inner);
    let log = vm.get_dirty_log(number as u32, slot.region.bytes() as usize);
    let mut log = log.map_err(errno)?;
    let manual = lock(&machine.book).mode & mode::MANUAL != 0;
    if machine.breaks(Sabotage::ClearEarly) && manual {
        clear(&vm, number as u32, 0, pages, &log)?;
    }
    if machine.breaks(Sabotage::DropDirtyPage)
        && let Some(word) = log.iter_mut().find(|w| **w != 0)
    {
        *word &= *word - 1;
    }
    if machine.breaks(Sabotage::ExtraDirtyPage)
        && let Some(page) = (0..pages as usize).find(|p| log[p / 64] >> (p % 64) & 1 == 0)
    {
        log[page / 64] |= 1 << (page % 64);
    }
    let bytes: Vec<u8> = log.iter().flat_map(|w| w.to_le_bytes()).collect();
    slots(machine, |s| s.write(buffer, &bytes)).ok_or(Refusal::Bad)?;
    none()
}

fn clear(
    vm: &kvm_ioctls::VmFd,
    slot: u32,
    first: u64,
    pages: u64,
    bitmap: &[u64],
) -> Result<(), Refusal> {
    let mut request = kvm_clear_dirty_log {
        slot,
        num_pages: pages as u32,
        first_page: first,
        ..Default::default()
    };
    request.__bindgen_anon_1.dirty_bitmap = bitmap.as_ptr().cast_mut().cast();
    // SAFETY: the bitmap has a bit for each page and is only read by the kernel.
    match unsafe { ioctl_with_ref(vm, KVM_CLEAR_DIRTY_LOG(), &request) } {
        0 => Ok(()),
        _ => Err(errno(kvm_ioctls::Error::last())),
    }
}

fn dirty_clear(machine: &Machine, args: &[u64; 6]) -> Answer {
    let [number, mut first, mut pages, buffer, ..] = *args;
    let slot = get(machine, number)?;
    if pages > MAX_PAGES {
        return Err(Refusal::Bad);
    }
    let mut bytes = vec![0; pages.div_ceil(64) as usize * 8];
    slots(machine, |s| s.read(buffer, &mut bytes)).ok_or(Refusal::Bad)?;
    let words = bytes.chunks_exact(8);
    let mut bitmap: Vec<u64> = words
        .map(|w| u64::from_le_bytes(w.try_into().unwrap_or_default()))
        .collect();
    if machine.breaks(Sabotage::ClearTooMuch) && first.is_multiple_of(64) {
        (first, pages) = (0, slot.pages());
        bitmap = vec![u64::MAX; pages.div_ceil(64) as usize];
    }
    let vm = machine.vm.read().unwrap_or_else(PoisonError::into_inner);
    clear(&vm, number as u32, first, pages, &bitmap)?;
    none()
}

/// Empties all rings into the book and lets the kernel go on.
fn drain(machine: &Machine) {
    let mut rings = lock(&machine.rings);
    let mut taken = Vec::new();
    rings.iter_mut().for_each(|ring| ring.harvest(&mut taken));
    let vm = machine.vm.read().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the call takes no argument.
    let reset = unsafe { ioctl(&*vm, KVM_RESET_DIRTY_RINGS()) };
    let mut book = lock(&machine.book);
    book.harvested.extend(taken);
    book.reset += u64::try_from(reset).unwrap_or(0);
}

/// The kernel will not run a processor before its ring has room.
pub fn ring_full(machine: &Machine) {
    lock(&machine.book).full_exits += 1;
    drain(machine);
}

fn ring_harvest(machine: &Machine, args: &[u64; 6]) -> Answer {
    let [buffer, most, ..] = *args;
    if lock(&machine.rings).is_empty() {
        return Err(Refusal::Bad);
    }
    drain(machine);
    let mut book = lock(&machine.book);
    let n = book.harvested.len().min(most as usize);
    let mut taken: Vec<(u32, u64)> = book.harvested.drain(..n).collect();
    let reset = std::mem::take(&mut book.reset);
    drop(book);
    if machine.breaks(Sabotage::DropRingEntry) && !taken.is_empty() {
        taken.remove(0);
    }
    let bytes: Vec<u8> = taken
        .iter()
        .flat_map(|(slot, page)| (u64::from(*slot) << 48 | page).to_le_bytes())
        .collect();
    slots(machine, |s| s.write(buffer, &bytes)).ok_or(Refusal::Bad)?;
    Ok([taken.len() as u64, reset, 0, 0, 0, 0])
}

fn counter_read(machine: &Machine, args: &[u64; 6]) -> Answer {
    let [buffer, most, ..] = *args;
    let devices = lock(&machine.devices);
    let counter = &devices.counter;
    let writes = counter.log.iter().filter(|a| a.is_write == 1).count() as u64;
    let reads = counter.log.len() as u64 - writes;
    let kicks = counter.kicks;
    let log: Vec<Access> = counter.log.iter().take(most as usize).copied().collect();
    drop(devices);
    let bytes: Vec<u8> = log
        .iter()
        .flat_map(|a| {
            let head = u64::from(a.offset) | u64::from(a.width) << 32 | u64::from(a.is_write) << 48;
            [head, a.value]
        })
        .flat_map(u64::to_le_bytes)
        .collect();
    slots(machine, |s| s.write(buffer, &bytes)).ok_or(Refusal::Bad)?;
    Ok([reads, writes, kicks, log.len() as u64, 0, 0])
}

/// NMI and SMI are requests to one processor: for the caller's own it is made here, for another one
/// by a message to its APIC, which is the only way while it runs.
fn inject_one(machine: &'static Machine, args: &[u64; 6], vcpu: &mut Vcpu) -> Answer {
    const DELIVER_NMI: u32 = 4 << 8;
    const DELIVER_SMI: u32 = 2 << 8;
    let [mut cpu, kind, vector, ..] = *args;
    let count = machine.vcpus.len() as u64;
    if cpu >= count || vector > 0xff {
        return Err(Refusal::Bad);
    }
    if machine.breaks(Sabotage::LoseInterrupt) {
        return none();
    }
    if machine.breaks(Sabotage::MisrouteInterrupt) {
        cpu = (cpu + 1) % count;
    }
    let own = index_of(machine, vcpu) == Some(cpu as usize);
    match kind {
        inject::NMI if own => vcpu.fd.nmi().map_err(errno)?,
        inject::NMI => message(machine, cpu, DELIVER_NMI)?,
        inject::SMI if own => vcpu.fd.smi().map_err(errno)?,
        inject::SMI => message(machine, cpu, DELIVER_SMI)?,
        inject::MSI => {
            message(machine, cpu, vector as u32)?;
            if machine.breaks(Sabotage::DoubleInterrupt) {
                // Later: two requests for a vector that is not yet taken are one.
                std::thread::spawn(move || {
                    for _ in 0..20 {
                        std::thread::sleep(std::time::Duration::from_millis(1));
                        let _ = message(machine, cpu, vector as u32);
                    }
                });
            }
        }
        inject::LINE => {
            let vm = machine.vm.read().unwrap_or_else(PoisonError::into_inner);
            for level in [true, false] {
                vm.set_irq_line(vector as u32, level).map_err(errno)?;
            }
        }
        _ => return Err(Refusal::Bad),
    }
    none()
}

fn message(machine: &Machine, cpu: u64, data: u32) -> Result<(), Refusal> {
    let msi = kvm_msi {
        address_lo: 0xfee0_0000 | (cpu as u32) << 12,
        data,
        ..Default::default()
    };
    let vm = machine.vm.read().unwrap_or_else(PoisonError::into_inner);
    vm.signal_msi(msi).map(|_| ()).map_err(errno)
}

fn index_of(machine: &Machine, vcpu: &Vcpu) -> Option<usize> {
    let own = vcpu.fd.as_raw_fd();
    lock(&machine.fds).iter().position(|fd| *fd == own)
}

/// Everything into a fresh machine. All processors are at rest.
fn rebuild(machine: &Machine, all: &mut [MutexGuard<'_, Vcpu>], ring: u64) -> Answer {
    let tell_why = |why: String| {
        eprintln!("assay: vmm: {why}");
        Refusal::Errno(libc::EIO)
    };
    if ring != 0 && (!ring.is_power_of_two() || ring > 1 << 16) && ring >> 32 == 0 {
        // The kernel is to refuse it; asking costs a machine that is thrown away.
        new_vm(machine.kvm(), &machine.options, ring)
            .map_err(|(number, _)| Refusal::Errno(number))?;
        return Err(Refusal::Bad);
    }
    let sabotage = machine.options.sabotage;
    let cpus = all.iter().map(|v| Cpu::save(&v.fd, &machine.msrs));
    let cpus = cpus.collect::<Result<Vec<_>, _>>().map_err(tell_why)?;
    let mut vm = machine.vm.write().unwrap_or_else(PoisonError::into_inner);
    let board = Board::save(&vm, !machine.options.no_pit).map_err(tell_why)?;
    let fresh = new_vm(machine.kvm(), &machine.options, ring)
        .map_err(|(number, _)| Refusal::Errno(number))?;
    let mut slots = machine
        .slots
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    let mut moved = Slots::default();
    for (&number, slot) in &slots.0 {
        let lose = sabotage == Some(Sabotage::LoseRestoredPage) && number != MAIN;
        let mut slot = slot.clone();
        // On-demand memory stays: its filler knows its address.
        if slot.filler.is_none() {
            slot.region = Arc::new(copy(&slot.region, lose).map_err(tell_why)?);
        }
        tell(&fresh, number, Some(&slot)).map_err(Refusal::Errno)?;
        moved.0.insert(number, slot);
    }
    let vcpus = (0..).zip(&cpus).map(|(id, _)| machine.new_vcpu(&fresh, id));
    let vcpus = vcpus.collect::<Result<Vec<_>, _>>().map_err(tell_why)?;
    board.restore(&fresh).map_err(tell_why)?;
    for (vcpu, state) in vcpus.iter().zip(&cpus) {
        state.restore(&vcpu.fd, sabotage).map_err(tell_why)?;
    }
    let rings = match ring {
        0 => Ok(Vec::new()),
        n => vcpus.iter().map(|v| Ring::map(&v.fd, n as usize)).collect(),
    };
    *lock(&machine.rings) = rings.map_err(Refusal::Errno)?;
    let gather = vcpus
        .first()
        .and_then(|v| Gather::new(machine.kvm(), &fresh, &v.fd, COM1));
    lock(&machine.devices).gather(gather);
    *slots = moved;
    *vm = fresh;
    for (place, vcpu) in all.iter_mut().zip(vcpus) {
        **place = vcpu;
    }
    machine.note_fds(all);
    let mut book = lock(&machine.book);
    let mode = book.mode;
    *book = Book {
        mode,
        ..Book::default()
    };
    drop(book);
    drop((slots, vm));
    dirty_mode(machine, mode)
}

/// A copy of what is not zero. With `lose`, the first such page is left out.
fn copy(from: &Region, mut lose: bool) -> Result<Region, String> {
    let to = Region::new(from.bytes())?;
    let mut page = [0; PAGE as usize];
    for at in (0..from.bytes()).step_by(PAGE as usize) {
        from.read(at, &mut page)?;
        if page.iter().any(|b| *b != 0) && !std::mem::take(&mut lose) {
            to.write(at, &page)?;
        }
    }
    Ok(to)
}
