//! The machine of an x86-64 host.

mod acpi;
mod boot;
mod cpuid;
mod devices;
mod gather;
mod machine;
mod ring;
mod services;
mod slots;
mod state;
mod userfault;

use super::{DIED, Options, Sabotage, device, probe, start_again};
pub use cpuid::is_feature;
pub use machine::run;
