//! Console, command line, memory and the end of the machine.

use super::fault;
use super::interrupts::LEAVE_PROBLEM_STATE;
use super::registers::Psw;
use super::sclp::{self, Sccb};
use super::{boot, sigp, smp};
use core::arch::asm;

/// Event type of the ASCII console.
const ASCII: u8 = 0x1a;
/// Bytes of text that go into one SCCB.
const CHUNK: usize = 3072;

static mut CONSOLE_SCCB: Sccb = Sccb::new();
static MEMORY: MemoryMap = MemoryMap(core::cell::UnsafeCell::new([(0, 0)]));

/// One region, written once at boot.
struct MemoryMap(core::cell::UnsafeCell<[(u64, u64); 1]>);

// SAFETY: written by boot code alone (S4), read afterwards.
unsafe impl Sync for MemoryMap {}

/// The console's block.
fn console_sccb() -> core::ptr::NonNull<Sccb> {
    let place = &raw mut CONSOLE_SCCB;
    // SAFETY: a static has an address.
    unsafe { core::ptr::NonNull::new_unchecked(place) }
}

/// Reads what the SCLP knows about the machine, and prepares the console.
pub(super) fn init() {
    // SAFETY: S4; the console lock is not needed yet, because one processor runs.
    let sccb = unsafe { console_sccb().as_mut() };
    sccb.clear(4096);
    sclp::run(sclp::READ_SCP_INFO_FORCED, sccb);
    sclp::keep_info(sccb);
    let increments = match sccb.half(8) {
        0 => sccb.double(104),
        n => u64::from(n),
    };
    let mib = match sccb.0[10] {
        0 => u64::from(sccb.word(100)),
        n => u64::from(n),
    };
    // SAFETY: S4; written once, before anyone reads.
    unsafe { *MEMORY.0.get() = [(0, (increments * mib) << 20)] };
    let (count, offset) = (usize::from(sccb.half(16)), usize::from(sccb.half(18)));
    for i in 0..count {
        if let Some(&address) = sccb.0.get(offset + 16 * i) {
            smp::list(u16::from(address));
        }
    }
    announce_console();
}

/// Asks the SCLP to take console events; a reset of the machine forgets it.
pub(super) fn announce_console() {
    // SAFETY: S3, S4; cases run on one processor, and nothing prints meanwhile.
    let sccb = unsafe { console_sccb().as_mut() };
    // Receive nothing, send ASCII and line-mode messages.
    sccb.clear(28);
    sccb.0[10..12].copy_from_slice(&4u16.to_be_bytes());
    sccb.0[16..20].copy_from_slice(&0x4000_0040u32.to_be_bytes());
    sclp::run(sclp::WRITE_EVENT_MASK, sccb);
}

/// Writes bytes to the console. Callers hold the console's lock.
pub fn console_write(text: &[u8]) {
    leave_problem_state();
    for chunk in text.chunks(CHUNK) {
        // SAFETY: S3; the console's lock makes this the only user.
        let sccb = unsafe { console_sccb().as_mut() };
        let event = 6 + chunk.len() as u16;
        sccb.clear(8 + event);
        sccb.0[8..10].copy_from_slice(&event.to_be_bytes());
        sccb.0[10] = ASCII;
        sccb.0[14..14 + chunk.len()].copy_from_slice(chunk);
        sclp::run(sclp::WRITE_EVENT_DATA, sccb);
    }
}

static mut INPUT_SCCB: Sccb = Sccb::new();
/// What of the input SCCB is unread: from, to.
static mut INPUT: (usize, usize) = (0, 0);

/// Lets the console take input or not. Input announces itself by a service signal, which no case
/// expects: so it is on only while somebody waits for it, and what is left of it is dropped.
pub fn console_listen(on: bool) {
    let sccb = &raw mut INPUT_SCCB;
    // SAFETY: S3; one processor asks the host at a time, and nothing prints meanwhile.
    let sccb = unsafe { &mut *sccb };
    sccb.clear(28);
    sccb.0[10..12].copy_from_slice(&4u16.to_be_bytes());
    let receive = if on { 0x0000_0040u32 } else { 0 };
    sccb.0[12..16].copy_from_slice(&receive.to_be_bytes());
    sccb.0[16..20].copy_from_slice(&0x4000_0040u32.to_be_bytes());
    sclp::run(sclp::WRITE_EVENT_MASK, sccb);
    // SAFETY: as above.
    unsafe { INPUT = (0, 0) };
}

/// A byte that was typed on the console. Only while it listens.
pub fn console_read() -> Option<u8> {
    let (sccb, input) = (&raw mut INPUT_SCCB, &raw mut INPUT);
    // SAFETY: as in `console_listen`.
    let (sccb, input) = unsafe { (&mut *sccb, &mut *input) };
    if input.0 == input.1 {
        sccb.clear(4096);
        // Function code 0: unconditional read. The response says whether there was an event.
        if sclp::run(sclp::READ_EVENT_DATA, sccb) != 0x0020 {
            return None;
        }
        let length = usize::from(sccb.half(8));
        // Event header: length, type, flags, reserved. An ASCII event then says 0 for text.
        if sccb.0[10] & 0x7f != ASCII || length < 8 || 8 + length > sccb.0.len() {
            return None;
        }
        *input = (15, 8 + length);
    }
    input.0 += 1;
    Some(sccb.0[input.0 - 1])
}

/// Reports come from problem state too.
fn leave_problem_state() {
    if fault::in_problem_state() {
        // SAFETY: the runtime's own SVC: it changes one PSW bit.
        unsafe { asm!("svc {n}", n = const LEAVE_PROBLEM_STATE) };
    }
}

/// The command line.
pub fn command_line() -> &'static str {
    let area = boot::command_line();
    let end = area.iter().position(|&b| b == 0).unwrap_or(area.len());
    core::str::from_utf8(&area[..end]).unwrap_or("")
}

/// RAM: one region from 0.
pub fn memory_map() -> &'static [(u64, u64)] {
    // SAFETY: written once, at boot (S4).
    unsafe { &*MEMORY.0.get() }
}

/// Ends the machine: every other processor is stopped, this one enters a disabled wait. QEMU takes
/// an address that ends in 0xfff for a clean end and any other for a crash.
pub fn exit(clean: bool) -> ! {
    leave_problem_state();
    for index in (0..smp::count()).filter(|&i| i != smp::this()) {
        let _ = sigp::until_accepted(sigp::STOP, smp::address(index), 0);
        while !sigp::is_stopped(smp::address(index)) {}
    }
    let psw = [
        (Psw::WAIT | Psw::EA | Psw::BA).bits(),
        if clean { 0xfff } else { 0xbad },
    ];
    // SAFETY: S1; nothing runs after this.
    unsafe { asm!("lpswe 0({p})", "0: j 0b", p = in(reg_addr) &raw const psw, options(noreturn)) }
}
