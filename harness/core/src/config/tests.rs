//! Every mistake has a test that shows what a person reads.

use super::{load, schema};
use crate::config::{Loaded, Severity};

const GOOD: &str = r#"
# yaml-language-server: $schema=firedrill.schema.json
version: 1
timezone: Europe/Zurich
copies:
  - name: primary
    repository: rest:http://rest-server.backup.svc:8000/
    password_env: RESTIC_PASSWORD
  - name: mirror
    role: mirror
    repository: s3:s3.example.com/bucket/prefix
    options: {region: eu-central-2, path_style: true}
targets:
  - name: grafana
    tag: grafana
    host: [grafana, grafana-2]
    paths: [/backup/grafana]
    schedule: "20 * * * *"
    objectives: &hourly {rpo: 2h, rto: 30m}
    expect:
      files_min: 10
      bytes_min: 1MiB
      sqlite:
        - path: grafana.db
          tables: [dashboard]
          rows_min: {dashboard: 1}
          queries: [{sql: "SELECT count(*) > 0 FROM user", equals: "1"}]
    probes: {shape: {files_drop_max_ratio: 0.1}}
  - name: host-config
    host: node01
    paths: [/home, /etc]
    objectives: *hourly
probes:
  shape: {bytes_drop_max_ratio: 0.2, history: 5}
restore_test: {jobs: 2, scratch: /scratch, scratch_limit: 50GiB, timeout: 2h, schedule: "0 4 * * SUN"}
sinks:
  json: out/run.json
  junit: out/run.xml
  pushgateway: {url: "http://pushgateway:9091", instance: weekly}
state: /var/lib/firedrill
"#;

