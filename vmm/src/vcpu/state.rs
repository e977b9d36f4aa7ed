//! A vcpu's registers: how the boot processor begins, and how any vcpu looks after a reset.
//!
//! In comes an [`Entry`]; out go the registers that its protocol wants. The other processors wait for the guest's INIT and SIPI, which KVM
//! handles. A reset does not make a vcpu anew (KVM cannot take one away) but writes every register that a guest can have changed
//! and another guest kernel could notice.

use kvm_bindings::{
    KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, KVM_VCPUEVENT_VALID_NMI_PENDING,
    KVM_VCPUEVENT_VALID_SHADOW, KVM_VCPUEVENT_VALID_SIPI_VECTOR, Msrs, kvm_debugregs, kvm_dtable,
    kvm_fpu, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs,
    kvm_vcpu_events, kvm_xcr, kvm_xcrs,
};
use kvm_ioctls::VcpuFd;
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::boot::Entry;
use crate::layout;

/// A register that could not be set.
#[derive(Debug, Error)]
pub enum StateError {
    /// KVM refused a group of registers.
    #[error("kvm did not {verb} the {what} of vcpu {id}")]
    Registers {
        /// `give` or `take`.
        verb: &'static str,
        /// Which registers.
        what: &'static str,
        /// The vcpu's number.
        id: u32,
        /// The kernel's answer.
        source: kvm_ioctls::Error,
    },
    /// The tables that the boot processor starts with do not fit.
    #[error("could not write the boot processor's tables into the guest's memory: it is too small")]
    Tables,
}

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Model-specific registers with the values that they have at power on. One that this host's KVM does not know is passed over.
const RESET_MSRS: [(u32, u64); 21] = [
    (0x10, 0),                      // TSC
    (0x48, 0),                      // SPEC_CTRL
    (0x174, 0),                     // SYSENTER_CS
    (0x175, 0),                     // SYSENTER_ESP
    (0x176, 0),                     // SYSENTER_EIP
    (0x277, 0x0007_0406_0007_0406), // PAT
    (0x6e0, 0),                     // TSC_DEADLINE
    (0xda0, 0),                     // XSS
    (0xc000_0081, 0),               // STAR
    (0xc000_0082, 0),               // LSTAR
    (0xc000_0083, 0),               // CSTAR
    (0xc000_0084, 0),               // SYSCALL_MASK
    (0xc000_0102, 0),               // KERNEL_GS_BASE
    (0xc000_0103, 0),               // TSC_AUX
    (0x4b56_4d00, 0),               // KVM wall clock
    (0x4b56_4d01, 0),               // KVM system time
    (0x4b56_4d02, 0),               // KVM asynchronous page faults
    (0x4b56_4d03, 0),               // KVM steal time
    (0x4b56_4d04, 0),               // KVM end of interrupt
    (0x4b56_4d05, 1),               // KVM halt polling
    (0x4b56_4d06, 0),               // KVM asynchronous page faults, interrupt
];

/// `IA32_MISC_ENABLE` with fast string operations, and memory that is write-back unless said otherwise. Where firmware would set them.
const BOOT_MSRS: [(u32, u64); 2] = [(0x1a0, 1), (0x2ff, 1 << 11 | 6)];

/// What a vcpu looked like when it was made: the parts that are not simply zero.
#[derive(Debug, Clone)]
pub struct Pristine {
    sregs: kvm_sregs,
    lapic: kvm_lapic_state,
}

/// One vcpu's registers.
pub struct Registers<'a> {
    /// The vcpu.
    pub fd: &'a VcpuFd,
    /// Its number.
    pub id: u32,
}

