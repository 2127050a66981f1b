//! What is left out: restic's patterns.
//!
//! A pattern is matched part by part: `*.tmp` anywhere, `cache/*` anywhere, `/srv/x` from the root, `**` for any
//! number of folders. What is left out takes everything below with it. `!` before a pattern takes back what an
//! earlier one left out.

/// A list of patterns; later ones win.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns(Vec<Pattern>);

#[derive(Clone, Debug)]
struct Pattern {
    negated: bool,
    /// From the root, and not from any folder on.
    anchored: bool,
    parts: Vec<Vec<u8>>,
}

impl Patterns {
    /// Parses patterns; says which of them is none.
    pub(super) fn parse<'p>(texts: impl IntoIterator<Item = &'p str>) -> Result<Self, String> {
        let parse = |text: &'p str| {
            let (negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
            let parts: Vec<Vec<u8>> = text
                .split('/')
                .filter(|part| !part.is_empty() && *part != ".")
                .map(|part| part.as_bytes().to_vec())
                .collect();
            if let Some(part) = parts.iter().find(|part| !is_well_formed(part)) {
                return Err(format!("`{}` in the pattern `{text}`", String::from_utf8_lossy(part)));
            }
            Ok(Pattern { negated, anchored: text.starts_with('/'), parts })
        };
        texts
            .into_iter()
            .filter(|text| !text.is_empty() && *text != "!")
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether `path`, an absolute one, is left out.
    pub(super) fn leave_out(&self, path: &[u8]) -> bool {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        self.0.iter().fold(false, |out, pattern| match pattern.negated {
            true => out && !pattern.fits(&parts),
            false => out || pattern.fits(&parts),
        })
    }
}

impl Pattern {
    /// Whether the pattern fits `path` or a folder above it.
    fn fits(&self, path: &[&[u8]]) -> bool {
        // Which positions in the path are reachable after the parts of the pattern so far.
        let mut reached = vec![!self.anchored; path.len() + 1];
        if let Some(first) = reached.first_mut() {
            *first = true;
        }
        for part in &self.parts {
            let mut next = vec![false; path.len() + 1];
            let mut open = false;
            for at in 0..=path.len() {
                let here = reached.get(at).copied().unwrap_or(false);
                if part == b"**" {
                    open |= here;
                    if let Some(slot) = next.get_mut(at) {
                        *slot = open;
                    }
                } else if here
                    && path.get(at).is_some_and(|name| glob(part, name))
                    && let Some(slot) = next.get_mut(at + 1)
                {
                    *slot = true;
                }
            }
            reached = next;
        }
        (self.anchored || !self.parts.is_empty()) && reached.contains(&true)
    }
}

/// The first character of `bytes` and the rest; a byte that is no UTF-8 counts as one.
fn first(bytes: &[u8]) -> Option<(char, &[u8])> {
    let chunk = bytes.utf8_chunks().next()?;
    let c = chunk.valid().chars().next();
    let length = c.map_or(1, char::len_utf8);
    Some((c.unwrap_or(char::REPLACEMENT_CHARACTER), bytes.get(length..).unwrap_or_default()))
}

/// Whether brackets are closed and escapes escape something.
fn is_well_formed(pattern: &[u8]) -> bool {
    let mut rest = pattern;
    while let Some((c, after)) = first(rest) {
        rest = match c {
            '\\' if after.is_empty() => return false,
            '\\' => first(after).map_or(after, |(_, after)| after),
            '[' => match class(after, 'x') {
                Some((_, after)) => after,
                None => return false,
            },
            _ => after,
        };
    }
    true
}

/// Whether `name` fits `pattern`, which has no slashes.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on when what follows the last star does not fit.
    let mut back: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (first(pattern), first(name)) {
            (Some(('*', after)), _) => {
                back = Some((after, name));
                pattern = after;
                continue;
            }
            (None, None) => return true,
            (Some((c, after)), Some((seen, left))) => one(c, after, seen).map(|after| (after, left)),
            _ => None,
        };
        match (step, back) {
            (Some((after, left)), _) => (pattern, name) = (after, left),
            (None, Some((after, from))) => {
                let Some((_, left)) = first(from) else { return false };
                back = Some((after, left));
                (pattern, name) = (after, left);
            }
            (None, None) => return false,
        }
    }
}

/// What is left of the pattern behind one sign of it, if that fits `seen`.
fn one(c: char, after: &[u8], seen: char) -> Option<&[u8]> {
    match c {
        '?' => Some(after),
        '[' => class(after, seen).filter(|(fits, _)| *fits).map(|(_, after)| after),
        '\\' => first(after).filter(|(c, _)| *c == seen).map(|(_, after)| after),
        c => (c == seen).then_some(after),
    }
}

/// Whether `seen` is in the class that starts here, and what follows it.
fn class(pattern: &[u8], seen: char) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match first(pattern)? {
        ('^', after) => (true, after),
        _ => (false, pattern),
    };
    let mut fits = false;
    let mut any = false;
    loop {
        let (low, after) = match first(rest)? {
            (']', after) if any => return Some((fits != negated, after)),
            ('\\', after) => first(after)?,
            ('-' | ']', _) => return None,
            member => member,
        };
        let (high, after) = match first(after)? {
            ('-', after) => match first(after)? {
                ('\\', after) => first(after)?,
                ('-' | ']', _) => return None,
                member => member,
            },
            _ => (low, after),
        };
        fits |= (low..=high).contains(&seen);
        any = true;
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::Patterns;

    fn out(patterns: &[&str], path: &str) -> bool {
        Patterns::parse(patterns.iter().copied()).unwrap().leave_out(path.as_bytes())
    }

    #[test]
    fn patterns_of_restics_manual() {
        for (pattern, path, expected) in [
            ("*.go", "/srv/user/x.go", true),
            ("*.go", "/srv/user/x.gone", false),
            ("foo/*", "/a/foo/bar", true),
            ("foo", "/a/foo/bar", true),
            ("foo", "/a/food", false),
            ("/bin", "/usr/bin/bash", false),
            ("/bin", "/bin/bash", true),
            ("/srv/*/cache", "/srv/u/cache/x", true),
            ("/srv/*/cache", "/srv/u/v/cache", false),
            ("foo/**/bar", "/dir1/foo/dir2/bar/file", true),
            ("foo/**/bar", "/foo/bar/file", true),
            ("foo/**/bar", "/foo/dir1/dir2/bar", true),
            ("foo/**/bar", "/foo/dir1/dir2/baz", false),
            ("/**/x", "/a/b/x", true),
            ("lost+found", "/srv/lost+found", true),
            ("a?c", "/aéc", true),
            ("[a-c]x", "/bx", true),
            ("[^a-c]x", "/bx", false),
            (r"\*", "/*", true),
            (r"\*", "/x", false),
            ("*a*b*c", "/xaxbxc", true),
            ("*a*b*c", "/xaxbx", false),
        ] {
            assert_eq!(out(&[pattern], path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn later_patterns_take_back() {
        assert!(!out(&["*.log", "!important.log"], "/a/important.log"));
        assert!(out(&["!important.log", "*.log"], "/a/important.log"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["[a", "a[", "x\\", "[]a]", "[a-]"] {
            assert!(Patterns::parse([text]).is_err(), "{text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = format!("{}b", "*a".repeat(60));
        assert!(!out(&[&pattern], &format!("/{}", "a".repeat(200))));
        assert!(!out(&[&"**/x/".repeat(40)], &"/x".repeat(39)));
    }
}
