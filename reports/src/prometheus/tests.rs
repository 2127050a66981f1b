use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::fixture;

fn text(judgement: &Judgement) -> String {
    encode(&families(judgement).unwrap()).unwrap()
}

#[test]
fn a_failed_tag_has_a_verdict_and_no_success() {
    let text = text(&fixture::one_failed());
    for line in [
        r#"firedrill_restore_test_verdict{copy="primary",tag="mariadb",verdict="failed"} 1"#,
        r#"firedrill_restore_test_verdict{copy="primary",tag="mariadb",verdict="verified"} 0"#,
        r#"firedrill_restore_test_verdict{copy="primary",tag="grafana",verdict="verified"} 1"#,
        r#"firedrill_restore_test_last_success_timestamp_seconds{copy="primary",tag="grafana"} 1772337634.2"#,
        r#"firedrill_restore_test_last_run_timestamp_seconds{copy="primary",tag="mariadb"} 1772337634.2"#,
        r#"firedrill_restore_test_findings{copy="primary",tag="mariadb"} 26"#,
        r#"firedrill_expected_info{copy="primary",tag="mariadb"} 1"#,
        r#"firedrill_recovery_time_objective_seconds{copy="primary",tag="grafana"} 1800"#,
        r#"firedrill_recovery_point_actual_seconds{copy="primary",tag="grafana"} 4020"#,
        r#"firedrill_recovery_point_basis{basis="data",copy="primary",tag="grafana"} 1"#,
        r#"firedrill_test_interval_seconds{copy="primary",tag="grafana"} 604800"#,
        r#"firedrill_restored_files{copy="primary",tag="grafana"} 1204"#,
        r#"firedrill_copy_ok{copy="primary"} 1"#,
        "firedrill_negative_control_ok 1",
        r#"firedrill_run_verdict{verdict="failed"} 1"#,
        "firedrill_run_duration_seconds 34.2",
        r#"firedrill_build_info{version="0.1.0"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(&format!("{LAST_SUCCESS}{{copy=\"primary\",tag=\"mariadb\"}}")), "{text}");
}

#[test]
fn every_metric_is_documented_and_a_gauge() {
    let documentation = include_str!("mod.rs");
    for (name, judgement) in fixture::all() {
        for family in families(&judgement).unwrap() {
            let stem = family.name();
            let documented = documentation.contains(&format!("`{stem}`"))
                || stem.strip_suffix("_objective_seconds").is_some_and(|s| documentation.contains(s));
            assert!(documented, "{stem} in {name}");
            assert_eq!(family.get_field_type(), prometheus::proto::MetricType::GAUGE);
            assert!(!family.help().is_empty(), "{stem}");
        }
    }
}

#[test]
fn no_snapshot_id_becomes_a_label() {
    let judgement = fixture::two_copies();
    let text = text(&judgement);
    for id in judgement.drills.iter().filter_map(|d| d.snapshot.as_ref()) {
        assert!(!text.contains(id.short()), "{id}");
    }
}

#[test]
fn what_was_not_measured_is_absent() {
    let text = text(&fixture::inconclusive());
    assert!(!text.contains(r#"firedrill_restored_bytes{copy="primary",tag="emby"}"#), "{text}");
    assert!(!text.contains(r#"firedrill_recovery_time_actual_seconds{copy="primary",tag="nextpvr"}"#));
    assert!(text.contains(r#"firedrill_restored_bytes{copy="primary",tag="mariadb"}"#));
}

#[test]
fn a_run_that_missed_its_control_has_no_success() {
    let text = text(&fixture::control_missed());
    assert!(!text.contains(LAST_SUCCESS), "{text}");
    assert!(text.contains("firedrill_negative_control_ok 0"), "{text}");
}

#[test]
fn a_run_that_was_cut_short_has_no_success() {
    assert!(!text(&fixture::cut_short()).contains(LAST_SUCCESS));
}

#[test]
fn the_reference_status_counts_tags_and_is_never_zero_in_doubt() {
    let status = |j: Judgement| unverified(&j);
    assert_eq!(status(fixture::all_verified()), 0);
    assert_eq!(status(fixture::objective_missed()), 0);
    assert_eq!(status(fixture::one_failed()), 1);
    assert_eq!(status(fixture::two_copies()), 3);
    assert_eq!(status(fixture::copy_unreadable()), 1);
    assert_eq!(status(fixture::copy_damaged()), 1);
    assert_eq!(status(fixture::control_missed()), 1);
    let text = reference_status(&fixture::one_failed(), ReferenceStatus::Untyped);
    assert!(text.contains("# TYPE backup_restore_status untyped\nbackup_restore_status 1\n"), "{text}");
}

#[test]
fn the_name_that_would_trip_backup_alerts_is_never_written() {
    for (name, judgement) in fixture::all() {
        assert!(!text(&judgement).contains("backup_start_timestamp"), "{name}");
    }
}

#[test]
fn no_series_appears_twice() {
    for (name, judgement) in fixture::all() {
        let text = text(&judgement);
        let series: Vec<_> =
            text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.rsplit_once(' ')).collect();
        let unique: BTreeSet<_> = series.iter().map(|(s, _)| s).collect();
        assert_eq!(unique.len(), series.len(), "{name}");
    }
}

/// promtool reads the text as Prometheus does. Where it is absent the test against the real Pushgateway,
/// which has the same parser, is the one that counts.
#[test]
fn promtool_has_nothing_to_say() {
    for (name, judgement) in fixture::all() {
        let child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(e) => {
                firedrill_testing::skip(&format!("promtool is missing: {e}"));
                return;
            }
        };
        child.stdin.take().unwrap().write_all(text(&judgement).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {told}");
    }
}

#[test]
fn a_run_that_drilled_nothing_is_not_verified() {
    let judgement = fixture::nothing_selected();
    let text = text(&judgement);
    for line in [
        r#"firedrill_run_verdict{verdict="verified"} 0"#,
        r#"firedrill_run_verdict{verdict="inconclusive"} 1"#,
        r#"firedrill_copy_ok{copy="primary"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(reference_status(&judgement, ReferenceStatus::Gauge).ends_with("backup_restore_status 1\n"));
}

#[test]
fn a_control_that_is_switched_off_has_no_metric() {
    let text = text(&fixture::control_off());
    assert!(!text.contains("firedrill_negative_control_ok"), "{text}");
    assert!(text.contains(r#"firedrill_run_verdict{verdict="verified"} 1"#), "{text}");
}
