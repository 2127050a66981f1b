//! `firedrill faults`: the catalogue, for people.

use std::fmt::Write as _;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::verdict::Exit;
use firedrill_scenarios::chaos::{Class, FAULTS, Fault, named};

use crate::args::{FaultsArgs, FaultsCommand};
use crate::print;

/// Lines of text are no longer.
const WIDTH: usize = 100;

pub(crate) fn faults(args: &FaultsArgs) -> Result<Exit> {
    match &args.command {
        None => print(&list()),
        Some(FaultsCommand::Show { name }) => print(&card(known(name)?)),
    }
    Ok(Exit::Verified)
}

/// The fault called `name`.
pub(super) fn known(name: &str) -> Result<&'static Fault> {
    named(name).ok_or_else(|| {
        let near = FAULTS
            .iter()
            .map(|fault| fault.name)
            .filter(|known| known.split('-').any(|word| name.split('-').any(|typed| typed == word)));
        let near: Vec<_> = near.take(5).collect();
        let error = Error::new(ErrorKind::Usage, format!("find the fault {name}"));
        let error =
            if near.is_empty() { error } else { error.because(format!("there is {}", near.join(", "))) };
        error.advise("`firedrill faults` lists them")
    })
}

fn list() -> String {
    let width = FAULTS.iter().map(|fault| fault.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for class in Class::ALL {
        let _ = writeln!(text, "{class}");
        for fault in FAULTS.iter().filter(|fault| fault.class == class) {
            let _ = writeln!(text, "  {:width$}  {}", fault.name, fault.summary);
        }
    }
    let _ = writeln!(text, "\n{} faults; `firedrill faults show NAME` explains one", FAULTS.len());
    text
}

fn card(fault: &Fault) -> String {
    let mut text = format!("{} ({}): {}\n", fault.name, fault.class, fault.summary);
    for (title, words) in [
        ("What happens", fault.what),
        ("How one would notice", fault.notice),
        ("What to do", fault.act),
        ("Not verified", fault.not_verified),
    ] {
        let _ = write!(text, "\n{title}\n{}", wrapped(words));
    }
    let _ = write!(text, "\nFindings that explain it\n{}", wrapped(&fault.codes.join(", ")));
    if !fault.seen.is_empty() {
        let _ = write!(text, "\nSeen in\n{}", wrapped(&fault.seen.join(", ")));
    }
    text
}

fn wrapped(words: &str) -> String {
    let mut text = String::new();
    let mut line = String::from(" ");
    for word in words.split_whitespace() {
        if line.len() + word.len() + 1 > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
    text
}
