//! What the person who edits the files has in mind: a small, always sensible set of objects, and the text of each.

use uuid::Uuid;

/// A wanted state, as a policy says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Runs.
    Running,
    /// Does not.
    Stopped,
    /// Is halted.
    Paused,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }
}

/// A guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Whether its definition is there.
    pub present: bool,
    /// Its number, from which its name and UUID follow.
    pub number: u32,
    /// Wanted state.
    pub state: State,
    /// May be restarted.
    pub may_restart: bool,
    /// MiB.
    pub memory: u32,
    /// `<shares>`.
    pub shares: Option<u32>,
    /// The network it is on, by number.
    pub network: Option<u32>,
    /// The filter of its interface, by number.
    pub filter: Option<u32>,
    /// `<bandwidth>` towards it, KiB/s.
    pub bandwidth: Option<u32>,
    /// The volume it has, by number.
    pub volume: Option<u32>,
    /// Written as YAML.
    pub yaml: bool,
    /// Changes with each renaming of its file.
    pub edition: u32,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Whether its definition is there.
    pub present: bool,
    /// Its number.
    pub number: u32,
    /// The last octet of the last address that is given out.
    pub last: u8,
    /// Masqueraded or isolated.
    pub nat: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Whether its definition is there.
    pub present: bool,
    /// Its number.
    pub number: u32,
    /// GiB; only ever grows.
    pub size: u32,
}

/// A packet filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Whether its definition is there.
    pub present: bool,
    /// Its number.
    pub number: u32,
    /// TCP ports that it drops.
    pub ports: Vec<u16>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Guests.
    pub guests: Vec<Guest>,
    /// Networks.
    pub networks: Vec<Network>,
    /// Volumes of the one pool.
    pub volumes: Vec<Volume>,
    /// Packet filters.
    pub filters: Vec<Filter>,
}

impl Guest {
    /// Its identity.
    pub fn uuid(&self) -> Uuid {
        Uuid::from_u128(0xd000_0000_0000_4000_8000_0000_0000_0000 | u128::from(self.number))
    }

    /// Its name.
    pub fn name(&self) -> String {
        format!("guest{}", self.number)
    }

    /// Its file's name.
    pub fn file(&self) -> String {
        let ending = if self.yaml { "yaml" } else { "xml" };
        format!("guests/{}-{}.{ending}", self.name(), self.edition)
    }

    /// Its definition.
    pub fn text(&self) -> String {
        if self.yaml {
            self.as_yaml()
        } else {
            self.as_xml()
        }
    }

    fn as_xml(&self) -> String {
        let shares = self
            .shares
            .map(|n| format!("<cputune><shares>{n}</shares></cputune>"))
            .unwrap_or_default();
        let disk = self.volume.map(|n| {
            format!(
                "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='images' volume='vol{n}.qcow2'/><target dev='vda' bus='virtio'/></disk>"
            )
        });
        let interface = self.network.map(|n| {
            let filter = self.filter.map(|n| format!("<filterref filter='filter{n}'/>")).unwrap_or_default();
            let limit = self.bandwidth.map(|n| format!("<bandwidth><inbound average='{n}'/></bandwidth>"));
            format!(
                "<interface type='network'><source network='net{n}'/><model type='virtio'/>{filter}{}</interface>",
                limit.unwrap_or_default()
            )
        });
        format!(
            "<domain type='kvm'>\n<name>{}</name>\n<uuid>{}</uuid>\n<metadata><vireo:policy xmlns:vireo='urn:vireo:policy:1' state='{}' disruption='{}'/></metadata>\n\
             <memory unit='MiB'>{}</memory>\n<vcpu>1</vcpu>\n{shares}\n\
             <os><type arch='x86_64'>hvm</type><kernel>/boot/vmlinuz</kernel></os>\n<devices>{}{}</devices>\n</domain>\n",
            self.name(),
            self.uuid(),
            self.state.word(),
            self.disruption(),
            self.memory,
            disk.unwrap_or_default(),
            interface.unwrap_or_default(),
        )
    }

    fn as_yaml(&self) -> String {
        let mut text = format!(
            "domain: {}\nuuid: {}\npolicy: {{state: {}, disruption: {}}}\nmemory: {} MiB\nvcpu: 1\nkernel: /boot/vmlinuz\n",
            self.name(),
            self.uuid(),
            self.state.word(),
            self.disruption(),
            self.memory
        );
        if let Some(n) = self.shares {
            text.push_str(&format!("cputune: {{shares: {n}}}\n"));
        }
        if let Some(n) = self.volume {
            text.push_str(&format!(
                "disks: [{{volume: images/vol{n}.qcow2, driver: {{name: qemu, type: qcow2}}}}]\n"
            ));
        }
        if let Some(n) = self.network {
            let filter = self
                .filter
                .map(|n| format!(", filter: filter{n}"))
                .unwrap_or_default();
            let limit = self
                .bandwidth
                .map(|n| format!(", bandwidth: {{inbound: {{average: {n}}}}}"));
            text.push_str(&format!(
                "interfaces: [{{network: net{n}{filter}{}}}]\n",
                limit.unwrap_or_default()
            ));
        }
        text
    }

