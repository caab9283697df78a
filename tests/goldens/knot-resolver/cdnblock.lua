-- Written by `cdnblock export knot-resolver`: refuses what the orders say, for the clients whom they mean. Load it from
-- kresd's configuration by dofile(), behind the modules that you load.
--
-- What is refused is in a file of its own that is looked at four times a second and read a little at a time, so that no
-- query waits for it. Of a file that cannot be read whole nothing takes effect; at the start that ends kresd.

local ffi, bit, kres = require('ffi'), require('bit'), require('kres')

local ORDERS = '/etc/cdnblock/cdnblock-orders.txt'
local LOOK_EVERY, PAUSE = 250, 1 -- milliseconds; a pause of 0 would be none
local TRY_AGAIN = 5 -- seconds, after which a broken file may be whole: somebody was still writing
local OCTETS_AT_ONCE = 32768 -- a thousand names, half a millisecond
local OTHER = 'other'

local CENSORED, CLIENT_SUBNET = 16, 8 -- RFC 8914, RFC 7871
local RCODES = { refuse = kres.rcode.REFUSED, nxdomain = kres.rcode.NXDOMAIN, nodata = kres.rcode.NOERROR }
local NEGATIVE_TTL, SOA = 10, '\007blocked\007invalid\000\006nobody\007invalid\000\000\000\000\001\000\000\014\016\000\000\002X\000\009\058\128\000\000\000\010'

local MAPPED = ('\0'):rep(10) .. '\255\255' -- ::ffff:0:0/96, RFC 4291
local NAT64 = '\0\100\255\155' .. ('\0'):rep(8) -- 64:ff9b::/96, RFC 6052
local FAMILIES = { 32, 128 } -- RFC 7871: bits of an address
local SIX_TO_FOUR, TEREDO = '\32\2', '\32\1\0\0' -- 2002::/16, RFC 3056; 2001::/32, RFC 4380

ffi.cdef('int knot_edns_add_option(knot_rrset_t *, uint16_t, uint16_t, const char *, knot_mm_t *);')
local libknot = ffi.load(libknot_SONAME)

local held -- what is enforced, as `read` returns it

-- Names are C data, a hash table with linear probing: a million of them cost Lua's garbage collector nothing. A slot's
-- value is twice the number of the name's group, 0 where it is let go; and one more where it is meant alone.
local Names = {}
Names.__index = Names

local octets_of, slots_of = ffi.typeof('uint8_t[?]'), ffi.typeof('struct { int32_t hash, at; uint32_t value; }[?]')
local seed = ffi.new('int32_t[1]')
ffi.C.kr_rnd_buffered(seed, 4)
local SEED = seed[0] -- so that nobody can tell which names collide
local NEWLINE, COMMENT, DOT, ALONE = 10, 35, 46, 1
local MOST_LABELS = 127
local starts, hashes = ffi.new('uint8_t[?]', MOST_LABELS), ffi.new('int32_t[?]', MOST_LABELS)

local function mixed(hash, octet) -- as Jenkins' one-at-a-time
  hash = bit.tobit(hash + octet)
  hash = bit.tobit(hash + bit.lshift(hash, 10))
  return bit.bxor(hash, bit.rshift(hash, 6))
end

function Names.new(count, octets)
  local size, ends = 16, octets + count + 1
  while size < 2 * count do size = size * 2 end
  local new = { slots = slots_of(size), mask = size - 1, text = octets_of(ends), used = 1, ends = ends, depths = {} }
  return setmetatable(new, Names)
end

function Names:add(octets, length, value)
  assert(self.used + length < self.ends, 'more names than it says')
  local hash, depth = SEED, 1
  for at = length - 1, 0, -1 do
    hash = mixed(hash, octets[at])
    if octets[at] == DOT then depth = depth + 1 end
  end
  if value % 2 == ALONE then hash = mixed(hash, ALONE) else self.depths[depth] = true end
  local slots, place = self.slots, bit.band(hash, self.mask)
  while slots[place].at ~= 0 do place = bit.band(place + 1, self.mask) end
  slots[place].hash, slots[place].at, slots[place].value = hash, self.used, value
  ffi.copy(self.text + self.used, octets, length) -- behind it there is a zero
  self.used = self.used + length + 1
