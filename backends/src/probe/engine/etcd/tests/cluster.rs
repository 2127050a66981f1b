//! A real etcd, outside of any cell, to make snapshots with.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::super::server::quoted;

pub(super) use crate::probe::structure::fixture::{have, run};

/// A running etcd that ends with this.
pub(super) struct Etcd {
    server: Child,
    folder: TempDir,
    client: String,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _already_dead = self.server.kill();
        let _reaped = self.server.wait();
    }
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Etcd {
    pub(super) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(super) fn start_with(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let client = format!("http://127.0.0.1:{}", port());
        let peer = format!("http://127.0.0.1:{}", port());
        let server = Command::new("etcd")
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--data-dir"])
            .arg(folder.path().join("data"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self { server, folder, client };
        let begin = Instant::now();
        while !etcd.etcdctl().args(["endpoint", "health"]).output().unwrap().status.success() {
            assert!(begin.elapsed() < Duration::from_secs(120), "etcd did not become ready");
            std::thread::sleep(Duration::from_millis(100));
        }
        etcd
    }

    pub(super) fn etcdctl(&self) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.client, "--dial-timeout", "2s"]);
        command
    }

    /// Puts keys with values of any bytes.
    pub(super) fn put<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, pairs: &[(K, V)]) {
        for some in pairs.chunks(100) {
            let puts: Vec<String> = some
                .iter()
                .map(|(key, value)| format!("put -- {} {}", quoted(key.as_ref()), quoted(value.as_ref())))
                .collect();
            let file = self.folder.path().join("txn");
            std::fs::write(&file, format!("\n{}\n\n\n", puts.join("\n"))).unwrap();
            let mut command = self.etcdctl();
            let output = command.arg("txn").stdin(std::fs::File::open(file).unwrap()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    pub(super) fn delete(&self, prefix: &str) {
        run(self.etcdctl().args(["del", "--prefix", prefix]));
    }

    pub(super) fn save(&self) -> Vec<u8> {
        let path = self.folder.path().join("snapshot");
        run(self.etcdctl().args(["snapshot", "save"]).arg(&path));
        std::fs::read(path).unwrap()
    }

    /// The database file of the member, copied without asking.
    pub(super) fn member(self) -> Vec<u8> {
        run(self.etcdctl().args(["defrag"]));
        let path: PathBuf = self.folder.path().join("data/member/snap/db");
        drop_and_read(self, &path)
    }
}

fn drop_and_read(etcd: Etcd, path: &Path) -> Vec<u8> {
    let content = std::fs::read(path).unwrap();
    drop(etcd);
    content
}

/// Pseudo-random numbers from a seed (splitmix64).
pub(super) struct Seeded(pub(super) u64);

impl Seeded {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// A protobuf field of bytes.
pub(super) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    varint(content.len() as u64, &mut field);
    field.extend_from_slice(content);
    field
}

fn varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// A lease of a node, renewed at `seconds`, as the API server stores it.
pub(super) fn lease(seconds: u64) -> Vec<u8> {
    let mut time = vec![0x08];
    varint(seconds, &mut time);
    let spec = [field(1, b"node1"), vec![0x10, 40], field(4, &time)].concat();
    let raw = [field(1, b"metadata"), field(2, &spec)].concat();
    let types = [field(1, b"coordination.k8s.io/v1"), field(2, b"Lease")].concat();
    [b"k8s\0".to_vec(), field(1, &types), field(2, &raw)].concat()
}

/// The ConfigMap with the authority that clients trust.
pub(super) fn root_ca(pem: &[u8]) -> Vec<u8> {
    let entry = [field(1, b"ca.crt"), field(2, pem)].concat();
    let raw = [field(1, b"metadata"), field(2, &entry)].concat();
    [b"k8s\0".to_vec(), field(1, b"types"), field(2, &raw)].concat()
}
