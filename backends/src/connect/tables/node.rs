//! The node's part: the addresses at which NodePorts are answered.

use std::{collections::HashSet, io};

use shunt_core::{backend::BackendError, plan::NodeState};
use shunt_ebpf::address::Address;

use super::{
    super::{
        encode::encode_address,
        sys::{Hash, Kernel},
    },
    Tables,
    batch::Batch,
};

impl<K: Kernel> Tables<K> {
    /// Makes the addresses those of `node`. A new address is there before an old one goes.
    pub(super) fn apply_node(&mut self, node: &NodeState) -> Result<(), BackendError> {
        let wanted: HashSet<Address> =
            node.node_port_addresses.iter().map(|address| encode_address(*address)).collect();
        let mut more = Batch::new(Hash::NodeAddresses);
        let mut fewer = Batch::new(Hash::NodeAddresses);
        for address in wanted.difference(&self.node_addresses) {
            more.put(*address, 1_u32, *address);
        }
        for address in self.node_addresses.difference(&wanted) {
            fewer.drop(*address, *address);
        }
        if more.is_empty() && fewer.is_empty() {
            return Ok(());
        }
        let failed = |cause: io::Error| BackendError::new("write table NODE_ADDRESSES", cause);
        self.epoch.begin(&mut self.kernel).map_err(failed)?;
        let mut first = None;
        more.update(&mut self.kernel, |address, result| match result {
            Ok(()) => drop(self.node_addresses.insert(address)),
            Err(cause) => first = first.take().or(Some(cause)),
        });
        fewer.delete(&mut self.kernel, |address, result| match result {
            Ok(()) => drop(self.node_addresses.remove(&address)),
            Err(cause) => first = first.take().or(Some(cause)),
        });
        self.epoch.end(&mut self.kernel);
        first.map_or(Ok(()), |cause| Err(failed(cause)))
    }
}
