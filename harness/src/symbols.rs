//! Names for addresses: `at 0x109657` of a panic or exception becomes function, file and line.
//!
//! A payload prints link-time addresses; its ELF file carries line tables. Nothing here can fail a
//! run: an address without a name stays as it is.

use crate::outcome::{CaseResult, Kind};
use addr2line::Loader;
use std::path::Path;

/// Names the addresses in the details of panics and exceptions among `results`, by the ELF file
/// at `elf`. The file is read only when there is one.
pub fn name(results: &mut [CaseResult], elf: &Path) {
    let named = |r: &CaseResult| matches!(r.kind, Some(Kind::Panic | Kind::Exception));
    if !results.iter().any(named) {
        return;
    }
    let Ok(loader) = Loader::new(elf) else { return };
    for result in results.iter_mut().filter(|r| named(r)) {
        // An exception's first address is the instruction itself. All others are return addresses:
        // the call stands one byte before, perhaps in another function.
        let mut exact = result.kind == Some(Kind::Exception);
        for line in &mut result.diagnostic.details {
            let Some(address) = address(line) else {
                continue;
            };
            let place = address.wrapping_sub(u64::from(!exact));
            exact = false;
            if let Some(name) = describe(&loader, place) {
                *line += &format!(" {name}");
            }
        }
    }
}

/// The address of a line `at 0x...`.
fn address(line: &str) -> Option<u64> {
    let digits = line.trim().strip_prefix("at 0x")?;
    u64::from_str_radix(digits, 16).ok()
}

/// The innermost function at `address`, with file and line where the tables have them.
fn describe(loader: &Loader, address: u64) -> Option<String> {
    let symbol = loader.find_symbol(address).map(short);
    let place = loader.find_location(address).ok().flatten().and_then(|l| {
        let file = relative(l.file?);
        Some(match l.line {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        })
    });
    match (symbol, place) {
        (Some(symbol), Some(place)) => Some(format!("{symbol} ({place})")),
        (Some(name), None) | (None, Some(name)) => Some(name),
        (None, None) => None,
    }
}

/// A symbol without mangling and hash.
fn short(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// A source path from the workspace or the standard library, without what lies above it.
fn relative(path: &str) -> &str {
    for root in ["/guest-lib/", "/tests-", "/library/"] {
        if let Some(at) = path.rfind(root) {
            return &path[at + 1..];
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_backtrace_lines_hold_addresses() {
        assert_eq!(address("  at 0x10f3a0"), Some(0x10_f3a0));
        assert_eq!(address("rip 0x10 cs 0x8"), None);
        assert_eq!(address("at 0x10 somewhere"), None);
    }

    #[test]
    fn paths_lose_what_lies_above_the_workspace() {
        assert_eq!(
            relative("/home/a/assay/guest-lib/src/x.rs"),
            "guest-lib/src/x.rs"
        );
        assert_eq!(relative("/b/tests-x86/src/y.rs"), "tests-x86/src/y.rs");
        assert_eq!(relative("src/z.rs"), "src/z.rs");
    }

    #[test]
    fn an_address_gets_its_function_and_line() {
        // The test program itself has symbols and line tables.
        let elf = std::env::current_exe().unwrap();
        let loader = Loader::new(&elf).unwrap();
        let bytes = std::fs::read(&elf).unwrap();
        use object::{Object, ObjectSymbol};
        let file = object::File::parse(&*bytes).unwrap();
        let symbol = file
            .symbols()
            .find(|s| {
                s.name()
                    .is_ok_and(|n| n.contains("symbols") && n.contains("relative"))
            })
            .unwrap();
        let text = describe(&loader, symbol.address()).unwrap();
        assert!(
            text.contains("symbols::relative") && text.contains("symbols.rs:"),
            "{text}"
        );
    }
}
