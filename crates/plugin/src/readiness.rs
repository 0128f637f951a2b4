//! Waiting for descriptors on the one thread.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// First pause when a watch woke us before it could tell anything.
const EARLIEST: Duration = Duration::from_millis(10);
/// Longest such pause.
const LATEST: Duration = Duration::from_secs(1);

/// Waits on a descriptor of any kind: pipe, socket, terminal, process.
#[expect(
    deprecated,
    reason = "the way in that needs no unsafe; deprecated for types whose descriptor may change, which OwnedFd's cannot"
)]
pub(crate) fn readiness(descriptor: OwnedFd, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, interest)
}

/// Asks whenever the watch is readable, until there is an answer. A watch that is not readable costs
/// nothing; one that stays readable without an answer is asked less and less often.
///
/// # Errors
/// The watch cannot be waited for any more.
pub(crate) async fn ask_until<T, F>(
    watch: &AsyncFd<OwnedFd>,
    mut ask: impl FnMut() -> F,
) -> std::io::Result<T>
where
    F: Future<Output = Option<T>>,
{
    let mut pause = EARLIEST;
    loop {
        let mut ready = watch.readable().await?;
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if is_readable(watch.get_ref()) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LATEST);
        } else {
            ready.clear_ready();
        }
    }
}

fn is_readable(descriptor: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(descriptor, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_watch_is_asked_only_when_it_says_something() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (end, told) = rustix::pipe::pipe().unwrap();
            let watch = readiness(end, Interest::READABLE).unwrap();
            let asked = Cell::new(0);
            let answer = ask_until(&watch, || {
                asked.set(asked.get() + 1);
                // The first thing said is none of ours, and is taken away.
                let mut byte = [0];
                rustix::io::read(watch.get_ref(), &mut byte).unwrap();
                let answer = (byte[0] == b'!').then_some(());
                async move { answer }
            });
            let tell = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                rustix::io::write(&told, b"?").unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
                assert_eq!(asked.get(), 1, "asked without a reason");
                rustix::io::write(&told, b"!").unwrap();
            };
            let (answer, ()) = tokio::join!(answer, tell);
            answer.unwrap();
            assert_eq!(asked.get(), 2);
        });
    }
}
