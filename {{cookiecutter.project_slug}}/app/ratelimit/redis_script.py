"""The sliding window as one Lua script: it decides over several budgets, all or nothing.

It keeps for each budget the ledger that `ledger` describes, packed into one string
(about 900 bytes with every bucket in use) that expires with its last bucket. All that is one
call runs between two ticks of the server, so nothing comes between the look and
the booking, and the server's clock is the only one that counts.

A ledger has a clock of its own, which goes as the server's does. Where that steps back,
it goes on from the last booking, so nothing leaves early and nothing stops (`ahead`
keeps the difference). A step forward by d seconds lets what is in the ledger go d
seconds early; a server's clock cannot tell it from an idle spell.

Beside what is `used`, a ledger keeps what is `firm`: settled, so that nobody can give
it back. When even the firm part leaves no room, the refusal is certain until
some of it leaves the window, whatever other processes do; the client then needs no round
trip to know.

Runs on Redis >= 6.2 and Valkey >= 7.2. Needs: nothing. `redis_window` calls it.
"""

WINDOW_SCRIPT = """
-- KEYS[i]: the ledger of budget i. ARGV: an operation, then its arguments for each budget.
--   reserve: window, limit, cost; replies whether admitted, then for each budget
--            {used, reset, bucket, now}, or where refused
--            {used, reset, wait, now, then bucket, used, firm of each bucket if it must wait}
--   settle:  window, bucket, reserved, used
--   correct: window, limit, remaining, duration
-- Times are in microseconds; reset and wait count from now.

local time = redis.call('TIME')
local server = time[1] * 1000000 + time[2]
-- A ledger: its time, how far that is ahead of the server's, the sum of what is used, then
-- for each bucket, the oldest first: number, used, firm.
local NOW, AHEAD, USED, FIRST = 1, 2, 3, 4

local function leaves(ledger, bucket)
  return (bucket + 1) * ledger.width + ledger.window
end

local function open(key, window)
  local packed = redis.call('GET', key)
  local data = packed and cmsgpack.unpack(packed) or {server, 0, 0}
  local ledger = {key = key, window = window, width = math.ceil(window / 60), data = data}
  ledger.stepped_back = data[NOW] - server > data[AHEAD]
  data[AHEAD] = math.max(data[AHEAD], data[NOW] - server)
  data[NOW] = server + data[AHEAD]
  local gone = 0
  while data[FIRST + gone] and leaves(ledger, data[FIRST + gone]) <= data[NOW] do
    data[USED] = data[USED] - data[FIRST + gone + 1]
    gone = gone + 3
  end
  if gone > 0 then
    for i = FIRST, #data do data[i] = data[i + gone] end
  end
  return ledger
end

local function save(ledger)
  local ttl = math.ceil((ledger.window + ledger.width) / 1000)
  redis.call('SET', ledger.key, cmsgpack.pack(ledger.data), 'PX', ttl)
end

local function current(ledger)
  return math.floor(ledger.data[NOW] / ledger.width)
end

-- Count more, or less, in a bucket. What is used is never less than what is firm: so
-- settling into a ledger that was lost counts what was really used, and no more.
local function put(ledger, bucket, used, firm)
  local data = ledger.data
  local at = #data + 1
  while at > FIRST and data[at - 3] >= bucket do at = at - 3 end
  if data[at] ~= bucket then
    for _, value in ipairs({0, 0, bucket}) do table.insert(data, at, value) end
  end
  used = math.max(used, data[at + 2] + firm - data[at + 1])
  for i, change in pairs({[at + 1] = used, [at + 2] = firm, [USED] = used}) do
    data[i] = data[i] + change
  end
  if data[at + 1] == 0 then
    for _ = 1, 3 do table.remove(data, at) end
  end
end

-- How long until a cost fits.
local function wait(ledger, limit, cost)
  local data = ledger.data
  local excess = data[USED] + cost - limit
  if excess <= 0 then return 0 end
  for at = FIRST, #data, 3 do
    excess = excess - data[at + 1]
    if excess <= 0 then return leaves(ledger, data[at]) - data[NOW] end
  end
  return ledger.window
end

local function reset(ledger)
  local data = ledger.data
  return data[FIRST] and leaves(ledger, data[FIRST]) - data[NOW] or 0
end

local function each(count, decide)
  for i, key in ipairs(KEYS) do
    local arguments = {}
    for j = 1, count do arguments[j] = tonumber(ARGV[1 + (i - 1) * count + j]) end
    decide(open(key, arguments[1]), unpack(arguments, 2))
  end
end

local operations = {}

function operations.reserve()
  local asked, admitted = {}, 1
  each(3, function(ledger, limit, cost)
    local blocked = wait(ledger, limit, cost)
    if blocked > 0 then admitted = 0 end
    table.insert(asked, {ledger, cost, blocked})
  end)
  local reply = {admitted}
  for _, ask in ipairs(asked) do
    local ledger, cost, blocked = unpack(ask)
    local told = blocked
    if admitted == 1 then
      told = current(ledger)
      put(ledger, told, cost, 0)
    end
    if admitted == 1 or ledger.stepped_back then save(ledger) end
    local row = {ledger.data[USED], reset(ledger), told, ledger.data[NOW]}
    for at = FIRST, blocked > 0 and #ledger.data or 0 do table.insert(row, ledger.data[at]) end
    table.insert(reply, row)
  end
  return reply
end

function operations.settle()
  each(4, function(ledger, bucket, reserved, used)
    if leaves(ledger, bucket) > ledger.data[NOW] then
      put(ledger, bucket, used - reserved, used)
    elseif used > reserved then
      put(ledger, current(ledger), used - reserved, used - reserved)
    else
      return
    end
    save(ledger)
  end)
end

function operations.correct()
  each(4, function(ledger, limit, remaining, duration)
    local excess = limit - ledger.data[USED] - remaining
    if excess > 0 then
      local past = ledger.data[NOW] + duration - ledger.window
      local bucket = math.min(math.ceil(past / ledger.width) - 1, current(ledger))
      put(ledger, bucket, excess, excess)
      save(ledger)
    end
  end)
end

return operations[ARGV[1]]()
"""
