//! In whose lead is this being written?
//!
//! The term goes with the task, so that no transaction of a pass that only the leader may make can
//! forget it: when another control has led since, none of them begins.

tokio::task_local! {
    static TERM: i64;
}

/// Does `work` as the leader of `term`: its transactions count only while that lasts.
pub(crate) async fn in_term<F: Future>(term: i64, work: F) -> F::Output {
    TERM.scope(term, work).await
}

/// The same work for a task of its own: it goes on in the term that began it.
pub(crate) fn in_this_term<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let term = current();
    async move {
        match term {
            Some(term) => in_term(term, work).await,
            None => work.await,
        }
    }
}

/// The term of whoever asks; `None` for what any control may do.
pub(super) fn current() -> Option<i64> {
    TERM.try_with(|term| *term).ok()
}
