//! Tries a seal from inside, the same way for all runtimes, before anything restored is brought in.
//!
//! A script in the cell looks at who it is, what it can write, what its environment holds, and tries to reach
//! decoys: listeners of ours that stand for production servers (on this machine's loopback address, on all of its other
//! addresses, such as that of a bridge to containers, on a unix socket), and an address that looks like the internet. A decoy that was reached is a breach,
//! whoever says otherwise. What cannot be tried counts as unproven.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use super::unique;
use firedrill_core::cell::{Cell, Pipes, Program, SealPart, SealState};
use firedrill_core::error::{Error, ErrorKind, Result};

const SCRIPT: &str = include_str!("seal.sh");

/// An address that looks like the internet: a public name server. Nothing is sent to it but an attempt to connect.
const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), 53);
/// One attempt to connect may take this long.
const ATTEMPT: Duration = Duration::from_secs(2);
/// At most this many addresses of this machine are tried.
const ADDRESSES_MAX: usize = 16;
/// Variables that each cell has, or that say nothing.
const PLAIN_VARIABLES: [&str; 12] =
    ["PATH", "HOME", "LANG", "TZ", "PWD", "OLDPWD", "SHLVL", "HOSTNAME", "TERM", "_", "LC_ALL", "USER"];
/// Parts of names of variables that hold secrets.
const SECRET_NAMES: [&str; 8] =
    ["PASSWORD", "SECRET", "TOKEN", "CREDENTIAL", "ACCESS_KEY", "RESTIC_", "AWS_", "KUBECONFIG"];

/// Tries every part of the seal of `cell` that can be tried from inside, where the programs of `kit` run: all but
/// the limits.
pub(super) fn try_from_inside(cell: &dyn Cell, kit: &str) -> Result<BTreeMap<SealPart, SealState>> {
    let decoys = Decoys::new()?;
    let mut arguments = vec!["-c".to_owned(), SCRIPT.to_owned(), "seal".to_owned()];
    arguments.push(decoys.socket.display().to_string());
    arguments.extend(decoys.addresses().iter().map(|a| format!("{} {}", a.ip(), a.port())));
    let program = Program {
        kit: kit.to_owned(),
        program: "/bin/sh".to_owned(),
        arguments,
        limit: Some(Duration::from_secs(60)),
        ..Program::default()
    };
    let ended = cell.run(&program, Pipes::default())?;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    if !said.lines().any(|line| line == "done") {
        return Err(Error::new(ErrorKind::Unsealed, "try the seal")
            .because(format!("the cell cannot run the script that tries it: {}", ended.describe())));
    }
    let said = Said::new(&said);
    Ok(BTreeMap::from([
        (SealPart::Network, decoys.network(&said)?),
        (SealPart::Files, files(&said)),
        (SealPart::User, user(&said)),
        (SealPart::Environment, environment(&said)),
    ]))
}

/// Adds what was seen in another part of the same cell. The worst counts.
pub(super) fn merge(seen: &mut BTreeMap<SealPart, SealState>, other: BTreeMap<SealPart, SealState>) {
    let badness = |state: &SealState| match state {
        SealState::Holds(_) => 0,
        SealState::Unproven(_) => 1,
        SealState::Breached(_) => 2,
    };
    for (part, state) in other {
        if seen.get(&part).is_none_or(|known| badness(known) < badness(&state)) {
            seen.insert(part, state);
        }
    }
}

/// What the script said: lines of a word and a text.
struct Said<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Said<'a> {
    fn new(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.split_once(' ')).collect())
    }

    fn all(&self, word: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(w, _)| *w == word).map(|(_, text)| *text)
    }

    fn one(&self, word: &str) -> Option<&'a str> {
        self.all(word).next()
    }
}

/// Listeners that stand for production servers.
struct Decoys {
    listeners: Vec<TcpListener>,
    unix: UnixListener,
    socket: PathBuf,
    _folder: Removed,
}

