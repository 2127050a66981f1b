//! Which jobs there are, and which of them meet by plan.

use super::{config, jobs, target};
use crate::config::load;
use crate::pipeline::overlap::meetings;
use crate::pipeline::spec::{JobSpec, Mode};

#[test]
fn a_job_needs_its_copies_in_its_way() {
    let text = format!(
        "targets:\n{}jobs:\n  - {{name: retention, retention: {{copy: local, keep: {{daily: 7}}}}}}\n  - {{name: mirror, mirror: {{from: local, to: offsite}}}}\n  - {{name: test, restore_test: {{}}}}\n",
        target("shop", "0 * * * *", "")
    );
    let all = jobs(&text);
    let names: Vec<_> = all.iter().map(|job| job.name.0.as_str()).collect();
    assert_eq!(names, ["mirror", "retention", "shop", "test"]);
    let excluded = |a: usize, b: usize| all[a].excludes(&all[b]);
    for (a, b, met) in [
        (1, 2, true),  // retention and a backup
        (1, 0, true),  // retention and what reads its copy
        (1, 3, true),  // retention and a restore test
        (0, 3, true),  // what writes the mirror, and what restores from it
        (0, 2, false), // the source of a mirror may grow
        (2, 3, false), // and what is restored may, too
        (2, 2, false),
    ] {
        assert_eq!((excluded(a, b), excluded(b, a)), (met, met), "{} and {}", names[a], names[b]);
    }
    assert!(all[0].needs.iter().any(|need| need.copy == "offsite" && need.mode == Mode::Exclusive));
}

#[test]
fn a_restore_test_of_plain_objects_keeps_their_retention_off() {
    let text = "version: 1\ncopies:\n  - {name: dumps, kind: object_dump, repository: /srv/dumps}\n  - {name: bucket, kind: velero, repository: of Velero}\njobs:\n  - {name: retention, retention: {copy: dumps, keep: {daily: 7}}}\n  - {name: test, restore_test: {}}\n";
    let config = load(text, "firedrill.yaml").unwrap_or_else(|problems| panic!("{problems}")).config;
    let all = JobSpec::all(&config);
    assert!(all[0].excludes(&all[1]) && all[1].excludes(&all[0]));
    // What this version does not read, it does not hold.
    assert!(all[1].needs.iter().all(|need| need.copy == "dumps"), "{:?}", all[1].needs);
}

/// The retention of S1 at 03:05, and an archive that is backed up hourly with two hours of time for it.
fn s1(paperless: &str, retention: &str) -> String {
    format!(
        "targets:\n{}{}jobs:\n  - {{name: retention, schedule: \"5 3 * * *\", rules: {{{retention}}}, retention: {{copy: local, keep: {{daily: 7}}}}}}\n",
        target("paperless", "0 * * * *", paperless),
        target("grafana", "20 * * * *", "deadline: 540s"),
    )
}

#[test]
fn jobs_that_meet_by_plan_are_told_with_their_times() {
    let met = meetings(&jobs(&s1("deadline: 7200s", "deadline: 50m")));
    let told: Vec<_> =
        met.iter().map(|m| format!("{} {} {} {}", m.first, m.first_at, m.second, m.second_at)).collect();
    assert_eq!(
        told,
        ["paperless Mon 02:00 retention Mon 03:05", "retention Mon 03:05 grafana Mon 03:20",],
        "{met:?}"
    );
    // With less time, and another one, they do not.
    let met = meetings(&jobs(&s1("deadline: 4m", "deadline: 14m")));
    assert!(met.is_empty(), "{met:?}");
    assert!(meetings(&jobs("")).is_empty());
}

#[test]
fn the_config_check_warns_of_meetings_until_somebody_means_them() {
    let warnings = |rest: String| {
        let text = format!("version: 1\ncopies: [{{name: local, repository: /srv/restic}}]\n{rest}");
        load(&text, "firedrill.yaml").unwrap_or_else(|problems| panic!("{problems}")).warnings
    };
    let told = warnings(s1("deadline: 7200s", "deadline: 14m"));
    assert_eq!(told.list().len(), 1, "{told}");
    let text = told.to_string();
    assert!(text.contains("`retention` is started on Mon 03:05") && text.contains("`paperless`"), "{text}");
    assert!(text.contains("may run 2h (its deadline)") && text.contains("overlap: wait"), "{text}");
    assert!(warnings(s1("deadline: 7200s", "deadline: 14m, overlap: wait")).is_empty());
    assert!(warnings(s1("deadline: 4m", "")).is_empty());
}

#[test]
fn the_destination_is_the_only_primary_copy() {
    let config = config(&format!("targets:\n{}", target("shop", "0 * * * *", "")));
    let all = JobSpec::all(&config);
    assert_eq!(all[0].needs[0].copy, "local");
    assert_eq!(all[0].needs[0].mode, Mode::Shared);
}
