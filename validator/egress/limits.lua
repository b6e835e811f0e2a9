-- Slots and rates of all scopes for everything one validator wants at this moment: all or nothing for each want.
--
-- ARGV[1], JSON: {me, epoch, lease, pause, renew = {{key, {id, ...}}, ...}, release = {{id, {key, ...}}, ...},
--                 want = {{id, {{slots, rate, cap, interval, burst, next, has}, ...}}, ...}}
--   slots, rate, next: keys. lease and pause in ms, interval in microseconds between two starts (0: any), burst in starts, has: 1 when the
--   validator holds a slot there already.
-- KEYS: epoch, settling.  Returns {epoch, {scope number from 1 or 0 = granted, wait in ms}, ...}.
--
-- The epoch names the life of this data. Whoever remembers another one saw a wipe: for a pause, in which all holders
-- register again, nothing is granted.
--
-- Fairness between validators: the first without a slot that finds a scope full is next in line, and the last free slot
-- is kept for it. Without that, a validator that gives a slot back and wants one in the same call would always win.
-- `next` lives for NEXT ms, a few polls, so that a validator that lost interest holds up nobody.
local ask = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
local DAY = 86400000
local NEXT = 250

local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = string.format('%.0f', micros)
  redis.call('SET', KEYS[1], epoch)
end
redis.call('PEXPIRE', KEYS[1], DAY)
if ask.epoch ~= '' and ask.epoch ~= epoch then
  redis.call('SET', KEYS[2], '1', 'NX', 'PX', ask.pause)
end
local settling = redis.call('PTTL', KEYS[2])

for _, renewal in ipairs(ask.renew) do
  for _, id in ipairs(renewal[2]) do
    redis.call('ZADD', renewal[1], now + ask.lease, id)
  end
  redis.call('PEXPIRE', renewal[1], ask.lease)
end
for _, release in ipairs(ask.release) do
  for _, key in ipairs(release[2]) do
    redis.call('ZREM', key, release[1])
  end
end

local held = {}
local function count(key)
  if not held[key] then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    held[key] = redis.call('ZCARD', key)
  end
  return held[key]
end

local function blocked(scopes)
  if settling > 0 then
    return 1, settling
  end
  for number, scope in ipairs(scopes) do
    local first = redis.call('GET', scope[6])
    local kept = first and first ~= ask.me and 1 or 0
    if count(scope[1]) >= scope[3] - kept then
      if not first and scope[7] == 0 then
        redis.call('SET', scope[6], ask.me, 'PX', NEXT)
      elseif first == ask.me then
        redis.call('PEXPIRE', scope[6], NEXT)
      end
      return number, 0
    end
    if scope[4] > 0 then
      local due = tonumber(redis.call('GET', scope[2]) or 0) - scope[4] * (scope[5] - 1)
      if due > micros then
        return number, math.ceil((due - micros) / 1000)
      end
    end
  end
  return 0, 0
end

local function take(scope, id)
  redis.call('ZADD', scope[1], now + ask.lease, id)
  redis.call('PEXPIRE', scope[1], ask.lease)
  held[scope[1]] = held[scope[1]] + 1
  if redis.call('GET', scope[6]) == ask.me then
    redis.call('DEL', scope[6])
  end
  if scope[4] > 0 then
    local due = math.max(tonumber(redis.call('GET', scope[2]) or 0), micros) + scope[4]
    redis.call('SET', scope[2], string.format('%.0f', due), 'PX', math.ceil((due - micros) / 1000) + 1000)
  end
end

local answer = {epoch}
for _, want in ipairs(ask.want) do
  local number, wait = blocked(want[2])
  if number == 0 then
    for _, scope in ipairs(want[2]) do
      take(scope, want[1])
    end
  end
  answer[#answer + 1] = {number, wait}
end
return answer
