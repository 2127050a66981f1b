//! Sinks: from arguments and config to where results go.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use firedrill_core::config::{Config, Pushgateway as PushgatewayConfig};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::evidence::{self, Record};
use firedrill_core::judge::Judgement;
use firedrill_core::ports::Sink;
use firedrill_core::secret::Secret;
use firedrill_core::verdict::Exit;
use firedrill_reports::console::{Console, ConsoleOptions, SummaryPlace};
use firedrill_reports::html::Html;
use firedrill_reports::json::Json;
use firedrill_reports::junit::Junit;
use firedrill_reports::prometheus::{ReferenceStatus, Textfile};
use firedrill_reports::pushgateway::{Auth, Pushgateway, PushgatewayOptions};

use crate::args::SinkArgs;
use crate::complain;

/// The name of the recovery report beside the evidence.
const REPORT: &str = "report.html";

/// All sinks of a command.
pub(crate) struct Sinks {
    console: Console,
    others: Vec<Box<dyn Sink>>,
    textfile: Option<Textfile>,
    pushgateway: Option<PushgatewayOptions>,
    files: Vec<PathBuf>,
}

impl Sinks {
    /// The sinks that the arguments name; where they name none, those of the config.
    pub(crate) fn new(args: &SinkArgs, config: Option<&Config>) -> Result<Self> {
        let configured = config.map(|c| c.sinks.clone()).unwrap_or_default();
        let place = if args.json { SummaryPlace::Stderr } else { SummaryPlace::Stdout };
        let mut others: Vec<Box<dyn Sink>> = Vec::new();
        if args.json {
            others.push(Box::new(Json::to_stdout()));
        }
        let json = args.json_file.clone().or(configured.json);
        if let Some(file) = &json {
            others.push(Box::new(Json::to_file(file)));
        }
        let junit = args.junit.clone().or(configured.junit);
        if let Some(file) = &junit {
            others.push(Box::new(Junit::to_file(file)));
        }
        let html = args.html.clone().or(configured.html);
        if let Some(file) = &html {
            others.push(Box::new(Html::to_file(file)));
        }
        let textfile = args.prometheus_file.clone().or(configured.prometheus_file);
        let files = [json, junit, html, textfile.clone()].into_iter().flatten().collect();
        let pushgateway = match &args.pushgateway {
            Some(url) => Some(PushgatewayOptions::new(url)),
            None => configured.pushgateway.as_ref().map(pushgateway).transpose()?,
        };
        Ok(Self {
            console: Console::new(ConsoleOptions::detect(place)),
            others,
            textfile: textfile.map(|file| Textfile::new(file, ReferenceStatus::Gauge)),
            pushgateway,
            files,
        })
    }

    /// Writes the recovery report into the folder of the run, too.
    pub(crate) fn report_beside(&mut self, run_folder: &Path) {
        let report = run_folder.join(REPORT);
        self.console.name_place("report", report.display().to_string());
        self.console.name_place("evidence", run_folder.join(evidence::FILE).display().to_string());
        self.others.push(Box::new(Html::to_file(report)));
    }

    /// Says that the run looks at every tag, so that metrics of tags that are gone may go, too.
    pub(crate) fn covers_everything(&mut self, everything: bool) {
        self.textfile = self.textfile.take().map(|t| t.prune(everything));
        if let Some(options) = &mut self.pushgateway {
            options.prune = everything;
        }
    }

    /// The files that sinks will write.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Checks every sink before anything is restored.
    pub(crate) fn preflight(&mut self) -> Result<()> {
        let metrics = self.textfile.take().map(|t| Box::new(t) as Box<dyn Sink>);
        let push = self.pushgateway.take().map(|o| Box::new(Pushgateway::new(o)) as Box<dyn Sink>);
        self.others.extend(metrics.into_iter().chain(push));
        self.others.iter_mut().try_for_each(|sink| sink.preflight())
    }

    /// A handle to the console.
    pub(crate) fn console(&self) -> Console {
        self.console.clone()
    }

    /// Hands a record to every sink.
    pub(crate) fn accept(&mut self, record: &Record) {
        self.console.accept(record);
        for sink in &mut self.others {
            sink.accept(record);
        }
    }

    /// Hands the verdicts to every sink. One that fails is told, and keeps none of the others from its work.
    pub(crate) fn finish(&mut self, judgement: &Judgement) -> Exit {
        for drill in &judgement.drills {
            if let Some(place) = &drill.kept {
                self.console.name_place(format!("kept {}", drill.name), place);
            }
        }
        let mut exit = judgement.exit;
        let console: &mut dyn Sink = &mut self.console;
        for sink in self.others.iter_mut().map(|s| &mut **s as &mut dyn Sink).chain([console]) {
            // A sink that panics keeps none of the others from its work either.
            let finished = catch_unwind(AssertUnwindSafe(|| sink.finish(judgement))).unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Internal, format!("finish {}", sink.name())).because("it panicked"))
            });
            if let Err(error) = finished {
                complain(&error);
                exit = exit.or(Exit::SinkFailed);
            }
        }
        exit
    }
}

pub(crate) fn pushgateway(config: &PushgatewayConfig) -> Result<PushgatewayOptions> {
    let mut options = PushgatewayOptions::new(&config.url);
    options.job.clone_from(&config.job);
    options.instance.clone_from(&config.instance);
    if let (Some(user), Some(name)) = (&config.username, &config.password_env) {
        let password = std::env::var(name).map_err(|_| {
            Error::new(ErrorKind::Usage, "push metrics").because(format!("the variable {name} is not set"))
        })?;
        options.auth = Auth::Basic { user: user.clone(), password: Secret::new(password) };
    }
    Ok(options)
}
