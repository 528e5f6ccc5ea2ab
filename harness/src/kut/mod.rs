//! Running an existing build of kvm-unit-tests under this runner.
//!
//! [`shell`] reads what its configuration writes in shell words, without a shell; [`config`] reads
//! `config.mak`, `<arch>/unittests.cfg` and `errata.txt`; [`machine`] makes the hypervisor's command;
//! [`console`] turns a console and an exit status into results. Its payloads announce no plan, so the
//! plan is what the payloads said, plus one case `exit` per section that always has a line: a skip, a
//! missing payload or a death can never vanish.

pub mod config;
pub mod console;
pub mod machine;
pub mod shell;
