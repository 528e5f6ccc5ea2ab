//! The payload's command line (see [`assay_protocol::cmdline`]).

use crate::arch;
pub use assay_protocol::cmdline::Selection;

/// The whole line, as the hypervisor passed it.
pub fn line() -> &'static str {
    arch::platform::command_line()
}

/// The value of `key`.
pub fn value(key: &str) -> Option<&'static str> {
    assay_protocol::cmdline::value(line(), key)
}

/// Whether the host offers `service`.
pub fn offers(service: &str) -> bool {
    value(assay_protocol::cmdline::SERVICES)
        .is_some_and(|all| all.split(',').any(|name| name == service))
}
