//! The atomic steps as Lua scripts. Each touches one record and what lies beside it, a redirect or
//! a tombstone, in the same slot.
//!
//! In a cluster, reads and commits get the record's name alone, and the redirect is read afterwards
//! if there is no record: a script with one key works even in a slot that is being moved, while one
//! with two is refused until the whole slot has arrived. What makes, renews or ends a record gets
//! both names. In such a slot a creation counts as not done, an ending is done again with the
//! record's name alone, and a renewal waits.
//!
//! | answer | meaning |
//! | --- | --- |
//! | `{0}` | the name is free |
//! | `{1, text, pttl}` | not done: this record is there |
//! | `{2, redirect}` | not done: this redirect is there |
//! | `{3}` | done |
//! | `{4}` | not done: the new name is taken |
//! | `{5}` | not done: something other than a string is there |
//! | `{6}` | not done: the sessions of its owner that were logged in by then have ended |
//!
//! Whatever else a read is refused for is the script's error.
//!
//! A user may be allowed some commands and not others, which a server decides one by one. So whatever
//! a script reads, it reads before it writes. A server without memory refuses a script's first write
//! alone, so that one is a `SET`, which is the only thing that needs memory. If the deletion that
//! comes after it is refused, the script takes back what it has set, and answers the refusal.
//!
//! A step that changes whose session a record is has the index of its owner as a further key. Its
//! script is another one, so that other steps do not pay for it: lines that begin with `--@` are
//! comments in the plain script, and are carried out in the other one. There the entry in the index
//! comes first: it needs memory too, and is taken back if what follows is refused. [`INDEX`] says how.
//!
//! A step that ends a session tells whoever waits for that, of other processes too: see [`TELL`]. A commit
//! does so only if it may, in a script where lines that begin with `--#` are carried out.

mod index;

use std::sync::LazyLock;

use redis::Cmd;

use self::index::INDEX;
pub(crate) use self::index::{
    ENTER_SCRIPT, FORGET_SCRIPT, INSERT_INDEXED_SCRIPT, LIVE_ON_SCRIPT, MARK_SCRIPT,
};

/// Reads the record, which is the first key, or else the redirect, which is the second.
const READ: &str = r"
local function read()
  local text = redis.pcall('GET', KEYS[1])
  if type(text) == 'table' then
    if string.find(text.err or '', 'WRONGTYPE', 1, true) then return nil, {5} end
    return nil, text
  end
  if text then return text end
  local redirect = KEYS[2] and redis.pcall('GET', KEYS[2])
  if type(redirect) == 'string' then return nil, {2, redirect} end
  return nil, {0}
end
local function found(text) return {1, text, redis.call('PTTL', KEYS[1])} end
";

/// What an earlier attempt has left is written once more, as it is: `WAIT` counts what its own connection
/// has written (Redis from 7.2 on, and Valkey).
const AGAIN: &str = r"
local function again(other)
  local left = KEYS[2] and redis.pcall('PTTL', KEYS[2])
  if type(left) == 'number' and left > 0 then redis.pcall('PEXPIRE', KEYS[2], left) end
  return other
end
";