fn loaded(text: &str) -> Loaded {
    load(text, "firedrill.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

/// What a person reads about `text`, errors or warnings.
fn told(text: &str) -> String {
    match load(text, "firedrill.yaml") {
        Ok(loaded) if loaded.warnings.is_empty() => panic!("nothing is wrong with\n{text}"),
        Ok(loaded) => loaded.warnings.to_string(),
        Err(problems) => problems.to_string(),
    }
}

/// A config with one copy, then `rest`.
fn with(rest: &str) -> String {
    format!("version: 1\ncopies: [{{name: primary, repository: /srv/restic}}]\n{rest}\n")
}

/// A config with one copy and one target that has `keys`.
fn target(keys: &str) -> String {
    with(&format!("targets:\n  - name: grafana\n    {}", keys.replace('\n', "\n    ")))
}

/// A config with one copy that has `keys`.
fn copy(keys: &str) -> String {
    format!("version: 1\ncopies:\n  - name: primary\n    {}\n", keys.replace('\n', "\n    "))
}

/// Compares `text` with what was shown before.
fn same_as_before(name: &str, text: &str) {
    insta::assert_snapshot!(name, text);
}

fn gallery(cases: &[(&str, String)]) -> String {
    let mut shown = String::new();
    for (title, text) in cases {
        shown.push_str(&format!("=== {title}\n{}\n\n", told(text)));
    }
    shown
}

#[test]
fn a_good_config_has_no_problems() {
    let Loaded { config, warnings } = loaded(GOOD);
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(config.copies.len(), 2);
    assert_eq!(config.targets[0].hosts(), ["grafana", "grafana-2"]);
    assert_eq!(config.targets[1].objectives, config.targets[0].objectives, "the alias repeats the value");
    assert_eq!(config.targets[1].series().to_string(), "node01:/etc,/home");
    assert_eq!(config.restore_test_interval().unwrap().to_string(), "7days");
}

#[test]
fn a_target_overrides_only_the_thresholds_that_it_names() {
    let config = loaded(GOOD).config;
    let shape = config.target_probes(&config.targets[0]).shape;
    assert_eq!(shape.files_drop_max_ratio, 0.1, "its own");
    assert_eq!(shape.bytes_drop_max_ratio, 0.2, "the one for all targets");
    assert_eq!(shape.history, 5, "the one for all targets");
    assert_eq!(shape.entropy_jump_max_ratio, 0.3, "the default");
    assert_eq!(config.target_probes(&config.targets[1]).shape, config.probes.shape);
}

#[test]
fn a_loaded_config_can_be_written_and_loaded_again() {
    let config = loaded(GOOD).config;
    let text = serde_json::to_string_pretty(&config).unwrap();
    assert_eq!(loaded(&text).config, config, "JSON is YAML");
}

#[test]
fn the_schema_is_one_that_editors_understand() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["title"], "firedrill.yaml");
    let text = schema.to_string();
    assert!(!text.contains("\"null\""), "an absent key is not null");
    assert!(
        !text.contains("\"oneOf\"") && !text.contains("\"anyOf\""),
        "no choice is more than a list of words"
    );
    let mut undocumented = Vec::new();
    for (owner, rule) in schema["$defs"].as_object().unwrap() {
        let Some(properties) = rule.get("properties").and_then(|p| p.as_object()) else { continue };
        assert_eq!(rule["additionalProperties"], false, "{owner}");
        undocumented.extend(
            properties
                .iter()
                .filter(|(_, p)| p.get("description").is_none())
                .map(|(k, _)| format!("{owner}.{k}")),
        );
    }
    assert!(undocumented.is_empty(), "without description: {undocumented:?}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = r#"version: 1
copies:
  - name: primary
    repositry: /srv/restic
    role: mirrored
  - name: primary
    repository: sftp:host:/srv
    password_file: /a
    password_env: B
targets:
  - name: grafana
    tag: grafana
    shedule: "20 * * * *"
    objectives: {rpo: 26, rto: 30x}
    copies: [primry]
  - name: emby
    tag: 42
    schedule: "0 20 * * * *"
    paths: backup/emby
timezone: Europe/Zurick
sinks: {json: out.json, html: ./out.json}
"#;
    same_as_before("all_at_once", &told(text));
}

#[test]
fn mistakes_of_syntax() {
    let deep = format!("version: {}1{}", "[".repeat(40), "]".repeat(40));
    let dashes = format!("copies:\n{}x\n", "- ".repeat(100_000));
    let aliases =
        (1..2000).fold("a0: &a0 [x]\n".to_owned(), |text, i| format!("{text}a{i}: &a{i} [*a{}]\n", i - 1));
    let bomb = (1..9).fold("a0: &a0 [x]\n".to_owned(), |text, i| {
        format!("{text}a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "))
    });
    same_as_before(
        "syntax",
        &gallery(&[
            ("empty", String::new()),
            ("only a comment", "# nothing here\n".to_owned()),
            ("a list", "- a\n- b\n".to_owned()),
            ("a text", "just a text\n".to_owned()),
            ("tab", "version: 1\ncopies:\n\t- name: a\n".to_owned()),
            ("unquoted cron", target("tag: grafana\nschedule: */20 * * * *")),
            ("open quote", "version: 1\nstate: \"/var/lib\ncopies: []\n".to_owned()),
            ("open bracket", "version: 1\ncopies: [a\ntargets: []\n".to_owned()),
            ("bad indentation", "version: 1\ncopies:\n  - name: a\n   repository: b\n".to_owned()),
            ("colon in a text", "version: 1\nstate: a: b\n".to_owned()),
            ("duplicate keys", with("state: /a\nstate: /b\nsinks: {json: a, json: b}")),
            ("two documents", with("---\nversion: 1")),
            ("tag", with("state: !!str 5")),
            ("unknown alias", with("state: *nowhere")),
            ("alias inside itself", with("state: &a [*a]")),
            ("list as key", with("? [a, b]\n: c")),
            ("merge key", target("tag: grafana\nobjectives: {<<: {rpo: 1h}}")),
            ("too deep", deep),
            ("much too deep", dashes.chars().take(500).collect()),
            ("deep by aliases", aliases),
            ("too many by aliases", bomb),
        ]),
    );
    assert!(load(&dashes, "x").is_err(), "and does not overflow the stack");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let text = format!("version: 1\n# {}\n", "x".repeat(1 << 20));
    same_as_before("too_large", &told(&text));
}

