//! The console: whole lines, one writer at a time.

use crate::arch;
use crate::sync::SpinLock;
use core::fmt::{self, Write};

static CONSOLE: SpinLock<Console> = SpinLock::new(Console);

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        arch::platform::console_write(text.as_bytes());
        Ok(())
    }
}

/// Prints a line. The text may itself hold newlines.
pub fn print_line(line: fmt::Arguments) {
    // A processor that dies while it prints must not silence the report about it: the lock is
    // taken by force after a while. Mixed output beats none.
    let mut console = CONSOLE.lock_or_force();
    // `Console` never fails.
    let _ = console.write_fmt(format_args!("{line}\n"));
}

/// Prints a line to the console, as `println!` does. Cases use `note!` instead.
#[macro_export]
macro_rules! line {
    ($($what:tt)+) => { $crate::console::print_line(format_args!($($what)+)) };
}

/// Shows text as a double-quoted YAML scalar.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
