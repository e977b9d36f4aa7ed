//! Where the monitor puts devices on PCI.
//!
//! In come the definition's PCI controllers and devices with their stated places; out go the monitor's root ports and a place for each device, or the first that the
//! monitor does not have. A stated place is taken as it is: on bus 0, or behind a root port, whose bus has the number that firmware would give it (buses are
//! numbered from bus 0 on, in the order of their bridges' places), so that a guest finds its devices under the names that it knows.
//!
//! A device that states none has a slot of bus 0 by what it is, and no device that comes or goes moves it: interfaces, by their order, have slots 1 to 8; disks, by the
//! names of their targets, 9 (`vda`) to 24 (`vdp`); the virtio console 25, the balloon 26, the random number device 27, the socket device 28, the watchdog
//! 29, the panic device 30. In a definition that has root ports, such an interface or disk is behind a root port of its own, on bus 224 and the slot's
//! number: a guest finds what is on bus 0 first, and a disk that is added must not come before those that it knows. More of them than that, and those whose slot something states, take what is left, from slot 31 down. So do root ports without a place,
//! eight to a slot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A place on PCI: bus, slot and function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The bus: in a definition the index of its controller, for the monitor what the guest finds.
    pub bus: u32,
    /// 0 to 31.
    pub slot: u32,
    /// 0 to 7.
    pub function: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bus,
            slot,
            function,
        } = self;
        write!(f, "{bus:02x}:{slot:02x}.{function:x}")
    }
}

/// A PCI controller of a definition: a bus.
#[derive(Debug, Clone)]
pub struct Controller {
    /// Its path in the definition.
    pub path: String,
    /// The bus's number in the definition.
    pub index: u32,
    /// libvirt's model: `pcie-root-port`.
    pub model: String,
    /// Where it is.
    pub place: Option<Place>,
}

/// What a device is, as far as its place goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An interface, by its number from 0.
    Interface(usize),
    /// A disk, by the number that its target's letters come to, from 0.
    Disk(Option<usize>),
    /// The virtio console.
    Console,
    /// The balloon.
    Balloon,
    /// The random number device.
    Rng,
    /// The socket device.
    Vsock,
    /// The watchdog.
    Watchdog,
    /// The panic device on PCI.
    Panic,
}

impl What {
    /// Whether guests count such devices in the order in which they find them.
    fn is_counted(self) -> bool {
        matches!(self, Self::Interface(_) | Self::Disk(_))
    }

    /// The slot that such a device has where it states none.
    fn usual(self) -> Option<u32> {
        let of = |first: u32, most: usize, number: usize| {
            let number = Some(number).filter(|number| *number < most)?;
            Some(first + u32::try_from(number).ok()?)
        };
        match self {
            Self::Interface(number) => of(1, 8, number),
            Self::Disk(number) => of(9, 16, number?),
            Self::Console => Some(25),
            Self::Balloon => Some(26),
            Self::Rng => Some(27),
            Self::Vsock => Some(28),
            Self::Watchdog => Some(29),
            Self::Panic => Some(30),
        }
    }
}

/// The number that the letters of a disk's target come to: `vda` is 0, `vdz` 25, `vdaa` 26.
pub fn disk_number(target: &str) -> Option<usize> {
    let letters = target.get(2..).filter(|letters| !letters.is_empty())?;
    let mut number: usize = 0;
    for letter in letters.bytes() {
        let digit = letter
            .is_ascii_lowercase()
            .then(|| usize::from(letter - b'a'))?;
        number = number.checked_mul(26)?.checked_add(digit + 1)?;
    }
    number.checked_sub(1)
}

/// A device on PCI.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its path in the definition.
    pub path: String,
    /// What it is.
    pub what: What,
    /// Where it is to be.
    pub place: Option<Place>,
}

/// What the monitor makes.
#[derive(Debug, Default)]
pub struct Layout {
    /// Root ports: their places, and the numbers of the buses behind them.
    pub ports: Vec<(Place, u32)>,
    /// A place for each device, in their order.
    pub devices: Vec<Place>,
}

