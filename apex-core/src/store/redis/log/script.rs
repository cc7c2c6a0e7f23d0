//! What Redis does for a log, each in one atomic step.
//!
//! A log is three keys with one hash tag: `s`, a hash that says where it stands; `e`, the stream of its events, the
//! event `n` under the id `n-0`; `c`, the newest checkpoint. The fields of `s`: `e` epoch, `f` fence, `h` head, `o` the
//! oldest event, `b` the bytes of those that are kept, `l` the last batch, `t` whether the run has ended, `g` how often
//! something was asked of it, `k` the version of the checkpoint, `i` which server, in which of its lives, last knew the
//! log as a whole.

/// Appends a batch: `epoch fence after batch ended most_events most_bytes life_ms channel message version checkpoint
/// follows` and the events. The checkpoint follows the `follows` bytes that are there; without any it takes their place,
/// and a version without a checkpoint says that none is there any more. Answers `ok head asked` (for the same batch again as well), or why not: `gone`, `epoch`, `fenced`,
/// `behind` (the log has forgotten a claim), `ended`, `head N`, `short` (the checkpoint is not there
/// that this one follows).
pub(crate) const APPEND: &str = "#!lua
local s = redis.call('HMGET', KEYS[1], 'e', 'f', 'h', 'o', 'b', 'l', 't', 'g')
if not s[1] then return {'gone'} end
if s[1] ~= ARGV[1] then return {'epoch', s[1]} end
if s[6] == ARGV[4] then return {'ok', s[3], s[8]} end
local ours, theirs = tonumber(ARGV[2]), tonumber(s[2])
if ours < theirs then return {'fenced'} end
if ours > theirs then return {'behind'} end
if s[7] == '1' then return {'ended'} end
if s[3] ~= ARGV[3] then return {'head', s[3]} end
if ARGV[13] ~= '' and redis.call('STRLEN', KEYS[3]) ~= tonumber(ARGV[13]) then return {'short'} end
local head, oldest, bytes = tonumber(s[3]), tonumber(s[4]), tonumber(s[5])
for place = 14, #ARGV do
    head = head + 1
    bytes = bytes + #ARGV[place]
    redis.call('XADD', KEYS[2], string.format('%.0f-0', head), 'e', ARGV[place])
end
local most, largest = tonumber(ARGV[6]), tonumber(ARGV[7])
if head + 1 - oldest > most or bytes > largest then
    most = most - math.floor(most / 8)
    largest = largest - math.floor(largest / 8)
    local function over() return oldest < head and (head + 1 - oldest > most or bytes > largest) end
    while over() do
        for _, event in ipairs(redis.call('XRANGE', KEYS[2], string.format('%.0f-0', oldest), '+', 'COUNT', 64)) do
            if not over() then break end
            oldest = oldest + 1
            bytes = bytes - #event[2][2]
        end
    end
    redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f-0', oldest))
end
redis.call('HSET', KEYS[1], 'h', string.format('%.0f', head), 'o', string.format('%.0f', oldest),
    'b', string.format('%.0f', bytes), 'l', ARGV[4], 't', ARGV[5])
if ARGV[5] == '1' or (ARGV[11] ~= '' and ARGV[12] == '') then
    redis.call('DEL', KEYS[3])
elseif ARGV[13] ~= '' then
    redis.call('APPEND', KEYS[3], ARGV[12])
    redis.call('PEXPIRE', KEYS[3], ARGV[8])
elseif ARGV[11] ~= '' then
    redis.call('HSET', KEYS[1], 'k', ARGV[11])
    redis.call('SET', KEYS[3], ARGV[12], 'PX', ARGV[8])
end
redis.call('PEXPIRE', KEYS[1], ARGV[8])
redis.call('PEXPIRE', KEYS[2], ARGV[8])
if ARGV[9] ~= '' then redis.call('PUBLISH', ARGV[9], ARGV[10]) end
return {'ok', string.format('%.0f', head), s[8]}
";

