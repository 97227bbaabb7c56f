//! What happens when a backend fails, or someone changes the kernel's state.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::world::{Recorder, SYNCED, World, key, service};
use crate::{
    backend::{LeftReason, Verdict},
    engine::Status,
    model::Protocol,
};

fn problems(status: &Status) -> &[String] {
    &status.backends["a"].problems
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_tried_again() {
    let backend = Recorder::default();
    backend.record().failing_starts = 4;
    let mut world = World::start(1, &[("a", &backend)]);
    let begin = Instant::now();
    let status = world.until(|status| !problems(status).is_empty()).await;
    assert_eq!(problems(&status), ["not started: open the tables: as told"]);
    assert!(status.backends["a"].start_failed);
    world.say(0, [service("web", 1), SYNCED]);
    let status = world.applied("a").await;
    // 50, 100, 200 and 400 ms.
    assert!(begin.elapsed() >= Duration::from_millis(750));
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert!(problems(&status).is_empty());
    assert!(!status.backends["a"].start_failed);
    assert_eq!(backend.record().starts, 5);
    assert_eq!(backend.record().services(), ["web"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_long_has_not_failed() {
    let backend = Recorder::default();
    backend.record().start_time = Duration::from_secs(400);
    let mut world = World::start(1, &[("a", &backend)]);
    let status = world.until(|status| !problems(status).is_empty()).await;
    assert_eq!(problems(&status), ["busy with one start for more than 60 s"]);
    assert!(!status.backends["a"].start_failed);
    let status = world.until(|status| status.backends["a"].started).await;
    assert!(problems(&status).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_delta_that_fails_is_tried_again_with_what_came_meanwhile() {
    let backend = Recorder::default();
    backend.record().failing_applies = 3;
    let mut world = World::start(1, &[("a", &backend)]);
    world.say(0, [service("web", 1), SYNCED]);
    let status = world.until(|status| !problems(status).is_empty()).await;
    assert_eq!(problems(&status), ["not applied: write the tables: as told"]);
    assert_eq!(status.backends["a"].applied, 0);
    world.say(0, [service("db", 2)]);
    let status = world.applied("a").await;
    assert!(problems(&status).is_empty());
    let record = backend.record();
    assert_eq!(record.services(), ["db", "web"]);
    assert_eq!(record.deltas.len(), 4);
    assert!(record.deltas[3].1.complete, "the first that succeeds is the full state");
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_is_tried_again() {
    let backend = Recorder::default();
    backend.record().failing_services.insert("web", 2);
    let mut world = World::start(1, &[("a", &backend)]);
    world.say(0, [service("web", 1), service("db", 2), service("mail", 3), SYNCED]);
    let status = world.until(|status| status.backends["a"].failed > 0).await;
    let problem = "default/web TCP IPv4 not applied: insert a frontend: as told";
    assert_eq!(problems(&status), [problem]);
    let status = world.applied("a").await;
    assert_eq!(status.backends["a"].failed, 0);
    assert!(problems(&status).is_empty());
    let record = backend.record();
    assert_eq!(record.named(), [vec!["db", "mail", "web"], vec!["web"], vec!["web"]]);
    assert_eq!(record.services(), ["db", "mail", "web"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_does_not_hold_up_other_services() {
    let backend = Recorder::default();
    backend.record().failing_services.insert("web", usize::MAX);
    let mut world = World::start(1, &[("a", &backend)]);
    world.say(0, [service("web", 1), SYNCED]);
    world.until(|status| status.backends["a"].failed > 0).await;
    // By now the next attempt is seconds away.
    sleep(Duration::from_secs(12)).await;
    let begin = Instant::now();
    world.say(0, [service("db", 2)]);
    while backend.record().services().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(begin.elapsed() < Duration::from_millis(50));
    world.until(|status| status.backends["a"].applied == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_service_port_that_is_gone_is_forgotten() {
    let backend = Recorder::default();
    backend.record().failing_services.insert("web", 1);
    let mut world = World::start(1, &[("a", &backend)]);
    world.say(0, [service("web", 1), SYNCED, super::world::gone("web")]);
    let status = world.applied("a").await;
    assert_eq!(status.backends["a"].failed, 0);
    assert!(backend.record().services().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bell_verifies_at_once_and_silence_verifies_every_period() {
    let backend = Recorder::default();
    let mut world = World::start(1, &[("a", &backend)]);
    world.say(0, [service("web", 1), SYNCED]);
    world.applied("a").await;
    let bell = backend.record().bell.clone().expect("started");
    let begin = Instant::now();
    bell.ring();
    bell.ring();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(backend.record().verifies, [begin], "rings are one");
    sleep(Duration::from_secs(65)).await;
    assert_eq!(backend.record().verifies.len(), 3);
    let period = Duration::from_secs(30);
    let waits: Vec<Duration> =
        backend.record().verifies.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.iter().all(|wait| *wait >= period && *wait < period * 2), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_shown_and_lost_state_is_written_anew() {
    let backend = Recorder::default();
    let mut world = World::start(1, &[("a", &backend)]);
    world.say(0, [service("web", 1), service("db", 2), SYNCED]);
    world.applied("a").await;
    {
        let mut record = backend.record();
        record.kernel.clear();
        record.verdicts.push_back(Verdict {
            problems: vec!["A link was detached.".to_owned()],
            repaired: Vec::new(),
            reapply: true,
        });
        record.bell.clone().expect("started").ring();
    }
    let status = world.until(|status| !problems(status).is_empty()).await;
    assert_eq!(problems(&status), ["A link was detached."]);
    world.applied("a").await;
    while backend.record().deltas.len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(backend.record().services(), ["db", "web"]);
    assert!(backend.record().deltas[1].1.complete);
    world.until(|status| problems(status).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_known_with_its_reason() {
    let backend = Recorder::default();
    let reason = LeftReason::Protocol(Protocol::Sctp);
    backend.record().left_services.insert("web", reason.clone());
    let mut world = World::start(1, &[("a", &backend)]);
    world.say(0, [service("web", 1), service("db", 2), SYNCED]);
    let status = world.applied("a").await;
    let left = &status.backends["a"].left;
    assert_eq!(left.iter().collect::<Vec<_>>(), [(&key("web"), &reason)]);
    backend.record().left_services.clear();
    world.say(0, [service("db", 3)]);
    let status = world.applied("a").await;
    assert_eq!(status.backends["a"].left.len(), 1, "nothing was said about web");
    world.say(0, [service("web", 4)]);
    let status = world.applied("a").await;
    assert!(status.backends["a"].left.is_empty());
}
