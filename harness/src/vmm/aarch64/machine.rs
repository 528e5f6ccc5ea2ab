//! The machine: one thread per processor; whoever meets its end ends the process.

use super::board;
use super::pl011::Pl011;
use crate::vmm::console::Console;
use crate::vmm::memory::Region;
use crate::vmm::{DIED, Options, device, start_again};
use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_DEV_ARM_VGIC_CTRL_INIT,
    KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
    KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_U64,
    KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, kvm_userspace_memory_region, kvm_vcpu_init,
};
use kvm_ioctls::{DeviceFd, Kvm, VcpuExit, VcpuFd, VmFd};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All interrupts: 32 private ones and 256 shared.
const INTERRUPTS: u32 = 288;
/// EL1 with its own stack pointer, all exceptions masked.
const PSTATE: u64 = 0x3c5;
/// The affinity fields of MPIDR_EL1.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// A general register, by its place in `struct user_pt_regs` in 32-bit words.
const fn core_register(words: u64) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | words
}
const X0: u64 = core_register(0);
const PC: u64 = core_register(2 * 32);
const PSTATE_REGISTER: u64 = core_register(2 * 33);
/// op0 3, op1 0, CRn 0, CRm 0, op2 5.
const MPIDR: u64 = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | 3 << 14 | 5;

type Devices = Mutex<Pl011<Console>>;

fn lock(devices: &Devices) -> MutexGuard<'_, Pl011<Console>> {
    // A lock that a panicked thread left: the process is about to end.
    devices.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `kvm` can make such a machine: the interrupt controller is not everywhere.
pub fn probe(kvm: &Kvm) -> Result<(), String> {
    let vm = kvm
        .create_vm()
        .map_err(|e| format!("it makes no virtual machine: {e}"))?;
    new_gic(&vm).map(|_| ())
}

/// Runs a payload to its end.
pub fn run(options: &Options) -> Result<u8, String> {
    for (given, flag) in [
        (!options.cpu_features.is_empty(), "--cpu-feature"),
        (options.no_pit, "--no-pit"),
        (options.pvh, "--pvh"),
        (options.sabotage.is_some(), "--sabotage"),
    ] {
        if given {
            return Err(format!("an arm64 machine has no {flag}"));
        }
    }
    // What a probe says of a KVM that cannot be used says more than the call that failed.
    let (vm, memory, vcpus) =
        build(options).map_err(|why| crate::vmm::probe().err().unwrap_or(why))?;
    let devices = Arc::new(Mutex::new(Pl011::new(Console::default())));
    let may_reset = options.reset;
    let threads: Vec<_> = (0..)
        .zip(vcpus)
        .map(|(index, vcpu): (u32, VcpuFd)| {
            let devices = Arc::clone(&devices);
            std::thread::Builder::new()
                .name(format!("cpu{index}"))
                .spawn(move || cpu(index, vcpu, &devices, may_reset))
                .map_err(|e| format!("cannot start a thread: {e}"))
        })
        .collect::<Result<_, _>>()?;
    for thread in threads {
        // The processors end the process, unless their thread panics.
        let _ = thread.join();
    }
    drop((vm, memory));
    Ok(DIED)
}

type Parts = (VmFd, Region, Vec<VcpuFd>);

fn build(options: &Options) -> Result<Parts, String> {
    let path = CString::new(device().as_os_str().as_bytes()).map_err(|e| e.to_string())?;
    let kvm = Kvm::new_with_path(&path).map_err(|e| e.to_string())?;
    let most = kvm.get_max_vcpus().min(board::MAX_CPUS as usize);
    if options.cpus as usize > most {
        return Err(format!("KVM makes at most {most} processors here"));
    }
    let vm = kvm
        .create_vm()
        .map_err(|e| format!("cannot make a virtual machine: {e}"))?;
    let memory = Region::new(u64::from(options.memory) << 20)?;
    let region = kvm_userspace_memory_region {
        guest_phys_addr: board::MEMORY,
        memory_size: memory.bytes(),
        userspace_addr: memory.address(),
        ..Default::default()
    };
    // SAFETY: `run` keeps the memory as long as the machine.
    unsafe { vm.set_user_memory_region(region) }.map_err(|e| format!("cannot map memory: {e}"))?;
    let mut init = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut init)
        .map_err(|e| format!("cannot ask for the processor's kind: {e}"))?;
    init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    let (mut vcpus, mut affinities) = (Vec::new(), Vec::new());
    for id in 0..options.cpus {
        let what = |e: kvm_ioctls::Error| format!("cannot make processor {id}: {e}");
        let vcpu = vm.create_vcpu(u64::from(id)).map_err(what)?;
        let mut init = init;
        if id != 0 {
            init.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
        }
        vcpu.vcpu_init(&init).map_err(what)?;
        let mut mpidr = [0; 8];
        vcpu.get_one_reg(MPIDR, &mut mpidr).map_err(what)?;
        affinities.push(u64::from_le_bytes(mpidr) & AFFINITY);
        vcpus.push(vcpu);
    }
    // The redistributors exist when all processors do.
    let gic = new_gic(&vm)?;
    set_up(&gic)?;

    let image = std::fs::read(&options.kernel);
    let image = image.map_err(|e| format!("cannot read {}: {e}", options.kernel.display()))?;
    let entry = board::place(&image, image.len() as u64, memory.bytes())
        .map_err(|why| format!("{}: {why}", options.kernel.display()))?;
    memory.write(entry - board::MEMORY, &image)?;
    let tree = board::tree(&options.append, memory.bytes(), &affinities)?;
    memory.write(0, &tree)?;
    let boot = vcpus.first().ok_or("no processor")?;
    for (register, value) in [(X0, board::MEMORY), (PC, entry), (PSTATE_REGISTER, PSTATE)] {
        boot.set_one_reg(register, &value.to_le_bytes())
            .map_err(|e| format!("cannot set registers: {e}"))?;
    }
    Ok((vm, memory, vcpus))
}

