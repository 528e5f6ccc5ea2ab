//! What a payload may ask of its host while it runs.
//!
//! There are two ways to ask. Assay's own VMM has a **doorbell**: the guest fills a [`Request`]
//! in its RAM and writes the address to an I/O port ([`DOORBELL`]); when the instruction has
//! completed, the answer is in the request. Other hypervisors know nothing of that, so the guest
//! prints `# service N words` and the process that supervises the hypervisor answers with one
//! line on the console's input: `N ok` or `N error words`.
//!
//! Which services there are stands on the command line (`services=`, [`crate::cmdline`]); a host
//! with a doorbell adds `doorbell=`.

/// Key of the doorbell's port on the command line, hexadecimal.
pub const DOORBELL_KEY: &str = "doorbell";
/// The port of the doorbell.
pub const DOORBELL: u16 = 0xa5a0;

/// A call and its answer, in the guest's RAM. The host reads and writes it as a whole.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// A [`Call`] as a number.
    pub call: u32,
    /// 0: done. Positive: the host's kernel refused with this errno. [`UNKNOWN`], [`BAD`].
    pub status: i32,
    /// What the call takes.
    pub args: [u64; 6],
    /// What the call returns.
    pub results: [u64; 6],
}

/// Status of a call that the host does not know.
pub const UNKNOWN: i32 = -1;
/// Status of a call whose arguments make no sense: no such slot, no such processor.
pub const BAD: i32 = -2;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        /// What can be asked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Call { $($(#[$doc])* $name = $number,)* }

        impl Call {
            /// The call with this number.
            pub const fn from_number(number: u32) -> Option<Call> {
                match number { $($number => Some(Call::$name),)* _ => None }
            }
        }
    };
}

calls! {
    /// (slot, guest address, pages, [`flag`]s): new memory at an address where there is none.
    SlotAdd = 1;
    /// (slot): takes the memory away; its contents are lost.
    SlotDelete = 2;
    /// (slot, guest address): the same memory at another address.
    SlotMove = 3;
    /// (slot, [`flag`]s): changes nothing but the flags.
    SlotFlags = 4;
    /// (slot) returns (page faults that the host served): for slots with on-demand memory.
    SlotFaults = 5;
    /// ([`mode`] bits): how the dirty log of all slots works from now on.
    DirtyMode = 10;
    /// (slot, buffer, bytes): the dirty bitmap. Whether it also clears depends on the mode.
    DirtyGet = 11;
    /// (slot, first page, pages, buffer): clears the bits that are set in the buffer.
    DirtyClear = 12;
    /// (buffer, entries) returns (entries written, entries reset by the kernel): harvests every
    /// processor's ring. An entry is `slot << 48 | page`.
    RingHarvest = 13;
    /// () returns (exits because a ring was full) since the machine was built.
    RingFullExits = 14;
    /// (ring entries or 0): saves the machine, builds a fresh one with dirty rings of that size
    /// (0: none), restores everything into it and goes on there.
    Rebuild = 20;
    /// (kick at every Nth access or 0, [`kick`] kind): clears the counter page's log and counts.
    CounterReset = 30;
    /// (buffer, entries) returns (reads, writes, kicks, entries written): [`Access`]es in order.
    CounterRead = 31;
    /// (processor, [`inject`] kind, vector): makes an interrupt of the host's own.
    Inject = 40;
}

/// Flags of a memory slot.
pub mod flag {
    /// Writes are logged.
    pub const LOG: u64 = 1 << 0;
    /// The guest cannot write: its writes reach a device that ignores them.
    pub const READ_ONLY: u64 = 1 << 1;
    /// No page is there before its first access; the host then fills it: each 64-bit word of page
    /// `n` is [`super::demand_word`]`(n)`.
    pub const ON_DEMAND: u64 = 1 << 2;
    /// With [`ON_DEMAND`]: the page's contents exist, only its mapping is missing (minor faults).
    pub const MINOR: u64 = 1 << 3;
}

/// Bits of the dirty log's mode.
pub mod mode {
    /// Getting the log clears nothing; [`super::Call::DirtyClear`] does.
    pub const MANUAL: u64 = 1 << 0;
    /// A log that is switched on reports every page as dirty at first.
    pub const INITIALLY_SET: u64 = 1 << 1;
}

/// What happens to a processor whose access to the counter page is chosen.
pub mod kick {
    /// It leaves the kernel before it runs another instruction (`immediate_exit`).
    pub const IMMEDIATE_EXIT: u64 = 1;
    /// A signal hits its thread.
    pub const SIGNAL: u64 = 2;
    /// Its whole state is read, spoiled in the registers that hold nothing, and written back.
    pub const STATE: u64 = 3;
}

/// Kinds of injected interrupts.
pub mod inject {
    /// A non-maskable interrupt.
    pub const NMI: u64 = 1;
    /// A system-management interrupt.
    pub const SMI: u64 = 2;
    /// A message-signalled interrupt with a vector.
    pub const MSI: u64 = 3;
    /// A rising and falling edge on an input of the I/O APIC; the vector is the input.
    pub const LINE: u64 = 4;
}

/// Guest address of the page that counts accesses, and its length: it crosses a page.
pub const COUNTER: u64 = 0xd000_0000;
/// Length of the counter area in bytes.
pub const COUNTER_BYTES: u64 = 0x2000;
/// I/O port of the same counter: eight ports; byte, word and doubleword accesses.
pub const COUNTER_PORT: u16 = 0xa5b0;
/// Number of the counter's ports.
pub const COUNTER_PORTS: u16 = 8;

/// What a read of the counter area returns at `offset`: byte `i` of it is this function's value
/// at `offset + i`.
pub const fn counter_byte(offset: u64) -> u8 {
    (offset as u8).wrapping_mul(37).wrapping_add(11)
}

/// The word that on-demand memory holds in page `page`.
pub const fn demand_word(page: u64) -> u64 {
    0x9e37_79b9_7f4a_7c15u64.wrapping_mul(page + 1) | 1
}

/// One access to the counter area.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Offset in the area; ports begin at [`PORT_OFFSET`].
    pub offset: u32,
    /// Bytes.
    pub width: u16,
    /// 1 for a write.
    pub is_write: u16,
    /// The value, zero-extended.
    pub value: u64,
}

/// Added to the offset of an access by I/O port.
pub const PORT_OFFSET: u32 = 0x10000;

const _: () = assert!(core::mem::size_of::<Access>() == 16);
const _: () = assert!(core::mem::size_of::<Request>() == 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_calls() {
        for call in [Call::SlotAdd, Call::DirtyGet, Call::Rebuild, Call::Inject] {
            assert_eq!(Call::from_number(call as u32), Some(call));
        }
        assert_eq!(Call::from_number(0), None);
    }
}
