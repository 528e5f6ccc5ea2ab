//! The machine: its parts, one thread per processor, and stopping them all when the world changes.

use super::devices::{COM1, Devices, Effect};
use super::gather::Gather;
use super::ring::Ring;
use super::slots::{MAIN, Region, Slot, Slots, tell};
use super::{DIED, Options, Sabotage, boot, cpuid, services};
use assay_protocol::service::kick;
use kvm_bindings::{
    KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_MAX_CPUID_ENTRIES,
    KVM_PIT_SPEAKER_DUMMY, Msrs, kvm_cpuid_entry2, kvm_enable_cap, kvm_msr_entry, kvm_pit_config,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// KVM_EXIT_DIRTY_RING_FULL.
const EXIT_RING_FULL: u32 = 31;
/// Three pages below 4 GiB that KVM needs on hosts that cannot run real mode.
const TSS: usize = 0xfffb_d000;
const IDENTITY_MAP: u64 = 0xfffb_c000;

/// How long a byte of the console may lie with the kernel.
const LISTEN: Duration = Duration::from_millis(20);

const MISC_ENABLE: u32 = 0x1a0;
const MTRR_DEFAULT: u32 = 0x2ff;
const FEATURE_CONTROL: u32 = 0x3a;

/// A processor.
pub struct Vcpu {
    /// The descriptor.
    pub fd: VcpuFd,
}

/// What stops the world.
#[derive(Default)]
struct Gate {
    stop: bool,
    parked: usize,
}

/// The virtual machine.
pub struct Machine {
    kvm: Kvm,
    /// What the user asked for.
    pub options: Options,
    /// KVM's machine.
    pub vm: RwLock<VmFd>,
    /// Its memory.
    pub slots: RwLock<Slots>,
    /// Its devices.
    pub devices: Mutex<Devices>,
    /// Its processors; each is locked by its thread while it runs.
    pub vcpus: Vec<Mutex<Vcpu>>,
    /// Their dirty rings, when the machine has rings.
    pub rings: Mutex<Vec<Ring>>,
    /// State of the services.
    pub book: Mutex<services::Book>,
    /// The processors' descriptors, to tell whose a processor is without its lock.
    pub fds: Mutex<Vec<RawFd>>,
    /// Model-specific registers that KVM can save.
    pub msrs: Vec<u32>,
    leaves: Vec<kvm_cpuid_entry2>,
    gate: Mutex<Gate>,
    turned: Condvar,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

thread_local! {
    /// Where this thread's processor looks before it enters the guest.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
}

/// A kick: whatever the thread does, its next KVM_RUN returns at once.
extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    IMMEDIATE_EXIT.with(|at| {
        let at = at.get();
        if !at.is_null() {
            // SAFETY: it points into the run structure of the processor that this thread holds, which is
            // mapped; whoever gives the processor up or replaces it aims at nothing first.
            unsafe { at.write_volatile(1) };
        }
    });
}

/// Lets kicks of this thread strike `vcpu`, which it holds.
fn aim(vcpu: &mut Vcpu) {
    let flag = &raw mut vcpu.fd.get_kvm_run().immediate_exit;
    IMMEDIATE_EXIT.with(|at| at.set(flag));
}

/// Lets kicks of this thread strike nothing. A kick may come late, when the processor it was meant for,
/// and with it the run structure, has been replaced.
pub fn aim_at_nothing() {
    IMMEDIATE_EXIT.with(|at| at.set(std::ptr::null_mut()));
}

/// A lock that a panicked thread left: the process is about to end, and its data is still whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a payload to its end.
pub fn run(options: &Options) -> Result<u8, String> {
    register_signal_handler(SIGRTMIN(), on_kick)
        .map_err(|e| format!("cannot take signals: {e}"))?;
    // It lives as long as the process.
    let machine: &'static Machine = Box::leak(Box::new(
        // What a probe says of a KVM that cannot be used says more than the call that failed.
        Machine::new(options).map_err(|why| super::probe().err().unwrap_or(why))?,
    ));
    for index in 0..machine.vcpus.len() {
        let thread = std::thread::Builder::new()
            .name(format!("cpu{index}"))
            .spawn(move || machine.cpu(index))
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        lock(&machine.threads).push(thread);
    }
    // The processors end the process. Until then, a guest that does not get to the end of its line
    // is heard as well.
    loop {
        std::thread::sleep(LISTEN);
        if let Effect::Exit(code) = lock(&machine.devices).drain() {
            machine.exit(code);
        }
    }
}

