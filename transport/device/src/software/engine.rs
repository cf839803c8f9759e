//! The thread that does the work of a software NPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::pages::Pages;
use crate::command::Command;
use crate::host::{Width, Worker};
use crate::{Error, Result};

/// What the engine is told.
#[derive(Debug)]
enum Message {
    /// Do this.
    Order(Order),
    /// Look at [`State::stop`].
    Wake,
}

/// A piece of work on a queue.
#[derive(Debug)]
pub(super) struct Order {
    /// What to do.
    pub(super) command: Command,
    /// Its number on the queue.
    pub(super) number: u64,
    /// The counter of the queue: how much is done.
    pub(super) done: Arc<AtomicU64>,
}

/// What the device, its queues and the engine share.
#[derive(Debug, Default)]
struct State {
    /// The engine shall end before the next piece of work.
    stop: AtomicBool,
    /// The engine has ended: it touches no memory any more.
    gone: AtomicBool,
}

/// The way to the engine, for the device and its queues. The engine ends when all links are dropped.
#[derive(Clone, Debug)]
pub(super) struct Link {
    messages: Sender<Message>,
    state: Arc<State>,
}

impl Link {
    /// Hands over an order; false when the engine is gone.
    pub(super) fn send(&self, order: Order) -> bool {
        self.messages.send(Message::Order(order)).is_ok()
    }

    /// Whether the engine has ended.
    pub(super) fn gone(&self) -> bool {
        self.state.gone.load(Ordering::Acquire)
    }

    /// Tells the engine to end.
    pub(super) fn stop(&self) {
        self.state.stop.store(true, Ordering::Release);
        // When nobody receives, the engine has ended already.
        let _ = self.messages.send(Message::Wake);
    }
}

/// Starts an engine.
///
/// # Errors
/// [`Error::System`].
pub(super) fn start(name: &str, pages: Arc<Pages>) -> Result<(Link, JoinHandle<()>)> {
    let (sender, messages) = unbounded();
    let state = Arc::new(State::default());
    let engine =
        Engine { pages, messages, state: Arc::clone(&state), worker: Worker::new(Width::best()) };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || engine.run());
    let thread = thread.map_err(|source| Error::System { call: "clone", source })?;
    Ok((Link { messages: sender, state }, thread))
}

struct Engine {
    pages: Arc<Pages>,
    messages: Receiver<Message>,
    state: Arc<State>,
    worker: Worker,
}

impl Engine {
    /// Serves the queues until all links are dropped or it is stopped. Sleeps while there is no message.
    fn run(self) {
        while let Ok(Message::Order(order)) = self.messages.recv() {
            if self.state.stop.load(Ordering::Acquire) {
                return;
            }
            let command = order.command.map(|memory| self.pages.reach(memory));
            // SAFETY: the work was checked when it was submitted, and whoever submitted it keeps the promises of
            // `Queue::submit` until the counter says that it is done.
            unsafe { self.worker.perform(&command.work()) };
            // Release: whoever sees the count sees what the work wrote.
            order.done.store(order.number, Ordering::Release);
        }
    }
}

impl Drop for Engine {
    /// Also when a function of the user panicked.
    fn drop(&mut self) {
        self.state.gone.store(true, Ordering::Release);
    }
}
