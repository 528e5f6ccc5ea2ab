//! What the guest finds at its ports and addresses beside KVM's own interrupt controllers and timer.

use super::acpi::PM1A_CONTROL;
use super::gather::Gather;
use super::{Options, Sabotage};
use crate::vmm::console::Console;
use assay_protocol::service::{
    Access, COUNTER, COUNTER_BYTES, COUNTER_PORT, COUNTER_PORTS, DOORBELL, PORT_OFFSET,
    counter_byte,
};
use std::io;
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};

/// The console.
pub const COM1: u16 = 0x3f8;
/// The exit port: a doubleword of 0 ends the process with 0, anything else with 1.
const EXIT: u16 = 0xf4;
const KEYBOARD_CONTROLLER: u16 = 0x64;
const RESET_CONTROL: u16 = 0xcf9;

/// What the machine must do after an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Go on.
    None,
    /// End the process with this exit code.
    Exit(u8),
    /// Start again.
    Reset,
    /// Serve the request at this guest address.
    Doorbell(u64),
    /// Interrupt the access in this way ([`assay_protocol::service::kick`]).
    Kick(u64),
}

/// Nothing listens to the serial port's interrupt: payloads poll.
pub struct Deaf;

impl Trigger for Deaf {
    type E = io::Error;
    fn trigger(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The area that counts accesses.
#[derive(Debug, Default)]
pub struct Counter {
    /// Everything that happened, in order.
    pub log: Vec<Access>,
    /// Kick at every Nth access; 0 never.
    pub every: u64,
    /// How ([`assay_protocol::service::kick`]).
    pub kind: u64,
    /// How often that happened.
    pub kicks: u64,
    seen: u64,
}

/// Accesses that are kept; a guest in a loop must not fill our memory.
const LOG_LIMIT: usize = 1 << 16;

impl Counter {
    /// Forgets everything and kicks at every `every`th access from now on.
    pub fn reset(&mut self, every: u64, kind: u64) {
        *self = Counter {
            every,
            kind,
            ..Counter::default()
        };
    }

    fn note(&mut self, access: Access) -> Effect {
        if self.log.len() < LOG_LIMIT {
            self.log.push(access);
        }
        self.seen += 1;
        if self.every == 0 || !self.seen.is_multiple_of(self.every) {
            return Effect::None;
        }
        self.kicks += 1;
        Effect::Kick(self.kind)
    }

    fn write(&mut self, offset: u32, data: &[u8], sabotage: Option<Sabotage>) -> Effect {
        let access = Access {
            offset,
            width: data.len() as u16,
            is_write: 1,
            value: number(data),
        };
        let by_memory = offset < PORT_OFFSET;
        let writes = self.log.iter().filter(|a| a.is_write == 1).count();
        match sabotage {
            Some(Sabotage::MmioLost) if by_memory && writes == 1 => {
                // The access happened, the device did not hear of it.
                self.seen += 1;
                return Effect::None;
            }
            Some(Sabotage::MmioTwice) if by_memory => {
                self.note(access);
            }
            Some(Sabotage::RestartKicked)
                if self.every != 0 && (self.seen + 1).is_multiple_of(self.every) =>
            {
                self.log.push(access);
            }
            _ => {}
        }
        self.note(access)
    }

    fn read(&mut self, offset: u32, data: &mut [u8]) -> Effect {
        for (i, byte) in (0u32..).zip(data.iter_mut()) {
            *byte = counter_byte(u64::from(offset + i));
        }
        self.note(Access {
            offset,
            width: data.len() as u16,
            is_write: 0,
            value: number(data),
        })
    }
}

fn number(data: &[u8]) -> u64 {
    let mut word = [0; 8];
    let n = data.len().min(8);
    word[..n].copy_from_slice(&data[..n]);
    u64::from_le_bytes(word)
}

/// All devices.
pub struct Devices {
    serial: Serial<Deaf, NoEvents, Console>,
    gather: Option<Gather>,
    /// The area that counts.
    pub counter: Counter,
    sabotage: Option<Sabotage>,
}

impl Devices {
    /// The devices of a machine that was just switched on.
    pub fn new(options: &Options) -> Self {
        Devices {
            serial: Serial::new(Deaf, Console::default()),
            gather: None,
            counter: Counter::default(),
            sabotage: options.sabotage,
        }
    }

    /// From now on the console's bytes are gathered there.
    pub fn gather(&mut self, from: Option<Gather>) {
        self.drain();
        self.gather = from;
    }

    /// Takes over what the kernel has gathered: it happened before the access that comes next.
    pub fn drain(&mut self) -> Effect {
        while let Some(byte) = self.gather.as_mut().and_then(Gather::next) {
            // It fails when standard output is closed: the runner has gone, and we follow.
            if self.serial.write(0, byte).is_err() {
                return Effect::Exit(1);
            }
        }
        Effect::None
    }

    /// Writes out what the console holds back.
    pub fn flush(&mut self) {
        self.drain();
        // A reader that went away is nobody's business here.
        let _ = self.serial.writer_mut().put();
    }

    /// OUT.
    pub fn port_write(&mut self, port: u16, data: &[u8]) -> Effect {
        if let Effect::Exit(code) = self.drain() {
            return Effect::Exit(code);
        }
        match (port, data) {
            (COM1..=0x3ff, [value]) => match self.serial.write((port - COM1) as u8, *value) {
                Ok(()) => Effect::None,
                Err(_) => Effect::Exit(1),
            },
            (EXIT, _) => Effect::Exit(u8::from(number(data) != 0)),
            (DOORBELL, _) if data.len() == 4 => Effect::Doorbell(number(data)),
            (KEYBOARD_CONTROLLER, [0xfe]) => Effect::Reset,
            (RESET_CONTROL, [value]) if value & 4 != 0 => Effect::Reset,
            (PM1A_CONTROL, _) if number(data) & 1 << 13 != 0 => Effect::Exit(0),
            _ if (COUNTER_PORT..COUNTER_PORT + COUNTER_PORTS).contains(&port) => {
                let offset = u32::from(port - COUNTER_PORT) + PORT_OFFSET;
                self.counter.write(offset, data, self.sabotage)
            }
            _ => Effect::None,
        }
    }

    /// IN; ports without a device read as all ones.
    pub fn port_read(&mut self, port: u16, data: &mut [u8]) -> Effect {
        data.fill(0xff);
        if let Effect::Exit(code) = self.drain() {
            return Effect::Exit(code);
        }
        match port {
            COM1..=0x3ff if data.len() == 1 => {
                data[0] = self.serial.read((port - COM1) as u8);
                Effect::None
            }
            PM1A_CONTROL => {
                data.fill(0);
                Effect::None
            }
            _ if (COUNTER_PORT..COUNTER_PORT + COUNTER_PORTS).contains(&port) => {
                let offset = u32::from(port - COUNTER_PORT) + PORT_OFFSET;
                self.counter.read(offset, data)
            }
            _ => Effect::None,
        }
    }

    /// A write to an address without memory.
    pub fn memory_write(&mut self, address: u64, data: &[u8]) -> Effect {
        match counter_offset(address) {
            Some(offset) => self.counter.write(offset, data, self.sabotage),
            None => Effect::None,
        }
    }

    /// A read from an address without memory: all ones unless a device answers.
    pub fn memory_read(&mut self, address: u64, data: &mut [u8]) -> Effect {
        data.fill(0xff);
        match counter_offset(address) {
            Some(offset) => self.counter.read(offset, data),
            None => Effect::None,
        }
    }
}

fn counter_offset(address: u64) -> Option<u32> {
    let offset = address.checked_sub(COUNTER)?;
    (offset < COUNTER_BYTES).then_some(offset as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_protocol::service;

    #[test]
    fn the_counter_sees_each_access_once_and_kicks_when_told() {
        let mut counter = Counter::default();
        counter.reset(2, service::kick::SIGNAL);
        assert_eq!(counter.write(8, &[1, 2], None), Effect::None);
        let mut data = [0; 4];
        assert_eq!(
            counter.read(12, &mut data),
            Effect::Kick(service::kick::SIGNAL)
        );
        assert_eq!(counter.log.len(), 2);
        assert_eq!(counter.log[0].value, 0x201);
        assert_eq!(counter.kicks, 1);
    }

    #[test]
    fn sabotage_changes_what_the_device_hears() {
        let mut counter = Counter::default();
        counter.write(0, &[1], Some(Sabotage::MmioTwice));
        assert_eq!(counter.log.len(), 2);
        counter.reset(0, 0);
        for _ in 0..3 {
            counter.write(0, &[1], Some(Sabotage::MmioLost));
        }
        assert_eq!(counter.log.len(), 1);
    }
}
