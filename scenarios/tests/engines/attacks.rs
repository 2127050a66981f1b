//! Dumps that try to reach beyond their engine. What they would touch is here, open to everybody, and stays as it is;
//! a server that nothing seals in shows that they would touch it.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::verdict::Verdict;

use crate::fixture::{COMPLETE, Fixture, back_up};
use crate::need::{folder, open_to_all, runtimes, tools};
use crate::place::{Place, listing, told};
use crate::servers::Postgres;

/// What must not be touched.
struct Bait {
    folder: tempfile::TempDir,
    tcp: TcpListener,
    named: UnixListener,
    /// A socket that has a name in no folder.
    nameless: UnixListener,
}

impl Bait {
    fn new() -> Result<Self> {
        let folder = folder();
        std::fs::write(folder.path().join("treasure"), "gold")?;
        open_to_all(&folder.path().join("treasure"));
        let socket = folder.path().join(".s.PGSQL.5432");
        let (tcp, named) = (TcpListener::bind("0.0.0.0:0")?, UnixListener::bind(&socket)?);
        open_to_all(&socket);
        let name =
            format!("{}/.s.PGSQL.5432", folder.path().file_name().unwrap_or_default().to_string_lossy());
        let nameless = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        tcp.set_nonblocking(true)?;
        named.set_nonblocking(true)?;
        nameless.set_nonblocking(true)?;
        Ok(Self { folder, tcp, named, nameless })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Connections that came.
    fn heard(&self) -> Result<Vec<&'static str>> {
        let came = |result: std::io::Result<()>| match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        };
        let mut heard = Vec::new();
        for (name, result) in [
            ("tcp", self.tcp.accept().map(drop)),
            ("unix", self.named.accept().map(drop)),
            ("abstract", self.nameless.accept().map(drop)),
        ] {
            if came(result)? {
                heard.push(name);
            }
        }
        Ok(heard)
    }

    /// Where its sockets are, as libpq wants to know it.
    fn hosts(&self) -> Result<Vec<String>> {
        let (port, path) = (self.tcp.local_addr()?.port(), self.path().display());
        let name = self.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut hosts = vec![format!("host={path}"), format!("host=@{name}")];
        // The second is the machine as containers see it from their usual network.
        hosts.extend(["127.0.0.1", "172.17.0.1"].map(|host| format!("host={host} port={port}")));
        Ok(hosts.into_iter().map(|host| format!("{host} user=x connect_timeout=2")).collect())
    }
}

/// Everything at once, in a function, each attempt with another one behind it.
fn hidden(bait: &Bait, others: &[PathBuf]) -> Result<String> {
    let mut attempts = vec!["PERFORM lo_from_bytea(4711, 'x')".to_owned()];
    for place in others.iter().map(PathBuf::as_path).chain([bait.path()]) {
        let place = place.display();
        attempts.push(format!("COPY (SELECT 1) TO PROGRAM 'touch {place}/program; rm -f {place}/treasure'"));
        attempts.push(format!("COPY (SELECT 1) TO '{place}/copied'"));
        attempts.push(format!("PERFORM lo_export(4711, '{place}/exported')"));
    }
    for host in bait.hosts()? {
        attempts.push(format!("PERFORM public.dblink_connect('{host}')"));
    }
    let blocks: Vec<_> = attempts
        .iter()
        .map(|what| format!("BEGIN {what}; EXCEPTION WHEN OTHERS THEN NULL; END;\n"))
        .collect();
    Ok(format!(
        "CREATE EXTENSION IF NOT EXISTS dblink WITH SCHEMA public;\n\
         CREATE FUNCTION public.evil() RETURNS int LANGUAGE plpgsql AS $evil$ BEGIN\n{}RETURN 1; END $evil$;\n\
         SELECT public.evil();\n",
        blocks.concat()
    ))
}

#[test]
fn nothing_gets_out() {
    if !tools() {
        return;
    }
    let fixture = Fixture::shared().unwrap();
    let place = Place::new(&fixture, "").unwrap();
    let bait = Bait::new().unwrap();
    // Not permissions are to keep them out.
    for name in ["repository", "repository/data", "repository/snapshots", "repository/config", "home"] {
        open_to_all(&place.path(name));
    }
    let others = ["repository", "home", "scratch", "temporary"].map(|name| place.path(name));
    let treasure = bait.path().display();
    let reach = bait.hosts().unwrap().remove(0);
    let attacks = [
        ("evil-shell", format!("\\! touch {treasure}/shell\n")),
        ("evil-program", format!("COPY public.orders TO PROGRAM 'touch {treasure}/program';\n")),
        (
            "evil-dblink",
            format!(
                "CREATE EXTENSION dblink WITH SCHEMA public;\nSELECT public.dblink_connect('{reach}');\n"
            ),
        ),
        ("evil-hidden", hidden(&bait, &others).unwrap()),
    ];
    let (repository, now) = (place.repository().unwrap(), SystemClock.now());
    let source = folder();
    let dump = fixture.dump().unwrap();
    for (tag, attack) in &attacks {
        let content = dump.replacen(COMPLETE, &format!("{attack}\n{COMPLETE}"), 1);
        back_up(&repository, source.path(), tag, "shop.sql", content.as_bytes(), now).unwrap();
    }
    let before = listing(bait.path()).unwrap();
    let tags = attacks.each_ref().map(|(tag, _)| *tag);
    let mut answers = Vec::new();
    for runtime in runtimes() {
        let answer = place.drill(runtime.word(), &tags).unwrap();
        assert_eq!(bait.heard().unwrap(), Vec::<&str>::new(), "{runtime:?}");
        assert_eq!(listing(bait.path()).unwrap(), before, "{runtime:?}");
        for (tag, code) in [
            ("evil-shell", "postgres.meta_command"),
            ("evil-program", "postgres.reaches_out"),
            ("evil-dblink", "postgres.reaches_out"),
        ] {
            let drill = answer.drill(tag).unwrap();
            assert!(answer.codes(tag).unwrap().contains(code), "{runtime:?}: {}", told(drill));
            assert_ne!(drill.verdict, Verdict::Verified, "{runtime:?}: {}", told(drill));
        }
        let hidden = answer.examination("evil-hidden", "postgres").unwrap();
        assert!(hidden.engine.is_some(), "{runtime:?}: it was loaded");
        answers.push(answer);
    }
    if let [one, other] = answers.as_slice() {
        for tag in tags {
            let (left, right) = (one.drill(tag).unwrap(), other.drill(tag).unwrap());
            assert_eq!(left.verdict, right.verdict, "{}\n{}", told(left), told(right));
            assert_eq!(one.codes(tag).unwrap(), other.codes(tag).unwrap(), "{}\n{}", told(left), told(right));
        }
    }
}

/// A test that cannot fail is a bug: where nothing seals them in, the same words do what they say.
#[test]
fn outside_of_a_cell_it_would_get_out() {
    if !tools() {
        return;
    }
    let bait = Bait::new().unwrap();
    let outside = || -> Result<()> {
        let server = Postgres::start()?;
        server.sql("postgres", &hidden(&bait, &[])?)?;
        for name in ["program", "copied", "exported"] {
            ensure!(bait.path().join(name).exists(), "{name} was not written");
        }
        ensure!(!bait.path().join("treasure").exists(), "the treasure is still there");
        Ok(())
    };
    outside().unwrap();
    assert_eq!(bait.heard().unwrap(), ["tcp", "unix", "abstract"]);
}
