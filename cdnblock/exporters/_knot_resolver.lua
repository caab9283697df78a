-- Written by `cdnblock export knot-resolver`: refuses what the orders say, for the clients whom they mean. Load it from
-- kresd's configuration by dofile(), behind the modules that you load.
--
-- What is refused is in a file of its own that is looked at four times a second and read a little at a time, so that no
-- query waits for it. Of a file that cannot be read whole nothing takes effect; at the start that ends kresd.

local ffi, bit, kres = require('ffi'), require('bit'), require('kres')

local ORDERS = '@ORDERS@'
local LOOK_EVERY = 250 -- milliseconds
local LINES_AT_ONCE = 500 -- half a millisecond
local FREE, OTHER = false, 'other'

local CENSORED, CLIENT_SUBNET = @CENSORED@, 8 -- RFC 8914, RFC 7871
local RCODES = { refuse = kres.rcode.REFUSED, nxdomain = kres.rcode.NXDOMAIN, nodata = kres.rcode.NOERROR }
local NEGATIVE_TTL, SOA = @NEGATIVE_TTL@, '@SOA@'

local MAPPED = ('\0'):rep(10) .. '\255\255' -- ::ffff:0:0/96, RFC 4291
local NAT64 = '\0\100\255\155' .. ('\0'):rep(8) -- 64:ff9b::/96, RFC 6052
local SIX_TO_FOUR, TEREDO = '\32\2', '\32\1\0\0' -- 2002::/16, RFC 3056; 2001::/32, RFC 4380

local held -- what is enforced: see `empty`

local function empty()
  return { groups = {}, exact = {}, suffixes = {}, networks = { [4] = {}, [16] = {} } }
end

local function decoded(text)
  return (text:gsub('%%(%x%x)', function(digits) return string.char(tonumber(digits, 16)) end))
end

