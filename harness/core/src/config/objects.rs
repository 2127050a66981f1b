//! How the names of dump files are read: patterns like
//! `postgres-backups/{name}/{namespace}-{time:%Y%m%d-%H%M%S}.sql.gz`.
//!
//! A placeholder matches within one folder or file name and never nothing; `*` matches anything within
//! one, or nothing.
//!
//! | placeholder | what it is |
//! |---|---|
//! | `{name}` | the series: each name is a backup of its own |
//! | `{namespace}` | where it comes from; the series too, where there is no `{name}` |
//! | `{time:FORMAT}`, `{time:FORMAT@ZONE}` | when it was made, as strftime writes it; in UTC unless said otherwise |
//! | `{unix}` | when it was made, in seconds since 1970 |
//!
//! A pattern that starts with `!` says what is left out on purpose.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

/// More than this helps nobody, and bounds the work for one name.
const PATTERN_BYTES_MAX: usize = 1024;
const TOKENS_MAX: usize = 16;
/// The longest name that a file system has room for.
const NAME_BYTES_MAX: usize = 255;
/// The longest key that S3 knows.
const KEY_BYTES_MAX: usize = 1024;

/// A pattern, and how to match it.
#[derive(Clone, Debug)]
pub struct ObjectPattern {
    text: String,
    leaves_out: bool,
    parts: Vec<Vec<Token>>,
    zone: TimeZone,
    /// What tells the series where the pattern has neither a name nor a namespace.
    stem: String,
}

/// What the name of an object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// The series that it belongs to.
    pub series: String,
    /// Where it comes from; may be empty.
    pub namespace: String,
    /// When it was made, if the name says so.
    pub time: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(String),
    Any,
    Name,
    Namespace,
    Time { format: String, width: usize },
    Unix,
}

/// What a match has caught so far.
#[derive(Clone, Debug, Default)]
struct Caught<'k> {
    name: Option<&'k str>,
    namespace: Option<&'k str>,
    /// Formats and the texts in them.
    times: Vec<(String, &'k str)>,
    unix: Option<i64>,
}

/// The folder and file names that a key consists of, if it can be a path: empty ones, as in `a//b`, are
/// left out; `.` and `..`, control characters and names that no file can have are refused.
pub fn plain_components(key: &str) -> Option<Vec<&str>> {
    if key.len() > KEY_BYTES_MAX {
        return None;
    }
    let parts: Vec<&str> = key.split('/').filter(|part| !part.is_empty()).collect();
    let plain = |part: &&str| {
        part.len() <= NAME_BYTES_MAX && !matches!(*part, "." | "..") && !part.chars().any(char::is_control)
    };
    (!parts.is_empty() && parts.iter().all(plain)).then_some(parts)
}

impl ObjectPattern {
    /// The pattern as typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it says what is left out on purpose.
    pub fn leaves_out(&self) -> bool {
        self.leaves_out
    }

    /// Reads the name of an object, given as its [`plain_components`].
    pub fn read(&self, key: &[&str]) -> Option<ObjectName> {
        if key.len() != self.parts.len() {
            return None;
        }
        let mut caught = Caught::default();
        for (tokens, part) in self.parts.iter().zip(key) {
            caught = matched(tokens, part, &caught)?;
        }
        let time = self.time(&caught)?;
        let series = caught.name.or(caught.namespace).unwrap_or(&self.stem);
        Some(ObjectName {
            series: series.to_owned(),
            namespace: caught.namespace.unwrap_or_default().to_owned(),
            time,
        })
    }

