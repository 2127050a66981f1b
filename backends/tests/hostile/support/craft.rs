//! Writes restic repositories that no backup program would write.
//!
//! The writer follows the format and nothing else: a caller chooses every byte of a tree, a snapshot or an
//! index, and may lie about ids and lengths. Format:
//! <https://github.com/restic/restic/blob/master/doc/design.rst>.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use aes256ctr_poly1305aes::aead::AeadInPlace as _;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The password of every crafted repository.
pub(crate) const PASSWORD: &str = "hostile";
/// scrypt of the password with 64 bytes `S` as salt, N=2, r=1, p=1: cheap on purpose.
const DERIVED: &str = "b6cc2baf3b6c63a7cf5757f00c5d4f932139e162dbd818e29988b912356a26266e4a617161af08972d48dcac79506c8d04c647ef1d0baddcb6d98cc161ceb16d";
/// The moment at which crafted snapshots were made.
pub(crate) const MADE: &str = "2026-03-01T12:00:00Z";
/// The time of crafted files.
const MODIFIED: &str = "2026-03-01T11:00:00Z";
const TYPE_DIRECTORY: u32 = 1 << 31;
const TYPE_LINK: u32 = 1 << 27;

/// What a blob is for. Packs hold one sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    Data,
    Tree,
}

#[derive(Default)]
struct Pack {
    bytes: Vec<u8>,
    header: Vec<u8>,
    blobs: Vec<Value>,
}

/// A repository that is being written. Shared while it is, so that nodes can be made inside of lists.
pub(crate) struct Craft {
    root: PathBuf,
    cipher: Aes256CtrPoly1305Aes,
    units: Cell<u64>,
    packs: RefCell<BTreeMap<Sort, Pack>>,
    known: RefCell<BTreeSet<String>>,
}

