//! A network's DNS and DHCP to the files of its dnsmasq.
//!
//! In: a [`Network`] with its [`Dnsmasq`] part, the directory that the files will be in, and the path of the leases. Out: [`Files`]: the text of
//! `dnsmasq.conf`, `hosts` (fixed leases) and `names` (fixed names), and a digest over all three. What can go wrong: a value that would break out of its
//! line or field.
//!
//! What belongs to the process and not to the network (user, pid file, foreground) is for who starts it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::nft::Digest;
use crate::resolve::network::{DhcpHost, Dnsmasq, Forward, Forwarder, Network, Srv};

/// The file that dnsmasq is started with.
pub const CONFIGURATION: &str = "dnsmasq.conf";
/// Fixed leases, one a line.
pub const HOSTS: &str = "hosts";
/// Fixed names, as in `/etc/hosts`.
pub const NAMES: &str = "names";

/// What dnsmasq is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Contents by file name.
    pub files: BTreeMap<String, String>,
    /// Changes when any of them does.
    pub digest: Digest,
}

/// A value that cannot be given to dnsmasq.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsmasqError {
    /// A value with a character that ends its field or its line.
    #[error(
        "network {network}: cannot give {what} {value:?} to dnsmasq: it holds a character that would end it"
    )]
    Value {
        /// The network.
        network: String,
        /// What the value is.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// An address that DHCP should give out, in none of the network's subnets.
    #[error("network {network}: {address} is in none of its subnets")]
    Outside {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
    },
}

/// The files of `network`'s dnsmasq.
pub fn compile(
    network: &Network,
    dnsmasq: &Dnsmasq,
    directory: &Path,
    leases: &Path,
) -> Result<Files, DnsmasqError> {
    let mut writer = Writer {
        network,
        dnsmasq,
        conf: String::new(),
    };
    let hosts = writer.hosts()?;
    let names = writer.names()?;
    writer.link()?;
    writer.dns()?;
    writer.paths(directory, leases, !hosts.is_empty())?;
    writer.dhcp()?;
    writer.boot()?;
    writer.options()?;
    let files = BTreeMap::from([
        (CONFIGURATION.to_owned(), writer.conf),
        (HOSTS.to_owned(), hosts),
        (NAMES.to_owned(), names),
    ]);
    let mut text = String::new();
    for (name, contents) in &files {
        let _ = write!(text, "{name} {}\n{contents}", contents.len());
    }
    Ok(Files {
        digest: Digest::of(&text),
        files,
    })
}

struct Writer<'a> {
    network: &'a Network,
    dnsmasq: &'a Dnsmasq,
    conf: String,
}

