//! From documents to [`Desired`].
//!
//! Each object has up to two definitions: the one in the files and the last good one in the ledger. The one in the files is taken when it is whole; otherwise, for an object that we
//! own, the last good one stands in, so that what cannot be read or resolved is kept and repaired as it was. Kinds are resolved in the order in which they refer to each other.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use vireo_schema::{Definition, Diagnostic, Document, Located, Rule, Source};

use super::{Departed, Desired, Fields, Policy, Resolved, Wanted, references};
use crate::compile::filter::lower;
use crate::inventory::HostFacts;
use crate::ledger::{Entry, Ledger};
use crate::object::{Kind, ObjectId};
use crate::plan::step::{Disruption, Held, Location, Refusal};
use crate::resolve::Driver;
use crate::resolve::from::{self, Resolving, Surroundings, place};
use crate::resolve::network::Forward;

impl Desired {
    /// What the documents want, where the ledger's last good definitions stand in for what is broken.
    pub fn build<D: Borrow<Document>>(documents: &[D], ledger: &Ledger, facts: &HostFacts) -> Self {
        let mut build = Build {
            desired: Desired {
                empty: is_empty(documents),
                ..Desired::default()
            },
            around: Surroundings {
                facts: facts.clone(),
                ..Surroundings::default()
            },
            ledger,
            last_good: LastGood::default(),
            names: BTreeMap::new(),
        };
        let mut claims = build.claims(documents);
        build.hold_broken(documents, &mut claims);
        build.name(&claims);
        for kind in Kind::ALL {
            for batch in batches(claims.values().filter(|claim| claim.id.kind == kind)) {
                let stated: Vec<Option<Result<Wanted, Vec<Refusal>>>> = batch
                    .par_iter()
                    .map(|claim| Some(build.wanted(&claim.id, claim.stated?)))
                    .collect();
                for (claim, stated) in batch.into_iter().zip(stated) {
                    build.settle(claim, stated);
                }
            }
        }
        build.refuse_contested_images();
        build.depart();
        build.desired
    }
}

/// An object that somebody defines, with what is known of it.
struct Claim<'a> {
    id: ObjectId,
    /// Its definition in the files, unless that is broken or claimed twice.
    stated: Option<&'a Located>,
    /// Why the last good definition stands in, if it does.
    held: Option<String>,
}

/// Last good definitions, read when they are needed.
#[derive(Default)]
struct LastGood {
    read: BTreeMap<ObjectId, Option<Arc<Document>>>,
}

impl LastGood {
    fn of(&mut self, entry: &Entry) -> Option<Arc<Document>> {
        let read = || {
            let source = Source::new(entry.file.with_extension("xml"), entry.definition.clone());
            let document = vireo_schema::read(&Arc::new(source));
            (document.definitions.len() == 1).then(|| Arc::new(document))
        };
        self.read
            .entry(entry.object.clone())
            .or_insert_with(read)
            .clone()
    }
}

struct Build<'a> {
    desired: Desired,
    around: Surroundings,
    ledger: &'a Ledger,
    last_good: LastGood,
    names: BTreeMap<(Kind, String), ObjectId>,
}

fn is_empty<D: Borrow<Document>>(documents: &[D]) -> bool {
    documents
        .iter()
        .map(Borrow::borrow)
        .all(|document| document.definitions.is_empty() && document.broken.is_empty())
}

/// The object that a definition states; a record states none.
fn object(definition: &Definition) -> Option<ObjectId> {
    Some(ObjectId::new(
        kind(definition.kind())?,
        definition.uuid(),
        definition.name(),
    ))
}

/// The kind of object that a kind of document states, unless that is a record of what was.
fn kind(kind: vireo_schema::Kind) -> Option<Kind> {
    match kind {
        vireo_schema::Kind::Domain => Some(Kind::Domain),
        vireo_schema::Kind::Network => Some(Kind::Network),
        vireo_schema::Kind::Pool => Some(Kind::Pool),
        vireo_schema::Kind::Volume => Some(Kind::Volume),
        vireo_schema::Kind::NwFilter => Some(Kind::NwFilter),
        vireo_schema::Kind::Secret => Some(Kind::Secret),
        vireo_schema::Kind::DomainSnapshot
        | vireo_schema::Kind::DomainCheckpoint
        | vireo_schema::Kind::NetworkPort
        | vireo_schema::Kind::NwFilterBinding => None,
    }
}

