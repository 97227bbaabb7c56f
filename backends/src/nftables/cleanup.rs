//! Removing our tables, and saying so.

use shunt_core::{backend::BackendError, model::Family};

use super::{netlink::Netlink, options::NftablesOptions};

/// Deletes our tables, and nothing else. Goes on after an error and then returns the first.
///
/// # Errors
///
/// Fails if a table is there and cannot be deleted.
pub(super) async fn cleanup(options: &NftablesOptions) -> Result<Vec<String>, BackendError> {
    let kernel = Netlink::open(options)
        .map_err(|cause| BackendError::new("open a netlink socket for nftables", cause))?;
    let (mut removed, mut first) = (Vec::new(), None);
    for family in Family::ALL {
        let table = options.table_name(family);
        match kernel.delete_table(family).await {
            Ok(true) => removed.push(format!("table {table}")),
            Ok(false) => {}
            Err(cause) => {
                first.get_or_insert_with(|| {
                    BackendError::new(format!("delete table {table}"), cause)
                });
            }
        }
    }
    first.map_or(Ok(removed), Err)
}
