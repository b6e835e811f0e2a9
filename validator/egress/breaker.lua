-- The state of one mail host's breaker for the whole fleet: one operation, atomically, told to everyone when it changes
-- anything.
--
-- KEYS: hash of the state, lease of the half-open session, index.
-- ARGV: operation, mail host, channel, fail_max, first pause in ms, longest pause in ms, lease in ms, then by operation:
--   failure  weight, token, kind, failures known to the caller (counts after a wipe), factor of the pause
--   success  token
--   claim    token
--   abandon  token
--   restore  pause left in ms, opens, kind: the caller knows an open breaker that Redis does not
--   read
-- Returns {JSON of the state, 1 when the claim was granted}.
local op, host, channel = ARGV[1], ARGV[2], ARGV[3]
local fail_max, first, longest, lease = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local DAY, SHORT = 86400000, 600000

local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

local got = redis.call('HMGET', KEYS[1], 'state', 'failures', 'opens', 'until', 'version', 'kind')
local missing = not got[1]
local state = got[1] or 'closed'
local failures, opens = tonumber(got[2] or 0), tonumber(got[3] or 0)
local ends, version, kind = tonumber(got[4] or 0), got[5] or '0', got[6] or ''
local changed, indexed, granted = false, false, 0

local function open(factor)
  opens = opens + 1
  state = 'open'
  ends = now + math.min(first * factor * 2 ^ (opens - 1), longest)
  changed, indexed = true, true
end

local function is_probe(token)
  return state == 'half-open' and token ~= '' and redis.call('GET', KEYS[2]) == token
end

if op == 'failure' then
  local weight, token, why, known, factor = tonumber(ARGV[8]), ARGV[9], ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12])
  if state == 'closed' then
    failures = (missing and known or failures) + weight
    kind = why
    changed = true
    if failures >= fail_max then
      open(factor)
    end
  elseif is_probe(token) then
    redis.call('DEL', KEYS[2])
    kind = why
    open(factor)
  end
elseif op == 'success' then
  if state == 'closed' and failures > 0 then
    failures, changed = 0, true
  elseif is_probe(ARGV[8]) then
    redis.call('DEL', KEYS[2])
    state, failures, opens, ends, kind = 'closed', 0, 0, 0, ''
    changed, indexed = true, true
  end
elseif op == 'claim' then
  if state ~= 'closed' and ends <= now and redis.call('SET', KEYS[2], ARGV[8], 'NX', 'PX', lease) then
    granted = 1
    changed, indexed = state ~= 'half-open', true
    state = 'half-open'
  end
elseif op == 'abandon' then
  if redis.call('GET', KEYS[2]) == ARGV[8] then
    redis.call('DEL', KEYS[2])
  end
elseif op == 'restore' and state == 'closed' then
  state, opens, kind, failures = 'open', tonumber(ARGV[9]), ARGV[10], fail_max
  ends = now + math.min(tonumber(ARGV[8]), longest)
  changed, indexed = true, true
end

if changed then
  version = string.format('%.0f', micros)
  redis.call('HSET', KEYS[1], 'state', state, 'failures', failures, 'opens', opens, 'until', string.format('%.0f', ends),
    'version', version, 'kind', kind)
  redis.call('PEXPIRE', KEYS[1], state == 'closed' and SHORT or DAY)
end
if changed and indexed then
  redis.call('ZADD', KEYS[3], version, host)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', micros - DAY * 1000))
  redis.call('PEXPIRE', KEYS[3], DAY)
end
local told = cjson.encode({host = host, state = state, failures = failures, opens = opens, kind = kind,
  wait = math.max(0, ends - now), version = version})
if changed then
  redis.call('PUBLISH', channel, told)
end
return {told, granted}
