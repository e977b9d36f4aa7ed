//! Images that several guests would have open at once, one of them writing.
//!
//! In: every object, resolved. Out: a refusal for each guest of a contest, which names the other one's place. A file system that two guests write without knowing of each other is lost within
//! minutes, and so is a layer whose backing file changes below it; QEMU's and the monitor's own locks would see to it at the start, when one of the guests runs already.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use vireo_schema::Rule;

use super::{Resolved, Wanted};
use crate::object::ObjectId;
use crate::plan::step::{Location, Refusal};
use crate::resolve::domain::{Disk, Domain};
use crate::resolve::{WantedState, nth_device};

/// How a guest has an image open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It writes, and nobody else may have it open.
    Writes,
    /// It writes, and has agreed with others that do (`<shareable/>`).
    Shares,
    /// It reads (`<readonly/>`).
    Reads,
    /// It reads what is below its own layer, and relies on that to stay as it is.
    Relies,
}

impl How {
    fn of(disk: &Disk) -> Self {
        match (disk.readonly, disk.shareable) {
            (true, _) => Self::Reads,
            (false, true) => Self::Shares,
            (false, false) => Self::Writes,
        }
    }

    /// Whether both can have the image open at once.
    fn goes_with(self, other: Self) -> bool {
        let together = (self, other);
        self != Self::Writes
            && other != Self::Writes
            && together != (Self::Shares, Self::Relies)
            && together != (Self::Relies, Self::Shares)
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Writes => "is written by",
            Self::Shares => "is written, with others, by",
            Self::Reads => "is read by",
            Self::Relies => "is the backing file of a disk of",
        }
    }
}

/// One guest's use of an image.
struct Use<'a> {
    wanted: &'a Wanted,
    /// The disk's place in the definition, from 0.
    disk: usize,
    how: How,
}

impl Use<'_> {
    fn place(&self) -> &Location {
        let element = nth_device("disk", self.disk);
        [format!("{element}/source"), element]
            .iter()
            .find_map(|path| self.wanted.fields.get(path))
            .unwrap_or(&self.wanted.location)
    }
}

/// A refusal for each guest that cannot have an image open beside another guest. Guests that are wanted stopped have none open.
pub(super) fn contested(objects: &BTreeMap<ObjectId, Wanted>) -> Vec<Refusal> {
    let backing: HashMap<&Path, &Path> = objects
        .values()
        .filter_map(|wanted| match &wanted.resolved {
            Resolved::Volume(volume) => Some((
                volume.path.as_path(),
                volume.backing.as_ref()?.path.as_path(),
            )),
            _ => None,
        })
        .collect();
    let mut uses: BTreeMap<PathBuf, Vec<Use<'_>>> = BTreeMap::new();
    for wanted in objects.values() {
        if let Resolved::Domain(domain) = &wanted.resolved
            && domain.lifecycle.wanted != WantedState::Stopped
        {
            note(wanted, domain, &backing, &mut uses);
        }
    }
    uses.iter()
        .flat_map(|(path, uses)| refusals(path, uses))
        .collect()
}

fn note<'a>(
    wanted: &'a Wanted,
    domain: &Domain,
    backing: &HashMap<&Path, &Path>,
    uses: &mut BTreeMap<PathBuf, Vec<Use<'a>>>,
) {
    for (number, disk) in domain.disks.iter().enumerate() {
        let Some(path) = &disk.path else { continue };
        let mut note = |path: &Path, how| {
            let uses = uses.entry(path.to_owned()).or_default();
            uses.push(Use {
                wanted,
                disk: number,
                how,
            });
        };
        note(path, How::of(disk));
        // No longer than there are volumes: definitions may name each other in a circle.
        let layers = std::iter::successors(Some(path.as_path()), |path| backing.get(path).copied());
        for below in layers.skip(1).take(backing.len()) {
            note(below, How::Relies);
        }
    }
}

fn refusals(path: &Path, uses: &[Use<'_>]) -> Vec<Refusal> {
    let against = |one: &Use<'_>| {
        uses.iter()
            .find(|other| !std::ptr::eq(*other, one) && !one.how.goes_with(other.how))
            .map(|other| refusal(path, one, other))
    };
    // Thousands of guests may read one image, or have layers over it: they are not compared with each other.
    let writes = |one: &Use<'_>| matches!(one.how, How::Writes | How::Shares);
    if uses.len() < 2 || !uses.iter().any(writes) {
        return Vec::new();
    }
    uses.iter().filter_map(against).collect()
}

fn refusal(path: &Path, one: &Use<'_>, other: &Use<'_>) -> Refusal {
    Refusal {
        object: Some(one.wanted.id.clone()),
        location: Some(one.place().clone()),
        message: format!(
            "{} {} {} here and {} {} at {}: they cannot both have it open",
            path.display(),
            one.how.word(),
            one.wanted.id.name,
            other.how.word(),
            other.wanted.id.name,
            other.place()
        ),
        help: Some(
            "give each guest its own image, or say <readonly/> in both, or <shareable/> where the guests' file system is made for it".to_owned(),
        ),
        rule: Rule::ImageInUse.to_string(),
    }
}
