//! YAML to JSON values, with the place of each key and value. Built on parser events instead of a
//! ready-made tree so that every duplicate key is found, aliases work, and neither nesting nor aliases
//! can use more memory or stack than the limits below allow.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};

use super::problem::{Place, Problem};

/// A longer text is refused.
pub(super) const TEXT_MAX: usize = 1 << 20;
/// Deeper nesting is refused.
const DEPTH_MAX: usize = 32;
/// More values are refused, counted after aliases were expanded.
const VALUES_MAX: usize = 50_000;

/// Where a value and its key are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) key: Option<Place>,
    pub(super) value: Place,
}

/// A parsed text.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) value: Value,
    places: BTreeMap<String, Entry>,
}

impl Document {
    /// Where the value at `pointer` is, or the closest that contains it.
    pub(super) fn place(&self, pointer: &str) -> Entry {
        let mut pointer = pointer;
        loop {
            if let Some(entry) = self.places.get(pointer) {
                return *entry;
            }
            match pointer.rfind('/') {
                Some(end) => pointer = &pointer[..end],
                None => return Entry { key: None, value: Place::START },
            }
        }
    }

    /// The place of the key at `pointer`, or of its value when it has none.
    pub(super) fn key_place(&self, pointer: &str) -> Place {
        let entry = self.place(pointer);
        entry.key.unwrap_or(entry.value)
    }
}

