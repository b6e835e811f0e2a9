-- ARGV: seconds to live; bytes of an address's field, of its value, of a finding's name; then for each domain its key,
-- the addresses' fields and values one after the other, and the findings, each after its length with its name in front.
local field, value, name = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for at = 5, #ARGV, 3 do
  local key, addresses, findings, pairs = ARGV[at], ARGV[at + 1], ARGV[at + 2], {}
  local function keep(one, other)
    pairs[#pairs + 1] = one
    pairs[#pairs + 1] = other
    if #pairs >= 4000 then
      redis.call('HSET', key, unpack(pairs))
      pairs = {}
    end
  end
  local from = 1
  while from <= #findings do
    local finding, after = struct.unpack('>I4c0', findings, from)
    keep(string.sub(finding, 1, name), string.sub(finding, name + 1))
    from = after
  end
  for start = 1, #addresses, field + value do
    local middle = start + field
    keep(string.sub(addresses, start, middle - 1), string.sub(addresses, middle, middle + value - 1))
  end
  if #pairs > 0 then redis.call('HSET', key, unpack(pairs)) end
  redis.call('EXPIRE', key, ARGV[1])
end