#[test]
fn mistakes_of_shape() {
    same_as_before(
        "shape",
        &gallery(&[
            ("no version", "copies: [{name: a, repository: /a}]\n".to_owned()),
            ("another version", "version: 2\ncopies: [{name: a, repository: /a}]\n".to_owned()),
            ("version as text", "version: \"1\"\ncopies: [{name: a, repository: /a}]\n".to_owned()),
            ("no copies", "version: 1\n".to_owned()),
            ("empty copies", "version: 1\ncopies: []\n".to_owned()),
            ("missing keys of a copy", "version: 1\ncopies:\n  - role: mirror\n".to_owned()),
            ("a copy that is a text", "version: 1\ncopies: [/srv/restic]\n".to_owned()),
            ("key at the wrong level", target("tag: grafana\nrpo: 1h")),
            ("top-level key further in", target("tag: grafana\nsinks: {}")),
            ("unknown without a likeness", target("tag: grafana\ncolour: red")),
            ("secret in the file", copy("repository: /srv\npassword: hunter2")),
            ("secret instead of a variable", copy("repository: /srv\npassword_env: hunter-2!")),
            ("number instead of a variable", copy("repository: /srv\npassword_env: 31337")),
            ("empty values", target("tag: grafana\nobjectives:\n  rpo:\nhost:")),
            ("number as tag", target("tag: 42")),
            ("boolean as tag", target("tag: true")),
            ("text as list", target("tag: grafana\npaths: /backup")),
            ("text as number", target("tag: grafana\nexpect: {files_min: \"10\"}")),
            ("negative number", target("tag: grafana\nexpect: {files_min: -1}")),
            ("text as boolean", with("restore_test: {control: yes}")),
            ("text as mapping", target("tag: grafana\nobjectives: 2h")),
            ("duration without unit", target("tag: grafana\nobjectives: {rpo: 26}")),
            ("quoted duration without unit", target("tag: grafana\nobjectives: {rpo: \"26\"}")),
            ("duration with a wrong unit", target("tag: grafana\nobjectives: {rpo: 2 fortnights}")),
            ("size with a wrong unit", with("restore_test: {scratch_limit: 50 gigs}")),
            ("size as a list", with("restore_test: {scratch_limit: [50]}")),
            ("cron with six fields", target("tag: grafana\nschedule: \"0 20 * * * *\"")),
            ("cron out of range", target("tag: grafana\nschedule: \"61 * * * *\"")),
            ("cron that never comes", target("tag: grafana\nschedule: \"0 0 30 2 *\"")),
            ("cron in words", target("tag: grafana\nschedule: hourly")),
            ("unknown time zone", with("timezone: europe/zurik")),
            ("unknown role", copy("repository: /srv\nrole: replica")),
            ("unknown kind", target("kind: valero")),
            ("ratio in percent", with("probes: {shape: {files_drop_max_ratio: 30}}")),
            ("no jobs", with("restore_test: {jobs: 0}")),
            ("bad name", "version: 1\ncopies: [{name: \"a::b\", repository: /a}]\n".to_owned()),
            ("long name", format!("version: 1\ncopies: [{{name: {}, repository: /a}}]\n", "a".repeat(64))),
            ("empty text", target("tag: \"\"")),
        ]),
    );
}

