//! A frame with a key of its own, the fixture of this area.

use guest_lib::arch::skey::{self, Skey};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// One frame whose key is zero at first and again at the end.
pub struct KeyedPage(Frames);

impl KeyedPage {
    /// Its address.
    pub fn address(&self) -> u64 {
        self.0.address()
    }

    /// Its bytes.
    pub fn frame(&self) -> &Frames {
        &self.0
    }

    /// SSKE.
    pub fn set_key(&self, key: Skey) -> Result<(), Fault> {
        skey::set(self.address(), key)
    }

    /// ISKE.
    pub fn key(&self) -> Result<Skey, Fault> {
        skey::get(self.address())
    }
}

impl Fixture for KeyedPage {
    fn fresh() -> Result<Self, Stop> {
        let page = KeyedPage(Frames::new(1));
        page.set_key(Skey::acc(0))?;
        Ok(page)
    }
}

impl Drop for KeyedPage {
    fn drop(&mut self) {
        // Cannot fail in supervisor state on a frame of RAM.
        let _ = self.set_key(Skey::acc(0));
    }
}
