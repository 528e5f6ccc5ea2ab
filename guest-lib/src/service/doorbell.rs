//! The doorbell of Assay's own VMM: a call in memory, and the instruction that hands it over.

use super::{ServiceError, inject, inject_interrupt};
use crate::{cmdline, cpus};
use assay_protocol::service::{self as wire, Call, Message, Refusal, Request};

/// The doorbell's port, from the command line.
pub fn port() -> Option<u16> {
    u16::from_str_radix(cmdline::value(wire::DOORBELL_KEY)?, 16).ok()
}

/// Does what can be asked of any host.
pub fn ask(request: Request) -> Result<(), ServiceError> {
    match request {
        Request::SaveRestore => call(Call::Rebuild, &[0]).map(|_| ()),
        Request::InjectNmi => {
            cpus::all().try_for_each(|cpu| inject_interrupt(cpu.0, inject::NMI, 0))
        }
        Request::Nonsense => exchange(0, &[]).map(|_| ()),
        // There is no second VMM to go to.
        Request::Migrate | Request::MigratePostcopy => Err(ServiceError::NotOffered),
    }
}

/// Makes a call and returns its results.
pub fn call(call: Call, args: &[u64]) -> Result<[u64; 6], ServiceError> {
    exchange(call as u32, args)
}

fn exchange(call: u32, args: &[u64]) -> Result<[u64; 6], ServiceError> {
    let mut message = Message {
        call,
        status: Refusal::Unknown.status(),
        ..Message::default()
    };
    message.args[..args.len()].copy_from_slice(args);
    if !ring(&raw mut message) {
        return Err(ServiceError::NotOffered);
    }
    // SAFETY: the message is a local of ours; the host has written it.
    let answer = unsafe { core::ptr::read_volatile(&raw const message) };
    Refusal::check(answer.status)?;
    Ok(answer.results)
}

/// Hands the message to the host. By S2 its address is the physical one.
#[cfg(target_arch = "x86_64")]
fn ring(message: *mut Message) -> bool {
    let Some(port) = port() else { return false };
    crate::arch::cpu::outl(port, message as u64 as u32);
    true
}

/// Nobody has built a doorbell for this architecture.
#[cfg(not(target_arch = "x86_64"))]
fn ring(_message: *mut Message) -> bool {
    false
}
