//! The streams that the driver sends: fingerprints, statistics, events.
//!
//! Fingerprints and events never end by themselves: the client would ask again without a pause.

use super::Answers;
use crate::convert;
use crate::face::Usage;
use crate::shared::Shared;
use crate::wire::driver as pb;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// How often the host is looked at anew.
const FINGERPRINT_EVERY: Duration = Duration::from_secs(30);
/// Used when the client names no interval.
const STATS_EVERY: Duration = Duration::from_secs(1);
/// The least that is accepted: reading counters more often costs more than it tells.
const STATS_LEAST: Duration = Duration::from_millis(100);

type Sender<T> = mpsc::Sender<Result<T, Status>>;

fn answers<T: Send + 'static>(room: usize) -> (Sender<T>, Answers<T>) {
    let (sender, receiver) = mpsc::channel(room);
    (sender, Box::pin(ReceiverStream::new(receiver)))
}

/// Waits, unless the client goes away first.
async fn paused<T>(sender: &Sender<T>, pause: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        () = sender.closed() => false,
    }
}

pub(super) fn fingerprint(shared: Arc<Shared>) -> Answers<pb::FingerprintResponse> {
    let (sender, answers) = answers(1);
    tokio::spawn(async move {
        loop {
            let found = shared.blocking(|engine| engine.fingerprint()).await;
            let answer = found.map(|found| convert::fingerprint(shared.name.as_str(), found));
            if sender.send(answer).await.is_err() || !paused(&sender, FINGERPRINT_EVERY).await {
                return;
            }
        }
    });
    answers
}

/// Samples until the task is over; an unknown task has none, which is no error to the client.
pub(super) fn stats(shared: Arc<Shared>, id: String, interval: Duration) -> Answers<pb::TaskStatsResponse> {
    let every = if interval.is_zero() { STATS_EVERY } else { interval.max(STATS_LEAST) };
    let (sender, answers) = answers(1);
    tokio::spawn(async move {
        let mut earlier: Option<(Usage, Instant)> = None;
        while let Some(task) = shared.tasks.get(&id) {
            let asked = id.clone();
            let sampled = shared.blocking(move |engine| engine.stats(&asked)).await;
            let now = match sampled {
                Ok(Ok(Some(now))) => now,
                Ok(Ok(None)) => return,
                Ok(Err(error)) => return tracing::debug!(task = id, %error, "no statistics"),
                Err(status) => return tracing::debug!(task = id, reason = status.message(), "no statistics"),
            };
            let at = Instant::now();
            let before = earlier.as_ref().map(|(usage, then)| (usage, at.duration_since(*then)));
            let answer = convert::usage(id.clone(), &now, before, &shared.configured().1);
            earlier = Some((now, at));
            let waiting = async { sender.send(Ok(answer)).await.is_ok() && paused(&sender, every).await };
            tokio::select! {
                goes_on = waiting => if !goes_on { return },
                _ = task.outcome() => return,
            }
        }
    });
    answers
}

pub(super) fn events(shared: &Shared) -> Answers<pb::DriverTaskEvent> {
    let (sender, answers) = answers(16);
    let (early, mut later) = shared.events.listen();
    tokio::spawn(async move {
        for event in early {
            if sender.send(Ok(convert::event(event))).await.is_err() {
                return;
            }
        }
        loop {
            let event = tokio::select! {
                event = later.recv() => event,
                () = sender.closed() => return,
            };
            match event {
                Ok(event) => {
                    if sender.send(Ok(convert::event(event))).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "a client reads events too slowly"),
                // The hub lives as long as the process.
                Err(RecvError::Closed) => return sender.closed().await,
            }
        }
    });
    answers
}
