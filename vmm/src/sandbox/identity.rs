//! Whom the monitor becomes.
//!
//! In come the configured user and group; out goes whom each thread turns into. A monitor that root starts becomes, unless it is told otherwise, a user
//! derived from its guest's UUID: two guests' monitors are two users, who own nothing and may not touch each other.

use std::fs;

use rustix::process::{Gid, Uid};

use super::SandboxError;
use super::layers::Layer;
use crate::config::Guest;

/// First of the derived users. Nobody else gives users or groups numbers from here to [`LAST`]: systemd's ranges end below or begin above (see
/// its "Users, Groups, UIDs and GIDs").
const FIRST: u32 = 0x7000_0000;
/// Last of the derived users.
const LAST: u32 = 0x77ff_ffff;

/// Whom threads become: `None` to stay. With it, whether that is a user of the monitor's own.
pub(super) struct Identity {
    pub become_: Option<(Uid, Gid)>,
    pub own: Result<(), String>,
}

impl Identity {
    /// The layer that this is.
    pub const LAYER: Layer = Layer::User;

    /// Chooses.
    ///
    /// # Errors
    /// A configured user that this process cannot become.
    pub fn choose(guest: &Guest) -> Result<Self, SandboxError> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let stated = guest.user.is_some() || guest.group.is_some();
        let user = guest.user.map_or(uid, Uid::from_raw);
        let group = guest.group.map_or(gid, Gid::from_raw);
        if !uid.is_root() {
            if (user, group) != (uid, gid) {
                return Err(SandboxError::NotRoot {
                    user: user.as_raw(),
                    group: group.as_raw(),
                });
            }
            let own = Err(format!(
                "the monitor was not started by root, and stays user {}",
                user.as_raw()
            ));
            return Ok(Self { become_: None, own });
        }
        if stated {
            let own = if user.is_root() {
                Err("the configuration says root".into())
            } else {
                Ok(())
            };
            let become_ = Some((user, group));
            return Ok(Self { become_, own });
        }
        let number = derived(&guest.uuid);
        let map = |kind| fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap_or_default();
        if has(&map("uid"), number) && has(&map("gid"), number) {
            let become_ = Some((Uid::from_raw(number), Gid::from_raw(number)));
            return Ok(Self {
                become_,
                own: Ok(()),
            });
        }
        Ok(Self {
            become_: Some((uid, gid)),
            own: Err(format!("this user namespace has no user {number}")),
        })
    }
}

/// The number that goes with a UUID, from [`FIRST`] to [`LAST`].
fn derived(uuid: &str) -> u32 {
    let digits: Vec<u32> = uuid.chars().filter_map(|c| c.to_digit(16)).collect();
    let folded = digits
        .chunks(8)
        .map(|word| word.iter().fold(0, |word, digit| word << 4 | digit))
        .fold(0, |folded, word: u32| folded ^ word);
    FIRST | (folded & (LAST - FIRST))
}

/// Whether a user namespace's map (lines of first number inside, first outside, count) has this number.
fn has(map: &str, number: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        number
            .checked_sub(first)
            .is_some_and(|offset| offset < count)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_guests_are_two_users() {
        let one = derived("7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1");
        let other = derived("7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a2");
        assert_ne!(one, other);
    }

    #[test]
    fn a_map_has_what_its_ranges_have() {
        let map = "         0     100000      65536\n     70000  200000 10\n";
        for (number, there) in [
            (0, true),
            (65_535, true),
            (65_536, false),
            (70_009, true),
            (70_010, false),
        ] {
            assert_eq!(has(map, number), there, "{number}");
        }
        assert!(has("0 0 4294967295", LAST));
        assert!(!has("", 0) && !has("nonsense", 0));
    }

    proptest! {
        #[test]
        fn a_derived_user_is_nobody_elses(uuid in "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}") {
            prop_assert!((FIRST..=LAST).contains(&derived(&uuid)));
        }
    }
}
