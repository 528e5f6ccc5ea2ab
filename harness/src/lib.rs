//! The host runner of Assay.
//!
//! The way of one run through these modules: [`manifest`] and [`payload`] make the [`catalog`],
//! [`select`] cuts it down, [`plan`] numbers every case on every [`hypervisor`], [`schedule`]
//! starts [`run`] for each unit, [`transcript`] and [`ledger`] turn a console into results,
//! [`expectations`] judge them, and [`report`] writes them in plan order.

pub mod again;
pub mod arch;
pub mod build;
pub mod catalog;
pub mod cli;
pub mod command;
pub mod coverage;
pub mod error;
pub mod expectations;
pub mod expression;
pub mod hypervisor;
pub mod interrupt;
pub mod kut;
pub mod ledger;
pub mod manifest;
pub mod matrix;
pub mod outcome;
pub mod payload;
pub mod plan;
pub mod process;
pub mod progress;
pub mod qmp;
pub mod refine;
pub mod report;
pub mod run;
pub mod runs;
pub mod schedule;
pub mod select;
pub mod specs;
pub mod supervisor;
pub mod symbols;
pub mod tap;
pub mod transcript;
#[expect(
    unsafe_code,
    reason = "KVM takes addresses; each block says why it is sound"
)]
pub mod vmm;
pub mod workspace;
