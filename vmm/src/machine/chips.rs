//! Interrupt controllers and timer, emulated by the kernel.
//!
//! In comes a machine without them; out goes what they look like at power on, to be put back on a reset.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY,
    kvm_irqchip, kvm_pit_config, kvm_pit_state2,
};
use kvm_ioctls::VmFd;

use super::MachineError;
use crate::layout;

/// What the chips look like at power on.
pub(super) struct Chips {
    controllers: [kvm_irqchip; 3],
    timer: kvm_pit_state2,
}

impl Chips {
    /// Gives the machine its chips. Must come before its vcpus.
    pub fn create(vm: &VmFd) -> Result<Self, MachineError> {
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
