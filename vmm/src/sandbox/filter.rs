//! Which system calls each kind of thread may make.
//!
//! Allow lists, by role. Calls that open, connect, execute, signal others or change credentials are in none of them. Mappings may not
//! be executable, and `ioctl` is allowed only for the requests that the role makes.

use std::collections::BTreeMap;

use kvm_bindings::{
    kvm_debugregs, kvm_fpu, kvm_ioeventfd, kvm_irq_level, kvm_irq_routing, kvm_irqfd,
    kvm_lapic_state, kvm_mp_state, kvm_msi, kvm_pit_state2, kvm_regs, kvm_sregs, kvm_translation,
    kvm_vcpu_events, kvm_xcrs,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::Role;
use crate::devices::virtio::net::VHOST_REQUESTS;
use crate::ioctl::{io, ior, iow, iowr};

/// What every thread does: memory, locks, time, descriptors that are open, its own end.
const COMMON: [i64; 37] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_poll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_timerfd_settime,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_set_robust_list,
];

/// What is done to descriptors that are open: not to have the kernel signal somebody when one becomes ready.
const DESCRIPTOR_COMMANDS: [libc::c_int; 4] = [
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_GETFL,
    libc::F_SETFL,
];

/// What the owner does beside that: clients, memory files that are emptied at a reset, and what is kept of a clock.
const OWNER: [i64; 8] = [
    libc::SYS_accept4,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// What disks do beside that: images. What an io_uring may do is bound when it is made (`devices::virtio::block::uring`).
const DISK: [i64; 11] = [
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_io_uring_enter,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_sync_file_range,
];

/// What the console's ports do beside that: peers who come, speak and go.
const CHANNEL: [i64; 4] = [
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
];

/// What the reader of a boot disk does beside that.
const BOOT: [i64; 2] = [libc::SYS_preadv, libc::SYS_preadv2];

/// What a caller does beside that. The sockets that it makes are unix sockets: see [`program`].
const CALLER: [i64; 2] = [libc::SYS_connect, libc::SYS_ppoll];

const KVM: u32 = 0xae;
const TUN: u32 = b'T' as u32;
const BLOCK: u32 = 0x12;

/// Requests of what any of the threads does when it delivers an interrupt, or connects and disconnects a queue.
const SHARED_REQUESTS: [u32; 9] = [
    iow::<kvm_msi>(KVM, 0xa5),
    iow::<kvm_irq_level>(KVM, 0x61),
    iow::<kvm_ioeventfd>(KVM, 0x79),
    iow::<kvm_irq_routing>(KVM, 0x6a),
    iow::<kvm_irqfd>(KVM, 0x76),
    iow::<u32>(TUN, 208), // TUNSETOFFLOAD
    ior::<u32>(TUN, 210), // TUNGETIFF
    iow::<i32>(TUN, 216), // TUNSETVNETHDRSZ
    iow::<i32>(TUN, 217), // TUNSETQUEUE
];

const VCPU_REQUESTS: [u32; 14] = [
    io(KVM, 0x80),                      // KVM_RUN
    ior::<kvm_regs>(KVM, 0x81),         // KVM_GET_REGS
    iow::<kvm_regs>(KVM, 0x82),         // KVM_SET_REGS
    ior::<kvm_sregs>(KVM, 0x83),        // KVM_GET_SREGS
    iow::<kvm_sregs>(KVM, 0x84),        // KVM_SET_SREGS
    iowr::<kvm_translation>(KVM, 0x85), // KVM_TRANSLATE
    iow::<[u32; 2]>(KVM, 0x89),         // KVM_SET_MSRS
    iow::<kvm_fpu>(KVM, 0x8d),          // KVM_SET_FPU
    iow::<kvm_lapic_state>(KVM, 0x8f),  // KVM_SET_LAPIC
    iow::<kvm_mp_state>(KVM, 0x99),     // KVM_SET_MP_STATE
    iow::<kvm_vcpu_events>(KVM, 0xa0),  // KVM_SET_VCPU_EVENTS
    iow::<kvm_debugregs>(KVM, 0xa2),    // KVM_SET_DEBUGREGS
    iow::<kvm_xcrs>(KVM, 0xa7),         // KVM_SET_XCRS
    io(KVM, 0xad),                      // KVM_KVMCLOCK_CTRL
];

const OWNER_REQUESTS: [u32; 3] = [
    ior::<[u8; 520]>(KVM, 0x63),      // KVM_SET_IRQCHIP
    iow::<kvm_pit_state2>(KVM, 0xa0), // KVM_SET_PIT2
    0x5421,                           // FIONBIO
];

const DISK_REQUESTS: [u32; 4] = [
    io(BLOCK, 104),           // BLKSSZGET
    ior::<usize>(BLOCK, 114), // BLKGETSIZE64
    io(BLOCK, 119),           // BLKDISCARD
    io(BLOCK, 127),           // BLKZEROOUT
];

/// The list of a role, for the kernel.
pub(super) fn program(role: Role) -> Result<BpfProgram, BackendError> {
    let (calls, requests): (&[i64], &[u32]) = match role {
        Role::Owner => (&OWNER, &OWNER_REQUESTS),
        Role::Vcpu => (&[], &VCPU_REQUESTS),
        Role::Device => (&[], &[]),
        Role::Disk => (&DISK, &DISK_REQUESTS),
        Role::Channel | Role::Caller => (&CHANNEL, &[]),
        Role::Boot => (&BOOT, &[]),
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = COMMON
        .iter()
        .chain(calls)
        .map(|&call| (call, Vec::new()))
        .collect();
    let requests = SHARED_REQUESTS
        .iter()
        .chain(&VHOST_REQUESTS)
        .chain(requests);
    let requests = requests.map(|&request| argument(1, SeccompCmpOp::Eq, request.into()));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    let commands = DESCRIPTOR_COMMANDS.map(i32::unsigned_abs);
    let commands = commands.map(|command| argument(1, SeccompCmpOp::Eq, command.into()));
    rules.insert(
        libc::SYS_fcntl,
        commands.into_iter().collect::<Result<_, _>>()?,
    );
    if role == Role::Caller {
        rules.extend(CALLER.map(|call| (call, Vec::new())));
        let unix = argument(0, SeccompCmpOp::Eq, libc::AF_UNIX.unsigned_abs().into())?;
        rules.insert(libc::SYS_socket, vec![unix]);
    }
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC.unsigned_abs().into());
        rules.insert(call, vec![argument(2, executable, 0)?]);
    }
    // Signals to its own threads: to bring vcpus out of the kernel, and to abort.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![argument(0, SeccompCmpOp::Eq, own)?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Trap,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    filter.try_into()
}

fn argument(number: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    let condition = SeccompCondition::new(number, SeccompCmpArgLen::Dword, operator, value)?;
    SeccompRule::new(vec![condition])
}
