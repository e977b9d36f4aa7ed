//! Bandwidth limits of a guest's tap.
//!
//! In: libvirt's `<bandwidth>`, in KiB a second and KiB. Out: queues in the kernel that hold traffic to it. What can go wrong: the kernel lacks the token bucket (HTB) or, for
//! what a guest sends, the device to queue it on (ifb): an error, never a limit that is not there.
//!
//! Towards the guest (inbound) packets leave through the tap: HTB is the tap's root. From the guest (outbound) they arrive on it, where nothing can be queued: a
//! filter sends them through an ifb device that belongs to the tap, and HTB is that device's root. Queueing both ways holds a rate without the losses of policing.
//!
//! ```text
//! host ──► tap: htb 1: ── class 1:1X ── fair queues ──► guest
//! host ◄── ifb: htb 1: ── class 1:1X ◄── redirect ◄── tap: ingress ffff: ◄── guest
//! ```
//!
//! Whether a peak and a burst were stated is in the class's number, so that what is read back is what was stated: 1:10, 1:11 with a peak, 1:12 with a burst, 1:13
//! with both. Changes are made by `tc`, looks are netlink dumps.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::{LinkIfb, LinkMessageBuilder, LinkUnspec};
use uuid::Uuid;

use super::netlink::{
    NetlinkError, NetlinkSocket, Request, attribute_list, attributes, text, u32_at,
};
use super::rows::LinkRow;
use super::{blocking, command, links};
use crate::execute::effect::EffectError;
use crate::resolve::domain::{Bandwidth, Rate};

const LIMIT: Duration = Duration::from_secs(20);

/// The number of our root qdisc, `1:`.
const ROOT: u32 = 0x1_0000;
/// The number of an ingress qdisc, `ffff:`.
const INGRESS: u32 = 0xffff_0000;
/// `TC_H_ROOT`.
const AT_ROOT: u32 = 0xffff_ffff;
/// The first of our classes' numbers.
const CLASS: u32 = 0x10;
const PEAK_STATED: u32 = 1;
const BURST_STATED: u32 = 2;

/// The kernel counts a burst in units of 64 ns at the class's rate, in 32 bits. Source: `PSCHED_SHIFT` of net/pkt_sched.h.
const TICK_NANOSECONDS: u128 = 64;

/// The name of the device on which what a guest sends is queued: derived from the tap's, so that it is found again.
pub fn helper_name(tap: &str) -> String {
    let digest = crate::compile::nft::Digest::of(tap);
    format!("vif{}", digest.as_str().get(..12).unwrap_or_default())
}

/// Sets a link's limits, or removes them. Limits that are as wanted are left alone; a change of a rate does not touch the queues.
///
/// # Errors
/// The link is missing or not ours; the kernel lacks a part; a value is outside what the kernel can hold.
pub async fn set(link: &str, wanted: &Bandwidth) -> Result<(), EffectError> {
    for rate in [wanted.inbound, wanted.outbound].into_iter().flatten() {
        check(link, rate)?;
    }
    let doing = format!("limit the bandwidth of {link}");
    let name = link.to_owned();
    let with_helper = wanted.outbound.is_some();
    let now = blocking({
        let doing = doing.clone();
        move || prepare(&name, with_helper, &doing)
    })
    .await?;
    let helper = helper_name(link);
    let mut script = String::new();
    shape(&mut script, link, &now.link, wanted.inbound);
    if wanted.outbound.is_some() {
        shape(&mut script, &helper, &now.helper, wanted.outbound);
        redirect(&mut script, link, &helper, &now);
    } else if now.link.ingress {
        let _ = writeln!(script, "qdisc del dev {link} ingress");
    }
    tc(&script).await.map_err(|error| {
        error.during(&doing).with_help(
            "the kernel needs sch_htb, sch_ingress, cls_u32, act_mirred and ifb; `vireo doctor` shows which it has",
        )
    })?;
    fair_queues(link, &now.link, wanted.inbound).await;
    if wanted.outbound.is_some() {
        fair_queues(&helper, &now.helper, wanted.outbound).await;
        return Ok(());
    }
    blocking(move || {
        let mut socket = links::socket()?;
        match links::look(&mut socket, &helper)? {
            Some(found) if found.kind_word == "ifb" => links::delete(&mut socket, &found),
            _ => Ok(()),
        }
    })
    .await
}

/// What there is before a change.
struct Present {
    link: Queues,
    helper: Queues,
    /// The filter leads to the helper.
    redirected: bool,
}

/// What a link has of qdiscs.
#[derive(Debug, Clone, Copy, Default)]
struct Queues {
    /// Our HTB is its root: the number of the class that everything goes to.
    class: Option<u32>,
    /// Something is its root that somebody put there.
    root: bool,
    /// It has an ingress qdisc.
    ingress: bool,
    /// The class exists, with these limits.
    rate: Option<Rate>,
}

