//! A principal's sessions: one value, which the step that writes a session writes too.

use std::cmp::Reverse;

use tokio::time::Instant;

use super::{
    KeyValueDatabase, KeyValueSessionStore,
    attempt::Attempt,
    layout::{Held, Session},
};
use crate::{
    EndReason,
    clock::{Millis, deadline},
    contract::Terms,
    protocol::{Backend as _, Name, NotBefore, Reply, Step, Stored},
    storage::{
        SessionIndex, StoreIndex,
        index::{Index, Listed, Page, is_of},
        upkeep::Upkeep,
    },
};

const ALL: Page = Page {
    after: None,
    limit: usize::MAX,
};

impl<D: KeyValueDatabase> SessionIndex for KeyValueSessionStore<D> {
    fn index(&self) -> StoreIndex {
        StoreIndex::new(self.clone())
    }
}

impl<D: KeyValueDatabase> Index for KeyValueSessionStore<D> {
    async fn sessions(
        &self,
        principal: &str,
        page: Page,
        terms: &Terms,
    ) -> anyhow::Result<Vec<Listed>> {
        let (mut sessions, mark) = self.entries(principal, page, terms).await?;
        if let Some(mark) = mark {
            // Their entries stay: whoever ends what is left of them finds it there.
            sessions.retain(|it| !mark.ends(it.id, it.login));
        }
        sessions.truncate(page.limit);
        self.found_at(sessions, terms).await
    }

    /// What rides on a read does not make it fail.
    async fn heal(&self, principal: &str, listed: &Listed, terms: &Terms) -> anyhow::Result<()> {
        let dead = (listed.id, &listed.at);
        if let Err(error) = self.forget_session(principal, dead, terms).await {
            tracing::debug!(%error, "what has ended stays on the list of its principal for now");
        }
        Ok(())
    }

    async fn mark(
        &self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        terms: &Terms,
    ) -> anyhow::Result<bool> {
        let deadline = deadline(terms.budget);
        loop {
            let marked = self.carry_out(terms, async |attempt| {
                let mut sessions = attempt.sessions(principal).await?;
                let earlier = sessions.not_before.as_ref();
                if let (Some(earlier), Some((id, login))) = (earlier, by)
                    && earlier.ends(id, login)
                {
                    return Ok(Reply::Ended);
                }
                sessions.not_before = Some(mark.clone().after(earlier));
                attempt.put_sessions(principal, &sessions)?;
                Ok(Reply::Done)
            });
            match marked.await? {
                Reply::Ended => return Ok(false),
                // To do it twice is to do it once.
                Reply::Lost if Instant::now() < deadline => {}
                Reply::Lost => anyhow::bail!("it is unknown whether the revocation was noted"),
                _ => break,
            }
        }
        self.0.hub.marked(principal, mark);
        Ok(true)
    }

    async fn end_marked(
        &self,
        principal: &str,
        mark: &NotBefore,
        terms: &Terms,
    ) -> anyhow::Result<u64> {
        let (sessions, kept) = self.entries(principal, ALL, terms).await?;
        let mut ended = 0;
        for session in sessions {
            if mark.ends_beside(kept.as_ref(), session.id, session.login)
                && self.end_one(principal, session, terms).await?
            {
                ended += 1;
            }
        }
        Ok(ended)
    }
}

impl<D: KeyValueDatabase> KeyValueSessionStore<D> {
    /// A principal's sessions from where a page begins, the latest login first, and what has ended them
    /// together.
    async fn entries(
        &self,
        principal: &str,
        page: Page,
        terms: &Terms,
    ) -> anyhow::Result<(Vec<Session>, Option<NotBefore>)> {
        let mut sessions = Attempt::new(self, terms).sessions(principal).await?;
        sessions.all.retain(|it| page.includes((it.login, it.id)));
        sessions
            .all
            .sort_unstable_by_key(|it| Reverse((it.login, it.id)));
        Ok((sessions.all, sessions.not_before))
    }

