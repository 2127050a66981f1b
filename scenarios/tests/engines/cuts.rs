//! A dump that was cut is never verified. The probes' own tests cut at a thousand places; these few go all the way.

use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::seed;
use firedrill_core::verdict::Verdict;

use crate::fixture::{Fixture, back_up, gzip};
use crate::need::{folder, runtimes, tools};
use crate::place::{Place, told};

#[test]
fn a_cut_dump_is_never_verified() {
    if !tools() {
        return;
    }
    let Some(runtime) = runtimes().first().copied() else { return };
    let fixture = Fixture::shared().unwrap();
    let place = Place::new(&fixture, "").unwrap();
    let (repository, now, source) = (place.repository().unwrap(), SystemClock.now(), folder());
    let plain = fixture.dump().unwrap().into_bytes();
    let kinds = [
        ("plain", "shop.sql", plain.clone()),
        ("gz", "shop.sql.gz", fixture.file("pg-plain").unwrap()),
        ("custom", "shop.dump", fixture.file("pg-custom").unwrap()),
    ];
    let mut tags = Vec::new();
    for (kind, name, whole) in &kinds {
        // Blanks at the end hold nothing.
        let end = whole.trim_ascii_end().len();
        for number in 0..3 {
            let cut = 1 + usize::try_from(seed::child(number, kind)).unwrap() % (end - 1);
            let tag = format!("cut-{kind}-{cut}");
            back_up(&repository, source.path(), &tag, name, &whole[..cut], now).unwrap();
            tags.push(tag);
        }
    }
    // A whole gzip of a dump that was cut, as a pipe leaves it.
    for number in 0..3 {
        let cut =
            1 + usize::try_from(seed::child(number, "closed")).unwrap() % (plain.trim_ascii_end().len() - 1);
        let tag = format!("cut-closed-{cut}");
        back_up(&repository, source.path(), &tag, "shop.sql.gz", &gzip(&plain[..cut]).unwrap(), now).unwrap();
        tags.push(tag);
    }
    let asked: Vec<_> = tags.iter().map(String::as_str).collect();
    let answer = place.drill(runtime.word(), &asked).unwrap();
    let drills: Vec<_> = asked.iter().map(|tag| answer.drill(tag).unwrap()).collect();
    assert_eq!(drills.len(), 12);
    let verified: Vec<_> = drills.iter().filter(|drill| drill.verdict == Verdict::Verified).collect();
    assert!(
        verified.is_empty(),
        "{}",
        verified.iter().map(|drill| told(drill)).collect::<Vec<_>>().join("\n")
    );
}
