//! The atomic steps of the protocol, as commands.

use anyhow::bail;
use redis::{RedisError, Value};

use super::{
    conn::{Connections, Outcome},
    scripts::{
        CAS_SCRIPT, Call, END_SCRIPT, LEAVE_SCRIPT, PREPARE_SCRIPT, ROTATE_SCRIPT,
        TAKE_BACK_SCRIPT, TOUCH_SCRIPT,
    },
    slots::slot,
};
use crate::{
    clock::Millis,
    contract::{Extension, Terms},
    protocol::{Mark, Op, Reply, Slot, Until},
    record::{Record, Version},
};

/// Carries steps out over connections.
#[derive(Clone)]
pub(super) struct Steps {
    connections: Connections,
    /// Records lie in slots, so that not every two can be changed in one step.
    slots: bool,
}

/// A read that extends: how far, and whether it is worth it.
#[derive(Clone, Copy)]
struct Extending {
    ttl: Millis,
    absolute: Option<Millis>,
    least: Option<Millis>,
}

/// A record that takes the place of another: where, instead of which, and how long.
struct Renewal<'a> {
    at: &'a str,
    expect: &'a Version,
    new: &'a Record,
    ttl: Millis,
    mark: &'a Mark,
}

impl Steps {
    pub(super) fn new(connections: Connections) -> Self {
        let slots = connections.is_cluster();
        Self { connections, slots }
    }

    pub(super) const fn has_slots(&self) -> bool {
        self.slots
    }

    /// # Errors
    /// The step was definitely not done.
    pub(super) async fn run(&self, op: &Op, terms: &Terms) -> anyhow::Result<Reply> {
        match op {
            Op::Read { at } => Ok(Reply::Found(self.read(at).await?)),
            Op::Cas {
                at,
                expect,
                new,
                until,
            } => self.cas(at, expect, new, *until, terms).await,
            Op::Rotate {
                at,
                expect,
                new,
                until,
                mark,
            } => {
                if *until <= terms.now {
                    return Ok(Reply::Found(Slot::Nothing));
                }
                let ttl = *until - terms.now;
                let renewal = Renewal {
                    at,
                    expect,
                    new,
                    ttl,
                    mark,
                };
                if self.slots && slot(at) != slot(&mark.target) {
                    self.rotate_in_two_steps(renewal, terms).await
                } else {
                    self.rotate(renewal, terms).await
                }
            }
            Op::Insert { at, new, until } => self.insert(at, new, *until - terms.now).await,
            Op::End { at } => self.end(at, terms).await,
        }
    }

    /// Reads for a request, and extends where the terms say so.
    pub(super) async fn look(&self, at: &str, terms: &Terms) -> anyhow::Result<Slot> {
        let least = match terms.extend {
            Extension::Never => return self.read(at).await,
            Extension::Always => None,
            Extension::AtMostEvery(interval) => Some(interval),
        };
        let extending = Extending {
            ttl: terms.ttl,
            absolute: terms.absolute,
            least,
        };
        self.touch(at, extending, terms).await
    }

    /// Sets how long a record lives from now on, up to its absolute end.
    pub(super) async fn set_ttl(&self, at: &str, ttl: Millis, terms: &Terms) -> anyhow::Result<()> {
        let extending = Extending {
            ttl,
            absolute: None,
            least: None,
        };
        self.touch(at, extending, terms).await.map(drop)
    }

