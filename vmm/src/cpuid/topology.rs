//! How the guest's processors are grouped: sockets, dies, cores, threads.
//!
//! In come the numbers of each; out go APIC identifiers, in which each level has bits of its own, so that a guest reads a processor's place off its
//! number. Where a number is no power of two, identifiers have gaps. Pure.

use crate::config;

/// The grouping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    dies: u32,
    cores: u32,
    threads: u32,
}

/// Bits that tell `count` things apart.
fn bits(count: u32) -> u32 {
    count.max(1).next_power_of_two().trailing_zeros()
}

impl Topology {
    /// The grouping that was configured; one socket with a core for each of `count` vcpus if none was.
    pub fn new(vcpus: &config::Vcpus) -> Self {
        match vcpus.topology {
            Some(topology) => Self {
                dies: topology.dies,
                cores: topology.cores,
                threads: topology.threads,
            },
            None => Self {
                dies: 1,
                cores: vcpus.count,
                threads: 1,
            },
        }
    }

    /// Dies in a socket.
    pub fn dies(self) -> u32 {
        self.dies
    }

    /// Cores in a die.
    pub fn cores(self) -> u32 {
        self.cores
    }

    /// Threads in a core.
    pub fn threads(self) -> u32 {
        self.threads
    }

    /// Vcpus in a socket.
    pub fn in_socket(self) -> u32 {
        self.dies * self.cores * self.threads
    }

    /// Low bits of an identifier that number the threads of a core.
    pub fn thread_bits(self) -> u32 {
        bits(self.threads)
    }

    /// Low bits of an identifier that number the vcpus of a die.
    pub fn die_bits(self) -> u32 {
        self.thread_bits() + bits(self.cores)
    }

    /// Low bits of an identifier that number the vcpus of a socket.
    pub fn socket_bits(self) -> u32 {
        self.die_bits() + bits(self.dies)
    }

    /// The APIC identifier of the vcpu with this number.
    pub fn apic_id(self, number: u32) -> u32 {
        let thread = number % self.threads;
        let core = number / self.threads % self.cores;
        let die = number / self.threads / self.cores % self.dies;
        let socket = number / self.in_socket();
        socket << self.socket_bits() | die << self.die_bits() | core << self.thread_bits() | thread
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topology(dies: u32, cores: u32, threads: u32) -> Topology {
        Topology {
            dies,
            cores,
            threads,
        }
    }

    #[test]
    fn each_level_has_bits_of_its_own() {
        let topology = topology(2, 3, 2);
        let ids: Vec<_> = (0..13).map(|n| topology.apic_id(n)).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 16]);
    }

    #[test]
    fn without_a_topology_identifiers_are_numbers() {
        let vcpus = config::Vcpus {
            count: 6,
            topology: None,
        };
        let topology = Topology::new(&vcpus);
        assert!((0..6).all(|n| topology.apic_id(n) == n));
    }

    proptest! {
        #[test]
        fn no_two_vcpus_share_an_identifier(dies in 1..4_u32, cores in 1..9_u32, threads in 1..4_u32) {
            let topology = topology(dies, cores, threads);
            let ids: Vec<_> = (0..64).map(|n| topology.apic_id(n)).collect();
            prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
