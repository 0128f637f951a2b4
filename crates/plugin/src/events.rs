//! Events on their way from the engine to every client that listens.

use crate::face::TaskEvent;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::broadcast;

/// Events kept for a slow listener, and those kept while nobody listens.
const KEPT: usize = 256;

/// Spreads events; may be told one from any thread.
#[derive(Debug)]
pub(crate) struct Hub {
    sender: broadcast::Sender<TaskEvent>,
    /// What happened before anybody listened, the oldest first.
    early: Mutex<VecDeque<TaskEvent>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(KEPT), early: Mutex::default() }
    }
}

impl Hub {
    pub(crate) fn publish(&self, event: TaskEvent) {
        // Held while sending, so that a listener gets every event once and in order.
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(broadcast::error::SendError(event)) = self.sender.send(event) {
            early.push_back(event);
            while early.len() > KEPT {
                early.pop_front();
            }
        }
    }

    /// What was missed so far, and all that comes.
    pub(crate) fn listen(&self) -> (VecDeque<TaskEvent>, broadcast::Receiver<TaskEvent>) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut *early), self.sender.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize) -> TaskEvent {
        TaskEvent {
            task_id: format!("a/web/{n}"),
            alloc_id: "a".into(),
            task_name: "web".into(),
            message: n.to_string(),
            annotations: Default::default(),
        }
    }

    #[test]
    fn nothing_is_lost_before_the_first_listener() {
        let hub = Hub::default();
        for n in 0..KEPT + 2 {
            hub.publish(event(n));
        }
        let (early, mut later) = hub.listen();
        assert_eq!(early.front().map(|e| e.message.as_str()), Some("2"));
        assert_eq!(early.len(), KEPT);
        hub.publish(event(1000));
        assert_eq!(later.try_recv().map(|e| e.message), Ok("1000".into()));
        assert!(hub.listen().0.is_empty());
    }
}
