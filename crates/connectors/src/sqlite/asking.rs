//! What a transaction that is open on the thread of a connection asks of those who began it, and how they answer and feed
//! it while they wait for its end. Every wait has a bound, for the file is locked meanwhile; where nobody waits any more,
//! the transaction learns it by its next question or its next rows, and is undone.

use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::Step;
use concord_engine::mirror::bulk::Helper;
use concord_engine::record::Key;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::future::Future;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Rows that are there before the transaction has asked for them: so many lots of the source.
const FED_MAX: usize = 4;
/// The longest wait for an answer, or for rows, while the file is locked.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// What is asked, and where the answer goes.
pub(super) enum Question {
    /// Whole records for the first of these, as steps that make them, and of how many.
    Whole(Vec<Key>, oneshot::Sender<Result<(Vec<Step>, usize)>>),
    /// What is to be carried out behind the steps.
    More(oneshot::Sender<Result<Option<Vec<Step>>>>),
    /// That it is made durable that these were refused.
    Refused(Vec<(Step, Error)>, oneshot::Sender<Result<()>>),
}

/// The side of the transaction.
pub(super) struct Asking(mpsc::Sender<Question>);

/// Rows as they come, on the side of the transaction.
pub(super) struct Rows(mpsc::Receiver<Result<Option<Vec<Step>>>>);

/// The side of those who wait for its end.
pub(super) struct Answering(mpsc::Receiver<Question>);

/// Both sides.
pub(super) fn asking() -> (Asking, Answering) {
    let (ask, asked) = mpsc::channel(1);
    (Asking(ask), Answering(asked))
}

/// Rows, and where they are put in.
pub(super) fn rows() -> (Feeder, Rows) {
    let (feed, fed) = mpsc::channel(FED_MAX);
    (Feeder(feed), Rows(fed))
}

fn gone() -> Error {
    Error::new(Code::Busy, "nobody waits any more for what was to be written")
}

impl Asking {
    /// Whole records for the first of those whose partial change met nothing, and how many were looked for.
    pub fn whole(&self, keys: Vec<Key>) -> Result<(Vec<Step>, usize)> {
        self.ask(|answer| Question::Whole(keys, answer))
    }

    /// What is to be carried out behind the steps, some at a time.
    pub fn more(&self) -> Result<Option<Vec<Step>>> {
        self.ask(Question::More)
    }

    /// Makes durable that these were refused.
    pub fn refused(&self, refused: Vec<(Step, Error)>) -> Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        self.ask(|answer| Question::Refused(refused, answer))
    }

    fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<Result<T>>) -> Question) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.0.blocking_send(question(answer)).map_err(|_| gone())?;
        answered.blocking_recv().map_err(|_| gone())?
    }
}

impl Rows {
    /// The next ones; `None`: those were all.
    pub fn next(&mut self) -> Result<Option<Vec<Step>>> {
        self.0.blocking_recv().unwrap_or_else(|| Err(gone()))
    }
}

/// Puts rows in.
pub(super) struct Feeder(mpsc::Sender<Result<Option<Vec<Step>>>>);

impl Feeder {
    /// Puts all of them in, and says when those were all; ends early where nobody takes them. The first lot is not waited for
    /// any longer than it takes, for no lock is held for it.
    pub async fn feed(&self, first: Option<Vec<Step>>, mut rows: BoxStream<'_, Result<Vec<Step>>>) {
        let mut lot = Ok(first);
        loop {
            let more = matches!(lot, Ok(Some(_)));
            // Whoever does not take them any more says himself why.
            if self.0.send(lot).await.is_err() || !more {
                return;
            }
            lot = match tokio::time::timeout(ANSWER_MAX, rows.next()).await {
                Ok(lot) => lot.transpose(),
                Err(_) => {
                    Err(Error::new(Code::Busy, "the source stopped telling its records while the file was locked for them"))
                }
            };
        }
    }
}

impl Answering {
    /// Answers and feeds until what runs has ended.
    pub async fn until<T>(
        mut self,
        running: impl Future<Output = Result<T>>,
        feeding: impl Future<Output = ()>,
        helper: &dyn Helper,
    ) -> Result<T> {
        tokio::pin!(running, feeding);
        let mut fed = false;
        loop {
            tokio::select! {
                biased;
                ended = &mut running => return ended,
                Some(question) = self.0.recv() => answer(question, helper).await,
                () = &mut feeding, if !fed => fed = true,
            }
        }
    }
}

/// A transaction that does not hear the answer any more has ended, and says why.
async fn answer(question: Question, helper: &dyn Helper) {
    let late = |_| Error::new(Code::Busy, "an answer took too long while the file was locked");
    match question {
        Question::Whole(keys, answer) => {
            let steps = tokio::time::timeout(ANSWER_MAX, helper.whole(&keys)).await;
            let _ = answer.send(steps.map_err(late).and_then(|steps| steps));
        }
        Question::More(answer) => {
            let steps = tokio::time::timeout(ANSWER_MAX, helper.more()).await;
            let _ = answer.send(steps.map_err(late).and_then(|steps| steps));
        }
        Question::Refused(refused, answer) => {
            let done = tokio::time::timeout(ANSWER_MAX, helper.refused(refused)).await;
            let _ = answer.send(done.map_err(late).and_then(|done| done));
        }
    }
}
