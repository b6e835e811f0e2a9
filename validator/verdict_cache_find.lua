-- ARGV: how many bytes a field has; then for each domain the keys of this period's and the last period's hash, and the
-- fields of the addresses asked about, one after the other.
-- Returns the findings, and for each address that is known its place in the question (from 1, over all domains), the
-- number of its finding (from 1) and when it was found, in seconds since the epoch.
local size = tonumber(ARGV[1])
local findings, known, numbers = {}, {}, {}

local function number_of(key, name)
  if numbers[name] == nil then
    local finding = redis.call('HGET', key, name)
    if finding then
      findings[#findings + 1] = finding
      numbers[name] = #findings
    end
  end
  return numbers[name]
end

local before = 0
for at = 2, #ARGV, 3 do
  local all, found = ARGV[at + 2], {}
  local count = #all / size
  for _, key in ipairs({ARGV[at], ARGV[at + 1]}) do
    for from = 1, count, 4000 do
      local fields = {}
      for place = from, math.min(from + 3999, count) do
        fields[#fields + 1] = string.sub(all, (place - 1) * size + 1, place * size)
      end
      for offset, value in ipairs(redis.call('HMGET', key, unpack(fields))) do
        local place = from + offset - 1
        local number = value and not found[place] and number_of(key, string.sub(value, 5))
        if number then
          found[place] = true
          known[#known + 1] = before + place
          known[#known + 1] = number
          known[#known + 1] = struct.unpack('>I4', value)
        end
      end
    end
  end
  before = before + count
end
return {findings, known}