/// A virtual machine with interrupt controllers and timer, and dirty rings of `ring` entries.
pub fn new_vm(kvm: &Kvm, options: &Options, ring: u64) -> Result<VmFd, (i32, String)> {
    let what = |what: &'static str| {
        move |e: kvm_ioctls::Error| (e.errno(), format!("cannot make {what}: {e}"))
    };
    let vm = kvm.create_vm().map_err(what("a virtual machine"))?;
    vm.set_tss_address(TSS).map_err(what("the TSS pages"))?;
    vm.set_identity_map_address(IDENTITY_MAP)
        .map_err(what("the identity map"))?;
    vm.create_irq_chip()
        .map_err(what("interrupt controllers"))?;
    if !options.no_pit {
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        vm.create_pit2(pit).map_err(what("a timer"))?;
    }
    if ring != 0 {
        let acquire = kvm.check_extension_raw(u64::from(KVM_CAP_DIRTY_LOG_RING_ACQ_REL)) > 0;
        let cap = match acquire {
            true => KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
            false => KVM_CAP_DIRTY_LOG_RING,
        };
        let mut enable = kvm_enable_cap {
            cap,
            ..Default::default()
        };
        enable.args[0] = Ring::bytes(ring);
        vm.enable_cap(&enable).map_err(what("dirty rings"))?;
    }
    Ok(vm)
}

