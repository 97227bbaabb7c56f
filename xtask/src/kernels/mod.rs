//! `cargo xtask kernels`: real kernels, booted as processes, and the tests that run on them.
//!
//! A kernel decides what a verifier accepts and what a packet meets, so the tests of both
//! dataplanes run on more of them than this machine happens to have. User Mode Linux needs no
//! virtualisation and no image: a kernel is a program, and its root is this machine's.

mod kernel;

mod build;

mod boot;

mod suites;

pub(crate) use build::{build, missing};
pub(crate) use kernel::Kernel;
pub(crate) use suites::{Scope, enter, run};
