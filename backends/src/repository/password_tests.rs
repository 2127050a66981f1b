use std::fs;

use super::*;

fn env(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from_file(content: &[u8]) -> Result<Secret> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, content).unwrap();
    PasswordSource::File(file).read()
}

fn from_command(command: &str) -> Result<Secret> {
    PasswordSource::Command(command.to_owned()).read_within(Duration::from_secs(10))
}

#[test]
fn flags_come_before_files_before_the_variable() {
    let all = env(&[("RESTIC_PASSWORD_FILE", "/f"), ("RESTIC_PASSWORD", "p")]);
    let file = Path::new("/flag");
    let resolve = PasswordSource::resolve;
    assert_eq!(resolve(Some(file), None, &all).unwrap(), PasswordSource::File("/flag".into()));
    assert_eq!(resolve(None, Some("cmd"), &all).unwrap(), PasswordSource::Command("cmd".into()));
    assert_eq!(resolve(None, None, &all).unwrap(), PasswordSource::File("/f".into()));
    let command = env(&[("RESTIC_PASSWORD_COMMAND", "cmd"), ("RESTIC_PASSWORD", "p")]);
    assert_eq!(resolve(None, None, &command).unwrap(), PasswordSource::Command("cmd".into()));
    let variable = env(&[("RESTIC_PASSWORD", " p "), ("RESTIC_PASSWORD_FILE", "")]);
    let source = resolve(None, None, &variable).unwrap();
    assert_eq!(source.read().unwrap().reveal(), " p ", "restic does not trim the variable");
}

#[test]
fn two_sources_exclude_each_other() {
    let both = env(&[("RESTIC_PASSWORD_FILE", "/f"), ("RESTIC_PASSWORD_COMMAND", "cmd")]);
    let error = PasswordSource::resolve(None, None, &both).unwrap_err();
    assert!(error.kind == ErrorKind::Usage && error.chain().contains("exclude each other"));
    let flags = PasswordSource::resolve(Some(Path::new("/f")), Some("cmd"), &env(&[])).unwrap_err();
    assert!(flags.chain().contains("--password-file and --password-command"));
    let none = PasswordSource::resolve(None, None, &env(&[("RESTIC_PASSWORD", "")])).unwrap_err();
    assert!(none.chain().contains("RESTIC_PASSWORD_COMMAND"), "{}", none.chain());
}

#[test]
fn files_are_trimmed_and_decoded_as_restic_does() {
    assert_eq!(from_file(b"secret\n").unwrap().reveal(), "secret");
    assert_eq!(from_file(b" two words \r\n\n").unwrap().reveal(), "two words");
    assert_eq!(from_file(b"\xef\xbb\xbfsecret\n").unwrap().reveal(), "secret");
    assert_eq!(from_file(b"\xff\xfep\0\xe4\0\n\0").unwrap().reveal(), "p\u{e4}");
    assert_eq!(from_file(b"\xfe\xff\0p\0\xe4").unwrap().reveal(), "p\u{e4}");
    for (content, reason) in [(&b""[..], "empty"), (b" \n", "empty"), (b"\xff\xff", "UTF-8")] {
        let error = from_file(content).unwrap_err();
        assert!(error.kind == ErrorKind::Usage && error.chain().contains(reason), "{}", error.chain());
    }
    let large = from_file(&vec![b'x'; 2 << 20]).unwrap_err();
    assert!(large.chain().contains("1 MiB"));
    let missing = PasswordSource::File("/no/such/file".into()).read().unwrap_err();
    assert!(missing.chain().contains("/no/such/file") && missing.kind == ErrorKind::Usage);
}

#[test]
fn commands_run_without_a_shell() {
    assert_eq!(from_command("printf '%s\\n' 'it is \"quoted\"'").unwrap().reveal(), "it is \"quoted\"");
    assert_eq!(from_command("echo '$HOME;' `id`").unwrap().reveal(), "$HOME; `id`");
    assert_eq!(from_command("echo \"  spaced  \"").unwrap().reveal(), "spaced");
}

#[test]
fn failing_commands_say_so_without_their_secrets() {
    for (command, reason) in [
        ("sh -c 'echo hunter2; exit 3'", "exit status: 3"),
        ("sh -c 'kill -9 $$; hunter2'", "signal: 9"),
        ("no-such-program hunter2", "does not start"),
        ("true hunter2", "empty"),
        ("sh -c 'hunter2", "quote"),
        ("   ", "empty"),
    ] {
        let error = from_command(command).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.chain().contains(reason), "{command}: {}", error.chain());
        assert!(!error.chain().contains("hunter2"), "{}", error.chain());
    }
    let source = PasswordSource::Command("pass show hunter2".to_owned());
    assert_eq!(format!("{source} {source:?}"), "command `pass` PasswordSource(command `pass`)");
}

#[test]
fn slow_commands_and_pipes_are_given_up() {
    let started = Instant::now();
    let limit = Duration::from_millis(300);
    let slow = PasswordSource::Command("sleep 60".to_owned()).read_within(limit).unwrap_err();
    assert!(slow.chain().contains("killed"), "{}", slow.chain());
    // A grandchild that lives on keeps the pipe open.
    let held = PasswordSource::Command("sh -c 'sleep 2 & echo secret'".to_owned());
    assert!(held.read_within(limit).unwrap_err().chain().contains("too long"));
    // Output without end is not collected for ever.
    let endless = PasswordSource::Command("yes".to_owned()).read_within(limit).unwrap_err();
    assert!(endless.kind == ErrorKind::Usage, "{}", endless.chain());
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(PasswordSource::File(pipe).read_within(limit).unwrap_err().chain().contains("too long"));
    assert!(started.elapsed() < Duration::from_secs(5));
}
