//! What is applied when.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::world::{PARTIAL, Recorder, SYNCED, World, gone, key, service};
use crate::source::Update;

#[tokio::test(start_paused = true)]
async fn nothing_is_applied_before_every_source_is_synced() {
    let backend = Recorder::default();
    let mut world = World::start(2, &[("a", &backend)]);
    world.say(0, [service("web", 1), SYNCED]);
    world.say(1, [service("db", 2)]);
    world.taken_in().await;
    assert!(backend.record().deltas.is_empty());
    world.say(1, [SYNCED]);
    let status = world.applied("a").await;
    assert!(status.synced);
    assert_eq!(backend.record().services(), ["db", "web"]);
    assert!(backend.record().deltas[0].1.complete);
    world.end().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_delta_and_a_change_names_itself_only() {
    let backend = Recorder::default();
    let mut world = World::start(1, &[("a", &backend)]);
    let many = (0..100).map(|number| service(&format!("s{number:02}"), number));
    world.say(0, many.chain([SYNCED]));
    world.applied("a").await;
    world.say(0, [service("s07", 207), service("s08", 8), gone("s09")]);
    world.applied("a").await;
    let named = backend.record().named();
    assert_eq!(named.len(), 2);
    assert_eq!(named[0].len(), 100);
    assert_eq!(named[1], ["s07", "s09"], "s08 is as it was");
}

#[tokio::test(start_paused = true)]
async fn what_equals_the_state_needs_no_apply_and_counts_as_applied() {
    let backend = Recorder::default();
    let mut world = World::start(1, &[("a", &backend)]);
    world.say(0, [service("web", 1), SYNCED]);
    world.applied("a").await;
    world.say(0, [service("web", 1)]);
    world.applied("a").await;
    assert_eq!(backend.record().deltas.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reset_removes_nothing_before_it_is_synced() {
    let backend = Recorder::default();
    let mut world = World::start(2, &[("a", &backend)]);
    world.say(1, [service("other", 9), SYNCED]);
    world.say(0, [service("old", 1), service("web", 2), SYNCED]);
    world.applied("a").await;
    world.say(0, [Update::Reset, service("new", 3), service("web", 2)]);
    world.applied("a").await;
    assert_eq!(backend.record().services(), ["new", "old", "other", "web"]);
    world.say(0, [PARTIAL]);
    world.applied("a").await;
    assert_eq!(backend.record().services(), ["new", "old", "other", "web"]);
    world.say(0, [SYNCED]);
    world.applied("a").await;
    assert_eq!(backend.record().services(), ["new", "other", "web"]);
}

#[tokio::test(start_paused = true)]
async fn a_partial_list_is_served_and_nothing_pruned_until_all_are_complete() {
    let backend = Recorder::default();
    let mut world = World::start(2, &[("a", &backend)]);
    backend.record().kernel.insert(key("of-an-earlier-run"), std::sync::Arc::default());
    world.say(0, [service("web", 1), PARTIAL]);
    world.say(1, [SYNCED]);
    world.applied("a").await;
    assert_eq!(backend.record().services(), ["of-an-earlier-run", "web"]);
    world.say(0, [service("db", 2), SYNCED]);
    world.applied("a").await;
    assert_eq!(backend.record().services(), ["db", "web"]);
    let complete: Vec<bool> =
        backend.record().deltas.iter().map(|(_, delta)| delta.complete).collect();
    assert_eq!(complete, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_backend_delays_no_other_and_gets_one_delta_for_what_came_meanwhile() {
    let (slow, quick) = (Recorder::default(), Recorder::default());
    slow.record().apply_time = Duration::from_secs(60);
    let mut world = World::start(1, &[("slow", &slow), ("quick", &quick)]);
    world.say(0, [service("web", 1), SYNCED]);
    world.applied("quick").await;
    let begin = Instant::now();
    for number in 2..5 {
        world.say(0, [service("web", number)]);
        world.applied("quick").await;
    }
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!(slow.record().deltas.len(), 0);
    world.applied("slow").await;
    assert_eq!(slow.record().deltas.len(), 2);
    assert_eq!(slow.record().kernel, quick.record().kernel);
}

#[tokio::test(start_paused = true)]
async fn the_least_period_between_two_applies_is_kept() {
    let backend = Recorder::default();
    let period = Duration::from_secs(3);
    let mut world = World::with(1, &[("a", &backend)], |options| options.min_sync_period = period);
    world.say(0, [service("web", 1), SYNCED]);
    world.applied("a").await;
    for number in 2..6 {
        world.say(0, [service("web", number)]);
        sleep(Duration::from_secs(1)).await;
    }
    world.applied("a").await;
    let times: Vec<Instant> = backend.record().deltas.iter().map(|(at, _)| *at).collect();
    assert!(times.len() >= 2);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= period), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_an_apply_end() {
    let backend = Recorder::default();
    backend.record().apply_time = Duration::from_secs(1);
    let mut world = World::start(1, &[("a", &backend)]);
    world.say(0, [service("web", 1), SYNCED]);
    world.until(|status| status.updates == 2).await;
    sleep(Duration::from_millis(1)).await;
    world.end().await.expect("a clean end");
    assert_eq!(backend.record().services(), ["web"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_ends_the_engine() {
    let mut world = World::start(2, &[]);
    world.say(0, [SYNCED]);
    world.fail_source(1);
    let error = world.ended().await.expect_err("the source failed");
    assert_eq!(error.to_string(), "source two cannot go on");
}