impl Decoys {
    fn new() -> Result<Self> {
        let failed = |e: &dyn std::error::Error| {
            Error::new(ErrorKind::Unsealed, "set up the decoys that try the seal").from_source(e)
        };
        let mut listeners = Vec::new();
        let first = [Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), own_address()];
        for address in first.into_iter().flatten() {
            listeners.push(listen(address).and_then(answering).map_err(|e| failed(&e))?);
        }
        for address in own_addresses() {
            let known = |l: &TcpListener| l.local_addr().is_ok_and(|known| known.ip() == address);
            if listeners.len() < ADDRESSES_MAX && !listeners.iter().any(known) {
                // An address may have gone meanwhile: bridges come and go.
                listeners.extend(listen(address).and_then(answering));
            }
        }
        let folder = std::env::temp_dir().join(format!("firedrill-decoy-{}", unique()));
        std::fs::create_dir(&folder).map_err(|e| failed(&e))?;
        let removed = Removed(folder.clone());
        let socket = folder.join("s");
        let unix = UnixListener::bind(&socket).map_err(|e| failed(&e))?;
        unix.set_nonblocking(true).map_err(|e| failed(&e))?;
        let decoys = Self { listeners, unix, socket, _folder: removed };
        decoys.answer_outside().map_err(|e| failed(&e))?;
        Ok(decoys)
    }

    /// A decoy that nobody can reach would prove nothing.
    fn answer_outside(&self) -> std::io::Result<()> {
        std::os::unix::net::UnixStream::connect(&self.socket)?;
        self.unix.accept()?;
        Ok(())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let own = self.listeners.iter().filter_map(|listener| listener.local_addr().ok());
        own.chain([PUBLIC]).collect()
    }

    fn network(&self, said: &Said<'_>) -> Result<SealState> {
        for listener in &self.listeners {
            if let Ok((_, from)) = listener.accept() {
                let decoy = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
                return Ok(SealState::Breached(format!("the decoy at {decoy} was reached from {from}")));
            }
        }
        if self.unix.accept().is_ok() || said.one("socket") == Some("there") {
            return Ok(SealState::Breached(
                "the decoy at a unix socket of this machine can be seen".to_owned(),
            ));
        }
        let mut tried = Vec::new();
        let mut silent = Vec::new();
        for address in self.addresses() {
            let key = format!("{} {} ", address.ip(), address.port());
            let Some(result) = said.all("connect").find_map(|line| line.strip_prefix(&key)) else {
                return Ok(SealState::Unproven(format!("the cell did not try to reach {address}")));
            };
            let result = result.to_lowercase();
            let loopback = address.ip().is_loopback();
            if result.starts_with("reached") {
                return Ok(SealState::Breached(format!("{address} was reached")));
            } else if result.starts_with("no tool") {
                return Ok(SealState::Unproven(
                    "there is neither bash nor nc in the cell to try a connection with".to_owned(),
                ));
            } else if result.contains("unreachable") || result.contains("no route") {
                tried.push(address.to_string());
            } else if result.contains("refused") && loopback {
                // Its own loopback address, on which nobody listens.
                tried.push(address.to_string());
            } else if result.contains("refused") || result.contains("reset") {
                return Ok(SealState::Breached(format!("{address} answered: {result}")));
            } else {
                silent.push(address.to_string());
            }
        }
        let interfaces: Vec<_> = said.all("interface").filter(|name| *name != "lo").collect();
        if !silent.is_empty() && !interfaces.is_empty() {
            // A firewall that drops packets looks like this; so does a network that is slow today.
            return Ok(SealState::Unproven(format!(
                "{} did not answer, but the cell has the network interface {}",
                silent.join(", "),
                interfaces.join(", ")
            )));
        }
        tried.extend(silent);
        Ok(SealState::Holds(format!("{} could not be reached", tried.join(", "))))
    }
}

fn files(said: &Said<'_>) -> SealState {
    let written: Vec<_> = said.all("wrote").collect();
    if !written.is_empty() {
        return SealState::Breached(format!("{} can be written", written.join(", ")));
    }
    match said.one("own") {
        Some("written") => SealState::Holds("only the cell's own folders could be written".to_owned()),
        _ => SealState::Unproven("not even the cell's own folder could be written".to_owned()),
    }
}

fn user(said: &Said<'_>) -> SealState {
    let Some(uid) = said.one("uid") else { return SealState::Unproven("nobody knows who it is".to_owned()) };
    if uid == "0" {
        return SealState::Breached("programs run as root".to_owned());
    }
    let zero = |text: &str| text.trim_start_matches('0').is_empty();
    match (said.one("capabilities"), said.one("no_new_privileges")) {
        (Some(capabilities), _) if !zero(capabilities) => {
            SealState::Breached(format!("programs have capabilities: {capabilities}"))
        }
        (Some(_), Some("1")) => SealState::Holds(format!("user {uid}, no capabilities, no way to get any")),
        _ => SealState::Unproven(format!("user {uid} may gain privileges")),
    }
}

/// The cell's environment is compared with ours: nothing of it may be inside but what every program has.
fn environment(said: &Said<'_>) -> SealState {
    let mut count = 0;
    for line in said.all("variable") {
        let Some((name, value)) = line.split_once('=') else { continue };
        count += 1;
        if PLAIN_VARIABLES.contains(&name) {
            continue;
        }
        let upper = name.to_uppercase();
        let ours = std::env::var_os(name).is_some_and(|own| !value.is_empty() && own.to_str() == Some(value));
        if ours || SECRET_NAMES.iter().any(|part| upper.contains(part)) {
            return SealState::Breached(format!("the variable {name} came in from outside"));
        }
    }
    match count {
        0 => SealState::Unproven("the environment could not be listed".to_owned()),
        n => SealState::Holds(format!("{n} variables, none of them ours")),
    }
}

