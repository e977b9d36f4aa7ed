//! What a plan needs to know of files.

use crate::desired::{Desired, Resolved};
use crate::inventory::Interest;
use crate::ledger::Ledger;
use crate::object::Kind;
use crate::resolve::domain::Boot;

/// Directories and files that planning these asks about.
pub fn interest(desired: &Desired, ledger: &Ledger) -> Interest {
    let mut interest = Interest::default();
    for wanted in desired.objects.values() {
        match &wanted.resolved {
            Resolved::Pool(pool) => {
                interest.directories.insert(pool.path.clone());
            }
            Resolved::Volume(volume) => {
                interest.files.insert(volume.path.clone());
                let backing = volume.backing.iter().map(|backing| backing.path.clone());
                interest.files.extend(backing);
            }
            Resolved::Domain(domain) => {
                let disks = domain.disks.iter().filter_map(|disk| disk.path.clone());
                interest.files.extend(disks);
                interest.files.extend(domain.machine.emulator.clone());
                match &domain.boot {
                    Boot::Kernel { kernel, initrd, .. } => {
                        interest.files.insert(kernel.clone());
                        interest.files.extend(initrd.clone());
                    }
                    Boot::Disk { .. } => {}
                    Boot::Firmware {
                        loader, template, ..
                    } => {
                        interest.files.extend(loader.clone());
                        interest.files.extend(template.clone());
                    }
                }
            }
            Resolved::Network(_) | Resolved::NwFilter(_) => {}
        }
    }
    for entry in ledger.entries.values() {
        let Some(path) = entry.holds.path.clone() else {
            continue;
        };
        match entry.object.kind {
            Kind::Pool => interest.directories.insert(path),
            _ => interest.files.insert(path),
        };
    }
    interest
}
