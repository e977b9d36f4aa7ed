//! The real host.
//!
//! In: effects and questions. Out: system calls, netlink messages and processes, by way of the modules beside this one: [`RealHost::perform`] says which effect is whose, and does
//! nothing itself. What can go wrong is theirs to say.
//!
//! A look at the host runs every collector at once, each one list a kind, so that it costs about the same for one guest and for a thousand.

use tokio::sync::OnceCell;
use uuid::Uuid;

use super::cgroup::{CgroupError, Cgroups};
use super::macvtap;
use super::netlink::{NetlinkError, NetlinkSocket};
use super::paths::Paths;
use super::reattach;
use super::tap::Attachment;
use super::{
    Host, ObserveError, addresses, blocking, directory, dnsmasq, facts, hooks, links, nft, tc,
    volume,
};
use crate::domain::Guests;
use crate::execute::effect::{Effect, EffectError};
use crate::inventory::{self, HostFacts, Interest, Inventory};
use crate::ledger::Ledger;
use crate::ledger::store::Store;
use crate::object::Kind;
use crate::resolve::Driver;

/// This machine.
pub struct RealHost {
    paths: Paths,
    store: Store,
    guests: Guests,
    cgroups: Cgroups,
    facts: OnceCell<HostFacts>,
}

impl RealHost {
    /// This machine, with these directories. Nothing is made yet.
    ///
    /// # Errors
    /// The machine's mounts cannot be read.
    pub fn new(paths: Paths) -> Result<Self, ObserveError> {
        let cgroups = Cgroups::detect().map_err(|error| ObserveError {
            what: "control groups",
            why: error.to_string(),
        })?;
        Ok(Self {
            store: Store::new(&paths.state),
            guests: Guests::new(&paths.runtime, cgroups.clone()).with_state(paths.state.clone()),
            facts: OnceCell::new(),
            cgroups,
            paths,
        })
    }

    /// Where it keeps what.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The guests' side: consoles, directories.
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// The control groups, for [`super::watch::Targets::of`].
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }
}

impl RealHost {
    /// Attaches a tap to the monitor of its guest, where one runs and has lost it.
    fn give_back(&self, guest: Uuid, tap: &str, multi_queue: bool) -> Result<(), EffectError> {
        let directory = self.guests.dir(guest);
        let (Some(monitor), Ok(Some(launch))) = (directory.process(), directory.launch()) else {
            return Ok(());
        };
        let domain = &launch.domain;
        let interfaces = domain.interfaces.iter().filter(|it| it.source.is_tap());
        let queues = |queues: Option<u32>| queues.map_or(1, |queues| queues.max(1) as usize);
        let taps: Vec<(&str, usize)> = interfaces
            .map(|it| (it.tap.as_str(), queues(it.queues)))
            .collect();
        let merges = domain.driver == Driver::Builtin
            || domain
                .interfaces
                .iter()
                .any(|it| it.tap == tap && it.model == "virtio");
        let attachment = Attachment {
            multi_queue,
            header: if merges { 12 } else { 10 },
        };
        match reattach::reattach(monitor, &taps, tap, attachment) {
            Ok(_) => Ok(()),
            // It ended meanwhile: the next plan starts it with the tap that is there.
            Err(_) if !monitor.alive() => Ok(()),
            Err(error) => Err(EffectError::passing(format!(
                "cannot give tap {tap} back to the monitor of guest {}: {error}",
                domain.name
            ))),
        }
    }
}

impl Host for RealHost {
    async fn facts(&self) -> Result<HostFacts, ObserveError> {
        let facts = self
            .facts
            .get_or_init(|| facts::probe(&self.cgroups))
            .await
            .clone();
        // What others may turn on and off, and install, is looked at each time.
        Ok(HostFacts {
            ip_forward: facts::forwarding(false),
            ip6_forward: facts::forwarding(true),
            tools: facts::tools(),
            runtime: self.paths.runtime.clone(),
            ..facts
        })
    }

    async fn ledger(&self) -> Result<Ledger, ObserveError> {
        self.store.load().map_err(|error| ObserveError {
            what: "the ledger",
            why: crate::domain::with_causes(&error),
        })
    }

    async fn observe(&self, interest: &Interest) -> Result<Inventory, ObserveError> {
        let runtime = self.paths.runtime.clone();
        let interest = interest.clone();
        let cgroups = self.cgroups.clone();
        let (host, links, tables, served, files, groups, guests) = tokio::try_join!(
            self.facts(),
            look("links", || inventory::links::observe().map_err(told)),
            look("packet filter tables", || inventory::tables::observe()
                .map_err(told)),
            look("dnsmasq", move || dnsmasq::observe(&runtime)
                .map_err(|error| error.to_string())),
            look("files", move || inventory::files::observe(&interest)
                .map_err(|error| error.why)),
            look("control groups", move || cgroups
                .collect()
                .map_err(|error| crate::domain::with_causes(&error))),
            inventory::guests::collect(&self.guests),
        )?;
        let (directories, files) = files;
        Ok(Inventory {
            host,
            links,
            tables,
            dnsmasq: served.processes,
            leases: served.leases,
            guests,
            cgroups: groups,
            directories,
            files,
        })
    }