    /// Asks the server whether it is there.
    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        let ping = redis::cmd("PING");
        self.connections.repeatable("", &ping).await.map(drop)
    }

    /// Says so where the server throws sessions away when its memory is full; what it doesn't tell is left.
    pub(super) async fn warn_if_it_evicts(&self) {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let Ok(answer) = self.connections.repeatable("", &info).await else {
            return;
        };
        let info = text_of(Some(answer)).unwrap_or_default();
        if let Some(policy) = evicting_policy(&info) {
            tracing::warn!(
                policy,
                "this Redis throws sessions away when its memory is full, and marks of renewals and \
                 lists of sessions too: set `maxmemory-policy noeviction`, or give sessions a server \
                 of their own"
            );
        }
    }

    /// Runs a step that changes something.
    async fn step(&self, call: Call<'_>, terms: &Terms) -> anyhow::Result<Reply> {
        replied(self.connections.script(&call).await?, terms)
    }

    /// As [`step`](Self::step), for one after which something must stay away.
    async fn ending(&self, call: Call<'_>, terms: &Terms) -> anyhow::Result<Reply> {
        replied(self.connections.ending(&call).await?, terms)
    }

    /// What a script's keys are: in a cluster the record alone.
    fn keys<'a>(&self, both: &'a [&'a str; 2]) -> &'a [&'a str] {
        if self.slots { &both[..1] } else { both }
    }

    /// Asks for the mark, where a script that knew only the record has found nothing.
    async fn marked(&self, reply: Reply, mark: &str) -> anyhow::Result<Reply> {
        match reply {
            Reply::Found(Slot::Nothing) if self.slots => {
                Ok(Reply::Found(self.read_mark(mark).await?))
            }
            reply => Ok(reply),
        }
    }

    async fn read(&self, at: &str) -> anyhow::Result<Slot> {
        match self.connections.repeatable(at, &get(at)).await {
            Ok(Value::Nil) => self.read_mark(&mark_name(at)).await,
            Ok(value) => Ok(record_slot(Some(value))),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Slot::Unreadable),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_mark(&self, name: &str) -> anyhow::Result<Slot> {
        match self.connections.repeatable(name, &get(name)).await {
            Ok(value) => Ok(mark_slot(Some(value))),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Slot::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Extends the record and reads it, in one round trip.
    async fn touch(&self, at: &str, how: Extending, terms: &Terms) -> anyhow::Result<Slot> {
        let mark = mark_name(at);
        let or_none =
            |span: Option<Millis>| span.map_or_else(String::new, |span| span.0.to_string());
        let (absolute, least) = (or_none(how.absolute), or_none(how.least));
        let (now, ttl) = (terms.now.0.to_string(), how.ttl.0.to_string());
        let (keys, args) = ([at, mark.as_str()], [now.as_str(), &ttl, &absolute, &least]);
        let call = TOUCH_SCRIPT.call(self.keys(&keys), &args);
        let value = self.connections.repeatable_script(&call).await?;
        match self.marked(reply(value, terms)?, &mark).await? {
            Reply::Found(slot) => Ok(slot),
            _ => bail!("Redis answered a read with something else than what is there"),
        }
    }

    async fn cas(
        &self,
        at: &str,
        expect: &Version,
        new: &Record,
        until: Until,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let ttl = match until {
            Until::Same => String::new(),
            Until::At(end) if end <= terms.now => return Ok(Reply::Found(Slot::Nothing)),
            Until::At(end) => (end - terms.now).0.to_string(),
        };
        let mark = mark_name(at);
        let (expect, how) = expectation(expect);
        let (keys, args) = ([at, mark.as_str()], [expect, how, text(new), &ttl]);
        let call = CAS_SCRIPT.call(self.keys(&keys), &args);
        let reply = self.step(call, terms).await?;
        self.marked(reply, &mark).await
    }

    async fn rotate(&self, renewal: Renewal<'_>, terms: &Terms) -> anyhow::Result<Reply> {
        let Renewal { at, mark, .. } = renewal;
        let (ttl, beside) = (renewal.ttl.0.to_string(), mark_name(at));
        let (expect, how) = expectation(renewal.expect);
        let keys = [at, beside.as_str(), mark.target.as_str()];
        let (mark, grace) = (mark.encode(), terms.grace.0.to_string());
        let args = [expect, how, text(renewal.new), &ttl, &mark, &grace];
        self.ending(ROTATE_SCRIPT.call(&keys, &args), terms).await
    }

    /// A renewal whose new record lies in another slot: the new record first, whose name nobody knows,
    /// then one step at the old one, which decides.
    async fn rotate_in_two_steps(
        &self,
        renewal: Renewal<'_>,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        let target = renewal.mark.target.as_str();
        let (ttl, beside) = (renewal.ttl.0.to_string(), mark_name(renewal.at));
        let args = [text(renewal.new), ttl.as_str()];
        match self
            .step(PREPARE_SCRIPT.call(&[target], &args), terms)
            .await?
        {
            Reply::Done => {}
            reply => return Ok(reply),
        }
        let (expect, how) = expectation(renewal.expect);
        let (mark, grace) = (renewal.mark.encode(), terms.grace.0.to_string());
        let (keys, args) = ([renewal.at, &beside], [expect, how, &mark, &grace]);
        let decided = self.ending(LEAVE_SCRIPT.call(&keys, &args), terms).await?;
        let own = matches!(&decided, Reply::Found(Slot::Mark(mark)) if mark.target == target);
        if let (Reply::Found(_), false) = (&decided, own) {
            // Left to its end where that fails: nobody knows its name.
            let args = [text(renewal.new)];
            let _ = self
                .step(TAKE_BACK_SCRIPT.call(&[target], &args), terms)
                .await;
        }
        Ok(decided)
    }

    async fn insert(&self, at: &str, new: &Record, ttl: Millis) -> anyhow::Result<Reply> {
        let mut set = redis::cmd("SET");
        set.arg(at)
            .arg(text(new))
            .arg("NX")
            .arg("PX")
            .arg(ttl.max(Millis(1)).0);
        Ok(match self.connections.command(at, &set).await? {
            Outcome::Value(Value::Nil) => Reply::Taken,
            Outcome::Value(Value::Okay | Value::SimpleString(_)) => Reply::Done,
            Outcome::Value(_) => bail!("Redis answered SET with something unknown"),
            Outcome::Lost(_) => Reply::Lost,
        })
    }

    async fn end(&self, at: &str, terms: &Terms) -> anyhow::Result<Reply> {
        let mark = mark_name(at);
        let keys = [at, mark.as_str()];
        let reply = self
            .ending(END_SCRIPT.call(self.keys(&keys), &[]), terms)
            .await?;
        self.marked(reply, &mark).await
    }
}

/// The name of a record's mark: in the same slot of a cluster.
pub(super) fn mark_name(name: &str) -> String {
    if name.contains('{') {
        format!("{name}:moved")
    } else {
        format!("{{{name}}}:moved")
    }
}

fn get(name: &str) -> redis::Cmd {
    let mut get = redis::cmd("GET");
    get.arg(name);
    get
}

fn replied(outcome: Outcome, terms: &Terms) -> anyhow::Result<Reply> {
    match outcome {
        Outcome::Value(value) => reply(value, terms),
        Outcome::Lost(error) => {
            tracing::debug!(%error, "the answer of a Redis command was lost");
            Ok(Reply::Lost)
        }
    }
}

/// What a script answered.
pub(super) fn reply(value: Value, terms: &Terms) -> anyhow::Result<Reply> {
    let Value::Array(parts) = value else {
        anyhow::bail!("Redis answered a script with something else than an array");
    };
    let mut parts = parts.into_iter();
    let Some(Value::Int(code)) = parts.next() else {
        anyhow::bail!("Redis answered a script without a code");
    };
    Ok(match code {
        0 => Reply::Found(Slot::Nothing),
        1 => {
            let slot = record_slot(parts.next());
            let end = match parts.next() {
                Some(Value::Int(pttl)) if pttl >= 0 => Some(terms.now + Millis(pttl)),
                _ => None,
            };
            Reply::Found(match slot {
                Slot::Record(record) => Slot::Record(record.with_end(end)),
                slot => slot,
            })
        }
        2 => Reply::Found(mark_slot(parts.next())),
        3 => Reply::Done,
        4 => Reply::Taken,
        _ => Reply::Found(Slot::Unreadable),
    })
}

fn text_of(value: Option<Value>) -> Option<String> {
    match value? {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn record_slot(value: Option<Value>) -> Slot {
    let record = text_of(value).and_then(|text| Record::decode(text).ok());
    record.map_or(Slot::Unreadable, Slot::Record)
}

/// A mark that cannot be read leads nowhere.
fn mark_slot(value: Option<Value>) -> Slot {
    let mark = text_of(value).and_then(|text| Mark::decode(&text));
    mark.map_or(Slot::Nothing, Slot::Mark)
}

fn expectation(version: &Version) -> (&str, &'static str) {
    match version {
        Version::Prefix(prefix) => (prefix, "p"),
        Version::Whole(whole) => (whole, "w"),
    }
}

/// Every record that the protocol writes has a text.
fn text(record: &Record) -> &str {
    record.as_text().unwrap_or_default()
}

/// The policy by which a server throws keys away, from what it tells about its memory.
fn evicting_policy(info: &str) -> Option<&str> {
    let field = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let limited = field("maxmemory").is_some_and(|limit| limit.trim() != "0");
    // All of them, not only `allkeys-*`: every session has an end, hence is `volatile`.
    let policy = field("maxmemory_policy")?.trim();
    (limited && policy != "noeviction").then_some(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_evicts_is_known() {
        let info = |limit: u32, policy: &str| {
            format!("# Memory\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\nx:y\r\n")
        };
        let told = |limit, policy| evicting_policy(&info(limit, policy)).map(str::to_owned);
        assert_eq!(told(1, "allkeys-lru").as_deref(), Some("allkeys-lru"));
        assert_eq!(told(1, "volatile-ttl").as_deref(), Some("volatile-ttl"));
        assert_eq!(told(0, "allkeys-lru"), None);
        assert_eq!(told(1, "noeviction"), None);
        assert_eq!(evicting_policy(""), None);
    }

    #[test]
    fn a_mark_lies_in_the_slot_of_its_record() {
        for name in ["abc", "shop:abc", "{shop}:abc", "s:{abc}:x"] {
            assert_eq!(slot(name), slot(&mark_name(name)), "{name}");
        }
    }
}
