//! Cuts a stream of SQL into statements the way the `mariadb` client does, in bounded memory.
//!
//! Strings, comments, version comments (`/*!40101 .. */`), `DELIMITER` and the commands of the client are told
//! apart; what they mean is the business of [`super::script`].

use memchr::{memchr, memchr_iter, memchr2};

/// What is looked at ahead of a byte before that is understood.
const AHEAD: usize = 24;
/// The version in the comments that only the client reads: `/*M!999999\- enable the sandbox mode */`.
const NEVER: &[u8] = b"999999";
/// How much is kept of a word, of a quoted name and of a comment.
const TEXT_MAX: usize = 256;
const DELIMITER_MAX: usize = 15;
/// The function that reads files of the server's machine.
pub(super) const CALL: &[u8] = b"LOAD_FILE";

/// A piece of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// A word outside quotes.
    Word(&'t [u8]),
    /// A name in backticks, without them.
    Name(&'t [u8]),
    /// A string, whatever is in it.
    Text,
    /// Any other byte but a blank.
    Sign(u8),
    /// The end of a statement.
    End,
    /// A comment to the end of its line, from its beginning.
    Comment(&'t [u8]),
    /// A command of the client, by its name or its letter, that no SQL is.
    Command(&'t [u8]),
    /// A stretch of the rows of an `INSERT`, in which nothing but rows begins: how many do, and how many parentheses
    /// are open behind it. Only whoever asked for it ([`Depth`]) gets it, in the place of all that is in it.
    Rows { begun: u64, depth: u32 },
}

/// What whoever sees tokens answers: how many parentheses are open, if these are the rows of an `INSERT` and all that
/// matters of them is how many there are, and where they call `LOAD_FILE`.
pub(super) type Depth = Option<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Code,
    Word,
    Quote(u8),
    LineComment,
    BlockComment,
    /// A comment for a version that no server has: the client reads commands in it all the same.
    NeverComment,
    DelimiterLine,
}

/// Commands that the client takes at the beginning of a line, if they do anything beyond the statement at hand.
const COMMANDS: [&[u8]; 11] = [
    b"source", b"system", b"tee", b"pager", b"edit", b"connect", b"quit", b"exit", b"notee", b"nopager",
    b"prompt",
];

/// The lexer.
#[derive(Debug)]
pub(super) struct Lexer {
    state: State,
    carry: Vec<u8>,
    text: Vec<u8>,
    delimiter: Vec<u8>,
    in_version: bool,
    /// Nothing of a statement stood on this line yet, nor on those before.
    fresh: bool,
    line_start: bool,
    line: u64,
    rows: Depth,
}

impl Default for Lexer {
    fn default() -> Self {
        Self {
            state: State::Code,
            carry: Vec::new(),
            text: Vec::new(),
            delimiter: b";".to_vec(),
            in_version: false,
            fresh: true,
            line_start: true,
            line: 1,
            rows: None,
        }
    }
}

impl Lexer {
    /// Takes the next piece of the stream. `see` gets each token with its line.
    pub(super) fn feed(&mut self, bytes: &[u8], see: &mut impl FnMut(Token<'_>, u64) -> Depth) {
        self.run(bytes, AHEAD, see);
    }

    /// Takes the end of the stream; whether it is the end of a statement too.
    pub(super) fn finish(&mut self, see: &mut impl FnMut(Token<'_>, u64) -> Depth) -> bool {
        self.run(b"\n", 0, see);
        matches!(self.state, State::Code) && self.fresh && !self.in_version
    }

    fn run(&mut self, bytes: &[u8], ahead: usize, see: &mut impl FnMut(Token<'_>, u64) -> Depth) {
        let joined;
        let buffer = if self.carry.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.carry).as_slice(), bytes].concat();
            joined.as_slice()
        };
        let mut rest = buffer;
        while rest.len() > ahead {
            let skipped = match self.rows {
                Some(depth) if self.state == State::Code && ahead > 0 => self.rows(rest, ahead, depth, see),
                _ => 0,
            };
            // A step that takes nothing leaves another state behind, which does.
            let taken = if skipped > 0 { skipped } else { self.step(rest, see) };
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.carry = rest.to_vec();
    }

    /// Understands the beginning of `rest`; how much of it.
    fn step(&mut self, rest: &[u8], see: &mut impl FnMut(Token<'_>, u64) -> Depth) -> usize {
        let Some(&byte) = rest.first() else { return 0 };
        match self.state {
            State::Code => self.code(rest, byte, see),
            State::Word => self.word(rest, see),
            State::Quote(quote) => self.quoted(rest, byte, quote, see),
            State::LineComment | State::DelimiterLine => self.end_of_line(rest, byte, see),
            State::BlockComment | State::NeverComment if rest.starts_with(b"*/") => {
                self.state = State::Code;
                2
            }
            State::NeverComment if byte == b'\\' => self.backslash(rest, see),
            State::BlockComment | State::NeverComment => self.skip(byte),
        }
    }

    fn skip(&mut self, byte: u8) -> usize {
        if byte == b'\n' {
            self.line += 1;
            self.line_start = true;
        }
        1
    }

    fn code(&mut self, rest: &[u8], byte: u8, see: &mut impl FnMut(Token<'_>, u64) -> Depth) -> usize {
        if byte.is_ascii_whitespace() {
            return self.skip(byte);
        }
        let begins_line = std::mem::replace(&mut self.line_start, false);
        if begins_line && self.fresh && self.command(rest, see) {
            return 0;
        }
        if let Some(taken) = self.comment(rest) {
            return taken;
        }
        if rest.starts_with(&self.delimiter) {
            self.fresh = true;
            self.rows = see(Token::End, self.line);
            return self.delimiter.len();
        }
        if byte == b'\\' {
            return self.backslash(rest, see);
        }
        self.fresh = false;
        match byte {
            b'\'' | b'"' | b'`' => self.state = State::Quote(byte),
            _ if WORD[usize::from(byte)] => {
                self.state = State::Word;
                self.text.push(byte);
                return 1;
            }
            _ => self.rows = see(Token::Sign(byte), self.line),
        }
        1
    }

    /// `DELIMITER ..`, and the commands that make the client do something else.
    fn command(&mut self, rest: &[u8], see: &mut impl FnMut(Token<'_>, u64) -> Depth) -> bool {
        let end = rest.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end.min(rest.len()));
        let ends = after.first().is_none_or(|b| b.is_ascii_whitespace() || *b == b';');
        if !ends {
            return false;
        }
        if word.eq_ignore_ascii_case(b"delimiter") {
            self.state = State::DelimiterLine;
            return true;
        }
        // Whether the statement is one all the same (`CONNECT` is no SQL, nor are the others), the server decides.
        if COMMANDS.iter().any(|command| word.eq_ignore_ascii_case(command)) {
            self.rows = see(Token::Command(word), self.line);
        }
        false
    }

    /// The beginning or the end of a comment.
    fn comment(&mut self, rest: &[u8]) -> Option<usize> {
        if rest.starts_with(b"*/") && self.in_version {
            self.in_version = false;
            return Some(2);
        }
        for start in [&b"/*!"[..], b"/*M!"] {
            if let Some(after) = rest.strip_prefix(start) {
                let digits = after.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
                if after.starts_with(NEVER) {
                    self.state = State::NeverComment;
                } else {
                    self.in_version = true;
                }
                return Some(start.len() + digits);
            }
        }
        if rest.starts_with(b"/*") {
            self.state = State::BlockComment;
            return Some(2);
        }
        let dashes = rest.starts_with(b"--") && rest.get(2).is_none_or(|b| b.is_ascii_whitespace());
        if dashes || rest.first() == Some(&b'#') {
            self.state = State::LineComment;
            return Some(0);
        }
        None
    }

    /// A command by its letter. `\-` is the sandbox that dumps ask for, `\C` a character set, `\N` a NULL.
    fn backslash(&mut self, rest: &[u8], see: &mut impl FnMut(Token<'_>, u64) -> Depth) -> usize {
        let letter = rest.get(..2).unwrap_or(rest);
        if !matches!(letter, b"\\-" | b"\\C" | b"\\N") {
            self.rows = see(Token::Command(letter), self.line);
        }
        letter.len()
    }

    fn word(&mut self, rest: &[u8], see: &mut impl FnMut(Token<'_>, u64) -> Depth) -> usize {
        let more = word_length(rest);
        if more > 0 {
            self.keep(rest.get(..more).unwrap_or_default());
            return more;
        }
        self.state = State::Code;
        self.rows = see(Token::Word(&self.text), self.line);
        self.text.clear();
        // The byte that ends it is understood next.
        0
    }

    fn quoted(
        &mut self,
        rest: &[u8],
        byte: u8,
        quote: u8,
        see: &mut impl FnMut(Token<'_>, u64) -> Depth,
    ) -> usize {
        let escapes = quote != b'`';
        let end = if escapes { memchr2(quote, b'\\', rest) } else { memchr(quote, rest) };
        let plain = end.unwrap_or(rest.len());
        if plain > 0 {
            let inside = rest.get(..plain).unwrap_or_default();
            self.line += lines(inside);
            if !escapes {
                self.keep(inside);
            }
            return plain;
        }
        if byte == b'\\' {
            self.line += u64::from(rest.get(1) == Some(&b'\n'));
            return 2;
        }
        if rest.get(1) == Some(&quote) {
            self.keep(&[quote]);
            return 2;
        }
        self.state = State::Code;
        self.rows = see(if escapes { Token::Text } else { Token::Name(&self.text) }, self.line);
        self.text.clear();
        1
    }

    /// Skips what is plain in the rows of an `INSERT`, which dumps mostly consist of; how much of it. It stops before
    /// all that the steps above have to look at more closely.
    fn rows(
        &mut self,
        rest: &[u8],
        ahead: usize,
        mut depth: u32,
        see: &mut impl FnMut(Token<'_>, u64) -> Depth,
    ) -> usize {
        if self.delimiter != b";" {
            return 0;
        }
        let limit = rest.len().saturating_sub(ahead);
        let (mut at, mut begun, mut line) = (0, 0, self.line);
        // One loop without calls: builds that are not optimised run it, too.
        while at < limit {
            let (byte, next) = (rest[at], rest[at + 1]);
            let taken = match byte {
                b'(' => {
                    begun += u64::from(depth == 0);
                    depth = depth.saturating_add(1);
                    1
                }
                b')' => {
                    depth = depth.saturating_sub(1);
                    1
                }
                b'\n' => {
                    line += 1;
                    1
                }
                b',' | b' ' | b'\t' | b'\r' => 1,
                _ if depth == 0 => break,
                b'-' if next == b'-' => break,
                b'-' | b'+' | b'.' => 1,
                b'\'' | b'"' => string_length(&rest[at..limit], next == byte, &mut line),
                _ if WORD[byte as usize] => plain_word_length(&rest[at..limit]),
                _ => break,
            };
            if taken == 0 {
                break;
            }
            at += taken;
        }
        if at > 0 {
            self.line = line;
            self.line_start = false;
            self.rows = see(Token::Rows { begun, depth }, line);
        }
        at
    }

    fn end_of_line(&mut self, rest: &[u8], byte: u8, see: &mut impl FnMut(Token<'_>, u64) -> Depth) -> usize {
        if byte != b'\n' {
            let line = rest.get(..memchr(b'\n', rest).unwrap_or(rest.len())).unwrap_or_default();
            self.keep(line);
            return line.len();
        }
        let text = std::mem::take(&mut self.text);
        let text = text.trim_ascii_end();
        if self.state == State::LineComment {
            self.rows = see(Token::Comment(text), self.line);
        } else {
            let given = text.get(b"delimiter".len()..).unwrap_or_default().trim_ascii();
            let end = given.iter().position(u8::is_ascii_whitespace).unwrap_or(given.len());
            let given = given.get(..end.min(DELIMITER_MAX)).unwrap_or_default();
            if !given.is_empty() {
                self.delimiter = given.to_vec();
            }
        }
        self.state = State::Code;
        self.skip(byte)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = TEXT_MAX.saturating_sub(self.text.len()).min(bytes.len());
        self.text.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }
}

/// Which bytes words are made of.
const WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let ascii = byte as u8;
        table[byte] = ascii.is_ascii_alphanumeric() || matches!(ascii, b'_' | b'$' | b'@') || byte >= 0x80;
        byte += 1;
    }
    table
};

fn word_length(rest: &[u8]) -> usize {
    let mut at = 0;
    while at < rest.len() && WORD[rest[at] as usize] {
        at += 1;
    }
    at
}

/// The length of a word that means nothing among values; 0 where it may, and where its end is not in sight.
fn plain_word_length(rest: &[u8]) -> usize {
    let length = word_length(rest);
    let calls = length == CALL.len() && rest[..length].eq_ignore_ascii_case(CALL);
    if length == rest.len() || calls { 0 } else { length }
}

/// The length of the string that `rest` begins with, quotes included; 0 where its end is not in sight.
fn string_length(rest: &[u8], is_empty_or_doubled: bool, line: &mut u64) -> usize {
    let quote = rest[0];
    if is_empty_or_doubled && rest.get(2).is_some_and(|after| *after != quote) {
        return 2;
    }
    let mut at = 1;
    while let Some(found) = memchr2(quote, b'\\', rest.get(at..).unwrap_or_default()) {
        at += found;
        let escaped = rest.get(at) == Some(&b'\\');
        match rest.get(at + 1) {
            None => return 0,
            Some(next) if escaped || *next == quote => at += 2,
            Some(_) => {
                *line += lines(&rest[..at]);
                return at + 1;
            }
        }
    }
    0
}

fn lines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens of `text`, fed in pieces of `piece` bytes; and whether it ends where a statement ends.
    fn tokens(text: &str, piece: usize) -> (Vec<String>, bool) {
        let mut lexer = Lexer::default();
        let mut seen = Vec::new();
        let mut see = |token: Token<'_>, line: u64| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            seen.push(match token {
                Token::Word(word) => text(word),
                Token::Name(name) => format!("<{}>", text(name)),
                Token::Text => "''".to_owned(),
                Token::Sign(sign) => char::from(sign).to_string(),
                Token::End => format!(";{line}"),
                Token::Comment(comment) => format!("#{}", text(comment)),
                Token::Command(command) => format!("!{}@{line}", text(command)),
                Token::Rows { .. } => "nobody asked for rows".to_owned(),
            });
            None
        };
        for piece in text.as_bytes().chunks(piece) {
            lexer.feed(piece, &mut see);
        }
        let ended = lexer.finish(&mut see);
        (seen, ended)
    }

    fn same(text: &str, expected: &[&str], whole: bool) {
        for piece in [1, 2, 3, 7, 1000] {
            let (seen, ended) = tokens(text, piece);
            assert_eq!(seen, expected, "{text} in pieces of {piece}");
            assert_eq!(ended, whole, "{text}");
        }
    }

    #[test]
    fn statements_are_cut_as_the_client_cuts_them() {
        same("select 1;\nselect 2;", &["select", "1", ";1", "select", "2", ";2"], true);
        same("a 'x;\\';\n' b;", &["a", "''", "b", ";2"], true);
        same("a 'it''s' \"q;\" `n``;`;", &["a", "''", "''", "<n`;>", ";1"], true);
        same("/*!40101 SET a */;", &["SET", "a", ";1"], true);
        same("a /* ; ' */ b -- it's ;\n # x\n;", &["a", "b", "#-- it's ;", "## x", ";3"], true);
        same("a --b;", &["a", "-", "-", "b", ";1"], true);
        same("DELIMITER ;;\na; b ;;\ndelimiter ;\nc;", &["a", ";", "b", ";2", "c", ";4"].map(|t| t), true);
        same("/*M!999999\\- enable it */ \nx;", &["x", ";2"], true);
    }

    #[test]
    fn a_cut_statement_is_open() {
        for text in ["select 1", "select 'a;", "insert into `x;", "/*!40101 SET a", "a /* b;"] {
            assert!(!tokens(text, 5).1, "{text}");
        }
        // A comment that never ends hides everything behind it.
        assert!(!tokens("a; /* b;", 5).1);
    }

    #[test]
    fn commands_of_the_client_are_seen_and_data_is_not_taken_for_one() {
        same("\\! id\n;", &["!\\!@1", "id", ";2"], true);
        same("system id\n;", &["!system@1", "system", "id", ";2"], true);
        same("/*!999999 \\! id */;", &["!\\!@1", ";1"], true);
        same("a\nsource b;", &["a", "source", "b", ";2"], true);
        same("a '\n\\\\! id\nsystem x\n';", &["a", "''", ";4"], true);
        same("select \\N, 'x';", &["select", ",", "''", ";1"], true);
    }
}
