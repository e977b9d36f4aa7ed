//! Plans of hand-made objects, as text, and the rule that a plan leaves nothing to plan.

mod apply;
mod drivers;
pub(in crate::plan) mod make;
mod properties;
mod restart;
mod taps;
mod volumes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::desired::{Departed, Desired, Resolved, Wanted};
use crate::execute::effect::Effect;
use crate::inventory::{CgroupVersion, File, GuestState, Inventory};
use crate::ledger::Ledger;
use crate::object::Kind;
use crate::resolve::domain::{Domain, FilterRef, Rate};
use crate::resolve::limits::Limit;
use crate::resolve::storage::Permissions;
use crate::resolve::{WantedState, derived_link};
use crate::units::Bytes;

use super::step::{Disruption, Plan, Step, Verb};
use super::{plan, render};

/// A limit without bursts.
fn limit(rate: u64) -> Limit {
    Limit {
        rate,
        max: None,
        length: None,
    }
}

/// A host with its ledger, and what is wanted of it.
struct Case {
    desired: Desired,
    host: Inventory,
    ledger: Ledger,
}

impl Case {
    /// A host that has a kernel and nothing else.
    fn bare(objects: Vec<Resolved>) -> Self {
        let mut host = Inventory::default();
        host.host.bridge_ct = true;
        host.host.bridge_reject = true;
        let kernel = File {
            permissions: Permissions::default(),
            size: Bytes::mib(8),
            image: None,
        };
        host.files.insert(PathBuf::from("/boot/vmlinuz"), kernel);
        Self {
            desired: make::desired(objects),
            host,
            ledger: Ledger::default(),
        }
    }

    /// A host on which all of it has been made.
    fn made(objects: Vec<Resolved>) -> Self {
        let mut case = Self::bare(objects);
        case.settle();
        case
    }

    fn plan(&self) -> Plan {
        plan(&self.desired, &self.host, &self.ledger)
    }

    fn text(&self) -> String {
        render::plan(&self.plan(), render::Style::default())
    }

    /// Does what the plan says; afterwards nothing may be left to do.
    fn settle(&mut self) {
        let first = self.plan();
        apply::all(&first, &mut self.host, &mut self.ledger);
        let second = self.plan();
        assert_eq!(
            second.steps,
            [],
            "{}",
            render::plan(&first, render::Style::default())
        );
    }

    /// States an object anew, as an edit of its file does.
    fn edit(&mut self, change: impl FnOnce(&mut Vec<Resolved>)) {
        let mut objects: Vec<Resolved> = self
            .desired
            .objects
            .values()
            .map(|wanted| wanted.resolved.clone())
            .collect();
        let old = std::mem::take(&mut self.desired.objects);
        change(&mut objects);
        self.desired.objects = make::desired(objects).objects;
        for (id, wanted) in &mut self.desired.objects {
            if let Some(before) = old.get(id) {
                wanted.policy = before.policy.clone();
                if before.resolved != wanted.resolved {
                    wanted.previous = Some(Box::new(before.resolved.clone()));
                }
            }
        }
    }

    fn edit_guest(&mut self, change: impl FnOnce(&mut Domain)) {
        self.edit(|objects| {
            let guest = objects.iter_mut().find_map(|object| match object {
                Resolved::Domain(domain) => Some(domain),
                _ => None,
            });
            change(guest.unwrap());
        });
    }

    fn wanted(&mut self, kind: Kind, name: &str) -> &mut Wanted {
        self.desired.objects.get_mut(&make::id(kind, name)).unwrap()
    }

    /// Takes objects out of the files.
    fn remove(&mut self, names: &[(Kind, &str)]) {
        for (kind, name) in names {
            let id = make::id(*kind, name);
            self.desired.objects.remove(&id);
            self.desired.departed.insert(id, Departed::default());
        }
        self.desired.empty = self.desired.objects.is_empty();
    }
}

fn filtered() -> Vec<Resolved> {
    let mut objects = make::small();
    objects.push(Resolved::NwFilter(Box::new(make::filter("no-icmp"))));
    for object in &mut objects {
        if let Resolved::Domain(domain) = object {
            domain.interfaces[0].filter = Some(FilterRef {
                filter: "no-icmp".to_owned(),
                parameters: BTreeMap::new(),
            });
        }
    }
    objects
}

fn tap(guest: &str) -> String {
    derived_link("vif", make::uuid(Kind::Domain, guest), Some(0))
}

