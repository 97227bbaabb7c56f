//! The object in the source tree: what the compiler made of the programs, brought into the kernel.
//!
//! aya-obj reads the object and links it. The loader of aya 0.14 would do all of this, and before it
//! read every type of the running kernel, 20 MB for a moment; the programs ask for none.

mod linked;
mod map;
mod read;
#[cfg(test)]
mod tests;

use std::io;

use aya_obj::{ParseError, btf::BtfError, relocation::EbpfRelocationError};

use super::sys::Refused;

pub(super) use self::{linked::Linked, read::Object};

/// The object cannot be brought into the kernel.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectError {
    /// It is not understood.
    #[error("cannot read the object")]
    Read(#[source] Box<ParseError>),
    /// Its types are not understood.
    #[error("cannot read the types of the object")]
    ReadTypes(#[source] Box<BtfError>),
    /// It lacks a global variable of this name and size.
    #[error("cannot set the global {name}")]
    Global {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        #[source]
        cause: Box<ParseError>,
    },
    /// The kernel does not take its types.
    #[error("the kernel refuses the types of the object")]
    Types(#[source] Refused),
    /// It lacks a map.
    #[error("the object has no map {0}")]
    NoMap(&'static str),
    /// A map could not be had.
    #[error("cannot {what} map {map}")]
    Map {
        /// What was tried.
        what: &'static str,
        /// Its name.
        map: String,
        /// What the kernel says.
        #[source]
        cause: io::Error,
    },
    /// Programs and maps do not find each other.
    #[error("cannot link the programs")]
    Link(#[source] Box<EbpfRelocationError>),
    /// It lacks a program.
    #[error("the object has no program {0}")]
    NoProgram(&'static str),
    /// The kernel does not take a program; the cause has the verifier's words.
    #[error("the kernel refuses program {program}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel says.
        #[source]
        cause: Refused,
    },
}
