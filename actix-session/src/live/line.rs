//! The line on which other processes tell what they have ended.
//!
//! That it is open proves nothing: a pooler may have put it to sleep, or a partition cut it. So whoever
//! waits also tells something to itself, by the way of all steps. Only while that comes back, looks are
//! few.

use std::{cell::Cell, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{EndReason, hub::Hub};

/// How often it is asked for a sign of life.
const ASK: Duration = Duration::from_millis(2_500);
/// After how long a silence it is cut.
const SILENCE: Duration = Duration::from_secs(5);
/// How long to wait before another try.
const PAUSE: Duration = Duration::from_secs(1);
/// The same where the back end does not allow it.
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The sign of life that this process has asked for.
    Alive,
    Ended(u128, EndReason),
    /// The session has a new name.
    Renewed(u128),
    Nothing,
}

impl Said {
    /// Reads a letter and an id: `o` it has logged out, `r` it was revoked, `l` its principal had too
    /// many, `n` it has a new name.
    pub(crate) fn read(text: &str) -> Self {
        let Some((letter, id)) = text.split_at_checked(1) else {
            return Self::Nothing;
        };
        match (letter, u128::from_str_radix(id, 16)) {
            ("o", Ok(id)) => Self::Ended(id, EndReason::LoggedOut),
            ("r", Ok(id)) => Self::Ended(id, EndReason::Revoked),
            ("l", Ok(id)) => Self::Ended(id, EndReason::OverLimit),
            ("n", Ok(id)) => Self::Renewed(id),
            _ => Self::Nothing,
        }
    }
}

/// The letter that tells why a step has ended a session.
#[cfg_attr(
    not(feature = "redis-session"),
    allow(dead_code, reason = "SQL has a statement for each")
)]
pub(crate) fn letter(why: EndReason) -> &'static str {
    match why {
        EndReason::LoggedOut => "o",
        EndReason::OverLimit => "l",
        EndReason::Revoked | EndReason::Gone => "r",
    }
}

/// What a back end has that tells.
pub(crate) trait Line {
    type Open;

    /// # Errors
    /// It cannot be opened now.
    async fn open(&self) -> anyhow::Result<Self::Open>;

    /// Waits for what is told next.
    ///
    /// # Errors
    /// The line is cut.
    async fn next(&self, open: &mut Self::Open) -> anyhow::Result<Said>;

    /// Asks for a sign of life, by the way that steps take.
    ///
    /// # Errors
    /// The back end fails; or it [does not allow](Refused) that.
    async fn ask(&self) -> anyhow::Result<()>;
}

/// The back end does not allow that anything is told, for this reason.
#[derive(Debug, derive_more::Display)]
pub(crate) struct Refused(pub(crate) &'static str);

impl std::error::Error for Refused {}

/// Keeps a line open, and tells the hub what comes.
pub(crate) async fn listen(line: &impl Line, hub: &Hub) {
    loop {
        let error = match hear(line, hub).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        hub.speaks(false);
        let refused = error.is::<Refused>();
        if refused {
            warn_once(&error);
        } else {
            tracing::debug!(%error, "the line for ends of sessions is cut");
        }
        sleep(if refused { LONG_PAUSE } else { PAUSE }).await;
    }
}

fn warn_once(error: &anyhow::Error) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            %error,
            "whoever waits for the end of a session finds it by looking, every few seconds"
        );
    });
}

async fn hear(line: &impl Line, hub: &Hub) -> anyhow::Result<std::convert::Infallible> {
    let opened = timeout(SILENCE, line.open()).await;
    let mut open = opened.map_err(|_| silent())??;
    let said = Cell::new(Instant::now());
    let hearing = async {
        loop {
            match line.next(&mut open).await? {
                Said::Alive => {
                    said.set(Instant::now());
                    hub.speaks(true);
                }
                Said::Ended(id, reason) => hub.ended(id, reason),
                Said::Renewed(id) => hub.renewed(id),
                Said::Nothing => {}
            }
        }
    };
    let asking = async {
        loop {
            match line.ask().await {
                Err(error) if error.is::<Refused>() => return Err(error),
                // If the back end fails, the silence tells.
                _ => {}
            }
            sleep(ASK).await;
        }
    };
    // Whatever the asking waits for.
    let silence = async {
        loop {
            let cut = said.get() + SILENCE;
            if cut <= Instant::now() {
                return Err(silent());
            }
            sleep_until(cut).await;
        }
    };
    let (hearing, asking) = (pin!(hearing), pin!(asking));
    match select(select(hearing, asking), pin!(silence)).await {
        Either::Left((Either::Left((heard, _)) | Either::Right((heard, _)), _)) => heard,
        Either::Right((silent, _)) => silent,
    }
}

fn silent() -> anyhow::Error {
    anyhow::anyhow!("nothing has come for {} s", SILENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read() {
        let ended = |reason| Said::Ended(0xab, reason);
        for (text, said) in [
            ("oab", ended(EndReason::LoggedOut)),
            ("rab", ended(EndReason::Revoked)),
            ("lab", ended(EndReason::OverLimit)),
            ("nab", Said::Renewed(0xab)),
            ("xab", Said::Nothing),
            ("o", Said::Nothing),
            ("ozz", Said::Nothing),
            ("", Said::Nothing),
            ("\u{fc}1", Said::Nothing),
        ] {
            assert_eq!(Said::read(text), said, "{text:?}");
        }
    }
}