/// Something that the monitor does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The path of what asks for it.
    pub path: String,
    /// What it asks for, in words that follow "it asks for".
    pub what: String,
}

/// The only bridge that the monitor has.
pub const ROOT_PORT: &str = "pcie-root-port";

/// The first bus of devices without a place that have root ports of their own: their usual slots count from it.
const OWN_BUSES: u32 = 224;
/// Most buses of PCI.
const BUSES: usize = 256;
/// Slots of a bus.
const SLOTS: u32 = 32;

/// Lays out the monitor's PCI.
///
/// # Errors
/// The first controller or device that asks for what the monitor does not have.
pub fn lay_out(controllers: &[Controller], devices: &[Device]) -> Result<Layout, Lack> {
    let mut taken: BTreeSet<(u32, u32)> = BTreeSet::new();
    let stated = controllers.iter().filter_map(|it| it.place);
    let stated = stated.chain(devices.iter().filter_map(|it| it.place));
    taken.extend(stated.map(|place| (place.bus, place.slot)));
    let ports = ports(controllers, &mut taken)?;
    let numbers = numbers(controllers, &ports)?;
    let mut layout = Layout::default();
    for (index, place) in &ports {
        let number = numbers.get(index).copied().unwrap_or(0);
        layout.ports.push((*place, number));
    }
    // As the definition has them.
    let mut made: BTreeSet<Place> = ports.values().copied().collect();
    let mut places = Vec::new();
    for device in devices {
        let found = device.place.map(|place| {
            let found = found(place, controllers, &numbers);
            found.and_then(|found| match made.insert(place) {
                true => Ok(found),
                false => Err(format!("{place} on PCI, where another device is")),
            })
        });
        places.push(found.transpose().map_err(|what| Lack {
            path: format!("{}/address", device.path),
            what,
        })?);
    }
    alone(controllers, devices, &made)?;
    layout.devices = rest(devices, places, taken)?;
    let numbered_low = numbers.values().all(|number| *number < OWN_BUSES);
    if !ports.is_empty() && numbered_low {
        let unplaced = devices.iter().zip(&mut layout.devices);
        let unplaced = unplaced.filter(|(device, _)| device.place.is_none());
        let counted = unplaced.filter(|(device, _)| device.what.is_counted());
        // The port may have to be elsewhere; the bus is what the guest's names are made of.
        let counted = counted.filter_map(|(device, place)| Some((device.what.usual()?, place)));
        for (usual, place) in counted {
            let bus = OWN_BUSES + usual;
            layout.ports.push((*place, bus));
            *place = Place {
                bus,
                slot: 0,
                function: 0,
            };
        }
    }
    Ok(layout)
}

/// The root ports by the index of their bus, each with its place on bus 0.
fn ports(
    controllers: &[Controller],
    taken: &mut BTreeSet<(u32, u32)>,
) -> Result<BTreeMap<u32, Place>, Lack> {
    let mut found = BTreeMap::new();
    let mut unplaced = Vec::new();
    let ports = controllers.iter().filter(|it| it.model == ROOT_PORT);
    for port in ports {
        let Some(place) = port.place else {
            unplaced.push(port);
            continue;
        };
        let is_possible = place.bus == 0 && (1..SLOTS).contains(&place.slot) && place.function < 8;
        if !is_possible || found.values().any(|other| *other == place) {
            return Err(Lack {
                path: format!("{}/address", port.path),
                what: format!("a root port at {place}, which is no free place on bus 0"),
            });
        }
        found.insert(port.index, place);
    }
    unplaced.sort_by_key(|port| port.index);
    for eight in unplaced.chunks(8) {
        let slot = free_slot(taken);
        let slot = slot.ok_or_else(|| Lack {
            path: eight
                .first()
                .map_or_else(String::new, |port| port.path.clone()),
            what: "a root port, and no slot of bus 0 is free".to_owned(),
        })?;
        for (port, function) in eight.iter().zip(0..) {
            found.insert(
                port.index,
                Place {
                    bus: 0,
                    slot,
                    function,
                },
            );
        }
    }
    Ok(found)
}