/// One more step of a JSON pointer.
pub(super) fn join(pointer: &str, step: &str) -> String {
    format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// Parses `text`. `None` when so much is wrong that it has no values; the reasons are in the problems.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Document> {
    if text.len() > TEXT_MAX {
        problems.push(
            Problem::error(Place::START, "", format!("the file is larger than {} MiB", TEXT_MAX >> 20))
                .suggest("a config is text of some kilobytes; is this the right file?"),
        );
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder =
        Builder { text, problems, stack: Vec::new(), anchors: HashMap::new(), root: None, values: 0 };
    let root = builder.run()?;
    let mut document = Document::default();
    let mut left = VALUES_MAX;
    match expand(&root, String::new(), None, &mut document.places, &mut left) {
        Some(value) => document.value = value,
        None => {
            problems.push(Problem::error(
                root.place,
                "",
                format!("the file has more than {VALUES_MAX} values, aliases included"),
            ));
            return None;
        }
    }
    Some(document)
}

/// A value with its place. Shared where an alias repeats it.
#[derive(Clone, Debug)]
struct Node {
    place: Place,
    depth: usize,
    content: Rc<Content>,
}

#[derive(Debug)]
enum Content {
    Scalar(Value),
    Sequence(Vec<Node>),
    Mapping(Vec<(String, Place, Node)>),
}

/// An open collection.
struct Frame {
    place: Place,
    anchor: usize,
    content: Open,
}

enum Open {
    Sequence(Vec<Node>),
    /// The entries, and a key that waits for its value.
    Mapping(Vec<(String, Place, Node)>, Option<(String, Place)>),
}

struct Builder<'t, 'p> {
    text: &'t str,
    problems: &'p mut Vec<Problem>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    values: usize,
}

/// Nothing more can be read.
struct Stop;

impl Builder<'_, '_> {
    /// Reads all events. `None` after a mistake that leaves the rest of the text without meaning.
    fn run(&mut self) -> Option<Node> {
        let mut documents = 0;
        for event in Parser::new_from_str(self.text) {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let at = place(Span::empty(*error.marker()));
                    self.problems.push(syntax_problem(self.text, at, error.info()));
                    return None;
                }
            };
            if matches!(event, Event::DocumentStart(_)) {
                documents += 1;
                if documents > 1 {
                    self.fail(place(span), "the file holds a second YAML document", "remove the `---` line");
                    return None;
                }
            }
            self.take(event, span).ok()?;
        }
        if self.root.is_none() {
            self.fail(Place::START, "the file is empty", "start with `version: 1`");
        }
        self.root.take()
    }

    fn fail(&mut self, place: Place, message: &str, suggestion: &str) {
        self.problems.push(Problem::error(place, "", message).suggest(suggestion));
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let place = place(span);
        self.values += 1;
        if self.values > 4 * VALUES_MAX {
            self.fail(place, "the file has too many values", "is this the right file?");
            return Err(Stop);
        }
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    self.fail(place, "the alias is inside the value it stands for", "write the value out");
                    return Err(Stop);
                };
                self.add(Node { place, ..node }, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some() {
                    self.refuse_tag(place);
                }
                let value = match style {
                    ScalarStyle::Plain => resolve(&text),
                    _ => Value::String(text.clone().into_owned()),
                };
                if let Some(Frame { content: Open::Mapping(_, key @ None), .. }) = self.stack.last_mut() {
                    *key = Some((text.into_owned(), place));
                    return Ok(());
                }
                self.add(Node { place, depth: 0, content: Rc::new(Content::Scalar(value)) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(place, anchor, tag.is_some(), Open::Sequence(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.open(place, anchor, tag.is_some(), Open::Mapping(Vec::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn refuse_tag(&mut self, place: Place) {
        self.fail(
            place,
            "YAML tags such as `!!str` are not used here",
            "put text that looks like a number in quotes",
        );
    }

    fn open(&mut self, place: Place, anchor: usize, tagged: bool, content: Open) -> Result<(), Stop> {
        if tagged {
            self.refuse_tag(place);
        }
        if let Some(Frame { content: Open::Mapping(_, None), .. }) = self.stack.last() {
            self.fail(place, "a key must be a text, not a list or a mapping", "write `key: value`");
            return Err(Stop);
        }
        if self.stack.len() >= DEPTH_MAX {
            self.too_deep(place);
            return Err(Stop);
        }
        self.stack.push(Frame { place, anchor, content });
        Ok(())
    }

    fn too_deep(&mut self, place: Place) {
        let message = format!("the values are nested more than {DEPTH_MAX} levels deep");
        self.fail(place, &message, "no setting is that deep; check the indentation");
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(Frame { place, anchor, content }) = self.stack.pop() else { return Err(Stop) };
        let (depth, content) = match content {
            Open::Sequence(items) => {
                (items.iter().map(|n| n.depth + 1).max().unwrap_or(1), Content::Sequence(items))
            }
            Open::Mapping(entries, _) => {
                (entries.iter().map(|e| e.2.depth + 1).max().unwrap_or(1), Content::Mapping(entries))
            }
        };
        if depth > DEPTH_MAX {
            self.too_deep(place);
            return Err(Stop);
        }
        self.add(Node { place, depth, content: Rc::new(content) }, anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some(node),
            Some(Open::Sequence(items)) => items.push(node),
            Some(Open::Mapping(entries, key)) => match key.take() {
                None => {
                    self.fail(node.place, "a key must be a plain text", "write `key: value`");
                    return Err(Stop);
                }
                Some((key, place)) => {
                    if let Some((_, first, _)) = entries.iter().find(|(k, _, _)| *k == key) {
                        let message = format!("the key `{key}` appears twice; first in line {}", first.line);
                        self.fail(place, &message, "keep one of them");
                    } else {
                        entries.push((key, place, node));
                    }
                }
            },
        }
        Ok(())
    }
}

/// Turns nodes into a value and notes the places. `None` when there are too many.
fn expand(
    node: &Node,
    pointer: String,
    key: Option<Place>,
    places: &mut BTreeMap<String, Entry>,
    left: &mut usize,
) -> Option<Value> {
    *left = left.checked_sub(1)?;
    let value = match &*node.content {
        Content::Scalar(value) => value.clone(),
        Content::Sequence(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                values.push(expand(item, join(&pointer, &i.to_string()), None, places, left)?);
            }
            Value::Array(values)
        }
        Content::Mapping(entries) => {
            let mut map = Map::new();
            for (name, place, value) in entries {
                let value = expand(value, join(&pointer, name), Some(*place), places, left)?;
                map.insert(name.clone(), value);
            }
            Value::Object(map)
        }
    };
    places.insert(pointer, Entry { key, value: node.place });
    Some(value)
}

fn place(span: Span) -> Place {
    let (start, end) = (span.start, span.end);
    let length = if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { 0 };
    Place { line: start.line().max(1), column: start.col() + 1, length }
}

/// An unquoted scalar by the core schema of YAML 1.2.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::String(text.to_owned());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Value::Number(whole.into());
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Value::Number(whole.into());
    }
    let float = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(number) if float => {
            Number::from_f64(number).map_or_else(|| Value::String(text.to_owned()), Value::Number)
        }
        _ => Value::String(text.to_owned()),
    }
}

/// A syntax mistake, with the cause where it is a common one.
fn syntax_problem(text: &str, at: Place, info: &str) -> Problem {
    let line_of = |number: usize| number.checked_sub(1).and_then(|n| text.lines().nth(n)).unwrap_or_default();
    // The scanner often notices a mistake one line late.
    for number in [at.line, at.line.saturating_sub(1)] {
        let line = line_of(number);
        let indent = line.len() - line.trim_start().len();
        if let Some(tab) = line[..indent].find('\t') {
            let at = Place { line: number, column: tab + 1, length: 1 };
            return Problem::error(at, "", "a tab cannot indent YAML").suggest("use spaces");
        }
        if let Some(star) = line.find(": *") {
            let at = Place { line: number, column: line[..star].chars().count() + 3, length: 1 };
            let name = line[star + 3..].trim();
            if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                return Problem::error(at, "", format!("nothing is called `&{name}` above")).suggest(
                    "an alias repeats an earlier value that is marked with `&`; a text goes in quotes",
                );
            }
            return Problem::error(at, "", "a value that starts with `*` needs quotes")
                .suggest("write cron expressions in quotes: \"*/20 * * * *\"");
        }
    }
    let problem = Problem::error(at, "", format!("this is not YAML: {info}"));
    let line = line_of(at.line);
    if line.matches('"').count() % 2 == 1 || line.matches('\'').count() % 2 == 1 {
        return problem.suggest("is a closing quote missing?");
    }
    let before = line_of(at.line.saturating_sub(1));
    if before.matches(['[', '{']).count() > before.matches([']', '}']).count() {
        return problem.suggest("is a closing `]` or `}` missing in the line above?");
    }
    if line.matches(": ").count() > 1 {
        return problem.suggest("a value that holds `: ` needs quotes");
    }
    problem.suggest("check the indentation and the quotes here and in the line above")
}
