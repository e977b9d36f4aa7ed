//! Bindings of filters: the types behind `<filterbinding>`, libvirt's note of which filter holds for one tap.
//!
//! <https://libvirt.org/formatnwfilter.html>; the grammar is libvirt's `nwfilterbinding.rng`.

use super::FilterRef;
use crate::common::Owner;
use crate::network::NetworkMac;

element! {
    /// A filter that holds for one tap.
    pub struct NwFilterBinding must ["owner", "portdev", "mac", "filterref"] {
        /// The guest.
        child "owner" owner: Owner,
        /// The tap.
        child "portdev" portdev: BoundDevice,
        /// The device that the tap leads to.
        child "linkdev" linkdev: BoundDevice,
        /// The guest's Ethernet address.
        child "mac" mac: NetworkMac,
        /// The filter, with values for its variables.
        child "filterref" filterref: FilterRef,
    }
}

element! {
    /// A device of the host's.
    pub struct BoundDevice main "name" must ["name"] {
        /// Its name.
        attr "name" name: String,
    }
}
