//! A command or script on its way to a server.

use std::time::Duration;

use redis::{
    Cmd, ErrorKind, RedisError, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{sync::Notify, time::Instant};

use super::{super::script::Call, Outcome, Replicas, judge, refusal};
use crate::{clock::deadline, event};

/// A command or script, and the record that it is about.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    at: &'a str,
    request: Request<'a>,
    /// A read that goes ahead of it, in the same round trip.
    before: Option<&'a Cmd>,
    /// It ends or renews a session, so replicas must have it if the application says so.
    pub(super) ends: bool,
    /// It only reads, so that a server which takes no writes will do.
    pub(super) reads: bool,
    /// It may write nothing, so that a server which takes no writes may not refuse it.
    pub(super) looks: bool,
    /// Told if the answer is held back for long.
    late: Option<&'a Notify>,
    replicas: Option<Replicas>,
    /// It goes to a node that is taking the slot over, so it needs `ASKING` before it.
    pub(super) asking: bool,
    /// There is another way to do it, so that it does not wait until a slot has been moved.
    otherwise: bool,
    /// Until when a refusal that passes is waited for.
    until: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Request<'a> {
    Command(&'a Cmd),
    Script(&'a Call<'a>),
}

impl<'a> Job<'a> {
    pub(crate) const fn command(at: &'a str, command: &'a Cmd) -> Self {
        Self::new(at, Request::Command(command))
    }

    pub(crate) fn script(call: &'a Call<'a>) -> Self {
        Self::new(call.at(), Request::Script(call))
    }

    /// A script that ends or renews a session.
    pub(crate) fn ending(call: &'a Call<'a>) -> Self {
        Self {
            ends: true,
            ..Self::script(call)
        }
    }

    const fn new(at: &'a str, request: Request<'a>) -> Self {
        Self {
            at,
            request,
            before: None,
            ends: false,
            reads: false,
            looks: false,
            late: None,
            replicas: None,
            asking: false,
            otherwise: false,
            until: None,
        }
    }

    /// If the server would do it later, it is tried again for most of this time, so that there is time
    /// left to report the refusal. Otherwise for as long as a command may take.
    pub(crate) fn within(mut self, budget: Duration) -> Self {
        self.until = Some(deadline(budget / 16 * 15));
        self
    }

    /// Until when the job is tried again after this refusal.
    pub(super) fn tries_until(&self, error: &RedisError, otherwise: Instant) -> Instant {
        let until = self.until.filter(|_| refusal::is_not_now(error));
        until.unwrap_or(otherwise)
    }

    /// How long it may wait before anything is sent, so that a refusal can still be reported.
    pub(super) fn may_wait(&self, most: Duration) -> Duration {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        self.until.map_or(most, |until| most.min(left(until)))
    }

    /// Tells whoever waits once the answer is held back for long. From then on other jobs go over
    /// another connection.
    pub(crate) const fn telling(mut self, late: &'a Notify) -> Self {
        self.late = Some(late);
        self
    }

    /// It only reads.
    pub(crate) const fn reading(mut self) -> Self {
        self.reads = true;
        self.looking()
    }

    /// It may write nothing.
    pub(crate) const fn looking(mut self) -> Self {
        self.looks = true;
        self
    }

    /// The name of its record.
    pub(crate) const fn at(&self) -> &'a str {
        self.at
    }

    /// Has the replicas confirm what it does.
    pub(super) const fn waiting_for(mut self, replicas: Replicas) -> Self {
        self.replicas = Some(replicas);
        self
    }

    pub(super) fn is_late(&self) {
        if let Some(late) = self.late {
            late.notify_one();
        }
    }

    /// Puts a read ahead of it, in the same round trip.
    pub(super) const fn after(mut self, before: &'a Cmd) -> Self {
        self.before = Some(before);
        self
    }

    /// If its slot is being moved, the job is refused at once: see [`refusal::is_put_off`].
    pub(crate) const fn or_otherwise(mut self) -> Self {
        self.otherwise = true;
        self
    }

    pub(super) fn moves_on_after(&self, error: &RedisError) -> bool {
        self.otherwise && refusal::is_put_off(error)
    }

    /// Does the job on a connection.
    pub(super) async fn over(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Outcome, RedisError> {
        let outcome = match self.request {
            Request::Command(command) => self.send(connection, command).await?,
            Request::Script(call) => match self.send(connection, &call.by_hash()).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    self.send(connection, &call.whole()).await?
                }
                outcome => outcome?,
            },
        };
        if let (Some(replicas), Outcome::Value(value)) = (self.replicas, &outcome)
            && self.may_have_done(value)
            && let Err(error) = Box::pin(wait(connection, self.patient(replicas))).await
        {
            return Ok(Outcome::Lost(error));
        }
        Ok(outcome)
    }

    /// Whether a script has ended or renewed something, or an earlier attempt may have: then it finds
    /// nothing, or what the script would leave, and writes that once more for `WAIT` to count it. What
    /// another redirect leads to is a step of its own, which waits.
    fn may_have_done(&self, value: &Value) -> bool {
        let Value::Array(parts) = value else {
            return false;
        };
        match &parts[..] {
            [Value::Int(0 | 3), ..] => true,
            [Value::Int(2), Value::BulkString(found), ..] => self.leaves(found),
            _ => false,
        }
    }

    /// Whether a script writes this text.
    fn leaves(&self, text: &[u8]) -> bool {
        match self.request {
            Request::Command(_) => false,
            Request::Script(call) => call.writes(text),
        }
    }

    /// Leaves time within the budget to report what was done, and for the step that may follow.
    fn patient(&self, wanted: Replicas) -> Replicas {
        let left = |until: Instant| until.saturating_duration_since(Instant::now()) / 2;
        let most = self.until.map_or(wanted.timeout, left);
        Replicas {
            timeout: wanted.timeout.min(most),
            ..wanted
        }
    }

    async fn send(
        &self,
        connection: &mut MultiplexedConnection,
        command: &Cmd,
    ) -> Result<Outcome, RedisError> {
        let answer = match (self.asking, self.before) {
            (false, None) => connection.req_packed_command(command).await,
            _ => Box::pin(self.send_both(connection, command)).await,
        };
        judge(answer).map_err(|error| {
            let sent = self.before.into_iter().chain([command]);
            refusal::without_what_was_sent(error, sent)
        })
    }

    async fn send_both(
        &self,
        connection: &mut MultiplexedConnection,
        command: &Cmd,
    ) -> Result<Value, RedisError> {
        let before = self.before.filter(|_| !self.asking);
        if let Some(before) = before {
            let (before, answer) = both(connection, before, command).await?;
            return Ok(after(before, answer));
        }
        let (_, answer) = both(connection, &redis::cmd("ASKING"), command).await?;
        // What goes ahead may lie on the node that the slot is leaving.
        Ok(match self.before {
            Some(_) => after(UNKNOWN, answer),
            None => answer,
        })
    }
}