#[test]
fn mistakes_of_meaning_in_copies() {
    same_as_before(
        "copies",
        &gallery(&[
            (
                "two of one name",
                "version: 1\ncopies:\n  - {name: a, repository: /a}\n  - {name: a, repository: /b}\n"
                    .to_owned(),
            ),
            (
                "two of one place",
                "version: 1\ncopies:\n  - {name: a, repository: /a}\n  - {name: b, repository: /a/}\n"
                    .to_owned(),
            ),
            ("reserved name", "version: 1\ncopies: [{name: control, repository: /a}]\n".to_owned()),
            (
                "three passwords",
                copy("repository: /srv\npassword_file: /a\npassword_env: B\npassword_command: c"),
            ),
            ("rest without URL", copy("repository: rest:server:8000")),
            ("s3 as the AWS command writes it", copy("repository: s3://bucket/prefix")),
            ("s3 without bucket", copy("repository: s3:https://s3.example.com")),
            ("plain URL", copy("repository: https://server/restic")),
            ("sftp", copy("repository: sftp:host:/srv")),
            ("local", copy("repository: local:/srv")),
            ("home folder", copy("repository: ~/restic")),
            ("credentials in the URL", copy("repository: rest:http://me:hunter2@server:8000/")),
            (
                "credentials in a place of another kind",
                copy("repository: s3://me:hunter2@us-east-1/x\nkind: longhorn"),
            ),
            (
                "credentials in a URL that is wrong besides",
                copy("repository: http://me:hunter2@server:8000/"),
            ),
            (
                "options of another scheme",
                copy("repository: /srv\noptions: {region: eu, username_env: A, password_env: B}"),
            ),
            ("half of the credentials", copy("repository: rest:http://server/\noptions: {username_env: A}")),
            ("CA without TLS", copy("repository: rest:http://server/\nca_cert: /ca.pem")),
            ("patterns for restic", copy("repository: /srv\nobjects: \"{name}.sql\"")),
            (
                "patterns that are none",
                copy(
                    "repository: /srv\nkind: object_dump\nobjects: [\"{nam}.sql\", \"{time:%H%M}.sql\", \"/{name}\"]",
                ),
            ),
            (
                "patterns that only leave out",
                copy("repository: /srv\nkind: object_dump\nobjects: [\"!{name}.sql\"]"),
            ),
            (
                "plain objects on a rest-server, with a password",
                copy("repository: rest:http://server/\nkind: etcd\npassword_env: A"),
            ),
        ]),
    );
}

#[test]
fn mistakes_of_meaning_in_targets() {
    let two = |a: &str, b: &str| with(&format!("targets:\n  - {{name: a, {a}}}\n  - {{name: b, {b}}}"));
    same_as_before(
        "targets",
        &gallery(&[
            ("two of one name", with("targets: [{name: a, tag: a}, {name: a, tag: b}]")),
            ("no selector", target("objectives: {rpo: 1h}")),
            ("host alone", target("host: node01")),
            ("paths alone", target("paths: [/etc]")),
            ("several hosts without a tag", target("host: [a, b]\npaths: [/etc]")),
            ("the same tag", two("tag: x", "tag: x, host: h")),
            ("the same host and paths", two("host: h, paths: [/a, /b]", "host: h, paths: [/b, /a]")),
            ("relative path", target("tag: grafana\npaths: [backup/grafana]")),
            ("comma in a tag", target("tag: a,b")),
            ("unknown copy", target("tag: grafana\ncopies: [primry, elsewhere, primary, primary]")),
            ("copy of another kind", target("kind: etcd\ncopies: [primary]")),
            ("no copy of the kind", target("kind: etcd")),
            (
                "an rpo that cannot be kept",
                target("tag: grafana\nschedule: \"10 0-1,4-23 * * *\"\nobjectives: {rpo: 2h}"),
            ),
            ("no time at all", target("tag: grafana\nobjectives: {rpo: 0s}")),
            ("months", target("tag: grafana\nobjectives: {rto: 30M}")),
            ("canary without key", target("kind: object_dump\ntag: grafana\nexpect: {canary: required}")),
            ("sqlite without path", target("tag: grafana\nexpect: {sqlite: [{tables: [a]}]}")),
            (
                "query that writes",
                target(
                    "tag: grafana\nexpect: {sqlite: [{path: a.db, queries: [{sql: DROP TABLE a, equals: \"\"}]}]}",
                ),
            ),
        ]),
    );
}

