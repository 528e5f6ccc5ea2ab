//! What a payload may ask of its host while it runs.
//!
//! There are two ways to ask. Assay's own VMM has a **doorbell**: the guest fills a [`Message`]
//! in its RAM and writes the address to an I/O port ([`DOORBELL`]); when the instruction has
//! completed, the answer is in the message. It answers every [`Call`]. Other hypervisors know
//! nothing of that, so the guest prints a [`Question`] and the process that supervises the
//! hypervisor answers with a [`Reply`], one line on the console's input.
//!
//! A [`Request`] is what can be asked either way. Which services there are stands on the command
//! line (`services=`, [`crate::cmdline`]); a host with a doorbell adds `doorbell=`.

use crate::line::SERVICE;
use core::fmt::{Display, Formatter, Result as Format};

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident = $words:literal, $service:literal;)*) => {
        /// What a case asks of its host, whichever way the host hears it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Request {
            $($(#[$doc])* $name,)*
            /// What no host knows: it is refused, and changes nothing.
            Nonsense,
        }

        impl Request {
            /// What stands for it on the console.
            pub const fn words(self) -> &'static str {
                match self { $(Request::$name => $words,)* Request::Nonsense => "nonsense" }
            }

            /// The request that these words stand for, if a host can know it.
            pub fn from_words(words: &str) -> Option<Request> {
                match words { $($words => Some(Request::$name),)* _ => None }
            }

            /// The service that it is part of: the need is `service.<word>`.
            pub const fn service(self) -> Option<&'static str> {
                match self { $(Request::$name => Some($service),)* Request::Nonsense => None }
            }
        }
    };
}

requests! {
    /// Moves the machine to another process while it runs.
    Migrate = "migrate", "migrate";
    /// Moves the machine; part of its memory follows when it is asked for.
    MigratePostcopy = "migrate_postcopy", "migrate_postcopy";
    /// Saves the machine and goes on in a fresh one.
    SaveRestore = "save_restore", "save_restore";
    /// Injects an NMI into every processor, or what the architecture has in its place.
    InjectNmi = "inject nmi", "inject";
}

impl Display for Request {
    fn fmt(&self, f: &mut Formatter<'_>) -> Format {
        f.write_str(self.words())
    }
}

/// A request on the console: `# service N words`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Told apart from the guest's other questions by this.
    pub number: u32,
    /// What it asks for.
    pub request: Request,
}

impl Display for Question {
    fn fmt(&self, f: &mut Formatter<'_>) -> Format {
        write!(f, "{SERVICE}{} {}", self.number, self.request)
    }
}

impl Question {
    /// Number and words of a question, from what follows [`SERVICE`]. The words may be those of no
    /// request: then there is a number to answer to.
    pub fn split(text: &str) -> Option<(u32, &str)> {
        let (number, words) = text.split_once(' ')?;
        Some((number.parse().ok()?, words.trim()))
    }
}

/// What the host says to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// It did it; the words are for a human.
    Done(&'a str),
    /// It does not know the request.
    Unknown,
    /// It could not do it, and says why.
    Failed(&'a str),
}

/// The reason given with [`Answer::Unknown`].
const NO_SUCH: &str = "this host knows no such service";

/// An answer on the console: `N ok words` or `N error words`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The question's.
    pub number: u32,
    /// What became of it.
    pub answer: Answer<'a>,
}

impl Display for Reply<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Format {
        let number = self.number;
        match self.answer {
            Answer::Done("") => write!(f, "{number} ok"),
            Answer::Done(words) => write!(f, "{number} ok {words}"),
            Answer::Unknown => write!(f, "{number} error {NO_SUCH}"),
            Answer::Failed(why) => write!(f, "{number} error {why}"),
        }
    }
}