/// The first argument is the whole text or, if the second is 'p', the beginning of it.
const EXPECTED: &str = r"
local function expected(text)
  if ARGV[2] == 'p' then return string.sub(text, 1, #ARGV[1]) == ARGV[1] end
  return text == ARGV[1]
end
";

/// Where the metadata stand in a record: at the start of the text, or in an entry of a flat map of strings.
const PLACE: &str = r#"
local function place(text)
  if string.sub(text, 1, 12) == '{"v":1,"f":"' then return 13 end
  if string.find(text, '^{"[^"\\]*":[^"]') then return nil end
  local _, last = string.find(text, '[{,]"__actix_session":"\\"')
  return last and last + 1
end
"#;

/// Tells whoever listens what became of the session of a record: `o` it has logged out, `r` it was
/// revoked, `l` its principal had too many, `n` it has a new name. The last argument is the channel, which is taken away here. It is
/// told the id alone. A user who may not tell does what the script is for all the same.
const TELL: &str = r"
local channel = table.remove(ARGV)
local function id_of(text)
  local at = type(text) == 'string' and place(text)
  return at and string.match(text, '^%x+%.(%x+)%.', at)
end
local function tell(what, text)
  local id = id_of(text)
  if id then redis.pcall('PUBLISH', channel, what .. id) end
end
local function told_of(redirect, text)
  tell(string.sub(redirect, 1, 1) == 'e' and 'o' or 'n', text)
end
";

/// Deletes the first key after one was set, which is taken back if the deletion is refused: only a
/// `SET` is certain to be allowed then, so it ends at once.
const DELETE_AFTER: &str = r"
local function delete_after(key)
  local deleted = redis.pcall('DEL', KEYS[1])
  if type(deleted) == 'number' then return nil end
  redis.call('SET', key, '', 'PX', 1)
  return deleted
end
";

/// Extends the record. The arguments are the present time, the policy's TTL, its absolute limit (or
/// '') and the least extension worth a write (or ''), in ms; and 'own' if the session's own TTL
/// counts. That TTL and the session's own end have fixed places in the metadata, which stands at the
/// start of the text or is an entry of a flat map of strings. Whatever else looks like it is a value,
/// which a visitor may have sent. What is found has a fourth part: 1 if the record was extended.
const TOUCH: &str = r#"
local text, other = read()
if not text then return other end
local metadata = '^%x+%.%x+%.(%-?%d+)%.(%-?%d*)%.(%-?%d*)%.%x+%.%-?%d*%.?(%-?%d*)'
local at = place(text)
local now, ttl, cap = tonumber(ARGV[1]), tonumber(ARGV[2]), nil
local least = tonumber(ARGV[4])
if at then
  local _, stop = string.find(text, '^[%x%.%-]*', at)
  local created, absolute, own, auth = string.match(string.sub(text, at, stop), metadata)
  if created then
    if own ~= '' and ARGV[5] == 'own' then
      ttl = tonumber(own)
      if least then least = math.min(least, math.floor(ttl / 2)) end
    end
    if absolute ~= '' then cap = tonumber(absolute)
    elseif ARGV[3] ~= '' then
      local since = created
      if auth ~= '' then since = auth end
      cap = tonumber(since) + tonumber(ARGV[3])
    end
  end
end
local idle = ttl
if cap and cap - now < ttl then ttl = cap - now end
local extended = 0
local function due()
  if not least then return true end
  local left = redis.call('PTTL', KEYS[1])
  if left - ttl >= math.max(least, 300000) then return true end
  return idle - left >= least and ttl - left >= math.min(least, 1000)
end
if ttl > 0 and due() then
  extended = redis.call('PEXPIRE', KEYS[1], ttl)
end
local found = found(text)
found[4] = extended
return found
"#;

/// The third argument is the new text; the fourth its TTL in ms, or '' to keep the present one, or
/// '<' and a TTL that shortens the present one. A third key takes the epoch of a `clear`, with the
/// last two arguments: it and its TTL in ms.
///
/// A record that still begins as expected is compared by Redis: as a string of Lua's it would cost as much
/// as the step itself. Whoever may not do that compares here.
const CAS: &str = r"
local begins = ARGV[2] == 'p'
--# begins = false
local text, other
if not begins or redis.pcall('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then
  text, other = read()
  if not text then return other end
  if not expected(text) then return found(text) end
end
local ttl = ARGV[4]
if string.sub(ttl, 1, 1) == '<' then
  ttl = string.sub(ttl, 2)
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 and left <= tonumber(ttl) then ttl = '' end
end
--@ if ended() then return {6} end
--@ local refused = enter()
--@ if refused then return refused end
local set
if ttl == '' then set = redis.pcall('SET', KEYS[1], ARGV[3], 'KEEPTTL')
else set = redis.pcall('SET', KEYS[1], ARGV[3], 'PX', ttl) end
--@ if set.err then return take_back(set) end
if set.err then return set end
if KEYS[3] then redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[6]) end
--# if id_of(ARGV[3]) ~= id_of(text) then tell('o', text) end
--@ if true then return done() end
return {3}
";

/// The third and fourth keys are the new name and the one beside it. The fifth and sixth arguments are
/// the redirect and its TTL in ms.
///
/// The epoch comes along from the fifth key to the sixth, if there are any. A seventh argument is
/// the epoch of a `clear`, which takes its place.
const ROTATE: &str = r"
local text, other = read()
if not text then return again(other) end
if not expected(text) then return found(text) end
if redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then return {4} end
local epoch, rest = ARGV[7], ARGV[6]
if KEYS[6] and not epoch then
  epoch, rest = redis.call('GET', KEYS[5]), redis.call('PTTL', KEYS[5])
end
--@ if ended() then return {6} end
--@ local unentered = enter()
--@ if unentered then return unentered end
local set = redis.pcall('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
local refused = set.err and set or delete_after(KEYS[3])
--@ if refused then take_back() end
if refused then return refused end
redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6])
if KEYS[6] and epoch and tonumber(rest) > 0 then
  redis.call('SET', KEYS[6], epoch, 'PX', rest)
