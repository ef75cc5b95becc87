//! The atomic steps as statements: one, or one transaction, each.

use sqlx::{Connection as _, Error};

use super::{
    Store,
    database::{Database, Found, Row},
    run::Attempts,
    schema::Statements,
    statement::{MarkColumns, NewRow, Values, number, revision},
};
use crate::{
    clock::Millis,
    contract::Terms,
    protocol::{Mark, Op, Reply, Slot, Until},
    record::{Record, Version},
};

/// What is asked of the database.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    Run(&'a Op),
    /// Reads and extends.
    Touch(&'a str),
    SetEnd(&'a str, Millis),
}

impl Step<'_> {
    fn writes(self) -> bool {
        !matches!(self, Self::Run(Op::Read { .. }))
    }

    /// Whether it may be done twice, whatever became of the first time.
    fn is_repeatable(self) -> bool {
        !matches!(self, Self::Run(op) if !matches!(op, Op::Read { .. }))
    }
}

impl<D: Database> Store<D> {
    /// Carries a step out, a fresh attempt each time that the database says to try again.
    ///
    /// # Errors
    /// It was certainly not done.
    pub(crate) async fn step(&self, step: Step<'_>, terms: &Terms) -> anyhow::Result<Reply> {
        let mut attempts = Attempts::within(terms.budget);
        loop {
            let failure = match self.once(step, terms).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            if failure.verdict == super::database::Verdict::Lost && !step.is_repeatable() {
                tracing::debug!(error = %failure.error, "the answer of a statement was lost");
                return Ok(Reply::Lost);
            }
            let again = attempts.again(failure, step.is_repeatable()).await;
            again.map_err(|failure| failure.error)?;
        }
    }

    async fn once(&self, step: Step<'_>, terms: &Terms) -> Result<Reply, super::run::Failure> {
        let connections = &self.0.connections;
        let mut held = connections.hold(step.writes()).await?;
        let work = async {
            let connection = held.get()?;
            self.perform(connection, step, terms).await
        };
        let result = connections.bounded(work).await;
        connections.settle(held, result)
    }

    async fn perform(
        &self,
        connection: &mut D::Connection,
        step: Step<'_>,
        terms: &Terms,
    ) -> Result<Reply, Error> {
        match step {
            Step::Run(Op::Read { at }) => self.read(connection, at, terms).await.map(Reply::Found),
            Step::Run(Op::Cas {
                at,
                expect,
                new,
                until,
            }) => {
                let until = match until {
                    Until::At(end) if *end <= terms.now => return Ok(Reply::Found(Slot::Nothing)),
                    Until::At(end) => Some(*end),
                    Until::Same => None,
                };
                self.replace(connection, at, expect, (new, until), terms)
                    .await
            }
            Step::Run(Op::Rotate {
                at,
                expect,
                new,
                until,
                mark,
            }) => {
                let new = (new, *until, mark);
                self.rotate(connection, at, expect, new, terms).await
            }
            Step::Run(Op::Insert { at, new, until }) => {
                self.insert(connection, at, (new, *until), terms).await
            }
            Step::Run(Op::End { at }) => self.end(connection, at, terms).await,
            Step::Touch(at) => self.touch(connection, at, terms).await.map(Reply::Found),
            Step::SetEnd(at, end) => {
                let values = Values {
                    idle_end: number(end),
                    ..base(at, terms)
                };
                D::execute(connection, &self.statements().set_end, &values).await?;
                Ok(Reply::Done)
            }
        }
    }

    fn statements(&self) -> &Statements {
        &self.0.statements
    }

    async fn read(
        &self,
        connection: &mut D::Connection,
        at: &str,
        terms: &Terms,
    ) -> Result<Slot, Error> {
        let found = D::fetch(connection, &self.statements().read, &base(at, terms)).await?;
        Ok(slot(found))
    }

    async fn touch(
        &self,
        connection: &mut D::Connection,
        at: &str,
        terms: &Terms,
    ) -> Result<Slot, Error> {
        let values = Values {
            idle_end: number(terms.now + terms.ttl),
            absolute: terms.absolute.map(number),
            ..base(at, terms)
        };
        let touch = &self.statements().touch;
        if !D::RETURNS {
            D::execute(connection, touch, &values).await?;
        } else if let found @ Some(_) = D::fetch(connection, touch, &values).await? {
            return Ok(slot(found));
        }
        self.read(connection, at, terms).await
    }

    async fn replace(
        &self,
        connection: &mut D::Connection,
        at: &str,
        expect: &Version,
        (new, until): (&Record, Option<Millis>),
        terms: &Terms,
    ) -> Result<Reply, Error> {
        let statements = self.statements();
        let mut values = Values {
            row: NewRow::of(new, terms.now),
            expires: until.map(number),
            ..expecting(at, expect, terms)
        };
        let statement = match values.expect {
            Some(_) => &statements.replace,
            None => &statements.replace_whole,
        };
        if D::execute(connection, statement, &values).await? > 0 {
            return Ok(Reply::Done);
        }
        let found = self.read(connection, at, terms).await?;
        // Somebody wrote the text by hand, with another revision or none.
        if let Some(text) = expected_text(&found, expect) {
            values.whole = Some(text.as_bytes());
            if D::execute(connection, &statements.replace_whole, &values).await? > 0 {
                return Ok(Reply::Done);
            }
        }
        Ok(Reply::Found(found))
    }