impl<'a> Reply<'a> {
    /// Reads a line of the console's input.
    pub fn parse(line: &'a str) -> Option<Reply<'a>> {
        let (number, rest) = line.trim().split_once(' ')?;
        let (verdict, words) = rest.split_once(' ').unwrap_or((rest, ""));
        let answer = match (verdict, words.trim()) {
            ("ok", words) => Answer::Done(words),
            ("error", NO_SUCH) => Answer::Unknown,
            ("error", why) => Answer::Failed(why),
            _ => return None,
        };
        let number = number.parse().ok()?;
        Some(Reply { number, answer })
    }
}

/// Key of the doorbell's port on the command line, hexadecimal.
pub const DOORBELL_KEY: &str = "doorbell";
/// The port of the doorbell.
pub const DOORBELL: u16 = 0xa5a0;

/// A call and its answer, in the guest's RAM. The host reads and writes it as a whole.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// A [`Call`] as a number.
    pub call: u32,
    /// 0: done. All else is a [`Refusal`].
    pub status: i32,
    /// What the call takes.
    pub args: [u64; 6],
    /// What the call returns.
    pub results: [u64; 6],
}

/// Why a call came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The host does not know the call.
    Unknown,
    /// The arguments make no sense: no such slot, no such processor.
    Bad,
    /// The host's kernel refused, with this errno.
    Errno(i32),
}

impl Refusal {
    /// The status of a message with it.
    pub const fn status(self) -> i32 {
        match self {
            Refusal::Unknown => -1,
            Refusal::Bad => -2,
            Refusal::Errno(errno) => errno,
        }
    }

    /// What the status of a message says.
    pub const fn check(status: i32) -> Result<(), Refusal> {
        match status {
            0 => Ok(()),
            -1 => Err(Refusal::Unknown),
            -2 => Err(Refusal::Bad),
            errno => Err(Refusal::Errno(errno)),
        }
    }
}

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
const _: () = assert!(core::mem::size_of::<Message>() == 128);

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
    #[test]
    fn statuses_are_refusals() {
        assert_eq!(Refusal::check(0), Ok(()));
        for refusal in [Refusal::Unknown, Refusal::Bad, Refusal::Errno(22)] {
            assert_eq!(Refusal::check(refusal.status()), Err(refusal));
        }
    }

    extern crate std;
    use std::string::ToString;

    #[test]
    fn requests_are_words() {
        let known = [
            Request::Migrate,
            Request::MigratePostcopy,
            Request::SaveRestore,
            Request::InjectNmi,
        ];
        for request in known {
            assert_eq!(Request::from_words(request.words()), Some(request));
            let need = std::format!("service.{}", request.service().unwrap());
            assert!(crate::need::parse(&need).is_some(), "{need}");
        }
        let nonsense = Request::Nonsense;
        assert_eq!(Request::from_words(nonsense.words()), None);
        assert_eq!(nonsense.service(), None);
    }

    #[test]
    fn questions_come_through() {
        let question = Question {
            number: 7,
            request: Request::InjectNmi,
        };
        let line = question.to_string();
        assert_eq!(line, "# service 7 inject nmi");
        let text = line.strip_prefix(SERVICE).unwrap();
        assert_eq!(Question::split(text), Some((7, "inject nmi")));
        for text in ["", "7", "x migrate", "-1 migrate"] {
            assert_eq!(Question::split(text), None, "{text}");
        }
    }

    #[test]
    fn replies_come_through() {
        let answers = [
            (Answer::Done(""), "12 ok"),
            (Answer::Done("rounds=4"), "12 ok rounds=4"),
            (Answer::Unknown, "12 error this host knows no such service"),
            (Answer::Failed("no room"), "12 error no room"),
        ];
        for (answer, line) in answers {
            let reply = Reply { number: 12, answer };
            assert_eq!(reply.to_string(), line);
            assert_eq!(Reply::parse(line), Some(reply));
        }
        for line in ["", "12", "x ok", "12 okay", "ok 12"] {
            assert_eq!(Reply::parse(line), None, "{line}");
        }
    }
}
