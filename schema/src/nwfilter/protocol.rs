//! The conditions a rule may state, one type for each layout of headers.
//!
//! Every condition may be turned round by `match='no'` and carry a comment. Ethernet's own (`mac`, `vlan`, `stp`, `arp`, `rarp`, `ip`, `ipv6`) are judged before
//! those of IP's layer (`tcp`, `all`, `icmpv6`, …), and a packet must pass both.

use super::value::{
    ArpOpcodes, Bits, Comment, ConnStates, EtherTypes, IpMask, IpProtocols, IpSetFlags, IpSetName,
    Mac, Named, TcpFlags, Var, VlanTypes,
};
use crate::scalar::{MacAddr, YesNo};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Eight bits.
pub type U8 = Var<Bits<0xff>>;
/// Sixteen bits.
pub type U16 = Var<Bits<0xffff>>;
/// Thirty-two bits.
pub type U32 = Var<Bits<0xffff_ffff>>;
/// A class of service: six bits.
pub type Dscp = Var<Bits<63>>;
/// A VLAN's number: twelve bits.
pub type VlanId = Var<Bits<0xfff>>;

union! {
    /// One condition of a rule.
    pub enum Protocol {
        /// Ethernet's header.
        Mac "mac": MacMatch,
        /// A VLAN's tag.
        Vlan "vlan": VlanMatch,
        /// Spanning tree.
        Stp "stp": StpMatch,
        /// Address resolution.
        Arp "arp": ArpMatch,
        /// Reverse address resolution.
        Rarp "rarp": ArpMatch,
        /// IPv4, at Ethernet's layer.
        Ip "ip": IpMatch,
        /// IPv6, at Ethernet's layer.
        Ipv6 "ipv6": Ipv6Match,
        /// TCP over IPv4.
        Tcp "tcp": TcpMatch,
        /// UDP over IPv4.
        Udp "udp": PortMatch,
        /// UDP-Lite over IPv4.
        UdpLite "udplite": PlainMatch,
        /// ESP over IPv4.
        Esp "esp": PlainMatch,
        /// AH over IPv4.
        Ah "ah": PlainMatch,
        /// SCTP over IPv4.
        Sctp "sctp": PortMatch,
        /// ICMP.
        Icmp "icmp": IcmpMatch,
        /// IGMP.
        Igmp "igmp": PlainMatch,
        /// All of IPv4.
        All "all": PlainMatch,
        /// TCP over IPv6.
        TcpIpv6 "tcp-ipv6": TcpMatch6,
        /// UDP over IPv6.
        UdpIpv6 "udp-ipv6": PortMatch6,
        /// UDP-Lite over IPv6.
        UdpLiteIpv6 "udplite-ipv6": PlainMatch6,
        /// ESP over IPv6.
        EspIpv6 "esp-ipv6": PlainMatch6,
        /// AH over IPv6.
        AhIpv6 "ah-ipv6": PlainMatch6,
        /// SCTP over IPv6.
        SctpIpv6 "sctp-ipv6": PortMatch6,
        /// ICMPv6.
        Icmpv6 "icmpv6": IcmpMatch6,
        /// All of IPv6.
        AllIpv6 "all-ipv6": PlainMatch6,
    }
}

impl Protocol {
    /// Whether it is judged at Ethernet's layer, before those of IP's.
    pub fn is_ethernet(&self) -> bool {
        matches!(
            self,
            Self::Mac(_)
                | Self::Vlan(_)
                | Self::Stp(_)
                | Self::Arp(_)
                | Self::Rarp(_)
                | Self::Ip(_)
                | Self::Ipv6(_)
        )
    }
}

