//! Giving up what a guest's monitor does not need, once everything is open.
//!
//! In comes the configuration; [`Sandbox::new`] makes what there is to enter, and each thread then calls [`Sandbox::enter`] for its [`Role`] before it
//! does anything for the guest. A thread that is inside
//!
//! - has an empty root directory, a network without links and its own message objects ([`enclosure`]),
//! - is a user of its own, without groups and capabilities ([`identity`]), and can gain no privileges,
//! - opens no file and connects to nothing, by Landlock ([`landlock`]),
//! - makes only the system calls of its role ([`filter`]); one outside the list ends the process, and [`last_words`] names it.
//!
//! Credentials, namespaces and filters belong to threads on Linux; each thread enters by itself. What belongs to the process (limits) is in
//! [`Sandbox::limit`]. What a host cannot give is in [`Sandbox::layers`], with the reason.

mod calls;
mod enclosure;
mod filter;
mod identity;
mod landlock;
pub mod last_words;
mod layers;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use seccompiler::BpfProgram;
use thiserror::Error;

use crate::bus::lock;
use crate::config::{Containment, Guest};
use enclosure::{Enclosure, Making};
use identity::Identity;
use landlock::Rules;

pub use layers::{Layer, Layers, Missing};

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The owner of the machine: control socket, console, reset.
    Owner,
    /// Runs the guest.
    Vcpu,
    /// Serves devices.
    Device,
    /// Serves a disk.
    Disk,
    /// Serves devices whose other ends are sockets.
    Channel,
    /// Reads what the guest boots out of its disk.
    Boot,
    /// Serves a device for which it also calls unix sockets of the host: those that the guest's user may call, in the one directory that it has.
    Caller,
}

impl Role {
    /// For messages.
    fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner's",
            Self::Vcpu => "vcpu",
            Self::Device => "device",
            Self::Disk => "disk",
            Self::Channel => "channel",
            Self::Boot => "boot",
            Self::Caller => "caller",
        }
    }
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
    /// The configuration is strict, and this host cannot give everything.
    #[error("the configuration says sandbox: strict, and this host does not give the monitor{}", list(.0))]
    Incomplete(Vec<Missing>),
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

fn list(missing: &[Missing]) -> String {
    missing.iter().map(|m| format!("\n  {m}")).collect()
}

fn refused(what: &'static str) -> impl Fn(rustix::io::Errno) -> SandboxError {
    move |errno| SandboxError::Refused {
        what,
        source: errno.into(),
    }
}

/// What threads give up, made once and cloned for each.
#[derive(Debug, Clone)]
pub struct Sandbox(Option<Arc<Walls>>);

#[derive(Debug)]
struct Walls {
    /// Until somebody needs what it makes: the kernel takes milliseconds for it, in which devices are opened.
    making: Mutex<Option<Plan>>,
    built: OnceLock<Built>,
    become_: Option<(Uid, Gid)>,
    rules: Rules,
    filters: Filters,
}

/// What the layers are built from.
#[derive(Debug)]
struct Plan {
    own_user: Result<(), String>,
    namespaces: Making,
    landlock: Result<(), String>,
}

#[derive(Debug)]
struct Built {
    layers: Layers,
    enclosure: Enclosure,
}

#[derive(Debug)]
struct Filters {
    owner: BpfProgram,
    vcpu: BpfProgram,
    device: BpfProgram,
    disk: BpfProgram,
    channel: BpfProgram,
    boot: BpfProgram,
    caller: BpfProgram,
}

impl Filters {
    fn new() -> Result<Self, SandboxError> {
        Ok(Self {
            owner: filter::program(Role::Owner)?,
            vcpu: filter::program(Role::Vcpu)?,
            device: filter::program(Role::Device)?,
            disk: filter::program(Role::Disk)?,
            channel: filter::program(Role::Channel)?,
            boot: filter::program(Role::Boot)?,
            caller: filter::program(Role::Caller)?,
        })
    }

