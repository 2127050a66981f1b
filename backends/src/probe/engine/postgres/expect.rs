//! What a person expects of a database, and the canaries in it.

use firedrill_core::canary::{Canary, LENGTH_MAX};
use firedrill_core::config::settings::DatabaseExpectation;
use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::finding::{Examination, Finding, RecoveryBasis, RecoveryPoint};
use firedrill_core::subject::Subject;
use jiff::{SignedDuration, Timestamp};

use super::questions::Questions;
use super::verify::Table;
use super::wire::{Failure, identifier, literal, shown};

/// The table that canaries are planted in.
const CANARY_TABLE: &str = "firedrill_canary";
/// Canaries of one table that are read.
const CANARIES_MAX: usize = 1000;
/// Limit for each query of a person.
const QUERY_TIMEOUT: &str = "SET statement_timeout = '300s'";
/// Clocks of the planter and of the backup may differ by this much.
const CLOCKS_MAX: SignedDuration = SignedDuration::from_mins(15);

/// A database that was loaded.
pub(super) struct Place<'a> {
    pub(super) subject: &'a Subject,
    /// The dump or data folder, and the database in it where it has several.
    pub(super) location: &'a str,
}

/// Asks everything that is expected.
pub(super) async fn answer(
    place: &Place<'_>,
    expectation: &DatabaseExpectation,
    client: &mut Questions,
    examination: &mut Examination,
) -> Result<(), Failure> {
    // Names mean here what they mean to an application.
    client.ask("RESET search_path").await?;
    client.ask(QUERY_TIMEOUT).await?;
    tables(place, expectation, client, examination).await?;
    for query in &expectation.queries {
        let seen = match first_column(client, &query.sql).await? {
            Ok(answer) if answer.as_deref() == Some(&query.equals) => continue,
            Ok(Some(answer)) => format!("`{}`", shown(&answer, 200)),
            Ok(None) => "no row".to_owned(),
            Err(refused) => refused,
        };
        let expected = format!("`{}` to answer `{}`", query.sql, query.equals);
        examination.find(Finding::damage("postgres.query", place.location, expected, seen));
    }
    newest(place, expectation, client, examination).await?;
    client.ask("SET search_path = pg_catalog; SET statement_timeout = 0").await?;
    Ok(())
}

/// The first column of the first row; NULL is `NULL`. The inner error is the server's refusal, in words.
async fn first_column(client: &mut Questions, sql: &str) -> Result<Result<Option<String>, String>, Failure> {
    match client.ask(sql).await {
        Ok(answer) => {
            let first = answer.rows.into_iter().next().and_then(|row| row.into_iter().next());
            Ok(Ok(first.map(|value| value.unwrap_or_else(|| "NULL".to_owned()))))
        }
        Err(Failure::Refused(error)) if error.is_about_data() => Ok(Err(error.to_string())),
        Err(Failure::Refused(error)) if error.severity == "ERROR" => {
            let what = format!("get an answer to `{}`", shown(sql, 200));
            Err(Failure::Stopped(Error::new(ErrorKind::Unavailable, what).because(error.to_string())))
        }
        Err(failure) => Err(failure),
    }
}

async fn tables(
    place: &Place<'_>,
    expectation: &DatabaseExpectation,
    client: &mut Questions,
    examination: &mut Examination,
) -> Result<(), Failure> {
    let demanded = expectation.tables.iter().filter(|table| !expectation.rows_min.contains_key(*table));
    let demanded = demanded.map(|table| (table, None));
    let counted = expectation.rows_min.iter().map(|(table, rows)| (table, Some(*rows)));
    for (table, rows_min) in demanded.chain(counted) {
        let quoted: Vec<_> = table.split('.').map(identifier).collect();
        let names = format!("to_regclass({}), to_regclass({})", literal(table), literal(&quoted.join(".")));
        let name = first_column(client, &format!("SELECT coalesce({names})::text")).await?;
        let at = format!("{}: {table}", place.location);
        let Some(name) = name.ok().flatten().filter(|name| name != "NULL") else {
            examination.find(Finding::damage("postgres.table_missing", at, "the table", "no such table"));
            continue;
        };
        let Some(min) = rows_min else { continue };
        match first_column(client, &format!("SELECT count(*) FROM {name}")).await? {
            Ok(rows)
                if rows
                    .as_deref()
                    .and_then(|rows| rows.parse::<u64>().ok())
                    .is_some_and(|rows| rows >= min) => {}
            Ok(rows) => {
                let seen = format!("{} rows", rows.unwrap_or_default());
                examination.find(Finding::damage("postgres.rows", at, format!("at least {min} rows"), seen));
            }
            Err(refused) => {
                examination.find(Finding::damage(
                    "postgres.unreadable",
                    at,
                    "a table that can be read",
                    refused,
                ));
            }
        }
    }
    Ok(())
}

