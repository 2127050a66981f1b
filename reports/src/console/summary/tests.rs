use super::*;
use crate::fixture;

#[test]
fn one_failed_tag_at_80_columns() {
    insta::assert_snapshot!(render_summary(&fixture::one_failed(), 80, false), @r#"

    5 of 6 tags are proven restorable; 1 FAILED: mariadb

    VERDICT     TAG         SNAPSHOT   AGE  FILES     SIZE   RTA/RTO   RPA/RPO
    ✘ FAILED    mariadb     d038cc5e  3.1h    412  5.0 GiB   23s/30m  3.1h/26h
    ✔ verified  grafana     e8ad0d80   67m  1,204  256 MiB  3.1s/30m   67m/26h
    ✔ verified  paperless   b8a2642e  2.1h    18k   12 GiB   31s/30m  2.1h/26h
    ✔ verified  emby        7f8b0a78   67m  9,120  2.0 GiB   12s/30m   67m/26h
    ✔ verified  downloader  9067201a   67m    733  400 MiB  4.4s/30m   67m/26h
    ✔ verified  nextpvr     1397d9e8   67m     96   30 MiB  0.7s/30m   67m/26h

    ✘ FAILED: mariadb
      - restore.blob: var/lib/mysql/ibdata1
        expected chunk 4f1a09be, 1.3 MiB, saw the pack file 77ab21f0 ends after 412
        bytes
      - tree.size: var/lib/mysql/ibdata1
        expected 79,691,776 bytes, saw 78,331,904 bytes; the end of the file is
        missing
      - tree.content: var/lib/mysql/orders/t000.ibd (and 22 more like it)
        expected SHA-256 1f0c9e5b…, saw SHA-256 a771d03e…
      - shape.files_drop: var/lib/mysql/orders
        expected about 412 files, as in the last verified snapshot, saw 131 files

    negative control: 4 of 4 deliberate damages found
    6 tags: 5 verified, 1 failed, 0 inconclusive in 34 s
    replay (seed 4242): firedrill restore-test --repository rest:http://backup:8000/fleet --seed 4242
    "#);
}

#[test]
fn two_copies_at_80_columns() {
    insta::assert_snapshot!(render_summary(&fixture::two_copies(), 80, false), @r#"

    9 of 12 backups are proven restorable; 1 FAILED: mariadb on primary; 2
    inconclusive: paperless on mirror, emby on mirror; 2 missed an objective:
    paperless on primary, mariadb on mirror

    VERDICT         TAG         SNAPSHOT   AGE     SIZE   RTA/RTO   RPA/RPO
    primary  rest:http://backup:8000/fleet
    ✘ FAILED        mariadb     d038cc5e  3.1h  5.0 GiB   23s/30m  3.1h/26h
    ! verified      paperless   b8a2642e  2.1h   12 GiB   31s>20s  2.1h/26h
    ✔ verified      grafana     e8ad0d80   67m  256 MiB  3.1s/30m   67m/26h
    ✔ verified      emby        7f8b0a78   67m  2.0 GiB   12s/30m   67m/26h
    ✔ verified      downloader  9067201a   67m  400 MiB  4.4s/30m   67m/26h
    ✔ verified      nextpvr     1397d9e8   67m   30 MiB  0.7s/30m   67m/26h
    mirror  s3:https://s3.example.net/fleet-mirror
    ? inconclusive  paperless   b8a2642e  2.1h   12 GiB   31s/30m  2.1h/26h
    ? inconclusive  emby        7f8b0a78   67m        -     -/30m     -/26h
    ! verified      mariadb     d038cc5e    2d  5.0 GiB   23s/30m   2d*>26h
    ✔ verified      grafana     e8ad0d80   67m  256 MiB  3.1s/30m   67m/26h
    ✔ verified      downloader  9067201a   67m  400 MiB  4.4s/30m   67m/26h
    ✔ verified      nextpvr     1397d9e8   67m   30 MiB  0.7s/30m   67m/26h
    * known only from the time of the snapshot: when the job ran, not how recent its
    data is

    ✘ FAILED: mariadb on primary
      - restore.blob: var/lib/mysql/ibdata1
        expected chunk 4f1a09be, 1.3 MiB, saw the pack file 77ab21f0 ends after 412
        bytes
      - tree.size: var/lib/mysql/ibdata1
        expected 79,691,776 bytes, saw 78,331,904 bytes; the end of the file is
        missing
      - tree.content: var/lib/mysql/orders/t000.ibd (and 22 more like it)
        expected SHA-256 1f0c9e5b…, saw SHA-256 a771d03e…
      - shape.files_drop: var/lib/mysql/orders
        expected about 412 files, as in the last verified snapshot, saw 131 files

    ? inconclusive: paperless on mirror
      - the probe `sqlite` was interrupted: the limit of 10m passed

    ? inconclusive: emby on mirror
      - failed to read pack 77ab21f0 from the copy mirror: connection reset by peer
        (look at the repository server's log, then run this again)

    ! paperless on primary: restorable, but an objective was missed
      - recovery time objective missed: 20 s promised, 31 s measured

    ! mariadb on mirror: restorable, but an objective was missed
      - recovery point objective missed: 26 h promised, 2 days 3 h measured

    negative control: 4 of 4 deliberate damages found
    12 drills of 6 tags on 2 copies: 9 verified, 1 failed, 2 inconclusive, 2 missed
    an objective in 34 s
    replay (seed 4242): firedrill restore-test --repository rest:http://backup:8000/fleet --seed 4242
    "#);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [72, 80, 100, 140] {
        for (name, judgement) in fixture::all() {
            for line in render_summary(&judgement, width, false).lines() {
                let fits = text::width(line) <= width || line.starts_with("replay");
                assert!(fits, "{name} at {width}: {line}");
            }
        }
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    for (name, judgement) in fixture::all() {
        let plain = render_summary(&judgement, 80, false);
        assert!(!plain.contains('\u{1b}'), "{name}");
        let mut coloured = render_summary(&judgement, 80, true);
        assert_ne!(coloured, plain, "{name}");
        for code in ["1;31", "33", "32", "1", "2", "0"] {
            coloured = coloured.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(coloured, plain, "{name}");
    }
}

#[test]
fn every_standing_has_a_word_of_its_own_without_colour() {
    let text = render_summary(&fixture::two_copies(), 80, false);
    for badge in ["✘ FAILED", "? inconclusive", "! verified", "✔ verified"] {
        assert!(text.lines().any(|l| l.starts_with(badge)), "{badge}");
    }
}

#[test]
fn a_missed_objective_shows_in_the_table() {
    let text = render_summary(&fixture::objective_missed(), 80, false);
    assert!(text.contains("31s>20s"), "{text}");
    assert!(text.contains("2d*>26h"), "{text}");
    assert!(text.contains("* known only from the time of the snapshot"), "{text}");
}

#[test]
fn a_large_fleet_is_cut_to_what_matters() {
    let text = render_summary(&fixture::many(200), 80, false);
    assert!(text.lines().count() < 100, "{text}");
    assert!(text.contains("and 160 more verified drills"), "{text}");
    assert_eq!(text.matches("✘ FAILED: ").count(), 3);
}

#[test]
fn nothing_is_green_when_the_control_was_missed() {
    let text = render_summary(&fixture::control_missed(), 80, true);
    assert!(!text.contains("\u{1b}[32m"), "{text}");
    assert!(text.contains("not found: a file was cut in half (data/log.0)"), "{text}");
}

#[test]
fn secrets_are_not_shown() {
    for (name, judgement) in fixture::all() {
        assert!(!fixture::leaks(&render_summary(&judgement, 80, false)), "{name}");
    }
}

#[test]
fn a_control_that_is_switched_off_is_told_as_such() {
    let text = render_summary(&fixture::control_off(), 120, false);
    assert!(text.contains("negative control: switched off in the config"), "{text}");
    assert!(!text.contains("nothing with content"), "{text}");
}