    fn of(&self, role: Role) -> &BpfProgram {
        match role {
            Role::Owner => &self.owner,
            Role::Vcpu => &self.vcpu,
            Role::Device => &self.device,
            Role::Disk => &self.disk,
            Role::Channel => &self.channel,
            Role::Boot => &self.boot,
            Role::Caller => &self.caller,
        }
    }
}

/// Descriptors that a monitor can have open: far more than its devices need.
const DESCRIPTORS: u64 = 4096;
/// Threads that a monitor can have, those included that the kernel starts for its devices.
const THREADS: u64 = 1024;
/// Memory that a monitor can lock, beside what was locked for the guest before it was inside.
const LOCKED: u64 = 8 << 20;

impl Sandbox {
    /// Makes what this guest's monitor enters. To be called while the process has one thread.
    ///
    /// # Errors
    /// A user that this process cannot become; a layer that is not there while the configuration is strict.
    pub fn new(guest: &Guest) -> Result<Self, SandboxError> {
        let identity = Identity::choose(guest)?;
        enclosure::become_able()?;
        let namespaces = Making::begin().map_err(no_namespaces)?;
        let (rules, landlock) = match Rules::make() {
            Ok(rules) => (rules, Ok(())),
            Err(reason) => (Rules::none(), Err(reason)),
        };
        let plan = Plan {
            own_user: identity.own,
            namespaces,
            landlock,
        };
        let walls = Walls {
            making: Mutex::new(Some(plan)),
            built: OnceLock::new(),
            become_: identity.become_,
            rules,
            filters: Filters::new()?,
        };
        if guest.sandbox == Containment::Strict {
            let layers = &walls.built()?.layers;
            if !layers.missing.is_empty() {
                return Err(SandboxError::Incomplete(layers.missing.clone()));
            }
        }
        Ok(Self(Some(Arc::new(walls))))
    }

    /// Gives nothing up: for debugging only.
    pub fn none() -> Self {
        Self(None)
    }

    /// What holds the monitor, and what does not, once [`Sandbox::limit`] has been called. `None` if nothing does.
    pub fn layers(&self) -> Option<&Layers> {
        let built = self.0.as_ref()?.built.get()?;
        Some(&built.layers)
    }

    /// Gives up what belongs to the whole process. To be called once, when everything is open.
    pub fn limit(&self) -> Result<(), SandboxError> {
        let Some(walls) = &self.0 else {
            return Ok(());
        };
        // Nobody looks into a process that forbids it, not even the thread that makes its namespaces.
        let layers = &walls.built()?.layers;
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
        lower(Resource::Memlock, LOCKED).map_err(refused("bound the locked memory"))?;
        if layers.held.contains(&Layer::User) {
            // Threads are counted by user: of one that is not the monitor's own, others' would count too.
            lower(Resource::Nproc, THREADS).map_err(refused("bound the number of threads"))?;
        }
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .map_err(refused("forbid others to look into the process"))
    }

    /// Gives up what belongs to this thread. There is no way back.
    pub fn enter(&self, role: Role) -> Result<(), SandboxError> {
        let Some(walls) = &self.0 else {
            return Ok(());
        };
        walls.enter(None)?;
        last_words::this_is(role);
        seccompiler::apply_filter(walls.filters.of(role))?;
        Ok(())
    }

    /// Gives up what belongs to this thread, but keeps a directory of the host: its root, and where names without a slash are looked for.
    pub fn enter_at(&self, role: Role, place: &File) -> Result<(), SandboxError> {
        let Some(walls) = &self.0 else {
            return Ok(());
        };
        walls.enter(Some(place))?;
        last_words::this_is(role);
        seccompiler::apply_filter(walls.filters.of(role))?;
        Ok(())
    }

    /// Whether there is a sandbox.
    pub fn holds(&self) -> bool {
        self.0.is_some()
    }
}

fn no_namespaces(source: io::Error) -> SandboxError {
    SandboxError::Refused {
        what: "make namespaces",
        source,
    }
}