fn new_gic(vm: &VmFd) -> Result<DeviceFd, String> {
    let mut device = kvm_create_device {
        type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
        ..Default::default()
    };
    vm.create_device(&mut device)
        .map_err(|e| format!("it makes no GICv3: {e}"))
}

fn set_up(gic: &DeviceFd) -> Result<(), String> {
    let (distributor, redistributors) = (board::DISTRIBUTOR, board::REDISTRIBUTORS);
    let interrupts = INTERRUPTS;
    for (group, attr, addr) in [
        (
            KVM_DEV_ARM_VGIC_GRP_ADDR,
            KVM_VGIC_V3_ADDR_TYPE_DIST,
            (&raw const distributor) as u64,
        ),
        (
            KVM_DEV_ARM_VGIC_GRP_ADDR,
            KVM_VGIC_V3_ADDR_TYPE_REDIST,
            (&raw const redistributors) as u64,
        ),
        (
            KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
            0,
            (&raw const interrupts) as u64,
        ),
        (KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, 0),
    ] {
        let attr = kvm_device_attr {
            flags: 0,
            group,
            attr: attr.into(),
            addr,
        };
        gic.set_device_attr(&attr)
            .map_err(|e| format!("cannot set the GICv3 up: {e}"))?;
    }
    Ok(())
}

/// Runs a processor for as long as the process lives.
fn cpu(index: u32, mut vcpu: VcpuFd, devices: &Devices, may_reset: bool) {
    let exit = |code: u8| -> ! {
        // A reader that went away is nobody's business here.
        let _ = lock(devices).out().put();
        std::process::exit(code.into())
    };
    loop {
        match vcpu.run() {
            Ok(VcpuExit::MmioWrite(address, data)) => {
                let value = number(data);
                let done = match board::CONSOLE.contains(&address) {
                    true => lock(devices).write(address - board::CONSOLE.start, value),
                    false => Ok(()),
                };
                if done.is_err() {
                    // Standard output is closed: the runner has gone, and we follow.
                    exit(1);
                }
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                let value = match board::CONSOLE.contains(&address) {
                    true => lock(devices).read(address - board::CONSOLE.start),
                    false => 0,
                };
                data.fill(0);
                for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
                    *to = from;
                }
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => exit(0),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => {
                if !may_reset {
                    exit(0);
                }
                let _ = lock(devices).out().put();
                start_again();
                exit(DIED);
            }
            Ok(VcpuExit::Intr) => {}
            Err(e) if matches!(e.errno(), libc::EINTR | libc::EAGAIN) => {}
            Ok(other) => {
                let what = format!("{other:?}");
                stuck(index, &vcpu, &what);
                exit(DIED);
            }
            Err(e) => {
                stuck(index, &vcpu, &e.to_string());
                exit(DIED);
            }
        }
    }
}

fn number(data: &[u8]) -> u32 {
    let mut word = [0; 4];
    let n = data.len().min(4);
    word[..n].copy_from_slice(&data[..n]);
    u32::from_le_bytes(word)
}

fn stuck(index: u32, vcpu: &VcpuFd, what: &str) {
    let mut pc = [0; 8];
    let place = match vcpu.get_one_reg(PC, &mut pc) {
        Ok(_) => format!(" at pc {:#x}", u64::from_le_bytes(pc)),
        Err(_) => String::new(),
    };
    eprintln!("CPU {index} cannot go on: {what}{place}");
}