    async fn found_at(&self, sessions: Vec<Session>, terms: &Terms) -> anyhow::Result<Vec<Listed>> {
        let names: Vec<_> = sessions
            .iter()
            .map(|it| String::from(it.at.clone()))
            .collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.get(&names).await?;
        let listed = sessions.into_iter().zip(values);
        let listed = listed.map(|(session, value)| Listed {
            id: session.id,
            login: session.login,
            at: session.at,
            reserved: false,
            found: Held::of(value.as_deref(), terms.now).stored(),
        });
        Ok(listed.collect())
    }

    /// Deletes a session that a mark has ended. Whatever is written meanwhile has ended all the same.
    async fn end_one(
        &self,
        principal: &str,
        session: Session,
        terms: &Terms,
    ) -> anyhow::Result<bool> {
        let deadline = deadline(terms.budget);
        let (id, at) = (session.id, session.at);
        let mut was_lost = false;
        loop {
            let value = self.get(&[String::from(at.clone())]).await?;
            let value = value.into_iter().next().flatten();
            let (step, is_unreadable) = match Held::of(value.as_deref(), terms.now).stored() {
                Stored::Record(record) if is_of(&record, principal, id) => {
                    let (at, expect, why) = (at.clone(), record.version(), EndReason::Revoked);
                    (
                        Step::EndIf {
                            at,
                            expect,
                            why,
                            owner: None,
                        },
                        false,
                    )
                }
                // Nobody can say whose it is. What is known of the principal says that it is theirs.
                Stored::Unreadable => {
                    let (at, owner) = (at.clone(), None);
                    (Step::End { at, owner }, true)
                }
                // A record that is another person's by now, or nobody's, stays.
                Stored::Record(_) | Stored::Redirect(_) | Stored::Nothing => {
                    self.forget_session(principal, (id, &at), terms).await?;
                    return Ok(was_lost);
                }
            };
            match self.run(&step, terms).await? {
                Reply::Done => {
                    if is_unreadable {
                        self.forget_session(principal, (id, &at), terms).await?;
                    }
                    return Ok(true);
                }
                Reply::Lost => was_lost = true,
                // It was written between the look and the step.
                _ => {}
            }
            if Instant::now() >= deadline {
                anyhow::bail!(
                    "it is unknown whether a session has ended: the store did not answer in time"
                );
            }
        }
    }

    /// Takes a session out that has gone, if it is said to lie there still, and removes what has expired
    /// there.
    async fn forget_session(
        &self,
        principal: &str,
        (id, at): (u128, &Name),
        terms: &Terms,
    ) -> anyhow::Result<()> {
        let forgotten = self.carry_out(terms, async |attempt| {
            attempt.read(vec![at.clone()]).await?;
            attempt.remove_expired(at);
            let mut sessions = attempt.sessions(principal).await?;
            if sessions.leave(id, at) {
                attempt.put_sessions(principal, &sessions)?;
            }
            Ok(Reply::Done)
        });
        forgotten.await.map(drop)
    }
}

impl<D: KeyValueDatabase> Upkeep for KeyValueSessionStore<D> {
    /// What is known of a principal lies under a digest, and names nobody. What has expired is there until
    /// it is swept.
    async fn forget(&self, principal: &str, _: &NotBefore, terms: &Terms) -> anyhow::Result<()> {
        let (sessions, _) = self.entries(principal, ALL, terms).await?;
        for listed in self.found_at(sessions, terms).await? {
            if matches!(listed.found, Stored::Nothing) {
                self.forget_session(principal, (listed.id, &listed.at), terms)
                    .await?;
            }
        }
        Ok(())
    }

    async fn sweep_all(&self, terms: &Terms) -> anyhow::Result<Option<u64>> {
        self.sweep(terms.now).await.map(Some)
    }
}