/// Fields of an element, with those of Ethernet's addresses put before.
macro_rules! ethernet {
    ($(#[doc = $doc:expr])* $type:ident { $($rest:tt)* }) => {
        element! {
            $(#[doc = $doc])*
            pub struct $type {
                /// `no` turns the condition round.
                attr "match" matches: YesNo,
                /// The sender's Ethernet address.
                attr "srcmacaddr" srcmacaddr: Mac,
                /// Which bits of it count.
                attr "srcmacmask" srcmacmask: Mac,
                /// The receiver's Ethernet address.
                attr "dstmacaddr" dstmacaddr: Mac,
                /// Which bits of it count.
                attr "dstmacmask" dstmacmask: Mac,
                /// A comment.
                attr "comment" comment: Comment,
                $($rest)*
            }
        }
    };
}

/// Fields of an element, with those of a condition at IP's layer put before.
macro_rules! layer3 {
    ($(#[doc = $doc:expr])* $type:ident, $address:ty, $v6:literal { $($rest:tt)* }) => {
        element! {
            $(#[doc = $doc])*
            pub struct $type {
                /// `no` turns the condition round.
                attr "match" matches: YesNo,
                /// The sender's Ethernet address.
                attr "srcmacaddr" srcmacaddr: Mac,
                /// The sender.
                attr "srcipaddr" srcipaddr: Var<$address>,
                /// Which bits of it count.
                attr "srcipmask" srcipmask: Var<IpMask<$v6>>,
                /// The receiver.
                attr "dstipaddr" dstipaddr: Var<$address>,
                /// Which bits of it count.
                attr "dstipmask" dstipmask: Var<IpMask<$v6>>,
                /// The first of a range of senders.
                attr "srcipfrom" srcipfrom: Var<$address>,
                /// The last of them.
                attr "srcipto" srcipto: Var<$address>,
                /// The first of a range of receivers.
                attr "dstipfrom" dstipfrom: Var<$address>,
                /// The last of them.
                attr "dstipto" dstipto: Var<$address>,
                /// The class of service, 0 to 63.
                attr "dscp" dscp: Dscp,
                /// More connections than this at once.
                attr "connlimit-above" connlimit_above: U16,
                /// States of the connection.
                attr "state" state: Var<ConnStates>,
                /// A set that an address must be in.
                attr "ipset" ipset: Var<IpSetName>,
                /// Which addresses are looked up in it.
                attr "ipsetflags" ipsetflags: Var<IpSetFlags>,
                /// A comment.
                attr "comment" comment: Comment,
                $($rest)*
            }
        }
    };
}

/// The same with ports.
macro_rules! with_ports {
    ($(#[doc = $doc:expr])* $type:ident, $address:ty, $v6:literal { $($rest:tt)* }) => {
        layer3! {
            $(#[doc = $doc])*
            $type, $address, $v6 {
                /// The first of the sender's ports.
                attr "srcportstart" srcportstart: U16,
                /// The last of them; the first where not stated.
                attr "srcportend" srcportend: U16,
                /// The first of the receiver's ports.
                attr "dstportstart" dstportstart: U16,
                /// The last of them; the first where not stated.
                attr "dstportend" dstportend: U16,
                $($rest)*
            }
        }
    };
}

ethernet! {
    /// Ethernet's header.
    MacMatch {
        /// The protocol above.
        attr "protocolid" protocolid: Var<Named<EtherTypes>>,
    }
}

ethernet! {
    /// A VLAN's tag.
    VlanMatch {
        /// The VLAN's number, 0 to 4095.
        attr "vlanid" vlanid: VlanId,
        /// The protocol inside.
        attr "encap-protocol" encap_protocol: Var<Named<VlanTypes>>,
    }
}

element! {
    /// Spanning tree.
    pub struct StpMatch {
        /// `no` turns the condition round.
        attr "match" matches: YesNo,
        /// The sender's Ethernet address.
        attr "srcmacaddr" srcmacaddr: Mac,
        /// Which bits of it count.
        attr "srcmacmask" srcmacmask: Mac,
        /// The type of message.
        attr "type" kind: U8,
        /// Its flags.
        attr "flags" flags: U8,
        /// The root's priority.
        attr "root-priority" root_priority: U16,
        /// The end of a range of it.
        attr "root-priority-hi" root_priority_hi: U16,
        /// The root's address.
        attr "root-address" root_address: Mac,
        /// Which bits of it count.
        attr "root-address-mask" root_address_mask: Mac,
        /// The cost to the root.
        attr "root-cost" root_cost: U32,
        /// The end of a range of it.
        attr "root-cost-hi" root_cost_hi: U32,
        /// The sender's priority.
        attr "sender-priority" sender_priority: U16,
        /// The end of a range of it.
        attr "sender-priority-hi" sender_priority_hi: U16,
        /// The sender's address.
        attr "sender-address" sender_address: Mac,
        /// Which bits of it count.
        attr "sender-address-mask" sender_address_mask: Mac,
        /// The port.
        attr "port" port: U16,
        /// The end of a range of it.
        attr "port-hi" port_hi: U16,
        /// The message's age.
        attr "age" age: U16,
        /// The end of a range of it.
        attr "age-hi" age_hi: U16,
        /// The greatest age.
        attr "max-age" max_age: U16,
        /// The end of a range of it.
        attr "max-age-hi" max_age_hi: U16,
        /// The time between greetings.
        attr "hello-time" hello_time: U16,
        /// The end of a range of it.
        attr "hello-time-hi" hello_time_hi: U16,
        /// The delay of forwarding.
        attr "forward-delay" forward_delay: U16,
        /// The end of a range of it.
        attr "forward-delay-hi" forward_delay_hi: U16,
        /// A comment.
        attr "comment" comment: Comment,
    }
}

ethernet! {
    /// Address resolution, and reverse address resolution.
    ArpMatch {
        /// The type of hardware.
        attr "hwtype" hwtype: U16,
        /// The protocol whose addresses are resolved.
        attr "protocoltype" protocoltype: U16,
        /// What the packet is about.
        attr "opcode" opcode: Var<Named<ArpOpcodes>>,
        /// The sender's Ethernet address inside.
        attr "arpsrcmacaddr" arpsrcmacaddr: Mac,
        /// The target's Ethernet address inside.
        attr "arpdstmacaddr" arpdstmacaddr: Mac,
        /// The sender's IP address inside.
        attr "arpsrcipaddr" arpsrcipaddr: Var<Ipv4Addr>,
        /// Which bits of it count.
        attr "arpsrcipmask" arpsrcipmask: Var<IpMask<false>>,
        /// The target's IP address inside.
        attr "arpdstipaddr" arpdstipaddr: Var<Ipv4Addr>,
        /// Which bits of it count.
        attr "arpdstipmask" arpdstipmask: Var<IpMask<false>>,
        /// Whether it announces an address nobody asked for.
        attr "gratuitous" gratuitous: GratuitousArp,
    }
}

choice! {
    /// Whether an ARP packet is gratuitous.
    pub enum GratuitousArp { Yes = "yes", No = "no", True = "true", False = "false", One = "1", Zero = "0" }
}

impl GratuitousArp {
    /// Whether it is.
    pub fn is_yes(self) -> bool {
        matches!(self, Self::Yes | Self::True | Self::One)
    }
}

ethernet! {
    /// IPv4, at Ethernet's layer.
    IpMatch {
        /// The sender.
        attr "srcipaddr" srcipaddr: Var<Ipv4Addr>,
        /// Which bits of it count.
        attr "srcipmask" srcipmask: Var<IpMask<false>>,
        /// The receiver.
        attr "dstipaddr" dstipaddr: Var<Ipv4Addr>,
        /// Which bits of it count.
        attr "dstipmask" dstipmask: Var<IpMask<false>>,
        /// The protocol above.
        attr "protocol" protocol: Var<Named<IpProtocols>>,
        /// The first of the sender's ports.
        attr "srcportstart" srcportstart: U16,
        /// The last of them.
        attr "srcportend" srcportend: U16,
        /// The first of the receiver's ports.
        attr "dstportstart" dstportstart: U16,
        /// The last of them.
        attr "dstportend" dstportend: U16,
        /// The class of service, 0 to 63.
        attr "dscp" dscp: Dscp,
    }
}

ethernet! {
    /// IPv6, at Ethernet's layer.
    Ipv6Match {
        /// The sender.
        attr "srcipaddr" srcipaddr: Var<Ipv6Addr>,
        /// Which bits of it count.
        attr "srcipmask" srcipmask: Var<IpMask<true>>,
        /// The receiver.
        attr "dstipaddr" dstipaddr: Var<Ipv6Addr>,
        /// Which bits of it count.
        attr "dstipmask" dstipmask: Var<IpMask<true>>,
        /// The protocol above.
        attr "protocol" protocol: Var<Named<IpProtocols>>,
        /// The first of the sender's ports.
        attr "srcportstart" srcportstart: U16,
        /// The last of them.
        attr "srcportend" srcportend: U16,
        /// The first of the receiver's ports.
        attr "dstportstart" dstportstart: U16,
        /// The last of them.
        attr "dstportend" dstportend: U16,
        /// The type of ICMPv6.
        attr "type" kind: U8,
        /// The end of a range of it.
        attr "typeend" kind_end: U8,
        /// The code of ICMPv6.
        attr "code" code: U8,
        /// The end of a range of it.
        attr "codeend" code_end: U8,
    }
}

layer3! {
    /// A protocol over IPv4 whose own header is not looked at.
    PlainMatch, Ipv4Addr, false {
        /// The receiver's Ethernet address.
        attr "dstmacaddr" dstmacaddr: Var<MacAddr>,
    }
}

layer3! {
    /// A protocol over IPv6 whose own header is not looked at.
    PlainMatch6, Ipv6Addr, true {
        /// The receiver's Ethernet address.
        attr "dstmacaddr" dstmacaddr: Var<MacAddr>,
    }
}

with_ports! {
    /// A protocol with ports over IPv4.
    PortMatch, Ipv4Addr, false {
        /// The receiver's Ethernet address.
        attr "dstmacaddr" dstmacaddr: Var<MacAddr>,
    }
}

with_ports! {
    /// A protocol with ports over IPv6.
    PortMatch6, Ipv6Addr, true {
        /// The receiver's Ethernet address.
        attr "dstmacaddr" dstmacaddr: Var<MacAddr>,
    }
}

with_ports! {
    /// TCP over IPv4.
    TcpMatch, Ipv4Addr, false {
        /// The receiver's Ethernet address.
        attr "dstmacaddr" dstmacaddr: Var<MacAddr>,
        /// Flags of TCP.
        attr "flags" flags: Var<TcpFlags>,
        /// An option of TCP that must be there.
        attr "option" option: U8,
    }
}

with_ports! {
    /// TCP over IPv6.
    TcpMatch6, Ipv6Addr, true {
        /// The receiver's Ethernet address.
        attr "dstmacaddr" dstmacaddr: Var<MacAddr>,
        /// Flags of TCP.
        attr "flags" flags: Var<TcpFlags>,
        /// An option of TCP that must be there.
        attr "option" option: U8,
    }
}

layer3! {
    /// ICMP.
    IcmpMatch, Ipv4Addr, false {
        /// The type of message.
        attr "type" kind: U8,
        /// The message's code.
        attr "code" code: U8,
        /// The receiver's Ethernet address.
        attr "dstmacaddr" dstmacaddr: Var<MacAddr>,
    }
}

layer3! {
    /// ICMPv6.
    IcmpMatch6, Ipv6Addr, true {
        /// The type of message.
        attr "type" kind: U8,
        /// The message's code.
        attr "code" code: U8,
        /// The receiver's Ethernet address.
        attr "dstmacaddr" dstmacaddr: Var<MacAddr>,
    }
}
