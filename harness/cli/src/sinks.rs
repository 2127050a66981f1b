//! Sinks: from arguments and config to where results go.

use std::io::IsTerminal as _;
use std::path::Path;

use firedrill_core::config::{Config, Pushgateway as PushgatewayConfig};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::evidence::Record;
use firedrill_core::judge::Judgement;
use firedrill_core::ports::Sink;
use firedrill_core::secret::Secret;
use firedrill_core::verdict::Exit;
use firedrill_reports::console::{Console, ConsoleOptions};
use firedrill_reports::html::Html;
use firedrill_reports::json::Json;
use firedrill_reports::junit::Junit;
use firedrill_reports::prometheus::{ReferenceStatus, Textfile};
use firedrill_reports::pushgateway::{Auth, Pushgateway, PushgatewayOptions};

use crate::args::SinkArgs;
use crate::complain;

/// All sinks of a command.
pub(crate) struct Sinks {
    console: Console,
    others: Vec<Box<dyn Sink>>,
    textfile: Option<Textfile>,
    pushgateway: Option<PushgatewayOptions>,
}
