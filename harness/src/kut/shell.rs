//! The shell words that `unittests.cfg` may hold, and no shell.
//!
//! Understood are quotes, `$NAME` and `${NAME}` of known variables, `$((arithmetic))`, and the time
//! as `$(date +%s)` or in grave accents; conditions are `[ .. ]` and `[[ .. ]]` joined by `&&` and
//! `||`. That is a closed set: everything else is an error, because configuration from elsewhere
//! must not run programs here.

use std::collections::BTreeMap;

/// Values of variables.
pub type Variables = BTreeMap<String, String>;

type Parsed<T> = Result<T, String>;

/// Expands variables, arithmetic and the time in `text`.
pub fn expand(text: &str, variables: &Variables) -> Parsed<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '`']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (value, length) = substitution(rest, variables)?;
        out.push_str(&value);
        rest = &rest[length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The value of the substitution that `text` begins with, and its length.
fn substitution(text: &str, variables: &Variables) -> Parsed<(String, usize)> {
    let time = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |t| t.as_secs()).to_string()
    };
    for command in ["$(date +%s)", "`date +%s`"] {
        if text.starts_with(command) {
            return Ok((time(), command.len()));
        }
    }
    if let Some(inner) = text.strip_prefix("$((") {
        let end = inner.find("))").ok_or("'$((' is never closed")?;
        // The last two of several closing parentheses end it.
        let end = end + inner[end..].bytes().take_while(|b| *b == b')').count() - 2;
        let value = arithmetic(&inner[..end], variables)?;
        return Ok((value.to_string(), end + 5));
    }
    if text.starts_with("$(") || text.starts_with('`') {
        let end = text[1..].find([')', '`']).map_or(text.len(), |i| i + 2);
        return Err(format!(
            "'{}' would run a program; only `date +%s` is known",
            &text[..end]
        ));
    }
    let (name, length) = match text.strip_prefix("${") {
        Some(inner) => {
            let end = inner.find('}').ok_or("'${' is never closed")?;
            (&inner[..end], end + 3)
        }
        None => {
            let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let inner = &text[1..];
            let end = inner.find(|c| !name(c)).unwrap_or(inner.len());
            (&inner[..end], end + 1)
        }
    };
    match variables.get(name) {
        Some(value) => Ok((value.clone(), length)),
        None => Err(format!("'${name}' is not a known variable")),
    }
}

/// Splits `text` into words: blanks separate, quotes and backslashes keep.
pub fn words(text: &str) -> Parsed<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err(format!("a {c} is never closed")),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => word.extend(chars.next()),
                        Some(other) => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            ';' | '|' | '&' | '<' | '>' => {
                return Err(format!("'{c}' means something to a shell; quote it"));
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Whether `text` holds: `[[ $ACCEL == tcg ]] && [ "$MAX_SMP" -lt 4 ]`.
pub fn condition(text: &str, variables: &Variables) -> Parsed<bool> {
    // `||` binds as loosely as `&&` in a shell: from left to right.
    let mut value = true;
    let mut and = true;
    let mut rest = text.trim();
    loop {
        let (close, inner) = match (rest.strip_prefix("[["), rest.strip_prefix('[')) {
            (Some(inner), _) => ("]]", inner),
            (None, Some(inner)) => ("]", inner),
            (None, None) => {
                return Err(format!("'{rest}' is not of the form [ .. ] or [[ .. ]]"));
            }
        };
        let end = inner
            .find(close)
            .ok_or_else(|| format!("'{close}' is missing"))?;
        let one = test(&inner[..end], variables)?;
        value = if and { value && one } else { value || one };
        rest = inner[end + close.len()..].trim_start();
        if rest.is_empty() {
            return Ok(value);
        }
        and = rest.starts_with("&&");
        if !and && !rest.starts_with("||") {
            return Err(format!("expected '&&' or '||' before '{rest}'"));
        }
        rest = rest[2..].trim_start();
    }
}

/// The inside of one bracket.
fn test(text: &str, variables: &Variables) -> Parsed<bool> {
    if text.contains("&&") || text.contains("||") {
        return Err("'&&' and '||' stand between brackets here, not inside".into());
    }
    // Words first: an empty variable must remain a word.
    let words = words(text)?;
    let words = words.iter().map(|w| expand(w, variables));
    let words = words.collect::<Parsed<Vec<String>>>()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["!", rest @ ..] = words.as_slice() {
        return plain_test(rest).map(|v| !v);
    }
    plain_test(&words)
}

fn plain_test(words: &[&str]) -> Parsed<bool> {
    let number = |w: &str| w.parse::<i64>().map_err(|_| format!("'{w}' is no number"));
    Ok(match words {
        [word] => !word.is_empty(),
        ["-z", word] => word.is_empty(),
        ["-n", word] => !word.is_empty(),
        [a, "=" | "==", b] => a == b,
        [a, "!=", b] => a != b,
        [a, "-eq", b] => number(a)? == number(b)?,
        [a, "-ne", b] => number(a)? != number(b)?,
        [a, "-lt", b] => number(a)? < number(b)?,
        [a, "-le", b] => number(a)? <= number(b)?,
        [a, "-gt", b] => number(a)? > number(b)?,
        [a, "-ge", b] => number(a)? >= number(b)?,
        _ => return Err(format!("'{}' is not a known test", words.join(" "))),
    })
}

/// Integer arithmetic of the shell, as far as configurations use it.
fn arithmetic(text: &str, variables: &Variables) -> Parsed<i64> {
    let mut a = Arithmetic {
        text,
        at: 0,
        depth: 0,
        variables,
    };
    let value = a.ternary()?;
    match a.rest() {
        "" => Ok(value),
        rest => Err(format!("'{rest}' is left over in $(({text}))")),
    }
}

struct Arithmetic<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    variables: &'a Variables,
}