    /// The name of an object of this series that was made at `time`, such that [`read`](Self::read) reads the same
    /// out of it; or why there is none.
    pub fn write(&self, name: &str, namespace: &str, time: Timestamp) -> Result<String, String> {
        if self.leaves_out {
            return Err("the pattern says what is left out".to_owned());
        }
        let zoned = time.to_zoned(self.zone.clone());
        let mut key = String::new();
        for part in &self.parts {
            if !key.is_empty() {
                key.push('/');
            }
            for token in part {
                match token {
                    Token::Literal(text) => key.push_str(text),
                    Token::Name => key.push_str(name),
                    Token::Namespace => key.push_str(namespace),
                    Token::Unix => key.push_str(&time.as_second().to_string()),
                    Token::Time { format, .. } => {
                        let written = jiff::fmt::strtime::format(format, &zoned);
                        key.push_str(
                            &written.map_err(|error| format!("the time cannot be written: {error}"))?,
                        );
                    }
                    Token::Any => {
                        return Err("the pattern has a `*`, for which nothing can be written".to_owned());
                    }
                }
            }
        }
        let has = |wanted: &Token| self.parts.iter().flatten().any(|token| token == wanted);
        let read = plain_components(&key).and_then(|parts| self.read(&parts));
        let same = read.is_some_and(|read| {
            (!has(&Token::Name) || read.series == name)
                && (!has(&Token::Namespace) || read.namespace == namespace)
        });
        if same { Ok(key) } else { Err(format!("`{key}` would be read as something else")) }
    }

    /// Whether an object that fits can lie in or below `folder`, and whether directly in it.
    pub fn reaches(&self, folder: &[&str]) -> Option<bool> {
        if folder.len() >= self.parts.len() {
            return None;
        }
        let mut caught = Caught::default();
        for (tokens, part) in self.parts.iter().zip(folder) {
            caught = matched(tokens, part, &caught)?;
        }
        Some(folder.len() + 1 == self.parts.len())
    }

    /// The folders at the beginning that are spelt out.
    pub fn fixed_folders(&self) -> Vec<&str> {
        let folders = self.parts.get(..self.parts.len().saturating_sub(1)).unwrap_or_default();
        let fixed = folders.iter().map_while(|part| match part.as_slice() {
            [Token::Literal(name)] => Some(name.as_str()),
            _ => None,
        });
        fixed.collect()
    }

    /// The time that was caught; the outer `None` when it is no time at all.
    fn time(&self, caught: &Caught<'_>) -> Option<Option<Timestamp>> {
        if let Some(seconds) = caught.unix {
            return Timestamp::from_second(seconds).ok().map(Some);
        }
        if caught.times.is_empty() {
            return Some(None);
        }
        let (formats, texts): (Vec<_>, Vec<_>) =
            caught.times.iter().map(|(format, text)| (format.as_str(), *text)).unzip();
        parse_time(&formats.join("\n"), &texts.join("\n"), &self.zone).map(Some)
    }
}

impl fmt::Display for ObjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_time(format: &str, text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let parsed = BrokenDownTime::parse(format, text).ok()?;
    if parsed.offset().is_some() {
        return parsed.to_timestamp().ok();
    }
    let time = parsed.to_time().unwrap_or(jiff::civil::Time::midnight());
    parsed.to_date().ok()?.to_datetime(time).to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp())
}

/// Matches `text` from its start to its end.
fn matched<'k>(tokens: &[Token], text: &'k str, before: &Caught<'k>) -> Option<Caught<'k>> {
    // Places from which the rest is known not to match, so that the work is bounded by their number.
    let mut dead = vec![false; (tokens.len() + 1) * (text.len() + 1)];
    step(tokens, 0, text, 0, before.clone(), &mut dead)
}