/// The last slot of bus 0 that nothing has, which is then taken.
fn free_slot(taken: &mut BTreeSet<(u32, u32)>) -> Option<u32> {
    let mut slots = (1..SLOTS).rev();
    slots.find(|slot| taken.insert((0, *slot)))
}

/// The buses' numbers as firmware gives them, by their controllers' indexes: depth first, bridges in the order of their places.
fn numbers(
    controllers: &[Controller],
    ports: &BTreeMap<u32, Place>,
) -> Result<BTreeMap<u32, u32>, Lack> {
    let mut bridges: BTreeMap<u32, Vec<(Place, &Controller)>> = BTreeMap::new();
    for bridge in controllers.iter().filter(|it| it.index != 0) {
        let place = ports.get(&bridge.index).copied().or(bridge.place);
        if let Some(place) = place {
            bridges.entry(place.bus).or_default().push((place, bridge));
        }
    }
    for list in bridges.values_mut() {
        list.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    }
    let mut numbers = BTreeMap::from([(0, 0)]);
    let mut waiting = bridges.remove(&0).unwrap_or_default();
    let mut next = 1;
    while let Some((_, bridge)) = waiting.pop() {
        if numbers.contains_key(&bridge.index) {
            return Err(Lack {
                path: bridge.path.clone(),
                what: format!("a second PCI controller with the index {}", bridge.index),
            });
        }
        if numbers.len() == BUSES {
            return Err(Lack {
                path: bridge.path.clone(),
                what: format!("more than {BUSES} PCI buses"),
            });
        }
        numbers.insert(bridge.index, next);
        next += 1;
        waiting.extend(bridges.remove(&bridge.index).unwrap_or_default());
    }
    Ok(numbers)
}

/// A stated place as the guest finds it.
fn found(
    place: Place,
    controllers: &[Controller],
    numbers: &BTreeMap<u32, u32>,
) -> Result<Place, String> {
    let Place {
        bus,
        slot,
        function,
    } = place;
    let controller = controllers.iter().find(|it| it.index == bus);
    let model = controller.map(|it| it.model.as_str());
    if slot >= SLOTS || function > 7 {
        return Err(format!(
            "{place} on PCI, where slots end at 1f and functions at 7"
        ));
    }
    match (bus, model) {
        (0, _) if slot == 0 => Err("slot 0 of PCI bus 0, which is the host bridge's".to_owned()),
        (0, _) => Ok(place),
        (_, Some(ROOT_PORT)) if slot > 0 => Err(format!(
            "{place} on PCI, and behind a root port there is slot 0 alone"
        )),
        (_, Some(ROOT_PORT)) => Ok(Place {
            bus: numbers.get(&bus).copied().unwrap_or(bus),
            ..place
        }),
        (_, Some(model)) => Err(format!(
            "a place on PCI bus {bus}, which is behind a {model}, and builtin has root ports alone"
        )),
        (_, None) => Err(format!(
            "a place on PCI bus {bus}, which no <controller type='pci' index='{bus}'> makes"
        )),
    }
}

/// Looks for functions that a guest could not find, since function 0 of their slots is not there.
fn alone(
    controllers: &[Controller],
    devices: &[Device],
    made: &BTreeSet<Place>,
) -> Result<(), Lack> {
    let ports = controllers
        .iter()
        .filter(|it| it.model == ROOT_PORT)
        .map(|it| (&it.path, it.place));
    let devices = devices.iter().map(|it| (&it.path, it.place));
    for (path, place) in ports.chain(devices) {
        let Some(place) = place else { continue };
        let first = Place {
            function: 0,
            ..place
        };
        if !made.contains(&first) {
            return Err(Lack {
                path: format!("{path}/address"),
                what: format!(
                    "{place} on PCI, and no device of builtin is function 0 of that slot, without which a guest finds no other"
                ),
            });
        }
    }
    Ok(())
}

