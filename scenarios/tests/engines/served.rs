//! An application and a group on dumps of real servers, drilled by the real command in both runtimes.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::verdict::Verdict;

use crate::fixture::{Fixture, back_up, gzip};
use crate::need::{runtimes, tools};
use crate::place::{Answer, Place, told};

/// What the application says of the customers, with psql: it knows nothing that is not in its database.
const SERVER: &str = r#"
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "$!\n";
while (my $c = $s->accept) {
  while (my $line = <$c>) { last if $line =~ /^\r?\n$/ }
  my $list = qx{psql -X -A -t -h shop-db -U clerk -c "SELECT json_agg(name ORDER BY id) FROM customers" shop 2>&1};
  my $status = $? == 0 ? 200 : 503;
  print $c "HTTP/1.1 $status X\r\nContent-Length: ", length $list, "\r\n\r\n", $list;
  close $c;
}
"#;

/// Each case is a target or a group, with its verdict and the code by which it is found out.
const CASES: [(&str, Verdict, Option<&str>); 7] = [
    ("shop", Verdict::Verified, None),
    ("shop-few", Verdict::Failed, Some("app.answer")),
    ("shop-cut", Verdict::Failed, Some("postgres.truncated")),
    ("papers-whole", Verdict::Verified, None),
    ("papers-lost", Verdict::Failed, Some("group.invariant")),
    ("orders-whole", Verdict::Verified, None),
    ("orders-lost", Verdict::Failed, Some("group.invariant")),
];

fn config() -> String {
    let indented = SERVER.trim().replace('\n', "\n            ");
    let app = |name: &str, tag: &str| {
        format!(
            "  - name: {name}\n    tag: {tag}\n    app:\n      command: [perl, server.pl]\n      kit: postgres\n\
             \x20     aliases: [shop-db]\n      files:\n        server.pl: |\n            {indented}\n\
             \x20     databases: [{{postgres: shop.sql.gz, database: shop, user: clerk}}]\n      port: 8080\n\
             \x20     http: [{{path: /customers, json: {{\"\": {{min: 200}}, /199: customer 200}}}}]\n\
             \x20     start_limit: 5s\n"
        )
    };
    let group = |name: &str, dumps: &str, query: &str| {
        format!(
            "  - name: {name}\n    targets: [{dumps}, papers]\n    invariants:\n      - name: paper\n        query: {query}\n\
             \x20       file: \"papers/{{1}}\"\n        md5: \"{{2}}\"\n"
        )
    };
    let paper = |numbers: &str| {
        format!(
            "{{postgres: shop/shop.sql.gz, sql: \"SELECT name || '.txt', md5('the paper of ' || name) \
             FROM customers WHERE id IN ({numbers})\"}}"
        )
    };
    let order = |numbers: &str| {
        format!(
            "{{mariadb: maria-dump/shop.sql, sql: \"SELECT concat('customer ', id, '.txt'), md5(concat('the paper of \
             customer ', id)) FROM orders WHERE id IN ({numbers})\"}}"
        )
    };
    [
        "targets:\n".to_owned(),
        app("shop", "pg-plain"),
        app("shop-few", "pg-few"),
        app("shop-cut", "bad-pg-cut"),
        "  - {name: papers, tag: papers}\n  - {name: maria-dump, tag: maria-dump}\ngroups:\n".to_owned(),
        group("papers-whole", "shop", &paper("7")),
        group("papers-lost", "shop", &paper("7, 8")),
        group("orders-whole", "maria-dump", &order("7")),
        group("orders-lost", "maria-dump", &order("7, 8")),
    ]
    .concat()
}

#[test]
fn applications_and_groups_say_the_same_in_both_runtimes() {
    if !tools() {
        return;
    }
    let fixture = Fixture::shared().unwrap();
    let place = Place::new(&fixture, &config()).unwrap();
    furnish(&fixture, &place).unwrap();
    let names = CASES.map(|(name, ..)| name);
    let mut seen: Vec<Vec<BTreeSet<String>>> = Vec::new();
    for runtime in runtimes() {
        let answer = place.drill_targets(runtime.word(), &names).unwrap();
        let codes = CASES.iter().map(|case| expect(&answer, runtime.word(), case));
        let codes = codes.collect::<Result<Vec<_>>>();
        seen.push(codes.unwrap_or_else(|error| panic!("{runtime:?}: {error:#}")));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
}

/// Adds the paper of one customer, and a dump without the row of another.
fn furnish(fixture: &Fixture, place: &Place) -> Result<()> {
    let (repository, source) = (place.repository()?, place.path("source"));
    let now = SystemClock.now();
    back_up(&repository, &source, "papers", "customer 7.txt", b"the paper of customer 7", now)?;
    let dump = fixture.dump()?;
    let row = dump.lines().find(|line| line.ends_with("\tcustomer 200")).context("the dump has rows")?;
    // Its orders go with it, or the dump would not load.
    let number = row.split('\t').next().context("it has a number")?.to_owned();
    let kept = dump.lines().filter(|line| {
        let mut columns = line.split('\t');
        let order = columns.clone().count() == 4 && columns.nth(1) == Some(number.as_str());
        *line != row && !order
    });
    let few: Vec<_> = kept.collect();
    back_up(&repository, &source, "pg-few", "shop.sql.gz", &gzip((few.join("\n") + "\n").as_bytes())?, now)
}

/// The codes of a case, which went as it should.
fn expect(
    answer: &Answer,
    runtime: &str,
    (name, verdict, code): &(&str, Verdict, Option<&str>),
) -> Result<BTreeSet<String>> {
    let is_app = name.starts_with("shop");
    let label = if is_app { (*name).to_owned() } else { format!("group:{name}") };
    let drill = answer.drill(&label)?;
    ensure!(drill.verdict == *verdict, "{}", told(drill));
    let codes: BTreeSet<String> = drill.findings.iter().map(|finding| finding.code.clone()).collect();
    ensure!(code.is_none_or(|code| codes.contains(code)), "{}", told(drill));
    let probe = if is_app { "app" } else { "group" };
    let examination = answer.examination(&label, probe)?;
    let engine = examination.engine.as_ref().context("nothing was started")?;
    ensure!(engine.cells.iter().all(|cell| cell.runtime == runtime), "another runtime was used");
    Ok(codes)
}