/// Stands for the answer to what was not sent ahead.
const UNKNOWN: Value = Value::Okay;

/// Both answers as one, unless the second is a refusal.
fn after(before: Value, answer: Value) -> Value {
    match answer {
        Value::ServerError(_) => answer,
        answer => Value::Array(vec![before, answer]),
    }
}

/// Takes both answers apart. The first is `None` if it is not known.
pub(super) fn apart(answers: Value) -> Result<(Option<Value>, Value), RedisError> {
    let both: Result<[Value; 2], _> = match answers {
        Value::Array(both) => both.try_into(),
        _ => Err(Vec::new()),
    };
    let [before, answer] = both.map_err(|_| no_answer())?;
    let is_known = matches!(before, Value::Nil | Value::BulkString(_) | Value::Int(_));
    Ok((is_known.then_some(before), answer))
}

/// Sends both at once, so that no other command comes between.
async fn both(
    connection: &mut MultiplexedConnection,
    one: &Cmd,
    two: &Cmd,
) -> Result<(Value, Value), RedisError> {
    let mut both = redis::Pipeline::with_capacity(2);
    both.add_command(one.clone());
    both.add_command(two.clone());
    let answers = connection.req_packed_commands(&both, 0, 2).await?;
    let answers: [Value; 2] = answers.try_into().map_err(|_| no_answer())?;
    let [one, two] = answers;
    Ok((one, two))
}

fn no_answer() -> RedisError {
    (ErrorKind::Io, "a pipeline got no answer").into()
}

/// Waits until replicas have what this connection has written. If too few of them answer, only the
/// log says so: the master has done the job in any case.
///
/// # Errors
/// The connection broke meanwhile. The next master may not know of the job, which must be repeated
/// there.
async fn wait(connection: &mut MultiplexedConnection, wanted: Replicas) -> Result<(), RedisError> {
    let mut wait = redis::cmd("WAIT");
    wait.arg(wanted.count)
        .arg(wanted.timeout.as_millis().max(1).to_string());
    match judge(connection.req_packed_command(&wait).await) {
        Ok(Outcome::Lost(error)) => return Err(error),
        Ok(Outcome::Value(Value::Int(have))) if have >= i64::from(wanted.count) => {}
        Ok(Outcome::Value(have)) => event::too_few_replicas(wanted.count, &have),
        Err(error) => event::replicas_unknown(&error),
    }
    Ok(())
}