async fn newest(
    place: &Place<'_>,
    expectation: &DatabaseExpectation,
    client: &mut Questions,
    examination: &mut Examination,
) -> Result<(), Failure> {
    let Some(newest) = &expectation.newest else { return Ok(()) };
    let expected = match newest.max_age {
        Some(max) => format!("data that is at most {max} old, by `{}`", newest.sql),
        None => format!("a time from `{}`", newest.sql),
    };
    let seen = match first_column(client, &newest.sql).await? {
        Ok(Some(text)) => match time(&text) {
            Some(time) => {
                // The older of several times is what all of the data goes back to.
                point(examination, time, RecoveryBasis::Data);
                let age = place.subject.at.duration_since(time);
                let max =
                    newest.max_age.map(|max| SignedDuration::try_from(max.0).unwrap_or(SignedDuration::MAX));
                examination.notes.push(format!("{}: the newest row is of {time}", place.location));
                if max.is_some_and(|max| age > max) {
                    let seen = format!("the newest row is of {time}");
                    examination.find(Finding::objective("postgres.newest", place.location, expected, seen));
                }
                return Ok(());
            }
            None => format!("`{}`, which is no time", shown(&text, 100)),
        },
        Ok(None) => "no row".to_owned(),
        Err(refused) => refused,
    };
    examination.find(Finding::damage("postgres.newest", place.location, expected, seen));
    Ok(())
}

/// A time as PostgreSQL writes it in UTC, with or without its zone, a date, or seconds since 1970.
fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        // Milliseconds are beyond the year 5000 when they are taken for seconds.
        let seconds = if seconds.abs() > 1e11 { seconds / 1000.0 } else { seconds };
        return Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let civil =
        |text: &str| text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    civil(text.strip_suffix("+00").unwrap_or(text)).or_else(date).map(|zoned| zoned.timestamp())
}

fn point(examination: &mut Examination, time: Timestamp, basis: RecoveryBasis) {
    let better = match &examination.recovery_point {
        None => true,
        Some(known) => basis < known.basis || basis == known.basis && time < known.time,
    };
    if better {
        examination.recovery_point = Some(RecoveryPoint { time, basis });
    }
}

/// Verifies the canaries in a database.
pub(super) async fn canaries(
    place: &Place<'_>,
    tables: &[Table],
    client: &mut Questions,
    examination: &mut Examination,
) -> Result<(), Failure> {
    for table in tables.iter().filter(|table| table.name == CANARY_TABLE) {
        let columns = format!(
            "SELECT attname FROM pg_attribute WHERE attrelid = {} AND attnum > 0 AND NOT attisdropped AND atttypid \
             IN ('text'::regtype, 'varchar'::regtype, 'json'::regtype, 'jsonb'::regtype) ORDER BY attnum",
            table.id
        );
        let columns = client.ask(columns).await?.rows;
        let mut tokens = Vec::new();
        for column in columns.into_iter().filter_map(|row| row.into_iter().next().flatten()) {
            let column = identifier(&column);
            let sql = format!(
                "SELECT left({column}::text, {}) FROM {} WHERE {column}::text LIKE '%firedrill_canary%' \
                 ORDER BY ctid DESC LIMIT {CANARIES_MAX}",
                LENGTH_MAX + 1,
                table.sql()
            );
            tokens.extend(
                client.ask(sql).await?.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()),
            );
        }
        judge_canaries(place, &table.shown(), &tokens, examination);
    }
    Ok(())
}

fn judge_canaries(place: &Place<'_>, table: &str, tokens: &[String], examination: &mut Examination) {
    let at = format!("{}: {table}", place.location);
    let damage = |seen: String| Finding::damage("postgres.canary", at.clone(), "an authentic canary", seen);
    let Some(key) = &place.subject.canary_key else {
        examination.not_verified.push(format!("{at}: the signature of canaries: no key is known"));
        return;
    };
    let mut newest: Option<Canary> = None;
    let mut wrong = None;
    for token in tokens {
        match Canary::parse(token.trim_end().as_bytes()) {
            Ok(canary) if canary.verify(key) => {
                let newer = newest.as_ref().is_none_or(|known| known.sequence() < canary.sequence());
                newest = if newer { Some(canary) } else { newest };
            }
            Ok(canary) => wrong = Some(format!("number {} has another signature", canary.sequence())),
            Err(why) => wrong = Some(format!("no canary: {why}")),
        }
    }
    if let Some(seen) = wrong {
        return examination.find(damage(seen));
    }
    let Some(canary) = newest else { return examination.find(damage("none in the table".to_owned())) };
    let latest = place.subject.snapshot.time.saturating_add(CLOCKS_MAX).unwrap_or(Timestamp::MAX);
    if canary.time() > latest {
        let expected =
            format!("a canary that was planted before the snapshot of {:.0}", place.subject.snapshot.time);
        let seen = format!("one of {}", canary.time());
        return examination.find(Finding::anomaly("postgres.canary", at, expected, seen));
    }
    if !crate::probe::canary::is_ours(place.subject, canary.target()) {
        let expected = "a canary for this target";
        let seen = format!("one for `{}`", shown(canary.target(), 80));
        return examination.find(Finding::anomaly("postgres.canary", at, expected, seen));
    }
    examination.notes.push(format!("{at}: canary number {} of {}", canary.sequence(), canary.time()));
    point(examination, canary.time(), RecoveryBasis::Canary);
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_read_as_the_server_writes_them() {
        for (text, expected) in [
            ("2026-01-02 03:04:05+00", "2026-01-02T03:04:05Z"),
            ("2026-01-02 03:04:05.25+00", "2026-01-02T03:04:05.25Z"),
            ("2026-01-02 03:04:05", "2026-01-02T03:04:05Z"),
            ("2026-01-02", "2026-01-02T00:00:00Z"),
            ("1767323045", "2026-01-02T03:04:05Z"),
            ("1767323045000", "2026-01-02T03:04:05Z"),
        ] {
            assert_eq!(time(text).map(|time| time.to_string()).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(time("soon"), None);
        assert_eq!(time("NULL"), None);
    }
}
