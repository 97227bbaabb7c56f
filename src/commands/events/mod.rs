//! `shunt events`: what the programs decide, as they decide it.

#[cfg(feature = "backend-connect")]
mod enabled;
#[cfg(feature = "backend-connect")]
use enabled as imp;

#[cfg(not(feature = "backend-connect"))]
mod disabled;
#[cfg(not(feature = "backend-connect"))]
use disabled as imp;

pub(crate) use imp::run;