end
told_of(ARGV[5], text)
--@ if true then return done() end
return {3}
";

/// Makes a record. The arguments are the text and its TTL in ms.
const INSERT: &str = r"
if redis.call('EXISTS', KEYS[2]) == 1 then return {4} end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return {3} end
return {4}
";

/// The first half of a renewal across slots: writes the new record, whose name nobody knows yet.
/// The arguments are the text and its TTL in ms. A record that an earlier attempt wrote is as good.
/// A third key takes the epoch, with the last two arguments: it and its TTL in ms.
const PREPARE: &str = r"
if redis.call('EXISTS', KEYS[2]) == 1 then return {4} end
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  local text, other = read()
  if other and other.err then return other end
  if text ~= ARGV[1] then return {4} end
end
if KEYS[3] then redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4]) end
return {3}
";

/// The second half, which decides. The last two arguments are the redirect and its TTL in ms.
const LEAVE: &str = r"
local text, other = read()
if not text then return again(other) end
if not expected(text) then return found(text) end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
local refused = delete_after(KEYS[2])
if refused then return refused end
told_of(ARGV[3], text)
return {3}
";

/// Takes the first half back, unless another request has written since. It leaves no tombstone:
/// nobody ever knew the key. Whoever may not delete lets it end at once.
const TAKE_BACK: &str = r"
local text, other = read()
if other and other.err then return other end
if text == ARGV[1] and type(redis.pcall('DEL', KEYS[1])) ~= 'number' then
  redis.call('SET', KEYS[1], '', 'PX', 1)
end
return {3}
";

/// The first two arguments say which record is expected, the next two are the tombstone and its TTL in
/// ms, and the last one is what is told.
const END_IF: &str = r"
local text, other = read()
if not text then return again(other) end
if not expected(text) then return found(text) end
redis.call('DEL', KEYS[1])
if KEYS[2] then redis.pcall('SET', KEYS[2], ARGV[3], 'PX', ARGV[4]) end
tell(ARGV[5], text)
--@ if true then return done() end
return {3}
";

/// Reads the record with its end, and writes nothing.
const LOOK: &str = r"
local text, other = read()
if not text then return other end
return found(text)
";

