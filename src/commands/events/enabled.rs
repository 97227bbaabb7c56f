//! A line for each event, until a signal.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use shunt_backends::connect::{Event, EventKind, EventLevel, Events};
use shunt_core::model::ObjectName;

use crate::{
    args::{EventsArgs, Level, Place},
    output::print,
    run::end_on_signal,
};

/// Prints events until a signal; then the programs write none any more.
pub(crate) async fn run(args: &EventsArgs, place: &Place) -> Result<()> {
    let service = args.service.as_deref().map(service_name).transpose()?;
    let level = match args.level {
        Level::Errors => EventLevel::Errors,
        Level::All => EventLevel::All,
    };
    let ended = end_on_signal()?;
    let mut events = Events::open(&place.pin_path, level, service)?;
    loop {
        tokio::select! {
            () = ended.cancelled() => return Ok(()),
            event = events.next() => print(&line(&event?))?,
        }
    }
}

fn service_name(text: &str) -> Result<ObjectName> {
    let (namespace, name) =
        text.split_once('/').with_context(|| format!("{text:?} is not NAMESPACE/NAME"))?;
    Ok(ObjectName::new(namespace, name))
}

fn line(event: &Event) -> String {
    let what = match event.kind {
        EventKind::Translated => "translated",
        EventKind::Refused => "refused",
        EventKind::Left => "left",
        EventKind::Unreadable => "unreadable",
        EventKind::NoStorage => "no-storage",
        EventKind::Unknown(_) => "unknown",
    };
    let protocol = if event.protocol == 17 { "UDP" } else { "TCP" };
    let seconds = event.time.as_secs_f64();
    let mut line = format!("{seconds:.6} {what:<10} {protocol} {}", event.dialled);
    // A String takes whatever is written to it.
    if let Some(endpoint) = event.endpoint {
        let _ = write!(line, " -> {endpoint}");
    }
    if let Some(service) = &event.service {
        let _ = write!(line, " service={}", service.service);
    }
    let _ = writeln!(line, " netns={}", event.netns);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_with_its_namespace() {
        assert_eq!(service_name("default/web").unwrap(), ObjectName::new("default", "web"));
        assert!(service_name("web").unwrap_err().to_string().contains("NAMESPACE/NAME"));
    }
}
