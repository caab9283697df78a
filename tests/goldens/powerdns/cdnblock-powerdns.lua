-- Refuses the names that orders cover, to the clients whom they concern, and touches no other query.
-- Written by `cdnblock export powerdns`: do not edit. What is refused stands in the file named below, which is looked
-- at every second: what is sound is in force at once, what is not is complained of, and the last sound one stays.
local PATH = "/etc/cdnblock/cdnblock-powerdns.orders"
-- Who may say by EDNS Client Subnet for whom they ask.
local TRUSTED = { "10.0.0.0/8" }

local byte, find, floor, gsub, lower, sub = string.byte, string.find, math.floor, string.gsub, string.lower, string.sub
local their_gettag, their_preresolve, their_maintenance = gettag, preresolve, maintenance
if gettag_ffi then
  error("cdnblock: gettag_ffi is defined, and only one tag can be: answers for some would be cached for others")
end

local DOT, DIGITS, OTHER = 46, 8, "other"
local LARGEST = 1073741824 -- octets of a file: more is no list of names
local CENSORED = 16 -- RFC 8914 section 4.17
local trusted = newNMG()
for _, network in ipairs(TRUSTED) do trusted:addMask(network) end

local orders -- what is in force

-- The file: sections, each headed by a line that tells how long it is.