fn cipher(key: &[u8]) -> Aes256CtrPoly1305Aes {
    let mut full = Key::default();
    full.copy_from_slice(key);
    Aes256CtrPoly1305Aes::new(&full)
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Craft {
    /// A repository in the missing folder `root`, with a config and a key.
    pub(crate) fn new(root: &Path) -> Self {
        for folder in ["data", "index", "keys", "snapshots", "locks"] {
            fs::create_dir_all(root.join(folder)).expect("a folder can be made");
        }
        let master = [[1_u8; 32].as_slice(), &[2; 16], &[3; 16]].concat();
        let derived = hex::decode(DERIVED).expect("it is hexadecimal");
        let mut craft = Self {
            root: root.to_owned(),
            cipher: cipher(&derived),
            units: Cell::new(0),
            packs: RefCell::default(),
            known: RefCell::default(),
        };
        let text = |bytes: &[u8]| STANDARD.encode(bytes);
        let keys = json!({
            "mac": { "k": text(&master[32..48]), "r": text(&master[48..]) },
            "encrypt": text(&master[..32]),
        });
        let data = craft.encrypt(keys.to_string().as_bytes());
        let key = json!({
            "created": MADE, "username": "u", "hostname": "h", "kdf": "scrypt",
            "N": 2, "r": 1, "p": 1, "salt": text(&[b'S'; 64]), "data": text(&data),
        });
        craft.file("keys", key.to_string().as_bytes());
        craft.cipher = cipher(&master);
        let config = json!({ "version": 2, "id": "ab".repeat(32), "chunker_polynomial": "25b468838dcb75" });
        let sealed = craft.encrypt(config.to_string().as_bytes());
        fs::write(root.join("config"), sealed).expect("the config can be written");
        craft
    }

    /// The encrypted unit of `plain`.
    fn encrypt(&self, plain: &[u8]) -> Vec<u8> {
        self.units.set(self.units.get() + 1);
        let mut iv = [7; 16];
        iv[..8].copy_from_slice(&self.units.get().to_be_bytes());
        let mut text = plain.to_vec();
        let mac = self
            .cipher
            .encrypt_in_place_detached(iv.as_slice().into(), &[], &mut text)
            .expect("everything can be encrypted");
        [iv.as_slice(), &text, mac.as_slice()].concat()
    }

    /// A file whose name is the hash of its content.
    fn file(&self, folder: &str, content: &[u8]) -> String {
        let name = hash(content);
        let folder = match folder {
            "data" => format!("data/{}", &name[..2]),
            other => other.to_owned(),
        };
        let folder = self.root.join(folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        fs::write(folder.join(&name), content).expect("a file can be written");
        name
    }

    /// A blob as it should be.
    pub(crate) fn blob(&self, sort: Sort, content: &[u8]) -> String {
        let id = hash(content);
        if self.known.borrow_mut().insert(id.clone()) {
            if content.is_empty() {
                self.claim(sort, content, &id, None);
                return id;
            }
            let length = u32::try_from(content.len()).expect("blobs are small");
            let packed = zstd::encode_all(content, 3).expect("everything can be compressed");
            self.claim(sort, &packed, &id, Some(length));
        }
        id
    }

    /// A blob that stores `stored` and is indexed as whatever the caller says.
    pub(crate) fn claim(&self, sort: Sort, stored: &[u8], id: &str, uncompressed: Option<u32>) {
        let unit = self.encrypt(stored);
        let mut packs = self.packs.borrow_mut();
        let pack = packs.entry(sort).or_default();
        let (offset, length) = (pack.bytes.len(), unit.len());
        pack.bytes.extend(unit);
        let number = match (sort, uncompressed) {
            (Sort::Data, None) => 0_u8,
            (Sort::Tree, None) => 1,
            (Sort::Data, Some(_)) => 2,
            (Sort::Tree, Some(_)) => 3,
        };
        pack.header.push(number);
        pack.header.extend(u32::try_from(length).expect("blobs are small").to_le_bytes());
        let kind = if sort == Sort::Tree { "tree" } else { "data" };
        let mut entry = json!({ "id": id, "type": kind, "offset": offset, "length": length });
        if let Some(size) = uncompressed {
            pack.header.extend(size.to_le_bytes());
            entry["uncompressed_length"] = size.into();
        }
        pack.header.extend(hex::decode(id).expect("an id is hexadecimal"));
        pack.blobs.push(entry);
    }

    /// A data blob.
    pub(crate) fn data(&self, content: impl AsRef<[u8]>) -> String {
        self.blob(Sort::Data, content.as_ref())
    }

    /// A tree of these nodes.
    pub(crate) fn tree(&self, nodes: impl IntoIterator<Item = Value>) -> String {
        let nodes: Vec<Value> = nodes.into_iter().collect();
        self.blob(Sort::Tree, json!({ "nodes": nodes }).to_string().as_bytes())
    }

    /// A file node with `content`, which is stored.
    pub(crate) fn file_node(&self, name: &str, content: impl AsRef<[u8]>) -> Value {
        let content = content.as_ref();
        let ids: Vec<String> = if content.is_empty() { Vec::new() } else { vec![self.data(content)] };
        let mut node = node(name, "file", 0o644);
        node["size"] = content.len().into();
        node["content"] = ids.into();
        node
    }

    /// A folder node with `nodes` in it.
    pub(crate) fn folder_node(&self, name: &str, nodes: impl IntoIterator<Item = Value>) -> Value {
        let subtree = self.tree(nodes);
        folder_of(name, &subtree)
    }

    /// A snapshot of `tree`.
    pub(crate) fn snapshot(&self, tree: &str, tag: &str) -> String {
        self.snapshot_text(&snapshot(tree, tag).to_string())
    }

    /// A snapshot file with this JSON.
    pub(crate) fn snapshot_text(&self, json: &str) -> String {
        self.snapshot_bytes(json.as_bytes())
    }

    /// A snapshot file that decrypts to these bytes.
    pub(crate) fn snapshot_bytes(&self, plain: &[u8]) -> String {
        let sealed = self.encrypt(plain);
        self.file("snapshots", &sealed)
    }

    /// An index file that decrypts to these bytes.
    pub(crate) fn index(&self, plain: &[u8]) -> String {
        let sealed = self.encrypt(plain);
        self.file("index", &sealed)
    }

    /// Writes packs and their index.
    pub(crate) fn finish(self) {
        let mut packs = Vec::new();
        for (_, pack) in self.packs.take() {
            let header = self.encrypt(&pack.header);
            let length = u32::try_from(header.len()).expect("headers are small");
            let bytes = [pack.bytes.as_slice(), &header, &length.to_le_bytes()].concat();
            let id = self.file("data", &bytes);
            packs.push(json!({ "id": id, "blobs": pack.blobs }));
        }
        let json = json!({ "packs": packs }).to_string();
        let packed = zstd::encode_all(json.as_bytes(), 3).expect("everything can be compressed");
        self.index(&[&[2], packed.as_slice()].concat());
    }
}

/// A snapshot file.
pub(crate) fn snapshot(tree: &str, tag: &str) -> Value {
    json!({
        "time": MADE, "tree": tree, "paths": ["/"], "hostname": "host", "username": "u",
        "uid": 0, "gid": 0, "tags": [tag],
    })
}

/// A node with ordinary metadata, owned by whoever runs this.
pub(crate) fn node(name: &str, kind: &str, mode: u32) -> Value {
    json!({
        "name": name, "type": kind, "mode": mode,
        "mtime": MODIFIED, "atime": MODIFIED, "ctime": MODIFIED,
        "uid": rustix::process::geteuid().as_raw(), "gid": rustix::process::getegid().as_raw(),
    })
}

/// A folder node that names this tree.
pub(crate) fn folder_of(name: &str, subtree: &str) -> Value {
    let mut node = node(name, "dir", TYPE_DIRECTORY | 0o755);
    node["subtree"] = subtree.into();
    node
}

/// A symbolic link.
pub(crate) fn link(name: &str, target: &str) -> Value {
    let mut node = node(name, "symlink", TYPE_LINK | 0o777);
    node["linktarget"] = target.into();
    node
}

/// Adds an extended attribute.
pub(crate) fn with_attribute(mut node: Value, name: &str, value: &[u8]) -> Value {
    let attribute = json!({ "name": name, "value": STANDARD.encode(value) });
    match node["extended_attributes"].as_array_mut() {
        Some(attributes) => attributes.push(attribute),
        None => node["extended_attributes"] = json!([attribute]),
    }
    node
}

/// `node` with `field` set to `value`.
pub(crate) fn with(mut node: Value, field: &str, value: impl Into<Value>) -> Value {
    node[field] = value.into();
    node
}