end

-- Whether a text is a name on the wire. A dot inside a label is none between labels
local function is_same(text, wire)
  local left = wire[0]
  while true do
    for _ = 1, left do
      wire = wire + 1
      local octet = wire[0]
      if octet ~= text[0] or octet == DOT or octet == 0 then return false end
      text = text + 1
    end
    wire = wire + 1
    left = wire[0]
    if left == 0 then return text[0] == 0 end
    if text[0] ~= DOT then return false end
    text = text + 1
  end
end

function Names:value(hash, wire, alone)
  local slots, place = self.slots, bit.band(hash, self.mask)
  while slots[place].at ~= 0 do
    local slot = slots[place]
    if slot.hash == hash and slot.value % 2 == alone and is_same(self.text + slot.at, wire) then return slot.value end
    place = bit.band(place + 1, self.mask)
  end
end

-- Return the value of a name on the wire, nil where nothing is said of it: its own, else that of its longest suffix.
function Names:of(wire)
  local labels, at, hash = 0, 0, SEED
  while wire[at] ~= 0 do
    starts[labels] = at
    labels, at = labels + 1, at + wire[at] + 1
  end
  for label = labels - 1, 0, -1 do
    local start = starts[label]
    if label < labels - 1 then hash = mixed(hash, DOT) end
    for place = start + wire[start], start + 1, -1 do hash = mixed(hash, wire[place]) end
    hashes[label] = hash
  end
  local value = labels > 0 and self:value(mixed(hash, ALONE), wire, ALONE) or nil
  for label = 0, labels - 1 do
    if value then return value end
    if self.depths[labels - label] then value = self:value(hashes[label], wire + starts[label], 0) end
  end
  return value
end

-- The first octets of an address, as many bits as a network has
local function cut(address, length)
  local whole, rest = math.floor(length / 8), length % 8
  if rest == 0 then return address:sub(1, whole) end
  return address:sub(1, whole) .. string.char(bit.band(address:byte(whole + 1), 256 - 2 ^ (8 - rest)))
end

-- A Teredo address ends in the client's, each bit inverted (RFC 4380).
local function unwrapped(address)
  if #address == 4 then return address end
  if address:sub(1, 12) == MAPPED or address:sub(1, 12) == NAT64 then return address:sub(13) end
  if address:sub(1, 2) == SIX_TO_FOUR then return address:sub(3, 6) end
  if address:sub(1, 4) ~= TEREDO then return address end
  return (address:sub(13):gsub('.', function(octet) return string.char(255 - octet:byte()) end))
end

