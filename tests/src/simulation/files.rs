//! The watched directory, in memory, with the things that people and tools do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vireo_reconciler::source::{Source, SourceError};
use vireo_schema::Document;

use super::model::{Guest, Model, State};

/// The files as they are now. Clones share them.
#[derive(Clone, Default)]
pub struct Files {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    documents: BTreeMap<String, (String, Arc<Document>)>,
    broken: BTreeSet<String>,
    emptied: bool,
    /// Loading fails: the directory is unmounted.
    away: bool,
}

impl Source for Files {
    async fn load(&self) -> Result<Vec<Arc<Document>>, SourceError> {
        let shared = self.lock();
        if shared.away {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(SourceError::Io {
                path: PathBuf::from("/desired"),
                source,
            });
        }
        Ok(shared
            .documents
            .values()
            .map(|(_, document)| document.clone())
            .collect())
    }
}

impl Files {
    /// The model's files, all good.
    pub fn of(model: &Model) -> Self {
        let files = Self::default();
        files.write(model);
        files
    }

    /// Every file is good again and all are there.
    pub fn make_good(&self, model: &Model) {
        {
            let mut shared = self.lock();
            shared.broken.clear();
            shared.emptied = false;
            shared.away = false;
        }
        self.write(model);
    }

    /// One random thing a person does to the files; told in a sentence.
    pub fn edit(&self, model: &mut Model, rng: &mut fastrand::Rng) -> String {
        let told = match rng.u32(0..100) {
            0..60 => edit_guest(model, rng),
            60..75 => edit_others(model, rng),
            75..85 => self.break_one(rng),
            85..92 => {
                self.lock().broken.clear();
                "broken files are mended".to_owned()
            }
            92..95 => self.toggle("the directory is emptied, or filled again", |shared| {
                &mut shared.emptied
            }),
            _ => self.toggle("the directory goes away, or comes back", |shared| {
                &mut shared.away
            }),
        };
        self.write(model);
        told
    }

    fn break_one(&self, rng: &mut fastrand::Rng) -> String {
        let mut shared = self.lock();
        let names: Vec<String> = shared.documents.keys().cloned().collect();
        let Some(name) = rng.choice(&names).cloned() else {
            return "nothing is left to break".to_owned();
        };
        shared.broken.insert(name.clone());
        format!("{name} is broken")
    }

    fn toggle(&self, told: &str, flag: impl FnOnce(&mut Shared) -> &mut bool) -> String {
        let mut shared = self.lock();
        let flag = flag(&mut shared);
        *flag = !*flag;
        format!("{told} ({flag})")
    }

    fn write(&self, model: &Model) {
        let mut shared = self.lock();
        let mut wanted = if shared.emptied {
            BTreeMap::new()
        } else {
            model.files()
        };
        for name in &shared.broken {
            if let Some(text) = wanted.get_mut(name) {
                let half = text.len() / 2;
                text.truncate(
                    (0..=half)
                        .rev()
                        .find(|at| text.is_char_boundary(*at))
                        .unwrap_or(0),
                );
                text.push_str("<&: [");
            }
        }
        let mut before = std::mem::take(&mut shared.documents);
        for (name, text) in wanted {
            let document = match before.remove(&name) {
                Some((old, document)) if old == text => document,
                _ => {
                    let path = PathBuf::from(format!("/desired/{name}"));
                    Arc::new(vireo_schema::read(&Arc::new(vireo_schema::Source::new(
                        path,
                        text.clone(),
                    ))))
                }
            };
            shared.documents.insert(name, (text, document));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn edit_guest(model: &mut Model, rng: &mut fastrand::Rng) -> String {
    let count = model.guests.len() as u32;
    if count < 6 && rng.u32(0..6) == 0 {
        let guest = Model::guest(count, rng);
        let told = format!("{} is added: {guest:?}", guest.name());
        model.guests.push(guest);
        return told;
    }
    let Some(guest) = rng.choice(&mut model.guests) else {
        return "there is no guest to edit".to_owned();
    };
    change_guest(guest, rng);
    format!("{} is edited: {guest:?}", guest.name())
}

fn change_guest(guest: &mut Guest, rng: &mut fastrand::Rng) {
    match rng.u32(0..11) {
        0 => guest.present = !guest.present,
        1 => guest.state = [State::Running, State::Stopped, State::Paused][rng.usize(0..3)],
        2 => guest.may_restart = !guest.may_restart,
        3 => guest.memory = [256, 512, 1024][rng.usize(0..3)],
        4 | 5 => guest.shares = rng.bool().then(|| rng.u32(2..4096)),
        6 | 7 => guest.filter = guest.network.filter(|_| rng.bool()).map(|_| rng.u32(0..2)),
        8 => {
            guest.bandwidth = guest
                .network
                .filter(|_| rng.bool())
                .map(|_| rng.u32(100..100_000))
        }
        9 => guest.edition += 1,
        _ => guest.yaml = !guest.yaml,
    }
}

fn edit_others(model: &mut Model, rng: &mut fastrand::Rng) -> String {
    match rng.u32(0..4) {
        0 => {
            let Some(network) = rng.choice(&mut model.networks) else {
                return String::new();
            };
            match rng.u32(0..3) {
                0 => network.present = !network.present,
                1 => network.nat = !network.nat,
                _ => network.last = rng.u8(10..=254),
            }
            format!("a network is edited: {network:?}")
        }
        1 => {
            let Some(volume) = rng.choice(&mut model.volumes) else {
                return String::new();
            };
            volume.size += 1;
            format!("a volume is edited: {volume:?}")
        }
        _ => {
            let Some(filter) = rng.choice(&mut model.filters) else {
                return String::new();
            };
            match rng.u32(0..4) {
                0 => filter.present = !filter.present,
                _ => filter.ports = (0..rng.usize(0..4)).map(|_| rng.u16(1..=65535)).collect(),
            }
            format!("a filter is edited: {filter:?}")
        }
    }
}