#[test]
fn mistakes_of_meaning_in_trials() {
    let check = |keys: &str| target(&format!("tag: shop\nchecks: [{{name: a, {keys}}}]"));
    let app = |keys: &str| {
        target(&format!("tag: shop\napp:\n  port: 80\n  command: [shop]\n  http: [{{path: /}}]\n  {keys}"))
    };
    let http =
        |keys: &str| target(&format!("tag: shop\napp:\n  port: 80\n  command: [shop]\n  http: [{{{keys}}}]"));
    same_as_before(
        "trials",
        &gallery(&[
            ("no command", target("tag: shop\nchecks: [{name: a}]")),
            ("an empty command", check("command: []")),
            ("an empty program", check("command: [\"\"]")),
            ("a command line", check("command: [python3 check.py --all]")),
            ("a relative program", check("command: [bin/check]")),
            ("a script as program", check("command: [check.sh], files: [scripts/check.sh]")),
            ("two files of one name", check("command: [bash, x], files: [a/x, b/x]")),
            ("our variables", check("command: [bash], environment: {FIREDRILL_DATA: x, \"a=b\": c}")),
            (
                "two checks of one name",
                target("tag: shop\nchecks: [{name: a, command: [x]}, {name: a, command: [y]}]"),
            ),
            ("a name that is no code", target("tag: shop\nchecks: [{name: Invoices, command: [x]}]")),
            ("no time", check("command: [bash], timeout: 0s")),
            (
                "no runtime",
                with("runtime: {kind: off}\ntargets: [{name: a, tag: a, checks: [{name: a, command: [x]}]}]"),
            ),
            ("outside of the cell", app("data: {a: /var/lib/shop, b: ../b, c: x, d: /cell/x}")),
            ("a file outside of the cell", app("files: {/etc/shop.conf: x}")),
            ("a strange alias", app("aliases: [\"shop db\"]")),
            (
                "steps",
                app(
                    "before: [{kit: postgres}, {run: [a], start: [b]}, {run: [a], listens: \"1\"}, {start: [a], listens: /tmp/x}]",
                ),
            ),
            (
                "databases",
                app(
                    "databases: [{database: a, user: a}, {postgres: a, mariadb: b, database: a, user: a}, {postgres: a, database: \"a\\n\", user: a, password: b}, {mariadb: a}]",
                ),
            ),
            (
                "places of databases",
                app(
                    "databases: [{postgres: a, database: a, user: a, listens: /cell/pg.sock}, {postgres: b, database: b, user: b, listens: \"5432\"}, {mariadb: a, database: a, user: a, listens: /tmp/x}, {mariadb: b, database: b, user: b}]",
                ),
            ),
            (
                "a dump to load and no runtime",
                with(
                    "runtime: {kind: off}\ntargets: [{name: a, tag: a, invariants: [{name: a, query: {postgres: a, sql: SELECT 1}, file: \"{1}\"}]}]",
                ),
            ),
            ("no request", target("tag: shop\napp: {port: 80, command: [shop], http: []}")),
            ("no port", target("tag: shop\napp: {command: [shop], http: [{path: /}]}")),
            ("an expression", http("path: /, body: \"a(b\"")),
            ("no pointer", http("path: /, json: {a.b: 1}")),
            ("a whole object", http("path: /, json: {/a: {b: 1}}")),
            ("no path", http("path: api, status: 99")),
            ("blanks", http("path: /a b, headers: {\"a b\": c}")),
        ]),
    );
}

