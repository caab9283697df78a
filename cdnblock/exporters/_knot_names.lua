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
