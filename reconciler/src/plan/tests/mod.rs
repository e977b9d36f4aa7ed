//! Plans of hand-made objects.

pub(in crate::plan) mod make;

use std::path::PathBuf;

use crate::inventory::{File, Inventory};
use crate::ledger::Ledger;
use crate::resolve::storage::Permissions;
use crate::units::Bytes;

use super::{plan, render};

/// A host that has a kernel, and nothing else.
fn bare() -> Inventory {
    let mut host = Inventory::default();
    host.host.bridge_ct = true;
    host.host.bridge_reject = true;
    host.files.insert(
        PathBuf::from("/boot/vmlinuz"),
        File {
            permissions: Permissions::default(),
            size: Bytes::mib(8),
            image: None,
        },
    );
    host
}

#[test]
fn what_is_not_there_is_created_after_what_it_needs() {
    let desired = make::desired(make::small());
    let plan = plan(&desired, &bare(), &Ledger::default());
    insta::assert_snapshot!(render::plan(&plan, render::Style::default()), @r"
    network default          create    nat 192.168.122.0/24 on virbr0, dhcp .2 to .254
    pool images              create    dir /images
    volume images/web.qcow2  create    10 GiB qcow2
        after pool images
    domain web               create    2 vcpus, 512 MiB, driver builtin
        it is defined, and has never run here; the builtin driver can do all of it
        after network default, volume images/web.qcow2

    4 to create. Nothing will be stopped or removed.
    ");
}
