//! A monitor that a guest has taken over: arbitrary code in its process, once it is inside.
//!
//! Each attempt runs in a process of its own, in a thread of each kind, straight through `syscall`. With the whole sandbox the process must end at the
//! attempt, naming it; with the lists of system calls left out, the kernel must refuse it for want of rights, so that no layer stands on
//! another. Those that need root to build a sandbox say so and are skipped without it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use super::*;

const CHILD: &str = "VIREO_TEST_COMPROMISED";
const ROLES: [Role; 7] = [
    Role::Owner,
    Role::Vcpu,
    Role::Device,
    Role::Disk,
    Role::Channel,
    Role::Boot,
    Role::Caller,
];

/// What the attacker knows.
struct Target {
    /// A process of another user, outside.
    outside: i64,
    /// Whoever started the monitor.
    parent: i64,
    /// A descriptor of `/dev/kvm`, or of the null device.
    kvm: i64,
    /// A pidfd of that process, as nobody would leave it open.
    handle: i64,
    /// A descriptor of the host's root directory, as nobody would leave it open.
    root: i64,
    /// Zeroed memory.
    memory: i64,
    /// An `iovec` of eight bytes of it.
    range: i64,
}

/// An attempt: the call that it is refused for, and what it does.
struct Attempt {
    name: &'static str,
    call: i64,
    arguments: fn(&Target) -> [i64; 6],
    /// Whether the other layers refuse it too, without the list of calls. (A socket that reaches nobody, and memory of its own, need no
    /// refusal; signals to everybody reach those of its own user, which is itself.)
    rights: bool,
}

const NONE: fn(&Target) -> [i64; 6] = |_| [0; 6];

fn text(text: &'static std::ffi::CStr) -> i64 {
    text.as_ptr() as i64
}

macro_rules! attempts {
    ($($name:literal $call:ident $rights:literal $arguments:expr;)*) => {
        &[$(Attempt { name: $name, call: libc::$call, arguments: $arguments, rights: $rights }),*]
    };
}

/// Whether the attempt is what threads of this kind are for. What they reach by it is another test's.
fn is_its_work(role: Role, attempt: &Attempt) -> bool {
    role == Role::Caller && ["speak to other processes", "call somebody"].contains(&attempt.name)
}

const CWD: i64 = libc::AT_FDCWD as i64;
const RDWR_CREATE: i64 = (libc::O_RDWR | libc::O_CREAT) as i64;

