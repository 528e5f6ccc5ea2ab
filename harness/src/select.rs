//! Which cases run: groups, globs, `/regex/`, architectures.
//!
//! Units of the group `nodefault` run when a filter, a group or `-a` asks for them; units of the
//! group `selfcheck` break on purpose and run only when a filter or a group names them.

use crate::arch::Arch;
use crate::catalog::{Catalog, CatalogUnit};
use crate::error::{Error, Result, did_you_mean};
use crate::expression::{Expression, Subject};
use crate::manifest::{NODEFAULT, SELFCHECK};
use glob::{MatchOptions, Pattern};
use regex::Regex;

/// `*` stops at a slash, `**` does not.
const GLOB: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// FILTER arguments.
    pub filters: Vec<String>,
    /// `-g`; a leading `!` excludes.
    pub groups: Vec<String>,
    /// `-a`.
    pub all: bool,
    /// `-E`.
    pub expression: Option<Expression>,
}

/// One FILTER.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    /// Everything that it matches, and what is below.
    Glob(Pattern),
    /// `/regex/`.
    Regex(Regex),
}

impl Filter {
    pub(crate) fn new(text: &str) -> Result<Self> {
        if let Some(source) = text.strip_prefix('/') {
            let source = source.strip_suffix('/').unwrap_or(source);
            let regex = Regex::new(source)
                .map_err(|e| Error::usage(format!("'{text}' is not a regular expression: {e}")))?;
            return Ok(Filter::Regex(regex));
        }
        let glob = Pattern::new(text.trim_end_matches('/'))
            .map_err(|e| Error::usage(format!("'{text}' is not a glob: {e}")))?;
        Ok(Filter::Glob(glob))
    }

    /// A glob selects what it matches and everything below; without a slash it names units.
    pub(crate) fn matches(&self, unit: &str, id: &str) -> bool {
        match self {
            Filter::Regex(regex) => regex.is_match(id),
            Filter::Glob(glob) => {
                let ends = id.match_indices('/').map(|(i, _)| i).chain([id.len()]);
                ends.into_iter()
                    .any(|end| glob.matches_with(&id[..end], GLOB))
                    || (!glob.as_str().contains('/') && glob.matches_with(unit, GLOB))
            }
        }
    }

    /// Whether the user wrote the unit's name, rather than a pattern that happens to match it.
    fn names(&self, unit: &str) -> bool {
        match self {
            Filter::Glob(glob) => glob.as_str().split('/').any(|segment| segment == unit),
            Filter::Regex(regex) => regex.as_str().contains(unit),
        }
    }
}

/// The architectures that the filters leave open: payloads of the others need not exist.
pub fn archs(request: &Request, archs: &[Arch]) -> Vec<Arch> {
    let all = if archs.is_empty() {
        &Arch::ALL[..]
    } else {
        archs
    };
    let named = |filter: &String| Arch::from_word(filter.split('/').next()?);
    let named: Option<Vec<Arch>> = request.filters.iter().map(named).collect();
    match named {
        Some(named) if !named.is_empty() => {
            let both: Vec<Arch> = all.iter().copied().filter(|a| named.contains(a)).collect();
            // No overlap is an empty selection; let `select` say so.
            if both.is_empty() { all.to_vec() } else { both }
        }
        _ => all.to_vec(),
    }
}

/// Cuts `catalog` down to what `request` asks for.
pub fn select(catalog: &Catalog, request: &Request) -> Result<Catalog> {
    let filters = request
        .filters
        .iter()
        .map(|f| Filter::new(f))
        .collect::<Result<Vec<Filter>>>()?;
    if let Some(expression) = &request.expression {
        expression.check(catalog)?;
    }
    let known = catalog.groups();
    let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
    for group in &request.groups {
        let (name, list) = match group.strip_prefix('!') {
            Some(name) => (name, &mut unwanted),
            None => (group.as_str(), &mut wanted),
        };
        if !known.contains(name) && ![NODEFAULT, SELFCHECK].contains(&name) {
            let hint = did_you_mean(name, known.iter().copied());
            let known: Vec<&str> = known.into_iter().collect();
            return Err(Error::usage(format!(
                "unknown group '{name}'{hint}; known are {}",
                known.join(", ")
            )));
        }
        list.push(name);
    }
    let mut used = vec![false; filters.len()];
    let mut selected = Catalog::default();
    for unit in &catalog.units {
        let mut chosen = unit.clone();
        chosen.numbers.retain(|&n| {
            let in_any = |groups: &[&str]| groups.iter().any(|g| unit.in_group(n, g));
            let (name, id) = (&unit.unit.name, unit.id(n));
            let mut hit = filters.is_empty();
            let mut named = false;
            for (filter, used) in filters.iter().zip(&mut used) {
                if filter.matches(name, &id) {
                    (*used, hit) = (true, true);
                    named |= filter.names(name);
                }
            }
            let by_filter = hit && !filters.is_empty();
            let by_group = in_any(&wanted);
            // Naming one of the two groups in an expression is asking for it.
            let asked = |group| match &request.expression {
                Some(expression) => unit.in_group(n, group) && expression.asks_for(group),
                None => false,
            };
            let subject = Subject {
                unit,
                number: n,
                hypervisor: None,
            };
            hit && (wanted.is_empty() || by_group)
                && !in_any(&unwanted)
                && (asked(NODEFAULT)
                    || asked(SELFCHECK)
                    || default_allows(unit, n, by_filter, named, by_group, request.all, &wanted))
                && request
                    .expression
                    .as_ref()
                    .is_none_or(|e| e.allows(&subject))
        });
        if !chosen.numbers.is_empty() {
            selected.units.push(chosen);
        }
    }
    if let Some(i) = used.iter().position(|used| !used) {
        let filter = &request.filters[i];
        let names: Vec<String> = catalog.units.iter().map(|u| u.unit.id()).collect();
        let hint = did_you_mean(filter, names.iter().map(String::as_str));
        return Err(Error::nothing(format!(
            "nothing to run: no case matches '{filter}'{hint}; `assay list --cases` names them all"
        )));
    }
    if selected.units.is_empty() {
        return Err(Error::nothing(
            "nothing to run: no case is in this selection",
        ));
    }
    Ok(selected)
}