/// The arguments are the tombstone and its TTL in ms. The deletion comes first: a server without
/// memory lets a script finish that has begun to write. It counts even for a user who may set
/// nothing, and so leaves no tombstone.
const END: &str = r"
local ended = redis.pcall('GET', KEYS[1])
if redis.call('DEL', KEYS[1]) == 1 then
  if KEYS[2] then redis.pcall('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) end
  tell('o', ended)
  --@ if true then return done() end
  return {3}
end
local text, other = read()
return again(other or {0})
";

pub(crate) static TOUCH_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[READ, PLACE, TOUCH]));
pub(crate) static LOOK_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(&[READ, LOOK]));
pub(crate) static CAS_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[READ, EXPECTED, CAS]));
pub(crate) static CAS_TELLING_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::telling(&[READ, EXPECTED, CAS]));
pub(crate) static CAS_INDEXED_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::telling(&[INDEX, READ, EXPECTED, CAS]));
pub(crate) static ROTATE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::telling(&[READ, AGAIN, EXPECTED, DELETE_AFTER, ROTATE]));
pub(crate) static ROTATE_INDEXED_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::telling(&[INDEX, READ, AGAIN, EXPECTED, DELETE_AFTER, ROTATE]));
pub(crate) static INSERT_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(&[INSERT]));
pub(crate) static PREPARE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[READ, PREPARE]));
pub(crate) static LEAVE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::telling(&[READ, AGAIN, EXPECTED, DELETE_AFTER, LEAVE]));
pub(crate) static TAKE_BACK_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[READ, TAKE_BACK]));
pub(crate) static END_IF_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::telling(&[READ, AGAIN, EXPECTED, END_IF]));
pub(crate) static END_IF_INDEXED_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::telling(&[INDEX, READ, AGAIN, EXPECTED, END_IF]));
pub(crate) static END_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::telling(&[READ, AGAIN, END]));
pub(crate) static END_INDEXED_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::telling(&[INDEX, READ, AGAIN, END]));

/// A script and its digest.
pub(crate) struct Script {
    source: String,
    hash: String,
}

/// One call of a script: by its digest, or whole for a server that does not know it yet.
pub(crate) struct Call<'a> {
    script: &'a Script,
    keys: &'a [&'a str],
    args: &'a [&'a str],
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        Self::of(parts.concat())
    }

    /// The same for a step that changes an index.
    fn indexed(parts: &[&str]) -> Self {
        Self::of([INDEX, &parts.concat().replace("--@ ", "")].concat())
    }

    /// The same for a step that may end a session or give it a new name. The index comes first, if the
    /// step changes one.
    fn telling(parts: &[&str]) -> Self {
        let mut parts = parts.concat().replace("--# ", "");
        if parts.starts_with(INDEX) {
            parts = parts.replace("--@ ", "");
        }
        Self::of([PLACE, TELL, &parts].concat())
    }

    fn of(source: String) -> Self {
        let hash = redis::Script::new(&source).get_hash().to_owned();
        Self { source, hash }
    }

    #[cfg(test)]
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    pub(crate) fn call<'a>(&'a self, keys: &'a [&'a str], args: &'a [&'a str]) -> Call<'a> {
        Call {
            script: self,
            keys,
            args,
        }
    }
}

impl Call<'_> {
    /// The name of the record, which says where the script runs.
    pub(crate) fn at(&self) -> &str {
        self.keys.first().copied().unwrap_or_default()
    }

    /// Whether a text is what it leaves in a record's place: it is among the arguments.
    pub(crate) fn writes(&self, text: &[u8]) -> bool {
        self.args.iter().any(|arg| arg.as_bytes() == text)
    }

    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    pub(crate) fn whole(&self) -> Cmd {
        self.command("EVAL", &self.script.source)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let parts = self.keys.iter().chain(self.args);
        let size: usize = parts.clone().map(|part| part.len()).sum();
        // With room for all of it.
        let room = name.len() + script.len() + 1 + size;
        let mut command = Cmd::with_capacity(3 + parts.clone().count(), room);
        command.arg(name).arg(script).arg(self.keys.len());
        for part in parts {
            command.arg(*part);
        }
        command
    }
}