fn listen(address: IpAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((address, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Fails unless the listener can be reached from here.
fn answering(listener: TcpListener) -> std::io::Result<TcpListener> {
    TcpStream::connect_timeout(&listener.local_addr()?, ATTEMPT)?;
    listener.accept()?;
    Ok(listener)
}

/// Every address of this machine, as far as the kernel lists them, without loopback and link-local ones.
fn own_addresses() -> BTreeSet<IpAddr> {
    let routes = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let six = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    addresses_in(&routes, &six)
}

fn addresses_in(routes: &str, six: &str) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in routes.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last.filter(|a| !a.is_loopback() && !a.is_link_local()).map(IpAddr::V4));
        }
    }
    for line in six.lines() {
        let mut words = line.split_whitespace();
        let (address, scope) = (words.next(), words.nth(2));
        let number = address.and_then(|address| u128::from_str_radix(address, 16).ok());
        // Scope 0 is global.
        found.extend(number.filter(|_| scope == Some("00")).map(|n| IpAddr::V6(Ipv6Addr::from_bits(n))));
    }
    found
}

/// The address by which this machine reaches others, if it has one. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(PUBLIC).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// A folder that is removed with this.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(check: impl Fn(&Said<'_>) -> SealState, text: &str) -> SealState {
        check(&Said::new(text))
    }

    fn holds(state: &SealState) -> bool {
        matches!(state, SealState::Holds(_))
    }

    #[test]
    fn root_and_capabilities_are_breaches_and_silence_proves_nothing() {
        let good = "uid 65532\ncapabilities 0000000000000000\nno_new_privileges 1\n";
        assert!(holds(&state(user, good)));
        for bad in [
            good.replace("65532", "0"),
            good.replace("0000000000000000", "00000000a80425fb"),
            good.replace("privileges 1", "privileges 0"),
            String::new(),
        ] {
            assert!(!holds(&state(user, &bad)), "{bad}");
        }
        assert!(holds(&state(files, "own written\n")));
        assert!(!holds(&state(files, "own written\nwrote /usr\n")) && !holds(&state(files, "")));
        assert!(holds(&state(environment, "variable PATH=/bin\nvariable PG_MAJOR=15\n")));
        assert!(!holds(&state(environment, "variable AWS_REGION=x\n")) && !holds(&state(environment, "")));
        let own =
            std::env::vars().find(|(n, v)| !v.is_empty() && !PLAIN_VARIABLES.contains(&n.as_str())).unwrap();
        assert!(!holds(&state(
            environment,
            &format!("variable {}={}\n", own.0, own.1.lines().next().unwrap())
        )));
    }

    #[test]
    fn all_addresses_of_this_machine_are_known() {
        let routes = "Main:\n  |-- 0.0.0.0\n     /0 universe UNICAST\nLocal:\n  |-- 10.0.0.0\n     /24 link BROADCAST\n\
            \x20 |-- 10.0.0.5\n     /32 host LOCAL\n  |-- 127.0.0.1\n     /32 host LOCAL\n  |-- 172.18.0.1\n     /32 host LOCAL\n";
        let six = "00000000000000000000000000000001 01 80 10 80 lo\nfd000000000000000000000000000001 02 40 00 80 eth0\n\
            fe800000000000000000000000000001 02 40 20 80 eth0\n";
        let expected: BTreeSet<IpAddr> =
            ["10.0.0.5", "172.18.0.1", "fd00::1"].iter().map(|a| a.parse().unwrap()).collect();
        assert_eq!(addresses_in(routes, six), expected);
        if let Some(own) = own_address() {
            assert!(own_addresses().contains(&own));
        }
    }

    #[test]
    fn the_worst_of_several_containers_counts() {
        let states = || {
            [SealState::Holds("a".into()), SealState::Unproven("b".into()), SealState::Breached("c".into())]
        };
        for (i, one) in states().into_iter().enumerate() {
            for (j, other) in states().into_iter().enumerate() {
                let mut seen = BTreeMap::new();
                merge(&mut seen, BTreeMap::from([(SealPart::User, one.clone())]));
                merge(&mut seen, BTreeMap::from([(SealPart::User, other)]));
                assert_eq!(seen.get(&SealPart::User), states().get(i.max(j)));
            }
        }
    }

    #[test]
    fn a_decoy_that_was_reached_is_a_breach_whatever_the_script_says() {
        let quiet = |decoys: &Decoys| {
            decoys.addresses().iter().fold("interface lo\n".to_owned(), |text, a| {
                format!("{text}connect {} {} Network is unreachable\n", a.ip(), a.port())
            })
        };
        let decoys = Decoys::new().unwrap();
        let text = quiet(&decoys);
        assert!(holds(&decoys.network(&Said::new(&text)).unwrap()));
        assert!(!holds(&decoys.network(&Said::new("")).unwrap()), "nothing was tried");
        for (from, to) in [
            ("is unreachable", "refused"),
            ("Network is unreachable", "reached"),
            ("Network is unreachable", "no tool"),
        ] {
            let text = text.replace(from, to);
            assert!(!holds(&decoys.network(&Said::new(&text)).unwrap()), "{to}");
        }
        let slow = text.replace("Network is unreachable", "timed out");
        assert!(holds(&decoys.network(&Said::new(&slow)).unwrap()));
        let slow = slow.replace("interface lo", "interface lo\ninterface eth0");
        assert!(!holds(&decoys.network(&Said::new(&slow)).unwrap()), "silence is no proof beside a network");
        TcpStream::connect(decoys.addresses()[0]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(!holds(&decoys.network(&Said::new(&text)).unwrap()));
    }
}
