//! The rules of a guest's life: which requests are allowed when, and what follows when the guest ends by itself.
//!
//! Pure: in come the state, and a request or a notice; out goes what to do, or a refusal that reads as a sentence.
//!
//! ```text
//!       pause, bad disk                power-off, reset, crash: as configured
//!   Running ─────────► Paused          ├─ destroy   the monitor ends
//!      ▲  ◄───────────   │             ├─ restart   reset, and run
//!      │     resume      │             └─ preserve ─► Preserved
//!      └──── reset ──────┴──────────────────────────────┘
//! ```

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{Guest, Then, WatchdogAction};
use crate::notice::Notice;

/// Where a guest is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Its vcpus run.
    Running,
    /// Its vcpus rest because somebody said so, or because the host failed a disk or the watchdog was not fed.
    Paused,
    /// It ended and is kept as it was.
    Preserved(Reason),
}

/// How a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It turned itself off.
    PowerOff,
    /// It asked for a reset and is not configured to get one.
    Reset,
    /// Somebody told the monitor to end.
    Quit,
    /// It broke down.
    Crash,
    /// The monitor or the host could not go on.
    Error,
}

/// What somebody wants to be done with the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Let it rest.
    Pause,
    /// Let it run.
    Resume,
    /// Press its power button.
    PowerButton,
    /// Put it back to power on.
    Reset,
    /// End it and the monitor.
    Quit,
    /// Give its processors a non-maskable interrupt.
    Nmi,
    /// Change one of its devices, as the request says.
    Device,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is as wished already.
    Nothing,
    /// Let the vcpus rest.
    Pause,
    /// Let the vcpus run.
    Run,
    /// Press the power button.
    PressPowerButton,
    /// Put the machine back to power on, and let it run or leave it at rest.
    Reset {
        /// Whether it runs then.
        run: bool,
    },
    /// Change the device.
    Device,
    /// Only say what happened.
    Tell,
    /// Write a core dump, and let the guest go on.
    Dump,
    /// Give every processor a non-maskable interrupt.
    InjectNmi,
    /// Keep the guest as it is, at rest.
    Preserve(Reason),
    /// End the monitor.
    End(Reason),
}

/// Why a wish is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Only a running guest can answer its power button.
    #[error("the guest is paused and would not notice its power button; resume it first")]
    Paused,
    /// The guest has ended.
    #[error("the guest has ended ({}) and is preserved as it was; only reset and quit are possible", .0.word())]
    Preserved(Reason),
}

impl Reason {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::Reset => "reset",
            Self::Quit => "quit",
            Self::Crash => "crash",
            Self::Error => "error",
        }
    }
}

impl Life {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Preserved(_) => "preserved",
        }
    }

    /// What to do to grant a wish.
    pub fn admit(self, wish: Wish) -> Result<Action, Refusal> {
        use {Action as A, Life as L, Wish as W};
        match (self, wish) {
            (_, W::Quit) => Ok(A::End(Reason::Quit)),
            (L::Preserved(_), W::Reset) => Ok(A::Reset { run: true }),
            (L::Preserved(reason), _) => Err(Refusal::Preserved(reason)),
            (L::Running, W::Pause) => Ok(A::Pause),
            (L::Running, W::Resume) | (L::Paused, W::Pause) => Ok(A::Nothing),
            (L::Paused, W::Resume) => Ok(A::Run),
            (L::Running, W::PowerButton) => Ok(A::PressPowerButton),
            (L::Paused, W::PowerButton) => Err(Refusal::Paused),
            (_, W::Reset) => Ok(A::Reset {
                run: self == L::Running,
            }),
            // One that comes while the guest rests waits in its processors.
            (_, W::Nmi) => Ok(A::InjectNmi),
            (_, W::Device) => Ok(A::Device),
        }
    }

    /// What follows a notice from the machine.
    pub fn after(self, notice: &Notice, policy: Policy) -> Action {
        // Several vcpus may report one end; the first counted.
        if matches!(self, Self::Preserved(_)) {
            return Action::Nothing;
        }
        let (reason, then) = match notice {
            Notice::Watchdog => return self.after_watchdog(policy),
            Notice::Clock => return Action::Tell,
            // One that is paused tries the request again when it is resumed, and then this comes again.
            Notice::Disk(_) if self == Self::Paused => return Action::Nothing,
            Notice::Disk(_) => return Action::Pause,
            Notice::PowerOff => (Reason::PowerOff, policy.poweroff),
            Notice::Reset => (Reason::Reset, policy.reboot),
            Notice::Crash(_) => (Reason::Crash, policy.crash),
            Notice::Failed(_) => (Reason::Error, policy.crash),
        };
        then.action(reason)
    }

    /// What follows when the watchdog was not fed. One that barks while somebody pauses the guest is not heard.
    fn after_watchdog(self, policy: Policy) -> Action {
        if self != Self::Running {
            return Action::Nothing;
        }
        match policy.watchdog {
            WatchdogAction::Reset => policy.reboot.action(Reason::Reset),
            WatchdogAction::Poweroff => policy.poweroff.action(Reason::PowerOff),
            WatchdogAction::Shutdown => Action::PressPowerButton,
            WatchdogAction::Pause => Action::Pause,
            WatchdogAction::Dump => Action::Dump,
            WatchdogAction::None => Action::Tell,
            WatchdogAction::InjectNmi => Action::InjectNmi,
        }
    }
}

