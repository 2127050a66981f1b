use super::*;
use crate::fixture;

fn page(judgement: &Judgement) -> String {
    render(judgement).unwrap()
}

/// Where `part` is in `page`.
fn at(page: &str, part: &str) -> usize {
    page.find(part).unwrap_or_else(|| panic!("{part} is not on the page"))
}

#[test]
fn the_headline_comes_first() {
    let page = page(&fixture::two_copies());
    let lead = at(&page, "<h1><bdi>9 of 12 backups are proven restorable</bdi></h1>");
    let failed = at(&page, "1 FAILED: mariadb on primary");
    let answers = at(&page, "What would I lose?");
    assert!(lead < failed && failed < answers);
}

#[test]
fn the_three_questions_are_answered() {
    let page = page(&fixture::two_copies());
    for part in [
        "Up to 2 days 3 h",
        "the worst case is mariadb on mirror",
        "Recovery point objective missed: mariadb on mirror",
        "31 s at most",
        "50,476 files restored",
        "4 of 4 deliberate damages found",
        "What this run does not prove",
        "sqlite: whether the application accepts its own data",
    ] {
        at(&page, part);
    }
}

#[test]
fn the_best_proven_copy_of_a_tag_counts_for_what_would_be_lost() {
    let mut judgement = fixture::two_copies();
    judgement.drills.retain(|d| d.series.to_string() == "paperless");
    let page = page(&judgement);
    at(&page, "Up to 2 h 7 min");
    assert!(!page.contains("No proven backup"));
}

