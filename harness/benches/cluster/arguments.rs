//! What the command line says.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::cluster::LEAST;

/// What is to be measured, and how often.
pub(crate) struct Arguments {
    /// Numbers of Services, growing.
    pub(crate) sizes: Vec<usize>,
    /// How often one change is timed for each proxy.
    pub(crate) runs: usize,
    /// How long changes are made, at the most, to see what processor time they cost.
    pub(crate) budget: Duration,
    /// Where the page, the plots and the raw data go.
    pub(crate) out: PathBuf,
}

impl Arguments {
    pub(crate) fn read() -> Result<Self> {
        let mut read = Self {
            sizes: Vec::new(),
            runs: 30,
            budget: Duration::from_secs(60),
            out: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs"),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} lacks its value"));
            match word.as_str() {
                // Cargo says it to every benchmark.
                "--bench" | "cluster" => {}
                "--runs" => read.runs = value()?.parse().context("--runs takes a number")?,
                "--seconds" => {
                    let seconds = value()?.parse().context("--seconds takes a number")?;
                    read.budget = Duration::from_secs(seconds);
                }
                "--out" => read.out = value()?.into(),
                _ => read.sizes.push(word.parse().with_context(|| format!("{word}?"))?),
            }
        }
        if read.sizes.is_empty() {
            read.sizes = vec![1_000, 10_000];
        }
        read.sizes.sort_unstable();
        let fits = read.sizes.iter().all(|size| *size >= LEAST);
        ensure!(fits, "{LEAST} Services are the least");
        Ok(read)
    }
}
