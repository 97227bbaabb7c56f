//! What goes to standard error.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::args::{Log, LogFormat};

/// Starts logging; `RUST_LOG` adds to what the flags say.
pub(crate) fn start(log: &Log) {
    let level = match log.verbosity {
        0..=3 => LevelFilter::INFO,
        4..=5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false);
    match log.logging_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}