const ATTEMPTS: &[Attempt] = attempts! {
    "read a file" SYS_openat true |_| [CWD, text(c"/etc/passwd"), 0, 0, 0, 0];
    "read a file the old way" SYS_open true |_| [text(c"/etc/passwd"), 0, 0, 0, 0, 0];
    "read a file through an open directory" SYS_openat true |t| [t.root, text(c"etc/passwd"), 0, 0, 0, 0];
    "read a file the new way" SYS_openat2 true |t| [t.root, text(c"etc/passwd"), t.memory, 24, 0, 0];
    "make a file" SYS_openat true |_| [CWD, text(c"/tmp/vireo-compromised"), RDWR_CREATE, 0o600, 0, 0];
    "make a file in its own root" SYS_openat true |_| [CWD, text(c"/x"), RDWR_CREATE, 0o600, 0, 0];
    "remove a file through an open directory" SYS_unlinkat true |t| [t.root, text(c"vireo-compromised"), 0, 0, 0, 0];
    "make a directory" SYS_mkdirat true |t| [t.root, text(c"vireo-compromised"), 0o700, 0, 0, 0];
    "make a device" SYS_mknodat true |_| [CWD, text(c"/kvm"), (libc::S_IFCHR | 0o600) as i64, 0xae8, 0, 0];
    "change a mode" SYS_fchmodat true |_| [CWD, text(c"/"), 0o777, 0, 0, 0];
    "climb out by an open directory" SYS_fchdir false |t| [t.root, 0, 0, 0, 0, 0];
    "change the root" SYS_chroot true |_| [text(c"."), 0, 0, 0, 0, 0];
    "run a program" SYS_execve true |_| [text(c"/bin/sh"), 0, 0, 0, 0, 0];
    "run a program by an open directory" SYS_execveat true |t| [t.root, text(c"bin/sh"), 0, 0, 0, 0];
    "make a process" SYS_fork false NONE;
    "make a process the new way" SYS_clone3 false |t| [t.memory, 64, 0, 0, 0, 0];
    "speak IP" SYS_socket false |_| [libc::AF_INET as i64, libc::SOCK_STREAM as i64, 0, 0, 0, 0];
    "speak netlink" SYS_socket false |_| [libc::AF_NETLINK as i64, libc::SOCK_RAW as i64, 0, 0, 0, 0];
    "speak raw Ethernet" SYS_socket true |_| [libc::AF_PACKET as i64, libc::SOCK_RAW as i64, 0, 0, 0, 0];
    "speak to other processes" SYS_socket false |_| [libc::AF_UNIX as i64, libc::SOCK_STREAM as i64, 0, 0, 0, 0];
    "take a kept name" SYS_bind false |_| [0, 0, 0, 0, 0, 0];
    "signal another process" SYS_kill true |t| [t.outside, libc::SIGTERM as i64, 0, 0, 0, 0];
    "signal everybody" SYS_kill false |_| [-1, 0, 0, 0, 0, 0];
    "signal another thread" SYS_tgkill true |t| [t.outside, t.outside, 0, 0, 0, 0];
    "signal by a descriptor" SYS_pidfd_send_signal true |t| [t.handle, 0, 0, 0, 0, 0];
    "queue a signal" SYS_rt_sigqueueinfo true |t| [t.outside, libc::SIGTERM as i64, t.memory, 0, 0, 0];
    "trace another process" SYS_ptrace true |t| [libc::PTRACE_SEIZE as i64, t.outside, 0, 0, 0, 0];
    "read another process's memory" SYS_process_vm_readv true |t| [t.outside, t.range, 1, t.range, 1, 0];
    "write another process's memory" SYS_process_vm_writev true |t| [t.outside, t.range, 1, t.range, 1, 0];
    "take another process's descriptor" SYS_pidfd_getfd true |t| [t.handle, 0, 0, 0, 0, 0];
    "hold another process" SYS_pidfd_open false |t| [t.outside, 0, 0, 0, 0, 0];
    "limit another process" SYS_prlimit64 true |t| [t.outside, libc::RLIMIT_NOFILE as i64, t.memory, 0, 0, 0];
    "compare processes" SYS_kcmp true |t| [1, t.outside, 0, 0, 0, 0];
    "make a user namespace" SYS_unshare false |_| [libc::CLONE_NEWUSER as i64, 0, 0, 0, 0, 0];
    "make a mount namespace" SYS_unshare true |_| [libc::CLONE_NEWNS as i64, 0, 0, 0, 0, 0];
    "make a network namespace" SYS_unshare true |_| [libc::CLONE_NEWNET as i64, 0, 0, 0, 0, 0];
    "enter another process's namespaces" SYS_setns true |t| [t.handle, libc::CLONE_NEWNS as i64, 0, 0, 0, 0];
    "mount a file system" SYS_mount true |_| [text(c"none"), text(c"/"), text(c"tmpfs"), 0, 0, 0];
    "mount the new way" SYS_fsopen true |_| [text(c"tmpfs"), 0, 0, 0, 0, 0];
    "copy a mount" SYS_open_tree true |t| [t.root, text(c"etc"), 1, 0, 0, 0];
    "unmount its root" SYS_umount2 true |_| [text(c"/"), libc::MNT_DETACH as i64, 0, 0, 0, 0];
    "pivot its root" SYS_pivot_root true |_| [text(c"."), text(c"."), 0, 0, 0, 0];
    "become root" SYS_setresuid true |_| [0, 0, 0, 0, 0, 0];
    "become root's group" SYS_setresgid true |_| [0, 0, 0, 0, 0, 0];
    "join groups" SYS_setgroups true |t| [1, t.memory, 0, 0, 0, 0];
    "read another guest's disk" SYS_openat true |t| [t.root, text(c"var/lib/vireo/images/other.raw"), libc::O_RDWR as i64, 0, 0, 0];
    "read another process's memory by /proc" SYS_openat true |_| [CWD, text(c"/proc/1/mem"), libc::O_RDWR as i64, 0, 0, 0];
    "read its own memory by /proc" SYS_openat true |_| [CWD, text(c"/proc/self/mem"), libc::O_RDWR as i64, 0, 0, 0];
    "list an open directory" SYS_getdents64 false |t| [t.root, t.memory, 1024, 0, 0, 0];
    "read a link" SYS_readlinkat false |t| [t.root, text(c"proc/self"), t.memory, 64, 0, 0];
    "open by handle" SYS_open_by_handle_at false |t| [t.root, t.memory, 0, 0, 0, 0];
    "give a file to somebody" SYS_fchownat true |t| [t.root, text(c"etc"), 0, 0, 0, 0];
    "move a file" SYS_renameat2 true |t| [t.root, text(c"etc"), t.root, text(c"vireo-compromised"), 0, 0];
    "link a file" SYS_linkat true |t| [t.root, text(c"etc/passwd"), t.root, text(c"vireo-compromised"), 0, 0];
    "make a link" SYS_symlinkat true |t| [text(c"/"), t.root, text(c"vireo-compromised"), 0, 0, 0];
    "cut a file by name" SYS_truncate true |_| [text(c"/etc/passwd"), 0, 0, 0, 0, 0];
    "set times of a file" SYS_utimensat true |t| [t.root, text(c"etc"), 0, 0, 0, 0];
    "set attributes of a file" SYS_setxattr true |t| [text(c"/"), text(c"user.x"), t.memory, 1, 0, 0];
    "make an io_uring" SYS_io_uring_setup false |t| [8, t.memory, 0, 0, 0, 0];
    "have an io_uring do more" SYS_io_uring_register false |t| [t.root, 0, t.memory, 0, 0, 0];
    "watch a file" SYS_inotify_init1 false NONE;
    "watch a file system" SYS_fanotify_init true NONE;
    "signal its parent" SYS_kill true |t| [t.parent, libc::SIGTERM as i64, 0, 0, 0, 0];
    "signal its parent's thread" SYS_tkill true |t| [t.parent, libc::SIGTERM as i64, 0, 0, 0, 0];
    "queue a signal to its parent's thread" SYS_rt_tgsigqueueinfo true |t| [t.parent, t.parent, libc::SIGTERM as i64, t.memory, 0, 0];
    "have the kernel signal another process" SYS_fcntl false |t| [0, libc::F_SETOWN as i64, t.outside, 0, 0, 0];
    "trace its parent" SYS_ptrace true |t| [libc::PTRACE_ATTACH as i64, t.parent, 0, 0, 0, 0];
    "be traced by its parent" SYS_ptrace false |_| [libc::PTRACE_TRACEME as i64, 0, 0, 0, 0, 0];
    "advise another process's memory" SYS_process_madvise false |t| [t.handle, t.range, 1, libc::MADV_COLD as i64, 0, 0];
    "reap another process's memory" SYS_process_mrelease false |t| [t.handle, 0, 0, 0, 0, 0];
    "move another process's pages" SYS_move_pages true |t| [t.outside, 0, 0, 0, 0, 0];
    "favour another process" SYS_setpriority true |t| [0, t.outside, -20, 0, 0, 0];
    "favour itself" SYS_setpriority true |_| [0, 0, -20, 0, 0, 0];
    "bind another process to a processor" SYS_sched_setaffinity true |t| [t.outside, 8, t.memory, 0, 0, 0];
    "read another process's schedule" SYS_sched_getattr false |t| [t.outside, t.memory, 48, 0, 0, 0];
    "make a process namespace" SYS_unshare true |_| [libc::CLONE_NEWPID as i64, 0, 0, 0, 0, 0];
    "make a namespace of names" SYS_unshare true |_| [libc::CLONE_NEWUTS as i64, 0, 0, 0, 0, 0];
    "make a namespace of messages" SYS_unshare true |_| [libc::CLONE_NEWIPC as i64, 0, 0, 0, 0, 0];
    "make a namespace of control groups" SYS_unshare true |_| [libc::CLONE_NEWCGROUP as i64, 0, 0, 0, 0, 0];
    "make a process in a user namespace" SYS_clone false |_| [libc::CLONE_NEWUSER as i64 | libc::SIGCHLD as i64, 0, 0, 0, 0, 0];
    "enter a namespace by an open directory" SYS_setns false |t| [t.root, 0, 0, 0, 0, 0];
    "move a mount" SYS_move_mount true |t| [t.root, text(c""), t.root, text(c"mnt"), 4, 0];
    "change a mount" SYS_mount_setattr false |t| [t.root, text(c""), 0x1000, t.memory, 32, 0];
    "pick a file system" SYS_fspick true |t| [t.root, text(c""), 8, 0, 0, 0];
    "swap" SYS_swapon true |_| [text(c"/swap"), 0, 0, 0, 0, 0];
    "add a key" SYS_add_key false |t| [text(c"user"), text(c"x"), t.memory, 1, -3, 0];
    "ask for a key" SYS_request_key false |_| [text(c"user"), text(c"x"), 0, 0, 0, 0];
    "count performance events" SYS_perf_event_open false |t| [t.memory, -1, 0, -1, 0, 0];
    "make an io_uring" SYS_io_uring_setup false |t| [8, t.memory, 0, 0, 0, 0];
    "register with an io_uring" SYS_io_uring_register false |t| [-1, 0, t.memory, 0, 0, 0];
    "make asynchronous accesses" SYS_io_setup false |t| [8, t.memory, 0, 0, 0, 0];
    "make secret memory" SYS_memfd_secret false NONE;
    "run a program from memory" SYS_execveat true |t| [t.kvm, text(c""), 0, 0, 0x1000, 0];
    "share memory" SYS_shmget false |_| [0, 4096, 0o600 | libc::IPC_CREAT as i64, 0, 0, 0];
    "share messages" SYS_msgget false |_| [0, 0o600 | libc::IPC_CREAT as i64, 0, 0, 0, 0];
    "open a message queue" SYS_mq_open true |_| [text(c"x"), RDWR_CREATE, 0o600, 0, 0, 0];
    "receive a descriptor" SYS_recvmsg false |t| [0, t.memory, 0, 0, 0, 0];
    "send a descriptor" SYS_sendmsg false |t| [0, t.memory, 0, 0, 0, 0];
    "listen" SYS_listen false |_| [0, 1, 0, 0, 0, 0];
    "call somebody" SYS_connect false |t| [0, t.memory, 2, 0, 0, 0];
    "make a filter of its own" SYS_seccomp false |t| [1, 0, t.memory, 0, 0, 0];
    "renounce the renouncing" SYS_prctl false |_| [libc::PR_SET_NO_NEW_PRIVS as i64, 0, 0, 0, 0, 0];
    "take capabilities" SYS_capset false |t| [t.memory, t.memory, 0, 0, 0, 0];
    "change its personality" SYS_personality false |_| [0x004_0000, 0, 0, 0, 0, 0];
    "touch ports" SYS_ioperm true |_| [0x60, 1, 1, 0, 0, 0];
    "touch all ports" SYS_iopl true |_| [3, 0, 0, 0, 0, 0];
    "make a segment" SYS_modify_ldt false |t| [1, t.memory, 16, 0, 0, 0];
    "read the kernel's log" SYS_syslog false |t| [3, t.memory, 1024, 0, 0, 0];
    "account processes" SYS_acct true |_| [0; 6];
    "load another kernel" SYS_kexec_load true |_| [0; 6];
    "remove a kernel module" SYS_delete_module true |_| [text(c"kvm"), libc::O_NONBLOCK as i64, 0, 0, 0, 0];
    "change quotas" SYS_quotactl false |_| [0; 6];
    "become dumpable" SYS_prctl false |_| [libc::PR_SET_DUMPABLE as i64, 1, 0, 0, 0, 0];
    "map executable memory" SYS_mmap false |_| [0, 4096, (libc::PROT_READ | libc::PROT_EXEC) as i64, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as i64, -1, 0];
    "make memory executable" SYS_mprotect false |t| [t.memory & !4095, 4096, (libc::PROT_READ | libc::PROT_EXEC) as i64, 0, 0, 0];
    "make memory executable by key" SYS_pkey_mprotect false |t| [t.memory & !4095, 4096, libc::PROT_EXEC as i64, -1, 0, 0];
    "make a program in memory" SYS_memfd_create false |_| [text(c"x"), 0, 0, 0, 0, 0];
    "load a kernel program" SYS_bpf true |t| [5, t.memory, 64, 0, 0, 0];
    "load a kernel module" SYS_finit_module true |_| [0, text(c""), 0, 0, 0, 0];
    "use keys" SYS_keyctl false |_| [0, -3, 1, 0, 0, 0];
    "fault in user space" SYS_userfaultfd false NONE;
    "set the clock" SYS_clock_settime true |t| [0, t.memory, 0, 0, 0, 0];
    "name the host" SYS_sethostname true |_| [text(c"x"), 1, 0, 0, 0, 0];
    "reboot the host" SYS_reboot true |_| [0xfee1_dead, 672_274_793, 0x89ab_cdef, 0, 0, 0];
    "make another machine" SYS_ioctl false |t| [t.kvm, 0xae01, 0, 0, 0, 0];
    "give the machine other memory" SYS_ioctl false |t| [t.kvm, 0x4020_ae46, t.memory, 0, 0, 0];
    "make another vcpu" SYS_ioctl false |t| [t.kvm, 0xae41, 1, 0, 0, 0];
    "make a device of the kernel's" SYS_ioctl false |t| [t.kvm, 0xc00c_aee0, t.memory, 0, 0, 0];
    "attach to a tap" SYS_ioctl false |t| [0, libc::TUNSETIFF as i64, t.memory, 0, 0, 0];
    "make a file immutable" SYS_ioctl false |t| [t.root, 0x4008_6602, t.memory, 0, 0, 0];
    "type on a terminal" SYS_ioctl false |t| [0, libc::TIOCSTI as i64, t.memory, 0, 0, 0];
};

