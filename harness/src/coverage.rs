//! `docs/coverage-*.md`: tables from what the suite set out to check to the ids that check it.
//!
//! In a row, the cells behind the first name ids: in backquotes, or bare and separated by commas.
//! `*` stands for anything and braces for several. An id may be short: it is then below
//! `<arch>/<unit>/` or `<arch>/` of the page's name (`coverage-x86-svm.md`), or beside the last full
//! id of its row.

use glob::Pattern;

/// An id or pattern of a page.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// The line, from 1.
    pub line: usize,
    /// As it stands there, braces resolved.
    pub text: String,
    /// The ids or patterns that it may mean.
    pub means: Vec<String>,
}

impl Named {
    /// Whether one of `ids` is meant, or lies below what is meant.
    pub fn fits<'a>(&self, ids: impl IntoIterator<Item = &'a str> + Clone) -> bool {
        self.means.iter().any(|meant| {
            let below = Pattern::new(&format!("{}/*", meant.trim_end_matches('/')));
            let patterns = [Pattern::new(meant), below];
            let fits = |id: &str| patterns.iter().flatten().any(|p| p.matches(id));
            ids.clone().into_iter().any(fits)
        })
    }
}

/// The ids that the page `name` (`x86-svm` of `coverage-x86-svm.md`) names.
pub fn named(name: &str, page: &str) -> Vec<Named> {
    let mut all = Vec::new();
    let places = match name.split_once('-') {
        Some((arch, unit)) => vec![format!("{arch}/{unit}/"), format!("{arch}/")],
        None => vec![format!("{name}/")],
    };
    for (line, row) in (1..)
        .zip(page.lines())
        .filter(|(_, row)| row.starts_with('|'))
    {
        // The unit and the topic of the last full id.
        let mut beside: Vec<String> = Vec::new();
        for (cell, text) in row.split('|').skip(2).enumerate() {
            for word in words(text, cell == 0) {
                let full = places.iter().any(|p| word.starts_with(&**p));
                if full {
                    let ends = word.match_indices('/').map(|(i, _)| i + 1).skip(1);
                    beside = ends.take(2).map(|end| word[..end].to_owned()).collect();
                } else if !word.contains('/') && beside.is_empty() {
                    continue;
                }
                for text in alternatives(word) {
                    let mut means = vec![text.clone()];
                    for place in beside.iter().chain(&places) {
                        means.push(format!("{place}{text}"));
                    }
                    all.push(Named { line, text, means });
                }
            }
        }
    }
    all
}

/// What may be an id in a cell. Bare words count in the first such cell only: the others are prose.
fn words(cell: &str, bare: bool) -> Vec<&str> {
    let id = |word: &&str| {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_/*{},".contains(c);
        word.contains(['/', '_']) && word.chars().all(known)
    };
    match cell.contains('`') {
        true => cell.split('`').skip(1).step_by(2).filter(id).collect(),
        false if bare => {
            let parts = cell.split(", ").flat_map(|part| part.split(" ("));
            parts
                .map(|part| part.trim().trim_end_matches(')'))
                .filter(id)
                .collect()
        }
        false => Vec::new(),
    }
}

/// `a{b,c}d` is `abd` and `acd`.
fn alternatives(text: &str) -> Vec<String> {
    let open = text.rfind('{');
    let parts = open.and_then(|open| {
        let close = open + text[open..].find('}')?;
        Some((&text[..open], &text[open + 1..close], &text[close + 1..]))
    });
    let Some((before, inside, after)) = parts else {
        return vec![text.to_owned()];
    };
    let each = inside
        .split(',')
        .map(|one| format!("{before}{}{after}", one.trim()));
    each.flat_map(|one| alternatives(&one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmatched(name: &str, page: &str, ids: &[&str]) -> Vec<(usize, String)> {
        let wrong = named(name, page)
            .into_iter()
            .filter(|n| !n.fits(ids.iter().copied()));
        wrong.map(|n| (n.line, n.text)).collect()
    }

    #[test]
    fn ids_in_backquotes_are_below_the_page() {
        let ids = [
            "x86/svm/vmrun/runs",
            "x86/svm/io/port/a",
            "x86/system/control/cr4",
        ];
        let page = "text `vmrun/none`\n| rule | case |\n| --- | --- |\n\
            | a | `vmrun/{runs,walks}`, `io/port` |\n| b/c | `system/control/*` | see `vmrun/x` |\n\
            | d | - | needs `kvm` |\n";
        let expected = [(4, "vmrun/walks".to_owned()), (5, "vmrun/x".to_owned())];
        assert_eq!(unmatched("x86-svm", page, &ids), expected);
    }

    #[test]
    fn bare_ids_stand_beside_the_last_full_one() {
        let ids = [
            "arm64/gic/sgi/one",
            "arm64/gic/sgi/two/x",
            "arm64/gic/spi/three",
        ];
        let page = "| 1.6 a/b | arm64/gic/sgi/one, two/*, spi/three (in part) |\n\
            | 1.7 | not written yet: either/or |\n| 1.8 | arm64/gic/sgi/one, four_is_gone |\n";
        assert_eq!(
            unmatched("arm64", page, &ids),
            [(3, "four_is_gone".to_owned())]
        );
    }
}