#[test]
fn mistakes_of_meaning_in_groups() {
    let group = |keys: &str| {
        format!(
            "version: 1\ncopies: [{{name: a, repository: /a}}, {{name: b, kind: etcd, repository: b}}]\ntargets: [{{name: db, tag: db}}, {{name: media, tag: media}}, {{name: etcd, kind: etcd}}]\ngroups:\n  - name: shop\n    {}\n",
            keys.replace('\n', "\n    ")
        )
    };
    let invariant = |keys: &str| group(&format!("targets: [db, media]\ninvariants: [{{name: a, {keys}}}]"));
    same_as_before(
        "groups",
        &gallery(&[
            ("no targets", group("max_skew: 5m")),
            ("one target", group("targets: [db]")),
            ("unknown target", group("targets: [db, meida, db, elsewhere]")),
            (
                "two of one name",
                group("targets: [db, media]")
                    .replace("groups:", "groups:\n  - {name: shop, targets: [db, media]}"),
            ),
            ("the name of a target", group("targets: [db, media]").replace("- name: shop", "- name: db")),
            ("no copy holds all", group("targets: [db, etcd]")),
            ("no skew at all", group("targets: [db, media]\nmax_skew: 0s")),
            ("no query", invariant("file: \"media/{1}\"")),
            (
                "a query that writes",
                invariant("query: {sqlite: db/a.db, sql: DELETE FROM a}, file: \"media/{1}\""),
            ),
            ("nothing to ask", invariant("query: {sql: SELECT 1}, file: \"media/{1}\"")),
            (
                "two to ask",
                invariant("query: {sqlite: db/a.db, postgres: db/a.sql, sql: SELECT 1}, file: \"media/{1}\""),
            ),
            (
                "several statements",
                invariant("query: {postgres: db/a.sql, sql: SELECT 1; DELETE FROM a}, file: \"media/{1}\""),
            ),
            (
                "a database in a file",
                invariant("query: {sqlite: db/a.db, database: a, sql: SELECT 1}, file: \"media/{1}\""),
            ),
            ("a dump of no target", invariant("query: {mariadb: a.sql, sql: SELECT 1}, file: \"media/{1}\"")),
            ("a constant file", invariant("query: {sqlite: db/a.db, sql: SELECT 1}, file: media/a")),
            (
                "no such column",
                invariant("query: {sqlite: db/a.db, sql: SELECT 1}, file: \"media/{0}\", md5: \"{1\""),
            ),
            (
                "no target in a path",
                invariant("query: {sqlite: a.db, sql: SELECT 1}, file: \"/media/{1}\", only: files"),
            ),
            (
                "no target in other paths",
                group(
                    "targets: [db, media]\nchecks: [{name: a, command: [bash], data: [srv]}]\napp: {port: 80, command: [a], http: [{path: /}], data: {a.db: a.db}, databases: [{postgres: a.sql, database: a, user: a}]}",
                ),
            ),
        ]),
    );
}