    const fn disruption(&self) -> &'static str {
        if self.may_restart { "restart" } else { "live" }
    }
}

impl Network {
    /// Its identity.
    pub fn uuid(&self) -> Uuid {
        Uuid::from_u128(0xe000_0000_0000_4000_8000_0000_0000_0000 | u128::from(self.number))
    }

    /// Its bridge.
    pub fn bridge(&self) -> String {
        format!("virbr{}", self.number)
    }

    fn text(&self) -> String {
        let n = self.number;
        let forward = if self.nat {
            "<forward mode='nat'/>"
        } else {
            ""
        };
        format!(
            "<network><name>net{n}</name><uuid>{}</uuid>{forward}<bridge name='{}'/>\
             <ip address='192.168.{}.1' netmask='255.255.255.0'><dhcp><range start='192.168.{}.2' end='192.168.{}.{}'/></dhcp></ip></network>\n",
            self.uuid(),
            self.bridge(),
            100 + n,
            100 + n,
            100 + n,
            self.last
        )
    }
}

impl Volume {
    /// Its file on the host.
    pub fn path(&self) -> std::path::PathBuf {
        format!("/images/vol{}.qcow2", self.number).into()
    }

    fn text(&self) -> String {
        format!(
            "<volume><name>vol{}.qcow2</name><capacity unit='GiB'>{}</capacity><target><format type='qcow2'/></target>\
             <vireo:policy xmlns:vireo='urn:vireo:policy:1' pool='images'/></volume>\n",
            self.number, self.size
        )
    }
}

impl Filter {
    fn text(&self) -> String {
        let rules: String = self
            .ports
            .iter()
            .map(|port| {
                format!("<rule action='drop' direction='in'><tcp dstportstart='{port}'/></rule>")
            })
            .collect();
        let n = self.number;
        let uuid = Uuid::from_u128(0xf000_0000_0000_4000_8000_0000_0000_0000 | u128::from(n));
        format!("<filter name='filter{n}'><uuid>{uuid}</uuid>{rules}</filter>\n")
    }
}

impl Model {
    /// Two networks, two filters, two volumes, and one to four guests.
    pub fn random(rng: &mut fastrand::Rng) -> Self {
        let networks = (0..2)
            .map(|number| Network {
                present: true,
                number,
                last: 200,
                nat: rng.bool(),
            })
            .collect();
        let volumes = (0..2)
            .map(|number| Volume {
                present: true,
                number,
                size: 1,
            })
            .collect();
        let filters = (0..2)
            .map(|number| Filter {
                present: true,
                number,
                ports: vec![25],
            })
            .collect();
        let guests = (0..rng.u32(1..=4))
            .map(|number| Self::guest(number, rng))
            .collect();
        Self {
            guests,
            networks,
            volumes,
            filters,
        }
    }

    /// A guest with random traits. Guests do not share volumes.
    pub fn guest(number: u32, rng: &mut fastrand::Rng) -> Guest {
        let network = rng.bool().then(|| rng.u32(0..2));
        Guest {
            present: true,
            number,
            state: if rng.u32(0..8) == 0 {
                State::Stopped
            } else {
                State::Running
            },
            may_restart: rng.bool(),
            memory: 256,
            shares: None,
            filter: network.filter(|_| rng.bool()).map(|_| rng.u32(0..2)),
            bandwidth: network.filter(|_| rng.bool()).map(|_| 1000),
            network,
            volume: (number < 2 && rng.bool()).then_some(number),
            yaml: rng.bool(),
            edition: 0,
        }
    }

    /// Every file, by name.
    pub fn files(&self) -> std::collections::BTreeMap<String, String> {
        let mut files = std::collections::BTreeMap::new();
        files.insert(
            "pools/images.xml".to_owned(),
            "<pool type='dir'><name>images</name><target><path>/images</path></target></pool>\n"
                .to_owned(),
        );
        for network in self.networks.iter().filter(|network| network.present) {
            files.insert(
                format!("networks/net{}.xml", network.number),
                network.text(),
            );
        }
        for volume in self.volumes.iter().filter(|volume| volume.present) {
            files.insert(format!("volumes/vol{}.xml", volume.number), volume.text());
        }
        for filter in self.filters.iter().filter(|filter| filter.present) {
            files.insert(
                format!("filters/filter{}.xml", filter.number),
                filter.text(),
            );
        }
        for guest in self.guests.iter().filter(|guest| guest.present) {
            files.insert(guest.file(), guest.text());
        }
        files
    }

    /// Whether everything that a guest refers to is defined.
    pub fn is_whole(&self, guest: &Guest) -> bool {
        let network = |n: u32| {
            self.networks
                .iter()
                .any(|network| network.number == n && network.present)
        };
        let filter = |n: u32| {
            self.filters
                .iter()
                .any(|filter| filter.number == n && filter.present)
        };
        let volume = |n: u32| {
            self.volumes
                .iter()
                .any(|volume| volume.number == n && volume.present)
        };
        guest.network.is_none_or(network)
            && guest.filter.is_none_or(filter)
            && guest.volume.is_none_or(volume)
    }
}