#[test]
fn failed_comes_before_inconclusive_before_objective_before_verified() {
    let page = page(&fixture::two_copies());
    let table = &page[at(&page, "id=\"tags\"")..at(&page, "id=\"know\"")];
    let places: Vec<_> = [
        r#"class="badge bad""#,
        r#"class="badge doubt""#,
        r#"class="badge objective""#,
        r##"href="#drill-11""##,
    ]
    .into_iter()
    .map(|part| at(table, part))
    .collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn findings_and_what_kept_us_from_looking_are_apart() {
    let damaged = page(&fixture::one_failed());
    at(&damaged, "Wrong with the backup");
    at(&damaged, "78,331,904 bytes; the end of the file is missing");
    assert!(!damaged.contains("Kept firedrill from looking"));
    let doubtful = page(&fixture::inconclusive());
    at(&doubtful, "Kept firedrill from looking");
    assert!(!doubtful.contains("Wrong with the backup"));
}

#[test]
fn the_most_telling_findings_are_not_folded_away() {
    let page = page(&fixture::one_failed());
    let fold = at(&page, "21 more");
    for code in ["restore.blob", "tree.size", "tree.content", "shape.files_drop"] {
        assert!(at(&page, code) < fold, "{code}");
    }
}

#[test]
fn no_probe_is_called_clean_when_a_finding_has_no_owner() {
    let mut judgement = fixture::one_failed();
    for finding in &mut judgement.drills[0].findings {
        finding.code = "elsewhere.what".to_owned();
    }
    let page = page(&judgement);
    let details = &page[at(&page, r#"id="drill-0""#)..at(&page, r#"id="drill-1""#)];
    at(details, "see the findings above");
    assert!(!details.contains("nothing wrong"), "{details}");
}

#[test]
fn copies_stand_side_by_side_only_when_there_are_several() {
    at(&page(&fixture::two_copies()), "Copies side by side");
    assert!(!page(&fixture::one_failed()).contains("Copies side by side"));
}

#[test]
fn the_run_can_be_found_and_repeated() {
    let judgement = fixture::all_verified();
    let page = page(&judgement);
    for part in [&judgement.run, &judgement.command, &judgement.evidence.head, "4242", "every 7 days"] {
        at(&page, part);
    }
}

#[test]
fn a_missed_control_voids_the_page() {
    let page = page(&fixture::control_missed());
    at(&page, "This run proves nothing");
    at(&page, "<b>not found</b>");
    let table = &page[at(&page, "id=\"tags\"")..at(&page, "id=\"know\"")];
    assert!(!table.contains("badge good"), "{table}");
}

#[test]
fn the_page_needs_nothing_else() {
    for (name, judgement) in fixture::all() {
        let page = page(&judgement);
        assert!(page.contains("default-src 'none'"), "{name}");
        for part in ["<script", "<link", "<img", "<iframe", "@import", "url("] {
            assert!(!page.contains(part), "{part} in {name}");
        }
        for tag in page.split('<').skip(1).filter_map(|t| t.split('>').next()) {
            assert!(
                !tag.contains("src=") && !tag.contains(" on") && !tag.contains("javascript"),
                "{name}: {tag}"
            );
        }
        for href in page.split("href=\"").skip(1) {
            assert!(href.starts_with('#'), "{name}: {}", &href[..20]);
        }
    }
}

#[test]
fn hostile_names_are_shown_and_not_obeyed() {
    let page = page(&fixture::hostile());
    at(&page, "&#60;script&#62;alert(1)&#60;/script&#62;&#60;img src");
    at(&page, r"invoice\u{202e}fdp.exe\u{200b}");
    at(&page, r"\u{1b}]0;owned\u{7}");
    assert!(!page.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}' || c == '\u{fffe}'));
}

#[test]
fn no_secret_is_shown() {
    for (name, judgement) in fixture::all() {
        assert!(!fixture::leaks(&page(&judgement)), "{name}");
    }
}

#[test]
fn every_element_is_closed() {
    for (name, judgement) in fixture::all() {
        let page = page(&judgement);
        for tag in [
            "section", "article", "table", "thead", "tbody", "tr", "td", "th", "ul", "li", "div", "span",
            "p", "b", "bdi", "a", "details", "summary", "dl", "dt", "dd", "h1", "h2", "h3", "h4", "svg",
            "header", "footer", "main",
        ] {
            let opened =
                page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag} in {name}");
        }
    }
}

#[test]
fn tables_can_be_read_aloud() {
    let page = page(&fixture::two_copies());
    assert_eq!(
        page.matches("<th").count(),
        page.matches("<thead").count() + page.matches("scope=\"").count()
    );
    at(&page, "<html lang=\"en\">");
}

#[test]
fn a_large_and_broken_fleet_makes_a_bounded_page() {
    let mut judgement = fixture::many(120);
    let bad = judgement.drills[13].clone();
    for drill in &mut judgement.drills {
        drill.findings = bad.findings.iter().cloned().cycle().take(500).collect();
        drill.findings[0].seen = "x".repeat(100_000);
        drill.verdict = bad.verdict;
    }
    let page = page(&judgement);
    assert!(page.len() < 6 << 20, "{} bytes", page.len());
    at(&page, "further findings that are not shown here");
}

#[test]
fn strange_numbers_make_no_strange_page() {
    let mut judgement = fixture::objective_missed();
    for (drill, number) in judgement.drills.iter_mut().zip([f64::NAN, f64::INFINITY, -1.0, 0.0]) {
        drill.rta.total_seconds = Some(number);
        drill.rta.phases.values_mut().for_each(|s| *s = number);
        drill.rto.objective_seconds = Some(0.0);
        drill.rpo.objective_seconds = Some(number);
    }
    let page = page(&judgement);
    assert!(!page.contains("NaN") && !page.contains(":inf"), "{page}");
}

#[test]
fn the_report_is_written_where_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reports/latest.html");
    let mut sink = Html::to_file(&path);
    sink.preflight().unwrap();
    sink.finish(&fixture::all_verified()).unwrap();
    assert!(std::fs::read_to_string(path).unwrap().starts_with("<!doctype html>"));
}

#[test]
fn a_control_that_is_switched_off_is_told_as_such() {
    let page = page(&fixture::control_off());
    assert_eq!(page.matches("switched off in the config").count(), 2, "in the answer and in its section");
    assert!(!page.contains("nothing with content") && !page.contains("Each run also damages"));
}
