use std::fs;

use firedrill_core::config::jobs::StatisticsConfig;
use firedrill_core::watch::Watch;

use super::*;

fn told(facts: &[PrefixFacts]) -> Vec<(&str, u64, u64)> {
    facts.iter().map(|one| (one.prefix.as_str(), one.bytes, one.objects)).collect()
}

#[test]
fn a_folder_is_counted_by_its_folders() {
    let place = tempfile::tempdir().unwrap();
    for (name, bytes) in [("etcd/a", 10), ("etcd/deep/b", 20), ("dumps/c", 5), ("loose", 1)] {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![0; bytes]).unwrap();
    }
    std::os::unix::fs::symlink("/etc", place.path().join("elsewhere")).unwrap();
    let location = Location::Local(place.path().to_owned());
    let count = |prefixes: &[&str]| {
        let prefixes = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        let config = StatisticsConfig { prefixes, ..StatisticsConfig::default() };
        statistics(&location, &Access::default(), &config, &[], &Watch::unlimited()).unwrap()
    };
    assert_eq!(told(&count(&[]).prefixes), [("dumps", 5, 1), ("etcd", 30, 2), ("", 1, 1)]);
    assert_eq!(
        told(&count(&["etcd/", "etcd/deep", "none"]).prefixes),
        [("etcd", 10, 1), ("etcd/deep", 20, 1), ("none", 0, 0), ("", 6, 2)]
    );
    assert_eq!(count(&[]).requests_per_month, None);
    let stopped = Watch::unlimited();
    stopped.stop();
    assert!(statistics(&location, &Access::default(), &StatisticsConfig::default(), &[], &stopped).is_err());
}

#[test]
fn a_prefix_ends_at_a_slash() {
    let mut count = Count::new(&["dumps".to_owned()]);
    count.add("dumps-old/a", 1, false);
    count.add("dumps/a", 2, true);
    let facts = count.facts();
    assert_eq!(told(&facts), [("dumps", 2, 1), ("", 1, 1)]);
    assert_eq!(facts[0].archived, 1);
}

#[test]
fn counters_stay_small_in_a_bucket_without_folders() {
    let mut count = Count::new(&[]);
    for number in 0..PREFIXES_MAX + 500 {
        count.add(&format!("{number}/x"), 1, false);
    }
    let facts = count.facts();
    assert_eq!(facts.len(), PREFIXES_MAX + 1);
    assert_eq!(facts.last().unwrap().objects, 500);
}

#[test]
fn requests_follow_from_the_jobs() {
    let hourly = Planned { runs_per_month: 720.0, objects_moved: 5 };
    // Three pages, ten around, five moved.
    assert_eq!(requests(2500, &[hourly]), 720 * 18);
    assert_eq!(
        requests(2500, &[hourly, Planned { runs_per_month: 1.0, objects_moved: 2500 }]),
        720 * 18 + 2513
    );
    assert_eq!(
        requests(u64::MAX, &[Planned { runs_per_month: f64::MAX, objects_moved: u64::MAX }]),
        u64::MAX
    );
    assert_eq!(requests(1, &[Planned { runs_per_month: -1.0, objects_moved: 1 }]), 0);
}