fn guest() -> Guest {
    Guest::parse(
        "name: x\nuuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1\nmemory: {size: 16777216}\nvcpus: {count: 1}\nboot: {kernel: /x}\n\
         control: /x/control\nstate: /x/state",
    )
    .unwrap()
}

/// The attacker's life: enters, tries, and prints what came of it.
fn attack(words: &str) {
    let mut words = words.split(' ').map(|word| word.parse::<i64>().unwrap());
    let [role, attempt, filtered, outside] = std::array::from_fn(|_| words.next().unwrap());
    let (role, attempt) = (
        ROLES[usize::try_from(role).unwrap()],
        &ATTEMPTS[usize::try_from(attempt).unwrap()],
    );
    let sandbox = Sandbox::new(&guest()).unwrap();
    let state = fs::File::create("/dev/null").unwrap();
    last_words::listen(state.as_raw_fd()).unwrap();
    let kvm = fs::File::open("/dev/kvm").unwrap_or(state);
    let root = fs::File::open("/").unwrap();
    // SAFETY: the call takes two integers and gives a descriptor.
    let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, outside, 0) };
    let memory: &'static mut [u64] = vec![0_u64; 2048].leak();
    let start = memory.as_ptr() as i64 + 4096;
    (memory[0], memory[1]) = (start.cast_unsigned(), 8);
    let target = Target {
        outside,
        parent: std::os::unix::process::parent_id().into(),
        kvm: kvm.as_raw_fd().into(),
        handle,
        root: root.as_raw_fd().into(),
        memory: start,
        range: memory.as_ptr() as i64,
    };
    sandbox.limit().unwrap();
    std::thread::spawn(move || {
        if filtered == 1 {
            sandbox.enter(role).unwrap();
        } else {
            sandbox.0.as_ref().unwrap().enter(None).unwrap();
        }
        let [a, b, c, d, e, f] = (attempt.arguments)(&target);
        // SAFETY: whatever it does, it does to this process, which exists to be harmed; its memory is not used afterwards.
        let result = unsafe { libc::syscall(attempt.call, a, b, c, d, e, f) };
        let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        if result < 0 {
            println!("refused {error}");
        } else {
            println!("succeeded");
        }
    })
    .join()
    .unwrap();
}