#[test]
fn mistakes_of_meaning_in_jobs() {
    let text = |target: &str, jobs: &str| {
        format!(
            "version: 1\ncopies: [{{name: a, repository: /a}}, {{name: m, role: mirror, repository: /m}}, {{name: dumps, kind: object_dump, repository: /d}}]\ntargets:\n  - name: shop\n    {}\njobs: [{jobs}]\n",
            target.replace('\n', "\n    ")
        )
    };
    let capture =
        |capture: &str| text(&format!("tag: shop\nhost: shop\nbackup:\n  capture:\n    - {capture}"), "");
    let job = |job: &str| text("tag: shop", job);
    same_as_before(
        "jobs",
        &gallery(&[
            ("nothing captured", text("tag: shop\nhost: shop\nbackup: {capture: []}", "")),
            ("two in one", capture("{files: {paths: [/a]}, command: {run: [a], as: /b}}")),
            ("an empty one", capture("{}")),
            ("a relative path", capture("files: {paths: [srv]}")),
            ("a place that is none", capture("command: {run: [a], as: ../b}")),
            (
                "one place twice",
                capture("command: {run: [a], as: /b}\n- {postgres: {as: /b}}")
                    .replace("\n    - {pos", "\n        - {pos"),
            ),
            ("a password in arguments", capture("mariadb: {as: /b, arguments: [--password=hunter2]}")),
            (
                "a password in a URL",
                capture("command: {run: [pg_dump, \"postgres://me:hunter2@db/shop\"], as: /b}"),
            ),
            (
                "a password that stays",
                capture("postgres: {as: /b, via: [ssh, db], server: {password_env: X}}"),
            ),
            ("digests from afar", capture("postgres: {as: /b, via: [ssh, db], digests: true}")),
            ("digests of a stream", capture("mariadb: {as: /b, digests: true}")),
            ("no host", text("tag: shop\nbackup: {capture: [{files: {paths: [/a]}}]}", "")),
            ("two hosts", text("tag: shop\nhost: [a, b]\nbackup: {capture: [{files: {paths: [/a]}}]}", "")),
            (
                "files as an object",
                text("kind: object_dump\nbackup: {capture: [{files: {paths: [/a]}}]}", ""),
            ),
            (
                "two objects",
                text(
                    "kind: object_dump\nbackup: {capture: [{postgres: {as: /a}}, {postgres: {as: /b}}]}",
                    "",
                ),
            ),
            ("not ours", text("kind: velero\nbackup: {capture: [{files: {paths: [/a]}}]}", "")),
            (
                "into a mirror",
                text("tag: shop\nhost: a\nbackup: {to: m, capture: [{files: {paths: [/a]}}]}", ""),
            ),
            (
                "into the wrong kind",
                text("tag: shop\nhost: a\nbackup: {to: dumps, capture: [{files: {paths: [/a]}}]}", ""),
            ),
            ("no job", job("{name: x}")),
            ("two jobs", job("{name: x, restore_test: {}, check: {copy: a}}")),
            ("two of one name", job("{name: x, restore_test: {}}, {name: x, check: {copy: b}}")),
            (
                "the name of a backup",
                text(
                    "tag: shop\nhost: a\nbackup: {capture: [{files: {paths: [/a]}}]}",
                    "{name: shop, restore_test: {}}",
                ),
            ),
            ("no rule", job("{name: x, retention: {copy: a, keep: {}}}")),
            ("from itself", job("{name: x, mirror: {from: a, to: a}}")),
            ("a ratio in percent", job("{name: x, mirror: {from: a, to: m, keep_ratio_min: 50}}")),
            ("a ratio below zero", job("{name: x, mirror: {from: a, to: m, keep_ratio_min: -0.1}}")),
            ("a ratio that is none", job("{name: x, mirror: {from: a, to: m, keep_ratio_min: .nan}}")),
            ("into no mirror", job("{name: x, mirror: {from: m, to: a}}")),
            ("a clock", job("{name: x, schedule: \"0 25 * * *\", restore_test: {}, rules: {deadline: 0s}}")),
            (
                "no secret",
                with("notify: {ntfy: {server: \"https://me:hunter2@ntfy.sh\", token_env: A, username: b}}"),
            ),
            ("no URL", with("notify: {webhooks: [{headers_env: {A: B}}, {url: a, url_env: B}]}")),
        ]),
    );
}

#[test]
fn jobs_that_could_only_fail_are_refused() {
    let copies = "copies: [{name: v, kind: velero, repository: a}, {name: w, kind: velero, role: mirror, repository: b}, {name: e, kind: etcd, repository: /e}]\n";
    let told = |rest: &str| {
        let text = format!("version: 1\n{copies}{rest}\n");
        load(&text, "firedrill.yaml").map_err(|problems| problems.to_string())
    };
    let etcd = |more: &str| {
        told(&format!(
            "targets: [{{name: x, kind: etcd, backup: {{capture: [{{etcd: {{as: /b{more}}}}}]}}}}]"
        ))
    };
    for (refused, why) in [
        (told("jobs: [{name: x, retention: {copy: v, keep: {daily: 7}}}]"), "their own tools drop"),
        (told("jobs: [{name: x, mirror: {from: v, to: w}}]"), "mirror its bucket"),
        (etcd(", pki: /etc/pki"), "one object"),
        (etcd(", k3s: /var/lib/rancher/k3s"), "one object"),
    ] {
        let problems = refused.err().unwrap_or_default();
        assert!(problems.contains(why) && problems.contains("1 error"), "{problems}");
    }
    assert!(etcd("").is_ok());
}

