//! `docs/specs.md`: the documents and sections that cases may cite.
//!
//! The page holds tables whose rows begin with the document's short name and the section. A
//! citation `<doc> <section>[ <REGISTER or INSTRUCTION>]` is known when a row says
//! `<doc> <section>`.

use std::collections::BTreeSet;

/// The known `<doc> <section>` pairs.
#[derive(Clone, Debug, Default)]
pub struct Specs {
    known: BTreeSet<String>,
}

impl Specs {
    /// Reads the page.
    pub fn parse(text: &str) -> Self {
        let mut known = BTreeSet::new();
        for line in text.lines() {
            let Some(row) = line.trim().strip_prefix('|') else {
                continue;
            };
            let mut cells = row.split('|').map(|c| c.trim().trim_matches('`'));
            let (Some(document), Some(section)) = (cells.next(), cells.next()) else {
                continue;
            };
            let rule = |text: &str| text.chars().all(|c| "-: ".contains(c));
            if !document.is_empty() && !section.is_empty() && !rule(document) {
                known.insert(format!("{document} {section}"));
            }
        }
        Specs { known }
    }

    /// Whether `citation` names a known section: as it stands, or less words at its end.
    pub fn knows(&self, citation: &str) -> bool {
        let citation = citation.trim_end_matches(" (implementation defined)");
        // Several citations may stand side by side.
        citation.split(';').all(|one| {
            let one = one.trim();
            let ends = one.match_indices(' ').map(|(i, _)| i).chain([one.len()]);
            ends.into_iter().any(|end| self.known.contains(&one[..end]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Specs;

    #[test]
    fn citations_match_rows_up_to_a_register_name() {
        let specs = Specs::parse(
            "# Specs\n| doc | section | title |\n| --- | --- | --- |\n\
             | APM 2 | 15.5.1 | Basic operation |\n| SA22-7832 | 10 | Control |\n",
        );
        for known in [
            "APM 2 15.5.1",
            "APM 2 15.5.1 VMRUN",
            "SA22-7832 10 TEST PROTECTION",
        ] {
            assert!(specs.knows(known), "{known}");
        }
        for unknown in [
            "APM 2 15.5",
            "APM 2 15.5.12",
            "SDM 1",
            "",
            "APM 2 15.5.1; SDM 1",
        ] {
            assert!(!specs.knows(unknown), "{unknown}");
        }
    }
}
