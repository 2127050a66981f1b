//! What says nothing about a dump: errors that psql rightly goes on after, software that the engine lacks, and where
//! a `\connect` leads.

use super::statement::Statement;
use super::supply::Supplied;
use super::wire::{ServerError, shown};

/// Whether a statement begins or ends a transaction.
pub(super) fn is_about_transactions(sql: &[u8]) -> bool {
    let statement = Statement::new(sql);
    ["begin", "commit", "end", "rollback", "abort", "savepoint", "release", "start", "prepare"]
        .iter()
        .any(|word| statement.begins(&[word]))
}

/// The database in the argument of a `\connect`; `None` for anything that leads to another server or user.
pub(super) fn database(argument: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(argument).ok()?.trim();
    let text = text.strip_prefix("-reuse-previous=on").map_or(text, str::trim_start);
    let unquoted = |quote: char| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        Some(inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
    };
    let name = match unquoted('"').or_else(|| unquoted('\'')) {
        Some(name) => name,
        None if text.chars().any(char::is_whitespace) => return None,
        None => text.to_owned(),
    };
    let name = match name.strip_prefix("dbname=") {
        None => name,
        Some(value) => match value.strip_prefix('\'') {
            None => value.to_owned(),
            Some(value) => value.strip_suffix('\'')?.replace("\\'", "'").replace("\\\\", "\\"),
        },
    };
    let leads_elsewhere = name.contains("://") || name.contains('\0') || name == "-" || name.contains('`');
    let is_info = name.contains('=') && argument.starts_with(b"host");
    (!name.is_empty() && !leads_elsewhere && !is_info).then_some(name)
}

/// Errors that psql would tell of and go on after, rightly.
pub(super) fn forgivable(
    statement: &Statement<'_>,
    error: &ServerError,
    supplied: &Supplied,
) -> Option<String> {
    let code = error.code.as_str();
    let first = || format!("not everything was there before: {}", shown(&error.message, 120));
    let never_there = ["42P01", "42704", "42883", "3F000", "3D000", "42703", "2BP01", "42710", "0LP01"];
    let unlinks = statement.begins(&["select"]) && statement.head.iter().any(|token| token.is("lo_unlink"));
    if (statement.drops() || unlinks) && never_there.contains(&code) {
        return Some(format!(
            "--clean: some things to drop were not there, such as: {}",
            shown(&error.message, 100)
        ));
    }
    if statement.sets() && code == "42704" && error.message.contains("configuration parameter") {
        return Some(format!("a setting is unknown to this engine: {}", shown(&error.message, 120)));
    }
    let public = code == "42P06" && error.message.contains("\"public\"");
    let language = matches!(code, "42710") && error.message.contains("\"plpgsql\"");
    let database =
        code == "42P04" && ["\"postgres\"", "\"template1\""].iter().any(|n| error.message.contains(n));
    let role = code == "42710" && statement.made_role().is_some_and(|role| supplied.roles.contains(&role));
    (public || language || database || role).then(first)
}

/// The extension or library that the engine lacks.
pub(super) fn missing_software(statement: &Statement<'_>, error: &ServerError) -> Option<String> {
    let unavailable = matches!(error.code.as_str(), "0A000" | "58P01" | "55000" | "F0000");
    if statement.begins(&["create", "extension"]) && unavailable {
        let version = statement.head.iter().skip_while(|token| !token.is("version")).nth(1);
        let version = version.map_or(String::new(), |version| format!(" {}", version.text));
        let name = statement.name_after(2).unwrap_or_default();
        return Some(format!("the extension {}{version}", shown(&name, 80)));
    }
    // A dump of some schemas alone leaves the extension out, and not what needs it.
    if error.code == "3F000" && error.message.contains("\"_timescaledb_") {
        return Some("the extension timescaledb".to_owned());
    }
    let library = error.code == "58P01" && error.message.contains("could not access file");
    library.then(|| format!("a library: {}", shown(&error.message, 120)))
}

/// Whether an error says that another server could not be reached.
pub(super) fn is_about_other_servers(error: &ServerError) -> bool {
    ["08", "HV", "28"].iter().any(|class| error.code.starts_with(class)) || error.code == "2F003"
}

/// Whether an error tells of something behind the statement itself, a function or a trigger, that looked for another
/// server, a program or a file of the server. What a statement does openly is never executed.
pub(super) fn has_reached_out(error: &ServerError) -> bool {
    error.context.contains("function ") && is_about_the_outside(error)
}

/// Whether an error is about another server, a program or a file of the server.
pub(super) fn is_about_the_outside(error: &ServerError) -> bool {
    let of_file = ["file", "directory", "command", "program"].iter().any(|word| error.message.contains(word));
    match error.code.as_str() {
        "08000" | "08001" | "08003" | "08004" | "08006" | "2F003" => true,
        // A program that failed, or one that could not be started.
        "38000" | "XX000" => {
            error.message.starts_with("program ") || error.message.contains("execute command")
        }
        // Not 58030: that is a disk that fails.
        "42501" | "58P01" | "58P02" | "42809" => of_file && error.message.starts_with("could not "),
        _ => false,
    }
}
