//! Rules for case ids: `<arch>/<unit>/<topic>/<function>[/<row>]`.

/// The longest name a case function or a table row may have, in bytes.
pub const MAX_NAME: usize = 60;

/// Whether `segment` is a legal path segment: `[a-z][a-z0-9]*(_[a-z0-9]+)*`.
pub const fn is_segment(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    if bytes.is_empty() || !bytes[0].is_ascii_lowercase() {
        return false;
    }
    let mut i = 1;
    let mut after_underscore = false;
    while i < bytes.len() {
        let b = bytes[i];
        if b == b'_' {
            if after_underscore {
                return false;
            }
            after_underscore = true;
        } else if b.is_ascii_lowercase() || b.is_ascii_digit() {
            after_underscore = false;
        } else {
            return false;
        }
        i += 1;
    }
    !after_underscore
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_the_slug_rule() {
        for good in ["a", "vmx", "isenabler0_ignores_zeroes", "x2apic"] {
            assert!(is_segment(good), "{good}");
        }
        for bad in ["", "_a", "a_", "a__b", "A", "0a", "a-b", "a/b", "ü"] {
            assert!(!is_segment(bad), "{bad}");
        }
    }
}
