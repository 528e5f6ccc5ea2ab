//! What each architecture provides. The file names are the same in every room:
//!
//! | item | what it is |
//! | --- | --- |
//! | [`NAME`] | the first segment of an id: `x86`, `arm64`, `s390x` |
//! | [`has`] | whether the machine meets a need of the architecture |
//! | `boot` | from the hypervisor's entry to [`crate::runner::main`] |
//! | `platform` | `console_write`, `command_line`, `memory_map`, `exit` |
//! | `cpu` | `relax`, `wake_others`, `backtrace`, privileged instructions |
//! | `fault` | `Fault`, `catch`, `catch_user`, `details` |
//! | `smp` | `count`, `this`, `start`, `park`, `wait_parked` |
//! | `time` | `ticks`, `ticks_per_second` |
//! | `paging` | page tables with raw entries |
//! | `registers` | typed, unfiltered registers |

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

#[cfg(target_arch = "aarch64")]
mod arm64;
#[cfg(target_arch = "aarch64")]
pub use arm64::*;

#[cfg(target_arch = "s390x")]
mod s390x;
#[cfg(target_arch = "s390x")]
pub use s390x::*;