fn step<'k>(
    tokens: &[Token],
    at: usize,
    text: &'k str,
    from: usize,
    caught: Caught<'k>,
    dead: &mut [bool],
) -> Option<Caught<'k>> {
    let rest = text.get(from..)?;
    let Some(token) = tokens.get(at) else { return rest.is_empty().then_some(caught) };
    let place = at * (text.len() + 1) + from;
    if dead.get(place).copied().unwrap_or(true) {
        return None;
    }
    let mut go = |length: usize, caught: Caught<'k>| step(tokens, at + 1, text, from + length, caught, dead);
    let found = match token {
        Token::Literal(literal) => {
            if rest.starts_with(literal.as_str()) {
                go(literal.len(), caught)
            } else {
                None
            }
        }
        Token::Time { format, width } => rest.get(..*width).and_then(|taken| {
            // A number that goes on is another number.
            let ends = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_digit());
            let whole = !taken.ends_with(|c: char| c.is_ascii_digit()) || ends(rest[*width..].chars().next());
            let whole = whole || matches!(tokens.get(at + 1), Some(Token::Time { .. }));
            let mut caught = caught;
            caught.times.push((format.clone(), taken));
            if whole { go(*width, caught) } else { None }
        }),
        Token::Unix => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let seconds =
                rest.get(..digits).filter(|_| (9..=11).contains(&digits)).and_then(|d| d.parse().ok());
            seconds.and_then(|seconds| go(digits, Caught { unix: Some(seconds), ..caught }))
        }
        Token::Any | Token::Name | Token::Namespace => {
            let least = usize::from(*token != Token::Any);
            // The longest first: names may hold what separates them from the rest.
            let ends = (least..=rest.len()).rev().filter(|end| rest.is_char_boundary(*end));
            ends.into_iter().find_map(|end| {
                let taken = rest.get(..end)?;
                let mut caught = caught.clone();
                let slot = match token {
                    Token::Name => &mut caught.name,
                    Token::Namespace => &mut caught.namespace,
                    _ => return go(end, caught),
                };
                if slot.is_some_and(|known| known != taken) {
                    return None;
                }
                *slot = Some(taken);
                go(end, caught)
            })
        }
    };
    if found.is_none()
        && let Some(dead) = dead.get_mut(place)
    {
        *dead = true;
    }
    found
}

impl FromStr for ObjectPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("it has more than {PATTERN_BYTES_MAX} characters"));
        }
        let (leaves_out, pattern) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if pattern.is_empty() {
            return Err("it is empty".to_owned());
        }
        let mut zone = None;
        let mut parts = Vec::new();
        // A time zone may hold a slash, so placeholders are found before folders.
        for part in split_outside_braces(pattern)? {
            if part.is_empty() || matches!(part, "." | "..") {
                return Err(
                    "each part between slashes must be a name; the location is put in front".to_owned()
                );
            }
            parts.push(tokens(part, &mut zone)?);
        }
        check(&parts)?;
        let stem = stem(&parts);
        Ok(Self { text: text.to_owned(), leaves_out, parts, zone: zone.unwrap_or(TimeZone::UTC), stem })
    }
}

/// The parts between slashes; a slash within braces does not count.
fn split_outside_braces(pattern: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, c) in pattern.char_indices() {
        match c {
            '{' if inside => return Err("a `{` within a placeholder".to_owned()),
            '{' => inside = true,
            '}' if !inside => return Err("a `}` without a `{`".to_owned()),
            '}' => inside = false,
            '/' if !inside => {
                parts.push(&pattern[start..at]);
                start = at + 1;
            }
            c if c.is_control() => return Err("a control character".to_owned()),
            _ => {}
        }
    }
    if inside {
        return Err("a `{` without a `}`".to_owned());
    }
    parts.push(&pattern[start..]);
    Ok(parts)
}

