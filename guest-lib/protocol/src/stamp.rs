//! Pages that host and guest can both tell apart: the guest fills them, and the test proxy of the
//! migration stream finds them by their first bytes.

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Bytes of a page's header: its kind, then its number in hexadecimal digits.
pub const HEADER: usize = 16;
/// Kind of a page that is written all the time.
pub const WRITTEN: &[u8; 8] = b"ASSAYwrt";
/// Kind of a page that was written once, before.
pub const COLD: &[u8; 8] = b"ASSAYcld";

/// The first bytes of page `number`.
pub const fn header(kind: &[u8; 8], number: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let mut i = 0;
    while i < 8 {
        header[i] = kind[i];
        header[8 + i] = b"0123456789abcdef"[(number >> (28 - 4 * i)) as usize & 15];
        i += 1;
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_pages_apart() {
        assert_eq!(&header(COLD, 0x1a), b"ASSAYcld0000001a");
    }
}
