//! Interrupt controllers and timer, emulated by the kernel.
//!
//! In comes a machine without them; out goes what they look like at power on, to be put back on a reset.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY,
    kvm_irqchip, kvm_pit_config, kvm_pit_state2, kvm_reinject_control,
};
use kvm_ioctls::{Cap, VmFd};
use vmm_sys_util::ioctl::ioctl_with_ref;

use super::MachineError;
use crate::config::LostTicks;
use crate::layout;

/// What the chips look like at power on.
pub(super) struct Chips {
    controllers: [kvm_irqchip; 3],
    timer: kvm_pit_state2,
}

impl Chips {
    /// Gives the machine its chips. Must come before its vcpus.
    pub fn create(vm: &VmFd, lost: LostTicks) -> Result<Self, MachineError> {
        vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(MachineError::kvm("place its identity map"))?;
        vm.set_tss_address(layout::KVM_TSS as usize)
            .map_err(MachineError::kvm("place its task state"))?;
        vm.create_irq_chip()
            .map_err(MachineError::kvm("make interrupt controllers"))?;
        // Without the dummy, every access of the speaker's port would come out to us.
        let config = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        vm.create_pit2(config)
            .map_err(MachineError::kvm("make a timer"))?;
        if lost == LostTicks::Discard {
            discard_lost_ticks(vm)?;
        }
        let mut controllers = [
            KVM_IRQCHIP_PIC_MASTER,
            KVM_IRQCHIP_PIC_SLAVE,
            KVM_IRQCHIP_IOAPIC,
        ]
        .map(|chip_id| kvm_irqchip {
            chip_id,
            ..Default::default()
        });
        for chip in &mut controllers {
            vm.get_irqchip(chip)
                .map_err(MachineError::kvm("show its interrupt controllers"))?;
        }
        let timer = vm.get_pit2().map_err(MachineError::kvm("show its timer"))?;
        Ok(Self { controllers, timer })
    }

    /// Puts them back to power on.
    pub fn reset(&self, vm: &VmFd) -> Result<(), MachineError> {
        for chip in &self.controllers {
            vm.set_irqchip(chip)
                .map_err(MachineError::kvm("reset its interrupt controllers"))?;
        }
        vm.set_pit2(&self.timer)
            .map_err(MachineError::kvm("reset its timer"))
    }
}

/// Lets the timer drop the ticks that the guest could not take in time; by itself it delivers them late.
fn discard_lost_ticks(vm: &VmFd) -> Result<(), MachineError> {
    /// Number 0x71 of KVM's requests, of the kernel's include/uapi/linux/kvm.h.
    const KVM_REINJECT_CONTROL: libc::c_ulong = 0xae71;
    if !vm.check_extension(Cap::ReinjectControl) {
        return Err(MachineError::Lacks("a timer that drops lost ticks"));
    }
    let control = kvm_reinject_control::default();
    // SAFETY: the machine is open, and the request reads one structure of this type.
    let result = unsafe { ioctl_with_ref(vm, KVM_REINJECT_CONTROL, &control) };
    match result {
        0 => Ok(()),
        _ => Err(MachineError::kvm("drop the lost ticks of its timer")(
            kvm_ioctls::Error::last(),
        )),
    }
}