    async fn perform(&self, effect: &Effect) -> Result<(), EffectError> {
        let runtime = &self.paths.runtime;
        match effect.clone() {
            Effect::Record(entry) => self.store.record(&entry).map_err(ledger),
            Effect::Forget(object) => {
                if object.kind == Kind::Domain {
                    self.guests.forget(object.uuid).map_err(|error| {
                        EffectError::passing(format!(
                            "cannot forget the clock of {object}: {error}"
                        ))
                    })?;
                }
                self.store.forget(&object).map_err(ledger)
            }

            Effect::EnsureBridge { bridge, owner } => {
                net(move |s| links::ensure_bridge(s, &bridge, owner)).await
            }
            Effect::AddAddress { link, address } => {
                net(move |s| addresses::add_address(s, &link, address)).await
            }
            Effect::RemoveAddress { link, address } => {
                net(move |s| addresses::remove_address(s, &link, address)).await
            }
            Effect::AddRoute { link, route } => {
                net(move |s| addresses::add_route(s, &link, &route)).await
            }
            Effect::RemoveRoute { link, route } => {
                net(move |s| addresses::remove_route(s, &link, &route)).await
            }
            Effect::SetLink { link, up } => net(move |s| links::set_link(s, &link, up)).await,
            Effect::EnsureTap {
                tap,
                owner,
                bridge,
                mtu,
                multi_queue,
            } => {
                let name = tap.clone();
                net(move |socket| {
                    let tap = links::Tap {
                        name: &tap,
                        bridge: bridge.as_deref(),
                        mtu,
                        multi_queue,
                    };
                    links::ensure_tap(socket, &tap, owner)
                })
                .await?;
                self.give_back(owner, &name, multi_queue)
            }
            Effect::EnsureMacvtap(macvtap) => {
                net(move |socket| macvtap::ensure(socket, &macvtap)).await
            }
            Effect::DeleteLink { link, owner } => {
                net(move |s| links::delete_link(s, &link, owner)).await
            }
            Effect::EnableForwarding { ipv6 } => {
                net(move |s| addresses::enable_forwarding(s, ipv6)).await
            }
            Effect::Nft(ops) => nft::apply(&ops).await,
            Effect::SetBandwidth { link, bandwidth } => tc::set(&link, &bandwidth).await,

            Effect::EnsureDnsmasq {
                network,
                bridge,
                files,
                digest,
            } => dnsmasq::ensure(runtime, network, &bridge, &files, &digest).await,
            Effect::StopDnsmasq { network } => dnsmasq::stop(runtime, network).await,

            Effect::EnsureDirectory { path, permissions } => {
                blocking(move || directory::ensure(&path, &permissions)).await
            }
            Effect::CreateVolume(volume) => volume::create(&volume).await,
            Effect::GrowVolume { path, capacity } => volume::grow(&path, capacity).await,
            Effect::SetPermissions { path, permissions } => {
                blocking(move || directory::set_permissions(&path, &permissions)).await
            }
            Effect::DeleteVolume { path } => blocking(move || volume::delete(&path)).await,

            Effect::RunHook(hook) => hooks::run(&self.paths.hooks, &hook).await,

            Effect::SetCgroup { guest, tuning } => self.cgroups.set(guest, &tuning).map_err(group),
            Effect::RemoveCgroup { guest } => self.cgroups.remove(guest).await.map_err(group),
            Effect::StartGuest(launch) => self.guests.start(&launch).await,
            Effect::ShutdownGuest {
                guest,
                driver,
                timeout,
            } => self.guests.shutdown(guest, driver, timeout).await,
            Effect::PauseGuest { guest, driver } => self.guests.pause(guest, driver).await,
            Effect::ResumeGuest { guest, driver } => self.guests.resume(guest, driver).await,
            Effect::SetGuestLink {
                guest,
                driver,
                interface,
                up,
            } => self.guests.set_link(guest, driver, interface, up).await,
            Effect::SetBalloon {
                guest,
                driver,
                size,
            } => self.guests.set_balloon(guest, driver, size).await,
            Effect::SetDiskLimits {
                guest,
                driver,
                disk,
                limits,
            } => self.guests.set_limits(guest, driver, &disk, &limits).await,
            Effect::GrowDisk {
                guest,
                driver,
                disk,
                path: _,
                capacity,
            } => {
                let capacity = volume::round_up(capacity);
                self.guests.grow_disk(guest, driver, &disk, capacity).await
            }
            Effect::RecordLaunch(launch) => self.guests.record(&launch),
            Effect::ReleaseGuest { guest } => self.guests.release(guest),
        }
    }
}

/// Runs a collector that blocks.
async fn look<T: Send + 'static>(
    what: &'static str,
    collect: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, ObserveError> {
    tokio::task::spawn_blocking(collect)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
        .map_err(|why| ObserveError { what, why })
}

/// Does something with links.
async fn net(
    work: impl FnOnce(&mut NetlinkSocket) -> Result<(), EffectError> + Send + 'static,
) -> Result<(), EffectError> {
    blocking(move || work(&mut links::socket()?)).await
}

fn told(error: NetlinkError) -> String {
    error.to_string()
}

fn ledger(error: crate::ledger::store::LedgerError) -> EffectError {
    EffectError::passing(crate::domain::with_causes(&error))
}

fn group(error: CgroupError) -> EffectError {
    let message = crate::domain::with_causes(&error);
    match error {
        CgroupError::NoController { .. } => EffectError::refused(message)
            .with_help("take the value out of the definition, or give the host the controller"),
        _ => EffectError::passing(message),
    }
}

#[cfg(test)]
mod tests;
