//! One protocol element of a rule to nft's match expressions.
//!
//! In: the element, the values chosen for its variables, and whether sources and destinations change places. Out: expressions that must all
//! hold. Every expression is self-contained: it tests the frame's EtherType itself (`ether type`, which for a tagged frame is that of the tag,
//! so that VLAN frames never match as what they carry) and leaves nothing for `nft` to infer.

use std::collections::BTreeMap;

use super::error::Problem;
use super::ir::{Protocol, ProtocolMatch, Transport, Value, Variable, Version};
use super::value::{self, Network};
use super::words::{guard, keyword, l4proto, protocol_number, written};

/// The value that each variable of a rule has in one of its instances.
pub type Chosen = BTreeMap<Variable, String>;

/// An attribute's text, and the variable that gave it.
struct Text {
    attribute: &'static str,
    text: String,
    variable: Option<String>,
}

impl Text {
    fn typed<T>(&self, parsed: Option<T>, wanted: &'static str) -> Result<T, Problem> {
        parsed.ok_or_else(|| Problem::WrongType {
            attribute: self.attribute.to_owned(),
            value: self.text.clone(),
            variable: self.variable.clone(),
            wanted,
        })
    }
}

/// One element being turned into expressions.
pub struct Matcher<'a> {
    node: &'a ProtocolMatch,
    chosen: &'a Chosen,
    swapped: bool,
    unread: Vec<&'a str>,
    out: Vec<String>,
}

/// The expressions of `node`. `swapped`: the packet goes the other way than the rule is written for. `macs`: whether Ethernet addresses are
/// looked at (replies known by their connection may come from elsewhere).
pub fn expressions(
    node: &ProtocolMatch,
    chosen: &Chosen,
    swapped: bool,
    macs: bool,
) -> Result<Vec<String>, Problem> {
    let mut matcher = Matcher {
        node,
        chosen,
        swapped,
        unread: node.attributes.keys().map(String::as_str).collect(),
        out: Vec::new(),
    };
    matcher.element(macs)?;
    // Read elsewhere: neither is a match.
    matcher
        .unread
        .retain(|name| !matches!(*name, "comment" | "state"));
    match matcher.unread.first() {
        None => Ok(matcher.out),
        Some(name) => Err(Problem::Unsupported {
            what: format!("attribute {name} of <{}>", node.protocol.name()),
            why: "the element has no such attribute",
        }),
    }
}

/// A text attribute that is no match (`state`, `comment`), with its variable put in.
pub fn plain(node: &ProtocolMatch, chosen: &Chosen, name: &str) -> Result<Option<String>, Problem> {
    match node.attributes.get(name) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(Value::Variable(variable)) => chosen
            .get(variable)
            .cloned()
            .map(Some)
            .ok_or_else(|| Problem::Unset(variable.name.clone())),
    }
}

/// A bound of a range: `(attribute, attribute of the upper bound)`.
type Pair = (&'static str, &'static str);