impl Walls {
    /// What was made, once it is.
    fn built(&self) -> Result<&Built, SandboxError> {
        let mut making = lock(&self.making);
        if let Some(plan) = making.take() {
            let mut layers = Layers::default();
            layers.note(Identity::LAYER, plan.own_user);
            let enclosure = plan.namespaces.wait(&mut layers).map_err(no_namespaces)?;
            layers.note(Layer::Pid, alone());
            layers.note(Layer::Landlock, plan.landlock);
            // Nobody else sets it: the plan was there to take.
            let _ = self.built.set(Built { layers, enclosure });
        }
        self.built.get().ok_or(SandboxError::Ended)
    }

    /// All but the filter.
    fn enter(&self, place: Option<&File>) -> Result<(), SandboxError> {
        let enclosure = &self.built()?.enclosure;
        match place {
            None => enclosure.enter(),
            Some(place) => enclosure.enter_at(place),
        }
        .map_err(refused("enter its own namespaces"))?;
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
        self.rules.enter().map_err(|source| SandboxError::Refused {
            what: "bind itself by landlock",
            source,
        })
    }
}

/// Whether there is nobody else in the process's namespace of processes. Only whoever starts the monitor can arrange that: a process that makes
/// such a namespace stays outside it.
fn alone() -> Result<(), String> {
    if std::process::id() == 1 {
        Ok(())
    } else {
        Err("it was not started as the first process of a namespace (unshare --pid --fork)".into())
    }
}

#[cfg(test)]
mod compromised_tests;
#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "VIREO_TEST_SANDBOX_CHILD";

    fn enter(role: Role) {
        let built = Built {
            layers: Layers::default(),
            enclosure: Enclosure::none(),
        };
        let sandbox = Sandbox(Some(Arc::new(Walls {
            making: Mutex::new(None),
            built: OnceLock::from(built),
            become_: None,
            rules: Rules::none(),
            filters: Filters::new().unwrap(),
        })));
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
                .open(&state)
                .unwrap();
            last_words::listen(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
            let client = std::fs::File::create(format!("{state}-client")).unwrap();
            last_words::tell(std::os::fd::AsRawFd::as_raw_fd(&client));
            last_words::event(41);
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
        assert!(
            said.contains(
                "system call openat (257) is not on the sandbox's list for the vcpu thread"
            ),
            "{said}"
        );
        let line: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(state.path()).unwrap()).unwrap();
        assert_eq!(
            (&line["state"], &line["reason"]),
            (&"ended".into(), &"error".into())
        );
        let client = std::path::PathBuf::from(format!("{}-client", state.path().display()));
        let event = std::fs::read_to_string(&client).unwrap();
        std::fs::remove_file(&client).unwrap();
        let event: crate::control::wire::Event = serde_json::from_str(&event).unwrap();
        assert_eq!(event.event, crate::control::wire::EventKind::Violation);
        assert_eq!(
            (event.seq, event.message.as_deref()),
            (42, line["message"].as_str())
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
    fn an_interrupts_wire_is_connected_and_taken_away_inside() {
        use crate::interrupt::{KvmMsi, Msi};
        let Ok(kvm) = kvm_ioctls::Kvm::new() else {
            eprintln!("skipped: cannot open /dev/kvm");
            return;
        };
        if std::env::var(CHILD).is_ok() {
            let vm = kvm.create_vm().unwrap();
            vm.create_irq_chip().unwrap();
            let msi = KvmMsi::new(Arc::new(vm));
            let call = vmm_sys_util::eventfd::EventFd::new(libc::EFD_NONBLOCK).unwrap();
            enter(Role::Vcpu);
            let mut wire = msi.wire(&Arc::new(call)).unwrap();
            for message in [Some((0xfee0_0000, 0x41)), Some((0xfee0_0000, 0x42)), None] {
                wire.connect(message).unwrap();
            }
            println!("inside");
            std::process::exit(0);
        }
        let output = again("an_interrupts_wire_is_connected_and_taken_away_inside", "1");
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
