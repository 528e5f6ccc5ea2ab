//! The runtime of Assay payloads: from reset to a verdict, on three architectures.
//!
//! A payload is one ELF file. It boots ([`arch`]), finds its console, memory and processors, reads
//! its case table and its command line, runs each selected case with fresh fixtures ([`runner`]),
//! prints TAP13 ([`assay_protocol::line`]) and ends the machine.
//!
//! Three ideas carry the rest:
//!
//! * **A fault is a value.** [`fault::catch`] runs a closure and returns `Ok` or the exact fault.
//! * **Typed, never filtered.** Registers have names for their bits, and any value can be written.
//! * **Fresh state.** A case receives its world as parameters ([`case::Fixture`]) and drops it.
//!
//! # Safety
//!
//! `unsafe` blocks in this crate rely on these assumptions, which their `SAFETY:` lines cite:
//!
//! * **S1** — the payload runs at the highest privilege that the machine gives it, alone.
//! * **S2** — memory is mapped one to one, so a physical address of RAM is a pointer.
//! * **S3** — each device has one owner in this crate, and its accesses follow the device's manual.
//! * **S4** — boot code runs once, on one processor, before any Rust code that shares its data.
//! * **S5** — asm blocks name every register and flag that they change.
//!
//! A payload pokes privileged state on purpose. The wrappers it uses are safe functions when the
//! machine is the only thing they can upset: a case that breaks the machine fails, it does not
//! break Rust's promises about memory that the runtime itself owns. Functions that can do that
//! (write to arbitrary memory, replace page tables without care) say so in their docs.
#![no_std]

extern crate alloc;

pub mod arch;
pub mod case;
pub mod cmdline;
pub mod console;
pub mod cpus;
pub mod expect;
pub mod memory;
pub mod migration;
pub mod prelude;
pub mod runner;
pub mod service;
pub mod sync;
pub mod time;

pub use arch::fault;
pub use assay_macros::case;
pub use assay_protocol as protocol;

/// Makes the crate that calls it a payload: it links the runtime, whose entry point takes over.
#[macro_export]
macro_rules! payload {
    () => {
        extern crate alloc;
        use $crate as _;
    };
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    runner::give_up(protocol::line::PANIC, format_args!("{info}"))
}
