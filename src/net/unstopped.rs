//! Work that its client's leaving does not stop.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that runs in its owner's task, as nearly all do to their end. One whose owner is dropped
/// before that goes on in a task of its own. A panic in it is an error to its owner.
pub(crate) struct Unstopped<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Unstopped<T> {
    /// From here on `work` comes to its end, though nobody may ever poll this.
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Unstopped<T> {
    type Output = Result<T, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        // Nothing of the work is looked at after a panic: it is dropped.
        let polled = match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => Err(panic),
        };
        self.0 = None;
        Poll::Ready(polled)
    }
}

impl<T: Send + 'static> Drop for Unstopped<T> {
    fn drop(&mut self) {
        // Without a runtime the process ends, and nothing can go on.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            drop(runtime.spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_its_owner_is_dropped_at_any_moment() {
        for polls in 0..2 {
            let (begin, begun) = oneshot::channel::<()>();
            let (end, ended) = oneshot::channel();
            let mut work = Unstopped::new(async move {
                begun.await.unwrap();
                end.send("done").unwrap();
            });
            for _ in 0..polls {
                assert!(
                    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut work).poll(context).is_pending())).await
                );
            }
            drop(work);
            begin.send(()).unwrap();
            assert_eq!(ended.await.unwrap(), "done");
        }
    }

    #[tokio::test]
    async fn its_owner_hears_of_its_end() {
        assert_eq!(Unstopped::new(async { 7 }).await.unwrap(), 7);
        assert!(Unstopped::new(async { panic!("as told") }).await.is_err());
    }
}