/// Finds what is there, and makes the device for what the guest sends.
fn prepare(link: &str, with_helper: bool, doing: &str) -> Result<Present, EffectError> {
    let mut socket = links::socket()?;
    let found = links::present(&mut socket, link, doing)?;
    let owner = found.owner().unwrap_or_default();
    let helper = if with_helper {
        Some(ensure_helper(&mut socket, link, owner, doing)?)
    } else {
        None
    };
    let failed = |error: NetlinkError| links::failed(doing, &error);
    let mut queues = qdiscs(&mut socket).map_err(failed)?;
    let mut of = |row: &LinkRow| -> Result<Queues, NetlinkError> {
        let mut queues = queues.remove(&row.index).unwrap_or_default();
        queues.rate = class_rate(&mut socket, row.index, queues)?;
        Ok(queues)
    };
    let link = of(&found).map_err(failed)?;
    let helper_queues = helper.as_ref().map(&mut of).transpose().map_err(failed)?;
    let redirected = match &helper {
        Some(helper) if link.ingress => {
            redirect_target(&mut socket, found.index).map_err(failed)? == Some(helper.index)
        }
        _ => false,
    };
    Ok(Present {
        link,
        helper: helper_queues.unwrap_or_default(),
        redirected,
    })
}

fn ensure_helper(
    socket: &mut NetlinkSocket,
    link: &str,
    owner: Uuid,
    doing: &str,
) -> Result<LinkRow, EffectError> {
    let name = helper_name(link);
    if links::look(socket, &name)?.is_none() {
        let message = LinkMessageBuilder::<LinkIfb>::new(&name)
            .txqueuelen(1000)
            .build();
        let made = socket.change(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        );
        made.map_err(|error| {
            links::failed(doing, &error).with_help(
                "what a guest sends is queued on an ifb device, which this kernel does not make (`modprobe ifb`)",
            )
        })?;
    }
    let found = links::look(socket, &name)?
        .ok_or_else(|| EffectError::passing(format!("cannot {doing}: {name} vanished")))?;
    if found.kind_word != "ifb" || found.owner().is_some_and(|other| other != owner) {
        return Err(EffectError::refused(format!(
            "cannot {doing}: {name}, which would queue what the guest sends, is not ours"
        ))
        .with_help(format!("remove it (`ip link delete {name}`)")));
    }
    links::mark(socket, doing, found.index, owner)?;
    let up = LinkUnspec::new_with_index(found.index).up().build();
    links::change(socket, doing, RouteNetlinkMessage::SetLink(up), 0)?;
    Ok(found)
}

/// Appends what brings a link's root to a rate.
fn shape(script: &mut String, link: &str, now: &Queues, wanted: Option<Rate>) {
    let Some(rate) = wanted else {
        if now.root {
            let _ = writeln!(script, "qdisc del dev {link} root");
        }
        return;
    };
    if now.rate == wanted {
        return;
    }
    let class = class_of(rate);
    if now.class != Some(class) {
        if now.root {
            let _ = writeln!(script, "qdisc del dev {link} root");
        }
        let _ = writeln!(
            script,
            "qdisc add dev {link} root handle 1: htb default {class:x}"
        );
    }
    let Limits {
        rate,
        ceil,
        burst,
        cburst,
    } = Limits::of(rate);
    let _ = writeln!(
        script,
        "class replace dev {link} parent 1: classid 1:{class:x} htb rate {rate}bps ceil {ceil}bps burst {burst} cburst {cburst} quantum 60000"
    );
}

/// Appends what sends all that arrives on a link through its helper.
fn redirect(script: &mut String, link: &str, helper: &str, now: &Present) {
    if now.redirected {
        return;
    }
    if now.link.ingress {
        let _ = writeln!(script, "qdisc del dev {link} ingress");
    }
    let _ = writeln!(script, "qdisc add dev {link} handle ffff: ingress");
    let _ = writeln!(
        script,
        "filter add dev {link} parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev {helper}"
    );
}

/// Puts fair queues into a class that was made just now, where the kernel has any: with HTB's own plain queue the rate holds as well, and one flow can keep the others waiting.
async fn fair_queues(link: &str, before: &Queues, rate: Option<Rate>) {
    let Some(class) = rate
        .map(class_of)
        .filter(|class| before.class != Some(*class))
    else {
        return;
    };
    for kind in ["fq_codel", "sfq perturb 10"] {
        let line = format!("qdisc replace dev {link} parent 1:{class:x} handle 10: {kind}\n");
        if tc(&line).await.is_ok() {
            return;
        }
    }
    tracing::debug!(
        link,
        "the kernel has no fair queues: one plain queue a direction"
    );
}

