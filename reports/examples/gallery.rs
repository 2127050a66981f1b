//! Renders every fixture as a report and as a console summary into a folder, to be looked at:
//! `cargo run -p firedrill-reports --example gallery -- FOLDER`.

#[expect(dead_code, reason = "tests use more of it")]
#[expect(clippy::expect_used, reason = "fixtures are known")]
#[path = "../src/fixture.rs"]
mod fixture;

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "gallery".into()));
    std::fs::create_dir_all(&folder)?;
    for (name, judgement) in fixture::all() {
        let summary = firedrill_reports::console::render_summary(&judgement, 80, true);
        std::fs::write(folder.join(format!("{name}.txt")), summary)?;
        let page = firedrill_reports::html::render(&judgement).map_err(std::io::Error::other)?;
        std::fs::write(folder.join(format!("{name}.html")), page)?;
    }
    Ok(())
}