/// Binary operators by how tightly they bind, loosest first.
const LEVELS: [&[&str]; 5] = [
    &["||"],
    &["&&"],
    &["==", "!=", "<=", ">=", "<", ">"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl<'a> Arithmetic<'a> {
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    fn take(&mut self, sign: &str) -> bool {
        let yes = self.rest().starts_with(sign);
        self.at += if yes { sign.len() } else { 0 };
        yes
    }

    fn ternary(&mut self) -> Parsed<i64> {
        self.depth += 1;
        if self.depth > 50 {
            return Err("this arithmetic is nested too deeply".into());
        }
        let condition = self.binary(0)?;
        let value = match self.take("?") {
            false => condition,
            true => {
                let yes = self.ternary()?;
                if !self.take(":") {
                    return Err("a '?' has no ':'".into());
                }
                let no = self.ternary()?;
                if condition != 0 { yes } else { no }
            }
        };
        self.depth -= 1;
        Ok(value)
    }

    fn binary(&mut self, level: usize) -> Parsed<i64> {
        let Some(signs) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut a = self.binary(level + 1)?;
        while let Some(sign) = signs.iter().find(|s| self.rest().starts_with(**s)) {
            self.at += sign.len();
            let b = self.binary(level + 1)?;
            let overflow = || format!("{a} {sign} {b} has no value");
            a = match *sign {
                "||" => i64::from(a != 0 || b != 0),
                "&&" => i64::from(a != 0 && b != 0),
                "==" => i64::from(a == b),
                "!=" => i64::from(a != b),
                "<=" => i64::from(a <= b),
                ">=" => i64::from(a >= b),
                "<" => i64::from(a < b),
                ">" => i64::from(a > b),
                "+" => a.checked_add(b).ok_or_else(overflow)?,
                "-" => a.checked_sub(b).ok_or_else(overflow)?,
                "*" => a.checked_mul(b).ok_or_else(overflow)?,
                "/" => a.checked_div(b).ok_or_else(overflow)?,
                _ => a.checked_rem(b).ok_or_else(overflow)?,
            };
        }
        Ok(a)
    }

    fn unary(&mut self) -> Parsed<i64> {
        if self.take("(") {
            let value = self.ternary()?;
            return match self.take(")") {
                true => Ok(value),
                false => Err("a '(' is never closed".into()),
            };
        }
        let negative = self.take("-");
        let _ = self.take("$");
        let rest = self.rest();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        self.at += end;
        let text = match self.variables.get(name) {
            Some(value) => value.as_str(),
            None => name,
        };
        let value: i64 = text.parse().map_err(|_| format!("'{text}' is no number"))?;
        Ok(if negative { -value } else { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let pairs = [("MAX_SMP", "6"), ("ACCEL", "tcg"), ("EMPTY", "")];
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn the_closed_set_is_expanded() {
        let expand = |text| expand(text, &variables());
        assert_eq!(expand("a $MAX_SMP ${ACCEL}x").unwrap(), "a 6 tcgx");
        assert_eq!(expand("$(($MAX_SMP - 1))").unwrap(), "5");
        assert_eq!(expand("$((($MAX_SMP < 8)?$MAX_SMP:8))").unwrap(), "6");
        assert_eq!(expand("$((MAX_SMP > 4 ? 4 : MAX_SMP)),x").unwrap(), "4,x");
        assert_eq!(expand("$((2 + 3 * (4 - 1) % 5))").unwrap(), "6");
        assert!(expand("t=`date +%s`").unwrap().len() > 10);
    }

    #[test]
    fn nothing_else_is() {
        let expand = |text| expand(text, &variables());
        for (text, part) in [
            ("$(rm -rf x)", "'$(rm -rf x)' would run a program"),
            ("`id`", "would run a program"),
            ("$HOME", "'$HOME' is not a known variable"),
            ("${MAX", "never closed"),
            ("$((1", "never closed"),
            ("$((1 / 0))", "has no value"),
            ("$((9223372036854775807 + 1))", "has no value"),
            ("$((a b))", "is no number"),
            ("$((1 2))", "left over"),
        ] {
            let error = expand(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let deep = |end: &str, n| format!("$(({}1{end}", "(".repeat(n));
        for text in [deep("", 100_000), deep("))", 1000)] {
            assert!(super::expand(&text, &variables()).is_err());
        }
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        let split = |text| words(text).unwrap();
        assert_eq!(split(r#"-cpu max,x=1 -append "a 'b'" c\ d ''"#).len(), 6);
        assert_eq!(split(r#""a \"b""#), ["a \"b"]);
        assert!(words("\"open").is_err());
        assert!(
            words("a; rm b")
                .unwrap_err()
                .contains("means something to a shell")
        );
    }

    #[test]
    fn conditions_are_a_closed_set_too() {
        let holds = |text| condition(text, &variables());
        assert!(holds("[[ $ACCEL == tcg ]]").unwrap());
        assert!(holds("[ \"$EMPTY\" = \"\" ] && [ $MAX_SMP -ge 6 ]").unwrap());
        assert!(!holds("[[ $ACCEL != tcg ]] || [ -n \"$EMPTY\" ]").unwrap());
        assert!(holds("[ ! $ACCEL = kvm ]").unwrap());
        for text in [
            "true",
            "[ a -ot b ]",
            "[[ a == b ]] ; id",
            "[ x",
            "[ $(id) = 0 ]",
        ] {
            assert!(holds(text).is_err(), "{text}");
        }
    }
}
