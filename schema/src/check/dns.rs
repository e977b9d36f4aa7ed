//! Rules on what a network's name server answers.

use super::one::Report;
use crate::network::{Dns, Srv};
use crate::rule::Rule;
use std::fmt::Arguments;

/// Every rule on name servers.
pub(super) fn check(dns: &Dns, r: &mut Report<'_>) {
    let answers = !dns.forwarders.is_empty()
        || !dns.txts.is_empty()
        || !dns.srvs.is_empty()
        || !dns.hosts.is_empty();
    if dns.enable.is_some_and(|enable| !enable.is_yes()) && answers {
        r.report(
            Rule::DnsDisabled,
            "dns/@enable",
            "there is no name server that could answer what stands here",
        );
    }
    for (i, forwarder) in dns.forwarders.iter().enumerate() {
        if forwarder.addr.is_none() && forwarder.domain.is_none() {
            r.report(
                Rule::DnsRecord,
                format_args!("dns/forwarder[{}]", i + 1),
                "a forwarder needs `addr`, `domain` or both",
            );
        }
    }
    for (i, txt) in dns.txts.iter().enumerate() {
        let path = format_args!("dns/txt[{}]", i + 1);
        let name = txt.name.as_deref().unwrap_or_default();
        if name.contains([' ', ',']) {
            r.report(
                Rule::DnsRecord,
                format_args!("{path}/@name"),
                format!("`{name}` is no name of a record: it has a space or comma"),
            );
        }
        if txt.value.is_none() {
            r.report(Rule::DnsRecord, path, "the record has no `value`");
        }
    }
    for (i, host) in dns.hosts.iter().enumerate() {
        if host.hostnames.is_empty() {
            r.report(
                Rule::DnsRecord,
                format_args!("dns/host[{}]", i + 1),
                "the address has no <hostname>",
            );
        }
    }
    for (i, srv) in dns.srvs.iter().enumerate() {
        service(srv, format_args!("dns/srv[{}]", i + 1), r);
    }
}

fn service(srv: &Srv, path: Arguments<'_>, r: &mut Report<'_>) {
    let names = [
        ("service", &srv.service, "_-+/*"),
        ("protocol", &srv.protocol, "-+/"),
    ];
    for (name, text, also) in names {
        let odd = |c: char| !c.is_ascii_alphanumeric() && !also.contains(c);
        if text.as_deref().is_some_and(|text| text.contains(odd)) {
            r.report(
                Rule::DnsRecord,
                format_args!("{path}/@{name}"),
                format!("a {name} has letters, digits and {also}"),
            );
        }
    }
    if srv.port == Some(0) {
        r.report(
            Rule::DnsRecord,
            format_args!("{path}/@port"),
            "a port is 1 to 65535",
        );
    }
    if srv.target.is_some() {
        return;
    }
    for (name, stated) in [
        ("port", srv.port.is_some()),
        ("priority", srv.priority.is_some()),
        ("weight", srv.weight.is_some()),
    ] {
        if stated {
            r.report(
                Rule::DnsRecord,
                format_args!("{path}/@{name}"),
                format!("a {name} needs a `target`"),
            );
        }
    }
}
