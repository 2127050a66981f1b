//! Tree blobs, read node by node: a hostile tree that unpacks to millions of nodes is never held as a
//! whole, and a node that cannot be read does not take its siblings with it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::node::Node;

/// A longer name is no real one and helps nobody.
const NAME_SHOWN_MAX: usize = 4 << 10;

/// A node that is none: what can be told of its name, and why.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) name: Option<String>,
    pub(super) why: String,
}

/// Why reading a tree ended early.
#[derive(Debug)]
pub(super) enum Ended<E> {
    /// It is not a tree, from some point on.
    Damaged(String),
    /// The visitor said so.
    Stopped(E),
}

/// Hands every node of the tree `json` to `visit`, in order. What comes before damage is handed out.
pub(super) fn each_node<E>(
    json: &[u8],
    mut visit: impl FnMut(Result<Node, Broken>) -> Result<(), E>,
) -> Result<(), Ended<E>> {
    let mut stopped = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = Tree { visit: &mut visit, stopped: &mut stopped, seen: false }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    match (stopped, read) {
        (Some(error), _) => Err(Ended::Stopped(error)),
        (None, Err(e)) => Err(Ended::Damaged(format!("not a tree: {e}"))),
        (None, Ok(())) => Ok(()),
    }
}

/// The object with the field `nodes`, and then that field.
struct Tree<'v, F, E> {
    visit: &'v mut F,
    stopped: &'v mut Option<E>,
    seen: bool,
}

impl<'de, F, E> DeserializeSeed<'de> for Tree<'_, F, E>
where
    F: FnMut(Result<Node, Broken>) -> Result<(), E>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.seen { deserializer.deserialize_any(self) } else { deserializer.deserialize_map(self) }
    }
}

impl<'de, F, E> Visitor<'de> for Tree<'_, F, E>
where
    F: FnMut(Result<Node, Broken>) -> Result<(), E>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.seen { "a list of nodes" } else { "a tree" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.seen {
            return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
        }
        let mut seen = false;
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            if field != "nodes" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if seen {
                return Err(de::Error::duplicate_field("nodes"));
            }
            seen = true;
            map.next_value_seed(Tree { visit: &mut *self.visit, stopped: &mut *self.stopped, seen })?;
        }
        Ok(())
    }

    /// Programs in Go write an empty list like this.
    fn visit_unit<X: de::Error>(self) -> Result<(), X> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut nodes: A) -> Result<(), A::Error> {
        while let Some(text) = nodes.next_element::<&RawValue>()? {
            let node = serde_json::from_str(text.get()).map_err(|e| broken(text.get(), &e));
            if let Err(error) = (self.visit)(node) {
                *self.stopped = Some(error);
                return Err(de::Error::custom("told to stop"));
            }
        }
        Ok(())
    }
}

fn broken(text: &str, error: &serde_json::Error) -> Broken {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let name = serde_json::from_str::<Named>(text).ok().map(|named| named.name);
    let name = name.filter(|name| name.len() < NAME_SHOWN_MAX);
    Broken { name, why: format!("not a node: {error}") }
}

#[cfg(test)]
mod tests {
    use super::{Ended, each_node};

    /// Names of nodes, `!` before what is broken, and how it ended.
    fn read(json: &str) -> (Vec<String>, Result<(), String>) {
        let mut seen = Vec::new();
        let ended = each_node(json.as_bytes(), |node| {
            seen.push(match node {
                Ok(node) => node.written_name().to_owned(),
                Err(broken) => format!("!{}", broken.name.unwrap_or_default()),
            });
            if seen.len() == 4 { Err("enough") } else { Ok(()) }
        });
        let ended = ended.map_err(|ended| match ended {
            Ended::Damaged(why) => why,
            Ended::Stopped(why) => why.to_owned(),
        });
        (seen, ended)
    }

    #[test]
    fn a_broken_node_does_not_take_its_siblings_with_it() {
        let (seen, ended) = read(
            r#"{"future":[1],"nodes":[{"name":"a","type":"file"},{"name":"b","type":7},{"name":"c","type":"dir"}]}"#,
        );
        assert_eq!(seen, ["a", "!b", "c"]);
        assert_eq!(ended, Ok(()));
    }

    #[test]
    fn what_comes_before_damage_is_read() {
        let (seen, ended) = read(r#"{"nodes":[{"name":"a","type":"file"},{"name":"b","#);
        assert_eq!(seen, ["a"]);
        assert!(ended.unwrap_err().starts_with("not a tree: "));
    }

    #[test]
    fn lists_that_are_empty_in_every_way() {
        for json in [r#"{"nodes":[]}"#, r#"{"nodes":null}"#, "{}"] {
            assert_eq!(read(json), (Vec::new(), Ok(())), "{json}");
        }
    }

    #[test]
    fn trees_that_are_none() {
        for json in ["", "7", "null", "[]", r#"{"nodes":{}}"#, r#"{"nodes":7}"#, r#"{"nodes":[]} x"#] {
            assert!(read(json).1.is_err(), "{json}");
        }
        assert!(read(r#"{"nodes":[],"nodes":[]}"#).1.unwrap_err().contains("duplicate"));
    }

    #[test]
    fn a_visitor_can_stop() {
        let json = format!(r#"{{"nodes":[{}{{}}]}}"#, r#"{"name":"a","type":"file"},"#.repeat(10));
        let (seen, ended) = read(&json);
        assert_eq!((seen.len(), ended), (4, Err("enough".to_owned())));
    }
}
