//! `vireo get`: list objects, or show one.

use std::collections::BTreeMap;

use clap::Args;
use miette::bail;
use serde::Serialize;

use super::complaint::plain;
use super::{Common, DONE, Format, output};
use crate::controller::{Look, look};
use crate::desired::{Resolved, Wanted};
use crate::inventory::GuestState;
use crate::object::{Kind, ObjectId};
use crate::status::{self, ObjectStatus};

/// Lists the objects of a kind with what the host shows of them, or prints one object whole.
#[derive(Debug, Args)]
pub struct Get {
    /// domain, network, pool, volume, nwfilter or all
    #[arg(value_name = "KIND", value_parser = parse_kind)]
    kind: KindOrAll,
    /// The object's name or UUID; a volume's name is POOL/VOLUME
    name: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct KindOrAll(Option<Kind>);

fn parse_kind(word: &str) -> Result<KindOrAll, String> {
    let singular = word.strip_suffix('s').unwrap_or(word);
    let short = match singular {
        "all" => return Ok(KindOrAll(None)),
        "dom" | "vm" | "guest" => "domain",
        "net" => "network",
        "vol" => "volume",
        "filter" => "nwfilter",
        other => other,
    };
    let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == short);
    known.map(|kind| KindOrAll(Some(kind))).ok_or_else(|| {
        "known kinds are domain, network, pool, volume, nwfilter, secret and all".to_owned()
    })
}

/// One object for programs.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    status: &'a ObjectStatus,
    file: Option<String>,
    /// The definition, completed with every default.
    resolved: Option<&'a Resolved>,
}

impl Get {
    /// Exit status: 0 shown, 1 there is no such object.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        let look = look(&*common.host()?, &common.source())
            .await
            .map_err(|error| plain(&error))?;
        let statuses = status::of(&look.desired, &look.inventory, &look.plan, &[]);
        let chosen: Vec<&ObjectStatus> = statuses
            .iter()
            .filter(|status| self.chooses(&status.object))
            .collect();
        if let (Some(name), true) = (&self.name, chosen.is_empty()) {
            let kind = self.kind.0.map_or("object", Kind::as_str);
            bail!(
                help = "`vireo get all` lists every object",
                "there is no {kind} {name}"
            );
        }
        let shown: Vec<Shown<'_>> = chosen.iter().map(|status| show(&look, status)).collect();
        match (&self.name, shown.first()) {
            (Some(_), Some(only)) if shown.len() == 1 => match common.output {
                Format::Text => {
                    output::print(Format::Text, &(), || definition(&look, &only.status.object))?
                }
                format => output::print(format, only, String::new)?,
            },
            _ => output::print(common.output, &shown, || list(&look, &chosen))?,
        }
        Ok(DONE)
    }

    fn chooses(&self, object: &ObjectId) -> bool {
        self.kind.0.is_none_or(|kind| kind == object.kind)
            && self
                .name
                .as_ref()
                .is_none_or(|name| *name == object.name || *name == object.uuid.to_string())
    }
}

fn show<'a>(look: &'a Look, status: &'a ObjectStatus) -> Shown<'a> {
    let wanted = look.desired.objects.get(&status.object);
    Shown {
        status,
        file: wanted.map(|wanted| wanted.location.to_string()),
        resolved: wanted.map(|wanted| &wanted.resolved),
    }
}

/// The definition as it is stated, or as it last was.
fn definition(look: &Look, object: &ObjectId) -> String {
    let stated = look
        .desired
        .objects
        .get(object)
        .map(|wanted| wanted.xml.clone());
    let last = || {
        look.ledger
            .get(object)
            .map(|entry| entry.definition.clone())
    };
    stated.or_else(last).unwrap_or_default()
}

fn list(look: &Look, chosen: &[&ObjectStatus]) -> String {
    let row = |status: &&ObjectStatus| {
        let wanted = look.desired.objects.get(&status.object);
        let facts = wanted.map(|wanted| facts(look, wanted)).unwrap_or_default();
        vec![
            status.object.kind.to_string(),
            status.object.name.clone(),
            facts.get("state").cloned().unwrap_or_default(),
            status.condition.to_string(),
            facts.get("detail").cloned().unwrap_or_default(),
            wanted
                .map(|wanted| wanted.location.to_string())
                .unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = chosen.iter().map(row).collect();
    let text = output::table(
        &["KIND", "NAME", "STATE", "CONDITION", "DETAIL", "DEFINED IN"],
        &rows,
    );
    if text.is_empty() {
        "There are none.\n".to_owned()
    } else {
        text
    }
}

/// What the host shows of an object: its state in a word, and a detail.
fn facts(look: &Look, wanted: &Wanted) -> BTreeMap<&'static str, String> {
    let inventory = &look.inventory;
    let present = |is: bool| if is { "present" } else { "absent" };
    let (state, detail) = match &wanted.resolved {
        Resolved::Domain(domain) => {
            let state = match inventory.guests.get(&domain.uuid).map(|guest| &guest.state) {
                Some(GuestState::Running { pid }) => format!("running (pid {pid})"),
                Some(GuestState::Paused { pid, why: None }) => format!("paused (pid {pid})"),
                Some(GuestState::Paused {
                    pid,
                    why: Some(why),
                }) => format!("paused (pid {pid}): {why}"),
                Some(GuestState::Preserved { pid, reason }) => {
                    format!("preserved after {reason} (pid {pid})")
                }
                Some(GuestState::Ended { reason }) => format!("ended ({reason})"),
                None => "stopped".to_owned(),
            };
            let detail = format!(
                "{} vcpus, {}, {}",
                domain.vcpus.current, domain.memory.current, domain.driver
            );
            (state, detail)
        }
        Resolved::Network(network) => {
            let link = inventory.links.get(&network.bridge.name);
            let state = link.map_or("absent", |link| if link.up { "up" } else { "down" });
            let addresses: Vec<String> =
                network.addresses.iter().map(ToString::to_string).collect();
            (
                state.to_owned(),
                format!("{} {}", network.bridge.name, addresses.join(" ")),
            )
        }
        Resolved::Pool(pool) => {
            let is = inventory.directories.contains_key(&pool.path);
            (present(is).to_owned(), pool.path.display().to_string())
        }
        Resolved::Volume(volume) => {
            let file = inventory.files.get(&volume.path);
            let size = file
                .and_then(|file| file.image.as_ref())
                .map(|image| format!("{}, ", image.capacity));
            let detail = format!("{}{}", size.unwrap_or_default(), volume.format);
            (present(file.is_some()).to_owned(), detail)
        }
        Resolved::NwFilter(_) => (String::new(), String::new()),
    };
    BTreeMap::from([("state", state), ("detail", detail.trim_end().to_owned())])
}