async fn tc(script: &str) -> Result<(), command::CommandError> {
    if script.is_empty() {
        return Ok(());
    }
    command::run("tc", &["-batch", "-"], script, LIMIT)
        .await
        .map(drop)
}

/// What the kernel is told, in bytes and bytes a second.
struct Limits {
    rate: u64,
    ceil: u64,
    burst: u64,
    cburst: u64,
}

impl Limits {
    fn of(rate: Rate) -> Self {
        let bytes = |kib: u64| kib.saturating_mul(1024);
        let ceil = rate.peak.unwrap_or(rate.average).max(rate.average);
        let burst = rate.burst.unwrap_or_else(|| default_burst(rate.average));
        // Above the average, a burst goes at the peak; without a peak, at the wire's speed.
        let cburst = if rate.peak.is_some() {
            default_burst(ceil)
        } else {
            burst
        };
        Self {
            rate: bytes(rate.average),
            ceil: bytes(ceil),
            burst: bytes(burst),
            cburst: bytes(cburst),
        }
    }
}

/// 20 ms of the rate, and at least one large segment: KiB.
fn default_burst(average: u64) -> u64 {
    (average / 50).max(64)
}

fn class_of(rate: Rate) -> u32 {
    let peak = if rate.peak.is_some() { PEAK_STATED } else { 0 };
    let burst = if rate.burst.is_some() {
        BURST_STATED
    } else {
        0
    };
    CLASS + peak + burst
}

fn check(link: &str, rate: Rate) -> Result<(), EffectError> {
    let refuse = |why: String| Err(EffectError::refused(format!("cannot limit {link}: {why}")));
    if rate.average == 0 {
        return refuse("an average of 0 KiB/s would let nothing through".to_owned());
    }
    if rate.average > u64::MAX >> 20 || rate.peak.is_some_and(|p| p > u64::MAX >> 20) {
        return refuse(format!(
            "{} KiB/s is more than the kernel counts",
            rate.average
        ));
    }
    let burst = rate.burst.unwrap_or_else(|| default_burst(rate.average));
    let ticks = u128::from(burst) * 1_000_000_000 / u128::from(rate.average) / TICK_NANOSECONDS;
    if u32::try_from(ticks).is_err() {
        return refuse(format!(
            "a burst of {burst} KiB takes more than 274 seconds at {} KiB/s, which is more than the kernel counts",
            rate.average
        ));
    }
    Ok(())
}

/// The limits that the host shows, by link. Blocks.
///
/// # Errors
/// The kernel cannot be asked.
pub fn observe(
    socket: &mut NetlinkSocket,
    rows: &[LinkRow],
) -> Result<HashMap<u32, Bandwidth>, NetlinkError> {
    let queues = qdiscs(socket)?;
    let by_name: HashMap<&str, &LinkRow> = rows.iter().map(|r| (r.name.as_str(), r)).collect();
    let mut limits = HashMap::new();
    for row in rows.iter().filter(|row| row.owner().is_some()) {
        let Some(here) = queues.get(&row.index) else {
            continue;
        };
        let inbound = class_rate(socket, row.index, *here)?;
        let mut outbound = None;
        if here.ingress
            && let Some(helper) = by_name.get(helper_name(&row.name).as_str())
            && helper.up
            && let Some(there) = queues.get(&helper.index)
            && redirect_target(socket, row.index)? == Some(helper.index)
        {
            outbound = class_rate(socket, helper.index, *there)?;
        }
        limits.insert(row.index, Bandwidth { inbound, outbound });
    }
    Ok(limits)
}

/// `RTM_GETQDISC`, `RTM_GETTCLASS`, `RTM_GETTFILTER`. Source: linux/rtnetlink.h.
const GETQDISC: u16 = 38;
const GETCLASS: u16 = 42;
const GETFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;

/// A `struct tcmsg`.
fn request(kind: u16, link: u32, parent: u32) -> Request {
    let mut payload = vec![0; 4];
    for number in [link, 0, parent, 0] {
        payload.extend(number.to_ne_bytes());
    }
    Request { kind, payload }
}