fn tokens(part: &str, zone: &mut Option<TimeZone>) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = part;
    while !rest.is_empty() {
        let (token, length) = match rest.find(['{', '*']) {
            Some(0) if rest.starts_with('*') => (Token::Any, 1),
            Some(0) => {
                let end = rest.find('}').unwrap_or(rest.len());
                (placeholder(rest.get(1..end).unwrap_or_default(), zone)?, end + 1)
            }
            next => {
                let end = next.unwrap_or(rest.len());
                (Token::Literal(rest.get(..end).unwrap_or_default().to_owned()), end)
            }
        };
        // Two in a row mean no more than one, and only cost time.
        if token != Token::Any || tokens.last() != Some(&Token::Any) {
            tokens.push(token);
        }
        if tokens.len() > TOKENS_MAX {
            return Err(format!("a name of more than {TOKENS_MAX} placeholders and texts"));
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(tokens)
}

fn placeholder(text: &str, zone: &mut Option<TimeZone>) -> Result<Token, String> {
    match text {
        "name" => return Ok(Token::Name),
        "namespace" => return Ok(Token::Namespace),
        "unix" => return Ok(Token::Unix),
        _ => {}
    }
    let Some(format) = text.strip_prefix("time:") else {
        return Err(format!(
            "`{{{text}}}` is no placeholder; there are {{name}}, {{namespace}}, {{time:%Y%m%d-%H%M%S}} and {{unix}}"
        ));
    };
    let (format, place) = match format.rsplit_once('@') {
        Some((format, place)) => (format, Some(place)),
        None => (format, None),
    };
    if let Some(place) = place {
        let named = TimeZone::get(place).map_err(|_| format!("`{place}` is no time zone"))?;
        if zone.replace(named.clone()).is_some_and(|other| other != named) {
            return Err("two time zones".to_owned());
        }
    }
    if format.contains('/') {
        return Err("a `/` in a time; write a `{time:...}` for each folder".to_owned());
    }
    Ok(Token::Time { format: format.to_owned(), width: width(format)? })
}

/// How long what `format` writes is: always the same, so that it can be told from what follows.
fn width(format: &str) -> Result<usize, String> {
    let mut width = 0;
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        width += match c {
            '%' => match chars.next() {
                Some('Y') => 4,
                Some('m' | 'd' | 'H' | 'M' | 'S' | 'y' | 'I' | 'p') => 2,
                Some('j' | 'b' | 'h') => 3,
                Some('F') => 10,
                Some('T') => 8,
                Some('R' | 'z') => 5,
                Some('%') => 1,
                other => {
                    let shown: String = other.into_iter().collect();
                    return Err(format!(
                        "`%{shown}` cannot be in a time; there are %Y %m %d %H %M %S %y %j %b %I %p %F %T %R and %z"
                    ));
                }
            },
            c => c.len_utf8(),
        };
    }
    if width == 0 { Err("a time without a format".to_owned()) } else { Ok(width) }
}

/// What the parts cannot tell one by one.
fn check(parts: &[Vec<Token>]) -> Result<(), String> {
    let all = || parts.iter().flatten();
    for (token, word) in [(Token::Name, "{name}"), (Token::Namespace, "{namespace}"), (Token::Unix, "{unix}")]
    {
        if parts.iter().any(|part| part.iter().filter(|t| **t == token).count() > 1) {
            return Err(format!("{word} twice within one name"));
        }
    }
    let times: Vec<&str> = all()
        .filter_map(|t| match t {
            Token::Time { format, .. } => Some(format.as_str()),
            _ => None,
        })
        .collect();
    let units = all().filter(|t| **t == Token::Unix).count();
    if units > 1 || (units == 1 && !times.is_empty()) {
        return Err("two times; one of {time:...} and {unix} is enough".to_owned());
    }
    // Whether a date comes of it shows by one that was written so.
    let format = times.join("\n");
    let example = jiff::civil::date(2026, 12, 31).at(23, 59, 58, 0).to_zoned(TimeZone::UTC);
    let written = example.ok().and_then(|e| jiff::fmt::strtime::format(&format, &e).ok());
    if !times.is_empty() && written.and_then(|w| parse_time(&format, &w, &TimeZone::UTC)).is_none() {
        return Err(format!("`{}` does not tell a day; write %Y%m%d, for example", times.join(" ")));
    }
    Ok(())
}