impl Then {
    /// What to do with a guest that ended.
    fn action(self, reason: Reason) -> Action {
        match self {
            Self::Destroy => Action::End(reason),
            Self::Restart => Action::Reset { run: true },
            Self::Preserve => Action::Preserve(reason),
        }
    }
}

/// What follows which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The guest powered off.
    pub poweroff: Then,
    /// The guest asked for a reset.
    pub reboot: Then,
    /// The guest crashed, or could not be run any further.
    pub crash: Then,
    /// The guest did not feed its watchdog.
    pub watchdog: WatchdogAction,
}

impl From<&Guest> for Policy {
    fn from(guest: &Guest) -> Self {
        Self {
            poweroff: guest.on_poweroff,
            reboot: guest.on_reboot,
            crash: guest.on_crash,
            watchdog: guest
                .watchdog
                .as_ref()
                .map_or(WatchdogAction::None, |watchdog| watchdog.action),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REASONS: [Reason; 5] = [
        Reason::PowerOff,
        Reason::Reset,
        Reason::Quit,
        Reason::Crash,
        Reason::Error,
    ];
    const WISHES: [Wish; 7] = [
        Wish::Pause,
        Wish::Resume,
        Wish::PowerButton,
        Wish::Reset,
        Wish::Quit,
        Wish::Nmi,
        Wish::Device,
    ];

    fn life() -> impl Strategy<Value = Life> {
        prop_oneof![
            Just(Life::Running),
            Just(Life::Paused),
            prop::sample::select(REASONS.to_vec()).prop_map(Life::Preserved),
        ]
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let then = || prop::sample::select(vec![Then::Destroy, Then::Restart, Then::Preserve]);
        (then(), then(), then()).prop_map(|(poweroff, reboot, crash)| Policy {
            poweroff,
            reboot,
            crash,
            watchdog: WatchdogAction::Reset,
        })
    }

    fn notice() -> impl Strategy<Value = Notice> {
        prop::sample::select(vec![
            Notice::PowerOff,
            Notice::Reset,
            Notice::Watchdog,
            Notice::Clock,
            Notice::Disk("x".into()),
            Notice::Crash("x".into()),
            Notice::Failed("x".into()),
        ])
    }

    /// The state after an action, as the owner carries it out.
    fn next(life: Life, action: Action) -> Option<Life> {
        match action {
            Action::Nothing
            | Action::PressPowerButton
            | Action::Device
            | Action::Tell
            | Action::Dump
            | Action::InjectNmi => Some(life),
            Action::Pause | Action::Reset { run: false } => Some(Life::Paused),
            Action::Run | Action::Reset { run: true } => Some(Life::Running),
            Action::Preserve(reason) => Some(Life::Preserved(reason)),
            Action::End(_) => None,
        }
    }

    proptest! {
        #[test]
        fn quitting_is_always_possible(life in life()) {
            prop_assert_eq!(life.admit(Wish::Quit), Ok(Action::End(Reason::Quit)));
        }

        #[test]
        fn a_wish_granted_twice_does_nothing_more(life in life(), wish in prop::sample::select(vec![Wish::Pause, Wish::Resume])) {
            if let Ok(action) = life.admit(wish) {
                let after = next(life, action).unwrap();
                prop_assert_eq!(after.admit(wish), Ok(Action::Nothing));
            }
        }

        #[test]
        fn only_quit_ends_the_monitor_on_request(life in life(), wish in prop::sample::select(WISHES.to_vec())) {
            let ends = matches!(life.admit(wish), Ok(Action::End(_)));
            prop_assert_eq!(ends, wish == Wish::Quit);
        }

        #[test]
        fn a_guest_that_has_ended_never_runs_on_without_a_reset(reason in prop::sample::select(REASONS.to_vec()), wishes in prop::collection::vec(prop::sample::select(WISHES.to_vec()), 0..8)) {
            let life = Life::Preserved(reason);
            for wish in wishes.into_iter().filter(|&w| w != Wish::Quit) {
                match life.admit(wish) {
                    Ok(action) => prop_assert_eq!(action, Action::Reset { run: true }),
                    Err(refusal) => prop_assert_eq!(refusal, Refusal::Preserved(reason)),
                }
            }
        }

        #[test]
        fn a_reset_leaves_a_paused_guest_paused(wish in Just(Wish::Reset)) {
            prop_assert_eq!(Life::Paused.admit(wish), Ok(Action::Reset { run: false }));
        }

        #[test]
        fn the_first_end_counts(life in life(), policy in policy(), first in notice(), second in notice()) {
            let action = life.after(&first, policy);
            if let Some(after @ Life::Preserved(_)) = next(life, action) {
                prop_assert_eq!(after.after(&second, policy), Action::Nothing);
            }
        }

        #[test]
        fn what_follows_an_end_is_what_was_configured(policy in policy(), notice in notice()) {
            let then = match notice {
                Notice::Clock => {
                    prop_assert_eq!(Life::Running.after(&notice, policy), Action::Tell);
                    return Ok(());
                }
                Notice::Disk(_) => {
                    prop_assert_eq!(Life::Running.after(&notice, policy), Action::Pause);
                    prop_assert_eq!(Life::Paused.after(&notice, policy), Action::Nothing);
                    return Ok(());
                }
                Notice::PowerOff => policy.poweroff,
                Notice::Reset => policy.reboot,
                Notice::Crash(_) | Notice::Failed(_) => policy.crash,
                Notice::Watchdog => policy.reboot,
            };
            let action = Life::Running.after(&notice, policy);
            let held = match then {
                Then::Destroy => matches!(action, Action::End(_)),
                Then::Restart => action == Action::Reset { run: true },
                Then::Preserve => matches!(action, Action::Preserve(_)),
            };
            prop_assert!(held);
        }
    }

    #[test]
    fn a_watchdog_that_is_not_fed_does_what_was_configured() {
        use {Action as A, WatchdogAction as W};
        let policy = |watchdog| Policy {
            poweroff: Then::Preserve,
            reboot: Then::Destroy,
            crash: Then::Restart,
            watchdog,
        };
        for (configured, action) in [
            (W::Reset, A::End(Reason::Reset)),
            (W::Poweroff, A::Preserve(Reason::PowerOff)),
            (W::Shutdown, A::PressPowerButton),
            (W::Pause, A::Pause),
            (W::Dump, A::Dump),
            (W::None, A::Tell),
            (W::InjectNmi, A::InjectNmi),
        ] {
            let policy = policy(configured);
            assert_eq!(Life::Running.after(&Notice::Watchdog, policy), action);
            assert_eq!(
                Life::Paused.after(&Notice::Watchdog, policy),
                A::Nothing,
                "its time stands still"
            );
        }
    }

    #[test]
    fn a_refusal_reads_as_a_sentence() {
        let refusal = Life::Preserved(Reason::PowerOff)
            .admit(Wish::Resume)
            .unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the guest has ended (power-off) and is preserved as it was; only reset and quit are possible"
        );
    }
}
