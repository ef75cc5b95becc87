//! What scripts do to the indexes of principals.

use std::sync::LazyLock;

use super::Script;

/// What the scripts do to indexes of principals: hashes of sessions by id, each with the time of its
/// login and its name, and the mark that has ended them together.
///
/// The last arguments are the TTL of an index in ms; the id, the time of the login and the entry of
/// whoever enters; the id and the entry of whoever leaves. Nobody enters or leaves if the id is ''.
/// For each there is a key, the last ones. All of these are taken away here, so that the scripts
/// find the keys and arguments that they have without an index.
///
/// An entry that begins with `+` is a reservation (see `Entry::reserved`), which takes no entry's place.
///
/// What is done answers how many entries there are if there is one more: see `Executor::entering`.
pub(super) const INDEX: &str = r"
local left, left_id = table.remove(ARGV), table.remove(ARGV)
local entry, login = table.remove(ARGV), table.remove(ARGV)
local id, span = table.remove(ARGV), table.remove(ARGV)
local leaves = left_id ~= '' and table.remove(KEYS)
local enters = id ~= '' and table.remove(KEYS)
local before = nil
local function ended()
  local mark = enters and redis.call('HGET', enters, 'mark')
  if not mark then return false end
  local at, spared = string.match(mark, '^(%-?%d+)|(.*)$')
  return at and tonumber(login) <= tonumber(at) and not string.find(spared, id, 1, true)
end
local function enter()
  if not enters then return nil end
  before = redis.call('HGET', enters, id)
  if before and string.sub(entry, 1, 1) == '+' then return nil end
  local entered = redis.pcall('HSET', enters, id, entry)
  if type(entered) ~= 'number' then return entered end
  return nil
end
local function take_back(refused)
  if enters and before then redis.call('HSET', enters, id, before)
  elseif enters then redis.pcall('HDEL', enters, id) end
  return refused
end
local function done()
  if leaves and redis.pcall('HGET', leaves, left_id) == left then redis.pcall('HDEL', leaves, left_id) end
  if not enters then return {3} end
  redis.pcall('PEXPIRE', enters, span)
  if before then return {3} end
  return {3, redis.pcall('HLEN', enters)}
end
";

/// Makes somebody's record.
const INSERT_INDEXED: &str = r"
if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then return {4} end
if ended() then return {6} end
local refused = enter()
if refused then return refused end
local set = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if set.err then return take_back(set) end
return done()
";

/// Enters a record that is there already, and gives it its TTL in ms, the argument. The key of the
/// record is the first, or there is none if it lies in another slot. One that is to be over is deleted.
const ENTER: &str = r"
if KEYS[1] and redis.call('EXISTS', KEYS[1]) == 0 then return {6} end
if ended() then
  if KEYS[1] then redis.call('DEL', KEYS[1]) end
  return {6}
end
local refused = enter()
if refused then return refused end
if KEYS[1] then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return done()
";

/// Gives a record that has been entered in another slot its TTL in ms, the argument. It is over if it has
/// ended meanwhile.
const LIVE_ON: &str = r"
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 1 then return {3} end
return {6}
";

/// Marks a principal's sessions as ended. The arguments are the time and the spared ids; the id and
/// the time of the login of whoever asks, or ''; and the TTL of the index in ms.
const MARK: &str = r"
local at, mark = ARGV[1], redis.call('HGET', KEYS[1], 'mark')
local earlier, spared = string.match(mark or '', '^(%-?%d+)|(.*)$')
if earlier then
  if ARGV[3] ~= '' and tonumber(ARGV[4]) <= tonumber(earlier)
    and not string.find(spared, ARGV[3], 1, true) then return {6} end
  if tonumber(earlier) > tonumber(at) then at = earlier end
end
redis.call('HSET', KEYS[1], 'mark', at .. '|' .. ARGV[2])
redis.pcall('PEXPIRE', KEYS[1], ARGV[5])
return {3}
";

/// Takes entries out of an index that still say what they said. The arguments are ids and entries.
const FORGET: &str = r"
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return {3}
";

pub(crate) static INSERT_INDEXED_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::indexed(&[INSERT_INDEXED]));
pub(crate) static ENTER_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::indexed(&[ENTER]));
pub(crate) static LIVE_ON_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(&[LIVE_ON]));
pub(crate) static MARK_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(&[MARK]));
pub(crate) static FORGET_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(&[FORGET]));
