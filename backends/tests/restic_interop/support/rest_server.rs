//! A real rest-server on a port of this machine, stopped when dropped.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::tools::{Workplace, find, need, run};

/// How the server is set up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    /// Asks for a user name and password; see [`USER`] and [`PASSWORD`].
    pub(crate) passwords: bool,
    /// Each user sees only what lies below the own name.
    pub(crate) private: bool,
    /// Nothing but locks may be deleted.
    pub(crate) append_only: bool,
    /// Speaks TLS with a certificate of an authority that nobody else knows.
    pub(crate) tls: bool,
}

pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "wonder:land%/@";

/// A running rest-server.
pub(crate) struct RestServer {
    child: Child,
    setup: Setup,
    pub(crate) address: SocketAddr,
    /// What it serves.
    pub(crate) folder: PathBuf,
    /// The authority that signed its certificate.
    pub(crate) authority: Option<PathBuf>,
}

impl RestServer {
    /// Starts one in `place`; nothing when the program is not installed (which it says).
    pub(crate) fn start(place: &Workplace, setup: Setup) -> Option<Self> {
        let program = need("rest-server")?;
        let folder = place.folder("served");
        let mut arguments = vec!["--path".to_owned(), folder.display().to_string()];
        if setup.passwords {
            let file = place.path("htpasswd");
            run(Command::new(need("htpasswd")?).args(["-cbB"]).arg(&file).args([USER, PASSWORD]));
            arguments.extend(["--htpasswd-file".to_owned(), file.display().to_string()]);
        } else {
            arguments.push("--no-auth".to_owned());
        }
        for (wanted, argument) in [(setup.private, "--private-repos"), (setup.append_only, "--append-only")] {
            if wanted {
                arguments.push(argument.to_owned());
            }
        }
        let authority = setup.tls.then(|| certificates(&place.folder("tls")));
        if let Some(authority) = &authority {
            let file = |name: &str| authority.with_file_name(name).display().to_string();
            arguments.extend(["--tls".to_owned(), "--tls-cert".to_owned(), file("server.crt")]);
            arguments.extend(["--tls-key".to_owned(), file("server.key")]);
        }
        // Somebody else may take the free port first; then there is another one.
        (0..5).find_map(|_| {
            let address = free_port();
            let mut child = spawn(&program, &arguments, address);
            answers(address, &mut child).then(|| Self {
                child,
                setup,
                address,
                folder: folder.clone(),
                authority: authority.clone(),
            })
        })
    }

    /// The URL of the repository `name`, through `address` (the server's own, or a proxy's).
    pub(crate) fn url_through(&self, address: SocketAddr, name: &str) -> String {
        let scheme = if self.setup.tls { "https" } else { "http" };
        let user = if self.setup.passwords {
            format!(
                "{USER}:{}@",
                PASSWORD.replace('%', "%25").replace('/', "%2F").replace('@', "%40").replace(':', "%3A")
            )
        } else {
            String::new()
        };
        let home = if self.setup.private { format!("{USER}/") } else { String::new() };
        format!("rest:{scheme}://{user}{address}/{home}{name}/")
    }

    pub(crate) fn url(&self, name: &str) -> String {
        self.url_through(self.address, name)
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("it has an address")
}

fn spawn(program: &Path, arguments: &[String], address: SocketAddr) -> Child {
    // When the test is killed, the server must not stay behind.
    let mut command = match find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(arguments).args(["--listen", &address.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("rest-server starts")
}

fn answers(address: SocketAddr, child: &mut Child) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            return false;
        }
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// Makes an authority and a server certificate signed by it; returns the authority's certificate.
fn certificates(folder: &Path) -> PathBuf {
    let openssl = |arguments: &[&str]| {
        run(Command::new("openssl").args(arguments).current_dir(folder));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority =
        ["-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/CN=an authority for tests"];
    openssl(
        &[&["req", "-x509"][..], &key, &authority, &["-addext", "keyUsage=critical,keyCertSign"]].concat(),
    );
    openssl(
        &[&["req"][..], &key, &["-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1"]]
            .concat(),
    );
    let extensions =
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n";
    std::fs::write(folder.join("extensions"), extensions).expect("write");
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&sign[..], &["-days", "30", "-out", "server.crt", "-extfile", "extensions"]].concat());
    folder.join("ca.crt")
}
