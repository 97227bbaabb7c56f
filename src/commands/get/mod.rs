//! `shunt get`: what the kernel has, read from its pinned tables and not from the agent.

mod rows;

#[cfg(test)]
mod tests;

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::rows::{EndpointRow, ServiceRow};
use super::connect;
use crate::{
    args::{Format, GetArgs, Place, What},
    output::{print, print_json, table},
};

/// Reads the kernel and prints.
pub(crate) async fn run(get: &GetArgs, place: &Place) -> Result<()> {
    let inspection =
        connect(place)?.inspect().await.context("cannot read the tables in the kernel")?;
    match &get.what {
        What::Services => {
            let rows = rows::services(&inspection);
            show(&rows, ServiceRow::HEADER, ServiceRow::cells, get.output, place)
        }
        What::Endpoints { service } => {
            let rows = rows::endpoints(&inspection, service.as_deref());
            show(&rows, EndpointRow::HEADER, EndpointRow::cells, get.output, place)
        }
    }
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
            print(&format!("nothing in the kernel under {}\n", place.pin_path.display()))
        }
        Format::Table => print(&table(header, &rows.iter().map(cells).collect::<Vec<_>>())),
    }
}
