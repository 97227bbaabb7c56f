//! Worlds, clients, mocks and the conformance suite that tests Shunt.

pub mod naive;
