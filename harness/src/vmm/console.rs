//! The console of a guest on standard output.

use std::io::{self, Write};

/// Standard output in whole lines: a system call per byte would cost more than the guest.
#[derive(Default)]
pub struct Console(Vec<u8>);

impl Console {
    /// Writes out what is held back.
    pub fn put(&mut self) -> io::Result<()> {
        let out = io::stdout();
        let mut out = out.lock();
        out.write_all(&self.0)?;
        self.0.clear();
        out.flush()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if bytes.contains(&b'\n') || self.0.len() > 4096 {
            self.put()?;
        }
        Ok(bytes.len())
    }

    // The device flushes after each byte; lines are flushed above.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