/// What may be resolved side by side: everything that refers to no other of its kind, then one at a time each volume with a backing file.
fn batches<'c, 'a>(claims: impl Iterator<Item = &'c Claim<'a>>) -> Vec<Vec<&'c Claim<'a>>> {
    let layered = |claim: &&Claim<'_>| {
        let definition = claim.stated.map(|located| &located.definition);
        matches!(definition, Some(Definition::Volume(volume)) if volume.backing_store.is_some())
    };
    let (layers, plain): (Vec<_>, Vec<_>) = claims.partition(layered);
    std::iter::once(plain)
        .chain(layers.into_iter().map(|layer| vec![layer]))
        .collect()
}

impl Build<'_> {
    /// Every object that is stated, once. What is claimed twice is claimed by nobody.
    fn claims<'d, D: Borrow<Document>>(
        &mut self,
        documents: &'d [D],
    ) -> BTreeMap<ObjectId, Claim<'d>> {
        for document in documents.iter().map(Borrow::borrow) {
            for problem in &document.problems {
                self.desired
                    .problems
                    .push(refusal(&document.source, problem, None));
            }
        }
        let all: Vec<(ObjectId, &Located)> = documents
            .iter()
            .flat_map(|document| &document.borrow().definitions)
            .filter_map(|located| Some((object(&located.definition)?, located)))
            .collect();
        let mut contested = BTreeSet::new();
        for (source, problem) in vireo_schema::check(documents) {
            let inside = |(_, located): &&(ObjectId, &Located)| {
                Arc::ptr_eq(&located.source, &source)
                    && located.span.start <= problem.span.start
                    && problem.span.start <= located.span.end
            };
            let id = all.iter().find(inside).map(|(id, _)| id.clone());
            // References are judged when they are resolved, where it is also known which object suffers.
            if problem.rule == vireo_schema::Rule::UnknownReference
                && id.as_ref().is_none_or(|id| id.kind != Kind::NwFilter)
            {
                continue;
            }
            contested.extend(id.clone());
            self.desired.problems.push(refusal(&source, &problem, id));
        }
        let broken = documents
            .iter()
            .map(Borrow::borrow)
            .flat_map(|document| document.broken.iter().map(move |broken| (document, broken)));
        for (document, broken) in broken {
            if let (Some(of), Some(name)) = (broken.kind.and_then(kind), &broken.name) {
                let place = place(&document.source, broken.span.start).to_string();
                self.around.refused.insert((of, name.clone()), place);
            }
        }
        let mut claims = BTreeMap::new();
        for (id, located) in all {
            if contested.contains(&id) {
                let place = place(&located.source, located.span.start).to_string();
                let name = (id.kind, id.name.clone());
                self.around.refused.entry(name).or_insert(place);
            }
            let held = contested
                .contains(&id)
                .then(|| format!("{} has a problem", located.source.path.display()));
            let stated = held.is_none().then_some(located);
            claims.insert(id.clone(), Claim { id, stated, held });
        }
        claims
    }

    /// Claims owned objects whose file is broken, or may be: their last good definition stands in.
    fn hold_broken<'d, D: Borrow<Document>>(
        &mut self,
        documents: &'d [D],
        claims: &mut BTreeMap<ObjectId, Claim<'d>>,
    ) {
        let documents: BTreeMap<&Path, &Document> = documents
            .iter()
            .map(Borrow::borrow)
            .map(|document| (document.source.path.as_path(), document))
            .collect();
        for entry in self.ledger.entries.values() {
            if !claims.contains_key(&entry.object)
                && let Some(why) = why_held(entry, &documents)
            {
                let id = entry.object.clone();
                claims.insert(
                    id.clone(),
                    Claim {
                        id,
                        stated: None,
                        held: Some(why),
                    },
                );
            }
        }
    }

    fn name(&mut self, claims: &BTreeMap<ObjectId, Claim<'_>>) {
        self.names = claims
            .keys()
            .map(|id| ((id.kind, id.name.clone()), id.clone()))
            .collect();
    }

    /// Adds the object as it is stated; failing that, as it last was; failing that, keeps it from being removed.
    fn settle(&mut self, claim: &Claim<'_>, stated: Option<Result<Wanted, Vec<Refusal>>>) {
        let entry = self.ledger.get(&claim.id);
        let mut why = claim.held.clone();
        match stated {
            Some(Ok(mut wanted)) => {
                wanted.previous = self.previous(entry, &wanted);
                return self.admit(wanted);
            }
            Some(Err(refusals)) => {
                let place = refusals
                    .first()
                    .and_then(|first| first.location.as_ref())
                    .map(ToString::to_string);
                let place = place.unwrap_or_default();
                why = Some(format!("its definition has a problem at {place}"));
                let name = (claim.id.kind, claim.id.name.clone());
                self.around.refused.insert(name, place);
                self.desired.problems.extend(refusals);
            }
            None => {}
        }
        self.hold(&claim.id, why.unwrap_or_default());
    }

    /// Guests that would spoil each other's images are kept as they last were.
    fn refuse_contested_images(&mut self) {
        let refusals = super::images::contested(&self.desired.objects);
        let held =
            |desired: &Desired, id: &ObjectId| desired.held.iter().any(|held| held.object == *id);
        for refusal in &refusals {
            let Some(id) = refusal.object.clone().filter(|id| !held(&self.desired, id)) else {
                continue;
            };
            self.desired.objects.remove(&id);
            let place = refusal.location.as_ref().map(ToString::to_string);
            let why = format!(
                "its definition has a problem at {}",
                place.unwrap_or_default()
            );
            self.hold(&id, why);
        }
        self.desired.problems.extend(refusals);
    }

    /// Keeps an owned object as it last was; failing that, keeps it from being removed.
    fn hold(&mut self, id: &ObjectId, why: String) {
        let Some(entry) = self.ledger.get(id) else {
            return;
        };
        // Whoever claims it may call it otherwise: it is kept under the name that it has.
        let id = &entry.object;
        self.desired.held.push(Held {
            object: id.clone(),
            why,
        });
        let last = self.last_good.of(entry);
        let located = last
            .as_ref()
            .and_then(|document| document.definitions.first());
        if let Some(located) = located {
            self.hold_needs(id, located);
        }
        let wanted = located.map(|located| self.wanted(id, located));
        match wanted {
            Some(Ok(mut wanted)) => {
                wanted.file.clone_from(&entry.file);
                self.admit(wanted);
            }
            _ => {
                self.desired.keep.insert(id.clone());
            }
        }
    }

    /// What a held object refers to does not go from under it: what is in no file any more is held as well.
    fn hold_needs(&mut self, holder: &ObjectId, located: &Located) {
        for (kind, name) in references::of(&located.definition, holder) {
            let known = match kind {
                Kind::Network => self.around.networks.contains_key(&name),
                Kind::Pool => self.around.pools.contains_key(&name),
                Kind::Volume => self.around.volumes.contains_key(&name),
                Kind::NwFilter => self.around.filters.contains_key(&name),
                Kind::Domain | Kind::Secret => true,
            };
            let held = |held: &Held| held.object.kind == kind && held.object.name == name;
            if known || self.desired.held.iter().any(held) {
                continue;
            }
            let mut owned = self.ledger.entries.values().map(|entry| &entry.object);
            let found = owned.find(|id| id.kind == kind && id.name == name);
            if let Some(id) = found.cloned() {
                self.hold(&id, format!("{holder} is held and refers to it"));
            }
        }
    }

    /// Makes the object known to those that refer to it.
    fn admit(&mut self, wanted: Wanted) {
        let name = wanted.id.name.clone();
        match &wanted.resolved {
            Resolved::Network(network) => {
                drop(self.around.networks.insert(name, (**network).clone()))
            }
            Resolved::Pool(pool) => drop(self.around.pools.insert(name, (**pool).clone())),
            Resolved::Volume(volume) => drop(self.around.volumes.insert(name, (**volume).clone())),
            Resolved::NwFilter(filter) => {
                drop(self.around.filters.insert(name, (**filter).clone()))
            }
            Resolved::Domain(_) => {}
        }
        self.desired.objects.insert(wanted.id.clone(), wanted);
    }

    /// What the ledger's definition stands for, where it is another.
    fn previous(&mut self, entry: Option<&Entry>, wanted: &Wanted) -> Option<Box<Resolved>> {
        let entry = entry.filter(|entry| entry.definition != wanted.xml)?;
        let last = self.last_good.of(entry)?;
        let before = self.wanted(&wanted.id, last.definitions.first()?).ok()?;
        Some(Box::new(before.resolved))
    }

    fn wanted(&self, id: &ObjectId, located: &Located) -> Result<Wanted, Vec<Refusal>> {
        let stated = located.spans.all();
        let mut at = Resolving::new(located, id, &stated);
        let depends_on = self.depends_on(&mut at);
        let around = &self.around;
        let resolved = match &located.definition {
            Definition::Network(network) => {
                from::network(at, network).map(|it| Resolved::Network(Box::new(it)))?
            }
            Definition::Pool(pool) => {
                from::pool(at, pool).map(|it| Resolved::Pool(Box::new(it)))?
            }
            Definition::Volume(volume) => {
                from::volume(at, volume, around).map(|it| Resolved::Volume(Box::new(it)))?
            }
            Definition::Domain(domain) => {
                from::domain(at, domain, around).map(|it| Resolved::Domain(Box::new(it)))?
            }
            Definition::NwFilter(filter) => {
                Resolved::NwFilter(Box::new(at.finish(Some(lower::filter(filter)))?))
            }
            Definition::Secret(_) => {
                at.refuse(
                    Rule::Unsupported,
                    "usage",
                    "a secret is not something vireo can use",
                    "take it out; no pool, volume or disk that vireo makes needs one",
                );
                return Err(at.finish(None::<()>).err().unwrap_or_default());
            }
            Definition::DomainSnapshot(_)
            | Definition::DomainCheckpoint(_)
            | Definition::NetworkPort(_)
            | Definition::NwFilterBinding(_) => {
                if let Some((message, help)) = vireo_schema::not_kept(located.kind()) {
                    at.refuse(Rule::NotKept, "", message, help);
                }
                return Err(at.finish(None::<()>).err().unwrap_or_default());
            }
        };
        let location = place(&located.source, located.span.start);
        Ok(Wanted {
            id: id.clone(),
            file: located.source.path.clone(),
            location,
            fields: Fields::stated(&located.spans),
            xml: vireo_schema::to_xml(&located.definition, &located.policy),
            policy: Policy {
                disruption: disruption(located.policy.allowed()),
                depends_on,
                suspend: located.policy.is_suspended(),
                protect: located.policy.is_protected(),
                driver: located.policy.driver.map(|driver| match driver {
                    vireo_schema::Driver::Builtin => Driver::Builtin,
                    vireo_schema::Driver::Qemu => Driver::Qemu,
                }),
            },
            resolved,
            previous: None,
        })
    }

    fn depends_on(&self, at: &mut Resolving<'_>) -> Vec<ObjectId> {
        let mut found = Vec::new();
        for need in at.located.policy.needs() {
            let of = kind(need.kind);
            let named = of.and_then(|of| self.names.get(&(of, need.name.clone())));
            match named {
                Some(id) => found.push(id.clone()),
                None => {
                    let known = self
                        .names
                        .keys()
                        .filter(|(known, _)| Some(*known) == of)
                        .map(|(_, name)| name);
                    let refused =
                        of.and_then(|of| self.around.refused.get(&(of, need.name.clone())));
                    let (what, help) = match refused {
                        Some(place) => (
                            "has a problem of its own",
                            format!("mend it first, at {place}"),
                        ),
                        None => ("is not defined", super::nearest(&need.name, known)),
                    };
                    at.refuse(
                        Rule::UnknownReference,
                        "",
                        format!("it depends on {need}, which {what}"),
                        help,
                    );
                }
            }
        }
        found
    }

    /// Tells what may be done about owned objects that nobody claims any more.
    fn depart(&mut self) {
        let known: BTreeSet<&ObjectId> = self
            .desired
            .objects
            .keys()
            .chain(&self.desired.keep)
            .collect();
        let gone: Vec<&Entry> = self
            .ledger
            .entries
            .values()
            .filter(|entry| !known.contains(&entry.object))
            .collect();
        for entry in gone {
            let departed = self.departed(entry);
            self.desired.departed.insert(entry.object.clone(), departed);
        }
    }

    fn departed(&mut self, entry: &Entry) -> Departed {
        let last = self.last_good.of(entry);
        let Some(located) = last
            .as_ref()
            .and_then(|document| document.definitions.first())
        else {
            // What cannot be understood any more must not be removed.
            return Departed {
                protect: true,
                ..Departed::default()
            };
        };
        let volume = located.definition.kind() == vireo_schema::Kind::Volume;
        let bridge = match self
            .wanted(&entry.object, located)
            .map(|wanted| wanted.resolved)
        {
            Ok(Resolved::Network(network)) if network.forward != Forward::Bridge => {
                Some(network.bridge.name)
            }
            _ => None,
        };
        Departed {
            protect: located.policy.is_protected(),
            suspend: located.policy.is_suspended(),
            delete_data: volume
                && located.policy.retention(vireo_schema::Kind::Volume)
                    == vireo_schema::Retain::Delete,
            bridge,
        }
    }
}

