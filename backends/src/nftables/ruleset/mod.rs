//! What is constant: the sets, the chains and the rules of a table.

mod chains;
mod expressions;
mod reject;
mod rules;
mod sets;
mod sticky;

pub(super) use self::{
    chains::{Chain, Hook, List, Place},
    expressions::{RuleBody, nft_family},
    rules::{Shape, Source, rules},
    sets::{Field, SetName, Values},
};
