//! A principal's sessions: the rows are the index.

use sqlx::Error;

use super::{
    backend::Attempt,
    database::{Database, SqlDatabase},
    failure::Failure,
    query::{Answer, Query},
    row::{RecordColumns, RedirectColumns, number, principal_column},
    statement::Values,
    store::SqlSessionStore,
};
use crate::{
    clock::Millis,
    config::LONGEST,
    contract::Terms,
    event,
    live::hub::Hub,
    protocol::NotBefore,
    storage::{
        SessionIndex, StoreIndex,
        index::{Index, Listed, Page},
    },
};

impl<D: SqlDatabase> SessionIndex for SqlSessionStore<D> {
    fn index(&self) -> StoreIndex {
        StoreIndex::new(self.clone())
    }
}

impl<D: SqlDatabase> Index for SqlSessionStore<D> {
    // Most connections are for requests.
    const AT_ONCE: usize = 2;

    async fn sessions(
        &self,
        principal: &str,
        page: Page,
        terms: &Terms,
    ) -> anyhow::Result<Vec<Listed>> {
        match self
            .asked(Query::List(principal.into(), page), terms)
            .await?
        {
            Answer::Listed(listed) => Ok(listed),
            _ => Err(unexpected()),
        }
    }

    async fn mark(
        &self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        terms: &Terms,
    ) -> anyhow::Result<bool> {
        let query = Query::Mark(principal.into(), mark.clone(), by);
        match self.asked(query, terms).await? {
            Answer::Marked(marked) => {
                if marked {
                    self.0.hub.marked(principal, mark);
                }
                Ok(marked)
            }
            _ => Err(unexpected()),
        }
    }

    async fn end_marked(
        &self,
        principal: &str,
        mark: &NotBefore,
        terms: &Terms,
    ) -> anyhow::Result<u64> {
        let query = Query::EndMarked(principal.into(), mark.clone());
        match self.asked(query, terms).await? {
            Answer::Ended(ended) => Ok(ended),
            _ => Err(unexpected()),
        }
    }

    async fn listen(&self, hub: &Hub) {
        D::listen(self, hub).await;
    }
}

impl<D: SqlDatabase> SqlSessionStore<D> {
    async fn asked(&self, query: Query, terms: &Terms) -> anyhow::Result<Answer> {
        self.ask(query, terms).await.map_err(Failure::into_error)
    }
}

fn unexpected() -> anyhow::Error {
    anyhow::anyhow!("the session database gave an unexpected reply")
}

impl<D: Database> Attempt<'_, D> {
    pub(super) async fn list(&mut self, principal: &str, page: Page) -> Result<Answer, Error> {
        let index = &self.statements.index;
        let statement = match page.after {
            Some(_) => &index.page,
            None => &index.first_page,
        };
        let (login, id) = page.after.unwrap_or_default();
        let mut batch = page.limit;
        loop {
            let values = Values {
                after: (number(login), id.to_be_bytes()),
                batch: i64::try_from(batch).unwrap_or(i64::MAX),
                ..self.values_of(principal)
            };
            let rows = D::fetch_all(self.connection, statement, &values).await?;
            let there = rows.len();
            let mut listed: Vec<_> = rows.into_iter().filter_map(|row| row?.listed()).collect();
            let damaged = there - listed.len();
            // A page that is not full is the last one.
            if listed.len() < page.limit && there >= batch {
                batch = page.limit.saturating_add(damaged.saturating_mul(2));
                continue;
            }
            if damaged > 0 {
                event::left_out(damaged);
            }
            listed.truncate(page.limit);
            return Ok(Answer::Listed(listed));
        }
    }

    /// Changes the mark, or inserts it if there is none. Whoever loses the race for that sees the
    /// other's.
    pub(super) async fn mark(
        &mut self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
    ) -> Result<Answer, Error> {
        let index = &self.statements.index;
        let spared = spared(mark);
        // Without one, no mark has ended it.
        let (id, login) = by.unwrap_or((0, Millis(i64::MAX)));
        let values = Values {
            mark: number(mark.at),
            spared: &spared,
            by: (login.0, id.to_be_bytes()),
            expires: Some(number(mark.at + LONGEST)),
            ..self.values_of(principal)
        };
        if D::execute(self.connection, &index.mark, &values).await? > 0 {
            return Ok(Answer::Marked(true));
        }
        match D::execute(self.connection, &index.insert_mark, &values).await {
            Ok(_) => Ok(Answer::Marked(true)),
            Err(Error::Database(error)) if error.is_unique_violation() => {
                let changed = D::execute(self.connection, &index.mark, &values).await?;
                Ok(Answer::Marked(changed > 0))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn end_marked(
        &mut self,
        principal: &str,
        mark: &NotBefore,
    ) -> Result<Answer, Error> {
        let spared = spared(mark);
        let values = Values {
            mark: number(mark.at),
            spared: &spared,
            redirect: RedirectColumns::of_tombstone(self.terms.now + self.terms.grace),
            ..self.values_of(principal)
        };
        let end_marked = &self.statements.index.end_marked;
        let ended = D::execute(self.connection, end_marked, &values).await?;
        Ok(Answer::Ended(ended))
    }

    pub(super) fn values_of<'v>(&self, principal: &'v str) -> Values<'v> {
        Values {
            record: RecordColumns {
                principal: Some(principal_column(principal)),
                ..RecordColumns::default()
            },
            ..self.values("")
        }
    }
}

/// The ids that a mark spares, one after the other.
fn spared(mark: &NotBefore) -> Vec<u8> {
    mark.spared.iter().flat_map(|id| id.to_be_bytes()).collect()
}