/// Gives places to devices that state none: each its own slot, then what is left.
fn rest(
    devices: &[Device],
    mut places: Vec<Option<Place>>,
    mut taken: BTreeSet<(u32, u32)>,
) -> Result<Vec<Place>, Lack> {
    let at = |slot| Place {
        bus: 0,
        slot,
        function: 0,
    };
    for (device, place) in devices.iter().zip(&mut places) {
        if place.is_none() {
            let usual = device.what.usual();
            *place = usual.filter(|slot| taken.insert((0, *slot))).map(at);
        }
    }
    let placed = devices.iter().zip(places).map(|(device, place)| {
        let place = place.or_else(|| free_slot(&mut taken).map(at));
        place.ok_or_else(|| Lack {
            path: device.path.clone(),
            what: "more devices than bus 0 of PCI has slots for".to_owned(),
        })
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        let (bus, rest) = text.split_once(':').unwrap();
        let (slot, function) = rest.split_once('.').unwrap();
        let number = |text| u32::from_str_radix(text, 16).unwrap();
        Place {
            bus: number(bus),
            slot: number(slot),
            function: number(function),
        }
    }

    /// A bridge; without a place where the text is empty.
    fn bridge(index: u32, model: &str, at: &str) -> Controller {
        Controller {
            path: format!("controller{index}"),
            index,
            model: model.to_owned(),
            place: (!at.is_empty()).then(|| place(at)),
        }
    }

    fn device(what: What, at: &str) -> Device {
        Device {
            path: format!("{what:?}"),
            what,
            place: (!at.is_empty()).then(|| place(at)),
        }
    }

    /// Root ports and devices as they will be, or what is refused where.
    fn laid(bridges: &[Controller], devices: &[Device]) -> Result<String, (String, String)> {
        let layout = lay_out(bridges, devices).map_err(|lack| (lack.path, lack.what))?;
        let ports = layout.ports.iter();
        let ports = ports.map(|(place, bus)| format!("{place}>{bus:02x}"));
        let devices = layout.devices.iter().map(Place::to_string);
        Ok(ports.chain(devices).collect::<Vec<_>>().join(" "))
    }

    fn port(index: u32, at: &str) -> Controller {
        bridge(index, ROOT_PORT, at)
    }

    #[test]
    fn what_states_no_place_has_a_slot_of_its_own() {
        let all = [
            device(What::Disk(Some(0)), ""),
            device(What::Interface(0), ""),
            device(What::Rng, ""),
            device(What::Balloon, ""),
        ];
        let whole = laid(&[], &all).unwrap();
        assert_eq!(whole, "00:09.0 00:01.0 00:1b.0 00:1a.0");
        let whole: Vec<&str> = whole.split(' ').collect();
        for gone in 0..all.len() {
            let (mut left, mut wanted) = (all.to_vec(), whole.clone());
            left.remove(gone);
            wanted.remove(gone);
            assert_eq!(laid(&[], &left), Ok(wanted.join(" ")));
        }
    }

    #[test]
    fn what_finds_its_slot_taken_takes_one_that_is_left() {
        let devices = [
            device(What::Interface(8), ""),
            device(What::Rng, "00:01.0"),
            device(What::Interface(0), ""),
            device(What::Disk(None), ""),
        ];
        let laid_out = laid(&[], &devices);
        assert_eq!(laid_out.as_deref(), Ok("00:1f.0 00:01.0 00:1e.0 00:1d.0"));
        let many: Vec<_> = (0..32).map(|n| device(What::Interface(n), "")).collect();
        assert!(laid(&[], &many[..31]).is_ok());
        assert_eq!(laid(&[], &many).unwrap_err().0, "Interface(31)");
    }

    #[test]
    fn devices_behind_root_ports_are_where_they_say() {
        let ports = [port(1, "00:02.0"), port(2, "00:02.1"), port(3, "00:02.2")];
        let devices = [
            device(What::Interface(0), "01:00.0"),
            device(What::Rng, "03:00.0"),
        ];
        let wanted = "00:02.0>01 00:02.1>02 00:02.2>03 01:00.0 03:00.0";
        assert_eq!(laid(&ports, &devices).as_deref(), Ok(wanted));
    }

    #[test]
    fn what_is_added_to_a_guest_with_root_ports_comes_after_what_it_knows() {
        let ports = [port(1, "00:02.0"), port(2, "00:02.1")];
        let devices = [
            device(What::Disk(Some(0)), "02:00.0"),
            device(What::Disk(Some(1)), ""),
            device(What::Interface(1), ""),
            device(What::Balloon, ""),
        ];
        // The interface's own slot is the ports'.
        let wanted = "00:02.0>01 00:02.1>02 00:0a.0>ea 00:1f.0>e2 02:00.0 ea:00.0 e2:00.0 00:1a.0";
        assert_eq!(laid(&ports, &devices).as_deref(), Ok(wanted));
    }

    #[test]
    fn buses_are_numbered_as_firmware_numbers_them() {
        // By the places of their bridges, whatever the definition's numbers are, and counting what is behind bridges that are not made.
        let bridges = [
            port(1, "00:03.0"),
            port(2, "00:02.0"),
            bridge(4, "pcie-to-pci-bridge", "02:00.0"),
            port(3, ""),
        ];
        let devices = [
            device(What::Rng, "01:00.0"),
            device(What::Console, "03:00.1"),
            device(What::Vsock, "03:00.0"),
        ];
        let wanted = "00:03.0>03 00:02.0>01 00:1f.0>04 03:00.0 04:00.1 04:00.0";
        assert_eq!(laid(&bridges, &devices).as_deref(), Ok(wanted));
    }

    #[test]
    fn a_place_that_there_is_not_is_refused_where_it_stands() {
        let bridges = [
            port(1, "00:02.0"),
            bridge(2, "pcie-to-pci-bridge", "01:00.0"),
        ];
        for (at, why) in [
            ("01:01.0", "there is slot 0 alone"),
            ("02:01.0", "behind a pcie-to-pci-bridge"),
            ("03:00.0", "no <controller type='pci' index='3'> makes"),
            ("00:00.1", "the host bridge's"),
            ("00:02.0", "where another device is"),
            ("00:05.1", "function 0 of that slot"),
            ("01:00.1", "function 0 of that slot"),
            ("00:20.0", "slots end at 1f"),
        ] {
            let refused = laid(&bridges, &[device(What::Rng, at)]).unwrap_err();
            assert_eq!(refused.0, "Rng/address");
            assert!(refused.1.contains(why), "{at}: {refused:?}");
        }
        let refused = laid(&[port(1, "01:00.0")], &[]).unwrap_err();
        assert_eq!(refused.0, "controller1/address");
        let many: Vec<_> = (1..=256).map(|index| port(index, "")).collect();
        assert!(laid(&many, &[]).is_err());
    }

    #[test]
    fn bridges_on_their_own_buses_are_no_way_round() {
        let bridges = [
            bridge(1, "pcie-to-pci-bridge", "02:00.0"),
            bridge(2, "pcie-to-pci-bridge", "01:00.0"),
        ];
        assert_eq!(laid(&bridges, &[]).as_deref(), Ok(""));
    }

    #[test]
    fn letters_of_targets_count_as_the_kernel_counts_them() {
        let numbers = ["vda", "vdz", "vdaa", "vdab", "vd", "v", "vdA", "xvda"].map(disk_number);
        let wanted = [Some(0), Some(25), Some(26), Some(27), None, None, None];
        assert_eq!(numbers[..7], wanted);
        assert!(disk_number(&"z".repeat(99)).is_none());
    }
}
