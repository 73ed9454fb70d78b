//! A queue as SQS keeps it: delays, visibility, redelivery, a dead-letter queue. On the sandbox's clock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::clock::Clock;

/// A received message is invisible for so long (architecture: 1,800 s); then it comes again.
const VISIBILITY: Duration = Duration::from_secs(1800);
/// A message that was received so often goes to the dead-letter queue.
const MOST_RECEIVES: u32 = 5;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// For deleting it.
    pub id: u64,
    /// What was sent.
    pub body: String,
    visible_at: Timestamp,
    receives: u32,
}

/// The queue; clones share it.
#[derive(Clone)]
pub struct Queue {
    clock: Clock,
    shared: Arc<Mutex<Shared>>,
    arrived: Arc<Notify>,
    copies: Arc<Mutex<Option<Copies>>>,
}

/// How often a message arrives that is sent now.
type Copies = Box<dyn FnMut() -> usize + Send>;

#[derive(Default)]
struct Shared {
    next: u64,
    messages: VecDeque<Message>,
    dead: Vec<Message>,
    ever: Vec<String>,
}

impl Queue {
    /// An empty queue.
    pub fn new(clock: Clock) -> Self {
        Queue { clock, shared: Arc::default(), arrived: Arc::default(), copies: Arc::default() }
    }

    /// Sends `body`, to be received after `delay`.
    pub fn send(&self, body: String, delay: Duration) {
        let visible_at = self.clock.now() + delay.min(Duration::from_secs(900));
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map_or(1, |copies| copies());
        let mut shared = self.lock();
        shared.ever.push(body.clone());
        for _ in 0..copies {
            shared.next += 1;
            let id = shared.next;
            shared.messages.push_back(Message { id, body: body.clone(), visible_at, receives: 0 });
        }
        drop(shared);
        self.arrived.notify_waiters();
    }

    /// From now on asks `copies` how often each message arrives: never, once, or more often.
    pub fn set_copies(&self, copies: impl FnMut() -> usize + Send + 'static) {
        *self.copies.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(copies));
    }

    /// Up to `most` visible messages; waits for the first.
    pub async fn receive(&self, most: usize) -> Vec<Message> {
        loop {
            let arrived = self.arrived.notified();
            let (batch, next) = self.take(most);
            if !batch.is_empty() {
                return batch;
            }
            let next = next.unwrap_or(Timestamp::MAX);
            tokio::select! {
                () = arrived => {}
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    /// Deletes a message for good.
    pub fn delete(&self, id: u64) {
        self.lock().messages.retain(|message| message.id != id);
    }

    /// Messages that could be received now.
    pub fn visible(&self) -> usize {
        let now = self.clock.now();
        self.lock().messages.iter().filter(|message| message.visible_at <= now).count()
    }

    /// What ended in the dead-letter queue.
    pub fn dead(&self) -> Vec<Message> {
        self.lock().dead.clone()
    }

    /// Every body that was ever sent.
    pub fn ever_sent(&self) -> Vec<String> {
        self.lock().ever.clone()
    }

    fn take(&self, most: usize) -> (Vec<Message>, Option<Timestamp>) {
        let now = self.clock.now();
        let mut guard = self.lock();
        let shared = &mut *guard;
        let (exhausted, live): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut shared.messages)
            .into_iter()
            .partition(|message| message.visible_at <= now && message.receives >= MOST_RECEIVES);
        shared.dead.extend(exhausted);
        shared.messages = live;
        let visible = shared.messages.iter_mut().filter(|message| message.visible_at <= now);
        let batch = visible.take(most).map(|message| {
            message.receives += 1;
            message.visible_at = now + VISIBILITY;
            message.clone()
        });
        let batch = batch.collect();
        (batch, shared.messages.iter().map(|message| message.visible_at).min())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_comes_again_until_it_is_deleted_or_dead() {
        let clock = Clock::default();
        let queue = Queue::new(clock.clone());
        queue.send("one".into(), Duration::ZERO);
        for _ in 0..MOST_RECEIVES {
            assert_eq!(queue.receive(10).await.len(), 1);
            assert_eq!(queue.visible(), 0);
            clock.advance(VISIBILITY);
        }
        queue.send("two".into(), Duration::ZERO);
        let batch = queue.receive(10).await;
        assert_eq!(batch.iter().map(|m| m.body.as_str()).collect::<Vec<_>>(), ["two"]);
        assert_eq!(queue.dead().len(), 1);
        queue.delete(batch[0].id);
        clock.advance(VISIBILITY);
        assert_eq!(queue.visible(), 0);
    }

    #[tokio::test]
    async fn a_delayed_message_waits_for_the_clock() {
        let clock = Clock::default();
        let queue = Queue::new(clock.clone());
        queue.send("later".into(), Duration::from_secs(600));
        assert_eq!(queue.visible(), 0);
        let receiver = tokio::spawn({
            let queue = queue.clone();
            async move { queue.receive(1).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(601));
        assert_eq!(receiver.await.expect("no panic").len(), 1);
    }
}