-- Networks by the size of their addresses, how many bits they have, and these bits
local function put(networks, cidr, value)
  local text, bits = cidr:match('^([^/]+)/(%d+)$')
  local address, length = assert(kres.str2ip(text)), tonumber(bits)
  local lengths = networks[#address]
  lengths[length] = lengths[length] or {}
  lengths[length][cut(address, length)] = value
end

local function found(networks, address)
  for length, those in pairs(networks[#address]) do
    local value = those[cut(address, length)]
    if value then return value end
  end
end

-- Return the client's subnet (RFC 7871) that a query tells, as the option has it.
local function subnet_of(req)
  local opt = req.qsource.packet.opt_rr
  local options, at = opt ~= nil and opt:rdata(0) or '', 1
  while at + 3 <= #options do
    local high, low, size, more = options:byte(at, at + 3)
    local length = size * 256 + more
    if high * 256 + low == CLIENT_SUBNET then return options:sub(at + 4, at + 3 + length) end
    at = at + 4 + length
  end
end

-- Return how many bits the addresses of such an option have, nil where it is none (RFC 7871 §6).
local function bits_of(subnet)
  local bits = #subnet >= 4 and subnet:byte(1) == 0 and FAMILIES[subnet:byte(2)]
  return bits and subnet:byte(3) <= bits and #subnet == 4 + math.ceil(subnet:byte(3) / 8) and bits or nil
end

-- Return the address that it tells, nil where it tells none or no place.
local function address_in(subnet)
  local bits, source = bits_of(subnet), subnet:byte(3)
  if not bits or source == 0 then return nil end
  local address = cut(subnet:sub(5), source)
  address = unwrapped(address .. ('\0'):rep(bits / 8 - #address))
  return not found(held.placeless, address) and address or nil
end

-- Return whose query it is: of who asks, unless that is a forwarder who may say for whom.
local function client_of(req, subnet)
  local peer = ffi.string(req.qsource.addr:ip(), req.qsource.addr:len())
  if subnet and found(held.trusted, peer:sub(1, 12) == MAPPED and peer:sub(13) or peer) then
    return address_in(subnet) or peer, true
  end
  return peer, false
end

-- A negative answer is cached for every network (RFC 7871): who tells a client's subnet is refused instead.
local function refusal(rcode, text)
  return function(req, subnet)
    local answer = req:ensure_answer()
    if answer == nil then return nil end -- somebody wants silence
    local refused = subnet or rcode == kres.rcode.REFUSED
    answer:clear_payload()
    answer:rcode(refused and kres.rcode.REFUSED or rcode)
    answer:aa(false)
    answer:ad(false)
    if not refused then
      answer:begin(kres.section.AUTHORITY)
      answer:put(answer:qname(), NEGATIVE_TTL, answer:qclass(), kres.type.SOA, SOA)
    end
    if req.qsource.packet.opt_rr ~= nil and req:ensure_edns() ~= nil then
      req.extended_error.info_code = kres.extended_error.NONE -- what others said of the query stands no longer
      req:set_extended_error(CENSORED, text)
    end
    return kres.DONE
  end
end

local verbs = {}

function verbs.outcome(into, rest)
  local id, variant, text = rest:match('^(%S+) (%S+) (.*)$')
  text = text:gsub('%%(%x%x)', function(digits) return string.char(tonumber(digits, 16)) end)
  into.outcomes[id] = refusal(assert(RCODES[variant]), text)
end

function verbs.group(into, rest)
  local id, place, outcome = rest:match('^(%S+) (%S+) (%S+)$')
  if not into.numbers[id] then
    table.insert(into.groups, {})
    into.numbers[id] = #into.groups
  end
  into.groups[into.numbers[id]][place] = assert(into.outcomes[outcome])
end

function verbs.network(into, rest)
  put(into.networks, rest:match('^(%S+) (%S+)$'))
end

function verbs.placeless(into, rest) put(into.placeless, rest, true) end
function verbs.trusted(into, rest) put(into.trusted, rest, true) end

function verbs.names(into, rest)
  local count, octets = rest:match('^(%d+) (%d+)$')
  into.names = Names.new(tonumber(count), tonumber(octets))
end

local function names_of(alone)
  return function(into, rest)
    local group, count = rest:match('^(%S+) (%d+)$')
    into.left = tonumber(count)
    into.value = 2 * (group == 'free' and 0 or assert(into.numbers[group])) + alone
  end
end

verbs.exact, verbs.suffix = names_of(ALONE), names_of(0)

function verbs.stop(into, rest)
  into.whole = tonumber(rest) == into.line
end

local function understand(into, text)
  local octets, at = ffi.cast('const uint8_t *', text), 0
  while at < #text do
    local stop = at
    while octets[stop] ~= NEWLINE do stop = stop + 1 end
    into.line = into.line + 1
    if into.left > 0 then
      into.left = into.left - 1
      into.names:add(octets + at, stop - at, into.value)
    elseif octets[at] ~= COMMENT then
      local verb, rest = text:sub(at + 1, stop):match('^(%l+) (.*)$')
      verbs[verb](into, rest)
    end
    at = stop + 1
  end
end

-- Return what the file says. It is whole when its last line tells how many lines it has; `pause` is called now and then.
-- Not by lines: a million strings would keep the garbage collector busy.
local function read(pause)
  local file = assert(io.open(ORDERS))
  local into = { groups = {}, numbers = {}, outcomes = {}, left = 0, line = 1 }
  for _, networks in ipairs({ 'networks', 'placeless', 'trusted' }) do into[networks] = { [4] = {}, [16] = {} } end
  into.digest = file:read('*l')
  local understood, problem = true, nil
  while understood do
    local text, rest = file:read(OCTETS_AT_ONCE, '*l')
    if not text then break end
    if rest or text:byte(-1) ~= NEWLINE then text = text .. (rest or '') .. '\n' end
    understood, problem = pcall(understand, into, text)
    pause()
  end
  file:close()
  assert(understood, ('line %d: %s'):format(into.line, tostring(problem)))
  assert(into.whole and into.names, 'it does not end as it should')
  return into
end

local function digest()
  local file = io.open(ORDERS)
  local line = file and file:read('*l')
  if file then file:close() end
  return line
end

local function say(level, text)
  level(ffi.C.LOG_GRP_MODULE, '%s', 'cdnblock: ' .. text)
end

local reading, failed, failed_at

local function continue()
  local going, result = coroutine.resume(reading)
  if not going then
    reading, failed, failed_at = nil, digest(), os.time()
    say(log_error, ORDERS .. ': ' .. tostring(result) .. '; what was read before is still enforced')
  elseif coroutine.status(reading) == 'dead' then
    held, reading, failed = result, nil, nil
    say(log_notice, 'enforces ' .. held.digest)
  else
    event.after(PAUSE, continue)
  end
end

local function look()
  local found = not reading and digest()
  if found and found ~= held.digest and (found ~= failed or os.time() - failed_at >= TRY_AGAIN) then
    reading = coroutine.create(function() return read(coroutine.yield) end)
    continue()
  end
end

-- A layer of its own, the last one: whatever others made of the query, and whether kresd itself takes it for one (it
-- does not when all types are asked for), a refusal stands. Who asks without an address is kresd itself.
local module = { layer = {} }

function module.layer.begin(state, req)
  local value = req.qsource.addr ~= nil and held.names:of(req:initial().sname) or 0
  if value < 2 then return state end
  local subnet = subnet_of(req)
  local client, trusted = client_of(req, subnet)
  local refuse = held.groups[math.floor(value / 2)][found(held.networks, unwrapped(client)) or OTHER]
  -- A forwarder would hand out what was answered to a client in one network to those in others too (RFC 7871 §7.3.1):
  -- that is for this network alone. A refusal has no scope, since nobody keeps it.
  if subnet and bits_of(subnet) and (refuse or trusted) then
    local scope = refuse and '\0' or subnet:sub(3, 3)
    req:vars().cdnblock_subnet = subnet:sub(1, 3) .. scope .. subnet:sub(5)
  end
  return refuse and refuse(req, subnet) or state
end

function module.layer.answer_finalize(state, req)
  local subnet = req.vars_ref >= 0 and req:vars().cdnblock_subnet
  if subnet and req.answer ~= nil and req.answer.opt_rr ~= nil then
    libknot.knot_edns_add_option(req.answer.opt_rr, CLIENT_SUBNET, #subnet, subnet, req.pool)
  end
  return state
end

held = read(function() end)
package.preload['kres_modules.cdnblock'] = function() return module end
modules.load('cdnblock')
event.recurrent(LOOK_EVERY, look)
say(log_notice, 'enforces ' .. held.digest)