#[test]
fn mistakes_of_meaning_elsewhere() {
    same_as_before(
        "elsewhere",
        &gallery(&[
            ("two sinks, one file", with("sinks: {json: out/a, junit: ./out//a}")),
            ("a folder as file", with("sinks: {json: out/}")),
            ("gateway without scheme", with("sinks: {pushgateway: {url: \"pushgateway:9091\"}}")),
            (
                "gateway with path",
                with("sinks: {pushgateway: {url: \"http://pushgateway:9091/metrics/job/x\"}}"),
            ),
            (
                "gateway with credentials",
                with("sinks: {pushgateway: {url: \"http://me:hunter2@pushgateway:9091\"}}"),
            ),
            ("user without password", with("sinks: {pushgateway: {url: \"http://p:9091\", username: me}}")),
            ("two keys", with("canary: {key_file: /a, key_env: B}")),
            ("scratch at the root", with("restore_test: {scratch: /}")),
            ("no room", with("restore_test: {scratch_limit: 0}")),
        ]),
    );
}

#[test]
fn longhorn_writes_the_bucket_where_others_write_a_user() {
    assert!(loaded(&copy("repository: s3://bucket@us-east-1/x\nkind: longhorn")).warnings.is_empty());
}

#[test]
fn no_secret_is_shown() {
    for text in [
        copy("repository: rest:http://me:hunter2@server:8000/"),
        copy("repository: http://me:hunter2@server:8000/"),
        copy("repository: sftp:http://me:hunter2@x"),
        with("targets: [{name: a, tag: a, backup: {capture: [{mariadb: {as: b, arguments: [-phunter2]}}]}}]"),
        with(
            "targets: [{name: a, tag: a, backup: {capture: [{command: {as: b, run: [env, PGPASSWORD=hunter2, x]}}]}}]",
        ),
        copy("repository: /srv\npassword: hunter2"),
        copy("repository: /srv\noptions: {region: 5, secret_access_key: hunter2, x: 1}"),
        copy("repository: /srv\npassword_env: hunter2-is-my-password"),
        copy(
            "repository: rest:http://a/\noptions: {x: 1, username_env: hunter2-, password_env: \"hunter2 \", y: 1}",
        ),
        with("sinks: {pushgateway: {url: \"http://me:hunter2@pushgateway:9091\", job: \"\"}}"),
    ] {
        let shown = told(&text);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn problems_come_in_the_order_of_the_text_and_are_bounded() {
    let text = with(&(0..500).map(|i| format!("x{i}: 1\n")).collect::<String>());
    let problems = load(&text, "firedrill.yaml").unwrap_err();
    assert_eq!(problems.list().len(), 100);
    assert!(problems.list().windows(2).all(|w| w[0].line <= w[1].line));
    assert!(problems.list().iter().all(|p| p.severity == Severity::Error));
    assert!(problems.summary().contains("400 more"), "{}", problems.summary());
}

proptest::proptest! {
    /// Whatever is in the file, loading it ends with a config or with at least one problem.
    #[test]
    fn no_text_breaks_the_loader(text in "[a-z0-9:\\-\\[\\]{}&*!?|>'\"#%@,. \\n\\t~<]{0,200}") {
        if let Err(problems) = load(&text, "x") {
            proptest::prop_assert!(problems.any_error());
            proptest::prop_assert!(!problems.to_string().is_empty());
        }
    }

    /// A config that is damaged at one place is refused or accepted, with places inside the text.
    #[test]
    fn a_damaged_config_does_not_break_the_loader(at in 0..GOOD.len(), with in "[:\\-\\[{&*'\"\\t\\n a]{0,3}", cut in 0..20usize) {
        let end = (at + cut).min(GOOD.len());
        let text = format!("{}{with}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(problems) = load(&text, "x") {
            let lines = text.lines().count() + 1;
            proptest::prop_assert!(problems.list().iter().all(|p| p.line >= 1 && p.line <= lines && p.column >= 1));
        }
    }
}