impl Matcher<'_> {
    fn element(&mut self, macs: bool) -> Result<(), Problem> {
        match self.node.protocol {
            Protocol::Mac => {
                self.ethernet()?;
                self.numeric("ether type", "protocolid", value::ETHERTYPES, 0xffff)
            }
            Protocol::Vlan => {
                self.push("ether type 8021q");
                self.ethernet()?;
                self.numeric("vlan id", "vlanid", &[], 0xfff)?;
                self.numeric("vlan type", "encap-protocol", value::ETHERTYPES, 0xffff)
            }
            Protocol::Stp => self.stp(),
            Protocol::Arp => {
                self.push("ether type arp");
                self.arp()
            }
            Protocol::Rarp => {
                self.push("ether type 0x8035");
                self.arp()
            }
            Protocol::Ip => self.ethernet_ip(Version::V4),
            Protocol::Ipv6 => self.ethernet_ip(Version::V6),
            Protocol::Transport(transport, version) => self.transport(transport, version, macs),
        }
    }

    // -- reading ---------------------------------------------------------------------------------------------------------------------

    fn text(&mut self, attribute: &'static str) -> Result<Option<Text>, Problem> {
        self.unread.retain(|name| *name != attribute);
        let variable = match self.node.attributes.get(attribute) {
            Some(Value::Variable(variable)) => Some(variable.name.clone()),
            _ => None,
        };
        Ok(plain(self.node, self.chosen, attribute)?.map(|text| Text {
            attribute,
            text,
            variable,
        }))
    }

    fn number(
        &mut self,
        attribute: &'static str,
        names: &[(&str, u64)],
        max: u64,
    ) -> Result<Option<u64>, Problem> {
        let wanted = match max {
            0x3f => "a number from 0 to 63",
            0xff => "a number from 0 to 255, or a name the attribute knows",
            0xfff => "a number from 0 to 4095",
            0xffff => "a number from 0 to 65535, or a name the attribute knows",
            _ => "a number of 32 bits",
        };
        self.text(attribute)?
            .map(|text| text.typed(value::named(&text.text, names, max), wanted))
            .transpose()
    }

    fn mac(&mut self, attribute: &'static str) -> Result<Option<[u8; 6]>, Problem> {
        self.text(attribute)?
            .map(|text| text.typed(value::mac(&text.text), "a MAC address"))
            .transpose()
    }

    fn network(
        &mut self,
        address: &'static str,
        mask: &'static str,
        version: Version,
    ) -> Result<Option<Network>, Problem> {
        let v6 = version == Version::V6;
        let Some(network) = self.host(address, v6)? else {
            return match self.text(mask)? {
                None => Ok(None),
                Some(_) => Err(lonely(mask, "a mask is of use only beside its address")),
            };
        };
        match self.text(mask)? {
            None => Ok(Some(network)),
            Some(text) => {
                let wanted = "a netmask or a number of bits";
                text.typed(network.with_mask(&text.text), wanted).map(Some)
            }
        }
    }

    fn host(&mut self, attribute: &'static str, v6: bool) -> Result<Option<Network>, Problem> {
        let wanted = if v6 {
            "an IPv6 address"
        } else {
            "an IPv4 address"
        };
        self.text(attribute)?
            .map(|text| text.typed(Network::host(&text.text, v6), wanted))
            .transpose()
    }

    // -- writing ---------------------------------------------------------------------------------------------------------------------

    fn push(&mut self, expression: impl Into<String>) {
        self.out.push(expression.into());
    }

    /// What stands before a value.
    fn not(&self) -> &'static str {
        if self.node.negated { "!= " } else { "" }
    }

    /// What stands between a masked field and a value.
    fn operator(&self) -> &'static str {
        if self.node.negated { "!=" } else { "==" }
    }

    /// `source` or `destination`, as the packet has it.
    fn side<'t>(&self, source: &'t str, destination: &'t str, is_source: bool) -> &'t str {
        if is_source != self.swapped {
            source
        } else {
            destination
        }
    }

    fn numeric(
        &mut self,
        field: &str,
        attribute: &'static str,
        names: &[(&str, u64)],
        max: u64,
    ) -> Result<(), Problem> {
        if let Some(number) = self.number(attribute, names, max)? {
            let not = self.not();
            self.push(format!("{field} {not}{}", written(field, number)));
        }
        Ok(())
    }

    fn range(&mut self, field: &str, (low, high): Pair, max: u64) -> Result<(), Problem> {
        match (self.number(low, &[], max)?, self.number(high, &[], max)?) {
            (None, None) => {}
            (Some(low), None) => {
                let not = self.not();
                self.push(format!("{field} {not}{}", written(field, low)));
            }
            (Some(first), Some(last)) if first == last => {
                let not = self.not();
                self.push(format!("{field} {not}{}", written(field, first)));
            }
            (Some(first), Some(last)) if first < last => {
                let not = self.not();
                let (first, last) = (written(field, first), written(field, last));
                self.push(format!("{field} {not}{first}-{last}"));
            }
            (Some(_), Some(_)) => return Err(lonely(high, "the range ends before it begins")),
            (None, Some(_)) => return Err(lonely(high, "a range needs its first value too")),
        }
        Ok(())
    }

    // -- protocols -------------------------------------------------------------------------------------------------------------------

    fn ethernet(&mut self) -> Result<(), Problem> {
        self.ethernet_address("srcmacaddr", "srcmacmask", true)?;
        self.ethernet_address("dstmacaddr", "dstmacmask", false)
    }

    fn ethernet_address(
        &mut self,
        address: &'static str,
        mask: &'static str,
        is_source: bool,
    ) -> Result<(), Problem> {
        let field = self.side("ether saddr", "ether daddr", is_source);
        let (address, mask) = (self.mac(address)?, self.mac(mask)?);
        if let Some(address) = address {
            let mask = mask.unwrap_or([0xff; 6]);
            let base = value::mac_text(value::masked(address, mask));
            self.push(if mask == [0xff; 6] {
                format!("{field} {}{base}", self.not())
            } else {
                let mask = value::mac_text(mask);
                format!("{field} & {mask} {} {base}", self.operator())
            });
        } else if mask.is_some() {
            return Err(lonely(
                "srcmacmask or dstmacmask",
                "a mask is of use only beside its address",
            ));
        }
        Ok(())
    }

    fn ethernet_ip(&mut self, version: Version) -> Result<(), Problem> {
        self.push(guard(version));
        self.ethernet()?;
        self.addresses(version)?;
        let protocol = self.number("protocol", value::IP_PROTOCOLS, 0xff)?;
        if let Some(number) = protocol {
            let not = self.not();
            self.push(format!("{} {not}{number}", l4proto(version)));
        }
        let has = |name: &str| self.node.attributes.contains_key(name);
        let ports = ["srcportstart", "srcportend", "dstportstart", "dstportend"];
        if ports.into_iter().any(has) {
            let carries_ports = matches!(protocol, Some(6 | 17 | 33 | 132 | 136));
            if !carries_ports || self.node.negated {
                return Err(Problem::Unsupported {
                    what: format!("a port in <{}>", self.node.protocol.name()),
                    why: "ports need protocol= tcp, udp, udplite or sctp beside them, in an element without match='no'",
                });
            }
        }
        self.ports()?;
        self.dscp(version)?;
        if version == Version::V6 && ["type", "code"].into_iter().any(has) {
            if protocol != Some(58) || self.node.negated {
                return Err(Problem::Unsupported {
                    what: "type or code in <ipv6>".to_owned(),
                    why: "they need protocol='icmpv6' beside them, in an element without match='no'",
                });
            }
            self.range("icmpv6 type", ("type", "typeend"), 0xff)?;
            self.range("icmpv6 code", ("code", "codeend"), 0xff)?;
        }
        Ok(())
    }

    fn addresses(&mut self, version: Version) -> Result<(), Problem> {
        for (address, mask, is_source) in [
            ("srcipaddr", "srcipmask", true),
            ("dstipaddr", "dstipmask", false),
        ] {
            let field = self.side("saddr", "daddr", is_source);
            if let Some(network) = self.network(address, mask, version)? {
                let matching = network.matching(self.node.negated);
                self.push(format!("{} {field} {matching}", keyword(version)));
            }
        }
        Ok(())
    }

    fn address_ranges(&mut self, version: Version) -> Result<(), Problem> {
        let v6 = version == Version::V6;
        for (from, to, is_source) in [
            ("srcipfrom", "srcipto", true),
            ("dstipfrom", "dstipto", false),
        ] {
            let field = self.side("saddr", "daddr", is_source);
            let (first, last) = (self.host(from, v6)?, self.host(to, v6)?);
            let Some(first) = first else {
                if last.is_some() {
                    return Err(lonely(to, "a range needs its first value too"));
                }
                continue;
            };
            let last = last.unwrap_or(first);
            if !first.not_above(last) {
                return Err(lonely(to, "the range ends before it begins"));
            }
            let not = self.not();
            let (low, high) = (first.single(), last.single());
            if let (Some(low), Some(high)) = (low, high) {
                let range = if low == high {
                    low
                } else {
                    format!("{low}-{high}")
                };
                self.push(format!("{} {field} {not}{range}", keyword(version)));
            }
        }
        Ok(())
    }

    fn ports(&mut self) -> Result<(), Problem> {
        let source = self.side("th sport", "th dport", true);
        self.range(source, ("srcportstart", "srcportend"), 0xffff)?;
        let destination = self.side("th sport", "th dport", false);
        self.range(destination, ("dstportstart", "dstportend"), 0xffff)
    }

    fn dscp(&mut self, version: Version) -> Result<(), Problem> {
        self.numeric(&format!("{} dscp", keyword(version)), "dscp", &[], 0x3f)
    }

    fn transport(
        &mut self,
        transport: Transport,
        version: Version,
        macs: bool,
    ) -> Result<(), Problem> {
        for name in ["ipset", "ipsetflags"] {
            if self.text(name)?.is_some() {
                return Err(Problem::Unsupported {
                    what: name.to_owned(),
                    why: "nftables cannot look into the kernel's ipsets; list the addresses in a variable instead",
                });
            }
        }
        if self.text("connlimit-above")?.is_some() {
            return Err(Problem::Unsupported {
                what: "connlimit-above".to_owned(),
                why: "counting connections is not compiled to the bridge family",
            });
        }
        self.push(guard(version));
        if let Some(number) = protocol_number(transport, version) {
            // AH over IPv6 is an extension header, which the kernel skips on its way to the last protocol.
            let field = match (transport, version) {
                (Transport::Ah, Version::V6) => "ip6 nexthdr",
                _ => l4proto(version),
            };
            self.push(format!("{field} {number}"));
        }
        let before = self.out.len();
        self.ethernet()?;
        if !macs {
            self.out.truncate(before);
        }
        self.addresses(version)?;
        self.address_ranges(version)?;
        self.dscp(version)?;
        match transport {
            Transport::Tcp => {
                self.ports()?;
                self.tcp()
            }
            Transport::Udp | Transport::Udplite | Transport::Sctp => self.ports(),
            Transport::Icmp => {
                let word = if version == Version::V6 {
                    "icmpv6"
                } else {
                    "icmp"
                };
                self.numeric(&format!("{word} type"), "type", &[], 0xff)?;
                self.numeric(&format!("{word} code"), "code", &[], 0xff)
            }
            Transport::Igmp | Transport::Esp | Transport::Ah | Transport::All => Ok(()),
        }
    }

    fn tcp(&mut self) -> Result<(), Problem> {
        let op = self.operator();
        if let Some(text) = self.text("flags")? {
            let (mask, set) = text.typed(
                value::tcp_flags(&text.text),
                "MASK/FLAGS, each a list of SYN, ACK, URG, PSH, FIN, RST, or ALL or NONE",
            )?;
            self.push(format!("tcp flags & {mask:#04x} {op} {set:#04x}"));
        }
        if let Some(kind) = self.number("option", &[], 0xff)? {
            let there = if self.node.negated {
                "missing"
            } else {
                "exists"
            };
            self.push(format!("tcp option {kind} {there}"));
        }
        Ok(())
    }

    /// ARP and RARP share a header; nft's names for its fields imply ARP's EtherType, so both are matched by position.
    fn arp(&mut self) -> Result<(), Problem> {
        self.ethernet()?;
        self.numeric("@nh,0,16", "hwtype", &[], 0xffff)?;
        self.numeric("@nh,16,16", "protocoltype", &[], 0xffff)?;
        self.numeric("@nh,48,16", "opcode", value::ARP_OPCODES, 0xffff)?;
        // The positions of addresses hold for these lengths alone.
        let has = |name: &&str| self.node.attributes.contains_key(*name);
        let addresses = ["arpsrcipaddr", "arpdstipaddr", "gratuitous"];
        if addresses.iter().any(has) {
            self.push("@nh,32,16 0x0604");
        } else if ["arpsrcmacaddr", "arpdstmacaddr"].iter().any(has) {
            self.push("@nh,32,8 6");
        }
        for (attribute, is_source) in [("arpsrcmacaddr", true), ("arpdstmacaddr", false)] {
            let field = self.side("@nh,64,48", "@nh,144,48", is_source);
            if let Some(mac) = self.mac(attribute)? {
                let not = self.not();
                self.push(format!("{field} {not}{:#x}", value::mac_number(mac)));
            }
        }
        let source = self.network("arpsrcipaddr", "arpsrcipmask", Version::V4)?;
        let target = self.network("arpdstipaddr", "arpdstipmask", Version::V4)?;
        for (network, is_source) in [(source, true), (target, false)] {
            let field = self.side("@nh,112,32", "@nh,192,32", is_source);
            if let Some(network) = network {
                self.push(format!(
                    "{field} {}",
                    network.matching_raw(self.node.negated)
                ));
            }
        }
        self.gratuitous(source, target)
    }

    /// A gratuitous ARP names one address twice. nft compares fields with constants only, so one of the two must be given.
    fn gratuitous(
        &mut self,
        source: Option<Network>,
        target: Option<Network>,
    ) -> Result<(), Problem> {
        let Some(text) = self.text("gratuitous")? else {
            return Ok(());
        };
        if !text.typed(value::boolean(&text.text), "yes or no")? {
            return Ok(());
        }
        let one = |network: Option<Network>| network.filter(|network| network.single().is_some());
        let (field, known) = match (one(source), one(target)) {
            (Some(known), _) => (self.side("@nh,192,32", "@nh,112,32", true), known),
            (None, Some(known)) => (self.side("@nh,112,32", "@nh,192,32", true), known),
            (None, None) => return Err(no_gratuitous()),
        };
        if self.node.negated {
            return Err(no_gratuitous());
        }
        self.push(format!("{field} {}", known.matching_raw(false)));
        Ok(())
    }

    fn stp(&mut self) -> Result<(), Problem> {
        self.push("ether daddr 01:80:c2:00:00:00");
        self.ethernet()?;
        // Positions from the LLC header on: 3 bytes of LLC, 2 of protocol, 1 of version, then the unit itself.
        self.numeric("@nh,48,8", "type", &[], 0xff)?;
        self.numeric("@nh,56,8", "flags", &[], 0xff)?;
        self.range("@nh,64,16", ("root-priority", "root-priority-hi"), 0xffff)?;
        self.bridge_address("@nh,80,48", "root-address", "root-address-mask")?;
        self.range("@nh,128,32", ("root-cost", "root-cost-hi"), 0xffff_ffff)?;
        self.range(
            "@nh,160,16",
            ("sender-priority", "sender-priority-hi"),
            0xffff,
        )?;
        self.bridge_address("@nh,176,48", "sender-address", "sender-address-mask")?;
        self.range("@nh,224,16", ("port", "port-hi"), 0xffff)?;
        self.range("@nh,240,16", ("age", "age-hi"), 0xffff)?;
        self.range("@nh,256,16", ("max-age", "max-age-hi"), 0xffff)?;
        self.range("@nh,272,16", ("hello-time", "hello-time-hi"), 0xffff)?;
        self.range("@nh,288,16", ("forward-delay", "forward-delay-hi"), 0xffff)
    }

    fn bridge_address(
        &mut self,
        field: &str,
        address: &'static str,
        mask: &'static str,
    ) -> Result<(), Problem> {
        let (address, mask) = (self.mac(address)?, self.mac(mask)?);
        let Some(address) = address else {
            return match mask {
                None => Ok(()),
                Some(_) => Err(lonely(
                    "root-address-mask or sender-address-mask",
                    "a mask is of use only beside its address",
                )),
            };
        };
        let mask = mask.unwrap_or([0xff; 6]);
        let base = value::mac_number(value::masked(address, mask));
        self.push(if mask == [0xff; 6] {
            format!("{field} {}{base:#x}", self.not())
        } else {
            let mask = value::mac_number(mask);
            format!("{field} & {mask:#x} {} {base:#x}", self.operator())
        });
        Ok(())
    }
}

fn lonely(what: &str, why: &'static str) -> Problem {
    Problem::Unsupported {
        what: what.to_owned(),
        why,
    }
}

fn no_gratuitous() -> Problem {
    lonely(
        "gratuitous",
        "nftables compares a field with constants only: give arpsrcipaddr or arpdstipaddr, one address, beside it",
    )
}
