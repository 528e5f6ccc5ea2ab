//! Everything a processor and a machine are, taken out of KVM and put into another machine.
//! Spec: KVM api 4 (the ioctls of each part).

use super::Sabotage;
use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, Msrs, kvm_clock_data,
    kvm_debugregs, kvm_irqchip, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_pit_state2,
    kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{VcpuFd, VmFd};

const TSC: u32 = 0x10;
const TSC_DEADLINE: u32 = 0x6e0;
const LSTAR: u32 = 0xc000_0082;

/// A processor.
pub struct Cpu {
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: kvm_xsave,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    events: kvm_vcpu_events,
    lapic: kvm_lapic_state,
    mp: kvm_mp_state,
    msrs: Vec<kvm_msr_entry>,
}

fn cannot(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> String {
    move |e| format!("cannot {what}: {e}")
}

impl Cpu {
    /// Reads `vcpu`, which must not run and must have completed its last access.
    pub fn save(vcpu: &VcpuFd, numbers: &[u32]) -> Result<Cpu, String> {
        Ok(Cpu {
            mp: vcpu.get_mp_state().map_err(cannot("read the run state"))?,
            regs: vcpu.get_regs().map_err(cannot("read the registers"))?,
            sregs: vcpu
                .get_sregs()
                .map_err(cannot("read the system registers"))?,
            xsave: vcpu
                .get_xsave()
                .map_err(cannot("read the extended state"))?,
            xcrs: vcpu.get_xcrs().map_err(cannot("read XCR0"))?,
            debug: vcpu
                .get_debug_regs()
                .map_err(cannot("read the debug registers"))?,
            lapic: vcpu.get_lapic().map_err(cannot("read the local APIC"))?,
            msrs: read_msrs(vcpu, numbers)?,
            events: vcpu
                .get_vcpu_events()
                .map_err(cannot("read the pending events"))?,
        })
    }

    /// Writes everything to `vcpu`. What comes first matters: the APIC before its deadline, the
    /// pending events last.
    pub fn restore(&self, vcpu: &VcpuFd, sabotage: Option<Sabotage>) -> Result<(), String> {
        let skip = |what| sabotage == Some(what);
        vcpu.set_mp_state(self.mp)
            .map_err(cannot("write the run state"))?;
        vcpu.set_regs(&self.regs)
            .map_err(cannot("write the registers"))?;
        vcpu.set_sregs(&self.sregs)
            .map_err(cannot("write the system registers"))?;
        vcpu.set_xcrs(&self.xcrs).map_err(cannot("write XCR0"))?;
        if !skip(Sabotage::LoseFpu) {
            // SAFETY: the structure came from KVM_GET_XSAVE, so it has the size that this takes.
            unsafe { vcpu.set_xsave(&self.xsave) }.map_err(cannot("write the extended state"))?;
        }
        if !skip(Sabotage::LoseDebugRegisters) {
            let done = vcpu.set_debug_regs(&self.debug);
            done.map_err(cannot("write the debug registers"))?;
        }
        if !skip(Sabotage::LoseApic) {
            vcpu.set_lapic(&self.lapic)
                .map_err(cannot("write the local APIC"))?;
        }
        for first in [true, false] {
            for msr in self.msrs.iter().filter(|m| (m.index == TSC) == first) {
                let mut msr = *msr;
                if skip(Sabotage::WrongMsr) && msr.index == LSTAR {
                    msr.data ^= 0x1000;
                }
                let one = Msrs::from_entries(&[msr]).map_err(|e| format!("{e:?}"))?;
                // Some registers can be read and not written; they hold nothing of the guest's.
                let _ = vcpu.set_msrs(&one).map_err(cannot("write a register"))?;
            }
        }
        vcpu.set_vcpu_events(&self.events)
            .map_err(cannot("write the pending events"))
    }
}

/// The registers among `numbers` that can be read; TSC_DEADLINE last, since it arms a timer.
fn read_msrs(vcpu: &VcpuFd, numbers: &[u32]) -> Result<Vec<kvm_msr_entry>, String> {
    let mut left: Vec<kvm_msr_entry> = numbers
        .iter()
        .map(|&index| kvm_msr_entry {
            index,
            ..Default::default()
        })
        .collect();
    left.sort_by_key(|m| m.index == TSC_DEADLINE);
    let mut read = Vec::new();
    while !left.is_empty() {
        let batch = left.len().min(128);
        let mut msrs = Msrs::from_entries(&left[..batch]).map_err(|e| format!("{e:?}"))?;
        let done = vcpu.get_msrs(&mut msrs).map_err(cannot("read registers"))?;
        read.extend_from_slice(&msrs.as_slice()[..done]);
        // The kernel stops at one that it lists and does not have.
        left.drain(..(done + usize::from(done < batch)).min(left.len()));
    }
    Ok(read)
}

/// The parts of a machine that belong to no processor.
pub struct Board {
    chips: Vec<kvm_irqchip>,
    pit: Option<kvm_pit_state2>,
    clock: kvm_clock_data,
}

impl Board {
    /// Reads the machine; nothing of it may run.
    pub fn save(vm: &VmFd, pit: bool) -> Result<Board, String> {
        let mut chips = Vec::new();
        for chip_id in [
            KVM_IRQCHIP_PIC_MASTER,
            KVM_IRQCHIP_PIC_SLAVE,
            KVM_IRQCHIP_IOAPIC,
        ] {
            let mut chip = kvm_irqchip {
                chip_id,
                ..Default::default()
            };
            vm.get_irqchip(&mut chip)
                .map_err(cannot("read an interrupt controller"))?;
            chips.push(chip);
        }
        let pit = match pit {
            true => Some(vm.get_pit2().map_err(cannot("read the timer"))?),
            false => None,
        };
        let mut clock = vm.get_clock().map_err(cannot("read the clock"))?;
        clock.flags = 0;
        Ok(Board { chips, pit, clock })
    }

    /// Writes the machine.
    pub fn restore(&self, vm: &VmFd) -> Result<(), String> {
        for chip in &self.chips {
            vm.set_irqchip(chip)
                .map_err(cannot("write an interrupt controller"))?;
        }
        if let Some(pit) = &self.pit {
            vm.set_pit2(pit).map_err(cannot("write the timer"))?;
        }
        vm.set_clock(&self.clock).map_err(cannot("write the clock"))
    }
}