local function words(text)
  local found = {}
  for word in string.gmatch(text, "%S+") do found[#found + 1] = word end
  return found
end

local function numbers(text)
  local found = {}
  for number in string.gmatch(text, "%d+") do found[tonumber(number)] = true end
  return found
end

local function reader(text, from)
  return function()
    local to = find(text, "\n", from, true) or error("it ends too early")
    local line = sub(text, from, to - 1)
    from = to + 1
    return line, from
  end
end

local function section(next_line, name)
  local line, after = next_line()
  while sub(line, 1, 1) == "#" do line, after = next_line() end
  local head = words(line)
  if head[1] ~= name then error("no " .. name .. " where they should be") end
  return head, after
end

-- Answers by kind of place and group of names.
local function read_answers(next_line)
  local answers = {}
  for _ = 1, tonumber(section(next_line, "answers")[2]) do
    local kind, group, rcode, soa, text = string.match(next_line(), "^(%S+) (%S+) (%d+) (%S+) ?(.*)$")
    answers[kind] = answers[kind] or {}
    answers[kind][group] = { rcode = tonumber(rcode), soa = soa == "soa", text = text }
  end
  return answers
end

-- Where each kind of place but `other` is: IPv4 addresses as spans of numbers in their order, IPv6 as networks.
local function read_territory(next_line)
  local head = section(next_line, "territory")
  local count, digest = tonumber(head[2]), head[3]
  local old = orders and orders.territory
  local same = old and old.digest == digest
  local territory = { digest = digest, kinds = {}, networks = {}, first = {}, last = {}, kind = {} }
  local numbered = {}
  for kind in string.gmatch(head[4], "[^,-]+") do
    territory.kinds[#territory.kinds + 1] = kind
    territory.networks[#territory.kinds] = newNMG()
    numbered[kind] = #territory.kinds
  end
  for _ = 1, count do
    local line = next_line()
    if not same then
      local first, last, kind = string.match(line, "^(%S+) (%S+) (%S+)$")
      local number = numbered[kind] or error("no such kind of place")
      if first == "-" then
        territory.networks[number]:addMask(last)
      else
        local place = #territory.first + 1
        territory.first[place], territory.last[place], territory.kind[place] = tonumber(first), tonumber(last), number
      end
    end
  end
  return same and old or territory
end

local function understood(first, text)
  local head = words(first)
  if head[1] ~= "cdnblock-powerdns" or head[2] ~= "1" then error("it is no file of this program's") end
  if tonumber(head[4]) ~= #first + 1 + #text or sub(text, -5) ~= "\nend\n" then error("it is not whole") end
  local next_line = reader(text, 1)
  local new = { first = first, text = text }
  new.answers = read_answers(next_line)
  new.territory = read_territory(next_line)
  local names, directory = section(next_line, "names")
  new.buckets, new.suffixes, new.exact = tonumber(names[2]), numbers(names[3]), numbers(names[4])
  new.directory = directory
  new.start = directory + (new.buckets + 1) * DIGITS + 1 -- of the first bucket, behind the directory's line
  -- Answers of other orders are never found again, and no tag is 0.
  new.tag = tonumber(sub(head[3], 1, 5), 16) * 4096
  return new
end

local function read_rest(file, first)
  -- Told how much to read, Lua reads it at once; else it would copy all that it has again and again.
  local size = math.min(tonumber(words(first)[4]) or 0, LARGEST)
  return understood(first, file:read(size + 1) or "")
end

local function look_at_file()
  local file, why = io.open(PATH, "rb")
  if not file then return nil, why end
  local first = file:read("*l") or ""
  if orders and orders.first == first then
    file:close()
    return orders
  end
  local sound, new = pcall(read_rest, file, first)
  file:close()
  if not sound then return nil, PATH .. ": " .. tostring(new) end
  orders = new
  collectgarbage()
  return orders
end

-- A client's place.

local function inverted(octets)
  return (gsub(octets, ".", function(octet) return string.char(255 - byte(octet)) end))
end

-- The IPv4 address that an IPv6 address carries, nil if it carries none.
local function carried(raw)
  if sub(raw, 1, 2) == "\32\2" then return sub(raw, 3, 6) end -- 6to4, RFC 3056
  if sub(raw, 1, 4) == "\32\1\0\0" then return inverted(sub(raw, 13, 16)) end -- Teredo, RFC 4380
  local head = sub(raw, 1, 12)
  if head == "\0\100\255\155\0\0\0\0\0\0\0\0" or head == "\0\0\0\0\0\0\0\0\0\0\255\255" then
    return sub(raw, 13, 16) -- NAT64, RFC 6052; IPv4-mapped, RFC 4291
  end
  return nil
end

-- The number of the kind of place where an IPv4 address is: 0 is `other`.
local function place_of_number(number)
  local first = orders.territory.first
  local low, high = 0, #first -- what is sought is not before the one, nor behind the other
  while low < high do
    local middle = floor((low + high + 1) / 2)
    if first[middle] <= number then low = middle else high = middle - 1 end
  end
  return low > 0 and number <= orders.territory.last[low] and orders.territory.kind[low] or 0
end

-- The same of an address in octets.
local function place_of(raw)
  local four = #raw == 4 and raw or carried(raw)
  if four then
    local a, b, c, d = byte(four, 1, 4)
    return place_of_number(((a * 256 + b) * 256 + c) * 256 + d)
  end
  local networks, address = orders.territory.networks, newCAFromRaw(raw)
  for number = 1, #networks do
    if networks[number]:match(address) then return number end
  end
  return 0
end

local function place(client, subnet)
  if #TRUSTED > 0 and subnet and not subnet:empty() and subnet:getBits() > 0 and trusted:match(client) then
    client = subnet:getNetwork()
  end
  return place_of(client:getRaw())
end

-- A name's group: that of the name alone, else that of its longest suffix in the file.

local function in_bucket(number, key)
  local text, at = orders.text, orders.directory + number * DIGITS
  local from = tonumber(sub(text, at, at + DIGITS - 1), 16)
  local to = tonumber(sub(text, at + DIGITS, at + 2 * DIGITS - 1), 16)
  if from == to then return nil end
  local bucket = sub(text, orders.start + from - 1, orders.start + to - 1) -- with the line end before it
  local _, last = find(bucket, key, 1, true)
  return last and sub(bucket, last + 1, find(bucket, "\n", last + 1, true) - 1)
end

local function group_of(qname)
  local name = lower(qname:toStringNoDot())
  if find(name, "\\", 1, true) then -- what is escaped is in no name of a host, least of all a dot
    name = gsub(gsub(gsub(name, "\\\\", "\1"), "\\%d%d%d", "\1"), "\\.", "\1")
  end
  if name == "" or name == "." then return nil end
  local buckets, suffixes, found = orders.buckets, orders.suffixes, nil
  local number, power, depth = 0, 1, 0 -- the octets of a suffix are a number; its remainder is its bucket's
  for i = #name, 1, -1 do
    local octet = byte(name, i)
    if octet == DOT then
      depth = depth + 1
      if suffixes[depth] then found = in_bucket(number, "\n" .. sub(name, i + 1) .. " ") or found end
    end
    number = (number + octet * power) % buckets
    power = power * 256 % buckets
  end
  depth = depth + 1
  local alone = orders.exact[depth] and in_bucket(number, "\n " .. name .. " ")
  if alone then return alone end
  return suffixes[depth] and in_bucket(number, "\n" .. name .. " ") or found
end

-- The hooks. Each asks what was defined before this file, so that it can be the last line of a script of yours.

local function apart(theirs)
  local low = theirs % 65536
  return low * 2654435761 + floor(theirs / 65536) * 2654435761 % 65536 * 65536
end

-- Answers are cached apart for each kind of place, and for queries with a client subnet: those are never answered
-- NXDOMAIN (RFC 7871 section 7.4).
local function tagged(tag, theirs, ...)
  return (tag + apart(theirs or 0)) % 4294967296, ...
end

local function slow_gettag(remote, subnet, ...)
  local with_subnet = subnet and not subnet:empty() and 1 or 0
  local tag = orders.tag + 2 * (place(remote, subnet) + 1) + with_subnet
  if not their_gettag then return tag end
  return tagged(tag, their_gettag(remote, subnet, ...))
end

-- What the Recursor hands to `gettag` costs more than all else here: with LuaJIT nothing needs to be handed over.
local function fast_gettag(ffi)
  pcall(ffi.cdef, [[
    void pdns_ffi_param_get_remote_raw(void *query, const void **address, size_t *size);
    void pdns_ffi_param_get_edns_cs_raw(void *query, const void **network, size_t *size);
    uint8_t pdns_ffi_param_get_edns_cs_source_mask(const void *query);
    void pdns_ffi_param_set_tag(void *query, unsigned int tag);
  ]])
  local C, octets_of = ffi.C, ffi.typeof("const uint8_t *")
  local found, size = ffi.new("const void *[1]"), ffi.new("size_t[1]")
  local function place_by_subnet(query, raw)
    if C.pdns_ffi_param_get_edns_cs_source_mask(query) > 0 and trusted:match(newCAFromRaw(raw)) then
      C.pdns_ffi_param_get_edns_cs_raw(query, found, size)
      raw = ffi.string(found[0], size[0])
    end
    return place_of(raw)
  end
  return function(query)
    C.pdns_ffi_param_get_edns_cs_raw(query, found, size)
    local with_subnet = tonumber(size[0]) > 0 and 1 or 0
    C.pdns_ffi_param_get_remote_raw(query, found, size)
    local number
    if with_subnet == 1 and #TRUSTED > 0 then
      number = place_by_subnet(query, ffi.string(found[0], size[0]))
    elseif tonumber(size[0]) == 4 then
      local four = ffi.cast(octets_of, found[0])
      number = place_of_number(((four[0] * 256 + four[1]) * 256 + four[2]) * 256 + four[3])
    else
      number = place_of(ffi.string(found[0], size[0]))
    end
    C.pdns_ffi_param_set_tag(query, orders.tag + 2 * (number + 1) + with_subnet)
  end
end

local has_ffi, ffi = pcall(require, "ffi")
if has_ffi and not their_gettag then gettag_ffi = fast_gettag(ffi) else gettag = slow_gettag end

function preresolve(dq)
  if dq.tag == 0 then dq.variable = true end -- no tag was made: never cached
  local group = group_of(dq.qname)
  if group then
    local subnet = dq:getEDNSSubnet()
    local kind = orders.territory.kinds[place(dq.remoteaddr, subnet)] or OTHER
    local answer = orders.answers[kind] and orders.answers[kind][group]
    if answer then
      dq.extendedErrorCode, dq.extendedErrorExtra = CENSORED, answer.text
      if subnet or not answer.soa then
        dq.rcode = subnet and pdns.REFUSED or answer.rcode
      else
        dq.rcode = answer.rcode
        dq:addRecord(pdns.SOA, "blocked.invalid. nobody.invalid. 1 3600 600 604800 10", pdns.place.AUTHORITY, 10, dq.qname:toString())
      end
      return true
    end
  end
  return their_preresolve and their_preresolve(dq) or false
end

local complained
function maintenance()
  local sound, why = look_at_file()
  if not sound and why ~= complained then pdnslog("cdnblock: " .. why .. "; what was in force stays", pdns.loglevels.Error) end
  complained = why
  if their_maintenance then their_maintenance() end
end

local sound, why = look_at_file()
if not sound then error("cdnblock: " .. why) end
