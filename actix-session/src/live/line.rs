//! The line on which other processes tell what they have ended.
//!
//! That it is open proves nothing: a pooler may have put it to sleep, or a partition cut it. So whoever
//! waits also tells something to itself, by the way of all steps. Only while that comes back, looks are
//! few.

use std::{cell::Cell, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{EndReason, hub::Hub};
use crate::sync::FirstTime;

/// How often it is asked for a sign of life.
const ASK: Duration = Duration::from_millis(2_500);
/// After how long a silence it is cut.
const SILENCE: Duration = Duration::from_secs(5);
/// How long to wait before another try.
const PAUSE: Duration = Duration::from_secs(1);
/// The same where the back end does not allow it, and at most.
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

/// Nothing has come in time, or nothing would.
#[derive(Debug, derive_more::Display)]
#[display("nothing has come for {} s", SILENCE.as_secs())]
pub(crate) struct Silent;

impl std::error::Error for Silent {}

/// How long to wait before another try. To open a line may cost the back end a great deal: PostgreSQL
/// reads all of a long queue of notifications for it. So each line that stays silent is followed by a
/// pause twice as long as the one before.
#[derive(Debug, Default)]
struct Patience(Duration);

impl Patience {
    fn after(&mut self, failure: &anyhow::Error, has_spoken: bool) -> Duration {
        if failure.is::<Refused>() {
            return LONG_PAUSE;
        }
        let is_silent = failure.is::<Silent>() && !has_spoken;
        self.0 = match is_silent {
            true => (self.0 * 2).clamp(PAUSE, LONG_PAUSE),
            false => PAUSE,
        };
        self.0
    }
}

/// Keeps a line open, and tells the hub what comes.
pub(crate) async fn listen(line: &impl Line, hub: &Hub) {
    let mut patience = Patience::default();
    loop {
        let has_spoken = Cell::new(false);
        let error = match hear(line, hub, &has_spoken).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        hub.speaks(false);
        if error.is::<Refused>() {
            warn_once(&error);
        } else {
            tracing::debug!(%error, "the line for ends of sessions is cut");
        }
        sleep(patience.after(&error, has_spoken.get())).await;
    }
}

fn warn_once(error: &anyhow::Error) {
    static FIRST: FirstTime = FirstTime::new();
    if FIRST.is_now() {
        tracing::warn!(
            %error,
            "whoever waits for the end of a session finds it by looking, every few seconds"
        );
    }
}

async fn hear(
    line: &impl Line,
    hub: &Hub,
    has_spoken: &Cell<bool>,
) -> anyhow::Result<std::convert::Infallible> {
    let opened = timeout(SILENCE, line.open()).await;
    let mut open = opened.map_err(|_| Silent)??;
    let said = Cell::new(Instant::now());
    let hearing = async {
        loop {
            match line.next(&mut open).await? {
                Said::Alive => {
                    said.set(Instant::now());
                    has_spoken.set(true);
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
                return Err(Silent.into());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_stays_silent_is_opened_less_and_less_often() {
        let mut patience = Patience::default();
        let mut pause =
            |failure: anyhow::Error, has_spoken| patience.after(&failure, has_spoken).as_secs();
        let silent = || anyhow::Error::from(Silent).context("a reason");
        let pauses = [(); 8].map(|()| pause(silent(), false));
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(Refused("").into(), false), 60);
        assert_eq!(pause(silent(), true), 1, "it has spoken meanwhile");
        assert_eq!(pause(silent(), false), 2);
        let refused = anyhow::anyhow!("connection refused");
        assert_eq!(pause(refused, false), 1, "that cost nothing");
    }

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
