//! Snapshots by k3s: a script does what `k3s etcd-snapshot save` does (k3s documentation, "k3s etcd-snapshot"), with a
//! real etcd behind it. k3s itself cannot run in every place where tests do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use firedrill_testing::have;

use super::{PASSWORD, told};
use crate::binary;

/// Takes the arguments of k3s, and has moods.
const K3S: &str = r#"#!/bin/sh
[ "$1 $2 $3 $5" = "etcd-snapshot save --data-dir --dir" ] || exit 64
[ -d "$4/server" ] && [ -d "$6" ] || exit 65
file="$6/on-demand-node-01-$(date +%s)"
save() { etcdctl --endpoints="$ENDPOINT" snapshot save "$file" >/dev/null; }
case "$MOOD" in
  fails) echo "FATA[0000] see server log for details: etcd datastore disabled" >&2; exit 1 ;;
  nothing) ;;
  short) save && truncate -s -4096 "$file" ;;
  half-page) save && truncate -s -100 "$file" ;;
  flips) save && printf x | dd of="$file" bs=1 seek=9000 conv=notrunc 2>/dev/null ;;
  empty) : >"$file" ;;
  two) save && cp "$file" "$file-2" ;;
  dies) save; kill -9 $$ ;;
  *) save ;;
esac
"#;

struct Etcd {
    server: Child,
    client: String,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Etcd {
    fn start(folder: &Path) -> Self {
        let url = || {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            format!("http://127.0.0.1:{port}")
        };
        let (client, peer) = (url(), url());
        let server = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arg(format!("--initial-cluster=default={peer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self { server, client };
        let started = Instant::now();
        while !etcd.ctl(&["put", "/registry/secrets/default/s", "v"]).status.success() {
            assert!(started.elapsed() < Duration::from_secs(60), "etcd does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        etcd
    }

    fn ctl(&self, words: &[&str]) -> Output {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.client))
            .args(words)
            .output()
            .unwrap()
    }
}

struct Node {
    folder: tempfile::TempDir,
    etcd: Etcd,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path();
        for name in ["bin", "k3s/server", "scratch"] {
            fs::create_dir_all(work.join(name)).unwrap();
        }
        fs::write(work.join("bin/k3s"), K3S).unwrap();
        fs::set_permissions(work.join("bin/k3s"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(work.join("k3s/server/token"), "K10abc::server:s3cret-token\n").unwrap();
        fs::write(work.join("password"), PASSWORD).unwrap();
        let config = format!(
            r#"version: 1
copies:
  - {{name: primary, repository: "{work}/repository", password_file: "{work}/password"}}
targets:
  - name: etcd
    tag: etcd
    host: node-01
    expect: {{canary: required}}
    backup:
      capture: [{{etcd: {{k3s: "{work}/k3s", as: /backup/etcd.db}}}}]
restore_test: {{scratch: "{work}/scratch"}}
state: "{work}/state"
"#,
            work = work.display()
        );
        fs::write(work.join("firedrill.yaml"), config).unwrap();
        let etcd = Etcd::start(&work.join("etcd"));
        Self { folder, etcd }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn firedrill(&self, words: &[&str], mood: &str) -> Output {
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([self.path("bin")].into_iter().chain(std::env::split_paths(&usual)));
        let mut command = Command::new(binary::binary().unwrap());
        command.args(words).arg("--config").arg(self.path("firedrill.yaml"));
        command.env("PATH", path.unwrap()).env("MOOD", mood).env("ENDPOINT", &self.etcd.client);
        command.env("ETCDCTL_API", "3").stdin(Stdio::null()).output().unwrap()
    }

    fn snapshots(&self) -> usize {
        fs::read_dir(self.path("repository/snapshots")).unwrap().count()
    }
}

#[test]
fn k3s_never_looks_like_success_when_it_is_none() {
    if !have(&["etcd", "etcdctl"]) {
        return;
    }
    let node = Node::new();
    let made = node.firedrill(&["init", "primary"], "well");
    assert!(made.status.success(), "{}", told(&made));
    for (mood, why) in [
        ("fails", "etcd datastore disabled"),
        ("nothing", "left no file"),
        ("short", "cut short"),
        ("half-page", "no hash at its end"),
        ("flips", "does not fit the hash"),
        ("empty", "cut short"),
        ("two", "left 2 files"),
        ("dies", "signal"),
    ] {
        let run = node.firedrill(&["run", "etcd"], mood);
        assert_eq!(run.status.code(), Some(1), "{mood}: {}", told(&run));
        assert!(told(&run).contains(why), "{mood}: {}", told(&run));
        assert!(!told(&run).contains("s3cret-token"), "{mood}: {}", told(&run));
        assert_eq!(node.snapshots(), 0, "{mood}");
    }
    let token = node.path("k3s/server/token");
    let kept = fs::read(&token).unwrap();
    for empty in [true, false] {
        if empty {
            fs::write(&token, "").unwrap()
        } else {
            fs::remove_file(&token).unwrap()
        }
        let run = node.firedrill(&["run", "etcd"], "well");
        assert_eq!(run.status.code(), Some(1), "{}", told(&run));
        assert!(told(&run).contains("server token"), "{}", told(&run));
        assert_eq!(node.snapshots(), 0);
    }
    fs::write(&token, kept).unwrap();

    let run = node.firedrill(&["run", "etcd"], "well");
    assert!(run.status.success(), "{}", told(&run));
    assert_eq!(node.snapshots(), 1);
    let tested = node.firedrill(&["restore-test", "--json"], "well");
    let said = told(&tested);
    assert!(tested.status.success(), "{said}");
    assert!(
        said.contains("etcd_snapshot") && !said.contains("etcd.token"),
        "the token is in the snapshot: {said}"
    );
    assert!(!said.contains("s3cret-token"), "{said}");
}
