//! What can be said once everything was loaded: what is missing, and what changed.

use firedrill_core::finding::Finding;
use firedrill_core::subject::Subject;

use super::fill::Gathered;
use super::past;
use super::roster::Roster;
use super::wire::shown;
use crate::probe::engine::session::Session;

/// Roles that are told one by one.
const ROLES_TOLD: usize = 20;

/// Tells what is missing in the snapshot as a whole.
pub(super) fn conclude(session: &mut Session<'_>, roster: &Roster, mut gathered: Gathered) {
    lost_roles(session, &gathered);
    let subject = session.subject;
    if !gathered.incomplete && !subject.manifest.is_complete() && lacks_something(subject, &gathered) {
        session.examination.interrupt("not all of the snapshot can be read");
        gathered.give_up();
    }
    for (number, expectation) in subject.drill.expectations.postgres.iter().enumerate() {
        let of = [expectation.file.as_deref(), expectation.database.as_deref()];
        let of = of.into_iter().flatten().collect::<Vec<_>>().join(": ");
        if !gathered.met.contains(&number) && !gathered.incomplete {
            let seen = match roster.dumps.len() + roster.folders.len() {
                0 => "no dump and no data folder of PostgreSQL".to_owned(),
                found => format!("{found} dumps and data folders, and it is in none of them"),
            };
            session.find(Finding::damage("postgres.missing", of.clone(), "a database", seen));
        }
        for role in expectation.roles.iter().filter(|role| !gathered.roles.contains(*role)) {
            if !gathered.incomplete && !gathered.broken {
                let seen = "no dump in this snapshot makes it";
                session.find(Finding::damage(
                    "postgres.role_missing",
                    of.clone(),
                    format!("the role {role}"),
                    seen,
                ));
            }
        }
    }
    past::compare(subject, &gathered.rows, &mut session.examination);
    if let Some(recorded) = gathered.recorded {
        recorded.close(&mut session.examination);
    }
}

/// Whether something that is expected was not seen.
fn lacks_something(subject: &Subject, gathered: &Gathered) -> bool {
    subject.drill.expectations.postgres.iter().enumerate().any(|(number, expectation)| {
        !gathered.met.contains(&number) || expectation.roles.iter().any(|role| !gathered.roles.contains(role))
    })
}

/// Tells of roles that the dumps need and none of them brings along.
pub(super) fn lost_roles(session: &mut Session<'_>, gathered: &Gathered) {
    let missing: Vec<_> = gathered
        .missing
        .iter()
        // Every cluster has a superuser, and the usual name of it says nothing about the backup.
        .filter(|(role, _)| !gathered.roles.contains(*role) && role.as_str() != "postgres")
        .collect();
    for (role, locations) in missing.iter().take(ROLES_TOLD) {
        let places: Vec<_> = locations.iter().map(String::as_str).take(3).collect();
        session.find(Finding::gap(
            "postgres.role",
            places.join(", "),
            format!("the role {}, which owns or may use something in it", shown(role, 80)),
            "no dump in this snapshot makes it: back roles up with `pg_dumpall --roles-only`",
        ));
    }
    if let Some(more) = missing.len().checked_sub(ROLES_TOLD).filter(|more| *more > 0) {
        // Gaps weigh nothing, while findings that were left out do.
        session
            .note(format!("{more} more roles that the dumps need, and that no dump in this snapshot makes"));
    }
}
