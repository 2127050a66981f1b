//! The databases of an application: found in the snapshot, and loaded into engines in its cell.

use firedrill_core::cell::{Cell, Kit, Service};
use firedrill_core::config::databases::{AppDatabase, Engine};
use firedrill_core::config::trials::AppConfig;
use firedrill_core::finding::Finding;

use super::DATA;
use super::start::Stop;
use crate::probe::engine::served::{Account, Backup, Place, Unfound, Wanted, serve};
use crate::probe::engine::session::Session;

/// A server that an application needs, with its name.
pub(super) type Server = (String, Box<dyn Service>);

/// A database of the config, its engine and its backup.
pub(super) struct Needed<'a> {
    config: &'a AppDatabase,
    engine: Engine,
    backup: Backup,
}

/// Finds the backups of all databases. What is missing is a finding.
pub(super) fn find<'a>(session: &mut Session<'_>, app: &'a AppConfig) -> Result<Vec<Needed<'a>>, Stop> {
    let mut needed = Vec::new();
    let mut missing = Vec::new();
    for config in &app.databases {
        // The config was checked; a plan from elsewhere was not.
        let Some((engine, path)) = config.backup() else {
            return Err(Stop::Trouble(format!("the database {} names no backup", config.database)));
        };
        let expected =
            format!("a backup of {engine} with the database {} for {}", config.database, app.kit());
        let seen = match Backup::find(session, engine, path) {
            Ok(backup) => {
                needed.push(Needed { config, engine, backup });
                continue;
            }
            Err(Unfound::Nothing) => "no such file or folder in the snapshot".to_owned(),
            Err(Unfound::Other(what)) => what,
            Err(Unfound::Ours(why)) => return Err(Stop::Trouble(why)),
            Err(Unfound::Told) => return Err(Stop::Told),
        };
        missing.push(Finding::damage(DATA, path, expected, seen));
    }
    let Some(last) = missing.pop() else { return Ok(needed) };
    missing.into_iter().for_each(|finding| session.find(finding));
    Err(Stop::finding(last))
}

/// All software of an application with its databases. Kits of one name become one that fits all.
pub(super) fn kits(app: &AppConfig, needed: &[Needed<'_>]) -> Vec<Kit> {
    let mut kits = app.kits();
    for kit in needed.iter().map(|one| one.backup.kit()) {
        let Some(known) = kits.iter_mut().find(|known| known.name == kit.name) else {
            kits.push(kit);
            continue;
        };
        known.at_least = known.at_least.max(kit.at_least);
        known.at_most = [known.at_most, kit.at_most].into_iter().flatten().min();
        // The first program tells the version, and that has to be the one of the engine.
        let own = std::mem::replace(&mut known.programs, kit.programs);
        for program in own {
            if !known.programs.contains(&program) {
                known.programs.push(program);
            }
        }
    }
    kits
}

/// Loads all databases, those of each engine into one server.
pub(super) fn load(
    session: &mut Session<'_>,
    cell: &dyn Cell,
    app: &AppConfig,
    needed: &[Needed<'_>],
) -> Result<Vec<Server>, Stop> {
    let mut servers = Vec::new();
    for engine in [Engine::Postgres, Engine::Mariadb] {
        let of: Vec<_> = needed.iter().filter(|one| one.engine == engine).collect();
        let Some(first) = of.first() else { continue };
        let place = Place::of(engine, first.config.listens.as_deref()).map_err(Stop::Trouble)?;
        let wanted: Vec<_> = of
            .iter()
            .map(|one| {
                let password = one.config.password.as_deref().unwrap_or_default();
                let account = Some(Account { user: &one.config.user, password });
                Wanted { backup: &one.backup, database: Some(&one.config.database), account }
            })
            .collect();
        let served = serve(session, cell, &wanted, Some(&place)).ok_or(Stop::Told)?;
        let names: Vec<_> = of.iter().map(|one| one.config.database.as_str()).collect();
        session.note(format!("{engine} serves {} to {}", names.join(", "), app.kit()));
        servers.push((engine.word().to_owned(), served.into_service()));
    }
    Ok(servers)
}
