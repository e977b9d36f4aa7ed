//! What a definition refers to by name.

use vireo_schema::Definition;
use vireo_schema::domain::Domain;

use crate::compile::filter::ir::Entry;
use crate::compile::filter::lower;
use crate::object::{Kind, ObjectId};

/// The objects that this one cannot be without: kind and name.
pub(super) fn of(definition: &Definition, object: &ObjectId) -> Vec<(Kind, String)> {
    match definition {
        Definition::Domain(domain) => of_domain(domain),
        // A volume's name begins with its pool's.
        Definition::Volume(_) => object
            .name
            .split_once('/')
            .map(|(pool, _)| (Kind::Pool, pool.to_owned()))
            .into_iter()
            .collect(),
        Definition::NwFilter(filter) => lower::filter(filter)
            .entries
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Reference(reference) => Some((Kind::NwFilter, reference.filter)),
                Entry::Rule(_) => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn of_domain(domain: &Domain) -> Vec<(Kind, String)> {
    let Some(devices) = &domain.devices else {
        return Vec::new();
    };
    let networks = devices.interfaces.iter().filter_map(|interface| {
        let network = interface.source.as_ref()?.network.clone()?;
        Some((Kind::Network, network))
    });
    let filters = devices.interfaces.iter().filter_map(|interface| {
        let filter = interface.filterref.as_ref()?.filter.as_ref()?;
        Some((Kind::NwFilter, filter.to_string()))
    });
    let volumes = devices.disks.iter().filter_map(|disk| {
        let source = disk.source.as_ref()?;
        let (pool, volume) = source.pool.as_ref().zip(source.volume.as_ref())?;
        Some((Kind::Volume, format!("{pool}/{volume}")))
    });
    networks.chain(filters).chain(volumes).collect()
}
