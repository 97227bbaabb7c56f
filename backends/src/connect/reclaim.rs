//! Grace periods: when what programs may still be reading is free again.

use std::{
    io,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread,
};

use super::{sys, tables::Run};

/// What nobody can find any more, but a program that runs just now may have found before.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    /// Runs that no list names.
    pub(super) runs: Vec<Run>,
    /// Numbers that no frontend names.
    pub(super) lists: Vec<u32>,
}

impl Garbage {
    /// Whether there is nothing in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.lists.is_empty()
    }

    /// Takes in what another holds.
    pub(super) fn absorb(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.lists.extend(other.lists);
    }
}

/// Says when garbage is free.
pub(super) trait Grace: Send {
    /// Takes garbage over. Does not wait.
    fn retire(&mut self, garbage: Garbage);

    /// Returns garbage that has become free; with `wait`, all of it.
    fn collect(&mut self, wait: bool) -> Garbage;
}

/// Waits on a thread of its own, once for all garbage that has gathered meanwhile: a grace period
/// takes 4 to 28 ms, an apply some microseconds.
pub(super) struct Reclaimer {
    retired: Sender<Garbage>,
    free: Receiver<Garbage>,
    under_way: usize,
}

impl Reclaimer {
    /// Starts the thread, which ends when this is dropped.
    ///
    /// # Errors
    ///
    /// Fails if the thread cannot be started.
    pub(super) fn start() -> io::Result<Self> {
        let (retired, inbox) = channel::<Garbage>();
        let (outbox, free) = channel();
        thread::Builder::new()
            .name("shunt-reclaim".to_owned())
            .spawn(move || run(&inbox, &outbox))?;
        Ok(Self { retired, free, under_way: 0 })
    }
}

fn run(inbox: &Receiver<Garbage>, outbox: &Sender<Garbage>) {
    while let Ok(first) = inbox.recv() {
        let mut batches = vec![first];
        batches.extend(inbox.try_iter());
        // Without a grace period nothing is ever free again, and the tables fill up: that is an
        // error to see, while reuse without one would send connections to strangers.
        if let Err(error) = sys::wait_for_grace() {
            tracing::error!(error = %error, "cannot wait for a grace period; its space is lost");
            batches.iter_mut().for_each(|batch| *batch = Garbage::default());
        }
        for batch in batches {
            if outbox.send(batch).is_err() {
                return;
            }
        }
    }
}

impl Grace for Reclaimer {
    fn retire(&mut self, garbage: Garbage) {
        if self.retired.send(garbage).is_ok() {
            self.under_way += 1;
        }
    }

    fn collect(&mut self, wait: bool) -> Garbage {
        let mut free = Garbage::default();
        while self.under_way > 0 {
            let next = match self.free.try_recv() {
                Err(TryRecvError::Empty) if wait => self.free.recv().ok(),
                other => other.ok(),
            };
            let Some(next) = next else { break };
            self.under_way -= 1;
            free.absorb(next);
        }
        free
    }
}