/// The literal text at the start of the file's name, or else the last folder that is spelt out.
fn stem(parts: &[Vec<Token>]) -> String {
    let literal = |part: &Vec<Token>| match part.first() {
        Some(Token::Literal(text)) => {
            let text = text.trim_matches(|c: char| !c.is_alphanumeric());
            (!text.is_empty()).then(|| text.to_owned())
        }
        _ => None,
    };
    let whole = |part: &&Vec<Token>| part.len() == 1;
    let file = parts.last().and_then(literal);
    let folders = parts.get(..parts.len().saturating_sub(1)).unwrap_or_default();
    file.or_else(|| folders.iter().rev().filter(whole).find_map(literal))
        .unwrap_or_else(|| "objects".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pattern: &str, key: &str) -> Option<(String, String, Option<String>)> {
        let name = pattern.parse::<ObjectPattern>().unwrap().read(&plain_components(key)?)?;
        Some((name.series, name.namespace, name.time.map(|t| t.to_string())))
    }

    fn told(series: &str, namespace: &str, time: &str) -> Option<(String, String, Option<String>)> {
        let time = (!time.is_empty()).then(|| time.to_owned());
        Some((series.to_owned(), namespace.to_owned(), time))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let time: Timestamp = "2026-02-11T15:43:44Z".parse().unwrap();
        let write = |pattern: &str, name: &str, namespace: &str| {
            pattern.parse::<ObjectPattern>().unwrap().write(name, namespace, time)
        };
        let key = "postgres-backups/jellyfin/media-20260211-154344.sql.gz";
        assert_eq!(write(DUMPS, "jellyfin", "media").as_deref(), Ok(key));
        assert_eq!(read(DUMPS, key), told("jellyfin", "media", "2026-02-11T15:43:44Z"));
        let zoned = "{name}-{time:%Y%m%d-%H%M@Europe/Zurich}.dump";
        assert_eq!(write(zoned, "a-b", "").as_deref(), Ok("a-b-20260211-1643.dump"));
        assert_eq!(write("{name}-{unix}.zip", "etcd", "").as_deref(), Ok("etcd-1770824624.zip"));
        for (pattern, name, namespace) in [
            (DUMPS, "a/b", "media"),
            (DUMPS, "", "media"),
            (DUMPS, "..", "media"),
            (DUMPS, "a", "line\nbreak"),
            ("{name}-*.sql", "a", ""),
            ("!{name}.sql", "a", ""),
            ("{name}-{namespace}-{time:%F}.sql", "a", "b-c"),
        ] {
            assert!(write(pattern, name, namespace).is_err(), "{pattern} {name} {namespace}");
        }
    }

    const DUMPS: &str = "postgres-backups/{name}/{namespace}-{time:%Y%m%d-%H%M%S}.sql.gz";

    #[test]
    fn a_name_says_what_and_when() {
        let key = "postgres-backups/jellyfin/media-20260211-154344.sql.gz";
        assert_eq!(read(DUMPS, key), told("jellyfin", "media", "2026-02-11T15:43:44Z"));
        let key = "postgres-backups/a/open-webui-20260211-154344.sql.gz";
        assert_eq!(read(DUMPS, key), told("a", "open-webui", "2026-02-11T15:43:44Z"));
        for other in [
            "postgres-backups/jellyfin/media-20260211-154344.sql",
            "postgres-backups/jellyfin/media-20261311-154344.sql.gz",
            "postgres-backups/jellyfin/media-20260211-1543.sql.gz",
            "postgres-backups/jellyfin/-20260211-154344.sql.gz",
            "postgres-backups/media-20260211-154344.sql.gz",
            "postgres-backups/x/jellyfin/media-20260211-154344.sql.gz",
        ] {
            assert_eq!(read(DUMPS, other), None, "{other}");
        }
    }

    #[test]
    fn times_come_in_several_forms() {
        let zoned = "{name}-{time:%Y%m%d-%H%M@Europe/Zurich}.dump";
        assert_eq!(read(zoned, "a-20260711-0200.dump"), told("a", "", "2026-07-11T00:00:00Z"));
        assert_eq!(read("{name}-{time:%F}.sql", "a-2026-07-11.sql"), told("a", "", "2026-07-11T00:00:00Z"));
        let folders = "{time:%Y}/{time:%m}/{time:%d}/{name}-{time:%H%M}.sql";
        assert_eq!(read(folders, "2026/07/11/a-0315.sql"), told("a", "", "2026-07-11T03:15:00Z"));
        let offset = "{name}-{time:%Y%m%dT%H%M%S%z}.sql";
        assert_eq!(read(offset, "a-20260711T031500+0200.sql"), told("a", "", "2026-07-11T01:15:00Z"));
        let unix = "etcd-snapshot-*-{unix}.zip";
        assert_eq!(
            read(unix, "etcd-snapshot-node-1-1770825600.zip"),
            told("etcd-snapshot", "", "2026-02-11T16:00:00Z")
        );
        assert_eq!(read("{namespace}.sql", "wiki.sql"), told("wiki", "wiki", ""));
        assert_eq!(
            read("dumps/{unix}.sql", "dumps/1770825600.sql"),
            told("dumps", "", "2026-02-11T16:00:00Z")
        );
    }

    #[test]
    fn a_name_that_stands_twice_is_the_same() {
        let twice = "{name}/{name}-{time:%F}.sql";
        assert!(read(twice, "a/a-2026-07-11.sql").is_some() && read(twice, "a/b-2026-07-11.sql").is_none());
    }

    #[test]
    fn keys_that_can_be_no_path_fit_nothing() {
        for key in ["../x.sql", "a/../x.sql", "./x.sql", "a\0b/x.sql", "", "/", &"n".repeat(256), "a\nb"] {
            assert_eq!(plain_components(key), None, "{key:?}");
        }
        assert_eq!(plain_components("//a//b"), Some(vec!["a", "b"]));
        assert_eq!(read("{name}/x.sql", "../x.sql"), None);
    }

    #[test]
    fn folders_are_pruned() {
        let pattern: ObjectPattern = DUMPS.parse().unwrap();
        assert_eq!(pattern.reaches(&[]), Some(false));
        assert_eq!(pattern.reaches(&["postgres-backups"]), Some(false));
        assert_eq!(pattern.reaches(&["postgres-backups", "a"]), Some(true));
        assert_eq!(pattern.reaches(&["longhorn"]), None);
        assert_eq!(pattern.reaches(&["postgres-backups", "a", "b"]), None);
    }

    #[test]
    fn mistakes_are_explained() {
        for (pattern, why) in [
            ("", "empty"),
            ("!", "empty"),
            ("/a", "between slashes"),
            ("a//b", "between slashes"),
            ("../{name}", "between slashes"),
            ("{nam}.sql", "no placeholder"),
            ("{name.sql", "without a `}`"),
            ("name}.sql", "without a `{`"),
            ("{name}-{name}.sql", "twice"),
            ("{time:%H%M}.sql", "does not tell a day"),
            ("{time:%Q}.sql", "cannot be in a time"),
            ("{time:}.sql", "without a format"),
            ("{time:%F@Mars/Olympus}.sql", "no time zone"),
            ("{time:%Y/%m/%d}.sql", "for each folder"),
            ("{time:%F}-{unix}.sql", "two times"),
        ] {
            let told = pattern.parse::<ObjectPattern>().unwrap_err();
            assert!(told.contains(why), "{pattern}: {told}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            name in "[a-z][a-z0-9-]{0,20}",
            namespace in "[a-z][a-z-]{0,20}",
            second in 0_i64..4_000_000_000,
        ) {
            let time = Timestamp::from_second(second).unwrap();
            let key = format!("postgres-backups/{name}/{namespace}-{}.sql.gz", time.strftime("%Y%m%d-%H%M%S"));
            prop_assert_eq!(read(DUMPS, &key), told(&name, &namespace, &time.to_string()));
        }

        #[test]
        fn no_pattern_and_no_key_breaks_it(pattern in ".{0,60}", key in "\\PC{0,200}") {
            if let Ok(pattern) = pattern.parse::<ObjectPattern>()
                && let Some(parts) = plain_components(&key)
            {
                let _ = (pattern.read(&parts), pattern.reaches(&parts));
            }
        }

        #[test]
        fn hostile_names_cost_little(stars in prop::collection::vec(prop::sample::select(vec!["*", "a", "{name}"]), 0..8)) {
            let mut pattern = stars.join("a");
            pattern.push_str("b*b*b*c");
            if let Ok(pattern) = pattern.parse::<ObjectPattern>() {
                prop_assert!(pattern.read(&["a".repeat(120).as_str()]).is_none());
            }
        }
    }
}
