//! Where a vcpu stood when it could not go on.
//!
//! In comes a vcpu that KVM gave up on; out goes a sentence that tells a page fault of early boot from a reboot by force and from a crash of a running
//! kernel: mode, registers, and the instruction, as far as the host still knows them. Nothing goes wrong: what cannot be read is left out.

use std::fmt;

use kvm_bindings::{kvm_regs, kvm_sregs};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::core_dump::Processor;
use crate::layout;

/// Bytes that are shown of the instruction: the longest of x86 has 15.
const INSTRUCTION: usize = 16;
const PAGE: u64 = 0x1000;

/// A vcpu's last place.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    regs: kvm_regs,
    sregs: kvm_sregs,
    code: Vec<u8>,
}

impl Scene {
    /// Looks at the vcpu, which must be out of the guest.
    pub fn of(fd: &VcpuFd, memory: &GuestMemoryMmap) -> Option<Self> {
        let regs = fd.get_regs().ok()?;
        let sregs = fd.get_sregs().ok()?;
        let code = code(fd, memory, sregs.cs.base.wrapping_add(regs.rip));
        Some(Self { regs, sregs, code })
    }

    /// The registers.
    pub fn processor(self) -> Processor {
        Processor {
            regs: self.regs,
            sregs: self.sregs,
        }
    }

    fn mode(&self) -> &'static str {
        const PROTECTED: u64 = 1;
        const LONG: u64 = 1 << 10;
        match (self.sregs.cr0 & PROTECTED != 0, self.sregs.efer & LONG != 0) {
            (false, _) => "real mode",
            (true, false) => "32-bit mode",
            (true, true) if self.sregs.cs.l == 1 => "64-bit mode",
            (true, true) => "compatibility mode",
        }
    }

    /// What the registers give away of what the guest was about.
    fn guess(&self) -> Option<&'static str> {
        let interrupts = self.sregs.idt;
        if (self.sregs.cs.base, self.regs.rip) == (0xffff_0000, 0xfff0) {
            Some(
                "these are the registers of a reset: this host's processor does not keep those of a shutdown",
            )
        } else if interrupts.limit == 0 {
            Some("its interrupt table is empty, which is how a kernel reboots by force")
        } else if interrupts.base == layout::BOOT_IDT {
            Some("it had not yet set up an interrupt table: this is early boot")
        } else {
            None
        }
    }
}

/// The bytes from a linear address on, up to the end of its page or of the guest's memory.
fn code(fd: &VcpuFd, memory: &GuestMemoryMmap, linear: u64) -> Vec<u8> {
    let Some(place) = fd.translate_gva(linear).ok().filter(|t| t.valid != 0) else {
        return Vec::new();
    };
    let mut bytes = [0; INSTRUCTION];
    let room = usize::try_from(PAGE - linear % PAGE).map_or(INSTRUCTION, |n| n.min(INSTRUCTION));
    let read = bytes.get_mut(..room).and_then(|bytes| {
        memory
            .read(bytes, GuestAddress(place.physical_address))
            .ok()
    });
    bytes.get(..read.unwrap_or(0)).unwrap_or_default().to_vec()
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (regs, sregs) = (&self.regs, &self.sregs);
        write!(f, "in {}, rip {:#x}", self.mode(), regs.rip)?;
        match self.code.as_slice() {
            [] => f.write_str(" (not in memory)")?,
            code => {
                let code: Vec<_> = code.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(f, " ({})", code.join(" "))?;
            }
        }
        write!(
            f,
            ", rsp {:#x}, cr0 {:#x}, cr2 {:#x}, cr3 {:#x}, cr4 {:#x}, efer {:#x}",
            regs.rsp, sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer
        )?;
        self.guess().map_or(Ok(()), |guess| write!(f, "; {guess}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(rip: u64, change: impl FnOnce(&mut kvm_sregs)) -> Scene {
        let regs = kvm_regs {
            rip,
            rsp: 0x8ff0,
            ..Default::default()
        };
        let mut sregs = kvm_sregs::default();
        sregs.idt.limit = 0xfff;
        change(&mut sregs);
        Scene {
            regs,
            sregs,
            code: vec![0x0f, 0x0b],
        }
    }

    #[test]
    fn a_scene_shows_mode_registers_and_instruction() {
        let text = scene(0x10_0000, |s| {
            (s.cr0, s.cr2, s.cr3, s.cr4, s.efer, s.cs.l) =
                (0x8000_0011, 0xdead, 0x9000, 0x20, 0x500, 1);
        })
        .to_string();
        assert_eq!(
            text,
            "in 64-bit mode, rip 0x100000 (0f 0b), rsp 0x8ff0, cr0 0x80000011, cr2 0xdead, cr3 0x9000, cr4 0x20, efer 0x500"
        );
    }

    #[test]
    fn a_reboot_by_force_is_told_from_early_boot_and_from_lost_registers() {
        let guess = |rip, change: fn(&mut kvm_sregs)| scene(rip, change).guess().unwrap_or("");
        assert!(guess(7, |s| s.idt.limit = 0).contains("reboots by force"));
        assert!(guess(7, |s| s.idt.base = layout::BOOT_IDT).contains("early boot"));
        assert!(guess(0xfff0, |s| s.cs.base = 0xffff_0000).contains("does not keep"));
        assert_eq!(guess(7, |_| {}), "");
    }
}
