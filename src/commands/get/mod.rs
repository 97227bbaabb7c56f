//! `shunt get`: what the kernel has, read from there and not from the agent.

mod rows;
mod rules;

#[cfg(test)]
mod tests;

use std::error::Error;

use anyhow::{Context as _, Result};
use serde::Serialize;
use shunt_core::backend::Inspection;
use tracing::warn;

use self::rows::{EndpointRow, ServiceRow};
use super::backends;
use crate::{
    args::{Format, GetArgs, Place, What},
    output::{print, print_json, table},
};

/// Reads the kernel and prints.
pub(crate) async fn run(get: &GetArgs, place: &Place) -> Result<()> {
    match &get.what {
        What::Services => {
            let rows = rows::services(&inspect(place).await?);
            show(&rows, ServiceRow::HEADER, ServiceRow::cells, get.output, place)
        }
        What::Endpoints { service } => {
            let rows = rows::endpoints(&inspect(place).await?, service.as_deref());
            show(&rows, EndpointRow::HEADER, EndpointRow::cells, get.output, place)
        }
        What::Rules => rules::run(place, get.output).await,
    }
}

/// What each dataplane has. One that cannot be read, on a kernel without it for example, is told
/// on standard error; the others are shown.
async fn inspect(place: &Place) -> Result<Vec<(&'static str, Inspection)>> {
    let (mut inspections, mut errors) = (Vec::new(), Vec::new());
    for (name, backend) in backends(place)? {
        match backend.inspect().await {
            Ok(inspection) => inspections.push((name, inspection)),
            Err(error) => errors.push((name, error)),
        }
    }
    if inspections.is_empty()
        && let Some((_, error)) = errors.pop()
    {
        return Err(error).context("cannot read what is in the kernel");
    }
    for (dataplane, error) in errors {
        let error: &dyn Error = &error;
        warn!(error, "cannot read what {dataplane} has in the kernel");
    }
    Ok(inspections)
}

fn show<Row: Serialize, const COLUMNS: usize>(
    rows: &[Row],
    header: [&str; COLUMNS],
    cells: fn(&Row) -> [String; COLUMNS],
    format: Format,
    place: &Place,
) -> Result<()> {
    match format {
        Format::Json => print_json(&rows),
        Format::Table if rows.is_empty() => {
            let pins = place.pin_path.display();
            print(&format!("nothing in the kernel under {pins}, nor in its tables for packets\n"))
        }
        Format::Table => print(&table(header, &rows.iter().map(cells).collect::<Vec<_>>())),
    }
}
