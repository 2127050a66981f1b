use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use firedrill_core::event::Event;
use indicatif::{ProgressDrawTarget, TermLike};

use super::*;
use crate::fixture;

/// What was written, readable while it is being written.
#[derive(Clone, Debug, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal that remembers what was written to it, and how often.
#[derive(Clone, Debug, Default)]
struct Terminal {
    written: Written,
    draws: Arc<AtomicUsize>,
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        100
    }
    fn height(&self) -> u16 {
        30
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        writeln!(self.written.clone(), "{text}")
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.written.clone().write_all(text.as_bytes())
    }
    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        self.draws.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn options(live: LiveStyle) -> ConsoleOptions {
    ConsoleOptions {
        live,
        summary: SummaryPlace::Stdout,
        colour: false,
        width: 80,
        places: vec![("report".to_owned(), "runs/x/report.html".to_owned())],
    }
}

fn console(live: LiveStyle) -> (Console, Written, Written) {
    let (out, log) = (Written::default(), Written::default());
    let console = Console::writing_to(options(live), Box::new(out.clone()), Box::new(log.clone()));
    (console, out, log)
}

#[test]
fn a_log_gets_plain_lines() {
    let (mut console, out, log) = console(LiveStyle::Lines);
    for record in fixture::records() {
        console.accept(&record);
    }
    console.finish(&fixture::all_verified()).unwrap();
    let log = log.text();
    assert!(log.starts_with("firedrill 0.1.0, run 2026-03-01T04-00-00Z-4242: 6 drills, seed 4242\nreplay: "));
    for part in [
        "primary opened: 214 snapshots in 0.8 s\n",
        "primary::grafana::latest started\n",
        "primary::grafana::latest restored 256 MiB in 1,204 files in ",
        "primary::grafana::latest ended after 0.0 s: nothing wrong found\n",
        "negative control: 4 deliberate damages done\n",
        "negative control ended after 0.0 s: 4 findings of damage that was done on purpose\n",
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    assert!(!log.contains('\u{1b}') && !log.contains('\r'), "{log:?}");
    assert!(!log.contains("verified"), "verdicts come from the judge: {log}");
    assert!(out.text().ends_with("report: runs/x/report.html\n"), "{}", out.text());
}

#[test]
fn hostile_names_reach_no_terminal() {
    let records = fixture::hostile_records();
    for live in [LiveStyle::Lines, LiveStyle::Bars] {
        let (mut console, out, log) = console(live);
        for record in &records {
            console.accept(record);
        }
        console.finish(&fixture::hostile()).unwrap();
        for text in [out.text(), log.text()] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
            assert!(!text.contains('\u{202e}'));
        }
    }
}

#[test]
fn errors_are_told_at_once_and_without_secrets() {
    let (mut console, _, log) = console(LiveStyle::Lines);
    let mut record = fixture::records().remove(0);
    record.event = Event::CopyError {
        copy: firedrill_core::snapshot::CopyName("primary".to_owned()),
        error: Error::new(ErrorKind::Unavailable, "open http://user:hunter2@host/").because("refused"),
    };
    console.accept(&record);
    assert_eq!(log.text(), "primary: failed to open http://***@host/: refused\n");
}

#[test]
fn bars_show_bytes_and_are_drawn_at_a_bounded_rate() {
    let terminal = Terminal::default();
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 8);
    let live = Live::drawing_to(LiveStyle::Bars, Box::new(io::sink()), target);
    let started = Instant::now();
    let name = DrillName("primary::grafana::latest".to_owned());
    let progress = Arc::new(Progress::default());
    progress.expect(8 << 30);
    live.watch(&name, Arc::clone(&progress));
    while started.elapsed() < Duration::from_millis(900) {
        progress.advance(1 << 20);
        std::thread::sleep(Duration::from_micros(200));
    }
    let drawn = terminal.written.text();
    let draws = terminal.draws.load(Ordering::Relaxed);
    live.stop();
    assert!(drawn.contains("primary::grafana "), "{drawn}");
    assert!(!drawn.contains('░'), "no bar is drawn in a style that is not ours: {drawn}");
    assert!(drawn.contains("8.00 GiB") && drawn.contains("/s"), "{drawn}");
    assert!(drawn.contains("0 of 1 drills done, 1 running"), "{drawn}");
    // A new bar is drawn at once, beyond the rate.
    assert!((2..=24).contains(&draws), "{draws} draws in 0.9 s");
}

#[test]
fn many_drills_at_once_do_not_flood_the_terminal() {
    let terminal = Terminal::default();
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 8);
    let live = Live::drawing_to(LiveStyle::Bars, Box::new(io::sink()), target);
    for i in 0..200 {
        let progress = Arc::new(Progress::default());
        progress.expect(100);
        live.watch(&DrillName(format!("primary::t{i:03}::latest")), progress);
    }
    std::thread::sleep(Duration::from_millis(400));
    let drawn = terminal.written.text();
    live.stop();
    assert!(drawn.contains("t000") && drawn.contains("t011") && !drawn.contains("t012"), "{drawn}");
    assert!(drawn.contains("200 running"), "{drawn}");
}

#[test]
fn a_console_can_be_dropped_while_it_draws() {
    let (console, _, _) = console(LiveStyle::Lines);
    console.watch(&DrillName("primary::a::latest".to_owned()), Arc::default());
    let clone = console.clone();
    drop(console);
    clone.live.stop();
    clone.live.stop();
}

#[test]
fn nothing_is_shown_when_nothing_is_wanted() {
    let (mut console, out, log) = console(LiveStyle::Off);
    console.options.summary = SummaryPlace::Off;
    for record in fixture::records() {
        console.accept(&record);
    }
    console.watch(&DrillName("primary::a::latest".to_owned()), Arc::default());
    console.finish(&fixture::all_verified()).unwrap();
    assert_eq!((out.text(), log.text()), (String::new(), String::new()));
}