#[test]
fn what_is_not_there_is_created_after_what_it_needs() {
    let case = Case::bare(make::small());
    insta::assert_snapshot!(case.text(), @r"
    network default          create    nat 192.168.122.0/24 on virbr0, dhcp .2 to .254
    pool images              create    dir /images
    volume images/web.qcow2  create    10 GiB qcow2
        after pool images
    domain web               create    2 vcpus, 512 MiB, driver builtin
        it is defined, and has never run here; the builtin driver can do all of it
        after network default, volume images/web.qcow2

    4 to create. Nothing will be stopped or removed.
    ");
}

#[test]
fn applying_twice_changes_nothing() {
    let case = Case::made(filtered());
    let plan = case.plan();
    assert!(plan.is_empty(), "{}", case.text());
    assert_eq!(plan.unchanged, 5);
    assert_eq!(case.text(), "Nothing to do: 5 objects are as wanted.\n");
}

#[test]
fn every_damage_is_repaired_and_no_guest_is_stopped_for_it() {
    type Damage = (&'static str, fn(&mut Inventory));
    let web = make::uuid(Kind::Domain, "web");
    let damages: [Damage; 13] = [
        ("forwarding off", |host| host.host.ip_forward = false),
        ("balloon changed", |host| {
            for guest in host.guests.values_mut() {
                guest.balloon = Some(Bytes::mib(100));
            }
        }),
        ("limits changed", |host| {
            for guest in host.guests.values_mut() {
                for disk in guest.disks.values_mut() {
                    disk.limits.read_bytes = Some(limit(1));
                }
            }
        }),
        ("bridge removed", |host| {
            host.links.remove("virbr0");
            host.links.values_mut().for_each(|link| link.master = None);
        }),
        ("bridge down", |host| {
            host.links.get_mut("virbr0").unwrap().up = false
        }),
        ("address removed", |host| {
            host.links.get_mut("virbr0").unwrap().addresses.clear();
        }),
        ("address added", |host| {
            let link = host.links.get_mut("virbr0").unwrap();
            link.addresses.insert("10.0.0.1/8".parse().unwrap());
        }),
        ("tables gone", |host| host.tables.clear()),
        ("rules changed", |host| {
            for table in host.tables.values_mut() {
                table.chains.values_mut().for_each(|digest| *digest = None);
            }
        }),
        ("dnsmasq killed", |host| host.dnsmasq.clear()),
        ("tap removed", |host| {
            host.links.remove(&tap("web"));
        }),
        ("queue deleted", |host| {
            host.links.get_mut(&tap("web")).unwrap().bandwidth = Default::default();
        }),
        ("weight changed", |host| {
            for tuning in host.cgroups.values_mut() {
                tuning.shares = Some(7);
            }
        }),
    ];
    let mut told = String::new();
    for (name, damage) in damages {
        let mut case = Case::made(filtered());
        case.edit_guest(|guest| {
            guest.tuning.shares = Some(2048);
            guest.interfaces[0].bandwidth.inbound = Some(Rate {
                average: 1000,
                peak: None,
                burst: None,
            });
        });
        case.settle();
        let generation = case.host.guests[&web].launch.generation;
        damage(&mut case.host);
        let plan = case.plan();
        assert!(
            plan.steps.iter().all(|step| step.verb == Verb::Repair),
            "{}",
            case.text()
        );
        for step in &plan.steps {
            told.push_str(&format!("{name}: {}: {}\n", step.object, step.why));
        }
        case.settle();
        assert_eq!(case.host.guests[&web].launch.generation, generation);
    }
    insta::assert_snapshot!(told.replace(&tap("web"), "TAP"), @r"
    forwarding off: network default: IPv4 forwarding is off
    balloon changed: domain web: its balloon leaves it 100 MiB
    limits changed: domain web: the limits of disk vda are others
    bridge removed: network default: bridge virbr0 is not there
    bridge removed: domain web: TAP is not in bridge virbr0
    bridge down: network default: virbr0 is down
    address removed: network default: address 192.168.122.1/24 is not on virbr0
    address added: network default: address 10.0.0.1/8 is not stated
    tables gone: network default: its packet rules are not those that were written
    tables gone: domain web: its packet rules are not those that are wanted
    rules changed: network default: its packet rules are not those that were written
    rules changed: domain web: its packet rules are not those that are wanted
    dnsmasq killed: network default: its dnsmasq does not run
    tap removed: domain web: tap TAP is gone; the bandwidth limits of TAP are others
    queue deleted: domain web: the bandwidth limits of TAP are others
    weight changed: domain web: its control group's values are others
    ");
}

#[test]
fn a_limit_that_is_the_kernels_default_is_shown_by_nothing_and_needs_no_repair() {
    let mut case = Case::made(filtered());
    case.host.host.cgroup = CgroupVersion::V2;
    case.edit_guest(|guest| {
        guest.tuning.shares = Some(100);
        guest.tuning.period = Some(100_000);
    });
    case.settle();
    for tuning in case.host.cgroups.values_mut() {
        (tuning.shares, tuning.period) = (None, None);
    }
    assert!(case.plan().steps.is_empty(), "{}", case.text());
}

#[test]
fn a_guest_that_ended_is_started_again_and_the_plan_says_how_it_ended() {
    let web = make::uuid(Kind::Domain, "web");
    for reason in ["power-off", "killed", "crash"] {
        let mut case = Case::made(make::small());
        case.host.guests.get_mut(&web).unwrap().state = GuestState::Ended {
            reason: reason.to_owned(),
        };
        let before = case.host.guests[&web].launch.generation;
        let plan = case.plan();
        assert_eq!(plan.steps[0].verb, Verb::Start);
        assert!(plan.steps[0].why.contains("its policy wants it running"));
        case.settle();
        assert_ne!(case.host.guests[&web].launch.generation, before);
    }
}

#[test]
fn a_live_change_is_written_and_what_needs_a_restart_waits() {
    let mut case = Case::made(make::small());
    case.edit_guest(|guest| {
        guest.tuning.shares = Some(2048);
        guest.memory.maximum = Bytes::gib(1);
    });
    insta::assert_snapshot!(case.text(), @r"
    domain web  change    live
        cputune/shares  + <shares>2048</shares>
        the weight is written to the running guest's control group
    domain web  pending   needs restart, allowed: live
        memory  - <memory>512 MiB</memory>
                + <memory>1 GiB</memory>
        a guest is built with it when it starts; allow it with `policy: {disruption: restart}`, or run `vireo restart web`

    1 to change live, 1 waits for leave. Nothing will be stopped or removed.
    ");
    case.settle();
    let plan = case.plan();
    assert_eq!((plan.steps.len(), plan.pending.len()), (0, 1));
    case.wanted(Kind::Domain, "web").policy.disruption = Disruption::Restart;
    assert_eq!(case.plan().steps[0].verb, Verb::Restart);
    case.settle();
    assert!(case.plan().is_empty());
}

#[test]
fn a_changed_filter_is_one_transaction_over_all_that_use_it() {
    let mut objects = filtered();
    let Some(Resolved::Domain(web)) = objects
        .iter()
        .find(|o| matches!(o, Resolved::Domain(_)))
        .cloned()
    else {
        panic!("a guest");
    };
    let mut db = make::domain("db");
    db.interfaces[0].filter = web.interfaces[0].filter.clone();
    db.disks.clear();
    objects.push(Resolved::Domain(Box::new(db)));
    let mut case = Case::made(objects);
    case.edit(|objects| {
        for object in objects {
            if let Resolved::NwFilter(filter) = object {
                filter.entries.push(filter.entries[0].clone());
            }
        }
    });
    let plan = case.plan();
    assert_eq!(plan.steps.len(), 1, "{}", case.text());
    let transactions = plan.steps[0].effects.iter();
    assert_eq!(
        transactions.filter(|e| matches!(e, Effect::Nft(_))).count(),
        1
    );
    assert!(
        plan.steps[0].why.contains("2 interfaces"),
        "{}",
        plan.steps[0].why
    );
    case.settle();
}

#[test]
fn a_filter_taken_from_an_interface_leaves_no_rules() {
    let mut case = Case::made(filtered());
    case.edit_guest(|guest| guest.interfaces[0].filter = None);
    case.settle();
    let table = case
        .host
        .tables
        .get(&crate::compile::nft::TableName::filters())
        .unwrap();
    assert!(
        table.elements.is_empty() && table.chains.is_empty(),
        "{table:?}"
    );
}

#[test]
fn a_link_that_is_not_ours_is_left_alone() {
    let mut case = Case::made(make::small());
    case.host.links.get_mut("virbr0").unwrap().owner = None;
    let plan = case.plan();
    assert_eq!(plan.steps, []);
    assert_eq!(plan.refusals[0].rule, "not-ours");
}

#[test]
fn removal_goes_guest_first_and_keeps_data() {
    let mut case = Case::made(filtered());
    case.remove(&[
        (Kind::Domain, "web"),
        (Kind::Network, "default"),
        (Kind::Volume, "images/web.qcow2"),
        (Kind::Pool, "images"),
        (Kind::NwFilter, "no-icmp"),
    ]);
    insta::assert_snapshot!(case.text().split("This waits").next().unwrap_or_default(), @r"
    domain web               delete    it is asked to shut down, and ended after 60 s
        it is in no file any more
    network default          delete    bridge virbr0 goes
        it is in no file any more
        after domain web
    volume images/web.qcow2  release   /images/web.qcow2 stays
        it is in no file any more
        after domain web
    pool images              release   /images stays
        it is in no file any more
        after volume images/web.qcow2
    nwfilter no-icmp         delete
        it is in no file any more
        after domain web

    3 to delete, 2 to release.
    ");
    case.settle_departed();
    assert!(case.host.files.contains_key(Path::new("/images/web.qcow2")));
    assert!(case.host.guests.is_empty() && case.host.links.is_empty());
    assert!(case.ledger.entries.is_empty());
    assert!(
        case.host
            .tables
            .values()
            .all(|t| t.chains.is_empty() && t.elements.is_empty())
    );
}

impl Case {
    /// Does what the plan says; what was removed is then in no ledger, and so departed no more.
    fn settle_departed(&mut self) {
        let first = self.plan();
        apply::all(&first, &mut self.host, &mut self.ledger);
        let ledger = &self.ledger;
        self.desired
            .departed
            .retain(|id, _| ledger.get(id).is_some());
        assert_eq!(self.plan().steps, []);
    }
}

#[test]
fn what_is_protected_is_never_removed() {
    let mut case = Case::made(make::small());
    case.remove(&[(Kind::Domain, "web")]);
    for departed in case.desired.departed.values_mut() {
        departed.protect = true;
    }
    assert_eq!(case.plan().steps, []);
    assert_eq!(case.plan().held.len(), 1);
}

#[test]
fn a_mass_removal_waits_for_a_confirmation_that_names_the_plan() {
    let mut case = Case::made(make::small());
    case.remove(&[(Kind::Domain, "web")]);
    assert_eq!(case.plan().confirm, None);
    case.remove(&[(Kind::Volume, "images/web.qcow2")]);
    assert_eq!(
        case.plan().confirm.as_deref(),
        Some("it would remove 2 of 4 objects")
    );
    let digest = case.plan().digest();
    assert_eq!(digest, case.plan().digest());
    assert!(case.text().contains(&digest));
    case.remove(&[(Kind::Pool, "images")]);
    assert_ne!(case.plan().digest(), digest);
}

#[test]
fn a_network_change_that_would_cut_guests_off_waits_and_the_old_one_is_kept_true() {
    let mut case = Case::made(make::small());
    case.edit(|objects| {
        for object in objects {
            if let Resolved::Network(network) = object {
                network.addresses = vec!["10.1.0.1/24".parse().unwrap()];
                network.dnsmasq = None;
            }
        }
    });
    assert_eq!(
        case.plan().pending[0].why,
        "address 192.168.122.1/24 would go, and web would be cut off; allow it with `policy: {disruption: restart}`"
    );
    assert_eq!(case.plan().steps, []);
    case.host.dnsmasq.clear();
    assert_eq!(case.plan().steps[0].verb, Verb::Repair);
    case.wanted(Kind::Network, "default").policy.disruption = Disruption::Restart;
    case.settle();
    assert!(case.plan().is_empty());
}

#[test]
fn a_guest_that_nobody_knows_is_told_of_and_left_alone() {
    let mut case = Case::made(make::small());
    let id = make::id(Kind::Domain, "web");
    case.desired.objects.remove(&id);
    case.ledger.forget(&id);
    let plan = case.plan();
    assert_eq!(plan.steps, []);
    assert_eq!(plan.refusals[0].rule, "orphan");
}

#[test]
fn a_suspended_object_is_not_touched() {
    let mut case = Case::made(make::small());
    case.wanted(Kind::Network, "default").policy.suspend = true;
    case.host.dnsmasq.clear();
    assert_eq!(case.plan().steps, []);
    assert_eq!(case.plan().held[0].why, "suspended by its policy");
}

#[test]
fn planning_costs_grow_with_the_number_of_objects_only() {
    let objects = |n: usize| -> Vec<Resolved> {
        let mut objects = make::small();
        objects
            .extend((0..n).map(|n| Resolved::Domain(Box::new(make::domain(&format!("guest{n}"))))));
        objects
    };
    let time = |n| {
        let case = Case::made(objects(n));
        // The best of several: what else the machine does can only add to it.
        let once = || {
            let start = std::time::Instant::now();
            assert!(case.plan().is_empty());
            start.elapsed()
        };
        (0..4).map(|_| once()).min().unwrap_or_default()
    };
    let (small, large) = (time(200), time(2000));
    eprintln!("planning with nothing to do: 200 guests {small:?}, 2000 guests {large:?}");
    assert!(large < small * 40, "{small:?} {large:?}");
}
