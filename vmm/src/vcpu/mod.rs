//! A virtual processor: a thread that runs the guest until it touches a device, and then does what the device says.
//!
//! The machine's owner commands it through a [`Vcpu`]; it answers only when it is at rest. What ends the guest's run (a crash, an error of the
//! host) goes out as a [`Notice`], and the vcpu rests until it is told what follows.
//!
//! ```text
//!          run                hold
//!  held ────────► running ────────► held        any state ── quit ──► gone
//!   │ reset ▲        │ crash, error
//!   └───────┘        └──────────────► held, notice sent
//! ```
//!
//! A vcpu inside the kernel is brought out by a signal, whose handler sets KVM's `immediate_exit`: if the signal came just
//! before the vcpu entered the kernel, it comes out at once.

mod scene;
mod state;

use std::cell::Cell;
use std::io;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use kvm_bindings::{
    KVM_EXIT_IO_IN, KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use thiserror::Error;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use crate::boot::Entry;
use crate::bus::Bus;
use crate::core_dump::Processor;
use crate::notice::{Notice, Notifier};
use crate::sandbox::SandboxError;

use scene::Scene;

pub use state::{Pristine, Registers, StateError};

/// Why a vcpu could not be started.
#[derive(Debug, Error)]
pub enum VcpuError {
    /// Its registers could not be set.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its thread could not be started.
    #[error("could not start the thread of vcpu {id}")]
    Thread {
        /// The vcpu's number.
        id: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Its thread could not be locked in.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The signal that brings vcpus out of the kernel could not be set up.
    #[error("could not set up the signal that stops vcpus")]
    Signal(#[source] io::Error),
}

/// What a vcpu's thread needs.
pub struct Core {
    /// The vcpu.
    pub fd: VcpuFd,
    /// Its number; 0 boots.
    pub id: u32,
    /// How it looked when it was made.
    pub pristine: Pristine,
    /// The guest's memory.
    pub memory: GuestMemoryMmap,
    /// The ports.
    pub ports: Arc<Bus>,
    /// The memory-mapped devices.
    pub mmio: Arc<Bus>,
    /// Where notices go.
    pub notifier: Notifier,
}

impl Core {
    /// Where the vcpu stands, to go after a message: nothing if the kernel does not tell.
    fn scene(&self) -> String {
        Scene::of(&self.fd, &self.memory).map_or_else(String::new, |scene| format!(" {scene}"))
    }
}

/// A vcpu's thread, as the machine's owner commands it.
pub struct Vcpu {
    gate: Arc<Gate>,
    thread: Option<JoinHandle<()>>,
    /// How the thread's preparation went, until somebody has asked.
    entered: Option<mpsc::Receiver<Result<(), SandboxError>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Hold,
    Run,
    Reset(Entry),
    Look,
    Quit,
}

struct Orders {
    order: Order,
    /// The thread waits for an order.
    resting: bool,
    /// What became of a reset.
    failure: Option<StateError>,
    /// What the vcpu looked like when it was last looked at.
    seen: Option<Processor>,
}

/// Where a vcpu's thread waits for orders.
struct Gate {
    orders: Mutex<Orders>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, Orders>) -> MutexGuard<'a, Orders> {
        self.changed
            .wait(guard)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The next order that is not `Hold`. The thread rests until there is one.
    fn next(&self) -> Order {
        let mut orders = self.lock();
        while orders.order == Order::Hold {
            orders.resting = true;
            self.changed.notify_all();
            orders = self.wait(orders);
        }
        orders.resting = false;
        orders.order
    }

    /// The thread holds itself, unless it has been told to quit.
    fn hold(&self, failure: Option<StateError>) {
        let mut orders = self.lock();
        if orders.order != Order::Quit {
            orders.order = Order::Hold;
        }
        orders.failure = failure;
    }
}

fn kick_signal() -> i32 {
    SIGRTMIN()
}

thread_local! {
    /// KVM's `immediate_exit` of this thread's vcpu, while it has one.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // A thread-local without a destructor and with a constant first value is a plain load: allowed in a signal handler.
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: the pointer is set by this same thread to a byte of its vcpu's shared page, and cleared before that is unmapped.
        unsafe { flag.write_volatile(1) };
    }
}

impl Vcpu {
    /// Starts the thread, held. `prepare` runs in it first: this is where it gives up what it will not need; [`Vcpu::entered`] waits for that.
    pub fn start(
        core: Core,
        prepare: impl FnOnce() -> Result<(), SandboxError> + Send + 'static,
    ) -> Result<Self, VcpuError> {
        register_signal_handler(kick_signal(), on_kick).map_err(|e| VcpuError::Signal(e.into()))?;
        let orders = Orders {
            order: Order::Hold,
            resting: false,
            failure: None,
            seen: None,
        };
        let gate = Arc::new(Gate {
            orders: Mutex::new(orders),
            changed: Condvar::new(),
        });
        let id = core.id;
        let runner = Runner {
            core,
            gate: Arc::clone(&gate),
        };
        let (report, entered) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("vcpu{id}"))
            .stack_size(256 << 10)
            .spawn(move || {
                let entered = prepare();
                let go_on = entered.is_ok();
                // Fails only when nobody waits for the answer any more.
                let _ = report.send(entered);
                if go_on {
                    runner.work();
                }
            })
            .map_err(|source| VcpuError::Thread { id, source })?;
        Ok(Self {
            gate,
            thread: Some(thread),
            entered: Some(entered),
        })
    }

    /// Waits until the thread has given up what it will not need. Nothing is to be asked of the vcpu before.
    pub fn entered(&mut self) -> Result<(), SandboxError> {
        let Some(entered) = self.entered.take() else {
            return Ok(());
        };
        entered.recv().unwrap_or(Err(SandboxError::Ended))
    }

    fn order(&self, order: Order) {
        self.gate.lock().order = order;
        self.gate.changed.notify_all();
    }

    /// Lets the guest run.
    pub fn run(&self) {
        self.order(Order::Run);
    }

    /// Tells the vcpu to stop; [`Vcpu::wait`] says when it has.
    pub fn hold(&self) {
        self.order(Order::Hold);
        self.kick();
    }

    /// Waits until the vcpu is at rest, having been told to hold or to reset.
    pub fn wait(&self) -> Result<(), StateError> {
        let mut orders = self.gate.lock();
        while !orders.resting {
            orders = self.gate.wait(orders);
        }
        orders.failure.take().map_or(Ok(()), Err)
    }

    /// Puts a vcpu at rest back to its beginning, and leaves it at rest; [`Vcpu::wait`] says when and whether it was done.
    pub fn reset(&self, entry: Entry) {
        let mut orders = self.gate.lock();
        orders.order = Order::Reset(entry);
        orders.resting = false;
        drop(orders);
        self.gate.changed.notify_all();
    }

    /// What a vcpu at rest looks like; it stays at rest.
    pub fn look(&self) -> Option<Processor> {
        let mut orders = self.gate.lock();
        orders.order = Order::Look;
        orders.resting = false;
        self.gate.changed.notify_all();
        while !orders.resting {
            orders = self.gate.wait(orders);
        }
        orders.seen.take()
    }

    fn kick(&self) {
        if let Some(thread) = &self.thread {
            // Fails only for a thread that has ended, which needs no kick.
            let _ = thread.kill(kick_signal());
        }
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.order(Order::Quit);
        self.kick();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What runs in the thread.
struct Runner {
    core: Core,
    gate: Arc<Gate>,
}

/// How one entry into the guest ended.
enum Step {
    /// Done; enter again.
    Done,
    /// A port was touched; what and how is in KVM's shared page.
    Port,
    /// A signal, perhaps with an order behind it.
    Interrupted,
    /// The guest cannot go on from here.
    Ended(Notice),
}

impl Runner {
    fn work(mut self) {
        IMMEDIATE_EXIT.set(&raw mut self.core.fd.get_kvm_run().immediate_exit);
        loop {
            match self.gate.next() {
                Order::Hold => {}
                Order::Run => self.run(),
                Order::Reset(entry) => {
                    let failure = self.reset(entry).err();
                    self.gate.hold(failure);
                }
                Order::Look => {
                    let seen = Scene::of(&self.core.fd, &self.core.memory);
                    self.gate.lock().seen = seen.map(Scene::processor);
                    self.gate.hold(None);
                }
                Order::Quit => break,
            }
        }
        IMMEDIATE_EXIT.set(ptr::null_mut());
    }

    /// Runs the guest until there may be an order, or it ends.
    fn run(&mut self) {
        // Tells a guest that has a paravirtual clock that it stood still, so that its watchdogs do not bark. Others refuse it.
        let _ = self.core.fd.kvmclock_ctrl();
        loop {
            match self.step() {
                Step::Done => {}
                Step::Port => self.port(),
                Step::Interrupted => {
                    self.core.fd.set_kvm_immediate_exit(0);
                    return;
                }
                Step::Ended(notice) => {
                    self.gate.hold(None);
                    self.core.notifier.send(notice);
                    return;
                }
            }
            if self.core.notifier.guest_has_ended() {
                return self.gate.hold(None);
            }
        }
    }

    fn step(&mut self) -> Step {
        let core = &mut self.core;
        match core.fd.run() {
            Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => Step::Port,
            Ok(VcpuExit::MmioRead(address, data)) => {
                core.mmio.read(address, data);
                Step::Done
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                core.mmio.write(address, data);
                Step::Done
            }
            Ok(VcpuExit::Intr) => Step::Interrupted,
            Ok(
                VcpuExit::Hlt | VcpuExit::IrqWindowOpen | VcpuExit::SetTpr | VcpuExit::IoapicEoi(_),
            ) => Step::Done,
            Ok(VcpuExit::Shutdown) => {
                let what = format!("triple fault on vcpu {}{}", core.id, core.scene());
                Step::Ended(Notice::Crash(what))
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => {
                Step::Ended(Notice::PowerOff)
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => Step::Ended(Notice::Reset),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _)) => {
                Step::Ended(Notice::Crash("it said so to kvm".into()))
            }
            Ok(VcpuExit::FailEntry(reason, cpu)) => Step::Ended(Notice::Failed(format!(
                "the processor refused to enter the guest on vcpu {} (reason {reason:#x}, host cpu {cpu}){}",
                core.id,
                core.scene()
            ))),
            Ok(VcpuExit::InternalError) => Step::Ended(self.internal_error()),
            Ok(other) => {
                let why = format!("vcpu {} came out of kvm with {other:?}", core.id);
                Step::Ended(Notice::Failed(why))
            }
            Err(error) => match error.errno() {
                libc::EINTR => Step::Interrupted,
                // A processor that waits for its start was woken for nothing.
                libc::EAGAIN => Step::Done,
                _ => Step::Ended(Notice::Failed(format!(
                    "kvm could not run vcpu {}: {error}",
                    core.id
                ))),
            },
        }
    }

    fn internal_error(&mut self) -> Notice {
        let core = &mut self.core;
        // SAFETY: the exit reason is KVM_EXIT_INTERNAL_ERROR, for which the kernel has filled this member of the union.
        let suberror = unsafe { core.fd.get_kvm_run().__bindgen_anon_1.internal.suberror };
        let what = match suberror {
            1 => "an instruction that kvm cannot emulate".to_owned(),
            2 => "an exception while another one was delivered".to_owned(),
            3 => "an exit that kvm does not know, while an interrupt was delivered".to_owned(),
            4 => "an exit that kvm does not know".to_owned(),
            n => format!("error {n} inside kvm"),
        };
        Notice::Failed(format!("{what}, on vcpu {}{}", core.id, core.scene()))
    }

    /// Does a port access. String instructions come as several accesses in one exit, each of the width that the instruction has.
    fn port(&mut self) {
        let core = &mut self.core;
        let run = core.fd.get_kvm_run();
        // SAFETY: the exit reason is KVM_EXIT_IO, for which the kernel has filled this member of the union.
        let io = unsafe { run.__bindgen_anon_1.io };
        let width = usize::from(io.size);
        let len = width.saturating_mul(io.count as usize);
        let Ok(offset) = usize::try_from(io.data_offset) else {
            return;
        };
        if width == 0 {
            return;
        }
        // SAFETY: the kernel, which we trust, puts `size * count` bytes at this offset of the vcpu's shared pages, which stay mapped as
        // long as the vcpu; nobody else touches them until it is entered again, which needs `&mut core.fd`.
        let data = unsafe {
            std::slice::from_raw_parts_mut(ptr::from_mut(run).cast::<u8>().add(offset), len)
        };
        let port = u64::from(io.port);
        if u32::from(io.direction) == KVM_EXIT_IO_IN {
            for item in data.chunks_exact_mut(width) {
                core.ports.read(port, item);
            }
        } else {
            for item in data.chunks_exact(width) {
                core.ports.write(port, item);
            }
        }
    }

    fn reset(&mut self, entry: Entry) -> Result<(), StateError> {
        // An access that the guest was in the middle of would be finished on the next entry, over the new registers: finish it now.
        self.core.fd.set_kvm_immediate_exit(1);
        let _ = self.core.fd.run();
        self.core.fd.set_kvm_immediate_exit(0);
        let Core {
            fd,
            id,
            pristine,
            memory,
            ..
        } = &self.core;
        let registers = Registers { fd, id: *id };
        registers.clear(pristine)?;
        registers.firmware(pristine)?;
        if *id == 0 {
            registers.boot(pristine, memory, entry)?;
        }
        Ok(())
    }
}
