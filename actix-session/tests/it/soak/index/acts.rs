//! What users do, and the handler that does it.

use std::time::Duration;

use actix_session::{Login, Session, SessionManager};
use actix_web::{HttpRequest, HttpResponse, Result, web};
use serde::{Deserialize, Serialize};

use super::child::user;
use crate::support::Random;

/// The header with the [`Act`].
pub(super) const ACT: &str = "x-act";
/// The entry that names a login, as its device does.
pub(super) const LABEL: &str = "label";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Act {
    /// Says whose session it is.
    Look,
    Login {
        user: usize,
        label: String,
        /// Its own TTL in ms.
        idle: Option<u64>,
    },
    Renew,
    Write(usize),
    Clear,
    Purge,
    RevokeOne(usize),
    RevokeAll,
    RevokeOthers,
    /// Changes a session from outside.
    Open(usize),
}

/// What a look shows: whose session it is, and which login.
pub(super) type Seen = (Option<String>, Option<String>);

impl Act {
    pub(super) fn draw(random: &mut Random, label: impl FnOnce() -> String) -> Self {
        match random.weighted(&[100, 60, 20, 6, 12, 10, 1, 3, 6]) {
            0 => Self::Login {
                user: 0,
                label: label(),
                idle: random.one_in(4).then(|| 100 + random.index(3_000) as u64),
            },
            1 => Self::Renew,
            2 => Self::Write(random.index(100)),
            3 => Self::Clear,
            4 => Self::Purge,
            5 => Self::RevokeOne(random.index(5)),
            6 => Self::RevokeAll,
            7 => Self::RevokeOthers,
            _ => Self::Open(random.index(100)),
        }
    }

    /// The same for this user.
    pub(super) fn of(self, number: usize) -> Self {
        match self {
            Self::Login { label, idle, .. } => Self::Login {
                user: number,
                label,
                idle,
            },
            act => act,
        }
    }

    pub(super) const fn makes(&self) -> bool {
        matches!(self, Self::Login { .. })
    }

    pub(super) const fn renews(&self) -> bool {
        matches!(self, Self::Login { .. } | Self::Renew)
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap()
    }
}

pub(super) async fn perform(
    request: HttpRequest,
    session: Session,
    sessions: web::Data<SessionManager>,
) -> Result<HttpResponse> {
    let act = request.headers().get(ACT).unwrap().as_bytes();
    let principal = session.principal();
    match serde_json::from_slice(act)? {
        Act::Look => {}
        Act::Login {
            user: number,
            label,
            idle,
        } => {
            let mut login = Login::new(user(number)).device(&label);
            if let Some(idle) = idle {
                login = login.idle(Duration::from_millis(idle));
            }
            session.login_with(login)?;
            session.insert(LABEL, label)?;
        }
        Act::Renew => session.renew(),
        Act::Write(value) => session.insert("n", value)?,
        Act::Clear => session.clear(),
        Act::Purge => session.purge(),
        Act::RevokeOthers => drop(sessions.revoke_others(&session).await?),
        act => act_for(&principal.unwrap_or_default(), act, &sessions).await?,
    }
    let seen: Seen = (session.principal(), session.get(LABEL)?);
    Ok(HttpResponse::Ok().json(seen))
}

/// What names a user.
async fn act_for(principal: &str, act: Act, sessions: &SessionManager) -> Result<()> {
    match act {
        Act::RevokeAll => drop(sessions.revoke_all(principal).await?),
        Act::RevokeOne(number) => {
            if let Some(listed) = sessions.list(principal).await?.nth(number) {
                sessions.revoke(principal, &listed.handle()).await?;
            }
        }
        Act::Open(value) => {
            let Some(listed) = sessions.list(principal).await?.next() else {
                return Ok(());
            };
            if let Some(opened) = sessions.open(principal, &listed.handle()).await? {
                opened.session().insert("n", value)?;
                opened.commit().await?;
            }
        }
        act => unreachable!("{act:?} names nobody"),
    }
    Ok(())
}
