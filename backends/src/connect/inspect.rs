//! What is being served, read from the pins: without the agent, and for it as for anybody else.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use shunt_core::{
    backend::{Answer, InspectedFrontend, InspectedService, Inspection, TableUse},
    plan::ServicePortKey,
};
use shunt_ebpf::tables::{List, ListWord};

use super::{
    encode::decode_endpoint,
    links,
    pins::Pins,
    seats,
    snapshot::Snapshot,
    sys::{self, Array, Hash, Kernel as _, Maps, Table},
    tables::left_words,
};

/// Reads the tables that the attached programs use; where none are attached, the latest ones.
///
/// # Errors
///
/// Fails if something is pinned and cannot be read.
pub(super) fn inspect(pins: &Pins) -> io::Result<Inspection> {
    let Some(mut maps) = open_in_use(pins)? else { return Ok(Inspection::default()) };
    let snapshot = Snapshot::read(&mut maps)?;
    let mut services: BTreeMap<ServicePortKey, InspectedService> = BTreeMap::new();
    for (key, left) in snapshot.names.values() {
        let mut service = InspectedService::new(key.clone());
        service.left = left_words(*left);
        services.insert(key.clone(), service);
    }
    for (slot, target) in &snapshot.frontends {
        let list = snapshot.lists.get(&target.list()).copied().unwrap_or_default();
        let Some((key, _)) = snapshot.names.get(&list.service()) else { continue };
        let (Some(service), Some(frontend)) = (services.get_mut(key), slot.frontend(*target))
        else {
            continue;
        };
        let seconds = list.affinity_seconds();
        service.affinity_seconds = (seconds > 0).then_some(seconds);
        let answer = answer(&mut maps, list)?;
        service.frontends.push(InspectedFrontend { frontend, answer });
    }
    let mut inspection = Inspection::default();
    inspection.services = services.into_values().collect();
    for service in &mut inspection.services {
        service.frontends.sort_by(|a, b| a.frontend.cmp(&b.frontend));
    }
    inspection.tables = table_use(&maps, &snapshot)?;
    inspection.tables.extend(seats::table_use(pins)?);
    Ok(inspection)
}

fn answer(maps: &mut Maps, list: List) -> io::Result<Answer> {
    Ok(match ListWord::decode(list.word) {
        ListWord::Left => Answer::Left,
        ListWord::Refuse => Answer::Refused,
        ListWord::Run { base, count } => {
            let endpoints = maps.read_run(base, count)?;
            Answer::Endpoints(endpoints.iter().map(decode_endpoint).collect())
        }
    })
}

fn table_use(maps: &Maps, snapshot: &Snapshot) -> io::Result<Vec<TableUse>> {
    let mut tables = Vec::new();
    let mut push = |table: Table, used: usize| {
        let size = u64::from(maps.size(table));
        tables.push(TableUse { name: table.name(), used: used as u64, size });
    };
    for hash in Hash::ALL {
        let (keys, _) = maps.entries(hash)?;
        push(Table::Hash(hash), keys.len() / hash.key_size());
    }
    let mut node_ports = 0;
    maps.scan(Array::NodePorts, &mut |_, _| node_ports += 1)?;
    push(Table::Array(Array::NodePorts), node_ports);
    push(Table::Array(Array::Lists), snapshot.lists.len());
    let endpoints = snapshot.lists.values().map(|list| match ListWord::decode(list.word) {
        ListWord::Run { count, .. } => count as usize,
        ListWord::Left | ListWord::Refuse => 0,
    });
    push(Table::Array(Array::Endpoints), endpoints.sum());
    Ok(tables)
}

/// The maps of the directory that attached programs use, else of the last one.
fn open_in_use(pins: &Pins) -> io::Result<Option<Maps>> {
    let programs = links::programs(&pins.links()).unwrap_or_default();
    let used: Vec<u32> =
        programs.iter().flat_map(|id| sys::program_maps(*id).unwrap_or_default()).collect();
    let mut last = None;
    for directory in pins.all_map_directories()?.into_iter().filter(|path| is_tables(path)) {
        let maps = match Maps::open(|name| sys::object_get(&directory.join(name))) {
            Ok(maps) => maps,
            // Another version's layout, or a directory that was being made when its maker died.
            Err(error) if last.is_some() || is_absent_or_other(&error) => continue,
            Err(error) => return Err(error),
        };
        if maps.id(Hash::Frontends4).is_some_and(|id| used.contains(&id)) {
            return Ok(Some(maps));
        }
        last = Some(maps);
    }
    Ok(last)
}

fn is_tables(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tables-v"))
}

fn is_absent_or_other(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
}

/// The tables in use and their directory, for those who need a map that is none of [`Maps`].
pub(super) fn open_with_directory(pins: &Pins) -> io::Result<Option<(Maps, PathBuf)>> {
    let Some(maps) = open_in_use(pins)? else { return Ok(None) };
    let id = maps.id(Hash::Frontends4);
    let mut directories = pins.all_map_directories()?.into_iter().filter(|path| is_tables(path));
    let found = directories.find(|directory| {
        let map = sys::object_get(&directory.join(Hash::Frontends4.name()));
        map.and_then(|map| sys::map_id(&map)).ok() == id
    });
    Ok(found.map(|directory| (maps, directory)))
}