impl Registers<'_> {
    fn taken<T>(
        &self,
        what: &'static str,
        result: Result<T, kvm_ioctls::Error>,
    ) -> Result<T, StateError> {
        result.map_err(|source| StateError::Registers {
            verb: "take",
            what,
            id: self.id,
            source,
        })
    }

    fn given<T>(
        &self,
        what: &'static str,
        result: Result<T, kvm_ioctls::Error>,
    ) -> Result<T, StateError> {
        result.map_err(|source| StateError::Registers {
            verb: "give",
            what,
            id: self.id,
            source,
        })
    }

    /// Looks at a vcpu that has just been made.
    pub fn pristine(&self) -> Result<Pristine, StateError> {
        Ok(Pristine {
            sregs: self.given("system registers", self.fd.get_sregs())?,
            lapic: self.given("interrupt controller", self.fd.get_lapic())?,
        })
    }

    /// Puts the vcpu back to how it was made, or as near as a guest can tell.
    pub fn clear(&self, pristine: &Pristine) -> Result<(), StateError> {
        let fd = self.fd;
        self.taken("system registers", fd.set_sregs(&pristine.sregs))?;
        self.taken("interrupt controller", fd.set_lapic(&pristine.lapic))?;
        for (index, value) in RESET_MSRS {
            // Not every host has every one.
            let _ = set_msr(fd, index, value);
        }
        let events = kvm_vcpu_events {
            flags: KVM_VCPUEVENT_VALID_NMI_PENDING
                | KVM_VCPUEVENT_VALID_SIPI_VECTOR
                | KVM_VCPUEVENT_VALID_SHADOW,
            ..Default::default()
        };
        self.taken("pending events", fd.set_vcpu_events(&events))?;
        let debug = kvm_debugregs {
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            ..Default::default()
        };
        self.taken("debug registers", fd.set_debug_regs(&debug))?;
        let fpu = kvm_fpu {
            fcw: 0x37f,
            mxcsr: 0x1f80,
            ..Default::default()
        };
        self.taken("floating-point registers", fd.set_fpu(&fpu))?;
        let mut xcrs = kvm_xcrs {
            nr_xcrs: 1,
            ..Default::default()
        };
        xcrs.xcrs[0] = kvm_xcr {
            xcr: 0,
            reserved: 0,
            value: 1,
        };
        // Hosts without XSAVE have no such register.
        let _ = fd.set_xcrs(&xcrs);
        let regs = kvm_regs {
            rip: 0xfff0,
            rflags: 2,
            ..Default::default()
        };
        self.taken("registers", fd.set_regs(&regs))?;
        let mp_state = if self.id == 0 {
            KVM_MP_STATE_RUNNABLE
        } else {
            KVM_MP_STATE_UNINITIALIZED
        };
        self.taken("run state", fd.set_mp_state(kvm_mp_state { mp_state }))
    }

    /// What firmware would have done on every processor: memory types, and the local interrupt controller's two pins.
    pub fn firmware(&self, pristine: &Pristine) -> Result<(), StateError> {
        for (index, value) in BOOT_MSRS {
            self.taken("model-specific registers", set_msr(self.fd, index, value))?;
        }
        const LINT0: usize = 0x350;
        const LINT1: usize = 0x360;
        const EXTERNAL: u32 = 7 << 8;
        const NMI: u32 = 4 << 8;
        let mut lapic = pristine.lapic;
        for (pin, mode) in [(LINT0, EXTERNAL), (LINT1, NMI)] {
            for (register, byte) in lapic.regs.iter_mut().skip(pin).zip(mode.to_le_bytes()) {
                *register = byte.cast_signed();
            }
        }
        self.taken("interrupt controller", self.fd.set_lapic(&lapic))
    }

    /// Makes the boot processor begin at `entry`.
    pub fn boot(
        &self,
        pristine: &Pristine,
        memory: &GuestMemoryMmap,
        entry: Entry,
    ) -> Result<(), StateError> {
        let (sregs, regs) = match entry {
            Entry::Linux64 { rip } => {
                write_tables(memory).map_err(|_| StateError::Tables)?;
                (
                    long_mode(pristine.sregs),
                    start(rip, |r| r.rsi = layout::ZERO_PAGE),
                )
            }
            Entry::Pvh { rip } => (
                protected_mode(pristine.sregs),
                start(rip, |r| r.rbx = layout::PVH_START_INFO),
            ),
        };
        self.taken("system registers", self.fd.set_sregs(&sregs))?;
        self.taken("registers", self.fd.set_regs(&regs))
    }
}

fn set_msr(fd: &VcpuFd, index: u32, data: u64) -> Result<usize, kvm_ioctls::Error> {
    let entry = kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    let msrs = Msrs::from_entries(&[entry]).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?;
    fd.set_msrs(&msrs)
}

fn start(rip: u64, argument: impl FnOnce(&mut kvm_regs)) -> kvm_regs {
    let mut regs = kvm_regs {
        rip,
        rflags: 2,
        rsp: layout::BOOT_STACK,
        rbp: layout::BOOT_STACK,
        ..Default::default()
    };
    argument(&mut regs);
    regs
}