    async fn insert(
        &self,
        connection: &mut D::Connection,
        at: &str,
        (new, until): (&Record, Millis),
        terms: &Terms,
    ) -> Result<Reply, Error> {
        let mut values = Values {
            row: NewRow::of(new, terms.now),
            expires: Some(number(until)),
            ..base(at, terms)
        };
        values.mark.target = Some(at);
        done_or_taken(D::execute(connection, &self.statements().insert, &values).await)
    }

    async fn end(
        &self,
        connection: &mut D::Connection,
        at: &str,
        terms: &Terms,
    ) -> Result<Reply, Error> {
        let statement = &self.statements().end;
        if D::execute(connection, statement, &base(at, terms)).await? > 0 {
            return Ok(Reply::Done);
        }
        Ok(Reply::Found(self.read(connection, at, terms).await?))
    }

    async fn rotate(
        &self,
        connection: &mut D::Connection,
        at: &str,
        expect: &Version,
        (new, until, mark): (&Record, Millis, &Mark),
        terms: &Terms,
    ) -> Result<Reply, Error> {
        if until <= terms.now {
            return Ok(Reply::Found(Slot::Nothing));
        }
        let mut values = Values {
            row: NewRow::of(new, terms.now),
            expires: Some(number(until)),
            mark: MarkColumns::of(mark, terms.now + terms.grace),
            ..expecting(at, expect, terms)
        };
        match self.rotate_as(connection, &values).await? {
            Reply::Found(_) => {}
            reply => return Ok(reply),
        }
        let found = self.read(connection, at, terms).await?;
        if let Some(text) = expected_text(&found, expect) {
            values.expect = None;
            values.whole = Some(text.as_bytes());
            match self.rotate_as(connection, &values).await? {
                Reply::Found(_) => {}
                reply => return Ok(reply),
            }
        }
        Ok(Reply::Found(found))
    }

    /// Moves the expected record, or answers that it is not there.
    async fn rotate_as(
        &self,
        connection: &mut D::Connection,
        values: &Values<'_>,
    ) -> Result<Reply, Error> {
        let statements = self.statements();
        let by_revision = values.expect.is_some();
        if let Some((revision, whole)) = &statements.rotate {
            let statement = if by_revision { revision } else { whole };
            return done_or_taken(D::execute(connection, statement, values).await);
        }
        let away = if by_revision {
            &statements.move_away
        } else {
            &statements.move_away_whole
        };
        let mut transaction = connection.begin_with(D::BEGIN).await?;
        if D::execute(&mut transaction, away, values).await? == 0 {
            transaction.rollback().await?;
            return Ok(Reply::Found(Slot::Nothing));
        }
        let inserted = D::execute(&mut transaction, &statements.insert, values).await;
        let reply = done_or_taken(inserted)?;
        if matches!(reply, Reply::Done) {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(reply)
    }
}

fn base<'a>(at: &'a str, terms: &Terms) -> Values<'a> {
    Values {
        id: at,
        now: number(terms.now),
        ..Values::default()
    }
}

fn expecting<'a>(at: &'a str, expect: &'a Version, terms: &Terms) -> Values<'a> {
    let (prefix, whole) = match expect {
        Version::Prefix(prefix) => (Some(prefix.as_bytes()), None),
        Version::Whole(text) => (None, Some(text.as_bytes())),
    };
    Values {
        expect: revision(expect),
        prefix,
        whole,
        ..base(at, terms)
    }
}

/// The text that is there, if it is the expected one although its revision column says otherwise.
fn expected_text<'a>(found: &'a Slot, expect: &Version) -> Option<&'a str> {
    match (found, expect) {
        (Slot::Record(record), Version::Prefix(_)) => {
            record.as_text().filter(|text| expect.matches(text))
        }
        _ => None,
    }
}

fn done_or_taken(result: Result<u64, Error>) -> Result<Reply, Error> {
    match result {
        Ok(0) => Ok(Reply::Found(Slot::Nothing)),
        Ok(_) => Ok(Reply::Done),
        Err(Error::Database(error)) if error.is_unique_violation() => Ok(Reply::Taken),
        Err(error) => Err(error),
    }
}

pub(super) fn slot(found: Option<Found>) -> Slot {
    match found {
        None => Slot::Nothing,
        Some(Found::Garbage) => Slot::Unreadable,
        Some(Found::Row(row)) if row.moved_to.is_some() => mark_slot(&row),
        Some(Found::Row(row)) => record_slot(row),
    }
}

/// A mark that cannot be read leads nowhere.
fn mark_slot(row: &Row) -> Slot {
    let text = row.moved_to.as_ref().and_then(|target| {
        let (flag, moved_at) = (row.moved_flag.as_ref()?, row.moved_at?);
        Some(format!("{flag}|{moved_at}|{target}"))
    });
    // A flag with more in it than a flag would make another target of it.
    let mark = text.and_then(|text| Mark::decode(&text));
    let mark = mark.filter(|mark| Some(&mark.target) == row.moved_to.as_ref());
    mark.map_or(Slot::Nothing, Slot::Mark)
}

fn record_slot(row: Row) -> Slot {
    let text = row.state.and_then(|bytes| String::from_utf8(bytes).ok());
    let record = text.and_then(|text| Record::decode(text).ok());
    record.map_or(Slot::Unreadable, |record| {
        Slot::Record(record.with_end(Some(Millis(row.expires))))
    })
}
