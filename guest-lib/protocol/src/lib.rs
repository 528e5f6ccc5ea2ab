//! What a payload and the runner say to each other: one crate, used by both sides.
//!
//! Three contracts live here:
//!
//! 1. the **case table** that every payload carries in an ELF section, so that the runner
//!    knows all ids before it boots anything ([`table`]);
//! 2. the **command line** that selects cases in a booted payload ([`cmdline`]);
//! 3. the **console lines** that a payload prints ([`line`]), which are TAP13 with a few comments
//!    the runner understands.
//!
//! A fourth, [`service`], is for payloads that need their host's help; [`bench`] is what the
//! benchmark says in its notes.
//!
//! The vocabulary of needs ([`need`]) is closed: a skip always names one of these words.
#![no_std]

pub mod bench;
pub mod cmdline;
pub mod id;
pub mod line;
pub mod need;
pub mod service;
pub mod stamp;
pub mod table;
