//! Tables against the kernel in memory, where every single write is looked at.

mod churn;
mod full;
mod hand_over;
mod tamper;
mod world;