impl Machine {
    fn new(options: &Options) -> Result<Machine, String> {
        let device = super::device();
        let path = CString::new(device.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
        let kvm = Kvm::new_with_path(&path).map_err(|e| e.to_string())?;
        let most = kvm.get_max_vcpus();
        if options.cpus as usize > most {
            return Err(format!("KVM makes at most {most} processors here"));
        }
        let vm = new_vm(&kvm, options, 0).map_err(|(_, why)| why)?;
        let memory = Region::new(u64::from(options.memory) << 20)?;
        let entry = boot::load(
            &options.kernel,
            &memory,
            &command_line(&options.append),
            options.cpus,
            options.pvh,
        )?;
        let mut slots = Slots::default();
        let main = Slot {
            address: 0,
            region: Arc::new(memory),
            flags: 0,
            filler: None,
        };
        tell(&vm, MAIN, Some(&main)).map_err(|e| format!("cannot map memory: errno {e}"))?;
        slots.0.insert(MAIN, main.clone());
        let mut leaves = cpuid::base(&kvm, options)?;
        let msrs = kvm
            .get_msr_index_list()
            .map_err(|e| e.to_string())?
            .as_slice()
            .to_vec();
        let mut vcpus = Vec::new();
        for id in 0..options.cpus {
            let fd = vm
                .create_vcpu(u64::from(id))
                .map_err(|e| format!("cannot make processor {id}: {e}"))?;
            if id == 0
                && let Ok(khz) = fd.get_tsc_khz()
            {
                cpuid::set_clock(&mut leaves, khz);
            }
            vcpus.push(fd);
        }
        for (id, fd) in (0..).zip(&vcpus) {
            set_cpuid(fd, &leaves, id, options)?;
            firmware_msrs(fd)?;
        }
        let boot_cpu = vcpus.first().ok_or("no processor")?;
        let mut sregs = boot_cpu.get_sregs().map_err(|e| e.to_string())?;
        let regs = boot::registers(entry, &main.region, &mut sregs)?;
        boot_cpu
            .set_sregs(&sregs)
            .map_err(|e| format!("cannot set system registers: {e}"))?;
        boot_cpu
            .set_regs(&regs)
            .map_err(|e| format!("cannot set registers: {e}"))?;
        let mut devices = Devices::new(options);
        devices.gather(Gather::new(&kvm, &vm, boot_cpu, COM1));
        let fds = vcpus.iter().map(AsRawFd::as_raw_fd).collect();
        let vcpus = vcpus.into_iter().map(|fd| Mutex::new(Vcpu { fd }));
        Ok(Machine {
            vcpus: vcpus.collect(),
            kvm,
            options: options.clone(),
            vm: RwLock::new(vm),
            slots: RwLock::new(slots),
            devices: Mutex::new(devices),
            rings: Mutex::default(),
            book: Mutex::default(),
            fds: Mutex::new(fds),
            msrs,
            leaves,
            gate: Mutex::default(),
            turned: Condvar::new(),
            threads: Mutex::default(),
        })
    }

    /// The device.
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// Notes the descriptors of a machine that was just built.
    pub fn note_fds(&self, vcpus: &[MutexGuard<'_, Vcpu>]) {
        *lock(&self.fds) = vcpus.iter().map(|v| v.fd.as_raw_fd()).collect();
    }

    /// Whether this promise is to be broken.
    pub fn breaks(&self, what: Sabotage) -> bool {
        self.options.sabotage == Some(what)
    }

    /// A processor of `vm` with the same CPUID.
    pub fn new_vcpu(&self, vm: &VmFd, id: u32) -> Result<Vcpu, String> {
        let fd = vm
            .create_vcpu(u64::from(id))
            .map_err(|e| format!("cannot make processor {id}: {e}"))?;
        set_cpuid(&fd, &self.leaves, id, &self.options)?;
        Ok(Vcpu { fd })
    }

    /// Runs processor `index` for as long as the process lives.
    fn cpu(&'static self, index: usize) {
        let mut vcpu = lock(&self.vcpus[index]);
        loop {
            // First where a kick is to strike, then the question whether one is due: a kick that
            // struck nothing is seen here.
            aim(&mut vcpu);
            if lock(&self.gate).stop {
                self.complete(index, &mut vcpu);
                aim_at_nothing();
                drop(vcpu);
                self.park();
                vcpu = lock(&self.vcpus[index]);
                continue;
            }
            let Some(effect) = self.enter(index, &mut vcpu) else {
                continue;
            };
            match effect {
                Effect::None => {}
                Effect::Exit(code) => self.exit(code),
                Effect::Reset => self.reset(),
                Effect::Doorbell(address) => {
                    vcpu = services::serve(self, index, vcpu, address);
                }
                Effect::Kick(kind) => self.interrupt_access(index, &mut vcpu, kind),
            }
        }
    }

    /// Lets KVM finish what the last exit began, without running the guest. An access that takes
    /// several exits (it is long, or crosses a page) is finished as a whole.
    pub fn complete(&self, index: usize, vcpu: &mut Vcpu) {
        loop {
            vcpu.fd.set_kvm_immediate_exit(1);
            match self.enter(index, vcpu) {
                None => return,
                Some(Effect::Exit(code)) => self.exit(code),
                Some(Effect::Reset) => self.reset(),
                // A doorbell is one access of one piece, and a kick is under way already.
                Some(Effect::None | Effect::Doorbell(_) | Effect::Kick(_)) => {}
            }
        }
    }

    /// Enters the guest once. `None`: a kick came, and everything before it is complete.
    fn enter(&self, index: usize, vcpu: &mut Vcpu) -> Option<Effect> {
        aim(vcpu);
        let exit = vcpu.fd.run();
        let effect = match exit {
            Ok(VcpuExit::IoOut(port, data)) => lock(&self.devices).port_write(port, data),
            Ok(VcpuExit::IoIn(port, data)) => lock(&self.devices).port_read(port, data),
            Ok(VcpuExit::MmioWrite(address, data)) => self.memory_write(address, data),
            Ok(VcpuExit::MmioRead(address, data)) => lock(&self.devices).memory_read(address, data),
            Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::Hlt) => Effect::None,
            Ok(VcpuExit::Unsupported(EXIT_RING_FULL)) => {
                services::ring_full(self);
                Effect::None
            }
            Ok(VcpuExit::Shutdown) => self.shutdown(index, vcpu),
            Ok(VcpuExit::SystemEvent(..)) => Effect::Reset,
            Ok(other) => {
                let what = format!("{other:?}");
                self.stuck(index, vcpu, &what)
            }
            Err(e) if matches!(e.errno(), libc::EINTR | libc::EAGAIN) => {
                vcpu.fd.set_kvm_immediate_exit(0);
                return None;
            }
            Err(e) => self.stuck(index, vcpu, &e.to_string()),
        };
        Some(effect)
    }

    fn memory_write(&self, address: u64, data: &[u8]) -> Effect {
        if self.breaks(Sabotage::WriteReadOnly) {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            slots.write(address, data);
        }
        lock(&self.devices).memory_write(address, data)
    }

    /// Interrupts the access that this processor has just made, before the guest goes on.
    fn interrupt_access(&self, index: usize, vcpu: &mut Vcpu, kind: u64) {
        match kind {
            kick::SIGNAL => {
                // To this very thread: the handler sets the flag, and KVM_RUN meets both.
                // SAFETY: the handler does nothing but set a byte.
                unsafe { libc::pthread_kill(libc::pthread_self(), SIGRTMIN()) };
                self.complete(index, vcpu);
            }
            kick::STATE => {
                self.complete(index, vcpu);
                let rewritten = super::state::Cpu::save(&vcpu.fd, &self.msrs)
                    .and_then(|state| state.restore(&vcpu.fd, self.options.sabotage));
                if let Err(why) = rewritten {
                    eprintln!("assay: vmm: {why}");
                }
            }
            _ => {
                for _ in 0..3 {
                    self.complete(index, vcpu);
                }
            }
        }
    }

    /// Ends the process.
    pub fn exit(&self, code: u8) -> ! {
        lock(&self.devices).flush();
        std::process::exit(code.into())
    }

    fn reset(&self) -> ! {
        if !self.options.reset {
            self.exit(0);
        }
        lock(&self.devices).flush();
        super::start_again();
        self.exit(DIED)
    }

    fn shutdown(&self, index: usize, vcpu: &Vcpu) -> Effect {
        eprintln!("triple fault on CPU {index}{}", place(&vcpu.fd));
        if self.options.reset {
            return Effect::Reset;
        }
        Effect::Exit(DIED)
    }

    fn stuck(&self, index: usize, vcpu: &mut Vcpu, what: &str) -> Effect {
        let run = vcpu.fd.get_kvm_run();
        let mut what = what.to_owned();
        if run.exit_reason == kvm_bindings::KVM_EXIT_INTERNAL_ERROR {
            // SAFETY: the exit reason says that this member of the union is valid.
            let internal = unsafe { run.__bindgen_anon_1.internal };
            what = format!("KVM internal error {}", internal.suberror);
            if internal.suberror == kvm_bindings::KVM_INTERNAL_ERROR_EMULATION {
                what += " (it cannot emulate the instruction)";
            }
        }
        eprintln!("CPU {index} cannot go on: {what}{}", place(&vcpu.fd));
        Effect::Exit(DIED)
    }

    fn park(&self) {
        let mut gate = lock(&self.gate);
        gate.parked += 1;
        self.turned.notify_all();
        while gate.stop {
            gate = self
                .turned
                .wait(gate)
                .unwrap_or_else(PoisonError::into_inner);
        }
        gate.parked -= 1;
        self.turned.notify_all();
    }

    /// Stops all processors but the caller's, which is not locked, and calls `then` with all of
    /// them at rest: every access is complete. `None` when somebody else is doing that.
    pub fn with_world_stopped<T>(
        &self,
        then: impl FnOnce(&mut [MutexGuard<'_, Vcpu>]) -> T,
    ) -> Option<T> {
        let mut gate = lock(&self.gate);
        if gate.stop || gate.parked != 0 {
            return None;
        }
        gate.stop = true;
        while gate.parked < self.vcpus.len() - 1 {
            self.kick_all();
            let pause = Duration::from_millis(2);
            let waited = self.turned.wait_timeout(gate, pause);
            gate = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(gate);
        let mut all: Vec<_> = self.vcpus.iter().map(lock).collect();
        let result = then(&mut all);
        drop(all);
        let mut gate = lock(&self.gate);
        gate.stop = false;
        self.turned.notify_all();
        while gate.parked != 0 {
            gate = self
                .turned
                .wait(gate)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Some(result)
    }

    fn kick_all(&self) {
        for thread in lock(&self.threads).iter() {
            // A thread that is not in the guest notices at its next turn.
            let _ = thread.kill(SIGRTMIN());
        }
    }
}

/// The guest's command line: `words`, and where the doorbell is.
fn command_line(words: &str) -> String {
    use assay_protocol::service::{DOORBELL, DOORBELL_KEY};
    format!("{words} {DOORBELL_KEY}={DOORBELL:x}")
}

fn place(fd: &VcpuFd) -> String {
    match (fd.get_regs(), fd.get_sregs()) {
        (Ok(regs), Ok(sregs)) => format!(
            " at rip {:#x} rsp {:#x} cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
            regs.rip, regs.rsp, sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer
        ),
        _ => String::new(),
    }
}

fn set_cpuid(
    fd: &VcpuFd,
    leaves: &[kvm_cpuid_entry2],
    id: u32,
    options: &Options,
) -> Result<(), String> {
    debug_assert!(leaves.len() < KVM_MAX_CPUID_ENTRIES);
    let leaves = cpuid::of_cpu(leaves, id, options.cpus, options.sabotage)?;
    fd.set_cpuid2(&leaves)
        .map_err(|e| format!("cannot set CPUID: {e}"))
}

/// What a BIOS leaves in model-specific registers. KVM refuses those it does not have, and then
/// the guest does not have them either.
fn firmware_msrs(fd: &VcpuFd) -> Result<(), String> {
    const FAST_STRINGS: u64 = 1;
    const WRITE_BACK_ENABLED: u64 = 0x806;
    const LOCKED_VMX_OUTSIDE_SMX: u64 = 5;
    for (index, data) in [
        (MISC_ENABLE, FAST_STRINGS),
        (MTRR_DEFAULT, WRITE_BACK_ENABLED),
        (FEATURE_CONTROL, LOCKED_VMX_OUTSIDE_SMX),
    ] {
        let entry = kvm_msr_entry {
            index,
            data,
            ..Default::default()
        };
        let one = Msrs::from_entries(&[entry]).map_err(|e| format!("{e:?}"))?;
        let _ = fd.set_msrs(&one);
    }
    Ok(())
}