fn default_allows(
    unit: &CatalogUnit,
    number: usize,
    by_filter: bool,
    named: bool,
    by_group: bool,
    all: bool,
    wanted: &[&str],
) -> bool {
    if unit.in_group(number, SELFCHECK) {
        return named || wanted.contains(&SELFCHECK);
    }
    !unit.in_group(number, NODEFAULT) || all || by_filter || by_group
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::manifest;
    use crate::payload::{Case, Ends, Payload};
    use std::sync::Arc;

    pub(crate) fn catalog() -> Catalog {
        let yaml = "units:\n- {unit: svm, arch: x86, payload: svm, groups: [svm]}\n\
            - {unit: slow, arch: x86, payload: svm, groups: [nodefault, time]}\n\
            - {unit: breaks, arch: x86, payload: svm, groups: [selfcheck]}\n";
        let case = |path: &str, groups: &[&str]| Case {
            path: path.into(),
            doc: String::new(),
            spec: String::new(),
            needs: Vec::new(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            at: String::new(),
            timeout_s: None,
            ends: Ends::Returns,
        };
        let cases = vec![case("vmrun/a", &[]), case("vmrun/b", &["npt"])];
        let payload = Arc::new(Payload {
            path: "x".into(),
            cases,
        });
        let units = manifest::parse("u", yaml)
            .unwrap()
            .into_iter()
            .map(|unit| CatalogUnit {
                unit: Arc::new(unit),
                payload: Arc::clone(&payload),
                numbers: vec![0, 1],
            });
        Catalog {
            units: units.collect(),
        }
    }

    fn ids(filters: &[&str], groups: &[&str], all: bool) -> Result<Vec<String>> {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let request = Request {
            filters: own(filters),
            groups: own(groups),
            all,
            expression: None,
        };
        Ok(select(&catalog(), &request)?.ids().collect())
    }

    const SVM: [&str; 2] = ["x86/svm/vmrun/a", "x86/svm/vmrun/b"];

    #[test]
    fn defaults_leave_out_what_must_be_asked_for() {
        assert_eq!(ids(&[], &[], false).unwrap(), SVM);
        assert_eq!(ids(&[], &[], true).unwrap().len(), 4);
        assert_eq!(ids(&[], &["selfcheck"], false).unwrap().len(), 2);
        assert_eq!(ids(&["x86/**"], &[], false).unwrap().len(), 4);
        assert_eq!(ids(&["x86/breaks"], &[], false).unwrap().len(), 2);
        assert_eq!(ids(&[], &["time"], false).unwrap().len(), 2);
    }

    #[test]
    fn filters_are_globs_units_or_regular_expressions() {
        for filter in [
            "svm",
            "x86/svm",
            "x86/svm/",
            "x86/s*m/**",
            "/svm/vmrun/",
            "x86/svm/*",
        ] {
            assert_eq!(ids(&[filter], &[], false).unwrap(), SVM, "{filter}");
        }
        assert_eq!(ids(&["x86/*/*/b"], &[], false).unwrap().len(), 2);
        assert_eq!(ids(&["x86/svm/vmrun/a"], &[], false).unwrap(), SVM[..1]);
    }

    #[test]
    fn groups_include_and_exclude() {
        assert_eq!(
            ids(&[], &["npt"], false).unwrap(),
            ["x86/svm/vmrun/b", "x86/slow/vmrun/b"]
        );
        assert_eq!(ids(&[], &["!npt"], false).unwrap(), SVM[..1]);
    }

    #[test]
    fn mistakes_are_named() {
        let error = ids(&[], &["swm"], false).unwrap_err();
        assert_eq!(error.exit, 2);
        assert!(
            error
                .message
                .contains("unknown group 'swm' (did you mean 'svm'?)")
        );
        let error = ids(&["x86/svm/**", "x86/sbm"], &[], false).unwrap_err();
        assert_eq!(error.exit, 3);
        assert!(
            error
                .message
                .contains("'x86/sbm' (did you mean 'x86/svm'?)"),
            "{error}"
        );
        assert_eq!(ids(&["/(/"], &[], false).unwrap_err().exit, 2);
        assert_eq!(ids(&["[a"], &[], false).unwrap_err().exit, 2);
    }

    #[test]
    fn an_expression_cuts_further_and_asks_for_the_groups_it_names() {
        let ids = |text: &str, all| -> Result<Vec<String>> {
            let expression = Some(Expression::parse(text)?);
            let request = Request {
                expression,
                all,
                ..Request::default()
            };
            Ok(select(&catalog(), &request)?.ids().collect())
        };
        assert_eq!(ids("group(npt)", false).unwrap(), SVM[1..]);
        assert_eq!(ids("group(npt)", true).unwrap().len(), 2);
        assert_eq!(
            ids("group(nodefault) & group(npt)", false).unwrap(),
            ["x86/slow/vmrun/b"]
        );
        assert_eq!(ids("group(selfcheck)", false).unwrap().len(), 2);
        assert_eq!(ids("hypervisor(bochs)", false).unwrap(), SVM);
        assert_eq!(ids("none()", false).unwrap_err().exit, 3);
        assert_eq!(ids("group(nptt)", false).unwrap_err().exit, 2);
    }
}