/// Why an owned object that no whole definition claims is held, if it is.
fn why_held(entry: &Entry, documents: &BTreeMap<&Path, &Document>) -> Option<String> {
    let own = documents.get(entry.file.as_path());
    // A record in the place of a definition was put there by mistake: it deletes as little as what cannot be read.
    let wrong = |document: &&&Document| {
        let mut stated = document.definitions.iter();
        !document.broken.is_empty() || stated.any(|located| located.kind().is_record())
    };
    if let Some(document) = own.filter(wrong) {
        return Some(format!("{} has a problem", document.source.path.display()));
    }
    // A file that was renamed and broken at once: by what can still be read of it, or, when nothing can, by its being there while the old file is gone.
    let is = |known| kind(known) == Some(entry.object.kind);
    let may_be = |document: &&&Document| {
        document
            .broken
            .iter()
            .any(|broken| match (broken.kind, &broken.name, broken.uuid) {
                (Some(known), _, Some(uuid)) => is(known) && uuid == entry.object.uuid,
                (Some(known), Some(name), None) => is(known) && *name == entry.object.name,
                (Some(known), None, None) => is(known) && own.is_none(),
                (None, ..) => own.is_none(),
            })
    };
    let document = documents.values().find(may_be)?;
    Some(format!(
        "{} has a problem, and may be about it",
        document.source.path.display()
    ))
}

fn refusal(source: &Source, problem: &Diagnostic, object: Option<ObjectId>) -> Refusal {
    let position = source.position(problem.span.start);
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Refusal {
        object,
        location: Some(Location {
            file: source.path.clone(),
            line: number(position.line),
            column: number(position.column),
        }),
        message: problem.message.clone(),
        help: problem.help.clone(),
        rule: problem.rule.to_string(),
    }
}

fn disruption(stated: vireo_schema::Disruption) -> Disruption {
    match stated {
        vireo_schema::Disruption::Live => Disruption::Live,
        vireo_schema::Disruption::NextBoot => Disruption::NextBoot,
        vireo_schema::Disruption::Restart => Disruption::Restart,
        vireo_schema::Disruption::Recreate => Disruption::Recreate,
        vireo_schema::Disruption::DataLoss => Disruption::DataLoss,
    }
}
