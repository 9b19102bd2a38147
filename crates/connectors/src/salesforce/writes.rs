//! Which writes are under way, by object. A fence waits for those that had begun before it, and for no later one; nothing that
//! begins waits for a fence: a job may take half an hour.

use concord_engine::record::ObjectName;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// The writes of a connection.
#[derive(Default)]
pub(super) struct Writes(Arc<watch::Sender<Running>>);

#[derive(Default)]
struct Running {
    /// How many have begun so far: the number of the last one.
    begun: u64,
    /// Those that have not ended, by their numbers.
    objects: BTreeMap<u64, ObjectName>,
}

/// A write under way; it ends when this is dropped.
pub(super) struct UnderWay {
    writes: Arc<watch::Sender<Running>>,
    number: u64,
}

impl Writes {
    /// A write to an object begins.
    pub fn begin(&self, object: &ObjectName) -> UnderWay {
        let mut number = 0;
        self.0.send_modify(|running| {
            running.begun = running.begun.saturating_add(1);
            number = running.begun;
            running.objects.insert(number, object.clone());
        });
        UnderWay { writes: Arc::clone(&self.0), number }
    }

    /// Waits until every write to an object has ended that had begun before this call.
    pub async fn begun_before_have_ended(&self, object: &ObjectName) {
        let last = self.0.borrow().begun;
        let has_ended = |running: &Running| !running.objects.range(..=last).any(|(_, of)| of == object);
        // Nobody can be gone: the sender is ours.
        let _ = self.0.subscribe().wait_for(has_ended).await;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.writes.send_modify(|running| {
            running.objects.remove(&self.number);
        });
    }
}
