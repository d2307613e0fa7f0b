"""The sliding window as one Lua script: it decides over several budgets, all or nothing.

Each budget has a ledger as in `memory`, packed into one string (at most about 1 KB) that expires
with its last bucket. A call runs atomically on the server, and only the server's clock counts. When
that clock steps back, a ledger's own time goes on from its last use (`ahead` keeps the difference):
nothing leaves early and nothing stops. After a step forward, capacity comes back that much early.
Runs on Redis 6.2 and Valkey 7.2. Needs: nothing.
"""

WINDOW_SCRIPT = """
-- KEYS[i]: the ledger of budget i. ARGV: an operation, then its arguments for each budget.
--   reserve: window, limit, cost; replies whether admitted, then {used, reset, wait or bucket}
--            for each budget
--   settle:  window, bucket, reserved, used
--   correct: window, limit, remaining, duration
-- Times are in microseconds; reset and wait count from now.

local time = redis.call('TIME')
local server = time[1] * 1000000 + time[2]

local function leaves(ledger, bucket)
  return (bucket + 1) * ledger.width + ledger.window
end

local function open(key, window)
  local packed = redis.call('GET', key)
  local last, ahead, buckets = unpack(packed and cmsgpack.unpack(packed) or {server, 0, {}})
  ahead = math.max(ahead, last - server)
  local ledger = {key = key, window = window, width = math.ceil(window / 60), ahead = ahead,
                  now = server + ahead, used = 0, buckets = {}}  -- the oldest bucket first
  for _, bucket in ipairs(buckets) do
    if bucket[2] > 0 and leaves(ledger, bucket[1]) > ledger.now then
      ledger.used = ledger.used + bucket[2]
      table.insert(ledger.buckets, bucket)
    end
  end
  return ledger
end

local function save(ledger)
  local packed = cmsgpack.pack({ledger.now, ledger.ahead, ledger.buckets})
  local ttl = math.ceil((ledger.window + ledger.width) / 1000)
  redis.call('SET', ledger.key, packed, 'PX', ttl)
end

local function current(ledger)
  return math.floor(ledger.now / ledger.width)
end

-- Count more, or less, in a bucket; nothing is given back of a ledger that was lost.
local function put(ledger, number, cost)
  local buckets = ledger.buckets
  local at = #buckets + 1
  while at > 1 and buckets[at - 1][1] >= number do at = at - 1 end
  if not buckets[at] or buckets[at][1] ~= number then
    if cost <= 0 then return end
    table.insert(buckets, at, {number, 0})
  end
  cost = math.max(cost, -buckets[at][2])
  buckets[at][2] = buckets[at][2] + cost
  ledger.used = ledger.used + cost
end

-- How long until a cost fits.
local function wait(ledger, limit, cost)
  local excess = ledger.used + cost - limit
  if excess <= 0 then return 0 end
  for _, bucket in ipairs(ledger.buckets) do
    excess = excess - bucket[2]
    if excess <= 0 then return leaves(ledger, bucket[1]) - ledger.now end
  end
  return ledger.window
end

local function reset(ledger)
  local oldest = ledger.buckets[1]
  return oldest and leaves(ledger, oldest[1]) - ledger.now or 0
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
  local calls, admitted = {}, 1
  each(3, function(ledger, limit, cost)
    local blocked = wait(ledger, limit, cost)
    if blocked > 0 then admitted = 0 end
    table.insert(calls, {ledger, cost, blocked})
  end)
  local reply = {admitted}
  for _, call in ipairs(calls) do
    local ledger, cost, answer = unpack(call)
    if admitted == 1 then
      answer = current(ledger)
      put(ledger, answer, cost)
    end
    save(ledger)
    table.insert(reply, {ledger.used, reset(ledger), answer})
  end
  return reply
end

function operations.settle()
  each(4, function(ledger, bucket, reserved, used)
    if leaves(ledger, bucket) > ledger.now then
      put(ledger, bucket, used - reserved)
    else
      put(ledger, current(ledger), math.max(0, used - reserved))
    end
    save(ledger)
  end)
end

function operations.correct()
  each(4, function(ledger, limit, remaining, duration)
    local past = ledger.now + duration - ledger.window
    local bucket = math.min(math.ceil(past / ledger.width) - 1, current(ledger))
    put(ledger, bucket, math.max(0, limit - ledger.used - remaining))
    save(ledger)
  end)
end

return operations[ARGV[1]]()
"""