const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const TASK_SELECTOR: u16 = 0x20;

/// The descriptor table that goes with the segments below, at [`layout::BOOT_GDT`].
const GDT: [u64; 5] = [
    0,
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x008f_8b00_0000_ffff,
];

fn flat(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

fn segments(mut sregs: kvm_sregs, long: u8) -> kvm_sregs {
    const CODE: u8 = 0xb;
    const DATA: u8 = 0x3;
    const BUSY_TASK: u8 = 0xb;
    sregs.cs = kvm_segment {
        l: long,
        db: 1 - long,
        ..flat(CODE_SELECTOR, CODE)
    };
    let data = kvm_segment {
        db: 1,
        ..flat(DATA_SELECTOR, DATA)
    };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment {
        s: 0,
        g: 0,
        limit: 0x67,
        ..flat(TASK_SELECTOR, BUSY_TASK)
    };
    sregs
}

fn long_mode(pristine: kvm_sregs) -> kvm_sregs {
    let mut sregs = segments(pristine, 1);
    sregs.gdt = kvm_dtable {
        base: layout::BOOT_GDT,
        limit: (size_of_val(&GDT) - 1) as u16,
        ..Default::default()
    };
    sregs.idt = kvm_dtable {
        base: layout::BOOT_IDT,
        limit: 7,
        ..Default::default()
    };
    sregs.cr3 = layout::BOOT_PAGE_TABLES;
    sregs.cr4 = CR4_PAE;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs.efer = EFER_LME | EFER_LMA;
    sregs
}

fn protected_mode(pristine: kvm_sregs) -> kvm_sregs {
    let mut sregs = segments(pristine, 0);
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    sregs.efer = 0;
    sregs
}

/// The descriptor table, and page tables that map the first 4 GiB to themselves in pages of 2 MiB.
fn write_tables(memory: &GuestMemoryMmap) -> Result<(), vm_memory::GuestMemoryError> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    const PAGE: u64 = 0x1000;
    memory.write_obj(GDT, GuestAddress(layout::BOOT_GDT))?;
    let level4 = layout::BOOT_PAGE_TABLES;
    let level3 = level4 + PAGE;
    let level2 = level3 + PAGE;
    memory.write_obj(level3 | PRESENT_WRITABLE, GuestAddress(level4))?;
    for gib in 0..4 {
        let table = level2 + gib * PAGE;
        memory.write_obj(table | PRESENT_WRITABLE, GuestAddress(level3 + gib * 8))?;
        let first = gib * layout::GIB;
        let entries: Vec<u8> = (0..512_u64)
            .flat_map(|i| ((first + i * 2 * layout::MIB) | PRESENT_WRITABLE | LARGE).to_le_bytes())
            .collect();
        memory.write_slice(&entries, GuestAddress(table))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Memory};
    use crate::memory;

    #[test]
    fn the_first_four_gibibytes_are_mapped_to_themselves() {
        let size = config::Bytes(4 << 20);
        let memory = memory::map(&Memory {
            size,
            ..Memory::default()
        })
        .unwrap();
        write_tables(&memory).unwrap();
        let read = |at| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        for address in [0, 0x10_0000, 0xc000_0000_u64, 0xffff_ffff] {
            let level3 = read(layout::BOOT_PAGE_TABLES) & !0xfff;
            let level2 = read(level3 + (address >> 30) * 8) & !0xfff;
            let page = read(level2 + ((address >> 21) & 511) * 8);
            assert_eq!(page, (address & !0x1f_ffff) | 0x83);
        }
    }

    #[test]
    fn no_boot_data_overlaps_another() {
        let pieces = [
            (layout::BOOT_GDT, size_of_val(&GDT) as u64),
            (layout::BOOT_IDT, 8),
            (layout::PVH_START_INFO, 0x1000),
            (layout::ZERO_PAGE, 0x1000),
            (layout::BOOT_STACK - 0xff0, 0xff0),
            (layout::BOOT_PAGE_TABLES, 6 * 0x1000),
            (layout::CMDLINE, layout::CMDLINE_SIZE as u64),
            (layout::LOW_MEMORY_END, 0),
        ];
        for pair in pieces.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
    }
}