/// Looks whether a log is as its writer knows it, and notes that it is whole: `epoch fence after batch life_ms`. Answers
/// as [`APPEND`].
pub(crate) const CHECK: &str = "#!lua flags=allow-oom
local s = redis.call('HMGET', KEYS[1], 'e', 'f', 'h', 'l', 't', 'g')
if not s[1] then return {'gone'} end
if s[1] ~= ARGV[1] then return {'epoch', s[1]} end
if s[4] == ARGV[4] then return {'ok', s[3], s[6]} end
local ours, theirs = tonumber(ARGV[2]), tonumber(s[2])
if ours < theirs then return {'fenced'} end
if ours > theirs then return {'behind'} end
if s[5] == '1' then return {'ended'} end
if s[3] ~= ARGV[3] then return {'head', s[3]} end
local told = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
local server = (string.match(told, 'run_id:(%x+)') or '') .. (string.match(told, 'master_replid:(%x+)') or '')
redis.call('HSET', KEYS[1], 'i', server)
for place = 1, 3 do redis.call('PEXPIRE', KEYS[place], ARGV[5]) end
return {'ok', s[3], s[6]}
";

/// Notes who may write from now on: `epoch fence`. Answers `ok head version checkpoint`; `moved head version checkpoint
/// fence` where the server is not the one, or not in the life, that last knew the log as a whole; `gone`, `epoch`,
/// `fenced`.
pub(crate) const TAKE: &str = "#!lua flags=allow-oom
local s = redis.call('HMGET', KEYS[1], 'e', 'f', 'h', 'i', 'k')
local checkpoint = redis.call('GET', KEYS[3]) or ''
if not s[1] then return {'gone'} end
if s[1] ~= ARGV[1] then return {'epoch', s[1]} end
if tonumber(s[2]) > tonumber(ARGV[2]) then return {'fenced'} end
local told = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
local server = (string.match(told, 'run_id:(%x+)') or '') .. (string.match(told, 'master_replid:(%x+)') or '')
if s[4] ~= server then return {'moved', s[3], s[5] or '', checkpoint, s[2]} end
redis.call('HSET', KEYS[1], 'f', ARGV[2])
return {'ok', s[3], s[5] or '', checkpoint}
";

/// Begins a life of a log, in place of the one that was found (nothing for none): `found epoch fence head oldest ended
/// life_ms` and the events from `oldest` on. Answers `ok`, or `epoch` with what is there by now.
pub(crate) const PLANT: &str = "#!lua
local there = redis.call('HGET', KEYS[1], 'e') or ''
if there ~= ARGV[1] then return {'epoch', there} end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
local bytes, seq = 0, tonumber(ARGV[5])
for place = 8, #ARGV do
    redis.call('XADD', KEYS[2], string.format('%.0f-0', seq), 'e', ARGV[place])
    seq = seq + 1
    bytes = bytes + #ARGV[place]
end
local told = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
local server = (string.match(told, 'run_id:(%x+)') or '') .. (string.match(told, 'master_replid:(%x+)') or '')
redis.call('HSET', KEYS[1], 'e', ARGV[2], 'f', ARGV[3], 'h', ARGV[4], 'o', ARGV[5], 'b', bytes, 'l', '', 't', ARGV[6],
    'g', 0, 'i', server)
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
return {'ok'}
";

/// Reads a page: `epoch fence after most_events most_bytes`. Answers `ok head oldest ended` and the events, or `gone`,
/// `epoch`, `fenced`, `behind`.
pub(crate) const READ: &str = "#!lua flags=no-writes
local s = redis.call('HMGET', KEYS[1], 'e', 'f', 'h', 'o', 't')
if not s[1] then return {'gone'} end
if s[1] ~= ARGV[1] then return {'epoch', s[1]} end
local ours, theirs = tonumber(ARGV[2]), tonumber(s[2])
if ours < theirs then return {'fenced'} end
if ours > theirs then return {'behind'} end
local answer = {'ok', s[3], s[4], s[5]}
local from, left, bytes = math.max(tonumber(ARGV[3]) + 1, tonumber(s[4])), tonumber(ARGV[4]), 0
while left > 0 do
    local count = math.min(left, 32)
    local few = redis.call('XRANGE', KEYS[2], string.format('%.0f-0', from), '+', 'COUNT', count)
    for _, event in ipairs(few) do
        bytes = bytes + #event[2][2]
        if bytes > tonumber(ARGV[5]) and #answer > 4 then return answer end
        answer[#answer + 1] = event[2][2]
    end
    if #few < count then break end
    left = left - count
    from = from + count
end
return answer
";

/// Counts that something was asked of the run, where there is a log.
pub(crate) const ASKED: &str = "#!lua flags=allow-oom
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HINCRBY', KEYS[1], 'g', 1) end
return {}
";