local function on_the_wire(name)
  return name:gsub('([^.]+)%.?', function(label) return string.char(#label) .. label end) .. '\0'
end

-- The first octets of an address, as many bits as a network has
local function cut(address, length)
  local whole, rest = math.floor(length / 8), length % 8
  if rest == 0 then return address:sub(1, whole) end
  return address:sub(1, whole) .. string.char(bit.band(address:byte(whole + 1), 256 - 2 ^ (8 - rest)))
end

-- RFC 4380: an address in a Teredo network ends in the client's, each bit inverted
local function unwrapped(address)
  if #address == 4 then return address end
  if address:sub(1, 12) == MAPPED or address:sub(1, 12) == NAT64 then return address:sub(13) end
  if address:sub(1, 2) == SIX_TO_FOUR then return address:sub(3, 6) end
  if address:sub(1, 4) ~= TEREDO then return address end
  return (address:sub(13):gsub('.', function(octet) return string.char(255 - octet:byte()) end))
end

-- A negative answer is cached for every network (RFC 7871): who tells a client's subnet is refused instead
local function tells_subnet(opt)
  local options, at = opt:rdata(0), 1
  while at + 3 <= #options do
    local high, low, size, more = options:byte(at, at + 3)
    if high * 256 + low == CLIENT_SUBNET then return true end
    at = at + 4 + size * 256 + more
  end
  return false
end

local function refuse(rcode, text)
  return function(req)
    local answer = req:ensure_answer()
    if answer == nil then return nil end -- somebody wants silence
    local opt = req.qsource.packet.opt_rr
    local refused = rcode == kres.rcode.REFUSED or (opt ~= nil and tells_subnet(opt))
    answer:clear_payload()
    answer:rcode(refused and kres.rcode.REFUSED or rcode)
    answer:aa(false)
    answer:ad(false)
    if not refused then
      answer:begin(kres.section.AUTHORITY)
      answer:put(answer:qname(), NEGATIVE_TTL, answer:qclass(), kres.type.SOA, SOA)
    end
    if opt ~= nil and req:ensure_edns() ~= nil then req:set_extended_error(CENSORED, text) end
    return kres.DONE
  end
end

local verbs = {}

function verbs.outcome(into, rest)
  local id, variant, text = rest:match('^(%S+) (%S+) (.*)$')
  into.outcomes[id] = refuse(assert(RCODES[variant]), decoded(text))
end

function verbs.group(into, rest)
  local id, place, outcome = rest:match('^(%S+) (%S+) (%S+)$')
  into.groups[id] = into.groups[id] or {}
  into.groups[id][place] = assert(into.outcomes[outcome])
end

function verbs.network(into, rest)
  local text, length, place = rest:match('^([^/]+)/(%d+) (%S+)$')
  local address = assert(kres.str2ip(text))
  local lengths = into.networks[#address]
  lengths[tonumber(length)] = lengths[tonumber(length)] or {}
  lengths[tonumber(length)][cut(address, tonumber(length))] = place
end

local function name(table)
  return function(into, rest)
    local text, group = rest:match('^(%S+) (%S+)$')
    into[table][on_the_wire(text)] = group ~= 'free' and assert(into.groups[group])
  end
end

verbs.exact, verbs.suffix = name('exact'), name('suffixes')

-- Return what a file says. It is whole when its last line counts the lines before; `pause` is called now and then.
local function read(pause)
  local file = assert(io.open(ORDERS))
  local into, number, whole = empty(), 0, false
  into.outcomes = {}
  into.digest = file:read('*l')
  local done, problem = pcall(function()
    for line in file:lines() do
      number = number + 1
      local verb, rest = line:match('^(%l+) (.*)$')
      if verb == 'end' then whole = rest == tostring(number) break end
      if verb then verbs[verb](into, rest) end
      if number % LINES_AT_ONCE == 0 then pause() end
    end
  end)
  file:close()
  assert(done, ('line %d: %s'):format(number + 1, tostring(problem)))
  assert(whole, 'it does not end as it should')
  return into
end

local function digest()
  local file = io.open(ORDERS)
  if not file then return nil end
  local line = file:read('*l')
  file:close()
  return line
end

local function say(level, text)
  level(ffi.C.LOG_GRP_MODULE, '%s', 'cdnblock: ' .. text)
end

local reading, failed

local function continue()
  local going, result = coroutine.resume(reading)
  if not going then
    failed = digest()
    reading = nil
    say(log_error, ORDERS .. ': ' .. tostring(result) .. '; what was read before is still enforced')
  elseif coroutine.status(reading) == 'dead' then
    held, failed, reading = result, nil, nil
    say(log_notice, 'enforces ' .. held.digest)
  else
    event.after(0, continue)
  end
end

local function look()
  local found = not reading and digest()
  if found and found ~= held.digest and found ~= failed then
    reading = coroutine.create(function() return read(coroutine.yield) end)
    continue()
  end
end

local function group_of(wire)
  local group = held.exact[wire]
  while group == nil and #wire > 1 do
    group = held.suffixes[wire]
    wire = wire:sub(wire:byte() + 2)
  end
  return group
end

local function place_of(address)
  address = unwrapped(address)
  for length, networks in pairs(held.networks[#address]) do
    local place = networks[cut(address, length)]
    if place then return place end
  end
  return OTHER
end

local function outcome_of(name, client)
  local group = group_of(name)
  return group and group[place_of(ffi.string(client:ip(), client:len()))]
end

-- A layer of its own, the last one: whatever others made of the query, and whether kresd itself takes it for one (it
-- does not when all types are asked for), a refusal stands. Who asks without an address is kresd itself.
local module = { layer = {} }

function module.layer.begin(state, req)
  local client = req.qsource.addr
  if client == nil then return state end
  local refuse = outcome_of(req:initial():name(), client)
  return refuse and refuse(req) or state
end

held = read(function() end)
package.preload['kres_modules.cdnblock'] = function() return module end
modules.load('cdnblock')
event.recurrent(LOOK_EVERY, look)
say(log_notice, 'enforces ' .. held.digest)