/// A process outside that stays for as long as this is kept.
struct Outsider(std::process::Child);

impl Outsider {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn attacked(test: &str, role: usize, attempt: usize, filtered: bool, outside: &Outsider) -> Output {
    let name = format!("sandbox::compromised_tests::{test}");
    let words = format!(
        "{role} {attempt} {} {}",
        i64::from(filtered),
        outside.0.id()
    );
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(CHILD, words)
        .output()
        .unwrap()
}

/// Makes attempts, several at a time: each waits for the kernel to make and remove its namespaces. What they say went wrong.
fn side_by_side<T: Send>(
    attempts: impl Iterator<Item = T> + Send,
    make: impl Fn(T) -> Option<String> + Sync,
) -> Vec<String> {
    let attempts = std::sync::Mutex::new(attempts);
    let next = || attempts.lock().unwrap().next();
    std::thread::scope(|scope| {
        let work = || std::iter::from_fn(next).filter_map(&make).collect();
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        let found = workers.into_iter().map(|worker| worker.join().unwrap());
        found.flat_map(|found: Vec<_>| found).collect()
    })
}

/// Whether this process may build the whole sandbox; says so if not.
fn root() -> bool {
    let root = rustix::process::geteuid().is_root() && Path::new("/proc/self/ns/net").exists();
    if !root {
        eprintln!("skipped: only root can make every layer");
    }
    root
}

#[test]
fn whatever_a_compromised_thread_tries_ends_the_process_and_is_named() {
    if let Ok(words) = std::env::var(CHILD) {
        return attack(&words);
    }
    let outside = Outsider::new();
    let pairs = ROLES.iter().enumerate().flat_map(|(number, role)| {
        let attempts = ATTEMPTS.iter().enumerate();
        let attempts = attempts.filter(|(_, attempt)| !is_its_work(*role, attempt));
        attempts.map(move |(index, _)| (number, index))
    });
    let failures = side_by_side(pairs, |(number, index)| {
        let test = "whatever_a_compromised_thread_tries_ends_the_process_and_is_named";
        let output = attacked(test, number, index, true, &outside);
        let said = String::from_utf8_lossy(&output.stderr);
        let (role, attempt) = (ROLES[number], &ATTEMPTS[index]);
        let name = calls::name(attempt.call).unwrap();
        let named = output.status.code() == Some(last_words::STATUS)
            && said.contains(&format!("system call {name} ("))
            && said.contains(&format!("for the {} thread", role.word()));
        (!named).then(|| format!("{role:?}: {}: {output:?}", attempt.name))
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_the_lists_of_calls_would_let_through_the_kernel_refuses() {
    if let Ok(words) = std::env::var(CHILD) {
        return attack(&words);
    }
    if !root() {
        return;
    }
    let outside = Outsider::new();
    let indices = (0..ATTEMPTS.len()).filter(|&index| ATTEMPTS[index].rights);
    let failures = side_by_side(indices, |index| {
        let test = "what_the_lists_of_calls_would_let_through_the_kernel_refuses";
        let output = attacked(test, 0, index, false, &outside);
        let said = String::from_utf8_lossy(&output.stdout);
        let refused = said.lines().find_map(|line| {
            let (_, errno) = line.split_once("refused ")?;
            errno.trim().parse::<i32>().ok()
        });
        // The last one: this kernel has no such call at all.
        let rights = [
            libc::EPERM,
            libc::EACCES,
            libc::ENOENT,
            libc::ESRCH,
            libc::EROFS,
            libc::ENOSYS,
        ];
        let kept = refused.is_some_and(|errno| rights.contains(&errno));
        (!kept).then(|| format!("{}: {refused:?} {output:?}", ATTEMPTS[index].name))
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn nobody_outside_is_reached_through_a_socket() {
    const TEST: &str = "sandbox::compromised_tests::nobody_outside_is_reached_through_a_socket";
    if let Ok(paths) = std::env::var(CHILD) {
        let (path, port) = paths.split_once(' ').unwrap();
        let sandbox = Sandbox::new(&guest()).unwrap();
        std::os::unix::net::UnixStream::connect(path).unwrap();
        std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
        sandbox.0.as_ref().unwrap().enter(None).unwrap();
        let unix = std::os::unix::net::UnixStream::connect(path).is_err();
        let tcp = std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).is_err();
        println!("apart {unix} {tcp}");
        return;
    }
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let _unix = UnixListener::bind(&path).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let words = format!("{} {}", path.display(), tcp.local_addr().unwrap().port());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(CHILD, words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("apart true true"), "{output:?}");
}

/// The kinds of socket that a caller meets: by the name that it calls, and whether somebody answers.
const CALLS: [(&str, bool); 5] = [
    ("open", true),
    ("closed", false),
    ("../beyond", false),
    ("../../../../../../../../../..ABSOLUTE", false),
    ("ABSOLUTE", false),
];

#[test]
fn a_caller_reaches_only_the_sockets_of_its_directory_that_let_it_in() {
    const TEST: &str = "sandbox::compromised_tests::a_caller_reaches_only_the_sockets_of_its_directory_that_let_it_in";
    if let Ok(words) = std::env::var(CHILD) {
        let (place, outside) = words.split_once(' ').unwrap();
        let sandbox = Sandbox::new(&guest()).unwrap();
        let place = fs::File::open(place).unwrap();
        sandbox.enter_at(Role::Caller, &place).unwrap();
        for (name, _) in CALLS {
            let name = name.replace("ABSOLUTE", outside);
            let answered = std::os::unix::net::UnixStream::connect(name).is_ok();
            println!("answered {answered}");
        }
        return;
    }
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("place");
    fs::create_dir(&place).unwrap();
    let socket = |path: std::path::PathBuf, mode: u32| {
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        listener
    };
    for directory in [dir.path(), &place] {
        fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let _listeners = [
        socket(place.join("open"), 0o666),
        socket(place.join("closed"), 0o600),
        socket(dir.path().join("beyond"), 0o666),
    ];
    let outside = dir.path().canonicalize().unwrap().join("beyond");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{} {}", place.display(), outside.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<_> = said
        .lines()
        .filter_map(|line| line.split_once("answered "))
        .map(|(_, answer)| answer == "true")
        .collect();
    assert_eq!(answers, CALLS.map(|(_, answers)| answers), "{output:?}");
}