impl Writer<'_> {
    fn line(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.conf, "{line}");
    }

    /// A value that stands alone on its line's end.
    fn whole<'v>(&self, what: &'static str, value: &'v str) -> Result<&'v str, DnsmasqError> {
        self.checked(what, value, value.chars().any(char::is_control))
    }

    /// A value that stands between commas or slashes.
    fn field<'v>(&self, what: &'static str, value: &'v str) -> Result<&'v str, DnsmasqError> {
        let ends =
            |c: char| c.is_control() || c.is_whitespace() || matches!(c, ',' | '/' | '#' | '"');
        self.checked(what, value, value.is_empty() || value.chars().any(ends))
    }

    fn checked<'v>(
        &self,
        what: &'static str,
        value: &'v str,
        bad: bool,
    ) -> Result<&'v str, DnsmasqError> {
        if !bad {
            return Ok(value);
        }
        Err(DnsmasqError::Value {
            network: self.network.name.clone(),
            what,
            value: value.to_owned(),
        })
    }

    fn path<'p>(&self, path: &'p Path) -> Result<std::borrow::Cow<'p, str>, DnsmasqError> {
        let text = path.to_string_lossy();
        self.whole("path", &text)?;
        Ok(text)
    }

    /// Where it listens. Nothing of the host's other links, and no loopback, so that many run side by side.
    fn link(&mut self) -> Result<(), DnsmasqError> {
        let bridge = self.field("bridge", &self.network.bridge.name)?;
        let text = format!("except-interface=lo\nbind-dynamic\ninterface={bridge}");
        self.line(text);
        if self.network.forward == Forward::Isolated {
            // No way out: no router, nothing to ask further, and no default route by advertisement.
            self.line("dhcp-option=3\nno-resolv\nra-param=*,0,0");
        }
        Ok(())
    }

    fn dns(&mut self) -> Result<(), DnsmasqError> {
        self.line("strict-order");
        if !self.dnsmasq.dns {
            self.line("port=0");
        }
        if let Some(domain) = &self.dnsmasq.domain {
            let domain = self.field("domain", domain)?;
            if self.dnsmasq.domain_local_only {
                self.line(format!("local=/{domain}/"));
            }
            self.line(format!("domain={domain}\nexpand-hosts"));
        }
        for forwarder in &self.dnsmasq.forwarders {
            let server = forwarder.address.map(|address| match forwarder.port {
                Some(port) => format!("{address}#{port}"),
                None => address.to_string(),
            });
            match (&forwarder.domain, server) {
                (Some(domain), server) => {
                    let domain = self.field("forwarder domain", domain)?;
                    let server = server.as_deref().unwrap_or("#");
                    self.line(format!("server=/{domain}/{server}"));
                }
                (None, Some(server)) => self.line(format!("server={server}")),
                (None, None) => {}
            }
        }
        let elsewhere =
            |forwarder: &Forwarder| forwarder.domain.is_none() && forwarder.address.is_some();
        if self.dnsmasq.forwarders.iter().any(elsewhere) {
            self.line("no-resolv");
        }
        for (name, value) in &self.dnsmasq.txt {
            let name = self.field("txt name", name)?;
            let value = self.whole("txt value", value)?;
            self.line(format!("txt-record={name},{value}"));
        }
        for srv in &self.dnsmasq.srv {
            let record = self.srv(srv)?;
            self.line(record);
        }
        Ok(())
    }

    fn srv(&self, srv: &Srv) -> Result<String, DnsmasqError> {
        let service = self.field("srv service", &srv.service)?;
        let protocol = self.field("srv protocol", &srv.protocol)?;
        let mut record = format!("srv-host=_{service}._{protocol}");
        if let Some(domain) = &srv.domain {
            let _ = write!(record, ".{}", self.field("srv domain", domain)?);
        }
        let Some(target) = &srv.target else {
            return Ok(record);
        };
        let _ = write!(record, ",{}", self.field("srv target", target)?);
        // Each number stands only after those before it; dnsmasq's own values fill the gaps.
        let numbers = [(srv.port, 1), (srv.priority, 0), (srv.weight, 0)];
        let stated = numbers.iter().rposition(|(number, _)| number.is_some());
        for (number, usual) in numbers.iter().take(stated.map_or(0, |last| last + 1)) {
            let _ = write!(record, ",{}", number.unwrap_or(*usual));
        }
        Ok(record)
    }

    fn paths(
        &mut self,
        directory: &Path,
        leases: &Path,
        any_hosts: bool,
    ) -> Result<(), DnsmasqError> {
        let names = self.path(&directory.join(NAMES))?.into_owned();
        self.line(format!("addn-hosts={names}"));
        if any_hosts || !self.dnsmasq.ranges.is_empty() {
            let hosts = self.path(&directory.join(HOSTS))?.into_owned();
            let leases = self.path(leases)?.into_owned();
            self.line(format!("dhcp-hostsfile={hosts}\ndhcp-leasefile={leases}"));
        }
        Ok(())
    }

    /// The subnet that an address is given out in.
    fn subnet(&self, address: IpAddr) -> Result<&IpNet, DnsmasqError> {
        self.network
            .addresses
            .iter()
            .find(|subnet| subnet.contains(&address))
            .ok_or_else(|| DnsmasqError::Outside {
                network: self.network.name.clone(),
                address,
            })
    }

    fn dhcp(&mut self) -> Result<(), DnsmasqError> {
        let mut served: Vec<&IpNet> = Vec::new();
        let mut leases = 0u128;
        let network = self.network;
        for range in &self.dnsmasq.ranges {
            let subnet = self.subnet(range.start)?;
            self.subnet(range.end)?;
            let subnet = network.addresses.iter().find(|known| *known == subnet);
            served.extend(subnet);
            let mask = subnet.map(mask).unwrap_or_default();
            let lease = lease(range.lease_seconds);
            self.line(format!(
                "dhcp-range={},{},{mask}{lease}",
                range.start, range.end
            ));
            leases = leases.saturating_add(count(range.start, range.end));
        }
        for subnet in &network.addresses {
            let fixed = self
                .dnsmasq
                .hosts
                .iter()
                .any(|host| subnet.contains(&host.ip));
            if fixed && !served.contains(&subnet) {
                // Leases for the hosts that are listed, and nobody else.
                let length = match subnet {
                    IpNet::V4(_) => String::new(),
                    IpNet::V6(subnet) => format!(",{}", subnet.prefix_len()),
                };
                self.line(format!("dhcp-range={},static{length}", subnet.addr()));
                served.push(subnet);
            }
        }
        let serves = |v6: bool| served.iter().any(|subnet| subnet.addr().is_ipv6() == v6);
        let (v4, v6) = (serves(false), serves(true));
        if v4 {
            self.line("dhcp-no-override\ndhcp-authoritative");
            if let Some(mtu) = network.bridge.mtu {
                self.line(format!("dhcp-option=option:mtu,{mtu}"));
            }
        }
        if leases > 0 {
            // dnsmasq reads a number of 32 bits with sign.
            let most = leases.min(i32::MAX as u128);
            self.line(format!("dhcp-lease-max={most}"));
        }
        if v6 {
            self.line("enable-ra");
        } else {
            for subnet in network.addresses.iter().filter(|s| s.addr().is_ipv6()) {
                self.line(format!("dhcp-range={},ra-only", subnet.addr()));
            }
        }
        Ok(())
    }

    fn boot(&mut self) -> Result<(), DnsmasqError> {
        if let Some(root) = &self.dnsmasq.tftp_root {
            let root = self.whole("tftp root", root)?;
            self.line(format!("enable-tftp\ntftp-root={root}"));
        }
        if let Some((file, server)) = &self.dnsmasq.bootp {
            let file = self.field_with_slashes("bootp file", file)?;
            match server {
                None => self.line(format!("dhcp-boot={file}")),
                Some(server) => {
                    let server = self.field("bootp server", server)?;
                    self.line(format!("dhcp-boot={file},,{server}"));
                }
            }
        }
        Ok(())
    }

    fn field_with_slashes<'v>(
        &self,
        what: &'static str,
        value: &'v str,
    ) -> Result<&'v str, DnsmasqError> {
        let ends = |c: char| c.is_control() || matches!(c, ',' | '#' | '"');
        self.checked(what, value, value.is_empty() || value.chars().any(ends))
    }

    /// Options are taken as they are: who writes a definition may say anything to the network's dnsmasq, a line at a time.
    fn options(&mut self) -> Result<(), DnsmasqError> {
        for option in &self.dnsmasq.options {
            let option = self.whole("option", option)?;
            self.line(option);
        }
        Ok(())
    }

    fn hosts(&self) -> Result<String, DnsmasqError> {
        let mut out = String::new();
        for host in &self.dnsmasq.hosts {
            self.subnet(host.ip)?;
            let _ = writeln!(out, "{}", self.host(host)?);
        }
        Ok(out)
    }

    /// Who, then which address; dnsmasq takes the name before an IPv6 address and after an IPv4 one alike, libvirt's order is kept.
    fn host(&self, host: &DhcpHost) -> Result<String, DnsmasqError> {
        let name = host
            .name
            .as_deref()
            .map(|name| self.field("host name", name))
            .transpose()?;
        let mut fields: Vec<String> = Vec::new();
        if let Some(id) = &host.id {
            fields.push(format!("id:{}", self.field("host id", id)?));
        }
        if let Some(mac) = host.mac {
            let mac: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            fields.push(mac.join(":"));
        }
        match host.ip {
            IpAddr::V4(address) => {
                fields.push(address.to_string());
                fields.extend(name.map(str::to_owned));
            }
            IpAddr::V6(address) => {
                fields.extend(name.map(str::to_owned));
                fields.push(format!("[{address}]"));
            }
        }
        Ok(fields.join(",") + &lease(host.lease_seconds))
    }

    fn names(&self) -> Result<String, DnsmasqError> {
        let mut out = String::new();
        for (address, names) in &self.dnsmasq.dns_hosts {
            let _ = write!(out, "{address}");
            for name in names {
                let _ = write!(out, "\t{}", self.field("dns host name", name)?);
            }
            out.push('\n');
        }
        Ok(out)
    }
}

fn mask(subnet: &IpNet) -> String {
    match subnet {
        IpNet::V4(subnet) => subnet.netmask().to_string(),
        IpNet::V6(subnet) => subnet.prefix_len().to_string(),
    }
}

/// The last field of a range or a host.
fn lease(seconds: Option<u64>) -> String {
    match seconds {
        None => String::new(),
        Some(0) => ",infinite".to_owned(),
        Some(seconds) => format!(",{seconds}s"),
    }
}

/// How many addresses a range has.
fn count(first: IpAddr, last: IpAddr) -> u128 {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    bits(last)
        .checked_sub(bits(first))
        .map_or(0, |gap| gap.saturating_add(1))
}

#[cfg(test)]
mod tests;
