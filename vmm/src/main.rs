//! `vireo-vmm`: one KVM guest in one process.
//!
//! In comes a configuration; the process lives as long as the guest does. Everything is opened first, then privileges are given up, then the
//! guest runs; the main thread owns the machine and serves the control socket. See the library's modules for each part.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use thiserror::Error;
use vireo_vmm::clock::{ClockError, Course};
use vireo_vmm::config::{ConfigError, Guest};
use vireo_vmm::console::{Console, ConsoleError, listen};
use vireo_vmm::control::{ControlError, End, Estate, Journal, Owner, Reason, chain};
use vireo_vmm::core_dump::CoreFile;
use vireo_vmm::log::Bounded;
use vireo_vmm::machine::{Machine, MachineError};
use vireo_vmm::notice;
use vireo_vmm::pin::Pinning;
use vireo_vmm::reference;
use vireo_vmm::sandbox::{Role, Sandbox, SandboxError, last_words};

/// Runs one KVM guest.
///
/// The configuration, JSON or YAML, says everything about the guest: memory, processors, what it boots, disks, interfaces, and where the control socket, the
/// console and the state file are. The process ends when the guest does.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "--help tells every key of the configuration and every request of the control socket."
)]
struct Arguments {
    /// The guest's configuration; `-` reads it from standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "schema")]
    config: Option<PathBuf>,

    /// Only say whether the configuration is sound. Nothing is opened.
    #[arg(long)]
    check: bool,

    /// Print the JSON Schema of the configuration, or of a request, and end.
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "configuration", exclusive = true)]
    schema: Option<Wire>,

    /// Keep all privileges and system calls. For debugging: a guest that breaks out has them too.
    #[arg(long)]
    no_sandbox: bool,

    /// Log more, on the error stream.
    #[arg(long, short)]
    verbose: bool,
}

/// What goes in from outside.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wire {
    /// What `--config` reads.
    Configuration,
    /// A line to the control socket.
    Request,
}

const BEGINNING: &str = "\
The smallest configuration that says anything:

  name: web
  uuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1
  memory: {size: 268435456}
  vcpus: {count: 1}
  boot: {kernel: /boot/vmlinuz, initrd: /boot/initrd.img, cmdline: console=ttyS0}
  serial: {pty: true}
  control: /run/web/control
  state: /run/web/state

Every key; those with a * must be there, and --schema says more of each:

";

const MIDDLE: &str = "
Without a kernel, boot: {disk: vda} boots what that disk's own boot configuration names (grub.cfg or Boot Loader Specification entries, in
ext4 and FAT partitions), read anew at every boot and reset. A cmdline is added to its arguments, and so is console=ttyS0 where
neither names a console. Nothing is written to the disk: a next_entry of grub-reboot holds until the guest takes it back.

Control: one JSON object a line on the socket, and one back for each, with the same id and ok or error:

";

const END: &str = "
  $ echo '{\"id\":1,\"do\":\"status\"}' | socat - /run/web/control

Sandbox: once everything is open, each thread has an empty root directory, a network without links, a user of its own (if root
started the monitor), no capabilities, and the system calls that it needs. What the host cannot give is in the first event and in
status; with sandbox: strict the guest does not start then.

State: the last line of the state file says how the guest is, or how it ended.

Exit status: 0 the guest powered off, or was told to end; 1 it could not be started or run any further; 2 wrong arguments;
3 it crashed; 70 a bug of the monitor, or a system call that its sandbox forbids.";

