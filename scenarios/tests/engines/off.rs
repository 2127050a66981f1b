//! Where nothing restored may be started, the structure of a dump is all that is looked at, and that is said.

use firedrill_core::verdict::Verdict;

use crate::fixture::{Fixture, HEALTHY};
use crate::need::tools;
use crate::place::{Place, told};

#[test]
fn without_a_runtime_only_the_structure_is_verified() {
    if !tools() {
        return;
    }
    let fixture = Fixture::shared().unwrap();
    let place = Place::new(&fixture, "").unwrap();
    let answer = place.drill("off", &[]).unwrap();
    for (tag, probe) in HEALTHY {
        let drill = answer.drill(tag).unwrap();
        assert_eq!(drill.verdict, Verdict::Verified, "{}", told(drill));
        assert!(drill.examinations.iter().all(|examination| examination.engine.is_none()), "{}", told(drill));
        // The probe of etcd reads pages by itself where nobody else does.
        let engineless = probe == "etcd" || answer.examination(tag, probe).is_err();
        assert!(engineless, "{}", told(drill));
        let unproven: Vec<_> = drill.examinations.iter().flat_map(|e| &e.not_verified).collect();
        let words = ["whether an engine takes", "not prepared or started", "not restored into an etcd"];
        let says = |what: &&String| words.iter().any(|word| what.contains(word));
        assert!(unproven.iter().any(says), "{tag} does not say so: {unproven:#?}");
    }
    // Structure is enough for a dump without an end and for a hash that does not fit.
    for tag in ["bad-pg-cut", "bad-etcd-byte"] {
        let drill = answer.drill(tag).unwrap();
        assert_eq!(drill.verdict, Verdict::Failed, "{}", told(drill));
    }
    // It takes an engine to refuse a statement.
    let drill = answer.drill("bad-pg-statement").unwrap();
    assert_eq!(drill.verdict, Verdict::Verified, "{}", told(drill));
}

#[test]
fn what_has_to_be_loaded_is_inconclusive_without_a_runtime() {
    if !tools() {
        return;
    }
    let fixture = Fixture::shared().unwrap();
    let mut targets = String::from("targets:\n");
    for (tag, _) in HEALTHY {
        targets.push_str(&format!("  - {{name: {tag}, tag: {tag}, expect: {{load: true}}}}\n"));
    }
    let place = Place::new(&fixture, &targets).unwrap();
    let tags = HEALTHY.map(|(tag, _)| tag);
    let answer = place.drill("off", &tags).unwrap();
    assert_eq!(answer.code, 2);
    for (tag, probe) in HEALTHY {
        let drill = answer.drill(tag).unwrap();
        assert_eq!(drill.verdict, Verdict::Inconclusive, "{}", told(drill));
        let examination = answer.examination(tag, probe).unwrap();
        assert!(
            examination.interrupted.as_ref().is_some_and(|why| why.contains("runtime: off")),
            "{}",
            told(drill)
        );
    }
}
