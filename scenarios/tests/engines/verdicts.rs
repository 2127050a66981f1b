//! The same backups get the same verdicts for the same reasons, wherever the engines run.

use anyhow::{Context as _, Result, ensure};
use firedrill_core::event::Phase;
use firedrill_core::verdict::Verdict;

use crate::fixture::{DAMAGED, Fixture, HEALTHY};
use crate::need::{Runtime, runtimes, tools};
use crate::place::{Answer, Place, told};

#[test]
fn both_runtimes_say_the_same() {
    if !tools() {
        return;
    }
    let fixture = Fixture::shared().unwrap();
    let place = Place::new(&fixture, "").unwrap();
    let mut answers: Vec<(Runtime, Answer)> = Vec::new();
    for runtime in runtimes() {
        let answer = place.drill(runtime.word(), &[]).unwrap();
        assert_eq!(answer.code, 1, "{runtime:?}: some are damaged");
        problems(runtime, &answer).unwrap();
        answers.push((runtime, answer));
    }
    if let [(_, one), (_, other)] = answers.as_slice() {
        for (tag, _) in HEALTHY.iter().chain(&DAMAGED) {
            let (left, right) = (one.drill(tag).unwrap(), other.drill(tag).unwrap());
            assert_eq!(left.verdict, right.verdict, "{}\n{}", told(left), told(right));
            assert_eq!(one.codes(tag).unwrap(), other.codes(tag).unwrap(), "{}\n{}", told(left), told(right));
        }
    }
}

/// All that is wrong with an answer.
fn problems(runtime: Runtime, answer: &Answer) -> Result<()> {
    let expected = HEALTHY.iter().map(|(tag, probe)| (tag, probe, Verdict::Verified));
    let damaged = DAMAGED.iter().map(|(tag, probe)| (tag, probe, Verdict::Failed));
    let mut problems = Vec::new();
    for (tag, probe, verdict) in expected.chain(damaged) {
        if let Err(error) = expect(runtime, answer, tag, probe, verdict) {
            let drill = answer.drill(tag).map(told).unwrap_or_default();
            problems.push(format!("{runtime:?}, {tag}: {error:#}\n{drill}"));
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n\n"));
    Ok(())
}

fn expect(runtime: Runtime, answer: &Answer, tag: &str, probe: &str, verdict: Verdict) -> Result<()> {
    let drill = answer.drill(tag)?;
    ensure!(drill.verdict == verdict, "the verdict is {}", drill.verdict);
    let examination = answer.examination(tag, probe)?;
    let engine = examination.engine.as_ref().context("no engine was used")?;
    ensure!(!engine.cells.is_empty(), "no cell was opened");
    for cell in &engine.cells {
        ensure!(cell.runtime == runtime.word(), "its cell is of the {} runtime", cell.runtime);
        ensure!(cell.of(probe).is_some_and(|software| software.version.is_some()), "without a version");
        ensure!(cell.seal.verdict().is_ok() && cell.seal.accepted.is_empty(), "its seal: {:?}", cell.seal);
    }
    if verdict == Verdict::Verified {
        ensure!(drill.errors.is_empty(), "there are errors");
        ensure!(examination.checked > 0, "nothing was checked");
        for phase in [Phase::Start, Phase::Load, Phase::Answer, Phase::Verify] {
            ensure!(
                engine.phases.contains_key(&phase),
                "no time was spent on {phase:?}: {:?}",
                engine.phases
            );
        }
    }
    Ok(())
}
