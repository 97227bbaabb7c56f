//! The engine against a backend that records and can be told to fail. Time is paused: waiting
//! costs none, and the order of events is the same in every run.

mod composition;
mod failures;
mod order;
mod world;