/// What ends the monitor before the guest could end.
#[derive(Debug, Error)]
enum MainError {
    #[error("could not read the configuration {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("could not open the state file {path}")]
    State { path: PathBuf, source: io::Error },
    #[error("could not listen on the control socket {path}")]
    Listen { path: PathBuf, source: io::Error },
    #[error("could not open the file for core dumps {path}")]
    Core { path: PathBuf, source: io::Error },
    #[error("could not wait for signals")]
    Signals(#[source] io::Error),
    #[error("could not make an event descriptor")]
    Notices(#[source] io::Error),
    #[error(transparent)]
    Clock(#[from] ClockError),
    #[error(transparent)]
    Console(#[from] ConsoleError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

fn main() -> ExitCode {
    one_arena();
    let arguments = arguments();
    if let Some(wire) = arguments.schema {
        return print_schema(wire);
    }
    let level = if arguments.verbose {
        tracing::Level::DEBUG
    } else {
        tracing::Level::INFO
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(Mutex::new(Bounded::new(io::stderr())))
        .init();
    match run(&arguments) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(end)) => match end.reason {
            Reason::PowerOff | Reason::Reset | Reason::Quit => ExitCode::SUCCESS,
            Reason::Error => {
                eprintln!("vireo-vmm: {}", end.message);
                ExitCode::FAILURE
            }
            Reason::Crash => {
                eprintln!("vireo-vmm: {}", end.message);
                ExitCode::from(3)
            }
        },
        Err(error) => {
            eprintln!("vireo-vmm: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The words of the command line. The long help is put together only for who asks for it: a guest's start does not wait for that.
fn arguments() -> Arguments {
    let mut command = Arguments::command();
    if std::env::args_os().any(|word| word == "--help") {
        let (keys, requests) = (reference::keys(), reference::requests());
        command = command.after_long_help(format!("{BEGINNING}{keys}{MIDDLE}{requests}{END}"));
    }
    Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn print_schema(wire: Wire) -> ExitCode {
    let schema = match wire {
        Wire::Configuration => reference::configuration_schema(),
        Wire::Request => reference::request_schema(),
    };
    match writeln!(io::stdout(), "{schema:#}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vireo-vmm: could not print the schema: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lets all threads share one arena of memory: where the C library gives back another's, it opens a file of `/proc` first, which the sandbox forbids. A monitor's
/// threads hardly allocate while the guest runs.
fn one_arena() {
    // SAFETY: no other thread is there yet, and a refusal leaves all as it is.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

fn run(arguments: &Arguments) -> Result<Option<End>, MainError> {
    let config = arguments.config.as_deref().unwrap_or(Path::new("-"));
    let guest = Guest::parse(&read(config)?)?;
    if arguments.check {
        return Ok(None);
    }
    let state = |source| MainError::State {
        path: guest.state.clone(),
        source,
    };
    let mut journal = Journal::open(&guest.state).map_err(state)?;
    last_words::listen(journal.descriptor()).map_err(state)?;
    journal.starting();
    let result = live(arguments, &guest, &mut journal);
    match &result {
        Ok(end) => journal.ended(end.reason, &end.message),
        Err(error) => journal.ended(Reason::Error, &chain(error)),
    }
    result.map(Some)
}

/// The guest's whole life.
fn live(arguments: &Arguments, guest: &Guest, journal: &mut Journal) -> Result<End, MainError> {
    // Before any thread is made: a time zone is the whole process's, and all threads leave these signals to the owner.
    let clock = Course::begin(&guest.clock)?;
    let signals = block_signals().map_err(MainError::Signals)?;
    ignore_signals();
    let listener = listen(&guest.control).map_err(|source| MainError::Listen {
        path: guest.control.clone(),
        source,
    })?;
    let pinning = Pinning::begin(&guest.pins).map_err(MachineError::from)?;
    let (notifier, notices) = notice::channel().map_err(MainError::Notices)?;
    let console = Console::open(&guest.serial, &guest.control.with_file_name("console"))?;
    let core = guest.core.as_deref().map(|path| {
        CoreFile::open(path).map_err(|source| MainError::Core {
            path: path.to_owned(),
            source,
        })
    });
    let core = core.transpose()?;
    let sandbox = if arguments.no_sandbox {
        tracing::warn!(
            "the sandbox is off: a guest that breaks out has all of this process's rights"
        );
        Sandbox::none()
    } else {
        Sandbox::new(guest)?
    };
    let mut machine = Machine::build(
        guest,
        &console,
        &notifier,
        &sandbox,
        &pinning,
        clock.origin(),
    )?;
    sandbox.limit()?;
    machine.start(&sandbox, &pinning)?;
    let signals_descriptor = signals.as_raw_fd();
    let estate = Estate {
        machine,
        console,
        notices,
        listener,
        signals: signals_descriptor,
        layers: sandbox.layers().cloned(),
        core,
        clock,
    };
    let owner = Owner::new(guest, estate, journal)?;
    sandbox.enter(Role::Owner)?;
    Ok(owner.serve()?)
}

fn read(path: &Path) -> Result<String, MainError> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|source| MainError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Ignores signals that end a process by default and mean nothing to this one: a stray one, or a timer that whoever started it left behind, is no reason
/// to end a guest. Without the last, an image that reaches the limit of file sizes would end it, too, instead of giving the guest an error.
fn ignore_signals() {
    const MEANINGLESS: [libc::c_int; 7] = [
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGXFSZ,
    ];
    for signal in MEANINGLESS {
        // SAFETY: nobody has a handler for it, and to ignore a signal runs no code. These exist, so there is no error.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Blocks the signals that mean "end", and gives a descriptor that is readable when one has come.
fn block_signals() -> io::Result<OwnedFd> {
    let check = |result: libc::c_int| {
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result)
        }
    };
    // SAFETY: `set` is written by `sigemptyset` before anything reads it, and all pointers are valid for the calls. The descriptor is new and
    // nobody else's.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        check(libc::sigprocmask(
            libc::SIG_BLOCK,
            &raw const set,
            std::ptr::null_mut(),
        ))?;
        let descriptor = check(libc::signalfd(
            -1,
            &raw const set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}
