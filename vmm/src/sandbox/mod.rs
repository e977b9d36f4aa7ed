//! Giving up what a guest's monitor does not need, once everything is open.
//!
//! In comes the user to become; each thread then calls [`Sandbox::enter`] for its [`Role`] before it does anything for the guest. A
//! thread that is inside has no new privileges to gain, no supplementary groups, the configured user and group (if the monitor was started by root),
//! no capabilities, and may make only the system calls of its role ([`filter`]). Credentials belong to threads on Linux; each
//! thread gives up its own.
//!
//! A system call outside the list ends the process; [`last_words`] tells which it was.
//!
//! Namespaces of its own and Landlock, which need nothing of the other threads, have their place in [`Sandbox::limit`].

mod filter;
pub mod last_words;

use std::io;
use std::sync::Arc;

use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use seccompiler::BpfProgram;
use thiserror::Error;

use crate::config::Guest;

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The owner of the machine: control socket, console, reset.
    Owner,
    /// Runs the guest.
    Vcpu,
    /// Serves devices.
    Device,
}

/// Why a thread is not inside. None of them may go on then.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The kernel refused.
    #[error("could not {what}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Only root can become somebody else.
    #[error("could not become user {user} and group {group}: the monitor was not started by root")]
    NotRoot {
        /// The configured user, or the present one.
        user: u32,
        /// The configured group, or the present one.
        group: u32,
    },
    /// The list of system calls could not be translated.
    #[error("could not make the list of allowed system calls")]
    Filter(#[from] seccompiler::BackendError),
    /// The list of system calls could not be installed.
    #[error("could not install the list of allowed system calls")]
    Install(#[from] seccompiler::Error),
    /// A thread ended before it was inside.
    #[error("a thread ended while it was starting")]
    Ended,
}

fn refused(what: &'static str) -> impl Fn(rustix::io::Errno) -> SandboxError {
    move |errno| SandboxError::Refused {
        what,
        source: errno.into(),
    }
}

/// What threads give up, made once and cloned for each.
#[derive(Debug, Clone)]
pub struct Sandbox {
    become_: Option<(Uid, Gid)>,
    filters: Option<Arc<Filters>>,
}

#[derive(Debug)]
struct Filters {
    owner: BpfProgram,
    vcpu: BpfProgram,
    device: BpfProgram,
}

/// Descriptors that a monitor can have open: far more than its devices need.
const DESCRIPTORS: u64 = 4096;

impl Sandbox {
    /// What this guest's monitor gives up.
    ///
    /// # Errors
    /// A user that this process cannot become.
    pub fn new(guest: &Guest) -> Result<Self, SandboxError> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let user = guest.user.map_or(uid, Uid::from_raw);
        let group = guest.group.map_or(gid, Gid::from_raw);
        let become_ = if uid.is_root() {
            Some((user, group))
        } else if (user, group) == (uid, gid) {
            None
        } else {
            return Err(SandboxError::NotRoot {
                user: user.as_raw(),
                group: group.as_raw(),
            });
        };
        let filters = Filters {
            owner: filter::program(Role::Owner)?,
            vcpu: filter::program(Role::Vcpu)?,
            device: filter::program(Role::Device)?,
        };
        Ok(Self {
            become_,
            filters: Some(Arc::new(filters)),
        })
    }

    /// Gives nothing up: for debugging only.
    pub fn none() -> Self {
        Self {
            become_: None,
            filters: None,
        }
    }

    /// Gives up what belongs to the whole process. To be called once, when everything is open.
    pub fn limit(&self) -> Result<(), SandboxError> {
        if self.filters.is_none() {
            return Ok(());
        }
        let lower = |resource, to: u64| {
            let now = getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let to = Some(to.min(now));
            setrlimit(
                resource,
                Rlimit {
                    current: to,
                    maximum: to,
                },
            )
        };
        // A core file would hold the guest's memory.
        lower(Resource::Core, 0).map_err(refused("forbid core files"))?;
        lower(Resource::Nofile, DESCRIPTORS).map_err(refused("bound the number of descriptors"))?;
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .map_err(refused("forbid others to look into the process"))
    }

    /// Gives up what belongs to this thread. There is no way back.
    pub fn enter(&self, role: Role) -> Result<(), SandboxError> {
        let Some(filters) = &self.filters else {
            return Ok(());
        };
        set_no_new_privs(true).map_err(refused("renounce new privileges"))?;
        if let Some((user, group)) = self.become_ {
            set_thread_groups(&[]).map_err(refused("leave supplementary groups"))?;
            set_thread_res_gid(group, group, group)
                .map_err(refused("become the configured group"))?;
            set_thread_res_uid(user, user, user).map_err(refused("become the configured user"))?;
        }
        clear_ambient_capability_set().map_err(refused("give up ambient capabilities"))?;
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).map_err(refused("give up capabilities"))?;
        let program = match role {
            Role::Owner => &filters.owner,
            Role::Vcpu => &filters.vcpu,
            Role::Device => &filters.device,
        };
        seccompiler::apply_filter(program)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "VIREO_TEST_SANDBOX_CHILD";

    fn enter(role: Role) {
        let sandbox = Sandbox {
            become_: None,
            filters: Some(Arc::new(Filters {
                owner: filter::program(Role::Owner).unwrap(),
                vcpu: filter::program(Role::Vcpu).unwrap(),
                device: filter::program(Role::Device).unwrap(),
            })),
        };
        sandbox.limit().unwrap();
        sandbox.enter(role).unwrap();
    }

    /// Runs one test of this program again in a process of its own, which the sandbox may end.
    fn again(test: &str, child: &str) -> std::process::Output {
        let name = format!("sandbox::tests::{test}");
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture", "--test-threads=1"])
            .env(CHILD, child)
            .output()
            .unwrap()
    }

    #[test]
    fn a_forbidden_system_call_ends_the_process_and_is_named() {
        if let Ok(state) = std::env::var(CHILD) {
            let file = std::fs::OpenOptions::new()
                .append(true)
                .open(state)
                .unwrap();
            last_words::listen(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
            enter(Role::Vcpu);
            let _ = std::fs::File::open("/etc/passwd");
            return;
        }
        let state = tempfile::NamedTempFile::new().unwrap();
        let output = again(
            "a_forbidden_system_call_ends_the_process_and_is_named",
            state.path().to_str().unwrap(),
        );
        assert_eq!(
            output.status.code(),
            Some(last_words::STATUS),
            "{:?} {}",
            output,
            output.status.signal().unwrap_or(0)
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let number = libc::SYS_openat.to_string();
        assert!(said.contains(&format!("system call {number}")), "{said}");
        let line: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(state.path()).unwrap()).unwrap();
        assert_eq!(
            (&line["state"], &line["reason"]),
            (&"ended".into(), &"error".into())
        );
    }

    #[test]
    fn ordinary_work_goes_on_inside() {
        if std::env::var(CHILD).is_ok() {
            enter(Role::Owner);
            let values: std::collections::HashMap<u32, Vec<u8>> =
                (0..64).map(|n| (n, vec![0; 100_000])).collect();
            assert_eq!(values.len(), 64);
            println!("inside");
            std::process::exit(0);
        }
        let output = again("ordinary_work_goes_on_inside", "1");
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn memory_never_becomes_executable_inside() {
        if let Ok(state) = std::env::var(CHILD) {
            let file = std::fs::OpenOptions::new()
                .append(true)
                .open(state)
                .unwrap();
            last_words::listen(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
            enter(Role::Device);
            // SAFETY: a new private mapping; nothing else is touched.
            unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    libc::PROT_READ | libc::PROT_EXEC,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                );
            }
            return;
        }
        let state = tempfile::NamedTempFile::new().unwrap();
        let output = again(
            "memory_never_becomes_executable_inside",
            state.path().to_str().unwrap(),
        );
        assert_eq!(output.status.code(), Some(last_words::STATUS), "{output:?}");
    }
}