/// The qdiscs of every link that has any that somebody put there: one dump.
fn qdiscs(socket: &mut NetlinkSocket) -> Result<HashMap<u32, Queues>, NetlinkError> {
    let rows = socket.dump(request(GETQDISC, 0, 0), |payload| {
        let link = u32_at(payload, 4)?;
        let (handle, parent) = (u32_at(payload, 8)?, u32_at(payload, 12)?);
        let all = attributes(payload.get(20..)?);
        let kind = all.get(&TCA_KIND).and_then(|v| text(v))?;
        let default = all.get(&TCA_OPTIONS).and_then(|options| {
            let glob = attributes(options);
            u32_at(glob.get(&2)?, 8)
        });
        Some((link, handle, parent, kind, default))
    })?;
    let mut queues: HashMap<u32, Queues> = HashMap::new();
    for (link, handle, parent, kind, default) in rows {
        let entry = queues.entry(link).or_default();
        if parent == AT_ROOT && handle != 0 {
            entry.root = true;
            entry.class = default.filter(|_| kind == "htb" && handle == ROOT);
        }
        entry.ingress |= handle == INGRESS;
    }
    Ok(queues)
}

/// The limits of the class that everything on a link goes to.
fn class_rate(
    socket: &mut NetlinkSocket,
    link: u32,
    queues: Queues,
) -> Result<Option<Rate>, NetlinkError> {
    let Some(class) = queues.class else {
        return Ok(None);
    };
    let classes = socket.dump(request(GETCLASS, link, 0), |payload| {
        let handle = u32_at(payload, 8)?;
        let all = attributes(payload.get(20..)?);
        let options = all.get(&TCA_OPTIONS).copied().unwrap_or(&[]);
        Some(
            (handle == ROOT | class)
                .then(|| class_limits(options))
                .flatten(),
        )
    })?;
    let found = classes.into_iter().flatten().next();
    Ok(found.map(|limits| limits.stated(class)))
}

/// Reads `struct tc_htb_opt` and the 64-bit rates beside it.
fn class_limits(options: &[u8]) -> Option<Limits> {
    let all = attributes(options);
    let parameters = all.get(&1)?;
    let wide = |kind: u16| {
        let value: [u8; 8] = (*all.get(&kind)?).try_into().ok()?;
        Some(u64::from_ne_bytes(value))
    };
    let rate = wide(6).or_else(|| u32_at(parameters, 8).map(u64::from))?;
    let ceil = wide(7).or_else(|| u32_at(parameters, 20).map(u64::from))?;
    let bytes = |ticks: u32, rate: u64| {
        let bytes = u128::from(ticks) * TICK_NANOSECONDS * u128::from(rate) / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    };
    Some(Limits {
        rate,
        ceil,
        burst: bytes(u32_at(parameters, 24)?, rate),
        cburst: bytes(u32_at(parameters, 28)?, ceil),
    })
}

impl Limits {
    /// What was stated to give these limits, in the class of that number.
    fn stated(&self, class: u32) -> Rate {
        // The kernel's units are finer than a KiB: round to the nearest.
        let kib = |bytes: u64| bytes.saturating_add(512) / 1024;
        let stated = class.wrapping_sub(CLASS);
        let mut rate = Rate {
            average: kib(self.rate),
            peak: (stated & PEAK_STATED != 0).then(|| kib(self.ceil)),
            burst: (stated & BURST_STATED != 0).then(|| kib(self.burst)),
        };
        // A value that was not stated and is not our default either was changed from outside: show it.
        let ours = Limits::of(rate);
        if rate.peak.is_none() && kib(self.ceil) != kib(ours.ceil) {
            rate.peak = Some(kib(self.ceil));
        }
        let coarse = 1 + kib(ours.burst) / 1000;
        if rate.burst.is_none() && kib(self.burst).abs_diff(kib(ours.burst)) > coarse {
            rate.burst = Some(kib(self.burst));
        }
        rate
    }
}

/// Where the first filter of a link's ingress sends its packets.
fn redirect_target(socket: &mut NetlinkSocket, link: u32) -> Result<Option<u32>, NetlinkError> {
    let targets = socket.dump(request(GETFILTER, link, INGRESS), |payload| {
        let all = attributes(payload.get(20..)?);
        let options = all.get(&TCA_OPTIONS).copied().unwrap_or(&[]);
        Some(filter_target(options))
    })?;
    Ok(targets.into_iter().flatten().next())
}

/// The link to which a u32 filter's actions redirect: `TCA_U32_ACT`, the actions by number, `mirred`'s parameters.
fn filter_target(options: &[u8]) -> Option<u32> {
    const EGRESS_REDIRECT: u32 = 1;
    let all = attributes(options);
    attribute_list(all.get(&7)?).find_map(|(_, action)| {
        let action = attributes(action);
        if text(action.get(&1)?)? != "mirred" {
            return None;
        }
        let parameters = attributes(action.get(&2)?);
        let parameters = parameters.get(&2)?;
        (u32_at(parameters, 20)? == EGRESS_REDIRECT).then(|| u32_at(parameters, 24))?
    })
}

#[cfg(test)]
mod tests;
